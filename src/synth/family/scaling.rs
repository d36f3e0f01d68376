//! Enlarging, shrinking, cropping and bordering the whole grid.

use rand_chacha::ChaCha8Rng;

use super::symmetry::{assembled, on_any_scene, telling_sides};
use crate::arc::Grid;
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{Scene, dense, dots, picture};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Geometry, "upscale", 2, "each cell becomes a block", upscale).general(),
    Family::new(Group::Geometry, "downscale", 2, "each block becomes a cell", downscale),
    Family::new(
        Group::Geometry,
        "upscale-by-colors",
        4,
        "as many times as there are colors",
        upscale_by_colors,
    ),
    Family::new(Group::Geometry, "stretch", 2, "every row is repeated", stretch).general(),
    Family::new(Group::Geometry, "squeeze", 3, "repeated rows and columns are merged", squeeze),
    Family::new(
        Group::Geometry,
        "crop-corner",
        1,
        "a corner of fixed size is cut out",
        crop_corner,
    ),
    Family::new(Group::Geometry, "crop-half", 1, "one half is kept", crop_half).general(),
    Family::new(Group::Geometry, "crop-content", 2, "the box around what is drawn", crop_content),
    Family::new(Group::Geometry, "crop-frame", 3, "what a frame encloses", crop_frame),
    Family::new(Group::Geometry, "add-border", 1, "a border is added around the grid", add_border)
        .general(),
    Family::new(
        Group::Geometry,
        "edge-border",
        1,
        "the outermost cells become a border",
        edge_border,
    )
    .general(),
    Family::new(Group::Geometry, "trim", 1, "the outermost cells are cut off", trim).general(),
];

fn upscale(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let factor = pick(rng, &[2, 2, 3, 4]);
    on_any_scene(rng, 2, (max_side / factor).min(8), move |grid| {
        assembled(factor * grid.height(), factor * grid.width(), |r, c| {
            grid.get(r / factor, c / factor)
        })
    })
}

fn downscale(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let factor = pick(rng, &[2, 2, 3]);
    let sides = Sides::choose(rng, 2, (max_side / factor).min(8))?;
    let scene = Scene::choose(rng, 5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let small = scene.draw(rng, sides);
        assembled(factor * small.height(), factor * small.width(), |r, c| {
            small.get(r / factor, c / factor)
        })
    };
    let apply = move |grid: &Grid| {
        assembled(grid.height() / factor, grid.width() / factor, |r, c| {
            grid.get(r * factor, c * factor)
        })
    };
    Some(Rule::new(draw, apply))
}

fn upscale_by_colors(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let most = between(rng, 3, 5).min(max_side / 2).max(2);
    let high = (max_side / most).min(4);
    let sides = Sides::choose(rng, 2, high)?;
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let n = between(rng, 2, most);
        let palette = palette(rng, n, &[]);
        let mut grid = Grid::filled(height, width, 0);
        dots(rng, &mut grid, &palette, 0.6);
        Some(grid)
    };
    let factor = |grid: &Grid| colors_of(grid).len();
    let apply = move |grid: &Grid| {
        let factor = factor(grid);
        assembled(factor * grid.height(), factor * grid.width(), |r, c| {
            grid.get(r / factor, c / factor)
        })
    };
    Some(Rule::new(draw, apply).showing(move |grid| 1 << factor(grid)))
}

fn stretch(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let factor = between(rng, 2, 3);
    on_any_scene(rng, 2, (max_side / factor).min(10), move |grid| {
        assembled(factor * grid.height(), grid.width(), |r, c| grid.get(r / factor, c))
    })
}

