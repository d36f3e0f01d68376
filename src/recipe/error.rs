//! What can be wrong with a recipe.

use std::path::PathBuf;

use crate::text::FormatError;

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// Neither a preset nor a file.
    #[error("`{name}` is neither a preset ({presets}) nor a file{suggestion}")]
    NotFound {
        /// What was asked for.
        name: String,
        /// The presets there are.
        presets: String,
        /// The nearest preset, as a question, or nothing.
        suggestion: String,
    },
    /// A file that cannot be read.
    #[error("cannot read the recipe {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A text that is not TOML.
    #[error("{origin} is not TOML: {problem}")]
    NotToml {
        /// File or preset.
        origin: String,
        /// Line and column, and what is wrong there.
        problem: String,
    },
    /// A text format's file that cannot be read.
    #[error(
        "cannot read the text format {}, which `language.text_format` names from the working directory",
        path.display()
    )]
    UnreadableFormat {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A text format that cannot be used.
    #[error("`language.text_format` in {origin}: {problem}")]
    TextFormat {
        /// The format's file, or the recipe that holds the format itself.
        origin: String,
        /// What is wrong with it.
        problem: FormatError,
    },
    /// Recipes that extend each other.
    #[error("recipes extend each other in a circle: {0}; remove one `extends`")]
    Circle(String),
    /// An override without a key or a value.
    #[error("`{0}` is no override; write KEY=VALUE, such as fit.learning_rate=1e-4")]
    NotAnOverride(String),
    /// A key that no recipe has.
    #[error("{origin} sets the unknown key `{key}`{suggestion}")]
    UnknownKey {
        /// File, preset or override.
        origin: String,
        /// The key, with its table.
        key: String,
        /// The nearest key, as a question, or nothing.
        suggestion: String,
    },
    /// A value of another kind than the key takes.
    #[error("{origin} sets `{key}` to {value}, but it takes {expected}")]
    WrongType {
        /// File, preset or override.
        origin: String,
        /// The key, with its table.
        key: String,
        /// The value as written.
        value: String,
        /// What would fit.
        expected: String,
    },
    /// A value that cannot be used, by itself or beside another.
    #[error("`{key}` is {value}; {allowed}")]
    Impossible {
        /// The key, with its table.
        key: String,
        /// The value in force.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}
