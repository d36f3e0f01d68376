//! The transformer block in Burn operations, for every device.

use std::cell::OnceCell;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::kernel::{
    BlockParameters, BlockShape, Layout, Selection, Sequence, frequency, fused_block,
};

/// Runs a block: fused where the device has the fused operation, in Burn operations elsewhere.
///
/// `padded` is the layout for the latter; blocks of one pass share it.
///
/// # Shapes
/// - x: `[n_tokens, d_model]`
/// - lora: `[1, n]`, divided by [`BlockShape::lora_ranges`]
pub fn run_block(
    shape: &BlockShape,
    layout: &Arc<Layout>,
    padded: &OnceCell<PaddedLayout>,
    parameters: &BlockParameters,
    lora: &Tensor<2>,
    x: Tensor<2>,
) -> Tensor<2> {
    fused_block(shape, layout, parameters, lora, &x).unwrap_or_else(|| {
        let padded = padded.get_or_init(|| PaddedLayout::new(shape, layout, &x.device()));
        block_reference(shape, padded, parameters, lora, x)
    })
}

/// The block in Burn operations: sequences padded to equal lengths and masked. See [`crate::kernel`] for the
/// formulas.
///
/// # Shapes
/// As [`run_block`].
pub fn block_reference(
    shape: &BlockShape,
    layout: &PaddedLayout,
    parameters: &BlockParameters,
    lora: &Tensor<2>,
    x: Tensor<2>,
) -> Tensor<2> {
    let (d, n_heads) = (shape.d_model, shape.n_heads);
    let head_dim = d / n_heads;
    let [n, _] = x.dims();
    let linear = |i: usize, w: &Tensor<2>, x: Tensor<2>| lora_linear(shape, lora, i, w, x);

    let h = rms_norm(x.clone(), &parameters.input_norm);
    let qkv = linear(0, &parameters.qkv_proj, h);
    let part = |i: usize| qkv.clone().slice([0..n, i * d..(i + 1) * d]);
    let heads = |i: usize| part(i).reshape([n, n_heads, head_dim]);
    let scale = parameters.q_scale.clone().reshape([1, n_heads, 1]) / (head_dim as f64).sqrt();
    let q = rotate(unit_rms(heads(0)), &layout.queries_turn) * scale;
    let k = rotate(unit_rms(heads(1)), &layout.keys_turn);
    let attended = layout.attend(q, k, part(2));
    let middle = x + linear(1, &parameters.o_proj, attended);

    let m = rms_norm(middle.clone(), &parameters.mlp_norm);
    let u = activation::relu(linear(2, &parameters.up_proj, m));
    middle + linear(3, &parameters.down_proj, u.clone() * u)
}

/// `x·W`, and `scale·(x·A)·B` on top if the linear is adapted.
fn lora_linear(
    shape: &BlockShape,
    lora: &Tensor<2>,
    i: usize,
    w: &Tensor<2>,
    x: Tensor<2>,
) -> Tensor<2> {
    let y = x.clone().matmul(w.clone());
    let (ranges, _) = shape.lora_ranges();
    let (Some(adapter), Some((a, b))) = (shape.lora, &ranges[i]) else { return y };
    let (rows, columns) = shape.linears()[i];
    let a = lora.clone().slice([0..1, a.clone()]).reshape([rows, adapter.rank]);
    let b = lora.clone().slice([0..1, b.clone()]).reshape([adapter.rank, columns]);
    y + x.matmul(a).matmul(b) * adapter.scale
}

/// RMSNorm over the last axis with a gain of shape `[1, d_model]`.
pub(super) fn rms_norm(x: Tensor<2>, gain: &Tensor<2>) -> Tensor<2> {
    let mean_square = x.clone().powi_scalar(2).mean_dim(1);
    x / (mean_square + 1e-5).sqrt() * gain.clone()
}

fn unit_rms(x: Tensor<3>) -> Tensor<3> {
    let mean_square = x.clone().powi_scalar(2).mean_dim(2);
    x / (mean_square + 1e-5).sqrt()
}

