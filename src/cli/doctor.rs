//! The command `doctor`.

use std::path::Path;

use serde_json::{Value, json};

use super::settings::{MachineArgs, cores};
use super::values::show_bytes;
use super::{BURN_VERSION, Global, Outcome, terminal};
use crate::device::{self, DeviceError, DeviceInfo};
use crate::llama::{Budget, ConfigError, LlamaConfig, Target, Workload};
use crate::memory;
use crate::public::{self, ResolveError};
use crate::recipe::{Recipe, for_family};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a checkpoint of the Llama family as --model, a folder or a config.json alone, it also tells what a fit takes:
memory of weights, adapter and activations, and on which sizes of devices that fits.
  arc-ttt doctor --model llama-3.2-1b/
  arc-ttt doctor --model config.json --ranks 32 --lengths 8192")]
pub struct Args {
    #[command(flatten)]
    machine: MachineArgs,
    /// Ranks of an adapter on q, v and the MLP, for the table of a language model
    #[arg(long, value_name = "RANK", num_args = 1.., default_values_t = [16, 128])]
    ranks: Vec<usize>,
    /// Tokens of a sequence, for the same table
    #[arg(long, value_name = "TOKENS", num_args = 1.., default_values_t = [2048, 4096, 8192])]
    lengths: Vec<usize>,
    /// Sequences in a step, for the same table
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
}

/// A line of the report, and whether something is to be mended.
struct Finding {
    what: String,
    says: String,
    problem: bool,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let mut findings = vec![
        finding("version", format!("arc-ttt {}, Burn {BURN_VERSION}", env!("CARGO_PKG_VERSION"))),
        finding("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        finding("threads", format!("{} of {} cores", args.machine.threads(), cores())),
        finding("simd", simd().join(" ")),
        finding("memory", memory::total_bytes().map_or("unknown".to_owned(), show_bytes)),
    ];
    findings.extend(devices());
    let language_model = llama_config(&args.machine.model);
    let fits = match &language_model {
        None => {
            findings.push(model(&args.machine));
            Vec::new()
        }
        Some(Ok(config)) => {
            let n = config.n_parameters();
            findings.push(finding("model", format!("{:?}, {n} weights", config.architecture)));
            fits(config, &args)
        }
        Some(Err(error)) => {
            findings.push(Finding { problem: true, ..finding("model", error.to_string()) });
            Vec::new()
        }
    };
    findings.extend(data_sets());
    if global.json {
        let mut object: serde_json::Map<String, Value> = findings
            .iter()
            .map(|f| (f.what.clone(), json!({"says": f.says, "problem": f.problem})))
            .collect();
        if !fits.is_empty() {
            object.insert("fits".into(), fits.iter().map(Fit::json).collect());
        }
        terminal::print(&format!("{}\n", Value::Object(object)))?;
    } else {
        for f in &findings {
            let mark = if f.problem { "!" } else { " " };
            terminal::print(&format!("{mark} {:<34} {}\n", f.what, f.says))?;
        }
        if !fits.is_empty() {
            terminal::print(&table(&fits))?;
        }
    }
    Ok(if findings.iter().any(|f| f.problem) { Outcome::SomeFailed } else { Outcome::Done })
}

fn finding(what: &str, says: String) -> Finding {
    Finding { what: what.to_owned(), says, problem: false }
}

/// Every device of this build's backends, and what the other backends would need.
fn devices() -> Vec<Finding> {
    let of = |device: DeviceInfo| {
        let what = format!("device {}", device.name);
        match device.problem {
            None => finding(&what, device.description),
            // A backend that was not built is a choice, not a problem.
            Some(error @ DeviceError::NotBuilt { .. }) => finding(&what, error.to_string()),
            Some(error) => Finding { problem: true, ..finding(&what, error.to_string()) },
        }
    };
    device::devices().into_iter().map(of).collect()
}

/// The base model, loaded on the device that is asked for.
fn model(machine: &MachineArgs) -> Finding {
    let recipe = Recipe::resolve::<&str>(&for_family("default", machine.family()), &[]);
    match recipe.map_err(anyhow::Error::from).and_then(|recipe| machine.load_engine(&recipe)) {
        Ok(engine) => {
            let info = engine.info();
            let trained = engine
                .training_pairs()
                .map_or("unknown".to_owned(), |pairs| format!("{}", pairs.hashes().len()));
            let says = format!(
                "{} ({} weights, {trained} training pairs, sha256 {:.12}) on {}",
                info.name, info.parameters, info.sha256, info.device
            );
            finding("model", says)
        }
        Err(error) => Finding { problem: true, ..finding("model", format!("{error:#}")) },
    }
}

/// The configuration of a checkpoint of the Llama family, if the name is one's folder or file.
fn llama_config(name: &str) -> Option<Result<LlamaConfig, ConfigError>> {
    let path = Path::new(name);
    if path.is_dir() {
        return Some(LlamaConfig::load(path));
    }
    let folder = path.parent().filter(|_| path.ends_with("config.json") && path.is_file())?;
    Some(LlamaConfig::load(folder))
}

/// Memory of the devices in the table, in GB (10⁹ bytes) as they are sold.
const DEVICES: [u64; 3] = [16, 24, 80];

/// What a device's own programs take of it, in bytes, and the share of the rest that can be had in one piece.
const RESERVED: u64 = 600_000_000;
const USABLE: f64 = 0.95;

/// A line of the table.
struct Fit {
    dtype: &'static str,
    work: Workload,
    budget: Budget,
}

impl Fit {
    fn on(&self, gigabytes: u64) -> bool {
        let room = (gigabytes * 1_000_000_000 - RESERVED) as f64 * USABLE;
        self.budget.fitting().max(self.budget.decoding()) as f64 <= room
    }

