//! From the name of a model and of a device to an engine.

use std::path::{Path, PathBuf};

use super::family::grid_weights;
use super::{Engine, Family, GridEngine, LanguageConfig, LlamaEngine, LlamaLoadError};
use crate::device::{DeviceChoice, DeviceError, open};
use crate::model::{CheckpointError, Weights};
use crate::public::{Hub, HubError};

/// The models inside the program: name and weights file. `default` stands for the first.
const EMBEDDED: [(&str, &[u8]); 1] =
    [("grid-wide", include_bytes!("../../data/models/grid-wide/model.safetensors"))];

/// Why a model could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The weights cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The language model's checkpoint cannot be used.
    #[error(transparent)]
    Llama(#[from] LlamaLoadError),
    /// The language model is not here.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Neither a name nor a file.
    #[error(
        "there is no model `{0}`: it is neither a file nor a folder, nor an identifier of the Hugging Face hub, \
         OWNER/NAME; the model inside the program is `default`"
    )]
    Unknown(String),
}

/// Reads an embedded model by name, or a weights file, also by the folder that it lies in.
///
/// # Errors
/// [`LoadError`] if there is no such model or it cannot be read.
pub fn load_weights(model: &str) -> Result<Weights, LoadError> {
    let embedded = match model {
        "default" => EMBEDDED.first(),
        name => EMBEDDED.iter().find(|(n, _)| *n == name),
    };
    if let Some((name, bytes)) = embedded {
        return Ok(Weights::from_bytes(bytes, Path::new(name))?);
    }
    let path = Path::new(model);
    if !path.exists() {
        return Err(LoadError::Unknown(model.to_owned()));
    }
    let file = grid_weights(path);
    Ok(Weights::load(file.as_deref().unwrap_or(path))?)
}

/// Loads a model onto a device, both as the command line names them; `language` says how a language model reads and
/// writes.
///
/// # Errors
/// [`LoadError`] if the device cannot be used or the model cannot be read.
pub fn load_engine(
    model: &str,
    device: &str,
    language: &LanguageConfig,
) -> Result<Box<dyn Engine>, LoadError> {
    let (device, choice) = open(device.parse::<DeviceChoice>()?)?;
    if Family::of(model) == Family::Llama {
        let (folder, name) = checkpoint(Path::new(model))?;
        let engine = LlamaEngine::load(&folder, &name, language, &device, &choice.to_string())?;
        return Ok(Box::new(engine));
    }
    let weights = load_weights(model)?;
    Ok(Box::new(GridEngine::new(&weights, &device, &choice.to_string())?))
}

/// The folder of a language model's checkpoint and its name: a folder's own, or the hub's identifier.
fn checkpoint(model: &Path) -> Result<(PathBuf, String), HubError> {
    let name = model.to_string_lossy();
    if model.is_dir() {
        // The same wherever it lies.
        let whole = model.canonicalize().unwrap_or_else(|_| model.to_owned());
        let name = whole.file_name().map_or(name, |name| name.to_string_lossy()).into_owned();
        return Ok((model.to_owned(), name));
    }
    let mut say = |file: &str| tracing::warn!("downloading {file} of {name}");
    Ok((Hub::from_environment()?.checkpoint(&name, &mut say)?, name.to_string()))
}
