//! The command `solve`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure};
use clap::value_parser;

use super::input::Tasks;
use super::progress::Board;
use super::settings::{MachineArgs, MemoryArgs, RecipeArgs, default_jobs};
use super::summary::{Ended, Summary};
use super::values::{duration, show_seconds};
use super::{Global, Outcome, interrupt, terminal};
use crate::adapter::FitScope;
use crate::arc::{Dataset, Task};
use crate::engine::Engine;
use crate::pipeline::Replay;
use crate::public;
use crate::recipe::Recipe;
use crate::run::{
    Circumstances, Deadline, Identity, Limits, Plan, Run, RunDirectory, Schedule, Shard, execute,
    fallbacks, hash_replays, read_run, shared_path,
};

/// Arguments of `solve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The run directory holds the resolved recipe, a record of each task, the adapters, and a submission.json that \
is valid at every moment. The same command goes on where an earlier one was interrupted.

Without a limit every task gets the recipe's fit.steps: by `default` 2000, which are minutes a task and hours for a \
whole set. --deadline may be added to a limit of the tasks or of their total time; the sooner end holds.

Examples:
  arc-ttt solve                                 the embedded tasks
  arc-ttt solve arc-agi-1/evaluation-dev --limit 20 --budget 30s
  arc-ttt solve tasks/ --recipe paper --steps 100 --out runs/mine
  arc-ttt solve arc-agi_test_challenges.json --deadline 11.5h
  arc-ttt solve arc-agi-1/evaluation-dev --total-time 30m --set fit.hold_out=0.3
  arc-ttt solve demo --model Llama-3.2-1B/ --set language.text_format=mine.toml
  arc-ttt solve arc-agi-2/evaluation --budget 30s --shard 1/4    see `merge`
  arc-ttt solve --replay runs/mine --out runs/again    the same, without a clock")]
pub struct Args {
    /// A data set by name (see `arc-ttt data list`), a file or folder of tasks, or - for standard input
    /// [default: demo].
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
    /// Only the I-th of N parts of the tasks, for several machines; `merge` joins them.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// The run directory [default: runs/<recipe>-<tasks>-<fingerprint>].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Do exactly the steps and views that an earlier run did, with its recipe, tasks and memory.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["steps", "budget", "total_time", "shard", "limit", "recipe", "wanted"])]
    replay: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    machine: MachineArgs,
    /// Tasks worked on at the same time [default: one for each core, or for each of --threads if
    /// they are fewer; 1 on a GPU].
    #[arg(long, value_name = "N", help_heading = "Machine", value_parser = value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Do not keep the adapters.
    #[arg(long)]
    no_adapters: bool,
}

/// What ends the work on a task, and on all of them.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Gradient steps for each task, in place of the recipe's.
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Wall time for each task, such as 30s or 2m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    budget: Option<Duration>,
    /// Wall time for the whole run, such as 2h, shared out evenly; it ends on time with a valid submission.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    deadline: Option<Duration>,
    /// Wall time for the whole run, given to the tasks where it is expected to raise the score most (the recipe's
    /// [schedule]). A resumed run has only the time that was left.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "budget")]
    total_time: Option<Duration>,
    /// Give the total time to all tasks alike: to each an even share of what is left when its turn comes.
    #[arg(long, requires = "total_time")]
    evenly: bool,
    #[command(flatten)]
    memory: MemoryArgs,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let earlier = args.replay.as_deref().map(Earlier::read).transpose()?;
    let recipe = args.recipe(earlier.as_ref())?;
    let whole = args.dataset(earlier.as_ref())?;
    let interrupted = interrupt::flag();
    let engine = args.machine.load_engine(&recipe)?;
    let identity = args.identity(&recipe, &whole, engine.as_ref(), earlier.as_ref())?;
    let dataset = own_part(whole, &identity);
    let path = args.out.clone().unwrap_or_else(|| default_path(&identity));
    let jobs = default_jobs(args.jobs, args.machine.threads(), &engine.info().device);
    let is_shared = recipe.fit.scope == FitScope::Shared;
    ensure!(
        !is_shared || (args.shard.is_none() && args.limits.total_time.is_none()),
        "an adapter that tasks share (fit.scope) needs all of them before the first is predicted: give neither \
         --shard nor --total-time"
    );
    let plan = Plan {
        engine,
        recipe: Arc::new(recipe),
        limits: identity.limits,
        schedule: Schedule {
            budget_seconds: identity.limits.budget_seconds,
            deadline: args.limits.deadline.map(|time| Deadline::after(began, time)),
            jobs: jobs.min(dataset.tasks.len()).max(1),
        },
        threads: args.machine.threads(),
        interrupted,
        shared_from: earlier.as_ref().map(|earlier| shared_path(&earlier.path)),
        replay: earlier.map(|earlier| Arc::new(earlier.replays)),
        keep_adapters: !args.no_adapters,
    };
    let trained_on = trained_on(plan.engine.as_ref(), &dataset.tasks);
    let deadline = args.limits.deadline.map(|time| time.as_secs_f64());
    let circumstances = circumstances(&plan, deadline, trained_on.clone());
    let fallback = fallbacks(&dataset.tasks);
    let mut directory = RunDirectory::open(&path, &identity, &circumstances, fallback)?;
    if !global.json {
        say!("{}", heading(&identity, &dataset, &path));
    }
    if let Some(warning) = contamination(trained_on.as_deref(), dataset.tasks.len()) {
        say!("{warning}");
    }
    let (n, earlier) = (directory.records().len(), directory.deadline_seconds());
    if let Some(seconds) = earlier.filter(|_| n > 0 && earlier != deadline) {
        let time = show_seconds(seconds);
        say!(
            "note: what is done so far ({n}) had --deadline {time}; give another --out to solve them anew"
        );
    }
    let mut board = Board::new(&dataset, directory.records().values(), global.verbose > 0);
    let ending = execute(&mut directory, &dataset.tasks, &plan, &mut |progress| {
        board.show(&dataset, progress);
    });
    board.end();
    let ending = ending?;
    let ended = Ended {
        seconds: began.elapsed().as_secs_f64(),
        unreached: ending.unreached.len(),
        interrupted: ending.interrupted,
        trained_on,
    };
    let summary = Summary::of(&dataset, &directory, &ended);
    report(&summary, &directory, &dataset, global, ending.interrupted)
}

