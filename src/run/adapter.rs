//! Adapters on disk, in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The configuration holds nothing but PEFT's own keys. What only this program knows (the base's hash, the task, the
//! formats) stands in the header of the tensor file.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::files::hint;
use crate::adapter::{LoraConfig, PeftConfig};
use crate::arc::write_atomically;
use crate::dataset::Format;
use crate::engine::{Adapter, Base, Family, HostTensor, ModelInfo};
use crate::llama::{PeftAdapter, PeftError, read_adapter};

/// File of the adapter's shape.
const CONFIG: &str = "adapter_config.json";

/// File of the adapter's tensors.
const TENSORS: &str = "adapter_model.safetensors";

/// Key under which the tensor file's header holds [`Header`]. One key only: the order of several would
/// change from run to run.
const HEADER_KEY: &str = "arc_ttt";

/// Why an adapter cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The system refuses.
    #[error("cannot {action} {path}: {source}{hint}", path = .path.display(), hint = hint(.source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder has none, or is not there.
    #[error(
        "there is no adapter in {path}; `arc-ttt fit` prints where it keeps one, and `solve` keeps them in its run \
         directory, under `adapters`",
        path = .0.display()
    )]
    Missing(PathBuf),
    /// PEFT's own adapter cannot be used.
    #[error(transparent)]
    Peft(#[from] PeftError),
    /// The file is cut short or is something else.
    #[error("{path} is no adapter of arc-ttt: {problem}; fit it again with `arc-ttt fit`", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// What the tensor file's header says.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    base_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    formats: Vec<Format>,
    lora: bool,
}

/// Writes the adapter into `directory`, which is made if need be. The same adapter gives the same bytes.
///
/// # Errors
/// [`AdapterError::Io`].
///
/// # Panics
/// If a tensor has more or fewer values than its shape says.
pub fn save_adapter(
    directory: &Path,
    adapter: &Adapter,
    base: &ModelInfo,
) -> Result<(), AdapterError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| AdapterError::Io { action, path, source }
    };
    fs::create_dir_all(directory).map_err(io("make", directory))?;
    let tensors = directory.join(TENSORS);
    write_atomically(&tensors, &tensor_bytes(adapter, base)).map_err(io("write", &tensors))?;
    // A full fit has no PEFT configuration.
    if let Some(lora) = &adapter.lora {
        let config = directory.join(CONFIG);
        let task_type = (adapter.family() == Family::Llama).then_some("CAUSAL_LM");
        let text = PeftConfig::new(lora, &base.name, task_type).to_json();
        write_atomically(&config, text.as_bytes()).map_err(io("write", &config))?;
    }
    Ok(())
}

fn tensor_bytes(adapter: &Adapter, base: &ModelInfo) -> Vec<u8> {
    let header = Header {
        base_sha256: base.sha256.clone(),
        task: adapter.task.clone(),
        formats: adapter.formats.clone(),
        lora: adapter.lora.is_some(),
    };
    let header = serde_json::to_string(&header).expect("strings become JSON");
    let bytes: BTreeMap<&String, Vec<u8>> = adapter
        .tensors
        .iter()
        .map(|(name, t)| (name, t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = adapter.tensors.iter().map(|(name, t)| {
        let view = TensorView::new(Dtype::F32, t.shape.clone(), &bytes[name])
            .expect("a tensor has as many values as its shape says");
        (name, view)
    });
    safetensors::serialize(views, Some(HashMap::from([(HEADER_KEY.to_owned(), header)])))
        .expect("views of consistent shapes can be written")
}

/// Reads an adapter that [`save_adapter`] has written, or a LoRA adapter of a language model that PEFT has: of that
/// only the name of its base model is known, and it is taken to be in-context.
///
/// # Errors
/// [`AdapterError`] if a file is missing, cut short, or no such adapter.
pub fn load_adapter(directory: &Path) -> Result<Adapter, AdapterError> {
    let path = directory.join(TENSORS);
    let bytes = match read(&path) {
        Err(AdapterError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(AdapterError::Missing(directory.to_owned()));
        }
        read => read?,
    };
    let damaged = |problem: String| AdapterError::Damaged { path: path.clone(), problem };
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let header = metadata.metadata().as_ref().and_then(|m| m.get(HEADER_KEY));
    let Some(header) = header else {
        let PeftAdapter { config, base, tensors } = read_adapter(directory)?;
        return Ok(Adapter {
            base: Base::Named(base),
            task: None,
            formats: vec![Format::Icl],
            lora: Some(config),
            tensors,
        });
    };
    let header: Header = serde_json::from_str(header).map_err(|e| damaged(e.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(damaged(format!("tensor `{name}` is {:?}, not F32", view.dtype())));
        }
        let values = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().expect("chunks of four bytes")))
            .collect();
        tensors.insert(name.to_owned(), HostTensor { shape: view.shape().to_vec(), values });
    }
    let lora = header.lora.then(|| load_lora_config(&directory.join(CONFIG))).transpose()?;
    let base = Base::Sha256(header.base_sha256);
    Ok(Adapter { base, task: header.task, formats: header.formats, lora, tensors })
}

