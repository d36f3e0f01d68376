//! Training of the base model: sampled episodes in both formats, one optimizer loop, exact resume; or of a language model
//! on the same episodes as text.

mod config;
mod sample;
mod state;
mod moving;
mod train;
mod language;

pub use config::{
    DataConfig, EpisodeConfig, OptimizerConfig, PretrainConfig, PretrainError, Until,
};
pub use language::{LanguageModelConfig, LanguageTrainer};
pub use sample::{Corpus, Sampler, Source};
pub use state::TrainState;
pub use train::{Answers, Evaluation, FormatProgress, Progress, Trainer};
