//! Copies of what is there: enlarged, matched, repeated.

use rand_chacha::ChaCha8Rng;

use super::symmetry::assembled;
use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{dense, dots, objects_scene, picture, recoloring};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Copying,
        "match-shapes",
        5,
        "objects take the color of the sample of their shape",
        match_shapes,
    ),
    Family::new(
        Group::Copying,
        "swap-inside",
        2,
        "frames and their insides swap colors",
        swap_inside,
    ),
    Family::new(Group::Copying, "magnify-object", 3, "the object is cut out and enlarged", magnify),
    Family::new(
        Group::Copying,
        "paste-into-frame",
        4,
        "the object is put into the frame",
        paste_into_frame,
    ),
    Family::new(
        Group::Copying,
        "texture-fill",
        4,
        "frames are filled with the texture at the corner",
        texture_fill,
    ),
    Family::new(
        Group::Copying,
        "repeat-toward-mark",
        4,
        "an object is repeated toward the mark beside it",
        toward_mark,
    ),
    Family::new(
        Group::Copying,
        "join-recolored",
        3,
        "the grid and a recolored copy side by side",
        join_recolored,
    ),
    Family::new(
        Group::Copying,
        "copy-rows-down",
        2,
        "colored rows are copied to the rows below",
        copy_rows_down,
    ),
];

fn match_shapes(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 11, max_side)?;
    let [line, base] = colors(rng);
    let side = between(rng, 2, 3);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let (height, width) = grid.shape();
        let samples: Vec<(Color, Grid)> = palette(rng, 3, &[line, base])
            .into_iter()
            .take((height + 1) / (side + 1))
            .map(|color| (color, shape(rng, side, side)))
            .collect();
        for (i, (color, form)) in samples.iter().enumerate() {
            paste(&mut grid, &map_cells(form, |c| c * color), (i * (side + 1), 0));
        }
        paint(&mut grid, (0..height).map(|r| (r, side)), line);
        let mut body = Grid::filled(height, width - side - 1, 0);
        let n = 2 + body.cells().len() / 40;
        scatter(rng, &mut body, (2, n), |rng| {
            let which = between(rng, 0, samples.len() - 1);
            map_cells(&samples[which].1, |c| c * base)
        })?;
        paste(&mut grid, &body, (0, side + 1));
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let found = components(grid, &AROUND, |c| c != 0 && c != line, |a, b| a == b);
        let (samples, rest): (Vec<_>, Vec<_>) = found.iter().partition(|o| o.left < side);
        let mut output = grid.clone();
        for object in rest {
            let mut alike = samples.iter().filter(|s| s.mask() == object.mask());
            let sample = alike.next()?;
            if alike.next().is_some() {
                return None;
            }
            paint(&mut output, object.cells.iter().copied(), sample.color(grid));
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn swap_inside(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side)?;
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 3, 6), between(rng, 3, 6));
            let [outer, inner] = colors(rng);
            let mut sprite = Grid::filled(height, width, inner);
            paint(&mut sprite, outline((0, 0), height, width), outer);
            sprite
        })
    };
    let apply = |grid: &Grid| {
        let mut output = grid.clone();
        for o in objects(grid) {
            let outer = grid.get(o.top, o.left);
            let inner = at(grid, o.top as isize + 1, o.left as isize + 1)?;
            paint(&mut output, o.cells.iter().copied(), outer);
            paint(&mut output, outline(o.corner(), o.height, o.width), inner);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn magnify(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(14))?;
    let factor = pick(rng, &[2, 2, 3]);
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let (height, width) = (between(rng, 2, 3), between(rng, 2, 3));
        let sprite = picture(rng, height, width, &palette);
        place(rng, &mut grid, &sprite, 0)?;
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let [object]: [Object; 1] = objects(grid).try_into().ok()?;
        let sprite = object.sprite(grid);
        assembled(factor * sprite.height(), factor * sprite.width(), |r, c| {
            sprite.get(r / factor, c / factor)
        })
    };
    Some(Rule::new(draw, apply))
}

