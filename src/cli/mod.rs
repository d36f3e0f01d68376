//! The command line: the only place that prints, draws progress and decides the exit code.
//!
//! Standard output carries data only; everything for people goes to standard error.

/// Prints a line for people, on standard error.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::terminal::say(&format!($($text)*))
    };
}

mod audit;
mod chart;
mod compare;
mod data;
mod doctor;
mod fits;
mod fit;
mod input;
mod interrupt;
mod log;
mod merge;
mod predict;
mod pretrain;
mod progress;
mod report;
mod score;
mod settings;
mod show;
mod solve;
mod summary;
mod synth;
mod terminal;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::memory;

/// Version of the tensor library, as Cargo.toml pins it.
const BURN_VERSION: &str = "0.22.1";

/// Test-time training for ARC-style few-shot grid tasks.
#[derive(Debug, Parser)]
#[command(name = "arc-ttt", version, about, long_about = None)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Print one JSON object on standard output, and nothing else there.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on standard error (-v: each stage, -vv: each step).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Solve tasks: fit an adapter to each, predict under many views, vote, write a submission.
    Solve(solve::Args),
    /// Compare variants of a recipe on the same tasks: baselines, ablations, budgets, votes.
    Compare(compare::Args),
    /// Fit one task's adapter, watch the loss, and keep the adapter.
    Fit(fit::Args),
    /// Predict with a saved adapter, or with none (the in-context baseline).
    Predict(predict::Args),
    /// Train the base model.
    Pretrain(pretrain::Args),
    /// Score a submission against known answers.
    Score(score::Args),
    /// Make one HTML page of a run, or of two runs on the same tasks.
    Report(report::Args),
    /// Find the tasks that two sets have in common.
    Audit(audit::Args),
    /// Draw a task or a result in the terminal or as PNG.
    Show(show::Args),
    /// List, fetch and verify the public data sets.
    Data(data::Args),
    /// Make tasks by this project's own generators.
    Synth(synth::Args),
    /// Join the run directories of shards.
    Merge(merge::Args),
    /// Say what this machine and this build can do.
    Doctor(doctor::Args),
}

/// What a command can end with, besides success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Done,
    /// Exit code 1: done, but some tasks failed or were not reached.
    SomeFailed,
    /// Exit code 2: done, but some of the input was no task.
    BadInput,
    /// Exit code 130: ended by Ctrl-C or SIGTERM, to be gone on with.
    Interrupted,
}

/// Parses the arguments, runs the command, prints one error, and gives the exit code: 0 done, 1 done with
/// failed or unreached tasks, 2 wrong use or input, 130 interrupted; 101 a panic that nothing has caught, in whatever thread.
pub fn main() -> ExitCode {
    memory::keep_freed_memory();
    let cli = Cli::parse();
    log::start(cli.global.verbose);
    // Nothing is used after a panic.
    match catch_unwind(AssertUnwindSafe(|| run(cli))) {
        Ok(Ok(Outcome::Done)) => ExitCode::SUCCESS,
        Ok(Ok(Outcome::SomeFailed)) => ExitCode::from(1),
        Ok(Ok(Outcome::BadInput)) => ExitCode::from(2),
        Ok(Ok(Outcome::Interrupted)) => ExitCode::from(interrupt::INTERRUPTED),
        Ok(Err(error)) => {
            say!("error: {}", whole(&error));
            ExitCode::from(2)
        }
        Err(panic) => {
            say!("error: {}", log::defect(panic.as_ref()));
            ExitCode::from(101)
        }
    }
}

/// An error and its causes. A cause that the text so far has already is not said twice.
fn whole(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn run(Cli { global, command }: Cli) -> anyhow::Result<Outcome> {
    let global = &global;
    match command {
        Command::Solve(args) => solve::run(args, global),
        Command::Compare(args) => compare::run(args, global),
        Command::Fit(args) => fit::run(args, global),
        Command::Predict(args) => predict::run(args, global),
        Command::Pretrain(args) => pretrain::run(args, global),
        Command::Score(args) => score::run(args, global),
        Command::Report(args) => report::run(args, global),
        Command::Audit(args) => audit::run(args, global),
        Command::Show(args) => show::run(args, global),
        Command::Data(args) => data::run(args, global),
        Command::Synth(args) => synth::run(args, global),
        Command::Merge(args) => merge::run(args, global),
        Command::Doctor(args) => doctor::run(args, global),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Context;
    use clap::CommandFactory;

    use super::*;
    use crate::compare::Comparison;
    use crate::engine::Family;
    use crate::llama::LlamaConfig;

    #[test]
    fn the_arguments_of_every_command_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn examples_fit_a_narrow_terminal_so_that_they_can_be_copied() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn the_comparison_in_the_help_is_one() {
        let command = Cli::command();
        let compare = command.find_subcommand("compare").unwrap();
        let help = compare.get_after_help().unwrap().to_string();
        let from = help.find("  recipe =").unwrap();
        let text = help[from..].split("\n\n").next().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let path = file.path().to_str().unwrap();
        let comparison = Comparison::read(path, None, &[], Family::Grid).unwrap();
        assert_eq!(comparison.variants.len(), 2);
    }

    #[test]
    fn an_error_says_each_cause_once() {
        let folder = Path::new("no-such-checkpoint");
        let error = anyhow::Error::from(LlamaConfig::load(folder).unwrap_err());
        let text = whole(&error);
        assert_eq!(text.matches("(os error 2)").count(), 1, "{text}");
        assert!(
            text.ends_with("a checkpoint is a folder with config.json and safetensors"),
            "{text}"
        );
        let error: anyhow::Result<()> = Err(anyhow::anyhow!("inner")).context("outer");
        assert_eq!(whole(&error.unwrap_err()), "outer: inner");
    }

    #[test]
    fn the_version_of_burn_is_the_one_that_is_built() {
        let manifest = include_str!("../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={BURN_VERSION}\"")));
    }
}
