//! Per-task adaptation: LoRA, the fit, and adapters on disk.

mod config;
mod peft;

pub(crate) use config::exactly_two;
pub use config::{FitConfig, FitFormat, FitMethod, FitScope, LoraConfig, TARGET_MODULES};
pub use peft::PeftConfig;
