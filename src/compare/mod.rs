//! Comparisons: variants of a recipe on the same tasks, and what can be said of their differences.
//!
//! A comparison is a TOML file (`data/recipes/ablation-*.toml`). Variants that differ in the vote alone share one
//! run, since the vote is made anew from the run's candidates.

mod efficiency;
mod plan;
mod table;
mod text;

pub use efficiency::Efficiency;
pub use plan::{COMPARISONS, CompareError, Comparison, Variant, Work};
pub use table::{Bin, Row, Table, VersusBaseline};
