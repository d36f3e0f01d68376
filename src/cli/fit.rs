//! The command `fit`: one task, its loss curve, its adapter.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::ProgressBar;
use serde_json::json;

use super::chart::chart;
use super::input::Tasks;
use super::predict::{draw, one_task};
use super::settings::{MachineArgs, MemoryArgs, RecipeArgs};
use super::solve::{contamination, trained_on};
use super::values::{duration, show_bytes, show_seconds};
use super::{Global, Outcome, interrupt, terminal};
use crate::arc::Task;
use crate::engine::{Engine, Fit, FitStep, StopReason};
use crate::memory;
use crate::pipeline::{TaskLimits, fit_task, predict_task};
use crate::recipe::Recipe;
use crate::run::save_adapter;

/// Columns and lines of the loss curve.
const CHART: (usize, usize) = (64, 8);

/// Arguments of `fit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ctrl-C ends the fit early and keeps the adapter as it is.

Examples:
  arc-ttt fit demo --task demo-01-color-map
  arc-ttt fit my_task.json --steps 200 --out adapters/mine")]
pub struct Args {
    #[command(flatten)]
    tasks: Tasks,
    /// The task to fit, where there are several.
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Where to keep the adapter [default: adapters/<recipe>/<task>].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Gradient steps, in place of the recipe's.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    steps: Option<usize>,
    /// Wall time for the fit, such as 30s or 2m.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    budget: Option<Duration>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let recipe = args.recipe.resolve(&args.tasks.name, args.machine.family())?;
    let task = one_task(&args.tasks, args.task.as_deref())?;
    let interrupted = interrupt::flag();
    let engine = args.machine.load_engine(&recipe)?;
    let trained_on = trained_on(engine.as_ref(), std::slice::from_ref(&task));
    if let Some(warning) = contamination(trained_on.as_deref(), 1) {
        say!("{warning}");
    }
    let out = args.out.clone().unwrap_or_else(|| {
        PathBuf::from("adapters").join(&recipe.name).join(crate::run::directory_name(&task.id))
    });
    // Where nothing can be written, that is better known before the fit.
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let (fit, predicted) = args.machine.with_threads(|| {
        let fit = args.fit(engine.as_ref(), &task, &recipe, interrupted, global)?;
        if let Some(adapter) = &fit.adapter {
            save_adapter(&out, adapter, &engine.info())?;
        }
        // An interrupt has ended the fit; the prediction is wanted all the same.
        let undisturbed = AtomicBool::new(false);
        let limits = args.limits(engine.as_ref(), &recipe, &undisturbed, None);
        let adapter = fit.adapter.as_ref();
        let solved = predict_task(engine.as_ref(), &task, adapter, &recipe, limits, &mut |_| {});
        anyhow::Ok((fit, solved.expect("nobody interrupts")))
    })??;
    let record = predicted.record;
    let solved = draw(&task, &record, global);
    let losses: Vec<f32> = fit.curve.iter().map(|step| step.loss).collect();
    if global.json {
        let object = json!({
            "task": task.id,
            "tasks": 1,
            "solved": solved.map(usize::from),
            "strict": solved.map(|s| f64::from(u8::from(s))),
            "attempts": record.attempts,
            "steps": fit.steps,
            "best_step": fit.best_step,
            "stop": fit.stop,
            "start": fit.start,
            "loss": losses,
            "notes": fit.notes,
            "trained_on": trained_on,
            "adapter": fit.adapter.is_some().then_some(&out),
            "failed": usize::from(record.failed.is_some()),
            "seconds": began.elapsed().as_secs_f64(),
            "peak_memory_bytes": memory::peak_bytes(),
        });
        terminal::print(&format!("{object}\n"))?;
    } else {
        for note in fit.notes.iter().chain(&record.failed) {
            say!("note: {note}");
        }
        let peak = memory::peak_bytes().map_or(String::new(), |b| format!(", {}", show_bytes(b)));
        say!("{}{peak}", show_seconds(began.elapsed().as_secs_f64()));
        if fit.adapter.is_some() {
            terminal::print(&format!("{}\n", out.display()))?;
        }
    }
    Ok(match (fit.stop, record.failed) {
        (StopReason::Interrupted, _) => Outcome::Interrupted,
        (_, Some(_)) => Outcome::SomeFailed,
        _ => Outcome::Done,
    })
}

