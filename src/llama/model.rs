//! The network: tokens in, scores of the next tokens out.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData, activation};
use sha2::Sha256;

use super::attention::{Behind, KvCache, Visibility, attend};
use super::batch::{Batch, InputError};
use super::checkpoint::{Checkpoint, CheckpointError};
use super::config::{ConfigError, LlamaConfig};
use super::lora::{Lora, Module, Target};
use super::rotary::{Rotation, angles, frequencies};
use crate::kernel::{CausalLayout, DecoderParameters, DecoderShape, GroupedHeads, fused_decoder};
use crate::model::normal;
use crate::rng::stream;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LlamaError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A linear layer as checkpoints store it.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Tensor<2>,
    /// `[outputs]`.
    pub bias: Option<Tensor<1>>,
}

/// A transformer block's weights.
#[derive(Debug, Clone)]
struct Block {
    input_layernorm: Tensor<1>,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Option<Tensor<1>>,
    k_norm: Option<Tensor<1>>,
    post_attention_layernorm: Tensor<1>,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

/// A causal language model of the Llama family. Cloning shares the weights.
#[derive(Debug, Clone)]
pub struct Llama {
    /// Sizes.
    pub config: LlamaConfig,
    /// `[vocab_size, hidden_size]`.
    embed_tokens: Tensor<2>,
    layers: Vec<Block>,
    norm: Tensor<1>,
    /// `[vocab_size, hidden_size]`; the embedding itself if they are tied.
    lm_head: Linear,
    frequencies: Vec<f32>,
    /// Whether blocks run fused where that is possible. Off, everything is Burn operations: the tests' oracle.
    pub fused: bool,
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Where a model's parameters come from.
trait Source {
    /// The parameter of this name and shape.
    fn take<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, CheckpointError>;
}

impl Source for Checkpoint<'_> {
    fn take<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, CheckpointError> {
        self.take(name, shape)
    }
}

/// Parameters that somebody gives by name and shape.
struct Given<F>(F);

impl<F: FnMut(&str, &[usize]) -> Tensor<2>> Source for Given<F> {
    fn take<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, CheckpointError> {
        Ok(self.0(name, &shape).reshape(shape))
    }
}

/// What all blocks of one pass share.
pub(super) struct Pass<'a> {
    model: &'a Llama,
    lora: Option<&'a Lora>,
    batch: &'a Batch,
    /// Rows of the cache, and what they hold.
    behind: Behind,
    /// Places of the tokens in their sequences, counted from what is cached of them.
    positions: Vec<u32>,
    shape: DecoderShape,
    layout: Arc<CausalLayout>,
    /// What blocks of Burn operations need instead of the layout.
    tensors: OnceCell<(Rotation, Visibility)>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        model: &'a Llama,
        batch: &'a Batch,
        lora: Option<&'a Lora>,
        cache: Option<&KvCache>,
    ) -> Result<Self, InputError> {
        let config = &model.config;
        let behind = match cache {
            Some(cache) => cache.behind(batch)?,
            None => Behind::nothing(batch),
        };
        let rows = batch.positions.chunks(batch.length).zip(&behind.past);
        let positions = rows.flat_map(|(row, &past)| row.iter().map(move |p| p + past as u32));
        let positions: Vec<u32> = positions.collect();
        model.check(batch, &positions)?;
        let [cos, sin] = angles(&positions, &model.frequencies);
        let layout = CausalLayout { sequences: batch.causal(&behind), cos, sin };
        let shape = DecoderShape {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            heads: GroupedHeads {
                n_heads: config.num_attention_heads,
                n_kv_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
            },
            epsilon: config.rms_norm_eps as f32,
            lora_scale: lora.map_or(0.0, |lora| lora.config.scale()),
        };
        let (layout, tensors) = (Arc::new(layout), OnceCell::new());
        Ok(Self { model, lora, batch, behind, positions, shape, layout, tensors })
    }

    /// The tokens' embeddings, `[n_rows · length, hidden_size]`.
    pub(super) fn embed(&self) -> Tensor<2> {
        let ids: Vec<i32> = self.batch.tokens.iter().map(|&t| t as i32).collect();
        let n = ids.len();
        let ids = TensorData::new(ids, [n]);
        let ids = Tensor::<1, Int>::from_data(ids, &self.model.device());
        let x = self.model.embed_tokens.clone().select(0, ids.clone());
        let update = |lora: &Lora| lora.update(None, Target::EmbedTokens, |a| a.select(0, ids));
        match self.lora.and_then(update) {
            Some(update) => x.clone() + update.cast(x.dtype()),
            None => x,
        }
    }

    /// What a block makes of `x`, `[n_rows · length, hidden_size]`.
    pub(super) fn block(&self, i: usize, x: Tensor<2>, cache: Option<&mut KvCache>) -> Tensor<2> {
        self.model.layers[i].forward(self, i, x, cache)
    }

    /// The last norm.
    pub(super) fn norm(&self, x: Tensor<2>) -> Tensor<2> {
        rms_norm(x, &self.model.norm, self.model.config.rms_norm_eps)
    }

    fn tensors(&self) -> &(Rotation, Visibility) {
        self.tensors.get_or_init(|| {
            let (positions, n_rows) = (&self.positions, self.batch.n_rows);
            let (dtype, device) = (self.model.embed_tokens.dtype(), self.model.device());
            let frequencies = &self.model.frequencies;
            let rotation = Rotation::new(positions, n_rows, frequencies, dtype, &device);
            (rotation, Visibility::new(self.batch, &self.behind.past, &device))
        })
    }
}

