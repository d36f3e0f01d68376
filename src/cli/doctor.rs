//! The command `doctor`.

use serde_json::{Value, json};

use super::settings::{MachineArgs, cores};
use super::values::show_bytes;
use super::{BURN_VERSION, Global, Outcome, terminal};
use crate::device::{self, DeviceError, DeviceInfo};
use crate::memory;
use crate::public::{self, ResolveError};
use crate::recipe::{Recipe, for_family};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    machine: MachineArgs,
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
    findings.push(model(&args.machine));
    findings.extend(data_sets());
    if global.json {
        let object: serde_json::Map<String, Value> = findings
            .iter()
            .map(|f| (f.what.clone(), json!({"says": f.says, "problem": f.problem})))
            .collect();
        terminal::print(&format!("{}\n", Value::Object(object)))?;
    } else {
        for f in &findings {
            let mark = if f.problem { "!" } else { " " };
            terminal::print(&format!("{mark} {:<34} {}\n", f.what, f.says))?;
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
