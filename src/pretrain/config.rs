//! Settings of base-model training.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::adapter::exactly_two;
use crate::arc::TaskError;
use crate::dataset::Augmenter;
use crate::kernel::Precision;
use crate::llama::{ConfigError as LlamaConfigError, InputError};
use crate::model::{CheckpointError, GridModelConfig};
use crate::synth::MIN_STREAM_SIDE;
use crate::text::TextFormat;

/// Everything that decides what a training run computes, apart from its data and its length; `M` are the sizes of the
/// network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig<M = GridModelConfig> {
    /// Root of all random streams.
    pub seed: u64,
    /// How the CPU multiplies; the weights themselves stay in f32.
    pub precision: Precision,
    /// Sizes of the network.
    pub model: M,
    /// What is trained on.
    pub data: DataConfig,
    /// How episodes are made.
    pub episode: EpisodeConfig,
    /// How weights move.
    pub optimizer: OptimizerConfig,
}

impl<M> PretrainConfig<M> {
    /// Which of the settings no run could follow, if any: the key, and what it must be. Sizes of the network are not looked at.
    pub fn problem(&self) -> Option<String> {
        let Self { data, episode, optimizer, .. } = self;
        // Each with the most that it may be.
        let numbers = [
            ("data.collected", data.collected, f64::MAX),
            ("data.synth", data.synth, f64::MAX),
            ("data.own_pairs", data.own_pairs, 1.0),
            ("episode.e2e_share", episode.e2e_share, 1.0),
            ("episode.growth", episode.growth, 1.0),
            ("episode.untold", episode.untold, 1.0),
            ("episode.new_rule", episode.new_rule, 1.0),
            ("episode.keep_zero", episode.keep_zero, 1.0),
            ("episode.augment_probability", episode.augment_probability, 1.0),
            ("optimizer.matrix_learning_rate", optimizer.matrix_learning_rate, f64::MAX),
            ("optimizer.learning_rate", optimizer.learning_rate, f64::MAX),
            ("optimizer.task_learning_rate", optimizer.task_learning_rate, f64::MAX),
            ("optimizer.weight_decay", optimizer.weight_decay, f64::MAX),
            ("optimizer.clip_norm", optimizer.clip_norm, f64::MAX),
            ("optimizer.decay_from", optimizer.decay_from, 1.0),
            ("optimizer.final_learning_rate", optimizer.final_learning_rate, 1.0),
            ("optimizer.ema", optimizer.ema, 1.0),
        ];
        let is_wrong = |(_, value, most): &&(&str, f64, f64)| !(0.0..=*most).contains(value);
        if let Some((key, value, most)) = numbers.iter().find(is_wrong) {
            let allowed = if *most == 1.0 { "from 0 to 1" } else { "a number of at least 0" };
            return Some(format!("{key} is {value}; it must be {allowed}"));
        }
        let counts = [
            ("episode.e2e_pairs", episode.e2e_pairs),
            ("episode.first_max_cells", episode.first_max_cells),
            ("episode.max_cells", episode.max_cells),
            ("episode.cells_per_step", episode.cells_per_step),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, n)| *n == 0) {
            return Some(format!("{key} must be at least 1"));
        }
        let decays = [
            ("optimizer.betas", &optimizer.betas[..]),
            ("optimizer.task_betas", &optimizer.task_betas),
            ("optimizer.momentum", std::slice::from_ref(&optimizer.momentum)),
        ];
        let is_decay = |decay: &f64| (0.0..1.0).contains(decay);
        if let Some((key, _)) = decays.iter().find(|(_, decays)| !decays.iter().all(is_decay)) {
            return Some(format!("{key} must be from 0 to less than 1"));
        }
        let ([few, many], [first, last]) = (episode.pairs, episode.synth_difficulty);
        let fixed_rules = data.synth_tasks > 0;
        let problems = [
            ([data.collected, data.synth] == [0.0; 2], "data.collected and data.synth are both 0; raise one".to_owned()),
            (
                data.hold_out_every == 1,
                "data.hold_out_every is 1, which holds every task out; it must be 0 or at least 2"
                    .to_owned(),
            ),
            (
                fixed_rules && data.collected == 0.0,
                "data.synth_tasks are drawn as the collected tasks are; raise data.collected, or set them to 0"
                    .to_owned(),
            ),
            (
                episode.augment_probability > 0.0 && episode.augmenters.is_empty(),
                "episode.augment_probability is set and episode.augmenters names none; name some, or set it to 0"
                    .to_owned(),
            ),
            (
                few < 2 || many < few,
                "episode.pairs must be two numbers, the first at least 2, in order".to_owned(),
            ),
            (
                !(1..=5).contains(&first) || !(1..=5).contains(&last),
                "episode.synth_difficulty must be two numbers from 1 to 5".to_owned(),
            ),
            (
                fixed_rules && episode.synth_max_side < MIN_STREAM_SIDE,
                format!(
                    "episode.synth_max_side must be at least {MIN_STREAM_SIDE} with data.synth_tasks"
                ),
            ),
            (
                fixed_rules && data.synth_pairs < few,
                format!(
                    "data.synth_pairs must be at least {few}, as episode.pairs: else they are never drawn"
                ),
            ),
        ];
        problems.into_iter().find_map(|(is_one, problem)| is_one.then_some(problem))
    }
}

