//! How much memory and arithmetic a fit takes, from the sizes in `config.json` alone.
//!
//! Counted is what the backward pass keeps, block by block, and the largest that lives besides for a moment. This is
//! the only such estimate: [`Budget::beside_weights`] is what `--memory` must allow, [`Budget::fitting`] what a device
//! must hold. `tests/it/llama.rs` compares it with the measured memory of small models.

use super::config::LlamaConfig;
use super::lora::Target;

/// Bytes of an f32; adapters, their gradients and moments are always such.
const F32: u64 = 4;

/// How often what is kept moves through a device's memory in a step: operations on single elements write and read it on
/// the way forward and back, about forty times four bytes for the eight that are kept of a score, of which fusion spares
/// half.
const MOVED: u64 = 10;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Sequences side by side.
    pub rows: usize,
    /// Tokens of each.
    pub length: usize,
    /// How many of all tokens are learnt; only they have scores.
    pub targets: usize,
    /// Rank of the adapter.
    pub rank: usize,
    /// Layers that it adapts.
    pub adapted: Vec<Target>,
    /// Bytes of a weight: 2 or 4.
    pub weight_bytes: u64,
    /// Whether only each block's input is kept ([`super::Trainer::with_gradient_checkpointing`]).
    pub gradient_checkpointing: bool,
    /// Whether blocks run fused, as on the CPU in f32, or as Burn operations, which keep the attention's scores.
    pub fused: bool,
}

/// Bytes and operations of a fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Budget {
    /// The base model.
    pub weights: u64,
    /// The adapter.
    pub adapter: u64,
    /// Its gradients.
    pub gradients: u64,
    /// AdamW's two moments.
    pub optimizer: u64,
    /// What a step keeps for its gradients, and the largest that lives besides.
    pub activations: u64,
    /// Keys and values of all rows, for decoding; a cache grows by doubling.
    pub kv_cache: u64,
    /// Floating-point operations of a step.
    pub flop: u64,
    /// Bytes that a step moves through the device's memory.
    pub moved: u64,
}

impl Budget {
    /// Bytes of the adapter and what belongs to it while it is fitted.
    pub fn adapting(&self) -> u64 {
        // The best weights so far are kept beside these, and the sum of the gradients beside those of a part.
        2 * self.adapter + 2 * self.gradients + self.optimizer
    }

    /// Bytes that a fit takes beside the base model: what `--memory` must allow.
    pub fn beside_weights(&self) -> u64 {
        // Measured activations were up to a third more than estimated.
        self.adapting() + self.activations / 3 * 4
    }

    /// Bytes while fitting.
    pub fn fitting(&self) -> u64 {
        self.weights + self.beside_weights()
    }

    /// Bytes while decoding.
    pub fn decoding(&self) -> u64 {
        // A layer's cache that grows is there twice, and its zeros once more: measured ones took up to 1.44 times as much.
        self.weights + self.adapter + self.kv_cache / 2 * 3
    }
}

impl LlamaConfig {
    /// Weights of a block's linear layers.
    fn block_weights(&self) -> usize {
        Target::BLOCK.iter().map(|t| t.sizes(self)).map(|(inputs, outputs)| inputs * outputs).sum()
    }

    /// Numbers that a cache holds of a token: its keys and values in all blocks.
    pub fn cached_numbers(&self) -> usize {
        2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim
    }

