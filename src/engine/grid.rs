//! The grid transformer behind the [`Engine`] interface: per-task fit and prediction.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::tensor::{Device, Tensor};

use super::encode::{Encoded, Told, canvas_of, frame_code, query_canvas, shown_canvas};
use super::{
    Adapter, Check, Engine, EngineError, Fit, FitLimits, FitPlan, FitStep, HostTensor, ModelInfo,
    StopReason,
};
use crate::adapter::{FitConfig, FitFormat, FitMethod, LoraConfig, TARGET_MODULES};
use crate::arc::{Task, View, infer_shape};
use crate::candidate::CellMap;
use crate::dataset::{Episode, EpisodeSource, Format, Frame, Query};
use crate::kernel::LoraShape;
use crate::model::{
    AdamW, Batch, CheckpointError, Conditioning, GridModel, Lora, Moments, Weights, clip_factor,
    cross_entropy, log_probabilities, normal, to_device, to_host,
};
use crate::rng::stream;

/// Canvas cells in one forward pass of a prediction.
const PREDICT_CELLS: usize = 8192;

/// Losses that are averaged to judge a step without a check.
const LOSS_WINDOW: usize = 16;

/// A loaded grid transformer.
#[derive(Debug)]
pub struct GridEngine {
    model: GridModel,
    info: ModelInfo,
    device: Device,
}

impl GridEngine {
    /// Puts weights on a device; `device_name` is how `--device` spells it.
    ///
    /// # Errors
    /// [`CheckpointError`] if a tensor is missing, unknown or of another shape.
    pub fn new(
        weights: &Weights,
        device: &Device,
        device_name: &str,
    ) -> Result<Self, CheckpointError> {
        let model = GridModel::from_weights(weights, device)?;
        let parameters = model.n_parameters();
        let info = ModelInfo {
            name: format!("grid-{:.1}M", parameters as f64 / 1e6),
            sha256: weights.sha256.clone(),
            parameters,
            device: device_name.to_owned(),
        };
        Ok(Self { model, info, device: device.clone() })
    }

    /// Bytes that one canvas cell costs in a training step: what the blocks keep and their scratch space.
    fn bytes_per_cell(&self) -> u64 {
        let c = &self.model.config;
        let kept = c.n_layers * (6 * c.d_model + c.d_ff + 4 * c.n_heads);
        let scratch = 12 * c.d_model + 3 * c.d_ff;
        4 * (kept + scratch) as u64
    }
}

/// Told shapes for training on a task: as the shape rule allows at its tests.
fn is_told(task: &Task) -> bool {
    task.tests.iter().all(|t| infer_shape(&task.examples, &t.input).is_some())
}

/// Removes queries, then context pairs, until the episode has at most `most` cells.
fn trim(mut episode: Episode, most: usize) -> Episode {
    let cells = |i: usize| {
        let (h, w) = canvas_of(std::slice::from_ref(&episode.pairs[i]));
        h * w
    };
    let sizes: Vec<usize> = (0..episode.pairs.len()).map(cells).collect();
    let total = |queries: &[Query]| {
        let read = (0..sizes.len()).filter(|i| queries.iter().any(|q| q.context.contains(i)));
        read.map(|i| sizes[i]).sum::<usize>()
            + queries.iter().map(|q| sizes[q.target]).sum::<usize>()
    };
    while episode.queries.len() > 1 && total(&episode.queries) > most {
        episode.queries.pop();
    }
    while total(&episode.queries) > most && episode.queries[0].context.len() > 1 {
        episode.queries[0].context.pop();
    }
    episode
}

/// What a fit moves: the adapter's tensors in a fixed order, each with its optimizer state.
struct Parameters {
    method: FitMethod,
    shape: Option<LoraShape>,
    /// LoRA vectors (or the trunk's weights), one list; then task tokens and frames where they are fitted.
    values: Vec<Tensor<2>>,
    moments: Vec<Moments>,
    n_adapter: usize,
}