/// The mixture of sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Weight of the collected tasks (ARC-AGI-1 training and further pairs of the same tasks).
    pub collected: f64,
    /// Within a collected task, the chance that a pair is one of its own and not a generated one.
    pub own_pairs: f64,
    /// Weight of this project's generators.
    pub synth: f64,
    /// Rules of the generators that are drawn once and join the collected tasks, so that the end-to-end format learns
    /// them too: each has a row in the table of task tokens.
    pub synth_tasks: usize,
    /// Pairs of each of them.
    pub synth_pairs: usize,
    /// Ids that are never trained on, with the reason in the recipe.
    pub exclude: Vec<String>,
    /// Every `n`-th task (in the order of their ids) is held out of training to watch generalization; 0 holds
    /// out none.
    pub hold_out_every: usize,
}

/// How episodes are made of pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeConfig {
    /// Share of end-to-end episodes among those of collected tasks; the others are in-context.
    pub e2e_share: f64,
    /// Fewest and most pairs of an in-context episode.
    #[serde(deserialize_with = "exactly_two")]
    pub pairs: [usize; 2],
    /// Pairs of an end-to-end episode. They read nothing of each other, so that more episodes are more tasks and frames.
    #[serde(default = "one")]
    pub e2e_pairs: usize,
    /// Collected tasks that episodes are drawn from at a time; the others wait for their turn. 0: all. The tokens of a task
    /// that comes up every few hundred steps are out of date whenever it does, for the trunk has moved meanwhile; those of one of a
    /// few tasks keep up, as they do in a fit.
    #[serde(default)]
    pub at_a_time: usize,
    /// Steps that a task's turn lasts.
    #[serde(default)]
    pub turn_steps: usize,
    /// Pairs whose canvas has more cells are not drawn at the beginning of the run.
    pub first_max_cells: usize,
    /// Pairs whose canvas has more cells are not drawn at the end of the run.
    pub max_cells: usize,
    /// Share of the run over which the limit grows, by the same factor in equal times, and the generators' tasks
    /// become harder.
    pub growth: f64,
    /// Hardest generators at the beginning and at the end of the run, from 1 to 5.
    #[serde(deserialize_with = "exactly_two")]
    pub synth_difficulty: [u8; 2],
    /// Largest side of a generated task's grids; never more than the side of a square of the limit then in force.
    pub synth_max_side: usize,
    /// Share of episodes whose output shapes are not told.
    pub untold: f64,
    /// Share of in-context episodes whose outputs get a symmetry and a recoloring of their own: a new rule.
    pub new_rule: f64,
    /// Chance that a recoloring keeps 0.
    pub keep_zero: f64,
    /// What some episodes' pairs are changed by before all else. The manifest has the pairs as they were.
    #[serde(default)]
    pub augmenters: Vec<Augmenter>,
    /// Share of episodes that are changed by one of them, drawn from those under which the pairs keep to the size limit.
    #[serde(default)]
    pub augment_probability: f64,
    /// Canvas cells in a step, context and queries together, or a language model's tokens; episodes are added until
    /// it is reached.
    pub cells_per_step: usize,
}

