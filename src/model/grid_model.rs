//! The grid transformer: aligned canvases in, a class for each query cell out.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::HostTensor;
use super::block::{rms_norm, run_block};
use super::canvas::{Batch, N_EMBED_ROWS, N_FRAME_ROWS, prepare};
use super::checkpoint::{CheckpointError, Weights};
use crate::kernel::{
    BlockParameters, BlockShape, LoraShape, Precision, ReadoutParameters, fused_readout, gather_sum,
};
use crate::rng::stream;

/// Classes of an output cell: ten colors and PAD.
const N_CLASSES: usize = 11;

/// What a query may read of the pairs in its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContextTokens {
    /// Each pair's register tokens only: a fixed-size summary a layer.
    Registers,
    /// Every cell and the register tokens.
    Cells,
}

/// Sizes of a [`GridModel`], saved beside its weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridModelConfig {
    /// Width of a token; a multiple of `8 * n_heads`.
    pub d_model: usize,
    /// Transformer blocks.
    pub n_layers: usize,
    /// Attention heads; the first half turns with the place ([`crate::kernel::Place::turns`]).
    pub n_heads: usize,
    /// Width of the MLP.
    pub d_ff: usize,
    /// Register tokens a canvas, which in the end-to-end format carry the task.
    pub n_task_tokens: usize,
    /// What queries read of their context.
    pub context: ContextTokens,
}

impl GridModelConfig {
    /// Sizes of a block with this adapter.
    pub fn block_shape(&self, lora: Option<LoraShape>) -> BlockShape {
        let precision = Precision::F32;
        BlockShape {
            d_model: self.d_model,
            n_heads: self.n_heads,
            d_ff: self.d_ff,
            lora,
            precision,
        }
    }

    /// Why these sizes cannot be built, if they cannot.
    pub fn problem(&self) -> Option<String> {
        let Self { d_model, n_layers, n_heads, d_ff, n_task_tokens, .. } = *self;
        if [d_model, n_layers, n_heads, d_ff, n_task_tokens].contains(&0) {
            return Some("every size must be at least 1".into());
        }
        if n_heads % 2 != 0 || d_model % (8 * n_heads) != 0 {
            return Some(format!(
                "n_heads ({n_heads}) must be even and d_model ({d_model}) a multiple of 8 * n_heads"
            ));
        }
        None
    }
}

/// LoRA vectors of all blocks.
#[derive(Debug, Clone)]
pub struct Lora {
    /// Rank, scale and targets.
    pub shape: LoraShape,
    /// One flat vector a block, `[1, n]` as [`BlockShape::lora_ranges`] divides it.
    pub blocks: Vec<Tensor<2>>,
}

/// The grid transformer. Cloning shares the weights.
#[derive(Debug, Clone)]
pub struct GridModel {
    /// Sizes.
    pub config: GridModelConfig,
    /// How the fused blocks multiply; not part of the weights.
    pub precision: Precision,
    /// Cells and register tokens, `[N_EMBED_ROWS + 2·n_task_tokens, d_model]`.
    pub embed: Tensor<2>,
    /// Frame tokens, `[N_FRAME_ROWS, d_model]`.
    pub frames: Tensor<2>,
    /// Where a new task's tokens may start, `[n_starts · n_task_tokens, d_model]`: the mean of the tasks that the model was trained
    /// on, and then the tokens of each.
    pub task_tokens: Tensor<2>,
    /// Gain of the norm over task tokens, `[1, d_model]`.
    pub task_norm: Tensor<2>,
    /// The trunk.
    pub blocks: Vec<BlockParameters>,
    /// Gain of the last norm, `[1, d_model]`.
    pub norm: Tensor<2>,
    /// `[d_model, 11]`.
    pub head: Tensor<2>,
    /// `[1, 11]`.
    pub head_bias: Tensor<2>,
}