impl Parameters {
    fn new(model: &GridModel, plan: FitPlan<'_>, task: &str, e2e: bool, adam: &AdamW) -> Self {
        let device = model.embed.device();
        let mut values = Vec::new();
        let shape = (plan.fit.method == FitMethod::Lora).then(|| lora_shape(plan.lora));
        match shape {
            Some(shape) => {
                let block = model.config.block_shape(Some(shape));
                for i in 0..model.config.n_layers {
                    let mut rng = stream(plan.seed, task, "lora", i as u64);
                    let (ranges, len) = block.lora_ranges();
                    let mut flat = vec![0.0; len];
                    for ((rows, _), range) in block.linears().into_iter().zip(ranges) {
                        if let Some((a, _)) = range {
                            // B starts at zero, so that the fit starts from the base model.
                            let std = (rows as f32).powf(-0.5);
                            flat[a].fill_with(|| std * normal(&mut rng));
                        }
                    }
                    values.push(to_device(
                        &HostTensor { shape: vec![1, len], values: flat },
                        &device,
                    ));
                }
            }
            None => {
                model.map(&mut |name, tensor| {
                    if name.starts_with("blocks.") {
                        values.push(tensor.clone());
                    }
                    tensor
                });
            }
        }
        let n_adapter = values.len();
        if e2e {
            values.push(model.task_tokens.clone());
            values.push(model.frames.clone());
        }
        let moments = values.iter().map(|v| adam.init(v)).collect();
        Self { method: plan.fit.method, shape, values, moments, n_adapter }
    }

    /// The model with these parameters in place, its task table, and its LoRA.
    fn install(
        &self,
        base: &GridModel,
        values: &[Tensor<2>],
    ) -> (GridModel, Option<Tensor<2>>, Option<Lora>) {
        let mut model = base.clone();
        let mut lora = None;
        match self.method {
            FitMethod::Lora => {
                let shape = self.shape.expect("a LoRA fit has a shape");
                lora = Some(Lora { shape, blocks: values[..self.n_adapter].to_vec() });
            }
            FitMethod::Full => model = with_trunk(base, &values[..self.n_adapter]),
        }
        let tasks = values.get(self.n_adapter).cloned();
        if let Some(frames) = values.get(self.n_adapter + 1) {
            model.frames = frames.clone();
        }
        (model, tasks, lora)
    }

    fn adapter(
        &self,
        model: &GridModel,
        values: &[Tensor<2>],
        config: &LoraConfig,
        base: &str,
        formats: &[Format],
    ) -> Adapter {
        let mut tensors = BTreeMap::new();
        match self.shape {
            Some(shape) => {
                for (i, flat) in values[..self.n_adapter].iter().enumerate() {
                    store_lora(model, shape, i, &to_host(flat).values, &mut tensors);
                }
            }
            None => {
                let mut next = values[..self.n_adapter].iter();
                model.map(&mut |name, tensor| {
                    if name.starts_with("blocks.") {
                        let value = next.next().expect("as many as the trunk has");
                        tensors.insert(format!("{PREFIX}{name}"), to_host(value));
                    }
                    tensor
                });
            }
        }
        if let Some(tasks) = values.get(self.n_adapter) {
            tensors.insert(TASK_TOKENS.into(), to_host(tasks));
            tensors.insert(FRAMES.into(), to_host(&values[self.n_adapter + 1]));
        }
        let lora = self.shape.map(|_| config.clone());
        Adapter { base: base.to_owned(), formats: formats.to_vec(), lora, tensors }
    }
}

const PREFIX: &str = "base_model.model.";
const TASK_TOKENS: &str = "task_tokens";
const FRAMES: &str = "frames";

fn with_trunk(base: &GridModel, values: &[Tensor<2>]) -> GridModel {
    let mut next = values.iter().cloned();
    base.map(&mut |name, tensor| {
        if name.starts_with("blocks.") {
            next.next().expect("as many as the trunk has")
        } else {
            tensor
        }
    })
}

fn lora_shape(config: &LoraConfig) -> LoraShape {
    let targets = TARGET_MODULES.map(|name| config.target_modules.iter().any(|t| t == name));
    LoraShape { rank: config.rank, scale: config.scale(), targets }
}

/// `[rows, columns]` row by row, transposed.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
}

