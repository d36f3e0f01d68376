//! Which tokens may follow: the grammar of a format, as decoding asks for it.

use crate::arc::{MAX_SIDE, N_COLORS};

/// Says which tokens may come next. Probabilities stay the model's: a filter only leaves tokens out.
///
/// Closures `Fn(&[u32], &mut [bool])` are filters; `()` lets everything through.
pub trait TokenFilter {
    /// Sets `allowed` to false for every token that may not follow `generated`. It comes with every token of the
    /// vocabulary allowed.
    fn restrict(&self, generated: &[u32], allowed: &mut [bool]);
}

impl<F: Fn(&[u32], &mut [bool])> TokenFilter for F {
    fn restrict(&self, generated: &[u32], allowed: &mut [bool]) {
        self(generated, allowed);
    }
}

impl TokenFilter for () {
    fn restrict(&self, _: &[u32], _: &mut [bool]) {}
}

/// Only rectangular grids of at most 30×30 cells, for formats with a token a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridTokens {
    /// The token of each color.
    pub colors: [u32; N_COLORS],
    /// The token between rows.
    pub row_end: u32,
    /// Whether it stands behind the last row too.
    pub last_row_ends: bool,
    /// Tokens that end the grid; any of them may.
    pub ends: Vec<u32>,
}

impl TokenFilter for GridTokens {
    fn restrict(&self, generated: &[u32], allowed: &mut [bool]) {
        allowed.fill(false);
        let mut allow = |token: u32| {
            if let Some(allowed) = allowed.get_mut(token as usize) {
                *allowed = true;
            }
        };
        // Cells of the first row, once it is whole; rows that are whole; cells of the row that is not.
        let (mut width, mut rows, mut cells) = (None, 0, 0);
        for token in generated {
            if self.colors.contains(token) {
                cells += 1;
            } else if *token == self.row_end && cells > 0 && width.is_none_or(|w| w == cells) {
                (width, rows, cells) = (Some(cells), rows + 1, 0);
            } else {
                return;
            }
        }
        if rows < MAX_SIDE && cells < width.unwrap_or(MAX_SIDE) {
            self.colors.iter().for_each(|&color| allow(color));
        }
        let row_is_whole = cells > 0 && width.is_none_or(|w| w == cells);
        if row_is_whole && rows + usize::from(!self.last_row_ends) < MAX_SIDE {
            allow(self.row_end);
        }
        let is_whole = if self.last_row_ends { rows > 0 && cells == 0 } else { row_is_whole };
        if is_whole {
            self.ends.iter().for_each(|&end| allow(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: u32 = 10;
    const END: u32 = 11;

    fn tokens(last_row_ends: bool) -> GridTokens {
        let colors = std::array::from_fn(|i| i as u32);
        GridTokens { colors, row_end: ROW, last_row_ends, ends: vec![END] }
    }

    /// Whether (a color, the end of a row, the end) may follow.
    fn may(filter: &GridTokens, generated: &[u32]) -> (bool, bool, bool) {
        let mut allowed = vec![true; 13];
        filter.restrict(generated, &mut allowed);
        assert!(!allowed[12], "a token that is none of the format's");
        assert!(allowed[..10].iter().all(|&a| a == allowed[0]));
        (allowed[0], allowed[10], allowed[11])
    }

    #[test]
    fn rows_are_as_long_as_the_first_and_at_least_one_cell() {
        for last_row_ends in [false, true] {
            let filter = tokens(last_row_ends);
            let check = |generated: &[u32], expected: (bool, bool, bool)| {
                assert_eq!(may(&filter, generated), expected, "{generated:?} {last_row_ends}");
            };
            let open = !last_row_ends;
            check(&[], (true, false, false));
            check(&[5], (true, true, open));
            check(&[5, 5], (true, true, open));
            check(&[5, 5, ROW], (true, false, last_row_ends));
            check(&[5, 5, ROW, 5], (true, false, false));
            check(&[5, 5, ROW, 5, 5], (false, true, open));
            check(&[ROW], (false, false, false));
            check(&[5, 5, ROW, 5, ROW], (false, false, false));
            check(&[5, 12], (false, false, false));
        }
    }

    #[test]
    fn grids_end_at_thirty() {
        let row = vec![1; 30];
        assert_eq!(may(&tokens(true), &row), (false, true, false));
        let mut grid: Vec<u32> = (0..29).flat_map(|_| [1, ROW]).collect();
        grid.push(1);
        // Behind the last row a separator leads nowhere, but an end of the row has to come.
        assert_eq!(may(&tokens(false), &grid), (false, false, true));
        assert_eq!(may(&tokens(true), &grid), (false, true, false));
        grid.push(ROW);
        assert_eq!(may(&tokens(true), &grid), (false, false, true));
    }
}
