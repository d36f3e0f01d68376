//! The networks: tokens and tensors, never a grid or a task.
//!
//! [`GridModel`] is the small grid transformer that ships with the project. Its blocks are written twice: in
//! Burn operations for every device ([`block_reference`]) and fused for the CPU ([`crate::kernel`]).

mod block;
mod canvas;
mod checkpoint;
mod grid_model;
mod loss;
mod optimizer;

pub use block::{PaddedLayout, block_reference, run_block};
pub use canvas::{
    Batch, Canvas, Conditioning, FrameCode, MASK, N_EMBED_ROWS, N_FRAME_ROWS, N_FRAME_TOKENS, PAD,
    UNKNOWN,
};
pub use checkpoint::{CheckpointError, StoredDtype, Weights};
pub(crate) use checkpoint::{is_grid_model, read_tensor, serialize};
pub use grid_model::{ContextTokens, GridModel, GridModelConfig, Lora};
pub(crate) use grid_model::{normal, to_device, to_host};
pub use loss::{cross_entropy, log_probabilities};
pub use optimizer::{AdamW, Moments, Muon, clip_factor, is_matrix};

/// A tensor in host memory, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}
