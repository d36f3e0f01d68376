//! One block of a decoder of the Llama family, forward and backward.
//!
//! ```text
//! h = RMSNorm(x)·g₁              q, k, v = h·Wᵀ + b
//! q, k ← RMSNorm per head (Qwen3), then turned by the token's position
//! o = softmax(q·kᵀ/√head_dim)·v  y = x + o·W_oᵀ
//! m = RMSNorm(y)·g₂              z = y + (silu(m·W_gateᵀ) ∘ m·W_upᵀ)·W_downᵀ
//! ```
//! LoRA: each `W` may carry an update `scale·B·A`. With many tokens `W + scale·B·A` is made anew in each pass and
//! dropped with it, which costs `rank/n_tokens` of the product; with few, updates stay on the side of the activations.
//! No gradient of a frozen weight is formed: `dA = scale·(dy·B)ᵀx`, `dB = scale·dyᵀ(x·Aᵀ)`.
//!
//! Kept for the backward pass: queries, keys and values before norm and rotation, the attention's output and row
//! sums, the middle activation `y`, and what gate and up give.

use std::ops::Range;

use rayon::prelude::*;

use super::block::CHUNK;
use super::buffer::Buffer;
use super::causal::{
    Cached, CausalLayout, CausalSequence, GroupedHeads, causal_backward, causal_forward,
};
use super::matmul::{Into, Mat, Packed, Precision, multiply};
use super::rows::{add_assign, gain_chunks, rms_norm, rms_norm_backward, rotate_head, sum_chunks};
use super::simd::{exp_nonpositive, multiversion};
use super::thin::{THIN, multiply_thin};

/// Linear layers of a block, in this order: q, k, v, o, gate, up, down.
pub const LINEARS: usize = 7;
const O: usize = 3;
const GATE: usize = 4;
const UP: usize = 5;
const DOWN: usize = 6;

/// Norms of a block, in this order: before attention, of a head's queries, of its keys, before the MLP.
pub const NORMS: usize = 4;
const INPUT_NORM: usize = 0;
const Q_NORM: usize = 1;
const K_NORM: usize = 2;
const MLP_NORM: usize = 3;

/// Sizes of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecoderShape {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Attention's sizes.
    pub heads: GroupedHeads,
    /// Added to the mean square in RMSNorm.
    pub epsilon: f32,
    /// Factor in front of LoRA's `B·A`.
    pub lora_scale: f32,
}

impl DecoderShape {
    /// Inputs and outputs of each linear layer.
    pub fn linears(&self) -> [(usize, usize); LINEARS] {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.heads.queries(), self.heads.keys());
        [(d, q), (d, kv), (d, kv), (q, d), (d, f), (d, f), (f, d)]
    }

    /// Where the outputs of q, k, v begin in a token's floats, and of gate, up in theirs.
    fn column(&self, linear: usize) -> usize {
        let (q, kv) = (self.heads.queries(), self.heads.keys());
        [0, q, q + kv, 0, 0, self.intermediate_size, 0][linear]
    }
}

/// A value for each parameter of a block.
#[derive(Debug, Clone, Default)]
pub struct PerParameter<T> {
    /// Gains: `[hidden_size]`, of the heads' norms `[head_dim]`.
    pub norms: [T; NORMS],
    /// `[outputs, inputs]`.
    pub weights: [T; LINEARS],
    /// `[outputs]`.
    pub biases: [T; LINEARS],
    /// LoRA's first factors, `[rank, inputs]`.
    pub lora_a: [T; LINEARS],
    /// LoRA's second factors, `[outputs, rank]`.
    pub lora_b: [T; LINEARS],
}

/// Parameters of a block.
pub const PARAMETERS: usize = NORMS + 4 * LINEARS;

