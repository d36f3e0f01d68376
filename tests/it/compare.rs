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
name = "sum"
set = { vote.selector = "sum" }
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
    assert_eq!(names, ["none", "sum", "majority", "two steps"]);
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

    // What `solve` says of the same run, which has the vote of the first variant that reads it.
    let sum = runs().into_iter().find(|p| p.to_str().unwrap().contains("sum")).unwrap();
    let (scored, _) = place.json(&["score", sum.to_str().unwrap(), "tasks"]);
    assert_eq!(scored["fractional"], rows[1]["score"]["pass_at_2"]["fractional"]);

    let csv = place.read("out/mine.csv");
    // The table, a note, and the best of 1, 2 and 4 views; tables have heads and a rule.
    let markdown = place.read("out/mine.md");
    assert_eq!((csv.lines().count(), markdown.lines().count()), (5, 6 + 2 + 3 + 6), "{markdown}");
    assert_eq!(place.read("out/mine-views.csv").lines().count(), 1 + 4 * 3);
    assert_eq!(runs_made(&place, &COMPARE), 0);
    assert_eq!(place.read("out/mine.csv"), csv);
    // One page has it all, and leads to the reports of the runs.
    let page = place.read("out/mine.html");
    let is_known = |interval: &serde_json::Value| interval.is_array();
    let intervals = rows
        .iter()
        .flat_map(|row| [&row["score"]["strict_interval"], &row["versus_baseline"]["interval"]]);
    let known = intervals.filter(|i| is_known(i)).count();
    assert!(known > 0 && page.matches("whisker\"").count() == known, "{known}: {page}");
    assert!(page.contains("95 % intervals"), "{page}");
    for run in runs() {
        let name = run.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(page.contains(&format!("href=\"runs/{name}/report.html\"")), "{name}");
        assert!(run.join("report.html").exists());
    }
}

/// Runs a command again and gives the number of runs that it makes.
fn runs_made(place: &Place, args: &[&str]) -> usize {
    let output = place.arc(args).output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{messages}");
    messages.lines().filter(|line| line.starts_with("run ")).count()
}

#[test]
fn a_run_is_found_again_by_another_comparison_whatever_it_is_called_there() {
    let place = place();
    assert_eq!(runs_made(&place, &COMPARE), 3);
    let other = r#"
        [[variants]]
        name = "six steps of the default, one view"
        reads = { views = 1 }
        [[variants]]
        name = "six steps of the default"
        steps = 6
        [[variants]]
        name = "no fit at all"
        set = { fit.format = "none" }
        [[variants]]
        name = "another rank"
        set = { lora.rank = 2 }
    "#;
    place.write("other.toml", other);
    let args: Vec<&str> =
        COMPARE.iter().map(|arg| if *arg == "mine.toml" { "other.toml" } else { *arg }).collect();
    assert_eq!(runs_made(&place, &args), 1);
    let (object, _) = place.json(&args);
    let (mine, rows) = (place.read("out/mine.json"), object["rows"].as_array().unwrap());
    let mine: serde_json::Value = serde_json::from_str(&mine).unwrap();
    for (here, there) in [(1, 1), (2, 0)] {
        assert_eq!(rows[here]["score"], mine["rows"][there]["score"]);
        assert_eq!(rows[here]["seconds"], mine["rows"][there]["seconds"]);
    }
    assert!(rows[0]["seconds"].as_f64().unwrap() < rows[1]["seconds"].as_f64().unwrap());
    // With another rule of the vote the runs are the same.
    assert_eq!(runs_made(&place, &[&args[..], &["--set", "vote.selector=min"]].concat()), 0);
    // Other tasks and another seed are other work, in the same place.
    assert_eq!(runs_made(&place, &[&args[..], &["--limit", "1"]].concat()), 3);
    assert_eq!(runs_made(&place, &[&args[..], &["--seed", "1"]].concat()), 3);
    assert_eq!(runs_made(&place, &args), 0);
}

#[test]
fn a_timed_run_is_shared_only_with_the_same_jobs() {
    let place = place();
    let runs = |jobs: &str, more: &[&str]| {
        let args = [&COMPARE[..], &["--variants", "none", "--jobs", jobs], more].concat();
        runs_made(&place, &args)
    };
    // Without a fit the time is never used up.
    let timed = ["--budget", "60s"];
    assert_eq!([runs("1", &timed), runs("1", &timed)], [1, 0]);
    assert_eq!([runs("2", &timed), runs("2", &timed), runs("1", &timed)], [1, 0, 0]);
    assert_eq!([runs("1", &[]), runs("2", &[])], [1, 0]);
}