/// PEFT stores `A` as `[rank, in]` and `B` as `[out, rank]`; here they are `[in, rank]` and `[rank, out]`.
fn store_lora(
    model: &GridModel,
    shape: LoraShape,
    layer: usize,
    flat: &[f32],
    into: &mut BTreeMap<String, HostTensor>,
) {
    let block = model.config.block_shape(Some(shape));
    let (ranges, _) = block.lora_ranges();
    let r = shape.rank;
    for ((module, (rows, columns)), range) in TARGET_MODULES.iter().zip(block.linears()).zip(ranges)
    {
        if let Some((a, b)) = range {
            let name = |part: &str| format!("{PREFIX}blocks.{layer}.{module}.lora_{part}.weight");
            let a = HostTensor { shape: vec![r, rows], values: transposed(&flat[a], rows, r) };
            let b =
                HostTensor { shape: vec![columns, r], values: transposed(&flat[b], r, columns) };
            into.insert(name("A"), a);
            into.insert(name("B"), b);
        }
    }
}

fn take<'a>(
    adapter: &'a Adapter,
    name: &str,
    shape: &[usize],
) -> Result<&'a HostTensor, EngineError> {
    let bad = |problem: String| EngineError::BadTensor { name: name.to_owned(), problem };
    let tensor = adapter.tensors.get(name).ok_or_else(|| bad("is missing".into()))?;
    if tensor.shape != shape {
        return Err(bad(format!("has the shape {:?} instead of {shape:?}", tensor.shape)));
    }
    Ok(tensor)
}

impl GridEngine {
    /// The model under an adapter, with the task tokens and LoRA that it brings.
    fn adapted(
        &self,
        adapter: Option<&Adapter>,
    ) -> Result<(GridModel, Option<Tensor<2>>, Option<Lora>), EngineError> {
        let Some(adapter) = adapter else { return Ok((self.model.clone(), None, None)) };
        if adapter.base != self.info.sha256 {
            let (expected, found) = (self.info.sha256.clone(), adapter.base.clone());
            return Err(EngineError::WrongBase { expected, found });
        }
        let mut model = self.model.clone();
        let lora = match &adapter.lora {
            Some(config) => Some(self.read_lora(adapter, lora_shape(config))?),
            None => {
                let mut problem = None;
                model = self.model.map(&mut |name, tensor| {
                    if !name.starts_with("blocks.") || problem.is_some() {
                        return tensor;
                    }
                    match take(adapter, &format!("{PREFIX}{name}"), &tensor.dims()) {
                        Ok(value) => to_device(value, &self.device),
                        Err(error) => {
                            problem = Some(error);
                            tensor
                        }
                    }
                });
                if let Some(error) = problem {
                    return Err(error);
                }
                None
            }
        };
        let mut tasks = None;
        if adapter.formats.contains(&Format::E2e) {
            tasks = Some(to_device(
                take(adapter, TASK_TOKENS, &model.task_tokens.dims())?,
                &self.device,
            ));
            model.frames = to_device(take(adapter, FRAMES, &model.frames.dims())?, &self.device);
        }
        Ok((model, tasks, lora))
    }

    fn read_lora(&self, adapter: &Adapter, shape: LoraShape) -> Result<Lora, EngineError> {
        let block = self.model.config.block_shape(Some(shape));
        let (ranges, len) = block.lora_ranges();
        let r = shape.rank;
        let mut blocks = Vec::with_capacity(self.model.config.n_layers);
        for layer in 0..self.model.config.n_layers {
            let mut flat = vec![0.0; len];
            for ((module, (rows, columns)), range) in
                TARGET_MODULES.iter().zip(block.linears()).zip(ranges.clone())
            {
                if let Some((a, b)) = range {
                    let name =
                        |part: &str| format!("{PREFIX}blocks.{layer}.{module}.lora_{part}.weight");
                    let stored = take(adapter, &name("A"), &[r, rows])?;
                    flat[a].copy_from_slice(&transposed(&stored.values, r, rows));
                    let stored = take(adapter, &name("B"), &[columns, r])?;
                    flat[b].copy_from_slice(&transposed(&stored.values, columns, r));
                }
            }
            blocks.push(to_device(&HostTensor { shape: vec![1, len], values: flat }, &self.device));
        }
        Ok(Lora { shape, blocks })
    }

