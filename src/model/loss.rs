//! The loss of query cells.

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::kernel::fused_cross_entropy;

/// Weighted sum of the cells' cross-entropies, in nats.
///
/// # Shapes
/// - logits: `[n_cells, 11]`
/// - targets, weights: `n_cells` each
/// - returns: `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: &[u8], weights: &[f32]) -> Tensor<1> {
    fused_cross_entropy(&logits, targets, weights)
        .unwrap_or_else(|| cross_entropy_reference(logits, targets, weights))
}

/// [`cross_entropy`] in Burn's own operations, for every device.
fn cross_entropy_reference(logits: Tensor<2>, targets: &[u8], weights: &[f32]) -> Tensor<1> {
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::Device;

    use super::super::{normal, to_host};
    use super::*;

    #[test]
    fn the_fused_cross_entropy_and_its_gradient_are_those_of_burn_s_operations() {
        let mut rng = crate::rng::stream(0, "test", "loss", 0);
        let n = 37;
        let values: Vec<f32> = (0..n * 11).map(|_| 5.0 * normal(&mut rng)).collect();
        let targets: Vec<u8> = (0..n).map(|i| (i * 7 % 11) as u8).collect();
        // Some cells are not asked for.
        let weights: Vec<f32> = (0..n).map(|i| (i % 4) as f32 * 0.3).collect();
        type Loss = fn(Tensor<2>, &[u8], &[f32]) -> Tensor<1>;
        let run = |loss: Loss| {
            let device = Device::flex().autodiff();
            let data = TensorData::new(values.clone(), [n, 11]);
            let logits = Tensor::<2>::from_data(data, &device).require_grad();
            let loss = loss(logits.clone(), &targets, &weights) * 3.0;
            let value = loss.clone().inner().into_scalar::<f32>();
            let gradient = logits.grad_remove(&mut loss.backward()).unwrap();
            (value, to_host(&gradient).values)
        };
        let (fused, fused_gradient) = run(cross_entropy);
        let (plain, plain_gradient) = run(cross_entropy_reference);
        assert!((fused - plain).abs() < 1e-5 * plain.abs(), "{fused} {plain}");
        for (a, b) in fused_gradient.iter().zip(plain_gradient) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}
