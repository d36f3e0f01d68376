//! From scored candidates to two attempts.
//!
//! Every rule is computed from the same store of candidates, so that one run compares them all. Pure
//! functions of values: nothing here asks a model.

mod ballot;
mod hierarchical;
mod selector;
mod tally;
#[cfg(test)]
pub(crate) mod testing;

pub use ballot::Panel;
pub use selector::{FormatWeights, Ranked, Selector, rank};
pub use tally::{Tally, VoteConfig, tally_votes};
