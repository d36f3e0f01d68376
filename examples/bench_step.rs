//! Times one kind of step on one task, and writes its batches so that another program can do the same work.
//!
//! ```text
//! cargo run --release --example bench_step -- --pick median --kind icl --steps 8 --dump batches.json
//! ```
//! Prints one JSON object. `scripts/bench.sh` compares it with PyTorch.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result};
use arc_ttt::adapter::LoraConfig;
use arc_ttt::arc::{Dataset, Task, View, infer_shape};
use arc_ttt::candidate::{ViewsConfig, sample_views};
use arc_ttt::dataset::{EpisodeSource, Format};
use arc_ttt::device::{self, DeviceChoice};
use arc_ttt::engine::{
    Encoded, Engine, FitLimits, GridEngine, Told, canvas_of, load_weights, query_canvas,
    shown_canvas,
};
use arc_ttt::kernel::{Mat, Packed, Precision, product};
use arc_ttt::memory;
use arc_ttt::model::{
    Batch, Canvas, Conditioning, GridModel, GridModelConfig, N_FRAME_TOKENS, log_probabilities,
};
use arc_ttt::public;
use arc_ttt::recipe::Recipe;
use burn::tensor::Tensor;
use clap::{Parser, ValueEnum};
use rayon::prelude::*;
use serde_json::{Value, json};

/// Steps before the clock starts.
const WARM_UP: usize = 2;

/// Views that are predicted.
const VIEWS: usize = 64;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    /// A leave-one-out step of the LoRA fit.
    Icl,
    /// An end-to-end step of the LoRA fit.
    E2e,
    /// A leave-one-out step on all weights of the trunk.
    Full,
    /// Predicting 64 views in context.
    Predict,
    /// No step: the machine's matrix products.
    Peak,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pick {
    Small,
    Median,
    Largest,
}

#[derive(Parser)]
struct Args {
    /// Tasks to pick from.
    #[arg(long, default_value = "arc-agi-1/evaluation-dev")]
    tasks: String,
    /// Which of them, ordered by their cells.
    #[arg(long, default_value = "median")]
    pick: Pick,
    #[arg(long)]
    kind: Kind,
    #[arg(long, default_value = "default")]
    model: String,
    /// Steps that are timed (of `predict`: all views, that often).
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// How the linear layers multiply.
    #[arg(long, default_value = "f32")]
    precision: String,
    /// Write the first batches and what the base model says of the first one.
    #[arg(long)]
    dump: Option<PathBuf>,
}

fn main() -> Result<()> {
    memory::keep_freed_memory();
    let args = Args::parse();
    // As `solve` does: within the pool, with the stack of a main thread.
    rayon::ThreadPoolBuilder::new().stack_size(8 << 20).build()?.install(|| measure(&args))
}

