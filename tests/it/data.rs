//! `data`, `score` and `show`.

use serde_json::{Value, json};

use super::common::Place;

/// A submission whose attempts are right, wrong, or right at the second go, by task.
fn submission(place: &Place, answers: &[(&str, &str)]) -> String {
    let entry = |(id, verdict): &(&str, &str)| {
        let task: Value = serde_json::from_str(&place.read(&format!("tasks/{id}.json"))).unwrap();
        let (right, wrong) = (task["test"][0]["output"].clone(), json!([[5]]));
        let (first, second) = match *verdict {
            "right" => (right, wrong),
            "second" => (wrong, right),
            _ => (wrong.clone(), wrong),
        };
        (id.to_string(), json!([{"attempt_1": first, "attempt_2": second}]))
    };
    let object: serde_json::Map<_, _> = answers.iter().map(entry).collect();
    Value::Object(object).to_string()
}

#[test]
fn score_counts_under_every_rule() {
    let place = Place::new(&["a", "b", "c", "d"]);
    let answers = [("a", "right"), ("b", "second"), ("c", "wrong")];
    place.write("s.json", &submission(&place, &answers));
    let (score, code) = place.json(&["score", "s.json", "tasks"]);
    assert_eq!(code, 0);
    assert_eq!((&score["tasks"], &score["solved"]), (&json!(4), &json!(2)));
    assert_eq!((&score["strict"], &score["fractional"]), (&json!(0.5), &json!(0.5)));
    assert_eq!(score["pass_at_1"]["strict"], json!(0.25));
    assert_eq!((&score["missing"], &score["failed"]), (&json!(1), &json!(0)));
    assert_eq!((&score["submission"], &score["run"]), (&json!("s.json"), &json!(null)));
    assert!(score["seconds"].as_f64() > Some(0.0));
    assert!(!cfg!(target_os = "linux") || score["peak_memory_bytes"].as_u64() > Some(1 << 20));

    let (score, _) = place.json(&["score", "s.json", "tasks", "--only-submitted"]);
    assert_eq!((&score["tasks"], &score["missing"]), (&json!(3), &json!(0)));
    place.write("candidates.json", r#"{"c": [[[[1]], [[5]]]]}"#);
    let args = ["score", "s.json", "tasks", "--candidates", "candidates.json"];
    assert_eq!(place.json(&args).0["oracle"]["strict"], json!(0.5), "the attempts count too");
}

#[test]
fn an_illegal_attempt_is_named_counts_as_wrong_and_shows_in_the_exit_code() {
    let place = Place::new(&["a", "b"]);
    let good = submission(&place, &[("a", "right")]);
    let bad = r#""b":[{"attempt_1":[[1],[2,3]],"attempt_2":[[0]]}]}"#;
    place.write("s.json", &format!("{},{bad}", good.strip_suffix('}').unwrap()));
    let (score, code) = place.json(&["score", "s.json", "tasks"]);
    assert_eq!((&score["solved"], &score["failed"], code), (&json!(1), &json!(1), 1));
    let warning = "s.json: task `b`: [0].attempt_1: row 1 has 2 cells, but row 0 has 1";
    let output = place.arc(&["score", "s.json", "tasks"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains(warning));
}

#[test]
fn scoring_without_answers_says_where_they_could_come_from() {
    let place = Place::new(&["a"]);
    place.write("s.json", &submission(&place, &[("a", "right")]));
    place.write("x.json", r#"{"train":[{"input":[[1]],"output":[[1]]}],"test":[{"input":[[1]]}]}"#);
    let output = place.arc(&["score", "s.json", "x.json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--solutions"));
}

#[test]
fn a_set_that_is_not_fetched_says_how_to_fetch_it() {
    let place = Place::new(&[]);
    let output = place.arc(&["show", "arc-agi-1/evaluation"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("arc-agi-1/evaluation is not here yet; run `arc-ttt data fetch`"));
    let (list, code) = place.json(&["data", "list"]);
    assert_eq!((list["sets"].as_array().unwrap().len(), code), (7, 0));
    assert_eq!(list["sets"][0]["state"], json!("embedded"));
    assert_eq!(place.arc(&["data", "verify"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_source_that_does_not_hold_the_published_tasks_installs_nothing() {
    let place = Place::new(&["a", "b"]);
    let output = place.arc(&["data", "fetch", "--from", "tasks"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("tasks does not hold arc-agi-1/training as published"), "{message}");
    assert_eq!(std::fs::read_dir(place.path("data")).unwrap().count(), 0);
}

#[test]
fn show_reads_standard_input_and_draws_digits_into_a_pipe() {
    let place = Place::new(&[]);
    let task = r#"{"train":[{"input":[[1,2]],"output":[[3]]}],"test":[{"input":[[4]]}]}"#;
    let expected = "\
stdin

demonstration 1
input   output
 1 2  →  3

test 1
input   output
 4    → ?
";
    place.arc(&["show", "-"]).write_stdin(task).assert().success().stdout(expected);
    let colored =
        place.arc(&["show", "-", "--color", "always"]).write_stdin(task).output().unwrap();
    assert!(String::from_utf8_lossy(&colored.stdout).contains("\x1b[48;2;0;116;217m"));
}

#[test]
fn pictures_go_to_one_file_or_to_a_folder() {
    let place = Place::new(&["a", "b"]);
    place.write("s.json", &submission(&place, &[("a", "right"), ("b", "wrong")]));
    let (shown, _) = place.json(&["show", "tasks", "--submission", "s.json", "--png", "out/"]);
    assert_eq!(
        (&shown["tasks"][0]["solved"], &shown["tasks"][1]["solved"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(shown["png"], json!(["out/a.png", "out/b.png"]));
    let (wrong, _) =
        place.json(&["show", "tasks", "--submission", "s.json", "--wrong", "--png", "b.png"]);
    assert_eq!(wrong["tasks"].as_array().unwrap().len(), 1);
    for file in ["out/a.png", "out/b.png", "b.png"] {
        assert!(image::open(place.path(file)).unwrap().width() > 100, "{file}");
    }
    let output = place.arc(&["show", "tasks", "--png", "c.png"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!place.path("c.png").exists());
}
