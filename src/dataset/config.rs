//! Settings of the TTT dataset.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::Augmenter;
use crate::arc::{ColorPermutation, N_COLORS};

/// How episodes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Every step draws a fresh symmetry, recoloring and order, and holds out each demonstration in turn.
    Streaming,
    /// The same, but in-context only the last demonstration of the drawn order is held out (Franzen et al.).
    Ordered,
    /// A fixed list of leave-one-out items, gone through in epochs (Akyürek et al.).
    Finite,
}

/// How recolorings are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColorSampling {
    /// Colors stay as they are.
    None,
    /// Uniform over all permutations of the ten colors.
    Uniform,
    /// Uniform over the permutations that keep 0.
    KeepZero,
    /// Unchanged, keeping 0, or uniform, with the two probabilities of [`DatasetConfig`].
    Mixed,
    /// The paper's `PermuteColors`: [`ColorPermutation::random_preferring_unused`].
    PreferUnused,
}

/// Which outputs of an in-context item the loss is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LossOn {
    /// The held-out pair's output alone; written `test-output`.
    TestOutput,
    /// Also the outputs of the demonstrations from the `k`-th on, counted from 1, each predicted from the
    /// ones before it; written `outputs-from-k`. The first has nothing to be read from: only a language model, which
    /// learns from it what outputs look like, takes a `k` of 1.
    OutputsFrom(usize),
}

/// A text that is no [`LossOn`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither `test-output` nor `outputs-from-K` with K of at least 1")]
pub struct BadLossOn(pub String);

impl TryFrom<String> for LossOn {
    type Error = BadLossOn;
    fn try_from(text: String) -> Result<Self, BadLossOn> {
        if text == "test-output" {
            return Ok(LossOn::TestOutput);
        }
        let k = text.strip_prefix("outputs-from-").and_then(|k| k.parse().ok());
        k.filter(|&k| k >= 1).map(LossOn::OutputsFrom).ok_or(BadLossOn(text))
    }
}

impl From<LossOn> for String {
    fn from(loss: LossOn) -> String {
        match loss {
            LossOn::TestOutput => "test-output".into(),
            LossOn::OutputsFrom(k) => format!("outputs-from-{k}"),
        }
    }
}

/// Settings of the TTT dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// How episodes follow each other.
    pub sampling: Sampling,
    /// Streaming and ordered: draw a symmetry every step. (A finite dataset has those of its augmenters.)
    pub dihedrals: bool,
    /// How recolorings are drawn.
    pub colors: ColorSampling,
    /// [`ColorSampling::Mixed`]: probability of leaving the colors as they are.
    pub identity_colors: f64,
    /// [`ColorSampling::Mixed`]: probability of keeping 0, where colors are permuted at all.
    pub keep_zero: f64,
    /// Which outputs of an in-context item the loss is taken on.
    pub loss_on: LossOn,
    /// Train-only augmenters. The end-to-end format uses the pure symmetries among them.
    pub augmenters: Vec<Augmenter>,
    /// Streaming and ordered: probability that a step applies one of `augmenters`, drawn uniformly, before
    /// everything else. Where it would exceed 30×30 the step does without.
    pub augment_probability: f64,
    /// Finite: how many recolored and reordered copies each item gets beside itself.
    pub permute_rounds: usize,
    /// Finite: items with more cells than this, all grids together, are left out; 0 sets no limit.
    pub max_cells: usize,
    /// Finite: number of items at most, and the number that leave-two-out items fill up to.
    pub max_items: usize,
    /// Finite: items in one step, drawn without regard to their transforms (end-to-end: within one frame).
    /// 0 puts all items of one transform into one step, where they share the encoded pairs.
    pub batch_size: usize,
    /// Finite: how often the items are gone through; 0 goes on for as long as the fit does.
    pub epochs: usize,
}

impl DatasetConfig {
    /// Draws a recoloring for pairs that use the colors in `used`.
    pub fn draw_colors(&self, used: &[bool; N_COLORS], rng: &mut impl Rng) -> ColorPermutation {
        match self.colors {
            ColorSampling::None => ColorPermutation::IDENTITY,
            ColorSampling::Uniform => ColorPermutation::random(rng),
            ColorSampling::KeepZero => ColorPermutation::random_keeping_zero(rng),
            ColorSampling::PreferUnused => ColorPermutation::random_preferring_unused(used, rng),
            ColorSampling::Mixed => {
                // Both are drawn in any case, so that one probability does not change the other's draws.
                let (identity, zero) = (rng.random::<f64>(), rng.random::<f64>());
                if identity < self.identity_colors {
                    ColorPermutation::IDENTITY
                } else if zero < self.keep_zero {
                    ColorPermutation::random_keeping_zero(rng)
                } else {
                    ColorPermutation::random(rng)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::testing::streaming;
    use super::*;

    #[test]
    fn the_loss_setting_reads_what_it_writes_and_nothing_else() {
        for (loss, text) in
            [(LossOn::TestOutput, "test-output"), (LossOn::OutputsFrom(2), "outputs-from-2")]
        {
            assert_eq!(String::from(loss), text);
            assert_eq!(LossOn::try_from(text.to_owned()), Ok(loss));
        }
        for text in ["", "outputs-from-0", "outputs-from-", "outputs-from-x", "all"] {
            assert_eq!(LossOn::try_from(text.to_owned()), Err(BadLossOn(text.into())));
        }
    }

    #[test]
    fn mixed_colors_follow_their_probabilities() {
        let config = DatasetConfig { identity_colors: 0.25, keep_zero: 0.5, ..streaming() };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let (mut identity, mut zero) = (0, 0);
        for _ in 0..4000 {
            let p = config.draw_colors(&[true; N_COLORS], &mut rng);
            identity += usize::from(p == ColorPermutation::IDENTITY);
            zero += usize::from(p != ColorPermutation::IDENTITY && p.map(0) == 0);
        }
        assert!((900..1100).contains(&identity), "{identity}");
        // Half of the permuted ones, and a tenth of the uniform ones by chance.
        assert!((1550..1750).contains(&zero), "{zero}");
    }
}