impl GridModel {
    /// A model with random weights.
    pub fn random(config: &GridModelConfig, seed: u64, device: &Device) -> Self {
        let (d, f, m) = (config.d_model, config.d_ff, config.n_task_tokens);
        let width = d as f32;
        let deep = width * config.n_layers as f32;
        let mut weights = BTreeMap::new();
        let mut put = |name: String, rows: usize, columns: usize, fill: Fill| {
            let mut rng = stream(seed, "init", &name, 0);
            let values = (0..rows * columns).map(|_| match fill {
                Fill::Constant(v) => v,
                Fill::Normal(std) => std * normal(&mut rng),
            });
            weights
                .insert(name, HostTensor { shape: vec![rows, columns], values: values.collect() });
        };
        put("embed".into(), N_EMBED_ROWS + 2 * m, d, Fill::Normal(0.3));
        put("frames".into(), N_FRAME_ROWS, d, Fill::Normal(0.3));
        put("task_tokens".into(), m, d, Fill::Normal(0.5));
        put("task_norm".into(), 1, d, Fill::Constant(1.0));
        for i in 0..config.n_layers {
            let name = |field: &str| format!("blocks.{i}.{field}");
            put(name("input_norm"), 1, d, Fill::Constant(1.0));
            put(name("qkv_proj"), d, 3 * d, Fill::Normal(width.powf(-0.5)));
            // Normalized queries and keys can differ little; below this a head cannot single out a place.
            put(name("q_scale"), 1, config.n_heads, Fill::Constant(3.0));
            put(name("o_proj"), d, d, Fill::Normal(0.3 * deep.powf(-0.5)));
            put(name("mlp_norm"), 1, d, Fill::Constant(1.0));
            put(name("up_proj"), d, f, Fill::Normal(width.powf(-0.5)));
            put(name("down_proj"), f, d, Fill::Normal(0.15 * deep.powf(-0.5)));
        }
        put("norm".into(), 1, d, Fill::Constant(1.0));
        put("head".into(), d, N_CLASSES, Fill::Constant(0.0));
        put("head_bias".into(), 1, N_CLASSES, Fill::Constant(0.0));
        Self::from_tensors(config, &weights, device).expect("all tensors were just made")
    }

    /// A model with the given weights.
    ///
    /// # Errors
    /// [`CheckpointError`] if a tensor is missing, unknown or of another shape.
    pub fn from_weights(weights: &Weights, device: &Device) -> Result<Self, CheckpointError> {
        Self::from_tensors(&weights.config, &weights.tensors, device)
    }

    fn from_tensors(
        config: &GridModelConfig,
        tensors: &BTreeMap<String, HostTensor>,
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        let mut used = 0;
        let mut take = |name: &str, rows: usize, columns: usize| {
            let tensor =
                tensors.get(name).ok_or_else(|| CheckpointError::Missing { name: name.into() })?;
            if tensor.shape != [rows, columns] {
                return Err(CheckpointError::Shape {
                    name: name.into(),
                    expected: vec![rows, columns],
                    found: tensor.shape.clone(),
                });
            }
            used += 1;
            Ok(to_device(tensor, device))
        };
        let (d, f, m) = (config.d_model, config.d_ff, config.n_task_tokens);
        let starts = tensors.get("task_tokens").and_then(|tensor| tensor.shape.first());
        let starts = starts.map_or(1, |rows| rows / m).max(1);
        let mut blocks = Vec::with_capacity(config.n_layers);
        for i in 0..config.n_layers {
            let name = |field: &str| format!("blocks.{i}.{field}");
            blocks.push(BlockParameters {
                input_norm: take(&name("input_norm"), 1, d)?,
                qkv_proj: take(&name("qkv_proj"), d, 3 * d)?,
                q_scale: take(&name("q_scale"), 1, config.n_heads)?,
                o_proj: take(&name("o_proj"), d, d)?,
                mlp_norm: take(&name("mlp_norm"), 1, d)?,
                up_proj: take(&name("up_proj"), d, f)?,
                down_proj: take(&name("down_proj"), f, d)?,
            });
        }
        let model = Self {
            config: config.clone(),
            precision: Precision::F32,
            embed: take("embed", N_EMBED_ROWS + 2 * m, d)?,
            frames: take("frames", N_FRAME_ROWS, d)?,
            task_tokens: take("task_tokens", starts * m, d)?,
            task_norm: take("task_norm", 1, d)?,
            blocks,
            norm: take("norm", 1, d)?,
            head: take("head", d, N_CLASSES)?,
            head_bias: take("head_bias", 1, N_CLASSES)?,
        };
        if used != tensors.len() {
            let known = model.names();
            let name = tensors.keys().find(|n| !known.contains(n)).cloned().unwrap_or_default();
            return Err(CheckpointError::Unknown { name });
        }
        Ok(model)
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.map(&mut |name, tensor| {
            names.push(name.to_owned());
            tensor
        });
        names
    }

