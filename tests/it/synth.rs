//! `synth`.

use std::fs;

use serde_json::Value;

use super::common::Place;

#[test]
fn tasks_of_a_family_are_the_same_in_every_run_and_load_as_task_files() {
    let place = Place::new(&[]);
    let args = ["synth", "--family", "flip", "--family", "rays", "--count", "3", "--seed", "4"];
    for folder in ["one", "two"] {
        let wanted = [&args[..], &["--out", folder]].concat();
        place.arc(&wanted).assert().success().stdout("");
    }
    let names = ["flip-0000", "flip-0002", "rays-0001"];
    for name in names {
        let path = |folder: &str| format!("{folder}/{name}.json");
        assert_eq!(place.read(&path("one")), place.read(&path("two")));
    }
    assert_eq!(fs::read_dir(place.path("one")).unwrap().count(), 6);
    let (shown, code) = place.json(&["show", "one"]);
    assert_eq!((shown["tasks"].as_array().unwrap().len(), code), (6, 0));

    let (object, _) = place.json(&args);
    let file: Value = serde_json::from_str(&place.read("one/rays-0001.json")).unwrap();
    assert_eq!(object["rays-0001"], file);
}

#[test]
fn the_mix_has_as_many_tasks_as_asked_and_a_sheet_shows_them() {
    let place = Place::new(&[]);
    let args = ["synth", "--count", "5", "--max-side", "12", "--png", "sheet.png"];
    let (object, code) = place.json(&args);
    assert_eq!((object.as_object().unwrap().len(), code), (5, 0));
    let bytes = fs::read(place.path("sheet.png")).unwrap();
    assert!(bytes.starts_with(b"\x89PNG"));
}

#[test]
fn wrong_use_says_what_to_do() {
    let place = Place::new(&[]);
    let check = |args: &[&str], complaint: &str| {
        let output = place.arc(&[&["synth"], args].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(complaint), "{text}");
    };
    check(&["--family", "flop"], "`arc-ttt synth --list`");
    check(&["--max-side", "31"], "--max-side is 31; it must be from 3 to 30");
    check(
        &["--family", "match-shapes", "--max-side", "5"],
        "give more of --examples or --max-side",
    );
    let (list, _) = place.json(&["synth", "--list"]);
    assert!(list["families"].as_array().unwrap().len() >= 60);
}
