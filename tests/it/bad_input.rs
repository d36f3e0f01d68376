//! One clear error for each kind of bad input, and exit code 2.

use std::fs;

use predicates::prelude::*;
use predicates::str::{contains, is_empty};
use serde_json::{Value, json};

use super::common::{Place, QUICK, is_valid_submission, tiny_task};

/// Solves one broken task alone, and beside a good one.
#[track_caller]
fn check_task(text: &str, message: &str) {
    let place = Place::new(&[]);
    place.write("tasks/bad.json", text);
    let args = [&["solve", "tasks/bad.json", "--out", "alone"], &QUICK[..]].concat();
    let alone = place.arc(&args).assert().code(2).stdout(is_empty());
    alone.stderr(contains("bad.json").and(contains(message)));
    assert!(!place.path("alone").exists());

    place.write("tasks/good.json", &tiny_task(1).to_string());
    let args = [&["solve", "tasks", "--out", "run"], &QUICK[..]].concat();
    let both = place.arc(&args).assert().code(2);
    both.stderr(contains("bad.json").and(contains(message)));
    assert!(is_valid_submission(&place.path("run/submission.json"), &["good"]));
}

/// A tiny task with the input of its first demonstration replaced.
fn with_grid(grid: Value) -> String {
    let mut task = tiny_task(0);
    task["train"][0]["input"] = grid;
    task.to_string()
}

#[test]
fn files_that_are_no_task() {
    check_task("{\"train\": [", "not JSON");
    check_task("", "empty");
    check_task("7", "holds a number");
}

#[test]
fn grids_that_are_no_grid() {
    check_task(
        &with_grid(json!([[1, 2], [3]])),
        "train[0].input: row 1 has 1 cells, but row 0 has 2",
    );
    check_task(&with_grid(json!([])), "train[0].input: the grid is empty");
    check_task(&with_grid(json!([vec![0; 31]])), "1×31");
    check_task(&with_grid(json!([[0, 10]])), "cell (row 0, column 1) is 10");
    check_task(&with_grid(json!([[0, -1]])), "cell (row 0, column 1) is -1");
    check_task(&with_grid(json!([[0.5]])), "cell (row 0, column 0) is 0.5");
}

#[test]
fn tasks_without_demonstrations_or_tests() {
    let mut task = tiny_task(0);
    task["train"] = json!([]);
    check_task(&task.to_string(), "at least one demonstration");
    let mut task = tiny_task(0);
    task["test"] = json!([]);
    check_task(&task.to_string(), "at least one test");
}

#[test]
fn one_demonstration_works_with_a_note() {
    let place = Place::new(&[]);
    let mut task = tiny_task(0);
    task["train"] = json!([task["train"][0]]);
    place.write("tasks/one.json", &task.to_string());
    let args = [&["solve", "tasks", "--out", "run"], &QUICK[..]].concat();
    place.arc(&args).assert().success().stderr(contains("one demonstration"));
    assert!(place.read("run/records.jsonl").contains("one demonstration"));
}

#[test]
fn missing_solutions_and_duplicate_ids() {
    let place = Place::new(&[]);
    let challenges = format!("{{\"a\": {0}, \"b\": {0}, \"a\": {0}}}", tiny_task(0));
    place.write("x_challenges.json", &challenges);
    let args = [&["solve", "x_challenges.json", "--out", "run"], &QUICK[..]].concat();
    let duplicate = place.arc(&args).assert().code(2);
    duplicate.stderr(contains("task `a`").and(contains("more than once")));
    place.write("answers.json", "{\"a\": [[[1]]]}");
    let args = ["score", "run", "x_challenges.json", "--solutions", "answers.json"];
    let unanswered = place.arc(&args).assert();
    unanswered.code(2).stderr(contains("task `b`: no solution in answers.json"));
    // Who solves them does not need their answers.
    place.write("y_challenges.json", &format!("{{\"a\": {0}, \"b\": {0}}}", tiny_task(0)));
    place.write("y_solutions.json", "{\"a\": [[[1]]]}");
    let args = [&["solve", "y_challenges.json", "--out", "whole"], &QUICK[..]].concat();
    let warning = contains("warning").and(contains("task `b`: no solution in"));
    place.arc(&args).assert().success().stderr(warning);
    assert!(is_valid_submission(&place.path("whole/submission.json"), &["a", "b"]));
}

#[test]
fn a_task_beyond_the_memory_budget_fails_and_the_run_goes_on() {
    let place = Place::new(&["a", "b"]);
    let args = [&["solve", "tasks", "--memory", "100K", "--out", "run"], &QUICK[..]].concat();
    let (object, code) = place.json(&args);
    assert_eq!((code, object["failed"].as_u64()), (1, Some(2)), "{object}");
    let reason = object["failures"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("bytes") && reason.contains("raise --memory"), "{reason}");
    assert!(is_valid_submission(&place.path("run/submission.json"), &["a", "b"]));
}

#[test]
fn a_comparison_says_which_of_its_rows_are_of_failed_fits() {
    let place = Place::new(&["a", "b"]);
    let memory = ["--memory", "1K", "--variants", "TTT, end-to-end", "--steps", "2"];
    let args = [&["compare", "formats", "tasks", "--out", "out"], &memory[..]].concat();
    let (object, code) = place.json(&args);
    let failed = |row: usize| object["rows"][row]["failed"].as_u64();
    assert_eq!((code, failed(0), failed(1)), (1, Some(0), Some(2)), "{object}");
    assert!(place.read("out/formats.md").contains("(2 failed)"));
}

