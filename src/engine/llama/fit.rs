//! The per-task fit of a language model.

use super::LlamaEngine;
use super::memory::{FitMemory, targets};
use crate::adapter::FitConfig;
use crate::arc::Task;
use crate::dataset::{Episode, Format};
use crate::engine::course::{Steps, rate, run, sources};
use crate::engine::{
    Adapter, Base, Check, EngineError, Fit, FitLimits, FitPlan, FitStep, StopReason,
};
use crate::llama::{Batch, Lora, LoraGradients, Sequence, Trainer, score};
use crate::model::AdamW;

/// Fits a fresh adapter; see [`crate::engine::Engine::fit`].
pub(super) fn fit(
    engine: &LlamaEngine,
    task: &Task,
    plan: FitPlan<'_>,
    limits: FitLimits<'_>,
    on_step: &mut dyn FnMut(&FitStep),
) -> Result<Fit, EngineError> {
    let most = plan.fit.max_tokens.min(engine.model.config.max_length);
    let fits = |episode: &Episode| {
        // What cannot be written is told where it is to be shown.
        let Ok(sequences) = engine.writer.sequences(episode) else { return true };
        sequences.iter().all(|s| s.tokens.len() <= most)
    };
    let (sources, notes) = sources(std::slice::from_ref(task), plan, &fits);
    if sources.is_empty() {
        return Ok(Fit { notes, ..Fit::none(StopReason::NotFitted) });
    }
    let mut fit = TaskFit::new(engine, task, plan, &limits)?;
    let (mut course, values) = run(&mut fit, &sources, plan, &limits, notes, on_step)?;
    course.notes.extend(fit.notes());
    course.adapter = values.map(|lora| Adapter {
        base: Base::Sha256(engine.info.sha256.clone()),
        task: Some(task.id.clone()),
        formats: sources.iter().map(|(_, source)| source.format()).collect(),
        tensors: lora.to_tensors(),
        lora: Some(lora.config),
    });
    Ok(course)
}

/// A fit under way.
struct TaskFit<'a> {
    engine: &'a LlamaEngine,
    task: &'a Task,
    config: &'a FitConfig,
    trainer: Trainer,
    memory: FitMemory<'a>,
    /// Tokens that a sequence may have.
    most: usize,
    /// Sequences that were shown or should have been.
    seen: usize,
    /// Those that were too long.
    too_long: usize,
    /// Those of the others that the memory does not hold.
    too_large: usize,
    /// Those that were shown with gradient checkpointing, though the recipe does not ask for it.
    checkpointed: usize,
    /// Steps that had none but such, and showed one of them without some of its pairs.
    shortened: usize,
}

impl<'a> TaskFit<'a> {
    fn new(
        engine: &'a LlamaEngine,
        task: &'a Task,
        plan: FitPlan<'a>,
        limits: &FitLimits<'_>,
    ) -> Result<Self, EngineError> {
        let (config, model) = (plan.fit, &engine.model);
        let earlier = engine.lora(plan.start.map(|start| start.adapter))?;
        let lora = match earlier {
            Some(lora) => lora,
            None => Lora::fresh(plan.lora, &model.config, plan.seed, &task.id, &model.device())?,
        };
        let adamw = AdamW { betas: config.betas, weight_decay: config.weight_decay };
        let memory = FitMemory::new(engine, &lora.config, limits.memory_bytes);
        Ok(Self {
            engine,
            task,
            config,
            trainer: Trainer::new(model, lora, adamw, config.clip_norm),
            memory,
            most: config.max_tokens.min(model.config.max_length),
            seen: 0,
            too_long: 0,
            too_large: 0,
            checkpointed: 0,
            shortened: 0,
        })
    }

