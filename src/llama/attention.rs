//! Causal grouped-query attention within sequences, and the keys and values that decoding keeps.

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData, activation};

use super::batch::{Batch, InputError};

/// Which keys a batch's tokens see; all layers share it.
pub(super) struct Visibility {
    /// What is hidden, `[n_rows, 1, length, n_keys]`; `None` if nothing is.
    hidden: Option<Tensor<4, burn::tensor::Bool>>,
}

impl Visibility {
    /// For a batch whose rows go on behind so many cached tokens each.
    pub(super) fn new(batch: &Batch, past: &[usize], device: &Device) -> Self {
        let [n_rows, length] = batch.shape();
        let n_keys = past.iter().max().unwrap_or(&0) + length;
        if length == 1 && past.iter().all(|past| past + 1 == n_keys) {
            return Self { hidden: None };
        }
        let ids = |values: Vec<i32>, shape: [usize; 4]| {
            let tensor = Tensor::<4, Int>::from_data(TensorData::new(values, shape), device);
            tensor.expand([n_rows, 1, length, n_keys])
        };
        // What is cached is of the one sequence of its row, whose number is 1.
        let mut keys = Vec::with_capacity(n_rows * n_keys);
        for (row, (own, past)) in batch.segments.chunks(length).zip(past).enumerate() {
            keys.extend(std::iter::repeat_n(1, *past).chain(own.iter().map(|&s| s as i32)));
            keys.resize((row + 1) * n_keys, 0);
        }
        let queries = batch.segments.iter().map(|&s| s as i32).collect();
        let queries = ids(queries, [n_rows, 1, length, 1]);
        let others = queries.not_equal(ids(keys, [n_rows, 1, 1, n_keys]));
        let at = past.iter().flat_map(|&past| (past..past + length).map(|at| at as i32)).collect();
        let at = ids(at, [n_rows, 1, length, 1]);
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
/// Each row holds the beginning of one sequence, as many tokens as were read of it. It belongs to one model, one
/// adapter and one device. [`Default`] is an empty one.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<[Tensor<4>; 2]>,
    lengths: Vec<usize>,
}

/// The rows of a cache that a batch's rows go on with, and the tokens that each holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behind {
    pub(super) rows: Vec<usize>,
    pub(super) past: Vec<usize>,
    /// Rows of the cache.
    n_cached: usize,
}

impl Behind {
    /// Behind nothing.
    pub(super) fn nothing(batch: &Batch) -> Self {
        let [n, _] = batch.shape();
        Self { rows: (0..n).collect(), past: vec![0; n], n_cached: n }
    }

    /// Whether the batch goes on with all rows in their order.
    fn is_all(&self) -> bool {
        self.rows.iter().copied().eq(0..self.n_cached)
    }

    /// Whether the batch's rows are equally long.
    fn is_even(&self) -> bool {
        self.past.iter().all(|past| *past == self.past[0])
    }
}

