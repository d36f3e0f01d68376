//! PEFT's `adapter_config.json`.

use serde::{Deserialize, Serialize};

use super::LoraConfig;

/// PEFT's `LoraConfig`, as far as it says something here.
#[derive(Debug, Serialize, Deserialize)]
pub struct PeftConfig {
    /// `LORA`.
    pub peft_type: String,
    /// `CAUSAL_LM` for language models.
    pub task_type: Option<String>,
    /// The base model.
    pub base_model_name_or_path: String,
    /// Whether the adapter is loaded to predict, and not to be trained on.
    pub inference_mode: bool,
    /// Rank.
    pub r: usize,
    /// Scale numerator.
    pub lora_alpha: f32,
    /// Dropout while training.
    pub lora_dropout: f32,
    /// Adapted layers.
    pub target_modules: Vec<String>,
    /// Scale by the rank's square root.
    pub use_rslora: bool,
    /// Whether the base stores its weights transposed.
    pub fan_in_fan_out: bool,
    /// Which biases are trained.
    pub bias: String,
    /// Layers that are stored whole.
    pub modules_to_save: Option<Vec<String>>,
}

impl PeftConfig {
    /// What PEFT is told of an adapter on `base`.
    pub fn new(lora: &LoraConfig, base: &str, task_type: Option<&str>) -> Self {
        Self {
            peft_type: "LORA".into(),
            task_type: task_type.map(str::to_owned),
            base_model_name_or_path: base.to_owned(),
            inference_mode: true,
            r: lora.rank,
            lora_alpha: lora.alpha,
            lora_dropout: 0.0,
            target_modules: lora.target_modules.clone(),
            use_rslora: lora.rank_stabilized,
            fan_in_fan_out: false,
            bias: "none".into(),
            modules_to_save: None,
        }
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("strings and numbers become JSON");
        text + "\n"
    }
}
