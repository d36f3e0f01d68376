//! Selection of rows whose gradient is a selection too.
//!
//! Burn's gradient of `select` adds the outputs' rows one after the other, on graphics cards in one long loop. Where it is
//! known beforehand which outputs a row went into, its gradient is a sum of a few selections, which run in parallel.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Which rows are read, and where each of them is read.
#[derive(Debug, Clone)]
pub struct Selection {
    ids: Tensor<1, Int>,
    back: Vec<Reads>,
}

/// For each row one of the places that read it.
#[derive(Debug, Clone)]
struct Reads {
    places: Tensor<1, Int>,
    /// `[n_rows, 1]`: 0 for rows that are not read this often; `None` if there are none.
    real: Option<Tensor<2>>,
}

impl Selection {
    /// The rows `ids` of `n_rows`. `None` is padding: it reads some row, and nothing flows back from it.
    ///
    /// # Panics
    /// If an id is not below `n_rows`.
    pub fn new(n_rows: usize, ids: &[Option<usize>], device: &Device) -> Self {
        let device = device.clone().inner();
        let ints = |values: Vec<i32>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), &device)
        };
        let mut n_reads = vec![0usize; n_rows];
        let mut places: Vec<Vec<Option<i32>>> = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            let Some(id) = *id else { continue };
            if n_reads[id] == places.len() {
                places.push(vec![None; n_rows]);
            }
            places[n_reads[id]][id] = Some(place as i32);
            n_reads[id] += 1;
        }
        let back = places.into_iter().map(|places| {
            let real = places.iter().any(Option::is_none).then(|| {
                let real: Vec<f32> =
                    places.iter().map(|p| f32::from(u8::from(p.is_some()))).collect();
                Tensor::from_data(TensorData::new(real, [n_rows, 1]), &device)
            });
            Reads { places: ints(places.into_iter().map(|p| p.unwrap_or(0)).collect()), real }
        });
        let back = back.collect();
        Self { ids: ints(ids.iter().map(|id| id.unwrap_or(0) as i32).collect()), back }
    }

    /// `out[i] = x[ids[i]]`.
    ///
    /// # Shapes
    /// - x: `[n_rows, width]`
    /// - returns: `[n_ids, width]`
    pub fn of(&self, x: &Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "cpu")]
        if let Some(out) = flex(self, x) {
            return out;
        }
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if let Some(out) = cube(self, x) {
            return out;
        }
        x.clone().select(0, self.ids.clone())
    }

    /// The gradient of the rows from that of the outputs.
    fn gradient(&self, dy: Tensor<2>, n_rows: usize) -> Tensor<2> {
        let [_, width] = dy.dims();
        let device = dy.device();
        let parts = self.back.iter().map(|reads| {
            let part = dy.clone().select(0, reads.places.clone());
            match &reads.real {
                Some(real) => part * real.clone(),
                None => part,
            }
        });
        parts
            .reduce(|sum, part| sum + part)
            .unwrap_or_else(|| Tensor::zeros([n_rows, width], &device))
    }
}

#[derive(Debug)]
struct Select;

/// [`Selection::of`] under automatic differentiation by one backend; `None` for tensors of another.
macro_rules! tracked {
    ($name:ident, $backend:ty) => {
        fn $name(selection: &Selection, x: &Tensor<2>) -> Option<Tensor<2>> {
            type B = $backend;
            impl Backward<B, 1> for Select {
                type State = (Selection, usize);

                fn backward(
                    self,
                    ops: Ops<Self::State, 1>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let dy = Tensor::<2>::from_primitive::<B>(grads.consume::<B>(&ops.node));
                    let (selection, n_rows) = ops.state;
                    if let [Some(node)] = ops.parents {
                        let dx = selection.gradient(dy, n_rows).try_into_primitive::<B>();
                        grads.register::<B>(node.id, dx.expect("of the same backend"));
                    }
                }
            }

            let n_rows = x.dims()[0];
            let x = x.clone().try_into_primitive::<Autodiff<B>>().ok()?;
            let prepared = Select.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
            let inner = Tensor::<2>::from_primitive::<B>(x.into_primitive());
            let out = inner.select(0, selection.ids.clone()).try_into_primitive::<B>();
            let out = out.expect("of the same backend");
            Some(Tensor::from_primitive::<Autodiff<B>>(match prepared {
                OpsKind::Tracked(prepared) => prepared.finish((selection.clone(), n_rows), out),
                OpsKind::UnTracked(prepared) => prepared.finish(out),
            }))
        }
    };
}

#[cfg(feature = "cpu")]
tracked!(flex, burn::backend::Flex);
// CUDA and wgpu are one backend type.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
tracked!(cube, burn::backend::Cube);

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_burn_s_own() {
        let device = Device::flex().autodiff();
        let numbers = |n: usize| (0..n).map(|i| ((i * 37) % 19) as f32 - 9.0).collect::<Vec<_>>();
        let x = Tensor::<2>::from_data(TensorData::new(numbers(15), [5, 3]), &device);
        let dy = Tensor::<2>::from_data(TensorData::new(numbers(21), [7, 3]), &device);
        // Row 2 is read three times, row 4 never; the padding reads row 0, which row 0's gradient must not see.
        let ids = [Some(2), Some(0), None, Some(2), Some(3), Some(2), Some(1)];
        let real = [1., 1., 0., 1., 1., 1., 1.].map(|r| [r]);
        let real = Tensor::<2>::from_data(TensorData::from(real), &device);
        let selection = Selection::new(5, &ids, &device);
        let run = |select: &dyn Fn(&Tensor<2>) -> Tensor<2>| {
            let x = x.clone().require_grad();
            let y = select(&x);
            let grads = (y.clone() * dy.clone() * real.clone()).sum().backward();
            let gradient = x.grad(&grads).expect("a leaf");
            [y.inner(), gradient].map(|t| t.into_data().try_into_vec::<f32>().unwrap())
        };
        let plain = ids.map(|id| id.unwrap_or(0) as i32);
        let plain = Tensor::<1, Int>::from_data(TensorData::from(plain), &device);
        let (ours, burns) =
            (run(&|x| selection.of(x)), run(&|x| x.clone().select(0, plain.clone())));
        assert_eq!(ours, burns);
        // Without automatic differentiation it is a plain selection.
        assert_eq!(selection.of(&x.inner()).into_data().try_into_vec::<f32>().unwrap(), ours[0]);
    }
}
