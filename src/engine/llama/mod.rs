//! Language models of the Llama family behind the [`Engine`] interface.

mod fit;
mod memory;
mod predict;
mod writer;

use std::path::Path;

use burn::tensor::{DType, Device, FloatDType};
use sha2::{Digest, Sha256};

use super::{
    Adapter, Engine, EngineError, Fit, FitLimits, FitPlan, FitStep, LanguageConfig, ModelInfo,
    PredictPlan, WeightFormat,
};
use crate::adapter::{FitConfig, LoraConfig};
use crate::arc::{Grid, Task, View};
use crate::candidate::{MapMeta, Predictions};
use crate::contamination::TrainingPairs;
use crate::llama::{
    BadTensor, CheckpointError, Llama, LlamaError, Lora, Tokenizer, TokenizerError, training_pairs,
};
use writer::Writer;
pub use writer::WriterError;

/// A loaded language model with its tokenizer and its text format.
#[derive(Debug)]
pub struct LlamaEngine {
    model: Llama,
    writer: Writer,
    info: ModelInfo,
    /// Bytes of a weight.
    weight_bytes: u64,
    gradient_checkpointing: bool,
    training_pairs: Option<TrainingPairs>,
}

/// Why a checkpoint cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum LlamaLoadError {
    /// Its network or weights.
    #[error(transparent)]
    Model(#[from] LlamaError),
    /// Its tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Its tokenizer and the text format.
    #[error(transparent)]
    Writer(#[from] WriterError),
    /// Its files.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl LlamaEngine {
    /// Loads the checkpoint in a folder onto a device; `name` and `device_name` are how `--model` and `--device` spell
    /// them.
    ///
    /// # Errors
    /// [`LlamaLoadError`] if a file is missing, damaged or not supported, or tasks cannot be written with the tokenizer.
    pub fn load(
        folder: &Path,
        name: &str,
        language: &LanguageConfig,
        device: &Device,
        device_name: &str,
    ) -> Result<Self, LlamaLoadError> {
        let dtype = match language.weights {
            WeightFormat::F32 => FloatDType::F32,
            WeightFormat::Bf16 => FloatDType::BF16,
            WeightFormat::F16 => FloatDType::F16,
        };
        // The tokenizer first: what is wrong with it is found without reading gigabytes.
        let config = crate::llama::LlamaConfig::load(folder).map_err(LlamaError::from)?;
        let tokenizer = Tokenizer::load(folder, &config)?;
        let writer = Writer::new(tokenizer, &language.text_format)?;
        let (model, weights) = Llama::load_hashed(folder, dtype, device)?;
        tracing::info!("tasks are written in the text format {}", writer.format());
        let info = ModelInfo {
            name: name.to_owned(),
            sha256: sha256(folder, weights)?,
            parameters: model.config.n_parameters(),
            device: device_name.to_owned(),
        };
        Ok(Self {
            model,
            writer,
            info,
            weight_bytes: DType::from(dtype).size() as u64,
            gradient_checkpointing: language.gradient_checkpointing,
            training_pairs: training_pairs(folder)?,
        })
    }

    /// Whether blocks run as one operation each, which keep less than Burn's.
    fn is_fused(&self) -> bool {
        self.model.fused && self.weight_bytes == 4 && self.info.device.starts_with("cpu")
    }

    /// The adapter's updates on the model's device.
    fn lora(&self, adapter: Option<&Adapter>) -> Result<Option<Lora>, EngineError> {
        let Some(adapter) = adapter else { return Ok(None) };
        adapter.check_base(&self.info)?;
        let Some(config) = &adapter.lora else {
            return Err(EngineError::BadTensor {
                name: "lora_A".into(),
                problem: "is missing: a language model takes LoRA adapters alone".into(),
            });
        };
        let lora = Lora::from_tensors(config, &adapter.tensors, &self.model);
        lora.map(Some)
            .map_err(|BadTensor { name, problem }| EngineError::BadTensor { name, problem })
    }
}

/// SHA-256, in hex, over all of a checkpoint that decides its numbers: weights, configuration, tokenizer.
fn sha256(folder: &Path, weights: Sha256) -> Result<String, CheckpointError> {
    let mut hash = weights;
    for name in ["config.json", "tokenizer.json"] {
        let path = folder.join(name);
        let io = |source| CheckpointError::Io { path: path.clone(), source };
        let bytes = std::fs::read(&path).map_err(io)?;
        for part in [name.as_bytes(), &bytes] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Engine for LlamaEngine {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn training_pairs(&self) -> Option<&TrainingPairs> {
        self.training_pairs.as_ref()
    }

    fn fit(
        &self,
        task: &Task,
        plan: FitPlan<'_>,
        limits: FitLimits<'_>,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fit, EngineError> {
        fit::fit(self, task, plan, limits, on_step)
    }

    fn least_memory(&self, lora: &LoraConfig, fit: &FitConfig) -> u64 {
        memory::FitMemory::of_the_longest(self, lora, fit)
    }

    fn predict(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        views: &[View],
        plan: PredictPlan<'_>,
    ) -> Result<Predictions, EngineError> {
        predict::predict(self, task, test, adapter, views, plan).map(Predictions::Grids)
    }

    fn score(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        under: &MapMeta,
        grids: &[&Grid],
        memory_bytes: u64,
    ) -> Result<Vec<f32>, EngineError> {
        predict::score(self, task, test, adapter, under, grids, memory_bytes)
    }
}