impl KvCache {
    /// Tokens of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Tokens of the longest row.
    pub fn len(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all but the first `len` tokens of each row. Costs nothing: the memory is written again later.
    pub fn truncate(&mut self, len: usize) {
        self.lengths.iter_mut().for_each(|held| *held = len.min(*held));
    }

    /// As [`KvCache::truncate`], of one row.
    pub(super) fn truncate_row(&mut self, row: usize, len: usize) {
        self.lengths[row] = len.min(self.lengths[row]);
    }

    /// The same tokens in each of `n` rows, of a cache with one row.
    pub(super) fn repeated(&self, n: usize) -> Self {
        let len = self.len();
        let repeat = |held: &Tensor<4>| held.clone().narrow(2, 0, len).repeat_dim(0, n);
        let layers = self.layers.iter().map(|layer| layer.each_ref().map(repeat)).collect();
        Self { layers, lengths: vec![len; n] }
    }

    /// For each pair of rows makes the second hold what the first holds.
    pub(super) fn copy_rows(&mut self, pairs: &[(usize, usize)]) {
        if pairs.is_empty() {
            return;
        }
        let mut from: Vec<i32> = (0..self.lengths.len() as i32).collect();
        for &(source, to) in pairs {
            from[to] = source as i32;
            self.lengths[to] = self.lengths[source];
        }
        for held in self.layers.iter_mut().flatten() {
            let from = Tensor::<1, Int>::from_data(TensorData::from(&from[..]), &held.device());
            *held = held.clone().select(0, from);
        }
    }

    /// What a batch goes on with.
    ///
    /// # Errors
    /// [`InputError::Rows`] if the cache does not have the batch's rows.
    ///
    /// # Panics
    /// If two sequences share a row of the batch, or of the cache.
    pub(super) fn behind(&self, batch: &Batch) -> Result<Behind, InputError> {
        let [n, _] = batch.shape();
        assert!(batch.has_a_sequence_a_row(), "a row of a cache holds one sequence");
        let rows = batch.cache_rows.clone().unwrap_or_else(|| (0..n).collect());
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|two| two[0] < two[1]), "a row goes on with one sequence");
        let n_cached = if self.lengths.is_empty() { n } else { self.lengths.len() };
        let all = batch.cache_rows.is_some() || n == n_cached;
        if !all || rows.iter().any(|&row| row >= n_cached) {
            return Err(InputError::Rows { cached: n_cached, rows: n });
        }
        let past = rows.iter().map(|&row| self.lengths.get(row).copied().unwrap_or(0)).collect();
        Ok(Behind { rows, past, n_cached })
    }

    /// A layer's keys and values, each `[n_rows, num_key_value_heads, capacity, head_dim]`, with room for `length`
    /// tokens behind what each row of the batch goes on with.
    pub(super) fn reserve(
        &mut self,
        layer: usize,
        behind: &Behind,
        [n_heads, length, head_dim]: [usize; 3],
        device: &Device,
        dtype: DType,
    ) -> &mut [Tensor<4>; 2] {
        let (n_rows, held_before) = (behind.n_cached, self.len());
        let all = |to: usize| [0..n_rows, 0..n_heads, 0..to, 0..head_dim];
        let zeros = |capacity: usize| {
            Tensor::<4>::zeros([n_rows, n_heads, capacity, head_dim], (device, dtype))
        };
        if self.layers.len() == layer {
            self.layers.push([zeros(0), zeros(0)]);
        }
        let held = &mut self.layers[layer];
        let needed = behind.past.iter().max().unwrap_or(&0) + length;
        if held[0].dims()[2] < needed {
            // It grows as a vector does.
            let larger = zeros(needed.next_power_of_two().max(64));
            for held in held.iter_mut() {
                let old = std::mem::replace(held, larger.clone());
                if held_before > 0 {
                    let old = old.slice(all(held_before));
                    *held = larger.clone().slice_assign(all(held_before), old);
                }
            }
        }
        held
    }

    /// Takes in a layer's keys and values for tokens behind those that the rows hold; gives those of all tokens of
    /// these rows.
    ///
    /// # Shapes
    /// - new: `[n, num_key_value_heads, length, head_dim]`
    /// - returns: `[n, num_key_value_heads, n_keys, head_dim]`, `n_keys` the longest row's with the new ones
    pub(super) fn extend(
        &mut self,
        layer: usize,
        behind: &Behind,
        new: [Tensor<4>; 2],
    ) -> [Tensor<4>; 2] {
        let [n, n_heads, length, head_dim] = new[0].dims();
        let (device, dtype) = (new[0].device(), new[0].dtype());
        let held = self.reserve(layer, behind, [n_heads, length, head_dim], &device, dtype);
        let end = behind.past.iter().max().unwrap_or(&0) + length;
        let ids = |ids: Vec<i32>| Tensor::<1, Int>::from_data(TensorData::from(&ids[..]), &device);
        // Where each head of each token goes: row, head and place.
        let places = || {
            let mut places = Vec::with_capacity(n * n_heads * length * 3);
            for (&row, &past) in behind.rows.iter().zip(&behind.past) {
                for (head, at) in
                    (0..n_heads).flat_map(|h| (past..past + length).map(move |at| (h, at)))
                {
                    places.extend([row as i32, head as i32, at as i32]);
                }
            }
            ids(places).reshape([n * n_heads * length, 3])
        };
        let places = (!(behind.is_all() && behind.is_even())).then(places);
        let rows = || ids(behind.rows.iter().map(|&row| row as i32).collect());
        let rows = (!behind.is_all()).then(rows);
        let mut held = held.iter_mut();
        new.map(|new| {
            let held = held.next().expect("keys and values");
            // The cache is the only owner of the memory here, and so it is written in place.
            let nothing = Tensor::zeros([1, 1, 1, 1], (&device, dtype));
            let whole = std::mem::replace(held, nothing);
            let whole = match &places {
                None => {
                    let from = behind.past[0];
                    whole.slice_assign([0..n, 0..n_heads, from..end, 0..head_dim], new)
                }
                Some(places) => {
                    let new = new.reshape([n * n_heads * length, head_dim]);
                    whole.scatter_nd(places.clone(), new, IndexingUpdateOp::Assign)
                }
            };
            *held = whole.clone();
            let whole = whole.narrow(2, 0, end);
            rows.iter().fold(whole, |whole, rows| whole.select(0, rows.clone()))
        })
    }

    /// Counts the tokens of `batch` as held, once all layers have taken them in.
    pub(super) fn advance(&mut self, batch: &Batch, behind: &Behind) {
        self.lengths.resize(behind.n_cached, 0);
        for (i, &row) in behind.rows.iter().enumerate() {
            self.lengths[row] += batch.place(i).1.len();
        }
    }
}