impl<T> PerParameter<T> {
    /// From a list in the order of the fields.
    pub(super) fn from_list(list: [T; PARAMETERS]) -> Self {
        let mut values = list.into_iter();
        let mut next = || values.next().expect("as many as parameters");
        Self {
            norms: std::array::from_fn(|_| next()),
            weights: std::array::from_fn(|_| next()),
            biases: std::array::from_fn(|_| next()),
            lora_a: std::array::from_fn(|_| next()),
            lora_b: std::array::from_fn(|_| next()),
        }
    }

    /// All values, in the order of the fields.
    pub(super) fn into_list(self) -> [T; PARAMETERS] {
        let Self { norms, weights, biases, lora_a, lora_b } = self;
        let mut values =
            (norms.into_iter().chain(weights).chain(biases)).chain(lora_a).chain(lora_b);
        std::array::from_fn(|_| values.next().expect("as many as parameters"))
    }
}

/// A block's parameters; one that the block does not have is empty.
pub(super) type Weights<'a> = PerParameter<&'a [f32]>;

/// What [`decoder_forward`] keeps for [`decoder_backward`].
#[derive(Debug)]
pub(super) struct DecoderState {
    qkv: Buffer,
    attended: Buffer,
    log_sum_exp: Buffer,
    middle: Buffer,
    gate_up: Buffer,
}

/// A linear layer, ready for rows of activations.
enum Linear<'a> {
    /// Read where it lies.
    Thin { weight: &'a [f32], lora: Option<[&'a [f32]; 2]>, inputs: usize, scale: f32 },
    /// Packed, with the update in it or beside it.
    Packed { weight: Packed, lora: Option<[Packed; 2]>, rank: usize, scale: f32 },
}

impl<'a> Linear<'a> {
    fn new(shape: &DecoderShape, weights: &Weights<'a>, i: usize, n_tokens: usize) -> Self {
        let (inputs, outputs) = shape.linears()[i];
        let (weight, scale) = (weights.weights[i], shape.lora_scale);
        let (a, b) = (weights.lora_a[i], weights.lora_b[i]);
        let adapted = !a.is_empty();
        if n_tokens <= THIN {
            return Self::Thin { weight, lora: adapted.then_some([a, b]), inputs, scale };
        }
        // Whichever costs fewer multiplications.
        let rank = a.len() / inputs;
        if adapted && n_tokens * (inputs + outputs) < inputs * outputs {
            let factors = [Mat::new(a, rank, inputs), Mat::new(b, outputs, rank)];
            let lora = Some(factors.map(|m| Packed::in_parallel(m.t(), Precision::F32)));
            let weight = Packed::in_parallel(Mat::new(weight, outputs, inputs).t(), Precision::F32);
            return Self::Packed { weight, lora, rank, scale };
        }
        Self::Packed { weight: packed(shape, weights, i, true), lora: None, rank, scale }
    }

    /// `c = x·Wᵀ` or `c += x·Wᵀ`, for `x` `[rows, inputs]` and rows of `c` that begin `stride` floats apart.
    fn apply(&self, c: &mut [f32], stride: usize, into: Into, x: &[f32], rows: usize) {
        match self {
            Self::Thin { weight, lora, inputs, scale } => {
                multiply_thin(c, stride, into, 1.0, x, weight, *inputs);
                if let Some([a, b]) = lora {
                    let rank = a.len() / inputs;
                    let mut low = Buffer::stale(rows * rank);
                    multiply_thin(&mut low, rank, Into::Set, 1.0, x, a, *inputs);
                    multiply_thin(c, stride, Into::Add, *scale, &low, b, rank);
                }
            }
            Self::Packed { weight, lora, rank, scale } => {
                let x = Mat::new(x, rows, x.len() / rows);
                multiply(c, stride, into, 1.0, x, weight);
                if let Some([a, b]) = lora {
                    let mut low = Buffer::stale(rows * rank);
                    multiply(&mut low, *rank, Into::Set, 1.0, x, a);
                    multiply(c, stride, Into::Add, *scale, Mat::new(&low, rows, *rank), b);
                }
            }
        }
    }
}

