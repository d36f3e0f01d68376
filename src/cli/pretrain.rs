//! The command `pretrain`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::settings::cores;
use super::{Global, Outcome};
use crate::arc::{load_pair_folder, write_atomically};
use crate::device::open;
use crate::model::{StoredDtype, Weights};
use crate::pretrain::{Corpus, FormatProgress, HeldOut, PretrainConfig, Progress, Trainer, Until};
use crate::public;

/// The recipe that made the shipped model.
const DEFAULT_RECIPE: &str = include_str!("../../data/recipes/pretrain.toml");

/// The averaged weights in a run's folder.
const MODEL: &str = "model.safetensors";

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
  arc-ttt pretrain --re-arc re-arc/ --out runs/base --minutes 120   # after an interruption: goes on

The folder given by --out holds state.safetensors (everything needed to go on) and model.safetensors
(the averaged weights as 16-bit floats, for --model). Both are rewritten every few minutes.")]
pub struct Args {
    /// Settings: a TOML file; without it, those that made the shipped model
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
    /// Start from these weights instead of random ones: a model, or the folder of an earlier run, whose task tokens
    /// are taken over too
    #[arg(long, value_name = "FILE|DIR")]
    init: Option<PathBuf>,
    /// Train for this long, interruptions not counted; the learning rate lands on time
    #[arg(long, conflicts_with = "steps", required_unless_present = "steps")]
    minutes: Option<f64>,
    /// Train for this many steps; the result then depends on nothing but the settings and the data
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
    let config = read_recipe(args.recipe.as_deref(), &args.overrides)?;
    let (device, _) = open(args.device.parse()?)?;
    let tasks = public::resolve(&args.tasks)?.tasks;
    let generated = match &args.re_arc {
        Some(folder) => load_pair_folder(folder)?,
        None => Vec::new(),
    };
    let corpus = Corpus::new(tasks, generated, &config);
    let model_in = |folder: &Path| folder.join(MODEL);
    let earlier = args.init.as_deref().filter(|init| init.is_dir());
    let initial = match (earlier, &args.init) {
        (Some(folder), _) => Some(Weights::load(&model_in(folder))?),
        (None, file) => file.as_deref().map(Weights::load).transpose()?,
    };
    let until = match (args.minutes, args.steps) {
        (Some(minutes), _) if minutes > 0.0 => Until::Seconds(minutes * 60.0),
        (None, Some(steps)) => Until::Steps(steps),
        _ => bail!("--minutes must be above 0"),
    };
    std::fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    let state = args.out.join(STATE);
    let mut trainer = Trainer::new(&config, &corpus, initial.as_ref(), &device)?;
    if state.exists() {
        trainer.resume(&state)?;
        // Whoever continues without --init: what came before still counts.
        if let Some(pairs) = Weights::load(&model_in(&args.out))?.training_pairs {
            trainer.remember(&pairs);
        }
        eprintln!(
            "continuing after step {} ({:.1} min)",
            trainer.steps(),
            trainer.seconds() / 60.0
        );
    } else if let Some(folder) = earlier {
        let n = trainer.adopt_task_tokens(&folder.join(STATE))?;
        eprintln!("took over the task tokens of {n} tasks from {}", folder.display());
    }
    eprintln!(
        "{} weights; {} tasks to train on, {} held out",
        trainer.averaged().n_parameters(),
        corpus.train.len(),
        corpus.held_out.len()
    );
    let interrupted = super::interrupt::flag();
    let mut log = Log::default();
    let mut saved = Instant::now();
    let every = Duration::from_secs_f64(args.checkpoint_every * 60.0);
    while trainer.share(until) < 1.0 && !interrupted.load(std::sync::atomic::Ordering::Relaxed) {
        log.add(&trainer.train_step(until)?);
        if saved.elapsed() >= every {
            let held_out = trainer.evaluate();
            save(&trainer, &state, &args.out)?;
            log.print(held_out);
            saved = Instant::now();
        } else if log.seconds >= LOG_EVERY {
            log.print(None);
        }
    }
    save(&trainer, &state, &args.out)?;
    let held_out = trainer.evaluate();
    log.print(held_out);
    let done = trainer.share(until) >= 1.0;
    if !done {
        eprintln!("interrupted; run the same command to go on");
    }
    if global.json {
        let summary = serde_json::json!({
            "steps": trainer.steps(),
            "seconds": trainer.seconds(),
            "done": done,
            "held_out_loss": held_out.map(|h| h.loss),
            "held_out_exact": held_out.map(|h| h.exact),
            "model": model_in(&args.out),
        });
        println!("{summary}");
    }
    Ok(Outcome::Done)
}

