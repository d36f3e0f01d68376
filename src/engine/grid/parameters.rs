//! What a fit learns, as trained tensors and as an adapter in PEFT's vocabulary.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::GridEngine;
use crate::adapter::{FitMethod, LoraConfig, TARGET_MODULES};
use crate::dataset::Format;
use crate::engine::{Adapter, Base, EngineError, FitPlan, HostTensor};
use crate::kernel::LoraShape;
use crate::model::{AdamW, GridModel, Lora, Moments, Muon, is_matrix, normal, to_device, to_host};
use crate::rng::stream;

/// A model with an adapter in place: the model, its table of task tokens, its LoRA.
pub(super) type Adapted = (GridModel, Option<Tensor<2>>, Option<Lora>);

/// What moves the parameters of a fit: Muon the matrices where it is given, AdamW everything else.
pub(super) struct Optimizers {
    pub(super) adamw: AdamW,
    pub(super) muon: Option<Muon>,
}

impl Optimizers {
    fn init(&self, name: &str, value: &Tensor<2>) -> Moments {
        match &self.muon {
            Some(muon) if is_matrix(name) => muon.init(name, value),
            _ => self.adamw.init(value),
        }
    }
}

/// What a fit moves: the adapter's tensors in a fixed order, each with its optimizer state.
pub(super) struct Parameters {
    method: FitMethod,
    shape: Option<LoraShape>,
    /// LoRA vectors (or the trunk's weights), one list; then task tokens and frames where they are fitted.
    pub(super) values: Vec<Tensor<2>>,
    pub(super) moments: Vec<Moments>,
    pub(super) n_adapter: usize,
}

impl Parameters {
    pub(super) fn new(
        model: &GridModel,
        plan: FitPlan<'_>,
        task: &str,
        e2e: bool,
        optimizers: &Optimizers,
    ) -> Self {
        let device = model.embed.device();
        let mut values = Vec::new();
        let mut moments = Vec::new();
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
                        moments.push(optimizers.init(name, &tensor));
                        values.push(tensor.clone());
                    }
                    tensor
                });
            }
        }
        let n_adapter = values.len();
        if e2e {
            values.push(model.start(0));
            values.push(model.frames.clone());
        }
        moments.extend(values[moments.len()..].iter().map(|v| optimizers.adamw.init(v)));
        Self { method: plan.fit.method, shape, values, moments, n_adapter }
    }

    /// Lets the task tokens of an end-to-end fit start elsewhere.
    pub(super) fn begin_at(&mut self, task_tokens: Tensor<2>) {
        self.values[self.n_adapter] = task_tokens;
    }

    /// Puts what an adapter has learnt in the place of fresh weights. Task tokens that it lacks stay fresh.
    pub(super) fn begin_from(
        &mut self,
        engine: &GridEngine,
        adapter: &Adapter,
    ) -> Result<(), EngineError> {
        let (model, tasks, lora) = engine.adapted(Some(adapter))?;
        if lora.as_ref().map(|lora| lora.shape) != self.shape {
            let problem = "has another shape than the recipe asks for".to_owned();
            return Err(EngineError::BadTensor { name: "lora".to_owned(), problem });
        }
        let mut values = lora.map_or_else(|| trunk(&model), |lora| lora.blocks);
        values.extend(tasks.into_iter().flat_map(|tasks| [tasks, model.frames.clone()]));
        for (here, there) in self.values.iter_mut().zip(values) {
            *here = there;
        }
        Ok(())
    }

    /// The model with these parameters in place, its task table, and its LoRA.
    pub(super) fn install(&self, base: &GridModel, values: &[Tensor<2>]) -> Adapted {
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

    pub(super) fn adapter(
        &self,
        model: &GridModel,
        values: &[Tensor<2>],
        config: &LoraConfig,
        base: &str,
        task: Option<String>,
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
        let base = Base::Sha256(base.to_owned());
        Adapter { base, task, formats: formats.to_vec(), lora, tensors }
    }
}

const PREFIX: &str = "base_model.model.";
const TASK_TOKENS: &str = "task_tokens";
const FRAMES: &str = "frames";

/// The trunk's weights, in the order in which a full fit has them.
fn trunk(model: &GridModel) -> Vec<Tensor<2>> {
    let mut values = Vec::new();
    model.map(&mut |name, tensor| {
        if name.starts_with("blocks.") {
            values.push(tensor.clone());
        }
        tensor
    });
    values
}

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
    pub(super) fn adapted(&self, adapter: Option<&Adapter>) -> Result<Adapted, EngineError> {
        let Some(adapter) = adapter else { return Ok((self.model.clone(), None, None)) };
        adapter.check_base(&self.info)?;
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
            tasks =
                Some(to_device(take(adapter, TASK_TOKENS, &model.start(0).dims())?, &self.device));
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
}
