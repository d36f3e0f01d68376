//! Adapters in PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value};

use super::checkpoint::{CheckpointError, Shard};
use super::lora::{Lora, LoraPair, Module, Target};
use super::model::Llama;
use crate::adapter::{LoraConfig, PeftConfig};
use crate::arc::write_atomically;
use crate::model::{HostTensor, to_host};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// Why an adapter cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PeftError {
    /// The file system refused.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A configuration that is damaged or says something that is not supported.
    #[error("{path}: `{field}` is {found}, but {supported}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What stands there.
        found: String,
        /// What could.
        supported: String,
    },
    /// Tensors that cannot be read.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// A tensor that is missing, unexpected, or does not fit the model.
    #[error("{path}: the adapter's tensor `{name}` {problem}", path = .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Names of a layer's two factors.
fn names(module: Module) -> [String; 2] {
    let path = module.path();
    match module.target {
        Target::EmbedTokens => ["A", "B"].map(|x| format!("{PREFIX}{path}.lora_embedding_{x}")),
        _ => ["A", "B"].map(|x| format!("{PREFIX}{path}.lora_{x}.weight")),
    }
}

/// Writes an adapter as PEFT does, so that `PeftModel.from_pretrained` loads it. `base` names the base model in it.
/// The same adapter gives the same bytes.
///
/// # Errors
/// [`PeftError::Io`].
pub fn save_adapter(folder: &Path, lora: &Lora, base: &str) -> Result<(), PeftError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| PeftError::Io { action, path, source }
    };
    std::fs::create_dir_all(folder).map_err(io("make", folder))?;
    let bytes = |t: &HostTensor| t.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let tensors = lora.to_tensors().into_iter();
    let stored: BTreeMap<String, (Vec<usize>, Vec<u8>)> =
        tensors.map(|(name, t)| (name, (t.shape.clone(), bytes(&t)))).collect();
    let views = stored.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name, view.expect("as many values as the shape says"))
    });
    let header = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(header)).expect("valid names and shapes");
    let path = folder.join(TENSORS);
    write_atomically(&path, &bytes).map_err(io("write", &path))?;
    let path = folder.join(CONFIG);
    let text = PeftConfig::new(&lora.config, base, Some("CAUSAL_LM")).to_json();
    write_atomically(&path, text.as_bytes()).map_err(io("write", &path))
}

/// Reads a LoRA adapter of `model` that PEFT or [`save_adapter`] has written.
///
/// # Errors
/// [`PeftError`] as [`read_adapter`], and if the tensors do not fit the model.
pub fn load_adapter(folder: &Path, model: &Llama) -> Result<Lora, PeftError> {
    let PeftAdapter { config, tensors, .. } = read_adapter(folder)?;
    Lora::from_tensors(&config, &tensors, model).map_err(|BadTensor { name, problem }| {
        PeftError::Tensor { path: folder.join(TENSORS), name, problem }
    })
}

/// What PEFT's files hold of a LoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftAdapter {
    /// Its settings; where they name its layers by a pattern, `target_modules` is empty.
    pub config: LoraConfig,
    /// What they call the base model, an identifier or a path; empty if they do not.
    pub base: String,
    /// Its tensors by PEFT's names.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// Reads a LoRA adapter in PEFT's files.
///
/// # Errors
/// [`PeftError`] if a file is missing or damaged, or the configuration asks for what is not supported (DoRA, trained
/// biases, ranks that differ between layers, ..).
pub fn read_adapter(folder: &Path) -> Result<PeftAdapter, PeftError> {
    let (config, base) = read_config(&folder.join(CONFIG))?;
    let file = Shard::open(folder.join(TENSORS))?;
    let mut tensors = BTreeMap::new();
    for name in file.names() {
        tensors.insert(name.clone(), file.host(name)?);
    }
    Ok(PeftAdapter { config, base, tensors })
}

/// A tensor that does not fit the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTensor {
    /// The tensor.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Lora {
    /// The factors under PEFT's names, in host memory.
    pub fn to_tensors(&self) -> BTreeMap<String, HostTensor> {
        let factors = self.pairs.iter().flat_map(|(&module, pair)| {
            names(module).into_iter().zip([to_host(&pair.a), to_host(&pair.b)])
        });
        factors.collect()
    }

    /// An adapter of `model` from its settings and its tensors under PEFT's names. An empty list of `target_modules`
    /// stands for the layers that have tensors.
    ///
    /// A copy of an embedding or head that PEFT stores along is compared with the model's own and not used.
    ///
    /// # Errors
    /// [`BadTensor`] for the first one that is missing, unexpected or of another shape.
    pub fn from_tensors(
        config: &LoraConfig,
        tensors: &BTreeMap<String, HostTensor>,
        model: &Llama,
    ) -> Result<Self, BadTensor> {
        let mut config = config.clone();
        let targets = config.target_modules.clone();
        let bad = |name: &str, problem: String| BadTensor { name: name.to_owned(), problem };
        let device = model.device();
        let mut left: BTreeSet<&String> = tensors.keys().collect();
        let mut pairs = BTreeMap::new();
        for module in Module::all(&model.config) {
            let names = names(module);
            let present = names.iter().any(|name| tensors.contains_key(name));
            let wanted = targets.iter().any(|target| matches(&module, target));
            if !present && !wanted {
                continue;
            }
            let (inputs, outputs) = module.target.sizes(&model.config);
            let mut take = |name: &String, shape: [usize; 2]| {
                let tensor = tensors.get(name).ok_or_else(|| bad(name, "is missing".into()))?;
                left.remove(name);
                if tensor.shape != shape {
                    let found = &tensor.shape;
                    return Err(bad(name, format!("is {found:?}, but the model needs {shape:?}")));
                }
                Ok(floats(tensor, shape, &device))
            };
            let a = take(&names[0], [config.rank, inputs])?;
            let b = take(&names[1], [outputs, config.rank])?;
            if !targets.is_empty() && !wanted {
                let problem = format!("is there, but {CONFIG} does not name its layer");
                return Err(bad(&names[0], problem));
            }
            pairs.insert(module, LoraPair { a, b });
        }
        for name in left {
            check_copy(name, &tensors[name], model).map_err(|problem| bad(name, problem))?;
        }
        if targets.is_empty() {
            config.target_modules = pairs.keys().map(Module::path).collect();
        }
        Ok(Self { config, pairs })
    }
}

