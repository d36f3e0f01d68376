//! The directory of one run.
//!
//! ```text
//! recipe.toml        the resolved recipe
//! run.json           identity and circumstances
//! records.jsonl      a line for each finished task; of a task that was gone back to, the last one counts
//! submission.json    two attempts for every test; valid at every moment
//! adapters/<task>/   what was learnt, in PEFT's layout
//! shared/            what was learnt for all tasks, where the recipe asks for that
//! lock               held while a process works here
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{self, Log, hint};
use super::manifest::{Difference, Identity, hash_text};
use super::{AdapterError, save_adapter};
use crate::arc::{Attempts, Grid, Submission, write_atomically};
use crate::engine::Adapter;
use crate::pipeline::TaskRecord;

const RECIPE: &str = "recipe.toml";
const MANIFEST: &str = "run.json";
const RECORDS: &str = "records.jsonl";
const SUBMISSION: &str = "submission.json";
const ADAPTERS: &str = "adapters";
const LOCK: &str = "lock";

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system refuses.
    #[error("cannot {action} {path}: {source}{hint}", path = .path.display(), hint = hint(.source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An adapter could not be written.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The adapter that all tasks share could not be fitted.
    #[error("the shared adapter could not be fitted: {0}")]
    Shared(String),
    /// Another process works in the directory.
    #[error("{path} is in use by another process; wait for it or give another --out", path = .0.display())]
    Locked(PathBuf),
    /// A directory with files in it that is no run directory.
    #[error("{path} holds other files and no {MANIFEST}; give another --out", path = .0.display())]
    Foreign(PathBuf),
    /// A directory that is no run directory.
    #[error("{path} is no run directory: it has no {MANIFEST}", path = .0.display())]
    NotARun(PathBuf),
    /// A run of another identity.
    #[error(
        "{path} was made by another run, which differs in {differences}; give another --out, or delete the \
         directory to begin anew", path = .path.display(), differences = join(.differences)
    )]
    Mismatch {
        /// The directory.
        path: PathBuf,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// A file that this program did not write so.
    #[error("{path}{line}: {problem}; restore the file, or delete the directory to begin anew",
        path = .path.display(), line = .line.map(|n| format!(", line {n}")).unwrap_or_default())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong with it.
        problem: String,
    },
    /// Runs that are not the shards of one run.
    #[error("{path} is no shard of the same run as {first}: it differs in {differences}",
        path = .path.display(), first = .first.display(), differences = join(.differences))]
    OtherRun {
        /// The first run named.
        first: PathBuf,
        /// The one that differs from it.
        path: PathBuf,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// Shards that together are not all tasks.
    #[error("{count} of {of} tasks have no result, such as `{first}`; {hint}")]
    Incomplete {
        /// Tasks without a record.
        count: usize,
        /// All tasks.
        of: usize,
        /// The first of them.
        first: String,
        /// What to do.
        hint: String,
    },
}

fn join(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Turns the system's refusal into a [`RunError`] that names the file.
fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
    let path = path.to_owned();
    move |source| RunError::Io { action, path, source }
}

/// Circumstances of a run that do not change its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Circumstances {
    /// The command that began the run.
    pub command: Vec<String>,
    /// Version of the tensor library.
    pub burn: String,
    /// Operating system and processor.
    pub platform: String,
    /// Tasks worked on at the same time by that command.
    pub jobs: usize,
    /// Threads in all.
    pub threads: usize,
    /// Seconds since 1970 at which the run began.
    pub began: u64,
    /// Seconds that command had for all tasks, if it had a deadline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deadline_seconds: Option<f64>,
    /// Tasks of which the model was trained on a pair; `None` if that cannot be known.
    #[serde(default)]
    pub trained_on: Option<Vec<String>>,
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Manifest {
    fingerprint: String,
    #[serde(flatten)]
    identity: Identity,
    circumstances: Circumstances,
    /// Of a run that was gone on with by another number of jobs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pace: Option<Pace>,
}

