//! The command `score`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::input::Tasks;
use super::terminal;
use super::{Global, Outcome};
use crate::arc::{self, Dataset};
use crate::evaluate::{Candidates, Score, Shares, TaskScore, score_tasks};
use crate::memory;
use crate::run::read_run;

/// Arguments of `score`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rules:
  strict      a task counts if every one of its tests is right
  fractional  a task counts by the share of its tests that are right (Kaggle)
  per test    each test counts alone
  pass@1      only the first attempt counts; pass@2: either attempt
  oracle      any candidate counts

Every task of TASKS counts, also the ones that the submission lacks; --only-submitted leaves those out. \
With --json, `strict`, `fractional` and `per_test` are shares at pass@2, null where no answer is known.

Examples:
  arc-ttt score submission.json arc-agi-1/evaluation
  arc-ttt score runs/mine arc-agi-1/evaluation-dev --only-submitted
  arc-ttt score submission.json challenges.json --solutions my_solutions.json
  arc-ttt score submission.json arc-agi-2/evaluation --json | jq .fractional")]
pub struct Args {
    /// A submission.json in Kaggle's format, or a run directory that holds one.
    #[arg(value_name = "SUBMISSION")]
    submission: PathBuf,
    #[command(flatten)]
    truth: Tasks,
    /// Ranked candidates for the oracle: JSON, by task id a list of grids for each test [default: those in the
    /// run directory].
    #[arg(long, value_name = "FILE")]
    candidates: Option<PathBuf>,
    /// Leave out the tasks that the submission has no entry for.
    #[arg(long)]
    only_submitted: bool,
    /// Say of each task how many of its tests are right.
    #[arg(long)]
    per_task: bool,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let file = if args.submission.is_dir() {
        args.submission.join("submission.json")
    } else {
        args.submission.clone()
    };
    let (submission, notes) = arc::read_submission(&file)?;
    let mut truth = args.truth.load()?;
    for note in &notes {
        say!("warning: {note}; it counts as wrong");
    }
    let strangers = submission.tasks.keys().filter(|id| truth.get(id).is_none()).count();
    if strangers > 0 {
        say!("note: {strangers} tasks of the submission are not in {}", truth.name);
    }
    if args.only_submitted {
        truth.tasks.retain(|task| submission.tasks.contains_key(&task.id));
    }
    check_answers(&truth, &file)?;
    let candidates = match &args.candidates {
        Some(file) => Some(read_candidates(file)?),
        None if args.submission.is_dir() => Some(candidates_of(&args.submission)?),
        None => None,
    };
    let tasks = score_tasks(&truth, &submission, candidates.as_ref());
    let score = Score::of(&tasks);
    let failed = truth.failed.len() + notes.len();
    if global.json {
        let run = args.submission.is_dir().then_some(args.submission.as_path());
        let mut object = to_json(&score);
        object["failed"] = json!(failed);
        object["seconds"] = json!(began.elapsed().as_secs_f64());
        object["peak_memory_bytes"] = json!(memory::peak_bytes());
        object["submission"] = json!(file);
        object["run"] = json!(run);
        if args.per_task {
            object["per_task"] = json!(tasks);
        }
        terminal::print(&format!("{object}\n"))?;
    } else {
        let mut text = score_text(&score);
        if args.per_task {
            text.push('\n');
            tasks.iter().for_each(|task| text.push_str(&task_text(task)));
        }
        terminal::print(&text)?;
    }
    Ok(match (truth.unusable().next(), failed) {
        (Some(_), _) => Outcome::BadInput,
        (None, 1..) => Outcome::SomeFailed,
        (None, 0) => Outcome::Done,
    })
}

fn check_answers(truth: &Dataset, submission: &Path) -> anyhow::Result<()> {
    if truth.tasks.is_empty() {
        bail!("{} has no entry for any task of {}", submission.display(), truth.name);
    }
    if truth.tasks.iter().all(|task| task.tests.iter().all(|test| test.output.is_none())) {
        bail!("{} has no answers; name the file that has them with --solutions", truth.name);
    }
    Ok(())
}

fn read_candidates(path: &Path) -> anyhow::Result<Candidates> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    serde_json::from_reader(std::io::BufReader::new(file))
        .with_context(|| format!("{}: no candidates by task and test", path.display()))
}

/// The candidates in a run's records.
fn candidates_of(run: &Path) -> anyhow::Result<Candidates> {
    let records = read_run(run)?.records;
    Ok(records.iter().map(|(id, record)| (id.clone(), record.candidate_grids())).collect())
}

/// The score as one object, the usual shares on top.
fn to_json(score: &Score) -> Value {
    let mut object = json!({
        "tasks": score.tasks,
        "solved": score.solved,
        "strict": score.pass_at_2.strict,
        "fractional": score.pass_at_2.fractional,
        "per_test": score.pass_at_2.per_test,
    });
    if let (Value::Object(object), Ok(Value::Object(all))) =
        (&mut object, serde_json::to_value(score))
    {
        object.extend(all);
    }
    object
}

/// The score as a table.
fn score_text(score: &Score) -> String {
    let percent = |share: Option<f64>| share.map_or("-".into(), |s| format!("{:.2} %", 100.0 * s));
    let row = |name: &str, shares: &Shares| {
        let [a, b, c] = [shares.strict, shares.fractional, shares.per_test].map(percent);
        format!("{name:<8} {a:>12} {b:>12} {c:>12}\n")
    };
    let span = |interval: Option<[f64; 2]>| match interval {
        Some([low, high]) => format!("{:.1}–{:.1}", 100.0 * low, 100.0 * high),
        None => "-".into(),
    };
    let Score { tasks, known_tasks, tests, known_tests, missing, .. } = score;
    let mut text = match score.solved {
        Some(solved) => format!("solved {solved} of {known_tasks} tasks with answers"),
        None => "no task has all of its answers".to_string(),
    };
    text += &format!("; {tasks} tasks, {tests} tests ({known_tests} with answers)");
    text += &format!(", {missing} not in the submission\n\n");
    text += &format!("{:<8} {:>12} {:>12} {:>12}\n", "", "strict", "fractional", "per test");
    text += &row("pass@1", &score.pass_at_1);
    text += &row("pass@2", &score.pass_at_2);
    let (strict, fractional) = (span(score.strict_interval), span(score.fractional_interval));
    text += &format!("{:<8} {strict:>12} {fractional:>12}\n", "95 %");
    text + &score.oracle.map_or(String::new(), |oracle| row("oracle", &oracle))
}

/// A line on one task.
fn task_text(task: &TaskScore) -> String {
    let mark = |verdict: Option<bool>| match verdict {
        Some(true) => "right",
        Some(false) => "wrong",
        None => "unknown",
    };
    let tests: Vec<_> = task.tests.iter().map(|test| mark(test.pass_at_2)).collect();
    let lacking = if task.submitted { "" } else { "  (not in the submission)" };
    format!("{}  {}{lacking}\n", task.id, tests.join(" "))
}
