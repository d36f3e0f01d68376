//! Falling, settling, gathering at a wall.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{dots, objects_scene};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Motion, "gravity-cells", 1, "cells fall to the floor", gravity_cells)
        .general(),
    Family::new(
        Group::Motion,
        "gravity-objects",
        3,
        "objects fall as a whole and come to rest",
        gravity_objects,
    ),
    Family::new(
        Group::Motion,
        "gravity-obstacles",
        2,
        "cells fall until something fixed stops them",
        gravity_obstacles,
    ),
    Family::new(Group::Motion, "gravity-by-color", 3, "only one color falls", gravity_by_color),
    Family::new(
        Group::Motion,
        "slide-to-wall",
        3,
        "cells gather at both sides of a wall",
        slide_to_wall,
    ),
    Family::new(
        Group::Motion,
        "to-own-wall",
        4,
        "each cell goes to the wall of its color",
        to_own_wall,
    ),
    Family::new(Group::Motion, "align-rows", 3, "each row is pushed to the edge", align_rows)
        .general(),
    Family::new(Group::Motion, "stack-bars", 3, "bars fall on a pile", stack_bars),
];

/// Lets each cell that `moves` fall in its column, through background only.
fn settle(grid: &Grid, moves: impl Fn(Color) -> bool) -> Grid {
    let mut output = grid.clone();
    for c in 0..grid.width() {
        let mut floor = grid.height();
        for r in (0..grid.height()).rev() {
            let color = output.get(r, c);
            if color == 0 {
                continue;
            }
            if moves(color) {
                output.set(r, c, 0);
                output.set(floor - 1, c, color);
                floor -= 1;
            } else {
                floor = r;
            }
        }
    }
    output
}

fn gravity_cells(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(14))?;
    let n_colors = between(rng, 1, 4);
    let palette = palette(rng, n_colors, &[]);
    let density = 0.1 * between(rng, 1, 4) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        dots(rng, &mut grid, &palette, density);
        Some(grid)
    };
    Some(Rule::new(draw, |grid| Some(settle(grid, |_| true))))
}

/// Lets whole objects fall, the lowest first.
fn settle_objects(grid: &Grid) -> Grid {
    let mut found = plain_objects(grid);
    found.sort_by_key(|o| std::cmp::Reverse(o.top + o.height));
    let mut output = Grid::filled(grid.height(), grid.width(), 0);
    for object in &found {
        let is_free = |by: usize| {
            object.cells.iter().all(|&(r, c)| r + by < grid.height() && output.get(r + by, c) == 0)
        };
        let by = (1..grid.height()).take_while(|&by| is_free(by)).last().unwrap_or(0);
        let color = object.color(grid);
        paint(&mut output, object.cells.iter().map(|&(r, c)| (r + by, c)), color);
    }
    output
}

