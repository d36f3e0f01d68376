//! Sequences of tokens side by side: padded to equal lengths, or packed several to a row.

use std::ops::Range;

use super::attention::Behind;
use crate::kernel::CausalSequence;

/// A sequence of tokens, and which of them are to be predicted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequence {
    /// Tokens.
    pub tokens: Vec<u32>,
    /// For each token, whether it counts in the loss. The first never does, for nothing stands before it.
    pub targets: Vec<bool>,
}

impl Sequence {
    /// A prompt: nothing in it is to be predicted.
    pub fn prompt(tokens: &[u32]) -> Self {
        Self { tokens: tokens.to_vec(), targets: vec![false; tokens.len()] }
    }
}

/// Why tokens cannot be fed to a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// No sequence, or one without tokens.
    #[error("sequence {sequence} has no tokens")]
    Empty {
        /// Its number, from 0.
        sequence: usize,
    },
    /// Tokens and targets of different numbers.
    #[error("sequence {sequence} has {tokens} tokens, but {targets} marks of which are targets")]
    Targets {
        /// Its number, from 0.
        sequence: usize,
        /// Tokens.
        tokens: usize,
        /// Marks.
        targets: usize,
    },
    /// More tokens than fit.
    #[error("a sequence of {length} tokens is longer than the {most} that fit")]
    TooLong {
        /// Tokens.
        length: usize,
        /// The model's context, or the row's length.
        most: usize,
    },
    /// A token that the model does not have.
    #[error(
        "token {token} is outside the model's vocabulary of {vocab_size}; text and model need the same tokenizer"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// A batch that goes on with other rows than the cache holds.
    #[error("the cache holds {cached} rows, and the batch goes on with {rows}")]
    Rows {
        /// Rows in the cache.
        cached: usize,
        /// Rows of the batch.
        rows: usize,
    },
    /// A loss over nothing.
    #[error(
        "no token of the batch is a target; a loss needs one that is not the first of its sequence"
    )]
    NoTargets,
}

/// Sequences in rows of equal length. A token sees the earlier ones of its own sequence only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub(super) n_rows: usize,
    pub(super) length: usize,
    /// Row by row; padding is token 0.
    pub(super) tokens: Vec<u32>,
    /// Place among its sequence's tokens in the batch.
    pub(super) positions: Vec<u32>,
    /// Number of its sequence within the row, from 1; padding is 0.
    pub(super) segments: Vec<u32>,
    targets: Vec<bool>,
    /// Where each sequence lies in the lists above.
    places: Vec<Range<usize>>,
    /// Rows of a cache that the rows go on with; `None` if these are all, in their order.
    pub(super) cache_rows: Option<Vec<usize>>,
}

impl Batch {
    /// One sequence a row, padded on the right.
    ///
    /// # Errors
    /// [`InputError`] if there are no sequences, one is empty, or its marks are of another number.
    pub fn padded(sequences: &[Sequence]) -> Result<Self, InputError> {
        let longest = sequences.iter().map(|s| s.tokens.len()).max();
        Self::in_rows(sequences, longest.ok_or(InputError::Empty { sequence: 0 })?, 1)
    }

    /// As many sequences a row of `length` tokens as fit, in their order: a sequence begins a new row if the last
    /// one has no room for it.
    ///
    /// # Errors
    /// As [`Batch::padded`], and [`InputError::TooLong`] if a sequence is longer than a row.
    pub fn packed(sequences: &[Sequence], length: usize) -> Result<Self, InputError> {
        if sequences.is_empty() {
            return Err(InputError::Empty { sequence: 0 });
        }
        Self::in_rows(sequences, length, usize::MAX)
    }

    /// One token a row.
    pub(super) fn step(tokens: &[u32]) -> Self {
        let sequences: Vec<Sequence> = tokens.iter().map(|&t| Sequence::prompt(&[t])).collect();
        Self::padded(&sequences).expect("one token each")
    }

    /// The same tokens, to go on with these rows of a cache, one for each row here; without this, with all rows in
    /// their order.
    pub(super) fn on_rows(self, rows: Vec<usize>) -> Self {
        debug_assert_eq!(rows.len(), self.n_rows, "one each");
        Self { cache_rows: Some(rows), ..self }
    }

    /// Whether no two sequences share a row.
    pub(super) fn has_a_sequence_a_row(&self) -> bool {
        self.places.len() == self.n_rows
    }

