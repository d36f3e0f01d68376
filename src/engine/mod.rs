//! The interface between the engine and a model family, with the values that cross it.
//!
//! A family knows how to fit an adapter to a task, how to predict a test output under given views, and how probable a
//! grid is under a view. Everything around it (runs, votes, reports) knows nothing else about a model.

mod course;
mod decode;
mod encode;
mod family;
mod grid;
mod llama;
mod load;

pub use decode::{DecodeConfig, DecodeMethod};
pub use encode::{Encoded, Told, canvas_of, frame_code, query_canvas, shown_canvas};
pub use family::{Family, LanguageConfig, WeightFormat, is_identifier};
pub use grid::GridEngine;
pub use llama::{LlamaEngine, LlamaLoadError, WriterError};
pub use load::{LoadError, load_engine, load_weights};

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::adapter::{FitConfig, LoraConfig};
use crate::arc::{Grid, Task, View};
use crate::candidate::{MapMeta, Predictions, Proposals};
use crate::contamination::TrainingPairs;
use crate::dataset::{DatasetConfig, Format};
pub use crate::model::HostTensor;

/// What a loaded model says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Family and size, such as `grid-0.8M`.
    pub name: String,
    /// SHA-256 of the weights file, in hex; an adapter belongs to exactly one.
    pub sha256: String,
    /// Number of weights.
    pub parameters: u64,
    /// Device it runs on, as `--device` spells it.
    pub device: String,
}

/// What an adapter says of its base model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// SHA-256 of its weights, as [`ModelInfo::sha256`].
    Sha256(String),
    /// A name alone, all that PEFT knows: an identifier, a path, or nothing.
    Named(String),
}

/// What a fit has learnt: nothing of the base model, only what was added for the task.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// The model that it belongs to.
    pub base: Base,
    /// Id of the task that it was fitted on; `None` if tasks share it, and if its file does not say.
    pub task: Option<String>,
    /// Formats it was fitted in, and predicts in.
    pub formats: Vec<Format>,
    /// Shape of the low-rank update; `None` if all weights were fitted.
    pub lora: Option<LoraConfig>,
    /// Tensors by name: PEFT's `base_model.model.<module>.lora_A.weight` and `.lora_B.weight`, and for the
    /// end-to-end format `task_tokens` and the frame embeddings.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// The formats in which there are predictions: an adapter's own, and without one in-context.
pub(crate) fn formats(adapter: Option<&Adapter>) -> Vec<Format> {
    adapter.map_or(vec![Format::Icl], |adapter| adapter.formats.clone())
}

/// What predictions under these views are made under, in their order: each view in every format.
pub(crate) fn metas(views: &[View], adapter: Option<&Adapter>) -> Vec<MapMeta> {
    let formats = formats(adapter);
    let under = |view: &View| {
        let meta = |&format: &Format| MapMeta { view: view.clone(), format };
        formats.iter().map(meta).collect::<Vec<_>>()
    };
    views.iter().flat_map(under).collect()
}

impl Adapter {
    /// The family of its base, as the names of its tensors tell.
    pub fn family(&self) -> Family {
        let is_llama = |name: &String| {
            name.contains(".model.layers.")
                || name.contains("lm_head")
                || name.contains("embed_tokens")
        };
        if self.tensors.keys().any(is_llama) { Family::Llama } else { Family::Grid }
    }

    /// Checks that the adapter belongs to a model, as far as it says.
    ///
    /// # Errors
    /// [`EngineError::WrongBase`].
    pub fn check_base(&self, model: &ModelInfo) -> Result<(), EngineError> {
        match &self.base {
            Base::Sha256(found) if *found != model.sha256 => {
                let (expected, found) = (model.sha256.clone(), found.clone());
                Err(EngineError::WrongBase { expected, found })
            }
            _ => Ok(()),
        }
    }

    /// Why it is doubtful whether an adapter that knows its base model's name alone belongs to a model: they have
    /// different names. The same weights may have several, so that this is no error.
    pub fn doubt(&self, model: &ModelInfo) -> Option<String> {
        let Base::Named(name) = &self.base else { return None };
        let last =
            |name: &str| name.trim_end_matches('/').rsplit('/').next().map(str::to_lowercase);
        (!name.is_empty() && last(name) != last(&model.name)).then(|| {
            format!(
                "the adapter names {name} as its base model, and this is {}; if that is another model of the same sizes, \
                 the adapter does not belong to it",
                model.name
            )
        })
    }

