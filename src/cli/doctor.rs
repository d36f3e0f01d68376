//! The command `doctor`.

use std::path::{Path, PathBuf};

use burn::tensor::FloatDType;
use serde_json::{Value, json};

use super::fits::{Fit, SizeArgs, Speeds, fits, table};
use super::settings::{MachineArgs, cores};
use super::values::show_bytes;
use super::{BURN_VERSION, Global, Outcome, terminal, whole};
use crate::device::{self, DeviceChoice, DeviceError, DeviceInfo};
use crate::engine::Family;
use crate::llama::{LlamaConfig, missing_files};
use crate::memory;
use crate::public::{self, Hub, ResolveError};
use crate::recipe::{Recipe, for_family};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a checkpoint of the Llama family as --model, a folder, an identifier of the hub, or a config.json alone, it also \
tells what a fit takes: memory of weights, adapter and activations, on which cards that fits, and the seconds of a step. \
Nothing but the configuration is read or downloaded.
  arc-ttt doctor --model llama-3.2-1b/
  arc-ttt doctor --model config.json --ranks 32 --lengths 8192 --tflops 40")]
pub struct Args {
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    sizes: SizeArgs,
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
    let fits = match configuration(&args.machine.model) {
        None => {
            findings.push(model(&args.machine));
            Vec::new()
        }
        Some(Ok((folder, config))) => {
            let n = config.n_parameters();
            findings.push(finding("model", format!("{:?}, {n} weights", config.architecture)));
            findings.push(files(&folder, Path::new(&args.machine.model).is_dir()));
            let speeds = speeds(&args.machine.device, &mut findings);
            fits(&config, &args.sizes, &speeds)
        }
        Some(Err(error)) => {
            findings.push(Finding { problem: true, ..finding("model", whole(&error)) });
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
            terminal::print(&table(&fits, args.sizes.tflops))?;
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
        Err(error) => Finding { problem: true, ..finding("model", whole(&error)) },
    }
}

/// The folder and the configuration of a checkpoint of the Llama family, if the name is one's folder, its configuration's
/// file, or an identifier.
fn configuration(name: &str) -> Option<anyhow::Result<(PathBuf, LlamaConfig)>> {
    let path = Path::new(name);
    let folder = if path.ends_with("config.json") && path.is_file() {
        Ok(path.parent().unwrap_or(path).to_owned())
    } else if Family::of(name) == Family::Grid {
        return None;
    } else if path.is_dir() {
        Ok(path.to_owned())
    } else {
        Hub::from_environment().and_then(|hub| hub.configuration(name))
    };
    let load = |folder: PathBuf| {
        let config = LlamaConfig::load(&folder)?;
        Ok((folder, config))
    };
    Some(folder.map_err(anyhow::Error::from).and_then(load))
}

/// Which files of a checkpoint are not there; `whole` says that it is meant to be used, and not its configuration alone.
fn files(folder: &Path, whole: bool) -> Finding {
    let (problem, says) = match missing_files(folder) {
        Ok(files) if files.is_empty() => (false, "configuration, tokenizer and weights".to_owned()),
        Ok(files) => {
            let files = files.join(", ");
            (
                whole,
                format!("{files} missing; the table needs config.json alone, a run all of them"),
            )
        }
        Err(error) => (true, error.to_string()),
    };
    Finding { problem, ..finding("files", says) }
}

/// Speed of the device that is asked for, in each format of the table that it would run.
fn speeds(device: &str, findings: &mut Vec<Finding>) -> Speeds {
    let opened = device.parse().and_then(device::open);
    let (device, choice) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            findings.push(Finding { problem: true, ..finding("speed", error.to_string()) });
            return Vec::new();
        }
    };
    let formats: &[_] = match choice {
        DeviceChoice::Cpu => &[("f32 CPU", FloatDType::F32)],
        _ => &[("bf16", FloatDType::BF16), ("f32", FloatDType::F32)],
    };
    let speeds: Speeds =
        formats.iter().map(|(name, dtype)| (*name, device::speed(&device, *dtype))).collect();
    let says = speeds.iter().map(|(name, speed)| format!("{:.2} TFLOP/s in {name}", speed / 1e12));
    let says = says.collect::<Vec<_>>().join(", ");
    findings.push(finding("speed", format!("{choice}: {says}, large products")));
    speeds
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
