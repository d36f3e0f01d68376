//! Joins the run directories of shards into the one that a single run would have made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Circumstances, Identity, Run, RunDirectory, RunError, adapter_path, read_run};
use crate::arc::write_atomically;
use crate::pipeline::TaskRecord;

/// Writes the run directory `out` from the shards at `paths`, and returns it.
///
/// The submission has the bytes that a single run over all tasks would have written. Merging again into the same
/// directory changes what the shards have changed since.
///
/// # Errors
/// [`RunError`] if the runs are not shards of the same run, if a task has no record, or if something cannot
/// be read or written. Nothing is written before all shards are checked.
///
/// # Panics
/// If `paths` is empty.
pub fn merge(out: &Path, paths: &[PathBuf]) -> Result<RunDirectory, RunError> {
    let runs = paths.iter().map(|p| read_run(p)).collect::<Result<Vec<_>, _>>()?;
    let (first, others) = runs.split_first().expect("at least one run is merged");
    let whole = Identity { shard: None, ..first.identity.clone() };
    for (run, path) in others.iter().zip(&paths[1..]) {
        let identity = Identity { shard: None, ..run.identity.clone() };
        let differences = whole.differences(&identity);
        if !differences.is_empty() {
            let first = paths[0].clone();
            return Err(RunError::OtherRun { first, path: path.clone(), differences });
        }
    }
    let sources = sources(&whole, &runs)?;
    let trained_on = trained_on(&whole, &runs);
    let circumstances = Circumstances { trained_on, ..first.circumstances.clone() };
    let mut directory = RunDirectory::open(out, &whole, &circumstances, BTreeMap::new())?;
    for (task, run) in whole.tasks.iter().zip(sources) {
        let record = &runs[run].records[task];
        if directory.records().get(task).is_some_and(|there| is_same(there, record)) {
            continue;
        }
        copy_adapter(&adapter_path(&paths[run], task), &adapter_path(out, task))?;
        directory.append(record.clone())?;
    }
    directory.write_submission()?;
    Ok(directory)
}

/// Whether two records tell of the same work. Their times do not count: JSON need not give back the last bit.
fn is_same(a: &TaskRecord, b: &TaskRecord) -> bool {
    (a.steps, &a.chunks, &a.attempts, &a.tests) == (b.steps, &b.chunks, &b.attempts, &b.tests)
}

/// For each task, which of the runs has its record.
fn sources(whole: &Identity, runs: &[Run]) -> Result<Vec<usize>, RunError> {
    let having = |task: &String| runs.iter().position(|run| run.records.contains_key(task));
    let missing: Vec<_> = whole.tasks.iter().filter(|task| having(task).is_none()).collect();
    let Some(first) = missing.first() else {
        return Ok(whole.tasks.iter().filter_map(having).collect());
    };
    // Either a shard is not there at all, or one has not come to its end.
    let owner = |run: &&Run| run.identity.own_tasks().contains(first);
    let hint = match runs.iter().find(owner).map(|run| run.identity.shard) {
        Some(Some(shard)) => format!("give the command of shard {shard} again to finish it"),
        Some(None) => "give the run's command again to finish it".to_owned(),
        None => "name the run directories of all shards".to_owned(),
    };
    let (count, of) = (missing.len(), whole.tasks.len());
    Err(RunError::Incomplete { count, of, first: (*first).clone(), hint })
}

/// Tasks of which the model was trained on a pair: each shard has looked at its own alone. `None` if one cannot know.
fn trained_on(whole: &Identity, runs: &[Run]) -> Option<Vec<String>> {
    let of_shards = runs.iter().map(|run| run.circumstances.trained_on.as_ref());
    let of_shards: Vec<_> = of_shards.collect::<Option<_>>()?;
    let known = |task: &&String| of_shards.iter().any(|tasks| tasks.contains(task));
    Some(whole.tasks.iter().filter(known).cloned().collect())
}