/// How the seconds of a run's records become wall time: several tasks have had theirs at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Pace {
    /// Tasks worked on at the same time since the number last changed.
    jobs: usize,
    /// Seconds of all records at that moment.
    task_seconds: f64,
    /// Wall seconds at that moment.
    wall_seconds: f64,
}

impl Pace {
    /// Wall seconds that these records have taken.
    fn of(self, records: &BTreeMap<String, TaskRecord>) -> f64 {
        // Records may have been lost since.
        let since = (task_seconds(records) - self.task_seconds).max(0.0);
        self.wall_seconds + since / self.jobs.max(1) as f64
    }
}

fn task_seconds(records: &BTreeMap<String, TaskRecord>) -> f64 {
    records.values().map(|record| record.seconds.total).sum()
}

/// A run as it stands on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What makes it the run it is.
    pub identity: Identity,
    /// How it came about.
    pub circumstances: Circumstances,
    /// Finished tasks by id.
    pub records: BTreeMap<String, TaskRecord>,
}

/// A run directory that this process works in.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    identity: Identity,
    records: BTreeMap<String, TaskRecord>,
    pace: Pace,
    log: Log,
    /// Attempts of tasks that are not done.
    pending: BTreeMap<String, Vec<[Grid; 2]>>,
    deadline_seconds: Option<f64>,
    // Released when the process ends, however it ends.
    _lock: File,
}

impl RunDirectory {
    /// Makes the directory, or takes up the run that stands there, and writes a submission in which
    /// `fallback` answers for the tasks that are not done.
    ///
    /// # Errors
    /// [`RunError`] if the directory belongs to another run or process, or cannot be read or written.
    pub fn open(
        path: &Path,
        identity: &Identity,
        circumstances: &Circumstances,
        fallback: BTreeMap<String, Vec<[Grid; 2]>>,
    ) -> Result<Self, RunError> {
        if !path.join(MANIFEST).exists() && is_occupied(path) {
            return Err(RunError::Foreign(path.to_owned()));
        }
        fs::create_dir_all(path).map_err(at("make", path))?;
        let lock = lock(path)?;
        files::remove_temporaries(path).map_err(at("clean", path))?;
        let mut manifest = if path.join(MANIFEST).exists() {
            read_manifest(path)?
        } else {
            let new = Manifest {
                fingerprint: identity.fingerprint(),
                identity: identity.clone(),
                circumstances: circumstances.clone(),
                pace: None,
            };
            write_manifest(path, &new)?;
            new
        };
        let differences = identity.differences(&manifest.identity);
        if !differences.is_empty() {
            return Err(RunError::Mismatch { path: path.to_owned(), differences });
        }
        let (log, records) = open_records(path)?;
        let first =
            Pace { jobs: manifest.circumstances.jobs, task_seconds: 0.0, wall_seconds: 0.0 };
        let mut pace = manifest.pace.unwrap_or(first);
        if pace.jobs != circumstances.jobs {
            let wall_seconds = pace.of(&records);
            let (jobs, task_seconds) = (circumstances.jobs, task_seconds(&records));
            pace = Pace { jobs, task_seconds, wall_seconds };
            manifest.pace = Some(pace);
            write_manifest(path, &manifest)?;
        }
        let directory = Self {
            path: path.to_owned(),
            identity: identity.clone(),
            records,
            pace,
            log,
            pending: fallback,
            deadline_seconds: manifest.circumstances.deadline_seconds,
            _lock: lock,
        };
        directory.write_submission()?;
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the submission is.
    pub fn submission(&self) -> PathBuf {
        self.path.join(SUBMISSION)
    }

    /// Finished tasks by id.
    pub fn records(&self) -> &BTreeMap<String, TaskRecord> {
        &self.records
    }

    /// Seconds that the command which began the run had for all tasks, if it had a deadline.
    pub fn deadline_seconds(&self) -> Option<f64> {
        self.deadline_seconds
    }

    /// Wall seconds that the finished tasks have taken together.
    pub(super) fn wall_seconds(&self) -> f64 {
        self.pace.of(&self.records)
    }

    /// Puts better first attempts before the fallback of a task that is not done; they reach the disk with
    /// the next submission.
    pub fn improve_pending(&mut self, task: &str, first: &[Grid]) {
        for (attempts, first) in self.pending.get_mut(task).into_iter().flatten().zip(first) {
            *attempts = [first.clone(), attempts[0].clone()];
        }
    }

    /// Keeps a finished task: its adapter, its record, and the submission with its attempts.
    ///
    /// # Errors
    /// [`RunError::Io`]; whatever was kept before is still whole.
    pub fn finish(
        &mut self,
        record: TaskRecord,
        adapter: Option<&Adapter>,
    ) -> Result<(), RunError> {
        if let Some(adapter) = adapter {
            save_adapter(&adapter_path(&self.path, &record.task), adapter, &self.identity.model)?;
        }
        self.append(record)?;
        self.write_submission()
    }

    /// Keeps a record, but leaves the submission as it is.
    pub(super) fn append(&mut self, record: TaskRecord) -> Result<(), RunError> {
        let line = serde_json::to_string(&record).expect("records are plain data");
        self.log.append(&line).map_err(at("write", &self.path.join(RECORDS)))?;
        self.records.insert(record.task.clone(), record);
        Ok(())
    }

    /// The attempts at all tasks: of those without a record what would be handed in now.
    pub fn attempts(&self) -> Submission {
        let attempts = |id: &String| {
            let known = self.records.get(id).map(|r| &r.attempts).or_else(|| self.pending.get(id));
            known.map(|tests| {
                let both = |[a, b]: &[Grid; 2]| Attempts::new(a.clone(), b.clone());
                (id.clone(), tests.iter().map(both).collect())
            })
        };
        Submission { tasks: self.identity.own_tasks().iter().filter_map(attempts).collect() }
    }

    /// Writes the submission as it stands.
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn write_submission(&self) -> Result<(), RunError> {
        let text = self.attempts().to_json();
        let path = self.submission();
        if fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(());
        }
        write_atomically(&path, text.as_bytes()).map_err(at("write", &path))
    }
}

