//! Tasks as text for language models, and their answers back as grids.
//!
//! A [`TextFormat`] is data: how a grid is written, what stands around it, where a target begins and ends. The
//! formats of the published systems are built in ([`TextFormat::built_in`]), others are files. What is to be learnt is a list of
//! byte ranges of the text ([`Written::outputs`]), so that no token's number is known here.

mod format;
mod grammar;
mod parse;
mod vocabulary;
mod write;

pub use format::{AUTO, FormatChoice, FormatError, GridText, PairText, TextFormat};
pub use grammar::{Beginning, Grammar};
pub use parse::TextError;
pub use vocabulary::{CharVocabulary, tokenizer_json};
pub use write::{SpecialTokens, Written, target_tokens};
