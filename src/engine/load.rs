//! From the name of a model and of a device to an engine.

use std::path::Path;

use super::{Engine, GridEngine};
use crate::device::{DeviceChoice, DeviceError, open};
use crate::model::{CheckpointError, Weights};

/// The models inside the program: name and weights file.
const EMBEDDED: [(&str, &[u8]); 1] =
    [("grid-base", include_bytes!("../../data/models/grid-base/model.safetensors"))];

/// Why a model could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The weights cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Neither a name nor a file.
    #[error("there is no model `{0}`: it is no file, and the models inside the program are {1}")]
    Unknown(String, String),
}

/// Names of the embedded models; the first is what `default` stands for.
pub fn embedded_models() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|(name, _)| *name)
}

/// Reads an embedded model by name, or a weights file.
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
        let names: Vec<&str> = embedded_models().collect();
        return Err(LoadError::Unknown(model.to_owned(), names.join(", ")));
    }
    Ok(Weights::load(path)?)
}

/// Loads a model onto a device, both as the command line names them.
///
/// # Errors
/// [`LoadError`] if the device cannot be used or the model cannot be read.
pub fn load_engine(model: &str, device: &str) -> Result<Box<dyn Engine>, LoadError> {
    let (device, choice) = open(device.parse::<DeviceChoice>()?)?;
    let weights = load_weights(model)?;
    Ok(Box::new(GridEngine::new(&weights, &device, &choice.to_string())?))
}
