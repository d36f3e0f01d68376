//! What the generators look with: objects and rooms as connected components.
//!
//! Here too 0 is the background.

use crate::arc::{Color, Grid};

use super::canvas::{AROUND, Cell, SIDES, Step, cells, paint, step};

/// Cells that hang together, and the box around them.
#[derive(Debug, Clone)]
pub(super) struct Object {
    /// The cells; the first is the topmost of its leftmost, in reading order the first.
    pub(super) cells: Vec<Cell>,
    /// First row of the box.
    pub(super) top: usize,
    /// First column of the box.
    pub(super) left: usize,
    /// Rows of the box.
    pub(super) height: usize,
    /// Columns of the box.
    pub(super) width: usize,
}

impl Object {
    fn new(cells: Vec<Cell>) -> Self {
        let rows = || cells.iter().map(|&(r, _)| r);
        let columns = || cells.iter().map(|&(_, c)| c);
        let (top, left) = (rows().min().unwrap_or(0), columns().min().unwrap_or(0));
        let height = rows().max().unwrap_or(0) + 1 - top;
        let width = columns().max().unwrap_or(0) + 1 - left;
        Self { cells, top, left, height, width }
    }

    /// First cell of the box.
    pub(super) fn corner(&self) -> Cell {
        (self.top, self.left)
    }

    /// Number of cells.
    pub(super) fn size(&self) -> usize {
        self.cells.len()
    }

    /// The color of the first cell.
    pub(super) fn color(&self, grid: &Grid) -> Color {
        grid.get(self.cells[0].0, self.cells[0].1)
    }

    /// The box with this object's cells alone.
    pub(super) fn sprite(&self, grid: &Grid) -> Grid {
        let mut sprite = Grid::filled(self.height, self.width, 0);
        for &(r, c) in &self.cells {
            sprite.set(r - self.top, c - self.left, grid.get(r, c));
        }
        sprite
    }

    /// The form: the box with 1 for the object's cells.
    pub(super) fn mask(&self) -> Grid {
        let mut mask = Grid::filled(self.height, self.width, 0);
        paint(&mut mask, self.cells.iter().map(|&(r, c)| (r - self.top, c - self.left)), 1);
        mask
    }

    /// True if the object fills its box.
    pub(super) fn is_solid(&self) -> bool {
        self.size() == self.height * self.width
    }

    /// True if the object is the outline of its box and the box has an inside.
    pub(super) fn is_frame(&self) -> bool {
        self.height > 2
            && self.width > 2
            && self.size() == 2 * (self.height + self.width) - 4
            && self.cells.iter().all(|&(r, c)| {
                r == self.top
                    || c == self.left
                    || r + 1 == self.top + self.height
                    || c + 1 == self.left + self.width
            })
    }

    /// True if a cell of the object lies on the edge of the grid.
    pub(super) fn touches_edge(&self, grid: &Grid) -> bool {
        self.top == 0
            || self.left == 0
            || self.top + self.height == grid.height()
            || self.left + self.width == grid.width()
    }
}

/// The components of the cells that are `member`s, two neighbors being joined if `joined`; in the
/// order of their first cells.
pub(super) fn components(
    grid: &Grid,
    steps: &[Step],
    member: impl Fn(Color) -> bool,
    joined: impl Fn(Color, Color) -> bool,
) -> Vec<Object> {
    let width = grid.width();
    let mut seen = vec![false; grid.cells().len()];
    let mut found = Vec::new();
    for start in cells(grid) {
        if seen[start.0 * width + start.1] || !member(grid.get(start.0, start.1)) {
            continue;
        }
        seen[start.0 * width + start.1] = true;
        let mut component = vec![start];
        let mut next = 0;
        while let Some(&cell) = component.get(next) {
            next += 1;
            let color = grid.get(cell.0, cell.1);
            for &direction in steps {
                let Some((r, c)) = step(grid, cell, direction) else { continue };
                let neighbor = grid.get(r, c);
                if !seen[r * width + c] && member(neighbor) && joined(color, neighbor) {
                    seen[r * width + c] = true;
                    component.push((r, c));
                }
            }
        }
        found.push(Object::new(component));
    }
    found
}

/// The objects of a scene: what is not background and hangs together by sides or corners, whatever
/// its colors.
pub(super) fn objects(grid: &Grid) -> Vec<Object> {
    components(grid, &AROUND, |c| c != 0, |_, _| true)
}

/// The objects of one color each, hanging together by sides or corners.
pub(super) fn plain_objects(grid: &Grid) -> Vec<Object> {
    components(grid, &AROUND, |c| c != 0, |a, b| a == b)
}

/// The areas of background, hanging together by their sides.
pub(super) fn rooms(grid: &Grid) -> Vec<Object> {
    components(grid, &SIDES, |c| c == 0, |_, _| true)
}

/// The areas of background that do not reach the edge of the grid.
pub(super) fn closed_rooms(grid: &Grid) -> Vec<Object> {
    rooms(grid).into_iter().filter(|room| !room.touches_edge(grid)).collect()
}

/// Number of holes in a form: areas of background that do not reach the edge of its box.
pub(super) fn holes(mask: &Grid) -> usize {
    closed_rooms(mask).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_and_holes_are_counted() {
        let rows = [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]];
        let grid = Grid::from_rows(&rows).unwrap();
        assert_eq!(rooms(&grid).len(), 2);
        assert_eq!(holes(&grid), 1);
        assert!(objects(&grid)[0].is_frame());
    }
}