/// Prints the result, and says what the command ends with.
fn report(
    summary: &Summary,
    directory: &RunDirectory,
    dataset: &Dataset,
    global: &Global,
    interrupted: bool,
) -> anyhow::Result<Outcome> {
    let (path, submission) = (directory.path(), directory.submission());
    if global.json {
        terminal::print(&format!("{}\n", summary.to_json(path, &submission)))?;
    } else {
        summary.print(path);
        terminal::print(&format!("{}\n", submission.display()))?;
    }
    Ok(if interrupted {
        say!("interrupted; give the same command again to go on");
        Outcome::Interrupted
    } else if dataset.unusable().next().is_some() {
        Outcome::BadInput
    } else if summary.is_lacking() {
        Outcome::SomeFailed
    } else {
        Outcome::Done
    })
}

/// A run that is to be repeated.
struct Earlier {
    path: PathBuf,
    run: Run,
    replays: BTreeMap<String, Replay>,
}

impl Earlier {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let run = read_run(path)?;
        let tasks = run.identity.own_tasks();
        if let Some(id) = tasks.iter().find(|id| !run.records.contains_key(*id)) {
            bail!("{} has no record of task `{id}`; finish that run first", path.display());
        }
        let replays = run.records.iter().map(|(id, r)| (id.clone(), r.replay())).collect();
        Ok(Self { path: path.to_owned(), run, replays })
    }

    /// Refuses a run that this command cannot repeat.
    fn check(&self, identity: &Identity) -> anyhow::Result<()> {
        let there = &self.run.identity;
        let wanted =
            Identity { replay: there.replay.clone(), limits: there.limits, ..identity.clone() };
        for difference in wanted.differences(there) {
            // The same steps can be done elsewhere, if not to the last bit.
            ensure!(
                ["version", "device"].contains(&difference.what.as_str()),
                "{} cannot be repeated: it differs in {difference}",
                self.path.display()
            );
            say!("warning: the repeated run differs in {difference}; last bits may differ too");
        }
        Ok(())
    }
}

impl Args {
    /// The tasks as the user named them, or as the run did that is repeated.
    fn name<'a>(&'a self, earlier: Option<&'a Earlier>) -> &'a str {
        let repeated = earlier.map_or(public::DEMO, |earlier| &earlier.run.identity.dataset);
        self.name.as_deref().unwrap_or(repeated)
    }

    /// The recipe: of the command, or of the run that is repeated.
    fn recipe(&self, earlier: Option<&Earlier>) -> anyhow::Result<Recipe> {
        let mut recipe = self.recipe.clone();
        if let Some(earlier) = earlier {
            recipe.recipe = Some(earlier.path.join("recipe.toml").display().to_string());
        }
        recipe.resolve(self.name(earlier), self.machine.family())
    }

    /// The tasks of all shards.
    fn dataset(&self, earlier: Option<&Earlier>) -> anyhow::Result<Dataset> {
        let name = self.name(earlier).to_owned();
        let tasks = match earlier {
            Some(earlier) if self.tasks.is_empty() => earlier.run.identity.tasks.clone(),
            _ => self.tasks.clone(),
        };
        let mut dataset = Tasks { name, solutions: self.solutions.clone(), tasks }.load()?;
        dataset.tasks.truncate(self.limit.map_or(usize::MAX, |n| n as usize));
        Ok(dataset)
    }

