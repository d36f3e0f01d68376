//! Lines that start at a dot and run.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Lines, "rays", 1, "each dot sends a line to one edge", rays),
    Family::new(
        Group::Lines,
        "rays-until-wall",
        2,
        "lines end where a wall stands",
        rays_until_wall,
    ),
    Family::new(
        Group::Lines,
        "cross-lines",
        2,
        "each dot sends lines in all four directions",
        cross_lines,
    ),
    Family::new(Group::Lines, "diagonal-rays", 2, "each dot sends diagonal lines", diagonal_rays),
    Family::new(
        Group::Lines,
        "bounce",
        4,
        "a diagonal line bounces between the side walls",
        bounce,
    ),
    Family::new(Group::Lines, "staircase", 3, "each dot sends a staircase", staircase),
    Family::new(
        Group::Lines,
        "turning-beam",
        5,
        "a beam turns at obstacles, by their color",
        turning_beam,
    ),
    Family::new(Group::Lines, "dashed-rays", 2, "each dot sends a dashed line", dashed_rays),
    Family::new(
        Group::Lines,
        "extend-segments",
        3,
        "segments go on in the direction of their head",
        extend_segments,
    ),
];

/// Dots in distinct columns, each in one of `colors`.
pub(super) fn spread_dots(
    rng: &mut ChaCha8Rng,
    grid: &mut Grid,
    share: f64,
    colors: &[Color],
) -> usize {
    let height = grid.height();
    let mut n = 0;
    for c in 0..grid.width() {
        if chance(rng, share) {
            let (row, color) = (between(rng, 0, height - 1), pick(rng, colors));
            grid.set(row, c, color);
            n += 1;
        }
    }
    n
}

/// The cells that are not background, with their colors.
pub(super) fn dots_of(grid: &Grid) -> Vec<(Cell, Color)> {
    cells(grid).map(|(r, c)| ((r, c), grid.get(r, c))).filter(|&(_, color)| color != 0).collect()
}

fn rays(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(18))?;
    let [line] = colors(rng);
    let n_colors = between(rng, 1, 4);
    let dots = palette(rng, n_colors, &[line]);
    let own_color = chance(rng, 0.5);
    let share = 0.1 * between(rng, 2, 4) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        spread_dots(rng, &mut grid, share, &dots);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for (cell, color) in dots_of(grid) {
            paint(&mut output, ray(grid, cell, (1, 0)), if own_color { color } else { line });
        }
        Some(output)
    };
    // Of one color alone it would not be known that it is the dots' own.
    let features = move |grid: &Grid| if own_color { color_bits(grid) } else { 0 };
    Some(Rule::new(draw, apply).showing(features))
}