/// A linear layer's weight with its update, packed: transposed for rows of activations, as it is for rows of
/// gradients.
fn packed(shape: &DecoderShape, weights: &Weights<'_>, i: usize, transposed: bool) -> Packed {
    let (inputs, outputs) = shape.linears()[i];
    let (a, b) = (weights.lora_a[i], weights.lora_b[i]);
    let pack = |weight: &[f32]| {
        let weight = Mat::new(weight, outputs, inputs);
        Packed::in_parallel(if transposed { weight.t() } else { weight }, Precision::F32)
    };
    if a.is_empty() {
        return pack(weights.weights[i]);
    }
    let rank = a.len() / inputs;
    let mut sum = Buffer::stale(outputs * inputs);
    let a = Packed::new(Mat::new(a, rank, inputs));
    sum.par_chunks_mut(CHUNK * inputs)
        .zip(weights.weights[i].par_chunks(CHUNK * inputs))
        .zip(b.par_chunks(CHUNK * rank))
        .for_each(|((sum, weight), b)| {
            sum.copy_from_slice(weight);
            let b = Mat::new(b, b.len() / rank, rank);
            multiply(sum, inputs, Into::Add, shape.lora_scale, b, &a);
        });
    pack(&sum)
}

fn add_bias(c: &mut [f32], stride: usize, bias: &[f32]) {
    if !bias.is_empty() {
        c.chunks_mut(stride).for_each(|row| add_assign(&mut row[..bias.len()], bias));
    }
}

/// Normalizes heads of queries and keys, where the block does, and turns them, in place.
fn turn(shape: &DecoderShape, weights: &Weights<'_>, qkv: &mut [f32], cos: &[f32], sin: &[f32]) {
    let GroupedHeads { head_dim, .. } = shape.heads;
    let mut plain = Buffer::stale(shape.heads.queries());
    let mut ignored = Buffer::stale(shape.heads.n_heads);
    let angles = cos.chunks_exact(head_dim / 2).zip(sin.chunks_exact(head_dim / 2));
    for (row, (cos, sin)) in qkv.chunks_exact_mut(shape.heads.width()).zip(angles) {
        let (q, rest) = row.split_at_mut(shape.heads.queries());
        for (part, norm) in [(q, Q_NORM), (&mut rest[..shape.heads.keys()], K_NORM)] {
            let gain = weights.norms[norm];
            if !gain.is_empty() {
                let plain = &mut plain[..part.len()];
                plain.copy_from_slice(part);
                rms_norm(plain, gain, shape.epsilon, part, &mut ignored);
            }
            part.chunks_exact_mut(head_dim).for_each(|head| rotate_head(head, cos, sin, 1.0));
        }
    }
}

/// Gradient of [`turn`] in place: `dqkv` holds the gradients after it, then before it; `qkv` the values before it.
/// The gains' gradients are added to `dgains` unless these are empty.
fn turn_backward(
    shape: &DecoderShape,
    weights: &Weights<'_>,
    qkv: &[f32],
    dqkv: &mut [f32],
    cos: &[f32],
    sin: &[f32],
    dgains: [&mut [f32]; 2],
) {
    let GroupedHeads { head_dim, .. } = shape.heads;
    let [mut normed, mut turned] = [(); 2].map(|()| Buffer::stale(shape.heads.queries()));
    let mut r = Buffer::stale(shape.heads.n_heads);
    let angles = cos.chunks_exact(head_dim / 2).zip(sin.chunks_exact(head_dim / 2));
    let rows = qkv.chunks_exact(shape.heads.width());
    let drows = dqkv.chunks_exact_mut(shape.heads.width());
    let [dq_gain, dk_gain] = dgains;
    for ((row, drow), (cos, sin)) in rows.zip(drows).zip(angles) {
        let (q, rest) = row.split_at(shape.heads.queries());
        let (dq, drest) = drow.split_at_mut(shape.heads.queries());
        let keys = shape.heads.keys();
        for (part, dpart, norm, dgain) in [
            (q, dq, Q_NORM, &mut *dq_gain),
            (&rest[..keys], &mut drest[..keys], K_NORM, &mut *dk_gain),
        ] {
            dpart.chunks_exact_mut(head_dim).for_each(|head| rotate_head(head, cos, sin, -1.0));
            let gain = weights.norms[norm];
            if !gain.is_empty() {
                let (normed, turned) = (&mut normed[..part.len()], &mut turned[..part.len()]);
                rms_norm(part, gain, shape.epsilon, normed, &mut r);
                turned.copy_from_slice(dpart);
                dpart.fill(0.0);
                rms_norm_backward(part, gain, &r, turned, dpart, dgain);
            }
        }
    }
}

