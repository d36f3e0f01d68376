//! One transformer block, forward and backward.
//!
//! ```text
//! h = RMSNorm(x)·g₁          q, k, v = h·W_qkv
//! q, k ← RMSNorm per head, then the first half of the heads turned by the token's place (`Place::turns`)
//! o = softmax(s·q·kᵀ)·v      y = x + o·W_o
//! m = RMSNorm(y)·g₂          z = y + max(m·W_up, 0)²·W_down
//! ```
//! LoRA (Hu et al. 2021): each `W` may carry an update `scale·A·B`. The forward pass multiplies by the sum
//! `W + scale·A·B`, which costs `rank/n_tokens` of the product itself, and keeps it; the backward pass never forms a
//! weight-shaped gradient but stays on the activation side: `dA = scale·xᵀ(dy·Bᵀ)`, `dB = scale·(x·A)ᵀdy`.
//!
//! Kept for the backward pass: the input, the weights with their update, the normalized q/k with v, the
//! attention's output and row sums, the middle activation `y`, the MLP's pre-activation, and the norms' factors.
//! Everything else is recomputed.

use std::ops::Range;

use rayon::prelude::*;

use super::attention::{Heads, attention_backward, attention_forward};
use super::buffer::Buffer;
use super::layout::{Layout, Rotary};
use super::matmul::{Into, Mat, Packed, Precision, matmul, multiply, product};
use super::rows::{
    NORM_EPSILON, add_assign, normalize_and_rotate, normalize_and_rotate_backward, relu_squared,
    relu_squared_backward, rms_norm, rms_norm_backward,
};

/// Rows in one piece of token-wise work. Fixed, so that results do not depend on the number of threads.
pub(super) const CHUNK: usize = 128;

/// A LoRA update's shape within a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraShape {
    /// Rank `r`.
    pub rank: usize,
    /// Factor in front of `A·B`.
    pub scale: f32,
    /// Which of qkv, o, up, down carry an update.
    pub targets: [bool; 4],
}

/// Where a linear's `A` (`[in, rank]`) and its `B` (`[rank, out]`) stand in a flat LoRA vector.
pub type LoraRanges = (Range<usize>, Range<usize>);

/// Sizes of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockShape {
    /// Width of a token.
    pub d_model: usize,
    /// Attention heads; the first half of them is rotated.
    pub n_heads: usize,
    /// Width of the MLP.
    pub d_ff: usize,
    /// The adapter, if there is one.
    pub lora: Option<LoraShape>,
    /// How the fused block multiplies; the formulation in Burn operations uses the device's.
    pub precision: Precision,
}

impl BlockShape {
    /// Rows and columns of the four linears: qkv, o, up, down.
    pub fn linears(&self) -> [(usize, usize); 4] {
        let (d, f) = (self.d_model, self.d_ff);
        [(d, 3 * d), (d, d), (d, f), (f, d)]
    }

    /// Where each linear's update stands in the block's flat LoRA vector, and that vector's length.
    pub fn lora_ranges(&self) -> ([Option<LoraRanges>; 4], usize) {
        let mut ranges = [const { None }; 4];
        let mut at = 0;
        if let Some(lora) = self.lora {
            for (i, (rows, columns)) in self.linears().into_iter().enumerate() {
                if lora.targets[i] {
                    let b = at + rows * lora.rank;
                    let end = b + lora.rank * columns;
                    ranges[i] = Some((at..b, b..end));
                    at = end;
                }
            }
        }
        (ranges, at)
    }

    fn heads(&self) -> Heads {
        let head_dim = self.d_model / self.n_heads;
        Heads { n_heads: self.n_heads, head_dim, precision: self.precision }
    }
}

