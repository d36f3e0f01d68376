//! Comparisons: shared runs, resume, tables.

use std::fs;

use predicates::str::contains;

use super::common::Place;

const VARIANTS: &str = r#"
baseline = "none"
[[variants]]
name = "none"
set = { fit.format = "none" }
[[variants]]
name = "product"
set = { vote.selector = "product" }
[[variants]]
name = "majority"
set = { vote.selector = "majority" }
[[variants]]
name = "two steps"
steps = 2
"#;

const COMPARE: [&str; 9] =
    ["compare", "mine.toml", "tasks", "--out", "out", "--steps", "6", "--set", "views.count=4"];

fn place() -> Place {
    let place = Place::new(&["a", "b"]);
    place.write("mine.toml", VARIANTS);
    place
}

#[test]
fn variants_of_the_vote_share_a_run_and_a_repeated_command_runs_nothing() {
    let place = place();
    let (object, code) = place.json(&COMPARE);
    assert_eq!(code, 0, "{object}");
    let rows = object["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["variant"].as_str().unwrap()).collect();
    assert_eq!(names, ["none", "product", "majority", "two steps"]);
    let runs = || -> Vec<_> {
        let entries = fs::read_dir(place.path("out/runs")).unwrap().map(|e| e.unwrap().path());
        let mut runs: Vec<_> = entries.filter(|path| path.is_dir()).collect();
        runs.sort();
        runs
    };
    assert_eq!(runs().len(), 3);
    let steps: Vec<_> = rows.iter().map(|row| row["steps"].as_f64().unwrap()).collect();
    assert_eq!(steps, [0.0, 6.0, 6.0, 2.0]);
    assert!(rows.iter().all(|row| row["peak_memory_bytes"].as_u64().unwrap() > 1 << 20));
    assert!(rows[0]["versus_baseline"].is_null() && rows[1]["versus_baseline"]["p"].is_number());

    // What `solve` says of the same run, which has the default vote.
    let product = runs().into_iter().find(|p| p.to_str().unwrap().contains("product")).unwrap();
    let (scored, _) = place.json(&["score", product.to_str().unwrap(), "tasks"]);
    assert_eq!(scored["fractional"], rows[1]["score"]["pass_at_2"]["fractional"]);

    let csv = place.read("out/compare.csv");
    assert_eq!((csv.lines().count(), place.read("out/compare.md").lines().count()), (5, 6));
    let output = place.arc(&COMPARE).output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(!messages.contains("run 1 of"), "{messages}");
    assert_eq!(place.read("out/compare.csv"), csv);
}

#[test]
fn a_run_that_was_cut_off_is_gone_on_with() {
    let place = place();
    let (whole, _) = place.json(&COMPARE);
    let run = fs::read_dir(place.path("out/runs")).unwrap().map(|e| e.unwrap().path());
    let run = run.filter(|path| path.is_dir()).min().unwrap();
    let records = fs::read_to_string(run.join("records.jsonl")).unwrap();
    let first = records.split_inclusive('\n').next().unwrap();
    fs::write(run.join("records.jsonl"), first).unwrap();
    let (again, code) = place.json(&COMPARE);
    assert_eq!(code, 0);
    let scores = |object: &serde_json::Value| -> Vec<_> {
        object["rows"].as_array().unwrap().iter().map(|row| row["score"].clone()).collect()
    };
    assert_eq!(scores(&again), scores(&whole));
    assert_eq!(fs::read_to_string(run.join("records.jsonl")).unwrap().lines().count(), 2);
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_mend() {
    let place = place();
    let fails = |args: &[&str], message: &str| {
        place.arc(args).assert().code(2).stderr(contains(message));
    };
    fails(&["compare", "mine.toml", "-"], "give a file in place of -");
    fails(&["compare", "nothing"], "neither an embedded comparison");
    fails(&["compare", "mine.toml", "tasks", "--variants", "sun"], "it has none, product");
    fails(&["compare", "mine.toml", "nowhere"], "nowhere");
    place.arc(&[&COMPARE[..], &["--variants", "two steps"]].concat()).assert().success();
    fails(&[&COMPARE[..], &["--limit", "1"]].concat(), "give another --out");
}