/// Copies the files of an adapter, if there is one, in the place of those that may be there.
fn copy_adapter(from: &Path, to: &Path) -> Result<(), RunError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| RunError::Io { action, path, source }
    };
    if to.exists() {
        fs::remove_dir_all(to).map_err(failed("remove", to))?;
    }
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to).map_err(failed("make", to))?;
    for entry in fs::read_dir(from).map_err(failed("read", from))? {
        let path = entry.map_err(failed("read", from))?.path();
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let target = to.join(path.file_name().unwrap_or_default());
        write_atomically(&target, &bytes).map_err(failed("write", &target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::circumstances;
    use super::super::execute::tests::plan;
    use super::super::manifest::tests::identity;
    use super::super::{Shard, execute, fallbacks, load_adapter};
    use super::*;
    use crate::pipeline::mock::task;

    const IDS: [&str; 5] = ["e", "a", "d", "b", "c"];

    /// Runs one shard, or everything, below `parent`; `limit` cuts it short.
    fn run(parent: &Path, shard: Option<&str>, limit: usize) -> PathBuf {
        let shard: Option<Shard> = shard.map(|s| s.parse().unwrap());
        let identity = Identity { shard, ..identity(&IDS) };
        let path =
            parent.join(shard.map_or("whole".to_owned(), |s| format!("shard-{}", s.index())));
        run_in(&path, &identity, limit);
        path
    }

    fn run_in(path: &Path, identity: &Identity, limit: usize) {
        let tasks: Vec<_> = identity.own_tasks().iter().map(|id| task(id)).collect();
        let fallback = fallbacks(&tasks);
        let mut directory = RunDirectory::open(path, identity, &circumstances(), fallback).unwrap();
        let first = &tasks[..limit.min(tasks.len())];
        execute(&mut directory, first, &plan(), &mut |_| {}).unwrap();
    }

    fn submission(path: &Path) -> String {
        fs::read_to_string(path.join("submission.json")).unwrap()
    }

    #[test]
    fn shards_join_to_what_one_run_gives() {
        let parent = tempfile::tempdir().unwrap();
        let whole = run(parent.path(), None, 9);
        let shards = ["2/2", "1/2"].map(|s| run(parent.path(), Some(s), 9));
        assert_ne!(submission(&shards[0]), submission(&whole));
        let out = parent.path().join("merged");
        for _ in 0..2 {
            drop(merge(&out, &shards).unwrap());
            assert_eq!(submission(&out), submission(&whole));
        }
        assert_eq!(read_run(&out).unwrap().records.len(), 5);
        let adapter = |run: &Path| load_adapter(&adapter_path(run, "d")).unwrap();
        assert_eq!(adapter(&out), adapter(&whole));
    }

    #[test]
    fn merged_again_what_a_shard_has_changed_is_taken_over_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let shards = ["1/2", "2/2"].map(|s| run(parent.path(), Some(s), 9));
        let out = parent.path().join("merged");
        drop(merge(&out, &shards).unwrap());
        let mut record = read_run(&shards[0]).unwrap().records["e"].clone();
        record.attempts.iter_mut().for_each(|attempts| attempts.swap(0, 1));
        let identity = Identity { shard: "1/2".parse().ok(), ..identity(&IDS) };
        let mut shard =
            RunDirectory::open(&shards[0], &identity, &circumstances(), BTreeMap::new()).unwrap();
        shard.append(record.clone()).unwrap();
        // The adapter of another fit would be another one.
        fs::remove_dir_all(adapter_path(&shards[0], "e")).unwrap();
        for _ in 0..2 {
            drop(merge(&out, &shards).unwrap());
            assert_eq!(read_run(&out).unwrap().records["e"].attempts, record.attempts);
            let lines = fs::read_to_string(out.join("records.jsonl")).unwrap().lines().count();
            assert_eq!(lines, IDS.len() + 1);
        }
        assert!(!adapter_path(&out, "e").exists() && adapter_path(&out, "a").exists());
    }

    #[test]
    fn what_any_shard_knows_from_training_the_whole_run_knows() {
        let run = |trained_on: Option<&[&str]>| {
            let names = |ids: &[&str]| ids.iter().map(|id| id.to_string()).collect();
            let trained_on = trained_on.map(names);
            let circumstances = Circumstances { trained_on, ..circumstances() };
            Run { identity: identity(&IDS), circumstances, records: BTreeMap::new() }
        };
        let both =
            |a: Option<&[&str]>, b: Option<&[&str]>| trained_on(&identity(&IDS), &[run(a), run(b)]);
        let known = both(Some(&["c"]), Some(&["a", "b"])).unwrap();
        assert_eq!(known, ["a", "b", "c"]);
        assert_eq!(both(Some(&[]), Some(&["b"])), Some(vec!["b".to_owned()]));
        assert_eq!((both(Some(&["c"]), None), both(Some(&[]), Some(&[]))), (None, Some(vec![])));

        // It reaches the directory.
        let parent = tempfile::tempdir().unwrap();
        let shards = ["1/2", "2/2"].map(|shard| {
            let identity = Identity { shard: shard.parse().ok(), ..identity(&IDS) };
            let own = identity.own_tasks();
            let circumstances = Circumstances { trained_on: Some(own), ..circumstances() };
            let path = parent.path().join(&shard[..1]);
            drop(RunDirectory::open(&path, &identity, &circumstances, BTreeMap::new()).unwrap());
            run_in(&path, &identity, 9);
            path
        });
        let out = parent.path().join("merged");
        drop(merge(&out, &shards).unwrap());
        let known = read_run(&out).unwrap().circumstances.trained_on;
        assert_eq!(known, Some(IDS.map(str::to_owned).into()));
    }

    #[test]
    fn missing_and_unfinished_shards_are_named() {
        let parent = tempfile::tempdir().unwrap();
        let first = run(parent.path(), Some("1/2"), 9);
        let out = parent.path().join("merged");
        let error = merge(&out, std::slice::from_ref(&first)).unwrap_err().to_string();
        assert!(error.contains("2 of 5 tasks have no result, such as `a`"), "{error}");
        assert!(error.contains("all shards"), "{error}");
        let second = run(parent.path(), Some("2/2"), 1);
        let error = merge(&out, &[first, second]).unwrap_err().to_string();
        assert!(error.contains("`b`; give the command of shard 2/2 again"), "{error}");
        assert!(!out.exists());
    }

    #[test]
    fn shards_of_another_run_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let first = run(parent.path(), Some("1/2"), 9);
        let other = parent.path().join("other");
        let identity = Identity { seed: 7, shard: "2/2".parse().ok(), ..identity(&IDS) };
        let settings = identity.settings.replace("seed = 0", "seed = 7");
        let identity = Identity { settings, ..identity };
        drop(RunDirectory::open(&other, &identity, &circumstances(), BTreeMap::new()).unwrap());
        let error = merge(&parent.path().join("merged"), &[first, other]).unwrap_err().to_string();
        assert!(error.contains("it differs in seed (7 there, 0 here)"), "{error}");
    }
}
