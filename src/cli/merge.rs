//! The command `merge`.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::{Global, Outcome, terminal};
use crate::memory;
use crate::run;

/// Arguments of `merge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, on the second of four machines, and where the four folders are together:
  arc-ttt solve arc-agi-2/evaluation --budget 30s --shard 2/4 --out runs/part-2
  arc-ttt merge runs/whole runs/part-*")]
pub struct Args {
    /// The run directory to write.
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// The run directories of all shards.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let directory = run::merge(&args.out, &args.runs)?;
    let records = directory.records().values();
    let failed = records.clone().filter(|record| record.failed.is_some()).count();
    let submission = directory.submission();
    if global.json {
        let object = json!({
            "tasks": records.len(),
            "failed": failed,
            "seconds": began.elapsed().as_secs_f64(),
            "peak_memory_bytes": memory::peak_bytes(),
            "submission": submission,
            "run": directory.path(),
        });
        terminal::print(&format!("{object}\n"))?;
    } else {
        say!("{} tasks of {} runs in {}", records.len(), args.runs.len(), args.out.display());
        terminal::print(&format!("{}\n", submission.display()))?;
    }
    Ok(if failed > 0 { Outcome::SomeFailed } else { Outcome::Done })
}
