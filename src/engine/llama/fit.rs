//! The per-task fit of a language model.

use super::LlamaEngine;
use crate::adapter::FitConfig;
use crate::arc::Task;
use crate::dataset::{Episode, Format};
use crate::engine::course::{Steps, rate, run, sources};
use crate::engine::{Adapter, Check, EngineError, Fit, FitLimits, FitPlan, FitStep, StopReason};
use crate::llama::{Batch, Lora, LoraGradients, Sequence, Trainer, score};
use crate::model::AdamW;

/// Tokens, padding included, whose activations are held at once; the gradients of a step that has more are added up.
const TOKENS_AT_ONCE: usize = 8192;

/// Fits a fresh adapter; see [`crate::engine::Engine::fit`].
pub(super) fn fit(
    engine: &LlamaEngine,
    task: &Task,
    plan: FitPlan<'_>,
    limits: FitLimits<'_>,
    on_step: &mut dyn FnMut(&FitStep),
) -> Result<Fit, EngineError> {
    let (sources, notes) = sources(std::slice::from_ref(task), plan);
    if sources.is_empty() {
        return Ok(Fit { notes, ..Fit::none(StopReason::NotFitted) });
    }
    let mut fit = TaskFit::new(engine, task, plan)?;
    let (mut course, values) = run(&mut fit, &sources, plan, &limits, notes, on_step)?;
    course.notes.extend(fit.notes());
    course.adapter = values.map(|lora| Adapter {
        base: engine.info.sha256.clone(),
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
    /// Tokens that a sequence may have.
    most: usize,
    /// Sequences that were shown or should have been.
    seen: usize,
    /// Those that were too long.
    too_long: usize,
    /// Steps that had none but such, and showed one of them without some of its pairs.
    shortened: usize,
}

impl<'a> TaskFit<'a> {
    fn new(
        engine: &'a LlamaEngine,
        task: &'a Task,
        plan: FitPlan<'a>,
    ) -> Result<Self, EngineError> {
        let (config, model) = (plan.fit, &engine.model);
        let earlier = engine.lora(plan.start.map(|start| start.adapter))?;
        let lora = match earlier {
            Some(lora) => lora,
            None => Lora::fresh(plan.lora, &model.config, plan.seed, &task.id, &model.device())?,
        };
        let adamw = AdamW { betas: config.betas, weight_decay: config.weight_decay };
        let trainer = Trainer::new(model, lora, adamw, config.clip_norm)
            .with_gradient_checkpointing(engine.gradient_checkpointing);
        let most = config.max_tokens.min(model.config.max_length);
        Ok(Self { engine, task, config, trainer, most, seen: 0, too_long: 0, shortened: 0 })
    }

    fn notes(&self) -> Vec<String> {
        let Self { most, seen, too_long, shortened, .. } = self;
        let mut notes = Vec::new();
        if *too_long > 0 {
            notes.push(format!("{too_long} of {seen} sequences have more than {most} tokens"));
        }
        if *shortened > 0 {
            notes.push(format!("{shortened} steps show one of these without its longest pairs"));
        }
        notes
    }

    /// The sequences of an episode that are not too long; if all are, one without some of its pairs.
    fn sequences(&mut self, episode: &Episode) -> Result<Vec<Sequence>, EngineError> {
        let mut sequences = self.engine.writer.sequences(episode)?;
        let n = sequences.len();
        sequences.retain(|s| s.tokens.len() <= self.most);
        self.seen += n;
        self.too_long += n - sequences.len();
        if sequences.is_empty() {
            let one = self.engine.writer.shortened(episode, self.most)?;
            let most = self.most;
            sequences.push(one.map_err(|tokens| EngineError::TooLong { tokens, most })?);
            self.shortened += 1;
        }
        Ok(sequences)
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
        let targets = |s: &Sequence| s.targets.iter().skip(1).filter(|t| **t).count();
        let all: usize = sequences.iter().map(targets).sum();
        let (mut loss, mut gradients) = (0.0, None);
        for part in parts(sequences) {
            let share = part.iter().map(targets).sum::<usize>() as f32 / all as f32;
            let (part_loss, part) = self.trainer.gradients(&Batch::padded(&part)?)?;
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
                let scores = score(model, Some(self.trainer.lora()), &prompt.tokens, &[answer])?;
                exact += usize::from(scores[0].is_greedy);
            }
        }
        Ok(Check { exact, of: examples.len() })
    }

    fn values(&self) -> Lora {
        self.trainer.lora().clone()
    }
}

/// Sequences in parts that are read at once, those of about a length together.
fn parts(mut sequences: Vec<Sequence>) -> Vec<Vec<Sequence>> {
    sequences.sort_by_key(|s| s.tokens.len());
    let mut parts: Vec<Vec<Sequence>> = Vec::new();
    for sequence in sequences {
        // Each is longer than those before.
        let n = sequence.tokens.len();
        match parts.last_mut() {
            Some(part) if (part.len() + 1) * n <= TOKENS_AT_ONCE => part.push(sequence),
            _ => parts.push(vec![sequence]),
        }
    }
    parts
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
