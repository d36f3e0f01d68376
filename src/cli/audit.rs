//! The command `audit`: what two sets of tasks have in common.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use serde_json::{Map, Value, json};

use super::input::warn_of_failed;
use super::{Global, Outcome, terminal};
use crate::arc::Dataset;
use crate::contamination::{AuditConfig, Finding, Level, audit, duplicates};
use crate::memory;
use crate::public;

/// Related tasks that are listed of each level unless all are asked for.
const LISTED: usize = 10;

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Levels, each pair of tasks under the strongest that holds:
  identical   the same pairs, cell by cell, in any order
  exact       a pair in common, cell by cell
  equivalent  a pair in common, turned, mirrored or recolored
  near        a pair in common but for a few cells
  input       an input in common, whose output is another or not known

Tests with answers are pairs like the demonstrations; of a test without one, the input is compared. Of a list \
of pairs (RE-ARC) every pair is. Small or nearly empty grids are alike by chance: what is found must amount \
to --evidence, in bits, or be all of both tasks.

The exit code is 0 whether or not anything is found, 2 if a set, or a task of it, cannot be used.

Examples:
  arc-ttt audit arc-agi-1/evaluation arc-agi-2/training   376 of 400 are in both
  arc-ttt audit my_training_tasks/ arc-agi-2/evaluation
  arc-ttt audit my_tasks.json                             duplicates within it
  arc-ttt audit re-arc/ arc-agi-1/evaluation --json | jq .findings")]
pub struct Args {
    /// A data set by name (see `arc-ttt data list`), a file or folder of tasks, or - for standard input.
    #[arg(value_name = "A")]
    a: String,
    /// The set to compare it with; without it, or if it is the same, A is searched for duplicates.
    #[arg(value_name = "B")]
    b: Option<String>,
    /// Call pairs near if at most this share of what is drawn in a grid differs; 0 to look for none.
    #[arg(long, value_name = "SHARE", default_value_t = AuditConfig::default().near)]
    near: f64,
    /// Least evidence against chance, in bits; 0 to list whatever is in common.
    #[arg(long, value_name = "BITS", default_value_t = AuditConfig::default().evidence)]
    evidence: f64,
    /// List every finding, not only the first few of each level.
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let config = AuditConfig { near: args.near, evidence: args.evidence };
    ensure!(
        (0.0..=0.5).contains(&config.near),
        "--near is {}; it must be from 0 to 0.5",
        args.near
    );
    ensure!(config.evidence >= 0.0, "--evidence is {}; it must be 0 or more", args.evidence);
    let a = load(&args.a)?;
    let b = match &args.b {
        Some(b) if !same_source(&args.a, b) => Some(load(b)?),
        _ => None,
    };
    let findings = match &b {
        Some(b) => audit(&a.tasks, &b.tasks, &config),
        None => duplicates(&a.tasks, &config),
    };
    let failed = a.failed.len() + b.as_ref().map_or(0, |b| b.failed.len());
    if global.json {
        let object = json!({
            "a": size(&a),
            "b": b.as_ref().map(size),
            "settings": config,
            "levels": levels(&findings),
            "findings": findings,
            "failed": failed,
            "seconds": began.elapsed().as_secs_f64(),
            "peak_memory_bytes": memory::peak_bytes(),
        });
        terminal::print(&format!("{object}\n"))?;
    } else {
        terminal::print(&table(&a, b.as_ref(), &findings))?;
        terminal::print(&list(&findings, if args.all { usize::MAX } else { LISTED }))?;
    }
    Ok(if failed > 0 { Outcome::BadInput } else { Outcome::Done })
}

fn load(name: &str) -> anyhow::Result<Dataset> {
    let dataset = public::resolve_whole(name)?;
    warn_of_failed(&dataset);
    Ok(dataset)
}

