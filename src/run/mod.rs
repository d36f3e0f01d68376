//! The run directory: everything a run has decided, whole at every moment and exactly resumable.

mod adapter;
mod directory;
mod execute;
mod files;
mod manifest;
mod merge;
mod schedule;
mod shard;
mod shared;

pub use adapter::{AdapterError, load_adapter, save_adapter};
pub use directory::{
    Circumstances, Run, RunDirectory, RunError, adapter_path, directory_name, find_run, read_run,
};
pub use execute::{Ending, Plan, Progress, execute, fallbacks};
pub use manifest::{Difference, Identity, Limits, hash_replays, hash_tasks};
pub use merge::merge;
pub use schedule::{Deadline, Schedule, Share};
pub use shard::{BadShard, Shard};
pub use shared::{shared_path, shared_steps};
