//! Weights on disk: one safetensors file, the sizes in its metadata.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use super::GridModelConfig;
use super::HostTensor;
use crate::contamination::TrainingPairs;
use crate::memory::map_file;

/// Key of the metadata entry that holds the [`GridModelConfig`] as JSON.
const CONFIG_KEY: &str = "arc_ttt.grid_model";

/// Key of the metadata entry that names the starts, a JSON list.
const STARTS_KEY: &str = "arc_ttt.starts";

/// Name of the stored [`TrainingPairs`], 64-bit integers beside the weights.
const TRAINING_PAIRS: &str = "training_pairs";

/// Weights in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Sizes of the model.
    pub config: GridModelConfig,
    /// Tensors by name.
    pub tensors: BTreeMap<String, HostTensor>,
    /// The tasks whose tokens follow the mean in the tensor `task_tokens`, as a new task's further possible starts.
    pub starts: Vec<String>,
    /// What they may have been trained on; `None` if the file does not say.
    pub training_pairs: Option<TrainingPairs>,
    /// SHA-256 of the file they came from, in hex; empty if they never were in one.
    pub sha256: String,
}

/// How floats are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredDtype {
    /// 16-bit floats: half the size, for shipping.
    F16,
    /// 32-bit floats: exact, for resuming.
    F32,
}

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a safetensors file, or a truncated one.
    #[error("{path} is not a whole safetensors file ({reason}); copy or download it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader stumbled over.
        reason: String,
    },
    /// A safetensors file of another program.
    #[error("{path} does not hold a grid model (no `{CONFIG_KEY}` in its metadata)")]
    NotAGridModel {
        /// The file.
        path: PathBuf,
    },
    /// Sizes that cannot be built.
    #[error("{path} names impossible sizes: {problem}")]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A tensor that should be there.
    #[error("the checkpoint lacks the tensor `{name}`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor that should not be there.
    #[error("the checkpoint has an unknown tensor `{name}`")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A tensor of another shape.
    #[error("the checkpoint's tensor `{name}` is {found:?}, but {expected:?} is needed")]
    Shape {
        /// Its name.
        name: String,
        /// The shape that the sizes ask for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A number format that is not read.
    #[error("the checkpoint's tensor `{name}` is stored as {dtype}; f32 and f16 are read")]
    Dtype {
        /// Its name.
        name: String,
        /// The format found.
        dtype: String,
    },
}

