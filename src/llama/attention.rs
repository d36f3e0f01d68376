//! Causal grouped-query attention within sequences, and the keys and values that decoding keeps.

use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

use super::batch::Batch;

/// Which keys a batch's tokens see; all layers share it.
pub(super) struct Visibility {
    /// What is hidden, `[n_rows, 1, length, n_keys]`; `None` if nothing is.
    hidden: Option<Tensor<4, burn::tensor::Bool>>,
}

impl Visibility {
    /// For a batch behind the `cached` tokens' segments of each row.
    pub(super) fn new(batch: &Batch, cached: &[Vec<u32>], device: &Device) -> Self {
        let [n_rows, length] = batch.shape();
        let past = cached.first().map_or(0, Vec::len);
        let n_keys = past + length;
        let own = |row: usize| &batch.segments[row * length..(row + 1) * length];
        let one_sequence = |row: usize| {
            let earlier = cached.get(row).map_or(&[][..], Vec::as_slice);
            earlier.iter().chain(own(row)).all(|&s| s == own(row)[0])
        };
        if length == 1 && (0..n_rows).all(one_sequence) {
            return Self { hidden: None };
        }
        let ids = |values: Vec<i32>, shape: [usize; 4]| {
            let tensor = Tensor::<4, Int>::from_data(TensorData::new(values, shape), device);
            tensor.expand([n_rows, 1, length, n_keys])
        };
        let queries = batch.segments.iter().map(|&s| s as i32).collect();
        let mut keys = Vec::with_capacity(n_rows * n_keys);
        for row in 0..n_rows {
            keys.extend(cached.get(row).into_iter().flatten().chain(own(row)).map(|&s| s as i32));
        }
        let queries = ids(queries, [n_rows, 1, length, 1]);
        let others = queries.not_equal(ids(keys, [n_rows, 1, 1, n_keys]));
        let at = ids((past as i32..n_keys as i32).collect(), [1, 1, length, 1]);
        let later = ids((0..n_keys as i32).collect(), [1, 1, 1, n_keys]).greater(at);
        Self { hidden: Some(others.bool_or(later)) }
    }
}

/// What each query reads of the keys that it sees.
///
/// Heads that share a key are laid side by side as rows of one product, so that keys and values are never
/// repeated. Scores and softmax are f32 whatever the inputs are.
///
/// # Shapes
/// - q: `[n_rows, num_attention_heads, length, head_dim]`
/// - k, v: `[n_rows, num_key_value_heads, n_keys, head_dim]`
/// - returns: as q
pub(super) fn attend(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    visibility: &Visibility,
) -> Tensor<4> {
    let dtype = q.dtype();
    let [n_rows, n_heads, length, head_dim] = q.dims();
    let [_, n_kv_heads, n_keys, _] = k.dims();
    let grouped = [n_rows, n_kv_heads, n_heads / n_kv_heads * length];
    let [a, b, c] = grouped;
    let q = q.mul_scalar((head_dim as f64).powf(-0.5)).reshape([a, b, c, head_dim]);
    let scores = q.matmul(k.swap_dims(2, 3)).cast(DType::F32);
    let scores = scores.reshape([n_rows, n_heads, length, n_keys]);
    let scores = match &visibility.hidden {
        Some(hidden) => {
            scores.mask_fill(hidden.clone().expand([n_rows, n_heads, length, n_keys]), -1e30)
        }
        None => scores,
    };
    let weights = activation::softmax(scores, 3).cast(dtype).reshape([a, b, c, n_keys]);
    weights.matmul(v).reshape([n_rows, n_heads, length, head_dim])
}

/// Keys and values of the tokens that were read, so that decoding reads each only once.
///
/// It belongs to one model, one adapter and one device. [`Default`] is an empty one.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<[Tensor<4>; 2]>,
    /// Segments of the tokens held, row by row: padding stays in the cache and is never looked at.
    pub(super) segments: Vec<Vec<u32>>,
}

impl KvCache {
    /// Tokens a row, padding included.
    pub fn len(&self) -> usize {
        self.segments.first().map_or(0, Vec::len)
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all but the first `len` tokens of each row. Costs nothing: the memory is written again later.
    pub fn truncate(&mut self, len: usize) {
        self.segments.iter_mut().for_each(|row| row.truncate(len));
    }

    /// The same tokens in each of `n` rows, of a cache with one row.
    pub(super) fn repeated(&self, n: usize) -> Self {
        let (len, rows) = (self.len(), self.segments.iter().cycle().take(n));
        let repeat = |held: &Tensor<4>| held.clone().narrow(2, 0, len).repeat_dim(0, n);
        let layers = self.layers.iter().map(|layer| layer.each_ref().map(repeat)).collect();
        let segments = if len == 0 { Vec::new() } else { rows.cloned().collect() };
        Self { layers, segments }
    }

    /// A layer's keys and values, each `[n_rows, num_key_value_heads, capacity, head_dim]`, with room for `length`
    /// tokens behind [`KvCache::len`].
    pub(super) fn reserve(
        &mut self,
        layer: usize,
        [n_rows, n_heads, length, head_dim]: [usize; 4],
        device: &Device,
        dtype: DType,
    ) -> &mut [Tensor<4>; 2] {
        let past = self.len();
        let all = |to: usize| [0..n_rows, 0..n_heads, 0..to, 0..head_dim];
        let zeros = |capacity: usize| {
            Tensor::<4>::zeros([n_rows, n_heads, capacity, head_dim], (device, dtype))
        };
        if self.layers.len() == layer {
            self.layers.push([zeros(0), zeros(0)]);
        }
        let held = &mut self.layers[layer];
        if held[0].dims()[2] < past + length {
            // It grows as a vector does.
            let larger = zeros((past + length).next_power_of_two().max(64));
            for held in held.iter_mut() {
                let old = std::mem::replace(held, larger.clone());
                if past > 0 {
                    *held = larger.clone().slice_assign(all(past), old.slice(all(past)));
                }
            }
        }
        held
    }

    /// Takes in a layer's keys and values for the tokens behind [`KvCache::len`]; gives those of all tokens.
    pub(super) fn extend(&mut self, layer: usize, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let past = self.len();
        let sizes @ [n_rows, n_heads, length, head_dim] = new[0].dims();
        let end = past + length;
        let range = |from: usize| [0..n_rows, 0..n_heads, from..end, 0..head_dim];
        let held = self.reserve(layer, sizes, &new[0].device(), new[0].dtype());
        let mut held = held.iter_mut();
        new.map(|new| {
            let held = held.next().expect("keys and values");
            // The cache is the only owner of the memory here, and so it is written in place.
            let nothing = Tensor::zeros([1, 1, 1, 1], &new.device());
            let whole = std::mem::replace(held, nothing).slice_assign(range(past), new);
            *held = whole.clone();
            whole.slice(range(0))
        })
    }

    /// Counts the tokens of `batch` as held, once all layers have taken them in.
    pub(super) fn advance(&mut self, batch: &Batch) {
        self.segments.resize(batch.n_rows, Vec::new());
        for (row, new) in self.segments.iter_mut().zip(batch.segments.chunks(batch.length)) {
            row.extend(new);
        }
    }
}
