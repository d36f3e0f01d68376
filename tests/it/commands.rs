//! What the commands print, and where.

use predicates::prelude::*;
use predicates::str::{contains, is_empty};

use super::common::{Place, QUICK};

#[test]
fn solve_prints_one_object_with_the_scores() {
    let place = Place::new(&["a", "b"]);
    let args = [&["solve", "tasks", "--out", "run"], &QUICK[..]].concat();
    let (object, code) = place.json(&args);
    assert_eq!((code, object["tasks"].as_u64(), object["failed"].as_u64()), (0, Some(2), Some(0)));
    for share in ["strict", "fractional"] {
        let share = object[share].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&share));
    }
    assert!(object["solved"].as_u64().unwrap() <= 2);
    assert!(object["seconds"].as_f64().unwrap() > 0.0);
    assert!(object["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(object["run"], "run");
    assert_eq!(object["submission"], "run/submission.json");
    let (scored, code) = place.json(&["score", "run", "tasks"]);
    assert_eq!((code, &scored["strict"]), (0, &object["strict"]));
}

#[test]
fn without_answers_the_shares_are_null() {
    let place = Place::new(&["a"]);
    let mut task = super::common::tiny_task(0);
    task["test"][0].as_object_mut().unwrap().remove("output");
    place.write("tasks/a.json", &task.to_string());
    let (object, code) = place.json(&[&["solve", "tasks"], &QUICK[..]].concat());
    assert_eq!(code, 0);
    assert!(object["solved"].is_null() && object["strict"].is_null(), "{object}");
    let run = object["run"].as_str().unwrap();
    assert!(run.starts_with("runs/default-tasks-"), "{run}");
}

#[test]
fn without_any_argument_the_embedded_tasks_are_solved_by_the_fast_recipe() {
    let place = Place::new(&[]);
    let (object, code) = place.json(&["solve", "--limit", "1", "--steps", "2"]);
    let run = object["run"].as_str().unwrap();
    assert!(code == 0 && run.starts_with("runs/fast-demo-"), "{object}");
    assert!(place.read(&format!("{run}/recipe.toml")).contains("name = \"fast\""));
}

#[test]
fn the_truth_does_not_reach_the_solver() {
    let place = Place::new(&["a"]);
    let answered = place.solve("answered", &[]);
    let mut task = super::common::tiny_task(0);
    task["test"][0]["output"] = serde_json::json!([[1]]);
    place.write("tasks/a.json", &task.to_string());
    assert_eq!(place.solve("other", &[]), answered);
    // Answers are no part of what a run is.
    assert_eq!(place.solve("answered", &[]), answered);
}

#[test]
fn people_read_the_result_on_standard_error_and_programs_the_path() {
    let place = Place::new(&["a"]);
    let args = [&["solve", "tasks", "--out", "run"], &QUICK[..]].concat();
    let solved = place.arc(&args).assert().success().stdout("run/submission.json\n");
    solved.stderr(
        contains("[1/1] a")
            .and(contains("in-context baseline"))
            .and(contains("pass@2"))
            .and(contains("peak memory")),
    );
}

#[test]
fn a_fitted_adapter_predicts_and_the_base_model_does_without() {
    let place = Place::new(&["a", "b"]);
    let fitted = place.arc(&["fit", "tasks", "--task", "a", "--steps", "5"]).assert().success();
    fitted.stdout("adapters/default/a\n").stderr(
        contains("█").and(contains("5 steps from ")).and(contains("all that were asked for")),
    );
    assert!(place.path("adapters/default/a/adapter_config.json").exists());
    let predict = |id| ["predict", "tasks", "--adapter", "adapters/default/a", "--task", id];
    let doubt = contains("the adapter was fitted on task a, and this is b");
    let own = place.arc(&predict("a")).assert().success().stdout(contains("\"attempt_2\""));
    own.stderr(doubt.clone().not());
    place.arc(&predict("b")).assert().success().stderr(doubt);
    let (object, code) = place.json(&["predict", "tasks", "--task", "a"]);
    assert_eq!((code, object["failed"].as_u64()), (0, Some(0)));
}

#[test]
fn doctor_finds_this_build_in_order() {
    let place = Place::new(&[]);
    place
        .arc(&["doctor"])
        .assert()
        .success()
        .stdout(contains("device cpu").and(contains("model")).and(contains("tasks demo")));
    let (object, _) = place.json(&["doctor"]);
    assert_eq!(object["model"]["problem"], false);
}

#[test]
fn every_command_explains_itself() {
    let place = Place::new(&[]);
    for command in ["solve", "fit", "predict", "merge", "doctor", "score", "show", "data", "report"]
    {
        let help = place.arc(&[command, "--help"]).assert().success();
        help.stdout(contains("Usage: arc-ttt")).stderr(is_empty());
    }
}
