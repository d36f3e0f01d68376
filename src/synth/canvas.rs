//! What the generators draw with and look with: random shapes, placement, lines, components.
//!
//! Everything here takes 0 for the background; a rule is recolored as a whole afterwards.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Dihedral, Grid};

/// A row and a column.
pub(super) type Cell = (usize, usize);

/// A step on the grid, in rows and columns.
pub(super) type Step = (isize, isize);

/// The steps to the four cells that share a side.
pub(super) const SIDES: [Step; 4] = [(0, 1), (1, 0), (0, -1), (-1, 0)];

/// The steps to the four cells that share only a corner.
pub(super) const CORNERS: [Step; 4] = [(1, 1), (1, -1), (-1, -1), (-1, 1)];

/// The steps to all eight neighbors.
pub(super) const AROUND: [Step; 8] =
    [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)];

/// A whole number from `low` to `high`, both included.
///
/// # Panics
/// If `low > high`.
pub(super) fn between(rng: &mut ChaCha8Rng, low: usize, high: usize) -> usize {
    rng.random_range(low..=high)
}

/// True with probability `p`.
pub(super) fn chance(rng: &mut ChaCha8Rng, p: f64) -> bool {
    rng.random_bool(p)
}

/// One of `choices`, all equally likely.
pub(super) fn pick<T: Copy>(rng: &mut ChaCha8Rng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())]
}

/// Different colors, none of them the background.
pub(super) fn colors<const N: usize>(rng: &mut ChaCha8Rng) -> [Color; N] {
    let mut all: [Color; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    all.shuffle(rng);
    std::array::from_fn(|i| all[i])
}

/// `n` different colors (at most 9), none of them the background and none in `except`.
pub(super) fn palette(rng: &mut ChaCha8Rng, n: usize, except: &[Color]) -> Vec<Color> {
    let mut all: Vec<Color> = (1..=9).filter(|c| !except.contains(c)).collect();
    all.shuffle(rng);
    all.truncate(n);
    all
}

/// The ranges from which a rule draws the sizes of its grids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides {
    height: (usize, usize),
    width: (usize, usize),
    square: bool,
}

impl Sides {
    /// Ranges between `low` and `high`: often one size for all examples, often square.
    pub(super) fn choose(rng: &mut ChaCha8Rng, low: usize, high: usize) -> Option<Self> {
        if low > high {
            return None;
        }
        let spread = if chance(rng, 0.45) { 0 } else { between(rng, 1, 4) };
        let range = |rng: &mut ChaCha8Rng| {
            let middle = between(rng, low, high);
            (middle.saturating_sub(spread).max(low), (middle + spread).min(high))
        };
        let height = range(rng);
        let square = chance(rng, 0.4);
        let width = if square { height } else { range(rng) };
        Some(Self { height, width, square })
    }

    /// A height and a width.
    pub(super) fn draw(self, rng: &mut ChaCha8Rng) -> (usize, usize) {
        let height = between(rng, self.height.0, self.height.1);
        let width = if self.square { height } else { between(rng, self.width.0, self.width.1) };
        (height, width)
    }

    /// A grid of background.
    pub(super) fn empty(self, rng: &mut ChaCha8Rng) -> Grid {
        let (height, width) = self.draw(rng);
        Grid::filled(height, width, 0)
    }
}

/// The color at a cell, or `None` outside the grid.
pub(super) fn at(grid: &Grid, row: isize, column: isize) -> Option<Color> {
    let inside = row >= 0
        && column >= 0
        && (row as usize) < grid.height()
        && (column as usize) < grid.width();
    inside.then(|| grid.get(row as usize, column as usize))
}

/// The neighbor of a cell in direction `step`, if it is inside the grid.
pub(super) fn step(grid: &Grid, (row, column): Cell, (down, right): Step) -> Option<Cell> {
    let next = (row.checked_add_signed(down)?, column.checked_add_signed(right)?);
    (next.0 < grid.height() && next.1 < grid.width()).then_some(next)
}

/// The cells from the one after `from` to the edge, in direction `direction`.
pub(super) fn ray(grid: &Grid, from: Cell, direction: Step) -> impl Iterator<Item = Cell> + '_ {
    std::iter::successors(step(grid, from, direction), move |&cell| step(grid, cell, direction))
}

/// All cells, row by row.
pub(super) fn cells(grid: &Grid) -> impl Iterator<Item = Cell> + use<> {
    let (height, width) = grid.shape();
    (0..height * width).map(move |i| (i / width, i % width))
}

