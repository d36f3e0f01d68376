//! wgpu and CUDA agree with the CPU: the same fit and the same predictions, by other kernels.
//!
//! Any Vulkan adapter will do; on a machine without a graphics card, Mesa's software Vulkan. Without an adapter
//! the tests say that they are skipped, and fail if `ARC_TTT_REQUIRE_WGPU` is set.

use std::io::Write;
use std::sync::atomic::AtomicBool;

use arc_ttt::arc::{ColorPermutation, Dihedral, Example, Grid, Task, Test, View};
use arc_ttt::candidate::CellMap;
use arc_ttt::dataset::Format;
use arc_ttt::device::{self, DeviceChoice, DeviceError};
use arc_ttt::engine::{Engine, Fit, FitLimits, GridEngine};
use arc_ttt::kernel::Precision;
use arc_ttt::model::{ContextTokens, GridModel, GridModelConfig, Weights};
use arc_ttt::pretrain::{Corpus, PretrainConfig, Trainer, Training, Until};
use arc_ttt::public::demo;
use arc_ttt::recipe::Recipe;
use arc_ttt::rng;
use burn::tensor::Device;
use rand::Rng;

/// Gradient steps of the compared fits, half of them in each format.
const STEPS: usize = 10;

/// How far a device may be from the CPU.
#[derive(Clone, Copy)]
struct Tolerance {
    /// Largest difference between the two devices' losses, as a share of the loss.
    loss: f32,
    /// Largest difference between log-probabilities before the fit, in nats.
    base: f32,
    /// Largest difference after it. AdamW divides each gradient by its own size, so in the first steps it turns
    /// rounding errors of tiny gradients into steps as large as any other.
    fitted: f32,
}

const WGPU: Tolerance = Tolerance { loss: 1e-3, base: 1e-4, fitted: 2e-2 };

/// Products of f32 may be computed in TensorFloat-32, whose factors have 10 bits.
const CUDA: Tolerance = Tolerance { loss: 1e-2, base: 5e-3, fitted: 1e-1 };

/// The wgpu device with its name, or `None` and a loud word if there is none.
fn wgpu() -> Option<(Device, String)> {
    open(DeviceChoice::Wgpu(None), std::env::var_os("ARC_TTT_REQUIRE_WGPU").is_some())
}

/// The first CUDA device, likewise; without a word in a build that has no CUDA.
fn cuda() -> Option<(Device, String)> {
    if cfg!(feature = "cuda") { open(DeviceChoice::Cuda(0), false) } else { None }
}

