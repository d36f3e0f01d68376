//! Optimizers over a list of matrices, on any device.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::HostTensor;
use super::grid_model::{to_device, to_host};
use crate::kernel::{
    ADAM_EPSILON, AdamWFactors, NEWTON_SCHULZ, NEWTON_SCHULZ_EPSILON, NEWTON_SCHULZ_STEPS,
    Precision, adamw_step, on_cpu, orthogonalize, sum_of_squares,
};

/// Settings of AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
}

/// Settings of Muon (Jordan et al. 2024): momentum, then the update's nearest semi-orthogonal matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    /// Decay of the momentum.
    pub momentum: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// How the CPU multiplies on the way to the semi-orthogonal matrix, for which bfloat16 is enough.
    pub precision: Precision,
}

/// What an optimizer remembers of one parameter.
#[derive(Debug, Clone)]
// There are a few dozen of these, so the larger variant costs nothing worth a box.
#[allow(clippy::large_enum_variant)]
pub enum Moments {
    /// First and second moment.
    AdamW {
        /// Running mean of the gradient.
        first: Tensor<2>,
        /// Running mean of its square.
        second: Tensor<2>,
    },
    /// Muon's.
    Muon {
        /// Running mean of the gradient.
        momentum: Tensor<2>,
        /// Matrices side by side in this parameter, each of which gets an update of its own.
        parts: usize,
    },
}

impl Moments {
    /// The state's tensors in host memory, in a fixed order.
    pub fn to_host(&self) -> Vec<HostTensor> {
        match self {
            Moments::AdamW { first, second } => vec![to_host(first), to_host(second)],
            Moments::Muon { momentum, .. } => vec![to_host(momentum)],
        }
    }

    /// The same kind of state with values from host memory; `None` if their number or shapes differ.
    pub fn with_host(&self, values: &[HostTensor]) -> Option<Self> {
        let like = |t: &Tensor<2>, v: &HostTensor| {
            (v.shape == t.dims()).then(|| to_device(v, &t.device()))
        };
        match (self, values) {
            (Moments::AdamW { first, second }, [a, b]) => {
                Some(Moments::AdamW { first: like(first, a)?, second: like(second, b)? })
            }
            (Moments::Muon { momentum, parts }, [a]) => {
                Some(Moments::Muon { momentum: like(momentum, a)?, parts: *parts })
            }
            _ => None,
        }
    }
}

impl AdamW {
    /// Fresh state for `parameter`.
    pub fn init(&self, parameter: &Tensor<2>) -> Moments {
        Moments::AdamW { first: parameter.zeros_like(), second: parameter.zeros_like() }
    }

    /// Takes step `t` (from 1) by the gradient times `clip`.
    ///
    /// # Panics
    /// If the state is not AdamW's.
    pub fn step(
        &self,
        learning_rate: f64,
        t: usize,
        parameter: &mut Tensor<2>,
        gradient: &Tensor<2>,
        clip: f64,
        moments: &mut Moments,
    ) {
        let Moments::AdamW { first, second } = moments else {
            panic!("the state of another optimizer")
        };
        let (betas, t) = (self.betas, t as i32);
        let factors = AdamWFactors {
            betas,
            clip,
            keep: 1.0 - learning_rate * self.weight_decay,
            rate: learning_rate / (1.0 - betas[0].powi(t)),
            correction: 1.0 / (1.0 - betas[1].powi(t)),
        };
        adamw_step(&factors, parameter, gradient, first, second)
            .unwrap_or_else(|| adamw_reference(&factors, parameter, gradient, first, second));
    }
}

/// [`adamw_step`] in Burn's own operations, for every device.
fn adamw_reference(
    f: &AdamWFactors,
    parameter: &mut Tensor<2>,
    gradient: &Tensor<2>,
    first: &mut Tensor<2>,
    second: &mut Tensor<2>,
) {
    let [b1, b2] = f.betas;
    let gradient = gradient.clone() * f.clip;
    *first = first.clone() * b1 + gradient.clone() * (1.0 - b1);
    *second = second.clone() * b2 + gradient.powi_scalar(2) * (1.0 - b2);
    let update = first.clone() / ((second.clone() * f.correction).sqrt() + ADAM_EPSILON);
    *parameter = parameter.clone() * f.keep - update * f.rate;
}

