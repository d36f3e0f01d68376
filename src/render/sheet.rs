//! Many tasks on one image, small, to look them over.

use image::RgbImage;

use super::canvas::{Canvas, text_width};
use super::png::{FAINT, INK, PAPER};
use super::{LINES, PALETTE};
use crate::arc::{Grid, Task};

/// Pixels of a cell's side, its line included.
const CELL: usize = 9;
/// Height of the capitals of a task's id.
const LABEL: usize = 8;
/// Pixels around everything, between tasks, between examples, and between input and output.
const MARGIN: usize = 16;
const TASK_GAP: usize = 28;
const EXAMPLE_GAP: usize = 16;
const PAIR_GAP: usize = 5;
/// Width at which tasks wrap.
const MAX_WIDTH: usize = 1500;

/// A task laid out as a strip: its grids with their distance from the left.
struct Strip<'a> {
    label: &'a str,
    grids: Vec<(usize, &'a Grid)>,
    /// Where the tests begin.
    tests_at: usize,
    width: usize,
    height: usize,
}

impl<'a> Strip<'a> {
    fn new(task: &'a Task) -> Self {
        let mut grids = Vec::new();
        let mut x = 0;
        let mut add = |pair: [Option<&'a Grid>; 2], x: &mut usize| {
            for grid in pair.into_iter().flatten() {
                grids.push((*x, grid));
                *x += grid.width() * CELL + PAIR_GAP;
            }
            *x += EXAMPLE_GAP - PAIR_GAP;
        };
        for example in &task.examples {
            add([Some(&example.input), Some(&example.output)], &mut x);
        }
        let tests_at = x;
        x += EXAMPLE_GAP;
        for test in &task.tests {
            add([Some(&test.input), test.output.as_ref()], &mut x);
        }
        let tallest = grids.iter().map(|(_, grid)| grid.height()).max().unwrap_or(0);
        let width = (x - EXAMPLE_GAP).max(text_width(&task.id, LABEL));
        let height = 2 * LABEL + tallest * CELL;
        Self { label: &task.id, grids, tests_at, width, height }
    }

    fn draw(&self, canvas: &mut Canvas, [x, y]: [usize; 2]) {
        canvas.text([x, y], self.label, LABEL, INK);
        let top = y + 2 * LABEL;
        canvas.fill([x + self.tests_at, top], [1, self.height - 2 * LABEL], FAINT);
        for &(left, grid) in &self.grids {
            draw_grid(canvas, grid, [x + left, top]);
        }
    }
}

fn draw_grid(canvas: &mut Canvas, grid: &Grid, [x, y]: [usize; 2]) {
    canvas.fill([x, y], [grid.width() * CELL + 1, grid.height() * CELL + 1], LINES);
    for (r, row) in grid.rows().enumerate() {
        for (c, &color) in row.iter().enumerate() {
            let corner = [x + c * CELL + 1, y + r * CELL + 1];
            canvas.fill(corner, [CELL - 1, CELL - 1], PALETTE[usize::from(color)]);
        }
    }
}

/// The tasks as one image: each a strip of its demonstrations and, after a line, its tests with their
/// answers where they are known; as many strips side by side as fit.
pub fn contact_sheet(tasks: &[Task]) -> RgbImage {
    let strips: Vec<Strip> = tasks.iter().map(Strip::new).collect();
    let mut placed = Vec::with_capacity(strips.len());
    let (mut x, mut y, mut shelf) = (MARGIN, MARGIN, 0);
    for strip in &strips {
        if x > MARGIN && x + strip.width > MAX_WIDTH {
            (x, y, shelf) = (MARGIN, y + shelf + TASK_GAP, 0);
        }
        placed.push([x, y]);
        x += strip.width + TASK_GAP;
        shelf = shelf.max(strip.height);
    }
    let right = placed.iter().zip(&strips).map(|(at, strip)| at[0] + strip.width).max();
    let width = right.unwrap_or(MARGIN) + MARGIN;
    let mut canvas = Canvas::new(width, y + shelf + MARGIN, PAPER);
    for (strip, at) in strips.iter().zip(placed) {
        strip.draw(&mut canvas, at);
    }
    canvas.into_image()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{Example, Test};

    fn task(side: usize, color: u8) -> Task {
        let grid = Grid::filled(side, side, color);
        Task {
            id: "a".to_string(),
            examples: vec![Example { input: grid.clone(), output: grid.clone() }],
            tests: vec![Test { input: grid.clone(), output: Some(grid) }],
        }
    }

    #[test]
    fn every_cell_is_drawn_in_its_color() {
        let sheet = contact_sheet(&[task(3, 4)]);
        let n = sheet.pixels().filter(|pixel| pixel.0 == PALETTE[4]).count();
        assert_eq!(n, 4 * 9 * (CELL - 1) * (CELL - 1));
    }

    #[test]
    fn tasks_wrap_instead_of_growing_wider() {
        let one = contact_sheet(&[task(10, 1)]);
        let many = contact_sheet(&vec![task(10, 1); 9]);
        assert!(many.width() as usize <= MAX_WIDTH + MARGIN);
        assert!(many.height() > 2 * one.height());
    }
}
