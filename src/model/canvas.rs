//! From canvases of color codes to the rows of the embedding table.
//!
//! One token is one cell of an aligned canvas: input and output lie on top of each other. A cell's token is the
//! sum of the embeddings of its input color, its output color (or that it is to be predicted), and its row and
//! column counted from the top left, from the input's bottom right and from the output's bottom right.

use std::ops::Range;
use std::sync::Arc;

use super::GridModelConfig;
use crate::kernel::{Layout, NO_ROW, Place, Rows, Sequence, TERMS};

/// Color code of a cell outside the grid.
pub const PAD: u8 = 10;

/// Output code of a cell that is to be predicted and is known to lie inside the output.
pub const MASK: u8 = 11;

/// Output code of a cell that is to be predicted and may lie outside the output.
pub const UNKNOWN: u8 = 12;

const N_SIDES: u32 = 30;
const INPUT: u32 = 0;
const OUTPUT: u32 = INPUT + 11;
const TOP: u32 = OUTPUT + 13;
const INPUT_BOTTOM: u32 = TOP + N_SIDES;
const OUTPUT_BOTTOM: u32 = INPUT_BOTTOM + N_SIDES + 1;
const LEFT: u32 = OUTPUT_BOTTOM + N_SIDES + 1;
const INPUT_RIGHT: u32 = LEFT + N_SIDES;
const OUTPUT_RIGHT: u32 = INPUT_RIGHT + N_SIDES + 1;

/// Rows of the cell part of the embedding table; the context's and the query's register tokens follow it.
pub const N_EMBED_ROWS: usize = (OUTPUT_RIGHT + N_SIDES + 1) as usize;

/// Rows of the frame table: eight symmetries, then ten original colors.
pub const N_FRAME_ROWS: usize = 18;

/// Tokens that tell an end-to-end query its frame: the symmetry and one a shown color.
pub const N_FRAME_TOKENS: usize = 11;

/// An input and an output on one canvas, as color codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    /// Rows: those of the taller of input and output.
    pub height: usize,
    /// Columns: those of the wider of input and output.
    pub width: usize,
    /// `(height, width)` of the input.
    pub input_shape: (usize, usize),
    /// `(height, width)` of the output, if the model is told.
    pub output_shape: Option<(usize, usize)>,
    /// Input codes, `height * width`: 0 to 9 or [`PAD`].
    pub input: Vec<u8>,
    /// Output codes: 0 to 9, [`PAD`], [`MASK`] or [`UNKNOWN`].
    pub output: Vec<u8>,
}

impl Canvas {
    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.height * self.width
    }

    fn cell_rows(&self) -> impl Iterator<Item = [u32; TERMS]> + '_ {
        // 0 stands for "outside" (or unknown), 1 for the last row inside, 2 for the one before it.
        let from_end = |size: usize, i: usize| if i < size { (size - i) as u32 } else { 0 };
        let out = self.output_shape.unwrap_or((0, 0));
        (0..self.n_cells()).map(move |i| {
            let (r, c) = (i / self.width, i % self.width);
            [
                INPUT + u32::from(self.input[i]),
                OUTPUT + u32::from(self.output[i]),
                TOP + r as u32,
                INPUT_BOTTOM + from_end(self.input_shape.0, r),
                OUTPUT_BOTTOM + from_end(out.0, r),
                LEFT + c as u32,
                INPUT_RIGHT + from_end(self.input_shape.1, c),
                OUTPUT_RIGHT + from_end(out.1, c),
            ]
        })
    }
}

/// Under which symmetry and recoloring a pair is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameCode {
    /// Index of the symmetry, below 8.
    pub dihedral: usize,
    /// The original color of each shown color.
    pub original: [u8; 10],
}

/// How a query learns about its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conditioning {
    /// It reads these canvases of the context (in-context format).
    Context(Vec<usize>),
    /// It reads the task tokens of this row of the task table, shown in this frame (end-to-end format).
    Task {
        /// Which task.
        task: usize,
        /// How the pair is shown.
        frame: FrameCode,
    },
}

/// Canvases with their outputs, and queries that read them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Pairs with visible outputs.
    pub context: Vec<Canvas>,
    /// Canvases whose outputs are predicted.
    pub queries: Vec<(Canvas, Conditioning)>,
}

