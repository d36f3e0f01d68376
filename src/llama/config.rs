//! A checkpoint's `config.json`: read what is known, refuse what would change the numbers.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Name of the file in a checkpoint's folder.
pub(super) const CONFIG_FILE: &str = "config.json";

/// A network of the family, as `architectures` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `LlamaForCausalLM`.
    Llama,
    /// `MistralForCausalLM`.
    Mistral,
    /// `Qwen2ForCausalLM`, also of Qwen2.5.
    Qwen2,
    /// `Qwen3ForCausalLM`.
    Qwen3,
}

impl Architecture {
    const ALL: [(&str, Self); 4] = [
        ("LlamaForCausalLM", Self::Llama),
        ("MistralForCausalLM", Self::Mistral),
        ("Qwen2ForCausalLM", Self::Qwen2),
        ("Qwen3ForCausalLM", Self::Qwen3),
    ];
}

/// How rotary frequencies are stretched for contexts longer than those of the first training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor, at least 1.
        factor: f64,
    },
    /// Llama 3.1's: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Tokens of context in the first training.
        original_max_position_embeddings: usize,
    },
}

/// Sizes and choices of a network, under the names of `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Which network.
    pub architecture: Architecture,
    /// Tokens.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values; divides the heads of queries.
    pub num_key_value_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How they are stretched.
    pub rope_scaling: RopeScaling,
    /// Longest sequence, in tokens. Where the checkpoint slides a window over the context, no more than the
    /// window: up to its width the window hides nothing.
    pub max_length: usize,
    /// Biases on `q_proj`, `k_proj`, `v_proj`.
    pub qkv_bias: bool,
    /// Bias on `o_proj`.
    pub o_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// RMSNorm of each head's queries and keys.
    pub qk_norm: bool,
    /// The head's weights are the embedding's.
    pub tie_word_embeddings: bool,
    /// First token of a text, if the checkpoint names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text; empty if the checkpoint names none.
    pub eos_token_ids: Vec<u32>,
}

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file system refused.
    #[error(
        "cannot read {path}: {source}; a checkpoint is a folder with {CONFIG_FILE} and safetensors",
        path = .path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not JSON, or not an object.
    #[error("{path} is no JSON object ({reason}); copy or download it again", path = .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the reader stumbled over.
        reason: String,
    },
    /// A field that has to be there.
    #[error("{path} lacks `{field}`: {why}", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The field, with dots for objects within objects.
        field: String,
        /// Why there is no default.
        why: &'static str,
    },
    /// A value that no network can have.
    #[error("{path}: `{field}` is {found}, but {expected}", path = .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What stands there.
        found: String,
        /// What could.
        expected: String,
    },
    /// A choice that is not built here.
    #[error("{path}: `{field}` is {found}, which is not supported; {supported}", path = .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What stands there.
        found: String,
        /// What is supported.
        supported: String,
    },
}

impl LlamaConfig {
    /// Reads the `config.json` in a checkpoint's folder.
    ///
    /// # Errors
    /// [`ConfigError`] if the file is missing or damaged, lacks a field, or asks for something that is not built
    /// here.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        Self::parse(&text, &path)
    }

    /// Reads the text of a `config.json`; `path` is only named in errors.
    ///
    /// # Errors
    /// As [`LlamaConfig::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let map: Map<String, Value> = serde_json::from_str(text)
            .map_err(|e| ConfigError::Json { path: path.into(), reason: e.to_string() })?;
        let fields = Fields { path, prefix: "", map: &map };
        let architecture = architecture(&fields)?;
        refuse_unsupported(&fields)?;
        let hidden_size = fields.size("hidden_size")?;
        let num_attention_heads = fields.size("num_attention_heads")?;
        let num_key_value_heads = key_value_heads(&fields, architecture, num_attention_heads)?;
        let head_dim = head_dim(&fields, architecture, hidden_size, num_attention_heads)?;
        let (rope_theta, rope_scaling) = rope(&fields)?;
        let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
        // Qwen2's biases are fixed, Mistral has none; neither reads `attention_bias`.
        let (qkv_bias, o_bias) = match architecture {
            Architecture::Qwen2 => (true, false),
            Architecture::Mistral => (false, false),
            Architecture::Llama | Architecture::Qwen3 => (attention_bias, attention_bias),
        };
        let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
        let positions = fields.size("max_position_embeddings")?;
        let window = sliding_window(&fields, architecture)?;
        Ok(Self {
            architecture,
            vocab_size: fields.size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            num_hidden_layers: fields.size("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: fields.number("rms_norm_eps")?,
            rope_theta,
            rope_scaling,
            max_length: window.map_or(positions, |window| window.min(positions)),
            qkv_bias,
            o_bias,
            mlp_bias: mlp_bias && architecture == Architecture::Llama,
            qk_norm: architecture == Architecture::Qwen3,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            bos_token_id: fields.tokens("bos_token_id")?.first().copied(),
            eos_token_ids: fields.tokens("eos_token_id")?,
        })
    }
}

