//! Per-task adaptation: LoRA, the fit, and adapters on disk.

mod config;

pub use config::{FitConfig, FitFormat, FitMethod, LoraConfig, TARGET_MODULES};
