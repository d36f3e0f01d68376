//! Completion of symmetric pictures.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{dense, dots};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Patterns,
        "mirror-across-line",
        2,
        "one side of a line is reflected to the other",
        across_line,
    ),
    Family::new(
        Group::Patterns,
        "mirror-empty-half",
        1,
        "the empty half becomes the reflection of the other",
        empty_half,
    ),
    Family::new(
        Group::Patterns,
        "mirror-quarters",
        3,
        "a quarter is reflected to the other three",
        quarters,
    ),
    Family::new(
        Group::Patterns,
        "repair-symmetry",
        4,
        "the covered part of a symmetric picture is restored",
        repair,
    ),
    Family::new(
        Group::Patterns,
        "extract-covered",
        4,
        "the covered part of a symmetric picture is cut out",
        covered,
    ),
    Family::new(
        Group::Patterns,
        "mark-asymmetry",
        4,
        "cells that break the symmetry are marked",
        mark_asymmetry,
    ),
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
