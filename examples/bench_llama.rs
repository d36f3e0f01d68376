//! Times the Llama family on the CPU, round by round, at another program's command.
//!
//! ```text
//! echo 3 | cargo run --release --example bench_llama -- --model FOLDER --kind train --tokens 1000 --rows 2
//! ```
//! For each number on standard input it takes that many steps and prints one JSON object. `scripts/bench_llama.py`
//! compares it with `transformers` and `peft`.

use std::io::BufRead;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use arc_ttt::llama::{Batch, KvCache, Llama, Sequence, Trainer, load_adapter};
use arc_ttt::memory;
use arc_ttt::model::AdamW;
use burn::tensor::{Device, FloatDType};
use clap::{Parser, ValueEnum};
use serde_json::json;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    /// A step of a LoRA fit.
    Train,
    /// Reading a prompt into a cache.
    Prefill,
    /// Tokens one by one behind a prompt.
    Decode,
}

#[derive(Parser)]
struct Args {
    /// A checkpoint's folder, with an adapter in its folder `adapter`.
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    kind: Kind,
    /// Tokens of a sequence.
    #[arg(long)]
    tokens: usize,
    /// Sequences side by side.
    #[arg(long, default_value_t = 1)]
    rows: usize,
    /// Keep each block's input only.
    #[arg(long)]
    gradient_checkpointing: bool,
}

fn main() -> Result<()> {
    memory::keep_freed_memory();
    let args = Args::parse();
    let model = Llama::load(&args.model, FloatDType::F32, &Device::flex())?;
    let lora = load_adapter(&args.model.join("adapter"), &model)?;
    let vocab = model.config.vocab_size;
    // The same tokens as in the other program; the last third of each sequence is to be learnt.
    let token = |row: usize, i: usize| ((i * i + 7 * i + 13 * row) % vocab) as u32;
    let sequence = |row: usize| Sequence {
        tokens: (0..args.tokens).map(|i| token(row, i)).collect(),
        targets: (0..args.tokens).map(|i| i >= args.tokens * 2 / 3).collect(),
    };
    let batch = Batch::padded(&(0..args.rows).map(sequence).collect::<Vec<_>>())?;
    let adamw = AdamW { betas: [0.9, 0.999], weight_decay: 0.0 };
    let mut trainer = Trainer::new(&model, lora.clone(), adamw, 1.0)
        .with_gradient_checkpointing(args.gradient_checkpointing);
    let mut cache = KvCache::default();
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse().context("a number of steps")?;
        if args.kind == Kind::Decode {
            cache = KvCache::default();
            model.next_logits(&batch, Some(&lora), Some(&mut cache))?;
        }
        let started = Instant::now();
        let mut said = 0.0;
        for step in 0..steps {
            match args.kind {
                Kind::Train => said = trainer.step(&batch, 1e-4)?,
                Kind::Prefill => {
                    cache = KvCache::default();
                    let logits = model.next_logits(&batch, Some(&lora), Some(&mut cache))?;
                    said = logits.max().into_scalar::<f32>();
                }
                Kind::Decode => {
                    let next: Vec<_> = (0..args.rows)
                        .map(|row| Sequence::prompt(&[token(row, args.tokens + step)]))
                        .collect();
                    let next = Batch::padded(&next)?;
                    let logits = model.next_logits(&next, Some(&lora), Some(&mut cache))?;
                    said = logits.max().into_scalar::<f32>();
                }
            }
        }
        let seconds = started.elapsed().as_secs_f64() / steps as f64;
        println!(
            "{}",
            json!({"seconds": seconds, "says": said, "peak_bytes": memory::peak_bytes()})
        );
    }
    Ok(())
}
