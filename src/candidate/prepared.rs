//! A map turned and recolored to the task's frame, for reading it more than once.

use super::cell_map::{CellMap, LEAST_LOG_PROB, Shape};
use crate::arc::{Color, Grid, N_COLORS};

/// A map, ready to be read cell by cell.
pub(super) struct PreparedMap<'a> {
    pub(super) map: &'a CellMap,
    /// Log-probabilities of the task's colors in each cell of the canvas, turned to the task's frame; as
    /// [`CellMap::log_prob`] counts them.
    colors: Vec<[f32; N_COLORS]>,
    /// Height and width of the turned canvas.
    canvas: Shape,
    /// [`CellMap::shape_log_probs`].
    pub(super) shapes: Vec<(Shape, f64)>,
}

impl<'a> PreparedMap<'a> {
    pub(super) fn new(map: &'a CellMap) -> Self {
        let shown_canvas = (map.height, map.width);
        let task_frame = map.view.dihedral.inverse();
        let canvas = task_frame.apply_shape(shown_canvas);
        let shown_colors = map.view.colors.table().map(usize::from);
        let cells = (0..canvas.0).flat_map(|row| (0..canvas.1).map(move |column| (row, column)));
        let colors = cells.map(|(row, column)| {
            let (row, column) = task_frame.source(shown_canvas, row, column);
            let index = row * map.width + column;
            let (cell, norm) = (&map.log_probs[index], map.log_norm(index));
            shown_colors.map(|color| (cell[color] - norm).max(LEAST_LOG_PROB))
        });
        Self { map, colors: colors.collect(), canvas, shapes: map.shape_log_probs() }
    }

    /// Where a grid of `shape` (in the task's frame) stands, or `None` if the map cannot hold it.
    pub(super) fn place(&self, shape: Shape) -> Option<Placed<'_>> {
        if !self.map.holds(shape) {
            return None;
        }
        // The corner that is shown at the top left is the one that the grid shares with the canvas.
        let dihedral = self.map.view.dihedral;
        let shown_shape = dihedral.apply_shape(shape);
        let (row, column) = dihedral.inverse().source(shown_shape, 0, 0);
        let (row, column) = dihedral.source(self.canvas, row, column);
        Some(Placed {
            colors: &self.colors[row * self.canvas.1 + column..],
            stride: self.canvas.1,
            shape,
        })
    }

    /// The best color of every cell of a grid of `shape`, which the map can hold.
    pub(super) fn best_grid(&self, shape: Shape) -> Grid {
        let placed = self.place(shape).expect("the shape is one of the map's own");
        let cells = placed.cells().map(|cell| best_two(cell).0);
        Grid::from_cells(shape.0, shape.1, cells.collect()).expect("a legal shape and colors")
    }
}

/// The cells of a map on which a grid stands.
pub(super) struct Placed<'a> {
    /// The canvas from the grid's top-left cell on.
    colors: &'a [[f32; N_COLORS]],
    /// Cells from a row to the next.
    stride: usize,
    shape: Shape,
}

impl<'a> Placed<'a> {
    /// Log-probabilities of the task's colors, cell by cell.
    pub(super) fn cells(&self) -> impl Iterator<Item = &'a [f32; N_COLORS]> + use<'a> {
        let (height, width) = self.shape;
        self.colors.chunks(self.stride).take(height).flat_map(move |row| &row[..width])
    }

    /// As [`Placed::cells`], for one cell of the grid.
    pub(super) fn cell(&self, index: usize) -> &'a [f32; N_COLORS] {
        &self.colors[index / self.shape.1 * self.stride + index % self.shape.1]
    }
}

/// The best color of a cell, the first of equals, and how much more probable its log is than the second.
pub(super) fn best_two(cell: &[f32; N_COLORS]) -> (Color, f32) {
    // Without branches: which color is best is hard to foresee.
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let first = cell.iter().copied().fold(f32::NEG_INFINITY, larger);
    let best = (0..N_COLORS).rev().fold(0, |best, c| if cell[c] == first { c } else { best });
    let others = cell.iter().enumerate();
    let second = others.fold(f32::NEG_INFINITY, |second, (color, &log_prob)| {
        larger(second, if color == best { f32::NEG_INFINITY } else { log_prob })
    });
    (best as Color, first - second)
}
