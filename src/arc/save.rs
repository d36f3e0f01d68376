//! Writes tasks as JSON, and any file so that it is never seen half written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::Task;

/// A task in ARC's format, on one line without spaces: `{"train":[..],"test":[..]}`.
///
/// Equal tasks give equal bytes, so the text can be hashed.
pub fn task_to_json(task: &Task) -> String {
    serde_json::to_string(task).expect("a task is plain data")
}

/// Tasks by id in Kaggle's format, one a line in the given order, answers inside where they are known.
pub fn set_to_json(tasks: &[Task]) -> String {
    let entry = |task: &Task| {
        let id = serde_json::to_string(&task.id).expect("a text is plain data");
        format!("{id}:{}", task_to_json(task))
    };
    let entries: Vec<_> = tasks.iter().map(entry).collect();
    format!("{{\n{}\n}}\n", entries.join(",\n"))
}

/// Writes one task to a file in ARC's format.
///
/// # Errors
/// If the file cannot be written; an older file then stands unchanged.
pub fn save_task(path: &Path, task: &Task) -> io::Result<()> {
    write_atomically(path, format!("{}\n", task_to_json(task)).as_bytes())
}

/// Writes tasks to one file in Kaggle's format.
///
/// # Errors
/// As [`save_task`].
pub fn save_set(path: &Path, tasks: &[Task]) -> io::Result<()> {
    write_atomically(path, set_to_json(tasks).as_bytes())
}

/// Replaces a file in one step: a reader sees the old bytes or the new ones, whatever happens in between.
///
/// # Errors
/// If the folder is missing, read-only or full; the old file then stands unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("occupied");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("kept"), "old").unwrap();
        assert!(write_atomically(&target, b"new").is_err());
        assert_eq!(fs::read_to_string(target.join("kept")).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn writing_replaces_the_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomically(&path, b"a long first text").unwrap();
        write_atomically(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
