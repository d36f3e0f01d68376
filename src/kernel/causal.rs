//! Causal grouped-query attention without materialised scores, also behind tokens that a cache holds.
//!
//! For each (sequence, head) queries go through in blocks of rows, keys in chunks of tiles whose scores fit the
//! second-level cache. Sums and maxima are carried from chunk to chunk (Dao et al. 2022, arXiv 2205.14135), so that
//! the length of a sequence costs no memory. Tiles behind a block's last query are left out.

use std::ops::Range;

use rayon::prelude::*;

use super::attention::Shared;
use super::buffer::Buffer;
use super::matmul::{Into, Mat, Packed, multiply};
use super::rows::{add_assign, dot_rows, largest, softmax_backward_rows, softmax_rows};
use super::simd::{LANES, exp_nonpositive, multiversion, reduce2};

/// Queries of a block, and keys of a tile.
const BLOCK: usize = 64;

/// Tiles of a chunk: 64 rows of 512 scores are 128 KB.
const TILES: usize = 8;

/// Up to so many queries no key is packed: each is read once.
const FEW: usize = 4;

/// Multiplications below which a few queries are not shared out among threads.
const WORTH_THREADS: usize = 1 << 17;

/// One sequence of a batch: its tokens see each other backwards, and all that the cache holds of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CausalSequence {
    /// Its tokens in the batch.
    pub own: Range<usize>,
    /// The row of the cache that it goes on with; without a cache it means nothing.
    pub row: usize,
    /// Tokens that this row holds; its own are written behind them.
    pub past: usize,
}

/// How a flat buffer of tokens is divided into sequences, and how each token is turned.
#[derive(Debug, Clone, PartialEq)]
pub struct CausalLayout {
    /// The sequences; a token of none is padding. No token belongs to two.
    pub sequences: Vec<CausalSequence>,
    /// Cosines of the rotary angles, `[n_tokens, head_dim / 2]`.
    pub cos: Vec<f32>,
    /// Their sines.
    pub sin: Vec<f32>,
}

impl CausalLayout {
    /// Panics if a token belongs to two sequences or is none of the buffer's.
    pub(super) fn check(&self, n_tokens: usize) {
        let mut owned = vec![false; n_tokens];
        for sequence in &self.sequences {
            for owned in &mut owned[sequence.own.clone()] {
                assert!(!*owned, "a token belongs to one sequence");
                *owned = true;
            }
        }
    }
}

/// Sizes of grouped-query attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupedHeads {
    /// Heads of queries.
    pub n_heads: usize,
    /// Heads of keys and values; divides the heads of queries.
    pub n_kv_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
}

