//! The ranges of all settings, and what must hold between them.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;

use serde::Serialize;

use super::layer::nearest;
use super::{Recipe, RecipeError};
use crate::adapter::{FitConfig, FitFormat, FitMethod, FitScope, LoraConfig, TARGET_MODULES};
use crate::candidate::{CandidateConfig, ViewsConfig};
use crate::dataset::{DatasetConfig, LossOn, Sampling};
use crate::effort::ScheduleConfig;
use crate::engine::{DecodeConfig, Family, LanguageConfig};
use crate::llama::Target;
use crate::text::{AUTO, FormatChoice, TextFormat};
use crate::vote::VoteConfig;

impl Recipe {
    /// Checks every setting, and the settings against each other.
    ///
    /// # Errors
    /// [`RecipeError::Impossible`] for the first one that cannot be used.
    pub fn validate(&self) -> Result<(), RecipeError> {
        within("seed", self.seed, 0..=i64::MAX as u64)?;
        dataset(&self.dataset, self.family)?;
        lora(&self.lora, self.family)?;
        fit(&self.fit, self.family)?;
        views(&self.views)?;
        language(&self.language)?;
        decode(&self.decode)?;
        candidates(&self.candidates)?;
        vote(&self.vote, self.fit.format)?;
        schedule(&self.schedule)
    }
}

fn dataset(config: &DatasetConfig, family: Family) -> Result<(), RecipeError> {
    within("dataset.identity_colors", config.identity_colors, 0.0..=1.0)?;
    within("dataset.keep_zero", config.keep_zero, 0.0..=1.0)?;
    within("dataset.augment_probability", config.augment_probability, 0.0..=1.0)?;
    within("dataset.permute_rounds", config.permute_rounds, 0..=1000)?;
    within("dataset.max_items", config.max_items, 1..=1_000_000)?;
    within("dataset.batch_size", config.batch_size, 0..=config.max_items)?;
    distinct("dataset.augmenters", &config.augmenters)?;
    if family == Family::Grid && config.loss_on == LossOn::OutputsFrom(1) {
        return impossible(
            "dataset.loss_on",
            "\"outputs-from-1\"",
            "but the first has nothing to be read from; only a language model learns from it; take \
             outputs-from-2",
        );
    }
    if config.augmenters.is_empty()
        && config.augment_probability > 0.0
        && config.sampling != Sampling::Finite
    {
        let probability = config.augment_probability;
        return impossible(
            "dataset.augment_probability",
            probability,
            "but dataset.augmenters names none to apply; add one, or set it to 0",
        );
    }
    Ok(())
}

fn lora(config: &LoraConfig, family: Family) -> Result<(), RecipeError> {
    let layers: Vec<&str> = match family {
        Family::Grid => TARGET_MODULES.to_vec(),
        Family::Llama => Target::ALL.iter().map(|(name, _)| *name).collect(),
    };
    within("lora.rank", config.rank, 1..=4096)?;
    above_zero("lora.alpha", config.alpha, 1e6)?;
    let key = "lora.target_modules";
    if config.target_modules.is_empty() {
        return impossible(key, "[]", "name at least one layer, or set fit.format = \"none\"");
    }
    for module in &config.target_modules {
        if !layers.contains(&module.as_str()) {
            // `qkv_proj` is near to much, and means that the recipe is of the other family.
            let other = family == Family::Llama && TARGET_MODULES.contains(&module.as_str());
            let hint = match nearest(module, layers.iter().copied()).filter(|_| !other) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the layers are {}", layers.join(", ")),
            };
            return impossible(key, format!("{module:?}"), hint);
        }
    }
    distinct(key, &config.target_modules)
}

