//! The command `compare`.
//!
//! Each run is made by a process of its own, the command `solve`: its peak memory is then its own, a crash of one
//! leaves the others alone, and every run can be looked at, resumed and repeated like any other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::value_parser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::input::Tasks;
use super::settings::{MachineArgs, MemoryArgs, RecipeArgs, default_jobs};
use super::values::{duration, show_seconds};
use super::{Global, Outcome, interrupt, terminal, whole};
use crate::arc::{Dataset, write_atomically};
use crate::compare::{Comparison, RunFacts, Share, Table, Work, learn_gain};
use crate::effort::GainTable;
use crate::engine::Engine;
use crate::public;
use crate::recipe::Recipe;
use crate::report::{Side, comparison_page, report};
use crate::run::{Identity, Limits, RunError, find_run, read_run, shared_steps};

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A comparison is a TOML file of variants of a recipe; these are embedded:
  formats             in-context baseline, in-context TTT, end-to-end TTT, both
  language            for a language model: answers, fits, rules of the vote
  ablation-paper      the ablations of Akyürek et al. 2024
  ablation-scaling    accuracy against seconds a task
  ablation-stopping   what ending early saves, and what it costs
  ablation-scheduler  the same time, shared evenly or where it is worth most
  selectors           every rule of the vote on the same candidates
  gain                steps that double, for --gain

A file of yours looks so:
  recipe = \"default\"         # what all variants start from
  baseline = \"untrained\"     # what the others are tested against (McNemar)
  [[variants]]
  name = \"untrained\"
  set = { fit.format = \"none\" }   # keys of the recipe that differ
  [[variants]]
  name = \"rank 4\"
  set = { lora.rank = 4 }
  seconds = 30                 # a limit of its own, or steps = 100
  share = \"scheduled\"        # or \"even\"
  reads = { views = 4 }        # or stop = \"beta\", or dihedrals = [\"transpose\"]

A limit of a variant's own goes before --budget and --steps; fit.steps in `set` goes before --steps too. With `share` the \
seconds are a mean: by \"scheduled\" the recipe's [schedule] gives the time of all tasks where it is worth most, and by \
\"even\" each task gets an even share of what is left. `reads` says what the vote reads of the run: its first views, those \
until a rule of views.stop would have ended them, or those of some symmetries.

Variants that differ in the vote alone, or in what they read, share one run, which is made with the vote of the first; a \
scheduled run is shared only with the same vote, by which it gives its time. Each run is a run directory under OUT/runs, \
found again by what it is: a later comparison with the same OUT makes no run twice, and the same command goes on where \
an earlier one was interrupted. A run with a limit in seconds is shared only with the same --jobs and --threads. OUT gets \
COMPARISON.html, .json, .csv and .md, and COMPARISON-views.csv: the best of N views. Memory is the peak of a run's whole \
process, with --jobs tasks in flight.

Examples:
  arc-ttt compare formats arc-agi-1/evaluation-dev --limit 60 --budget 30s
  arc-ttt compare ablation-paper arc-agi-1/evaluation-dev --budget 20s \\
      --baseline TTT
  arc-ttt compare selectors demo
  arc-ttt compare mine.toml tasks/ --steps 100 --variants 'rank 4,rank 8'")]
pub struct Args {
    /// An embedded comparison or a file.
    #[arg(value_name = "COMPARISON")]
    comparison: String,
    /// A data set by name (see `arc-ttt data list`), or a file or folder of tasks [default: demo].
    #[arg(value_name = "TASKS")]
    name: Option<String>,
    /// Kaggle's file of answers; a *_solutions.json beside a *_challenges.json is found without this.
    #[arg(long, value_name = "FILE")]
    solutions: Option<PathBuf>,
    /// Only the tasks with these ids.
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Only the first N tasks.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Only these variants, and the baseline: names apart by commas, or one that has a comma itself; may be repeated.
    #[arg(long, value_name = "NAME,NAME")]
    variants: Vec<String>,
    /// The variant that the others are tested against, in place of the comparison's own.
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Also write what steps are worth, as the variants that differ in their steps alone tell: the [schedule.gain] of a
    /// recipe, as TOML.
    #[arg(long, value_name = "FILE")]
    gain: Option<PathBuf>,
    /// Where the runs and the tables go [default: runs/compare-<tasks>].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Gradient steps for each task, where a variant has no limit of its own.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    steps: Option<usize>,
    /// Wall time for each task, such as 30s, where a variant has no limit of its own.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    budget: Option<Duration>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    machine: MachineArgs,
    /// Tasks worked on at the same time [default: one for each core, or for each of --threads if
    /// they are fewer; 1 on a GPU].
    #[arg(long, value_name = "N", help_heading = "Machine", value_parser = value_parser!(u32).range(1..))]
    jobs: Option<u32>,
}

/// What is kept of a run beside its directory.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Kept {
    /// The most memory that its process has held.
    peak_memory_bytes: Option<u64>,
    /// Whether it has ended by itself: a scheduled run may have a record of each task and some time left.
    ended: bool,
}