    fn notes(&self) -> Vec<String> {
        let Self { most, seen, too_long, too_large, checkpointed, shortened, .. } = self;
        let mut notes = Vec::new();
        if *too_long > 0 {
            notes.push(format!("{too_long} of {seen} sequences have more than {most} tokens"));
        }
        if *too_large > 0 {
            let allowed = self.memory.allowed;
            notes.push(format!(
                "{too_large} of {seen} sequences need more memory than the {allowed} bytes allowed; raise --memory"
            ));
        }
        if *checkpointed > 0 {
            notes.push(format!(
                "gradient checkpointing is on for {checkpointed} of {seen} sequences, to stay within --memory"
            ));
        }
        if *shortened > 0 {
            notes.push(format!("{shortened} steps show one of these without its longest pairs"));
        }
        notes
    }

    /// The sequences of an episode that are neither too long nor too large for the memory; if all are, one without some of
    /// its pairs.
    fn sequences(&mut self, episode: &Episode) -> Result<Vec<Sequence>, EngineError> {
        let mut sequences = self.engine.writer.sequences(episode)?;
        let (all, most) = (sequences.len(), self.most);
        sequences.retain(|s| s.tokens.len() <= most);
        let short = sequences.len();
        sequences.retain(|s| self.memory.holds(s));
        self.seen += all;
        self.too_long += all - short;
        self.too_large += short - sequences.len();
        if sequences.is_empty() {
            let fits = |s: &Sequence| s.tokens.len() <= most && self.memory.holds(s);
            let one = self.engine.writer.shortened(episode, &fits)?;
            sequences.push(one.map_err(|pair| self.refusal(&pair))?);
            self.shortened += 1;
        }
        Ok(sequences)
    }

    /// Why a pair cannot be shown even without any demonstration.
    fn refusal(&self, pair: &Sequence) -> EngineError {
        let (tokens, most) = (pair.tokens.len(), self.most);
        if tokens > most {
            return EngineError::TooLong { tokens, most };
        }
        EngineError::Memory { needed: self.memory.least(pair), allowed: self.memory.allowed }
    }
}

impl Steps for TaskFit<'_> {
    type Values = Lora;

    fn step(
        &mut self,
        _: usize,
        episode: Episode,
        _: Format,
        t: usize,
        progress: f32,
    ) -> Result<f32, EngineError> {
        let sequences = self.sequences(&episode)?;
        let all: usize = sequences.iter().map(targets).sum();
        let (mut loss, mut gradients) = (0.0, None);
        for part in self.memory.parts(sequences) {
            let share = part.sequences.iter().map(targets).sum::<usize>() as f32 / all as f32;
            if part.gradient_checkpointing && !self.engine.gradient_checkpointing {
                self.checkpointed += part.sequences.len();
            }
            self.trainer.set_gradient_checkpointing(part.gradient_checkpointing);
            let (part_loss, part) = self.trainer.gradients(&Batch::padded(&part.sequences)?)?;
            if !part_loss.is_finite() {
                return Err(EngineError::Diverged(part_loss, t));
            }
            loss += share * part_loss;
            gradients = Some(added(gradients, part, share));
        }
        let learning_rate = self.config.learning_rate * rate(self.config, f64::from(progress));
        if let Some(gradients) = gradients {
            self.trainer.apply(gradients, learning_rate);
        }
        Ok(loss)
    }

    fn held_out_check(&self) -> Result<Check, EngineError> {
        let LlamaEngine { model, writer, .. } = self.engine;
        let examples = &self.task.examples;
        let mut exact = 0;
        for (i, held_out) in examples.iter().enumerate() {
            let others = [&examples[..i], &examples[i + 1..]].concat();
            let prompt = writer.prompt(&others, &held_out.input, model.config.max_length)?;
            let answer = writer.answer(&prompt, &held_out.output)?;
            if prompt.tokens.len() + answer.len() <= model.config.max_length {
                let scores = score(model, Some(self.trainer.lora()), &prompt.tokens, &[answer], 0)?;
                exact += usize::from(scores[0].is_greedy);
            }
        }
        Ok(Check { exact, of: examples.len() })
    }

    fn values(&self) -> Lora {
        self.trainer.lora().clone()
    }
}

