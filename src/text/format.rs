//! Formats as data.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::write::SpecialTokens;
use crate::arc::{Grid, N_COLORS};

/// The built-in formats, each a file of `data/formats`.
const BUILT_IN: [(&str, &str); 5] = [
    ("paper", include_str!("../../data/formats/paper.toml")),
    ("architects", include_str!("../../data/formats/architects.toml")),
    ("nvarc", include_str!("../../data/formats/nvarc.toml")),
    ("barc", include_str!("../../data/formats/barc.toml")),
    ("compact", include_str!("../../data/formats/compact.toml")),
];

/// What settings say instead of a format: the one that a checkpoint's tokenizer can write.
pub const AUTO: &str = "auto";

/// Which format tasks are written in, as settings say it: a text, or a table with the keys of [`TextFormat`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FormatChoice {
    /// [`AUTO`], or a built-in format by name.
    Named(String),
    /// A format of the user's own.
    Own(Box<TextFormat>),
}

impl FormatChoice {
    /// How messages and reports call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Own(format) => &format.name,
        }
    }
}

impl From<&str> for FormatChoice {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

/// How a task is written.
///
/// In every text but the grid's, `{bos}` and `{eos}` stand for the tokenizer's tokens of these names, and in a
/// demonstration `{number}` for its number from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFormat {
    /// How settings call it.
    pub name: String,
    /// Whether a tokenizer says by its vocabulary alone that its model was trained on this format: it then holds the
    /// format's characters and nothing else.
    #[serde(default)]
    pub own_vocabulary: bool,
    /// What stands before the first demonstration.
    pub prologue: String,
    /// How a grid is written.
    pub grid: GridText,
    /// What stands around the grids of a demonstration.
    pub demonstration: PairText,
    /// What stands around the test's grids.
    pub query: PairText,
}

/// How a grid is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridText {
    /// Before the first cell.
    pub open: String,
    /// Each color.
    #[serde(deserialize_with = "cells")]
    pub cells: [String; N_COLORS],
    /// Between the cells of a row.
    pub between_cells: String,
    /// Between rows.
    pub between_rows: String,
    /// Behind the last cell.
    pub close: String,
}

/// Exactly as many as there are colors: of a longer list an array would take the first ones and drop the rest.
fn cells<'de, D: Deserializer<'de>>(source: D) -> Result<[String; N_COLORS], D::Error> {
    let cells = Vec::deserialize(source)?;
    let n = cells.len();
    cells.try_into().map_err(|_| D::Error::invalid_length(n, &"a text for each of the ten colors"))
}

/// What stands around an input and its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairText {
    /// Before the input.
    pub before: String,
    /// Between input and output.
    pub between: String,
    /// Behind the output. It is part of what is to be predicted, for it says that the grid is whole.
    pub end: String,
    /// Between pairs; not predicted.
    #[serde(default)]
    pub separator: String,
}

/// Why a text is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not TOML, or not these keys.
    #[error("no text format, which has the keys of data/formats/paper.toml: {0}")]
    Syntax(String),
    /// Two colors of which one begins like the other, so that a text has two readings.
    #[error(
        "the text format `{name}` writes color {a} as {text_a:?} and {b} as {text_b:?}: no reader can tell them \
         apart; change one of them in `grid.cells`"
    )]
    Ambiguous {
        /// The format.
        name: String,
        /// A color.
        a: usize,
        /// How it is written.
        text_a: String,
        /// Another color.
        b: usize,
        /// How that is written.
        text_b: String,
    },
    /// Rows that nothing separates.
    #[error(
        "the text format `{0}` needs a text between rows that differs from the one between cells; change \
         `grid.between_rows`"
    )]
    Rows(String),
    /// A query without an end.
    #[error("the text format `{0}` needs an `end` of the query, or no answer is ever whole")]
    NoEnd(String),
    /// An answer that comes back as another grid, or as none.
    #[error(
        "the text format `{name}` cannot be read back ({problem}): what stands between cells, between rows or at the \
         end must not begin like a color or like each other"
    )]
    OneWay {
        /// The format.
        name: String,
        /// What the reader finds wrong.
        problem: String,
    },
    /// A name that says something else already.
    #[error(
        "the text format `{0}` is not the built-in one of this name; give it another `name`, by which reports call it"
    )]
    NameTaken(String),
}