impl Batch {
    /// Number of cells whose classes are predicted: those of the queries, in their order.
    pub fn n_query_cells(&self) -> usize {
        self.queries.iter().map(|(c, _)| c.n_cells()).sum()
    }

    /// Number of cells in all.
    pub fn n_cells(&self) -> usize {
        self.n_query_cells() + self.context.iter().map(Canvas::n_cells).sum::<usize>()
    }
}

/// A batch as the network runs it: all cells first (context, then queries), then all register tokens.
pub(super) struct Prepared {
    pub(super) rows: Arc<Rows>,
    pub(super) layout: Arc<Layout>,
    /// The same for the last block, of which nothing but the query cells is read.
    pub(super) last_layout: Arc<Layout>,
    /// The query cells among the tokens.
    pub(super) query_cells: Range<usize>,
}

pub(super) fn prepare(batch: &Batch, config: &GridModelConfig) -> Prepared {
    let m = config.n_task_tokens;
    let canvases: Vec<&Canvas> =
        batch.context.iter().chain(batch.queries.iter().map(|(c, _)| c)).collect();
    let n_cells = batch.n_cells();
    let mut rows: Rows = Vec::with_capacity(n_cells + canvases.len() * (m + N_FRAME_TOKENS));
    let mut positions = Vec::with_capacity(rows.capacity());
    let mut cells = Vec::with_capacity(canvases.len());
    for canvas in &canvases {
        let start = rows.len();
        rows.extend(canvas.cell_rows());
        let cell = |i: usize| (i / canvas.width, i % canvas.width);
        positions
            .extend((0..canvas.n_cells()).map(|i| Some(Place::new(cell(i), canvas.input_shape))));
        cells.push(start..rows.len());
    }
    let mut registers = Vec::with_capacity(canvases.len());
    let context_registers = N_EMBED_ROWS as u32;
    let query_registers = context_registers + m as u32;
    let frames = query_registers + m as u32;
    let tasks = frames + N_FRAME_ROWS as u32;
    let token = |ids: &[u32]| {
        let mut row = [NO_ROW; TERMS];
        row[..ids.len()].copy_from_slice(ids);
        row
    };
    for _ in &batch.context {
        let start = rows.len();
        rows.extend((0..m as u32).map(|i| token(&[context_registers + i])));
        registers.push(start..rows.len());
    }
    for (_, conditioning) in &batch.queries {
        let start = rows.len();
        for i in 0..m as u32 {
            rows.push(match conditioning {
                Conditioning::Context(_) => token(&[query_registers + i]),
                Conditioning::Task { task, .. } => {
                    token(&[query_registers + i, tasks + (task * m) as u32 + i])
                }
            });
        }
        if let Conditioning::Task { frame, .. } = conditioning {
            rows.push(token(&[frames + frame.dihedral as u32]));
            rows.extend(frame.original.iter().enumerate().map(|(shown, &original)| {
                token(&[INPUT + shown as u32, frames + 8 + u32::from(original)])
            }));
        }
        registers.push(start..rows.len());
    }
    positions.resize(rows.len(), None);
    let n_context = batch.context.len();
    let mut sequences: Vec<Sequence> = cells
        .iter()
        .zip(&registers)
        .map(|(c, r)| Sequence { own: vec![c.clone(), r.clone()], context: Vec::new() })
        .collect();
    for (i, (_, conditioning)) in batch.queries.iter().enumerate() {
        if let Conditioning::Context(read) = conditioning {
            sequences[n_context + i].context = read
                .iter()
                .flat_map(|&j| match config.context {
                    super::ContextTokens::Registers => vec![registers[j].clone()],
                    super::ContextTokens::Cells => vec![cells[j].clone(), registers[j].clone()],
                })
                .collect();
        }
    }
    let first_query: usize = batch.context.iter().map(Canvas::n_cells).sum();
    let query_cells = first_query..n_cells;
    let layout = Layout::new(positions, sequences);
    let last_layout = Layout { asked: query_cells.clone(), ..layout.clone() };
    Prepared {
        rows: Arc::new(rows),
        layout: Arc::new(layout),
        last_layout: Arc::new(last_layout),
        query_cells,
    }
}