    /// The same model with every parameter replaced by what `f` makes of it, in a fixed order.
    pub fn map(&self, f: &mut dyn FnMut(&str, Tensor<2>) -> Tensor<2>) -> Self {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        let embed = f("embed", self.embed.clone());
        let frames = f("frames", self.frames.clone());
        let task_tokens = f("task_tokens", self.task_tokens.clone());
        let task_norm = f("task_norm", self.task_norm.clone());
        for (i, block) in self.blocks.iter().enumerate() {
            let mut field = |name: &str, t: &Tensor<2>| f(&format!("blocks.{i}.{name}"), t.clone());
            blocks.push(BlockParameters {
                input_norm: field("input_norm", &block.input_norm),
                qkv_proj: field("qkv_proj", &block.qkv_proj),
                q_scale: field("q_scale", &block.q_scale),
                o_proj: field("o_proj", &block.o_proj),
                mlp_norm: field("mlp_norm", &block.mlp_norm),
                up_proj: field("up_proj", &block.up_proj),
                down_proj: field("down_proj", &block.down_proj),
            });
        }
        Self {
            config: self.config.clone(),
            precision: self.precision,
            embed,
            frames,
            task_tokens,
            task_norm,
            blocks,
            norm: f("norm", self.norm.clone()),
            head: f("head", self.head.clone()),
            head_bias: f("head_bias", self.head_bias.clone()),
        }
    }

    /// All parameters by name, in host memory. What they were trained on is the caller's to add.
    pub fn to_weights(&self) -> Weights {
        let mut tensors = BTreeMap::new();
        self.map(&mut |name, tensor| {
            tensors.insert(name.to_owned(), to_host(&tensor));
            tensor
        });
        Weights {
            config: self.config.clone(),
            tensors,
            starts: Vec::new(),
            training_pairs: None,
            sha256: String::new(),
        }
    }

    /// Number of weights, of the starts counting one.
    pub fn n_parameters(&self) -> u64 {
        let mut n = 0;
        self.map(&mut |_, tensor| {
            n += tensor.shape().num_elements() as u64;
            tensor
        });
        n - self.task_tokens.shape().num_elements() as u64
            + (self.config.n_task_tokens * self.config.d_model) as u64
    }

    /// Number of starts for a new task's tokens.
    pub fn n_starts(&self) -> usize {
        self.task_tokens.dims()[0] / self.config.n_task_tokens
    }

    /// The `i`-th start, `[n_task_tokens, d_model]`.
    pub fn start(&self, i: usize) -> Tensor<2> {
        let m = self.config.n_task_tokens;
        self.task_tokens.clone().slice([i * m..(i + 1) * m, 0..self.config.d_model])
    }

    /// Class scores of every query cell.
    ///
    /// `tasks` is the table that end-to-end queries point into, `n_task_tokens` rows a task.
    ///
    /// # Shapes
    /// - tasks: `[n_tasks · n_task_tokens, d_model]`
    /// - returns: `[n_query_cells, 11]`, not normalized
    pub fn forward(
        &self,
        batch: &Batch,
        tasks: Option<&Tensor<2>>,
        lora: Option<&Lora>,
    ) -> Tensor<2> {
        let prepared = prepare(batch, &self.config);
        let mut tables = vec![self.embed.clone(), self.frames.clone()];
        if let Some(tasks) = tasks {
            tables.push(rms_norm(tasks.clone(), &self.task_norm));
        }
        let mut x = gather_sum(&Tensor::cat(tables, 0), &prepared.rows);
        let shape = BlockShape {
            precision: self.precision,
            ..self.config.block_shape(lora.map(|l| l.shape))
        };
        let none = Tensor::zeros([1, 1], &x.device());
        let padded = OnceCell::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let lora = lora.map_or(&none, |l| &l.blocks[i]);
            let last = i + 1 == self.blocks.len();
            let layout = if last { &prepared.last_layout } else { &prepared.layout };
            x = run_block(&shape, layout, &padded, block, lora, x);
        }
        let tokens = prepared.query_cells;
        let readout =
            ReadoutParameters { norm: &self.norm, head: &self.head, bias: &self.head_bias };
        fused_readout(&x, &tokens, &readout)
            .unwrap_or_else(|| readout_reference(x, tokens, &readout))
    }
}

