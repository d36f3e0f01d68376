//! Data sets by name: the embedded demonstrations and the public ARC sets, once they are fetched; and checkpoints of
//! the Hugging Face hub.
//!
//! A public set is known by the SHA-256 of its content, not by where it came from, so that a result on
//! `arc-agi-1/evaluation` means the same tasks everywhere.

mod download;
mod fetch;
mod hub;
mod sets;

use std::path::{Path, PathBuf};

pub use fetch::{FetchError, Fetched, Source, fetch};
pub use hub::{Hub, HubError};
pub use sets::{CORPORA, Corpus, PublicSet, content_sha256};

use crate::arc::{self, Dataset, Task, TaskError, TaskProblem};

/// Environment variable that moves the data folder.
pub const DATA_ENV: &str = "ARC_TTT_DATA";

/// The embedded demonstration tasks.
pub const DEMO: &str = "demo";

/// The halves of ARC-AGI-1's evaluation tasks: tune on the first, only report on the second.
///
/// The ids, ordered by the SHA-256 of their text in hex, are cut in the middle; within a half the tasks
/// stand by id.
pub const HALVES: [&str; 2] = ["arc-agi-1/evaluation-dev", "arc-agi-1/evaluation-held-out"];

const WHOLE: &str = "arc-agi-1/evaluation";

/// Why a name or path gave no tasks.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The tasks at a path cannot be used.
    #[error(transparent)]
    Tasks(#[from] TaskError),
    /// A known public set that is not on this machine yet.
    #[error("{name} is not here yet; run `arc-ttt data fetch`")]
    NotFetched {
        /// Name of the set.
        name: String,
    },
    /// A public set whose file does not have the published content.
    #[error("{file} is not {name} as published; run `arc-ttt data fetch`")]
    Changed {
        /// Name of the set.
        name: String,
        /// The file that differs.
        file: String,
    },
    /// Answers for a set that has its own.
    #[error("{name} has answers of its own; leave --solutions out, or name a file of tasks")]
    OwnAnswers {
        /// Name of the set.
        name: String,
    },
    /// Neither a known name nor a path.
    #[error("there is no data set and no file `{name}`; known sets: {}", names().join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// No folder for data.
    #[error(transparent)]
    NoDataFolder(#[from] NoDataFolder),
}

/// This system names no folder for a user's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this system names no folder for data; set {DATA_ENV} to one")]
pub struct NoDataFolder;

/// All names that [`resolve`] knows, embedded ones first.
pub fn names() -> Vec<&'static str> {
    let mut names = vec![DEMO];
    for set in sets::all() {
        names.push(set.name);
        if set.name == WHOLE {
            names.extend(HALVES);
        }
    }
    names
}

/// The tasks of a named set, of a file or folder, or of standard input (`-`).
///
/// A known name wins over a path; write `./demo` for a folder of that name.
///
/// # Errors
/// [`ResolveError`] if there is no such set or path, or nothing in it can be used.
pub fn resolve(name_or_path: &str) -> Result<Dataset, ResolveError> {
    resolve_with_solutions(name_or_path, None)
}

/// As [`resolve`], with the answers of a Kaggle `*_solutions.json`.
///
/// # Errors
/// As [`resolve`], and if the solutions cannot be read. A named set has its own answers and takes no others.
pub fn resolve_with_solutions(
    name_or_path: &str,
    solutions: Option<&Path>,
) -> Result<Dataset, ResolveError> {
    resolve_up_to(name_or_path, solutions, arc::PAIRS_AS_EXAMPLES)
}

/// As [`resolve`], but of a list of pairs (RE-ARC) every pair becomes a demonstration, except the last, which
/// is the test.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_whole(name_or_path: &str) -> Result<Dataset, ResolveError> {
    resolve_up_to(name_or_path, None, usize::MAX)
}

fn resolve_up_to(
    name_or_path: &str,
    solutions: Option<&Path>,
    most_examples: usize,
) -> Result<Dataset, ResolveError> {
    if name_or_path == "-" {
        let input = std::io::stdin().lock();
        return Ok(arc::load_reader_up_to(input, arc::STDIN, solutions, most_examples)?);
    }
    if names().contains(&name_or_path) {
        if solutions.is_some() {
            return Err(ResolveError::OwnAnswers { name: name_or_path.to_string() });
        }
        return named(name_or_path);
    }
    let path = Path::new(name_or_path);
    if path.exists() {
        return Ok(arc::load_up_to(path, solutions, most_examples)?);
    }
    Err(ResolveError::Unknown { name: name_or_path.to_string() })
}

/// The folder of the fetched sets: `ARC_TTT_DATA` or `arc-ttt` in the user's data directory.
///
/// # Errors
/// [`NoDataFolder`] if the system names no data directory and the variable is not set.
pub fn data_folder() -> Result<PathBuf, NoDataFolder> {
    match std::env::var_os(DATA_ENV) {
        Some(folder) if !folder.is_empty() => Ok(PathBuf::from(folder)),
        _ => Ok(dirs::data_dir().ok_or(NoDataFolder)?.join("arc-ttt")),
    }
}

/// The embedded demonstration tasks.
///
/// # Panics
/// Never: the embedded file is checked by a test.
pub fn demo() -> Dataset {
    let text = include_str!("../../data/tasks/demo.json");
    arc::load_reader(text.as_bytes(), DEMO, None).expect("the embedded tasks are legal")
}