/// A block's weights, linears as `[in, out]` row by row.
#[derive(Debug, Clone, Copy)]
pub struct BlockWeights<'a> {
    /// Gain of the norm before attention, `[d_model]`.
    pub input_norm: &'a [f32],
    /// `[d_model, 3·d_model]`.
    pub qkv_proj: &'a [f32],
    /// Factor of each head's scores before `1/√head_dim`, `[n_heads]`.
    pub q_scale: &'a [f32],
    /// `[d_model, d_model]`.
    pub o_proj: &'a [f32],
    /// Gain of the norm before the MLP, `[d_model]`.
    pub mlp_norm: &'a [f32],
    /// `[d_model, d_ff]`.
    pub up_proj: &'a [f32],
    /// `[d_ff, d_model]`.
    pub down_proj: &'a [f32],
    /// The flat LoRA vector ([`BlockShape::lora_ranges`]); empty without an adapter.
    pub lora: &'a [f32],
}

impl<'a> BlockWeights<'a> {
    fn linears(&self) -> [&'a [f32]; 4] {
        [self.qkv_proj, self.o_proj, self.up_proj, self.down_proj]
    }
}

/// What [`block_forward`] keeps for [`block_backward`].
#[derive(Debug)]
pub struct BlockState {
    input_rms: Buffer,
    qkv: Buffer,
    head_rms: Buffer,
    attended: Buffer,
    log_sum_exp: Buffer,
    middle: Buffer,
    middle_rms: Buffer,
    pre_activation: Buffer,
    /// The linears' weights with their update.
    merged: [Option<Buffer>; 4],
}

/// Which gradients are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Of the input.
    pub input: bool,
    /// Of the base weights.
    pub weights: bool,
    /// Of the LoRA vector.
    pub lora: bool,
}

/// Gradients of a block; those that were not wanted are empty.
#[derive(Debug, Default)]
pub struct BlockGradients {
    /// `[n_tokens, d_model]`.
    pub input: Vec<f32>,
    /// `[d_model]`.
    pub input_norm: Vec<f32>,
    /// `[d_model, 3·d_model]`.
    pub qkv_proj: Vec<f32>,
    /// `[n_heads]`.
    pub q_scale: Vec<f32>,
    /// `[d_model, d_model]`.
    pub o_proj: Vec<f32>,
    /// `[d_model]`.
    pub mlp_norm: Vec<f32>,
    /// `[d_model, d_ff]`.
    pub up_proj: Vec<f32>,
    /// `[d_ff, d_model]`.
    pub down_proj: Vec<f32>,
    /// The flat LoRA vector's.
    pub lora: Vec<f32>,
}

/// Each linear's weights with its update, where it has one.
fn merged(shape: &BlockShape, weights: &BlockWeights<'_>) -> [Option<Buffer>; 4] {
    let (ranges, _) = shape.lora_ranges();
    let (base, sizes) = (weights.linears(), shape.linears());
    std::array::from_fn(|i| {
        let (lora, (a, b)) = (shape.lora?, ranges[i].clone()?);
        let (rows, columns) = sizes[i];
        let mut sum = Buffer::stale(rows * columns);
        sum.copy_from_slice(base[i]);
        let a = Mat::new(&weights.lora[a], rows, lora.rank);
        let b = Mat::new(&weights.lora[b], lora.rank, columns);
        matmul(&mut sum, columns, Into::Add, lora.scale, a, b, shape.precision);
        Some(sum)
    })
}

/// The four weights packed as right-hand sides: as they are for rows of activations, transposed for rows of
/// gradients.
fn packed(
    shape: &BlockShape,
    weights: &BlockWeights<'_>,
    merged: &[Option<Buffer>; 4],
    transposed: bool,
) -> [Packed; 4] {
    let (base, sizes) = (weights.linears(), shape.linears());
    std::array::from_fn(|i| {
        let (rows, columns) = sizes[i];
        let weight = Mat::new(merged[i].as_deref().unwrap_or(base[i]), rows, columns);
        Packed::in_precision(if transposed { weight.t() } else { weight }, shape.precision)
    })
}

const QKV: usize = 0;
const O: usize = 1;
const UP: usize = 2;
const DOWN: usize = 3;

fn attention_scale(shape: &BlockShape, weights: &BlockWeights<'_>) -> Vec<f32> {
    let head_dim = shape.d_model / shape.n_heads;
    weights.q_scale.iter().map(|s| s / (head_dim as f32).sqrt()).collect()
}

