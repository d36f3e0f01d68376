//! The command `show`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::json;

use super::input::Tasks;
use super::terminal::{self, Color};
use super::{Global, Outcome};
use crate::arc::{self, Attempts, Submission, Task};
use crate::evaluate::TaskScore;
use crate::render::{TerminalStyle, png_bytes, task_figure, to_image, to_terminal};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a submission, each attempt stands beside the answer, marked right or wrong; wrong cells are marked \
too (>< or * in the terminal, a cross in a picture).

Examples:
  arc-ttt show demo --limit 1
  arc-ttt show arc-agi-1/evaluation --tasks 00576224,e7639916
  arc-ttt show arc-agi-1/evaluation-dev --submission runs/mine --wrong --limit 5
  arc-ttt show arc-agi-1/training --tasks 007bbfb7 --png 007bbfb7.png
  arc-ttt show demo --png pictures/           one file a task
  arc-ttt show demo --color always | less -R")]
pub struct Args {
    #[command(flatten)]
    tasks: Tasks,
    /// Show the attempts in this submission.json, or in the one of this run directory.
    #[arg(long, value_name = "FILE")]
    submission: Option<PathBuf>,
    /// Only tasks that the submission does not solve.
    #[arg(long, requires = "submission")]
    wrong: bool,
    /// Show at most this many tasks.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Draw to this PNG file instead; several tasks go to a folder, one file each.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Whether the terminal is drawn to in 24-bit color; without it cells are digits.
    #[arg(long, value_enum, default_value = "auto")]
    color: Color,
    /// Columns to draw in; the terminal's own if not given.
    #[arg(long, value_name = "N")]
    width: Option<usize>,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let dataset = args.tasks.load()?;
    let submission = args.submission.as_deref().map(read_submission).transpose()?;
    let attempts = |task: &Task| -> Option<&[Attempts]> {
        submission.as_ref()?.tasks.get(&task.id).map(Vec::as_slice)
    };
    let solved = |task: &Task| TaskScore::of(task, attempts(task), None).solved();
    let wanted = |task: &&Task| !args.wrong || solved(task) == Some(false);
    let limit = args.limit.unwrap_or(usize::MAX);
    let tasks: Vec<&Task> = dataset.tasks.iter().filter(wanted).take(limit).collect();
    let pictures = match &args.png {
        Some(path) => draw_pictures(path, &tasks, attempts)?,
        None => Vec::new(),
    };
    if global.json {
        let row = |task: &&Task| {
            let solved = submission.as_ref().and_then(|_| solved(task));
            json!({"id": task.id, "train": task.examples, "test": task.tests, "solved": solved})
        };
        let rows: Vec<_> = tasks.iter().map(row).collect();
        let object = json!({"tasks": rows, "png": pictures, "failed": dataset.failed.len()});
        terminal::print(&format!("{object}\n"))?;
    } else if args.png.is_none() {
        let width = args.width.unwrap_or_else(terminal::width);
        let style = TerminalStyle { width, color: args.color.wanted() };
        for (i, task) in tasks.iter().enumerate() {
            let gap = if i > 0 { "\n" } else { "" };
            let figure = task_figure(task, attempts(task));
            terminal::print(&format!("{gap}{}", to_terminal(&figure, style)))?;
        }
    } else {
        pictures.iter().for_each(|path| say!("drew {}", path.display()));
    }
    if tasks.is_empty() {
        let name = &dataset.name;
        let why = if args.wrong && limit > 0 {
            format!("; no task of {name} is known to be answered wrongly")
        } else {
            String::new()
        };
        say!("note: nothing to show{why}");
    }
    Ok(if dataset.unusable().next().is_none() { Outcome::Done } else { Outcome::BadInput })
}

fn read_submission(path: &Path) -> anyhow::Result<Submission> {
    let file = if path.is_dir() { path.join("submission.json") } else { path.to_path_buf() };
    let (submission, notes) = arc::read_submission(&file)?;
    for note in notes {
        say!("warning: {note}; it counts as wrong");
    }
    Ok(submission)
}

/// Draws one task to `path`, or each to a file of its own in the folder `path`.
fn draw_pictures<'a>(
    path: &Path,
    tasks: &[&'a Task],
    attempts: impl Fn(&'a Task) -> Option<&'a [Attempts]>,
) -> anyhow::Result<Vec<PathBuf>> {
    let is_folder = path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/');
    if !is_folder && tasks.len() > 1 {
        bail!(
            "{} tasks do not fit one picture; choose one with --tasks, or name a folder: --png {}/",
            tasks.len(),
            path.with_extension("").display()
        );
    }
    if is_folder {
        std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    }
    let draw = |task: &&'a Task| {
        let file = if is_folder { path.join(file_name(&task.id)) } else { path.to_path_buf() };
        let bytes = png_bytes(&to_image(&task_figure(task, attempts(task))));
        arc::write_atomically(&file, &bytes).with_context(|| file.display().to_string())?;
        Ok(file)
    };
    tasks.iter().map(draw).collect()
}

/// A file name for a task's picture; an id may hold anything, a file name may not.
fn file_name(id: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    format!("{}.png", id.chars().map(safe).collect::<String>())
}
