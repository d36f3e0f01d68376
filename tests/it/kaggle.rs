//! `scripts/kaggle.sh`, on folders that look like a notebook's.

#![cfg(unix)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command as Process, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::json;

use super::common::{Place, is_valid_submission, tiny_task};

fn notebook(place: &Place) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kaggle.sh");
    let mut command = Command::new("bash");
    command.current_dir(place.path("")).arg(script);
    command.env("ARC_TTT", cargo_bin("arc-ttt")).env("KAGGLE_INPUT", place.path("input"));
    command
}

#[test]
fn the_competition_s_file_is_found_and_a_submission_is_left_where_kaggle_takes_it() {
    let place = Place::new(&[]);
    fs::create_dir_all(place.path("input/arc-prize")).unwrap();
    let mut tasks = json!({"a": tiny_task(0), "b": tiny_task(1)});
    tasks["b"]["test"][0].as_object_mut().unwrap().remove("output");
    place.write("input/arc-prize/arc-agi_test_challenges.json", &tasks.to_string());
    notebook(&place).args(["", "working", "6s", "--steps", "3"]).assert().success();
    assert!(is_valid_submission(&place.path("working/submission.json"), &["a", "b"]));
    let run: serde_json::Value =
        serde_json::from_str(&place.read("working/arc-ttt-run/run.json")).unwrap();
    assert_eq!(run["limits"]["steps"], 3, "{run}");
    fs::create_dir_all(place.path("input/other")).unwrap();
    place.write("input/other/old_test_challenges.json", &tasks.to_string());
    let either = contains("name one of them").and(contains("old_test_challenges.json"));
    notebook(&place).args(["", "working", "6s"]).assert().code(2).stderr(either);
}

#[test]
fn a_notebook_that_is_killed_has_left_a_submission() {
    let place = Place::new(&[]);
    fs::create_dir_all(place.path("input")).unwrap();
    let tasks = json!({"a": tiny_task(0), "b": tiny_task(1)});
    place.write("input/x_test_challenges.json", &tasks.to_string());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kaggle.sh");
    let mut command = Process::new("bash");
    command.current_dir(place.path("")).args([script, "", "working", "1h"]);
    command.env("ARC_TTT", cargo_bin("arc-ttt")).env("KAGGLE_INPUT", place.path("input"));
    // In a group of its own, which is killed whole.
    let mut notebook = command.process_group(0).stderr(Stdio::null()).spawn().unwrap();
    let submission = place.path("working/submission.json");
    let began = Instant::now();
    while !submission.exists() && began.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(100));
    }
    let group = notebook.id() as i32;
    // SAFETY: a signal to the processes that this test has begun.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    notebook.wait().unwrap();
    assert!(is_valid_submission(&submission, &["a", "b"]));
}

#[test]
fn without_the_competition_s_file_the_mend_is_named() {
    let place = Place::new(&["input"]);
    fs::create_dir(place.path("input")).unwrap();
    notebook(&place).assert().code(2).stderr(contains("attach the competition's data"));
}