/// The cells of one color, row by row.
pub(super) fn cells_of(grid: &Grid, color: Color) -> Vec<Cell> {
    cells(grid).filter(|&(r, c)| grid.get(r, c) == color).collect()
}

/// Number of cells of one color.
pub(super) fn count(grid: &Grid, color: Color) -> usize {
    grid.cells().iter().filter(|&&c| c == color).count()
}

/// The colors that occur, the background excepted, in increasing order.
pub(super) fn colors_of(grid: &Grid) -> Vec<Color> {
    let used = grid.palette();
    (1..=9).filter(|&c| used[usize::from(c)]).collect()
}

/// The colors that occur, as bits.
pub(super) fn color_bits(grid: &Grid) -> u64 {
    grid.cells().iter().fold(0, |bits, &c| bits | 1 << c)
}

/// A grid recolored cell by cell.
pub(super) fn map_cells(grid: &Grid, color: impl Fn(Color) -> Color) -> Grid {
    Grid::from_fn(grid.height(), grid.width(), |r, c| color(grid.get(r, c)))
}

/// The part of a grid from `(top, left)` on; `None` if it is not inside.
pub(super) fn crop(grid: &Grid, (top, left): Cell, height: usize, width: usize) -> Option<Grid> {
    let inside =
        height > 0 && width > 0 && top + height <= grid.height() && left + width <= grid.width();
    inside.then(|| Grid::from_fn(height, width, |r, c| grid.get(top + r, left + c)))
}

/// Copies what is not background in `sprite` to `grid`, its first cell at `(top, left)`; cells that
/// would lie outside are left out.
pub(super) fn paste(grid: &mut Grid, sprite: &Grid, (top, left): Cell) {
    paste_signed(grid, sprite, (top as isize, left as isize));
}

/// [`paste`] for a place that may lie outside the grid.
pub(super) fn paste_signed(grid: &mut Grid, sprite: &Grid, (top, left): Step) {
    for (r, c) in cells(sprite) {
        let (row, column) = (top + r as isize, left + c as isize);
        if sprite.get(r, c) != 0 && at(grid, row, column).is_some() {
            grid.set(row as usize, column as usize, sprite.get(r, c));
        }
    }
}

/// Colors the cells of `cells`.
pub(super) fn paint(grid: &mut Grid, cells: impl IntoIterator<Item = Cell>, color: Color) {
    for (r, c) in cells {
        grid.set(r, c, color);
    }
}

/// The cells of a rectangle, row by row.
pub(super) fn rectangle(
    (top, left): Cell,
    height: usize,
    width: usize,
) -> impl Iterator<Item = Cell> + Clone {
    (0..height * width).map(move |i| (top + i / width, left + i % width))
}

/// The cells of the outline of a rectangle.
pub(super) fn outline(
    corner: Cell,
    height: usize,
    width: usize,
) -> impl Iterator<Item = Cell> + Clone {
    let (bottom, right) = (corner.0 + height - 1, corner.1 + width - 1);
    rectangle(corner, height, width)
        .filter(move |&(r, c)| r == corner.0 || c == corner.1 || r == bottom || c == right)
}

/// A hollow rectangle of one color as a sprite.
pub(super) fn frame(height: usize, width: usize, color: Color) -> Grid {
    let mut grid = Grid::filled(height, width, 0);
    paint(&mut grid, outline((0, 0), height, width), color);
    grid
}

/// A random shape of color 1 whose cells hang together by their sides and which touches all four
/// edges of its `height` × `width` box.
pub(super) fn shape(rng: &mut ChaCha8Rng, height: usize, width: usize) -> Grid {
    let mut grid = Grid::filled(height, width, 0);
    let mut edge = vec![(between(rng, 0, height - 1), between(rng, 0, width - 1))];
    let wanted = between(rng, (height * width).div_ceil(3), (height * width * 3).div_ceil(4));
    let (mut top, mut left, mut bottom, mut right) = (height, width, 0, 0);
    let mut n_filled = 0;
    while let Some((r, c)) = (!edge.is_empty()).then(|| {
        let i = between(rng, 0, edge.len() - 1);
        edge.swap_remove(i)
    }) {
        if grid.get(r, c) != 0 {
            continue;
        }
        grid.set(r, c, 1);
        n_filled += 1;
        (top, left) = (top.min(r), left.min(c));
        (bottom, right) = (bottom.max(r), right.max(c));
        let spans = top == 0 && left == 0 && bottom + 1 == height && right + 1 == width;
        if spans && n_filled >= wanted {
            break;
        }
        edge.extend(SIDES.iter().filter_map(|&s| step(&grid, (r, c), s)));
    }
    grid
}

