//! Works through the tasks of a run: several workers solve, one thread writes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Limits, RunDirectory, RunError, Schedule, Share};
use crate::arc::{Grid, Task};
use crate::engine::Engine;
use crate::pipeline::{
    Event, Replay, Solved, TaskLimits, TaskRecord, fallback_attempts, solve_task,
};
use crate::recipe::Recipe;

/// Stack of a worker's threads, the same as a main thread usually has.
const STACK_BYTES: usize = 8 << 20;

/// How often the writing thread looks up from waiting for results.
const TICK: Duration = Duration::from_millis(50);

/// How the tasks of a run are worked through.
#[derive(Clone)]
pub struct Plan {
    /// The loaded model.
    pub engine: Arc<dyn Engine>,
    /// The settings.
    pub recipe: Arc<Recipe>,
    /// What limits each task.
    pub limits: Limits,
    /// When what must end.
    pub schedule: Schedule,
    /// Threads of all workers together; each worker gets its part of them, and one at least.
    pub threads: usize,
    /// Set by the signal handler; the tasks in hand are then given up.
    pub interrupted: &'static AtomicBool,
    /// What the records of an earlier run say, where it is to be repeated.
    pub replay: Option<Arc<BTreeMap<String, Replay>>>,
    /// Whether adapters are kept.
    pub keep_adapters: bool,
}

/// What happens during a run.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A worker takes up a task.
    Started {
        /// The task's id.
        task: &'a str,
        /// Seconds that it may take.
        seconds: Option<f64>,
    },
    /// A stage of a task has something to say.
    Stage {
        /// The task's id.
        task: &'a str,
        /// What.
        event: &'a Event,
    },
    /// A task is finished, and is kept.
    Finished(&'a TaskRecord),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Whether the user interrupted it.
    pub interrupted: bool,
    /// Tasks without a record: those given up at the interrupt or the deadline, and those not begun.
    pub unreached: Vec<String>,
}

/// What workers tell the writing thread.
enum Message {
    Started { task: Arc<str>, seconds: Option<f64> },
    Stage { task: Arc<str>, event: Event },
    Finished(Box<Solved>),
}

/// The tasks that no worker has taken up, and what is known about the time they take.
struct Queue {
    waiting: VecDeque<Task>,
    /// The longest that an in-context baseline has taken, in seconds.
    least: f64,
}

/// Attempts for the tasks of a run before anything is known, as [`RunDirectory::open`] wants them.
pub fn fallbacks(tasks: &[Task]) -> BTreeMap<String, Vec<[Grid; 2]>> {
    tasks.iter().map(|t| (t.id.clone(), fallback_attempts(t))).collect()
}

