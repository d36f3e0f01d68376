//! Every format, every kind of bad input, and the round trip through the writer.

use proptest::prelude::*;

use super::*;
use crate::arc::{save_set, save_task, strategies};

const PAIR: &str = r#"{"input":[[1]],"output":[[2]]}"#;

fn task_text() -> String {
    format!(r#"{{"train":[{PAIR}],"test":[{{"input":[[3]]}}]}}"#)
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn ids(dataset: &Dataset) -> Vec<&str> {
    dataset.tasks.iter().map(|task| task.id.as_str()).collect()
}

/// The message for one bad file, without the folder's name.
fn complaint(text: &str) -> String {
    let dir = folder(&[("bad.json", text)]);
    let error = load(&dir.path().join("bad.json"), None).unwrap_err();
    error.to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn every_bad_input_names_file_task_and_place() {
    let pair = |input: &str| {
        format!(
            r#"{{"train":[{PAIR},{{"input":{input},"output":[[1]]}}],"test":[{{"input":[[1]]}}]}}"#
        )
    };
    let wide = format!("[[{}]]", vec!["0"; 31].join(","));
    let tall = format!("[{}]", vec!["[0]"; 31].join(","));
    let cases: Vec<(String, &str)> = vec![
        ("".into(), "bad.json: the file is empty"),
        (" \n ".into(), "bad.json: the file is empty"),
        ("{\n \"train\": x}".into(), "bad.json: not JSON: expected value, at line 2, column 11"),
        (task_text()[..30].into(), "bad.json: not JSON: EOF while parsing"),
        ("7".into(), "bad.json: the file holds a number; expected one task"),
        ("{}".into(), "bad.json: holds no tasks"),
        ("[]".into(), "task `bad`: a list of 0 pairs; at least 2"),
        (format!("[{PAIR}]"), "task `bad`: a list of 1 pairs; at least 2"),
        (format!(r#"[{PAIR},{{"input":[[1]]}}]"#), "task `bad`: [1] has no `output`"),
        (
            format!(r#"[{PAIR},{{"input":[[1]],"output":[[0,12]]}}]"#),
            "task `bad`: [1].output: cell (row 0, column 1) is 12;",
        ),
        (r#"{"train":[]}"#.into(), "task `bad`: the task has no `test`"),
        (r#"{"train":[],"test":[{"input":[[1]]}]}"#.into(), "task `bad`: `train` is empty"),
        (format!(r#"{{"train":[{PAIR}],"test":[]}}"#), "task `bad`: `test` is empty"),
        (format!(r#"{{"train":[{PAIR}],"test":[{{}}]}}"#), "test[0] has no `input`"),
        (r#"{"train":3,"test":[]}"#.into(), "`train` is a number, not a list of pairs"),
        (pair("[[1,2],[3]]"), "task `bad`: train[1].input: row 1 has 1 cells, but row 0 has 2"),
        (pair("[]"), "train[1].input: the grid is empty"),
        (pair("[[]]"), "train[1].input: the grid is empty"),
        (pair(&wide), "train[1].input: the grid is 1×31; at most 30×30"),
        (pair(&tall), "train[1].input: the grid is 31×1; at most 30×30"),
        (pair("[[0,1],[2,10]]"), "train[1].input: cell (row 1, column 1) is 10; colors are"),
        (pair("[[-1]]"), "cell (row 0, column 0) is -1;"),
        (pair("[[0,1.5]]"), "cell (row 0, column 1) is 1.5;"),
        (pair("[[1.0]]"), "cell (row 0, column 0) is 1.0;"),
        (pair(r#"[["3"]]"#), "cell (row 0, column 0) is \"3\";"),
        (pair("[[null]]"), "cell (row 0, column 0) is null;"),
        (pair("[[1],2]"), "train[1].input[1] is a number, not a row of colors"),
        (pair("4"), "train[1].input is a number, not a list of rows"),
        (r#"{"a": 5}"#.into(), "bad.json: task `a`: the task is a number, not an object"),
        (
            r#"{"a": 5, "b": 6}"#.into(),
            "none of its 2 tasks can be used; the first: bad.json: task `a`",
        ),
        (
            r#"{"a": [[[1]]], "b": [[[2]], [[3]]]}"#.into(),
            "this looks like a file of solutions: name the challenges, and give this file by --solutions",
        ),
        (r#"{"a": [3]}"#.into(), "task `a`: the task is a list, not an object"),
    ];
    for (text, expected) in cases {
        let message = complaint(&text);
        assert!(message.starts_with("bad.json: "), "{message}");
        assert!(message.contains(expected), "{text}\n  gave  {message}\n  for   {expected}");
    }
}

#[test]
fn a_missing_path_is_named() {
    let error = load(Path::new("no/such/file.json"), None).unwrap_err();
    assert!(error.to_string().starts_with("no/such/file.json: cannot be read: "), "{error}");
}

#[test]
fn a_bad_task_does_not_hide_the_good_ones() {
    let good = task_text();
    let dir = folder(&[("a.json", &good), ("b.json", "{"), ("c.json", &good), ("notes.txt", "x")]);
    let dataset = load(dir.path(), None).unwrap();
    assert_eq!(ids(&dataset), ["a", "c"]);
    assert_eq!(dataset.failed.len(), 1);
    assert_eq!(dataset.failed[0].task.as_deref(), Some("b"));

    let set = format!(r#"{{"a":{good},"b":{{"train":[],"test":[]}},"a":{good},"c":{good}}}"#);
    let dir = folder(&[("set.json", &set)]);
    let dataset = load(&dir.path().join("set.json"), None).unwrap();
    assert_eq!(ids(&dataset), ["a", "c"]);
    let failed: Vec<_> =
        dataset.failed.iter().map(|e| (e.task.as_deref().unwrap(), e.problem.clone())).collect();
    assert_eq!(failed, [("b", TaskProblem::NoExamples), ("a", TaskProblem::DuplicateId)]);
}

#[test]
fn the_same_id_in_two_files_of_a_folder_is_a_duplicate() {
    let good = task_text();
    let dir = folder(&[("a.json", &good), ("b.json", &format!(r#"{{"a":{good},"x":{good}}}"#))]);
    let dataset = load(dir.path(), None).unwrap();
    assert_eq!(ids(&dataset), ["a", "x"]);
    assert_eq!(dataset.failed[0].problem, TaskProblem::DuplicateId);
    assert!(dataset.failed[0].file.ends_with("b.json"));
}

#[test]
fn kaggle_solutions_are_found_beside_the_challenges_or_given() {
    let good = task_text();
    let challenges = format!(r#"{{"a":{good},"b":{good}}}"#);
    let solutions = r#"{"b":[[[5]]],"a":[[[4]]],"unasked":[[[1]]]}"#;
    let dir = folder(&[
        ("x_challenges.json", &challenges),
        ("x_solutions.json", solutions),
        ("lone/y_challenges.json", &challenges),
    ]);
    let answers = |dataset: Dataset| -> Vec<Option<u8>> {
        dataset.tasks.iter().map(|t| t.tests[0].output.as_ref().map(|g| g.get(0, 0))).collect()
    };
    let lone = dir.path().join("lone/y_challenges.json");
    let given = dir.path().join("x_solutions.json");
    let found = load(&dir.path().join("x_challenges.json"), None).unwrap();
    assert_eq!(answers(found), [Some(4), Some(5)]);
    assert_eq!(answers(load(dir.path(), None).unwrap()), [Some(4), Some(5)]);
    assert_eq!(answers(load(&lone, None).unwrap()), [None, None]);
    assert_eq!(answers(load(&lone, Some(&given)).unwrap()), [Some(4), Some(5)]);
}

#[test]
fn bad_solutions_name_their_file_and_task() {
    let good = task_text();
    let all = ["a", "b", "c", "d"].map(|id| format!("\"{id}\":{good}")).join(",");
    let solutions = r#"{"a":[[[1]]],"b":[[[1]],[[2]]],"c":[[[1,77]]]}"#;
    let dir =
        folder(&[("x_challenges.json", &format!("{{{all}}}")), ("x_solutions.json", solutions)]);
    let dataset = load(&dir.path().join("x_challenges.json"), None).unwrap();
    // Who solves them does not need their answers.
    assert_eq!(ids(&dataset), ["a", "b", "c", "d"]);
    assert_eq!(dataset.unusable().count(), 0);
    let messages: Vec<_> = dataset.failed.iter().map(ToString::to_string).collect();
    for (message, expected) in messages.iter().zip([
        "x_challenges.json: task `b`: 2 solutions for 1 tests in ",
        "x_solutions.json: task `c`: solution[0]: cell (row 0, column 1) is 77;",
        "x_challenges.json: task `d`: no solution in ",
    ]) {
        assert!(message.contains(expected), "{message}");
    }
    let list = folder(&[("c.json", &good), ("s.json", "[]")]);
    let error = load(&list.path().join("c.json"), Some(&list.path().join("s.json"))).unwrap_err();
    assert!(error.to_string().contains("s.json: invalid type: sequence"), "{error}");
}

#[test]
fn a_folder_without_tasks_says_what_was_meant() {
    let good = task_text();
    let dir = folder(&[("sub/a.json", &good), ("empty/readme", "")]);
    let error = load(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("did you mean") && error.contains("sub?)"), "{error}");
    let set = format!(r#"{{"a":{good}}}"#);
    let dir = folder(&[("x_challenges.json", &set), ("y_challenges.json", &set)]);
    let error = load(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("name one of: ") && error.contains("y_challenges.json"), "{error}");
}

#[test]
fn a_list_of_pairs_is_a_task_of_four_demonstrations_and_a_test() {
    let pair = |c: usize| format!(r#"{{"input":[[{c}]],"output":[[{c}]]}}"#);
    let list = |n: usize| format!("[{}]", (0..n).map(pair).collect::<Vec<_>>().join(","));
    let check = |n: usize, n_examples: usize| {
        let dir = folder(&[("p.json", &list(n))]);
        let path = dir.path().join("p.json");
        let dataset = load(&path, None).unwrap();
        let task = &dataset.tasks[0];
        assert_eq!((task.id.as_str(), task.examples.len()), ("p", n_examples));
        assert_eq!(task.tests.len(), 1);
        assert_eq!(usize::from(task.tests[0].input.get(0, 0)), n_examples);
        assert!(task.has_answers());
        let pairs = load_pairs(&path).unwrap();
        let first: Vec<_> = pairs.iter().map(|p| usize::from(p.input.get(0, 0))).collect();
        assert_eq!(first, (0..n).collect::<Vec<_>>());
    };
    check(2, 1);
    check(5, 4);
    check(9, 4);
}

#[test]
fn pairs_of_tasks_are_demonstrations_and_answered_tests() {
    let text = format!(r#"{{"a":{{"train":[{PAIR}],"test":[{PAIR},{{"input":[[3]]}}]}}}}"#);
    let dir = folder(&[("set.json", &text)]);
    assert_eq!(load_pairs(&dir.path().join("set.json")).unwrap().len(), 2);
    let sets = load_pair_folder(dir.path()).unwrap();
    assert_eq!((sets.len(), sets[0].0.as_str(), sets[0].1.len()), (1, "set", 2));
}

#[test]
fn standard_input_may_hold_any_format() {
    for text in [task_text(), format!("\u{feff}{}", task_text()), format!("[{PAIR},{PAIR}]")] {
        let dataset = load_reader(text.as_bytes(), STDIN, None).unwrap();
        assert_eq!((dataset.name.as_str(), ids(&dataset)), (STDIN, vec!["stdin"]));
    }
    let set = format!(r#"{{"a":{}}}"#, task_text());
    assert_eq!(ids(&load_reader(set.as_bytes(), STDIN, None).unwrap()), ["a"]);
    let error = load_reader(&b"{"[..], STDIN, None).unwrap_err();
    assert!(error.to_string().starts_with("<stdin>: not JSON"), "{error}");
}

#[test]
fn keys_that_are_not_known_are_ignored() {
    let text = format!(r#"{{"name":"x","train":[{PAIR}],"test":[{PAIR}],"later":[1]}}"#);
    let dataset = load_reader(text.as_bytes(), "t", None).unwrap();
    assert_eq!((ids(&dataset), dataset.failed.len()), (vec!["t"], 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_written_is_read_back(tasks in prop::collection::vec(strategies::task(2, 30), 1..4)) {
        let named = |(i, task): (usize, Task)| Task { id: format!("t{i} \"ü\""), ..task };
        let tasks: Vec<_> = tasks.into_iter().enumerate().map(named).collect();
        let dir = tempfile::tempdir().unwrap();
        let set = dir.path().join("set.json");
        save_set(&set, &tasks).unwrap();
        let loaded = load(&set, None).unwrap();
        prop_assert_eq!(&loaded.tasks, &tasks);
        let split = dir.path().join("split");
        fs::create_dir(&split).unwrap();
        for task in &tasks {
            save_task(&split.join(format!("{}.json", task.id)), task).unwrap();
        }
        prop_assert_eq!(&load(&split, None).unwrap().tasks, &tasks);
    }
}
