//! The command `synth`: tasks by this project's own generators, as files and as pictures.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use image::{Rgb, RgbImage};
use serde_json::{Map, json};

use super::{Global, Outcome};
use crate::arc::{Grid, Task, Test};
use crate::synth::{self, Family, StreamConfig};

/// Arguments of `synth`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Family to draw from; may be given more than once. Without it: the mix that pre-training sees.
    #[arg(long, value_name = "NAME")]
    family: Vec<String>,
    /// List the families and stop.
    #[arg(long)]
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
    /// Draw the tasks on a contact sheet.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Make the demonstration tasks that ship with the program.
    #[arg(long, conflicts_with_all = ["family", "list", "seed", "count", "max_side", "examples"])]
    demo: bool,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    if args.list {
        list(global.json);
        return Ok(Outcome::Done);
    }
    anyhow::ensure!(
        (3..=30).contains(&args.max_side),
        "--max-side is {}; it must be from 3 to 30",
        args.max_side
    );
    anyhow::ensure!(args.examples > 0, "--examples is 0; a task has at least one demonstration");
    let tasks = if args.demo { synth::demo_tasks() } else { make_tasks(&args)? };
    if let Some(path) = &args.png {
        let sheet = draw_sheet(&tasks);
        sheet.save(path).with_context(|| format!("writing {}", path.display()))?;
    }
    match &args.out {
        Some(folder) => write_files(folder, &tasks)?,
        None if args.demo => print!("{}", synth::demo_json(&tasks)),
        None if args.png.is_none() || global.json => {
            let all: Map<_, _> = tasks.iter().map(|t| (t.id.clone(), json!(t))).collect();
            println!("{}", json!(all));
        }
        None => {}
    }
    Ok(Outcome::Done)
}

fn list(as_json: bool) {
    let group = |family: &Family| format!("{:?}", family.group).to_lowercase();
    if as_json {
        let rows: Vec<_> = synth::families()
            .iter()
            .map(|f| {
                json!({"name": f.name, "group": group(f), "difficulty": f.difficulty, "about": f.about})
            })
            .collect();
        println!("{}", json!(rows));
        return;
    }
    for f in synth::families() {
        println!("{:<22} {:<9} {}  {}", f.name, group(f), f.difficulty, f.about);
    }
}

fn make_tasks(args: &Args) -> anyhow::Result<Vec<Task>> {
    if args.family.is_empty() {
        anyhow::ensure!(args.max_side >= 10, "the mix of all families needs --max-side 10 or more");
        let n_examples = (args.examples + 1, args.examples + 1);
        let config = StreamConfig {
            seed: args.seed,
            max_side: args.max_side,
            n_examples,
            ..Default::default()
        };
        let sampled = synth::stream(config).take(args.count).enumerate();
        return Ok(sampled.map(|(i, sampled)| as_task(i, sampled)).collect());
    }
    let mut tasks = Vec::new();
    for name in &args.family {
        let family = synth::family(name)
            .with_context(|| format!("no family is called `{name}`; `synth --list` lists them"))?;
        for index in 0..args.count {
            let mut rng = crate::rng::stream(args.seed, family.name, "synth", index as u64);
            let task = synth::sample_task(family, &mut rng, args.examples, 1, args.max_side)
                .with_context(|| {
                    format!("no room for `{name}` in grids of {}; raise --max-side", args.max_side)
                })?;
            tasks.push(Task { id: format!("{name}-{index:04}"), ..task });
        }
    }
    Ok(tasks)
}

fn as_task(index: usize, sampled: synth::Sampled) -> Task {
    let then = sampled.then.map_or(String::new(), |f| format!("+{}", f.name));
    let id = format!("{index:05}-{}{then}", sampled.family.name);
    let mut examples = sampled.examples;
    let last = examples.pop().into_iter();
    let tests = last.map(|e| Test { input: e.input, output: Some(e.output) }).collect();
    Task { id, examples, tests }
}

fn write_files(folder: &Path, tasks: &[Task]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("making the folder {}", folder.display()))?;
    for task in tasks {
        let path = folder.join(format!("{}.json", task.id));
        let text = serde_json::to_string(task)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Pixels a cell and around a grid.
const CELL: u32 = 9;
const GAP: u32 = 10;

/// The usual colors of ARC.
const COLORS: [[u8; 3]; 10] = [
    [0, 0, 0],
    [0, 116, 217],
    [255, 65, 54],
    [46, 204, 64],
    [255, 220, 0],
    [170, 170, 170],
    [240, 18, 190],
    [255, 133, 27],
    [127, 219, 255],
    [135, 12, 37],
];

/// A row of grids for each task: demonstrations, a gap, the test and its answer.
fn draw_sheet(tasks: &[Task]) -> RgbImage {
    let rows: Vec<Vec<(&Grid, u32)>> = tasks
        .iter()
        .map(|task| {
            let examples =
                task.examples.iter().flat_map(|e| [(&e.input, GAP / 2), (&e.output, 2 * GAP)]);
            let tests = task
                .tests
                .iter()
                .flat_map(|t| [(Some(&t.input), GAP / 2), (t.output.as_ref(), 2 * GAP)]);
            examples.chain(tests.filter_map(|(grid, gap)| grid.map(|g| (g, gap)))).collect()
        })
        .collect();
    let width = |row: &[(&Grid, u32)]| {
        row.iter().map(|(g, gap)| g.width() as u32 * CELL + gap).sum::<u32>()
    };
    let height = |row: &[(&Grid, u32)]| {
        row.iter().map(|(g, _)| g.height() as u32 * CELL).max().unwrap_or(0) + 2 * GAP
    };
    let total_width = rows.iter().map(|row| width(row)).max().unwrap_or(1) + GAP;
    let total_height = rows.iter().map(|row| height(row)).sum::<u32>() + GAP;
    let mut sheet = RgbImage::from_pixel(total_width, total_height, Rgb([255, 255, 255]));
    let mut top = GAP;
    for row in &rows {
        let mut left = GAP;
        for &(grid, gap) in row {
            draw_grid(&mut sheet, grid, left, top);
            left += grid.width() as u32 * CELL + gap;
        }
        top += height(row);
    }
    sheet
}

fn draw_grid(sheet: &mut RgbImage, grid: &Grid, left: u32, top: u32) {
    for (r, row) in grid.rows().enumerate() {
        for (c, &color) in row.iter().enumerate() {
            let (x, y) = (left + c as u32 * CELL, top + r as u32 * CELL);
            for (i, j) in (0..CELL * CELL).map(|k| (k % CELL, k / CELL)) {
                let line = i == 0 || j == 0;
                let rgb = if line { [85, 85, 85] } else { COLORS[usize::from(color)] };
                sheet.put_pixel(x + i, y + j, Rgb(rgb));
            }
        }
    }
}
