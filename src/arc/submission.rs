//! Kaggle's submission format: two attempts for every test of every task.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{Grid, TaskError, TaskProblem, parse};

/// The two attempts at one test.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Attempts {
    attempt_1: Option<Grid>,
    attempt_2: Option<Grid>,
}

/// Attempts at the tests of tasks, by task id; each task's in the order of its tests.
///
/// Serialized, it is a `submission.json`: `{"<id>": [{"attempt_1": .., "attempt_2": ..}, ..], ..}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Submission {
    /// The attempts, ordered by id.
    pub tasks: BTreeMap<String, Vec<Attempts>>,
}

/// A part of a submission that cannot count, and why.
pub type SubmissionNote = TaskError;

impl Attempts {
    /// Two attempts, the better one first.
    pub fn new(first: Grid, second: Grid) -> Self {
        Self { attempt_1: Some(first), attempt_2: Some(second) }
    }

    /// The attempts in order; an attempt read from a file is `None` where the file holds no legal grid.
    pub fn both(&self) -> [Option<&Grid>; 2] {
        [self.attempt_1.as_ref(), self.attempt_2.as_ref()]
    }
}

impl Submission {
    /// The file's text: one task a line, ordered by id.
    pub fn to_json(&self) -> String {
        let line = |(id, attempts): (&String, &Vec<Attempts>)| {
            let id = serde_json::to_string(id).expect("a text is plain data");
            let attempts = serde_json::to_string(attempts).expect("grids are plain data");
            format!("{id}:{attempts}")
        };
        let lines: Vec<_> = self.tasks.iter().map(line).collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }
}

/// Reads a submission, with a note for everything in it that cannot count: an attempt that is missing or is
/// no legal grid, and a task whose entry has another form.
///
/// # Errors
/// [`TaskError`] if the file cannot be read, is not JSON, or names a task twice.
pub fn read_submission(path: &Path) -> Result<(Submission, Vec<SubmissionNote>), TaskError> {
    let file = path.display().to_string();
    let whole = |problem| TaskError { file: file.clone(), task: None, problem };
    let bytes = std::fs::read(path).map_err(|e| whole(TaskProblem::Unreadable(e.to_string())))?;
    let entries: parse::Entries = parse::from_json(&bytes).map_err(whole)?;
    let (mut submission, mut notes) = (Submission::default(), Vec::new());
    for (id, value) in entries.0 {
        let mut note = |problem| {
            notes.push(TaskError { file: file.clone(), task: Some(id.clone()), problem });
        };
        if submission.tasks.contains_key(&id) {
            let problem = TaskProblem::DuplicateId;
            return Err(TaskError { file, task: Some(id), problem });
        }
        let attempts = match parse::expect_list(&value, "the entry", "a list of attempts") {
            Ok(tests) => {
                tests.iter().enumerate().map(|(t, value)| attempts(value, t, &mut note)).collect()
            }
            Err(problem) => {
                note(problem);
                Vec::new()
            }
        };
        submission.tasks.insert(id, attempts);
    }
    Ok((submission, notes))
}

fn attempts(value: &Value, test: usize, note: &mut impl FnMut(TaskProblem)) -> Attempts {
    let place = format!("[{test}]");
    let object = match parse::expect_object(value, &place, "`attempt_1` and `attempt_2`") {
        Ok(object) => object,
        Err(problem) => {
            note(problem);
            return Attempts { attempt_1: None, attempt_2: None };
        }
    };
    let mut attempt = |key: &'static str| {
        let read = match object.get(key) {
            Some(grid) => parse::grid(grid, &format!("{place}.{key}")),
            None => Err(TaskProblem::MissingKey { place: place.clone(), key }),
        };
        read.map_err(&mut *note).ok()
    };
    Attempts { attempt_1: attempt("attempt_1"), attempt_2: attempt("attempt_2") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Submission, Vec<SubmissionNote>), TaskError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.json");
        std::fs::write(&path, text).unwrap();
        read_submission(&path)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let grid = |c| Grid::filled(2, 3, c);
        let tasks = [("b", vec![Attempts::new(grid(1), grid(2)); 2]), ("a", vec![])];
        let tasks = tasks.into_iter().map(|(id, a)| (id.to_string(), a)).collect();
        let submission = Submission { tasks };
        let (again, notes) = read(&submission.to_json()).unwrap();
        assert_eq!((again, notes), (submission, vec![]));
    }

    #[test]
    fn the_text_is_kaggles_format() {
        let attempts = Attempts::new(Grid::filled(1, 2, 3), Grid::filled(1, 1, 0));
        let submission = Submission { tasks: [("a".to_string(), vec![attempts])].into() };
        assert_eq!(
            submission.to_json(),
            "{\n\"a\":[{\"attempt_1\":[[3,3]],\"attempt_2\":[[0]]}]\n}\n"
        );
    }

    #[test]
    fn an_illegal_attempt_is_noted_with_its_place_and_costs_only_itself() {
        let text = r#"{"a": [{"attempt_1": [[1, 12]], "attempt_2": [[3]]}], "b": 7, "c": [{}]}"#;
        let (submission, notes) = read(text).unwrap();
        let both = submission.tasks["a"][0].both();
        assert_eq!((both[0], both[1]), (None, Some(&Grid::filled(1, 1, 3))));
        let notes: Vec<_> = notes.iter().map(|n| n.to_string()).collect();
        let expect = [
            "task `a`: [0].attempt_1: cell (row 0, column 1) is 12",
            "task `b`: the entry is a number, not a list of attempts",
            "task `c`: [0] has no `attempt_1`",
            "task `c`: [0] has no `attempt_2`",
        ];
        assert_eq!(notes.len(), expect.len());
        for (note, expected) in notes.iter().zip(expect) {
            assert!(note.contains(expected), "{note}");
        }
    }

    #[test]
    fn a_task_named_twice_is_refused() {
        let error = read(r#"{"a": [], "a": []}"#).unwrap_err();
        assert_eq!((error.task.as_deref(), error.problem), (Some("a"), TaskProblem::DuplicateId));
    }
}
