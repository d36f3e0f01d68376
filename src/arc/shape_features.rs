//! Sizes that can be read off an input grid: of its objects, its colors' extents, its panels.
//!
//! Each feature is `None` where it is not defined, in particular where two parts of the grid claim the
//! same title. All of them commute with every symmetry and recoloring of the grid: they do not favor a
//! corner, a direction or a color. What counts as background is the one color that fills most cells.

use super::{Color, Grid, N_COLORS};

/// Height and width.
pub(super) type Shape = (usize, usize);

/// Number of cells of each color.
fn color_counts(grid: &Grid) -> [usize; N_COLORS] {
    let mut counts = [0; N_COLORS];
    for &color in grid.cells() {
        counts[usize::from(color)] += 1;
    }
    counts
}

/// The element with the largest key, if it alone has it.
fn unique_max<T, K: Ord + Copy>(
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Option<T> {
    let mut best: Option<(K, Option<T>)> = None;
    for item in items {
        let k = key(&item);
        match &mut best {
            Some((top, _)) if k < *top => {}
            Some((top, holder)) if k == *top => *holder = None,
            _ => best = Some((k, Some(item))),
        }
    }
    best.and_then(|(_, holder)| holder)
}

/// The color of most cells, if it is only one.
fn background(grid: &Grid) -> Option<Color> {
    let counts = color_counts(grid);
    unique_max(0..N_COLORS, |&c| counts[c]).map(|c| c as Color)
}

/// The smallest rectangle around some cells.
#[derive(Clone, Copy)]
struct Extent {
    top: usize,
    left: usize,
    bottom: usize,
    right: usize,
}

impl Extent {
    /// Around the cells that satisfy `inside`.
    fn of(grid: &Grid, inside: impl Fn(Color) -> bool) -> Option<Extent> {
        let width = grid.width();
        let cells = grid.cells().iter().enumerate().filter(|&(_, &color)| inside(color));
        cells.fold(None, |extent, (i, _)| Some(Extent::grown(extent, i / width, i % width)))
    }

    /// `extent` with one more cell.
    fn grown(extent: Option<Extent>, row: usize, column: usize) -> Extent {
        let Some(e) = extent else {
            return Extent { top: row, left: column, bottom: row, right: column };
        };
        Extent {
            top: e.top.min(row),
            left: e.left.min(column),
            bottom: e.bottom.max(row),
            right: e.right.max(column),
        }
    }

    fn shape(self) -> Shape {
        (self.bottom - self.top + 1, self.right - self.left + 1)
    }
}

/// Cells that hang together.
struct Object {
    size: usize,
    extent: Extent,
    colors: [bool; N_COLORS],
}

/// The connected parts of everything that is not background, diagonals included; of one color each if
/// `one_color`.
fn objects(grid: &Grid, one_color: bool) -> Option<Vec<Object>> {
    let background = background(grid)?;
    let (height, width) = grid.shape();
    let mut seen: Vec<bool> = grid.cells().iter().map(|&color| color == background).collect();
    let mut found = Vec::new();
    for start in 0..seen.len() {
        if seen[start] {
            continue;
        }
        seen[start] = true;
        let mut stack = vec![start];
        let (mut size, mut extent, mut colors) = (0, None, [false; N_COLORS]);
        while let Some(cell) = stack.pop() {
            let (row, column) = (cell / width, cell % width);
            size += 1;
            extent = Some(Extent::grown(extent, row, column));
            colors[usize::from(grid.cells()[cell])] = true;
            for r in row.saturating_sub(1)..(row + 2).min(height) {
                for c in column.saturating_sub(1)..(column + 2).min(width) {
                    let next = r * width + c;
                    let same = grid.cells()[next] == grid.cells()[cell];
                    if !seen[next] && (same || !one_color) {
                        seen[next] = true;
                        stack.push(next);
                    }
                }
            }
        }
        found.push(Object { size, extent: extent.expect("an object has a cell"), colors });
    }
    Some(found)
}

/// Of the rectangle around everything but the background.
pub(super) fn content(grid: &Grid) -> Option<Shape> {
    let background = background(grid)?;
    Extent::of(grid, |color| color != background).map(Extent::shape)
}

/// Of the object of one color with the most cells.
pub(super) fn largest_object(grid: &Grid) -> Option<Shape> {
    unique_max(objects(grid, true)?.into_iter(), |o| o.size).map(|o| o.extent.shape())
}

/// Of the object with the most colors.
pub(super) fn most_colorful_object(grid: &Grid) -> Option<Shape> {
    let n_colors = |o: &Object| o.colors.iter().filter(|&&used| used).count();
    unique_max(objects(grid, false)?.into_iter(), n_colors).map(|o| o.extent.shape())
}

/// Of the extent of one color, the one that `key` (of its cell count and extent) ranks highest.
fn color_extent<K: Ord + Copy>(grid: &Grid, key: impl Fn(usize, Shape) -> K) -> Option<Shape> {
    let background = background(grid)?;
    let counts = color_counts(grid);
    let colors = (0..N_COLORS as Color).filter(|&c| c != background);
    let extents = colors.filter_map(|color| {
        let extent = Extent::of(grid, |c| c == color)?;
        Some((counts[usize::from(color)], extent.shape()))
    });
    unique_max(extents, |&(count, shape)| key(count, shape)).map(|(_, shape)| shape)
}

/// Of the extent of the color whose extent has the smallest area.
pub(super) fn tightest_color(grid: &Grid) -> Option<Shape> {
    color_extent(grid, |_, (height, width)| std::cmp::Reverse(height * width))
}

/// Of the extent of the most frequent color that is not background.
pub(super) fn commonest_color(grid: &Grid) -> Option<Shape> {
    color_extent(grid, |count, _| count)
}

/// Of the extent of the least frequent color.
pub(super) fn rarest_color(grid: &Grid) -> Option<Shape> {
    color_extent(grid, |count, _| std::cmp::Reverse(count))
}

/// The grid's own size times its number of colors besides the background.
pub(super) fn times_colors(grid: &Grid) -> Option<Shape> {
    background(grid)?;
    let n = grid.palette().iter().filter(|&&used| used).count() - 1;
    (n > 0).then(|| (grid.height() * n, grid.width() * n))
}

/// The grid's size after neighboring rows that are equal, and then such columns, are merged.
pub(super) fn merged_lines(grid: &Grid) -> Option<Shape> {
    let row = |r: usize| (0..grid.width()).map(move |c| grid.get(r, c));
    let column = |c: usize| (0..grid.height()).map(move |r| grid.get(r, c));
    let rows = (1..grid.height()).filter(|&r| row(r).ne(row(r - 1))).count() + 1;
    let columns = (1..grid.width()).filter(|&c| column(c).ne(column(c - 1))).count() + 1;
    Some((rows, columns))
}

/// One half of the grid, cut across its longer side.
pub(super) fn half_of_longer_side(grid: &Grid) -> Option<Shape> {
    match grid.shape() {
        (h, w) if h > w && h % 2 == 0 => Some((h / 2, w)),
        (h, w) if w > h && w % 2 == 0 => Some((h, w / 2)),
        _ => None,
    }
}

/// Heights and widths of the panels between full lines of one color, the color that makes most panels.
fn panel_sizes(grid: &Grid) -> Option<(Vec<usize>, Vec<usize>)> {
    let (height, width) = grid.shape();
    let divided = (0..N_COLORS as Color).filter_map(|color| {
        let full_row = |r: usize| (0..width).all(|c| grid.get(r, c) == color);
        let full_column = |c: usize| (0..height).all(|r| grid.get(r, c) == color);
        let heights = runs((0..height).map(full_row));
        let widths = runs((0..width).map(full_column));
        (heights.len() * widths.len() > 1).then_some((heights, widths))
    });
    unique_max(divided, |(heights, widths)| heights.len() * widths.len())
}

/// Lengths of the runs of `false`.
fn runs(separators: impl Iterator<Item = bool>) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut length = 0;
    for separator in separators.chain([true]) {
        if !separator {
            length += 1;
        } else if length > 0 {
            lengths.push(length);
            length = 0;
        }
    }
    lengths
}

