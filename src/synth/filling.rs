//! Inside and outside, rooms, floods and borders.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};

use super::canvas::*;
use super::scene::objects_scene;
use super::{Family, Group, Rule};

const fn family(
    name: &'static str,
    difficulty: u8,
    about: &'static str,
    rule: fn(&mut ChaCha8Rng, usize) -> Option<Rule>,
) -> Family {
    Family::new(name, Group::Filling, difficulty, about, rule)
}

pub(super) const FAMILIES: &[Family] = &[
    family("fill-enclosed", 2, "what is enclosed is filled", fill_enclosed),
    family("fill-by-room-size", 4, "the size of a room gives its color", fill_by_room_size),
    family("flood-from-seed", 3, "each seed floods its room", flood_from_seed),
    family("fill-outside", 3, "all that is not enclosed is filled", fill_outside),
    family("fill-extreme-room", 3, "the largest or smallest room is filled", fill_extreme_room),
    family("inside-outside", 3, "dots are recolored by whether a frame holds them", inside_outside),
    family("nested-rings", 4, "rectangles become nested rings of two colors", nested_rings),
    family("fill-by-seed", 2, "a frame is filled with the color of the dot in it", fill_by_seed),
    family("open-or-closed", 3, "closed and open frames are filled differently", open_or_closed),
    family("leak", 5, "what fills a frame runs out at its gap", leak),
    family("fill-between", 2, "the space between facing bars is filled", fill_between),
    family("largest-square", 5, "the largest empty square is filled", largest_square),
    family("quarter-colors", 3, "corner colors fill the quarters", quarter_colors),
    family("nearest-dot", 4, "each column takes the color of the nearest dot", nearest_dot),
    family("fill-below", 2, "all below the surface is filled", fill_below),
    family("rain", 4, "water stands in the valleys", rain),
    family("checker-inside", 3, "frames are filled with a checkerboard", checker_inside),
    family("fill-rows-of-marks", 2, "rows with a mark are filled", fill_marked_rows),
];