impl Llama {
    /// Loads a checkpoint: a folder with `config.json` and `model.safetensors`, or with several such files and
    /// their index. Weights are stored and multiplied as `dtype`; norms, softmax and adapters are always f32.
    ///
    /// # Errors
    /// [`LlamaError`] if the configuration is not supported, or the weights are damaged or do not fit it.
    pub fn load(folder: &Path, dtype: FloatDType, device: &Device) -> Result<Self, LlamaError> {
        Self::load_hashed(folder, dtype, device).map(|(model, _)| model)
    }

    /// As [`Llama::load`]; with the hash of the weights as they are stored, however they are cut into files.
    ///
    /// # Errors
    /// As [`Llama::load`].
    pub fn load_hashed(
        folder: &Path,
        dtype: FloatDType,
        device: &Device,
    ) -> Result<(Self, Sha256), LlamaError> {
        let config = LlamaConfig::load(folder)?;
        let mut file = Checkpoint::open(folder, dtype.into(), device)?;
        let model = Self::take(config, &mut file)?;
        if model.config.tie_word_embeddings {
            file.is_tied(HEAD, EMBEDDING)?;
        }
        Ok((model, file.finish()?))
    }

    /// A model of the parameters that `value` gives for each name and shape; vectors come as one row.
    pub fn from_parameters(
        config: LlamaConfig,
        value: impl FnMut(&str, &[usize]) -> Tensor<2>,
    ) -> Self {
        Self::take(config, &mut Given(value)).expect("what is given needs no file")
    }

    /// A model of random weights, a function of `seed`: normal with a standard deviation of 0.02, of `o_proj` and
    /// `down_proj` less by the root of twice the number of blocks (as GPT-2's), gains 1, biases 0.
    pub fn random(config: LlamaConfig, seed: u64, device: &Device) -> Self {
        let residual = 0.02 / (2.0 * config.num_hidden_layers as f32).sqrt();
        Self::from_parameters(config, |name, shape| {
            let mut rng = stream(seed, "init", name, 0);
            let n: usize = shape.iter().product();
            let values: Vec<f32> = if name.ends_with("norm.weight") {
                vec![1.0; n]
            } else if name.ends_with(".bias") {
                vec![0.0; n]
            } else {
                let into_residual = ["o_proj.weight", "down_proj.weight"];
                let small = into_residual.iter().any(|end| name.ends_with(end));
                let deviation = if small { residual } else { 0.02 };
                (0..n).map(|_| deviation * normal(&mut rng)).collect()
            };
            let columns = *shape.last().expect("at least one axis");
            let data = TensorData::new(values, [n / columns, columns]);
            Tensor::from_data(data, (device, DType::F32))
        })
    }