impl Args {
    fn limits<'a>(
        &self,
        engine: &dyn Engine,
        recipe: &Recipe,
        interrupted: &'a AtomicBool,
        seconds: Option<f64>,
    ) -> TaskLimits<'a> {
        TaskLimits {
            seconds,
            steps: self.steps,
            memory_bytes: self.memory.bytes(engine, recipe),
            replay: None,
            interrupted,
        }
    }

    /// The fit, with its curve drawn while it grows.
    fn fit(
        &self,
        engine: &dyn Engine,
        task: &Task,
        recipe: &Recipe,
        interrupted: &AtomicBool,
        global: &Global,
    ) -> anyhow::Result<Fit> {
        let live = std::io::stderr().is_terminal() && global.verbose == 0 && !global.json;
        let mut curve =
            Curve { steps: Vec::new(), bar: live.then(ProgressBar::no_length), drawn: None };
        let seconds = self.budget.map(|time| time.as_secs_f64());
        let limits = self.limits(engine, recipe, interrupted, seconds);
        let fit = fit_task(engine, task, recipe, limits, &mut |step| curve.add(step));
        curve.end();
        let fit = fit?;
        if !global.json {
            let step = fit.best_step;
            let start =
                fit.start.as_ref().map_or(String::new(), |id| format!(" from {id}'s tokens"));
            say!("{} steps{start}, {}; step {step} is kept", fit.steps, why(fit.stop));
        }
        Ok(fit)
    }
}

/// Why a fit ended, in words.
fn why(stop: StopReason) -> &'static str {
    match stop {
        StopReason::NotFitted => "nothing to fit",
        StopReason::Steps => "all that were asked for",
        StopReason::Budget => "then time was over",
        StopReason::HeldOut => "then what was held out was predicted well enough",
        StopReason::Converged => "then the loss was low enough",
        StopReason::GivenUp => "given up, for there was no time for enough",
        StopReason::Interrupted => "then interrupted",
    }
}

/// The loss curve on standard error: redrawn on a terminal, lines elsewhere.
struct Curve {
    steps: Vec<FitStep>,
    bar: Option<ProgressBar>,
    drawn: Option<Instant>,
}

impl Curve {
    fn add(&mut self, step: &FitStep) {
        self.steps.push(*step);
        let pause = if self.bar.is_some() { 0.1 } else { 5.0 };
        if self.drawn.is_some_and(|at| at.elapsed().as_secs_f64() < pause) {
            return;
        }
        self.drawn = Some(Instant::now());
        match &self.bar {
            Some(bar) => {
                bar.set_style(indicatif::ProgressStyle::with_template("{msg}").expect("legal"));
                bar.set_message(self.picture());
            }
            None => say!("{}", self.last_line()),
        }
    }

    /// Leaves the whole curve.
    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if !self.steps.is_empty() {
            say!("{}", self.picture());
        }
    }

    fn picture(&self) -> String {
        let losses: Vec<f32> = self.steps.iter().map(|step| step.loss).collect();
        let mut lines = chart(&losses, CHART.0, CHART.1);
        lines.push(self.last_line());
        lines.join("\n")
    }

    fn last_line(&self) -> String {
        let Some(last) = self.steps.last() else { return String::new() };
        let check = self.steps.iter().rev().find_map(|step| step.check);
        let check = check.map(|c| format!("  held-out {}/{}", c.exact, c.of)).unwrap_or_default();
        let time = show_seconds(last.seconds);
        format!("step {:>5}  loss {:.4}{check}  {time}", last.step, last.loss)
    }
}
