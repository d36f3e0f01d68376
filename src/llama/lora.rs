//! Low-rank updates of a model's linear layers (Hu et al. 2021, arXiv 2106.09685), in PEFT's orientation.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::Rng;

use super::config::LlamaConfig;
use crate::adapter::LoraConfig;
use crate::model::normal;
use crate::rng::stream;

/// A kind of layer that can be adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The embedding.
    EmbedTokens,
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Attention's output.
    OProj,
    /// The MLP's gate.
    GateProj,
    /// The MLP's input.
    UpProj,
    /// The MLP's output.
    DownProj,
    /// The scores of the tokens.
    LmHead,
}

impl Target {
    /// All of them, under the checkpoints' names.
    pub const ALL: [(&str, Self); 9] = [
        ("embed_tokens", Self::EmbedTokens),
        ("q_proj", Self::QProj),
        ("k_proj", Self::KProj),
        ("v_proj", Self::VProj),
        ("o_proj", Self::OProj),
        ("gate_proj", Self::GateProj),
        ("up_proj", Self::UpProj),
        ("down_proj", Self::DownProj),
        ("lm_head", Self::LmHead),
    ];

    /// Those of a transformer block, in the order in which it has them.
    pub const BLOCK: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    /// Its name in a checkpoint.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// Inputs and outputs of the layer in a model of these sizes.
    pub fn sizes(self, config: &LlamaConfig) -> (usize, usize) {
        let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        match self {
            Self::EmbedTokens => (config.vocab_size, hidden),
            Self::QProj => (hidden, queries),
            Self::KProj | Self::VProj => (hidden, keys),
            Self::OProj => (queries, hidden),
            Self::GateProj | Self::UpProj => (hidden, mlp),
            Self::DownProj => (mlp, hidden),
            Self::LmHead => (hidden, config.vocab_size),
        }
    }
}

/// One layer of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Module {
    /// The transformer block, from 0; `None` for what is outside the blocks.
    pub layer: Option<usize>,
    /// Which of its layers.
    pub target: Target,
}

impl Module {
    /// All that can be adapted in a model of these sizes.
    pub fn all(config: &LlamaConfig) -> Vec<Self> {
        let mut modules = vec![Self { layer: None, target: Target::EmbedTokens }];
        for layer in 0..config.num_hidden_layers {
            modules.extend(Target::BLOCK.map(|target| Self { layer: Some(layer), target }));
        }
        modules.push(Self { layer: None, target: Target::LmHead });
        modules
    }

    /// Its name in a checkpoint, such as `model.layers.0.self_attn.q_proj`.
    pub fn path(&self) -> String {
        let name = self.target.name();
        match (self.layer, self.target) {
            (_, Target::LmHead) => name.to_owned(),
            (None, _) => format!("model.{name}"),
            (Some(i), Target::GateProj | Target::UpProj | Target::DownProj) => {
                format!("model.layers.{i}.mlp.{name}")
            }
            (Some(i), _) => format!("model.layers.{i}.self_attn.{name}"),
        }
    }
}

/// The two factors of one layer's update `scale · B·A`.
#[derive(Debug, Clone)]
pub struct LoraPair {
    /// `[rank, inputs]`; for the embedding, inputs are tokens.
    pub a: Tensor<2>,
    /// `[outputs, rank]`.
    pub b: Tensor<2>,
}

/// An adapter: the updates of some layers, in f32. Cloning shares the values.
#[derive(Debug, Clone)]
pub struct Lora {
    /// Rank, scale and targets.
    pub config: LoraConfig,
    /// Updates by layer.
    pub pairs: BTreeMap<Module, LoraPair>,
}

/// Why an adapter cannot be made for a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoraError {
    /// A name in `target_modules` that the model does not have.
    #[error("`{0}` is no layer that can be adapted; take any of {names}", names = names())]
    UnknownTarget(String),
    /// An empty list of targets.
    #[error("target_modules is empty; take any of {names}", names = names())]
    NoTargets,
    /// A rank of 0.
    #[error("a rank of 0 is no update; take at least 1")]
    NoRank,
}

fn names() -> String {
    Target::ALL.map(|(name, _)| name).join(", ")
}

impl Lora {
    /// A fresh adapter, under which the model is as without it.
    ///
    /// Values are distributed as PEFT's: `A` uniform up to `inputs^-1/2` and `B` zero, for the embedding `A` zero
    /// and `B` standard normal. They are a function of `seed` and `task`.
    ///
    /// # Errors
    /// [`LoraError`] if the settings do not fit the family.
    pub fn fresh(
        config: &LoraConfig,
        model: &LlamaConfig,
        seed: u64,
        task: &str,
        device: &Device,
    ) -> Result<Self, LoraError> {
        if config.rank == 0 {
            return Err(LoraError::NoRank);
        }
        if config.target_modules.is_empty() {
            return Err(LoraError::NoTargets);
        }
        let known = |name: &&String| Target::ALL.iter().any(|(known, _)| known == name);
        if let Some(name) = config.target_modules.iter().find(|name| !known(name)) {
            return Err(LoraError::UnknownTarget(name.clone()));
        }
        let adapted = |m: &Module| config.target_modules.iter().any(|t| t == m.target.name());
        let modules = Module::all(model).into_iter().enumerate().filter(|(_, m)| adapted(m));
        let pairs = modules.map(|(i, module)| {
            let mut rng = stream(seed, task, "lora", i as u64);
            let (inputs, outputs) = module.target.sizes(model);
            let (n_a, n_b) = (config.rank * inputs, outputs * config.rank);
            let bound = (inputs as f32).powf(-0.5);
            let (a, b): (Vec<f32>, Vec<f32>) = if module.target == Target::EmbedTokens {
                (vec![0.0; n_a], (0..n_b).map(|_| normal(&mut rng)).collect())
            } else {
                ((0..n_a).map(|_| rng.random_range(-bound..bound)).collect(), vec![0.0; n_b])
            };
            let tensor = |values: Vec<f32>, shape: [usize; 2]| {
                Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
            };
            let a = tensor(a, [config.rank, inputs]);
            (module, LoraPair { a, b: tensor(b, [outputs, config.rank]) })
        });
        Ok(Self { config: config.clone(), pairs: pairs.collect() })
    }

    /// The same adapter with every tensor replaced by what `f` makes of it.
    pub fn map(&self, mut f: impl FnMut(&Tensor<2>) -> Tensor<2>) -> Self {
        let pair = |(module, pair): (&Module, &LoraPair)| {
            (*module, LoraPair { a: f(&pair.a), b: f(&pair.b) })
        };
        Self { config: self.config.clone(), pairs: self.pairs.iter().map(pair).collect() }
    }

    /// What a layer's update `scale·(x·Aᵀ)·Bᵀ` makes of the first product, which `inner` makes of `Aᵀ`; `None` if the
    /// layer is not adapted.
    pub(super) fn update(
        &self,
        layer: Option<usize>,
        target: Target,
        inner: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> Option<Tensor<2>> {
        let LoraPair { a, b } = self.pairs.get(&Module { layer, target })?;
        // Scaled where it is smallest: `scale·A` would be made anew for every token that is decoded.
        let inner = inner(a.clone().transpose()) * self.config.scale();
        Some(inner.matmul(b.clone().transpose()))
    }
}