/// Runs a block.
///
/// # Shapes
/// - x: `[n_tokens, d_model]`
/// - returns: `[n_tokens, d_model]`, and what the backward pass needs if `keep`
///
/// # Panics
/// If a size does not fit or the layout is not a partition of the tokens.
pub fn block_forward(
    shape: &BlockShape,
    layout: &Layout,
    weights: &BlockWeights<'_>,
    x: &[f32],
    keep: bool,
) -> (Vec<f32>, Option<BlockState>) {
    layout.check();
    let (n, d, f, heads) = (layout.n_tokens(), shape.d_model, shape.d_ff, shape.heads());
    assert_eq!(x.len(), n * d, "the input is [n_tokens, d_model]");
    let merged = merged(shape, weights);
    let linears = packed(shape, weights, &merged, false);
    let rotary = Rotary::new(heads.head_dim);

    let mut qkv = Buffer::stale(n * 3 * d);
    let mut input_rms = Buffer::stale(n);
    let mut head_rms = Buffer::stale(n * 2 * heads.n_heads);
    qkv.par_chunks_mut(CHUNK * 3 * d)
        .zip(input_rms.par_chunks_mut(CHUNK))
        .zip(head_rms.par_chunks_mut(CHUNK * 2 * heads.n_heads))
        .zip(x.par_chunks(CHUNK * d))
        .zip(layout.positions.par_chunks(CHUNK))
        .for_each(|((((qkv, r), head_r), x), positions)| {
            let mut h = Buffer::stale(x.len());
            rms_norm(x, weights.input_norm, NORM_EPSILON, &mut h, r);
            product(qkv, Mat::new(&h, r.len(), d), &linears[QKV]);
            normalize_and_rotate(qkv, head_r, positions, heads.n_heads, heads.head_dim, &rotary);
        });

    let mut attended = Buffer::stale(n * d);
    let mut log_sum_exp = Buffer::stale(heads.n_heads * n);
    let scale = attention_scale(shape, weights);
    attention_forward(layout, heads, &qkv, &scale, &mut attended, &mut log_sum_exp);

    let mut middle = Buffer::stale(n * d);
    let mut middle_rms = Buffer::stale(n);
    let mut pre_activation = Buffer::stale(n * f);
    let mut out = Buffer::stale(n * d);
    out.par_chunks_mut(CHUNK * d)
        .zip(middle.par_chunks_mut(CHUNK * d))
        .zip(middle_rms.par_chunks_mut(CHUNK))
        .zip(pre_activation.par_chunks_mut(CHUNK * f))
        .zip(attended.par_chunks(CHUNK * d))
        .zip(x.par_chunks(CHUNK * d))
        .for_each(|(((((out, middle), r), u), o), x)| {
            let rows = r.len();
            middle.copy_from_slice(x);
            multiply(middle, d, Into::Add, 1.0, Mat::new(o, rows, d), &linears[O]);
            let mut m = Buffer::stale(rows * d);
            rms_norm(middle, weights.mlp_norm, NORM_EPSILON, &mut m, r);
            product(u, Mat::new(&m, rows, d), &linears[UP]);
            let mut a = Buffer::stale(rows * f);
            relu_squared(u, &mut a);
            out.copy_from_slice(middle);
            multiply(out, d, Into::Add, 1.0, Mat::new(&a, rows, f), &linears[DOWN]);
        });

    let state = keep.then_some(BlockState {
        input_rms,
        qkv,
        head_rms,
        attended,
        log_sum_exp,
        middle,
        middle_rms,
        pre_activation,
        merged,
    });
    (out.into_vec(), state)
}

