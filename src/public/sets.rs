//! The public sets and what their content must be.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::arc::{Task, set_to_json};

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
    /// SHA-256 of its file, which is [`content_sha256`] of its tasks.
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
                sha256: "9f93d62ce7bf88d865757f8c09eb4f6554549ac4a8c2bd6a696c8bdf69a2ea9e",
            },
            PublicSet {
                name: "arc-agi-1/evaluation",
                n_tasks: 400,
                n_tests: 419,
                sha256: "57386884a0c6e9c2dd2eb48bfeefdd3c4b9129c3ec436fb2f4feed5e83b35308",
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
                sha256: "62028db41b3f799e63c996381b01fee75eba8f317021356f0fa5157def0688ff",
            },
            PublicSet {
                name: "arc-agi-2/evaluation",
                n_tasks: 120,
                n_tests: 167,
                sha256: "8e6cc5088860acbfa62c153cf7fec927c812c64cc3d0b43d064e04949a02c87e",
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

/// SHA-256, in hex, of the file that [`arc::save_set`](crate::arc::save_set) makes of tasks ordered by id.
///
/// Neither the order of the tasks nor the layout of the files that they came from matters.
pub fn content_sha256(tasks: &[Task]) -> String {
    let mut tasks = tasks.to_vec();
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    sha256_hex(set_to_json(&tasks))
}

/// SHA-256 of bytes, in hex.
pub(super) fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
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
    fn the_digest_is_that_of_the_file() {
        let mut tasks = demo().tasks;
        tasks.sort_by(|a, b| a.id.cmp(&b.id));
        let file = tempfile::NamedTempFile::new().unwrap();
        crate::arc::save_set(file.path(), &tasks).unwrap();
        assert_eq!(content_sha256(&tasks), sha256_hex(std::fs::read(file.path()).unwrap()));
    }
}
