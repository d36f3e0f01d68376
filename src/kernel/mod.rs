//! Fused CPU operations with hand-written gradients.
//!
//! Burn's autodiff on the CPU takes attention, norms and activations apart into primitive operations and
//! keeps every intermediate. Here one transformer block is one operation: it works on a flat buffer of tokens
//! (`[n_tokens, d_model]`, ragged sequences side by side, so nothing is padded or masked), keeps what the
//! backward pass cannot cheaply recompute, and multiplies matrices at the speed of the multiply-add units.
//!
//! Each operation has a Burn formulation in [`crate::model`], used on every other device and as the oracle in
//! the tests. Work is cut into pieces whose number does not depend on the threads, and sums across pieces are
//! taken in a fixed order, so results are the same for any number of threads.
//!
//! This is the only module with `unsafe` code; each block states why it is sound.

mod adamw;
mod attention;
mod block;
mod buffer;
mod causal;
mod decoder;
mod decoder_op;
mod embed;
mod layout;
mod matmul;
mod op;
mod orthogonalize;
mod readout;
mod rows;
mod select;
mod simd;
mod thin;

pub use adamw::{ADAM_EPSILON, AdamWFactors, adamw_step, sum_of_squares};
pub use block::{
    BlockGradients, BlockShape, BlockState, BlockWeights, LoraRanges, LoraShape, Wanted,
    block_backward, block_forward,
};
pub use causal::{CausalLayout, CausalSequence, GroupedHeads};
pub use decoder::{DecoderShape, PerParameter};
pub use decoder_op::{DecoderParameters, fused_decoder};
pub use embed::{NO_ROW, Rows, TERMS, gather_sum, gather_sum_reference};
pub use layout::{Layout, Place, Position, Sequence, frequency};
pub use matmul::{Mat, Packed, Precision, product};
pub use op::{BlockParameters, fused_block, on_cpu};
pub use orthogonalize::{NEWTON_SCHULZ, NEWTON_SCHULZ_EPSILON, NEWTON_SCHULZ_STEPS, orthogonalize};
pub use readout::{ReadoutParameters, fused_cross_entropy, fused_readout};
pub use select::Selection;