    fn take(config: LlamaConfig, file: &mut impl Source) -> Result<Self, CheckpointError> {
        let table = [config.vocab_size, config.hidden_size];
        let embed_tokens = file.take(EMBEDDING, table)?;
        let layers = (0..config.num_hidden_layers).map(|i| Block::take(&config, i, file));
        let layers = layers.collect::<Result<_, _>>()?;
        let norm = file.take("model.norm.weight", [config.hidden_size])?;
        let weight =
            if config.tie_word_embeddings { embed_tokens.clone() } else { file.take(HEAD, table)? };
        let lm_head = Linear { weight, bias: None };
        let frequencies = frequencies(&config);
        Ok(Self { config, embed_tokens, layers, norm, lm_head, frequencies, fused: true })
    }

    /// All parameters by the checkpoint's names, with their shapes there; vectors as one row.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>, Tensor<2>)> {
        let mut all = Vec::new();
        // The same walk that reads a checkpoint names what it finds.
        let mut tensors = self.tensors().into_iter();
        Self::from_parameters(self.config.clone(), |name, shape| {
            let tensor = tensors.next().expect("as many as there are names");
            all.push((name.to_owned(), shape.to_vec(), tensor.clone()));
            tensor
        });
        all
    }

    /// All parameters in the order in which a checkpoint's are taken.
    fn tensors(&self) -> Vec<Tensor<2>> {
        let row = |t: &Tensor<1>| t.clone().unsqueeze::<2>();
        let mut all = vec![self.embed_tokens.clone()];
        for block in &self.layers {
            for linear in block.linears() {
                all.push(linear.weight.clone());
                all.extend(linear.bias.as_ref().map(row));
            }
            all.extend(block.q_norm.iter().chain(&block.k_norm).map(row));
            all.extend([&block.input_layernorm, &block.post_attention_layernorm].map(row));
        }
        all.push(row(&self.norm));
        if !self.config.tie_word_embeddings {
            all.push(self.lm_head.weight.clone());
        }
        all
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.embed_tokens.device()
    }

    /// `[vocab_size, hidden_size]`.
    pub(super) fn embedding(&self) -> &Tensor<2> {
        &self.embed_tokens
    }

    /// `[vocab_size, hidden_size]`.
    pub(super) fn head(&self) -> &Tensor<2> {
        &self.lm_head.weight
    }

    /// The same model as constants on the device's autodiff twin: gradients flow through it, none to it.
    pub fn on_graph(&self) -> Self {
        Self {
            config: self.config.clone(),
            embed_tokens: constant(&self.embed_tokens),
            layers: self.layers.iter().map(Block::on_graph).collect(),
            norm: constant(&self.norm),
            lm_head: self.lm_head.on_graph(),
            frequencies: self.frequencies.clone(),
            ..*self
        }
    }

    /// Scores of every token's successor, not normalized.
    ///
    /// # Shapes
    /// - returns: `[n_rows, length, vocab_size]`; what stands at padding means nothing
    ///
    /// # Errors
    /// [`InputError`] if a token is outside the vocabulary or a sequence longer than the context.
    pub fn logits(&self, batch: &Batch, lora: Option<&Lora>) -> Result<Tensor<3>, InputError> {
        let [n_rows, length] = batch.shape();
        let hidden = self.hidden_states(batch, lora, None)?;
        Ok(self.project(hidden, lora).reshape([n_rows, length, self.config.vocab_size]))
    }

    /// Scores of each sequence's next token, not normalized.
    ///
    /// With a cache, the batch goes on where the cache's rows end, and is taken into it.
    ///
    /// # Shapes
    /// - returns: `[n_sequences, vocab_size]`
    ///
    /// # Errors
    /// As [`Llama::logits`], and [`InputError::Rows`] if the cache holds another number of rows.
    pub fn next_logits(
        &self,
        batch: &Batch,
        lora: Option<&Lora>,
        cache: Option<&mut KvCache>,
    ) -> Result<Tensor<2>, InputError> {
        let hidden = self.hidden_states(batch, lora, cache)?;
        Ok(self.project_at(hidden, &batch.last_tokens(), lora))
    }

    /// What the last norm gives for each token, `[n_rows · length, hidden_size]`.
    pub(super) fn hidden_states(
        &self,
        batch: &Batch,
        lora: Option<&Lora>,
        mut cache: Option<&mut KvCache>,
    ) -> Result<Tensor<2>, InputError> {
        let pass = Pass::new(self, batch, lora, cache.as_deref())?;
        let mut x = pass.embed();
        for i in 0..self.layers.len() {
            x = pass.block(i, x, cache.as_deref_mut());
        }
        if let Some(cache) = cache {
            cache.advance(batch, &pass.behind);
        }
        Ok(pass.norm(x))
    }

    /// Scores from hidden states, `[n, hidden_size]` → `[n, vocab_size]`.
    pub(super) fn project(&self, hidden: Tensor<2>, lora: Option<&Lora>) -> Tensor<2> {
        linear(&Input::new(hidden), &self.lm_head, lora, None, Target::LmHead)
    }

    /// Scores from the hidden states of some tokens, counted row by row.
    pub(super) fn project_at(
        &self,
        hidden: Tensor<2>,
        tokens: &[usize],
        lora: Option<&Lora>,
    ) -> Tensor<2> {
        let at: Vec<i32> = tokens.iter().map(|&i| i as i32).collect();
        let n = at.len();
        let at = Tensor::<1, Int>::from_data(TensorData::new(at, [n]), &hidden.device());
        self.project(hidden.select(0, at), lora)
    }

    fn check(&self, batch: &Batch, positions: &[u32]) -> Result<(), InputError> {
        let (vocab_size, most) = (self.config.vocab_size, self.config.max_length);
        if let Some(&token) = batch.tokens.iter().find(|&&t| t as usize >= vocab_size) {
            return Err(InputError::UnknownToken { token, vocab_size });
        }
        let length = positions.iter().max().map_or(0, |&p| p as usize + 1);
        if length > most {
            return Err(InputError::TooLong { length, most });
        }
        Ok(())
    }
}