fn save(trainer: &Trainer<'_>, state: &Path, out: &Path) -> anyhow::Result<()> {
    // The model first: a state without it would have lost the manifest of an earlier run.
    let model = out.join(MODEL);
    let bytes = trainer.weights().to_bytes(StoredDtype::F16);
    write_atomically(&model, &bytes).with_context(|| format!("writing {}", model.display()))?;
    Ok(trainer.save(state)?)
}

/// Reads the settings and applies `table.key=value` changes.
fn read_recipe(path: Option<&Path>, overrides: &[String]) -> anyhow::Result<PretrainConfig> {
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
        let place = keys
            .iter()
            .try_fold(&mut table, |t, k| t.get_mut(*k).and_then(toml::Value::as_table_mut))
            .filter(|t| t.contains_key(last))
            .with_context(|| format!("`--set {change}`: the recipe has no key `{key}`"))?;
        place.insert(last.to_owned(), value["value"].clone());
    }
    let config: PretrainConfig = table.try_into().with_context(|| format!("in {name}"))?;
    if let Some(problem) = config.model.problem() {
        bail!("in {name}: {problem}");
    }
    let [few, many] = config.episode.pairs;
    if few < 2 || many < few {
        bail!("in {name}: episode.pairs must be two numbers, the first at least 2, in order");
    }
    let [first, last] = config.episode.synth_difficulty;
    if !(1..=5).contains(&first) || !(1..=5).contains(&last) {
        bail!("in {name}: episode.synth_difficulty must be two numbers from 1 to 5");
    }
    Ok(config)
}

/// Running means since the last line.
#[derive(Default)]
struct Log {
    formats: [FormatProgress; 2],
    n_cells: usize,
    seconds: f64,
    last: Option<Progress>,
}

impl Log {
    fn add(&mut self, progress: &Progress) {
        self.seconds += progress.seconds - self.last.map_or(progress.seconds, |p| p.seconds);
        self.n_cells += progress.n_cells;
        for (sum, p) in self.formats.iter_mut().zip(progress.formats) {
            sum.loss += p.loss;
            sum.exact += p.exact;
            sum.queries += p.queries;
        }
        self.last = Some(*progress);
    }

    fn print(&mut self, held_out: Option<HeldOut>) {
        let Some(p) = self.last else { return };
        let eta = p.seconds / p.share.max(1e-9) * (1.0 - p.share) / 60.0;
        let mut line = format!(
            "step {:>6}  {:>5.1} min  {:>4.1} %  {:>6.0} cells/s  left {eta:.0} min",
            p.step,
            p.seconds / 60.0,
            100.0 * p.share,
            self.n_cells as f64 / self.seconds.max(1e-9),
        );
        for (name, f) in ["icl", "e2e"].iter().zip(self.formats) {
            let n = f.queries.max(1) as f32;
            line += &format!("  {name} {:.4} {:>4.1} %", f.loss / n, 100.0 * f.exact as f32 / n);
        }
        if let Some(h) = held_out {
            line += &format!("  held out {:.4} {:.1} %", h.loss, 100.0 * h.exact);
        }
        eprintln!("{line}");
        *self = Log { last: self.last, ..Log::default() };
    }
}
