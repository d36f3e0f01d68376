//! Rotary position embedding as the checkpoints' weights expect it: the two halves of a head are turned
//! against each other (Su et al. 2021, arXiv 2104.09864; Hugging Face's half-split layout).

use std::f64::consts::TAU;

use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use super::config::{LlamaConfig, RopeScaling};

/// Radians a position for each pair of a head, `head_dim / 2` of them.
pub(super) fn frequencies(config: &LlamaConfig) -> Vec<f32> {
    let half = config.head_dim / 2;
    let plain = (0..half).map(|i| config.rope_theta.powf(-(i as f64) / half as f64));
    plain.map(|f| scaled(f, &config.rope_scaling) as f32).collect()
}

fn scaled(frequency: f64, scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            // Turns that a pair makes within the original context.
            let turns = original_max_position_embeddings as f64 * frequency / TAU;
            let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let kept = kept.clamp(0.0, 1.0);
            frequency * (kept + (1.0 - kept) / factor)
        }
    }
}

/// Cosines and sines of the angles of tokens at `positions`, each `[positions.len(), frequencies.len()]`.
pub(super) fn angles(positions: &[u32], frequencies: &[f32]) -> [Vec<f32>; 2] {
    [f32::cos as fn(f32) -> f32, f32::sin].map(|f| {
        let of = |&p: &u32| frequencies.iter().map(move |w| f(p as f32 * w));
        positions.par_iter().with_min_len(64).flat_map_iter(of).collect()
    })
}

/// [`angles`] for the tokens of a batch, as tensors; all layers share them.
pub(super) struct Rotation {
    /// `[n_rows, 1, length, head_dim / 2]`.
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    /// For tokens at `positions`, row by row.
    pub(super) fn new(
        positions: &[u32],
        n_rows: usize,
        frequencies: &[f32],
        dtype: DType,
        device: &Device,
    ) -> Self {
        let shape = [n_rows, 1, positions.len() / n_rows, frequencies.len()];
        let [cos, sin] = angles(positions, frequencies)
            .map(|values| Tensor::from_data(TensorData::new(values, shape), (device, dtype)));
        Self { cos, sin }
    }

    /// Turns the heads of each token by its position.
    ///
    /// # Shapes
    /// - x, returns: `[n_rows, n_heads, length, head_dim]`
    pub(super) fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let halves = x.chunk(2, 3);
        let [a, b]: [Tensor<4>; 2] = halves.try_into().expect("head_dim is even");
        let turned = a.clone() * self.cos.clone() - b.clone() * self.sin.clone();
        Tensor::cat(vec![turned, b * self.cos.clone() + a * self.sin.clone()], 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_short_waves_divides_long_ones_and_is_continuous_between() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let wave = |tokens: f64| scaled(TAU / tokens, &scaling) / (TAU / tokens);
        assert_eq!(wave(8192.0 / 4.0 - 1.0), 1.0);
        assert_eq!(wave(8192.0 + 1.0), 1.0 / 8.0);
        assert!((wave(8192.0 / 4.0 + 1.0) - 1.0).abs() < 1e-2);
        assert!((wave(8192.0 - 1.0) - 1.0 / 8.0).abs() < 1e-2);
        assert_eq!(scaled(0.5, &RopeScaling::Linear { factor: 2.0 }), 0.25);
    }
}
