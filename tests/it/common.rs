//! A place to run the program in.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory of its own for each test, with a few tiny tasks in `tasks/`.
pub struct Place {
    directory: TempDir,
}

/// Options that make a task take well under a second.
pub const QUICK: [&str; 4] = ["--steps", "6", "--set", "views.count=4"];

impl Place {
    /// A directory with tasks named by `ids`.
    pub fn new(ids: &[&str]) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("tasks")).unwrap();
        for (i, id) in ids.iter().enumerate() {
            place.write(&format!("tasks/{id}.json"), &tiny_task(i as u8).to_string());
        }
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The program, to be run here.
    pub fn arc(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("arc-ttt").unwrap();
        command.current_dir(self.directory.path()).args(args);
        // Nothing of the user's settings and data sets takes part.
        command.env("ARC_TTT_DATA", self.path("data")).env_remove("RUST_LOG");
        command
    }

    /// `solve` with quick settings into `out`, and its submission.
    pub fn solve(&self, out: &str, more: &[&str]) -> String {
        let args = [&["solve", "tasks", "--out", out], &QUICK[..], more].concat();
        self.arc(&args).assert().success();
        self.read(&format!("{out}/submission.json"))
    }

    /// The JSON object that a command prints, and its exit code.
    pub fn json(&self, args: &[&str]) -> (Value, i32) {
        let output = self.arc(&[args, &["--json"]].concat()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let object = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        (object, output.status.code().unwrap())
    }
}

/// Three demonstrations and a test of "mirror the rows"; the number changes the cells.
pub fn tiny_task(number: u8) -> Value {
    let grid = |k: u8| -> Vec<Vec<u8>> {
        (0..3).map(|r| (0..3).map(|c| (number + k * (r + 2 * c) + r * c) % 10).collect()).collect()
    };
    let mirrored = |k: u8| -> Vec<Vec<u8>> {
        grid(k).into_iter().map(|row| row.into_iter().rev().collect()).collect()
    };
    let pair = |k: u8| json!({"input": grid(k), "output": mirrored(k)});
    json!({"train": [pair(1), pair(2), pair(3)], "test": [pair(4)]})
}

/// True if the file is there and holds a submission with two attempts for each of `ids`.
pub fn is_valid_submission(path: &Path, ids: &[&str]) -> bool {
    let text = fs::read_to_string(path).unwrap();
    let object: Value = serde_json::from_str(&text).unwrap();
    let tests = |id: &&str| {
        let tests = object[*id].as_array()?;
        let two = |t: &Value| t["attempt_1"].is_array() && t["attempt_2"].is_array();
        Some(!tests.is_empty() && tests.iter().all(two))
    };
    ids.iter().all(|id| tests(id) == Some(true))
}