/// Reads a run without working in it; an unfinished last record is passed over.
///
/// # Errors
/// [`RunError`] if the directory is no run or is damaged.
pub fn read_run(path: &Path) -> Result<Run, RunError> {
    let Manifest { identity, circumstances, .. } = read_manifest(path)?;
    let file = path.join(RECORDS);
    let text = match fs::read_to_string(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.map_err(at("read", &file))?,
    };
    let whole = text.rfind('\n').map_or(0, |i| i + 1);
    let lines: Vec<_> = text[..whole].lines().collect();
    let (records, _) = parse_records(&file, &lines)?;
    Ok(Run { identity, circumstances, records })
}

/// The directory in `folder` that holds exactly this run, whatever its name is; of several the first by name. A timed run
/// must also have been made with as many jobs and threads: what fits into a time depends on them. With `any_vote`, one whose
/// attempts another vote has chosen will do where there is none with this one.
pub fn find_run(
    folder: &Path,
    identity: &Identity,
    jobs: usize,
    threads: usize,
    any_vote: bool,
) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let found = paths.into_iter().filter_map(|path| {
        let there = read_manifest(&path).ok()?;
        let made_by = (there.circumstances.jobs, there.circumstances.threads);
        let differences = identity.differences(&there.identity);
        let is_it = differences.iter().all(|value| any_vote && value.what.starts_with("vote."))
            && (!identity.limits.is_timed() || made_by == (jobs, threads));
        is_it.then_some((differences.len(), path))
    });
    found.min_by_key(|(differences, _)| *differences).map(|(_, path)| path)
}

/// Where a task's adapter is kept in the run at `run`.
pub fn adapter_path(run: &Path, task: &str) -> PathBuf {
    run.join(ADAPTERS).join(directory_name(task))
}

/// A name for a task's directory: its id, or something near it where an id is no name.
///
/// An id can be any key of a JSON file; a path separator in it must not lead elsewhere.
pub fn directory_name(task: &str) -> String {
    let legal = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = task.chars().map(legal).collect();
    if name == task && !name.starts_with('.') && !name.is_empty() {
        return name;
    }
    // Two ids that differ in such a character alone must not share a directory.
    format!("_{name}-{:.8}", hash_text(task))
}

