//! The command `pretrain`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use burn::tensor::Device;
use serde::de::DeserializeOwned;

use super::input::warn_of_failed;
use super::settings::cores;
use super::{Global, Outcome, terminal};
use crate::arc::load_pair_folder;
use crate::device::open;
use crate::model::Weights;
use crate::pretrain::{
    Corpus, Evaluation, FormatProgress, LanguageModelConfig, LanguageTrainer, PretrainConfig,
    Progress, Trainer, Training, Until, model_in,
};
use crate::public;

/// The settings of a run that is given none.
const DEFAULT_RECIPE: &str = include_str!("../../data/recipes/pretrain.toml");

/// What a run's folder needs for going on.
const STATE: &str = "state.safetensors";

/// Seconds between two lines of the log.
const LOG_EVERY: f64 = 30.0;

/// Arguments of `pretrain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arc-ttt data fetch
  arc-ttt pretrain --re-arc re-arc/ --out runs/base --minutes 120
  arc-ttt pretrain --recipe data/recipes/pretrain-llama.toml --re-arc re-arc/ \\
      --out runs/llama --minutes 60

One of --minutes and --steps is needed. After an interruption the same command goes on.

The folder given by --out holds state.safetensors (everything needed to go on) and model.safetensors \
(the averaged weights as 16-bit floats, for --model). Both are rewritten every few minutes.

A line of progress has canvas cells a second, then the loss and the share of exact outputs of each format in the steps \
since the last line. Every few minutes it also has those of the averaged weights: end-to-end on the trained tasks, with \
canvases as small as at the beginning of the run, and in-context on the held-out ones.

A recipe whose [model] names an `architecture` trains a language model on the same tasks as text. Its weights are \
in the folder checkpoint/, as transformers (AutoModelForCausalLM, AutoTokenizer) and --model read it. Its progress has \
tokens a second, and an output is exact if each of its tokens is the most probable one behind the right ones.")]
pub struct Args {
    /// Settings: a TOML file; without it, the built-in ones (data/recipes/pretrain.toml)
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Changes one setting, such as `model.n_layers=6`; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Training tasks: a data set's name, a folder or a file
    #[arg(long, default_value = "arc-agi-1/training")]
    tasks: String,
    /// Folder of further pairs of the same tasks, one JSON list a task (RE-ARC's format)
    #[arg(long, value_name = "DIR")]
    re_arc: Option<PathBuf>,
    /// Folder of the run; an existing one is continued
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Start from these weights instead of random ones, and from the task tokens that they hold: a model, or the folder of
    /// an earlier run
    #[arg(long, value_name = "FILE|DIR")]
    init: Option<PathBuf>,
    /// Train for this long; the learning rate lands on time. What interruptions, checkpoints and evaluations take is not
    /// counted
    #[arg(long, conflicts_with = "steps", required_unless_present = "steps")]
    minutes: Option<f64>,
    /// Train for this many steps; the result then depends on nothing but the settings, the data, the kind of device and
    /// whether it multiplies bf16
    #[arg(long)]
    steps: Option<usize>,
    /// Minutes between two checkpoints
    #[arg(long, default_value_t = 3.0, value_name = "MINUTES")]
    checkpoint_every: f64,
    /// Device to train on: cpu, wgpu, wgpu:N, cuda, cuda:N or auto
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads; as many as cores without it
    #[arg(long)]
    threads: Option<usize>,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    // Within the pool: handing each piece of work over to it from outside costs more than a small piece itself. The stack
    // is that of a main thread: graphs are dropped recursively.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.unwrap_or_else(cores))
        .stack_size(8 << 20);
    pool.build()?.install(|| train(args, global))
}

fn train(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let recipe = Recipe::read(args.recipe.as_deref(), &args.overrides)?;
    let until = match (args.minutes, args.steps) {
        (Some(minutes), _) if minutes > 0.0 => Until::Seconds(minutes * 60.0),
        (None, Some(steps)) if steps > 0 => Until::Steps(steps),
        _ => bail!("--minutes or --steps must be above 0"),
    };
    if !(0.0..=1e6).contains(&args.checkpoint_every) {
        bail!("--checkpoint-every must be from 0 to 1000000 minutes");
    }
    let (device, _) = open(args.device.parse()?)?;
    if recipe.is_for_text() {
        let config = recipe.parse()?;
        return language_model(&args, &config, until, &device, global);
    }
    let config: PretrainConfig = recipe.parse()?;
    if let Some(problem) = config.model.problem() {
        bail!("in {}: {problem}", recipe.name);
    }
    grid_model(&args, &config, until, &device, global)
}