fn fit(config: &FitConfig, family: Family) -> Result<(), RecipeError> {
    if family == Family::Llama && config.method == FitMethod::Full {
        return impossible(
            "fit.method",
            "\"full\"",
            "but language models are fitted by LoRA alone",
        );
    }
    within("fit.steps", config.steps, 1..=10_000_000)?;
    above_zero("fit.learning_rate", config.learning_rate, 1.0)?;
    within("fit.task_learning_rate", config.task_learning_rate, 0.0..=1.0)?;
    within("fit.matrix_learning_rate", config.matrix_learning_rate, 0.0..=10.0)?;
    if config.matrix_learning_rate > 0.0 && config.method == FitMethod::Lora {
        return impossible(
            "fit.matrix_learning_rate",
            config.matrix_learning_rate,
            "but only fit.method = \"full\" moves matrices by Muon; set that, or this to 0",
        );
    }
    if config.scope == FitScope::Shared {
        let only = |key: &str, value: String, allowed: &str| {
            impossible(key, value, format!("but fit.scope = \"shared\" {allowed}"))
        };
        if config.format != FitFormat::Icl {
            let format = serde_json::to_string(&config.format).expect("a name has a JSON form");
            return only(
                "fit.format",
                format,
                "fits in-context episodes alone; set this to \"icl\"",
            );
        }
        if config.hold_out > 0.0 {
            return only(
                "fit.hold_out",
                config.hold_out.to_string(),
                "holds nothing out; set this to 0",
            );
        }
    }
    within("fit.warmup", config.warmup, 0.0..=1.0)?;
    within("fit.final_learning_rate", config.final_learning_rate, 0.0..=1.0)?;
    within("fit.weight_decay", config.weight_decay, 0.0..=1.0)?;
    for beta in config.betas {
        if !(0.0..1.0).contains(&beta) {
            return impossible("fit.betas", beta, "each must be from 0 to less than 1");
        }
    }
    within("fit.clip_norm", config.clip_norm, 0.0..=1e6)?;
    within("fit.max_tokens", config.max_tokens, 1..=10_000_000)?;
    within("fit.hold_out", config.hold_out, 0.0..=0.9)?;
    within("fit.hold_out_enough", config.hold_out_enough, 0.0..=1.0)?;
    if config.hold_out_enough > 0.0 && config.hold_out == 0.0 {
        return impossible(
            "fit.hold_out_enough",
            config.hold_out_enough,
            "but fit.hold_out = 0 holds nothing out; set that to a share of the fit, or this to 0",
        );
    }
    within("fit.converged_loss", f64::from(config.converged_loss), 0.0..=100.0)?;
    if config.patience > 0 && config.check_every == 0 {
        return impossible(
            "fit.patience",
            config.patience,
            "but fit.check_every = 0 makes no checks to wait for; set that to some steps, or this to 0",
        );
    }
    Ok(())
}

fn views(config: &ViewsConfig) -> Result<(), RecipeError> {
    within("views.count", config.count, 1..=100_000)?;
    distinct("views.dihedrals", &config.dihedrals)
}

fn language(config: &LanguageConfig) -> Result<(), RecipeError> {
    let key = "language.text_format";
    let known = || [AUTO].into_iter().chain(TextFormat::names());
    let name = match &config.text_format {
        FormatChoice::Named(name) if known().any(|format| format == name) => return Ok(()),
        FormatChoice::Named(name) => name,
        FormatChoice::Own(format) => {
            return format.check().or_else(|problem| {
                impossible(key, format!("{:?}", format.name), problem.to_string())
            });
        }
    };
    let hint = match nearest(name, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let known = known().collect::<Vec<_>>().join(", ");
            format!("the formats are {known}; a file's name ends in .toml")
        }
    };
    impossible(key, format!("{name:?}"), hint)
}

fn decode(config: &DecodeConfig) -> Result<(), RecipeError> {
    above_zero("decode.threshold", config.threshold, 1.0)?;
    within("decode.max_nodes", config.max_nodes, 0..=1_000_000_000)?;
    within("decode.seconds", config.seconds, 0.0..=1e9)?;
    within("decode.beams", config.beams, 1..=10_000)?;
    within("decode.samples", config.samples, 0..=100_000)?;
    above_zero("decode.temperature", config.temperature, 100.0)
}