/// Solves those of `tasks` that have no record yet, and keeps each as soon as it is finished.
///
/// Returns when all are done, at the interrupt, or at the deadline. In the last two cases workers may still
/// be busy; their results are lost, and the caller should end the process. Nothing of the answers that
/// `tasks` may hold is shown to the solver.
///
/// # Errors
/// [`RunError`] if a result cannot be written; the workers then stop at their next step.
pub fn execute(
    directory: &mut RunDirectory,
    tasks: &[Task],
    plan: &Plan,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Ending, RunError> {
    let waiting = tasks.iter().filter(|t| !directory.records().contains_key(&t.id));
    let waiting: VecDeque<_> = waiting.map(Task::without_answers).collect();
    let jobs = plan.schedule.jobs.min(waiting.len());
    let queue = Arc::new(Mutex::new(Queue { waiting, least: 0.0 }));
    // Workers have a flag of their own: they must stop also when writing fails or time is over.
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..jobs {
        let (queue, plan) = (Arc::clone(&queue), plan.clone());
        let (stop, sender) = (Arc::clone(&stop), sender.clone());
        thread::spawn(move || work(&queue, &plan, &stop, &sender));
    }
    drop(sender);
    let result = collect(directory, plan, &receiver, on_progress);
    stop.store(true, Ordering::Relaxed);
    let interrupted = result?;
    directory.write_submission()?;
    let unreached = tasks.iter().map(|t| &t.id).filter(|id| !directory.records().contains_key(*id));
    Ok(Ending { interrupted, unreached: unreached.cloned().collect() })
}

/// Keeps what the workers send until all have ended, the deadline, or the interrupt (then true).
fn collect(
    directory: &mut RunDirectory,
    plan: &Plan,
    receiver: &mpsc::Receiver<Message>,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<bool, RunError> {
    loop {
        if plan.interrupted.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let wait = plan.schedule.deadline.map_or(TICK, |deadline| {
            TICK.min(deadline.hard().saturating_duration_since(Instant::now()))
        });
        if wait.is_zero() {
            return Ok(false);
        }
        match receiver.recv_timeout(wait) {
            Ok(Message::Started { task, seconds }) => {
                on_progress(Progress::Started { task: &task, seconds });
            }
            Ok(Message::Stage { task, event }) => {
                if let Event::Baseline { grids } = &event {
                    directory.improve_pending(&task, grids);
                }
                on_progress(Progress::Stage { task: &task, event: &event });
            }
            Ok(Message::Finished(solved)) => {
                let Solved { record, adapter } = *solved;
                let id = record.task.clone();
                directory.finish(record, adapter.as_ref().filter(|_| plan.keep_adapters))?;
                on_progress(Progress::Finished(&directory.records()[&id]));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
    }
}

/// Solves one task after another on threads of its own, until none is left or there is no time.
fn work(queue: &Mutex<Queue>, plan: &Plan, stop: &AtomicBool, sender: &Sender<Message>) {
    let threads = (plan.threads / plan.schedule.jobs.max(1)).max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK_BYTES);
    let pool = pool.build().expect("the system gives a few threads");
    while let Some((task, seconds)) = next(queue, &plan.schedule) {
        let id: Arc<str> = task.id.as_str().into();
        // A closed channel means that nobody waits for the result any more.
        if sender.send(Message::Started { task: Arc::clone(&id), seconds }).is_err() {
            return;
        }
        let replay = plan.replay.as_ref().and_then(|records| records.get(&task.id));
        let limits = TaskLimits {
            seconds,
            steps: plan.limits.steps,
            memory_bytes: plan.limits.memory_bytes,
            replay,
            interrupted: stop,
        };
        let mut on_event = |event| {
            let _ = sender.send(Message::Stage { task: Arc::clone(&id), event });
        };
        let solved = pool.install(|| {
            solve_task(plan.engine.as_ref(), &task, &plan.recipe, limits, &mut on_event)
        });
        let Ok(solved) = solved else { return };
        let baseline = solved.record.seconds.baseline;
        {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.least = queue.least.max(baseline);
        }
        if sender.send(Message::Finished(Box::new(solved))).is_err() {
            return;
        }
    }
}

/// The next task and the seconds it may take.
fn next(queue: &Mutex<Queue>, schedule: &Schedule) -> Option<(Task, Option<f64>)> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = match schedule.share(Instant::now(), queue.waiting.len(), queue.least) {
        Share::Unlimited => None,
        Share::Seconds(seconds) => Some(seconds),
        Share::Nothing => return None,
    };
    Some((queue.waiting.pop_front()?, seconds))
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::directory::tests::open;
    use super::super::{Deadline, load_adapter};
    use super::*;
    use crate::pipeline::mock::{Mock, recipe, task};
    use crate::run::{adapter_path, read_run};

    /// A plan with the mock model that takes no time.
    pub(in crate::run) fn plan() -> Plan {
        Plan {
            engine: Arc::new(Mock::default()),
            recipe: Arc::new(recipe()),
            limits: Limits { budget_seconds: None, steps: None, memory_bytes: 1 },
            schedule: Schedule { budget_seconds: None, deadline: None, jobs: 1 },
            threads: 1,
            interrupted: Box::leak(Box::new(AtomicBool::new(false))),
            replay: None,
            keep_adapters: true,
        }
    }

    fn slow_plan(jobs: usize, deadline: Option<Duration>) -> Plan {
        let (step, view) = (Duration::from_millis(5), Duration::from_millis(1));
        let mut recipe = recipe();
        recipe.fit.steps = 1_000_000;
        let deadline = deadline.map(|d| Deadline::after(Instant::now(), d));
        Plan {
            engine: Arc::new(Mock { step, view }),
            recipe: Arc::new(recipe),
            schedule: Schedule { budget_seconds: None, deadline, jobs },
            ..plan()
        }
    }

    const IDS: [&str; 5] = ["a", "panic-fit", "b", "c", "d"];

    fn run(path: &Path, plan: &Plan) -> (Ending, String) {
        let tasks: Vec<_> = IDS.iter().map(|id| task(id)).collect();
        let mut directory = open(path, &IDS).unwrap();
        let ending = execute(&mut directory, &tasks, plan, &mut |_| {}).unwrap();
        (ending, fs::read_to_string(directory.submission()).unwrap())
    }

    #[test]
    fn the_number_of_jobs_changes_no_byte_of_the_submission() {
        let texts: Vec<_> = [1, 2, 5]
            .map(|jobs| {
                let directory = tempfile::tempdir().unwrap();
                let mut plan = plan();
                plan.schedule.jobs = jobs;
                plan.threads = 4;
                let (ending, text) = run(directory.path(), &plan);
                assert_eq!(ending, Ending { interrupted: false, unreached: vec![] });
                text
            })
            .into();
        assert!(texts.iter().all(|t| *t == texts[0]));
    }

    #[test]
    fn a_failed_task_is_recorded_and_the_run_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), &plan());
        let records = read_run(directory.path()).unwrap().records;
        assert_eq!(records.len(), IDS.len());
        let failed: Vec<_> = records.values().filter(|r| r.failed.is_some()).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].task, "panic-fit");
    }

    #[test]
    fn adapters_are_kept_for_fitted_tasks_and_not_on_request() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), &plan());
        load_adapter(&adapter_path(directory.path(), "a")).unwrap();
        assert!(!adapter_path(directory.path(), "panic-fit").exists());
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), &Plan { keep_adapters: false, ..plan() });
        assert!(!directory.path().join("adapters").exists());
    }

    #[test]
    fn a_timed_run_is_repeated_to_the_same_bytes() {
        let first = tempfile::tempdir().unwrap();
        let mut timed = slow_plan(2, None);
        timed.schedule.budget_seconds = Some(0.3);
        let (_, text) = run(first.path(), &timed);
        let records = read_run(first.path()).unwrap().records;
        let replay = records.iter().map(|(id, r)| (id.clone(), r.replay())).collect();
        let again = tempfile::tempdir().unwrap();
        let plan = Plan { replay: Some(Arc::new(replay)), ..slow_plan(1, None) };
        let (_, repeated) = run(again.path(), &plan);
        assert_eq!(repeated, text);
    }

    #[test]
    fn a_deadline_is_met_with_every_task_tried() {
        for jobs in [1, 2] {
            let directory = tempfile::tempdir().unwrap();
            let began = Instant::now();
            let (ending, _) = run(directory.path(), &slow_plan(jobs, Some(Duration::from_secs(2))));
            let took = began.elapsed().as_secs_f64();
            assert!(took < 2.0, "{took}");
            assert!(took > 1.2, "{took}");
            assert_eq!(ending, Ending { interrupted: false, unreached: vec![] });
            assert!(
                read_run(directory.path())
                    .unwrap()
                    .records
                    .values()
                    .all(|r| r.steps > 0 || r.failed.is_some())
            );
        }
    }

    #[test]
    fn a_task_that_overruns_the_deadline_is_given_up_with_its_baseline() {
        let directory = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let mut plan = slow_plan(1, Some(Duration::from_secs(1)));
        // One step takes longer than the whole run may.
        let step = Duration::from_secs(30);
        plan.engine = Arc::new(Mock { step, view: Duration::from_millis(1) });
        let (ending, _) = run(directory.path(), &plan);
        assert!(began.elapsed().as_secs_f64() < 1.05);
        assert_eq!(ending.unreached.len(), IDS.len());
        let path = directory.path().join("submission.json");
        let (submission, _) = crate::arc::read_submission(&path).unwrap();
        // The mock's baseline is the input; in the fallback it stands first, after a baseline second.
        let second = |id: &str| submission.tasks[id][0].both()[1].unwrap().clone();
        assert_eq!(second("a"), task("a").tests[0].input);
        assert_ne!(second("b"), task("b").tests[0].input);
    }

    #[test]
    fn an_interrupt_ends_the_run_at_once_and_the_rest_comes_later_to_the_same_bytes() {
        let whole = run(tempfile::tempdir().unwrap().path(), &plan()).1;
        let directory = tempfile::tempdir().unwrap();
        let tasks: Vec<_> = IDS.iter().map(|id| task(id)).collect();
        let mut opened = open(directory.path(), &IDS).unwrap();
        let first = plan();
        let ending = execute(&mut opened, &tasks, &first, &mut |progress| {
            if matches!(progress, Progress::Finished(record) if record.task == "b") {
                first.interrupted.store(true, Ordering::Relaxed);
            }
        });
        drop(opened);
        let ending = ending.unwrap();
        assert!(ending.interrupted && ending.unreached.contains(&"d".to_owned()), "{ending:?}");
        assert_eq!(run(directory.path(), &plan()).1, whole);
    }
}
