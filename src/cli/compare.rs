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
use serde_json::{Value, json};

use super::input::Tasks;
use super::settings::{MachineArgs, MemoryArgs, RecipeArgs, cores, default_jobs};
use super::values::{duration, show_seconds};
use super::{Global, Outcome, interrupt, terminal};
use crate::arc::{Dataset, write_atomically};
use crate::compare::{Comparison, Table, Work};
use crate::public;
use crate::run::{Identity, Limits, RunError, read_run};

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A comparison is a TOML file of variants of a recipe; these are embedded:
  formats            in-context baseline, in-context TTT, end-to-end TTT, both
  ablation-paper     the ablations of Akyürek et al. 2024: transforms, leave-one-out, loss, rank, vote, ...
  ablation-scaling   accuracy against seconds a task
  ablation-stopping  what ending early saves, and what it costs
  ablation-scheduler the same time shared out evenly, and given where it is worth most
  selectors          every rule of the vote on the same candidates

  recipe = \"default\"              what all variants start from
  baseline = \"in-context\"         what the others are tested against (the exact McNemar test)
  [[variants]]
  name = \"rank 4\"
  seconds = 30                    or steps = 100: a limit of its own, in place of --budget or --steps
  scheduled = true                the seconds are a mean: the recipe's [schedule] gives the time of all tasks
  set = { lora.rank = 4 }         keys of the recipe that differ

Variants that differ in the vote alone share one run. Each run is a run directory under OUT/runs; the same command
goes on where an earlier one was interrupted. OUT gets compare.json, compare.csv and compare.md.

Examples:
  arc-ttt compare formats arc-agi-1/evaluation-dev --limit 60 --budget 30s
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
    /// Only these variants, and the baseline; names with commas come one to an option.
    #[arg(long, value_name = "NAME")]
    variants: Vec<String>,
    /// Where the runs and the tables go [default: runs/compare-<comparison>-<tasks>].
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
    /// Tasks worked on at the same time [default: one for each core; 1 on a GPU].
    #[arg(long, value_name = "N", help_heading = "Machine", value_parser = value_parser!(u32).range(1..))]
    jobs: Option<u32>,
}

/// What is kept of the runs beside their directories: the most memory that each has held.
const MEMORY: &str = "memory.json";

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let comparison = args.comparison()?;
    let dataset = args.dataset()?;
    let out = args.out.clone().unwrap_or_else(|| default_path(&comparison, &dataset));
    let works = comparison.works();
    let engine = args.machine.load_engine(&comparison.variants[0].recipe)?;
    let model = engine.info();
    let interrupted = interrupt::flag();
    std::fs::create_dir_all(out.join("runs")).with_context(|| out.display().to_string())?;
    if !global.json {
        eprintln!("{}", heading(&args, &comparison, &works, &dataset, &out));
    }
    let mut peaks = read_peaks(&out)?;
    let mut unfinished = Vec::new();
    for (i, work) in works.iter().enumerate() {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        let directory = out.join("runs").join(&work.name);
        let jobs = args.jobs(&model.device).min(dataset.tasks.len()).max(1);
        let memory_bytes = args.memory.bytes(engine.as_ref(), &work.recipe);
        let limits = limits(work, dataset.tasks.len(), jobs, memory_bytes);
        let identity = Identity::new(&work.recipe, &dataset, model.clone(), limits);
        // A scheduled run may have a record of each task and some time left.
        if is_finished(&directory, &identity)? && !work.scheduled {
            continue;
        }
        let readers: Vec<&str> =
            work.variants.iter().map(|&v| comparison.variants[v].name.as_str()).collect();
        eprintln!("\nrun {} of {}: {}", i + 1, works.len(), readers.join("; "));
        let result = args.solve(work, &limits, jobs, &directory, &out, global)?;
        let peak = result["peak_memory_bytes"].as_u64();
        let known = peaks.get(&work.name).copied();
        if let Some(peak) = peak.max(known) {
            peaks.insert(work.name.clone(), peak);
            write(&out, MEMORY, &json!(peaks).to_string())?;
        }
        if result["unreached"].as_u64() != Some(0) {
            unfinished.push(work.name.clone());
        }
    }
    let table = table(&comparison, &works, &dataset, &out, &peaks)?;
    write(&out, "compare.json", &format!("{}\n", serde_json::to_string_pretty(&table)?))?;
    write(&out, "compare.csv", &table.to_csv())?;
    write(&out, "compare.md", &table.to_markdown())?;
    if global.json {
        let mut object = json!(table);
        object["out"] = json!(out);
        object["interrupted"] = json!(interrupted.load(Ordering::Relaxed));
        terminal::print(&format!("{object}\n"))?;
    } else {
        terminal::print(&format!("\n{}", table.to_text()))?;
        eprintln!("\ncompare.json, compare.csv and compare.md are in {}", out.display());
    }
    let any_failed = |row: &crate::compare::Row| row.score.missing > 0;
    Ok(if interrupted.load(Ordering::Relaxed) {
        eprintln!("interrupted; give the same command again to go on");
        Outcome::Interrupted
    } else if !dataset.failed.is_empty() {
        Outcome::BadInput
    } else if !unfinished.is_empty() || table.rows.iter().any(any_failed) {
        Outcome::SomeFailed
    } else {
        Outcome::Done
    })
}

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
        if !self.variants.is_empty() {
            comparison.select(&self.variants)?;
        }
        for variant in &mut comparison.variants {
            if variant.steps.is_none() && variant.seconds.is_none() {
                variant.steps = self.steps;
                variant.seconds = self.budget.map(|time| time.as_secs_f64());
            }
        }
        Ok(comparison)
    }

    /// Tasks that a run works on at the same time.
    fn jobs(&self, device: &str) -> usize {
        default_jobs(self.jobs, device)
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
    fn solve(
        &self,
        work: &Work,
        limits: &Limits,
        jobs: usize,
        directory: &Path,
        out: &Path,
        global: &Global,
    ) -> anyhow::Result<Value> {
        let recipe = format!("runs/{}.toml", work.name);
        write(out, &recipe, &work.recipe.to_toml())?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["solve", self.name(), "--json", "--no-adapters"]);
        command.arg("--recipe").arg(out.join(&recipe)).arg("--out").arg(directory);
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
        option("--memory", Some(limits.memory_bytes.to_string()));
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
}