/// Whether a parameter of this name is one of the trunk's matrices, which Muon is made for.
pub fn is_matrix(name: &str) -> bool {
    name.starts_with("blocks.") && name.ends_with("_proj")
}

/// Matrices that stand side by side in a parameter of this name. An update of queries, keys and values together would be that of
/// the one with the largest gradient.
fn parts(name: &str) -> usize {
    if name.ends_with("qkv_proj") { 3 } else { 1 }
}

impl Muon {
    /// Fresh state for the parameter `name`.
    pub fn init(&self, name: &str, parameter: &Tensor<2>) -> Moments {
        Moments::Muon { momentum: parameter.zeros_like(), parts: parts(name) }
    }

    /// The parameter after one step.
    ///
    /// # Panics
    /// If the state is not Muon's.
    pub fn step(
        &self,
        learning_rate: f64,
        parameter: Tensor<2>,
        gradient: Tensor<2>,
        moments: &mut Moments,
    ) -> Tensor<2> {
        let (ahead, parts) = self.ahead(gradient, moments);
        let updates = split(ahead, parts).into_iter().map(|part| self.orthogonal(part)).collect();
        self.moved(learning_rate, parameter, updates)
    }

    /// The parameters after one step each. Matrices of one shape share their operations, which a device with an overhead an
    /// operation needs.
    ///
    /// # Panics
    /// If a state is not Muon's.
    pub fn step_together(&self, matrices: Vec<(f64, &mut Tensor<2>, Tensor<2>, &mut Moments)>) {
        let mut of_shape: BTreeMap<([usize; 2], usize), Vec<_>> = BTreeMap::new();
        for (learning_rate, parameter, gradient, moments) in matrices {
            let (ahead, parts) = self.ahead(gradient, moments);
            let members = of_shape.entry((ahead.dims(), parts)).or_default();
            members.push((learning_rate, parameter, split(ahead, parts)));
        }
        for (([rows, columns], parts), members) in of_shape {
            let ahead = members.iter().flat_map(|(_, _, ahead)| ahead.clone()).collect();
            let updates = orthogonalize_reference(Tensor::stack::<3>(ahead, 0)).split(1, 0);
            let updates: Vec<Tensor<2>> =
                updates.into_iter().map(|update| update.reshape([rows, columns / parts])).collect();
            for ((learning_rate, parameter, _), updates) in
                members.into_iter().zip(updates.chunks(parts))
            {
                *parameter = self.moved(learning_rate, parameter.clone(), updates.to_vec());
            }
        }
    }

    /// Moves the momentum, and looks one step ahead of it (Nesterov).
    fn ahead(&self, gradient: Tensor<2>, moments: &mut Moments) -> (Tensor<2>, usize) {
        let Moments::Muon { momentum, parts } = moments else {
            panic!("the state of another optimizer")
        };
        let keep = self.momentum;
        *momentum = momentum.clone() * keep + gradient.clone() * (1.0 - keep);
        (gradient * (1.0 - keep) + momentum.clone() * keep, *parts)
    }

    /// The nearest semi-orthogonal matrix.
    fn orthogonal(&self, matrix: Tensor<2>) -> Tensor<2> {
        if !on_cpu(&matrix) {
            return orthogonalize_reference(matrix);
        }
        let HostTensor { shape, values } = to_host(&matrix);
        let values = orthogonalize(values, shape[0], shape[1], self.precision);
        to_device(&HostTensor { shape, values }, &matrix.device())
    }

    /// The parameter after updates of its parts, which stand side by side.
    fn moved(
        &self,
        learning_rate: f64,
        parameter: Tensor<2>,
        updates: Vec<Tensor<2>>,
    ) -> Tensor<2> {
        let [rows, columns] = updates[0].dims();
        let size = (columns as f64 / rows as f64).max(1.0).sqrt();
        let update = Tensor::cat(updates, 1);
        parameter * (1.0 - learning_rate * self.weight_decay) - update * (learning_rate * size)
    }
}