impl Block {
    fn take(
        config: &LlamaConfig,
        i: usize,
        file: &mut impl Source,
    ) -> Result<Self, CheckpointError> {
        let mut linear = |name: &str, target: Target, bias: bool| {
            let (inputs, outputs) = target.sizes(config);
            let name = format!("model.layers.{i}.{name}.{}", target.name());
            let weight = file.take(&format!("{name}.weight"), [outputs, inputs])?;
            let bias = match bias {
                true => Some(file.take(&format!("{name}.bias"), [outputs])?),
                false => None,
            };
            Ok(Linear { weight, bias })
        };
        let q_proj = linear("self_attn", Target::QProj, config.qkv_bias)?;
        let k_proj = linear("self_attn", Target::KProj, config.qkv_bias)?;
        let v_proj = linear("self_attn", Target::VProj, config.qkv_bias)?;
        let o_proj = linear("self_attn", Target::OProj, config.o_bias)?;
        let gate_proj = linear("mlp", Target::GateProj, config.mlp_bias)?;
        let up_proj = linear("mlp", Target::UpProj, config.mlp_bias)?;
        let down_proj = linear("mlp", Target::DownProj, config.mlp_bias)?;
        let mut norm =
            |name: &str, size: usize| file.take(&format!("model.layers.{i}.{name}.weight"), [size]);
        let mut head_norm = |name: &str| match config.qk_norm {
            true => norm(name, config.head_dim).map(Some),
            false => Ok(None),
        };
        let (q_norm, k_norm) = (head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?);
        Ok(Self {
            input_layernorm: norm("input_layernorm", config.hidden_size)?,
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            q_norm,
            k_norm,
            post_attention_layernorm: norm("post_attention_layernorm", config.hidden_size)?,
            gate_proj,
            up_proj,
            down_proj,
        })
    }

