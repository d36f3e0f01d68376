//! Settings of base-model training.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::adapter::exactly_two;
use crate::arc::TaskError;
use crate::kernel::Precision;
use crate::llama::{ConfigError as LlamaConfigError, InputError};
use crate::model::{CheckpointError, GridModelConfig};
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
    /// Fewest and most pairs of an episode.
    #[serde(deserialize_with = "exactly_two")]
    pub pairs: [usize; 2],
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
    /// Share of episodes whose outputs are shown in part, any share of their cells; only the others are asked for.
    pub partial_outputs: f64,
    /// Share of in-context episodes whose outputs get a symmetry and a recoloring of their own: a new rule.
    pub new_rule: f64,
    /// Chance that a recoloring keeps 0.
    pub keep_zero: f64,
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

/// When a training run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Until {
    /// After this many steps: the run's bytes depend on nothing else.
    Steps(usize),
    /// After this many seconds of training, interruptions not counted.
    Seconds(f64),
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