#[test]
fn a_variant_s_own_steps_win_and_none_at_all_is_zero_shot() {
    let place = place();
    let variants = r#"
        [[variants]]
        name = "command's"
        [[variants]]
        name = "own"
        set = { fit.steps = 3 }
        [[variants]]
        name = "zero-shot"
        steps = 0
        set = { fit.format = "e2e" }
    "#;
    place.write("mine.toml", variants);
    let (object, code) = place.json(&[&COMPARE[..], &["--baseline", "zero-shot"]].concat());
    let rows = object["rows"].as_array().unwrap();
    let steps: Vec<_> = rows.iter().map(|row| row["steps"].as_f64().unwrap()).collect();
    assert_eq!((code, steps), (0, vec![6.0, 3.0, 0.0]), "{object}");
    let tested: Vec<_> = rows.iter().map(|row| row["versus_baseline"].is_object()).collect();
    assert_eq!((tested, &object["baseline"]), (vec![true, true, false], &"zero-shot".into()));
    let run = fs::read_dir(place.path("out/runs")).unwrap().map(|e| e.unwrap().path());
    let run = run.filter(|path| path.is_dir()).max().unwrap();
    assert!(run.to_str().unwrap().contains("zero-shot"));
    let records = fs::read_to_string(run.join("records.jsonl")).unwrap();
    // The format that learns nothing from the demonstrations but by steps, before the first.
    assert!(records.contains("\"format\":\"e2e\"") && !records.contains("\"failed\""), "{records}");
    assert!(records.contains("\"fitted\":true"), "{records}");
}

#[test]
fn time_that_is_shared_is_asked_for_and_a_finished_comparison_stays_as_it_is() {
    let place = place();
    let variants = r#"
        [[variants]]
        name = "even"
        share = "even"
        [[variants]]
        name = "scheduled"
        share = "scheduled"
    "#;
    place.write("mine.toml", variants);
    // On a busy machine to look for a start would take all the time.
    let no_start = ["--set", "fit.start_cells=0"];
    let compare =
        [&["compare", "mine.toml", "tasks", "--out", "out", "--jobs", "1"], &no_start[..]].concat();
    place.arc(&compare).assert().code(2).stderr(contains("`even` shares the time"));
    // A third of a second is no round number of nanoseconds.
    let args = [&compare[..], &["--budget", "1333.333333ms"]].concat();
    assert_eq!(runs_made(&place, &args), 2);
    let csv = place.read("out/mine.csv");
    assert_eq!(runs_made(&place, &args), 0);
    assert_eq!(place.read("out/mine.csv"), csv);
    let run = fs::read_dir(place.path("out/runs")).unwrap().map(|e| e.unwrap().path());
    let run = run.filter(|path| path.is_dir()).min().unwrap();
    let manifest = fs::read_to_string(run.join("run.json")).unwrap();
    assert!(manifest.contains("\"evenly\": true"), "{manifest}");
    // One that was cut off is gone on with.
    let scheduled = fs::read_dir(place.path("out/runs")).unwrap().map(|e| e.unwrap().path());
    let scheduled = scheduled.filter(|path| path.is_dir()).max().unwrap();
    fs::remove_file(format!("{}.json", scheduled.display())).unwrap();
    assert_eq!(runs_made(&place, &args), 1);
}

#[test]
fn what_steps_are_worth_is_written_as_part_of_a_recipe() {
    let place = place();
    let steps = |n| format!("[[variants]]\nname = '{n} steps'\nsteps = {n}\n");
    place.write("mine.toml", &[2, 4, 8].map(steps).concat());
    let args = ["compare", "mine.toml", "tasks", "--out", "out", "--set", "views.count=4"];
    place.arc(&[&args[..], &["--gain", "gain.toml"]].concat()).assert().success();
    let gain = place.read("gain.toml");
    assert!(gain.contains("[schedule.gain]\nsteps = [2, 4, 8]\neasy = ["), "{gain}");
    // A recipe takes it.
    place.write("recipe.toml", &format!("extends = 'default'\n{gain}"));
    let solve = ["solve", "tasks", "--recipe", "recipe.toml", "--steps", "1", "--out", "run"];
    place.arc(&solve).assert().success();
    assert!(
        place.read("run/recipe.toml").contains("steps = [\n    2,\n    4,\n    8,\n]")
            || place.read("run/recipe.toml").contains("steps = [2, 4, 8]")
    );
    let one = [&args[..], &["--variants", "2 steps", "--gain", "none.toml"]].concat();
    place.arc(&one).assert().failure().stderr(contains("differ in their steps alone"));
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
    fails(&["compare", "mine.toml", "tasks", "--variants", "sum,sun"], "it has `none`, `sum`");
    fails(&["compare", "mine.toml", "nowhere"], "nowhere");
    fails(&["compare", "mine.toml", "tasks", "--baseline", "sun"], "it has `none`, `sum`");
}