    /// Predicts each demonstration from the others, as they stand, and counts exact answers.
    fn held_out_check(
        &self,
        task: &Task,
        told: bool,
        most: usize,
        parameters: &Parameters,
        values: &[Tensor<2>],
    ) -> Check {
        let (model, _, lora) = parameters.install(&self.model, values);
        let n = task.examples.len();
        let mut check = Check { exact: 0, of: n };
        let canvas = canvas_of(&task.examples);
        // One demonstration at a time if all together are too large.
        let all: Vec<Query> = (0..n)
            .map(|target| Query { target, context: (0..n).filter(|&i| i != target).collect() })
            .collect();
        let total = 2 * n * canvas.0 * canvas.1;
        let groups: Vec<Vec<Query>> =
            if total <= most { vec![all] } else { all.into_iter().map(|q| vec![q]).collect() };
        for queries in groups {
            let episode =
                trim(Episode { pairs: task.examples.clone(), queries, frame: None }, most);
            let mut encoded = Encoded::default();
            encoded.add(&episode, Format::Icl, 0, |p| tell(told, p.output.shape(), canvas));
            let log_probs = log_probabilities(model.forward(&encoded.batch, None, lora.as_ref()));
            let predicted: Vec<u8> = log_probs.iter().map(|p| most_probable(p)).collect();
            check.exact += encoded.exact(&predicted).into_iter().filter(|&e| e).count();
        }
        check
    }
}

fn tell(told: bool, output: (usize, usize), canvas: (usize, usize)) -> Told {
    if told { Told::Shape(output) } else { Told::Nothing { canvas } }
}

fn most_probable(log_probs: &[f32; 11]) -> u8 {
    (1..11).fold(0, |best, i| if log_probs[i] > log_probs[best] { i } else { best }) as u8
}