impl Weights {
    /// Reads weights from a file.
    ///
    /// # Errors
    /// [`CheckpointError`] if the file cannot be read, is damaged, or is no grid model.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = std::fs::read(path)
            .map_err(|source| CheckpointError::Io { path: path.into(), source })?;
        Self::from_bytes(&bytes, path)
    }

    /// Reads weights from the bytes of a file; `path` is only named in errors.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let damaged = |e: safetensors::SafeTensorError| CheckpointError::Damaged {
            path: path.into(),
            reason: e.to_string(),
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let config = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(CONFIG_KEY))
            .ok_or_else(|| CheckpointError::NotAGridModel { path: path.into() })?;
        let bad = |problem| CheckpointError::BadConfig { path: path.into(), problem };
        let config: GridModelConfig =
            serde_json::from_str(config).map_err(|e| bad(e.to_string()))?;
        let starts = header.metadata().as_ref().and_then(|m| m.get(STARTS_KEY));
        let starts: Option<Vec<String>> =
            starts.map(|s| serde_json::from_str(s)).transpose().map_err(|e| bad(e.to_string()))?;
        let starts = starts.unwrap_or_default();
        if let Some(problem) = config.problem() {
            return Err(bad(problem));
        }
        let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let mut tensors = BTreeMap::new();
        let mut training_pairs = None;
        for (name, view) in file.tensors() {
            if name == TRAINING_PAIRS && view.dtype() == Dtype::U64 {
                let hashes = view.data().as_chunks::<8>().0.iter().map(|&b| u64::from_le_bytes(b));
                training_pairs = Some(TrainingPairs::from_hashes(hashes.collect()));
            } else {
                tensors.insert(name.clone(), read_tensor(&name, &view)?);
            }
        }
        let rows = tensors.get("task_tokens").and_then(|tokens| tokens.shape.first().copied());
        if !starts.is_empty() && rows != Some((1 + starts.len()) * config.n_task_tokens) {
            let reason = format!(
                "it names {} tasks, and `task_tokens` has {} rows, not {} for each of them and for their mean",
                starts.len(),
                rows.unwrap_or(0),
                config.n_task_tokens,
            );
            return Err(CheckpointError::Damaged { path: path.into(), reason });
        }
        let sha256 = format!("{:x}", Sha256::digest(bytes));
        Ok(Self { config, tensors, starts, training_pairs, sha256 })
    }

    /// The bytes of a file that holds these weights.
    pub fn to_bytes(&self, dtype: StoredDtype) -> Vec<u8> {
        let stored: Vec<(&String, &HostTensor, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name, tensor, encode(&tensor.values, dtype)))
            .collect();
        let kind = match dtype {
            StoredDtype::F16 => Dtype::F16,
            StoredDtype::F32 => Dtype::F32,
        };
        let views = stored.iter().map(|(name, tensor, bytes)| {
            let view = TensorView::new(kind, tensor.shape.clone(), bytes);
            (name.as_str(), view.expect("as many bytes as the shape asks for"))
        });
        let hashes = self.training_pairs.as_ref().map(TrainingPairs::hashes);
        let hash_bytes: Vec<u8> =
            hashes.into_iter().flatten().flat_map(|h| h.to_le_bytes()).collect();
        let manifest = hashes.map(|hashes| {
            let view = TensorView::new(Dtype::U64, vec![hashes.len()], &hash_bytes);
            (TRAINING_PAIRS, view.expect("eight bytes a hash"))
        });
        let config = serde_json::to_string(&self.config).expect("plain numbers");
        let mut metadata = HashMap::from([(CONFIG_KEY.to_owned(), config)]);
        if !self.starts.is_empty() {
            let starts = serde_json::to_string(&self.starts).expect("plain names");
            metadata.insert(STARTS_KEY.to_owned(), starts);
        }
        serialize(views.chain(manifest), metadata)
    }
}

/// Whether a file says that it holds a grid model. Only its header is read: it may be a large checkpoint of another kind.
pub(crate) fn is_grid_model(file: &Path) -> bool {
    let Ok(map) = map_file(file) else { return false };
    let header = SafeTensors::read_metadata(&map).map(|(_, header)| header.metadata().clone());
    header.is_ok_and(|entries| entries.is_some_and(|entries| entries.contains_key(CONFIG_KEY)))
}

/// The bytes of a safetensors file, the same for the same content: the library writes the entries of the metadata in an order that
/// changes from run to run.
///
/// # Panics
/// If the library refuses names or shapes.
pub(crate) fn serialize<'a>(
    views: impl Iterator<Item = (&'a str, TensorView<'a>)>,
    metadata: HashMap<String, String>,
) -> Vec<u8> {
    let bytes = safetensors::serialize(views, Some(metadata)).expect("valid names and shapes");
    let (size, rest) = bytes.split_first_chunk::<8>().expect("the size of the header");
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*size) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).expect("a JSON header");
    header.sort_all_objects();
    let mut header = header.to_string().into_bytes();
    // Tensors begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), tensors].concat()
}

fn encode(values: &[f32], dtype: StoredDtype) -> Vec<u8> {
    match dtype {
        StoredDtype::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        StoredDtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// Reads one stored tensor as 32-bit floats.
pub(crate) fn read_tensor(
    name: &str,
    view: &TensorView<'_>,
) -> Result<HostTensor, CheckpointError> {
    let bytes = view.data();
    let values = match view.dtype() {
        Dtype::F32 => {
            bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect::<Vec<f32>>()
        }
        Dtype::F16 => {
            bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect()
        }
        other => {
            return Err(CheckpointError::Dtype { name: name.into(), dtype: format!("{other:?}") });
        }
    };
    Ok(HostTensor { shape: view.shape().to_vec(), values })
}