impl LlamaConfig {
    /// Number of weights; a tied head counts once.
    pub fn n_parameters(&self) -> u64 {
        let hidden = self.hidden_size;
        let queries = self.num_attention_heads * self.head_dim;
        let keys = self.num_key_value_heads * self.head_dim;
        let matrices = 2 * hidden * (queries + keys) + 3 * hidden * self.intermediate_size;
        let biases = usize::from(self.qkv_bias) * (queries + 2 * keys)
            + usize::from(self.o_bias) * hidden
            + usize::from(self.mlp_bias) * (2 * self.intermediate_size + hidden);
        let norms = 2 * hidden + usize::from(self.qk_norm) * 2 * self.head_dim;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        let outside = tables * self.vocab_size * hidden + hidden;
        (self.num_hidden_layers * (matrices + biases + norms) + outside) as u64
    }
}

fn architecture(fields: &Fields<'_>) -> Result<Architecture, ConfigError> {
    let supported = || {
        let names: Vec<&str> = Architecture::ALL.iter().map(|(name, _)| *name).collect();
        format!("supported are {}", names.join(", "))
    };
    let names = fields.value("architectures").and_then(Value::as_array);
    let name = names.and_then(|names| match names.as_slice() {
        [name] => name.as_str(),
        _ => None,
    });
    let Some(name) = name else {
        let found = fields.value("architectures").map_or("missing".into(), Value::to_string);
        return Err(fields.unsupported("architectures", found, supported()));
    };
    let known = Architecture::ALL.iter().find(|(known, _)| *known == name);
    known
        .map(|&(_, architecture)| architecture)
        .ok_or_else(|| fields.unsupported("architectures", format!("`{name}`"), supported()))
}

/// Refuses what would change the numbers and is not built.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), ConfigError> {
    let only = |field: &str, supported: &str, fine: &dyn Fn(&Value) -> bool| match fields
        .value(field)
        .filter(|value| !fine(value))
    {
        Some(value) => {
            Err(fields.unsupported(field, value.to_string(), format!("only {supported} is")))
        }
        None => Ok(()),
    };
    only("hidden_act", "\"silu\"", &|v| v == "silu")?;
    only("quantization_config", "a checkpoint in f32, f16 or bf16", &|_| false)?;
    only("attention_dropout", "0", &|v| v.as_f64() == Some(0.0))?;
    only("partial_rotary_factor", "1", &|v| v.as_f64() == Some(1.0))
}

fn key_value_heads(
    fields: &Fields<'_>,
    architecture: Architecture,
    heads: usize,
) -> Result<usize, ConfigError> {
    let field = "num_key_value_heads";
    // The other networks' defaults are numbers of one released size.
    let absent = fields.value(field).is_none() && architecture == Architecture::Llama;
    let found = if absent { heads } else { fields.size(field)? };
    if !heads.is_multiple_of(found) {
        let expected = format!("must divide `num_attention_heads` ({heads})");
        return Err(fields.bad(field, found.to_string(), expected));
    }
    Ok(found)
}

