//! Whatever interrupts a run, the submission is valid, and in the end the same.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::common::{Place, QUICK, is_valid_submission};

const IDS: [&str; 4] = ["a", "b", "c", "d"];

/// Sends a process a signal; its exit code, or none if the signal killed it.
fn end(mut child: Child, signal: &str) -> Option<i32> {
    let id = child.id().to_string();
    Command::new("kill").args(["-s", signal, &id]).stderr(Stdio::null()).status().unwrap();
    child.wait().unwrap().code()
}

/// Starts `solve`, and ends it with `signal` after some time; the exit code, or none if the signal killed it.
fn solve_and_signal(place: &Place, more: &[&str], signal: &str, after: Duration) -> Option<i32> {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("arc-ttt"));
    command.args(["solve", "tasks", "--out", "run"]).args(more);
    command.current_dir(place.path("")).env("ARC_TTT_DATA", place.path("data"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sleep(after);
    end(child, signal)
}

#[cfg(unix)]
#[test]
fn killed_again_and_again_a_run_ends_with_the_same_bytes() {
    let place = Place::new(&IDS);
    let began = Instant::now();
    let whole = place.solve("whole", &["--jobs", "1"]);
    let takes = began.elapsed();
    // Moments spread over the whole run, start and end included.
    for part in 1..8 {
        let options = [&QUICK[..], &["--jobs", "1"]].concat();
        let code = solve_and_signal(&place, &options, "KILL", takes * part / 8);
        if place.path("run/submission.json").exists() {
            assert!(is_valid_submission(&place.path("run/submission.json"), &IDS), "part {part}");
        }
        if code == Some(0) {
            break;
        }
    }
    assert_eq!(place.solve("run", &["--jobs", "2"]), whole);
}

#[cfg(unix)]
#[test]
fn an_interrupt_says_how_to_go_on_and_ends_with_130() {
    let place = Place::new(&IDS);
    for signal in ["INT", "TERM"] {
        // So many steps that the run cannot be over.
        let options = ["--steps", "100000", "--set", "fit.patience=0"];
        let code = solve_and_signal(&place, &options, signal, Duration::from_secs(2));
        assert_eq!(code, Some(130), "{signal}");
        assert!(is_valid_submission(&place.path("run/submission.json"), &IDS));
    }
}

/// Begins or goes on with a small training of so many steps, which is saved after each.
fn training(place: &Place, out: &str, steps: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("arc-ttt"));
    command.args(["pretrain", "--tasks", "tasks", "--out", out, "--device", "cpu"]);
    command.args(["--steps", steps, "--checkpoint-every", "0"]);
    for small in ["d_model=32", "n_heads=4", "n_layers=1"] {
        command.args(["--set", &format!("model.{small}")]);
    }
    command.args(["--set", "data.synth=0.0", "--set", "episode.cells_per_step=100"]);
    command.current_dir(place.path("")).stderr(Stdio::null());
    command
}

/// Sends a training a signal once it has saved something new, unless it is over; its exit code.
#[cfg(unix)]
fn signal_training(place: &Place, mut training: Command, signal: &str) -> Option<i32> {
    let saved = || {
        let state = std::fs::metadata(place.path("run/state.safetensors"));
        state.and_then(|file| file.modified()).ok()
    };
    let before = saved();
    let mut child = training.spawn().unwrap();
    while saved() == before && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(5));
    }
    end(child, signal)
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_ends_with_130() {
    let place = Place::new(&IDS);
    // So many steps that the run cannot be over.
    let code = signal_training(&place, training(&place, "run", "1000000"), "INT");
    assert_eq!(code, Some(130));
}

#[cfg(unix)]
#[test]
fn killed_again_and_again_a_training_ends_with_the_same_file() {
    let place = Place::new(&IDS);
    assert!(training(&place, "whole", "60").status().unwrap().success());
    let kill = || signal_training(&place, training(&place, "run", "60"), "KILL");
    let killed = (0..4).filter(|_| kill().is_none()).count();
    assert!(killed > 0, "it was over before it could be killed");
    assert!(training(&place, "run", "60").status().unwrap().success());
    let file = |run: &str| std::fs::read(place.path(&format!("{run}/model.safetensors"))).unwrap();
    assert!(file("run") == file("whole"));
}

