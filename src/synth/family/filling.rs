//! Areas filled by their place.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::objects_scene;
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Filling,
        "nested-rings",
        4,
        "rectangles become nested rings of two colors",
        nested_rings,
    ),
    Family::new(
        Group::Filling,
        "fill-between",
        2,
        "the space between facing bars is filled",
        fill_between,
    ),
    Family::new(
        Group::Filling,
        "largest-square",
        5,
        "the largest empty square is filled",
        largest_square,
    ),
    Family::new(
        Group::Filling,
        "quarter-colors",
        3,
        "corner colors fill the quarters",
        quarter_colors,
    ),
    Family::new(
        Group::Filling,
        "nearest-dot",
        4,
        "each column takes the color of the nearest dot",
        nearest_dot,
    ),
    Family::new(Group::Filling, "fill-below", 2, "all below the surface is filled", fill_below),
    Family::new(Group::Filling, "rain", 4, "water stands in the valleys", rain),
    Family::new(
        Group::Filling,
        "fill-rows-of-marks",
        2,
        "rows with a mark are filled",
        fill_marked_rows,
    ),
];

fn nested_rings(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base, second] = colors(rng);
    let second = if chance(rng, 0.3) { 0 } else { second };
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 3, 8), between(rng, 3, 8));
            Grid::filled(height, width, base)
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for o in objects(grid) {
            for &(r, c) in &o.cells {
                let rows = (r - o.top).min(o.top + o.height - 1 - r);
                let columns = (c - o.left).min(o.left + o.width - 1 - c);
                output.set(r, c, if rows.min(columns) % 2 == 0 { base } else { second });
            }
        }
        Some(output)
    };
    let depth = |grid: &Grid| {
        objects(grid).iter().fold(0, |bits, o| bits | 1 << o.height.min(o.width).div_ceil(2).min(3))
    };
    Some(Rule::new(draw, apply).showing(depth).requiring(0b1000))
}

fn fill_between(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [wall, other, fill] = colors(rng);
    let walls = if chance(rng, 0.6) { [wall, wall] } else { [wall, other] };
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 3, 6), between(rng, 1, 4));
            let color = pick(rng, &walls);
            let mut sprite = Grid::filled(height, width, color);
            paint(&mut sprite, rectangle((1, 0), height - 2, width), 0);
            sprite
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        let bars = plain_objects(grid);
        for upper in &bars {
            let lower = bars
                .iter()
                .filter(|o| o.top > upper.top && o.left == upper.left && o.width == upper.width)
                .min_by_key(|o| o.top);
            let Some(lower) = lower.filter(|o| o.color(grid) == upper.color(grid)) else {
                continue;
            };
            let gap =
                rectangle((upper.top + 1, upper.left), lower.top - upper.top - 1, upper.width);
            if gap.clone().any(|(r, c)| grid.get(r, c) != 0) {
                return None;
            }
            paint(&mut output, gap, fill);
        }
        // An even number of bars, each with its partner: else a gap between two pairs is filled too.
        let n_filled = plain_objects(&output).iter().filter(|o| o.color(&output) == fill).count();
        (2 * n_filled == bars.len()).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

fn largest_square(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(18))?;
    let [noise, fill] = colors(rng);
    let density = 0.1 * between(rng, 2, 4) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for (r, c) in cells(&grid) {
            if chance(rng, density) {
                grid.set(r, c, noise);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let (height, width) = grid.shape();
        let squares = |side: usize| {
            rectangle((0, 0), height + 1 - side, width + 1 - side)
                .filter(|&cell| is_free(grid, cell, (side, side), 0))
                .collect::<Vec<Cell>>()
        };
        let side = (2..=height.min(width)).rev().find(|&side| !squares(side).is_empty())?;
        let &[corner] = squares(side).as_slice() else { return None };
        let mut output = grid.clone();
        paint(&mut output, rectangle(corner, side, side), fill);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn quarter_colors(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let [base] = colors(rng);
    let on_object = chance(rng, 0.5);
    let density = 0.1 * between(rng, 3, 6) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let mut grid = Grid::filled(height & !1, width & !1, 0);
        let (height, width) = grid.shape();
        for (r, c) in cells(&grid) {
            if on_object && chance(rng, density) {
                grid.set(r, c, base);
            }
        }
        let corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)];
        for (corner, color) in corners.into_iter().zip(palette(rng, 4, &[base])) {
            paint(&mut grid, [corner], color);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let (height, width) = grid.shape();
        Some(Grid::from_fn(height, width, |r, c| {
            let row = if r < height / 2 { 0 } else { height - 1 };
            let column = if c < width / 2 { 0 } else { width - 1 };
            if on_object && grid.get(r, c) == 0 { 0 } else { grid.get(row, column) }
        }))
    };
    Some(Rule::new(draw, apply))
}

