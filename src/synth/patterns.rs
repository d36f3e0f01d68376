//! Repetition, completion of symmetric and periodic pictures, noise.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};

use super::canvas::*;
use super::scene::{dense, dots, objects_scene};
use super::{Family, Group, Rule};

const fn family(
    name: &'static str,
    difficulty: u8,
    about: &'static str,
    rule: fn(&mut ChaCha8Rng, usize) -> Option<Rule>,
) -> Family {
    Family::new(name, Group::Patterns, difficulty, about, rule)
}

pub(super) const FAMILIES: &[Family] = &[
    family("mirror-across-line", 2, "one side of a line is reflected to the other", across_line),
    family(
        "mirror-empty-half",
        1,
        "the empty half becomes the reflection of the other",
        empty_half,
    ),
    family("mirror-quarters", 3, "a quarter is reflected to the other three", quarters),
    family("repair-symmetry", 4, "the covered part of a symmetric picture is restored", repair),
    family("extract-covered", 4, "the covered part of a symmetric picture is cut out", covered),
    family("repair-tiling", 4, "the covered parts of a tiling are restored", repair_tiling),
    family("continue-rows", 2, "a sequence of rows goes on to the edge", continue_rows),
    family("continue-bars", 3, "bars keep growing", continue_bars),
    family("continue-stripes", 2, "stripes go on at the same distance", continue_stripes),
    family("denoise", 2, "single stray cells vanish", denoise),
    family("denoise-inside", 3, "stray cells in rectangles are painted over", denoise_inside),
    family("checkerboard", 2, "two colors become a checkerboard", checkerboard),
    family("diagonal-stripes", 4, "diagonal stripes are completed", diagonal_stripes),
    family("extract-unit", 3, "the unit of a tiling is cut out", extract_unit),
    family("mark-asymmetry", 4, "cells that break the symmetry are marked", mark_asymmetry),
    family("repeat-picture", 3, "a picture is repeated to the edge", repeat_picture),
    family("alternate-rows", 3, "a row alternates with its shifted copy", alternate_rows),
    family("odd-tile", 4, "the one odd tile is cut out", odd_tile),
    family("fill-gaps-in-rows", 3, "gaps in periodic rows are filled", fill_gaps),
];

/// A picture of `palette` on the left half, the right half empty.
fn half_scene(
    rng: &mut ChaCha8Rng,
    (height, half, middle): (usize, usize, usize),
    palette: &[Color],
) -> Grid {
    let mut left = Grid::filled(height, half, 0);
    dots(rng, &mut left, palette, 0.45);
    let mut grid = Grid::filled(height, 2 * half + middle, 0);
    paste(&mut grid, &left, (0, 0));
    grid
}

/// The grid with its left half reflected to the right.
fn reflected(grid: &Grid) -> Grid {
    let width = grid.width();
    Grid::from_fn(grid.height(), width, |r, c| grid.get(r, c.min(width - 1 - c)))
}

fn across_line(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 2, (max_side - 1) / 2)?;
    let [line] = colors(rng);
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[line]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, half) = sides.draw(rng);
        let mut grid = half_scene(rng, (height, half, 1), &palette);
        paint(&mut grid, (0..height).map(|r| (r, half)), line);
        Some(grid)
    };
    Some(Rule::new(draw, |grid| Some(reflected(grid))))
}

fn empty_half(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 2, max_side / 2)?;
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, half) = sides.draw(rng);
        Some(half_scene(rng, (height, half, 0), &palette))
    };
    Some(Rule::new(draw, |grid| Some(reflected(grid))))
}

fn quarters(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 2, (max_side / 2).min(10))?;
    let n_colors = between(rng, 1, 4);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let mut quarter = Grid::filled(height, width, 0);
        dots(rng, &mut quarter, &palette, 0.5);
        let mut grid = Grid::filled(2 * height, 2 * width, 0);
        paste(&mut grid, &quarter, (0, 0));
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let (height, width) = grid.shape();
        Some(Grid::from_fn(height, width, |r, c| {
            grid.get(r.min(height - 1 - r), c.min(width - 1 - c))
        }))
    };
    Some(Rule::new(draw, apply))
}