    /// Why it is doubtful whether it belongs to a task: it was fitted on one with another id. The same task may have
    /// several, so that this is no error.
    pub fn doubt_of_task(&self, id: &str) -> Option<String> {
        let fitted_on = self.task.as_ref().filter(|fitted_on| *fitted_on != id)?;
        Some(format!(
            "the adapter was fitted on task {fitted_on}, and this is {id}; if that is another task, its answers mean \
             nothing here"
        ))
    }
}

/// A held-out check: how many demonstrations were reproduced exactly from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Demonstrations reproduced in every cell.
    pub exact: usize,
    /// Demonstrations tried.
    pub of: usize,
}

/// One gradient step, as the record keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FitStep {
    /// Steps done, from 1.
    pub step: usize,
    /// Format of the step's episode.
    pub format: Format,
    /// Mean cross-entropy over the predicted cells, in nats.
    pub loss: f32,
    /// Seconds since the fit began.
    pub seconds: f64,
    /// Share of the schedule that was behind when the step began, 0 to 1; it alone sets the learning rate,
    /// so that a fit limited by time can be repeated exactly ([`FitLimits::progress`]).
    pub progress: f32,
    /// The held-out check made after this step, if one was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check: Option<Check>,
}

/// Why a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// Nothing was to be trained (the in-context baseline).
    NotFitted,
    /// All steps done.
    Steps,
    /// The time was spent.
    Budget,
    /// The held-out check stayed perfect.
    HeldOut,
    /// The loss fell below what was asked for.
    Converged,
    /// The budget had no room for enough steps, and was left to other tasks.
    GivenUp,
    /// The user interrupted the run.
    Interrupted,
}

/// What ends a fit besides its settings.
#[derive(Debug, Clone, Copy)]
pub struct FitLimits<'a> {
    /// Wall seconds; the learning rate then follows the share of time spent. With `steps` as well, the
    /// larger of the two shares counts.
    pub seconds: Option<f64>,
    /// At most this many steps with the schedule laid over them (`--steps`); [`FitConfig::steps`] if `None`.
    pub steps: Option<usize>,
    /// The [`FitStep::progress`] of every step of an earlier fit, to be repeated exactly (`--replay`): one
    /// step for each entry, whatever the other limits and the held-out checks say.
    pub progress: Option<&'a [f32]>,
    /// Bytes that the fit may use at most, beside the base model; a larger task is cut down or refused.
    pub memory_bytes: u64,
    /// Set by the signal handler; a fit looks at it after every step.
    pub interrupted: &'a AtomicBool,
}

/// A finished fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// What was learnt; `None` for the in-context baseline.
    pub adapter: Option<Adapter>,
    /// Every step.
    pub curve: Vec<FitStep>,
    /// Steps that were run.
    pub steps: usize,
    /// The step whose weights were kept.
    pub best_step: usize,
    /// Why it ended.
    pub stop: StopReason,
    /// The training task whose task tokens the fit started from, if the model names it (end-to-end).
    pub start: Option<String>,
    /// What a reader of the record should know, such as "one demonstration: end-to-end instead".
    pub notes: Vec<String>,
}

impl Fit {
    /// What stands for a fit where there is none.
    pub fn none(stop: StopReason) -> Self {
        Self {
            adapter: None,
            curve: Vec::new(),
            steps: 0,
            best_step: 0,
            stop,
            start: None,
            notes: Vec::new(),
        }
    }
}

