//! Repetition: tilings, sequences and stripes that go on.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::dense;
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Patterns,
        "repair-tiling",
        4,
        "the covered parts of a tiling are restored",
        repair_tiling,
    ),
    Family::new(
        Group::Patterns,
        "extract-unit",
        3,
        "the unit of a tiling is cut out",
        extract_unit,
    ),
    Family::new(
        Group::Patterns,
        "continue-rows",
        2,
        "a sequence of rows goes on to the edge",
        continue_rows,
    ),
    Family::new(Group::Patterns, "continue-bars", 3, "bars keep growing", continue_bars),
    Family::new(
        Group::Patterns,
        "continue-stripes",
        2,
        "stripes go on at the same distance",
        continue_stripes,
    ),
    Family::new(
        Group::Patterns,
        "checkerboard",
        2,
        "two colors become a checkerboard",
        checkerboard,
    ),
    Family::new(
        Group::Patterns,
        "diagonal-stripes",
        4,
        "diagonal stripes are completed",
        diagonal_stripes,
    ),
    Family::new(
        Group::Patterns,
        "repeat-picture",
        3,
        "a picture is repeated to the edge",
        repeat_picture,
    ),
    Family::new(
        Group::Patterns,
        "alternate-rows",
        3,
        "a row alternates with its shifted copy",
        alternate_rows,
    ),
    Family::new(
        Group::Patterns,
        "fill-gaps-in-rows",
        3,
        "gaps in periodic rows are filled",
        fill_gaps,
    ),
];

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

fn checkerboard(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(14))?;
    let is_row = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let [first, second] = colors(rng);
        let mut grid = sides.empty(rng);
        if is_row {
            let width = grid.width();
            paint(&mut grid, (0..width).map(|c| (0, c)), first);
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
