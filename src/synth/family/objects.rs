//! Every object changed in its place, or kept or removed.

use rand_chacha::ChaCha8Rng;

use super::extract::leading;
use crate::arc::{Dihedral, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{objects_scene, picture};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Objects,
        "keep-by-size",
        2,
        "all objects but the largest or smallest vanish",
        keep_by_size,
    ),
    Family::new(Group::Objects, "keep-color", 1, "only one color stays", keep_color),
    Family::new(Group::Objects, "fill-boxes", 2, "the box of each object is filled up", fill_boxes),
    Family::new(Group::Objects, "draw-boxes", 3, "a frame is drawn around each object", draw_boxes),
    Family::new(Group::Objects, "outline", 2, "the cells around each object are colored", outlined),
    Family::new(
        Group::Objects,
        "hollow-out",
        2,
        "rectangles lose or change their inside",
        hollow_out,
    ),
    Family::new(
        Group::Objects,
        "mark-corners",
        2,
        "the corners of rectangles are recolored",
        mark_corners,
    ),
    Family::new(
        Group::Objects,
        "mark-center",
        2,
        "the center of each rectangle is marked",
        mark_center,
    ),
    Family::new(
        Group::Objects,
        "flip-objects",
        3,
        "each object is reflected in its place",
        flip_objects,
    ),
];

/// A scene of blobs with sides from `low` to `high`, each in one of `palette`.
pub(super) fn blobs(
    rng: &mut ChaCha8Rng,
    sides: Sides,
    least: usize,
    (low, high): (usize, usize),
    palette: &[u8],
) -> Option<Grid> {
    objects_scene(rng, sides, least, |rng| {
        let color = pick(rng, palette);
        blob(rng, low, high, color)
    })
}

/// A scene of solid rectangles in one of two colors.
fn rectangles(
    rng: &mut ChaCha8Rng,
    sides: Sides,
    (low, high): (usize, usize),
    palette: &[u8],
) -> Option<Grid> {
    objects_scene(rng, sides, 1, |rng| {
        let (height, width) = (between(rng, low, high), between(rng, low, high));
        Grid::filled(height, width, pick(rng, palette))
    })
}

fn keep_by_size(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let n_colors = between(rng, 1, 3);
    let colors = palette(rng, n_colors, &[]);
    let (keeps, largest) = (chance(rng, 0.7), chance(rng, 0.6));
    let draw = move |rng: &mut ChaCha8Rng| blobs(rng, sides, 2, (1, 4), &colors);
    let apply = move |grid: &Grid| {
        let sign = if largest { 1 } else { -1 };
        let object = leading(grid, |o| sign * o.size() as isize)?;
        let mut output =
            if keeps { Grid::filled(grid.height(), grid.width(), 0) } else { grid.clone() };
        let color = if keeps { object.color(grid) } else { 0 };
        paint(&mut output, object.cells.iter().copied(), color);
        Some(output)
    };
    // Of two objects, one being kept is the other being removed.
    let several = |grid: &Grid| u64::from(objects(grid).len() > 2);
    Some(Rule::new(draw, apply).showing(several).requiring(1))
}

fn keep_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let [key] = colors(rng);
    let n_others = between(rng, 1, 4);
    let others = palette(rng, n_others, &[key]);
    let keeps = chance(rng, 0.5);
    let density = 0.1 * between(rng, 2, 7) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for (r, c) in cells(&grid) {
            if chance(rng, density) {
                let color = if chance(rng, 0.5) { key } else { pick(rng, &others) };
                grid.set(r, c, color);
            }
        }
        Some(grid).filter(|g| count(g, key) > 0)
    };
    let apply =
        move |grid: &Grid| Some(map_cells(grid, |c| if (c == key) == keeps { c } else { 0 }));
    Some(Rule::new(draw, apply).showing(color_bits))
}