    /// The linear layers, in the order of [`Target::BLOCK`].
    fn linears(&self) -> [&Linear; 7] {
        let Self { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, .. } = self;
        [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]
    }

    fn on_graph(&self) -> Self {
        Self {
            input_layernorm: constant(&self.input_layernorm),
            q_proj: self.q_proj.on_graph(),
            k_proj: self.k_proj.on_graph(),
            v_proj: self.v_proj.on_graph(),
            o_proj: self.o_proj.on_graph(),
            q_norm: self.q_norm.as_ref().map(constant),
            k_norm: self.k_norm.as_ref().map(constant),
            post_attention_layernorm: constant(&self.post_attention_layernorm),
            gate_proj: self.gate_proj.on_graph(),
            up_proj: self.up_proj.on_graph(),
            down_proj: self.down_proj.on_graph(),
        }
    }

    /// Residual attention, then a residual SwiGLU; `x` and the result are `[n_rows · length, hidden_size]`.
    fn forward(
        &self,
        pass: &Pass<'_>,
        i: usize,
        x: Tensor<2>,
        mut cache: Option<&mut KvCache>,
    ) -> Tensor<2> {
        if let Some(out) = self.fused(pass, i, &x, cache.as_deref_mut()) {
            return out;
        }
        let eps = pass.model.config.rms_norm_eps;
        let h = rms_norm(x.clone(), &self.input_layernorm, eps);
        let x = x + self.attention(pass, i, h, cache);

        let h = rms_norm(x.clone(), &self.post_attention_layernorm, eps);
        let linear =
            |l: &Linear, target: Target, x: &Input| linear(x, l, pass.lora, Some(i), target);
        let h = Input::new(h);
        let gate = activation::silu(linear(&self.gate_proj, Target::GateProj, &h));
        let up = linear(&self.up_proj, Target::UpProj, &h);
        x + linear(&self.down_proj, Target::DownProj, &Input::new(gate * up))
    }

    /// The block as one operation; `None` where that is not possible.
    fn fused(
        &self,
        pass: &Pass<'_>,
        i: usize,
        x: &Tensor<2>,
        cache: Option<&mut KvCache>,
    ) -> Option<Tensor<2>> {
        if !pass.model.fused {
            return None;
        }
        let row = |t: &Tensor<1>| t.clone().unsqueeze::<2>();
        let linears = self.linears();
        let pairs = Target::BLOCK.map(|target| {
            pass.lora.and_then(|lora| lora.pairs.get(&Module { layer: Some(i), target }))
        });
        let parameters = DecoderParameters {
            norms: [
                Some(row(&self.input_layernorm)),
                self.q_norm.as_ref().map(row),
                self.k_norm.as_ref().map(row),
                Some(row(&self.post_attention_layernorm)),
            ],
            weights: linears.map(|linear| Some(linear.weight.clone())),
            biases: linears.map(|linear| linear.bias.as_ref().map(row)),
            lora_a: pairs.map(|pair| pair.map(|pair| pair.a.clone())),
            lora_b: pairs.map(|pair| pair.map(|pair| pair.b.clone())),
        };
        let GroupedHeads { n_kv_heads, head_dim, .. } = pass.shape.heads;
        let sizes = [n_kv_heads, pass.batch.length, head_dim];
        let held = cache.map(|cache| cache.reserve(i, &pass.behind, sizes, &x.device(), x.dtype()));
        fused_decoder(&pass.shape, &pass.layout, parameters, x, held)
    }

