//! How a flat buffer of tokens is divided into sequences.

use std::ops::Range;

/// Base of the rotary frequencies. Grids are at most 30 cells wide, so the longest wave need not be long.
pub const ROPE_BASE: f32 = 100.0;

/// Where a token stands on its canvas; `None` for tokens without a place (task tokens, frame tokens).
pub type Position = Option<(u8, u8)>;

/// One sequence: its own tokens, which attend to each other and to the context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequence {
    /// Token ranges that belong to this sequence; no token belongs to two.
    pub own: Vec<Range<usize>>,
    /// Further token ranges that it may read, owned by other sequences.
    pub context: Vec<Range<usize>>,
}

impl Sequence {
    /// Number of tokens that ask.
    pub fn n_queries(&self) -> usize {
        self.own.iter().map(Range::len).sum()
    }

    /// Number of tokens that are read: its own and the context's.
    pub fn n_keys(&self) -> usize {
        self.n_queries() + self.context.iter().map(Range::len).sum::<usize>()
    }
}

/// The division of `[n_tokens, d_model]` into sequences, with each token's place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Place of each token; its length is the number of tokens.
    pub positions: Vec<Position>,
    /// The sequences; every token belongs to exactly one.
    pub sequences: Vec<Sequence>,
}

impl Layout {
    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.positions.len()
    }

    /// Panics unless every token belongs to exactly one sequence and every range is inside the buffer.
    ///
    /// The fused operations write through disjoint ranges on the strength of this.
    pub fn check(&self) {
        let mut owners = vec![0u8; self.n_tokens()];
        for sequence in &self.sequences {
            for range in &sequence.own {
                for owner in &mut owners[range.clone()] {
                    *owner += 1;
                }
            }
            for range in &sequence.context {
                assert!(range.end <= owners.len(), "a context range ends outside the tokens");
            }
        }
        assert!(owners.iter().all(|&n| n == 1), "every token belongs to exactly one sequence");
    }
}

/// Cosines and sines of the rotary angles, for places 0 to 29.
///
/// Half of the pairs of a head turn with the row and half with the column: pair `i < head_dim / 4` by
/// `row · base^(-4i/head_dim)`, pair `head_dim / 4 + i` by the column likewise (Su et al. 2021,
/// arXiv 2104.09864, on two axes).
#[derive(Debug)]
pub(crate) struct Rotary {
    quarter: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotary {
    pub(crate) fn new(head_dim: usize) -> Self {
        let quarter = head_dim / 4;
        let angle =
            |place: usize, i: usize| place as f32 * ROPE_BASE.powf(-(i as f32) / quarter as f32);
        let table = |f: fn(f32) -> f32| {
            (0..crate::arc::MAX_SIDE * quarter)
                .map(|n| f(angle(n / quarter, n % quarter)))
                .collect::<Vec<f32>>()
        };
        Self { quarter, cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Writes the cosines and sines of a token's `head_dim / 2` pairs.
    pub(crate) fn angles(&self, (row, column): (u8, u8), cos: &mut [f32], sin: &mut [f32]) {
        let q = self.quarter;
        for (half, place) in [usize::from(row), usize::from(column)].into_iter().enumerate() {
            cos[half * q..(half + 1) * q].copy_from_slice(&self.cos[place * q..(place + 1) * q]);
            sin[half * q..(half + 1) * q].copy_from_slice(&self.sin[place * q..(place + 1) * q]);
        }
    }
}