fn grid_model(
    args: &Args,
    config: &PretrainConfig,
    until: Until,
    device: &Device,
    global: &Global,
) -> anyhow::Result<Outcome> {
    let corpus = corpus(args, config)?;
    let file = |init: &Path| if init.is_dir() { model_in(init) } else { init.to_owned() };
    let initial = args.init.as_deref().map(|init| Weights::load(&file(init))).transpose();
    let initial =
        initial.context("--init takes a model.safetensors or the folder of an earlier run")?;
    let mut trainer = Trainer::new(config, &corpus, initial.as_ref(), device)?;
    if args.resume(&mut trainer)? {
        // Whoever continues without --init: what came before still counts.
        trainer.remember(&Weights::load(&model_in(&args.out))?);
    } else if let Some(initial) = initial.filter(|weights| !weights.starts.is_empty()) {
        let ids: Vec<&str> = corpus.train.iter().map(|task| task.id.as_str()).collect();
        let n = initial.starts.iter().filter(|id| ids.contains(&id.as_str())).count();
        say!("took over the tokens of {n} tasks");
    }
    go(&mut trainer, &corpus, until, args, global)
}

fn language_model(
    args: &Args,
    config: &PretrainConfig<LanguageModelConfig>,
    until: Until,
    device: &Device,
    global: &Global,
) -> anyhow::Result<Outcome> {
    if args.init.is_some() {
        bail!(
            "--init is for the grid model; a language model goes on from the folder given by --out only"
        );
    }
    let corpus = corpus(args, config)?;
    let mut trainer = LanguageTrainer::new(config, &corpus, device)?;
    args.resume(&mut trainer)?;
    go(&mut trainer, &corpus, until, args, global)
}

fn corpus<M>(args: &Args, config: &PretrainConfig<M>) -> anyhow::Result<Corpus> {
    let dataset = public::resolve(&args.tasks)?;
    warn_of_failed(&dataset);
    let tasks = dataset.tasks;
    let generated = match &args.re_arc {
        Some(folder) => load_pair_folder(folder)?,
        None => Vec::new(),
    };
    let is_strange = |id: &str| tasks.iter().all(|task| task.id != id);
    let strangers = generated.iter().filter(|(id, _)| is_strange(id)).count();
    if strangers > 0 {
        let (all, tasks) = (generated.len(), &args.tasks);
        say!(
            "note: {strangers} of {all} sets of further pairs are of no task of {tasks}; they are left out"
        );
    }
    // The list guards against contamination, so that a misspelt id should not pass unseen.
    let unknown: Vec<&str> =
        config.data.exclude.iter().map(String::as_str).filter(|id| is_strange(id)).collect();
    if !unknown.is_empty() {
        say!("note: data.exclude names no task of {}: {}", args.tasks, unknown.join(", "));
    }
    Ok(Corpus::new(tasks, generated, config))
}

impl Args {
    /// What the run needs for going on.
    fn state(&self) -> PathBuf {
        self.out.join(STATE)
    }

    /// Makes the run's folder, or goes on from what it holds; says whether it holds anything.
    fn resume(&self, trainer: &mut impl Training) -> anyhow::Result<bool> {
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("making {}", self.out.display()))?;
        if !self.state().exists() {
            return Ok(false);
        }
        trainer.resume(&self.state())?;
        let (steps, minutes) = (trainer.steps(), trainer.seconds() / 60.0);
        say!("continuing after step {steps} ({minutes:.1} min)");
        Ok(true)
    }
}

/// Trains until the run is done or interrupted.
fn go<T: Training>(
    trainer: &mut T,
    corpus: &Corpus,
    until: Until,
    args: &Args,
    global: &Global,
) -> anyhow::Result<Outcome> {
    let (train, held_out) = (corpus.train.len(), corpus.held_out.len());
    say!("{} weights; {train} tasks to train on, {held_out} held out", trainer.n_weights());
    if trainer.share(until) >= 1.0 {
        say!("the run in {} is at its end already; give more to go on", args.out.display());
    }
    let save = |trainer: &T| -> anyhow::Result<PathBuf> {
        // The model first: a state without it would have lost the manifest of an earlier run.
        let model = trainer.export(&args.out)?;
        trainer.save(&args.state())?;
        Ok(model)
    };
    let interrupted = super::interrupt::flag();
    let mut log = Log::new(T::UNIT);
    let mut saved = Instant::now();
    let every = Duration::from_secs_f64(args.checkpoint_every * 60.0);
    while trainer.share(until) < 1.0 && !interrupted.load(Ordering::Relaxed) {
        log.add(&trainer.train_step(until)?);
        if saved.elapsed() >= every {
            save(trainer)?;
            log.print(trainer.evaluate()?);
            saved = Instant::now();
        } else if log.seconds >= LOG_EVERY {
            log.print(Evaluation::default());
        }
    }
    let model = save(trainer)?;
    let evaluation = trainer.evaluate()?;
    log.print(evaluation);
    let done = trainer.share(until) >= 1.0;
    if !done {
        say!("interrupted; run the same command to go on");
    }
    if global.json {
        let Evaluation { held_out, trained } = evaluation;
        let summary = serde_json::json!({
            "steps": trainer.steps(),
            "seconds": trainer.seconds(),
            "done": done,
            "held_out_loss": held_out.map(|h| h.loss),
            "held_out_exact": held_out.map(|h| h.exact),
            "trained_loss": trained.map(|t| t.loss),
            "trained_exact": trained.map(|t| t.exact),
            "model": model,
        });
        terminal::print(&format!("{summary}\n"))?;
    }
    Ok(if done { Outcome::Done } else { Outcome::Interrupted })
}