    fn attention(
        &self,
        pass: &Pass<'_>,
        i: usize,
        h: Tensor<2>,
        cache: Option<&mut KvCache>,
    ) -> Tensor<2> {
        let [n, _] = h.dims();
        let (n_rows, length) = (pass.batch.n_rows, pass.batch.length);
        let config = &pass.model.config;
        let LlamaConfig { num_attention_heads, num_key_value_heads, head_dim, .. } = *config;
        let (rotation, visibility) = pass.tensors();
        let h = Input::new(h);
        // [n_rows, n_heads, length, head_dim]
        let heads = |l: &Linear, target: Target, norm: &Option<Tensor<1>>, n_heads: usize| {
            let x = linear(&h, l, pass.lora, Some(i), target);
            let x = match norm {
                Some(norm) => {
                    rms_norm(x.reshape([n * n_heads, head_dim]), norm, config.rms_norm_eps)
                }
                None => x,
            };
            x.reshape([n_rows, length, n_heads, head_dim]).swap_dims(1, 2)
        };
        let q = heads(&self.q_proj, Target::QProj, &self.q_norm, num_attention_heads);
        let k = heads(&self.k_proj, Target::KProj, &self.k_norm, num_key_value_heads);
        let v = heads(&self.v_proj, Target::VProj, &None, num_key_value_heads);
        let (q, k) = (rotation.turn(q), rotation.turn(k));
        let [k, v] = match cache {
            Some(cache) => cache.extend(i, &pass.behind, [k, v]),
            None => [k, v],
        };
        let read = attend(q, k, v, visibility).swap_dims(1, 2);
        let read = read.reshape([n, num_attention_heads * head_dim]);
        linear(&Input::new(read), &self.o_proj, pass.lora, Some(i), Target::OProj)
    }
}

impl Linear {
    fn on_graph(&self) -> Self {
        Self { weight: constant(&self.weight), bias: self.bias.as_ref().map(constant) }
    }
}

fn constant<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(tensor.clone())
}

/// What linear layers read.
struct Input {
    x: Tensor<2>,
    /// The same in f32, for adapters: made once for all layers that read it, because the backward pass keeps it.
    wide: OnceCell<Tensor<2>>,
}

impl Input {
    fn new(x: Tensor<2>) -> Self {
        Self { x, wide: OnceCell::new() }
    }

    fn wide(&self) -> Tensor<2> {
        self.wide.get_or_init(|| self.x.clone().cast(DType::F32)).clone()
    }
}

/// `x·Wᵀ + bias`, and `scale·(x·Aᵀ)·Bᵀ` on top if the layer is adapted.
///
/// The update stays on the side of the activations: `W + scale·B·A` would be a second copy of the weights.
fn linear(
    input: &Input,
    layer: &Linear,
    lora: Option<&Lora>,
    block: Option<usize>,
    target: Target,
) -> Tensor<2> {
    let mut y = input.x.clone().matmul(layer.weight.clone().transpose());
    if let Some(bias) = &layer.bias {
        y = y + bias.clone().unsqueeze();
    }
    match lora.and_then(|lora| lora.update(block, target, |a| input.wide().matmul(a))) {
        Some(update) => y + update.cast(input.x.dtype()),
        None => y,
    }
}

/// RMSNorm over the last axis (Zhang & Sennrich 2019, arXiv 1910.07467), in f32.
fn rms_norm(x: Tensor<2>, weight: &Tensor<1>, eps: f64) -> Tensor<2> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = x.clone().powi_scalar(2).mean_dim(1);
    (x / (mean_square + eps).sqrt()).cast(dtype) * weight.clone().unsqueeze()
}