fn fill_boxes(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base, other, fill] = colors(rng);
    let palette = if chance(rng, 0.5) { [base, base] } else { [base, other] };
    let draw = move |rng: &mut ChaCha8Rng| blobs(rng, sides, 1, (2, 5), &palette);
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for object in objects(grid) {
            let empty = |&(r, c): &Cell| grid.get(r, c) == 0;
            let box_cells = rectangle(object.corner(), object.height, object.width);
            paint(&mut output, box_cells.filter(empty), fill);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn draw_boxes(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let [base, other, line] = colors(rng);
    let palette = if chance(rng, 0.5) { [base, base] } else { [base, other] };
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..1 + grid.cells().len() / 40 {
            let color = pick(rng, &palette);
            let sprite = blob(rng, 1, 4, color);
            let mut framed = Grid::filled(sprite.height() + 2, sprite.width() + 2, 0);
            paste(&mut framed, &sprite, (1, 1));
            place(rng, &mut grid, &framed, 1);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for o in objects(grid) {
            if o.touches_edge(grid) {
                return None;
            }
            paint(&mut output, outline((o.top - 1, o.left - 1), o.height + 2, o.width + 2), line);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn outlined(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base, other, line] = colors(rng);
    let palette = if chance(rng, 0.5) { [base, base] } else { [base, other] };
    let steps: &[Step] = if chance(rng, 0.6) { &AROUND } else { &SIDES };
    let draw = move |rng: &mut ChaCha8Rng| blobs(rng, sides, 1, (1, 3), &palette);
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells(grid).filter(|&(r, c)| grid.get(r, c) != 0) {
            let around = steps.iter().filter_map(|&s| step(grid, cell, s));
            paint(&mut output, around.filter(|&(r, c)| grid.get(r, c) == 0), line);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn hollow_out(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base, other, inside] = colors(rng);
    let palette = if chance(rng, 0.5) { [base, base] } else { [base, other] };
    let inside = if chance(rng, 0.5) { 0 } else { inside };
    let draw = move |rng: &mut ChaCha8Rng| rectangles(rng, sides, (2, 6), &palette);
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for o in objects(grid).iter().filter(|o| o.height > 2 && o.width > 2) {
            paint(
                &mut output,
                rectangle((o.top + 1, o.left + 1), o.height - 2, o.width - 2),
                inside,
            );
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn mark_corners(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base, other, mark] = colors(rng);
    let palette = if chance(rng, 0.5) { [base, base] } else { [base, other] };
    let mark = if chance(rng, 0.3) { 0 } else { mark };
    let draw = move |rng: &mut ChaCha8Rng| rectangles(rng, sides, (3, 6), &palette);
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for o in objects(grid) {
            let (bottom, right) = (o.top + o.height - 1, o.left + o.width - 1);
            let corners = [(o.top, o.left), (o.top, right), (bottom, o.left), (bottom, right)];
            paint(&mut output, corners, mark);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn mark_center(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base, other, mark] = colors(rng);
    let palette = if chance(rng, 0.5) { [base, base] } else { [base, other] };
    let draws_cross = chance(rng, 0.4);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (pick(rng, &[3, 5]), pick(rng, &[3, 5, 7]));
            Grid::filled(height, width, pick(rng, &palette))
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for o in objects(grid) {
            let center = (o.top + o.height / 2, o.left + o.width / 2);
            let on_cross = |&&(r, c): &&Cell| r == center.0 || c == center.1;
            let cross = o.cells.iter().filter(on_cross).copied().filter(|_| draws_cross);
            paint(&mut output, cross.chain([center]), mark);
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn flip_objects(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let colors = palette(rng, 4, &[]);
    let symmetry = pick(rng, &[Dihedral::FlipColumns, Dihedral::FlipColumns, Dihedral::Rotate180]);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 2, 4), between(rng, 2, 4));
            picture(rng, height, width, &colors)
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = Grid::filled(grid.height(), grid.width(), 0);
        for object in objects(grid) {
            paste(&mut output, &symmetry.apply(&object.sprite(grid)), object.corner());
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}
