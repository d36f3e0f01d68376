//! The loss of query cells.

use burn::tensor::{Int, Tensor, TensorData, activation};

/// Weighted sum of the cells' cross-entropies, in nats.
///
/// # Shapes
/// - logits: `[n_cells, 11]`
/// - targets, weights: `n_cells` each
/// - returns: `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: &[u8], weights: &[f32]) -> Tensor<1> {
    let device = logits.device();
    let n = targets.len();
    let ids: Vec<i32> = targets.iter().map(|&t| i32::from(t)).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [n, 1]), &device);
    let weights = Tensor::<2>::from_data(TensorData::new(weights.to_vec(), [n, 1]), &device);
    let picked = activation::log_softmax(logits, 1).gather(1, ids);
    (picked * weights).sum().neg()
}

/// Natural-log probabilities of the eleven classes of each cell, in host memory.
///
/// # Shapes
/// - logits: `[n_cells, 11]`
pub fn log_probabilities(logits: Tensor<2>) -> Vec<[f32; 11]> {
    let data = activation::log_softmax(logits, 1).into_data();
    let values = data.try_into_vec::<f32>().expect("an f32 tensor");
    values.as_chunks::<11>().0.to_vec()
}
