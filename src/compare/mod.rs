//! Comparisons: variants of a recipe on the same tasks, and what can be said of their differences.
//!
//! A comparison is a TOML file (`data/recipes/ablation-*.toml`). Variants that differ in the vote alone, or in which of the
//! views they read, share one run, since the vote is made anew from the run's candidates.

mod efficiency;
mod gain;
mod plan;
mod reading;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod text;

pub use efficiency::Efficiency;
pub use gain::learn_gain;
pub use plan::{COMPARISONS, CompareError, Comparison, Share, Variant, Work};
pub use reading::Reading;
pub use table::{AfterViews, Bin, Row, RunFacts, Table, VersusBaseline, numbers_of_views};
pub use text::p_value;