fn head_dim(
    fields: &Fields<'_>,
    architecture: Architecture,
    hidden_size: usize,
    heads: usize,
) -> Result<usize, ConfigError> {
    let field = "head_dim";
    // Qwen3's default is a constant and not the quotient.
    let found = if fields.value(field).is_some() || architecture == Architecture::Qwen3 {
        fields.size(field)?
    } else if hidden_size.is_multiple_of(heads) {
        hidden_size / heads
    } else {
        let expected = format!("must divide `hidden_size` ({hidden_size}) without `head_dim`");
        return Err(fields.bad("num_attention_heads", heads.to_string(), expected));
    };
    if !found.is_multiple_of(2) {
        return Err(fields.bad(field, found.to_string(), "rotary pairs need an even one".into()));
    }
    Ok(found)
}

/// Width of the window that slides over the context, if one does.
fn sliding_window(
    fields: &Fields<'_>,
    architecture: Architecture,
) -> Result<Option<usize>, ConfigError> {
    let width = || fields.optional_size("sliding_window");
    let window = match architecture {
        Architecture::Llama => None,
        // In Mistral's configuration a missing window is one of 4096 tokens; none is written as null.
        Architecture::Mistral if !fields.map.contains_key("sliding_window") => Some(4096),
        Architecture::Mistral => width()?,
        Architecture::Qwen2 | Architecture::Qwen3 => {
            if fields.flag("use_sliding_window")?.unwrap_or(false) { width()? } else { None }
        }
    };
    let kinds = fields.value("layer_types").and_then(Value::as_array);
    for kind in kinds.into_iter().flatten() {
        let fine = match kind.as_str() {
            Some("full_attention") => true,
            Some("sliding_attention") => window.is_some(),
            _ => false,
        };
        if !fine {
            let supported = "only full attention, and sliding attention with a window, are";
            return Err(fields.unsupported("layer_types", kind.to_string(), supported.into()));
        }
    }
    Ok(window)
}

/// Base and scaling of the rotary frequencies.
///
/// `transformers` 5 writes one object `rope_parameters`, which holds the base too; earlier versions write
/// `rope_theta` and `rope_scaling`.
fn rope(fields: &Fields<'_>) -> Result<(f64, RopeScaling), ConfigError> {
    let new = fields.object("rope_parameters", "rope_parameters.")?;
    let old = fields.object("rope_scaling", "rope_scaling.")?;
    let scaling = match (&new, &old) {
        (Some(new), Some(old)) => {
            let (new, old) = (scaling(new)?, scaling(old)?);
            if new != old {
                let found = format!("{old:?}, and `rope_parameters` says {new:?}");
                let supported = "one of both, or both equal, is".into();
                return Err(fields.unsupported("rope_scaling", found, supported));
            }
            new
        }
        (Some(one), None) | (None, Some(one)) => scaling(one)?,
        (None, None) => RopeScaling::None,
    };
    let theta = match new.filter(|new| new.value("rope_theta").is_some()) {
        Some(new) => new.number("rope_theta")?,
        None => fields.number("rope_theta")?,
    };
    Ok((theta, scaling))
}

fn scaling(fields: &Fields<'_>) -> Result<RopeScaling, ConfigError> {
    let kind = fields.value("rope_type").or(fields.value("type"));
    let partial = fields.value("partial_rotary_factor").filter(|v| v.as_f64() != Some(1.0));
    if let Some(value) = partial {
        let supported = "only 1 is".into();
        return Err(fields.unsupported("partial_rotary_factor", value.to_string(), supported));
    }
    match kind.and_then(Value::as_str) {
        Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: fields.number("factor")? }),
        Some("llama3") => {
            let low_freq_factor = fields.number("low_freq_factor")?;
            let high_freq_factor = fields.number("high_freq_factor")?;
            if high_freq_factor <= low_freq_factor {
                let expected = format!("must exceed `low_freq_factor` ({low_freq_factor})");
                return Err(fields.bad("high_freq_factor", high_freq_factor.to_string(), expected));
            }
            Ok(RopeScaling::Llama3 {
                factor: fields.number("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: fields
                    .size("original_max_position_embeddings")?,
            })
        }
        _ => {
            let found = kind.map_or("missing".into(), Value::to_string);
            let supported = "\"default\", \"linear\" and \"llama3\" are".into();
            Err(fields.unsupported("rope_type", found, supported))
        }
    }
}