/// What limits a run of so many tasks, `jobs` at a time.
fn limits(work: &Work, tasks: usize, jobs: usize, memory_bytes: u64) -> Limits {
    let all = |mean: f64| mean * tasks as f64 / jobs as f64;
    Limits {
        budget_seconds: work.seconds.filter(|_| !work.scheduled),
        total_seconds: work.seconds.filter(|_| work.scheduled).map(all),
        steps: work.steps,
        memory_bytes,
    }
}

/// Whether the run is there with all of its records.
///
/// # Errors
/// [`RunError::Mismatch`] if the directory is another run's.
fn is_finished(directory: &Path, identity: &Identity) -> Result<bool, RunError> {
    let run = match read_run(directory) {
        Err(RunError::NotARun(_)) => return Ok(false),
        run => run?,
    };
    let differences = identity.differences(&run.identity);
    if !differences.is_empty() {
        return Err(RunError::Mismatch { path: directory.to_owned(), differences });
    }
    Ok(identity.tasks.iter().all(|id| run.records.contains_key(id)))
}

/// The table of what there is; runs that have not begun have no records.
fn table(
    comparison: &Comparison,
    works: &[Work],
    dataset: &Dataset,
    out: &Path,
    peaks: &BTreeMap<String, u64>,
) -> anyhow::Result<Table> {
    let read = |work: &Work| -> anyhow::Result<_> {
        let directory = out.join("runs").join(&work.name);
        let records = match read_run(&directory) {
            Err(RunError::NotARun(_)) => BTreeMap::new(),
            run => run?.records,
        };
        Ok((records, peaks.get(&work.name).copied()))
    };
    let runs: Vec<_> = works.iter().map(read).collect::<Result<_, _>>()?;
    let runs: Vec<_> = runs.iter().map(|(records, peak)| (records, *peak)).collect();
    Ok(Table::of(comparison, dataset, &runs))
}

fn read_peaks(out: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let file = out.join(MEMORY);
    match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; delete it", file.display())),
        Err(_) => Ok(BTreeMap::new()),
    }
}

fn write(out: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let file = out.join(name);
    write_atomically(&file, text.as_bytes()).with_context(|| format!("writing {}", file.display()))
}

/// `runs/compare-<comparison>-<dataset>`.
fn default_path(comparison: &Comparison, dataset: &Dataset) -> PathBuf {
    let plain = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
    let dataset: String = dataset.name.trim_end_matches(".json").chars().map(plain).collect();
    Path::new("runs").join(format!("compare-{}-{}", comparison.name, dataset.trim_matches('-')))
}

/// What is about to happen, and how long it takes where that is known.
fn heading(
    args: &Args,
    comparison: &Comparison,
    works: &[Work],
    dataset: &Dataset,
    out: &Path,
) -> String {
    let (variants, runs, tasks) = (comparison.variants.len(), works.len(), dataset.tasks.len());
    let mut line =
        format!("{variants} variants of {} in {runs} runs, {tasks} tasks", comparison.name);
    let seconds: Option<f64> = works.iter().map(|work| work.seconds).sum();
    if let Some(seconds) = seconds {
        let jobs = args.jobs.map_or_else(cores, |n| n as usize).min(tasks.max(1));
        let rounds = tasks.div_ceil(jobs.max(1)) as f64;
        line += &format!(", at most {}", show_seconds(seconds * rounds));
    }
    format!("{line}; {}", out.display())
}