/// A dense picture that equals its reflections in both axes.
fn symmetric_picture(
    rng: &mut ChaCha8Rng,
    (height, width): (usize, usize),
    palette: &[Color],
) -> Grid {
    let quarter = dense(rng, height.div_ceil(2), width.div_ceil(2), palette);
    Grid::from_fn(height, width, |r, c| quarter.get(r.min(height - 1 - r), c.min(width - 1 - c)))
}

/// The grid with the cells of color `cover` restored from their reflections.
fn restored(grid: &Grid, cover: Color) -> Option<Grid> {
    let (height, width) = grid.shape();
    let mut output = grid.clone();
    for (r, c) in cells_of(grid, cover) {
        let (row, column) = (height - 1 - r, width - 1 - c);
        let images = [(row, c), (r, column), (row, column)];
        let &(i, j) = images.iter().find(|&&(i, j)| grid.get(i, j) != cover)?;
        output.set(r, c, grid.get(i, j));
    }
    Some(output)
}

/// Draws a symmetric picture with a covered rectangle.
fn covered_picture(
    rng: &mut ChaCha8Rng,
    sides: Sides,
    palette: &[Color],
    cover: Color,
    (low, high): (usize, usize),
) -> Grid {
    let shape = sides.draw(rng);
    let mut grid = symmetric_picture(rng, shape, palette);
    let (height, width) = (between(rng, low, high), between(rng, low, high));
    let corner = (between(rng, 0, shape.0 - height), between(rng, 0, shape.1 - width));
    paint(&mut grid, rectangle(corner, height, width), cover);
    grid
}

fn repair(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let n_colors = between(rng, 3, 5);
    let mut colors = palette(rng, n_colors, &[]);
    let cover = if chance(rng, 0.5) { 0 } else { colors.pop()? };
    let draw =
        move |rng: &mut ChaCha8Rng| Some(covered_picture(rng, sides, &colors, cover, (2, 3)));
    Some(Rule::new(draw, move |grid| restored(grid, cover)))
}

fn covered(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let n_colors = between(rng, 3, 5);
    let mut colors = palette(rng, n_colors, &[]);
    let cover = if chance(rng, 0.5) { 0 } else { colors.pop()? };
    let draw =
        move |rng: &mut ChaCha8Rng| Some(covered_picture(rng, sides, &colors, cover, (2, 4)));
    let apply = move |grid: &Grid| {
        let full = restored(grid, cover)?;
        let hidden: [Object; 1] =
            components(grid, &SIDES, |c| c == cover, |_, _| true).try_into().ok()?;
        crop(&full, hidden[0].corner(), hidden[0].height, hidden[0].width)
    };
    Some(Rule::new(draw, apply))
}

/// The grid with its background cells restored by the smallest period that fits the rest.
fn tiled_on(grid: &Grid) -> Option<(Grid, (usize, usize))> {
    let (height, width) = grid.shape();
    let mut periods: Vec<(usize, usize)> = rectangle((1, 1), height / 2, width / 2).collect();
    periods.sort_by_key(|&(p, q)| (p * q, p));
    periods.into_iter().find_map(|(p, q)| {
        let mut unit = vec![0; p * q];
        for (r, c) in cells(grid) {
            let slot = &mut unit[(r % p) * q + c % q];
            match grid.get(r, c) {
                0 => {}
                color if *slot == 0 || *slot == color => *slot = color,
                _ => return None,
            }
        }
        let known = !unit.contains(&0);
        known.then(|| (Grid::from_fn(height, width, |r, c| unit[(r % p) * q + c % q]), (p, q)))
    })
}

fn repair_tiling(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side.min(20))?;
    let n_colors = between(rng, 3, 5);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let (p, q) = (between(rng, 2, 3), between(rng, 2, 4));
        let unit = dense(rng, p, q, &palette);
        let full = Grid::from_fn(height, width, |r, c| unit.get(r % p, c % q));
        let mut grid = full.clone();
        for _ in 0..between(rng, 1, 2) {
            let (h, w) = (between(rng, 1, 3), between(rng, 2, 3));
            let corner = (between(rng, 0, height - h), between(rng, 0, width - w));
            paint(&mut grid, rectangle(corner, h, w), 0);
        }
        (tiled_on(&grid)?.0 == full).then_some(grid)
    };
    Some(Rule::new(draw, |grid| Some(tiled_on(grid)?.0)))
}

