//! The tasks that a command works on, as its user names them.

use std::path::PathBuf;

use crate::arc::Dataset;
use crate::public;

/// Which tasks, shared by the commands that read a set.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Tasks {
    /// A data set by name (see `arc-ttt data list`), a file or folder of tasks, or - for standard input.
    #[arg(value_name = "TASKS")]
    pub name: String,
    /// Kaggle's file of answers; a *_solutions.json beside a *_challenges.json is found without this.
    #[arg(long, value_name = "FILE")]
    pub solutions: Option<PathBuf>,
    /// Only the tasks with these ids.
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    pub tasks: Vec<String>,
}

impl Tasks {
    /// Reads the tasks, with a warning on standard error for each that cannot be used.
    pub(super) fn load(&self) -> anyhow::Result<Dataset> {
        let mut dataset = public::resolve_with_solutions(&self.name, self.solutions.as_deref())?;
        if !self.tasks.is_empty() {
            dataset = dataset.select(&self.tasks)?;
        }
        warn_of_failed(&dataset);
        if dataset.tasks.is_empty() {
            anyhow::bail!("none of the tasks asked for can be used");
        }
        Ok(dataset)
    }
}

/// Names the tasks that cannot be used on standard error.
pub(super) fn warn_of_failed(dataset: &Dataset) {
    for error in &dataset.failed {
        say!("warning: {error}");
    }
}