impl TextFormat {
    /// Names of the built-in formats.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A built-in format.
    pub fn built_in(name: &str) -> Option<Self> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(toml::from_str(text).expect("built-in formats are tested"))
    }

    /// Reads a format from TOML with the keys of this struct.
    ///
    /// # Errors
    /// [`FormatError::Syntax`] if keys are missing or unknown, and as [`TextFormat::check`].
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let format: Self = toml::from_str(text).map_err(|e| FormatError::Syntax(e.to_string()))?;
        format.check()?;
        Ok(format)
    }

    /// Checks that what is written can be read back, and that the name is no other format's.
    ///
    /// # Errors
    /// [`FormatError`], naming the key to mend.
    pub fn check(&self) -> Result<(), FormatError> {
        let (name, grid) = (&self.name, &self.grid);
        for (a, text_a) in grid.cells.iter().enumerate() {
            for (b, text_b) in grid.cells.iter().enumerate() {
                if a != b && text_b.starts_with(text_a.as_str()) {
                    let (name, text_a, text_b) = (name.clone(), text_a.clone(), text_b.clone());
                    return Err(FormatError::Ambiguous { name, a, text_a, b, text_b });
                }
            }
        }
        let (rows, cells) = (&grid.between_rows, &grid.between_cells);
        let mixed = !cells.is_empty()
            && (rows.starts_with(cells.as_str()) || cells.starts_with(rows.as_str()));
        if rows.is_empty() || mixed {
            return Err(FormatError::Rows(name.clone()));
        }
        if grid.close.is_empty() && self.query.end.is_empty() {
            return Err(FormatError::NoEnd(name.clone()));
        }
        self.check_samples()?;
        if name == AUTO || Self::built_in(name).is_some_and(|built_in| built_in != *self) {
            return Err(FormatError::NameTaken(name.clone()));
        }
        Ok(())
    }

    /// Writes and reads grids in which every color stands alone, before every color, and at both ends of a row.
    fn check_samples(&self) -> Result<(), FormatError> {
        let special = SpecialTokens { bos: "{bos}".into(), eos: "{eos}".into() };
        let n = N_COLORS;
        let alone = (0..n as u8).map(|color| Grid::filled(1, 1, color));
        let pairs = (0..n).map(|step| Grid::from_fn(n + 1, 2, |r, c| ((r + c * step) % n) as u8));
        for grid in alone.chain(pairs) {
            let answer = self.grid.write(&grid) + &self.query.end;
            let problem = match self.parse_answer(&answer, &special) {
                Ok(read) if read == grid => continue,
                Ok(_) => "as another grid".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(FormatError::OneWay { name: self.name.clone(), problem });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_formats_are_whole_and_named_as_their_files() {
        for name in TextFormat::names() {
            let format = TextFormat::built_in(name).unwrap();
            assert_eq!((format.name.as_str(), format.check()), (name, Ok(())));
        }
        assert_eq!(TextFormat::built_in("other"), None);
    }

    #[test]
    fn formats_that_cannot_be_read_back_are_refused() {
        let check = |change: &dyn Fn(&mut TextFormat), expected: &str| {
            let mut format = TextFormat::built_in("architects").unwrap();
            change(&mut format);
            let text = toml::to_string(&format).unwrap();
            let error = TextFormat::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&|f| f.grid.cells[2] = "10".into(), "color 1");
        check(&|f| f.grid.cells[3] = f.grid.cells[4].clone(), "color 3");
        check(&|f| f.grid.between_rows.clear(), "between rows");
        check(&|f| f.query.end.clear(), "`end`");
        check(&|f| f.grid.between_rows = "1".into(), "cannot be read back");
        check(&|f| f.query.end = "1".into(), "cannot be read back");
        check(&|f| f.query.end = "\n0".into(), "cannot be read back");
        check(&|f| f.prologue.clear(), "is not the built-in one of this name");
        check(&|f| f.name = "auto".into(), "give it another `name`");
        let unknown = TextFormat::parse("name = \"x\"\nprologe = \"\"").unwrap_err().to_string();
        assert!(unknown.contains("prologe"), "{unknown}");
    }
}
