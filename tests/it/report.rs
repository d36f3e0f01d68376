//! `report`: the page, what it says, and what it must never do.

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};

use super::common::{Place, QUICK, tiny_task};

/// An id that would run if it were taken for HTML.
const EVIL: &str = "<script>alert(1)</script>\"'&</details>";

/// The data that the page's script reads.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("type=\"application/json\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// Holds for every page: it is whole, and nothing in it makes a browser ask for anything.
#[track_caller]
fn check_page(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    for reference in
        ["http://", "https://", "src=", "@import", "url(", "<link", "<iframe", "fetch("]
    {
        assert!(!page.contains(reference), "{reference}");
    }
    assert!(page.contains("default-src 'none'"));
    assert_eq!(page.matches("<script").count(), 2, "the data and the page's own script");
    assert!(!page.contains("NaN") && !page.contains("=\"inf"), "a number that is none");
    for element in ["details", "section", "svg", "table", "dl", "div"] {
        let count = |text: String| page.matches(&text).count();
        let open = count(format!("<{element} ")) + count(format!("<{element}>"));
        assert_eq!(open, count(format!("</{element}>")), "{element}");
    }
}

#[test]
fn a_run_becomes_one_file_with_all_that_its_records_hold() {
    let place = Place::new(&["a", "b"]);
    place.solve("run", &["--set", "fit.format=icl", "--set", "fit.check_every=2"]);
    place.arc(&["report", "run"]).assert().success().stdout("run/report.html\n");
    let page = place.read("run/report.html");
    check_page(&page);
    for part in ["By agreement", "By size", "Where the time went", "Leave-one-out", "ontaminat"] {
        assert!(page.contains(part), "{part}");
    }
    let data = data(&page);
    let tasks = data["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 2);
    for task in tasks {
        let (run, test) = (&task["runs"][0], &task["runs"][0]["tests"][0]);
        assert_eq!(task["demos"].as_array().unwrap().len(), 3);
        assert_eq!(task["tests"][0]["truth"].as_str().unwrap().len(), 11);
        assert_eq!((&run["steps"], run["curve"]["icl"].as_array().unwrap().len()), (&json!(6), 12));
        assert_eq!(run["curve"]["checks"].as_array().unwrap().len(), 3);
        assert_eq!(run["maps"].as_array().unwrap().len(), 4);
        assert_eq!(test["attempts"].as_array().unwrap().len(), 2);
        assert_eq!(test["rules"].as_array().unwrap().len(), 11);
        let best = &test["candidates"][0];
        assert_eq!((&best["grid"], &best["rank"]), (&test["attempts"][0], &json!(1)));
        assert_eq!(test["heat"]["rows"].as_str().unwrap().len(), 11);
    }

    // The run is none the worse for it, and the same command makes the same page.
    let (object, code) = place.json(&["report", "run", "-o", "again.html"]);
    assert_eq!((code, &object["report"]), (0, &json!("again.html")), "{object}");
    assert_eq!(place.read("again.html"), page);
    assert_eq!(object["bytes"], json!(page.len()));
    let (scored, _) = place.json(&["score", "run", "tasks"]);
    assert_eq!(object["runs"][0]["solved"], scored["solved"]);
    place.solve("run", &["--set", "fit.format=icl", "--set", "fit.check_every=2"]);
}

#[test]
fn ids_that_look_like_html_stay_text() {
    let place = Place::new(&[]);
    let challenges = json!({EVIL: tiny_task(0), "b": tiny_task(1)});
    place.write("x_challenges.json", &challenges.to_string());
    let solve = |out| {
        let args = [&["solve", "x_challenges.json", "--out", out], &QUICK[..]].concat();
        place.arc(&args).assert().success();
    };
    solve("<b>one");
    solve("two");
    place.arc(&["report", "<b>one", "two", "-o", "page.html"]).assert().success();
    let page = place.read("page.html");
    check_page(&page);
    assert!(!page.contains("<script>alert") && !page.contains("<b>one"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    let data = data(&page);
    let ids: Vec<_> = data["tasks"].as_array().unwrap().iter().map(|task| &task["id"]).collect();
    assert!(ids.contains(&&json!(EVIL)), "{ids:?}");
    assert_eq!(data["sides"][0], json!("<b>one"));
}

#[test]
fn where_no_answer_is_known_nothing_is_judged_until_there_is_one() {
    let place = Place::new(&[]);
    let mut task = tiny_task(0);
    let answer = task["test"][0].as_object_mut().unwrap().remove("output").unwrap();
    place.write("x_challenges.json", &json!({"a": task}).to_string());
    place
        .arc(&[&["solve", "x_challenges.json", "--out", "run"], &QUICK[..]].concat())
        .assert()
        .success();
    let (object, code) = place.json(&["report", "run"]);
    assert_eq!((code, &object["runs"][0]["solved"]), (0, &json!(null)), "{object}");
    assert_eq!(object["runs"][0]["outcomes"]["unknown"], json!(1));
    let page = place.read("run/report.html");
    check_page(&page);
    assert!(page.contains("nothing is judged") && !page.contains("By agreement"));
    assert!(data(&page)["tasks"][0]["tests"][0]["truth"].is_null());

    place.write("mine.json", &json!({"a": [answer]}).to_string());
    let (object, _) = place.json(&["report", "run", "--solutions", "mine.json"]);
    assert!(object["runs"][0]["solved"].is_number(), "{object}");
    assert!(place.read("run/report.html").contains("By agreement"));
}

#[test]
fn two_runs_are_paired_task_by_task() {
    let place = Place::new(&["a", "b"]);
    place.solve("ttt", &["--set", "fit.hold_out=0.5"]);
    place.solve("none", &["--set", "fit.format=none"]);
    let (object, code) = place.json(&["report", "ttt", "none", "-o", "page.html"]);
    assert_eq!(code, 0, "{object}");
    let versus = &object["versus"];
    let count = |key: &str| versus[key].as_u64().unwrap();
    assert_eq!(count("both") + count("only_first") + count("only_second") + count("neither"), 2);
    assert_eq!(count("both") + count("only_first"), object["runs"][0]["solved"].as_u64().unwrap());
    assert!(versus["p"].as_f64().unwrap() <= 1.0);
    let page = place.read("page.html");
    check_page(&page);
    assert!(page.contains("One against the other") && page.contains("McNemar"));
    let runs = &data(&page)["tasks"][0]["runs"];
    assert_eq!(runs.as_array().unwrap().len(), 2);
    // The check that an end-to-end fit has: number of the demonstration, exact, made, after so many steps.
    let held_out = runs[0]["held_out"].as_array().unwrap();
    assert_eq!((held_out.len(), &held_out[2], &held_out[3]), (4, &json!(4), &json!(3)));
    assert!(runs[1]["held_out"].is_null() && page.contains("By held-out check"));
    assert!(page.contains("without any training"), "the other run's method is told too");
}

#[test]
fn failed_tasks_and_tasks_not_reached_are_shown_as_such() {
    let place = Place::new(&["a", "b"]);
    let args = [&["solve", "tasks", "--out", "run", "--memory", "1K"], &QUICK[..]].concat();
    place.arc(&args).assert().code(1);
    let records = place.read("run/records.jsonl");
    fs::write(place.path("run/records.jsonl"), records.split_inclusive('\n').next().unwrap())
        .unwrap();
    let (object, code) = place.json(&["report", "run"]);
    assert_eq!((code, &object["runs"][0]["outcomes"]["unreached"]), (0, &json!(1)), "{object}");
    let page = place.read("run/report.html");
    check_page(&page);
    for part in ["Not finished.", "Failures.", "not reached", "a stage failed"] {
        assert!(page.contains(part), "{part}");
    }
    let runs: Vec<Value> = data(&page)["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["runs"][0].clone())
        .collect();
    let failed = |run: &Value| run["failed"].as_str().is_some_and(|f| f.contains("--memory"));
    assert!(runs.iter().any(failed) && runs.iter().any(Value::is_null), "{runs:?}");

    // Nothing done yet is a report too.
    place.write("run/records.jsonl", "");
    place.arc(&["report", "run"]).assert().success();
    check_page(&place.read("run/report.html"));
}

#[test]
fn what_cannot_be_reported_on_is_named_with_the_mend() {
    let place = Place::new(&["a"]);
    let fails = |args: &[&str], message: &str| {
        let assert = place.arc(args).assert().code(2).stdout("");
        assert.stderr(contains("error: ").and(contains(message)));
    };
    fails(&["report", "nowhere"], "nowhere is no run directory");
    fails(&["report", "tasks"], "tasks is no run directory");
    place.solve("run", &[]);
    fails(&["report", "run", "nowhere"], "nowhere is no run directory");
    fails(&["report", "run", "-o", "no/such/folder/page.html"], "no/such/folder/page.html");
    fails(
        &["report", "run", "--tasks", "demo"],
        "demo are not the tasks that the run run worked on",
    );

    fs::rename(place.path("tasks"), place.path("moved")).unwrap();
    fails(&["report", "run"], "name them with --tasks: there is no data set and no file `tasks`");
    place.arc(&["report", "run", "--tasks", "moved"]).assert().success();
    place.write("moved/a.json", &tiny_task(5).to_string());
    fails(&["report", "run", "--tasks", "moved"], "name those with --tasks");
}

#[test]
fn two_runs_without_a_common_task_are_refused() {
    let place = Place::new(&["a"]);
    place.solve("one", &[]);
    place.write("c.json", &tiny_task(3).to_string());
    place.arc(&[&["solve", "c.json", "--out", "two"], &QUICK[..]].concat()).assert().success();
    place.arc(&["report", "one", "two"]).assert().code(2).stderr(contains("no task in common"));
    assert!(!place.path("one/report.html").exists());
}
