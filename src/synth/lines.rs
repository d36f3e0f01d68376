//! Lines, rays and connections.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};

use super::canvas::*;
use super::{Family, Group, Rule};

const fn family(
    name: &'static str,
    difficulty: u8,
    about: &'static str,
    rule: fn(&mut ChaCha8Rng, usize) -> Option<Rule>,
) -> Family {
    Family::new(name, Group::Lines, difficulty, about, rule)
}

pub(super) const FAMILIES: &[Family] = &[
    family("rays", 1, "each dot sends a line to one edge", rays),
    family("rays-until-wall", 2, "lines end where a wall stands", rays_until_wall),
    family("cross-lines", 2, "each dot sends lines in all four directions", cross_lines),
    family("connect-dots", 2, "dots of one color in line are connected", connect_dots),
    family("diagonal-rays", 2, "each dot sends diagonal lines", diagonal_rays),
    family("bounce", 4, "a diagonal line bounces between the side walls", bounce),
    family("mark-crossings", 2, "the crossings of lines are recolored", mark_crossings),
    family("extend-segments", 3, "segments go on in the direction of their head", extend_segments),
    family("lines-by-color", 3, "the color says whether the line lies or stands", lines_by_color),
    family("spiral", 5, "a spiral starts at the colored corner", spiral),
    family("staircase", 3, "each dot sends a staircase", staircase),
    family("elbow", 3, "two dots are joined by a path with one bend", elbow),
    family("edge-markers", 2, "marks at the edges become lines across", edge_markers),
    family("turning-beam", 5, "a beam turns at obstacles, by their color", turning_beam),
    family("dashed-rays", 2, "each dot sends a dashed line", dashed_rays),
    family("join-to-line", 2, "dots are joined to a line straight down", join_to_line),
    family("midpoint", 3, "the middle between two dots is marked", midpoint),
    family("comb", 3, "lines repeat at even distances from a dot to the edge", comb),
    family("ripples", 3, "frames around a dot at even distances", ripples),
];

