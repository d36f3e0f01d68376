//! Which family a model is of.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::is_grid_model;
use crate::text::FormatChoice;

/// A kind of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// The grid transformer, which predicts all cells at once.
    Grid,
    /// Causal language models of the Llama family, which write grids as text.
    Llama,
}

impl Family {
    /// The family of a model as `--model` names it. A folder is a language model's checkpoint, unless it holds a grid
    /// model's weights; so is an identifier of the Hugging Face hub, `OWNER/NAME`. A file or an embedded name is a grid
    /// model.
    pub fn of(model: &str) -> Self {
        let path = Path::new(model);
        let is_checkpoint = path.is_dir() && grid_weights(path).is_none();
        if is_checkpoint || (!path.exists() && is_identifier(model)) {
            Self::Llama
        } else {
            Self::Grid
        }
    }
}

/// The weights file in a grid model's folder, such as `pretrain` writes.
pub(super) fn grid_weights(folder: &Path) -> Option<PathBuf> {
    Some(folder.join("model.safetensors")).filter(|file| is_grid_model(file))
}

/// Whether a name could be an identifier of the Hugging Face hub.
pub fn is_identifier(name: &str) -> bool {
    let part = |part: &str| {
        let first = part.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        first && part.chars().all(fine) && !part.ends_with(".safetensors")
    };
    name.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// What concerns language models alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageConfig {
    /// How tasks are written. A recipe may also name a format's file; resolved, it holds the format.
    pub text_format: FormatChoice,
    /// How weights are stored and multiplied.
    pub weights: WeightFormat,
    /// Whether a fit holds the activations of one block at a time and computes the others again.
    pub gradient_checkpointing: bool,
}

/// A number format of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightFormat {
    /// 32 bits.
    F32,
    /// 16 bits with the range of 32.
    Bf16,
    /// 16 bits.
    F16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_grid_model_is_one() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/models/grid-wide");
        assert_eq!(Family::of(folder), Family::Grid);
        let weights = crate::engine::load_weights(folder).unwrap();
        assert_eq!(weights, crate::engine::load_weights("default").unwrap());
    }

    #[test]
    fn folders_and_identifiers_are_language_models_and_files_and_names_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Family::of(folder.path().to_str().unwrap()), Family::Llama);
        assert_eq!(Family::of("meta-llama/Llama-3.2-1B-Instruct"), Family::Llama);
        for grid in ["default", "grid-wide", file.to_str().unwrap(), "runs/model.safetensors"] {
            assert_eq!(Family::of(grid), Family::Grid, "{grid}");
        }
        for other in ["a/b/c", "./here", "../x", "/root", "a/", "/b", "a b/c", "-a/b"] {
            assert!(!is_identifier(other), "{other}");
        }
    }
}
