//! Why a task, or a whole source of tasks, cannot be used.

use std::fmt;

use super::GridError;

/// One precise complaint: file, task, place in the task, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    /// The file as the user named it; `<stdin>` for standard input.
    pub file: String,
    /// The task's id; `None` if the whole file is meant.
    pub task: Option<String>,
    /// What is wrong.
    pub problem: TaskProblem,
}

/// What can be wrong with a task or with the file that should hold it.
///
/// A `place` is written as in the file: `train[1].output` is the output of the second demonstration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskProblem {
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// Nothing but white space.
    #[error("the file is empty")]
    EmptyFile,
    /// A syntax error.
    #[error("not JSON: {message}, at line {line}, column {column}")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// JSON of another kind than this file should hold.
    #[error("{0}")]
    Mismatch(String),
    /// JSON, but none of the known formats.
    #[error(
        "the file holds {found}; expected one task with `train` and `test`, tasks by id, \
         or a list of pairs with `input` and `output`"
    )]
    UnknownFormat {
        /// Kind of JSON value found.
        found: &'static str,
    },
    /// A value of the wrong kind.
    #[error("{place} is {found}, not {expected}")]
    WrongKind {
        /// Where it stands.
        place: String,
        /// Kind of JSON value found.
        found: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
    /// A required key that is absent.
    #[error("{place} has no `{key}`")]
    MissingKey {
        /// The object that lacks it.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// Cells that are not a grid.
    #[error("{place}: {error}")]
    BadGrid {
        /// Where the grid stands.
        place: String,
        /// What is wrong with it, with its row and column.
        error: GridError,
    },
    /// The answers to a task's tests, where the task should stand.
    #[error(
        "the task is a list of grids, not an object with `train` and `test`; this looks like a file of solutions: name \
         the challenges, and give this file by --solutions"
    )]
    Solutions,
    /// No demonstrations.
    #[error("`train` is empty; a task needs at least one demonstration")]
    NoExamples,
    /// No tests.
    #[error("`test` is empty; a task needs at least one test input")]
    NoTests,
    /// A list of too few pairs to make a task of.
    #[error("a list of {0} pairs; at least 2 are needed for a demonstration and a test")]
    TooFewPairs(usize),
    /// An id that an earlier task of the source has.
    #[error("this id stands more than once")]
    DuplicateId,
    /// A solutions file that lacks the task.
    #[error("no solution in {solutions}")]
    NoSolution {
        /// The solutions file.
        solutions: String,
    },
    /// A solutions file with another number of outputs than the task has tests.
    #[error("{found} solutions for {expected} tests in {solutions}")]
    SolutionCount {
        /// The solutions file.
        solutions: String,
        /// Tests of the task.
        expected: usize,
        /// Outputs in the solutions file.
        found: usize,
    },
    /// A source without any task in it.
    #[error("holds no tasks{hint}")]
    NoTasks {
        /// What the user may have meant, or nothing.
        hint: String,
    },
    /// A source whose tasks are all bad.
    #[error("none of its {count} tasks can be used; the first: {first}")]
    NoneUsable {
        /// Tasks found.
        count: usize,
        /// The complaint about the first of them.
        first: Box<TaskError>,
    },
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Some(task) => write!(f, "{}: task `{task}`: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

impl std::error::Error for TaskError {}