    /// What a fit of this size takes.
    pub fn budget(&self, work: &Workload) -> Budget {
        let layers = self.num_hidden_layers as u64;
        let factors = |t: &Target| {
            let (inputs, outputs) = t.sizes(self);
            let times = if Target::BLOCK.contains(t) { self.num_hidden_layers } else { 1 };
            (work.rank * (inputs + outputs) * times) as u64
        };
        let n_adapter: u64 = work.adapted.iter().map(factors).sum();
        let adapter = n_adapter * F32;
        let weights = self.n_parameters() * work.weight_bytes;
        let tokens = (work.rows * work.length) as u64;
        let (kept, passing) = self.block_bytes(work);
        let stream = tokens * self.hidden_size as u64 * self.activation_bytes(work);
        // Checkpointing keeps a block's input for all, and everything for one.
        let blocks = match work.gradient_checkpointing {
            true => layers * stream + kept,
            false => layers * kept,
        };
        // Scores, their logarithms and the gradients of these, and the last norm.
        let head = 4 * work.targets as u64 * self.vocab_size as u64 * F32 + 4 * stream;
        let n_block = self.block_weights() as u64;
        let n_head = (self.vocab_size * self.hidden_size) as u64;
        let scores = (self.num_attention_heads * self.head_dim * work.length) as u64;
        // Forward and for the inputs' gradients alike; frozen weights have none. Causal attention reads half of the
        // keys, fused; its gradients take two and a half times as much.
        let share = if work.fused { 1 } else { 2 };
        let linear = 2 * tokens * (layers * n_block + n_adapter) + 2 * work.targets as u64 * n_head;
        let attention = layers * tokens * 2 * scores * share;
        let again = if work.gradient_checkpointing { 1 } else { 0 };
        let adapter_gradients = 2 * tokens * n_adapter;
        let cached = (work.rows * work.length.next_power_of_two() * self.cached_numbers()) as u64;
        Budget {
            weights,
            adapter,
            gradients: adapter,
            optimizer: 2 * adapter,
            activations: blocks + passing.max(head),
            kv_cache: cached * work.weight_bytes,
            flop: (2 + again) * linear + adapter_gradients + attention * (7 + 2 * again) / 2,
            moved: (2 + again) * weights + MOVED * (2 + again) / 2 * (layers * kept + head),
        }
    }

    fn activation_bytes(&self, work: &Workload) -> u64 {
        if work.fused { F32 } else { work.weight_bytes }
    }

    /// Bytes that a block keeps for its gradients, and that live besides while these are made.
    fn block_bytes(&self, work: &Workload) -> (u64, u64) {
        let (d, f, h) = (self.hidden_size, self.intermediate_size, self.num_attention_heads);
        let (q, kv) = (h * self.head_dim, self.num_key_value_heads * self.head_dim);
        let tokens = (work.rows * work.length) as u64;
        if work.fused {
            // Input, projections, attention's output and sums, middle activation, gate and up.
            let kept = d + (q + 2 * kv) + q + h + d + 2 * f;
            // Both norms' outputs and the middle's gradient, the MLP's product and gradients, attention's gradients,
            // what one group of layers saw once more, packed.
            let passing = 3 * d + 3 * f + q + 2 * (q + 2 * kv) + f.max(d) + d;
            let packed = (self.block_weights() - d * (q + 2 * kv)) as u64;
            // Recycled buffers are up to an eighth larger than what is in them.
            let bytes = |floats: u64| floats * F32 * 9 / 8;
            return (bytes(tokens * kept as u64), bytes(tokens * passing as u64 + packed));
        }
        let adapts = |targets: &[Target]| targets.iter().any(|t| work.adapted.contains(t));
        let read_by = |targets: &[Target], size: usize| if adapts(targets) { size } else { 0 };
        let adapted = Target::BLOCK.iter().filter(|t| work.adapted.contains(t)).count();
        // In f32 whatever the weights are: the norms' inputs, and what adapters read, once for all that read the same,
        // and make of it.
        let wide = 2 * d
            + if self.qk_norm { q + kv } else { 0 }
            + read_by(&[Target::QProj, Target::KProj, Target::VProj], d)
            + read_by(&[Target::OProj], q)
            + read_by(&[Target::GateProj, Target::UpProj], d)
            + read_by(&[Target::DownProj], f)
            + adapted * work.rank;
        // As the weights are: what is multiplied in attention; gate, its sigmoid, their product, and up.
        let narrow = q + 2 * kv + 4 * f;
        // Of the scores their exponentials and shares.
        let scores = tokens * (h * work.length) as u64;
        let kept = tokens * (wide as u64 * F32 + narrow as u64 * work.weight_bytes)
            + scores * (F32 + work.weight_bytes);
        // Gradients of what adapters make are f32.
        let passing = tokens * (4 * d + 3 * f) as u64 * F32 + 3 * scores * F32;
        (kept, passing)
    }
}