/// Turns each head of each token by the angles with these cosines and sines.
fn rotate(x: Tensor<3>, [cos, sin]: &[Tensor<3>; 2]) -> Tensor<3> {
    let [n, n_heads, head_dim] = x.dims();
    let half = head_dim / 2;
    let a = x.clone().slice([0..n, 0..n_heads, 0..half]);
    let b = x.slice([0..n, 0..n_heads, half..head_dim]);
    let turned = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![turned, a * sin.clone() + b * cos.clone()], 2)
}

/// A [`Layout`] as Burn operations need it, on a device: each token's angles, and the sequences in groups of similar
/// lengths, padded to the longest of each group.
#[derive(Debug)]
pub struct PaddedLayout {
    /// Cosines and sines, `[n_tokens, n_heads, head_dim / 2]`; what is not turned has angle 0.
    queries_turn: [Tensor<3>; 2],
    keys_turn: [Tensor<3>; 2],
    groups: Vec<Group>,
    /// Where each token stands among the queries of all groups.
    back: Selection,
}

/// Sequences of similar lengths.
#[derive(Debug)]
struct Group {
    n_sequences: usize,
    /// Tokens that ask, sequence by sequence, and their number in each.
    queries: Selection,
    n_queries: usize,
    /// Tokens that are read, likewise.
    keys: Selection,
    n_keys: usize,
    /// Added to the scores: a large negative number for keys that are padding, `[n_sequences, 1, 1, n_keys]`.
    hidden: Tensor<4>,
}

/// Sequences that read at most this many tokens are one group: each further group costs a dozen more operations.
const SHORT: usize = 192;

/// Lengths are multiples of this: graphics cards multiply whole tiles, and compile a kernel for each kind of remainder.
const WHOLE: usize = 32;

impl PaddedLayout {
    /// Puts a layout on a device.
    pub fn new(shape: &BlockShape, layout: &Layout, device: &Device) -> Self {
        let n_tokens = layout.n_tokens();
        let mut order: Vec<&Sequence> = layout.sequences.iter().collect();
        order.sort_by_key(|s| std::cmp::Reverse(s.n_keys()));
        let similar = |longest: &Sequence, s: &Sequence| {
            longest.n_keys() <= SHORT || 2 * s.n_keys() > longest.n_keys()
        };
        let mut groups = Vec::new();
        let mut back = vec![None; n_tokens];
        let mut first = 0;
        while let Some(&longest) = order.first() {
            let n_sequences = order.iter().take_while(|s| similar(longest, s)).count();
            let sequences: Vec<&Sequence> = order.drain(..n_sequences).collect();
            let most_queries = sequences.iter().map(|s| s.n_queries()).max().unwrap_or(0);
            let n_queries = most_queries.next_multiple_of(WHOLE);
            let n_keys = longest.n_keys().next_multiple_of(WHOLE);
            let mut queries = vec![None; n_sequences * n_queries];
            let mut keys = vec![None; n_sequences * n_keys];
            let mut hidden = vec![HIDDEN; n_sequences * n_keys];
            for (i, sequence) in sequences.iter().enumerate() {
                for (j, token) in sequence.own.iter().flat_map(Clone::clone).enumerate() {
                    queries[i * n_queries + j] = Some(token);
                    back[token] = Some(first + i * n_queries + j);
                }
                let read = sequence.own.iter().chain(&sequence.context).flat_map(Clone::clone);
                for (j, token) in read.enumerate() {
                    keys[i * n_keys + j] = Some(token);
                    hidden[i * n_keys + j] = 0.0;
                }
            }
            first += queries.len();
            let hidden = TensorData::new(hidden, [n_sequences, 1, 1, n_keys]);
            groups.push(Group {
                n_sequences,
                queries: Selection::new(n_tokens, &queries, device),
                n_queries,
                keys: Selection::new(n_tokens, &keys, device),
                n_keys,
                hidden: Tensor::from_data(hidden, device),
            });
        }
        Self {
            queries_turn: angles(shape, layout, 0, device),
            keys_turn: angles(shape, layout, 1, device),
            groups,
            back: Selection::new(first, &back, device),
        }
    }

