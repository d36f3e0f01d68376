//! Objects that move by a step, to one another, or to a place.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{Scene, objects_scene, picture};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Motion, "shift", 1, "all is shifted by a fixed step", shift).general(),
    Family::new(Group::Motion, "shift-color", 2, "objects of one color are shifted", shift_color),
    Family::new(
        Group::Motion,
        "attract",
        3,
        "an object moves to another until they touch",
        attract,
    ),
    Family::new(
        Group::Motion,
        "leave-trail",
        2,
        "an object leaves a trail up to the edge",
        leave_trail,
    ),
    Family::new(
        Group::Motion,
        "move-by-length",
        4,
        "each bar moves by its own length",
        move_by_length,
    ),
    Family::new(Group::Motion, "swap-places", 3, "two pictures change places", swap_places),
    Family::new(Group::Motion, "to-corners", 3, "four cells fly to the corners", to_corners),
    Family::new(Group::Motion, "to-center", 3, "a picture moves to the middle", to_center),
];

fn shift(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(14))?;
    let scene = Scene::choose(rng, 4);
    let (down, right) = pick(rng, &[(0, 1), (1, 0), (1, 1), (0, 2), (1, 2)]);
    let apply = move |grid: &Grid| {
        let mut output = Grid::filled(grid.height(), grid.width(), 0);
        paste(&mut output, grid, (down, right));
        Some(output)
    };
    Some(Rule::new(move |rng| Some(scene.draw(rng, sides)), apply))
}

fn shift_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [moving] = colors(rng);
    let n_fixed = between(rng, 1, 2);
    let fixed = palette(rng, n_fixed, &[moving]);
    let (down, right) = pick(rng, &[(0, 1), (1, 0), (0, 2), (1, 1), (0, 3)]);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let color = if chance(rng, 0.5) { moving } else { pick(rng, &fixed) };
            blob(rng, 1, 3, color)
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = map_cells(grid, |c| if c == moving { 0 } else { c });
        for (r, c) in cells_of(grid, moving) {
            let (row, column) = step(grid, (r, c), (down, right))?;
            if output.get(row, column) != 0 {
                return None;
            }
            output.set(row, column, moving);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply).showing(color_bits))
}

fn attract(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let [anchor, moving] = colors(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let block = Grid::filled(between(rng, 2, 3), between(rng, 2, 3), anchor);
        place(rng, &mut grid, &block, 0)?;
        let object = blob(rng, 1, 3, moving);
        place(rng, &mut grid, &object, 1)?;
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let found = plain_objects(grid);
        let block = found.iter().find(|o| o.color(grid) == anchor)?;
        let object = found.iter().find(|o| o.color(grid) == moving)?;
        let others = |r, c| grid.get(r, c) == anchor;
        for direction in SIDES {
            let toward =
                |&(r, c): &Cell| ray(grid, (r, c), direction).position(|(r, c)| others(r, c));
            let Some(room) = object.cells.iter().filter_map(toward).min() else { continue };
            let mut output = map_cells(grid, |c| if c == moving { 0 } else { c });
            let by = |i: isize| i * room as isize;
            for &cell in &object.cells {
                let (r, c) = step(grid, cell, (by(direction.0), by(direction.1)))?;
                output.set(r, c, moving);
            }
            return (room > 0 && block.is_solid()).then_some(output);
        }
        None
    };
    Some(Rule::new(draw, apply))
}

