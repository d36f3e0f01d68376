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
pub use train::{Answers, Evaluation, FormatProgress, Progress, Trainer, model_in};

use std::path::{Path, PathBuf};

/// A base model in training, of either family.
pub trait Training {
    /// What [`Progress::n_cells`] counts.
    const UNIT: &'static str;

    /// Continues from a saved state.
    ///
    /// # Errors
    /// [`PretrainError`] if the state is damaged or of another run.
    fn resume(&mut self, path: &Path) -> Result<(), PretrainError>;

    /// Saves everything that the next step depends on.
    ///
    /// # Errors
    /// [`PretrainError::Io`] if the file cannot be written.
    fn save(&self, path: &Path) -> Result<(), PretrainError>;

    /// Steps done.
    fn steps(&self) -> usize;

    /// Seconds of training so far.
    fn seconds(&self) -> f64;

    /// Weights of the model.
    fn n_weights(&self) -> u64;

    /// Share of the run that is done; 1 at its end.
    fn share(&self, until: Until) -> f64 {
        until.share(self.steps(), self.seconds())
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`PretrainError::Diverged`] if the loss is no longer finite, [`PretrainError::TooLong`] if no episode fits a language
    /// model's context.
    fn train_step(&mut self, until: Until) -> Result<Progress, PretrainError>;

    /// What the averaged weights do on the held-out and on the trained tasks.
    ///
    /// # Errors
    /// Never for episodes that were encoded here.
    fn evaluate(&self) -> Result<Evaluation, PretrainError>;

    /// Writes the averaged weights into the run's folder, as 16-bit floats if they are a grid model's, and gives their place.
    ///
    /// # Errors
    /// [`PretrainError::Io`] if a file cannot be written.
    fn export(&self, folder: &Path) -> Result<PathBuf, PretrainError>;
}
