//! Fused CPU operations with hand-written gradients.
