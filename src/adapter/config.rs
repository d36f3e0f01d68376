//! Settings of the adapter and of its fit.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::kernel::Precision;

/// The linear layers of a trunk block, under the names that recipes and adapters use.
pub const TARGET_MODULES: [&str; 4] = ["qkv_proj", "o_proj", "up_proj", "down_proj"];

/// A LoRA adapter's shape, in PEFT's vocabulary (Hu et al. 2021, arXiv 2106.09685).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank `r` of the update, at least 1.
    pub rank: usize,
    /// Scale numerator: the update is multiplied by `alpha / rank`.
    pub alpha: f32,
    /// Multiply by `alpha / sqrt(rank)` instead (rsLoRA, arXiv 2312.03732).
    pub rank_stabilized: bool,
    /// Which linears get an update, under the model family's names: for the grid model [`TARGET_MODULES`].
    pub target_modules: Vec<String>,
}

impl LoraConfig {
    /// The factor in front of `A·B`.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }
}

/// What the fit trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitFormat {
    /// Nothing: the in-context baseline.
    None,
    /// In-context leave-one-out episodes.
    Icl,
    /// End-to-end single pairs with fitted task tokens.
    E2e,
    /// Both formats in alternation, sharing one adapter.
    Both,
}

/// Which weights the fit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitMethod {
    /// A fresh LoRA adapter.
    Lora,
    /// All weights of the trunk (an ablation).
    Full,
}

/// What one adapter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitScope {
    /// One task.
    Task,
    /// All tasks of a run (an ablation of Akyürek et al. 2024).
    Shared,
}

/// Settings of a per-task fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// What is trained on.
    pub format: FitFormat,
    /// Which weights move.
    pub method: FitMethod,
    /// What one adapter is for.
    pub scope: FitScope,
    /// How the CPU multiplies during the fit. Predictions are made in f32 in any case.
    pub precision: Precision,
    /// Gradient steps if nothing else ends the fit; with a budget in seconds it is the cap.
    pub steps: usize,
    /// Peak learning rate of AdamW for the adapter.
    pub learning_rate: f64,
    /// Peak learning rate for the task tokens and the frame embeddings (end-to-end).
    pub task_learning_rate: f64,
    /// Canvas cells that may be read to find out which of the model's starts for the task tokens explains the demonstrations best
    /// (end-to-end); 0: the first is taken.
    pub start_cells: usize,
    /// Peak learning rate of Muon for the trunk's matrices where all weights move; 0: AdamW moves them too.
    pub matrix_learning_rate: f64,
    /// Share of the steps over which the learning rate rises from 0.
    pub warmup: f64,
    /// Learning rate at the end, as a share of the peak; cosine in between.
    pub final_learning_rate: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's first and second moment decay.
    #[serde(deserialize_with = "exactly_two")]
    pub betas: [f64; 2],
    /// Gradients are scaled down to this global norm; 0 turns clipping off.
    pub clip_norm: f64,
    /// Largest number of canvas cells in one step; longer episodes lose queries, then context pairs.
    pub max_tokens: usize,
    /// Steps between held-out checks; 0 turns them off.
    pub check_every: usize,
    /// The fit ends after this many perfect checks in a row; 0 never ends it early.
    pub patience: usize,
    /// Share of the fit's steps or time in which one demonstration is left out and must then be predicted; 0: none.
    pub hold_out: f64,
    /// The share of these predictions that must be exact for the rest of the fit to be no longer than the first part;
    /// 0: never.
    pub hold_out_enough: f64,
    /// The fit ends when the mean loss of its last 16 steps falls below this many nats a cell; 0 never.
    pub converged_loss: f32,
    /// A fit whose budget in seconds has no room for this many steps is given up after the first few; 0 never.
    pub least_steps: usize,
}

/// Reads an array of two; serde's own way lets further elements pass.
pub(crate) fn exactly_two<'de, D: Deserializer<'de>, T: Deserialize<'de> + Copy>(
    from: D,
) -> Result<[T; 2], D::Error> {
    let list = Vec::<T>::deserialize(from)?;
    let two = <[T; 2]>::try_from(list.as_slice());
    two.map_err(|_| D::Error::invalid_length(list.len(), &"an array of length 2"))
}
