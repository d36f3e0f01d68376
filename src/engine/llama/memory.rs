//! How much of a fit's step, and of what is decoded, runs at once, so that a task stays within its memory.
//!
//! What a step takes is estimated from sizes alone ([`crate::llama::Budget`]), never looked at: a run must be the same on
//! every machine. The base model is not counted, for all tasks share it.

use super::LlamaEngine;
use crate::adapter::{FitConfig, LoraConfig};
use crate::llama::{LlamaConfig, Sequence, Target, Workload};

/// Tokens, padding included, that run at once at most, whatever the memory; more are no faster.
const TOKENS_AT_ONCE: usize = 8192;

/// Sequences of a step that run at once. The gradients of a step with more of these are added up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) sequences: Vec<Sequence>,
    /// Whether only each block's input is kept.
    pub(super) gradient_checkpointing: bool,
}

/// The memory of a fit.
#[derive(Debug)]
pub(super) struct FitMemory<'a> {
    model: &'a LlamaConfig,
    /// The fit's settings; the sizes are of no step.
    work: Workload,
    /// Bytes in all.
    pub(super) allowed: u64,
}

/// Tokens whose keys and values may be held side by side while decoding.
pub(super) fn cached_tokens(engine: &LlamaEngine, allowed: u64) -> usize {
    let token = engine.model.config.cached_numbers() as u64 * engine.weight_bytes;
    // A cache that grows is there twice, and then has room for up to twice its tokens.
    (allowed / (4 * token)) as usize
}

/// Learnt tokens of a sequence; the first of all has none before it.
pub(super) fn targets(sequence: &Sequence) -> usize {
    sequence.targets.iter().skip(1).filter(|t| **t).count()
}

impl<'a> FitMemory<'a> {
    /// Of a fit with an adapter of that shape. Its steps keep no more than each block's input where the engine is told so,
    /// and where it is necessary.
    pub(super) fn new(engine: &'a LlamaEngine, lora: &LoraConfig, allowed: u64) -> Self {
        let names = &lora.target_modules;
        let adapted = Target::ALL.iter().filter(|(name, _)| names.iter().any(|n| n == name));
        let work = Workload {
            rows: 1,
            length: 1,
            targets: 1,
            rank: lora.rank,
            adapted: adapted.map(|(_, target)| *target).collect(),
            weight_bytes: engine.weight_bytes,
            gradient_checkpointing: engine.gradient_checkpointing,
            fused: engine.is_fused(),
        };
        Self { model: &engine.model.config, work, allowed }
    }

    /// What a step on one sequence of the largest size takes, all of its tokens learnt.
    pub(super) fn of_the_longest(engine: &LlamaEngine, lora: &LoraConfig, fit: &FitConfig) -> u64 {
        let length = fit.max_tokens.min(engine.model.config.max_length);
        let memory = FitMemory::new(engine, lora, 0);
        memory.bytes(1, length, length, engine.gradient_checkpointing)
    }

    /// Bytes that the fit takes with a step on so many sequences, padded to one length.
    fn bytes(&self, rows: usize, length: usize, targets: usize, checkpointing: bool) -> u64 {
        let gradient_checkpointing = checkpointing;
        let work = Workload { rows, length, targets, gradient_checkpointing, ..self.work.clone() };
        self.model.budget(&work).beside_weights()
    }

    /// Bytes that the fit takes with a sequence that runs alone, in the least memory.
    pub(super) fn least(&self, sequence: &Sequence) -> u64 {
        self.bytes(1, sequence.tokens.len(), targets(sequence), true)
    }

    /// Whether a sequence can run at all.
    pub(super) fn holds(&self, sequence: &Sequence) -> bool {
        self.least(sequence) <= self.allowed
    }

    /// Sequences, each of which can run alone, in as few parts as the memory allows, those of about a length together.
    pub(super) fn parts(&self, mut sequences: Vec<Sequence>) -> Vec<Part> {
        sequences.sort_by_key(|s| s.tokens.len());
        let mut parts: Vec<Part> = Vec::new();
        for sequence in sequences {
            // Each is at least as long as those before.
            let (length, own) = (sequence.tokens.len(), targets(&sequence));
            if let Some(part) = parts.last_mut() {
                let rows = part.sequences.len() + 1;
                let learnt = part.sequences.iter().map(targets).sum::<usize>() + own;
                let bytes = self.bytes(rows, length, learnt, part.gradient_checkpointing);
                if rows * length <= TOKENS_AT_ONCE && bytes <= self.allowed {
                    part.sequences.push(sequence);
                    continue;
                }
            }
            let gradient_checkpointing = self.work.gradient_checkpointing
                || self.bytes(1, length, own, false) > self.allowed;
            parts.push(Part { sequences: vec![sequence], gradient_checkpointing });
        }
        parts
    }
}
