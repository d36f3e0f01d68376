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

/// Most rows in one piece of token-wise work.
pub(super) const CHUNK: usize = 128;

/// Rows in one piece of a block's token-wise work: an even number of pieces of nearly one size, so that few threads have
/// equal shares. Depends on nothing but the number of rows, so that results do not depend on the number of threads.
fn chunk_rows(n: usize) -> usize {
    let pieces = 2 * n.div_ceil(2 * CHUNK);
    // Whole rows of tiles.
    n.div_ceil(pieces.max(1)).next_multiple_of(12).clamp(1, CHUNK)
}

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

/// A linear's weights with its update, if it has one.
fn merged(shape: &BlockShape, weights: &BlockWeights<'_>, i: usize) -> Option<Buffer> {
    let (ranges, _) = shape.lora_ranges();
    let (lora, (a, b)) = (shape.lora?, ranges[i].clone()?);
    let (rows, columns) = shape.linears()[i];
    let mut sum = Buffer::stale(rows * columns);
    sum.copy_from_slice(weights.linears()[i]);
    let a = Mat::new(&weights.lora[a], rows, lora.rank);
    let b = Mat::new(&weights.lora[b], lora.rank, columns);
    matmul(&mut sum, columns, Into::Add, lora.scale, a, b, shape.precision);
    Some(sum)
}

/// A linear's weights packed as a right-hand side: as they are for rows of activations, transposed for rows of
/// gradients.
fn packed(
    shape: &BlockShape,
    weights: &BlockWeights<'_>,
    merged: Option<&[f32]>,
    i: usize,
    transposed: bool,
) -> Packed {
    let (rows, columns) = shape.linears()[i];
    let weight = Mat::new(merged.unwrap_or(weights.linears()[i]), rows, columns);
    Packed::in_precision(if transposed { weight.t() } else { weight }, shape.precision)
}