    fn identity(
        &self,
        recipe: &Recipe,
        dataset: &Dataset,
        engine: &dyn Engine,
        earlier: Option<&Earlier>,
    ) -> anyhow::Result<Identity> {
        let mut limits = Limits {
            budget_seconds: self.limits.budget.map(|time| time.as_secs_f64()),
            total_seconds: self.limits.total_time.map(|time| time.as_secs_f64()),
            evenly: self.limits.evenly,
            steps: self.limits.steps,
            memory_bytes: self.limits.memory.bytes(engine, recipe),
        };
        if let Some(earlier) = earlier {
            limits.memory_bytes = earlier.run.identity.limits.memory_bytes;
        }
        let identity = Identity {
            replay: earlier.map(|earlier| hash_replays(&earlier.replays)),
            shard: earlier.map_or(self.shard, |earlier| earlier.run.identity.shard),
            ..Identity::new(recipe, dataset, engine.info(), limits)
        };
        if let Some(earlier) = earlier {
            earlier.check(&identity)?;
        }
        if let Some(shard) = self.shard {
            ensure!(
                !identity.own_tasks().is_empty(),
                "shard {shard} of {} tasks is empty",
                dataset.tasks.len()
            );
        }
        Ok(identity)
    }
}

/// The tasks of this shard.
fn own_part(mut dataset: Dataset, identity: &Identity) -> Dataset {
    if let Some(shard) = identity.shard {
        dataset.tasks = shard.select(dataset.tasks);
    }
    dataset
}

/// `runs/<recipe>-<dataset>-<fingerprint8>`.
fn default_path(identity: &Identity) -> PathBuf {
    let plain = |text: &str| {
        let name = text.trim_end_matches(".json").trim_matches(['/', '.', '<', '>']);
        let letters = name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' });
        letters.collect::<String>()
    };
    // Of a path, the last part says enough; a name such as arc-agi-1/evaluation is kept whole.
    let dataset = match Path::new(&identity.dataset).file_name() {
        Some(last) if Path::new(&identity.dataset).exists() => last.to_string_lossy().into_owned(),
        _ => identity.dataset.clone(),
    };
    let fingerprint = &identity.fingerprint()[..8];
    let name = format!("{}-{}-{fingerprint}", plain(&identity.recipe), plain(&dataset));
    Path::new("runs").join(name)
}

fn circumstances(
    plan: &Plan,
    deadline_seconds: Option<f64>,
    trained_on: Option<Vec<String>>,
) -> Circumstances {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Circumstances {
        command: std::env::args().collect(),
        burn: super::BURN_VERSION.to_owned(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        jobs: plan.schedule.jobs,
        threads: plan.threads,
        began: now.map_or(0, |time| time.as_secs()),
        deadline_seconds,
        trained_on,
    }
}

/// Ids of the tasks of which the model was trained on a pair; `None` if the model does not say.
pub(super) fn trained_on(engine: &dyn Engine, tasks: &[Task]) -> Option<Vec<String>> {
    let pairs = engine.training_pairs()?;
    let known = tasks.iter().filter(|task| pairs.know(task));
    Some(known.map(|task| task.id.clone()).collect())
}

/// What to tell about tasks that the model was trained on.
pub(super) fn contamination(trained_on: Option<&[String]>, n_tasks: usize) -> Option<String> {
    /// Ids that are named.
    const NAMED: usize = 5;
    match trained_on {
        None => Some("note: the model does not say what it was trained on".to_owned()),
        Some([]) => None,
        Some([id]) if n_tasks == 1 => Some(format!(
            "warning: the model was trained on pairs of this task, {id}; its score says nothing about new tasks"
        )),
        Some(ids) => {
            let more = if ids.len() > NAMED { ", …" } else { "" };
            Some(format!(
                "warning: the model was trained on pairs of {} of these {n_tasks} tasks ({}{more}); their score \
                 says nothing about new tasks",
                ids.len(),
                ids[..ids.len().min(NAMED)].join(", ")
            ))
        }
    }
}

/// What stands above the progress.
fn heading(identity: &Identity, dataset: &Dataset, path: &Path) -> String {
    let Identity { model, recipe, shard, .. } = identity;
    let shard = shard.map(|s| format!(", shard {s}")).unwrap_or_default();
    format!(
        "{} tasks of {}{shard}, recipe {recipe}, model {} on {}; run directory {}",
        dataset.tasks.len(),
        dataset.name,
        model.name,
        model.device,
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_the_model_was_trained_on_are_named() {
        let say = |ids: &[&str], n_tasks| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            contamination(Some(&ids), n_tasks).unwrap_or_default()
        };
        assert_eq!(say(&[], 3), "");
        assert!(say(&["a"], 1).contains("on pairs of this task, a;"));
        assert!(say(&["a"], 2).contains("on pairs of 1 of these 2 tasks (a);"));
        assert!(
            say(&["a", "b", "c", "d", "e", "f"], 9)
                .contains("6 of these 9 tasks (a, b, c, d, e, …);")
        );
        assert!(contamination(None, 1).unwrap().contains("does not say"));
    }
}
