//! Inside and outside: rooms, frames, floods.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::objects_scene;
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Filling, "fill-enclosed", 2, "what is enclosed is filled", fill_enclosed),
    Family::new(
        Group::Filling,
        "fill-by-room-size",
        4,
        "the size of a room gives its color",
        fill_by_room_size,
    ),
    Family::new(Group::Filling, "flood-from-seed", 3, "each seed floods its room", flood_from_seed),
    Family::new(
        Group::Filling,
        "fill-outside",
        3,
        "all that is not enclosed is filled",
        fill_outside,
    ),
    Family::new(
        Group::Filling,
        "fill-extreme-room",
        3,
        "the largest or smallest room is filled",
        fill_extreme_room,
    ),
    Family::new(
        Group::Filling,
        "inside-outside",
        3,
        "dots are recolored by whether a frame holds them",
        inside_outside,
    ),
    Family::new(
        Group::Filling,
        "fill-by-seed",
        2,
        "a frame is filled with the color of the dot in it",
        fill_by_seed,
    ),
    Family::new(
        Group::Filling,
        "open-or-closed",
        3,
        "closed and open frames are filled differently",
        open_or_closed,
    ),
    Family::new(Group::Filling, "leak", 5, "what fills a frame runs out at its gap", leak),
    Family::new(
        Group::Filling,
        "checker-inside",
        3,
        "frames are filled with a checkerboard",
        checker_inside,
    ),
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
    // Which corner the board begins in shows in rooms of such sides alone.
    let parities = |grid: &Grid| {
        let bit = |room: &Object| 1 << (room.height % 2 * 2 + room.width % 2);
        closed_rooms(grid).iter().map(bit).fold(0, |bits, bit: u64| bits | bit)
    };
    Some(Rule::new(draw, apply).showing(parities))
}
