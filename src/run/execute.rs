//! Works through the tasks of a run: several workers solve, one thread writes.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::schedule::margin;
use super::shared::{SHARE, Shared, shared};
use super::{Deadline, Limits, RunDirectory, RunError, Schedule, Share};
use crate::adapter::FitScope;
use crate::arc::{Grid, Task};
use crate::effort::{Allocation, Turn};
use crate::engine::Engine;
use crate::pipeline::{
    Event, Interrupted, Replay, Solved, TaskLimits, TaskRecord, continue_task, fallback_attempts,
    predict_task, solve_task,
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
    /// The folder of an adapter that all tasks share ([`super::shared_path`]), where an earlier run is repeated.
    pub shared_from: Option<PathBuf>,
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
    Started {
        task: Arc<str>,
        seconds: Option<f64>,
    },
    Stage {
        task: Arc<str>,
        event: Event,
    },
    Finished(Box<Solved>),
    /// A panic outside of a task's stages, where nothing catches it.
    Died(Box<dyn Any + Send>),
}

/// Who is worked on next, and what is known of all.
struct Queue {
    tasks: Vec<Task>,
    order: Order,
    /// The shortest that an in-context baseline has taken, in seconds; `None` before the first.
    least: Option<f64>,
    /// When the last task should have ended.
    deadline: Option<Deadline>,
}

/// The order in which tasks are taken up.
enum Order {
    /// Each once, those that no worker has taken up by index.
    Each(VecDeque<usize>),
    /// Again and again, wherever time is worth most.
    Worth {
        allocation: Allocation,
        /// What is known of each task. Adapters that were learnt by an earlier process are learnt again.
        known: Vec<Option<Solved>>,
    },
}

impl Order {
    /// Each task without a record once.
    fn each(tasks: &[Task], records: &BTreeMap<String, TaskRecord>) -> Self {
        let is_waiting = |&index: &usize| !records.contains_key(&tasks[index].id);
        Self::Each((0..tasks.len()).filter(is_waiting).collect())
    }
}

/// A task to be worked on.
struct Work {
    index: usize,
    task: Task,
    seconds: Option<f64>,
    /// What is to be gone on with.
    earlier: Option<Solved>,
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
    let mut plan = plan.clone();
    let mut shared_adapter = None;
    let is_done = |task: &Task| directory.records().contains_key(&task.id);
    if plan.recipe.fit.scope == FitScope::Shared && !tasks.iter().all(is_done) {
        shared_adapter = shared(directory.path(), tasks, &plan)?.map(Arc::new);
        if shared_adapter.is_none() {
            let unreached = tasks.iter().filter(|task| !is_done(task)).map(|task| task.id.clone());
            return Ok(Ending { interrupted: true, unreached: unreached.collect() });
        }
        let budget = &mut plan.schedule.budget_seconds;
        *budget = budget.map(|seconds| seconds * (1.0 - SHARE));
    }
    let plan = &plan;
    let queue = Queue::new(directory, tasks, plan);
    let jobs = plan.schedule.jobs.min(queue.n_waiting());
    let deadline = queue.deadline;
    let queue = Arc::new((Mutex::new(queue), Condvar::new()));
    // Workers have a flag of their own: they must stop also when writing fails or time is over.
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..jobs {
        let (queue, plan) = (Arc::clone(&queue), plan.clone());
        let (stop, sender) = (Arc::clone(&stop), sender.clone());
        let shared = shared_adapter.clone();
        thread::spawn(move || {
            let run = || work(&queue, &plan, shared.as_deref(), &stop, &sender);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                let _ = sender.send(Message::Died(panic));
            }
        });
    }
    drop(sender);
    let mut died = None;
    let result = collect(directory, plan, deadline, &receiver, &mut died, on_progress);
    stop.store(true, Ordering::Relaxed);
    let interrupted = result?;
    directory.write_submission()?;
    // The workers' defect is this thread's, whose caller tells of it. Everything else is done first.
    if let Some(panic) = died {
        resume_unwind(panic);
    }
    let unreached = tasks.iter().map(|t| &t.id).filter(|id| !directory.records().contains_key(*id));
    Ok(Ending { interrupted, unreached: unreached.cloned().collect() })
}