/// A run that variants need, and where it is.
struct Planned {
    work: Work,
    identity: Identity,
    jobs: usize,
    directory: PathBuf,
    /// Whether it is there with all of its records, and will not change them any more.
    finished: bool,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let comparison = args.comparison()?;
    let dataset = args.dataset()?;
    let out = args.out.clone().unwrap_or_else(|| default_path(&dataset));
    let engine = args.machine.load_engine(&comparison.variants[0].recipe)?;
    let interrupted = interrupt::flag();
    std::fs::create_dir_all(out.join("runs")).with_context(|| out.display().to_string())?;
    let works = comparison.works().into_iter();
    let plan = |work| args.plan(work, &comparison, &dataset, engine.as_ref(), &out);
    let runs: Vec<Planned> = works.map(plan).collect::<Result<_, _>>()?;
    // Each run loads the model itself, and there may be no room for two.
    drop(engine);
    if !global.json {
        say!("{}", heading(&comparison, &runs, &dataset, &out));
    }
    let mut unfinished = false;
    for (i, run) in runs.iter().enumerate() {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        if run.finished {
            if run.report().is_none() {
                args.report(run);
            }
            continue;
        }
        let readers: Vec<&str> =
            run.work.variants.iter().map(|&v| comparison.variants[v].name.as_str()).collect();
        say!("\nrun {} of {}: {}", i + 1, runs.len(), readers.join("; "));
        let result = args.solve(run, global)?;
        let peak = result["peak_memory_bytes"].as_u64();
        run.keep(Kept {
            peak_memory_bytes: peak.max(run.kept()?.peak_memory_bytes),
            ended: result["interrupted"] == Value::Bool(false),
        })?;
        unfinished |= result["unreached"].as_u64() != Some(0);
        args.report(run);
    }
    let table = table(&comparison, &runs, &dataset)?;
    write_tables(&table, &runs, &out)?;
    let is_interrupted = interrupted.load(Ordering::Relaxed);
    if global.json {
        let mut object = json!(table);
        object["out"] = json!(out);
        object["interrupted"] = json!(is_interrupted);
        terminal::print(&format!("{object}\n"))?;
    } else {
        terminal::print(&format!("\n{}", table.to_text()))?;
        let name = &comparison.name;
        say!("\n{name}.html, .json, .csv and .md are in {}", out.display());
    }
    if let Some(file) = &args.gain {
        let gain = learn_gain(&comparison, &table).with_context(|| {
            let name = &comparison.name;
            format!("--gain: no two variants of {name} differ in their steps alone")
        })?;
        write(file, &gain_text(&gain, &table))?;
    }
    let any_failed = |row: &crate::compare::Row| row.score.missing + row.failed > 0;
    Ok(if is_interrupted {
        say!("interrupted; give the same command again to go on");
        Outcome::Interrupted
    } else if dataset.unusable().next().is_some() {
        Outcome::BadInput
    } else if unfinished || table.rows.iter().any(any_failed) {
        Outcome::SomeFailed
    } else {
        Outcome::Done
    })
}

/// The report of a run, in its directory.
const REPORT: &str = "report.html";