fn open(choice: DeviceChoice, required: bool) -> Option<(Device, String)> {
    match device::open(choice) {
        Ok((device, choice)) => Some((device, choice.to_string())),
        Err(error @ DeviceError::NotFound { .. }) if !required => {
            // Not `eprintln`, which the test runner would keep to itself.
            let notice = format!("\nSKIPPED, nothing was compared: {error}\n\n");
            std::io::stderr().write_all(notice.as_bytes()).unwrap();
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn weights() -> Weights {
    let config = GridModelConfig {
        d_model: 32,
        n_layers: 2,
        n_heads: 4,
        d_ff: 64,
        n_task_tokens: 4,
        context: ContextTokens::Cells,
    };
    let mut weights = GridModel::random(&config, 1, &Device::flex()).to_weights();
    weights.sha256 = "random".into();
    // A random head, so that the untrained model has opinions.
    let mut rng = rng::stream(0, "test", "head", 0);
    let head = weights.tensors.get_mut("head").unwrap();
    head.values.fill_with(|| rng.random_range(-0.3..0.3));
    weights
}

/// The output is the input turned and recolored; the three pairs have three shapes.
fn task() -> Task {
    let input = |seed: usize, height: usize, width: usize| {
        Grid::from_fn(height, width, |r, c| ((r * 5 + c * 3 + seed * 7) % 4) as u8)
    };
    let output = |g: &Grid| {
        let colors = [0, 5, 7, 2];
        let turned = Dihedral::Rotate90.apply(g);
        Grid::from_fn(turned.height(), turned.width(), |r, c| colors[usize::from(turned.get(r, c))])
    };
    let pair = |seed, height, width| {
        let input = input(seed, height, width);
        Example { output: output(&input), input }
    };
    let test = input(9, 4, 3);
    Task {
        id: "turn".into(),
        examples: vec![pair(0, 3, 4), pair(1, 5, 2), pair(2, 3, 3)],
        tests: vec![Test { output: Some(output(&test)), input: test }],
    }
}

fn views() -> Vec<View> {
    let mut rng = rng::stream(0, "test", "views", 0);
    let mut view =
        |dihedral, order| View { dihedral, colors: ColorPermutation::random(&mut rng), order };
    vec![
        View::IDENTITY,
        view(Dihedral::Rotate90, vec![2, 0, 1]),
        view(Dihedral::FlipRows, vec![1, 0, 2]),
    ]
}

fn fit(engine: &GridEngine) -> Fit {
    let overrides = [
        "fit.format=both",
        "fit.precision=f32",
        "fit.check_every=5",
        "fit.patience=0",
        "lora.rank=4",
    ];
    let recipe = Recipe::resolve("default", &overrides).unwrap();
    let plan = recipe.fit_plan();
    let limits = FitLimits {
        seconds: None,
        steps: Some(STEPS),
        progress: None,
        memory_bytes: 1 << 30,
        interrupted: &AtomicBool::new(false),
    };
    engine.fit(&task(), plan, limits, &mut |_| ()).unwrap()
}

fn largest_difference(a: &[CellMap], b: &[CellMap]) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut largest = 0.0f32;
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.view, a.format, a.shape), (&b.view, b.format, b.shape));
        assert_eq!(a.log_probs.len(), b.log_probs.len());
        for (a, b) in a.log_probs.iter().flatten().zip(b.log_probs.iter().flatten()) {
            assert!(a.is_finite() && b.is_finite(), "{a} and {b}");
            largest = largest.max((a - b).abs());
        }
    }
    largest
}

#[test]
fn on_wgpu_a_lora_fit_and_its_predictions_agree_with_the_cpu() {
    if let Some((device, name)) = wgpu() {
        compare_with_the_cpu(&device, &name, WGPU);
    }
}

#[test]
fn on_cuda_a_lora_fit_and_its_predictions_agree_with_the_cpu() {
    if let Some((device, name)) = cuda() {
        compare_with_the_cpu(&device, &name, CUDA);
    }
}

fn compare_with_the_cpu(device: &Device, name: &str, tolerance: Tolerance) {
    let (weights, task, views) = (weights(), task(), views());
    let gpu = GridEngine::new(&weights, device, name).unwrap();
    let cpu = GridEngine::new(&weights, &Device::flex(), "cpu").unwrap();
    let predict = |engine: &GridEngine, fit: Option<&Fit>| {
        engine.cell_maps(&task, 0, fit.and_then(|f| f.adapter.as_ref()), &views).unwrap()
    };

    let base = predict(&cpu, None);
    let off = largest_difference(&base, &predict(&gpu, None));
    assert!(off < tolerance.base, "in-context predictions are off by {off}");

    let (on_cpu, on_gpu) = (fit(&cpu), fit(&gpu));
    assert_eq!(on_gpu.steps, STEPS);
    for (a, b) in on_cpu.curve.iter().zip(&on_gpu.curve) {
        assert_eq!(a.format, b.format);
        let off = (a.loss - b.loss).abs() / a.loss;
        println!("step {:>2} {:?}: loss {} and {}", a.step, a.format, a.loss, b.loss);
        assert!(off < tolerance.loss, "step {}: loss {} and {}", a.step, a.loss, b.loss);
    }
    let fitted = predict(&cpu, Some(&on_cpu));
    assert_eq!(fitted.len(), 2 * views.len());
    let in_context: Vec<CellMap> =
        fitted.iter().filter(|m| m.format == Format::Icl).cloned().collect();
    let moved = largest_difference(&base, &in_context);
    assert!(moved > 10.0 * tolerance.fitted, "the fit moved predictions by {moved} only");
    let off = largest_difference(&fitted, &predict(&gpu, Some(&on_gpu)));
    println!("fitted predictions are off by {off}, moved by {moved}");
    assert!(off < tolerance.fitted, "fitted predictions are off by {off}");
    // The same adapter on the other device: no fit in between to make rounding errors grow.
    let off = largest_difference(&fitted, &predict(&gpu, Some(&on_cpu)));
    assert!(off < tolerance.base, "an adapter from the CPU is off by {off}");
}

