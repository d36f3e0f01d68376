//! How hard a task looks, and what more time on it is worth.
//!
//! Pure values: what is known of a task comes in as numbers, and no clock is read.

mod difficulty;
mod schedule;

pub use difficulty::Difficulty;
pub use schedule::{Allocation, GainTable, ScheduleConfig, Standing, Turn};
