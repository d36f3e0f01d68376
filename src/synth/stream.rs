//! An endless stream of example sets, for pre-training.

use crate::arc::Example;

use super::canvas::{between, chance, pick};
use super::{Family, families, sample_composition, sample_pairs};

/// Examples of one rule, and the families that it is from.
#[derive(Debug, Clone)]
pub struct Sampled {
    /// The family.
    pub family: &'static Family,
    /// For a composition, the family whose rule follows.
    pub then: Option<&'static Family>,
    /// The examples.
    pub examples: Vec<Example>,
}

/// Below this side too few families have room.
pub const MIN_STREAM_SIDE: usize = 6;

/// What [`stream`] mixes.
#[derive(Debug, Clone, Copy)]
pub struct StreamConfig {
    /// Seed of the whole stream.
    pub seed: u64,
    /// Largest side of a grid.
    pub max_side: usize,
    /// Hardest families that take part, from 1 to 5.
    pub max_difficulty: u8,
    /// Share of compositions, from 0 to 1.
    pub compositions: f64,
    /// Fewest and most examples of a rule.
    pub n_examples: (usize, usize),
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { seed: 0, max_side: 30, max_difficulty: 5, compositions: 0.2, n_examples: (3, 6) }
    }
}

/// The example sets of an endless stream, each a function of the seed and its index.
pub fn stream(config: StreamConfig) -> impl Iterator<Item = Sampled> {
    (0..).map(move |index| sample_at(config, index))
}

/// The example set at `index` of [`stream`].
///
/// # Panics
/// If `max_side` is below [`MIN_STREAM_SIDE`], `max_difficulty` is 0 or `n_examples` is not a range.
pub fn sample_at(config: StreamConfig, index: u64) -> Sampled {
    assert!(config.max_side >= MIN_STREAM_SIDE, "too little room for most families");
    let mut rng = crate::rng::stream(config.seed, "synth", "stream", index);
    let rng = &mut rng;
    let all: Vec<&Family> =
        families().iter().filter(|family| family.difficulty <= config.max_difficulty).collect();
    let general: Vec<&Family> = all.iter().copied().filter(|family| family.is_general).collect();
    loop {
        let max_side = between(rng, 8, 14).max(between(rng, 8, 30)).min(config.max_side);
        let n = between(rng, config.n_examples.0, config.n_examples.1);
        let family = pick(rng, &all);
        let then = chance(rng, config.compositions).then(|| pick(rng, &general));
        let examples = match then {
            Some(then) => sample_composition(family, then, rng, n, max_side),
            None => sample_pairs(family, rng, n, max_side),
        };
        if let Some(examples) = examples {
            return Sampled { family, then, examples };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_depends_on_seed_and_index_alone() {
        let config = StreamConfig { seed: 5, ..Default::default() };
        let first: Vec<_> = stream(config).take(30).map(|s| s.examples).collect();
        assert_eq!(first[29], sample_at(config, 29).examples);
        let other = StreamConfig { seed: 6, ..config };
        assert_ne!(first[0], sample_at(other, 0).examples);
        assert!(first.iter().all(|e| (3..=6).contains(&e.len())));
    }
}