#[test]
fn on_wgpu_a_training_agrees_with_the_cpu() {
    if let Some((device, _)) = wgpu() {
        train_like_the_cpu(&device, WGPU);
    }
}

#[test]
fn on_cuda_a_training_agrees_with_the_cpu() {
    if let Some((device, _)) = cuda() {
        train_like_the_cpu(&device, CUDA);
    }
}

fn train_like_the_cpu(device: &Device, tolerance: Tolerance) {
    let recipe = include_str!("../data/recipes/pretrain.toml");
    let mut config: PretrainConfig = toml::from_str(recipe).unwrap();
    config.model = weights().config;
    config.precision = Precision::F32;
    config.data.synth = 0.0;
    config.episode.cells_per_step = 200;
    config.episode.e2e_share = 0.5;
    config.optimizer.warmup_steps = 1;
    let tasks = demo().tasks.into_iter().take(6).collect();
    let corpus = Corpus::new(tasks, Vec::new(), &config);
    let mut still = config.clone();
    let optimizer = &mut still.optimizer;
    (optimizer.matrix_learning_rate, optimizer.learning_rate) = (0.0, 0.0);
    optimizer.task_learning_rate = 0.0;
    let steps = |config: &PretrainConfig, device: &Device| -> Vec<f32> {
        let mut trainer = Trainer::new(config, &corpus, None, device).unwrap();
        let mut step = || trainer.train_step(Until::Steps(100)).unwrap().formats;
        (0..6).map(|_| step().map(|format| format.loss).iter().sum()).collect()
    };
    let (on_cpu, on_device) = (steps(&config, &Device::flex()), steps(&config, device));
    let unmoved = steps(&still, &Device::flex());
    println!("{on_cpu:?} and {on_device:?}, without steps {unmoved:?}");
    let moved = (on_cpu[5] - unmoved[5]).abs();
    assert!(moved > tolerance.loss * on_cpu[5], "the steps moved the loss by {moved} only");
    for (a, b) in on_cpu.iter().zip(&on_device) {
        assert!((a - b).abs() < tolerance.loss * a, "loss {a} and {b}");
    }
}

#[test]
fn adapters_are_listed_by_the_names_that_open_them() {
    let Some((_, name)) = wgpu() else { return };
    let listed = device::devices();
    let adapters: Vec<_> = listed.iter().filter(|d| d.name.starts_with("wgpu")).collect();
    println!("{adapters:#?}");
    assert!(adapters.iter().any(|d| d.name == name && d.problem.is_none()));
    for adapter in &adapters {
        let choice: DeviceChoice = adapter.name.parse().unwrap();
        assert_eq!(
            device::open(choice).map(|(_, choice)| choice.to_string()).ok(),
            adapter.problem.is_none().then(|| adapter.name.clone())
        );
    }
    let beyond = DeviceChoice::Wgpu(Some(adapters.len()));
    let error = device::open(beyond).unwrap_err();
    assert!(matches!(error, DeviceError::NotFound { .. }), "{error}");
}

#[test]
fn auto_leaves_software_adapters_alone() {
    if wgpu().is_none() {
        return;
    }
    let (_, choice) = device::open(DeviceChoice::Auto).unwrap();
    let listed = device::devices();
    let chosen = listed.iter().find(|d| d.name == choice.to_string()).unwrap();
    assert!(!chosen.description.contains("software"), "{chosen:?}");
    assert_eq!(chosen.problem, None);
}