/// Whether two arguments name one set: by the same word, or two paths to one place.
fn same_source(a: &str, b: &str) -> bool {
    let place = |name: &str| Path::new(name).canonicalize().ok();
    let known = |name: &str| public::names().contains(&name);
    a == b || !known(a) && !known(b) && place(a).is_some() && place(a) == place(b)
}

fn n_pairs(dataset: &Dataset) -> usize {
    dataset.tasks.iter().map(|task| task.examples.len() + task.tests.len()).sum()
}

fn size(dataset: &Dataset) -> Value {
    json!({"name": dataset.name, "tasks": dataset.tasks.len(), "pairs": n_pairs(dataset)})
}

/// Number of tasks of either set in findings.
fn touched<'a>(findings: impl Iterator<Item = &'a Finding> + Clone) -> (usize, usize) {
    let a: BTreeSet<&str> = findings.clone().map(|finding| finding.a.as_str()).collect();
    let b: BTreeSet<&str> = findings.map(|finding| finding.b.as_str()).collect();
    (a.len(), b.len())
}

/// The findings of each level, and all of them, counted by tasks.
fn levels(findings: &[Finding]) -> Value {
    let count = |(a, b): (usize, usize)| json!({"a": a, "b": b});
    let mut object = Map::new();
    for level in Level::ALL {
        let of_level = findings.iter().filter(|finding| finding.level == level);
        object.insert(level.name().into(), count(touched(of_level)));
    }
    object.insert("any".into(), count(touched(findings.iter())));
    Value::Object(object)
}

/// How many tasks are related, by level.
fn table(a: &Dataset, b: Option<&Dataset>, findings: &[Finding]) -> String {
    let named = |set: &Dataset| {
        format!("{}: {} tasks, {} pairs\n", set.name, set.tasks.len(), n_pairs(set))
    };
    let mut text = format!("A  {}", named(a));
    text += &b.map_or("B  the same\n".into(), |b| format!("B  {}", named(b)));
    text += &format!("\n{:<10} {:>10} {:>10}\n", "", "tasks of A", "tasks of B");
    let row = |name: &str, (a, b): (usize, usize)| format!("{name:<10} {a:>10} {b:>10}\n");
    for level in Level::ALL {
        let of_level = findings.iter().filter(|finding| finding.level == level);
        text += &row(level.name(), touched(of_level));
    }
    text + &row("any", touched(findings.iter()))
}

/// A line for each finding, of each level at most `limit`.
fn list(findings: &[Finding], limit: usize) -> String {
    let mut text = String::new();
    let width = |id: fn(&Finding) -> &str| {
        findings.iter().map(|finding| id(finding).chars().count()).max().unwrap_or(0)
    };
    let (width_a, width_b) = (width(|finding| &finding.a), width(|finding| &finding.b));
    for of_level in findings.chunk_by(|x, y| x.level == y.level) {
        text.push('\n');
        for finding in of_level.iter().take(limit) {
            let (level, found) = (finding.level.name(), in_common(finding));
            let (a, b) = (&finding.a, &finding.b);
            text += &format!("{level:<10}  {a:<width_a$}  {b:<width_b$}  {found}\n");
        }
        if let Some(more) = of_level.len().checked_sub(limit).filter(|&more| more > 0) {
            let level = of_level[0].level.name();
            text += &format!("{level:<10}  .. and {more} more; --all lists them\n");
        }
    }
    text
}

/// What two tasks have in common, such as `3 of 4 pairs exact, 1 near`.
fn in_common(finding: &Finding) -> String {
    let mut counts = Vec::new();
    for level in Level::ALL {
        let n = finding.matches.iter().filter(|found| found.level == level).count();
        if n > 0 {
            let of = match counts.is_empty() {
                true => format!(" of {} pairs", finding.pairs_a),
                false => String::new(),
            };
            counts.push(format!("{n}{of} {}", level.name()));
        }
    }
    let others = finding.pairs_b;
    let of_b = if others == finding.pairs_a { String::new() } else { format!(" (B has {others})") };
    format!("{}{of_b}", counts.join(", "))
}