    /// Attention within each sequence and from it to its context.
    ///
    /// # Shapes
    /// - q, k: `[n_tokens, n_heads, head_dim]`; q already scaled
    /// - v: `[n_tokens, n_heads · head_dim]`
    /// - returns: as v
    fn attend(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<2>) -> Tensor<2> {
        let [n, n_heads, head_dim] = q.dims();
        let d = n_heads * head_dim;
        let (q, k) = (q.reshape([n, d]), k.reshape([n, d]));
        let attended = self.groups.iter().map(|group| {
            let Group { n_sequences, queries, n_queries, keys, n_keys, hidden } = group;
            let heads = |x: &Tensor<2>, selection: &Selection, len: usize| {
                selection.of(x).reshape([*n_sequences, len, n_heads, head_dim]).swap_dims(1, 2)
            };
            let scores =
                heads(&q, queries, *n_queries).matmul(heads(&k, keys, *n_keys).swap_dims(2, 3));
            let weights = activation::softmax(scores + hidden.clone(), 3);
            let out = weights.matmul(heads(&v, keys, *n_keys));
            out.swap_dims(1, 2).reshape([n_sequences * n_queries, d])
        });
        self.back.of(&Tensor::cat(attended.collect(), 0))
    }
}

/// Added to the score of a key that is not there.
const HIDDEN: f32 = -1e9;

