//! Lines that connect, cross and repeat.

use rand_chacha::ChaCha8Rng;

use super::rays::{dots_of, spread_dots};
use crate::arc::Grid;
use crate::synth::canvas::*;
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Lines,
        "connect-dots",
        2,
        "dots of one color in line are connected",
        connect_dots,
    ),
    Family::new(
        Group::Lines,
        "mark-crossings",
        2,
        "the crossings of lines are recolored",
        mark_crossings,
    ),
    Family::new(
        Group::Lines,
        "lines-by-color",
        3,
        "the color says whether the line lies or stands",
        lines_by_color,
    ),
    Family::new(Group::Lines, "spiral", 5, "a spiral starts at the colored corner", spiral),
    Family::new(Group::Lines, "elbow", 3, "two dots are joined by a path with one bend", elbow),
    Family::new(
        Group::Lines,
        "edge-markers",
        2,
        "marks at the edges become lines across",
        edge_markers,
    ),
    Family::new(
        Group::Lines,
        "join-to-line",
        2,
        "dots are joined to a line straight down",
        join_to_line,
    ),
    Family::new(Group::Lines, "midpoint", 3, "the middle between two dots is marked", midpoint),
    Family::new(
        Group::Lines,
        "comb",
        3,
        "lines repeat at even distances from a dot to the edge",
        comb,
    ),
    Family::new(Group::Lines, "ripples", 3, "frames around a dot at even distances", ripples),
];

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
    // Of one color alone it would not be known that it is the dots' own.
    let features = move |grid: &Grid| {
        let Some(output) = apply(grid).filter(|_| own_color) else { return 0 };
        (1..10).filter(|&c| count(&output, c) > count(grid, c)).fold(0, |bits, c| bits | 1 << c)
    };
    Some(Rule::new(draw, apply).showing(features))
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
    // Which line lies above shows where they cross, unless there is a dot.
    let features = move |grid: &Grid| {
        let columns = cells_of(grid, standing);
        let crosses = |(r, _): (usize, usize)| columns.iter().any(|&(_, c)| grid.get(r, c) == 0);
        color_bits(grid) & !1 | u64::from(cells_of(grid, lying).into_iter().any(crosses))
    };
    let required = 1 << lying | 1 << standing;
    Some(Rule::new(draw, apply).showing(features).requiring(required))
}

fn spiral(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let [line] = colors(rng);
    let dots = palette(rng, 4, &[line]);
    let own_color = chance(rng, 0.5);
    let some = [dots[0], dots[1]];
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let color = pick(rng, &dots);
        grid.set(0, 0, color);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        let line = if own_color { grid.get(0, 0) } else { line };
        if line == 0 {
            return None;
        }
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
    // Of one color alone it would not be known that it is the dot's own.
    let features = move |grid: &Grid| 1 << u64::from(some.contains(&grid.get(0, 0)));
    Some(Rule::new(draw, apply).showing(features).requiring(if own_color { 0b11 } else { 0 }))
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
