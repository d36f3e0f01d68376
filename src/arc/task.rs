//! A task: demonstrations and tests.

use serde::{Deserialize, Serialize};

use super::{Grid, TaskError, TaskProblem};

/// A demonstration: an input grid and its output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Example {
    /// What is given.
    pub input: Grid,
    /// What the rule makes of it.
    pub output: Grid,
}

impl Example {
    /// Cells of both grids.
    pub fn n_cells(&self) -> usize {
        self.input.cells().len() + self.output.cells().len()
    }
}

/// A test: an input grid and, where it is known, its output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Test {
    /// What is given.
    pub input: Grid,
    /// The truth, if known. Nothing before scoring may look at it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<Grid>,
}

/// A few-shot task: demonstrations of one rule and the inputs to apply it to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Identifier, unique within a [`Dataset`]; the file name without `.json`.
    #[serde(skip)]
    pub id: String,
    /// The demonstrations (`train` in ARC's files); at least one.
    #[serde(rename = "train")]
    pub examples: Vec<Example>,
    /// The tests; at least one.
    #[serde(rename = "test")]
    pub tests: Vec<Test>,
}

impl Task {
    /// The same task without its answers, as a solver may see it.
    pub fn without_answers(&self) -> Task {
        let tests = self.tests.iter().map(|t| Test { input: t.input.clone(), output: None });
        Task { id: self.id.clone(), examples: self.examples.clone(), tests: tests.collect() }
    }

    /// True if every test's answer is known.
    pub fn has_answers(&self) -> bool {
        self.tests.iter().all(|t| t.output.is_some())
    }

    /// The largest height or width among all the grids that a solver may see.
    pub fn largest_side(&self) -> usize {
        let examples = self.examples.iter().flat_map(|e| [&e.input, &e.output]);
        let inputs = self.tests.iter().map(|t| &t.input);
        examples.chain(inputs).map(|g| g.height().max(g.width())).max().unwrap_or(0)
    }
}

/// Tasks in a stable order, each with a unique id.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    /// What the user called it: a registered name or a path.
    pub name: String,
    /// The tasks, ordered as the source has them (folders: by file name).
    pub tasks: Vec<Task>,
    /// Complaints about the source's other tasks, which could not be used, and about answers that could not; in the
    /// source's order.
    pub failed: Vec<TaskError>,
}

/// An id that no task of a set has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no task `{id}` in {dataset} ({n_tasks} tasks, such as {such_as})")]
pub struct NoSuchTask {
    /// The id asked for.
    pub id: String,
    /// Name of the set.
    pub dataset: String,
    /// Number of tasks in it.
    pub n_tasks: usize,
    /// The id of one.
    pub such_as: String,
}

impl Dataset {
    /// The complaints that have left no task: all but those about answers.
    pub fn unusable(&self) -> impl Iterator<Item = &TaskError> {
        let is_task = |id: &String| self.get(id).is_some();
        self.failed.iter().filter(move |error| {
            // The first of several with one id is a task.
            error.problem == TaskProblem::DuplicateId || !error.task.as_ref().is_some_and(is_task)
        })
    }

    /// The task with this id.
    pub fn get(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// The set cut down to the tasks with these ids, in the set's own order.
    ///
    /// # Errors
    /// [`NoSuchTask`] for the first id that is neither among the tasks nor among the failed ones.
    pub fn select(mut self, ids: &[String]) -> Result<Dataset, NoSuchTask> {
        let failed = |id: &String| self.failed.iter().any(|e| e.task.as_ref() == Some(id));
        if let Some(id) = ids.iter().find(|id| self.get(id).is_none() && !failed(id)) {
            let (n_tasks, first) = (self.tasks.len(), self.tasks.first());
            let such_as = first.map_or_else(|| "none".to_owned(), |task| task.id.clone());
            return Err(NoSuchTask { id: id.clone(), dataset: self.name, n_tasks, such_as });
        }
        self.tasks.retain(|task| ids.contains(&task.id));
        self.failed.retain(|error| error.task.as_ref().is_some_and(|id| ids.contains(id)));
        Ok(self)
    }
}