#[test]
fn jobs_and_threads_change_no_byte() {
    let place = Place::new(&IDS);
    let one = place.solve("one", &["--jobs", "1", "--threads", "1"]);
    assert_eq!(place.solve("two", &["--jobs", "2", "--threads", "2"]), one);
    assert_eq!(place.solve("wide", &["--jobs", "1", "--threads", "2"]), one);
    // Given again, the command finds everything done.
    assert_eq!(place.solve("one", &["--jobs", "2"]), one);
}

#[test]
fn a_timed_run_can_be_repeated_to_the_byte() {
    let place = Place::new(&IDS[..2]);
    let timed = ["solve", "tasks", "--out", "timed", "--budget", "1500ms", "--jobs", "1"];
    place.arc(&timed).assert().success();
    place.arc(&["solve", "--replay", "timed", "--out", "again"]).assert().success();
    assert_eq!(place.read("again/submission.json"), place.read("timed/submission.json"));
}

#[test]
fn a_shard_can_be_repeated_to_the_byte() {
    let place = Place::new(&IDS[..3]);
    let part = place.solve("part", &["--shard", "1/2"]);
    place.arc(&["solve", "--replay", "part", "--out", "again"]).assert().success();
    assert_eq!(place.read("again/submission.json"), part);
}

#[cfg(unix)]
#[test]
fn a_total_time_survives_a_kill_and_can_be_repeated_to_the_byte() {
    let place = Place::new(&IDS[..3]);
    // So many steps that fits do not end by themselves.
    let options = [
        "--total-time",
        "6s",
        "--jobs",
        "1",
        "--set",
        "fit.hold_out=0.3",
        "--set",
        "fit.steps=100000",
    ];
    solve_and_signal(&place, &options, "KILL", Duration::from_secs(4));
    assert!(is_valid_submission(&place.path("run/submission.json"), &IDS[..3]));
    let began = Instant::now();
    place.arc(&[&["solve", "tasks", "--out", "run"], &options[..]].concat()).assert().success();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    place.arc(&["solve", "--replay", "run", "--out", "again"]).assert().success();
    assert_eq!(place.read("again/submission.json"), place.read("run/submission.json"));
    let both = ["solve", "tasks", "--total-time", "6s", "--budget", "1s"];
    place.arc(&both).assert().code(2).stderr(predicates::str::contains("cannot be used with"));
}

#[test]
fn a_deadline_is_kept() {
    let place = Place::new(&IDS);
    let began = Instant::now();
    place.arc(&["solve", "tasks", "--out", "run", "--deadline", "4s"]).assert().success();
    assert!(began.elapsed() < Duration::from_millis(4500), "{:?}", began.elapsed());
    assert!(is_valid_submission(&place.path("run/submission.json"), &IDS));
}

#[test]
fn a_training_goes_on_from_the_weights_of_another_and_from_no_others() {
    let place = Place::new(&IDS);
    for (out, steps) in [("first", "2"), ("other", "3")] {
        assert!(training(&place, out, steps).status().unwrap().success());
    }
    let go_on = |init: Option<&str>, steps: &str| {
        let mut command = training(&place, "run", steps);
        command.args(init.map_or(vec![], |init| vec!["--init", init]));
        let output = command.stderr(Stdio::piped()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = go_on(Some("first"), "2");
    assert!(code == Some(0) && text.contains("took over the tokens of"), "{text}");
    let (code, text) = go_on(None, "4");
    assert!(code == Some(0) && text.contains("continuing after step 2"), "{text}");
    let (code, text) = go_on(Some("first/model.safetensors"), "4");
    assert!(code == Some(0) && text.contains("at its end already"), "{text}");
    let (code, text) = go_on(Some("other"), "6");
    assert!(code == Some(2) && text.contains("give the same --init, or none"), "{text}");
    let (code, text) = go_on(Some("nowhere"), "6");
    assert!(code == Some(2) && text.contains("--init takes a model.safetensors"), "{text}");
}

#[test]
fn a_run_that_had_a_deadline_says_so_where_it_is_gone_on_with_under_none() {
    let place = Place::new(&["a"]);
    let solve = |more: &[&str]| {
        let args = [&["solve", "tasks", "--out", "run"], &QUICK[..], more].concat();
        let output = place.arc(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let note = "what is done so far (1) had --deadline 1 h 00 min; give another --out";
    assert!(!solve(&["--deadline", "1h"]).contains("note: "));
    assert!(!solve(&["--deadline", "1h"]).contains(note));
    let text = solve(&[]);
    assert!(text.contains(note), "{text}");
}