/// Where a pass of decoding keeps keys and values, each `[n_rows, n_kv_heads, capacity, head_dim]`.
pub(super) struct CacheMut<'a> {
    pub(super) keys: &'a mut [f32],
    pub(super) values: &'a mut [f32],
    pub(super) capacity: usize,
}

impl CacheMut<'_> {
    /// Writes the turned keys and the values of each sequence behind the tokens that its row holds.
    fn write(&mut self, layout: &CausalLayout, heads: GroupedHeads, qkv: &[f32]) {
        let (hd, width) = (heads.head_dim, heads.width());
        let n_rows = self.keys.len() / (heads.n_kv_heads * self.capacity * hd);
        let mut written = vec![false; n_rows];
        for CausalSequence { own, row, past } in &layout.sequences {
            assert!(!std::mem::replace(&mut written[*row], true), "two sequences of a row");
            assert!(past + own.len() <= self.capacity, "more tokens than the cache has room for");
            for (token, at) in own.clone().zip(*past..) {
                let token = &qkv[token * width..][heads.queries()..width];
                let (keys, values) = token.split_at(heads.keys());
                for (to, from) in [(&mut *self.keys, keys), (&mut *self.values, values)] {
                    for (head, from) in from.chunks_exact(hd).enumerate() {
                        let place = (row * heads.n_kv_heads + head) * self.capacity + at;
                        to[place * hd..(place + 1) * hd].copy_from_slice(from);
                    }
                }
            }
        }
    }
}