fn floats(tensor: &HostTensor, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(tensor.values.clone(), shape), (device, DType::F32))
}

/// Whether an entry of `target_modules` names the layer: by its whole path, or the end of it.
fn matches(module: &Module, target: &str) -> bool {
    let path = module.path();
    path == target || path.strip_suffix(target).is_some_and(|front| front.ends_with('.'))
}

/// Checks that a tensor which is no factor is a copy of what the model has.
fn check_copy(name: &str, stored: &HostTensor, model: &Llama) -> Result<(), String> {
    let path = name.strip_prefix(PREFIX).and_then(|path| path.strip_suffix(".weight"));
    let path = path.map(|path| path.strip_suffix(".base_layer").unwrap_or(path));
    let own = match path {
        Some("model.embed_tokens") => model.embedding(),
        Some("lm_head") => model.head(),
        _ => return Err("has no place in the model, or belongs to another kind of adapter".into()),
    };
    let own = to_host(&own.clone().cast(DType::F32));
    // The copy may be stored in fewer bits than the base, or in more.
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-2 * a.abs().max(b.abs()) + 1e-6;
    if stored.shape != own.shape || !stored.values.iter().zip(&own.values).all(near) {
        return Err(
            "differs from the base model's; adapters that change it are not supported".into()
        );
    }
    Ok(())
}

/// Fields that say nothing about the numbers, or are read elsewhere.
const KNOWN: [&str; 16] = [
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "inference_mode",
    "init_lora_weights",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// The settings, with the targets only if they are a list and not a pattern; and the base model's name.
fn read_config(path: &Path) -> Result<(LoraConfig, String), PeftError> {
    let text = std::fs::read_to_string(path).map_err(|source| PeftError::Io {
        action: "read",
        path: path.into(),
        source,
    })?;
    let bad = |field: &str, found: String, supported: &str| PeftError::Config {
        path: path.into(),
        field: field.into(),
        found,
        supported: supported.into(),
    };
    let fields: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|e| bad("", format!("no JSON object ({e})"), "PEFT writes one"))?;
    let value = |field: &str| fields.get(field).unwrap_or(&Value::Null);
    let check = |field: &str, fine: bool, supported: &str| match fine {
        true => Ok(()),
        false => Err(bad(field, value(field).to_string(), supported)),
    };
    check("peft_type", value("peft_type") == "LORA", "only \"LORA\" is supported")?;
    let bias = value("bias");
    check("bias", bias.is_null() || bias == "none", "only \"none\" is supported")?;
    // The other initial values are fitted to a base whose weights PEFT has changed.
    let fine = match value("init_lora_weights") {
        Value::Null | Value::Bool(_) => true,
        name => ["gaussian", "orthogonal", "eva"].iter().any(|fine| name == fine),
    };
    check("init_lora_weights", fine, "ways that change the base model are not supported")?;
    for (field, value) in &fields {
        let unset = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        check(field, unset || KNOWN.contains(&field.as_str()), "that is not supported")?;
    }
    let rank = value("r").as_u64().filter(|&r| r > 0);
    let rank = rank.ok_or_else(|| bad("r", value("r").to_string(), "must be at least 1"))?;
    let alpha = value("lora_alpha").as_f64();
    let alpha = alpha
        .ok_or_else(|| bad("lora_alpha", value("lora_alpha").to_string(), "must be a number"))?;
    let target_modules = match value("target_modules") {
        Value::String(_) => Vec::new(),
        Value::Array(list) => {
            list.iter().filter_map(|target| target.as_str().map(str::to_owned)).collect()
        }
        other => {
            let supported = "must be a list of layers, or a pattern";
            return Err(bad("target_modules", other.to_string(), supported));
        }
    };
    let config = LoraConfig {
        rank: rank as usize,
        alpha: alpha as f32,
        rank_stabilized: value("use_rslora").as_bool().unwrap_or(false),
        target_modules,
    };
    let base = value("base_model_name_or_path").as_str().unwrap_or_default();
    Ok((config, base.to_owned()))
}
