//! Whether tasks are known: to a model that may have been trained on them, or to another set of tasks.
//!
//! Two pairs are taken for one if a symmetry of the square and a renaming of the colors turn one into the other.

mod audit;
mod canonical;
mod manifest;
mod near;

pub use audit::{AuditConfig, Finding, Level, Match, audit, duplicates};
pub use canonical::pair_hash;
pub use manifest::TrainingPairs;