/// Cosines and sines of the angles by which each head of each token is turned, as a query (0) or as a key (1).
fn angles(shape: &BlockShape, layout: &Layout, part: usize, device: &Device) -> [Tensor<3>; 2] {
    let (n, n_heads) = (layout.n_tokens(), shape.n_heads);
    let half = shape.d_model / n_heads / 2;
    let group = half / 4;
    // Steps are found here, angles on the device: heads of one parity turn alike.
    let steps = |parity: usize| {
        let steps = layout.positions.iter().flat_map(|position| {
            position.map_or([0.0; 4], |place| place.turns(parity)[part].map(f32::from))
        });
        TensorData::new(steps.collect::<Vec<f32>>(), [n, 1, 4, 1])
    };
    let [even, odd] = [0, 1].map(|parity| Tensor::<4>::from_data(steps(parity), device));
    let still = even.zeros_like();
    let heads = (0..n_heads).map(|head| match head {
        _ if head >= n_heads / 2 => still.clone(),
        _ if head % 2 == 0 => even.clone(),
        _ => odd.clone(),
    });
    let frequencies = (0..group).map(|i| frequency(i, group)).collect::<Vec<f32>>();
    let frequencies =
        Tensor::<4>::from_data(TensorData::new(frequencies, [1, 1, 1, group]), device);
    let angles = (Tensor::cat(heads.collect(), 1) * frequencies).reshape([n, n_heads, half]);
    [angles.clone().cos(), angles.sin()]
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::kernel::{LoraShape, Place, Precision, Sequence};
    use crate::model::grid_model::normal;
    use crate::rng::stream;

    fn random(rows: usize, columns: usize, std: f32, seed: u64, device: &Device) -> Tensor<2> {
        let mut rng = stream(seed, "test", "tensor", (rows * 1000 + columns) as u64);
        let values: Vec<f32> = (0..rows * columns).map(|_| std * normal(&mut rng)).collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), device)
    }

    /// Two encoded canvases and two queries that read them, of unequal sizes, some tokens without a place.
    fn layout(seed: u64) -> Layout {
        let mut rng = stream(seed, "test", "layout", 0);
        let mut positions = Vec::new();
        let mut own = Vec::new();
        for _ in 0..4 {
            let (height, width) = (rng.random_range(1..12), rng.random_range(1..12));
            let start = positions.len();
            let input = (rng.random_range(1..=height), rng.random_range(1..=width));
            positions.extend(
                (0..height * width).map(|i| Some(Place::new((i / width, i % width), input))),
            );
            own.push(start..positions.len());
        }
        let registers: Vec<_> =
            (0..4).map(|i| positions.len() + 3 * i..positions.len() + 3 * i + 3).collect();
        positions.resize(positions.len() + 12, None);
        let sequences = (0..4)
            .map(|i| Sequence {
                own: vec![own[i].clone(), registers[i].clone()],
                context: match i {
                    2 => vec![registers[0].clone(), own[1].clone(), registers[1].clone()],
                    3 => vec![own[0].clone(), registers[0].clone()],
                    _ => vec![],
                },
            })
            .collect();
        Layout::new(positions, sequences)
    }

    fn check(
        seed: u64,
        d_model: usize,
        n_heads: usize,
        d_ff: usize,
        lora: Option<LoraShape>,
        frozen: bool,
    ) {
        let shape = BlockShape { d_model, n_heads, d_ff, lora, precision: Precision::F32 };
        check_layout(&Arc::new(layout(seed)), seed, &shape, frozen);
    }

    fn check_layout(layout: &Arc<Layout>, seed: u64, shape: &BlockShape, frozen: bool) {
        let device = Device::flex().autodiff();
        let BlockShape { d_model, n_heads, d_ff, .. } = *shape;
        let n = layout.n_tokens();
        let d = d_model;
        let lora_len = shape.lora_ranges().1.max(1);
        let leaf = |t: Tensor<2>, track: bool| if track { t.require_grad() } else { t };
        let run = |fused: bool| {
            let weight = |rows, columns, std, i| {
                leaf(random(rows, columns, std, seed + i, &device), !frozen)
            };
            let std = (d as f32).powf(-0.5);
            let parameters = BlockParameters {
                input_norm: weight(1, d, 1.0, 1),
                qkv_proj: weight(d, 3 * d, std, 2),
                q_scale: weight(1, n_heads, 1.0, 3),
                o_proj: weight(d, d, std, 4),
                mlp_norm: weight(1, d, 1.0, 5),
                up_proj: weight(d, d_ff, std, 6),
                down_proj: weight(d_ff, d, std, 7),
            };
            let lora = leaf(random(1, lora_len, 0.1, seed + 8, &device), shape.lora.is_some());
            let x = leaf(random(n, d, 1.0, seed + 9, &device), true);
            let y = if fused {
                fused_block(shape, layout, &parameters, &lora, &x).expect("this is the CPU")
            } else {
                let padded = PaddedLayout::new(shape, layout, &device);
                block_reference(shape, &padded, &parameters, &lora, x.clone())
            };
            let [y, direction] = [y, random(n, d, 1.0, seed + 10, &device)]
                .map(|t| t.slice([layout.asked.clone(), 0..d]));
            let grads = (y.clone() * direction).sum().backward();
            let p = &parameters;
            let all = [
                ("x", &x),
                ("input_norm", &p.input_norm),
                ("qkv_proj", &p.qkv_proj),
                ("q_scale", &p.q_scale),
                ("o_proj", &p.o_proj),
                ("mlp_norm", &p.mlp_norm),
                ("up_proj", &p.up_proj),
                ("down_proj", &p.down_proj),
                ("lora", &lora),
            ];
            let mut out = vec![("y", Some(y.inner()))];
            out.extend(all.map(|(name, t)| (name, t.grad(&grads))));
            out
        };
        for ((name, fused), (_, reference)) in run(true).into_iter().zip(run(false)) {
            assert_eq!(fused.is_some(), reference.is_some(), "{name} has a gradient in one only");
            if let (Some(a), Some(b)) = (fused, reference) {
                let size: f32 = b.clone().abs().max().into_scalar();
                let off: f32 = (a - b).abs().max().into_scalar();
                assert!(
                    off <= 2e-5 * size.max(1.0),
                    "{name} is off by {off:e}, values up to {size}"
                );
            }
        }
    }

    const LORA: LoraShape = LoraShape { rank: 4, scale: 2.0, targets: [true; 4] };

    #[test]
    fn fused_block_equals_the_reference_with_all_weights_trained() {
        for seed in 0..3 {
            check(seed * 100, 32, 4, 64, None, false);
        }
        check(7, 64, 2, 48, None, false);
    }

    #[test]
    fn fused_block_equals_the_reference_with_lora() {
        for (seed, targets) in [[true; 4], [true, false, false, true], [false, true, true, false]]
            .into_iter()
            .enumerate()
        {
            check(50 + seed as u64, 32, 4, 64, Some(LoraShape { targets, ..LORA }), true);
        }
        check(60, 48, 6, 100, Some(LORA), false);
    }

    #[test]
    fn where_few_outputs_are_asked_for_the_fused_block_equals_the_reference_there() {
        for seed in [3, 4] {
            let all = layout(seed);
            let queries = all.sequences[2].own[0].start..all.sequences[3].own[0].end;
            let one = all.sequences[3].own[1].clone();
            for asked in [queries, one] {
                let layout = Arc::new(Layout { asked, ..all.clone() });
                let (precision, d_model) = (Precision::F32, 32);
                let shape = BlockShape { d_model, n_heads: 4, d_ff: 64, lora: None, precision };
                check_layout(&layout, seed, &shape, false);
                check_layout(&layout, seed, &BlockShape { lora: Some(LORA), ..shape }, false);
            }
        }
    }

    #[test]
    fn fused_gradients_agree_with_finite_differences() {
        let device = Device::flex();
        let shape = BlockShape {
            d_model: 16,
            n_heads: 2,
            d_ff: 32,
            lora: Some(LORA),
            precision: Precision::F32,
        };
        let layout = Arc::new(layout(3));
        let n = layout.n_tokens();
        let lora = random(1, shape.lora_ranges().1, 0.1, 1, &device);
        let direction = random(1, shape.lora_ranges().1, 0.1, 2, &device);
        let x = random(n, 16, 1.0, 3, &device);
        let weight = |rows, columns, i| random(rows, columns, 0.25, i, &device);
        let parameters = BlockParameters {
            input_norm: weight(1, 16, 4),
            qkv_proj: weight(16, 48, 5),
            q_scale: weight(1, 2, 6),
            o_proj: weight(16, 16, 7),
            mlp_norm: weight(1, 16, 8),
            up_proj: weight(16, 32, 9),
            down_proj: weight(32, 16, 10),
        };
        let loss = |lora: &Tensor<2>| -> f64 {
            let y = fused_block(&shape, &layout, &parameters, lora, &x).expect("this is the CPU");
            y.into_data().iter::<f64>().map(|v| v * v).sum::<f64>()
        };
        let h = 1e-2;
        let slope = (loss(&(lora.clone() + direction.clone() * h))
            - loss(&(lora.clone() - direction.clone() * h)))
            / (2.0 * h);
        let tracked = |t: &Tensor<2>| Tensor::from_inner(t.clone());
        let p = &parameters;
        let parameters = BlockParameters {
            input_norm: tracked(&p.input_norm),
            qkv_proj: tracked(&p.qkv_proj),
            q_scale: tracked(&p.q_scale),
            o_proj: tracked(&p.o_proj),
            mlp_norm: tracked(&p.mlp_norm),
            up_proj: tracked(&p.up_proj),
            down_proj: tracked(&p.down_proj),
        };
        let leaf = tracked(&lora).require_grad();
        let y = fused_block(&shape, &layout, &parameters, &leaf, &tracked(&x))
            .expect("this is the CPU");
        let grads = y.powi_scalar(2).sum().backward();
        let exact: f32 = (leaf.grad(&grads).expect("a leaf") * direction).sum().into_scalar();
        let off = (f64::from(exact) - slope).abs() / slope.abs();
        assert!(off < 2e-3, "slope {slope}, gradient {exact}");
    }
}
