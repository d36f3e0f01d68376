//! Attention over ragged sequences without materialised score matrices.
//!
//! For each (sequence, head) the keys and values are gathered once; queries go through in blocks of rows whose
//! scores fit the second-level cache: `S = scale·Q·Kᵀ`, exponentials, `O = P·V`, divided by the rows' sums at the
//! end. Only the logarithm of each row's sum is kept; the backward pass recomputes `P` from it (Dao et al. 2022,
//! arXiv 2205.14135, without the tiling over keys, which a canvas of at most 900 cells does not need).

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::layout::{Layout, Sequence};
use super::matmul::{Into, Mat, Packed, Precision, matmul, multiply};
use super::rows::{add_assign, dot_rows, softmax_backward_rows, softmax_rows};

/// Query rows per block: 64 rows of 900 scores are 230 KB, within a second-level cache.
const BLOCK: usize = 64;

/// Scores that are worth a piece of parallel work.
const SCORES: usize = 1 << 13;

/// A mutable buffer that several threads write in disjoint places.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32, usize);

// SAFETY: the pointer is only used through `row`, whose callers write disjoint ranges.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr(), slice.len())
    }

    /// `len` floats from `at`.
    ///
    /// # Safety
    /// No two threads may ask for overlapping ranges, nor one thread twice at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn row(&self, at: usize, len: usize) -> &mut [f32] {
        assert!(at + len <= self.1);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), len) }
    }
}

/// Sizes of a multi-head attention, and how it multiplies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) n_heads: usize,
    pub(crate) head_dim: usize,
    /// Of the products of queries, keys, values and shares; the softmax is in f32.
    pub(crate) precision: Precision,
}