fn paste_into_frame(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side)?;
    let [wall] = colors(rng);
    let palette = palette(rng, 4, &[wall]);
    let in_place = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let (height, width) = (between(rng, 2, 3), between(rng, 2, 3));
        place(rng, &mut grid, &frame(height + 2, width + 2, wall), 0)?;
        let sprite = picture(rng, height, width, &palette);
        place(rng, &mut grid, &sprite, 1)?;
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let found = objects(grid);
        let empty = found.iter().find(|o| o.color(grid) == wall && o.is_frame())?;
        let object = found.iter().find(|o| o.color(grid) != wall)?;
        let sprite = object.sprite(grid);
        let fits = (object.height + 2, object.width + 2) == (empty.height, empty.width);
        let mut output = if in_place { grid.clone() } else { empty.sprite(grid) };
        if in_place {
            paint(&mut output, object.cells.iter().copied(), 0);
            paste(&mut output, &sprite, (empty.top + 1, empty.left + 1));
        } else {
            paste(&mut output, &sprite, (1, 1));
        }
        (fits && found.len() == 2).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

fn texture_fill(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 9, max_side)?;
    let [wall] = colors(rng);
    let (p, q) = pick(rng, &[(2, 2), (1, 2), (2, 1), (2, 3)]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let inks = palette(rng, 3, &[wall]);
        let unit = dense(rng, p, q, &inks);
        paste(&mut grid, &unit, (0, 0));
        let n = 1 + grid.cells().len() / 100;
        scatter(rng, &mut grid, (1, n), |rng| frame(between(rng, 4, 8), between(rng, 4, 8), wall))?;
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let unit = crop(grid, (0, 0), p, q)?;
        let mut output = grid.clone();
        for room in closed_rooms(grid) {
            for &(r, c) in &room.cells {
                output.set(r, c, unit.get((r - room.top) % p, (c - room.left) % q));
            }
        }
        (colors_of(&unit).len() > 1).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

fn toward_mark(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side.min(20))?;
    let [base, mark] = colors(rng);
    let takes_mark_color = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let side = between(rng, 2, 3);
        let sprite = map_cells(&shape(rng, side, side), |c| c * base);
        let (height, width) = grid.shape();
        let corner = (between(rng, 1, height - side - 1), between(rng, 1, width - side - 1));
        paste(&mut grid, &sprite, corner);
        let along = between(rng, 0, side - 1);
        let (down, right) = pick(rng, &SIDES);
        let beside = |start: usize, toward: isize| match toward {
            0 => start + along,
            1 => start + side,
            _ => start - 1,
        };
        grid.set(beside(corner.0, down), beside(corner.1, right), mark);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let [object]: [Object; 1] =
            components(grid, &SIDES, |c| c == base, |_, _| true).try_into().ok()?;
        let &(r, c) = cells_of(grid, mark).first()?;
        let side = object.height;
        let direction: Step = match (r, c) {
            _ if r + 1 == object.top => (-1, 0),
            _ if r == object.top + side => (1, 0),
            _ if c + 1 == object.left => (0, -1),
            _ => (0, 1),
        };
        let color = if takes_mark_color { mark } else { base };
        let sprite = map_cells(&object.mask(), |c| c * color);
        let mut output = map_cells(grid, |c| if c == mark { 0 } else { c });
        for i in 1..=(MAX_COPIES as isize) {
            let pitch = side as isize + 1;
            let corner = (
                object.top as isize + i * pitch * direction.0,
                object.left as isize + i * pitch * direction.1,
            );
            paste_signed(&mut output, &sprite, corner);
        }
        (count(&output, color) > if takes_mark_color { 0 } else { object.size() }).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

/// More copies than fit on a grid side by side.
const MAX_COPIES: usize = 12;

fn join_recolored(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 2, (max_side / 2).min(7))?;
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[]);
    let map = recoloring(rng, &palette);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        dots(rng, &mut grid, &palette, 0.5);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let width = grid.width();
        Some(Grid::from_fn(grid.height(), 2 * width, |r, c| {
            if c < width { grid.get(r, c) } else { map[usize::from(grid.get(r, c - width))] }
        }))
    };
    Some(Rule::new(draw, apply).showing(color_bits))
}

fn copy_rows_down(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(14))?;
    let n_colors = between(rng, 2, 4);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let (height, width) = grid.shape();
        for r in 0..height {
            if r == 0 || chance(rng, 0.25) {
                let row = dense(rng, 1, width, &palette);
                paste(&mut grid, &row, (r, 0));
            }
        }
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let source = |r: usize| (0..=r).rev().find(|&r| grid.get(r, 0) != 0);
        let rows = (0..grid.height()).map(source).collect::<Option<Vec<usize>>>()?;
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| grid.get(rows[r], c)))
    };
    Some(Rule::new(draw, apply))
}
