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
    use crate::synth::component::{components, objects};

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
    fn a_tie_has_no_largest() {
        assert_eq!(only_max([1, 3, 2]), Some(1));
        assert_eq!(only_max([3, 3, 2]), None);
    }
}