/// A [`shape`] with a random box, its sides from `low` to `high`, in one color.
pub(super) fn blob(rng: &mut ChaCha8Rng, low: usize, high: usize, color: Color) -> Grid {
    let (height, width) = (between(rng, low, high), between(rng, low, high));
    let mask = shape(rng, height, width);
    map_cells(&mask, |c| c * color)
}

/// Puts `sprite` at a random place whose box, widened by `gap`, holds only background.
pub(super) fn place(
    rng: &mut ChaCha8Rng,
    grid: &mut Grid,
    sprite: &Grid,
    gap: usize,
) -> Option<Cell> {
    let rows = grid.height().checked_sub(sprite.height())?;
    let columns = grid.width().checked_sub(sprite.width())?;
    let corner = (0..24).find_map(|_| {
        let corner = (between(rng, 0, rows), between(rng, 0, columns));
        is_free(grid, corner, sprite.shape(), gap).then_some(corner)
    })?;
    paste(grid, sprite, corner);
    Some(corner)
}

/// True if a box, widened by `gap`, holds only background.
pub(super) fn is_free(
    grid: &Grid,
    (top, left): Cell,
    (height, width): (usize, usize),
    gap: usize,
) -> bool {
    let rows = top.saturating_sub(gap)..(top + height + gap).min(grid.height());
    let columns = left.saturating_sub(gap)..(left + width + gap).min(grid.width());
    rows.into_iter().all(|r| columns.clone().all(|c| grid.get(r, c) == 0))
}

/// Places up to `n` sprites, one cell apart, and gives how many found room; `None` if fewer than
/// `least` did.
pub(super) fn scatter(
    rng: &mut ChaCha8Rng,
    grid: &mut Grid,
    (least, n): (usize, usize),
    mut sprite: impl FnMut(&mut ChaCha8Rng) -> Grid,
) -> Option<usize> {
    let mut placed = 0;
    for _ in 0..n {
        let sprite = sprite(rng);
        placed += usize::from(place(rng, grid, &sprite, 1).is_some());
    }
    (placed >= least).then_some(placed)
}

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

/// True if left and right are alike.
pub(super) fn is_mirrored(grid: &Grid) -> bool {
    Dihedral::FlipColumns.apply(grid) == *grid
}

/// The index of the largest key, if no other equals it.
pub(super) fn only_max<K: Ord>(keys: impl IntoIterator<Item = K>) -> Option<usize> {
    let keys: Vec<K> = keys.into_iter().collect();
    let best = keys.iter().max()?;
    let mut places = (0..keys.len()).filter(|&i| keys[i] == *best);
    let first = places.next();
    first.filter(|_| places.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn a_shape_hangs_together_and_fills_its_box() {
        for i in 0..200 {
            let mut rng = stream(0, "shape", "", i);
            let (height, width) = (between(&mut rng, 1, 6), between(&mut rng, 1, 6));
            let mask = shape(&mut rng, height, width);
            let parts = components(&mask, &SIDES, |c| c != 0, |_, _| true);
            assert_eq!(parts.len(), 1, "{mask:?}");
            assert_eq!((parts[0].height, parts[0].width), (height, width), "{mask:?}");
        }
    }

    #[test]
    fn scattered_sprites_do_not_touch() {
        for i in 0..50 {
            let mut rng = stream(0, "scatter", "", i);
            let mut grid = Grid::filled(12, 12, 0);
            let n = scatter(&mut rng, &mut grid, (1, 5), |rng| blob(rng, 1, 4, 3)).unwrap();
            assert_eq!(objects(&grid).len(), n, "{grid:?}");
        }
    }

    #[test]
    fn rooms_and_holes_are_counted() {
        let rows = [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]];
        let grid = Grid::from_rows(&rows).unwrap();
        assert_eq!(rooms(&grid).len(), 2);
        assert_eq!(holes(&grid), 1);
        assert!(objects(&grid)[0].is_frame());
    }

    #[test]
    fn a_tie_has_no_largest() {
        assert_eq!(only_max([1, 3, 2]), Some(1));
        assert_eq!(only_max([3, 3, 2]), None);
    }
}