impl Args {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(public::DEMO)
    }

    /// The variants, with the command's limits where they have none of their own.
    fn comparison(&self) -> anyhow::Result<Comparison> {
        let mut overrides = self.recipe.set.clone();
        overrides.extend(self.recipe.seed.map(|seed| format!("seed={seed}")));
        let recipe = self.recipe.recipe.as_deref();
        let mut comparison =
            Comparison::read(&self.comparison, recipe, &overrides, self.machine.family())?;
        if let Some(baseline) = &self.baseline {
            comparison.set_baseline(baseline)?;
        }
        if !self.variants.is_empty() {
            comparison.select(&self.variants)?;
        }
        comparison.limit(self.steps, self.budget.map(|time| time.as_secs_f64()))?;
        Ok(comparison)
    }

    /// Says what exactly a run is, and finds its directory: the one that holds it already, or a new one.
    fn plan(
        &self,
        mut work: Work,
        comparison: &Comparison,
        dataset: &Dataset,
        engine: &dyn Engine,
        out: &Path,
    ) -> anyhow::Result<Planned> {
        let model = engine.info();
        let jobs = self.jobs(&model.device).min(dataset.tasks.len()).max(1);
        let memory_bytes = self.memory.bytes(engine, &work.recipe);
        let limits = limits(&work, dataset.tasks.len(), jobs, memory_bytes);
        let mut identity = Identity::new(&work.recipe, dataset, model.clone(), limits);
        let runs = out.join("runs");
        let threads = self.machine.threads();
        let found = find_run(&runs, &identity, jobs, threads, work.any_vote());
        if let Some(directory) = &found {
            // It is gone on with as it was begun.
            let settings = directory.join("recipe.toml").display().to_string();
            work.recipe.vote = Recipe::resolve::<&str>(&settings, &[])?.vote;
            identity = Identity::new(&work.recipe, dataset, model, limits);
        }
        let directory = found.unwrap_or_else(|| {
            let first = &comparison.variants[work.variants[0]].name;
            runs.join(directory_name(first, &identity, jobs, threads))
        });
        let mut planned = Planned { work, identity, jobs, directory, finished: false };
        planned.finished = planned.is_finished()?;
        Ok(planned)
    }

    /// Tasks that a run works on at the same time.
    fn jobs(&self, device: &str) -> usize {
        default_jobs(self.jobs, self.machine.threads(), device)
    }

    fn dataset(&self) -> anyhow::Result<Dataset> {
        // Every run reads them again.
        ensure!(
            self.name() != "-",
            "compare reads its tasks once a run; give a file in place of -"
        );
        let (name, tasks) = (self.name().to_owned(), self.tasks.clone());
        let mut dataset = Tasks { name, solutions: self.solutions.clone(), tasks }.load()?;
        dataset.tasks.truncate(self.limit.map_or(usize::MAX, |n| n as usize));
        Ok(dataset)
    }

    /// Makes a run, or goes on with it, in a process of its own; gives what that prints.
    fn solve(&self, run: &Planned, global: &Global) -> anyhow::Result<Value> {
        let Planned { work, directory, jobs, .. } = run;
        let limits = run.identity.limits;
        let recipe = run.beside("toml");
        write(&recipe, &work.recipe.to_toml())?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["solve", self.name(), "--json", "--no-adapters"]);
        command.arg("--recipe").arg(&recipe).arg("--out").arg(directory);
        command.args(limits.evenly.then_some("--evenly"));
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                command.arg(format!("{name}={value}"));
            }
        };
        option("--solutions", self.solutions.as_ref().map(|file| file.display().to_string()));
        option("--tasks", (!self.tasks.is_empty()).then(|| self.tasks.join(",")));
        option("--limit", self.limit.map(|n| n.to_string()));
        option("--steps", work.steps.map(|n| n.to_string()));
        option("--budget", limits.budget_seconds.map(|s| format!("{s}s")));
        option("--total-time", limits.total_seconds.map(|s| format!("{s}s")));
        option("--memory", Some(format!("{}B", limits.memory_bytes)));
        option("--model", Some(self.machine.model.clone()));
        option("--device", Some(self.machine.device.clone()));
        option("--threads", self.machine.threads.map(|n| n.to_string()));
        option("--jobs", Some(jobs.to_string()));
        command.args((0..global.verbose).map(|_| "-v"));
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        match serde_json::from_slice(&output.stdout) {
            Ok(result) => Ok(result),
            Err(_) => bail!("the run in {} failed ({})", directory.display(), output.status),
        }
    }

    /// Writes the report of a run, to which the comparison's page leads. Without one there is no link, and nothing is lost.
    fn report(&self, run: &Planned) {
        let side = Side::read(&run.directory, Some(self.name()), self.solutions.as_deref());
        let page = side
            .map_err(anyhow::Error::from)
            .and_then(|side| write(&run.directory.join(REPORT), &report(&side, None)?.html));
        if let Err(error) = page {
            say!("warning: no report of {}: {}", run.directory.display(), whole(&error));
        }
    }
}

impl Planned {
    /// A file beside the directory.
    fn beside(&self, extension: &str) -> PathBuf {
        // A name of a variant may have a dot, which begins no extension.
        let mut path = self.directory.clone().into_os_string();
        path.push(format!(".{extension}"));
        path.into()
    }

    fn kept(&self) -> anyhow::Result<Kept> {
        let file = self.beside("json");
        match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged; delete it", file.display())),
            Err(_) => Ok(Kept::default()),
        }
    }

    fn keep(&self, kept: Kept) -> anyhow::Result<()> {
        write(&self.beside("json"), &format!("{}\n", json!(kept)))
    }

    /// What [`Planned::finished`] says.
    fn is_finished(&self) -> anyhow::Result<bool> {
        let run = match read_run(&self.directory) {
            Err(RunError::NotARun(_)) => return Ok(false),
            run => run?,
        };
        let all = self.identity.tasks.iter().all(|id| run.records.contains_key(id));
        Ok(all && (self.work.share != Share::Scheduled || self.kept()?.ended))
    }

    /// The address of its report from the folder of the tables, if there is one.
    fn report(&self) -> Option<String> {
        let name = self.directory.file_name()?.to_str()?;
        let is_there = self.directory.join(REPORT).exists();
        is_there.then(|| format!("runs/{name}/{REPORT}"))
    }
}