impl Heads {
    fn d(self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Copies columns `offset..offset + head_dim` of the given rows (of `stride` floats) side by side.
    fn gather(
        self,
        from: &[f32],
        stride: usize,
        offset: usize,
        ranges: &[Range<usize>],
        to: &mut [f32],
    ) {
        let rows = ranges.iter().flat_map(Clone::clone);
        for (row, to) in rows.zip(to.chunks_exact_mut(self.head_dim)) {
            // Eight at a time, which needs no call for so few; `head_dim` is a multiple of eight.
            let from = from[row * stride + offset..][..self.head_dim].as_chunks::<8>().0;
            for (to, from) in to.as_chunks_mut::<8>().0.iter_mut().zip(from) {
                *to = *from;
            }
        }
    }
}

/// (sequence, head) pairs, and how many of them are one piece of parallel work: enough for a few thousand scores.
fn units(layout: &Layout, n_heads: usize) -> (Vec<(&Sequence, usize)>, usize) {
    let of_sequence = |s| (0..n_heads).map(move |h| (s, h));
    let most = layout.sequences.iter().map(|s| s.n_queries() * s.n_keys()).max().unwrap_or(0);
    let piece = (SCORES / most.max(1)).clamp(1, n_heads);
    (layout.sequences.iter().flat_map(of_sequence).collect(), piece)
}

fn keys(sequence: &Sequence) -> Vec<Range<usize>> {
    sequence.own.iter().chain(&sequence.context).cloned().collect()
}

/// The sequence's own tokens that ask: those whose outputs are read ([`Layout::asked`]).
fn asking(layout: &Layout, sequence: &Sequence) -> Vec<Range<usize>> {
    let Range { start, end } = layout.asked;
    let both = |own: &Range<usize>| own.start.max(start)..own.end.min(end);
    sequence.own.iter().map(both).filter(|range| !range.is_empty()).collect()
}

fn n_tokens(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(Range::len).sum()
}

/// Attention of normalized, rotated queries and keys.
///
/// # Shapes
/// - qkv: `[n_tokens, 3·d_model]`
/// - scale: `[n_heads]`, the factor in front of each head's scores
/// - out: `[n_tokens, d_model]`; only the rows that are asked for are written
/// - log_sum_exp: `[n_heads, n_tokens]`, likewise
pub(crate) fn attention_forward(
    layout: &Layout,
    heads: Heads,
    qkv: &[f32],
    scale: &[f32],
    out: &mut [f32],
    log_sum_exp: &mut [f32],
) {
    let (d, hd, n) = (heads.d(), heads.head_dim, layout.n_tokens());
    let (out, lse) = (Shared::new(out), Shared::new(log_sum_exp));
    let (units, piece) = units(layout, heads.n_heads);
    units.into_par_iter().with_min_len(piece).with_max_len(piece).for_each(|(sequence, head)| {
        let (query_ranges, key_ranges) = (asking(layout, sequence), keys(sequence));
        let (nq, nk) = (n_tokens(&query_ranges), n_tokens(&key_ranges));
        if nq == 0 {
            return;
        }
        let mut q = Buffer::stale(nq * hd);
        let mut k = Buffer::stale(nk * hd);
        let mut v = Buffer::stale(nk * hd);
        let mut o = Buffer::stale(nq * hd);
        let mut l = Buffer::stale(nq);
        let mut inverse_sums = Buffer::stale(nq);
        let mut scores = Buffer::stale(BLOCK.min(nq) * nk);
        // Queries and keys are of length √head_dim at most; a little more for roundings.
        let bound = 1.02 * scale[head].abs() * hd as f32;
        heads.gather(qkv, 3 * d, head * hd, &query_ranges, &mut q);
        heads.gather(qkv, 3 * d, d + head * hd, &key_ranges, &mut k);
        heads.gather(qkv, 3 * d, 2 * d + head * hd, &key_ranges, &mut v);
        let k = Packed::in_precision(Mat::new(&k, nk, hd).t(), heads.precision);
        let v = Packed::in_precision(Mat::new(&v, nk, hd), heads.precision);
        for at in (0..nq).step_by(BLOCK) {
            let m = BLOCK.min(nq - at);
            let s = &mut scores[..m * nk];
            let block = Mat::new(&q[at * hd..(at + m) * hd], m, hd);
            multiply(s, nk, Into::Set, scale[head], block, &k);
            softmax_rows(s, nk, bound, &mut l[at..at + m], &mut inverse_sums[at..at + m]);
            let p = Mat::new(s, m, nk);
            multiply(&mut o[at * hd..(at + m) * hd], hd, Into::Set, 1.0, p, &v);
        }
        for (i, row) in query_ranges.into_iter().flatten().enumerate() {
            // SAFETY: a token belongs to one sequence (`Layout::check`), a column range to one head, so each
            // place is written by one unit only.
            unsafe {
                let out = out.row(row * d + head * hd, hd);
                for (out, o) in out.iter_mut().zip(&o[i * hd..(i + 1) * hd]) {
                    *out = o * inverse_sums[i];
                }
                lse.row(head * n + row, 1)[0] = l[i];
            }
        }
    });
}

/// Gradients of [`attention_forward`] with respect to queries, keys, values and scales.
///
/// `dqkv` is overwritten; `dscale` is added to. Keys of the context get contributions from several sequences:
/// each unit keeps its share, and the shares are summed in the order of the units.
pub(crate) fn attention_backward(
    layout: &Layout,
    heads: Heads,
    qkv: &[f32],
    scale: &[f32],
    out: &[f32],
    log_sum_exp: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
    dscale: &mut [f32],
) {
    let (d, hd, n) = (heads.d(), heads.head_dim, layout.n_tokens());
    let target = Shared::new(dqkv);
    let (units, piece) = units(layout, heads.n_heads);
    let shares: Vec<(f32, Buffer)> = units
        .into_par_iter()
        .with_min_len(piece)
        .with_max_len(piece)
        .map(|(sequence, head)| {
            let (query_ranges, key_ranges) = (asking(layout, sequence), keys(sequence));
            let (n_own, nk) = (sequence.n_queries(), n_tokens(&key_ranges));
            let nq = n_tokens(&query_ranges);
            let own = || sequence.own.iter().flat_map(Clone::clone);
            // SAFETY: as in the forward pass: own tokens and own columns only.
            let clear = |at: usize| unsafe { target.row(at + head * hd, hd).fill(0.0) };
            for row in own().filter(|row| !layout.asked.contains(row)) {
                clear(row * 3 * d);
            }
            if nq == 0 {
                for row in own() {
                    clear(row * 3 * d + d);
                    clear(row * 3 * d + 2 * d);
                }
                return (0.0, Buffer::zeros(2 * (nk - n_own) * hd));
            }
            let gathered = |from: &[f32],
                            stride: usize,
                            offset: usize,
                            ranges: &[Range<usize>],
                            rows: usize| {
                let mut to = Buffer::stale(rows * hd);
                heads.gather(from, stride, offset + head * hd, ranges, &mut to);
                to
            };
            let q = gathered(qkv, 3 * d, 0, &query_ranges, nq);
            let k = gathered(qkv, 3 * d, d, &key_ranges, nk);
            let v = gathered(qkv, 3 * d, 2 * d, &key_ranges, nk);
            let o = gathered(out, d, 0, &query_ranges, nq);
            let g = gathered(dout, d, 0, &query_ranges, nq);
            let mut lse = Buffer::stale(nq);
            for (l, row) in lse.iter_mut().zip(query_ranges.iter().flat_map(Clone::clone)) {
                *l = log_sum_exp[head * n + row];
            }
            let mut delta = Buffer::stale(nq);
            dot_rows(&o, &g, hd, &mut delta);
            let (k, v) = (Mat::new(&k, nk, hd), Mat::new(&v, nk, hd));
            let [k, k_t, v_t] = [k, k.t(), v.t()].map(|m| Packed::in_precision(m, heads.precision));
            let mut dq = Buffer::stale(nq * hd);
            let (mut dk, mut dv) = (Buffer::zeros(nk * hd), Buffer::zeros(nk * hd));
            let mut scores = Buffer::stale(BLOCK.min(nq) * nk);
            let mut dscores = Buffer::stale(BLOCK.min(nq) * nk);
            for at in (0..nq).step_by(BLOCK) {
                let m = BLOCK.min(nq - at);
                let rows = at * hd..(at + m) * hd;
                let (s, ds) = (&mut scores[..m * nk], &mut dscores[..m * nk]);
                let (qb, gb) =
                    (Mat::new(&q[rows.clone()], m, hd), Mat::new(&g[rows.clone()], m, hd));
                multiply(s, nk, Into::Set, scale[head], qb, &k_t);
                multiply(ds, nk, Into::Set, 1.0, gb, &v_t);
                softmax_backward_rows(s, ds, nk, &lse[at..at + m], &delta[at..at + m]);
                let (p, ds) = (Mat::new(s, m, nk), Mat::new(ds, m, nk));
                matmul(&mut dv, hd, Into::Add, 1.0, p.t(), gb, heads.precision);
                matmul(&mut dk, hd, Into::Add, scale[head], ds.t(), qb, heads.precision);
                multiply(&mut dq[rows], hd, Into::Set, scale[head], ds, &k);
            }
            // The scores are scale·QKᵀ, so d(scale) = Σ dS∘QKᵀ = Σ dQ∘Q / scale.
            let dscale = dot(&dq, &q) / scale[head];
            for (row, dq) in query_ranges.into_iter().flatten().zip(dq.chunks_exact(hd)) {
                // SAFETY: as in the forward pass: own tokens and own columns only.
                unsafe { target.row(row * 3 * d + head * hd, hd).copy_from_slice(dq) };
            }
            for (row, (dk, dv)) in own().zip(dk.chunks_exact(hd).zip(dv.chunks_exact(hd))) {
                let at = row * 3 * d + head * hd;
                // SAFETY: as above.
                unsafe {
                    target.row(at + d, hd).copy_from_slice(dk);
                    target.row(at + 2 * d, hd).copy_from_slice(dv);
                }
            }
            let n_context = (nk - n_own) * hd;
            let mut context = Buffer::stale(2 * n_context);
            let (to_k, to_v) = context.split_at_mut(n_context);
            to_k.copy_from_slice(&dk[n_own * hd..]);
            to_v.copy_from_slice(&dv[n_own * hd..]);
            (dscale, context)
        })
        .collect();
    // The units of one head lie `n_heads` apart and write to columns of their own.
    dscale.par_iter_mut().enumerate().for_each(|(head, dscale)| {
        let of_head = shares.iter().skip(head).step_by(heads.n_heads);
        for (sequence, (ds, context)) in layout.sequences.iter().zip(of_head) {
            *dscale += ds;
            let (from_k, from_v) = context.split_at(context.len() / 2);
            let rows = sequence.context.iter().flat_map(Clone::clone);
            let from = from_k.chunks_exact(hd).zip(from_v.chunks_exact(hd));
            for (row, (from_k, from_v)) in rows.zip(from) {
                let at = row * 3 * d + head * hd;
                // SAFETY: this head's columns of keys and values, which no other head's thread touches.
                unsafe {
                    add_assign(target.row(at + d, hd), from_k);
                    add_assign(target.row(at + 2 * d, hd), from_v);
                }
            }
        }
    });
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut out = [0.0];
    dot_rows(a, b, a.len(), &mut out);
    out[0]
}
