//! Patterns drawn at marks, and drawing between marks.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{objects_scene, picture};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Copying, "stamp", 2, "a fixed pattern is drawn around each dot", stamp),
    Family::new(
        Group::Copying,
        "stamp-by-color",
        3,
        "the dot's color says which pattern is drawn",
        stamp_by_color,
    ),
    Family::new(
        Group::Copying,
        "copy-to-marks",
        4,
        "the pattern in the scene is copied to each mark",
        copy_to_marks,
    ),
    Family::new(
        Group::Copying,
        "box-from-corners",
        2,
        "four marks become the corners of a frame",
        box_from_corners,
    ),
    Family::new(
        Group::Copying,
        "box-from-diagonal",
        3,
        "two marks become corners of a rectangle",
        box_from_diagonal,
    ),
    Family::new(Group::Copying, "double-dots", 2, "each dot gets a partner beside it", double_dots),
];

/// A pattern of `side` × `side` around its middle, which is not background.
fn stamp_pattern(rng: &mut ChaCha8Rng, side: usize, palette: &[Color]) -> Grid {
    if side == 3 && chance(rng, 0.5) {
        let color = pick(rng, palette);
        let steps: &[Step] = pick(rng, &[&SIDES[..], &CORNERS[..], &AROUND[..], &SIDES[..2]]);
        let mut pattern = Grid::filled(3, 3, 0);
        let around: Vec<Cell> = steps.iter().filter_map(|&s| step(&pattern, (1, 1), s)).collect();
        paint(&mut pattern, around, color);
        return pattern;
    }
    let mut pattern = picture(rng, side, side, palette);
    pattern.set(side / 2, side / 2, 0);
    pattern
}

/// Draws `pattern` around a cell, under what is there.
fn stamp_at(output: &mut Grid, (r, c): Cell, pattern: &Grid) {
    let half = pattern.height() as isize / 2;
    paste_signed(output, pattern, (r as isize - half, c as isize - half));
}

/// Dots at least `gap` apart.
fn apart_dots(rng: &mut ChaCha8Rng, sides: Sides, gap: usize, palette: &[Color]) -> Grid {
    let mut grid = sides.empty(rng);
    let most = 1 + grid.cells().len() / 40;
    for _ in 0..between(rng, 1, most + 1) {
        let color = pick(rng, palette);
        place(rng, &mut grid, &Grid::filled(1, 1, color), gap);
    }
    grid
}

fn stamp(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let side = pick(rng, &[3, 3, 5]);
    let sides = Sides::choose(rng, side + 2, max_side.min(20))?;
    let n_colors = between(rng, 1, 2);
    let dot_colors = palette(rng, n_colors, &[]);
    let inks = palette(rng, 2, &dot_colors);
    let pattern = stamp_pattern(rng, side, &inks);
    let draw = move |rng: &mut ChaCha8Rng| Some(apart_dots(rng, sides, side - 1, &dot_colors));
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells(grid).filter(|&(r, c)| grid.get(r, c) != 0) {
            stamp_at(&mut output, cell, &pattern);
        }
        Some(output)
    };
    // At least one pattern must be seen whole.
    let features = move |grid: &Grid| {
        let half = side / 2;
        let is_inner = |&(r, c): &Cell| {
            grid.get(r, c) != 0
                && (half..grid.height() - half).contains(&r)
                && (half..grid.width() - half).contains(&c)
        };
        u64::from(cells(grid).any(|cell| is_inner(&cell)))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(1))
}

fn stamp_by_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let [first, second, a, b] = colors(rng);
    let patterns = [stamp_pattern(rng, 3, &[a]), stamp_pattern(rng, 3, &[b])];
    let draw = move |rng: &mut ChaCha8Rng| Some(apart_dots(rng, sides, 2, &[first, second]));
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for (color, pattern) in [first, second].into_iter().zip(&patterns) {
            for cell in cells_of(grid, color) {
                stamp_at(&mut output, cell, pattern);
            }
        }
        Some(output)
    };
    let features = move |grid: &Grid| {
        let is_inner = |&(r, c): &Cell| {
            (1..grid.height() - 1).contains(&r) && (1..grid.width() - 1).contains(&c)
        };
        let shown = |color| u64::from(cells_of(grid, color).iter().any(is_inner));
        shown(first) | shown(second) << 1
    };
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

