//! Embedding as one operation: each token is the sum of a few rows of one table.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use super::select::Selection;

/// Rows that a token sums at most.
pub const TERMS: usize = 8;

/// Which rows each token sums; unused places hold [`NO_ROW`].
pub type Rows = Vec<[u32; TERMS]>;

/// Marks an unused place in [`Rows`].
pub const NO_ROW: u32 = u32::MAX;

/// `out[t] = Σ_j table[rows[t][j]]`.
///
/// # Shapes
/// - table: `[n_rows, d_model]`
/// - returns: `[rows.len(), d_model]`
///
/// # Panics
/// If a row is outside the table.
pub fn gather_sum(table: &Tensor<2>, rows: &Arc<Rows>) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if let Some(out) = cpu::run(table, rows) {
        return out;
    }
    gather_sum_reference(table, rows)
}

/// [`gather_sum`] in Burn's own operations: the rows in use, multiplied by how often each token sums them. Many tokens
/// sum the same row, and a product finds its gradient faster than one addition after the other.
pub fn gather_sum_reference(table: &Tensor<2>, rows: &Arc<Rows>) -> Tensor<2> {
    let device = table.device();
    let [n_rows, _] = table.dims();
    let mut number = vec![-1i32; n_rows];
    let mut used = Vec::new();
    for &id in rows.iter().flatten().filter(|&&id| id != NO_ROW) {
        let number = &mut number[id as usize];
        if *number < 0 {
            *number = used.len() as i32;
            used.push(Some(id as usize));
        }
    }
    // Graphics cards multiply whole tiles, and compile a kernel for each kind of remainder.
    used.resize(used.len().next_multiple_of(64), None);
    let numbers = |j: usize| {
        let number = |row: &[u32; TERMS]| number.get(row[j] as usize).copied().unwrap_or(-1);
        let numbers: Vec<i32> = rows.iter().map(number).collect();
        Tensor::<2, Int>::from_data(TensorData::new(numbers, [rows.len(), 1]), &device)
    };
    let columns: Vec<i32> = (0..used.len() as i32).collect();
    let columns = Tensor::<2, Int>::from_data(TensorData::new(columns, [1, used.len()]), &device);
    let counts = (0..TERMS).map(|j| numbers(j).equal(columns.clone()).float());
    let counts = counts.reduce(|sum, term| sum + term).expect("a token has terms");
    counts.matmul(Selection::new(n_rows, &used, &device).of(table))
}

#[cfg(feature = "cpu")]
mod cpu {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::flex::FlexTensor;
    use burn::backend::{Autodiff, Flex};
    use rayon::prelude::*;

    use super::super::buffer::Buffer;
    use super::super::op::{flex_floats, flex_tensor};
    use super::super::rows::add_assign;
    use super::*;

    type Ad = Autodiff<Flex>;

    #[derive(Debug)]
    struct GatherSum;

    impl Backward<Flex, 1> for GatherSum {
        type State = (usize, Arc<Rows>);

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
            let (n_rows, rows) = ops.state;
            let dy = flex_floats(&dy);
            let d = dy.len() / rows.len().max(1);
            let mut dtable = vec![0.0; n_rows * d];
            for (ids, dy) in rows.iter().zip(dy.chunks_exact(d)) {
                for &id in ids.iter().filter(|&&id| id != NO_ROW) {
                    let at = id as usize * d;
                    add_assign(&mut dtable[at..at + d], dy);
                }
            }
            if let [Some(node)] = ops.parents {
                grads.register::<Flex>(node.id, flex_tensor(dtable, [n_rows, d].into()));
            }
        }
    }

    fn forward(table: &FlexTensor, rows: &Rows) -> (FlexTensor, usize) {
        let [n_rows, d] = table.layout().shape().dims::<2>();
        let table = flex_floats(table);
        let mut out = Buffer::stale(rows.len() * d);
        out.par_chunks_mut(d * 256).zip(rows.par_chunks(256)).for_each(|(out, rows)| {
            for (out, ids) in out.chunks_exact_mut(d).zip(rows) {
                out.fill(0.0);
                for &id in ids.iter().filter(|&&id| id != NO_ROW) {
                    add_assign(out, &table[id as usize * d..(id as usize + 1) * d]);
                }
            }
        });
        (flex_tensor(out.into_vec(), [rows.len(), d].into()), n_rows)
    }

    pub(super) fn run(table: &Tensor<2>, rows: &Arc<Rows>) -> Option<Tensor<2>> {
        if table.device().is_autodiff() {
            let table = table.clone().try_into_primitive::<Ad>().ok()?;
            let prepared =
                GatherSum.prepare::<NoCheckpointing>([table.node()]).compute_bound().stateful();
            let (out, n_rows) = forward(&table.into_primitive().to_contiguous(), rows);
            return Some(Tensor::from_primitive::<Ad>(match prepared {
                OpsKind::Tracked(prepared) => prepared.finish((n_rows, rows.clone()), out),
                OpsKind::UnTracked(prepared) => prepared.finish(out),
            }));
        }
        let table = table.clone().try_into_primitive::<Flex>().ok()?;
        Some(Tensor::from_primitive::<Flex>(forward(&table.to_contiguous(), rows).0))
    }
}