fn extract_unit(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(16))?;
    let n_colors = between(rng, 2, 4);
    let palette = palette(rng, n_colors, &[]);
    let (p, q) = (between(rng, 2, 3), between(rng, 2, 3));
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let unit = dense(rng, p, q, &palette);
        let (height, width) = (height / p * p, width / q * q);
        Some(Grid::from_fn(height, width, |r, c| unit.get(r % p, c % q)))
    };
    let apply = move |grid: &Grid| {
        let (_, period) = tiled_on(grid)?;
        crop(grid, (0, 0), p, q).filter(|_| period == (p, q))
    };
    Some(Rule::new(draw, apply))
}

fn continue_rows(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(18))?;
    let n_colors = between(rng, 2, 4);
    let palette = palette(rng, n_colors, &[]);
    let most = between(rng, 2, 4);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let n_rows = between(rng, 1, most.min(grid.height() / 2));
        let plain = chance(rng, 0.5);
        for r in 0..n_rows {
            let color = pick(rng, &palette);
            for c in 0..grid.width() {
                let color = if plain { color } else { pick(rng, &palette) };
                grid.set(r, c, color);
            }
        }
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let given = (0..grid.height()).take_while(|&r| grid.get(r, 0) != 0).count();
        let row = |r: usize| (0..grid.width()).map(move |c| grid.get(r, c));
        let is_clear = given > 0 && (1..given).all(|r| !row(r).eq(row(0)));
        is_clear.then(|| Grid::from_fn(grid.height(), grid.width(), |r, c| grid.get(r % given, c)))
    };
    let length =
        |grid: &Grid| (0..grid.height()).take_while(|&r| grid.get(r, 0) != 0).count().min(2) as u64;
    Some(Rule::new(draw, apply).showing(length).requiring(2))
}

fn continue_bars(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(18))?;
    let [base, new] = colors(rng);
    let new = if chance(rng, 0.5) { base } else { new };
    let pitch = between(rng, 1, 2);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let height = grid.height();
        let start = between(rng, 1, 2);
        let given = between(rng, 2, 3);
        for i in 0..given {
            let long = start + i;
            if i * pitch >= grid.width() || long > height {
                return None;
            }
            paint(&mut grid, (height - long..height).map(|r| (r, i * pitch)), base);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let height = grid.height();
        let long = |c: usize| (0..height).filter(|&r| grid.get(r, c) != 0).count();
        let start = long(0);
        let mut output = grid.clone();
        for (i, c) in (0..grid.width()).step_by(pitch).enumerate().filter(|&(_, c)| long(c) == 0) {
            let top = height.saturating_sub(start + i);
            paint(&mut output, (top..height).map(|r| (r, c)), new);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn continue_stripes(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let low = pick(rng, &[2, 3, 4]);
    let is_single = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let [first, second] = colors(rng);
        let mut grid = sides.empty(rng);
        let (height, width) = grid.shape();
        let start = between(rng, 0, 2);
        let pitch = between(rng, low.min(width / 3), (width / 2).min(5));
        if pitch < 2 || start + pitch >= width {
            return None;
        }
        for (c, color) in [(start, first), (start + pitch, if is_single { first } else { second })]
        {
            paint(&mut grid, (0..height).map(|r| (r, c)), color);
        }
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let given: Vec<usize> = (0..grid.width()).filter(|&c| grid.get(0, c) != 0).collect();
        let &[first, second] = given.as_slice() else { return None };
        let mut output = grid.clone();
        for (i, c) in (first..grid.width()).step_by(second - first).enumerate() {
            let color = grid.get(0, given[i % 2]);
            paint(&mut output, (0..grid.height()).map(|r| (r, c)), color);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn denoise(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base, other, noise] = colors(rng);
    let bases = if chance(rng, 0.5) { [base, base] } else { [base, other] };
    let noise = if chance(rng, 0.5) { base } else { noise };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 2, 5), between(rng, 2, 5));
            Grid::filled(height, width, pick(rng, &bases))
        })?;
        for _ in 0..1 + grid.cells().len() / 16 {
            place(rng, &mut grid, &Grid::filled(1, 1, noise), 1);
        }
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let mut output = grid.clone();
        for object in objects(grid).iter().filter(|o| o.size() == 1) {
            paint(&mut output, object.cells.iter().copied(), 0);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply).showing(color_bits))
}