fn fill_enclosed(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side)?;
    let [wall, other, fill] = colors(rng);
    let walls = if chance(rng, 0.7) { [wall, wall] } else { [wall, other] };
    let density = 0.1 * between(rng, 5, 7) as f64;
    let is_drawn = chance(rng, 0.6);
    let draw = move |rng: &mut ChaCha8Rng| {
        if is_drawn {
            return objects_scene(rng, sides, 1, |rng| {
                let (height, width) = (between(rng, 2, 6), between(rng, 3, 6));
                let color = pick(rng, &walls);
                if chance(rng, 0.3) { blob(rng, 2, 5, color) } else { frame(height, width, color) }
            });
        }
        let mut grid = sides.empty(rng);
        for (r, c) in cells(&grid) {
            if chance(rng, density) {
                let color = pick(rng, &walls);
                grid.set(r, c, color);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for room in closed_rooms(grid) {
            paint(&mut output, room.cells, fill);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn fill_by_room_size(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side)?;
    let [wall, codes @ ..]: [Color; 4] = colors(rng);
    let n_codes = between(rng, 2, 3);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let inside = between(rng, 1, n_codes);
            frame(inside + 2, inside + 2, wall)
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for room in closed_rooms(grid) {
            let code = codes[..n_codes].get(room.height - 1)?;
            paint(&mut output, room.cells, *code);
        }
        Some(output)
    };
    let features = |grid: &Grid| {
        closed_rooms(grid).iter().fold(0, |bits, room| bits | 1 << room.height.min(9))
    };
    Some(Rule::new(draw, apply).showing(features))
}

/// Lines from side to side that divide the grid, some with an end at another line.
fn dividers(rng: &mut ChaCha8Rng, grid: &mut Grid, wall: Color) {
    let (height, width) = grid.shape();
    for _ in 0..2 + (height + width) / 12 {
        let start = (between(rng, 1, height - 2), between(rng, 1, width - 2));
        if !is_free(grid, start, (1, 1), 1) {
            continue;
        }
        let across = if chance(rng, 0.5) { [(0, 1), (0, -1)] } else { [(1, 0), (-1, 0)] };
        let mut line = vec![start];
        for direction in across {
            line.extend(ray(grid, start, direction).take_while(|&(r, c)| grid.get(r, c) == 0));
        }
        paint(grid, line, wall);
    }
}

fn flood_from_seed(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(22))?;
    let [wall] = colors(rng);
    let n_seeds = between(rng, 1, 3);
    let seeds = palette(rng, 3, &[wall]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        dividers(rng, &mut grid, wall);
        let mut free = rooms(&grid);
        for &color in &seeds[..n_seeds] {
            if free.len() < 2 {
                break;
            }
            let room = free.swap_remove(between(rng, 0, free.len() - 1));
            let cell = pick(rng, &room.cells);
            paint(&mut grid, [cell], color);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for area in components(grid, &SIDES, |c| c != wall, |_, _| true) {
            let mut colors = area.cells.iter().map(|&(r, c)| grid.get(r, c)).filter(|&c| c != 0);
            if let Some(color) = colors.next() {
                if colors.next().is_some() {
                    return None;
                }
                paint(&mut output, area.cells.iter().copied(), color);
            }
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn fill_outside(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(20))?;
    let [wall, fill] = colors(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 3, 6), between(rng, 3, 6));
            if chance(rng, 0.3) { blob(rng, 2, 5, wall) } else { frame(height, width, wall) }
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for room in rooms(grid).into_iter().filter(|room| room.touches_edge(grid)) {
            paint(&mut output, room.cells, fill);
        }
        Some(output).filter(|g| count(g, 0) > 0)
    };
    Some(Rule::new(draw, apply))
}

fn fill_extreme_room(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(22))?;
    let [wall, fill] = colors(rng);
    let sign = pick(rng, &[1, -1]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        dividers(rng, &mut grid, wall);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let rooms = rooms(grid);
        let index = only_max(rooms.iter().map(|room| sign * room.size() as isize))?;
        let mut output = grid.clone();
        paint(&mut output, rooms[index].cells.iter().copied(), fill);
        (rooms.len() > 2).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

fn inside_outside(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let [wall, dot, inner, outer] = colors(rng);
    let (inner, outer) =
        pick(rng, &[(inner, dot), (dot, outer), (inner, outer), (dot, 0), (0, dot)]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = objects_scene(rng, sides, 1, |rng| {
            frame(between(rng, 4, 7), between(rng, 4, 7), wall)
        })?;
        for (r, c) in cells(&grid) {
            if grid.get(r, c) == 0 && chance(rng, 0.15) {
                grid.set(r, c, dot);
            }
        }
        Some(grid)
    };
    let areas = move |grid: &Grid| components(grid, &SIDES, |c| c != wall, |_, _| true);
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for area in areas(grid) {
            let color = if area.touches_edge(grid) { outer } else { inner };
            let dots = area.cells.iter().filter(|&&(r, c)| grid.get(r, c) == dot);
            paint(&mut output, dots.copied(), color);
        }
        Some(output)
    };
    let features = move |grid: &Grid| {
        let dotted =
            areas(grid).into_iter().filter(|a| a.cells.iter().any(|&(r, c)| grid.get(r, c) == dot));
        dotted.fold(0, |bits, area| bits | 1 << u64::from(area.touches_edge(grid)))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

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

fn fill_by_seed(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [wall] = colors(rng);
    let seeds = palette(rng, 5, &[wall]);
    let also_wall = chance(rng, 0.25);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 4, 6), between(rng, 4, 6));
            let mut sprite = frame(height, width, wall);
            if chance(rng, 0.85) {
                let cell = (between(rng, 1, height - 2), between(rng, 1, width - 2));
                let color = pick(rng, &seeds);
                paint(&mut sprite, [cell], color);
            }
            sprite
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for o in components(grid, &AROUND, |c| c == wall, |_, _| true) {
            let mut held = rectangle(o.corner(), o.height, o.width)
                .map(|(r, c)| grid.get(r, c))
                .filter(|&c| c != 0 && c != wall);
            let Some(color) = held.next() else { continue };
            let area = rectangle(o.corner(), o.height, o.width);
            paint(&mut output, area.filter(|&(r, c)| also_wall || grid.get(r, c) != wall), color);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

/// A frame with one cell of its outline, not a corner, left out if `open`.
fn gapped_frame(rng: &mut ChaCha8Rng, color: Color, open: bool) -> Grid {
    let (height, width) = (between(rng, 4, 6), between(rng, 4, 6));
    let mut sprite = frame(height, width, color);
    if open {
        let along = (between(rng, 1, height - 2), between(rng, 1, width - 2));
        let gaps = [(0, along.1), (height - 1, along.1), (along.0, 0), (along.0, width - 1)];
        let gap = pick(rng, &gaps);
        paint(&mut sprite, [gap], 0);
    }
    sprite
}

fn open_or_closed(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 9, max_side)?;
    let [wall, closed, open] = colors(rng);
    let open = if chance(rng, 0.4) { 0 } else { open };
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let is_open = chance(rng, 0.5);
            gapped_frame(rng, wall, is_open)
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for o in objects(grid) {
            let color = if o.is_frame() { closed } else { open };
            let inside = rectangle((o.top + 1, o.left + 1), o.height - 2, o.width - 2);
            paint(&mut output, inside, color);
        }
        Some(output)
    };
    let features =
        |grid: &Grid| objects(grid).iter().fold(0, |bits, o| bits | 1 << u64::from(o.is_frame()));
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

fn leak(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side)?;
    let [wall, fill] = colors(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..1 + grid.cells().len() / 120 {
            let sprite = gapped_frame(rng, wall, true);
            place(rng, &mut grid, &sprite, 1);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for o in objects(grid) {
            let inside = rectangle((o.top + 1, o.left + 1), o.height - 2, o.width - 2);
            paint(&mut output, inside, fill);
            let gap = outline(o.corner(), o.height, o.width).find(|&(r, c)| grid.get(r, c) == 0)?;
            let direction = match gap {
                (r, _) if r == o.top => (-1, 0),
                (r, _) if r == o.top + o.height - 1 => (1, 0),
                (_, c) if c == o.left => (0, -1),
                _ => (0, 1),
            };
            paint(&mut output, [gap], fill);
            for (r, c) in ray(grid, gap, direction) {
                if output.get(r, c) != 0 {
                    return None;
                }
                output.set(r, c, fill);
            }
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
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

fn checker_inside(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [wall, first, second] = colors(rng);
    let second = pick(rng, &[0, wall, second]);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| frame(between(rng, 4, 8), between(rng, 4, 8), wall))
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for room in closed_rooms(grid) {
            for &(r, c) in &room.cells {
                let is_even = (r + c + room.top + room.left).is_multiple_of(2);
                output.set(r, c, if is_even { first } else { second });
            }
        }
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