/// Number of panels down and across.
pub(super) fn panel_counts(grid: &Grid) -> Option<Shape> {
    panel_sizes(grid).map(|(heights, widths)| (heights.len(), widths.len()))
}

/// Size of the panels, if all have the same.
pub(super) fn panel(grid: &Grid) -> Option<Shape> {
    let (heights, widths) = panel_sizes(grid)?;
    let equal = |sizes: &[usize]| sizes.iter().all(|&s| s == sizes[0]);
    (equal(&heights) && equal(&widths)).then(|| (heights[0], widths[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(text: &str) -> Grid {
        let rows: Vec<Vec<Color>> =
            text.split('/').map(|row| row.bytes().map(|b| b - b'0').collect()).collect();
        Grid::from_rows(&rows).unwrap()
    }

    #[test]
    fn each_feature_measures_its_own_part() {
        // A 2×3 object of 1, an L of 2 over three rows (touching a 3), and a lone 4.
        let picture = grid("00000000/01110020/01110020/00000023/40000000");
        let check = |feature: fn(&Grid) -> Option<Shape>, expected| {
            assert_eq!(feature(&picture), expected);
        };
        check(content, Some((4, 8)));
        check(largest_object, Some((2, 3)));
        check(most_colorful_object, Some((3, 2)));
        check(commonest_color, Some((2, 3)));
        check(rarest_color, None); // 3 and 4 have one cell each
        check(tightest_color, None);
        check(times_colors, Some((5 * 4, 8 * 4)));
        check(half_of_longer_side, Some((5, 4)));
        check(panel, None);
    }

    #[test]
    fn panels_are_counted_and_measured_between_lines_of_one_color() {
        assert_eq!(panel_counts(&grid("105105/005000/555555/100105")), Some((2, 1)));
        let picture = grid("10510/00500/55555/10510/01501");
        assert_eq!(panel_counts(&picture), Some((2, 2)));
        assert_eq!(panel(&picture), Some((2, 2)));
        let uneven = grid("105100/005000/555555/105101");
        assert_eq!(panel_counts(&uneven), Some((2, 2)));
        assert_eq!(panel(&uneven), None);
    }

    #[test]
    fn equal_neighboring_lines_merge() {
        assert_eq!(merged_lines(&grid("1122/1122/3344/3344/1122")), Some((3, 2)));
    }

    #[test]
    fn a_tie_for_the_background_leaves_the_features_undefined() {
        assert_eq!(content(&grid("11/22")), None);
        assert_eq!(times_colors(&grid("11/22")), None);
    }
}
