//! The engine's stages from a task to its predictions, on the CPU, with the shipped model.
//!
//! `cargo bench --bench engine` runs all; `cargo bench --bench engine -- fit` those with `fit` in the name.

use std::hint::black_box;
use std::sync::atomic::AtomicBool;

use arc_ttt::arc::{Example, Grid, Task, Test};
use arc_ttt::candidate::sample_views;
use arc_ttt::dataset::{EpisodeSource, Format};
use arc_ttt::device::{self, DeviceChoice};
use arc_ttt::engine::{Engine, FitLimits, GridEngine, load_weights};
use arc_ttt::kernel::{
    BlockShape, BlockWeights, Layout, LoraShape, Mat, Packed, Place, Precision, Sequence, Wanted,
    block_backward, block_forward, product,
};
use arc_ttt::memory::keep_freed_memory;
use arc_ttt::recipe::Recipe;
use arc_ttt::rng;
use divan::Bencher;
use divan::counter::ItemsCount;
use rand::Rng;

/// Gradient steps of one measured fit.
const STEPS: usize = 4;

fn main() {
    // As the program does; without it page faults are half of a step.
    keep_freed_memory();
    divan::main();
}

/// Four demonstrations of `side` × `side` cells: the colors are shifted and the grid is turned.
fn task(side: usize) -> Task {
    let mut rng = rng::stream(0, "bench", "task", side as u64);
    let mut pair = || {
        let cells: Vec<u8> = (0..side * side).map(|_| rng.random_range(0..10)).collect();
        let input = Grid::from_cells(side, side, cells).unwrap();
        let output = Grid::from_fn(side, side, |r, c| (input.get(side - 1 - c, r) + 1) % 10);
        Example { input, output }
    };
    let examples = (0..4).map(|_| pair()).collect();
    let Example { input, output } = pair();
    Task { id: "bench".into(), examples, tests: vec![Test { input, output: Some(output) }] }
}

fn recipe(name: &str, overrides: &[&str]) -> Recipe {
    Recipe::resolve(name, overrides).unwrap()
}

fn engine() -> GridEngine {
    let (device, choice) = device::open(DeviceChoice::Cpu).unwrap();
    GridEngine::new(&load_weights("default").unwrap(), &device, &choice.to_string()).unwrap()
}

/// A task under 16 views.
#[divan::bench(args = [10, 30])]
fn transform(bencher: Bencher, side: usize) {
    let task = task(side);
    let views = sample_views(&recipe("default", &[]).views, task.examples.len(), 0, &task.id);
    bencher.counter(ItemsCount::new(views.len())).bench_local(|| {
        views.iter().map(|view| view.apply_task(black_box(&task))).collect::<Vec<_>>()
    });
}

/// The paper's finite dataset of a task: augmented, permuted, filtered, deduplicated.
#[divan::bench(args = [10, 30])]
fn finite_dataset(bencher: Bencher, side: usize) {
    let (task, recipe) = (task(side), recipe("paper", &[]));
    bencher.bench_local(|| EpisodeSource::new(black_box(&task), &recipe.dataset, Format::Icl, 0));
}

/// One episode of the default, streaming dataset.
#[divan::bench(args = [10, 30])]
fn streamed_episode(bencher: Bencher, side: usize) {
    let (task, recipe) = (task(side), recipe("default", &[]));
    let source = EpisodeSource::new(&task, &recipe.dataset, Format::Icl, 0);
    let mut step = 0;
    bencher.bench_local(|| {
        step += 1;
        source.episode(step)
    });
}

/// The forward pass over all views of a test, in context.
#[divan::bench(args = [10, 20], sample_count = 10)]
fn predict(bencher: Bencher, side: usize) {
    let (task, engine) = (task(side), engine());
    let views = sample_views(&recipe("default", &[]).views, task.examples.len(), 0, &task.id);
    bencher
        .counter(ItemsCount::new(views.len()))
        .bench_local(|| engine.cell_maps(black_box(&task), 0, None, &views).unwrap());
}

/// Steps of a LoRA fit: episode, forward, backward, AdamW. Items are steps.
fn fit(bencher: Bencher, side: usize, format: &str) {
    let (task, engine) = (task(side), engine());
    let recipe = recipe("default", &[&format!("fit.format={format}"), "fit.check_every=0"]);
    let plan = recipe.fit_plan();
    let interrupted = AtomicBool::new(false);
    let limits = FitLimits {
        seconds: None,
        steps: Some(STEPS),
        progress: None,
        memory_bytes: 4 << 30,
        interrupted: &interrupted,
    };
    bencher
        .counter(ItemsCount::new(STEPS))
        .bench_local(|| engine.fit(black_box(&task), plan, limits, &mut |_| ()).unwrap());
}