/// Runs a block; with a cache, the tokens go on behind those that it holds, and are written into it.
///
/// # Shapes
/// - x: `[n_tokens, hidden_size]`
/// - returns: `[n_tokens, hidden_size]`, and what the backward pass needs if `keep`
///
/// # Panics
/// If a size does not fit, or two sequences share a token.
pub(super) fn decoder_forward(
    shape: &DecoderShape,
    layout: &CausalLayout,
    weights: &Weights<'_>,
    x: &[f32],
    cache: Option<&mut CacheMut<'_>>,
    keep: bool,
) -> (Buffer, Option<DecoderState>) {
    let (d, f, heads) = (shape.hidden_size, shape.intermediate_size, shape.heads);
    let (n, width, half) = (x.len() / d, heads.width(), heads.head_dim / 2);
    layout.check(n);
    assert!(layout.cos.len() == n * half && layout.sin.len() == n * half, "an angle each");
    let linear = |i: usize| Linear::new(shape, weights, i, n);

    let mut qkv = Buffer::stale(n * width);
    let mut raw = Buffer::stale(if keep { n * width } else { 0 });
    let projections = [0, 1, 2].map(linear);
    qkv.par_chunks_mut(CHUNK * width)
        .zip(chunks_or_none(&mut raw, CHUNK * width, n.div_ceil(CHUNK)))
        .zip(x.par_chunks(CHUNK * d))
        .zip(layout.cos.par_chunks(CHUNK * half).zip(layout.sin.par_chunks(CHUNK * half)))
        .for_each(|(((qkv, raw), x), (cos, sin))| {
            let rows = x.len() / d;
            let (mut h, mut ignored) = (Buffer::stale(x.len()), Buffer::stale(rows));
            rms_norm(x, weights.norms[INPUT_NORM], shape.epsilon, &mut h, &mut ignored);
            for (i, linear) in projections.iter().enumerate() {
                let qkv = &mut qkv[shape.column(i)..];
                linear.apply(qkv, width, Into::Set, &h, rows);
                add_bias(qkv, width, weights.biases[i]);
            }
            if keep {
                raw.copy_from_slice(qkv);
            }
            turn(shape, weights, qkv, cos, sin);
        });
    drop(projections);

    let mut attended = Buffer::stale(n * heads.queries());
    let mut log_sum_exp = Buffer::stale(heads.n_heads * n);
    let cached = cache.map(|cache| {
        cache.write(layout, heads, &qkv);
        Cached { keys: cache.keys, values: cache.values, capacity: cache.capacity }
    });
    causal_forward(layout, heads, &qkv, cached, &mut attended, &mut log_sum_exp);
    drop(qkv);

    let mut middle = Buffer::stale(if keep { n * d } else { 0 });
    let mut gate_up = Buffer::stale(if keep { n * 2 * f } else { 0 });
    let mut out = Buffer::stale(n * d);
    let n_chunks = n.div_ceil(CHUNK);
    let [o, gate, up, down] = [O, GATE, UP, DOWN].map(linear);
    out.par_chunks_mut(CHUNK * d)
        .zip(chunks_or_none(&mut middle, CHUNK * d, n_chunks))
        .zip(chunks_or_none(&mut gate_up, CHUNK * 2 * f, n_chunks))
        .zip(attended.par_chunks(CHUNK * heads.queries()))
        .zip(x.par_chunks(CHUNK * d))
        .for_each(|((((out, middle), gate_up), attended), x)| {
            let rows = x.len() / d;
            out.copy_from_slice(x);
            o.apply(out, d, Into::Add, attended, rows);
            add_bias(out, d, weights.biases[O]);
            let (mut m, mut ignored) = (Buffer::stale(rows * d), Buffer::stale(rows));
            rms_norm(out, weights.norms[MLP_NORM], shape.epsilon, &mut m, &mut ignored);
            let mut scratch = Buffer::stale(if keep { 0 } else { rows * 2 * f });
            let gate_up = if keep { gate_up } else { &mut scratch[..] };
            for (i, linear) in [(GATE, &gate), (UP, &up)] {
                let to = &mut gate_up[shape.column(i)..];
                linear.apply(to, 2 * f, Into::Set, &m, rows);
                add_bias(to, 2 * f, weights.biases[i]);
            }
            let mut a = Buffer::stale(rows * f);
            swiglu(gate_up, f, &mut a);
            if keep {
                middle.copy_from_slice(out);
            }
            down.apply(out, d, Into::Add, &a, rows);
            add_bias(out, d, weights.biases[DOWN]);
        });
    let state = keep.then_some(DecoderState { qkv: raw, attended, log_sum_exp, middle, gate_up });
    (out, state)
}

/// One slice of a buffer for each chunk; empty slices if the buffer is.
fn chunks_or_none(buffer: &mut [f32], len: usize, n_chunks: usize) -> Vec<&mut [f32]> {
    if buffer.is_empty() {
        return (0..n_chunks).map(|_| &mut [][..]).collect();
    }
    buffer.chunks_mut(len).collect()
}