    fn in_rows(sequences: &[Sequence], length: usize, per_row: usize) -> Result<Self, InputError> {
        let mut batch = Self {
            n_rows: 0,
            length,
            tokens: Vec::new(),
            positions: Vec::new(),
            segments: Vec::new(),
            targets: Vec::new(),
            places: Vec::with_capacity(sequences.len()),
            cache_rows: None,
        };
        // The room that is left in the last row, and the sequences in it.
        let (mut room, mut in_row) = (0, 0);
        for (i, Sequence { tokens, targets }) in sequences.iter().enumerate() {
            let n = tokens.len();
            if n == 0 {
                return Err(InputError::Empty { sequence: i });
            }
            if targets.len() != n {
                let targets = targets.len();
                return Err(InputError::Targets { sequence: i, tokens: n, targets });
            }
            if n > length {
                return Err(InputError::TooLong { length: n, most: length });
            }
            if n > room || in_row == per_row {
                batch.fill(room);
                batch.n_rows += 1;
                (room, in_row) = (length, 0);
            }
            let start = batch.tokens.len();
            batch.places.push(start..start + n);
            batch.tokens.extend(tokens);
            batch.positions.extend(0..n as u32);
            in_row += 1;
            batch.segments.resize(start + n, in_row as u32);
            batch.targets.push(false);
            batch.targets.extend(&targets[1..]);
            room -= n;
        }
        batch.fill(room);
        Ok(batch)
    }

    /// Pads the last row by `n` tokens.
    fn fill(&mut self, n: usize) {
        let len = self.tokens.len() + n;
        self.tokens.resize(len, 0);
        self.positions.resize(len, 0);
        self.segments.resize(len, 0);
        self.targets.resize(len, false);
    }

    /// Rows, and tokens a row with its padding.
    pub fn shape(&self) -> [usize; 2] {
        [self.n_rows, self.length]
    }

    /// The row of sequence `i`, and its tokens' columns.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn place(&self, i: usize) -> (usize, Range<usize>) {
        let Range { start, end } = self.places[i];
        let row = start / self.length;
        (row, start - row * self.length..end - row * self.length)
    }

    /// Where the last token of each sequence lies, counted row by row.
    pub(super) fn last_tokens(&self) -> Vec<usize> {
        self.places.iter().map(|place| place.end - 1).collect()
    }

    /// The tokens before each target, counted row by row, and the targets.
    pub(super) fn predictions(&self) -> (Vec<usize>, Vec<u32>) {
        let targets = (0..self.tokens.len()).filter(|&i| self.targets[i]);
        targets.map(|i| (i - 1, self.tokens[i])).unzip()
    }

    /// The sequences as the fused kernels want them.
    pub(super) fn causal(&self, behind: &Behind) -> Vec<CausalSequence> {
        let sequence = |own: &Range<usize>| {
            let row = own.start / self.length;
            CausalSequence { own: own.clone(), row: behind.rows[row], past: behind.past[row] }
        };
        self.places.iter().map(sequence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(first: u32, n: usize) -> Sequence {
        Sequence { tokens: (first..first + n as u32).collect(), targets: vec![true; n] }
    }

    #[test]
    fn packing_keeps_the_order_and_restarts_positions() {
        let batch = Batch::packed(&[sequence(10, 3), sequence(20, 2), sequence(30, 4)], 6).unwrap();
        assert_eq!(batch.shape(), [2, 6]);
        assert_eq!(batch.tokens, [10, 11, 12, 20, 21, 0, 30, 31, 32, 33, 0, 0]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 0, 0, 1, 2, 3, 0, 0]);
        assert_eq!(batch.segments, [1, 1, 1, 2, 2, 0, 1, 1, 1, 1, 0, 0]);
        assert_eq!((batch.place(1), batch.place(2)), ((0, 3..5), (1, 0..4)));
        assert_eq!(batch.last_tokens(), [2, 4, 9]);
        // A first token is predicted by nothing, least of all by the sequence that happens to stand before it.
        assert_eq!(batch.predictions().0, [0, 1, 3, 6, 7, 8]);
        assert_eq!(batch.predictions().1, [11, 12, 21, 31, 32, 33]);
    }

    #[test]
    fn padding_gives_each_sequence_its_row() {
        let batch = Batch::padded(&[sequence(10, 1), sequence(20, 3)]).unwrap();
        assert_eq!(batch.tokens, [10, 0, 0, 20, 21, 22]);
        assert_eq!((batch.last_tokens(), batch.place(1)), (vec![0, 5], (1, 0..3)));
    }

    #[test]
    fn sequences_that_cannot_be_fed_are_refused() {
        assert_eq!(Batch::padded(&[]), Err(InputError::Empty { sequence: 0 }));
        let empty = Sequence::default();
        assert_eq!(Batch::padded(&[sequence(1, 1), empty]), Err(InputError::Empty { sequence: 1 }));
        let long = Batch::packed(&[sequence(1, 4)], 3);
        assert_eq!(long, Err(InputError::TooLong { length: 4, most: 3 }));
        let mut marks = sequence(1, 4);
        marks.targets.pop();
        let error = InputError::Targets { sequence: 0, tokens: 4, targets: 3 };
        assert_eq!(Batch::padded(&[marks]), Err(error));
    }
}