/// [`fused_readout`] in Burn's own operations, for every device.
fn readout_reference(
    x: Tensor<2>,
    tokens: Range<usize>,
    parameters: &ReadoutParameters<'_>,
) -> Tensor<2> {
    let [_, d] = x.dims();
    let ReadoutParameters { norm, head, bias } = *parameters;
    rms_norm(x.slice([tokens, 0..d]), norm).matmul(head.clone()) + bias.clone()
}

#[derive(Clone, Copy)]
enum Fill {
    Constant(f32),
    Normal(f32),
}

/// A standard normal number (Box–Muller; one of the pair is dropped).
pub(crate) fn normal(rng: &mut impl Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// Copies a tensor to a device.
pub(crate) fn to_device(tensor: &HostTensor, device: &Device) -> Tensor<2> {
    let shape: [usize; 2] = tensor.shape.as_slice().try_into().expect("a matrix");
    Tensor::from_data(TensorData::new(tensor.values.clone(), shape), device)
}

/// Copies a tensor to host memory.
pub(crate) fn to_host(tensor: &Tensor<2>) -> HostTensor {
    let data = tensor.clone().into_data();
    let shape = tensor.dims().to_vec();
    HostTensor { shape, values: data.try_into_vec::<f32>().expect("an f32 tensor") }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn the_fused_readout_and_its_gradients_are_those_of_burn_s_operations() {
        const CLASSES: usize = 11;
        // More rows than one piece of work, in the middle of the tokens.
        let (n, d, tokens) = (300, 32, 20..270);
        let mut rng = stream(0, "test", "readout", 0);
        let mut values = |rows: usize, columns: usize| {
            let values = (0..rows * columns).map(|_| normal(&mut rng)).collect();
            HostTensor { shape: vec![rows, columns], values }
        };
        let inputs = [values(n, d), values(1, d), values(d, CLASSES), values(1, CLASSES)];
        let out_gradient = values(tokens.len(), CLASSES);
        let run = |fused: bool, trained: bool| {
            let device = Device::flex().autodiff();
            let [x, norm, head, bias] = inputs.each_ref().map(|input| to_device(input, &device));
            let x = x.require_grad();
            let [norm, head, bias] =
                [norm, head, bias].map(|t| if trained { t.require_grad() } else { t });
            let p = ReadoutParameters { norm: &norm, head: &head, bias: &bias };
            let y = if fused {
                fused_readout(&x, &tokens, &p).expect("this is the CPU")
            } else {
                readout_reference(x.clone(), tokens.clone(), &p)
            };
            let out = to_host(&y.clone().inner()).values;
            let mut grads = (y * to_device(&out_gradient, &device)).sum().backward();
            let of = [&x, &norm, &head, &bias].map(|t| t.grad_remove(&mut grads));
            (out, of.map(|g| g.map(|g| to_host(&g).values)))
        };
        for trained in [false, true] {
            let (fused, plain) = (run(true, trained), run(false, trained));
            let pairs = std::iter::once((Some(fused.0), Some(plain.0)))
                .chain(fused.1.into_iter().zip(plain.1));
            for (i, (fused, plain)) in pairs.enumerate() {
                assert_eq!(fused.is_some(), plain.is_some(), "{i}");
                for (a, b) in fused.iter().flatten().zip(plain.iter().flatten()) {
                    assert!((a - b).abs() < 2e-4 * b.abs().max(1.0), "{i}: {a} {b}");
                }
            }
        }
    }
}
