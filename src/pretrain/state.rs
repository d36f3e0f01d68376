//! A training run on disk: everything that the next step depends on, as one file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{PretrainConfig, PretrainError};
use crate::contamination::TrainingPairs;
use crate::engine::HostTensor;
use crate::model::GridModelConfig;

const META_KEY: &str = "arc_ttt.pretrain";

/// The part of the state that is not tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainState<M = GridModelConfig> {
    /// The settings; a state is only resumed under the same.
    pub config: PretrainConfig<M>,
    /// Ids of the tasks trained on, in the order of the table of task tokens.
    pub tasks: Vec<String>,
    /// Fingerprint of the pairs trained on; states of earlier versions have none.
    #[serde(default)]
    pub pairs: Option<String>,
    /// SHA-256 of the weights that the run began with, empty for random ones; states of earlier versions do not say.
    #[serde(default)]
    pub initial: Option<String>,
    /// Steps done.
    pub step: usize,
    /// Seconds of training so far.
    pub seconds: f64,
}

/// SHA-256 of a corpus' manifest, in hex: by it a state knows its data again.
pub(super) fn fingerprint(pairs: &TrainingPairs) -> String {
    let mut hash = Sha256::new();
    pairs.hashes().iter().for_each(|pair| hash.update(pair.to_le_bytes()));
    format!("{:x}", hash.finalize())
}

impl<M: Serialize + DeserializeOwned> TrainState<M> {
    /// Writes the state and its tensors, replacing an older file only when the new one is whole.
    ///
    /// # Errors
    /// [`PretrainError::Io`] if the file cannot be written.
    pub fn save(
        &self,
        tensors: &BTreeMap<String, HostTensor>,
        path: &Path,
    ) -> Result<(), PretrainError> {
        let stored: Vec<(&String, &HostTensor, Vec<u8>)> = tensors
            .iter()
            .map(|(n, t)| (n, t, t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views = stored.iter().map(|(name, tensor, bytes)| {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
            (name.as_str(), view.expect("as many bytes as the shape asks for"))
        });
        let meta = serde_json::to_string(self).expect("plain values");
        let bytes =
            safetensors::serialize(views, Some(HashMap::from([(META_KEY.to_owned(), meta)])))
                .expect("valid names and shapes");
        crate::arc::write_atomically(path, &bytes)
            .map_err(|source| PretrainError::Io { path: path.into(), source })
    }

    /// Reads a state and its tensors.
    ///
    /// # Errors
    /// [`PretrainError::Io`] if the file cannot be read, [`PretrainError::DamagedState`] if it is not whole.
    pub fn load(path: &Path) -> Result<(Self, BTreeMap<String, HostTensor>), PretrainError> {
        let bytes = std::fs::read(path)
            .map_err(|source| PretrainError::Io { path: path.into(), source })?;
        let damaged = |reason: String| PretrainError::DamagedState { path: path.into(), reason };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let meta = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(META_KEY))
            .ok_or_else(|| damaged(format!("no `{META_KEY}` in its metadata")))?;
        let state = serde_json::from_str(meta).map_err(|e| damaged(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let tensor = crate::model::read_tensor(&name, &view)?;
            tensors.insert(name, tensor);
        }
        Ok((state, tensors))
    }
}
