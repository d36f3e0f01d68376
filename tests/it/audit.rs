//! `audit`.

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};

use super::common::{Place, tiny_task};

#[test]
fn two_sets_are_compared_by_cells_and_by_colors() {
    let place = Place::new(&["a", "b"]);
    place.write("other.json", &json!({"x": tiny_task(0)}).to_string());
    let (object, code) = place.json(&["audit", "tasks", "other.json"]);
    assert_eq!((code, &object["failed"]), (0, &json!(0)), "{object}");
    assert_eq!(object["a"], json!({"name": "tasks", "tasks": 2, "pairs": 8}));
    // The second tiny task is the first one with other colors.
    let found = object["findings"].as_array().unwrap();
    let row =
        |f: &Value| json!([f["level"], f["a"], f["b"], f["matches"].as_array().unwrap().len()]);
    let rows: Vec<Value> = found.iter().map(row).collect();
    assert_eq!(rows, [json!(["identical", "a", "x", 4]), json!(["equivalent", "b", "x", 4])]);
    assert_eq!(object["levels"]["identical"], json!({"a": 1, "b": 1}));
    assert_eq!(object["levels"]["any"], json!({"a": 2, "b": 1}));
}

#[test]
fn one_set_or_the_same_set_twice_is_searched_for_duplicates() {
    let place = Place::new(&["a", "b"]);
    for args in [&["audit", "tasks"][..], &["audit", "tasks", "./tasks"]] {
        let (object, code) = place.json(args);
        assert_eq!((code, &object["b"]), (0, &json!(null)));
        let found = object["findings"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{object}");
        assert_eq!((&found[0]["a"], &found[0]["b"]), (&json!("a"), &json!("b")));
    }
}

#[test]
fn the_embedded_tasks_are_found_in_a_copy_of_them() {
    let place = Place::new(&[]);
    let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/data/tasks/demo.json");
    fs::copy(copy, place.path("copy.json")).unwrap();
    let (object, code) = place.json(&["audit", "demo", "copy.json"]);
    assert_eq!((code, &object["levels"]["identical"]), (0, &json!({"a": 36, "b": 36})));
}

#[test]
fn every_pair_of_a_list_of_pairs_is_compared() {
    let place = Place::new(&["a"]);
    let pair = |n: u8| json!({"input": [[n, 0]], "output": [[n]]});
    let mut pairs: Vec<Value> = (1..8).map(pair).collect();
    pairs.push(tiny_task(0)["train"][0].clone());
    place.write("pairs.json", &json!(pairs).to_string());
    let (object, _) = place.json(&["audit", "pairs.json", "tasks", "--evidence", "0"]);
    assert_eq!(object["a"]["pairs"], json!(8));
    let matches = &object["findings"][0]["matches"];
    assert_eq!(matches, &json!([{"level": "exact", "a": "test[0]", "b": "train[0]"}]));
}

#[test]
fn people_see_a_few_of_each_level_or_all() {
    let names: Vec<String> = (0..12).map(|i| format!("t{i:02}")).collect();
    let place = Place::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let cut = contains("more; --all lists them");
    let short = place.arc(&["audit", "tasks"]).assert().success();
    short.stdout(cut.clone().and(contains("4 of 4 pairs")).and(contains("B  the same")));
    let long = place.arc(&["audit", "tasks", "--all"]).assert().success();
    long.stdout(cut.not().and(contains("t10  t11")));
}

#[test]
fn bad_input_is_named_and_shows_in_the_exit_code() {
    let place = Place::new(&["a", "b"]);
    let check = |args: &[&str], message: &str| {
        place.arc(args).assert().code(2).stderr(contains(message));
    };
    check(&["audit", "nowhere"], "`nowhere`");
    check(&["audit", "tasks", "arc-agi-2/evaluation"], "arc-ttt data fetch");
    check(&["audit", "tasks", "--near", "2"], "--near is 2");
    place.write("tasks/bad.json", "{");
    let (object, code) = place.json(&["audit", "tasks"]);
    assert_eq!((code, &object["failed"]), (2, &json!(1)));
    assert_eq!(object["findings"].as_array().unwrap().len(), 1);
}
