//! The run directory: everything a run has decided, whole at every moment and exactly resumable.

mod adapter;
mod manifest;
mod schedule;
mod shard;

pub use adapter::{AdapterError, load_adapter, save_adapter};
pub use manifest::{Difference, Identity, Limits, hash_tasks};
pub use schedule::{Deadline, Schedule, Share};
pub use shard::{BadShard, Shard};
