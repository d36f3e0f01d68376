//! Recoloring of objects by a property: size, shape, holes, order, symmetry, place.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Dihedral, Grid};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{objects_scene, recolor_objects};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Color,
        "color-by-rank",
        2,
        "the largest or smallest object is recolored",
        by_rank,
    ),
    Family::new(
        Group::Color,
        "color-by-size",
        2,
        "an object's number of cells gives its color",
        by_size,
    ),
    Family::new(Group::Color, "color-by-shape", 3, "an object's shape gives its color", by_shape),
    Family::new(
        Group::Color,
        "color-by-holes",
        3,
        "an object's number of holes gives its color",
        by_holes,
    ),
    Family::new(
        Group::Color,
        "color-by-order",
        3,
        "objects take colors in turn from one side",
        by_order,
    ),
    Family::new(
        Group::Color,
        "color-by-symmetry",
        4,
        "symmetric objects are recolored",
        by_symmetry,
    ),
    Family::new(
        Group::Color,
        "color-at-edge",
        2,
        "objects at the edge of the grid are recolored",
        at_edge,
    ),
    Family::new(
        Group::Color,
        "color-by-seed",
        2,
        "an object takes the color of its odd cell",
        by_seed,
    ),
    Family::new(
        Group::Color,
        "color-by-solidity",
        2,
        "solid and hollow rectangles are told apart",
        by_solidity,
    ),
    Family::new(
        Group::Color,
        "color-by-posture",
        2,
        "tall and wide rectangles are told apart",
        by_posture,
    ),
    Family::new(Group::Color, "color-alone", 2, "cells without a neighbor are recolored", alone),
];

fn by_rank(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let [base, other, high, low] = colors(rng);
    let (marks_high, marks_low) = pick(rng, &[(true, false), (false, true), (true, true)]);
    let bases = if chance(rng, 0.5) { [base, base] } else { [base, other] };
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let color = pick(rng, &bases);
            blob(rng, 1, 4, color)
        })
    };
    let apply = move |grid: &Grid| {
        let found = objects(grid);
        let largest = only_max(found.iter().map(Object::size))?;
        let smallest = only_max(found.iter().map(|o| usize::MAX - o.size()))?;
        let mut output = grid.clone();
        for (marked, index, color) in [(marks_high, largest, high), (marks_low, smallest, low)] {
            if marked {
                paint(&mut output, found[index].cells.iter().copied(), color);
            }
        }
        Some(output)
    };
    // What stays as it is could be taken to become what it is.
    let features = move |grid: &Grid| {
        let found = objects(grid);
        let smallest = found.iter().min_by_key(|o| o.size()).filter(|_| !marks_low);
        let largest = found.iter().max_by_key(|o| o.size()).filter(|_| !marks_high);
        smallest.into_iter().chain(largest).fold(0, |bits, o| bits | 1 << o.color(grid))
    };
    Some(Rule::new(draw, apply).showing(features))
}

fn by_size(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let [base, codes @ ..]: [Color; 5] = colors(rng);
    let n_sizes = between(rng, 2, 4);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            loop {
                let sprite = blob(rng, 1, 3, base);
                if count(&sprite, base) <= n_sizes {
                    return sprite;
                }
            }
        })
    };
    let apply = move |grid: &Grid| {
        recolor_objects(grid, |object| codes[..n_sizes].get(object.size() - 1).copied())
    };
    let features =
        |grid: &Grid| objects(grid).iter().fold(0, |bits, o| bits | 1 << o.size().min(9));
    Some(Rule::new(draw, apply).showing(features))
}