/// Gradients of [`decoder_forward`] without a cache, for the output's gradient `dz`: of the input, and of each
/// parameter that is wanted. What is not wanted is empty.
///
/// # Panics
/// If a size does not fit.
pub(super) fn decoder_backward(
    shape: &DecoderShape,
    layout: &CausalLayout,
    weights: &Weights<'_>,
    x: &[f32],
    state: &DecoderState,
    dz: &[f32],
    input_wanted: bool,
    wanted: &PerParameter<bool>,
) -> (Vec<f32>, PerParameter<Vec<f32>>) {
    let (d, f, heads) = (shape.hidden_size, shape.intermediate_size, shape.heads);
    let (n, width, half) = (x.len() / d, heads.width(), heads.head_dim / 2);
    let (epsilon, q_width) = (shape.epsilon, heads.queries());
    let n_chunks = n.div_ceil(CHUNK);
    let back = |i: usize| packed(shape, weights, i, false);
    let mut dgains: [Buffer; NORMS] = std::array::from_fn(|i| {
        let len = if wanted.norms[i] { weights.norms[i].len() } else { 0 };
        Buffer::zeros(n_chunks * len)
    });
    let [din, dq_gain, dk_gain, dmlp] = &mut dgains;
    let range = |i: usize, rows: usize, width: usize| i * CHUNK * width..(i * CHUNK + rows) * width;

    // MLP: from dz to the gradients of gate and up, of the middle activation and of the attention's output.
    let mut m = Buffer::stale(n * d);
    let mut a = Buffer::stale(n * f);
    let mut dgate_up = Buffer::stale(n * 2 * f);
    let mut dy = Buffer::stale(n * d);
    let mut dattended = Buffer::stale(n * q_width);
    let [o, gate, up, down] = [O, GATE, UP, DOWN].map(back);
    dy.par_chunks_mut(CHUNK * d)
        .zip(dgate_up.par_chunks_mut(CHUNK * 2 * f))
        .zip(a.par_chunks_mut(CHUNK * f))
        .zip(m.par_chunks_mut(CHUNK * d))
        .zip(dattended.par_chunks_mut(CHUNK * q_width))
        .zip(gain_chunks(dmlp, n_chunks))
        .enumerate()
        .for_each(|(i, (((((dy, dgate_up), a), m), dattended), dgain))| {
            let rows = dy.len() / d;
            let middle = &state.middle[range(i, rows, d)];
            let dz = &dz[range(i, rows, d)];
            let mut da = Buffer::stale(rows * f);
            multiply(&mut da, f, Into::Set, 1.0, Mat::new(dz, rows, d), &down);
            swiglu_backward(&state.gate_up[range(i, rows, 2 * f)], f, &da, dgate_up, a);
            let (mut dm, mut r) = (Buffer::stale(rows * d), Buffer::stale(rows));
            for (into, column, weight) in [(Into::Set, 0, &gate), (Into::Add, f, &up)] {
                let from = Mat::strided(&dgate_up[column..], rows, f, 2 * f);
                multiply(&mut dm, d, into, 1.0, from, weight);
            }
            let gain = weights.norms[MLP_NORM];
            rms_norm(middle, gain, epsilon, m, &mut r);
            dy.copy_from_slice(dz);
            rms_norm_backward(middle, gain, &r, &dm, dy, dgain);
            multiply(dattended, q_width, Into::Set, 1.0, Mat::new(dy, rows, d), &o);
        });
    drop([o, gate, up, down]);

    // Attention, on queries and keys that are normalized and turned once more.
    let mut turned = Buffer::stale(n * width);
    turned
        .par_chunks_mut(CHUNK * width)
        .zip(state.qkv.par_chunks(CHUNK * width))
        .zip(layout.cos.par_chunks(CHUNK * half).zip(layout.sin.par_chunks(CHUNK * half)))
        .for_each(|((turned, raw), (cos, sin))| {
            turned.copy_from_slice(raw);
            turn(shape, weights, turned, cos, sin);
        });
    let mut dqkv = Buffer::stale(n * width);
    let (attended, lse) = (&state.attended, &state.log_sum_exp);
    causal_backward(layout, heads, &turned, attended, lse, &dattended, &mut dqkv);
    drop((turned, dattended));

    // Projections and first norm: from dqkv to dx.
    let need_dx = input_wanted || wanted.norms[INPUT_NORM];
    let mut h = Buffer::stale(n * d);
    let mut dx = Buffer::stale(if need_dx { n * d } else { 0 });
    let projections = if need_dx { vec![back(0), back(1), back(2)] } else { Vec::new() };
    dqkv.par_chunks_mut(CHUNK * width)
        .zip(h.par_chunks_mut(CHUNK * d))
        .zip(chunks_or_none(&mut dx, CHUNK * d, n_chunks))
        .zip(gain_chunks(din, n_chunks))
        .zip(gain_chunks(dq_gain, n_chunks).into_par_iter().zip(gain_chunks(dk_gain, n_chunks)))
        .enumerate()
        .for_each(|(i, ((((dqkv, h), dx), dgain), (dq_gain, dk_gain)))| {
            let rows = h.len() / d;
            let raw = &state.qkv[range(i, rows, width)];
            let angles = [&layout.cos, &layout.sin].map(|table| &table[range(i, rows, half)]);
            let [cos, sin] = angles;
            turn_backward(shape, weights, raw, dqkv, cos, sin, [dq_gain, dk_gain]);
            let x = &x[range(i, rows, d)];
            let mut r = Buffer::stale(rows);
            rms_norm(x, weights.norms[INPUT_NORM], epsilon, h, &mut r);
            if need_dx {
                let mut dh = Buffer::stale(rows * d);
                for (i, weight) in projections.iter().enumerate() {
                    let into = if i == 0 { Into::Set } else { Into::Add };
                    let columns = shape.linears()[i].1;
                    let from = Mat::strided(&dqkv[shape.column(i)..], rows, columns, width);
                    multiply(&mut dh, d, into, 1.0, from, weight);
                }
                dx.copy_from_slice(&dy[range(i, rows, d)]);
                rms_norm_backward(x, weights.norms[INPUT_NORM], &r, &dh, dx, dgain);
            }
        });
    drop(projections);

    let mut grads = PerParameter::<Vec<f32>>::default();
    for (i, dgain) in dgains.iter().enumerate().filter(|(i, _)| wanted.norms[*i]) {
        grads.norms[i] = sum_chunks(dgain, weights.norms[i].len());
    }
    // What each linear layer got, with the width of a row, and saw.
    let (qkv, mlp): ((&[f32], _), (&[f32], _)) = ((&dqkv, width), (&dgate_up, 2 * f));
    let gradients: [(&[f32], usize); LINEARS] = [qkv, qkv, qkv, (&dy, d), mlp, mlp, (dz, d)];
    let seen: [(&[usize], &[f32]); 4] =
        [(&[0, 1, 2], &h), (&[O], &state.attended), (&[GATE, UP], &m), (&[DOWN], &a)];
    for (linears, seen) in seen {
        let packed_seen = linears
            .iter()
            .any(|&i| wanted.weights[i] || wanted.lora_a[i])
            .then(|| Packed::in_parallel(Mat::new(seen, n, seen.len() / n), Precision::F32));
        for &i in linears {
            let outputs = shape.linears()[i].1;
            let (values, stride) = gradients[i];
            let values = &values[shape.column(i)..];
            let gradient = Columns { values, rows: n, columns: outputs, stride };
            let seen = (Columns::whole(seen, n), packed_seen.as_ref());
            linear_gradients(shape, weights, i, seen, gradient, wanted, &mut grads);
        }
    }
    (if input_wanted { dx.into_vec() } else { Vec::new() }, grads)
}