/// Why a family could not fit or predict.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The task does not fit into memory.
    #[error("the task needs about {needed} bytes, more than the {allowed} allowed; raise --memory")]
    Memory {
        /// Estimated bytes.
        needed: u64,
        /// Limit in force.
        allowed: u64,
    },
    /// An adapter that belongs to other weights.
    #[error("the adapter was fitted on the base model {found:.12}, not on {expected:.12}")]
    WrongBase {
        /// SHA-256 of the loaded base.
        expected: String,
        /// SHA-256 that the adapter names.
        found: String,
    },
    /// An adapter whose tensors do not fit the model.
    #[error("the adapter's tensor `{name}` {problem}")]
    BadTensor {
        /// Name of the tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Loss or weights became infinite or not a number.
    #[error("the loss became {0} at step {1}; lower fit.learning_rate")]
    Diverged(f32, usize),
    /// A task that is longer than the model's context even without demonstrations.
    #[error(
        "the task's text has {tokens} tokens without any demonstration, more than the {most} that fit"
    )]
    TooLong {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens that fit.
        most: usize,
    },
    /// A text that the tokenizer cannot spell.
    #[error(transparent)]
    Writer(#[from] WriterError),
    /// Tokens that the model cannot be fed.
    #[error(transparent)]
    Input(#[from] crate::llama::InputError),
    /// A step that cannot be taken.
    #[error(transparent)]
    Train(#[from] crate::llama::TrainError),
    /// An adapter that cannot be made for the model.
    #[error(transparent)]
    Lora(#[from] crate::llama::LoraError),
    /// Something that this model family cannot do.
    #[error("this model family knows no {0}")]
    Unsupported(&'static str),
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
}

impl EngineError {
    /// Whether something is too large, so that something smaller may do.
    pub fn is_size(&self) -> bool {
        matches!(self, Self::Memory { .. } | Self::TooLong { .. })
    }
}

/// Everything a fit is told.
#[derive(Debug, Clone, Copy)]
pub struct FitPlan<'a> {
    /// How episodes are made.
    pub dataset: &'a DatasetConfig,
    /// The adapter's shape.
    pub lora: &'a LoraConfig,
    /// The optimisation.
    pub fit: &'a FitConfig,
    /// Root of all random streams.
    pub seed: u64,
    /// Where the fit begins, if not with a fresh adapter.
    pub start: Option<Start<'a>>,
}

/// An earlier fit of the same recipe that a fit goes on from. Its weights are taken over; the optimizer and the
/// learning rate's schedule begin anew (warm restarts, Loshchilov and Hutter 2016, arXiv 1608.03983).
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// What it has learnt.
    pub adapter: &'a Adapter,
    /// Steps behind it: the episodes are drawn as for the ones that follow.
    pub steps: usize,
}

/// Everything a prediction is told, besides the task and the views.
#[derive(Debug, Clone, Copy)]
pub struct PredictPlan<'a> {
    /// How grids are written, by a family that writes them.
    pub decode: &'a DecodeConfig,
    /// Root of all random streams.
    pub seed: u64,
    /// Wall seconds, after which searches, beams and draws are cut; a first answer under each view takes the time it
    /// takes.
    pub seconds: Option<f64>,
    /// Where an earlier prediction is repeated: for each prediction that will come out, the steps after which time
    /// had cut it. It overrules all limits of time.
    pub cut_after: Option<&'a [Option<usize>]>,
    /// What was written under earlier views, of which a guess may be made: that changes the cost, and nothing but
    /// rounding of what comes out.
    pub earlier: &'a [Proposals],
    /// Bytes that what is decoded side by side may take, beside the model; one prompt is decoded in any case.
    pub memory_bytes: u64,
}

/// A model family, loaded.
pub trait Engine: Send + Sync {
    /// What is loaded.
    fn info(&self) -> ModelInfo;

    /// What the model may have been trained on; `None` if its file does not say.
    fn training_pairs(&self) -> Option<&TrainingPairs> {
        None
    }

    /// Fits an adapter to the demonstrations of `task`, a fresh one or `plan.start`. The base model is not changed.
    ///
    /// # Errors
    /// [`EngineError`] if the task is too large, the start is another model's or another shape's, the loss diverges
    /// or the device fails.
    fn fit(
        &self,
        task: &Task,
        plan: FitPlan<'_>,
        limits: FitLimits<'_>,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fit, EngineError>;

    /// Bytes of memory with which no fit of these settings has to be cut down, where tasks may be so large that what is
    /// usual would not do; else 0.
    fn least_memory(&self, _lora: &LoraConfig, _fit: &FitConfig) -> u64 {
        0
    }

    /// Fits one adapter to the demonstrations of all of `tasks`, in-context, a step a task in turn.
    ///
    /// # Errors
    /// As [`Engine::fit`]; [`EngineError::Unsupported`] if the family cannot.
    fn fit_shared(
        &self,
        _tasks: &[Task],
        _plan: FitPlan<'_>,
        _limits: FitLimits<'_>,
        _on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fit, EngineError> {
        Err(EngineError::Unsupported("adapter that tasks share"))
    }

    /// Predicts the output of test `test` under each view, in each format of the adapter (in-context alone
    /// without one). Predictions come in the order of `views`, formats innermost.
    ///
    /// # Errors
    /// [`EngineError`] if the adapter does not fit the model or the device fails.
    ///
    /// # Panics
    /// If the task has no such test.
    fn predict(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        views: &[View],
        plan: PredictPlan<'_>,
    ) -> Result<Predictions, EngineError>;

    /// The log-probability of each grid (in the task's own frame) as the output of test `test` under one view and
    /// format, in nats. What is scored side by side may take `memory_bytes`, beside the model.
    ///
    /// # Errors
    /// As [`Engine::predict`].
    ///
    /// # Panics
    /// If the task has no such test.
    fn score(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        under: &MapMeta,
        grids: &[&Grid],
        memory_bytes: u64,
    ) -> Result<Vec<f32>, EngineError>;
}