/// Keeps what the workers send until all have ended, the deadline, or the interrupt (then true). `died` gets the first panic
/// that has ended one of them; the others go on.
fn collect(
    directory: &mut RunDirectory,
    plan: &Plan,
    deadline: Option<Deadline>,
    receiver: &mpsc::Receiver<Message>,
    died: &mut Option<Box<dyn Any + Send>>,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<bool, RunError> {
    let keep = |directory: &mut RunDirectory, solved: Solved| {
        let Solved { record, adapter } = solved;
        let id = record.task.clone();
        let adapter = adapter.as_ref().filter(|_| plan.keep_adapters);
        directory.finish(record, adapter).map(|()| id)
    };
    loop {
        let wait = deadline.map_or(TICK, |deadline| {
            TICK.min(deadline.hard().saturating_duration_since(Instant::now()))
        });
        let is_interrupted = plan.interrupted.load(Ordering::Relaxed);
        if is_interrupted || wait.is_zero() {
            // What is finished is kept all the same.
            for message in receiver.try_iter() {
                match message {
                    Message::Finished(solved) => drop(keep(directory, *solved)?),
                    Message::Died(panic) => drop(died.get_or_insert(panic)),
                    Message::Started { .. } | Message::Stage { .. } => {}
                }
            }
            return Ok(is_interrupted);
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
                let id = keep(directory, *solved)?;
                on_progress(Progress::Finished(&directory.records()[&id]));
            }
            Ok(Message::Died(panic)) => {
                tracing::error!("a worker has ended by a defect; the others go on");
                died.get_or_insert(panic);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
    }
}

/// Solves one task after another on threads of its own, until none is left or there is no time.
fn work(
    (queue, returned): &(Mutex<Queue>, Condvar),
    plan: &Plan,
    shared: Option<&Shared>,
    stop: &AtomicBool,
    sender: &Sender<Message>,
) {
    let threads = (plan.threads / plan.schedule.jobs.max(1)).max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK_BYTES);
    let pool = pool.build().expect("the system gives a few threads");
    let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let mut waiting = lock();
        let work = loop {
            match waiting.next(&plan.schedule) {
                Next::Work(work) => break *work,
                Next::Wait if !stop.load(Ordering::Relaxed) => {
                    let woken = returned.wait_timeout(waiting, TICK);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Wait | Next::Over => return,
            }
        };
        drop(waiting);
        let id: Arc<str> = work.task.id.as_str().into();
        // A closed channel means that nobody waits for the result any more.
        let started = Message::Started { task: Arc::clone(&id), seconds: work.seconds };
        if sender.send(started).is_err() {
            return;
        }
        let mut on_event = |event| {
            let _ = sender.send(Message::Stage { task: Arc::clone(&id), event });
        };
        let index = work.index;
        let solved = pool.install(|| solve(work, plan, shared, stop, &mut on_event));
        let Ok(mut solved) = solved else { return };
        lock().take_back(index, &mut solved, plan);
        returned.notify_all();
        if sender.send(Message::Finished(Box::new(solved))).is_err() {
            return;
        }
    }
}

/// Works on a task for as long as it may take.
fn solve(
    work: Work,
    plan: &Plan,
    shared: Option<&Shared>,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(Event),
) -> Result<Solved, Interrupted> {
    let Work { task, seconds, earlier, .. } = work;
    let (engine, recipe) = (plan.engine.as_ref(), plan.recipe.as_ref());
    let limits = TaskLimits {
        seconds,
        steps: plan.limits.steps,
        memory_bytes: plan.limits.memory_bytes,
        replay: plan.replay.as_ref().and_then(|records| records.get(&task.id)),
        interrupted: stop,
    };
    if let Some(Shared { adapter, seconds }) = shared {
        let solved = predict_task(engine, &task, Some(adapter), recipe, limits, on_event)?;
        let mut record = solved.record;
        record.seconds.fit += seconds;
        record.seconds.total += seconds;
        return Ok(Solved { record, adapter: None });
    }
    match earlier {
        None => solve_task(engine, &task, recipe, limits, on_event),
        Some(Solved { record, adapter }) => {
            continue_task(engine, &task, recipe, limits, &record, adapter, on_event)
        }
    }
}

/// What the queue has for a worker.
enum Next {
    Work(Box<Work>),
    Wait,
    Over,
}

impl Queue {
    fn new(directory: &RunDirectory, tasks: &[Task], plan: &Plan) -> Self {
        let records = directory.records();
        let tasks: Vec<Task> = tasks.iter().map(Task::without_answers).collect();
        let Some(total) = plan.limits.total_seconds else {
            let order = Order::each(&tasks, records);
            return Self { tasks, order, least: None, deadline: plan.schedule.deadline };
        };
        let known = |task: &Task| records.get(&task.id).cloned();
        let known: Vec<Option<TaskRecord>> = tasks.iter().map(known).collect();
        let standing =
            |record: &Option<TaskRecord>| Some(record.as_ref()?.standing(most_steps(plan)));
        let standings: Vec<_> = known.iter().map(standing).collect();
        let so_far = directory.wall_seconds();
        let left = Duration::from_secs_f64((total - so_far).max(0.0));
        let end = Deadline::after(Instant::now(), left);
        let deadline = Some(plan.schedule.deadline.map_or(end, |deadline| deadline.or_sooner(end)));
        if plan.limits.evenly {
            let order = Order::each(&tasks, records);
            return Self { tasks, order, least: None, deadline };
        }
        // The time of all workers together, of which the allocation takes off what was spent.
        let spent: f64 = standings.iter().flatten().map(|standing| standing.seconds).sum();
        let given = spent + (total - margin(total) - so_far) * plan.schedule.jobs as f64;
        let solved = |record: Option<TaskRecord>| Some(Solved { record: record?, adapter: None });
        let allocation = Allocation::new(&plan.recipe.schedule, given, &standings);
        let known = known.into_iter().map(solved).collect();
        let order = Order::Worth { allocation, known };
        Self { tasks, order, least: None, deadline }
    }

    /// Tasks that workers may be wanted for.
    fn n_waiting(&self) -> usize {
        match &self.order {
            Order::Each(waiting) => waiting.len(),
            Order::Worth { .. } => self.tasks.len(),
        }
    }

    /// The next task and the seconds it may take.
    fn next(&mut self, schedule: &Schedule) -> Next {
        let now = Instant::now();
        match &mut self.order {
            Order::Each(waiting) => {
                // An even share of a total time ends by its own deadline.
                let schedule = Schedule { deadline: self.deadline, ..*schedule };
                let least = self.least.unwrap_or(0.0);
                let seconds = match schedule.share(now, waiting.len(), least) {
                    Share::Unlimited => None,
                    Share::Seconds(seconds) => Some(seconds),
                    Share::Nothing => return Next::Over,
                };
                let Some(index) = waiting.pop_front() else { return Next::Over };
                let task = self.tasks[index].clone();
                Next::Work(Box::new(Work { index, task, seconds, earlier: None }))
            }
            Order::Worth { allocation, known } => {
                let left = self.deadline.map_or(f64::INFINITY, |deadline| deadline.left(now));
                if left <= 0.0 {
                    return Next::Over;
                }
                match allocation.turn() {
                    Turn::Over => Next::Over,
                    Turn::Wait => Next::Wait,
                    Turn::Work { task: index, seconds } => {
                        let seconds = Some(seconds.min(left));
                        let task = self.tasks[index].clone();
                        let earlier = known[index].take();
                        Next::Work(Box::new(Work { index, task, seconds, earlier }))
                    }
                }
            }
        }
    }

    /// Takes note of what became of a task.
    fn take_back(&mut self, index: usize, solved: &mut Solved, plan: &Plan) {
        if let Order::Worth { allocation, known } = &mut self.order {
            let standing = solved.record.standing(most_steps(plan));
            let is_hopeless = standing.is_hopeless(&plan.recipe.schedule);
            solved.record.abstained = is_hopeless;
            allocation.returned(index, standing);
            // What nobody goes back to need not be held.
            known[index] = (standing.is_open && !is_hopeless).then(|| solved.clone());
        } else {
            let seconds = solved.record.seconds.baseline;
            self.least = Some(self.least.map_or(seconds, |least| least.min(seconds)));
        }
    }
}

/// Gradient steps that a task may have in all.
fn most_steps(plan: &Plan) -> usize {
    plan.limits.steps.unwrap_or(plan.recipe.fit.steps)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::directory::tests::open;
    use super::super::load_adapter;
    use super::*;
    use crate::pipeline::mock::{Mock, recipe, record, task};
    use crate::run::{adapter_path, read_run};

    /// A plan with the mock model that takes no time.
    pub(in crate::run) fn plan() -> Plan {
        Plan {
            engine: Arc::new(Mock::default()),
            recipe: Arc::new(recipe()),
            limits: Limits {
                budget_seconds: None,
                total_seconds: None,
                evenly: false,
                steps: None,
                memory_bytes: 1,
            },
            schedule: Schedule { budget_seconds: None, deadline: None, jobs: 1 },
            threads: 1,
            interrupted: Box::leak(Box::new(AtomicBool::new(false))),
            replay: None,
            keep_adapters: true,
            shared_from: None,
        }
    }

    fn slow_plan(jobs: usize, deadline: Option<Duration>) -> Plan {
        let (step, view) = (Duration::from_millis(5), Duration::from_millis(1));
        let mut recipe = recipe();
        recipe.fit.steps = 1_000_000;
        let deadline = deadline.map(|d| Deadline::after(Instant::now(), d));
        Plan {
            engine: Arc::new(Mock { step, view, ..Mock::default() }),
            recipe: Arc::new(recipe),
            schedule: Schedule { budget_seconds: None, deadline, jobs },
            ..plan()
        }
    }

    const IDS: [&str; 5] = ["a", "panic-fit", "b", "c", "d"];

    /// Seconds that a busy machine may wake the mock's naps late by. Without a limit these runs would take hours.
    const LATE: f64 = 0.6;

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
    fn one_adapter_serves_all_tasks_is_fitted_once_and_repeated() {
        let mut plan = Plan { schedule: Schedule { jobs: 2, ..plan().schedule }, ..plan() };
        let mut recipe = recipe();
        (recipe.fit.scope, recipe.fit.format) = (FitScope::Shared, crate::adapter::FitFormat::Icl);
        plan.recipe = Arc::new(recipe);
        let directory = tempfile::tempdir().unwrap();
        let (_, text) = run(directory.path(), &plan);
        let records = read_run(directory.path()).unwrap().records;
        assert!(records.values().all(|record| record.fitted && record.steps == 0));
        assert!(records.values().all(|record| record.seconds.total >= record.seconds.fit));
        let own = crate::run::shared_path(directory.path());
        load_adapter(&own).unwrap();
        let fitted = fs::read_to_string(own.join("fit.json")).unwrap();
        let fitted: serde_json::Value = serde_json::from_str(&fitted).unwrap();
        let share = fitted["seconds"].as_f64().unwrap() * 2.0 / 5.0;
        assert!(records.values().all(|record| (record.seconds.fit - share).abs() < 1e-9));
        // Ten for each of five tasks.
        assert_eq!(crate::run::shared_steps(directory.path()), Some(10.0));
        assert_eq!(crate::run::shared_steps(&own), None);
        assert!(!adapter_path(directory.path(), "a").exists());
        // Gone on with, the same adapter answers; so it does where the run is repeated.
        let lines = fs::read_to_string(directory.path().join("records.jsonl")).unwrap();
        let first = lines.split_inclusive('\n').next().unwrap();
        fs::write(directory.path().join("records.jsonl"), first).unwrap();
        let slow = Mock { step: Duration::from_secs(60), ..Mock::default() };
        plan.engine = Arc::new(slow);
        assert_eq!(run(directory.path(), &plan).1, text);
        let replay = records.iter().map(|(id, r)| (id.clone(), r.replay())).collect();
        let again = tempfile::tempdir().unwrap();
        let plan = Plan { replay: Some(Arc::new(replay)), shared_from: Some(own), ..plan };
        assert_eq!(run(again.path(), &plan).1, text);
    }

    #[test]
    fn one_slow_baseline_does_not_say_what_tasks_take_at_least() {
        let directory = tempfile::tempdir().unwrap();
        let tasks = [task("a")];
        let mut queue = Queue::new(&open(directory.path(), &["a"]).unwrap(), &tasks, &plan());
        let mut solved = Solved { record: record(&tasks[0], &recipe(), 1), adapter: None };
        for seconds in [2.0, 1.0, 30.0] {
            solved.record.seconds.baseline = seconds;
            queue.take_back(0, &mut solved, &plan());
        }
        assert_eq!(queue.least, Some(1.0));
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
            assert!(took < 2.0 + LATE, "{took}");
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

    /// A plan that gives so many seconds where they are worth most; every task looks easy.
    fn scheduled_plan(jobs: usize, seconds: f64) -> Plan {
        let mut plan = slow_plan(jobs, None);
        plan.limits.total_seconds = Some(seconds);
        plan
    }

    fn visits(path: &Path) -> usize {
        fs::read_to_string(path.join("records.jsonl")).unwrap().lines().count()
    }

    #[test]
    fn a_total_time_is_kept_and_spent_in_several_visits_that_are_repeated_as_one() {
        for jobs in [1, 2] {
            let directory = tempfile::tempdir().unwrap();
            let began = Instant::now();
            let (ending, text) = run(directory.path(), &scheduled_plan(jobs, 2.0));
            let took = began.elapsed().as_secs_f64();
            assert!(took < 2.1 + LATE && took > 1.2, "{took}");
            assert_eq!(ending, Ending { interrupted: false, unreached: vec![] });
            assert!(visits(directory.path()) > IDS.len());
            let records = read_run(directory.path()).unwrap().records;
            assert!(records.values().all(|r| r.steps > 0 || r.failed.is_some()));
            assert!(records.values().any(|record| record.parts.len() > 1));
            let replay = records.iter().map(|(id, r)| (id.clone(), r.replay())).collect();
            let again = tempfile::tempdir().unwrap();
            let plan = Plan { replay: Some(Arc::new(replay)), ..slow_plan(1, None) };
            assert_eq!(run(again.path(), &plan).1, text);
        }
    }

    #[test]
    fn a_run_with_a_total_time_goes_on_with_what_is_left_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let tasks: Vec<_> = IDS.iter().map(|id| task(id)).collect();
        let mut opened = open(directory.path(), &IDS).unwrap();
        let first = scheduled_plan(1, 3.0);
        let mut finished = 0;
        let ending = execute(&mut opened, &tasks, &first, &mut |progress| {
            finished += usize::from(matches!(progress, Progress::Finished(_)));
            if finished == IDS.len() + 1 {
                first.interrupted.store(true, Ordering::Relaxed);
            }
        });
        assert!(ending.unwrap().interrupted);
        drop(opened);
        let spent = || -> f64 {
            read_run(directory.path()).unwrap().records.values().map(|r| r.seconds.total).sum()
        };
        let (before, lines, began) = (spent(), visits(directory.path()), Instant::now());
        let (_, text) = run(directory.path(), &scheduled_plan(1, 3.0));
        // Adapters that were lost with the process are learnt again, which the account does not count.
        assert!(began.elapsed().as_secs_f64() < 3.1 + LATE - before, "{before}");
        assert!(spent() < 3.05 + LATE && visits(directory.path()) > lines, "{}", spent());
        let records = read_run(directory.path()).unwrap().records;
        let replay = records.iter().map(|(id, r)| (id.clone(), r.replay())).collect();
        let again = tempfile::tempdir().unwrap();
        let plan = Plan { replay: Some(Arc::new(replay)), ..slow_plan(1, None) };
        assert_eq!(run(again.path(), &plan).1, text);
    }

    #[test]
    fn a_total_time_shared_evenly_visits_each_task_once_and_gives_on_what_a_task_saves() {
        let directory = tempfile::tempdir().unwrap();
        let tasks: Vec<_> = IDS.iter().map(|id| task(id)).collect();
        let mut opened = open(directory.path(), &IDS).unwrap();
        let mut plan = scheduled_plan(1, 5.0);
        plan.limits.evenly = true;
        let mut given = BTreeMap::new();
        let ending = execute(&mut opened, &tasks, &plan, &mut |progress| {
            if let Progress::Started { task, seconds } = progress {
                given.insert(task.to_owned(), seconds.unwrap());
            }
        });
        drop(opened);
        assert_eq!((ending.unwrap().unreached.len(), visits(directory.path())), (0, IDS.len()));
        // The second task fails at once; the later ones share what it saves.
        assert!((given["a"] - 0.95).abs() < 0.05 && given["b"] > 1.05 * given["a"], "{given:?}");
        // Gone on with, a run has what is left of its time for the tasks without a record.
        let lines = fs::read_to_string(directory.path().join("records.jsonl")).unwrap();
        let first: String = lines.split_inclusive('\n').take(3).collect();
        fs::write(directory.path().join("records.jsonl"), first).unwrap();
        let opened = open(directory.path(), &IDS).unwrap();
        let spent: f64 = opened.records().values().map(|record| record.seconds.total).sum();
        let queue = Queue::new(&opened, &tasks, &plan);
        let left = queue.deadline.unwrap().left(Instant::now());
        assert!((left - (5.0 - spent)).abs() < 0.4, "{left} after {spent}");
        assert_eq!(queue.n_waiting(), 2);
    }

    #[test]
    fn hopeless_tasks_are_marked_and_not_gone_back_to() {
        let directory = tempfile::tempdir().unwrap();
        let mut plan = scheduled_plan(1, 6.0);
        let mut recipe = Recipe::clone(&plan.recipe);
        (recipe.fit.hold_out, recipe.schedule.abstain_after) = (0.3, 20);
        plan.recipe = Arc::new(recipe);
        let (step, view) = (Duration::from_millis(2), Duration::from_millis(1));
        plan.engine = Arc::new(Mock { step, view, scattered: true });
        run(directory.path(), &plan);
        let records = read_run(directory.path()).unwrap().records;
        assert_eq!(visits(directory.path()), IDS.len());
        let abstained: Vec<_> =
            records.values().filter(|r| r.abstained).map(|r| r.task.as_str()).collect();
        assert_eq!(abstained, ["a", "b", "c", "d"], "the fifth has no fit to go on with");
    }

    #[test]
    fn a_task_that_overruns_the_deadline_is_given_up_with_its_baseline() {
        let directory = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let mut plan = slow_plan(1, Some(Duration::from_secs(1)));
        // One step takes longer than the whole run may.
        let step = Duration::from_secs(30);
        plan.engine = Arc::new(Mock { step, view: Duration::from_millis(1), ..Mock::default() });
        let (ending, _) = run(directory.path(), &plan);
        assert!(began.elapsed().as_secs_f64() < 1.05 + LATE);
        assert_eq!(ending.unreached.len(), IDS.len());
        let path = directory.path().join("submission.json");
        let (submission, _) = crate::arc::read_submission(&path).unwrap();
        // The mock's baseline is the input; in the fallback it stands first, after a baseline second.
        let second = |id: &str| submission.tasks[id][0].both()[1].unwrap().clone();
        assert_eq!(second("a"), task("a").tests[0].input);
        assert_ne!(second("b"), task("b").tests[0].input);
    }

    #[test]
    fn a_worker_that_dies_leaves_the_others_to_their_work_and_is_told_of_at_the_end() {
        const IDS: [&str; 4] = ["a", "broken-map", "b", "c"];
        let directory = tempfile::tempdir().unwrap();
        let tasks: Vec<_> = IDS.iter().map(|id| task(id)).collect();
        let mut opened = open(directory.path(), &IDS).unwrap();
        let plan = Plan { schedule: Schedule { jobs: 2, ..plan().schedule }, ..plan() };
        let run = || execute(&mut opened, &tasks, &plan, &mut |_| {});
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        assert_eq!(opened.records().keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        let (submission, notes) = crate::arc::read_submission(&opened.submission()).unwrap();
        assert_eq!((submission.tasks.len(), notes.len()), (4, 0));
    }

    #[test]
    fn an_interrupt_ends_the_run_at_once_and_the_rest_comes_later_to_the_same_bytes() {
        let whole = run(tempfile::tempdir().unwrap().path(), &plan()).1;
        let directory = tempfile::tempdir().unwrap();
        let tasks: Vec<_> = IDS.iter().map(|id| task(id)).collect();
        let mut opened = open(directory.path(), &IDS).unwrap();
        // What is finished at the interrupt is kept, so the tasks have to take some time.
        let engine = Mock { view: Duration::from_millis(5), ..Mock::default() };
        let first = Plan { engine: Arc::new(engine), ..plan() };
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
