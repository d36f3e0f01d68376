//! Parts of a run, on machines of their own.

use predicates::str::contains;

use super::common::{Place, QUICK};

const IDS: [&str; 3] = ["a", "b", "c"];

#[test]
fn merged_shards_are_what_one_run_gives() {
    let place = Place::new(&IDS);
    let whole = place.solve("whole", &[]);
    place.solve("part-1", &["--shard", "1/2"]);
    let incomplete = place.arc(&["merge", "merged", "part-1"]).assert().code(2);
    incomplete.stderr(contains("1 of 3 tasks have no result, such as `b`"));
    place.solve("part-2", &["--shard", "2/2"]);
    place.arc(&["merge", "merged", "part-1", "part-2"]).assert().success();
    assert_eq!(place.read("merged/submission.json"), whole);
}

#[test]
fn shards_of_different_runs_do_not_merge() {
    let place = Place::new(&IDS);
    place.solve("part-1", &["--shard", "1/2"]);
    place.solve("part-2", &["--shard", "2/2", "--seed", "7"]);
    let merge = place.arc(&["merge", "merged", "part-1", "part-2"]).assert().code(2);
    merge.stderr(contains("differs in seed (7 there, 0 here)"));
}

#[test]
fn an_empty_shard_is_wrong_use() {
    let place = Place::new(&IDS);
    let args = [&["solve", "tasks", "--shard", "4/4"], &QUICK[..]].concat();
    place.arc(&args).assert().code(2).stderr(contains("shard 4/4 of 3 tasks is empty"));
    let args = ["solve", "tasks", "--shard", "5/4"];
    place.arc(&args).assert().code(2).stderr(contains("such as 1/4"));
}