fn copy_to_marks(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side)?;
    let [mark] = colors(rng);
    let n_inks = between(rng, 1, 2);
    let side = pick(rng, &[3, 3, 5]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let inks = palette(rng, n_inks, &[mark]);
        let mut pattern = picture(rng, side, side, &inks);
        pattern.set(side / 2, side / 2, mark);
        let mut grid = sides.empty(rng);
        place(rng, &mut grid, &pattern, 0)?;
        for _ in 0..between(rng, 1, 3) {
            // Room for the whole copy: reserve its box while placing.
            let reserved = Grid::filled(side, side, mark);
            if let Some((top, left)) = place(rng, &mut grid, &reserved, 1) {
                paint(&mut grid, rectangle((top, left), side, side), 0);
                paint(&mut grid, [(top + side / 2, left + side / 2)], mark);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let found = objects(grid);
        let pattern = found.iter().max_by_key(|o| o.size())?;
        let is_whole = (pattern.height, pattern.width) == (side, side);
        let others = found.iter().filter(|o| o.size() == 1);
        let mut output = grid.clone();
        let mut n = 0;
        for dot in others {
            let (r, c) = dot.cells[0];
            let half = side / 2;
            let corner = (r.checked_sub(half)?, c.checked_sub(half)?);
            if !is_free_but(&output, corner, side, (r, c)) {
                return None;
            }
            paste(&mut output, &pattern.sprite(grid), corner);
            n += 1;
        }
        (is_whole && n > 0 && n + 1 == found.len()).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

/// True if a square holds only background, one cell excepted, and is inside the grid.
fn is_free_but(grid: &Grid, corner: Cell, side: usize, except: Cell) -> bool {
    corner.0 + side <= grid.height()
        && corner.1 + side <= grid.width()
        && rectangle(corner, side, side).all(|(r, c)| (r, c) == except || grid.get(r, c) == 0)
}

fn box_from_corners(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [dot, other, line] = colors(rng);
    let dots = if chance(rng, 0.6) { [dot, dot] } else { [dot, other] };
    let fills = chance(rng, 0.4);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 3, 7), between(rng, 3, 7));
            let mut sprite = Grid::filled(height, width, 0);
            let color = pick(rng, &dots);
            let corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)];
            paint(&mut sprite, corners, color);
            sprite
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        let mut n_used = 0;
        for (r, c) in cells(grid).filter(|&(r, c)| grid.get(r, c) != 0) {
            let color = grid.get(r, c);
            let same = |&(i, j): &Cell| grid.get(i, j) == color;
            let next = |direction| ray(grid, (r, c), direction).find(|&(i, j)| grid.get(i, j) != 0);
            let (Some(right), Some(down)) = (next((0, 1)), next((1, 0))) else { continue };
            if !same(&right) || !same(&down) || !same(&(down.0, right.1)) {
                continue;
            }
            let (height, width) = (down.0 + 1 - r, right.1 + 1 - c);
            let inside = rectangle((r, c), height, width)
                .filter(|&(i, j)| (i > r && i < down.0 && j > c && j < right.1) == fills);
            for (i, j) in inside {
                if grid.get(i, j) == 0 {
                    output.set(i, j, line);
                }
            }
            n_used += 4;
        }
        (n_used == grid.cells().len() - count(grid, 0)).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

fn box_from_diagonal(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(18))?;
    let [dot, fill] = colors(rng);
    let fill = if chance(rng, 0.3) { dot } else { fill };
    let is_frame = chance(rng, 0.4);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..2 {
            let cell = (between(rng, 0, grid.height() - 1), between(rng, 0, grid.width() - 1));
            paint(&mut grid, [cell], dot);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let dots = cells_of(grid, dot);
        let &[(top, a), (bottom, b)] = dots.as_slice() else { return None };
        let (left, right) = (a.min(b), a.max(b));
        if bottom - top < 2 || right - left < 2 {
            return None;
        }
        let (height, width) = (bottom + 1 - top, right + 1 - left);
        let mut output = grid.clone();
        if is_frame {
            paint(&mut output, outline((top, left), height, width), fill);
        } else {
            paint(&mut output, rectangle((top, left), height, width), fill);
        }
        paint(&mut output, dots, dot);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn double_dots(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let [partner] = colors(rng);
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[partner]);
    let own_color = chance(rng, 0.4);
    let by = pick(rng, &[(0, 1), (0, 1), (1, 1), (0, 2)]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..1 + grid.cells().len() / 14 {
            let color = pick(rng, &palette);
            place(rng, &mut grid, &Grid::filled(1, 1, color), 1);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells(grid).filter(|&(r, c)| grid.get(r, c) != 0) {
            let Some(next) = step(grid, cell, by) else { continue };
            if grid.get(next.0, next.1) != 0 {
                return None;
            }
            paint(&mut output, [next], if own_color { grid.get(cell.0, cell.1) } else { partner });
        }
        Some(output)
    };
    // Of one color alone it would not be known that it is the dots' own.
    let features = move |grid: &Grid| if own_color { color_bits(grid) } else { 0 };
    Some(Rule::new(draw, apply).showing(features))
}