/// Equal parts of the columns.
fn split(matrix: Tensor<2>, parts: usize) -> Vec<Tensor<2>> {
    let columns = matrix.dims()[1] / parts;
    matrix.split(columns, 1)
}

/// [`orthogonalize`] in Burn's own operations, of the last two axes, for every device.
fn orthogonalize_reference<const D: usize>(gradient: Tensor<D>) -> Tensor<D> {
    let dims = gradient.dims();
    let tall = dims[D - 2] > dims[D - 1];
    let mut x = if tall { gradient.transpose() } else { gradient };
    let norm = x.clone().powi_scalar(2).sum_dim(D - 1).sum_dim(D - 2).sqrt();
    x = x / (norm + NEWTON_SCHULZ_EPSILON);
    let [first, third, fifth] = NEWTON_SCHULZ;
    for _ in 0..NEWTON_SCHULZ_STEPS {
        let a = x.clone().matmul(x.clone().transpose());
        let b = a.clone() * third + a.clone().matmul(a) * fifth;
        x = x.clone() * first + b.matmul(x);
    }
    if tall { x.transpose() } else { x }
}

/// The factor that brings the global norm of `gradients` down to `most`, or 1; 0 for `most` means no limit.
pub fn clip_factor(gradients: &[Tensor<2>], most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let on_cpu: Option<f64> = gradients.iter().map(sum_of_squares).sum();
    let square = on_cpu.unwrap_or_else(|| squares_reference(gradients));
    let norm = square.sqrt();
    // A norm that is not a number is left alone: the caller's check of the loss reports it.
    if norm > most { most / norm } else { 1.0 }
}

