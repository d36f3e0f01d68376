//! From a task's demonstrations to the episodes an adapter is fitted on.

use serde::{Deserialize, Serialize};

use crate::arc::{ColorPermutation, Dihedral, Example};

mod augment;
mod config;
mod finite;
mod source;
#[cfg(test)]
mod testing;

pub use augment::Augmenter;
pub use config::{BadLossOn, ColorSampling, DatasetConfig, LossOn, Sampling};
pub use source::{EpisodeSource, LeaveOneOutImpossible};

/// Pairs, usually shown under one transform, and which of them are to be predicted from which others.
///
/// One episode is one forward pass: each pair is encoded once, and every query reads the pairs of its own
/// context. So the `K` leave-one-out tasks of one view are one episode with `K` queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// The transformed demonstrations. Where a finite dataset mixes transforms in one step, those of several
    /// items; no query then reads across items.
    pub pairs: Vec<Example>,
    /// What the loss is taken on.
    pub queries: Vec<Query>,
    /// Under which symmetry and recoloring the pairs are shown, if a composition of these is all that was
    /// done to them. The end-to-end format tells the model; it cannot use episodes without a frame.
    pub frame: Option<Frame>,
}

/// One prediction inside an [`Episode`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Query {
    /// Index of the pair whose output is predicted from its input.
    pub target: usize,
    /// Indices of the pairs that are shown with their outputs; never `target`. In the end-to-end format
    /// it is empty: the fitted task tokens stand for the task.
    pub context: Vec<usize>,
}

/// The invertible part of what was done to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frame {
    /// The symmetry.
    pub dihedral: Dihedral,
    /// The recoloring.
    pub colors: ColorPermutation,
}

impl Frame {
    /// No change.
    pub const IDENTITY: Frame =
        Frame { dihedral: Dihedral::Identity, colors: ColorPermutation::IDENTITY };
}

/// How a query is told about its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// In-context: the query reads the other pairs (leave-one-out).
    Icl,
    /// End-to-end: the query reads fitted task tokens; each pair stands alone.
    E2e,
}

/// The augmenters of `config` that a format can use: end-to-end, those that have a frame.
fn usable_augmenters(
    config: &DatasetConfig,
    format: Format,
) -> impl Iterator<Item = Augmenter> + '_ {
    let usable = move |a: &Augmenter| format == Format::Icl || a.dihedral().is_some();
    config.augmenters.iter().copied().filter(usable)
}