fn by_shape(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 9, max_side)?;
    let [base, codes @ ..]: [Color; 4] = colors(rng);
    let forms: [Grid; 3] = std::array::from_fn(|_| shape(rng, 3, 3));
    let n_forms = between(rng, 2, 3);
    if forms[0] == forms[1] || forms[1] == forms[2] || forms[0] == forms[2] {
        return None;
    }
    let shapes = forms.clone();
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let which = between(rng, 0, n_forms - 1);
            map_cells(&shapes[which], |c| c * base)
        })
    };
    let index = move |object: &Object| forms.iter().position(|form| *form == object.mask());
    let known = index.clone();
    let apply = move |grid: &Grid| recolor_objects(grid, |object| index(object).map(|i| codes[i]));
    let features =
        move |grid: &Grid| objects(grid).iter().filter_map(&known).fold(0, |bits, i| bits | 1 << i);
    Some(Rule::new(draw, apply).showing(features).requiring((1 << n_forms) - 1))
}

/// A chain of `n` frames that share walls, or a solid block for none.
fn chain(rng: &mut ChaCha8Rng, n: usize, color: Color) -> Grid {
    let (height, room) = (between(rng, 3, 4), between(rng, 1, 2));
    if n == 0 {
        return Grid::filled(between(rng, 2, 3), between(rng, 2, 4), color);
    }
    let mut grid = frame(height, 1 + n * (room + 1), color);
    for wall in 0..=n {
        paint(&mut grid, (0..height).map(|r| (r, wall * (room + 1))), color);
    }
    if chance(rng, 0.4) { Dihedral::Transpose.apply(&grid) } else { grid }
}

fn by_holes(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 9, max_side)?;
    let [base, codes @ ..]: [Color; 5] = colors(rng);
    let n_codes = between(rng, 2, 4);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let n = between(rng, 0, n_codes - 1);
            chain(rng, n, base)
        })
    };
    let apply = move |grid: &Grid| {
        recolor_objects(grid, |object| codes[..n_codes].get(holes(&object.mask())).copied())
    };
    let features =
        |grid: &Grid| objects(grid).iter().fold(0, |bits, o| bits | 1 << holes(&o.mask()).min(9));
    Some(Rule::new(draw, apply).showing(features))
}