/// Dots in distinct columns, each in one of `colors`.
fn spread_dots(rng: &mut ChaCha8Rng, grid: &mut Grid, share: f64, colors: &[Color]) -> usize {
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
fn dots_of(grid: &Grid) -> Vec<(Cell, Color)> {
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
    Some(Rule::new(draw, apply))
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

fn connect_dots(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(20))?;
    let [first, second, line] = colors(rng);
    let colors = if chance(rng, 0.5) { [first, first] } else { [first, second] };
    let own_color = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let (height, width) = grid.shape();
        for _ in 0..1 + grid.cells().len() / 30 {
            let (r, c) = (between(rng, 0, height - 1), between(rng, 0, width - 1));
            let color = pick(rng, &colors);
            let other = match between(rng, 0, 4) {
                0 => (r, c),
                1 | 2 => (r, between(rng, 0, width - 1)),
                _ => (between(rng, 0, height - 1), c),
            };
            paint(&mut grid, [(r, c), other], color);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for (cell, color) in dots_of(grid) {
            for direction in [(0, 1), (1, 0)] {
                let mut path = ray(grid, cell, direction);
                let Some(end) = path.position(|(r, c)| grid.get(r, c) != 0) else { continue };
                let (r, c) = ray(grid, cell, direction).nth(end)?;
                if grid.get(r, c) != color {
                    continue;
                }
                for (r, c) in ray(grid, cell, direction).take(end) {
                    // Which of two crossing lines lies above would be anyone's guess.
                    if output.get(r, c) != 0 {
                        return None;
                    }
                    output.set(r, c, if own_color { color } else { line });
                }
            }
        }
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
    Some(Rule::new(draw, apply))
}

fn mark_crossings(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(20))?;
    let [lying, standing, mark] = colors(rng);
    let standing = if chance(rng, 0.3) { lying } else { standing };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let (height, width) = grid.shape();
        for _ in 0..between(rng, 1, 1 + height / 5) {
            let column = between(rng, 0, width - 1);
            paint(&mut grid, (0..height).map(|r| (r, column)), standing);
        }
        for _ in 0..between(rng, 1, 1 + width / 5) {
            let row = between(rng, 0, height - 1);
            paint(&mut grid, (0..width).map(|c| (row, c)), lying);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        let row_full = |r: usize| (0..grid.width()).all(|c| grid.get(r, c) != 0);
        let column_full = |c: usize| (0..grid.height()).all(|r| grid.get(r, c) != 0);
        let crossings = cells(grid).filter(|&(r, c)| row_full(r) && column_full(c));
        paint(&mut output, crossings, mark);
        Some(output).filter(|g| count(g, mark) < g.cells().len())
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

fn lines_by_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(20))?;
    let [lying, standing] = colors(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for color in [lying, standing] {
            for _ in 0..between(rng, 0, 2) {
                let cell = (between(rng, 0, grid.height() - 1), between(rng, 0, grid.width() - 1));
                paint(&mut grid, [cell], color);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for (color, steps) in [(lying, [(0, 1), (0, -1)]), (standing, [(1, 0), (-1, 0)])] {
            for cell in cells_of(grid, color) {
                for direction in steps {
                    paint(&mut output, ray(grid, cell, direction), color);
                }
            }
        }
        Some(output)
    };
    let features = |grid: &Grid| {
        let bits = color_bits(grid) & !1;
        bits | u64::from(bits.count_ones() == 2)
    };
    let required = 1 << lying | 1 << standing;
    Some(Rule::new(draw, apply).showing(features).requiring(required))
}

fn spiral(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let [line] = colors(rng);
    let dots = palette(rng, 4, &[line]);
    let own_color = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let color = pick(rng, &dots);
        grid.set(0, 0, color);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        let line = if own_color { grid.get(0, 0) } else { line };
        let (mut cell, mut turn) = ((0, 0), 0);
        let mut turned = 0;
        while turned < 2 {
            let direction = SIDES[turn % 4];
            let free = |output: &Grid, cell| {
                step(output, cell, direction).filter(|&(r, c)| output.get(r, c) == 0)
            };
            // A ring stays one cell off the ring outside it.
            let next = free(&output, cell).filter(|&next| {
                step(&output, next, direction).is_none_or(|(r, c)| output.get(r, c) == 0)
            });
            match next {
                Some((r, c)) => {
                    output.set(r, c, line);
                    (cell, turned) = ((r, c), 0);
                }
                None => (turn, turned) = (turn + 1, turned + 1),
            }
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
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

fn elbow(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(20))?;
    let [from, to, line] = colors(rng);
    let marks_bend = chance(rng, 0.3);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for color in [from, to] {
            let cell = (between(rng, 0, grid.height() - 1), between(rng, 0, grid.width() - 1));
            paint(&mut grid, [cell], color);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let (start, end) = (*cells_of(grid, from).first()?, *cells_of(grid, to).first()?);
        if start.0.abs_diff(end.0) < 2 || start.1.abs_diff(end.1) < 2 {
            return None;
        }
        let mut output = grid.clone();
        let (left, right) = (start.1.min(end.1), start.1.max(end.1));
        let (top, bottom) = (start.0.min(end.0), start.0.max(end.0));
        paint(&mut output, (left..=right).map(|c| (start.0, c)), line);
        paint(&mut output, (top..=bottom).map(|r| (r, end.1)), line);
        if marks_bend {
            paint(&mut output, [(start.0, end.1)], from);
        }
        paint(&mut output, [start], from);
        paint(&mut output, [end], to);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn edge_markers(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(18))?;
    let n_colors = between(rng, 2, 4);
    let colors = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for r in 1..grid.height() {
            if chance(rng, 0.25) {
                let color = pick(rng, &colors);
                grid.set(r, 0, color);
            }
        }
        for c in 1..grid.width() {
            if chance(rng, 0.25) {
                let color = pick(rng, &colors);
                grid.set(0, c, color);
            }
        }
        Some(grid)
    };
    let apply = |grid: &Grid| {
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| {
            match (grid.get(r, 0), grid.get(0, c)) {
                (0, standing) => standing,
                (lying, 0) => lying,
                (_, standing) => standing,
            }
        }))
    };
    // Which of two crossing lines lies above must show, and that single lines reach across.
    let features = |grid: &Grid| {
        let mut lying = (1..grid.height()).map(|r| grid.get(r, 0)).filter(|&c| c != 0);
        let mut standing = (1..grid.width()).map(|c| grid.get(0, c)).filter(|&c| c != 0);
        let first = lying.next();
        u64::from(first.is_some() && standing.any(|c| Some(c) != first))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(1))
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

fn join_to_line(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(18))?;
    let [wall, dot, line] = colors(rng);
    let line = pick(rng, &[dot, wall, line]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        spread_dots(rng, &mut grid, 0.35, &[dot]);
        let row = between(rng, 0, grid.height() - 1);
        let width = grid.width();
        paint(&mut grid, (0..width).map(|c| (row, c)), wall);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let wall_row =
            (0..grid.height()).find(|&r| (0..grid.width()).all(|c| grid.get(r, c) == wall))?;
        let mut output = grid.clone();
        for (r, c) in cells_of(grid, dot) {
            let between = (r.min(wall_row) + 1..r.max(wall_row)).map(|r| (r, c));
            paint(&mut output, between, line);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn midpoint(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(20))?;
    let [dot, mark] = colors(rng);
    let arm = between(rng, 0, 1);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let (height, width) = grid.shape();
        let row = between(rng, 0, height - 1);
        let half = between(rng, 1, (width - 1) / 2);
        let left = between(rng, 0, width - 1 - 2 * half);
        paint(&mut grid, [(row, left), (row, left + 2 * half)], dot);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let dots = cells_of(grid, dot);
        let &[(row, left), (_, right)] = dots.as_slice() else { return None };
        let middle = (row, (left + right) / 2);
        let mut output = grid.clone();
        for direction in SIDES {
            paint(&mut output, ray(grid, middle, direction).take(arm), mark);
        }
        paint(&mut output, [middle], mark);
        paint(&mut output, dots, dot);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn comb(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side.min(20))?;
    let [second] = colors(rng);
    let pitch = between(rng, 2, 3);
    let alternates = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let column = between(rng, 0, grid.width() / 2 - 1);
        let row = between(rng, 0, grid.height() - 1);
        let [color] = colors(rng);
        if color == second {
            return None;
        }
        grid.set(row, column, color);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let &((_, column), color) = dots_of(grid).first()?;
        let mut output = grid.clone();
        for (i, c) in (column..grid.width()).step_by(pitch).enumerate() {
            let color = if alternates && i % 2 == 1 { second } else { color };
            paint(&mut output, (0..grid.height()).map(|r| (r, c)), color);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn ripples(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(18))?;
    let [dot, line] = colors(rng);
    let line = if chance(rng, 0.4) { dot } else { line };
    let pitch = between(rng, 2, 3);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let cell = (between(rng, 0, grid.height() - 1), between(rng, 0, grid.width() - 1));
        paint(&mut grid, [cell], dot);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let &(row, column) = cells_of(grid, dot).first()?;
        let distance = |(r, c): Cell| r.abs_diff(row).max(c.abs_diff(column));
        let mut output = grid.clone();
        let rings = cells(grid).filter(|&cell| distance(cell) > 0 && distance(cell) % pitch == 0);
        paint(&mut output, rings, line);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}