impl EpisodeConfig {
    /// Largest canvas, in cells, when `share` of the run is done: small grids first, because they teach the
    /// rules at a fraction of the cost.
    pub fn max_cells_at(&self, share: f64) -> usize {
        let (first, last) =
            (self.first_max_cells.min(self.max_cells) as f64, self.max_cells as f64);
        (first * (last / first).powf(self.grown(share))).round() as usize
    }

    /// Hardest generators when `share` of the run is done.
    pub fn max_difficulty_at(&self, share: f64) -> u8 {
        let [first, last] = self.synth_difficulty.map(f64::from);
        (first + (last - first) * self.grown(share)).round() as u8
    }

    fn grown(&self, share: f64) -> f64 {
        if self.growth > 0.0 { (share / self.growth).clamp(0.0, 1.0) } else { 1.0 }
    }
}

/// How weights move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Muon's learning rate, for the matrices of the trunk.
    pub matrix_learning_rate: f64,
    /// AdamW's learning rate, for everything else.
    pub learning_rate: f64,
    /// AdamW's learning rate for the table of task tokens; 0: `learning_rate`. A row moves only in the few steps that draw
    /// its task, so it has to move further in each.
    #[serde(default)]
    pub task_learning_rate: f64,
    /// Decoupled weight decay of the matrices.
    pub weight_decay: f64,
    /// AdamW's moment decays.
    #[serde(deserialize_with = "exactly_two")]
    pub betas: [f64; 2],
    /// Those of the table of task tokens, whose rows have a gradient in few of the steps.
    #[serde(default = "task_betas", deserialize_with = "exactly_two")]
    pub task_betas: [f64; 2],
    /// Muon's momentum.
    pub momentum: f64,
    /// Global norm to which AdamW's gradients are clipped.
    pub clip_norm: f64,
    /// Steps over which the learning rates rise.
    pub warmup_steps: usize,
    /// Share of the run after which they fall linearly to `final_learning_rate`.
    pub decay_from: f64,
    /// Learning rates at the end, as a share of the peak.
    pub final_learning_rate: f64,
    /// Decay of the exponential moving average of the weights, which is what is shipped.
    pub ema: f64,
}

fn one() -> usize {
    1
}

fn task_betas() -> [f64; 2] {
    [0.9, 0.999]
}

/// When a training run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Until {
    /// After this many steps: the run's bytes then depend on the settings, the data and the kind of processor alone.
    Steps(usize),
    /// After this many seconds of steps; interruptions, checkpoints and evaluations are not counted.
    Seconds(f64),
}

impl Until {
    /// Share of the run that is done; 1 at its end.
    pub(super) fn share(self, steps: usize, seconds: f64) -> f64 {
        match self {
            Until::Steps(n) => steps as f64 / n.max(1) as f64,
            Until::Seconds(s) => seconds / s,
        }
    }
}