/// Something of each of the four linears, made side by side.
fn by_linear<T: Send>(make: impl Fn(usize) -> T + Sync) -> [T; 4] {
    let ((a, b), (c, d)) = rayon::join(
        || rayon::join(|| make(QKV), || make(O)),
        || rayon::join(|| make(UP), || make(DOWN)),
    );
    [a, b, c, d]
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
/// - returns: `[n_tokens, d_model]` with zeros in the rows that are not asked for ([`Layout::asked`]), and what the backward pass needs if `keep`
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
    let [(m0, qkv_proj), (m1, o_proj), (m2, up_proj), (m3, down_proj)] = by_linear(|i| {
        let merged = merged(shape, weights, i);
        let packed = packed(shape, weights, merged.as_deref(), i, false);
        (merged, packed)
    });
    let (merged, linears) = ([m0, m1, m2, m3], [qkv_proj, o_proj, up_proj, down_proj]);
    let rotary = Rotary::new(heads.head_dim);
    let chunk = chunk_rows(n);

    let mut qkv = Buffer::stale(n * 3 * d);
    let mut input_rms = Buffer::stale(n);
    let mut head_rms = Buffer::stale(n * 2 * heads.n_heads);
    qkv.par_chunks_mut(chunk * 3 * d)
        .zip(input_rms.par_chunks_mut(chunk))
        .zip(head_rms.par_chunks_mut(chunk * 2 * heads.n_heads))
        .zip(x.par_chunks(chunk * d))
        .zip(layout.positions.par_chunks(chunk))
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

    // From here on only the rows that are asked for.
    let asked = layout.asked.start * d..layout.asked.end * d;
    let n_asked = layout.asked.len();
    let chunk = chunk_rows(n_asked);
    let mut middle = Buffer::stale(n_asked * d);
    let mut middle_rms = Buffer::stale(n_asked);
    let mut pre_activation = Buffer::stale(n_asked * f);
    let mut out = Buffer::stale(n * d);
    out[..asked.start].fill(0.0);
    out[asked.end..].fill(0.0);
    out[asked.clone()]
        .par_chunks_mut(chunk * d)
        .zip(middle.par_chunks_mut(chunk * d))
        .zip(middle_rms.par_chunks_mut(chunk))
        .zip(pre_activation.par_chunks_mut(chunk * f))
        .zip(attended[asked.clone()].par_chunks(chunk * d))
        .zip(x[asked].par_chunks(chunk * d))
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

/// Gradients of [`block_forward`] for the output's gradient `dz`, of which only the rows that are asked for are read.
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
    let linears = by_linear(|i| packed(shape, weights, state.merged[i].as_deref(), i, true));
    let rotary = Rotary::new(heads.head_dim);
    let learned = Learned::new(shape, weights, wanted);

    // MLP: from dz to dy (the middle's gradient), and what goes into the attention's output, of the rows that are asked for.
    let asked = layout.asked.start * d..layout.asked.end * d;
    let chunk = chunk_rows(layout.asked.len());
    let rows_in_group = group_rows(layout.asked.len(), chunk);
    let mut dy = Buffer::stale(n * d);
    dy[..asked.start].fill(0.0);
    dy[asked.end..].fill(0.0);
    let mut dout = Buffer::stale(n * d);
    let of_mlp: Vec<Share> = dy[asked.clone()]
        .par_chunks_mut(rows_in_group * d)
        .zip(dout[asked.clone()].par_chunks_mut(rows_in_group * d))
        .enumerate()
        .map(|(group, (dy, dout))| {
            let mut share = learned.share(&[O, UP, DOWN]);
            let chunks = dy.chunks_mut(chunk * d).zip(dout.chunks_mut(chunk * d));
            for (i, (dy, dout)) in chunks.enumerate() {
                let (from, rows) = (group * rows_in_group + i * chunk, dy.len() / d);
                let at = |width: usize| from * width..(from + rows) * width;
                let u = &state.pre_activation[at(f)];
                let (middle, r) = (&state.middle[at(d)], &state.middle_rms[at(1)]);
                let dz = &dz[asked.clone()][at(d)];
                let mut du = Buffer::stale(rows * f);
                product(&mut du, Mat::new(dz, rows, d), &linears[DOWN]);
                relu_squared_backward(u, &mut du);
                let mut dm = Buffer::stale(rows * d);
                product(&mut dm, Mat::new(&du, rows, f), &linears[UP]);
                dy.copy_from_slice(dz);
                rms_norm_backward(middle, weights.mlp_norm, r, &dm, dy, &mut share.gain);
                product(dout, Mat::new(dy, rows, d), &linears[O]);
                if learned.any {
                    let mut a = Buffer::stale(rows * f);
                    relu_squared(u, &mut a);
                    learned.add(&mut share, DOWN, &a, dz);
                    // The norm's output takes the place of its gradient, which has done its part.
                    rms_norm(middle, weights.mlp_norm, NORM_EPSILON, &mut dm, &mut a[..rows]);
                    learned.add(&mut share, UP, &dm, &du);
                    learned.add(&mut share, O, &state.attended[asked.clone()][at(d)], dy);
                }
            }
            share
        })
        .collect();

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

    // Projection and first norm, of all rows: from dqkv to dx, which takes the place of dy.
    let chunk = chunk_rows(n);
    let rows_in_group = group_rows(n, chunk);
    let mut dx = dy;
    let need_dx = wanted.input || wanted.weights;
    let of_projection: Vec<Share> = dqkv
        .par_chunks_mut(rows_in_group * 3 * d)
        .zip(dx.par_chunks_mut(rows_in_group * d))
        .enumerate()
        .map(|(group, (dqkv, dx))| {
            let mut share = learned.share(&[QKV]);
            let chunks = dqkv.chunks_mut(chunk * 3 * d).zip(dx.chunks_mut(chunk * d));
            for (i, (dqkv, dx)) in chunks.enumerate() {
                let (from, rows) = (group * rows_in_group + i * chunk, dx.len() / d);
                let at = |width: usize| from * width..(from + rows) * width;
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
                let mut h = Buffer::stale(rows * d);
                if learned.any {
                    let mut ignored = Buffer::stale(rows);
                    rms_norm(x, weights.input_norm, NORM_EPSILON, &mut h, &mut ignored);
                    learned.add(&mut share, QKV, &h, dqkv);
                }
                if need_dx {
                    let dh = &mut h;
                    product(dh, Mat::new(dqkv, rows, 3 * d), &linears[QKV]);
                    rms_norm_backward(x, weights.input_norm, r, dh, dx, &mut share.gain);
                }
            }
            share
        })
        .collect();

    let mut grads = learned.sum(of_mlp, of_projection);
    if wanted.weights {
        grads.q_scale = dscale.iter().map(|v| v / (heads.head_dim as f32).sqrt()).collect();
    }
    if wanted.input {
        grads.input = dx.into_vec();
    }
    grads
}

/// Chunks are shared out among at most this many groups, each of which sums its gradients on its own. Fixed, so that
/// sums do not depend on the number of threads.
const GROUPS: usize = 8;

/// Rows in a group of whole chunks.
fn group_rows(n: usize, chunk: usize) -> usize {
    n.div_ceil(chunk).div_ceil(GROUPS).max(1) * chunk
}

/// How gradients of what is learned are found while a chunk's activations and gradients are at hand.
struct Learned<'a> {
    shape: &'a BlockShape,
    wanted: Wanted,
    /// Whether any linear has something to learn.
    any: bool,
    /// Each linear's place in the LoRA vector.
    ranges: [Option<LoraRanges>; 4],
    lora_len: usize,
    /// `A` and `Bᵀ` of each linear with an update, as right-hand sides.
    factors: [Option<(Packed, Packed)>; 4],
}

