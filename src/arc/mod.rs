//! The puzzle as plain values: grids, tasks, invertible transforms.
//!
//! Invariant: knows nothing of tensors or models and does no I/O except in functions that take a path.

mod error;
mod grid;
mod load;
mod parse;
mod save;
mod shape_features;
mod shape_rule;
mod submission;
mod task;
mod transform;

pub use error::{TaskError, TaskProblem};
pub use grid::{Color, Grid, GridError, MAX_SIDE, N_COLORS};
pub use load::{PAIRS_AS_EXAMPLES, STDIN, load, load_pair_folder, load_pairs, load_reader};
pub(crate) use load::{load_reader_up_to, load_up_to, load_value};
pub use save::{save_set, save_task, set_to_json, task_to_json, write_atomically};
pub use shape_rule::{InferredShape, ShapeRule, infer_shape, infer_shape_with_rule};
pub use submission::{Attempts, Submission, SubmissionNote, read_submission};
pub use task::{Dataset, Example, NoSuchTask, Task, Test};
pub use transform::{ColorPermutation, Dihedral, NotAPermutation, NotAnOrder, View};

#[cfg(test)]
pub(crate) use transform::strategies;