/// The sum of all squared values, with one transfer from the device.
fn squares_reference(gradients: &[Tensor<2>]) -> f64 {
    let squares: Vec<_> = gradients.iter().map(|g| g.clone().powi_scalar(2).sum()).collect();
    if squares.is_empty() { 0.0 } else { Tensor::cat(squares, 0).into_data().iter::<f64>().sum() }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn tensor(values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    #[test]
    fn adamw_takes_its_first_step_by_the_learning_rate_against_the_gradient() {
        let adam = AdamW { betas: [0.9, 0.99], weight_decay: 0.1 };
        let mut p = tensor(vec![1.0, -2.0], [1, 2]);
        let mut moments = adam.init(&p);
        adam.step(0.01, 1, &mut p, &tensor(vec![3.0, -0.5], [1, 2]), 1.0, &mut moments);
        let values = to_host(&p).values;
        assert!((values[0] - (1.0 * (1.0 - 0.001) - 0.01)).abs() < 1e-6, "{values:?}");
        assert!((values[1] - (-2.0 * (1.0 - 0.001) + 0.01)).abs() < 1e-6, "{values:?}");
    }

    #[test]
    fn adamw_in_one_pass_is_adamw_in_burn_s_operations() {
        let random = |seed: u64| {
            let mut rng = crate::rng::stream(seed, "test", "adamw", 0);
            let normal = || super::super::normal(&mut rng);
            // More than one piece of work, and not a whole number of them.
            tensor(std::iter::repeat_with(normal).take(3 * 17_001).collect(), [3, 17_001])
        };
        let close = |a: &Tensor<2>, b: &Tensor<2>, what: &str| {
            for (a, b) in to_host(a).values.iter().zip(to_host(b).values) {
                assert!((a - b).abs() <= 2e-6 * b.abs().max(0.01), "{what}: {a} {b}");
            }
        };
        let adam = AdamW { betas: [0.9, 0.99], weight_decay: 0.1 };
        let (mut p, mut q) = (random(1), random(1));
        let (mut fused, mut plain) = (adam.init(&p), adam.init(&q));
        for t in 1..4 {
            let g = random(10 + t as u64);
            let (shared, before) = (p.clone(), to_host(&p));
            adam.step(0.01, t, &mut p, &g, 0.5, &mut fused);
            assert_eq!(to_host(&shared), before, "what others hold stays");
            let Moments::AdamW { first, second } = &mut plain else { unreachable!() };
            let factors = AdamWFactors {
                betas: adam.betas,
                clip: 0.5,
                keep: 1.0 - 0.01 * 0.1,
                rate: 0.01 / (1.0 - 0.9f64.powi(t as i32)),
                correction: 1.0 / (1.0 - 0.99f64.powi(t as i32)),
            };
            adamw_reference(&factors, &mut q, &g, first, second);
            close(&p, &q, "parameter");
        }
        let (Moments::AdamW { first: a, second: b }, Moments::AdamW { first: c, second: d }) =
            (fused, plain)
        else {
            unreachable!()
        };
        close(&a, &c, "first moment");
        close(&b, &d, "second moment");
        let gradients = [random(1), random(2)];
        let fused: f64 = gradients.iter().map(|g| sum_of_squares(g).unwrap()).sum();
        assert!((fused / squares_reference(&gradients) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn muon_updates_are_nearly_orthogonal_whatever_the_gradient_s_scale() {
        let values = (0..12).map(|i| ((i * 7 % 5) as f32 - 2.0) * 100.0).collect();
        let o = orthogonalize_reference(tensor(values, [3, 4]));
        let gram = to_host(&o.clone().matmul(o.transpose())).values;
        for i in 0..3 {
            // Muon's coefficients leave singular values between about 0.7 and 1.2.
            assert!((0.4..1.6).contains(&gram[i * 3 + i]), "{gram:?}");
        }
    }

    #[test]
    fn orthogonal_matrices_of_the_kernel_are_those_of_burn_s_operations() {
        let mut rng = crate::rng::stream(0, "test", "muon", 0);
        for shape in [[48, 48], [48, 100], [100, 48], [1, 5]] {
            let normal = || super::super::normal(&mut rng);
            let values: Vec<f32> =
                std::iter::repeat_with(normal).take(shape[0] * shape[1]).collect();
            let theirs = to_host(&orthogonalize_reference(tensor(values.clone(), shape))).values;
            for (precision, most) in [(Precision::F32, 1e-4), (Precision::Bf16, 0.05)] {
                let ours = orthogonalize(values.clone(), shape[0], shape[1], precision);
                for (a, b) in ours.iter().zip(&theirs) {
                    assert!((a - b).abs() < most, "{shape:?} {precision:?}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn queries_keys_and_values_are_updated_each_by_its_own_matrix() {
        let muon = Muon { momentum: 0.0, weight_decay: 0.0, precision: Precision::F32 };
        let mut rng = crate::rng::stream(0, "test", "muon", 1);
        // The third has a gradient a thousand times that of the others.
        let values = (0..4 * 12)
            .map(|i| super::super::normal(&mut rng) * if i % 12 < 8 { 1.0 } else { 1e3 });
        let gradient = tensor(values.collect(), [4, 12]);
        let start = Tensor::zeros([4, 12], &Device::flex());
        let mut moments = muon.init("blocks.0.qkv_proj", &start);
        let alone = muon.step(0.1, start.clone(), gradient.clone(), &mut moments);
        for part in split(alone.clone(), 3) {
            let norm = part.powi_scalar(2).sum().sqrt().into_scalar::<f32>();
            assert!((0.15..0.25).contains(&norm), "{norm} of about 0.2");
        }
        let mut together = start.clone();
        let mut moments = muon.init("blocks.0.qkv_proj", &start);
        muon.step_together(vec![(0.1, &mut together, gradient, &mut moments)]);
        for (a, b) in to_host(&alone).values.iter().zip(to_host(&together).values) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn clipping_only_ever_shrinks() {
        let g = [tensor(vec![3.0, 4.0], [1, 2])];
        assert_eq!(clip_factor(&g, 10.0), 1.0);
        assert_eq!(clip_factor(&g, 0.0), 1.0);
        assert!((clip_factor(&g, 1.0) - 0.2).abs() < 1e-6);
    }
}