impl GroupedHeads {
    /// Floats of a token's queries.
    pub(super) fn queries(self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Floats of a token's keys, or values.
    pub(super) fn keys(self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Floats of a token's queries, keys and values.
    pub(super) fn width(self) -> usize {
        self.queries() + 2 * self.keys()
    }

    fn group(self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Where a head's query, key and value begin in a token's floats.
    fn columns(self, head: usize) -> [usize; 3] {
        let key = self.queries() + head / self.group() * self.head_dim;
        [head * self.head_dim, key, key + self.keys()]
    }

    fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// Keys and values of earlier tokens, each `[n_rows, n_kv_heads, capacity, head_dim]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cached<'a> {
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
    pub(super) capacity: usize,
}

impl<'a> Cached<'a> {
    /// A head's keys and values of a sequence's earlier tokens, side by side.
    fn of(self, heads: GroupedHeads, sequence: &CausalSequence, head: usize) -> [&'a [f32]; 2] {
        let hd = heads.head_dim;
        let first = (sequence.row * heads.n_kv_heads + head / heads.group()) * self.capacity;
        let range = first * hd..(first + sequence.past) * hd;
        [&self.keys[range.clone()], &self.values[range]]
    }
}

/// Copies `width` columns from `offset` of some rows of `stride` floats side by side.
fn gather(from: &[f32], stride: usize, offset: usize, rows: &Range<usize>, width: usize) -> Buffer {
    let mut to = Buffer::stale(rows.len() * width);
    for (row, to) in rows.clone().zip(to.chunks_exact_mut(width)) {
        to.copy_from_slice(&from[row * stride + offset..][..width]);
    }
    to
}

/// A (sequence, head) pair: the unit of parallel work.
fn units(layout: &CausalLayout, heads: GroupedHeads) -> Vec<(&CausalSequence, usize)> {
    layout.sequences.iter().flat_map(|s| (0..heads.n_heads).map(move |h| (s, h))).collect()
}

/// Causal attention of turned queries and keys.
///
/// # Shapes
/// - qkv: `[n_tokens, heads.width()]`
/// - out: `[n_tokens, heads.queries()]`; rows of padding are set to 0
/// - log_sum_exp: `[n_heads, n_tokens]`
pub(super) fn causal_forward(
    layout: &CausalLayout,
    heads: GroupedHeads,
    qkv: &[f32],
    cache: Option<Cached<'_>>,
    out: &mut [f32],
    log_sum_exp: &mut [f32],
) {
    let (hd, d, width) = (heads.head_dim, heads.queries(), heads.width());
    let n = qkv.len() / width;
    out.fill(0.0);
    let work = |s: &CausalSequence| (s.past + s.own.len()) * s.own.len() * hd;
    let total: usize = layout.sequences.iter().map(work).sum::<usize>() * heads.n_heads;
    let (out, lse) = (Shared::new(out), Shared::new(log_sum_exp));
    let units = units(layout, heads);
    let run = |&(sequence, head): &(&CausalSequence, usize)| {
        let [q, k, v] = heads.columns(head).map(|at| gather(qkv, width, at, &sequence.own, hd));
        let nq = sequence.own.len();
        let (mut o, mut l) = (Buffer::stale(nq * hd), Buffer::stale(nq));
        let cached = cache.map_or([&[][..]; 2], |cache| cache.of(heads, sequence, head));
        if nq <= FEW {
            few_queries(heads, &q, [&k, &v], cached, &mut o, &mut l);
        } else {
            blocks_of_queries(heads, &q, [&k, &v], cached, &mut o, &mut l);
        }
        for (i, row) in sequence.own.clone().enumerate() {
            // SAFETY: a token belongs to one sequence (`CausalLayout::check`), a column range to one head.
            unsafe {
                out.row(row * d + head * hd, hd).copy_from_slice(&o[i * hd..(i + 1) * hd]);
                lse.row(head * n + row, 1)[0] = l[i];
            }
        }
    };
    if total < WORTH_THREADS {
        units.iter().for_each(run);
    } else {
        units.par_iter().with_max_len(1).for_each(run);
    }
}

/// Attention of a few queries: keys are read where they lie.
fn few_queries(
    heads: GroupedHeads,
    q: &[f32],
    own: [&[f32]; 2],
    cached: [&[f32]; 2],
    out: &mut [f32],
    log_sum_exp: &mut [f32],
) {
    let hd = heads.head_dim;
    let n_cached = cached[0].len() / hd;
    for (i, q) in q.chunks_exact(hd).enumerate() {
        let own = own.map(|part| &part[..(i + 1) * hd]);
        let mut scores = Buffer::stale(n_cached + i + 1);
        let (earlier, among) = scores.split_at_mut(n_cached);
        dot_each(q, cached[0], heads.scale(), earlier);
        dot_each(q, own[0], heads.scale(), among);
        let n = scores.len();
        let mut inverse = [0.0];
        softmax_rows(&mut scores, n, f32::INFINITY, &mut log_sum_exp[i..=i], &mut inverse);
        let out = &mut out[i * hd..(i + 1) * hd];
        out.fill(0.0);
        let (earlier, among) = scores.split_at(n_cached);
        add_weighted(earlier, cached[1], inverse[0], out);
        add_weighted(among, own[1], inverse[0], out);
    }
}

/// Attention of many queries: keys and values are packed once and used by every block.
fn blocks_of_queries(
    heads: GroupedHeads,
    q: &[f32],
    own: [&[f32]; 2],
    cached: [&[f32]; 2],
    out: &mut [f32],
    log_sum_exp: &mut [f32],
) {
    let hd = heads.head_dim;
    let n_cached = cached[0].len() / hd;
    let nq = q.len() / hd;
    let nk = n_cached + nq;
    let tiles = |part: usize| {
        let mut all = Buffer::stale(nk * hd);
        let (earlier, among) = all.split_at_mut(n_cached * hd);
        earlier.copy_from_slice(cached[part]);
        among.copy_from_slice(own[part]);
        all.chunks(BLOCK * hd)
            .map(|tile| {
                let tile = Mat::new(tile, tile.len() / hd, hd);
                Packed::new(if part == 0 { tile.t() } else { tile })
            })
            .collect::<Vec<_>>()
    };
    let (keys, values) = (tiles(0), tiles(1));
    let mut scores = Buffer::stale(BLOCK.min(nq) * TILES * BLOCK);
    let mut sums = Buffer::stale(BLOCK);
    out.fill(0.0);
    for at in (0..nq).step_by(BLOCK) {
        let m = BLOCK.min(nq - at);
        let block = Mat::new(&q[at * hd..(at + m) * hd], m, hd);
        let (out, tops) = (&mut out[at * hd..(at + m) * hd], &mut log_sum_exp[at..at + m]);
        let sums = &mut sums[..m];
        tops.fill(f32::NEG_INFINITY);
        sums.fill(0.0);
        // The first query of the block sees so many keys, the next one more.
        let visible = n_cached + at + 1;
        let seen = (visible + m - 1).div_ceil(BLOCK);
        for first in (0..seen).step_by(TILES) {
            let range = first..(first + TILES).min(seen);
            let width = (range.end * BLOCK).min(nk) - first * BLOCK;
            let scores = &mut scores[..m * width];
            for (i, tile) in keys[range.clone()].iter().enumerate() {
                let scores = &mut scores[i * BLOCK..];
                multiply(scores, width, Into::Set, heads.scale(), block, tile);
            }
            for (i, row) in scores.chunks_exact_mut(width).enumerate() {
                let visible = (visible + i).saturating_sub(first * BLOCK).min(width);
                let shrink = carry_softmax(row, visible, &mut tops[i], &mut sums[i]);
                if shrink != 1.0 {
                    out[i * hd..(i + 1) * hd].iter_mut().for_each(|v| *v *= shrink);
                }
            }
            for (i, tile) in values[range].iter().enumerate() {
                let shares = &scores[i * BLOCK..];
                let columns = BLOCK.min(width - i * BLOCK);
                let shares = Mat::strided(shares, m, columns, width);
                multiply(out, hd, Into::Add, 1.0, shares, tile);
            }
        }
        for ((row, top), sum) in out.chunks_exact_mut(hd).zip(tops).zip(sums) {
            row.iter_mut().for_each(|v| *v /= *sum);
            *top += sum.ln();
        }
    }
}

/// Gradients of [`causal_forward`] without a cache, with respect to turned queries, keys and values.
///
/// `dqkv` is overwritten. Heads that share a key each keep their part of its gradient; the parts are summed in order.
pub(super) fn causal_backward(
    layout: &CausalLayout,
    heads: GroupedHeads,
    qkv: &[f32],
    out: &[f32],
    log_sum_exp: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
) {
    let (hd, d, width) = (heads.head_dim, heads.queries(), heads.width());
    let n = qkv.len() / width;
    dqkv.fill(0.0);
    let target = Shared::new(dqkv);
    let units = units(layout, heads);
    let run = |&(sequence, head): &(&CausalSequence, usize)| {
        let own = &sequence.own;
        let [q, k, v] = heads.columns(head).map(|at| gather(qkv, width, at, own, hd));
        let [o, g] = [out, dout].map(|from| gather(from, d, head * hd, own, hd));
        let lse = &log_sum_exp[head * n..(head + 1) * n][own.clone()];
        let (dq, dk, dv) = unit_backward(heads, [&q, &k, &v], &o, lse, &g);
        for (row, dq) in own.clone().zip(dq.chunks_exact(hd)) {
            // SAFETY: own tokens and own columns only, as in the forward pass.
            unsafe { target.row(row * width + head * hd, hd).copy_from_slice(dq) };
        }
        [dk, dv]
    };
    let parts: Vec<[Buffer; 2]> = units.par_iter().with_max_len(1).map(run).collect();
    // The heads of a group are neighbors among the units.
    let groups = units.par_chunks(heads.group()).zip(parts.par_chunks(heads.group()));
    groups.for_each(|(units, parts)| {
        let (sequence, head) = units[0];
        let [_, key, value] = heads.columns(head);
        for part in parts {
            for (column, part) in [key, value].into_iter().zip(part) {
                for (row, part) in sequence.own.clone().zip(part.chunks_exact(hd)) {
                    // SAFETY: own tokens, and the columns of this group's key or value only.
                    unsafe { add_assign(target.row(row * width + column, hd), part) };
                }
            }
        }
    });
}

/// Gradients of one head's queries, keys and values within a sequence.
fn unit_backward(
    heads: GroupedHeads,
    [q, k, v]: [&[f32]; 3],
    out: &[f32],
    log_sum_exp: &[f32],
    dout: &[f32],
) -> (Buffer, Buffer, Buffer) {
    let (hd, scale) = (heads.head_dim, heads.scale());
    let n = q.len() / hd;
    let mut delta = Buffer::stale(n);
    dot_rows(out, dout, hd, &mut delta);
    let tiles = |from: &[f32], transposed: bool| {
        from.chunks(BLOCK * hd)
            .map(|tile| {
                let tile = Mat::new(tile, tile.len() / hd, hd);
                Packed::new(if transposed { tile.t() } else { tile })
            })
            .collect::<Vec<_>>()
    };
    let (k_t, v_t, k) = (tiles(k, true), tiles(v, true), tiles(k, false));
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| Buffer::zeros(n * hd));
    let [mut scores, mut dscores] = [(); 2].map(|()| Buffer::stale(BLOCK.min(n) * TILES * BLOCK));
    for at in (0..n).step_by(BLOCK) {
        let m = BLOCK.min(n - at);
        let rows = at * hd..(at + m) * hd;
        let [query, gradient] = [q, dout].map(|from| Mat::new(&from[rows.clone()], m, hd));
        let [packed_query, packed_gradient] = [query, gradient].map(Packed::new);
        let seen = (at + m).div_ceil(BLOCK);
        for first in (0..seen).step_by(TILES) {
            let range = first..(first + TILES).min(seen);
            let keys = first * BLOCK..(range.end * BLOCK).min(n);
            let width = keys.len();
            let (s, ds) = (&mut scores[..m * width], &mut dscores[..m * width]);
            for (i, tile) in range.clone().enumerate() {
                let column = i * BLOCK;
                multiply(&mut s[column..], width, Into::Set, scale, query, &k_t[tile]);
                multiply(&mut ds[column..], width, Into::Set, 1.0, gradient, &v_t[tile]);
            }
            for (i, (s, ds)) in
                s.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width)).enumerate()
            {
                let row = at + i;
                let visible = (row + 1 - keys.start).min(width);
                let (s, hidden) = s.split_at_mut(visible);
                let (ds, dhidden) = ds.split_at_mut(visible);
                let (lse, delta) = (&log_sum_exp[row..=row], &delta[row..=row]);
                softmax_backward_rows(s, ds, visible, lse, delta);
                hidden.fill(0.0);
                dhidden.fill(0.0);
            }
            let (p, ds) = (Mat::new(s, m, width), Mat::new(ds, m, width));
            let to = keys.start * hd..keys.end * hd;
            multiply(&mut dv[to.clone()], hd, Into::Add, 1.0, p.t(), &packed_gradient);
            multiply(&mut dk[to], hd, Into::Add, scale, ds.t(), &packed_query);
            for (i, tile) in range.enumerate() {
                let columns = BLOCK.min(width - i * BLOCK);
                let ds = Mat::strided(&dscores[i * BLOCK..m * width], m, columns, width);
                multiply(&mut dq[rows.clone()], hd, Into::Add, scale, ds, &k[tile]);
            }
        }
    }
    (dq, dk, dv)
}