fn nearest_dot(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(14))?;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let n = between(rng, 2, 3);
        for color in palette(rng, n, &[]) {
            let row = between(rng, 0, grid.height() - 1);
            let column = between(rng, 0, grid.width() - 1);
            grid.set(row, column, color);
        }
        Some(grid)
    };
    // Only columns count, so that the border between two dots is a straight line.
    let apply = |grid: &Grid| {
        let dots: Vec<Cell> = cells(grid).filter(|&(r, c)| grid.get(r, c) != 0).collect();
        let nearest = |c: usize| {
            let index = only_max(dots.iter().map(|dot| usize::MAX - dot.1.abs_diff(c)))?;
            Some(grid.get(dots[index].0, dots[index].1))
        };
        let columns: Vec<Option<Color>> = (0..grid.width()).map(nearest).collect();
        let is_clear = dots.iter().all(|&(r, c)| columns[c] == Some(grid.get(r, c)));
        let color = |_, c: usize| columns[c].unwrap_or(0);
        (is_clear && dots.len() > 1).then(|| Grid::from_fn(grid.height(), grid.width(), color))
    };
    let ties =
        move |grid: &Grid| u64::from(apply(grid).is_some_and(|output| count(&output, 0) > 0));
    Some(Rule::new(draw, apply).showing(ties))
}

fn fill_below(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(18))?;
    let [surface, fill] = colors(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let height = grid.height();
        let mut row = between(rng, 0, height - 1);
        for c in 0..grid.width() {
            grid.set(row, c, surface);
            row = (row + between(rng, 0, 2)).saturating_sub(1).min(height - 1);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells_of(grid, surface) {
            paint(&mut output, ray(grid, cell, (1, 0)), fill);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn rain(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(18))?;
    let [ground, water] = colors(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let height = grid.height();
        for c in 0..grid.width() {
            let top = between(rng, 1, height);
            paint(&mut grid, (top..height).map(|r| (r, c)), ground);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let walled =
            |cell, direction| ray(grid, cell, direction).any(|(r, c)| grid.get(r, c) == ground);
        let mut output = grid.clone();
        let held = cells(grid).filter(|&(r, c)| {
            grid.get(r, c) == 0 && walled((r, c), (0, 1)) && walled((r, c), (0, -1))
        });
        paint(&mut output, held, water);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn fill_marked_rows(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let [noise, mark, fill] = colors(rng);
    let has_mark = chance(rng, 0.5);
    let fill = if has_mark && chance(rng, 0.5) { mark } else { fill };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for (r, c) in cells(&grid) {
            if chance(rng, 0.15) {
                let color = if has_mark && chance(rng, 0.3) { mark } else { noise };
                grid.set(r, c, color);
            }
        }
        Some(grid)
    };
    let is_chosen = move |grid: &Grid, r: usize| {
        let mut row = (0..grid.width()).map(|c| grid.get(r, c));
        if has_mark { row.any(|c| c == mark) } else { row.all(|c| c == 0) }
    };
    let apply = move |grid: &Grid| {
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| {
            if is_chosen(grid, r) { fill } else { grid.get(r, c) }
        }))
    };
    let features = move |grid: &Grid| {
        (0..grid.height()).fold(0, |bits, r| bits | 1 << u64::from(is_chosen(grid, r)))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}