#[divan::bench(args = [10, 20], sample_count = 10)]
fn fit_icl(bencher: Bencher, side: usize) {
    fit(bencher, side, "icl");
}

#[divan::bench(args = [10, 20], sample_count = 10)]
fn fit_e2e(bencher: Bencher, side: usize) {
    fit(bencher, side, "e2e");
}

fn numbers(n: usize) -> Vec<f32> {
    let mut rng = rng::stream(0, "bench", "numbers", n as u64);
    (0..n).map(|_| rng.random_range(-0.1..0.1)).collect()
}

/// Eight canvases of 10 × 10 cells with 8 task tokens each, side by side.
fn layout() -> Layout {
    let (cells, tokens, n) = (100, 8, 8);
    let cell = |i: usize| Some(Place::new((i / 10, i % 10), (10, 10)));
    let positions = (0..n)
        .flat_map(|_| (0..cells).map(cell).chain(std::iter::repeat_n(None, tokens)))
        .collect();
    let len = cells + tokens;
    let sequences = (0..n)
        .map(|i| Sequence {
            own: std::iter::once(i * len..(i + 1) * len).collect(),
            context: Vec::new(),
        })
        .collect();
    Layout::new(positions, sequences)
}

/// Weights of one block with the shipped model's sizes and the default recipe's adapter.
struct Block {
    shape: BlockShape,
    values: [Vec<f32>; 8],
}

impl Block {
    fn new() -> Self {
        let (config, lora) = (load_weights("default").unwrap().config, recipe("default", &[]).lora);
        let lora = LoraShape { rank: lora.rank, scale: lora.scale(), targets: [true; 4] };
        let shape = config.block_shape(Some(lora));
        let (d, f) = (shape.d_model, shape.d_ff);
        let sizes = [d, d * 3 * d, shape.n_heads, d * d, d, d * f, f * d, shape.lora_ranges().1];
        Self { shape, values: sizes.map(numbers) }
    }

    fn weights(&self) -> BlockWeights<'_> {
        let [input_norm, qkv_proj, q_scale, o_proj, mlp_norm, up_proj, down_proj, lora] =
            self.values.each_ref().map(Vec::as_slice);
        BlockWeights { input_norm, qkv_proj, q_scale, o_proj, mlp_norm, up_proj, down_proj, lora }
    }
}

/// One fused block. Items are tokens.
#[divan::bench]
fn block_forward_pass(bencher: Bencher) {
    let (block, layout) = (Block::new(), layout());
    let x = numbers(layout.n_tokens() * block.shape.d_model);
    bencher
        .counter(ItemsCount::new(layout.n_tokens()))
        .bench_local(|| block_forward(&block.shape, &layout, &block.weights(), &x, true));
}

/// Its gradients, as a LoRA fit asks for them.
#[divan::bench]
fn block_backward_pass(bencher: Bencher) {
    let (block, layout) = (Block::new(), layout());
    let x = numbers(layout.n_tokens() * block.shape.d_model);
    let (y, state) = block_forward(&block.shape, &layout, &block.weights(), &x, true);
    let state = state.expect("it was to be kept");
    let wanted = Wanted { input: true, weights: false, lora: true };
    bencher.counter(ItemsCount::new(layout.n_tokens())).bench_local(|| {
        block_backward(&block.shape, &layout, &block.weights(), &x, &state, &y, wanted)
    });
}

/// Rows, inner size and columns of the shipped model's linear layers over a thousand tokens.
const PRODUCTS: [[usize; 3]; 3] = [[1024, 128, 384], [1024, 128, 512], [1024, 512, 128]];

/// A product on one thread, the right-hand side packed before. Items are floating-point operations.
fn matmul(bencher: Bencher, [m, k, n]: [usize; 3], precision: Precision) {
    let (a, b) = (numbers(m * k), numbers(k * n));
    let packed = Packed::in_precision(Mat::new(&b, k, n), precision.on_this_machine());
    let mut c = vec![0.0; m * n];
    bencher
        .counter(ItemsCount::new(2 * m * k * n))
        .bench_local(|| product(black_box(&mut c), Mat::new(&a, m, k), &packed));
}

#[divan::bench(args = PRODUCTS)]
fn matmul_f32(bencher: Bencher, sizes: [usize; 3]) {
    matmul(bencher, sizes, Precision::F32);
}

#[divan::bench(args = PRODUCTS)]
fn matmul_bf16(bencher: Bencher, sizes: [usize; 3]) {
    matmul(bencher, sizes, Precision::Bf16);
}
