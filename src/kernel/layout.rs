//! How a flat buffer of tokens is divided into sequences.

use std::ops::Range;

/// Radians that the fastest pair of a group turns a step: enough to tell a cell from its neighbors.
const FASTEST: f32 = 2.0;

/// The next pairs of a group turn slower, down to about this share of the fastest, so that no two places of 30 are
/// taken for one another.
const SLOWEST: f32 = 0.1;

/// Where a token stands on its canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Rows from the top.
    pub row: i8,
    /// Columns from the left.
    pub column: i8,
    /// Rows from the bottom of the input; below 0 outside it.
    pub mirrored_row: i8,
    /// Columns from the right of the input; below 0 outside it.
    pub mirrored_column: i8,
}

impl Place {
    /// The place of a cell on a canvas whose input has this `(height, width)`.
    ///
    /// # Panics
    /// If a side has more than 127 cells.
    pub fn new((row, column): (usize, usize), (height, width): (usize, usize)) -> Self {
        let narrow = |i: isize| i8::try_from(i).expect("a side of at most 127 cells");
        let mirrored = |size: usize, i: usize| narrow(size as isize - 1 - i as isize);
        Self {
            row: narrow(row as isize),
            column: narrow(column as isize),
            mirrored_row: mirrored(height, row),
            mirrored_column: mirrored(width, column),
        }
    }

    /// By what the four groups of pairs of a head are turned: in a query and in a key.
    ///
    /// A query's score with a key depends on the differences of the two lists, weighted by the lengths that the
    /// query gives its four groups. So a head can look at a place relative to itself or to its mirror image, on
    /// each axis, and a head of odd number to those of its transposed place: any of the eight symmetries of the
    /// square, by the choice of a head and of two of its groups.
    pub fn turns(self, head: usize) -> [[i8; 4]; 2] {
        let Self { row, column, mirrored_row, mirrored_column } = self;
        let query = if head.is_multiple_of(2) {
            [row, column, row, column]
        } else {
            [column, row, column, row]
        };
        [query, [row, column, mirrored_row, mirrored_column]]
    }
}

/// A token's place; `None` for tokens that have none (task tokens, frame tokens).
pub type Position = Option<Place>;

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
    /// The tokens whose outputs are read later. All others only give keys and values: a fused block leaves zeros in their
    /// place, and is right only if nothing flows back from there.
    pub asked: Range<usize>,
}

impl Layout {
    /// A layout of which all outputs are read.
    pub fn new(positions: Vec<Position>, sequences: Vec<Sequence>) -> Self {
        let asked = 0..positions.len();
        Self { positions, sequences, asked }
    }

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
        assert!(self.asked.end <= owners.len(), "tokens are asked for that there are not");
    }
}

/// The angle by which pair `i` of a group of `group` pairs turns a step on its axis.
pub fn frequency(i: usize, group: usize) -> f32 {
    FASTEST * SLOWEST.powf(i as f32 / group as f32)
}

/// Steps in either direction: places 0 to 29 and their mirror images.
const MOST_STEPS: i8 = crate::arc::MAX_SIDE as i8 - 1;

/// Cosines and sines of the rotary angles (Su et al. 2021, arXiv 2104.09864, on two axes and their mirror images:
/// [`Place::turns`]). The `head_dim / 2` pairs of a head are four groups of `head_dim / 8`.
#[derive(Debug)]
pub(crate) struct Rotary {
    group: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotary {
    pub(crate) fn new(head_dim: usize) -> Self {
        let group = head_dim / 8;
        let table = |f: fn(f32) -> f32| {
            let steps = -MOST_STEPS..=MOST_STEPS;
            steps
                .flat_map(|at| (0..group).map(move |i| f(f32::from(at) * frequency(i, group))))
                .collect::<Vec<f32>>()
        };
        Self { group, cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Writes the cosines and sines of a head's pairs.
    pub(crate) fn angles(&self, turns: [i8; 4], cos: &mut [f32], sin: &mut [f32]) {
        let n = self.group;
        for (i, turn) in turns.into_iter().enumerate() {
            let from = usize::try_from(turn + MOST_STEPS).expect("a side of at most 30 cells") * n;
            cos[i * n..(i + 1) * n].copy_from_slice(&self.cos[from..from + n]);
            sin[i * n..(i + 1) * n].copy_from_slice(&self.sin[from..from + n]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::Dihedral;

    #[test]
    fn a_head_and_two_of_its_groups_find_the_source_of_each_symmetry() {
        let shape = (3, 5);
        let cells = || (0..shape.0).flat_map(|r| (0..shape.1).map(move |c| (r, c)));
        for symmetry in Dihedral::ALL {
            let (height, width) = symmetry.apply_shape(shape);
            let targets = (0..height).flat_map(|r| (0..width).map(move |c| (r, c)));
            let targets: Vec<_> = targets.collect();
            let finds = |head: usize, groups: [usize; 2]| {
                targets.iter().all(|&target| {
                    let [query, _] = Place::new(target, shape).turns(head);
                    let matches = |source: &(usize, usize)| {
                        let [_, key] = Place::new(*source, shape).turns(head);
                        groups.iter().all(|&g| query[g] == key[g])
                    };
                    let found: Vec<_> = cells().filter(matches).collect();
                    found == [symmetry.source(shape, target.0, target.1)]
                })
            };
            let groups = [[0, 1], [0, 3], [2, 1], [2, 3]];
            let n = (0..2).map(|h| groups.iter().filter(|g| finds(h, **g)).count()).sum::<usize>();
            assert_eq!(n, 1, "{symmetry:?}");
        }
    }
}