/// True if the directory holds anything but what a run leaves that ends before its manifest is written.
fn is_occupied(path: &Path) -> bool {
    let ours = |name: &str| name == LOCK || name == RECIPE || files::is_temporary(name);
    let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.any(|entry| !entry.file_name().to_str().is_some_and(ours))
}

fn lock(path: &Path) -> Result<File, RunError> {
    let file = path.join(LOCK);
    let lock = File::options().write(true).create(true).truncate(false).open(&file);
    let lock = lock.map_err(at("write", &file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(RunError::Locked(path.to_owned())),
        // Some network file systems have no locks; a run there must still be possible.
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(lock),
        Err(TryLockError::Error(e)) => Err(at("lock", &file)(e)),
    }
}

fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), RunError> {
    let recipe = path.join(RECIPE);
    write_atomically(&recipe, manifest.identity.settings.as_bytes())
        .map_err(at("write", &recipe))?;
    let mut text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
    text.push('\n');
    // Last: its presence says that the directory is a run's.
    let file = path.join(MANIFEST);
    write_atomically(&file, text.as_bytes()).map_err(at("write", &file))
}

fn read_manifest(path: &Path) -> Result<Manifest, RunError> {
    let file = path.join(MANIFEST);
    let bytes = match fs::read(&file) {
        Err(e)
            if e.kind() == io::ErrorKind::NotFound || e.kind() == io::ErrorKind::NotADirectory =>
        {
            return Err(RunError::NotARun(path.to_owned()));
        }
        bytes => bytes.map_err(at("read", &file))?,
    };
    let mut manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| RunError::Damaged {
        path: file,
        line: None,
        problem: e.to_string(),
    })?;
    let recipe = path.join(RECIPE);
    manifest.identity.settings = fs::read_to_string(&recipe).map_err(at("read", &recipe))?;
    Ok(manifest)
}

/// Opens the records; a last line that is cut off or garbled is removed, to be made again.
fn open_records(path: &Path) -> Result<(Log, BTreeMap<String, TaskRecord>), RunError> {
    let file = path.join(RECORDS);
    let (mut log, lines) = Log::open(&file).map_err(at("open", &file))?;
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let (records, good) = parse_records(&file, &lines)?;
    if good < lines.len() {
        log.keep_lines(good).map_err(at("write", &file))?;
    }
    Ok((log, records))
}