/// A recipe's text with the changes of the command line in it.
struct Recipe {
    name: String,
    table: toml::Table,
}

impl Recipe {
    /// Reads the settings and applies `table.key=value` changes.
    fn read(path: Option<&Path>, overrides: &[String]) -> anyhow::Result<Self> {
        let (text, name) = match path {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()))?;
                (text, path.display().to_string())
            }
            None => (DEFAULT_RECIPE.to_owned(), "the built-in recipe".to_owned()),
        };
        let mut table: toml::Table = text.parse().with_context(|| format!("reading {name}"))?;
        for change in overrides {
            let (key, value) =
                change.split_once('=').with_context(|| format!("`--set {change}` has no `=`"))?;
            let value: toml::Table = format!("value = {value}")
                .parse()
                .or_else(|_| format!("value = \"{value}\"").parse())
                .with_context(|| format!("`{value}` in `--set {change}`"))?;
            let mut keys: Vec<&str> = key.split('.').collect();
            let last = keys.pop().unwrap_or_default();
            // A key that there is nowhere is named when the whole is read.
            let place = keys
                .iter()
                .try_fold(&mut table, |t, k| t.get_mut(*k).and_then(toml::Value::as_table_mut))
                .with_context(|| {
                    format!("`--set {change}`: the recipe has no table for `{key}`")
                })?;
            place.insert(last.to_owned(), value["value"].clone());
        }
        Ok(Self { name, table })
    }

    /// Whether it is a language model's: only those have an architecture.
    fn is_for_text(&self) -> bool {
        self.table.get("model").is_some_and(|model| model.get("architecture").is_some())
    }

    fn parse<M: DeserializeOwned>(&self) -> anyhow::Result<PretrainConfig<M>> {
        let name = &self.name;
        let config: PretrainConfig<M> =
            self.table.clone().try_into().with_context(|| format!("in {name}"))?;
        if let Some(problem) = config.problem() {
            bail!("in {name}: {problem}");
        }
        Ok(config)
    }
}

/// Running means since the last line.
struct Log {
    unit: &'static str,
    formats: [FormatProgress; 2],
    n_cells: usize,
    seconds: f64,
    last: Option<Progress>,
}

impl Log {
    fn new(unit: &'static str) -> Self {
        Self { unit, formats: Default::default(), n_cells: 0, seconds: 0.0, last: None }
    }

    fn add(&mut self, progress: &Progress) {
        // How long the first step of a process took is not known.
        if let Some(last) = self.last {
            self.seconds += progress.seconds - last.seconds;
            self.n_cells += progress.n_cells;
        }
        self.formats.iter_mut().zip(progress.formats).for_each(|(sum, p)| sum.add(p));
        self.last = Some(*progress);
    }

    fn print(&mut self, evaluation: Evaluation) {
        if let Some(line) = self.line(evaluation) {
            say!("{line}");
        }
        *self = Log { last: self.last, ..Log::new(self.unit) };
    }

    fn line(&self, evaluation: Evaluation) -> Option<String> {
        let mut line = String::new();
        if let Some(p) = self.last {
            let (minutes, percent) = (p.seconds / 60.0, 100.0 * p.share);
            line += &format!("step {:>6}  {minutes:>5.1} min  {percent:>4.1} %", p.step);
            if self.seconds > 0.0 {
                let rate = self.n_cells as f64 / self.seconds;
                line += &format!("  {rate:>6.0} {}/s", self.unit);
            }
            let left = minutes / p.share.max(1e-9) * (1.0 - p.share).max(0.0);
            line += &format!("  left {left:.0} min");
        }
        for (name, f) in ["icl", "e2e"].iter().zip(self.formats) {
            if f.queries > 0 {
                let n = f.queries as f32;
                line +=
                    &format!("  {name} {:.4} {:>4.1} %", f.loss / n, 100.0 * f.exact as f32 / n);
            }
        }
        for (name, answers) in [("trained", evaluation.trained), ("held out", evaluation.held_out)]
        {
            if let Some(a) = answers {
                line += &format!("  {name} {:.4} {:.1} %", a.loss, 100.0 * a.exact);
            }
        }
        let line = line.trim_start();
        (!line.is_empty()).then(|| line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::Answers;

    #[test]
    fn a_line_of_progress_has_the_family_s_unit_and_the_mean_of_its_steps() {
        let mut log = Log::new("tokens");
        assert_eq!(log.line(Evaluation::default()), None);
        for step in 1..=3 {
            let format = FormatProgress { loss: 2.0 * step as f32, exact: step - 1, queries: 4 };
            let (seconds, share) = (60.0 + step as f64, 0.5);
            let formats = [format, FormatProgress::default()];
            log.add(&Progress { step, seconds, share, n_cells: 100, formats });
        }
        let held_out = Some(Answers { loss: 0.25, exact: 0.125 });
        let evaluation = Evaluation { held_out, trained: None };
        assert_eq!(
            log.line(evaluation).unwrap(),
            "step      3    1.1 min  50.0 %     100 tokens/s  left 1 min  icl 1.0000 25.0 %  held out 0.2500 12.5 %"
        );
    }
}