multiversion! {
    /// `scale · q·k` for each row `k` of `keys`.
    fn dot_each(q: &[f32], keys: &[f32], scale: f32, out: &mut [f32]) {
        for (k, out) in keys.chunks_exact(q.len()).zip(out) {
            *out = scale * reduce2(q, k, |a, b| a * b);
        }
    }
}

multiversion! {
    /// `out += factor · Σ shares[i] · values[i]`.
    fn add_weighted(shares: &[f32], values: &[f32], factor: f32, out: &mut [f32]) {
        for (value, share) in values.chunks_exact(out.len()).zip(shares) {
            let share = factor * share;
            for (out, v) in out.iter_mut().zip(value) {
                *out += share * v;
            }
        }
    }
}

multiversion! {
    /// One step of a softmax over several stretches of a row, of which the first `visible` scores count: makes shares
    /// `exp(s − top)` of them, raises `top`, and adds to `sum`. Gives the factor for what was made with the old `top`.
    fn carry_softmax(row: &mut [f32], visible: usize, top: &mut f32, sum: &mut f32) -> f32 {
        let (row, hidden) = row.split_at_mut(visible);
        hidden.fill(0.0);
        if row.is_empty() {
            return 1.0;
        }
        let old = *top;
        *top = old.max(largest(row));
        let mut sums = [0f32; LANES];
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        for c in chunks {
            for i in 0..LANES {
                let e = exp_nonpositive(c[i] - *top);
                c[i] = e;
                sums[i] += e;
            }
        }
        let mut more: f32 = sums.iter().sum();
        for v in rest {
            *v = exp_nonpositive(*v - *top);
            more += *v;
        }
        // The first stretch: nothing was made yet.
        let shrink = if old == f32::NEG_INFINITY { 1.0 } else { exp_nonpositive(old - *top) };
        *sum = *sum * shrink + more;
        shrink
    }
}
