//! The command `report`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use serde_json::json;

use super::{Global, Outcome, terminal};
use crate::arc::write_atomically;
use crate::memory;
use crate::report::{Side, report};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The page is one file that opens from disk and fetches nothing: summary, method, charts, and every task with its \
attempts, candidates and fit. With two runs it also says what one solves and the other does not.

Answers come from the tasks themselves or from --solutions; where there are none, nothing is judged.

Examples:
  arc-ttt report runs/mine                        writes runs/mine/report.html
  arc-ttt report runs/ttt runs/baseline -o compare.html
  arc-ttt report runs/files --solutions my_solutions.json
  arc-ttt report runs/mine --tasks moved/tasks    where the tasks are now")]
pub struct Args {
    /// A run directory, made by `solve` or `merge`.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Another run on the same tasks, to compare it with.
    #[arg(value_name = "RUN2")]
    other: Option<PathBuf>,
    /// The file to write [default: report.html in RUN].
    #[arg(short, long, alias = "out", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the tasks are, if they are no longer where the run had them; as TASKS of `solve`.
    #[arg(long, value_name = "TASKS")]
    tasks: Option<String>,
    /// Kaggle's file of answers; a *_solutions.json beside a *_challenges.json is found without this.
    #[arg(long, value_name = "FILE")]
    solutions: Option<PathBuf>,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let read = |path| Side::read(path, args.tasks.as_deref(), args.solutions.as_deref());
    let first = read(&args.run)?;
    let second = args.other.as_deref().map(read).transpose()?;
    let page = report(&first, second.as_ref())?;
    let file = args.output.clone().unwrap_or_else(|| args.run.join("report.html"));
    write_atomically(&file, page.html.as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))?;
    if global.json {
        let object = json!({
            "report": file,
            "bytes": page.html.len(),
            "runs": page.runs,
            "versus": page.versus,
            "seconds": began.elapsed().as_secs_f64(),
            "peak_memory_bytes": memory::peak_bytes(),
        });
        terminal::print(&format!("{object}\n"))?;
    } else {
        let megabytes = page.html.len() as f64 / 1e6;
        say!("{} tasks, {megabytes:.1} MB", first.dataset.tasks.len());
        terminal::print(&format!("{}\n", file.display()))?;
    }
    Ok(Outcome::Done)
}