/// Gradients of [`block_forward`] for the output's gradient `dz`.
///
/// # Shapes
/// - x, dz: `[n_tokens, d_model]`
///
/// # Panics
/// If a size does not fit.
pub fn block_backward(
    shape: &BlockShape,
    layout: &Layout,
    weights: &BlockWeights<'_>,
    x: &[f32],
    state: &BlockState,
    dz: &[f32],
    wanted: Wanted,
) -> BlockGradients {
    let (n, d, f, heads) = (layout.n_tokens(), shape.d_model, shape.d_ff, shape.heads());
    let linears = packed(shape, weights, &state.merged, true);
    let rotary = Rotary::new(heads.head_dim);
    let mut grads = BlockGradients::default();
    let n_chunks = n.div_ceil(CHUNK);
    let gain_len = if wanted.weights { d } else { 0 };

    // MLP: from dz to du (the pre-activation's gradient) and dy (the middle's).
    let mut m = Buffer::stale(n * d);
    let mut a = Buffer::stale(n * f);
    let mut du = Buffer::stale(n * f);
    let mut dy = Buffer::stale(n * d);
    let mut dout = Buffer::stale(n * d);
    let mut dgain = Buffer::zeros(n_chunks * gain_len);
    dy.par_chunks_mut(CHUNK * d)
        .zip(du.par_chunks_mut(CHUNK * f))
        .zip(a.par_chunks_mut(CHUNK * f))
        .zip(m.par_chunks_mut(CHUNK * d))
        .zip(dout.par_chunks_mut(CHUNK * d))
        .zip(gain_chunks(&mut dgain, n_chunks))
        .enumerate()
        .for_each(|(i, (((((dy, du), a), m), dout), dgain))| {
            let rows = dy.len() / d;
            let at = |width: usize| i * CHUNK * width..(i * CHUNK + rows) * width;
            let u = &state.pre_activation[at(f)];
            let (middle, r) = (&state.middle[at(d)], &state.middle_rms[at(1)]);
            let dz = &dz[at(d)];
            relu_squared(u, a);
            product(du, Mat::new(dz, rows, d), &linears[DOWN]);
            relu_squared_backward(u, du);
            let mut dm = Buffer::stale(rows * d);
            product(&mut dm, Mat::new(du, rows, f), &linears[UP]);
            let mut ignored = Buffer::stale(rows);
            rms_norm(middle, weights.mlp_norm, NORM_EPSILON, m, &mut ignored);
            dy.copy_from_slice(dz);
            rms_norm_backward(middle, weights.mlp_norm, r, &dm, dy, dgain);
            product(dout, Mat::new(dy, rows, d), &linears[O]);
        });
    grads.mlp_norm = sum_chunks(&dgain, gain_len);

    // Attention: from dout to dqkv (before norm and rotation).
    let mut dqkv = Buffer::stale(n * 3 * d);
    let scale = attention_scale(shape, weights);
    let mut dscale = vec![0.0; heads.n_heads];
    attention_backward(
        layout,
        heads,
        &state.qkv,
        &scale,
        &state.attended,
        &state.log_sum_exp,
        &dout,
        &mut dqkv,
        &mut dscale,
    );
    drop(dout);
    if wanted.weights {
        grads.q_scale = dscale.iter().map(|v| v / (heads.head_dim as f32).sqrt()).collect();
    }

    // Projection and first norm: from dqkv to dx.
    let mut h = Buffer::stale(n * d);
    let mut dx = Buffer::stale(n * d);
    let mut dgain = Buffer::zeros(n_chunks * gain_len);
    let need_dx = wanted.input || wanted.weights;
    dqkv.par_chunks_mut(CHUNK * 3 * d)
        .zip(h.par_chunks_mut(CHUNK * d))
        .zip(dx.par_chunks_mut(CHUNK * d))
        .zip(gain_chunks(&mut dgain, n_chunks))
        .enumerate()
        .for_each(|(i, (((dqkv, h), dx), dgain))| {
            let rows = h.len() / d;
            let at = |width: usize| i * CHUNK * width..(i * CHUNK + rows) * width;
            normalize_and_rotate_backward(
                dqkv,
                &state.qkv[at(3 * d)],
                &state.head_rms[at(2 * heads.n_heads)],
                &layout.positions[at(1)],
                heads.n_heads,
                heads.head_dim,
                &rotary,
            );
            let (x, r) = (&x[at(d)], &state.input_rms[at(1)]);
            let mut ignored = Buffer::stale(rows);
            rms_norm(x, weights.input_norm, NORM_EPSILON, h, &mut ignored);
            if need_dx {
                let mut dh = Buffer::stale(rows * d);
                product(&mut dh, Mat::new(dqkv, rows, 3 * d), &linears[QKV]);
                dx.copy_from_slice(&dy[at(d)]);
                rms_norm_backward(x, weights.input_norm, r, &dh, dx, dgain);
            }
        });
    grads.input_norm = sum_chunks(&dgain, gain_len);
    if wanted.input {
        grads.input = dx.into_vec();
    }

    // The linears: each saw `input` and got `gradient`.
    let pairs: [(&[f32], &[f32]); 4] = [(&h, &dqkv), (&state.attended, &dy), (&m, &du), (&a, dz)];
    if wanted.weights {
        let mut dense: Vec<Vec<f32>> = dense_gradients(shape, &pairs, n);
        grads.down_proj = dense.pop().expect("four linears");
        grads.up_proj = dense.pop().expect("four linears");
        grads.o_proj = dense.pop().expect("four linears");
        grads.qkv_proj = dense.pop().expect("four linears");
    }
    if wanted.lora {
        grads.lora = lora_gradients(shape, weights, &pairs, n);
    }
    grads
}

