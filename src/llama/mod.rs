//! Causal language models of the Llama family from Hugging Face checkpoints: the paper's own setting.
//!
//! | architecture | what sets it apart |
//! |---|---|
//! | Llama 3.x | RoPE scaling `llama3`, optional biases |
//! | Mistral, Mistral-NeMo | `head_dim` that is not `hidden_size / num_attention_heads` |
//! | Qwen2, Qwen2.5 | biases on queries, keys and values |
//! | Qwen3 | RMSNorm of queries and keys |
//!
//! All have grouped-query attention, SwiGLU, and tied or untied embeddings. [`Llama::load`] reads a checkpoint's
//! folder, [`Lora`] is an adapter in PEFT's format, [`Trainer`] fits one, [`greedy`] and [`Search`] decode.
//! Fields and tensors carry the checkpoints' own names. The module knows tokens, never a grid's meaning;
//! what tokens may follow is the caller's to say ([`TokenFilter`]).
//!
//! Everything is written in Burn operations, for any device; on the CPU in f32 a block is one fused operation
//! ([`crate::kernel`]). `tests/it/llama.rs` compares all with `transformers` and `peft`
//! on small random checkpoints that `scripts/make_golden.py` makes.

mod attention;
mod batch;
mod beam;
mod budget;
mod checkpoint;
mod config;
mod decode;
mod filter;
mod lora;
mod model;
mod peft;
mod rotary;
mod search;
mod tokenizer;
mod train;

#[cfg(all(test, feature = "cpu"))]
mod fused_tests;

pub use attention::KvCache;
pub use batch::{Batch, InputError, Sequence};
pub use beam::beam;
pub use budget::{Budget, Workload};
pub use checkpoint::{CheckpointError, checkpoint_bytes, missing_files, training_pairs};
pub use config::{Architecture, ConfigError, LlamaConfig, RopeScaling};
pub use decode::{Generated, Score, greedy, sample, score};
pub use filter::{GridTokens, TokenFilter};
pub use lora::{Lora, LoraError, LoraPair, Module, Target};
pub use model::{Linear, Llama, LlamaError};
pub use peft::{BadTensor, PeftAdapter, PeftError, load_adapter, read_adapter, save_adapter};
pub use search::{Answer, Incomplete, Search, SearchLimits, Searches};
pub use tokenizer::{GRID_VOCABULARY, Tokenizer, TokenizerError, Tokens, write_tokenizer};
pub use train::{LoraGradients, TrainError, Trainer};