fn named(name: &str) -> Result<Dataset, ResolveError> {
    if name == DEMO {
        return Ok(demo());
    }
    let folder = data_folder()?;
    let stored = if HALVES.contains(&name) { WHOLE } else { name };
    let set = sets::all().find(|set| set.name == stored).expect("every name is embedded or stored");
    let whole = load_set(set, &folder)?;
    Ok(match HALVES.iter().position(|half| *half == name) {
        Some(half) => Dataset { name: name.to_string(), tasks: halve(whole.tasks, half), ..whole },
        None => whole,
    })
}

/// Reads a fetched set and checks that it has the published content.
///
/// # Errors
/// [`ResolveError`] if the set is not there or was changed.
pub fn load_set(set: &PublicSet, folder: &Path) -> Result<Dataset, ResolveError> {
    let name = set.name.to_string();
    let path = set.path(folder);
    if !path.is_file() {
        return Err(ResolveError::NotFetched { name });
    }
    let file = path.display().to_string();
    let problem = |error: std::io::Error| TaskProblem::Unreadable(error.to_string());
    let bytes = std::fs::read(&path).map_err(|error| TaskError {
        file: file.clone(),
        task: None,
        problem: problem(error),
    })?;
    if sets::sha256_hex(&bytes) != set.sha256 {
        return Err(ResolveError::Changed { name, file });
    }
    Ok(arc::load_reader(&bytes[..], &name, None)?)
}

/// One half of the tasks, by the SHA-256 of their ids: 0 the lower, 1 the upper. Order is kept.
fn halve(mut tasks: Vec<Task>, half: usize) -> Vec<Task> {
    let mut digests: Vec<_> = tasks.iter().map(|task| sets::sha256_hex(&task.id)).collect();
    digests.sort();
    let middle = digests[digests.len() / 2].clone();
    tasks.retain(|task| (sets::sha256_hex(&task.id) >= middle) == (half == 1));
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{Grid, Test};

    fn tasks(ids: &[&str]) -> Vec<Task> {
        let tests = vec![Test { input: Grid::filled(1, 1, 0), output: None }];
        let task = |id: &&str| Task { id: id.to_string(), examples: vec![], tests: tests.clone() };
        ids.iter().map(task).collect()
    }

    #[test]
    fn every_embedded_task_is_legal_and_answered() {
        let demo = demo();
        assert_eq!(demo.name, "demo");
        assert!(demo.failed.is_empty());
        assert!(!demo.tasks.is_empty());
        assert!(demo.tasks.iter().all(Task::has_answers));
    }

    #[test]
    fn halves_are_by_the_digest_of_the_id_in_the_order_of_the_set() {
        // SHA-256: c 2e7d.., d 18ac.., a ca97.., b 3e23..
        let ids = |half| -> Vec<String> {
            halve(tasks(&["a", "b", "c", "d"]), half).into_iter().map(|t| t.id).collect()
        };
        assert_eq!((ids(0), ids(1)), (vec!["c".into(), "d".into()], vec!["a".into(), "b".into()]));
    }

    /// SHA-256 of the ids, one a line.
    fn digest(tasks: &[Task]) -> String {
        sets::sha256_hex(tasks.iter().map(|task| format!("{}\n", task.id)).collect::<String>())
    }

    #[test]
    fn halves_of_four_hundred_ids_are_the_ones_computed_elsewhere() {
        let ids: Vec<_> = (0..400).map(|i| format!("{i:08x}")).collect();
        let whole = tasks(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        let expected = [
            "31aa64c5588d0e76fc52d9cbe09867f1e5069e5061d2793f3a27d6ab5901be16",
            "cceeff63949ddb4fd552540d64cb9cd15e9d362b2777084034b466f1199182e1",
        ];
        for (half, expected) in expected.into_iter().enumerate() {
            let half = halve(whole.clone(), half);
            assert_eq!((half.len(), digest(&half).as_str()), (200, expected));
        }
    }

    /// Runs where the set was fetched; it is not part of the repository.
    #[test]
    fn halves_of_the_evaluation_tasks_have_their_known_digests() {
        let expected = [
            "55a792cc8ddbcf1e1133ac4769208d792527b7e53297d8028aace414d9239134",
            "d530b9c23a19a694f8cd678cb1784b2f98f1697bd1c6ba11d40df0e157242650",
        ];
        for (name, expected) in HALVES.into_iter().zip(expected) {
            match resolve(name) {
                Ok(half) => assert_eq!(digest(&half.tasks), expected, "{name}"),
                Err(error) => assert!(!matches!(error, ResolveError::Changed { .. }), "{error}"),
            }
        }
    }

    #[test]
    fn names_are_unique_and_every_one_is_known_to_resolve() {
        let names = names();
        assert_eq!(names.len(), 7);
        for name in names {
            assert!(!matches!(resolve(name), Err(ResolveError::Unknown { .. })), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = resolve("arc-agi-1/evaluatoin").unwrap_err().to_string();
        assert!(error.contains("`arc-agi-1/evaluatoin`"), "{error}");
        assert!(error.contains("arc-agi-1/evaluation-held-out, arc-agi-2/training"), "{error}");
    }

    #[test]
    fn a_set_that_is_missing_or_changed_is_not_taken_for_the_published_one() {
        let folder = tempfile::tempdir().unwrap();
        let set = sets::all().next().unwrap();
        let error = load_set(set, folder.path()).unwrap_err().to_string();
        assert_eq!(error, "arc-agi-1/training is not here yet; run `arc-ttt data fetch`");
        let path = set.path(folder.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        arc::save_set(&path, &demo().tasks).unwrap();
        let error = load_set(set, folder.path()).unwrap_err();
        assert!(matches!(error, ResolveError::Changed { .. }), "{error}");
    }
}
