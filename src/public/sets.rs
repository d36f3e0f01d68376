//! The public sets and what their content must be.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::arc::{Task, task_to_json};

/// Sets that are published and fetched together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corpus {
    /// Name, and folder below the data folder.
    pub name: &'static str,
    /// The repository on GitHub that publishes it, `owner/name`.
    pub repository: &'static str,
    /// The commit whose content the sets have.
    pub commit: &'static str,
    /// Its sets.
    pub sets: &'static [PublicSet],
}

/// A public set of tasks, known by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicSet {
    /// Name, as every command takes it.
    pub name: &'static str,
    /// Number of tasks.
    pub n_tasks: usize,
    /// Number of test inputs.
    pub n_tests: usize,
    /// [`content_sha256`] of its tasks.
    pub sha256: &'static str,
}

/// The corpora that can be fetched.
pub static CORPORA: [Corpus; 2] = [
    Corpus {
        name: "arc-agi-1",
        repository: "fchollet/ARC-AGI",
        commit: "399030444e0ab0cc8b4e199870fb20b863846f34",
        sets: &[
            PublicSet {
                name: "arc-agi-1/training",
                n_tasks: 400,
                n_tests: 416,
                sha256: "4125c13d2ad8e73f1bc582b8f1d521dd2e91f91f715682bc47108c2085408c1e",
            },
            PublicSet {
                name: "arc-agi-1/evaluation",
                n_tasks: 400,
                n_tests: 419,
                sha256: "f66c4bc11634a9c62f597ccb25eeacdbdc01f54eae1d7cdbdda4b7a410aef4ea",
            },
        ],
    },
    Corpus {
        name: "arc-agi-2",
        repository: "arcprize/ARC-AGI-2",
        commit: "f3283f727488ad98fe575ea6a5ac981e4a188e49",
        sets: &[
            PublicSet {
                name: "arc-agi-2/training",
                n_tasks: 1000,
                n_tests: 1076,
                sha256: "0407a8df69a303417ce0f812588b456befc1c5f3fed8900df2091f911d5647cd",
            },
            PublicSet {
                name: "arc-agi-2/evaluation",
                n_tasks: 120,
                n_tests: 167,
                sha256: "dab36776cecca96dd743bd614ee82242f2d0b000efd69434af080a13e2c889e3",
            },
        ],
    },
];

impl PublicSet {
    /// The file that holds the set below the data folder.
    pub fn path(&self, data_folder: &Path) -> PathBuf {
        data_folder.join(format!("{}.json", self.name))
    }

    /// The file's name within the folder of its corpus.
    pub(super) fn file_name(&self) -> String {
        let name = self.name.rsplit('/').next().expect("a split has a last part");
        format!("{name}.json")
    }
}

/// All sets of all corpora.
pub(super) fn all() -> impl Iterator<Item = &'static PublicSet> {
    CORPORA.iter().flat_map(|corpus| corpus.sets)
}

/// SHA-256, in hex, of tasks as data: of the lines `<id>\t<task in ARC's format>\n` ordered by id, where the
/// JSON has no spaces and no keys but `train`, `test`, `input` and `output`.
///
/// Neither the order of the tasks nor the layout of the files that they came from matters.
pub fn content_sha256(tasks: &[Task]) -> String {
    let mut tasks: Vec<_> = tasks.iter().collect();
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    let mut hash = Sha256::new();
    for task in tasks {
        hash.update(format!("{}\t{}\n", task.id, task_to_json(task)));
    }
    hex(&hash.finalize())
}

/// SHA-256 of bytes, in hex.
pub(super) fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::public::demo;

    #[test]
    fn the_digest_follows_the_content_and_not_the_order() {
        let mut tasks = demo().tasks;
        tasks.push(Task { id: "0".into(), ..tasks[0].clone() });
        let digest = content_sha256(&tasks);
        tasks.reverse();
        assert_eq!(content_sha256(&tasks), digest);
        tasks[0].id.push('x');
        assert_ne!(content_sha256(&tasks), digest);
    }

    #[test]
    fn the_digest_is_of_plain_lines() {
        let mut task = demo().tasks.remove(0);
        task.id = "t".into();
        let line = format!("t\t{}\n", task_to_json(&task));
        assert_eq!(content_sha256(&[task]), sha256_hex(line));
    }
}