fn rays_until_wall(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [dot, wall, line] = colors(rng);
    let line = if chance(rng, 0.5) { dot } else { line };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..1 + grid.cells().len() / 40 {
            let long = between(rng, 1, grid.width() / 2);
            place(rng, &mut grid, &Grid::filled(1, long, wall), 1);
        }
        for c in 0..grid.width() {
            let row = between(rng, 0, grid.height() - 1);
            if chance(rng, 0.3) && grid.get(row, c) == 0 {
                grid.set(row, c, dot);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells_of(grid, dot) {
            let free = ray(grid, cell, (1, 0)).take_while(|&(r, c)| grid.get(r, c) == 0);
            paint(&mut output, free, line);
        }
        Some(output)
    };
    let features = move |grid: &Grid| {
        cells_of(grid, dot).into_iter().fold(0, |bits, cell| {
            let stop = ray(grid, cell, (1, 0)).find(|&(r, c)| grid.get(r, c) == wall);
            bits | if stop.is_some() { 1 } else { 2 }
        })
    };
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

fn cross_lines(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(20))?;
    let [dot, line] = colors(rng);
    let line = if chance(rng, 0.4) { dot } else { line };
    let most = between(rng, 1, 3);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..between(rng, 1, most) {
            let cell = (between(rng, 0, grid.height() - 1), between(rng, 0, grid.width() - 1));
            paint(&mut grid, [cell], dot);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        let dots = cells_of(grid, dot);
        for &cell in &dots {
            for direction in SIDES {
                paint(&mut output, ray(grid, cell, direction), line);
            }
        }
        paint(&mut output, dots, dot);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn diagonal_rays(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(20))?;
    let [dot, line] = colors(rng);
    let line = if chance(rng, 0.4) { dot } else { line };
    let directions = pick(rng, &[&CORNERS[..], &CORNERS[..1], &CORNERS[..2], &AROUND[..]]);
    let most = between(rng, 1, 3);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..between(rng, 1, most) {
            let cell = (between(rng, 0, grid.height() - 1), between(rng, 0, grid.width() - 1));
            paint(&mut grid, [cell], dot);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        let dots = cells_of(grid, dot);
        for &cell in &dots {
            for &direction in directions {
                paint(&mut output, ray(grid, cell, direction), line);
            }
        }
        paint(&mut output, dots, dot);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn bounce(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(10) - 1)?;
    let long = max_side.min(16);
    let [dot, line] = colors(rng);
    let line = if chance(rng, 0.5) { dot } else { line };
    let draw = move |rng: &mut ChaCha8Rng| {
        let (_, width) = sides.draw(rng);
        let height = between(rng, width + 1, long.max(width + 1));
        let mut grid = Grid::filled(height, width, 0);
        let column = if chance(rng, 0.5) { 0 } else { between(rng, 0, width - 1) };
        grid.set(height - 1, column, dot);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let &(bottom, column) = cells_of(grid, dot).first()?;
        let mut output = grid.clone();
        let period = 2 * (grid.width() - 1);
        for r in 0..bottom {
            let at = (column + bottom - r) % period;
            output.set(r, at.min(period - at), line);
        }
        (bottom == grid.height() - 1).then_some(output)
    };
    // A beam that starts in a corner does not tell to which side one from within would go.
    let starts_within = move |grid: &Grid| {
        let within = |&(_, column): &Cell| column > 0 && column < grid.width() - 1;
        u64::from(cells_of(grid, dot).iter().any(within))
    };
    Some(Rule::new(draw, apply).showing(starts_within))
}

fn staircase(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(18))?;
    let [dot, line] = colors(rng);
    let line = if chance(rng, 0.4) { dot } else { line };
    let tread = between(rng, 1, 2);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..between(rng, 1, 2) {
            let (height, width) = grid.shape();
            let cell = (between(rng, 0, height - 2), between(rng, 0, width - 2));
            paint(&mut grid, [cell], dot);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for start in cells_of(grid, dot) {
            let mut cell = start;
            for i in 0.. {
                let direction = if i % (tread + 1) < tread { (0, 1) } else { (1, 0) };
                let Some(next) = step(grid, cell, direction) else { break };
                if output.get(next.0, next.1) != 0 {
                    return None;
                }
                output.set(next.0, next.1, line);
                cell = next;
            }
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn turning_beam(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side.min(20))?;
    let [beam, right, left] = colors(rng);
    let obstacles = if chance(rng, 0.5) { vec![right] } else { vec![right, left] };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for (r, c) in cells(&grid) {
            if chance(rng, 0.1) && is_free(&grid, (r, c), (1, 1), 1) {
                let color = pick(rng, &obstacles);
                grid.set(r, c, color);
            }
        }
        let row = between(rng, 0, grid.height() - 1);
        paint(&mut grid, [(row, 0)], beam);
        Some(grid)
    };
    let trace = move |grid: &Grid| {
        let mut output = grid.clone();
        let &(mut cell) = cells_of(grid, beam).first()?;
        let (mut turn, mut hits) = (0, 0);
        for _ in 0..4 * grid.cells().len() {
            let Some((r, c)) = step(grid, cell, SIDES[turn % 4]) else {
                return Some((output, hits));
            };
            match grid.get(r, c) {
                color if color == right => (turn, hits) = (turn + 1, hits | 1),
                color if color == left => (turn, hits) = (turn + 3, hits | 2),
                _ => {
                    output.set(r, c, beam);
                    cell = (r, c);
                }
            }
        }
        None
    };
    let apply = move |grid: &Grid| Some(trace(grid)?.0);
    let features = move |grid: &Grid| trace(grid).map_or(0, |(_, hits)| hits);
    Some(Rule::new(draw, apply).showing(features).requiring(1))
}

fn dashed_rays(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let [line, first, second] = colors(rng);
    let line = if chance(rng, 0.4) { 0 } else { line };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        spread_dots(rng, &mut grid, 0.25, &[first, second]);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for (cell, color) in dots_of(grid) {
            for (i, at) in ray(grid, cell, (1, 0)).enumerate() {
                paint(&mut output, [at], if i % 2 == 0 { line } else { color });
            }
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn extend_segments(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side.min(20))?;
    let [tail, head, line] = colors(rng);
    let line = pick(rng, &[head, tail, line]);
    let directions: &[Step] = if chance(rng, 0.6) { &SIDES } else { &CORNERS };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..2 + grid.cells().len() / 50 {
            let start = (between(rng, 0, grid.height() - 1), between(rng, 0, grid.width() - 1));
            let direction = pick(rng, directions);
            let long = between(rng, 1, 2);
            let path: Vec<Cell> =
                std::iter::once(start).chain(ray(&grid, start, direction)).take(long + 1).collect();
            let is_clear = path.iter().all(|&cell| is_free(&grid, cell, (1, 1), 1));
            if path.len() == long + 1 && is_clear {
                paint(&mut grid, path[..long].iter().copied(), tail);
                paint(&mut grid, [path[long]], head);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells_of(grid, head) {
            let mut toward = directions.iter().filter(|&&(down, right)| {
                step(grid, cell, (-down, -right)).is_some_and(|(r, c)| grid.get(r, c) == tail)
            });
            let &direction = toward.next()?;
            for (r, c) in ray(grid, cell, direction) {
                if output.get(r, c) != 0 {
                    return None;
                }
                output.set(r, c, line);
            }
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}
