//! From episodes of grids to a batch of canvases with the classes to be learnt.

use std::ops::Range;

use crate::arc::{Example, Grid};
use crate::candidate::PAD_CLASS;
use crate::dataset::{Episode, Format, Frame};
use crate::model::{Batch, Canvas, Conditioning, FrameCode, MASK, PAD, UNKNOWN};

/// What a query is told about the shape of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The output's shape: cells outside it are marked, and the canvas is no larger than needed.
    Shape((usize, usize)),
    /// Nothing: the canvas has this shape, and PAD must be predicted too.
    Nothing {
        /// `(height, width)` of the canvas; at least as large as the input.
        canvas: (usize, usize),
    },
}

/// A batch with what its queries should answer.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    /// The canvases.
    pub batch: Batch,
    /// Class of each query cell.
    pub targets: Vec<u8>,
    /// Weight of each query cell in the loss: 0 where the answer is told; the others of an episode sum to 1.
    pub weights: Vec<f32>,
    /// Query cells of each query.
    pub spans: Vec<Range<usize>>,
    /// Episodes added so far.
    pub n_episodes: usize,
}

impl Encoded {
    /// Adds an episode. `told` gives, for each of its pairs, what a query on it is told; `task` is the row of
    /// the task table for the end-to-end format.
    ///
    /// # Panics
    /// If the format is end-to-end and the episode has no frame.
    pub fn add(
        &mut self,
        episode: &Episode,
        format: Format,
        task: usize,
        told: impl Fn(&Example) -> Told,
    ) {
        let first_context = self.batch.context.len();
        // Only pairs that some query reads are encoded.
        let read: Vec<usize> = (0..episode.pairs.len())
            .filter(|i| episode.queries.iter().any(|q| q.context.contains(i)))
            .collect();
        self.batch.context.extend(read.iter().map(|&i| shown_canvas(&episode.pairs[i])));
        let place = |i: &usize| first_context + read.binary_search(i).expect("it is read");
        let first_cell = self.targets.len();
        for query in &episode.queries {
            let pair = &episode.pairs[query.target];
            let conditioning = match format {
                Format::Icl => Conditioning::Context(query.context.iter().map(place).collect()),
                Format::E2e => {
                    let frame = episode.frame.expect("end-to-end episodes have a frame");
                    Conditioning::Task { task, frame: frame_code(&frame) }
                }
            };
            let canvas = query_canvas(&pair.input, told(pair));
            let start = self.targets.len();
            for (i, &code) in canvas.output.iter().enumerate() {
                let (r, c) = (i / canvas.width, i % canvas.width);
                let inside = r < pair.output.height() && c < pair.output.width();
                let class = if inside { pair.output.get(r, c) } else { PAD_CLASS as u8 };
                self.targets.push(class);
                self.weights.push(if code == PAD { 0.0 } else { 1.0 });
            }
            self.spans.push(start..self.targets.len());
            self.batch.queries.push((canvas, conditioning));
        }
        let weights = &mut self.weights[first_cell..];
        let sum: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum.max(1.0));
        self.n_episodes += 1;
    }

    /// For each query, whether the predicted classes are right in every cell that was asked for.
    ///
    /// # Panics
    /// If there are fewer predictions than query cells.
    pub fn exact(&self, predicted: &[u8]) -> Vec<bool> {
        let right = |i: usize| self.weights[i] == 0.0 || predicted[i] == self.targets[i];
        self.spans.iter().map(|span| span.clone().all(right)).collect()
    }
}

/// A frame as the model wants it.
pub fn frame_code(frame: &Frame) -> FrameCode {
    FrameCode { dihedral: frame.dihedral.index(), original: *frame.colors.inverse().table() }
}

/// A pair with its output visible.
pub fn shown_canvas(pair: &Example) -> Canvas {
    let shape = larger(pair.input.shape(), pair.output.shape());
    Canvas {
        height: shape.0,
        width: shape.1,
        input_shape: pair.input.shape(),
        output_shape: Some(pair.output.shape()),
        input: place(&pair.input, shape),
        output: place(&pair.output, shape),
    }
}