    fn json(&self) -> Value {
        let fits: serde_json::Map<String, Value> =
            DEVICES.iter().map(|&gb| (format!("{gb}"), self.on(gb).into())).collect();
        json!({
            "dtype": self.dtype, "fused": self.work.fused, "rows": self.work.rows,
            "rank": self.work.rank, "length": self.work.length,
            "gradient_checkpointing": self.work.gradient_checkpointing,
            "bytes": self.budget, "fitting_bytes": self.budget.fitting(),
            "decoding_bytes": self.budget.decoding(), "fits_gb": fits,
        })
    }
}

/// What fits of all asked sizes take.
fn fits(config: &LlamaConfig, args: &Args) -> Vec<Fit> {
    let mut all = Vec::new();
    let mut lengths: Vec<usize> = args.lengths.iter().map(|&n| n.min(config.max_length)).collect();
    lengths.dedup();
    for (dtype, weight_bytes, fused) in
        [("bf16", 2, false), ("f32", 4, false), ("f32 CPU", 4, true)]
    {
        for &rank in &args.ranks {
            for &length in &lengths {
                for gradient_checkpointing in [false, true] {
                    let rows = args.rows as usize;
                    let mlp = [Target::GateProj, Target::UpProj, Target::DownProj];
                    let adapted = [&[Target::QProj, Target::VProj][..], &mlp].concat();
                    let targets = rows * length / 3;
                    let work = Workload {
                        rows,
                        length,
                        targets,
                        rank,
                        adapted,
                        weight_bytes,
                        gradient_checkpointing,
                        fused,
                    };
                    all.push(Fit { dtype, budget: config.budget(&work), work });
                }
            }
        }
    }
    all
}

/// The table for people.
fn table(fits: &[Fit]) -> String {
    let mut text = String::from(
        "\nA fit, in GB: one step, LoRA on q, v and the MLP, a third of the tokens learnt. f32 CPU runs fused; other\n\
         devices keep the attention's scores. Decoding is a cache of as many tokens. Estimates; leave some room.\n\n",
    );
    let gb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e9);
    let mut lines = vec![
        [
            "dtype",
            "rank",
            "length",
            "checkpoints",
            "weights",
            "adapter",
            "activations",
            "fit",
            "decoding",
            "TFLOP",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    lines[0].extend(DEVICES.map(|gb| format!("{gb} GB")));
    for fit in fits {
        let b = &fit.budget;
        let mut line = vec![
            fit.dtype.to_owned(),
            fit.work.rank.to_string(),
            fit.work.length.to_string(),
            if fit.work.gradient_checkpointing { "yes" } else { "no" }.to_owned(),
            gb(b.weights),
            gb(b.adapter + b.gradients + b.optimizer),
            gb(b.activations),
            gb(b.fitting()),
            gb(b.decoding()),
            format!("{:.1}", b.flop as f64 / 1e12),
        ];
        line.extend(DEVICES.map(|gb| if fit.on(gb) { "fits" } else { "-" }.to_owned()));
        lines.push(line);
    }
    let width = |i: usize| lines.iter().map(|line| line[i].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// The data sets, and whether they are here.
fn data_sets() -> Vec<Finding> {
    let of = |name: &&str| {
        let what = format!("tasks {name}");
        match public::resolve(name) {
            Ok(dataset) => finding(&what, format!("{} tasks", dataset.tasks.len())),
            // Whoever needs no public set has nothing to mend.
            Err(error @ ResolveError::NotFetched { .. }) => finding(&what, error.to_string()),
            Err(error) => Finding { problem: true, ..finding(&what, error.to_string()) },
        }
    };
    public::names().iter().map(of).collect()
}

/// What the processor can do that the kernels make use of.
fn simd() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    for (name, has) in [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ] {
        if has {
            found.push(name);
        }
    }
    #[cfg(target_arch = "aarch64")]
    found.push("neon");
    if found.is_empty() {
        found.push("none");
    }
    found
}