/// What a group of chunks adds to the gradients.
struct Share {
    /// Of the norm's gain; empty if it is not wanted.
    gain: Buffer,
    /// Of each linear's weights.
    dense: [Option<Buffer>; 4],
    /// Of each linear's `A` and `B`.
    lora: [Option<(Buffer, Buffer)>; 4],
}

impl<'a> Learned<'a> {
    fn new(shape: &'a BlockShape, weights: &BlockWeights<'_>, wanted: Wanted) -> Self {
        let (ranges, lora_len) = shape.lora_ranges();
        let factors = std::array::from_fn(|i| {
            let (lora, (a, b)) = (shape.lora.filter(|_| wanted.lora)?, ranges[i].clone()?);
            let (rows, columns) = shape.linears()[i];
            let a = Mat::new(&weights.lora[a], rows, lora.rank);
            let b = Mat::new(&weights.lora[b], lora.rank, columns);
            let pack = |m: Mat<'_>| Packed::in_precision(m, shape.precision);
            Some((pack(a), pack(b.t())))
        });
        let any = wanted.weights || factors.iter().any(Option::is_some);
        Self { shape, wanted, any, ranges, lora_len, factors }
    }

    /// Zeros for the given linears.
    fn share(&self, linears: &[usize]) -> Share {
        let sizes = self.shape.linears();
        let rank = self.shape.lora.map_or(0, |lora| lora.rank);
        let dense = |i: usize| Buffer::zeros(sizes[i].0 * sizes[i].1);
        let lora = |i: usize| (Buffer::zeros(sizes[i].0 * rank), Buffer::zeros(rank * sizes[i].1));
        let here = |i: &usize| linears.contains(i);
        Share {
            gain: Buffer::zeros(if self.wanted.weights { self.shape.d_model } else { 0 }),
            dense: std::array::from_fn(|i| {
                Some(i).filter(here).filter(|_| self.wanted.weights).map(dense)
            }),
            lora: std::array::from_fn(|i| {
                Some(i).filter(here).filter(|&i| self.factors[i].is_some()).map(lora)
            }),
        }
    }

    /// Adds what a chunk says of linear `i`, which saw `input` and got `gradient`.
    fn add(&self, share: &mut Share, i: usize, input: &[f32], gradient: &[f32]) {
        let ((rows, columns), precision) = (self.shape.linears()[i], self.shape.precision);
        let n = input.len() / rows;
        let (input, gradient) = (Mat::new(input, n, rows), Mat::new(gradient, n, columns));
        let packed = Packed::in_precision(gradient, precision);
        if let Some(dense) = &mut share.dense[i] {
            multiply(dense, columns, Into::Add, 1.0, input.t(), &packed);
        }
        if let (Some((da, db)), Some((a, b_t)), Some(lora)) =
            (&mut share.lora[i], &self.factors[i], self.shape.lora)
        {
            let r = lora.rank;
            let mut low = Buffer::stale(n * r);
            multiply(&mut low, r, Into::Set, lora.scale, gradient, b_t);
            matmul(da, r, Into::Add, 1.0, input.t(), Mat::new(&low, n, r), precision);
            multiply(&mut low, r, Into::Set, lora.scale, input, a);
            multiply(db, columns, Into::Add, 1.0, Mat::new(&low, n, r).t(), &packed);
        }
    }

    /// The groups' shares, summed in their order.
    fn sum(&self, of_mlp: Vec<Share>, of_projection: Vec<Share>) -> BlockGradients {
        let mut grads = BlockGradients::default();
        if self.wanted.weights {
            let gain = |shares: &[Share]| total(shares.iter().map(|share| &share.gain));
            grads.mlp_norm = gain(&of_mlp);
            grads.input_norm = gain(&of_projection);
            let dense = |i: usize| {
                let shares = if i == QKV { &of_projection } else { &of_mlp };
                total(shares.iter().filter_map(|share| share.dense[i].as_ref()))
            };
            [grads.qkv_proj, grads.o_proj, grads.up_proj, grads.down_proj] =
                [QKV, O, UP, DOWN].map(dense);
        }
        if self.wanted.lora {
            grads.lora = vec![0.0; self.lora_len];
            for share in of_mlp.iter().chain(&of_projection) {
                for (range, lora) in self.ranges.iter().zip(&share.lora) {
                    if let (Some((a, b)), Some((da, db))) = (range, lora) {
                        add_assign(&mut grads.lora[a.clone()], da);
                        add_assign(&mut grads.lora[b.clone()], db);
                    }
                }
            }
        }
        grads
    }
}

/// The sum of buffers of one length.
fn total<'a>(mut shares: impl Iterator<Item = &'a Buffer>) -> Vec<f32> {
    let mut sum = shares.next().map_or(Vec::new(), |first| first.to_vec());
    for share in shares {
        add_assign(&mut sum, share);
    }
    sum
}