fn measure(args: &Args) -> Result<()> {
    if args.kind == Kind::Peak {
        println!(
            "{}",
            json!({"f32_gflops": peak(Precision::F32), "bf16_gflops": peak(Precision::Bf16)})
        );
        return Ok(());
    }
    let task = pick(public::resolve(&args.tasks)?, args.pick)?;
    let weights = load_weights(&args.model)?;
    let (device, choice) = device::open(DeviceChoice::Cpu)?;
    let engine = GridEngine::new(&weights, &device, &choice.to_string())?;
    let recipe = recipe(args)?;
    let batches: Vec<Encoded> = match args.kind {
        Kind::Predict => view_batches(&task)
            .into_iter()
            .map(|batch| Encoded { batch, ..Encoded::default() })
            .collect(),
        _ => (0..args.steps.min(4))
            .map(|step| episode(&task, &recipe, args.kind, step as u64))
            .collect(),
    };
    if let Some(path) = &args.dump {
        let model = GridModel::from_weights(&weights, &device)?;
        let text = dump(&batches, &model, &recipe).to_string();
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    let seconds = if args.kind == Kind::Predict {
        time_views(&engine, &task, args.steps)?
    } else {
        time_steps(&engine, &task, &recipe, args.steps)?
    };
    let flops: Vec<f64> =
        batches.iter().map(|b| flops(&b.batch, &weights.config, &recipe.lora, args.kind)).collect();
    // The views come in several batches; of training steps each batch is one.
    let whole = if args.kind == Kind::Predict { 1.0 } else { flops.len() as f64 };
    println!(
        "{}",
        json!({
            "task": task.id,
            "seconds": seconds,
            "gflop": flops.iter().sum::<f64>() / whole / 1e9,
            "cells": batches.iter().map(|b| b.batch.n_cells()).collect::<Vec<_>>(),
            "peak_bytes": memory::peak_bytes(),
        })
    );
    Ok(())
}

/// The smallest, the middle or the largest task, by the cells of its demonstrations' canvases.
fn pick(dataset: Dataset, which: Pick) -> Result<Task> {
    let cells = |task: &Task| {
        let (height, width) = canvas_of(&task.examples);
        (height * width * task.examples.len(), task.id.clone())
    };
    let mut tasks = dataset.tasks;
    tasks.retain(|task| task.examples.len() > 1);
    tasks.sort_by_key(cells);
    let place = match which {
        Pick::Small => 0,
        Pick::Median => tasks.len() / 2,
        Pick::Largest => tasks.len().saturating_sub(1),
    };
    tasks.into_iter().nth(place).context("no tasks")
}

fn recipe(args: &Args) -> Result<Recipe> {
    let precision = format!("fit.precision={}", args.precision);
    let kind: &[&str] = match args.kind {
        Kind::E2e => &["fit.format=e2e"],
        Kind::Full => &["fit.format=icl", "fit.method=full"],
        _ => &["fit.format=icl"],
    };
    // No step is cut down, so that both programs do the whole of it.
    let all = [&precision, "fit.check_every=0", "fit.patience=0", "fit.max_tokens=1000000"];
    Ok(Recipe::resolve("default", &[&all[..], kind].concat())?)
}

/// What the fit shows at a step.
fn episode(task: &Task, recipe: &Recipe, kind: Kind, step: u64) -> Encoded {
    let format = if kind == Kind::E2e { Format::E2e } else { Format::Icl };
    let told = task.tests.iter().all(|t| infer_shape(&task.examples, &t.input).is_some());
    let episode = EpisodeSource::new(task, &recipe.dataset, format, 0).episode(step);
    let canvas = canvas_of(&episode.pairs);
    let mut encoded = Encoded::default();
    encoded.add(&episode, format, 0, |pair| {
        if told { Told::Shape(pair.output.shape()) } else { Told::Nothing { canvas } }
    });
    encoded
}

fn views(task: &Task) -> Vec<View> {
    let config = Recipe::resolve::<&str>("default", &[]).expect("an embedded recipe").views;
    sample_views(&ViewsConfig { count: VIEWS, ..config }, task.examples.len(), 0, &task.id)
}

/// All views of the first test, eight at a time.
fn view_batches(task: &Task) -> Vec<Batch> {
    let batch = |views: &[View]| {
        let mut batch = Batch::default();
        for view in views {
            let shown = view.apply_task(task);
            let told = infer_shape(&shown.examples, &shown.tests[0].input)
                .map_or(Told::Nothing { canvas: canvas_of(&shown.examples) }, Told::Shape);
            let first = batch.context.len();
            batch.context.extend(shown.examples.iter().map(shown_canvas));
            let read = (first..batch.context.len()).collect();
            let query = query_canvas(&shown.tests[0].input, told);
            batch.queries.push((query, Conditioning::Context(read)));
        }
        batch
    };
    views(task).chunks(8).map(batch).collect()
}

fn time_views(engine: &GridEngine, task: &Task, times: usize) -> Result<Vec<f64>> {
    let views = views(task);
    let mut seconds = Vec::new();
    for _ in 0..times + 1 {
        let began = Instant::now();
        for chunk in views.chunks(8) {
            black_box(engine.cell_maps(task, 0, None, chunk)?);
        }
        seconds.push(began.elapsed().as_secs_f64());
    }
    Ok(seconds.split_off(1))
}

fn time_steps(engine: &GridEngine, task: &Task, recipe: &Recipe, steps: usize) -> Result<Vec<f64>> {
    let plan = recipe.fit_plan();
    let interrupted = AtomicBool::new(false);
    let limits = FitLimits {
        seconds: None,
        steps: Some(WARM_UP + steps),
        progress: None,
        memory_bytes: 16 << 30,
        interrupted: &interrupted,
    };
    let fit = engine.fit(task, plan, limits, &mut |_| ())?;
    let at: Vec<f64> = fit.curve.iter().map(|step| step.seconds).collect();
    Ok(at.windows(2).map(|w| w[1] - w[0]).skip(WARM_UP - 1).collect())
}

/// Multiplications and additions that the mathematics asks for: recomputation is the program's own affair.
fn flops(batch: &Batch, config: &GridModelConfig, lora: &LoraConfig, kind: Kind) -> f64 {
    let (d, m) = (config.d_model, config.n_task_tokens);
    // Of the last block nothing but the query cells is computed, keys and values apart.
    let (mut asked, mut asked_scores) = (0, 0);
    let context: Vec<usize> = batch.context.iter().map(|c| c.n_cells() + m).collect();
    let mut tokens: usize = context.iter().sum();
    let mut scores: usize = context.iter().map(|n| n * n).sum();
    for (canvas, conditioning) in &batch.queries {
        let (own, read) = match conditioning {
            Conditioning::Context(read) => {
                (canvas.n_cells() + m, read.iter().map(|&i| context[i]).sum())
            }
            Conditioning::Task { .. } => (canvas.n_cells() + m + N_FRAME_TOKENS, 0),
        };
        tokens += own;
        scores += own * (own + read);
        asked += canvas.n_cells();
        asked_scores += canvas.n_cells() * (own + read);
    }
    let inner = config.n_layers - 1;
    let linear =
        |all: usize, asked: usize| 2 * (all * 3 * d * d + asked * (d * d + 2 * d * config.d_ff));
    let linear = inner * linear(tokens, tokens) + linear(tokens, asked);
    let attention = 4 * (inner * scores + asked_scores) * d;
    let (linears, attentions) = match kind {
        Kind::Predict | Kind::Peak => (1, 1),
        // Frozen weights need no gradient: only the activations'.
        Kind::Icl | Kind::E2e => (2, 3),
        Kind::Full => (3, 3),
    };
    // Two products for each factor's gradient: dA = xᵀ(dy·Bᵀ), dB = (x·A)ᵀdy.
    let [qkv, others @ ..] = config.block_shape(None).linears().map(|(i, o)| i + o);
    let others: usize = others.iter().sum();
    let low_rank = match kind {
        Kind::Icl | Kind::E2e => {
            4 * lora.rank * ((inner + 1) * tokens * qkv + (inner * tokens + asked) * others)
        }
        _ => 0,
    };
    (linears * linear + attentions * attention + low_rank) as f64
}

/// Matrix products of 512 × 512 on every thread, in GFLOP/s.
fn peak(precision: Precision) -> f64 {
    const N: usize = 512;
    let values: Vec<f32> = (0..N * N).map(|i| (i % 7) as f32 - 3.0).collect();
    let right = Packed::in_precision(Mat::new(&values, N, N), precision);
    let once = || {
        let began = Instant::now();
        let n = rayon::current_num_threads() * 8;
        (0..n).into_par_iter().with_max_len(1).for_each(|_| {
            let mut out = vec![0.0; N * N];
            product(&mut out, Mat::new(&values, N, N), &right);
            black_box(out);
        });
        (2 * N * N * N * n) as f64 / began.elapsed().as_secs_f64() / 1e9
    };
    (0..20).map(|_| once()).fold(0.0, f64::max)
}

/// The batches, and the base model's log-probabilities for the first of them.
fn dump(batches: &[Encoded], model: &GridModel, recipe: &Recipe) -> Value {
    let tasks: Tensor<2> = model.task_tokens.clone();
    let expected = log_probabilities(model.forward(&batches[0].batch, Some(&tasks), None));
    let batches: Vec<Value> = batches.iter().map(batch_json).collect();
    json!({
        "config": model.config,
        "lora": recipe.lora,
        "fit": recipe.fit,
        "batches": batches,
        "log_probs": expected.concat(),
    })
}

fn batch_json(encoded: &Encoded) -> Value {
    let query = |(canvas, conditioning): &(Canvas, Conditioning)| match conditioning {
        Conditioning::Context(read) => json!({"canvas": canvas_json(canvas), "context": read}),
        Conditioning::Task { frame, .. } => json!({
            "canvas": canvas_json(canvas), "dihedral": frame.dihedral, "original": frame.original,
        }),
    };
    json!({
        "context": encoded.batch.context.iter().map(canvas_json).collect::<Vec<_>>(),
        "queries": encoded.batch.queries.iter().map(query).collect::<Vec<_>>(),
        "targets": encoded.targets,
        "weights": encoded.weights,
    })
}

fn canvas_json(canvas: &Canvas) -> Value {
    json!({
        "height": canvas.height, "width": canvas.width, "input": canvas.input, "output": canvas.output,
        "input_shape": canvas.input_shape, "output_shape": canvas.output_shape.unwrap_or((0, 0)),
    })
}