/// The learning rate's factor at `progress` of the fit.
fn rate(config: &FitConfig, progress: f64) -> f64 {
    if progress < config.warmup {
        return (progress / config.warmup).max(0.02);
    }
    let cosine = (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0;
    config.final_learning_rate + (1.0 - config.final_learning_rate) * cosine
}

/// The weights to keep: most demonstrations right, then lowest recent loss, then latest.
struct Best {
    exact: usize,
    loss: f32,
    step: usize,
    values: Vec<Tensor<2>>,
}

/// Puts the weights after the last step of `curve` in the place of the best ones, if they are better.
///
/// A step without a check of its own is judged by the loss alone.
fn keep_best(best: &mut Option<Best>, curve: &[FitStep], values: &[Tensor<2>]) {
    let Some(last) = curve.last() else { return };
    let recent = &curve[curve.len().saturating_sub(LOSS_WINDOW)..];
    let loss = recent.iter().map(|s| s.loss).sum::<f32>() / recent.len() as f32;
    let so_far = best.as_ref().map_or(0, |b| b.exact);
    let exact = last.check.map_or(so_far, |c| c.exact);
    let better = |b: &Best| exact > b.exact || (exact == b.exact && loss <= b.loss);
    if best.as_ref().is_none_or(better) {
        *best = Some(Best { exact, loss, step: last.step, values: values.to_vec() });
    }
}

impl Engine for GridEngine {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn fit(
        &self,
        task: &Task,
        plan: FitPlan<'_>,
        limits: FitLimits<'_>,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fit, EngineError> {
        let started = Instant::now();
        let config = plan.fit;
        let wanted: &[Format] = match config.format {
            FitFormat::None => &[],
            FitFormat::Icl => &[Format::Icl],
            FitFormat::E2e => &[Format::E2e],
            FitFormat::Both => &[Format::Icl, Format::E2e],
        };
        let mut notes = Vec::new();
        let mut sources: Vec<EpisodeSource> = Vec::new();
        for &format in wanted {
            let source = EpisodeSource::new(task, plan.dataset, format, plan.seed);
            if let Some(problem) = source.problem() {
                notes.push(problem.to_string());
            }
            if !sources.iter().any(|s| s.format() == source.format()) {
                sources.push(source);
            }
        }
        if sources.is_empty() {
            let stop = StopReason::NotFitted;
            return Ok(Fit {
                adapter: None,
                curve: Vec::new(),
                steps: 0,
                best_step: 0,
                stop,
                notes,
            });
        }
        let formats: Vec<Format> = sources.iter().map(EpisodeSource::format).collect();
        let most = self.cells_within(task, &limits, config.max_tokens)?;
        let told = is_told(task);
        if !told {
            notes.push("the output's shape is predicted: no shape rule fits".into());
        }

        let adam = AdamW { betas: config.betas, weight_decay: config.weight_decay };
        let mut parameters =
            Parameters::new(&self.model, plan, &task.id, formats.contains(&Format::E2e), &adam);
        // The base model as constants of this fit's own graph.
        let mut base = self.model.map(&mut |_, tensor| Tensor::from_inner(tensor));
        base.precision = config.precision;
        let n_steps = limits.progress.map_or(limits.steps.unwrap_or(config.steps), <[f32]>::len);
        let finite = sources.iter().map(EpisodeSource::steps).try_fold(0, |sum, n| Some(sum + n?));
        let n_steps = finite.map_or(n_steps, |n| n_steps.min(n as usize));
        let mut curve: Vec<FitStep> = Vec::new();
        let mut best: Option<Best> = None;
        let mut perfect = 0;
        let mut stop = StopReason::Steps;
        for step in 0..n_steps {
            let elapsed = started.elapsed().as_secs_f64();
            let progress = match limits.progress {
                Some(recorded) => recorded[step],
                None => {
                    let by_time = limits.seconds.map_or(0.0, |s| elapsed / s);
                    by_time.max(step as f64 / n_steps as f64) as f32
                }
            };
            if limits.interrupted.load(Ordering::Relaxed) {
                stop = StopReason::Interrupted;
                break;
            }
            // A step that would end farther behind the limit than this moment is before it is not begun.
            let half_a_step = elapsed / (2 * step).max(1) as f64;
            let over = |seconds| step > 0 && elapsed + half_a_step >= seconds;
            if limits.progress.is_none() && limits.seconds.is_some_and(over) {
                stop = StopReason::Budget;
                break;
            }
            let source = &sources[step % sources.len()];
            let format = source.format();
            let episode = trim(source.episode((step / sources.len()) as u64), most);
            let mut encoded = Encoded::default();
            let canvas = canvas_of(&episode.pairs);
            encoded.add(&episode, format, 0, |p| tell(told, p.output.shape(), canvas));

            let factor = rate(config, f64::from(progress));
            let loss =
                gradient_step(&base, &mut parameters, &adam, config, factor, step + 1, &encoded);
            if !loss.is_finite() {
                return Err(EngineError::Diverged(loss, step + 1));
            }
            let due = config.check_every > 0 && (step + 1) % config.check_every == 0;
            let check = (due && formats.contains(&Format::Icl))
                .then(|| self.held_out_check(task, told, most, &parameters, &parameters.values));
            let seconds = started.elapsed().as_secs_f64();
            let record = FitStep { step: step + 1, format, loss, seconds, progress, check };
            on_step(&record);
            curve.push(record);
            if due {
                keep_best(&mut best, &curve, &parameters.values);
            }
            if let Some(check) = check {
                perfect = if check.exact == check.of { perfect + 1 } else { 0 };
                if config.patience > 0 && perfect >= config.patience && limits.progress.is_none() {
                    stop = StopReason::HeldOut;
                    break;
                }
            }
        }
        let steps = curve.len();
        // The last step is judged like any other, whatever ended the fit: a repetition of it must choose the
        // same weights.
        if best.as_ref().is_none_or(|best| best.step < steps) {
            keep_best(&mut best, &curve, &parameters.values);
        }
        let (best_step, values) =
            best.map_or((steps, parameters.values.clone()), |best| (best.step, best.values));
        let adapter =
            parameters.adapter(&self.model, &values, plan.lora, &self.info.sha256, &formats);
        Ok(Fit { adapter: Some(adapter), curve, steps, best_step, stop, notes })
    }

    fn predict(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        views: &[View],
    ) -> Result<Vec<CellMap>, EngineError> {
        let (model, tasks, lora) = self.adapted(adapter)?;
        let formats = adapter.map_or(vec![Format::Icl], |a| a.formats.clone());
        let input = &task.tests[test].input;
        let shape = infer_shape(&task.examples, input);
        let canvas = canvas_of(&task.examples);
        let mut maps = Vec::with_capacity(views.len() * formats.len());
        let mut batch = Batch::default();
        let mut pending: Vec<(&View, Format, Option<(usize, usize)>)> = Vec::new();
        let mut flush =
            |batch: &mut Batch, pending: &mut Vec<(&View, Format, Option<(usize, usize)>)>| {
                let log_probs =
                    log_probabilities(model.forward(batch, tasks.as_ref(), lora.as_ref()));
                let mut cells = log_probs.into_iter();
                for ((view, format, shape), (canvas, _)) in pending.drain(..).zip(&batch.queries) {
                    maps.push(CellMap {
                        view: view.clone(),
                        format,
                        height: canvas.height,
                        width: canvas.width,
                        log_probs: cells.by_ref().take(canvas.n_cells()).collect(),
                        shape,
                    });
                }
                *batch = Batch::default();
            };
        for view in views {
            let shown_shape = shape.map(|s| view.dihedral.apply_shape(s));
            let told = match shown_shape {
                Some(shape) => Told::Shape(shape),
                None => Told::Nothing { canvas: view.dihedral.apply_shape(canvas) },
            };
            let query = query_canvas(&view.apply(input), told);
            for &format in &formats {
                let conditioning = match format {
                    Format::Icl => {
                        let first = batch.context.len();
                        let pairs =
                            task.examples.iter().map(|e| shown_canvas(&view.apply_example(e)));
                        batch.context.extend(pairs);
                        Conditioning::Context((first..batch.context.len()).collect())
                    }
                    Format::E2e => {
                        let frame = Frame { dihedral: view.dihedral, colors: view.colors };
                        Conditioning::Task { task: 0, frame: frame_code(&frame) }
                    }
                };
                batch.queries.push((query.clone(), conditioning));
                pending.push((view, format, shown_shape));
                if batch.n_cells() >= PREDICT_CELLS {
                    flush(&mut batch, &mut pending);
                }
            }
        }
        if !pending.is_empty() {
            flush(&mut batch, &mut pending);
        }
        Ok(maps)
    }
}

impl GridEngine {
    /// Canvas cells that a step may have: the recipe's limit or what the memory allows.
    fn cells_within(
        &self,
        task: &Task,
        limits: &FitLimits<'_>,
        most: usize,
    ) -> Result<usize, EngineError> {
        let (h, w) = canvas_of(&task.examples);
        let per_cell = self.bytes_per_cell();
        let allowed = (limits.memory_bytes / per_cell) as usize;
        // One query that reads one pair is the least that can be learnt from.
        let least = 2 * h * w;
        if allowed < least {
            let needed = least as u64 * per_cell;
            return Err(EngineError::Memory { needed, allowed: limits.memory_bytes });
        }
        Ok(most.min(allowed).max(least))
    }
}

/// One step of AdamW on an encoded episode; gives the loss.
fn gradient_step(
    base: &GridModel,
    parameters: &mut Parameters,
    adam: &AdamW,
    config: &FitConfig,
    factor: f64,
    t: usize,
    encoded: &Encoded,
) -> f32 {
    let values: Vec<Tensor<2>> =
        parameters.values.iter().map(|v| Tensor::from_inner(v.clone()).require_grad()).collect();
    let (model, tasks, lora) = parameters.install(base, &values);
    let logits = model.forward(&encoded.batch, tasks.as_ref(), lora.as_ref());
    let loss = cross_entropy(logits, &encoded.targets, &encoded.weights);
    let value = loss.clone().inner().into_scalar::<f32>();
    if !value.is_finite() {
        return value;
    }
    let mut grads = loss.backward();
    let gradients: Vec<Option<Tensor<2>>> =
        values.iter().map(|v| v.grad_remove(&mut grads)).collect();
    let present: Vec<Tensor<2>> = gradients.iter().flatten().cloned().collect();
    let clip = clip_factor(&present, config.clip_norm);
    for (i, gradient) in gradients.into_iter().enumerate() {
        // Task tokens take no part in an in-context step, and then keep their momentum too.
        let Some(gradient) = gradient else { continue };
        let peak =
            if i < parameters.n_adapter { config.learning_rate } else { config.task_learning_rate };
        let value = parameters.values[i].clone();
        let moments = &mut parameters.moments[i];
        parameters.values[i] = adam.step(peak * factor, t, value, gradient * clip, moments);
    }
    value
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::arc::{ColorPermutation, Dihedral, Example, Grid, Test};
    use crate::model::{ContextTokens, GridModelConfig};
    use crate::recipe::Recipe;

    static RUNNING: AtomicBool = AtomicBool::new(false);

    fn engine() -> GridEngine {
        let config = GridModelConfig {
            d_model: 32,
            n_layers: 2,
            n_heads: 4,
            d_ff: 64,
            n_task_tokens: 4,
            context: ContextTokens::Cells,
        };
        let device = Device::flex();
        let mut weights = GridModel::random(&config, 1, &device).to_weights();
        weights.sha256 = "base".into();
        // A random head, so that the untrained model has opinions.
        let head = weights.tensors.get_mut("head").unwrap();
        let mut rng = stream(0, "test", "head", 0);
        head.values.fill_with(|| 0.2 * normal(&mut rng));
        GridEngine::new(&weights, &device, "cpu").unwrap()
    }

    /// Every cell keeps its place and changes color by a fixed map.
    fn recolor_task(n: usize) -> Task {
        let grid = |seed: usize| Grid::from_fn(3, 4, |r, c| ((r * 5 + c * 3 + seed * 7) % 4) as u8);
        let output = |g: &Grid| Grid::from_fn(3, 4, |r, c| [0, 5, 7, 2][usize::from(g.get(r, c))]);
        let examples =
            (0..n).map(|i| Example { input: grid(i), output: output(&grid(i)) }).collect();
        let input = Grid::from_fn(3, 4, |r, c| ((r * 2 + c * 3 + 1) % 4) as u8);
        let tests = vec![Test { output: Some(output(&input)), input }];
        Task { id: "recolor".into(), examples, tests }
    }

    fn limits(steps: usize) -> FitLimits<'static> {
        FitLimits {
            seconds: None,
            steps: Some(steps),
            progress: None,
            memory_bytes: 1 << 30,
            interrupted: &RUNNING,
        }
    }

    fn recipe(overrides: &[&str]) -> Recipe {
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        Recipe::resolve("default", &overrides).unwrap()
    }

    fn fit(engine: &GridEngine, task: &Task, recipe: &Recipe, limits: FitLimits<'_>) -> Fit {
        let plan =
            FitPlan { dataset: &recipe.dataset, lora: &recipe.lora, fit: &recipe.fit, seed: 0 };
        engine.fit(task, plan, limits, &mut |_| ()).unwrap()
    }

    fn views() -> Vec<View> {
        let mut rng = stream(0, "test", "views", 0);
        let mut view =
            |dihedral| View { dihedral, colors: ColorPermutation::random(&mut rng), order: vec![] };
        vec![View::IDENTITY, view(Dihedral::Rotate90), view(Dihedral::FlipRows)]
    }

    #[test]
    fn a_fit_of_no_steps_predicts_as_the_base_model() {
        let (engine, task) = (engine(), recolor_task(3));
        let fit = fit(&engine, &task, &recipe(&["fit.format=icl"]), limits(0));
        let base = engine.predict(&task, 0, None, &views()).unwrap();
        let adapted = engine.predict(&task, 0, fit.adapter.as_ref(), &views()).unwrap();
        for (a, b) in base.iter().zip(&adapted) {
            for (a, b) in a.log_probs.iter().flatten().zip(b.log_probs.iter().flatten()) {
                assert!((a - b).abs() < 1e-4, "{a} and {b}");
            }
        }
    }

    #[test]
    fn the_fit_learns_a_recoloring_in_both_formats_and_predicts_it() {
        let (engine, task) = (engine(), recolor_task(4));
        let recipe = recipe(&[
            "fit.format=both",
            "fit.learning_rate=1e-2",
            "fit.task_learning_rate=1e-2",
            "dataset.colors=none",
            "dataset.dihedrals=false",
            "fit.check_every=0",
            "fit.patience=0",
        ]);
        let fit = fit(&engine, &task, &recipe, limits(240));
        let (first, last) = (fit.curve[0].loss, fit.curve[fit.curve.len() - 1].loss);
        assert!(last < first / 4.0, "loss {first} → {last}");
        let maps = engine.predict(&task, 0, fit.adapter.as_ref(), &[View::IDENTITY]).unwrap();
        assert_eq!(maps.iter().map(|m| m.format).collect::<Vec<_>>(), [Format::Icl, Format::E2e]);
        let right = maps.iter().filter(|m| Some(m.proposal()) == task.tests[0].output).count();
        assert!(right >= 1, "neither format solves it");
    }

    #[test]
    fn a_fit_repeats_to_the_bit_whatever_the_number_of_threads() {
        let (engine, task) = (engine(), recolor_task(3));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fit(&engine, &task, &recipe(&[]), limits(6)).adapter.unwrap())
        };
        let one = run(1);
        assert_eq!(one, run(3));
        assert_eq!(one, run(1));
    }

    #[test]
    fn a_recorded_schedule_repeats_a_fit() {
        let (engine, task) = (engine(), recolor_task(3));
        let timed = FitLimits { seconds: Some(0.4), ..limits(1_000_000) };
        // Too fast to learn anything, so that some step in the middle is the best.
        let recipe = recipe(&["fit.patience=0", "fit.check_every=3", "fit.learning_rate=0.5"]);
        let first = fit(&engine, &task, &recipe, timed);
        assert_eq!(first.stop, StopReason::Budget);
        let recorded: Vec<f32> = first.curve.iter().map(|s| s.progress).collect();
        let again =
            fit(&engine, &task, &recipe, FitLimits { progress: Some(&recorded), ..limits(1) });
        assert_eq!((first.steps, first.best_step), (again.steps, again.best_step));
        assert_eq!(
            first.curve.iter().map(|s| s.loss).collect::<Vec<_>>(),
            again.curve.iter().map(|s| s.loss).collect::<Vec<_>>()
        );
        assert_eq!(first.adapter, again.adapter);
    }

    #[test]
    fn one_demonstration_is_fitted_end_to_end_with_a_note() {
        let (engine, task) = (engine(), recolor_task(1));
        let fit = fit(&engine, &task, &recipe(&[]), limits(2));
        assert_eq!(fit.adapter.unwrap().formats, [Format::E2e]);
        assert!(fit.notes[0].contains("one demonstration"), "{:?}", fit.notes);
    }

    #[test]
    fn a_task_beyond_the_memory_limit_is_refused_before_any_work() {
        let (engine, task) = (engine(), recolor_task(3));
        let recipe = recipe(&[]);
        let plan =
            FitPlan { dataset: &recipe.dataset, lora: &recipe.lora, fit: &recipe.fit, seed: 0 };
        let tight = FitLimits { memory_bytes: 1000, ..limits(2) };
        let error = engine.fit(&task, plan, tight, &mut |_| ()).unwrap_err();
        assert!(matches!(error, EngineError::Memory { .. }), "{error}");
    }

    #[test]
    fn adapters_of_other_weights_and_shapes_are_refused() {
        let (engine, task) = (engine(), recolor_task(3));
        let mut adapter = fit(&engine, &task, &recipe(&[]), limits(1)).adapter.unwrap();
        let name = "base_model.model.blocks.0.o_proj.lora_A.weight";
        adapter.tensors.get_mut(name).unwrap().shape = vec![1, 1];
        let error = engine.predict(&task, 0, Some(&adapter), &views()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        adapter.base = "other".into();
        let error = engine.predict(&task, 0, Some(&adapter), &views()).unwrap_err();
        assert!(matches!(error, EngineError::WrongBase { .. }));
    }

    #[test]
    fn full_fits_move_the_trunk_and_come_back_from_their_adapter() {
        let (engine, task) = (engine(), recolor_task(3));
        let fit = fit(&engine, &task, &recipe(&["fit.method=full", "fit.format=icl"]), limits(3));
        let adapter = fit.adapter.unwrap();
        assert!(adapter.lora.is_none());
        let base = engine.predict(&task, 0, None, &[View::IDENTITY]).unwrap();
        let full = engine.predict(&task, 0, Some(&adapter), &[View::IDENTITY]).unwrap();
        assert_ne!(base[0].log_probs, full[0].log_probs);
    }

    #[test]
    fn trimming_keeps_one_query_and_never_lets_it_read_its_target() {
        let task = recolor_task(4);
        let queries =
            (0..4).map(|t| Query { target: t, context: (0..4).filter(|&i| i != t).collect() });
        let episode = Episode { pairs: task.examples, queries: queries.collect(), frame: None };
        assert_eq!(trim(episode.clone(), 1000).queries.len(), 4);
        assert_eq!(trim(episode.clone(), 12 * 6).queries.len(), 2);
        let least = trim(episode, 1);
        assert_eq!(least.queries, [Query { target: 0, context: vec![1] }]);
    }
}