fn gravity_objects(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let n_colors = between(rng, 1, 4);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let color = pick(rng, &palette);
            blob(rng, 1, 4, color)
        })
    };
    // An object that starts under an overhang would have to pass through it.
    let apply = |grid: &Grid| {
        let output = settle_objects(grid);
        let n: usize = output.cells().iter().filter(|&&c| c != 0).count();
        (n == grid.cells().iter().filter(|&&c| c != 0).count()).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

fn gravity_obstacles(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(16))?;
    let [ball, other, wall] = colors(rng);
    let balls = if chance(rng, 0.6) { [ball, ball] } else { [ball, other] };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..1 + grid.cells().len() / 25 {
            let long = between(rng, 1, (grid.width() / 2).max(1));
            place(rng, &mut grid, &Grid::filled(1, long, wall), 0);
        }
        for (r, c) in cells(&grid) {
            if grid.get(r, c) == 0 && chance(rng, 0.12) {
                let color = pick(rng, &balls);
                grid.set(r, c, color);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| Some(settle(grid, |c| c != wall));
    // Some ball must come to rest on a wall.
    let lands = move |grid: &Grid| {
        let rested = settle(grid, |c| c != wall);
        cells(grid).any(|(r, c)| {
            let above = |g: &Grid| r > 0 && ![0, wall].contains(&g.get(r - 1, c));
            grid.get(r, c) == wall && above(&rested) && !above(grid)
        })
    };
    Some(Rule::new(draw, apply).showing(move |grid| u64::from(lands(grid))).requiring(1))
}

fn gravity_by_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(14))?;
    let [falling] = colors(rng);
    let n_fixed = between(rng, 1, 3);
    let fixed = palette(rng, n_fixed, &[falling]);
    let density = 0.1 * between(rng, 1, 4) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for (r, c) in cells(&grid) {
            if chance(rng, density) {
                let color = if chance(rng, 0.5) { falling } else { pick(rng, &fixed) };
                grid.set(r, c, color);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| Some(settle(grid, |c| c == falling));
    Some(Rule::new(draw, apply).showing(color_bits))
}

fn slide_to_wall(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(16))?;
    let [wall, ball, other] = colors(rng);
    let balls = if chance(rng, 0.6) { [ball, ball] } else { [ball, other] };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        dots(rng, &mut grid, &balls, 0.15);
        let row = between(rng, 1, grid.height() - 2);
        let width = grid.width();
        paint(&mut grid, (0..width).map(|c| (row, c)), wall);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let row = cells_of(grid, wall).first()?.0;
        let mut output = Grid::filled(grid.height(), grid.width(), 0);
        paint(&mut output, (0..grid.width()).map(|c| (row, c)), wall);
        for c in 0..grid.width() {
            let above = (0..row).rev().filter(|&r| grid.get(r, c) != 0);
            for (i, r) in above.enumerate() {
                output.set(row - 1 - i, c, grid.get(r, c));
            }
            let below = (row + 1..grid.height()).filter(|&r| grid.get(r, c) != 0);
            for (i, r) in below.enumerate() {
                output.set(row + 1 + i, c, grid.get(r, c));
            }
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn to_own_wall(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(18))?;
    let draw = move |rng: &mut ChaCha8Rng| {
        let [left, right, stray] = colors(rng);
        let mut grid = sides.empty(rng);
        let (height, width) = grid.shape();
        for r in 0..height {
            if chance(rng, 0.5) {
                let color = pick(rng, &[left, left, right, right, stray]);
                let column = between(rng, 2, width - 3);
                grid.set(r, column, color);
            }
        }
        paint(&mut grid, (0..height).map(|r| (r, 0)), left);
        paint(&mut grid, (0..height).map(|r| (r, width - 1)), right);
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let width = grid.width();
        let (left, right) = (grid.get(0, 0), grid.get(0, width - 1));
        Some(Grid::from_fn(grid.height(), width, |r, c| {
            let holds = |color| (1..width - 1).any(|c| grid.get(r, c) == color);
            match c {
                _ if c == 0 || c == width - 1 => grid.get(r, c),
                1 if holds(left) => left,
                _ if c == width - 2 && holds(right) => right,
                _ => 0,
            }
        }))
    };
    Some(Rule::new(draw, apply))
}

fn align_rows(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(12))?;
    let n_colors = between(rng, 2, 4);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        dots(rng, &mut grid, &palette, 0.3);
        Some(grid)
    };
    let first = |grid: &Grid, r: usize| (0..grid.width()).find(|&c| grid.get(r, c) != 0);
    let apply = move |grid: &Grid| {
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| {
            let from = first(grid, r).unwrap_or(0) + c;
            if from < grid.width() { grid.get(r, from) } else { 0 }
        }))
    };
    // A gap inside a row tells this from gravity.
    let has_gap = move |grid: &Grid| {
        (0..grid.height()).any(|r| {
            let start = first(grid, r).unwrap_or(grid.width());
            let row: Vec<Color> = (start..grid.width()).map(|c| grid.get(r, c)).collect();
            start > 0 && row.windows(2).any(|w| w[0] == 0 && w[1] != 0)
        })
    };
    Some(Rule::new(draw, apply).showing(move |grid| u64::from(has_gap(grid))).requiring(1))
}

fn stack_bars(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(16))?;
    let n_colors = between(rng, 2, 5);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for r in 0..grid.height() {
            if chance(rng, 0.4) {
                let long = between(rng, 1, grid.width() - 1);
                let left = between(rng, 0, grid.width() - long);
                let color = pick(rng, &palette);
                paint(&mut grid, (0..long).map(|i| (r, left + i)), color);
            }
        }
        Some(grid)
    };
    // Whole rows fall, so that a bar rests on the pile even where nothing is under it.
    let apply = |grid: &Grid| {
        let is_empty = |r: usize| (0..grid.width()).all(|c| grid.get(r, c) == 0);
        let (empty, full): (Vec<usize>, Vec<usize>) =
            (0..grid.height()).partition(|&r| is_empty(r));
        let order: Vec<usize> = empty.into_iter().chain(full).collect();
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| grid.get(order[r], c)))
    };
    Some(Rule::new(draw, apply))
}