/// What limits a run of so many tasks, `jobs` at a time.
fn limits(work: &Work, tasks: usize, jobs: usize, memory_bytes: u64) -> Limits {
    let (budget_seconds, total_seconds) = match work.share {
        Share::Each => (work.seconds, None),
        _ => (None, work.seconds.map(|mean| mean * tasks as f64 / jobs as f64)),
    };
    Limits {
        budget_seconds,
        total_seconds,
        evenly: work.share == Share::Even,
        steps: work.steps,
        memory_bytes,
    }
}

/// The table of what there is; runs that have not begun have no records.
fn table(comparison: &Comparison, runs: &[Planned], dataset: &Dataset) -> anyhow::Result<Table> {
    let read = |run: &Planned| -> anyhow::Result<_> {
        Ok(match read_run(&run.directory) {
            Err(RunError::NotARun(_)) => (BTreeMap::new(), None),
            there => {
                let there = there?;
                (there.records, Some(there.circumstances.jobs))
            }
        })
    };
    let read: Vec<_> = runs.iter().map(read).collect::<Result<_, _>>()?;
    let mut facts = Vec::with_capacity(runs.len());
    for ((records, jobs), run) in read.iter().zip(runs) {
        let peak_memory_bytes = run.kept()?.peak_memory_bytes;
        let shared_steps = shared_steps(&run.directory);
        facts.push(RunFacts { records, jobs: *jobs, peak_memory_bytes, shared_steps });
    }
    Ok(Table::of(comparison, dataset, &facts))
}

/// Writes the table in every form.
fn write_tables(table: &Table, runs: &[Planned], out: &Path) -> anyhow::Result<()> {
    let run = |row: usize| runs.iter().find(|run| run.work.variants.contains(&row));
    let reports: Vec<_> = (0..table.rows.len()).map(|row| run(row)?.report()).collect();
    let name = &table.comparison;
    let file = |ending: &str| out.join(format!("{name}{ending}"));
    write(&file(".json"), &format!("{}\n", serde_json::to_string_pretty(table)?))?;
    write(&file(".csv"), &table.to_csv())?;
    write(&file("-views.csv"), &table.views_to_csv())?;
    write(&file(".md"), &table.to_markdown())?;
    write(&file(".html"), &comparison_page(table, &reports))
}

/// The part of a recipe that says what steps are worth.
fn gain_text(gain: &GainTable, table: &Table) -> String {
    format!(
        "# Measured by the comparison {} on {} tasks of {}.\n[schedule.gain]\n{}",
        table.comparison,
        table.rows[0].score.known_tasks,
        table.dataset,
        toml::to_string(gain).expect("numbers are TOML")
    )
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    write_atomically(file, text.as_bytes()).with_context(|| format!("writing {}", file.display()))
}

/// The name of a new run: its first variant's in plain letters, and a fingerprint of what the run is; of a timed run also
/// its jobs and threads, by which it is another run ([`find_run`]).
fn directory_name(variant: &str, identity: &Identity, jobs: usize, threads: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let words: String = variant.chars().map(plain).collect();
    let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
    let name = format!("{}-{}", words.join("-"), &identity.fingerprint()[..8]);
    if identity.limits.is_timed() { format!("{name}-{jobs}-{threads}") } else { name }
}

/// `runs/compare-<dataset>`: comparisons on the same tasks share runs.
fn default_path(dataset: &Dataset) -> PathBuf {
    let plain = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
    let dataset: String = dataset.name.trim_end_matches(".json").chars().map(plain).collect();
    Path::new("runs").join(format!("compare-{}", dataset.trim_matches('-')))
}

/// What is about to happen, and how long it takes where that is known.
fn heading(comparison: &Comparison, runs: &[Planned], dataset: &Dataset, out: &Path) -> String {
    let (variants, tasks) = (comparison.variants.len(), dataset.tasks.len());
    let there = runs.iter().filter(|run| run.finished).count();
    let mut line =
        format!("{variants} variants of {} in {} runs, {tasks} tasks", comparison.name, runs.len());
    if there > 0 {
        line += &format!(", {there} of the runs finished before");
    }
    let waiting = runs.iter().filter(|run| !run.finished);
    let rounds = |run: &Planned| tasks.div_ceil(run.jobs) as f64;
    let seconds: Option<f64> = waiting.map(|run| Some(run.work.seconds? * rounds(run))).sum();
    if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) {
        line += &format!(", at most {}", show_seconds(seconds));
    }
    format!("{line}; {}", out.display())
}
