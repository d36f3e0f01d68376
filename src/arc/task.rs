//! A task: demonstrations and tests.

use serde::{Deserialize, Serialize};

use super::Grid;

/// A demonstration: an input grid and its output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Example {
    /// What is given.
    pub input: Grid,
    /// What the rule makes of it.
    pub output: Grid,
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
}
