//! Options that several commands share: the recipe, and the machine it runs on.

use std::sync::Arc;
use std::thread::available_parallelism;

use anyhow::ensure;

use super::values::bytes;
use crate::engine::{Engine, Family, load_engine};
use crate::public;
use crate::recipe::{Recipe, for_family};

/// Bytes of memory that a task may use without `--memory`: with a task on each of two cores a run stays
/// well below 1.5 GiB.
const DEFAULT_MEMORY: u64 = 600 << 20;

/// How much memory a task may use.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct MemoryArgs {
    /// Memory that each task may use, beside the model [default: 600M; with a language model what a sequence of
    /// fit.max_tokens takes, if that is more]. A fit in less runs fewer sequences at once; what does not fit even alone
    /// loses demonstrations, which the record tells.
    #[arg(long = "memory", value_name = "SIZE", value_parser = bytes)]
    wanted: Option<u64>,
}

impl MemoryArgs {
    /// Bytes for each task of a recipe. They follow from the settings and the model alone, so that a run without
    /// `--memory` is the same on every machine.
    pub(super) fn bytes(self, engine: &dyn Engine, recipe: &Recipe) -> u64 {
        let usual = || DEFAULT_MEMORY.max(engine.least_memory(&recipe.lora, &recipe.fit));
        self.wanted.unwrap_or_else(usual)
    }
}

/// How tasks are solved.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Recipe")]
pub(super) struct RecipeArgs {
    /// A preset (default, fast, paper, poe; for language models also nvarc) or a recipe file [default: fast for the
    /// embedded tasks, else default; `compare`: the comparison's own]. With a language model `paper` means llama-paper,
    /// and so on.
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Change one key of the recipe, such as fit.learning_rate=1e-4; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Root of all random choices; the same seed gives the same result.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl RecipeArgs {
    /// The recipe for the tasks of that name and a model of that family, with all overrides.
    pub(super) fn resolve(&self, tasks: &str, family: Family) -> anyhow::Result<Recipe> {
        // The embedded tasks are there to see the program at work, which should not take long.
        let usual = if tasks == public::DEMO { "fast" } else { "default" };
        let mut overrides = self.set.clone();
        overrides.extend(self.seed.map(|seed| format!("seed={seed}")));
        let name = for_family(self.recipe.as_deref().unwrap_or(usual), family);
        Ok(Recipe::resolve(&name, &overrides)?)
    }
}

/// What the recipe runs on.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Machine")]
pub(super) struct MachineArgs {
    /// The base model: an embedded one by name, a weights file or its folder, or a language model (Llama 3, Mistral, Qwen2, Qwen2.5,
    /// Qwen3): the folder of a Hugging Face checkpoint, or its identifier on the hub, OWNER/NAME.
    #[arg(long, value_name = "MODEL", default_value = "default")]
    pub model: String,
    /// Where to compute: auto, cpu, wgpu[:N] or cuda[:N].
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// Threads in all, by default one for each core; tasks that are worked on at the same time have one each at least.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
}

impl MachineArgs {
    /// The family of the model.
    pub(super) fn family(&self) -> Family {
        Family::of(&self.model)
    }

    /// Loads the model, for a recipe.
    pub(super) fn load_engine(&self, recipe: &Recipe) -> anyhow::Result<Arc<dyn Engine>> {
        let Recipe { name, family, .. } = recipe;
        let (is, other) = match self.family() {
            Family::Grid => {
                ("a grid model", "take default, fast, paper or poe, or one that extends these")
            }
            Family::Llama => ("a language model", "take one that extends llama-default"),
        };
        ensure!(
            *family == self.family(),
            "the recipe {name} is not for {}, which is {is}; {other}",
            self.model
        );
        Ok(load_engine(&self.model, &self.device, &recipe.language)?.into())
    }

    /// Threads to use.
    pub(super) fn threads(&self) -> usize {
        self.threads.map_or_else(cores, |n| n as usize)
    }

    /// Runs `work` with as many threads as asked for.
    pub(super) fn with_threads<T: Send>(
        &self,
        work: impl FnOnce() -> T + Send,
    ) -> anyhow::Result<T> {
        // The stack is that of a main thread: graphs are dropped recursively.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads()).stack_size(8 << 20);
        Ok(pool.build()?.install(work))
    }
}

/// Cores that this process may use.
pub(super) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Tasks to work on at the same time: as asked for, or one for each core as far as there are threads, and one on a GPU.
pub(super) fn default_jobs(wanted: Option<u32>, threads: usize, device: &str) -> usize {
    let usual = if device.starts_with("cpu") { cores().min(threads) } else { 1 };
    wanted.map_or(usual, |n| n as usize)
}