fn denoise_inside(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [noise] = colors(rng);
    let palette = palette(rng, 4, &[noise]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 3, 6), between(rng, 3, 6));
            Grid::filled(height, width, pick(rng, &palette))
        })?;
        let clean = grid.clone();
        for cell in cells(&clean) {
            let color = clean.get(cell.0, cell.1);
            let is_clear = commonest_around(&clean, cell, noise) == Some(color)
                && commonest_around(&grid, cell, noise) == Some(color);
            if is_clear && chance(rng, 0.12) {
                paint(&mut grid, [cell], noise);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells_of(grid, noise) {
            paint(&mut output, [cell], commonest_around(grid, cell, noise)?);
        }
        objects(&output).iter().all(Object::is_solid).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

/// The color of most of a cell's neighbors, those of color `except` aside.
fn commonest_around(grid: &Grid, cell: Cell, except: Color) -> Option<Color> {
    let mut number = [0; 10];
    for (r, c) in AROUND.iter().filter_map(|&s| step(grid, cell, s)) {
        number[usize::from(grid.get(r, c))] += 1;
    }
    number[usize::from(except)] = 0;
    let known: usize = number.iter().sum();
    let color = only_max(number)?;
    (3 * number[color] > 2 * known).then_some(color as Color)
}

fn checkerboard(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(14))?;
    let is_row = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let [first, second] = colors(rng);
        let mut grid = sides.empty(rng);
        let (height, width) = grid.shape();
        for r in 0..height {
            if is_row && r == 0 {
                paint(&mut grid, (0..width).map(|c| (0, c)), first);
            }
        }
        paint(&mut grid, [(0, 0)], first);
        paint(&mut grid, [if is_row { (1, 0) } else { (0, 1) }], second);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let (row, column) = if is_row { (1, 0) } else { (0, 1) };
        let pair = [grid.get(0, 0), grid.get(row, column)];
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| pair[(r + c) % 2]))
    };
    Some(Rule::new(draw, apply))
}

fn diagonal_stripes(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(14))?;
    let period = between(rng, 2, 4);
    let shown = 0.1 * between(rng, 2, 4) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let colors = palette(rng, period, &[]);
        for (r, c) in cells(&grid) {
            let is_shown = chance(rng, shown);
            grid.set(r, c, if is_shown { colors[(r + c) % period] } else { 0 });
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut colors = vec![0; period];
        for (r, c) in cells(grid).filter(|&(r, c)| grid.get(r, c) != 0) {
            colors[(r + c) % period] = grid.get(r, c);
        }
        let is_known = !colors.contains(&0);
        is_known
            .then(|| Grid::from_fn(grid.height(), grid.width(), |r, c| colors[(r + c) % period]))
    };
    Some(Rule::new(draw, apply))
}

