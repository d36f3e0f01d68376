//! Training of the base model: sampled episodes in both formats, one optimizer loop, exact resume.

mod config;
mod sample;
mod state;
mod train;

pub use config::{
    DataConfig, EpisodeConfig, OptimizerConfig, PretrainConfig, PretrainError, Until,
};
pub use sample::{Corpus, Sampler, Source};
pub use state::TrainState;
pub use train::{FormatProgress, HeldOut, Progress, Trainer};
