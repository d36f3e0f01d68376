//! The command `predict`: with a saved adapter, or with the base model alone.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use serde_json::json;

use super::input::Tasks;
use super::progress::attempts;
use super::settings::{MachineArgs, MemoryArgs, RecipeArgs};
use super::{Global, Outcome, interrupt, terminal};
use crate::arc::{Submission, Task};
use crate::evaluate::TaskScore;
use crate::memory;
use crate::pipeline::{TaskLimits, TaskRecord, predict_task};
use crate::render::{TerminalStyle, task_figure, to_terminal};
use crate::run::load_adapter;

/// Arguments of `predict`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes the two attempts to standard output, in Kaggle's format, and draws them if standard error is a terminal.

Examples:
  arc-ttt predict demo --task demo-01-color-map    the in-context baseline
  arc-ttt fit demo --task demo-01-color-map --out adapters/mine
  arc-ttt predict demo --task demo-01-color-map --adapter adapters/mine")]
pub struct Args {
    #[command(flatten)]
    tasks: Tasks,
    /// The task to predict, where there are several.
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// The adapter to use, as `fit` and `solve` keep them; without it, the base model answers in context. Views and vote
    /// are those of --recipe and --set, so give those of the fit again.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let recipe = args.recipe.resolve(&args.tasks.name, args.machine.family())?;
    let task = one_task(&args.tasks, args.task.as_deref())?;
    let adapter = args.adapter.as_deref().map(load_adapter).transpose()?;
    let engine = args.machine.load_engine(&recipe)?;
    let mut notes = Vec::new();
    if let Some(adapter) = &adapter {
        adapter.check_base(&engine.info())?;
        notes.extend(adapter.doubt(&engine.info()));
        notes.extend(adapter.doubt_of_task(&task.id));
    }
    for note in &notes {
        say!("note: {note}");
    }
    let interrupted = interrupt::flag();
    let limits = TaskLimits {
        seconds: None,
        steps: None,
        memory_bytes: args.memory.bytes(engine.as_ref(), &recipe),
        replay: None,
        interrupted,
    };
    let solved = args.machine.with_threads(|| {
        predict_task(engine.as_ref(), &task, adapter.as_ref(), &recipe, limits, &mut |_| {})
    })?;
    let Ok(solved) = solved else { return Ok(Outcome::Interrupted) };
    let record = solved.record;
    let verdict = draw(&task, &record, global);
    let submission = Submission { tasks: [(task.id.clone(), attempts(&record))].into() };
    if global.json {
        let object = json!({
            "task": task.id,
            "tasks": 1,
            "solved": verdict.map(usize::from),
            "strict": verdict.map(|s| f64::from(u8::from(s))),
            "attempts": submission,
            "views": record.views,
            "notes": notes,
            "failed": usize::from(record.failed.is_some()),
            "reason": record.failed,
            "seconds": began.elapsed().as_secs_f64(),
            "peak_memory_bytes": memory::peak_bytes(),
        });
        terminal::print(&format!("{object}\n"))?;
    } else {
        if let Some(reason) = &record.failed {
            say!("failed: {reason}");
        }
        terminal::print(&submission.to_json())?;
    }
    Ok(if record.failed.is_some() { Outcome::SomeFailed } else { Outcome::Done })
}

/// The one task that is meant.
pub(super) fn one_task(tasks: &Tasks, id: Option<&str>) -> anyhow::Result<Task> {
    let mut tasks = tasks.clone();
    tasks.tasks.extend(id.map(str::to_owned));
    let mut dataset = tasks.load()?;
    if dataset.tasks.len() > 1 {
        let first = &dataset.tasks[0].id;
        let (n, name) = (dataset.tasks.len(), &dataset.name);
        bail!("{name} has {n} tasks; say which one is meant, such as --task {first}");
    }
    Ok(dataset.tasks.remove(0))
}

/// Draws the task and its attempts for people, and says whether it is solved.
pub(super) fn draw(task: &Task, record: &TaskRecord, global: &Global) -> Option<bool> {
    let attempts = attempts(record);
    if !global.json && std::io::stderr().is_terminal() {
        let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = TerminalStyle { width: terminal::width(), color };
        say!("{}", to_terminal(&task_figure(task, Some(&attempts)), style).trim_end());
    }
    let solved = TaskScore::of(task, Some(&attempts), None).solved();
    if !global.json
        && let Some(solved) = solved
    {
        say!("{}", if solved { "solved" } else { "not solved" });
    }
    solved
}