#[test]
fn models_and_devices_that_are_not_there() {
    let place = Place::new(&["a"]);
    let check = |args: &[&str], message: &str| {
        let args = [&["solve", "tasks"], args].concat();
        place.arc(&args).assert().code(2).stdout(is_empty()).stderr(contains(message));
    };
    check(&["--model", "nothing"], "there is no model `nothing`");
    check(&["--model", "nothing"], "the model inside the program is `default`");
    place.write("cut.safetensors", "short");
    check(&["--model", "cut.safetensors"], "cut.safetensors");
    check(&["--device", "abacus"], "`abacus` is no device");
    if cfg!(not(feature = "cuda")) {
        check(&["--device", "cuda"], "--features cuda");
    }
}

#[test]
fn adapters_that_are_damaged_or_another_models() {
    let place = Place::new(&["a"]);
    let steps = ["--steps", "2"];
    place.arc(&[&["fit", "tasks", "--out", "kept"], &steps[..]].concat()).assert().success();
    let predict = ["predict", "tasks", "--adapter", "kept"];
    place.arc(&predict).assert().success();
    let file = place.path("kept/adapter_model.safetensors");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let cut = place.arc(&predict).assert().code(2).stdout(is_empty());
    cut.stderr(contains("adapter_model.safetensors is no adapter of arc-ttt"));
    // The base's hash stands in the header as text.
    let text = String::from_utf8_lossy(&whole).into_owned();
    let at = text.find("base_sha256").unwrap() + "base_sha256\\\":\\\"".len();
    let mut other = whole.clone();
    other[at] = if other[at] == b'0' { b'1' } else { b'0' };
    fs::write(&file, &other).unwrap();
    let foreign = place.arc(&predict).assert().code(2).stdout(is_empty());
    foreign.stderr(contains("the adapter was fitted on the base model"));
    place.arc(&["predict", "tasks", "--adapter", "nowhere"]).assert().code(2).stderr(contains(
        "there is no adapter in nowhere; `arc-ttt fit` prints where it keeps one",
    ));
}

#[test]
fn recipes_that_cannot_be() {
    let place = Place::new(&["a"]);
    let check = |args: &[&str], message: &str| {
        let args = [&["solve", "tasks"], args].concat();
        place.arc(&args).assert().code(2).stdout(is_empty()).stderr(contains(message));
    };
    check(&["--set", "fit.stepz=3"], "did you mean `fit.steps`");
    check(&["--set", "lora.rank=0"], "`lora.rank` is 0");
    check(&["--set", "fit.steps=many"], "fit.steps");
    check(&["--recipe", "pappr"], "did you mean");
    check(&["--budget", "30"], "such as 30s");
    check(&["--memory", "lots"], "600M or 1.5G");
    check(&["--memory", "5"], "`5` has no unit");
    check(&["--jobs", "0"], "--jobs");
}

#[test]
fn data_sets_and_tasks_that_are_not_there() {
    let place = Place::new(&["a"]);
    let check = |args: &[&str], message: &str| {
        place.arc(args).assert().code(2).stdout(is_empty()).stderr(contains(message));
    };
    check(&["solve", "nowhere"], "`nowhere`");
    check(&["solve", "arc-agi-1/evaluation"], "arc-ttt data fetch");
    check(&["solve", "tasks", "--tasks", "z"], "there is no task `z`");
    check(&["solve", "demo", "--solutions", "none.json"], "demo has answers of its own");
    check(&["fit", "demo"], "say which one is meant");
}

#[test]
fn run_directories_that_are_not_this_runs() {
    let place = Place::new(&["a", "b"]);
    let submission = place.solve("run", &[]);
    let check = |args: &[&str], message: &str| {
        let args = [&["solve", "tasks", "--out", "run"], &QUICK[..], args].concat();
        let refused = place.arc(&args).assert().code(2).stdout(is_empty());
        refused.stderr(contains(message).and(contains("give another --out")));
        assert_eq!(place.read("run/submission.json"), submission);
    };
    check(&["--set", "lora.rank=4"], "lora.rank (");
    check(&["--seed", "3"], "seed (0 there, 3 here)");
    check(&["--limit", "1"], "tasks (a b there, a here)");
    place.write("tasks/a.json", &tiny_task(7).to_string());
    check(&[], "dataset (");
    fs::create_dir(place.path("thesis")).unwrap();
    place.write("thesis/text.tex", "");
    let args = ["solve", "tasks", "--out", "thesis"];
    place.arc(&args).assert().code(2).stderr(contains("holds other files"));
}

#[cfg(unix)]
#[test]
fn places_that_cannot_be_written() {
    let place = Place::new(&["a"]);
    // Neither can be written by anyone, not even by root.
    for out in ["/proc/arc-run", "/dev/null/run"] {
        let args = [&["solve", "tasks", "--out", out], &QUICK[..]].concat();
        place.arc(&args).assert().code(2).stdout(is_empty()).stderr(contains(out));
    }
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_breaks_nothing() {
    let place = Place::new(&["a", "b"]);
    let whole = place.solve("whole", &["--no-adapters"]);
    // A limit on the size of files stands for the disk; the signal that comes with it is ignored.
    let program = assert_cmd::cargo::cargo_bin("arc-ttt");
    let script = format!(
        "trap '' XFSZ; ulimit -f 4; exec '{}' solve tasks --out run --no-adapters {}",
        program.display(),
        QUICK.join(" ")
    );
    let mut limited = assert_cmd::Command::new("bash");
    let full = limited.args(["-c", &script]).current_dir(place.path("")).assert().code(2);
    full.stdout(is_empty()).stderr(contains("records.jsonl").and(contains("free some space")));
    assert!(is_valid_submission(&place.path("run/submission.json"), &["a", "b"]));
    assert_eq!(place.solve("run", &["--no-adapters"]), whole);
}