/// Records by task, and how many lines of them are good: all or all but the last.
fn parse_records(
    file: &Path,
    lines: &[&str],
) -> Result<(BTreeMap<String, TaskRecord>, usize), RunError> {
    let mut records = BTreeMap::new();
    for (i, line) in lines.iter().enumerate() {
        match serde_json::from_str::<TaskRecord>(line) {
            // A task that was gone back to has several: the last one says all.
            Ok(record) => drop(records.insert(record.task.clone(), record)),
            Err(_) if i + 1 == lines.len() => return Ok((records, i)),
            Err(e) => {
                let problem = e.to_string();
                return Err(RunError::Damaged {
                    path: file.to_owned(),
                    line: Some(i + 1),
                    problem,
                });
            }
        }
    }
    Ok((records, lines.len()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::manifest::tests::identity;
    use super::super::{execute, fallbacks};
    use super::*;
    use crate::pipeline::mock::{recipe, record, task};
    use crate::run::execute::tests::plan;

    pub(in crate::run) fn circumstances() -> Circumstances {
        let text = || "test".to_owned();
        let (command, burn, platform) = (vec![text()], text(), text());
        Circumstances {
            command,
            burn,
            platform,
            jobs: 1,
            threads: 1,
            began: 0,
            deadline_seconds: None,
            trained_on: None,
        }
    }

    /// Opens a run over tasks named by `ids`.
    pub(in crate::run) fn open(path: &Path, ids: &[&str]) -> Result<RunDirectory, RunError> {
        let tasks: Vec<_> = ids.iter().map(|id| task(id)).collect();
        RunDirectory::open(path, &identity(ids), &circumstances(), fallbacks(&tasks))
    }

    /// Makes a finished run and returns the text of its submission.
    fn finished(path: &Path, ids: &[&str]) -> String {
        let tasks: Vec<_> = ids.iter().map(|id| task(id)).collect();
        let mut directory = open(path, ids).unwrap();
        execute(&mut directory, &tasks, &plan(), &mut |_| {}).unwrap();
        fs::read_to_string(directory.submission()).unwrap()
    }

    #[test]
    fn the_submission_is_whole_before_anything_is_solved() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("deep/run");
        let directory = open(&path, &["a", "b"]).unwrap();
        let (submission, notes) = crate::arc::read_submission(&directory.submission()).unwrap();
        assert_eq!(notes, []);
        let tests: Vec<_> = submission.tasks.iter().map(|(id, t)| (id.as_str(), t.len())).collect();
        assert_eq!(tests, [("a", 3), ("b", 3)]);
    }

    #[test]
    fn a_run_goes_on_from_any_cut_of_its_records_to_the_same_submission() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("run");
        let ids = ["a", "b", "c"];
        let whole = finished(&path, &ids);
        let records = fs::read(path.join(RECORDS)).unwrap();
        for cut in [0, 1, 100, records.len() / 2, records.len() - 1, records.len()] {
            fs::write(path.join(RECORDS), &records[..cut]).unwrap();
            fs::write(path.join(SUBMISSION), "torn").unwrap();
            assert_eq!(finished(&path, &ids), whole, "cut at {cut}");
            let lines = fs::read_to_string(path.join(RECORDS)).unwrap().lines().count();
            assert_eq!(lines, 3, "every task is solved once");
        }
    }

    #[test]
    fn the_wall_time_of_a_run_survives_a_change_of_jobs() {
        let temporary = tempfile::tempdir().unwrap();
        let with = |jobs| {
            let circumstances = Circumstances { jobs, ..circumstances() };
            let ids = identity(&["a", "b"]);
            RunDirectory::open(temporary.path(), &ids, &circumstances, BTreeMap::new()).unwrap()
        };
        let finished = |id: &str, seconds| {
            let mut record = record(&task(id), &recipe(), 1);
            record.seconds.total = seconds;
            record
        };
        let mut directory = with(1);
        directory.append(finished("a", 6.0)).unwrap();
        assert_eq!(directory.wall_seconds(), 6.0);
        drop(directory);
        let mut directory = with(2);
        assert_eq!(directory.wall_seconds(), 6.0);
        directory.append(finished("b", 8.0)).unwrap();
        // A task that is gone back to.
        directory.append(finished("a", 10.0)).unwrap();
        assert_eq!(directory.wall_seconds(), 6.0 + (8.0 + 4.0) / 2.0);
        drop(directory);
        for jobs in [2, 4, 1] {
            assert_eq!(with(jobs).wall_seconds(), 12.0, "{jobs}");
        }
        assert_eq!(read_run(temporary.path()).unwrap().circumstances.jobs, 1);
    }

    #[test]
    fn a_garbled_last_record_is_made_again_and_an_earlier_one_is_an_error() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("run");
        let whole = finished(&path, &["a", "b"]);
        let records = fs::read_to_string(path.join(RECORDS)).unwrap();
        let (first, second) = records.split_once('\n').unwrap();
        fs::write(path.join(RECORDS), format!("{first}\n{{\"task\":\0\0\0\n")).unwrap();
        assert_eq!(finished(&path, &["a", "b"]), whole);
        assert_eq!(finished(&path, &["a", "b"]), whole, "it was cut off, not passed over");
        fs::write(path.join(RECORDS), format!("nonsense\n{second}")).unwrap();
        let error = open(&path, &["a", "b"]).unwrap_err().to_string();
        assert!(error.contains("records.jsonl, line 1"), "{error}");
    }

    #[test]
    fn another_runs_directory_is_refused_and_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("run");
        let whole = finished(&path, &["a", "b"]);
        let error = open(&path, &["a"]).unwrap_err();
        assert!(matches!(error, RunError::Mismatch { .. }), "{error}");
        assert!(
            error.to_string().contains("tasks (a b there, a here); give another --out"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(path.join(SUBMISSION)).unwrap(), whole);
    }

    #[test]
    fn a_run_is_found_by_what_it_is_and_not_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for (name, ids) in [("b", &["a", "b"][..]), ("some-name", &["a"]), ("z", &["a"])] {
            open(&folder.path().join(name), ids).unwrap();
        }
        fs::create_dir(folder.path().join("a")).unwrap();
        let found = |ids| {
            let path = find_run(folder.path(), &identity(ids), 2, 8, false)?;
            Some(path.file_name()?.to_str()?.to_owned())
        };
        assert_eq!(found(&["a", "b"]).as_deref(), Some("b"));
        assert_eq!(found(&["a"]).as_deref(), Some("some-name"));
        assert_eq!(found(&["c"]), None);
        let nowhere = folder.path().join("nowhere");
        assert_eq!(find_run(&nowhere, &identity(&["a"]), 1, 1, true), None);
    }

    #[test]
    fn a_run_with_another_vote_is_found_where_any_will_do_and_the_same_one_is_preferred() {
        let folder = tempfile::tempdir().unwrap();
        let by = |selector: &str| {
            let mut identity = identity(&["a"]);
            identity.settings += &format!("[vote]\nselector = '{selector}'\n");
            identity
        };
        for selector in ["min", "sum"] {
            let (path, identity) = (folder.path().join(selector), by(selector));
            RunDirectory::open(&path, &identity, &circumstances(), BTreeMap::new()).unwrap();
        }
        let found = |identity: &Identity, any_vote| {
            let path = find_run(folder.path(), identity, 1, 1, any_vote)?;
            Some(path.file_name()?.to_str()?.to_owned())
        };
        for any_vote in [true, false] {
            assert_eq!(found(&by("sum"), any_vote).as_deref(), Some("sum"));
        }
        assert_eq!(found(&by("max"), true).as_deref(), Some("min"));
        assert_eq!(found(&by("max"), false), None);
        let mut other = by("max");
        other.settings = other.settings.replace("steps = 8", "steps = 9");
        assert_eq!(found(&other, true), None);
    }

    #[test]
    fn a_timed_run_is_found_only_with_the_jobs_and_threads_that_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let mut timed = identity(&["a"]);
        timed.limits.budget_seconds = Some(1.0);
        let path = folder.path().join("run");
        RunDirectory::open(&path, &timed, &circumstances(), BTreeMap::new()).unwrap();
        let found = |jobs, threads| find_run(folder.path(), &timed, jobs, threads, true);
        assert_eq!(found(1, 1), Some(path));
        assert_eq!((found(2, 1), found(1, 2)), (None, None));
    }

    #[test]
    fn a_directory_of_other_files_is_refused_but_an_interrupted_start_is_not() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join(RECIPE), "").unwrap();
        fs::write(temporary.path().join(".run.json.7.tmp"), "").unwrap();
        drop(open(temporary.path(), &["a"]).unwrap());
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("thesis.tex"), "").unwrap();
        let error = open(other.path(), &["a"]).unwrap_err();
        assert!(matches!(error, RunError::Foreign(_)), "{error}");
        assert!(matches!(read_run(other.path()), Err(RunError::NotARun(_))));
    }

    #[test]
    fn only_one_process_works_in_a_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let first = open(temporary.path(), &["a"]).unwrap();
        assert!(matches!(open(temporary.path(), &["a"]), Err(RunError::Locked(_))));
        drop(first);
        open(temporary.path(), &["a"]).unwrap();
    }

    #[test]
    fn an_id_never_leads_out_of_the_directory() {
        let run = Path::new("run");
        assert_eq!(adapter_path(run, "007bbfb7"), Path::new("run/adapters/007bbfb7"));
        for id in ["../../etc/passwd", "..", "a/b", "", ".hidden"] {
            let path = adapter_path(run, id);
            assert_eq!(path.parent(), Some(Path::new("run/adapters")), "{id}");
        }
        assert_ne!(adapter_path(run, "a/b"), adapter_path(run, "a_b"));
        assert_ne!(adapter_path(run, "a/b"), adapter_path(run, "a:b"));
    }
}
