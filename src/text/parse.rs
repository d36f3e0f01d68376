//! Text → grid, or why not.

use super::format::TextFormat;
use super::write::SpecialTokens;
use crate::arc::{Grid, GridError, MAX_SIDE};

/// Why a text is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It does not begin as a grid does.
    #[error("the answer begins with {found:?} and not with {expected:?}")]
    NoGrid {
        /// What a grid begins with.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// Something that is no color where one should stand.
    #[error("cell (row {row}, column {column}) of the answer is {found:?}, which is no color")]
    NoColor {
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// What stands there.
        found: String,
    },
    /// Nothing behind the last cell, or behind the grid: the text was cut off.
    #[error("the answer breaks off behind {rows} whole rows")]
    CutOff {
        /// Rows that are whole.
        rows: usize,
    },
    /// Something behind a cell that neither goes on nor ends the grid.
    #[error("behind cell (row {row}, column {column}) of the answer stands {found:?}")]
    Unexpected {
        /// Row of the last cell.
        row: usize,
        /// Its column.
        column: usize,
        /// What stands there.
        found: String,
    },
    /// Rows of unequal lengths, or too many cells.
    #[error("the answer is no grid: {0}")]
    Grid(#[from] GridError),
}

impl TextFormat {
    /// Reads what a model has written behind a prompt. Nothing but a whole grid with the query's end behind it
    /// counts; what comes after that is not looked at.
    ///
    /// # Errors
    /// [`TextError`] with the place of the first thing that is wrong.
    pub fn parse_answer(&self, text: &str, special: &SpecialTokens) -> Result<Grid, TextError> {
        let grid = &self.grid;
        let end = format!("{}{}", grid.close, special.fill(&self.query.end));
        let mut rest = text.strip_prefix(grid.open.as_str()).ok_or_else(|| TextError::NoGrid {
            expected: grid.open.clone(),
            found: beginning(text),
        })?;
        let mut rows: Vec<Vec<u8>> = vec![Vec::new()];
        loop {
            let (row, column) = (rows.len() - 1, rows[rows.len() - 1].len());
            let color = grid.cells.iter().position(|cell| rest.starts_with(cell.as_str()));
            let Some(color) = color else {
                if grid.cells.iter().any(|cell| cell.starts_with(rest)) {
                    return Err(TextError::CutOff { rows: row });
                }
                return Err(TextError::NoColor { row, column, found: beginning(rest) });
            };
            rest = &rest[grid.cells[color].len()..];
            rows[row].push(color as u8);
            // A model that repeats itself may write for long; the answer is wrong long before.
            if row >= MAX_SIDE || column >= MAX_SIDE {
                let (height, width) = (row + 1, rows.iter().map(Vec::len).max().unwrap_or(0));
                return Err(GridError::TooLarge { height, width }.into());
            }
            // The end may begin like what stands between rows, so it is looked for first.
            if rest.starts_with(&end) {
                return Ok(Grid::from_rows(&rows)?);
            }
            if let Some(behind) = rest.strip_prefix(grid.between_rows.as_str()) {
                // An end that begins with a row's end is cut off there.
                if behind.is_empty() {
                    return Err(TextError::CutOff { rows: row + 1 });
                }
                rest = behind;
                rows.push(Vec::new());
            } else if rest.is_empty()
                || end.starts_with(rest)
                || grid.between_rows.starts_with(rest)
            {
                let whole = row + usize::from(!rest.is_empty());
                return Err(TextError::CutOff { rows: whole });
            } else if let Some(behind) = rest.strip_prefix(grid.between_cells.as_str()) {
                rest = behind;
                let next = grid.cells.iter().any(|cell| rest.starts_with(cell.as_str()));
                if grid.between_cells.is_empty() && !next {
                    return Err(TextError::Unexpected { row, column, found: beginning(rest) });
                }
            } else {
                return Err(TextError::Unexpected { row, column, found: beginning(rest) });
            }
        }
    }
}

/// Enough of a text to recognize it.
fn beginning(text: &str) -> String {
    text.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::strategies::grid;

    fn special() -> SpecialTokens {
        SpecialTokens { bos: "<s>".into(), eos: "</s>".into() }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_whatever_follows(grid in grid(30), more in "[ -~\n]{0,9}") {
            for name in TextFormat::names() {
                let format = TextFormat::built_in(name).unwrap();
                let written = format.write(&[], &grid, Some(&grid), &special());
                let answer = &written.text[written.outputs[0].clone()];
                prop_assert_eq!(format.parse_answer(answer, &special()), Ok(grid.clone()));
                let longer = format!("{answer}{more}");
                prop_assert_eq!(format.parse_answer(&longer, &special()), Ok(grid.clone()));
            }
        }

        #[test]
        fn no_beginning_of_an_answer_is_an_answer(grid in grid(6), share in 0.0..1.0f64) {
            for name in TextFormat::names() {
                let format = TextFormat::built_in(name).unwrap();
                let written = format.write(&[], &grid, Some(&grid), &special());
                let answer = &written.text[written.outputs[0].clone()];
                let part = &answer[..(answer.len() as f64 * share) as usize];
                prop_assert!(format.parse_answer(part, &special()).is_err(), "{part:?}");
            }
        }
    }

    #[test]
    fn answers_that_are_none_say_why() {
        let check = |name: &str, answer: &str, expected: &str| {
            let format = TextFormat::built_in(name).unwrap();
            let error = format.parse_answer(answer, &special()).unwrap_err().to_string();
            assert!(error.contains(expected), "{answer:?}: {error}");
        };
        check("paper", "I think", "begins with \"I think\"");
        check("paper", "[[1 2]\n [3]]#<|eot_id|>", "row 1 has 1 cells");
        check("paper", "[[1 2]\n [3 x]]#<|eot_id|>", "(row 1, column 1) of the answer is \"x]]#");
        check("paper", "[[1 2]\n [3 4]]#", "breaks off behind 2 whole rows");
        check("paper", "[[1 2]\n [3 4", "breaks off behind 1 whole rows");
        check("paper", "[[1,2]]#<|eot_id|>", "behind cell (row 0, column 0)");
        check("architects", "12\n34\n", "breaks off");
        check(
            "architects",
            "12\n3a\n</s>",
            "behind cell (row 1, column 0) of the answer stands \"a",
        );
        check("architects", &"1".repeat(31), "31");
        check("architects", &"1\n".repeat(31), "31");
        check("architects", "\n</s>", "no color");
        check("barc", "Black Teal\n```<|eot_id|>", "(row 0, column 1)");
        check("nvarc", "", "breaks off behind 0 whole rows");
    }
}
