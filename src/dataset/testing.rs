//! Tasks and settings for the tests of this stage.

use super::{Augmenter, ColorSampling, DatasetConfig, Episode, LossOn, Sampling};
use crate::arc::{Example, Grid, Task, Test, View};

/// A stream with uniform colors and nothing train-only.
pub(crate) fn streaming() -> DatasetConfig {
    DatasetConfig {
        sampling: Sampling::Streaming,
        dihedrals: true,
        colors: ColorSampling::Mixed,
        identity_colors: 0.0,
        keep_zero: 0.0,
        loss_on: LossOn::TestOutput,
        augmenters: Augmenter::ALL.to_vec(),
        augment_probability: 0.0,
        permute_rounds: 1,
        max_cells: 0,
        max_items: 250,
        batch_size: 0,
        epochs: 2,
    }
}

/// The paper's finite dataset.
pub(crate) fn finite() -> DatasetConfig {
    DatasetConfig { sampling: Sampling::Finite, colors: ColorSampling::PreferUnused, ..streaming() }
}

/// `n` different demonstrations without any symmetry: 3×4 inputs, 2×3 outputs, colors 0 to 4.
pub(crate) fn task(n: usize) -> Task {
    let example = |i: usize| Example {
        input: Grid::from_fn(3, 4, |r, c| ((r * r * 3 + c * c + r * c + i) % 5) as u8),
        output: Grid::from_fn(2, 3, |r, c| ((r + 2 * c + i * (c + 1)) % 5) as u8),
    };
    let test = Test { input: Grid::filled(2, 2, 1), output: None };
    Task { id: "sample".into(), examples: (0..n).map(example).collect(), tests: vec![test] }
}

/// The index of the demonstration that each pair of an episode with a frame shows.
///
/// # Panics
/// If a pair is not what the frame makes of a demonstration, input and output alike.
pub(crate) fn originals(episode: &Episode, task: &Task) -> Vec<usize> {
    let frame = episode.frame.expect("an episode with a frame");
    let view = View { dihedral: frame.dihedral, colors: frame.colors, order: Vec::new() };
    let of = |pair: &Example| task.examples.iter().position(|e| view.apply_example(e) == *pair);
    episode.pairs.iter().map(|p| of(p).expect("the frame explains both grids")).collect()
}

/// Fails if a query can read its answer, or what it needs is not in the episode.
pub(crate) fn assert_no_leak(episode: &Episode) {
    for query in &episode.queries {
        assert!(!query.context.contains(&query.target), "{query:?}");
        for &i in &query.context {
            assert_ne!(episode.pairs[i], episode.pairs[query.target], "{query:?}");
        }
    }
}