fn squeeze(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 2, 4)?;
    let n_colors = between(rng, 2, 5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let palette = palette(rng, n_colors, &[]);
        let small = dense(rng, height, width, &palette);
        let mut spread = |n: usize| -> Vec<usize> {
            (0..n).flat_map(|i| std::iter::repeat_n(i, between(rng, 1, 3))).collect()
        };
        let (rows, columns) = (spread(height), spread(width));
        let fits = rows.len().max(columns.len()) <= max_side;
        fits.then(|| {
            Grid::from_fn(rows.len(), columns.len(), |r, c| small.get(rows[r], columns[c]))
        })
    };
    let apply = |grid: &Grid| {
        let row = |r: usize| (0..grid.width()).map(move |c| grid.get(r, c));
        let column = |c: usize| (0..grid.height()).map(move |r| grid.get(r, c));
        let rows: Vec<usize> =
            (0..grid.height()).filter(|&r| r == 0 || !row(r).eq(row(r - 1))).collect();
        let columns: Vec<usize> =
            (0..grid.width()).filter(|&c| c == 0 || !column(c).eq(column(c - 1))).collect();
        assembled(rows.len(), columns.len(), |r, c| grid.get(rows[r], columns[c]))
    };
    Some(Rule::new(draw, apply))
}

fn crop_corner(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let (height, width) = (between(rng, 2, 4), between(rng, 2, 4));
    on_any_scene(rng, 5, max_side.min(14), move |grid| crop(grid, (0, 0), height, width))
}

fn crop_half(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(14))?;
    let scene = Scene::choose(rng, 5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let grid = scene.draw(rng, sides);
        crop(&grid, (0, 0), grid.height(), grid.width() & !1)
    };
    let apply = |grid: &Grid| {
        let even = grid.width().is_multiple_of(2);
        crop(grid, (0, 0), grid.height(), grid.width() / 2).filter(|_| even)
    };
    Some(telling_sides(Rule::new(draw, apply)))
}

fn crop_content(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(20))?;
    let colors = palette(rng, 4, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let most = grid.height().min(grid.width()).min(8) - 2;
        let (height, width) = (between(rng, 2, most), between(rng, 2, most));
        let sprite = picture(rng, height, width, &colors);
        place(rng, &mut grid, &sprite, 0)?;
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let drawn = components(grid, &[], |c| c != 0, |_, _| true);
        let top = drawn.iter().map(|o| o.top).min()?;
        let left = drawn.iter().map(|o| o.left).min()?;
        let bottom = drawn.iter().map(|o| o.top).max()?;
        let right = drawn.iter().map(|o| o.left).max()?;
        crop(grid, (top, left), bottom + 1 - top, right + 1 - left)
    };
    Some(Rule::new(draw, apply))
}

fn crop_frame(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let [wall] = colors(rng);
    let noise = palette(rng, 3, &[wall]);
    let keeps_frame = chance(rng, 0.3);
    let density = 0.1 * between(rng, 2, 5) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let most = grid.height().min(grid.width()).min(10) - 1;
        let (height, width) = (between(rng, 4, most), between(rng, 4, most));
        let corner =
            (between(rng, 0, grid.height() - height), between(rng, 0, grid.width() - width));
        dots(rng, &mut grid, &noise, density);
        paint(&mut grid, outline(corner, height, width), wall);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let walls = components(grid, &SIDES, |c| c == wall, |_, _| true);
        let [wall] = walls.as_slice() else { return None };
        if keeps_frame {
            return crop(grid, wall.corner(), wall.height, wall.width);
        }
        let inside = |side: usize| side.checked_sub(2).filter(|&side| side > 0);
        crop(grid, (wall.top + 1, wall.left + 1), inside(wall.height)?, inside(wall.width)?)
    };
    Some(Rule::new(draw, apply))
}

fn add_border(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let [color] = colors(rng);
    let thick = if max_side > 8 && chance(rng, 0.25) { 2 } else { 1 };
    on_any_scene(rng, 2, max_side.checked_sub(2 * thick)?.min(14), move |grid| {
        let (height, width) = grid.shape();
        assembled(height + 2 * thick, width + 2 * thick, |r, c| {
            let inside =
                (thick..height + thick).contains(&r) && (thick..width + thick).contains(&c);
            if inside { grid.get(r - thick, c - thick) } else { color }
        })
    })
}

fn edge_border(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let [color] = colors(rng);
    on_any_scene(rng, 4, max_side.min(16), move |grid| {
        let mut output = grid.clone();
        paint(&mut output, outline((0, 0), grid.height(), grid.width()), color);
        Some(output)
    })
}

fn trim(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    on_any_scene(rng, 4, max_side.min(14), |grid| {
        crop(grid, (1, 1), grid.height().checked_sub(2)?, grid.width().checked_sub(2)?)
    })
}