fn candidates(config: &CandidateConfig) -> Result<(), RecipeError> {
    within("candidates.max_candidates", config.max_candidates, 1..=1_000_000)?;
    within("candidates.fresh_views", config.fresh_views, 0..=100_000)?;
    within("candidates.n_best.limit", config.n_best.limit, 0..=100_000)?;
    within("candidates.n_best.min_ratio", config.n_best.min_ratio, 0.0..=1.0)?;
    within("candidates.n_best.shapes", config.n_best.shapes, 1..=900)
}

fn vote(config: &VoteConfig, format: FitFormat) -> Result<(), RecipeError> {
    let weights = config.weights;
    within("vote.weights.icl", weights.icl, 0.0..=1e6)?;
    within("vote.weights.e2e", weights.e2e, 0.0..=1e6)?;
    let (key, weight) = match format {
        FitFormat::None | FitFormat::Icl => ("vote.weights.icl", weights.icl),
        FitFormat::E2e => ("vote.weights.e2e", weights.e2e),
        FitFormat::Both => ("vote.weights", weights.icl + weights.e2e),
    };
    if weight == 0.0 {
        return impossible(
            key,
            weight,
            "nothing that this fit.format predicts would count; raise it",
        );
    }
    within("vote.keep_ranks", config.keep_ranks, 2..=1_000_000)
}

fn schedule(config: &ScheduleConfig) -> Result<(), RecipeError> {
    within("schedule.floor", config.floor, 0.01..=1.0)?;
    within("schedule.slice", config.slice, 0.01..=100.0)?;
    within("schedule.settled_loss", config.settled_loss, 0.0..=100.0)?;
    if config.cap.is_nan() || config.cap < config.floor {
        let floor = config.floor;
        let allowed = format!("it must be at least schedule.floor ({floor})");
        return impossible("schedule.cap", config.cap, allowed);
    }
    let gain = &config.gain;
    for pair in [&[0], &gain.steps[..]].concat().windows(2) {
        if pair[0] >= pair[1] {
            let value = format!("{} after {}", pair[1], pair[0]);
            return impossible("schedule.gain.steps", value, "it must rise from above 0");
        }
    }
    for (name, chances) in [("easy", &gain.easy), ("medium", &gain.medium), ("hard", &gain.hard)] {
        let key = format!("schedule.gain.{name}");
        let columns = gain.steps.len();
        if chances.len() != columns {
            let value = format!("of length {}", chances.len());
            let allowed =
                format!("it must have a chance for each of schedule.gain.steps ({columns})");
            return impossible(&key, value, allowed);
        }
        for pair in [&[0.0], &chances[..]].concat().windows(2) {
            if !(pair[0]..=1.0).contains(&pair[1]) {
                let value = format!("{} after {}", pair[1], pair[0]);
                return impossible(&key, value, "chances must be from 0 to 1 and not fall");
            }
        }
    }
    Ok(())
}

fn impossible(
    key: &str,
    value: impl Display,
    allowed: impl Into<String>,
) -> Result<(), RecipeError> {
    let (key, value, allowed) = (key.to_owned(), value.to_string(), allowed.into());
    Err(RecipeError::Impossible { key, value, allowed })
}

/// NaN is within no range.
fn within<T>(key: &str, value: T, range: RangeInclusive<T>) -> Result<(), RecipeError>
where
    T: PartialOrd + Display + Debug,
{
    if range.contains(&value) {
        return Ok(());
    }
    impossible(key, value, format!("it must be from {} to {}", range.start(), range.end()))
}

fn above_zero<T: Into<f64> + Display + Copy>(
    key: &str,
    value: T,
    largest: f64,
) -> Result<(), RecipeError> {
    let number: f64 = value.into();
    if number > 0.0 && number <= largest {
        return Ok(());
    }
    impossible(key, value, format!("it must be above 0 and at most {largest}"))
}

/// Refuses a list with an entry twice.
fn distinct<T: Serialize + PartialEq>(
    key: &str,
    entries: impl IntoIterator<Item = T>,
) -> Result<(), RecipeError> {
    let mut seen = Vec::new();
    for entry in entries {
        if seen.contains(&entry) {
            let written = serde_json::to_string(&entry).expect("settings have a JSON form");
            return impossible(key, format!("{written} twice"), "name each once");
        }
        seen.push(entry);
    }
    Ok(())
}