/// Rows of a weight's gradient in one piece of work.
const PIECE: usize = 64;

/// Some neighboring columns of a row-major matrix: the values from its first on, and how they lie.
#[derive(Clone, Copy)]
struct Columns<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> Columns<'a> {
    fn whole(values: &'a [f32], rows: usize) -> Self {
        let columns = values.len() / rows;
        Self { values, rows, columns, stride: columns }
    }

    fn part(self, rows: Range<usize>, columns: Range<usize>) -> Mat<'a> {
        let values = &self.values[rows.start * self.stride + columns.start..];
        Mat::strided(values, rows.len(), columns.len(), self.stride)
    }
}

/// `leftᵀ·right`, rows shared out among the threads.
fn outer(left: Columns<'_>, right: &Packed, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; left.columns * columns];
    out.par_chunks_mut(PIECE * columns).enumerate().for_each(|(i, out)| {
        let piece = i * PIECE..i * PIECE + out.len() / columns;
        let left = left.part(0..left.rows, piece).t();
        multiply(out, columns, Into::Set, 1.0, left, right);
    });
    out
}

/// Gradients of one linear layer that saw `seen`, also packed if need be, and got `gradient`.
fn linear_gradients(
    shape: &DecoderShape,
    weights: &Weights<'_>,
    i: usize,
    seen: (Columns<'_>, Option<&Packed>),
    gradient: Columns<'_>,
    wanted: &PerParameter<bool>,
    grads: &mut PerParameter<Vec<f32>>,
) {
    let (inputs, outputs) = shape.linears()[i];
    let (seen, packed_seen) = seen;
    let n = seen.rows;
    if let Some(seen) = packed_seen.filter(|_| wanted.weights[i]) {
        grads.weights[i] = outer(gradient, seen, inputs);
    }
    if wanted.biases[i] {
        let mut sum = vec![0.0; outputs];
        for row in gradient.values.chunks(gradient.stride).take(n) {
            add_assign(&mut sum, &row[..outputs]);
        }
        grads.biases[i] = sum;
    }
    let (a, b) = (weights.lora_a[i], weights.lora_b[i]);
    let rank = a.len() / inputs;
    // Activations and gradients in the update's own few dimensions.
    let narrow = |from: Columns<'_>, factor: Mat<'_>| {
        let factor = Packed::new(factor);
        let mut low = Buffer::stale(n * rank);
        low.par_chunks_mut(CHUNK * rank).enumerate().for_each(|(i, low)| {
            let rows = i * CHUNK..i * CHUNK + low.len() / rank;
            let from = from.part(rows, 0..from.columns);
            multiply(low, rank, Into::Set, shape.lora_scale, from, &factor);
        });
        low
    };
    if let Some(seen) = packed_seen.filter(|_| wanted.lora_a[i]) {
        let low = narrow(gradient, Mat::new(b, outputs, rank));
        grads.lora_a[i] = outer(Columns::whole(&low, n), seen, inputs);
    }
    if wanted.lora_b[i] {
        let low = narrow(seen, Mat::new(a, rank, inputs).t());
        let low = Packed::in_parallel(Mat::new(&low, n, rank), Precision::F32);
        grads.lora_b[i] = outer(gradient, &low, rank);
    }
}

/// The logistic function.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let e = exp_nonpositive(-x.abs());
    let small = e / (1.0 + e);
    if x >= 0.0 { 1.0 - small } else { small }
}

multiversion! {
    /// `silu(gate) ∘ up` (Shazeer 2020, arXiv 2002.05202) of rows of `2·width`: gate, then up.
    fn swiglu(gate_up: &[f32], width: usize, out: &mut [f32]) {
        for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (gate, up) = row.split_at(width);
            for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
                *out = g * sigmoid(*g) * u;
            }
        }
    }
}

multiversion! {
    /// Gradient of [`swiglu`]; its values are made anew in `out`.
    fn swiglu_backward(gate_up: &[f32], width: usize, da: &[f32], dgate_up: &mut [f32], out: &mut [f32]) {
        for (((row, drow), da), out) in gate_up
            .chunks_exact(2 * width)
            .zip(dgate_up.chunks_exact_mut(2 * width))
            .zip(da.chunks_exact(width))
            .zip(out.chunks_exact_mut(width))
        {
            let (gate, up) = row.split_at(width);
            let (dgate, dup) = drow.split_at_mut(width);
            for i in 0..width {
                let s = sigmoid(gate[i]);
                let silu = gate[i] * s;
                out[i] = silu * up[i];
                dup[i] = da[i] * silu;
                dgate[i] = da[i] * up[i] * (s + silu * (1.0 - s));
            }
        }
    }
}