/// An input whose output is to be predicted.
pub fn query_canvas(input: &Grid, told: Told) -> Canvas {
    let (shape, output_shape) = match told {
        Told::Shape(output) => (larger(input.shape(), output), Some(output)),
        Told::Nothing { canvas } => (larger(input.shape(), canvas), None),
    };
    let code = |i: usize| match output_shape {
        None => UNKNOWN,
        Some((h, w)) if i / shape.1 < h && i % shape.1 < w => MASK,
        Some(_) => PAD,
    };
    Canvas {
        height: shape.0,
        width: shape.1,
        input_shape: input.shape(),
        output_shape,
        input: place(input, shape),
        output: (0..shape.0 * shape.1).map(code).collect(),
    }
}

/// The smallest shape that holds every grid of these pairs.
pub fn canvas_of(pairs: &[Example]) -> (usize, usize) {
    pairs.iter().flat_map(|p| [p.input.shape(), p.output.shape()]).fold((1, 1), larger)
}

fn larger(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0.max(b.0), a.1.max(b.1))
}

fn place(grid: &Grid, (height, width): (usize, usize)) -> Vec<u8> {
    let inside = |r: usize, c: usize| r < grid.height() && c < grid.width();
    (0..height * width)
        .map(|i| (i / width, i % width))
        .map(|(r, c)| if inside(r, c) { grid.get(r, c) } else { PAD })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Query;

    fn pair(input: &[[u8; 2]], output: &[[u8; 1]]) -> Example {
        Example { input: Grid::from_rows(input).unwrap(), output: Grid::from_rows(output).unwrap() }
    }

    fn episode() -> Episode {
        let pairs = vec![pair(&[[1, 2]], &[[3], [4]]), pair(&[[5, 6]], &[[7], [8]])];
        let queries =
            vec![Query { target: 0, context: vec![1] }, Query { target: 1, context: vec![0] }];
        Episode { pairs, queries, frame: Some(Frame::IDENTITY) }
    }

    #[test]
    fn a_query_does_not_see_its_own_output() {
        let mut encoded = Encoded::default();
        encoded.add(&episode(), Format::Icl, 0, |p| Told::Shape(p.output.shape()));
        let (canvas, conditioning) = &encoded.batch.queries[0];
        assert_eq!(canvas.output, [MASK, PAD, MASK, PAD]);
        assert_eq!(canvas.input, [1, 2, PAD, PAD]);
        assert_eq!(conditioning, &Conditioning::Context(vec![1]));
        assert_eq!(encoded.batch.context[1].output, [7, PAD, 8, PAD]);
    }

    #[test]
    fn told_padding_is_left_out_of_the_loss_and_unknown_padding_is_not() {
        let mut alone = episode();
        alone.queries.iter_mut().for_each(|q| q.context.clear());
        let mut told = Encoded::default();
        told.add(&alone, Format::E2e, 0, |p| Told::Shape(p.output.shape()));
        assert_eq!(told.targets[..4], [3, 10, 4, 10]);
        assert_eq!(told.weights[..4], [0.25, 0.0, 0.25, 0.0]);
        assert!(told.batch.context.is_empty(), "end-to-end queries read no pairs");
        let mut untold = Encoded::default();
        untold.add(&alone, Format::E2e, 0, |_| Told::Nothing { canvas: (2, 2) });
        assert_eq!(untold.weights[..4], [0.125; 4]);
        assert_eq!(untold.batch.queries[0].0.output, [UNKNOWN; 4]);
    }

    #[test]
    fn exact_means_every_cell_that_was_asked_for() {
        let mut encoded = Encoded::default();
        encoded.add(&episode(), Format::Icl, 0, |p| Told::Shape(p.output.shape()));
        let mut predicted = encoded.targets.clone();
        predicted[1] = 0; // told to be PAD, so not asked for
        assert_eq!(encoded.exact(&predicted), [true, true]);
        predicted[4] = 9;
        assert_eq!(encoded.exact(&predicted), [true, false]);
    }
}