/// Why a base model could not be trained.
#[derive(Debug, thiserror::Error)]
pub enum PretrainError {
    /// A task that cannot be read.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A checkpoint that cannot be read or does not fit.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Initial weights of other sizes than the recipe's.
    #[error(
        "the initial weights are those of another network than the recipe's; give its sizes:{sizes}"
    )]
    OtherNetwork {
        /// The options that give them.
        sizes: String,
    },
    /// A state file that belongs to another run.
    #[error("{path} was made by other settings ({what}); give another --out, or the same settings")]
    OtherRun {
        /// The state file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// A damaged state file.
    #[error("{path} is not a whole training state ({reason}); remove it to start anew")]
    DamagedState {
        /// The state file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing to train on.
    #[error("no task has enough pairs of at most {max_cells} cells; raise episode.max_cells")]
    NoData {
        /// The limit in force.
        max_cells: usize,
    },
    /// A text format that is not built in.
    #[error(
        "there is no text format `{name}`; take one of {names}",
        names = TextFormat::names().collect::<Vec<_>>().join(", ")
    )]
    UnknownFormat {
        /// Its name.
        name: String,
    },
    /// Settings that only the grid model has a meaning for.
    #[error(
        "a language model reads its tasks in the context; set episode.e2e_share and episode.untold to 0"
    )]
    NotForText,
    /// Episodes that are all longer than a language model's context.
    #[error(
        "none of {episodes} episodes in a row fits the context; raise model.max_position_embeddings ({most}), or lower \
         episode.max_cells or episode.pairs"
    )]
    TooLong {
        /// Tokens of the context.
        most: usize,
        /// Episodes that were drawn.
        episodes: usize,
    },
    /// Sizes that no network of the Llama family has.
    #[error(transparent)]
    Llama(#[from] LlamaConfigError),
    /// Tokens that the language model does not take.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Weights ran away.
    #[error("the loss became {0} at step {1}; lower the learning rates")]
    Diverged(f32, usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::LanguageModelConfig;

    const RECIPE: &str = include_str!("../../data/recipes/pretrain.toml");

    /// What is wrong once a key of the recipe has another value.
    fn problem(section: &str, changes: &[(&str, &str)]) -> Option<String> {
        let mut table: toml::Table = RECIPE.parse().unwrap();
        for (key, value) in changes {
            let value: toml::Table = format!("value = {value}").parse().unwrap();
            let section = table[section].as_table_mut().unwrap();
            section.insert((*key).to_owned(), value["value"].clone());
        }
        table.try_into::<PretrainConfig>().unwrap().problem()
    }

    #[test]
    fn settings_that_no_run_could_follow_are_named() {
        for (section, key, value) in [
            ("data", "collected", "-1.0"),
            ("data", "synth", "nan"),
            ("data", "own_pairs", "1.5"),
            ("episode", "pairs", "[1, 3]"),
            ("episode", "pairs", "[3, 2]"),
            ("episode", "e2e_pairs", "0"),
            ("episode", "first_max_cells", "0"),
            ("episode", "max_cells", "0"),
            ("episode", "cells_per_step", "0"),
            ("episode", "synth_difficulty", "[0, 5]"),
            ("episode", "untold", "-0.1"),
            ("episode", "augment_probability", "2.0"),
            ("episode", "growth", "nan"),
            ("data", "hold_out_every", "1"),
            ("optimizer", "decay_from", "1.1"),
            ("optimizer", "learning_rate", "-1.0"),
            ("optimizer", "matrix_learning_rate", "inf"),
            ("optimizer", "betas", "[1.0, 0.95]"),
            ("optimizer", "momentum", "1.0"),
        ] {
            let problem = problem(section, &[(key, value)]).expect(key);
            assert!(problem.contains(&format!("{section}.{key}")), "{problem}");
        }
        let without = problem("data", &[("collected", "0.0"), ("synth", "0.0")]).unwrap();
        assert!(without.contains("both 0"), "{without}");
        let undrawn = problem("data", &[("collected", "0.0"), ("synth_tasks", "5")]).unwrap();
        assert!(undrawn.contains("raise data.collected"), "{undrawn}");
        let few = problem("data", &[("synth_tasks", "1"), ("synth_pairs", "1")]).unwrap();
        assert!(few.contains("data.synth_pairs must be at least 2"), "{few}");
        let none =
            problem("episode", &[("augment_probability", "0.1"), ("augmenters", "[]")]).unwrap();
        assert!(none.contains("episode.augmenters names none"), "{none}");
        // Only tasks of the generators' own need the room; their stream takes what it needs.
        assert_eq!(problem("episode", &[("synth_max_side", "5")]), None);
    }

    #[test]
    fn the_built_in_recipes_have_no_problem() {
        assert_eq!(problem("data", &[("synth_tasks", "100")]), None);
        let recipe = include_str!("../../data/recipes/pretrain-llama.toml");
        let config: PretrainConfig<LanguageModelConfig> = toml::from_str(recipe).unwrap();
        assert_eq!(config.problem(), None);
    }
}