/// One slice of the gain's gradient for each chunk; empty slices if it is not wanted.
pub(super) fn gain_chunks(dgain: &mut [f32], n_chunks: usize) -> Vec<&mut [f32]> {
    if dgain.is_empty() {
        return (0..n_chunks).map(|_| &mut [][..]).collect();
    }
    let width = dgain.len() / n_chunks;
    dgain.chunks_exact_mut(width).collect()
}

pub(super) fn sum_chunks(chunks: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    if width > 0 {
        for chunk in chunks.chunks_exact(width) {
            add_assign(&mut sum, chunk);
        }
    }
    sum
}

/// `inputᵀ · gradient` of each linear, the rows of each product shared out among the threads.
fn dense_gradients(shape: &BlockShape, pairs: &[(&[f32], &[f32]); 4], n: usize) -> Vec<Vec<f32>> {
    shape
        .linears()
        .into_par_iter()
        .zip(pairs)
        .map(|((rows, columns), (input, gradient))| {
            let mut dw = vec![0.0; rows * columns];
            let gradient = Packed::in_parallel(Mat::new(gradient, n, columns), shape.precision);
            // 64 rows of weights a piece: enough pieces for a few threads, wide enough for the product.
            dw.par_chunks_mut(64 * columns).enumerate().for_each(|(i, dw)| {
                let piece = dw.len() / columns;
                let input = Mat::strided(&input[i * 64..], n, piece, rows);
                product(dw, input.t(), &gradient);
            });
            dw
        })
        .collect()
}

fn lora_gradients(
    shape: &BlockShape,
    weights: &BlockWeights<'_>,
    pairs: &[(&[f32], &[f32]); 4],
    n: usize,
) -> Vec<f32> {
    let (ranges, len) = shape.lora_ranges();
    let lora = shape.lora.expect("LoRA gradients are wanted, so there is an adapter");
    let mut all = vec![0.0; len];
    let mut rest = all.as_mut_slice();
    let mut jobs = Vec::new();
    for (i, range) in ranges.iter().enumerate() {
        if let Some((a, b)) = range {
            let (da, tail) = rest.split_at_mut(a.len());
            let (db, tail) = tail.split_at_mut(b.len());
            rest = tail;
            jobs.push((i, a.clone(), b.clone(), da, db));
        }
    }
    jobs.into_par_iter().with_max_len(1).for_each(|(i, a, b, da, db)| {
        let (rows, columns) = shape.linears()[i];
        let r = lora.rank;
        let (input, gradient) = (Mat::new(pairs[i].0, n, rows), Mat::new(pairs[i].1, n, columns));
        let a = Mat::new(&weights.lora[a], rows, r);
        let b = Mat::new(&weights.lora[b], r, columns);
        let product = |c: &mut [f32], alpha: f32, a: Mat<'_>, b: Mat<'_>| {
            matmul(c, b.columns(), Into::Set, alpha, a, b, shape.precision);
        };
        let mut low = Buffer::stale(n * r);
        product(&mut low, lora.scale, gradient, b.t());
        product(da, 1.0, input.t(), Mat::new(&low, n, r));
        product(&mut low, lora.scale, input, a);
        product(db, 1.0, Mat::new(&low, n, r).t(), gradient);
    });
    all
}
