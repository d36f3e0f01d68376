//! The command `synth`: tasks by this project's own generators, as files and as pictures.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Map, json};

use super::{Global, Outcome, terminal};
use crate::arc::{MAX_SIDE, Task, Test};
use crate::render::{contact_sheet, png_bytes};
use crate::synth::{self, Family, Sampled, StreamConfig};

/// Arguments of `synth`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arc-ttt synth --list                                  the families of tasks
  arc-ttt synth --family flip --png flip.png            look at ten tasks of one
  arc-ttt synth --family flip --family rays --out tasks/
  arc-ttt synth --count 100 --seed 7 > tasks.json
  arc-ttt synth --demo > data/tasks/demo.json")]
pub struct Args {
    /// Family to draw from, by name; may be given more than once. Without it: the mix of pre-training.
    #[arg(long, value_name = "NAME")]
    family: Vec<String>,
    /// List the families and stop.
    #[arg(long, conflicts_with_all = ["family", "out", "png"])]
    list: bool,
    /// Number of tasks (of each family that is named).
    #[arg(long, default_value_t = 10, value_name = "N")]
    count: usize,
    /// Seed of the random streams.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Largest side of a grid, 3 to 30.
    #[arg(long, default_value_t = 16, value_name = "N")]
    max_side: usize,
    /// Demonstrations of a task; each task has one test.
    #[arg(long, default_value_t = 3, value_name = "N")]
    examples: usize,
    /// Write one file a task to this folder, instead of all to standard output.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Draw the tasks on one sheet, instead of writing them to standard output.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Make the demonstration tasks that ship with the program.
    #[arg(long, conflicts_with_all = ["family", "list", "seed", "count", "max_side", "examples"])]
    demo: bool,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    if args.list {
        terminal::print(&list(global.json))?;
        return Ok(Outcome::Done);
    }
    let side = args.max_side;
    ensure!(
        (3..=MAX_SIDE).contains(&side),
        "--max-side is {side}; it must be from 3 to {MAX_SIDE}"
    );
    ensure!(args.examples > 0, "--examples is 0; a task has at least one demonstration");
    let tasks = if args.demo {
        synth::demo_tasks()
    } else if args.family.is_empty() {
        mixed_tasks(&args)?
    } else {
        tasks_of_families(&args)?
    };
    if let Some(path) = &args.png {
        let image = png_bytes(&contact_sheet(&tasks));
        fs::write(path, image).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(folder) = &args.out {
        write_files(folder, &tasks)?;
    }
    let is_kept = args.png.is_some() || args.out.is_some();
    if args.demo && !global.json && !is_kept {
        terminal::print(&synth::demo_json(&tasks))?;
    } else if global.json || !is_kept {
        let all: Map<_, _> = tasks.iter().map(|task| (task.id.clone(), json!(task))).collect();
        terminal::print(&format!("{}\n", json!(all)))?;
    }
    Ok(Outcome::Done)
}

fn list(as_json: bool) -> String {
    let group = |family: &Family| format!("{:?}", family.group).to_lowercase();
    if as_json {
        let row = |f: &Family| json!({"name": f.name, "group": group(f), "difficulty": f.difficulty, "about": f.about});
        let rows: Vec<_> = synth::families().iter().map(row).collect();
        return format!("{}\n", json!({"families": rows}));
    }
    let row = |f: &Family| format!("{:<20} {:<9} {} {}\n", f.name, group(f), f.difficulty, f.about);
    synth::families().iter().map(row).collect()
}

/// Tasks of the stream that pre-training draws from; the last example of each is its test.
fn mixed_tasks(args: &Args) -> anyhow::Result<Vec<Task>> {
    let least = synth::MIN_STREAM_SIDE;
    ensure!(args.max_side >= least, "the mix of all families needs --max-side {least} or more");
    let n = args.examples + 1;
    let config = StreamConfig {
        seed: args.seed,
        max_side: args.max_side,
        n_examples: (n, n),
        ..StreamConfig::default()
    };
    let as_task = |(index, sampled): (usize, Sampled)| {
        let then = sampled.then.map_or(String::new(), |family| format!("+{}", family.name));
        let id = format!("{index:05}-{}{then}", sampled.family.name);
        let mut examples = sampled.examples;
        let last = examples.pop().into_iter();
        let tests = last.map(|e| Test { input: e.input, output: Some(e.output) }).collect();
        Task { id, examples, tests }
    };
    Ok(synth::stream(config).take(args.count).enumerate().map(as_task).collect())
}

fn tasks_of_families(args: &Args) -> anyhow::Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for name in &args.family {
        let family = synth::family(name).with_context(|| {
            format!("no family is called `{name}`; `arc-ttt synth --list` lists them")
        })?;
        for index in 0..args.count as u64 {
            let task = synth::task_at(family, args.seed, index, args.examples, args.max_side);
            let task = task.with_context(|| {
                let (n, side) = (args.examples, args.max_side);
                format!(
                    "`{name}` has no task of {n} demonstrations in grids of {side}×{side}; give more of \
                     --examples or --max-side"
                )
            })?;
            tasks.push(Task { id: format!("{name}-{index:04}"), ..task });
        }
    }
    Ok(tasks)
}

fn write_files(folder: &Path, tasks: &[Task]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("making the folder {}", folder.display()))?;
    for task in tasks {
        let path = folder.join(format!("{}.json", task.id));
        let text = format!("{}\n", json!(task));
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