fn load_lora_config(path: &Path) -> Result<LoraConfig, AdapterError> {
    let damaged = |problem: String| AdapterError::Damaged { path: path.to_owned(), problem };
    let config: PeftConfig =
        serde_json::from_slice(&read(path)?).map_err(|e| damaged(e.to_string()))?;
    if config.peft_type != "LORA" || config.r == 0 {
        return Err(damaged(format!("peft_type {}, r {}", config.peft_type, config.r)));
    }
    Ok(LoraConfig {
        rank: config.r,
        alpha: config.lora_alpha,
        rank_stabilized: config.use_rslora,
        target_modules: config.target_modules,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, AdapterError> {
    fs::read(path).map_err(|source| AdapterError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(lora: bool) -> Adapter {
        let tensor = |shape: &[usize]| HostTensor {
            shape: shape.to_vec(),
            values: (0..shape.iter().product()).map(|i| i as f32 / 7.0).collect(),
        };
        let target_modules = vec!["qkv_proj".to_owned()];
        let lora = lora.then_some(LoraConfig {
            rank: 2,
            alpha: 4.0,
            rank_stabilized: true,
            target_modules,
        });
        let tensors = [("b.lora_A.weight", vec![2, 5]), ("b.lora_B.weight", vec![3, 2])];
        Adapter {
            base: Base::Sha256("abc".into()),
            task: Some("0a1d4ef5".into()),
            formats: vec![Format::Icl, Format::E2e],
            lora,
            tensors: tensors.iter().map(|(n, s)| ((*n).to_owned(), tensor(s))).collect(),
        }
    }

    fn base() -> ModelInfo {
        ModelInfo {
            name: "grid-tiny".into(),
            sha256: "abc".into(),
            parameters: 1,
            device: "cpu".into(),
        }
    }

    #[test]
    fn an_adapter_comes_back_as_it_was_saved_and_saves_to_the_same_bytes() {
        for lora in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("task");
            save_adapter(&path, &adapter(lora), &base()).unwrap();
            assert_eq!(load_adapter(&path).unwrap(), adapter(lora));
            let first = fs::read(path.join(TENSORS)).unwrap();
            save_adapter(&path, &adapter(lora), &base()).unwrap();
            assert_eq!(fs::read(path.join(TENSORS)).unwrap(), first);
        }
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        save_adapter(directory.path(), &adapter(true), &base()).unwrap();
        let path = directory.path().join(TENSORS);
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() - 1], &whole[..20], b"", b"not an adapter"] {
            fs::write(&path, bytes).unwrap();
            let error = load_adapter(directory.path()).unwrap_err();
            assert!(matches!(error, AdapterError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(TENSORS), "{error}");
        }
        fs::write(&path, &whole).unwrap();
        fs::write(directory.path().join(CONFIG), "{}").unwrap();
        assert!(load_adapter(directory.path()).unwrap_err().to_string().contains(CONFIG));
        fs::remove_file(directory.path().join(CONFIG)).unwrap();
        assert!(matches!(load_adapter(directory.path()), Err(AdapterError::Io { .. })));
        let elsewhere = directory.path().join("elsewhere");
        let error = load_adapter(&elsewhere).unwrap_err().to_string();
        let expected = format!("there is no adapter in {};", elsewhere.display());
        assert!(error.starts_with(&expected), "{error}");
    }
}