fn leave_trail(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let [base, trail, other] = colors(rng);
    let trail = if chance(rng, 0.3) { base } else { trail };
    let bases = if trail != base && chance(rng, 0.3) { [base, other] } else { [base, base] };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let mut top = between(rng, 0, 1);
        loop {
            let (height, width) = (between(rng, 1, 3), between(rng, 1, 3));
            if top + height > grid.height() {
                break;
            }
            let left = between(rng, 0, grid.width() - width - 1);
            let color = pick(rng, &bases);
            paste(&mut grid, &map_cells(&shape(rng, height, width), |c| c * color), (top, left));
            top += height + between(rng, 1, 3);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells(grid).filter(|&(r, c)| grid.get(r, c) != 0) {
            let free = ray(grid, cell, (0, 1)).filter(|&(r, c)| grid.get(r, c) == 0);
            paint(&mut output, free, trail);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn move_by_length(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side.min(20))?;
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for r in (between(rng, 0, 1)..grid.height()).step_by(2) {
            let long = between(rng, 1, grid.width() / 2);
            let left = between(rng, 0, grid.width() - 2 * long);
            let color = pick(rng, &palette);
            if chance(rng, 0.7) {
                paint(&mut grid, (0..long).map(|i| (r, left + i)), color);
            }
        }
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let mut output = Grid::filled(grid.height(), grid.width(), 0);
        for o in objects(grid) {
            if o.left + 2 * o.width > grid.width() {
                return None;
            }
            paint(&mut output, rectangle((o.top, o.left + o.width), 1, o.width), o.color(grid));
        }
        Some(output)
    };
    // Bars of two lengths, or the step could be a constant.
    let differ = |grid: &Grid| {
        let found = objects(grid);
        u64::from(found.iter().any(|o| o.width != found[0].width))
    };
    Some(Rule::new(draw, apply).showing(differ).requiring(1))
}

fn swap_places(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let (height, width) = (between(rng, 1, 3), between(rng, 2, 3));
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let colors = palette(rng, 4, &[]);
        for pair in colors.chunks(2) {
            let sprite = picture(rng, height, width, pair);
            place(rng, &mut grid, &sprite, 1)?;
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let found = objects(grid);
        let [a, b] = found.as_slice() else { return None };
        let fits = |o: &Object| (o.height, o.width) == (height, width);
        let mut output = Grid::filled(grid.height(), grid.width(), 0);
        paste(&mut output, &a.sprite(grid), b.corner());
        paste(&mut output, &b.sprite(grid), a.corner());
        (fits(a) && fits(b)).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

fn to_corners(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(16))?;
    let keeps = chance(rng, 0.5);
    let is_block = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let colors: [Color; 4] = colors(rng);
        let mut grid = sides.empty(rng);
        let (top, left) = (between(rng, 1, grid.height() - 3), between(rng, 1, grid.width() - 3));
        for (i, (r, c)) in rectangle((top, left), 2, 2).enumerate() {
            grid.set(r, c, colors[i]);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let [object]: [Object; 1] = objects(grid).try_into().ok()?;
        let (bottom, right) = (grid.height() - 1, grid.width() - 1);
        let (height, width) = if is_block { (object.top, object.left) } else { (1, 1) };
        let mut output = grid.clone();
        if !keeps {
            paint(&mut output, object.cells.iter().copied(), 0);
        }
        let (rest_h, rest_w) = (bottom - object.top - 1, right - object.left - 1);
        for (i, j) in rectangle((0, 0), 2, 2) {
            let color = grid.get(object.top + i, object.left + j);
            let h = if !is_block {
                1
            } else if i == 0 {
                height
            } else {
                rest_h
            };
            let w = if !is_block {
                1
            } else if j == 0 {
                width
            } else {
                rest_w
            };
            let corner =
                (if i == 0 { 0 } else { bottom + 1 - h }, if j == 0 { 0 } else { right + 1 - w });
            paint(&mut output, rectangle(corner, h, w), color);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn to_center(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(16))?;
    let colors = palette(rng, 4, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let (height, width) = (2 + grid.height() % 2, 2 + grid.width() % 2);
        let sprite = picture(rng, height, width, &colors);
        place(rng, &mut grid, &sprite, 0)?;
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let [object]: [Object; 1] = objects(grid).try_into().ok()?;
        let (down, right) = (grid.height() - object.height, grid.width() - object.width);
        let mut output = Grid::filled(grid.height(), grid.width(), 0);
        paste(&mut output, &object.sprite(grid), (down / 2, right / 2));
        (down.is_multiple_of(2) && right.is_multiple_of(2)).then_some(output)
    };
    Some(Rule::new(draw, apply))
}
