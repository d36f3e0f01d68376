//! Where the task tokens of an end-to-end fit start: at the training task whose tokens explain the demonstrations best.

use burn::tensor::Tensor;

use crate::arc::Task;
use crate::dataset::{Episode, Format, Frame, Query};
use crate::engine::{Encoded, Told, canvas_of};
use crate::model::{GridModel, log_probabilities};

/// Share of the starts that reads the next demonstration too is one in so many.
const KEPT: usize = 4;

/// Canvas cells in one forward pass.
const CELLS_AT_ONCE: usize = 4096;

/// The start (its index) under which the model, as it is, gives the demonstrations the highest probability.
///
/// It is found by successive halving (Jamieson and Talwalkar 2016): all starts predict the smallest demonstration, the best quarter
/// the next one as well, and so on, judged by the sum of their losses. Of `cells`, the canvas cells that all this may read,
/// follows how many starts take part: the first ones. With one start, or with too few cells for two, the first is taken unread.
pub(super) fn nearest_start(model: &GridModel, task: &Task, told: bool, cells: usize) -> usize {
    let mut order: Vec<usize> = (0..task.examples.len()).collect();
    let n_cells = |&i: &usize| {
        // Where the shape is not told, every query has the canvas of the whole task.
        let (h, w) = canvas_of(if told { &task.examples[i..=i] } else { &task.examples });
        h * w
    };
    order.sort_by_key(n_cells);
    let mut share = 1.0;
    let mut cells_a_start = 0.0;
    for i in &order {
        cells_a_start += share * n_cells(i) as f64;
        share /= KEPT as f64;
    }
    let n_starts = ((cells as f64 / cells_a_start) as usize).min(model.n_starts());
    let mut left: Vec<(usize, f32)> = (0..n_starts.max(1)).map(|start| (start, 0.0)).collect();
    for demonstration in order {
        if left.len() == 1 {
            break;
        }
        let starts: Vec<usize> = left.iter().map(|&(start, _)| start).collect();
        let losses = losses(model, task, demonstration, told, &starts);
        left.iter_mut().zip(losses).for_each(|((_, sum), loss)| *sum += loss);
        // Equal sums keep the order of the starts.
        left.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        left.truncate(left.len().div_ceil(KEPT));
    }
    left[0].0
}

/// Mean loss of a demonstration's cells under each start, in nats.
fn losses(
    model: &GridModel,
    task: &Task,
    demonstration: usize,
    told: bool,
    starts: &[usize],
) -> Vec<f32> {
    let pair = &task.examples[demonstration];
    let canvas = canvas_of(&task.examples);
    let told = if told { Told::Shape(pair.output.shape()) } else { Told::Nothing { canvas } };
    let episode = Episode {
        pairs: vec![pair.clone()],
        queries: vec![Query { target: 0, context: Vec::new() }],
        frame: Some(Frame::IDENTITY),
    };
    let (h, w) = canvas;
    let mut losses = Vec::with_capacity(starts.len());
    for starts in starts.chunks((CELLS_AT_ONCE / (h * w)).max(1)) {
        let mut encoded = Encoded::default();
        (0..starts.len()).for_each(|row| encoded.add(&episode, Format::E2e, row, |_| told));
        let table = starts.iter().map(|&start| model.start(start)).collect();
        let logits = model.forward(&encoded.batch, Some(&Tensor::cat(table, 0)), None);
        let log_probs = log_probabilities(logits);
        let loss = |i: usize| -encoded.weights[i] * log_probs[i][usize::from(encoded.targets[i])];
        losses.extend(encoded.spans.iter().map(|span| span.clone().map(loss).sum::<f32>()));
    }
    losses
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::arc::{Example, Grid};
    use crate::model::{ContextTokens, GridModelConfig};

    const STARTS: usize = 40;

    /// A model whose answers depend on its start.
    fn model() -> GridModel {
        let config = GridModelConfig {
            d_model: 32,
            n_layers: 2,
            n_heads: 4,
            d_ff: 64,
            n_task_tokens: 2,
            context: ContextTokens::Cells,
        };
        let device = Device::flex();
        let model = GridModel::random(&config, 1, &device);
        let random = |rows: usize, columns: usize| {
            Tensor::random([rows, columns], burn::tensor::Distribution::Normal(0.0, 1.0), &device)
        };
        GridModel { task_tokens: random(STARTS * 2, 32), head: random(32, 11), ..model }
    }

    fn task() -> Task {
        let pair = |size: usize, color: u8| Example {
            input: Grid::filled(size, size, color),
            output: Grid::filled(size, size, 9 - color),
        };
        Task { id: "t".into(), examples: vec![pair(4, 1), pair(2, 3), pair(3, 5)], tests: vec![] }
    }

    fn sums(model: &GridModel, demonstrations: &[usize], starts: usize) -> Vec<f32> {
        let starts: Vec<usize> = (0..starts).collect();
        let mut sums = vec![0.0; starts.len()];
        for &i in demonstrations {
            let losses = losses(model, &task(), i, true, &starts);
            sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        }
        sums
    }

    #[test]
    fn the_start_with_the_least_loss_is_found_by_halving_from_the_smallest_demonstration_on() {
        let model = model();
        let mut left: Vec<usize> = (0..STARTS).collect();
        for read in [&[1][..], &[1, 2], &[1, 2, 0]] {
            let sums = sums(&model, read, STARTS);
            left.sort_by(|&a, &b| sums[a].total_cmp(&sums[b]));
            left.truncate(left.len().div_ceil(KEPT));
        }
        assert_eq!(nearest_start(&model, &task(), true, usize::MAX), left[0]);
        // Alone it has the loss that it has among others.
        let (alone, all) = (losses(&model, &task(), 0, true, &[7]), sums(&model, &[0], STARTS));
        assert!((alone[0] - all[7]).abs() < 1e-4, "{} {}", alone[0], all[7]);
    }

    #[test]
    fn the_cells_that_may_be_read_limit_the_starts_that_take_part() {
        let model = model();
        let found = |cells| nearest_start(&model, &task(), true, cells);
        // 4 cells, a quarter of 9, a sixteenth of 16: 7.25 a start.
        let first_four = sums(&model, &[1], 4);
        let best = (0..4).min_by(|&a, &b| first_four[a].total_cmp(&first_four[b])).unwrap();
        assert_eq!(found(29), best);
        assert_eq!(found(0), 0);
    }
}