/// The fields of one object of the file, read with errors that name them. A null counts as missing.
struct Fields<'a> {
    path: &'a Path,
    prefix: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn value(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn name(&self, field: &str) -> String {
        format!("{}{field}", self.prefix)
    }

    fn bad(&self, field: &str, found: String, expected: String) -> ConfigError {
        ConfigError::Value { path: self.path.into(), field: self.name(field), found, expected }
    }

    fn unsupported(&self, field: &str, found: String, supported: String) -> ConfigError {
        ConfigError::Unsupported {
            path: self.path.into(),
            field: self.name(field),
            found,
            supported,
        }
    }

    fn needed(&self, field: &str) -> Result<&'a Value, ConfigError> {
        let why = "the network's numbers depend on it, and a guess could be silently wrong";
        let missing =
            || ConfigError::Missing { path: self.path.into(), field: self.name(field), why };
        self.value(field).ok_or_else(missing)
    }

    /// A whole number, at least 1.
    fn size(&self, field: &str) -> Result<usize, ConfigError> {
        self.needed(field)?;
        Ok(self.optional_size(field)?.expect("it is there"))
    }

    fn optional_size(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        // Nothing in a network has more than 2³² of anything, and larger products could overflow.
        let size = value.as_u64().filter(|&n| n > 0 && n <= u64::from(u32::MAX));
        let bad = || self.bad(field, value.to_string(), "must be a whole number from 1".into());
        Ok(Some(size.ok_or_else(bad)? as usize))
    }

    /// A positive number.
    fn number(&self, field: &str) -> Result<f64, ConfigError> {
        let value = self.needed(field)?;
        let number = value.as_f64().filter(|&x| x > 0.0 && x.is_finite());
        number.ok_or_else(|| self.bad(field, value.to_string(), "must be a number above 0".into()))
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let bad = || self.bad(field, value.to_string(), "must be true or false".into());
        value.as_bool().map(Some).ok_or_else(bad)
    }

    /// One token or a list of tokens.
    fn tokens(&self, field: &str) -> Result<Vec<u32>, ConfigError> {
        let Some(value) = self.value(field) else { return Ok(Vec::new()) };
        let token = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
        let tokens = match value {
            Value::Array(list) => list.iter().map(token).collect(),
            one => token(one).map(|id| vec![id]),
        };
        let expected = || "must be a token's number or a list of them".into();
        tokens.ok_or_else(|| self.bad(field, value.to_string(), expected()))
    }

    fn object(&self, field: &str, prefix: &'static str) -> Result<Option<Fields<'a>>, ConfigError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let bad = || self.bad(field, value.to_string(), "must be an object".into());
        let map = value.as_object().ok_or_else(bad)?;
        Ok(Some(Fields { path: self.path, prefix, map }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Llama 3.2 1B's configuration, as released.
    fn llama() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
            "bos_token_id": 128000, "eos_token_id": 128001, "head_dim": 64, "hidden_act": "silu",
            "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
            "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
            "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
            "pretraining_tp": 1, "rms_norm_eps": 1e-5,
            "rope_scaling": {
                "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3"
            },
            "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            "use_cache": true, "vocab_size": 128256
        })
    }

    fn parse(value: &Value) -> Result<LlamaConfig, ConfigError> {
        LlamaConfig::parse(&value.to_string(), Path::new("some/config.json"))
    }

    fn with(changes: Value) -> Value {
        let mut config = llama();
        for (field, value) in changes.as_object().unwrap() {
            config[field] = value.clone();
        }
        config
    }

    #[test]
    fn the_released_llama_is_read_and_both_forms_of_rope_say_the_same() {
        let config = parse(&llama()).unwrap();
        assert_eq!(config.architecture, Architecture::Llama);
        assert_eq!((config.head_dim, config.num_key_value_heads), (64, 8));
        assert_eq!((config.rope_theta, config.max_length), (500_000.0, 131_072));
        assert!(config.tie_word_embeddings && !config.qkv_bias && !config.qk_norm);
        assert_eq!(
            (config.bos_token_id, config.eos_token_ids.as_slice()),
            (Some(128_000), &[128_001][..])
        );
        let mut new = llama();
        let mut rope = new.as_object_mut().unwrap().shift_remove("rope_scaling").unwrap();
        rope["rope_theta"] = new.as_object_mut().unwrap().shift_remove("rope_theta").unwrap();
        new["rope_parameters"] = rope;
        assert_eq!(parse(&new).unwrap(), config);
    }

    #[test]
    fn each_network_has_its_own_defaults() {
        let check = |name: &str, changes: Value, expected: &dyn Fn(&LlamaConfig) -> bool| {
            let mut config = with(changes);
            config["architectures"] = json!([name]);
            config["rope_scaling"] = Value::Null;
            let config = parse(&config).unwrap();
            assert!(expected(&config), "{name}: {config:?}");
        };
        check("MistralForCausalLM", json!({}), &|c| c.max_length == 4096 && !c.qkv_bias);
        check("MistralForCausalLM", json!({"sliding_window": null}), &|c| c.max_length == 131_072);
        check("Qwen2ForCausalLM", json!({"sliding_window": 5}), &|c| {
            c.qkv_bias && !c.o_bias && c.max_length == 131_072
        });
        check("Qwen2ForCausalLM", json!({"sliding_window": 5, "use_sliding_window": true}), &|c| {
            c.max_length == 5
        });
        check("Qwen3ForCausalLM", json!({"head_dim": 128}), &|c| c.qk_norm && c.head_dim == 128);
        check("LlamaForCausalLM", json!({"head_dim": null, "num_key_value_heads": null}), &|c| {
            c.head_dim == 64 && c.num_key_value_heads == 32
        });
    }

    #[test]
    fn what_is_not_built_or_not_said_is_refused_by_name() {
        let check = |changes: Value, field: &str| {
            let error = parse(&with(changes)).unwrap_err().to_string();
            assert!(error.starts_with("some/config.json"), "{error}");
            assert!(error.contains(&format!("`{field}`")), "{error}");
        };
        check(json!({"architectures": ["GemmaForCausalLM"]}), "architectures");
        check(json!({"architectures": null}), "architectures");
        check(json!({"hidden_act": "gelu"}), "hidden_act");
        check(json!({"quantization_config": {"bits": 4}}), "quantization_config");
        check(json!({"attention_dropout": 0.1}), "attention_dropout");
        check(json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor");
        check(
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 2}}),
            "rope_scaling.rope_type",
        );
        check(json!({"rope_scaling": {"rope_type": "linear"}}), "rope_scaling.factor");
        check(json!({"rope_parameters": {"rope_type": "default"}}), "rope_scaling");
        check(json!({"rope_theta": null}), "rope_theta");
        check(json!({"hidden_size": "wide"}), "hidden_size");
        check(json!({"hidden_size": 0}), "hidden_size");
        check(json!({"num_key_value_heads": 7}), "num_key_value_heads");
        check(json!({"head_dim": 63}), "head_dim");
        check(json!({"layer_types": ["chunked_attention"]}), "layer_types");
        check(json!({"eos_token_id": "end"}), "eos_token_id");
        check(json!({"architectures": ["Qwen3ForCausalLM"], "head_dim": null}), "head_dim");
        check(
            json!({"architectures": ["MistralForCausalLM"], "num_key_value_heads": null}),
            "num_key_value_heads",
        );
    }

    #[test]
    fn text_that_is_no_object_is_refused_with_its_file() {
        for text in ["", "[]", "{\"a\": "] {
            let error = LlamaConfig::parse(text, Path::new("some/config.json")).unwrap_err();
            assert!(error.to_string().contains("some/config.json is no JSON object"), "{error}");
        }
    }
}
