//! The puzzle as plain values: grids, tasks, invertible transforms.
//!
//! Invariant: knows nothing of tensors or models and does no I/O except in functions that take a path.

mod grid;
mod task;
mod transform;

pub use grid::{Color, Grid, GridError, MAX_SIDE, N_COLORS};
pub use task::{Dataset, Example, Task, Test};
pub use transform::{ColorPermutation, Dihedral, NotAPermutation, NotAnOrder, View};

#[cfg(test)]
pub(crate) use transform::strategies;