fn mark_asymmetry(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(14))?;
    let [mark] = colors(rng);
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[mark]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let mut left = Grid::filled(height, width, 0);
        dots(rng, &mut left, &palette, 0.45);
        let mut grid = reflected(&left);
        for _ in 0..between(rng, 1, 2) {
            let (r, c) = (between(rng, 0, height - 1), between(rng, 0, width - 1));
            if grid.get(r, c) == 0 && c != width - 1 - c {
                let color = pick(rng, &palette);
                grid.set(r, c, color);
            }
        }
        Some(grid)
    };
    // Only cells too many are marked, not those they lack on the other side.
    let apply = move |grid: &Grid| {
        let width = grid.width();
        let mut output = grid.clone();
        let odd =
            cells(grid).filter(|&(r, c)| grid.get(r, c) != 0 && grid.get(r, width - 1 - c) == 0);
        paint(&mut output, odd, mark);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn repeat_picture(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[]);
    let (height, width) = (between(rng, 1, 3), between(rng, 1, 3));
    let direction = pick(rng, &[(0, 1), (0, 1), (1, 1)]);
    let gap = if direction.0 > 0 { 0 } else { between(rng, 0, 1) };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let mut sprite = shape(rng, height, width);
        for (r, c) in cells(&sprite) {
            if sprite.get(r, c) != 0 {
                let color = pick(rng, &palette);
                sprite.set(r, c, color);
            }
        }
        let row = if direction.0 > 0 { 0 } else { between(rng, 0, grid.height() - height) };
        let column = between(rng, 0, 1);
        paste(&mut grid, &sprite, (row, column));
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let found: [Object; 1] = objects(grid).try_into().ok()?;
        let sprite = found[0].sprite(grid);
        let mut output = grid.clone();
        for i in 1..grid.width() {
            let down = direction.0 as usize * i * (height + gap);
            let right = i * (width + gap);
            paste(&mut output, &sprite, (found[0].top + down, found[0].left + right));
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn alternate_rows(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(14))?;
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[]);
    let pitch = between(rng, 1, 2);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for c in 0..grid.width() {
            if chance(rng, 0.4) {
                let color = pick(rng, &palette);
                grid.set(0, c, color);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let width = grid.width();
        Some(Grid::from_fn(grid.height(), width, |r, c| {
            if !r.is_multiple_of(pitch) {
                return 0;
            }
            let shift = r / pitch % 2;
            grid.get(0, (c + width - shift) % width)
        }))
    };
    Some(Rule::new(draw, apply))
}

fn odd_tile(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let side = between(rng, 2, 4);
    let most = ((max_side + 1) / (side + 1)).min(5);
    let tiles = Sides::choose(rng, 2, most)?;
    let n_colors = between(rng, 2, 4);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (down, across) = tiles.draw(rng);
        let unit = dense(rng, side, side, &palette);
        let odd = (between(rng, 0, down - 1), between(rng, 0, across - 1));
        let mut other = unit.clone();
        for _ in 0..between(rng, 1, 2) {
            let color = pick(rng, &palette);
            other.set(between(rng, 0, side - 1), between(rng, 0, side - 1), color);
        }
        let pitch = side + 1;
        let mut grid = Grid::filled(down * pitch - 1, across * pitch - 1, 0);
        for (i, j) in rectangle((0, 0), down, across) {
            paste(&mut grid, if (i, j) == odd { &other } else { &unit }, (i * pitch, j * pitch));
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let pitch = side + 1;
        let (down, across) = ((grid.height() + 1) / pitch, (grid.width() + 1) / pitch);
        let tiles: Vec<Grid> = rectangle((0, 0), down, across)
            .map(|(i, j)| crop(grid, (i * pitch, j * pitch), side, side))
            .collect::<Option<_>>()?;
        let number = |tile: &Grid| tiles.iter().filter(|t| *t == tile).count();
        tiles.iter().find(|tile| number(tile) == 1 && tiles.len() > 2).cloned()
    };
    Some(Rule::new(draw, apply))
}

fn fill_gaps(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(18))?;
    let period = between(rng, 2, 3);
    let n_colors = between(rng, period, 4);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for r in 0..grid.height() {
            let unit: Vec<Color> = (0..period).map(|_| pick(rng, &palette)).collect();
            for c in 0..grid.width() {
                if chance(rng, 0.8) {
                    grid.set(r, c, unit[c % period]);
                }
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let color = |r: usize, phase: usize| {
            (phase..grid.width()).step_by(period).map(|c| grid.get(r, c)).find(|&c| c != 0)
        };
        let is_known = rectangle((0, 0), grid.height(), period).all(|(r, i)| color(r, i).is_some());
        is_known.then(|| {
            Grid::from_fn(grid.height(), grid.width(), |r, c| color(r, c % period).unwrap_or(0))
        })
    };
    Some(Rule::new(draw, apply))
}