/// `sum + share · part`; a part that is all stays as it is.
fn added(sum: Option<LoraGradients>, mut part: LoraGradients, share: f32) -> LoraGradients {
    if share < 1.0 {
        for pair in part.values_mut() {
            pair.a = pair.a.clone() * share;
            pair.b = pair.b.clone() * share;
        }
    }
    for (module, earlier) in sum.into_iter().flatten() {
        if let Some(pair) = part.get_mut(&module) {
            pair.a = pair.a.clone() + earlier.a;
            pair.b = pair.b.clone() + earlier.b;
        }
    }
    part
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use burn::tensor::Device;

    use super::*;
    use crate::arc::{Example, Grid, Test};
    use crate::engine::llama::writer::Writer;
    use crate::engine::{Engine, ModelInfo};
    use crate::llama::{Llama, LlamaConfig, Target, Tokenizer, Workload, write_tokenizer};
    use crate::recipe::Recipe;
    use crate::text::AUTO;

    fn engine(gradient_checkpointing: bool) -> LlamaEngine {
        let config = serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "vocab_size": 16, "hidden_size": 16,
            "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2,
            "num_key_value_heads": 1, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
            "rope_theta": 1e4, "hidden_act": "silu", "tie_word_embeddings": true,
        });
        let config = LlamaConfig::parse(&config.to_string(), Path::new("config.json")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(folder.path()).unwrap();
        let tokenizer = Tokenizer::load(folder.path(), &config).unwrap();
        let info = ModelInfo {
            name: "random".into(),
            sha256: "base".into(),
            parameters: config.n_parameters(),
            device: "cpu".into(),
        };
        LlamaEngine {
            model: Llama::random(config, 0, &Device::flex()),
            writer: Writer::new(tokenizer, &AUTO.into()).unwrap(),
            info,
            weight_bytes: 4,
            gradient_checkpointing,
            training_pairs: None,
        }
    }

    /// Demonstrations of unequal sizes.
    fn task() -> Task {
        let example = |n: usize| Example {
            input: Grid::from_fn(n, n + 1, |r, c| ((r + 2 * c + n) % 10) as u8),
            output: Grid::from_fn(n + 1, n, |r, c| ((2 * r + c) % 10) as u8),
        };
        let test = Test { input: Grid::filled(2, 2, 1), output: None };
        Task { id: "sizes".into(), examples: [3, 5, 7].map(example).into(), tests: vec![test] }
    }

    fn recipe() -> Recipe {
        let set = ["lora.rank=4", "fit.learning_rate=1e-2", "dataset.sampling=streaming"];
        Recipe::resolve("llama-default", &set).unwrap()
    }

    fn fit_within(engine: &LlamaEngine, memory_bytes: u64) -> Result<Fit, EngineError> {
        let recipe = recipe();
        let plan = recipe.fit_plan();
        let interrupted = AtomicBool::new(false);
        let limits = FitLimits {
            seconds: None,
            steps: Some(3),
            progress: None,
            memory_bytes,
            interrupted: &interrupted,
        };
        engine.fit(&task(), plan, limits, &mut |_| ())
    }

    /// Sequences of one length, half of whose tokens are learnt.
    fn sequences(n: usize, length: usize) -> Vec<Sequence> {
        let targets = (0..length).map(|i| 2 * i >= length).collect();
        vec![Sequence { tokens: vec![0; length], targets }; n]
    }

    #[test]
    fn parts_are_as_large_as_the_memory_allows() {
        let lora = recipe().lora;
        let (plain, saving) = (engine(false), engine(true));
        let sizes = |engine: &LlamaEngine, allowed: u64, sequences: Vec<Sequence>| {
            let parts = FitMemory::new(engine, &lora, allowed).parts(sequences);
            let sizes =
                parts.iter().map(|part| (part.sequences.len(), part.gradient_checkpointing));
            sizes.collect::<Vec<_>>()
        };
        // All that 8192 tokens allow, in the order of lengths.
        let mixed = [sequences(3, 2000), sequences(2, 100), sequences(6, 1500)].concat();
        assert_eq!(sizes(&plain, u64::MAX, mixed), [(5, false), (4, false), (2, false)]);
        assert_eq!(sizes(&saving, u64::MAX, sequences(3, 100)), [(3, true)]);
        // A sequence in the least memory, and alone without checkpointing.
        let one = &sequences(1, 1000)[0];
        let least = FitMemory::new(&plain, &lora, 0).least(one);
        assert!(FitMemory::new(&plain, &lora, least).holds(one));
        assert!(!FitMemory::new(&plain, &lora, least - 1).holds(one));
        assert_eq!(sizes(&plain, least, sequences(2, 1000)), [(1, true), (1, true)]);
        assert_eq!(sizes(&saving, least, sequences(2, 1000)), [(1, true), (1, true)]);
        let mut at_once = 0;
        for allowed in (least..20 * least).step_by(least as usize / 2) {
            let parts = sizes(&plain, allowed, sequences(6, 1000));
            assert_eq!(parts.iter().map(|(n, _)| n).sum::<usize>(), 6);
            assert!(parts[0].0 >= at_once, "{parts:?}");
            // Time is saved first where memory is left: nothing is made anew once a sequence has room.
            at_once = if parts[0].1 { 0 } else { parts[0].0 };
        }
        assert_eq!(sizes(&plain, 20 * least, sequences(6, 1000)), [(6, false)]);
    }

    #[test]
    fn a_fit_in_little_memory_learns_the_same() {
        let lora = recipe().lora;
        let whole = fit_within(&engine(false), 1 << 30).unwrap();
        assert_eq!(whole.notes, [""; 0]);
        let longest = sequences(1, 300);
        let little = FitMemory::new(&engine(false), &lora, 0).least(&longest[0]);
        for checkpointing in [false, true] {
            let parted = fit_within(&engine(checkpointing), little).unwrap();
            let switched = parted.notes.iter().any(|n| n.contains("gradient checkpointing is on"));
            assert_eq!(switched, !checkpointing, "{:?}", parted.notes);
            assert!(!parted.notes.iter().any(|n| n.contains("need more memory")));
            for (a, b) in whole.curve.iter().zip(&parted.curve) {
                assert!((a.loss - b.loss).abs() < 1e-4 * a.loss, "{} and {}", a.loss, b.loss);
            }
            let tensors = |fit: &Fit| fit.adapter.clone().unwrap().tensors;
            for (name, a) in tensors(&whole) {
                let b = &tensors(&parted)[&name];
                let off = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs());
                let off = off.fold(0.0, f32::max);
                assert!(off < 1e-3, "{name} is off by {off}");
            }
        }
    }

    #[test]
    fn what_the_memory_does_not_hold_loses_its_longest_pairs_or_is_refused() {
        let (engine, lora) = (engine(false), recipe().lora);
        let memory =
            |length: usize| FitMemory::new(&engine, &lora, 0).least(&sequences(1, length)[0]);
        // The largest pair has 112 cells, all three have 196.
        let short = fit_within(&engine, memory(170)).unwrap();
        let says = |text: &str| short.notes.iter().any(|note| note.contains(text));
        assert!(says("sequences need more memory than the"), "{:?}", short.notes);
        assert!(says("without its longest pairs"), "{:?}", short.notes);
        assert!(!says("tokens"), "{:?}", short.notes);
        let error = fit_within(&engine, memory(20)).unwrap_err();
        let EngineError::Memory { needed, allowed } = error else { panic!("{error}") };
        assert!(needed > allowed && needed < memory(200), "{needed}");
        assert!(error.to_string().contains("raise --memory"));
    }

    #[test]
    fn episodes_whose_pairs_are_too_large_are_passed_over() {
        let (engine, mut task) = (engine(false), task());
        task.examples
            .push(Example { input: Grid::filled(20, 20, 3), output: Grid::filled(20, 20, 4) });
        // Ordered episodes have one target each, and a quarter of them the large pair.
        let set = ["lora.rank=4", "dataset.sampling=ordered", "fit.max_tokens=600"];
        let recipe = Recipe::resolve("llama-default", &set).unwrap();
        let fit = |task: &Task| {
            let interrupted = AtomicBool::new(false);
            let limits = FitLimits {
                seconds: None,
                steps: Some(12),
                progress: None,
                memory_bytes: 1 << 30,
                interrupted: &interrupted,
            };
            engine.fit(task, recipe.fit_plan(), limits, &mut |_| ())
        };
        let found = fit(&task).unwrap();
        assert_eq!(found.steps, 12);
        let says = |text: &str| found.notes.iter().any(|note| note.contains(text));
        assert!(
            says("episodes were too large even without context and were passed over"),
            "{:?}",
            found.notes
        );
        let all = task.examples.pop().unwrap();
        let hopeless = Task {
            examples: vec![all.clone(), Example { input: all.output, output: all.input }],
            ..task
        };
        assert!(matches!(fit(&hopeless).unwrap_err(), EngineError::TooLong { most: 600, .. }));
    }

    #[test]
    fn too_long_items_of_a_finite_dataset_are_replaced_and_not_shortened() {
        let engine = engine(false);
        let notes = |max_tokens: usize, cells: usize| {
            let set = [
                "lora.rank=4".to_owned(),
                format!("fit.max_tokens={max_tokens}"),
                format!("dataset.max_cells={cells}"),
                "dataset.max_items=20".to_owned(),
            ];
            let recipe = Recipe::resolve("llama-paper", &set).unwrap();
            let interrupted = AtomicBool::new(false);
            let limits = FitLimits {
                seconds: None,
                steps: None,
                progress: None,
                memory_bytes: 1 << 30,
                interrupted: &interrupted,
            };
            let fit = engine.fit(&task(), recipe.fit_plan(), limits, &mut |_| ()).unwrap();
            (fit.steps, fit.notes)
        };
        // Two epochs of ten steps, as without a limit: scaled and repeated grids make way for others.
        assert_eq!(notes(8192, 0), (20, Vec::new()));
        assert_eq!(notes(300, 0), (20, Vec::new()));
        // Where no item fits, the unaugmented ones are kept and lose pairs.
        let (steps, notes) = notes(100, 0);
        assert!(
            steps < 20 && notes.iter().any(|n| n.contains("without its longest pairs")),
            "{notes:?}"
        );
    }

    #[test]
    fn what_the_doctor_tells_is_what_the_memory_must_allow() {
        let (engine, recipe) =
            (engine(false), Recipe::resolve("llama-paper", &["lora.rank=4"]).unwrap());
        let work = Workload {
            rows: 1,
            length: 900,
            targets: 300,
            rank: 4,
            adapted: Target::ALL
                .map(|(_, t)| t)
                .into_iter()
                .filter(|t| recipe.lora.target_modules.iter().any(|name| name == t.name()))
                .collect(),
            weight_bytes: 4,
            gradient_checkpointing: false,
            fused: true,
        };
        let told = engine.model.config.budget(&work).beside_weights();
        let sequence =
            Sequence { tokens: vec![0; 900], targets: (0..900).map(|i| i >= 600).collect() };
        for (allowed, checkpointing) in [(told, false), (told - 1, true)] {
            let parts =
                FitMemory::new(&engine, &recipe.lora, allowed).parts(vec![sequence.clone()]);
            assert_eq!(parts[0].gradient_checkpointing, checkpointing);
        }
    }

    #[test]
    fn the_least_memory_holds_the_longest_sequence_as_the_recipe_wants_it() {
        let recipe = recipe();
        for checkpointing in [false, true] {
            let engine = engine(checkpointing);
            let least = engine.least_memory(&recipe.lora, &recipe.fit);
            let longest = Sequence { tokens: vec![0; 2048], targets: vec![true; 2048] };
            let parts = FitMemory::new(&engine, &recipe.lora, least).parts(vec![longest]);
            assert_eq!(parts[0].gradient_checkpointing, checkpointing);
        }
    }
}