fn by_order(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let [base, codes @ ..]: [Color; 4] = colors(rng);
    let period = between(rng, 2, 3);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let mut left = between(rng, 0, 1);
        loop {
            let (height, width) = (between(rng, 1, grid.height() / 2), between(rng, 1, 3));
            if left + width > grid.width() {
                break;
            }
            let top = between(rng, 0, grid.height() - height);
            let sprite = map_cells(&shape(rng, height, width), |c| c * base);
            paste(&mut grid, &sprite, (top, left));
            left += width + between(rng, 1, 2);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut found = objects(grid);
        found.sort_by_key(|o| o.left);
        let mut output = grid.clone();
        for (i, object) in found.iter().enumerate() {
            paint(&mut output, object.cells.iter().copied(), codes[i % period]);
        }
        (found.len() > 1).then_some(output)
    };
    // From the other side the colors are the same where their number leaves the same rest, so a test has a rest that was
    // shown; and from above or below where the objects happen to lie so.
    let features = move |grid: &Grid| {
        let found = objects(grid);
        let n = found.len();
        let turns = |place: &dyn Fn(&Object) -> usize| -> Vec<usize> {
            let before = |o: &Object| found.iter().filter(|other| place(other) < place(o)).count();
            found.iter().map(|o| before(o) % period).collect()
        };
        let (own, above, below) =
            (turns(&|o| o.left), turns(&|o| o.top), turns(&|o| grid.height() - o.top - o.height));
        let alike = |other: &[usize]| {
            rectangle((0, 0), n, n).all(|(i, j)| (own[i] == own[j]) == (other[i] == other[j]))
        };
        let is_told = !alike(&above) && !alike(&below);
        u64::from(n > period) | u64::from(is_told) << 1 | 4 << (n % period)
    };
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

fn by_symmetry(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 10, max_side)?;
    let [base, symmetric, other] = colors(rng);
    let other = if chance(rng, 0.5) { base } else { other };
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let wants_symmetry = chance(rng, 0.5);
            loop {
                let sprite = blob(rng, 3, 4, base);
                let n = Dihedral::ALL.iter().filter(|d| d.apply(&sprite) == sprite).count();
                if wants_symmetry && is_mirrored(&sprite) && n == 2 || !wants_symmetry && n == 1 {
                    return sprite;
                }
            }
        })
    };
    let apply = move |grid: &Grid| {
        recolor_objects(grid, |o| Some(if is_mirrored(&o.mask()) { symmetric } else { other }))
    };
    let features = |grid: &Grid| {
        objects(grid).iter().fold(0, |bits, o| bits | 1 << u64::from(is_mirrored(&o.mask())))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

fn at_edge(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base, edge, inner] = colors(rng);
    let (edge, inner) = pick(rng, &[(edge, base), (edge, inner), (base, inner)]);
    let draw =
        move |rng: &mut ChaCha8Rng| objects_scene(rng, sides, 3, |rng| blob(rng, 1, 3, base));
    let apply = move |grid: &Grid| {
        recolor_objects(grid, |o| Some(if o.touches_edge(grid) { edge } else { inner }))
    };
    let features = |grid: &Grid| {
        objects(grid).iter().fold(0, |bits, o| bits | 1 << u64::from(o.touches_edge(grid)))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

fn by_seed(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base] = colors(rng);
    let n_colors = between(rng, 2, 5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let seeds = palette(rng, n_colors, &[base]);
        objects_scene(rng, sides, 2, |rng| {
            let mut sprite = blob(rng, 2, 4, base);
            let (r, c) = {
                let cells = cells_of(&sprite, base);
                pick(rng, &cells)
            };
            let color = pick(rng, &seeds);
            sprite.set(r, c, color);
            sprite
        })
    };
    let apply = move |grid: &Grid| {
        recolor_objects(grid, |object| {
            let mut colors = object.cells.iter().map(|&(r, c)| grid.get(r, c));
            colors.find(|&c| c != base)
        })
    };
    Some(Rule::new(draw, apply))
}

fn by_solidity(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side)?;
    let [base, solid, hollow] = colors(rng);
    let hollow = if chance(rng, 0.3) { base } else { hollow };
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let (height, width) = (between(rng, 3, 5), between(rng, 3, 5));
            if chance(rng, 0.5) {
                frame(height, width, base)
            } else {
                Grid::filled(height, width, base)
            }
        })
    };
    let apply = move |grid: &Grid| {
        recolor_objects(grid, |o| Some(if o.is_solid() { solid } else { hollow }))
    };
    let features =
        |grid: &Grid| objects(grid).iter().fold(0, |bits, o| bits | 1 << u64::from(o.is_solid()));
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

fn by_posture(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let [base, tall, wide] = colors(rng);
    let wide = if chance(rng, 0.3) { base } else { wide };
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let short = between(rng, 1, 3);
            let long = between(rng, short + 1, 5);
            let (height, width) = if chance(rng, 0.5) { (short, long) } else { (long, short) };
            Grid::filled(height, width, base)
        })
    };
    let apply = move |grid: &Grid| {
        recolor_objects(grid, |o| Some(if o.height > o.width { tall } else { wide }))
    };
    let features = |grid: &Grid| {
        objects(grid).iter().fold(0, |bits, o| bits | 1 << u64::from(o.height > o.width))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

fn alone(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(16))?;
    let [base, alone] = colors(rng);
    let recolors_groups = chance(rng, 0.4);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 3, |rng| {
            if chance(rng, 0.5) { Grid::filled(1, 1, base) } else { blob(rng, 1, 3, base) }
        })
    };
    let apply = move |grid: &Grid| {
        recolor_objects(grid, |o| {
            Some(if (o.size() > 1) == recolors_groups { alone } else { base })
        })
    };
    let features =
        |grid: &Grid| objects(grid).iter().fold(0, |bits, o| bits | 1 << u64::from(o.size() > 1));
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}
