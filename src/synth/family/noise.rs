//! What does not belong: noise and the odd one out.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{dense, objects_scene};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Patterns, "denoise", 2, "single stray cells vanish", denoise),
    Family::new(
        Group::Patterns,
        "denoise-inside",
        3,
        "stray cells in rectangles are painted over",
        denoise_inside,
    ),
    Family::new(Group::Patterns, "odd-tile", 4, "the one odd tile is cut out", odd_tile),
];

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
