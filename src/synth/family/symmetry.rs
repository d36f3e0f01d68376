//! Reflecting, turning, shifting and repeating the whole grid.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Dihedral, Grid, MAX_SIDE};
use crate::synth::canvas::*;
use crate::synth::scene::{Scene, dense, dots};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Geometry, "flip", 1, "the grid is reflected", flip).general(),
    Family::new(Group::Geometry, "rotate", 1, "the grid is turned", rotate).general(),
    Family::new(
        Group::Geometry,
        "mirror-join",
        2,
        "the grid and its reflection side by side",
        mirror_join,
    )
    .general(),
    Family::new(
        Group::Geometry,
        "mirror-quad",
        2,
        "the grid reflected to all four quarters",
        mirror_quad,
    )
    .general(),
    Family::new(Group::Geometry, "tile", 2, "the grid repeated", tile).general(),
    Family::new(
        Group::Geometry,
        "tile-alternate",
        3,
        "the grid repeated, every other copy reflected",
        tile_alternate,
    ),
    Family::new(
        Group::Geometry,
        "cyclic-shift",
        2,
        "the grid is shifted and wraps around",
        cyclic_shift,
    )
    .general(),
    Family::new(
        Group::Geometry,
        "shear",
        3,
        "each row is shifted one more than the row above",
        shear,
    )
    .general(),
    Family::new(Group::Geometry, "swap-halves", 2, "the halves change places", swap_halves)
        .general(),
    Family::new(
        Group::Geometry,
        "turning-quad",
        4,
        "the grid in four quarters, each turned further",
        turning_quad,
    ),
    Family::new(
        Group::Geometry,
        "self-tile",
        4,
        "a copy of the grid wherever it has a color",
        self_tile,
    ),
    Family::new(
        Group::Geometry,
        "tile-by-color",
        4,
        "a copy of the grid at each cell of one color",
        tile_by_color,
    ),
];

/// A rule that acts on any scene.
pub(super) fn on_any_scene(
    rng: &mut ChaCha8Rng,
    low: usize,
    high: usize,
    apply: impl Fn(&Grid) -> Option<Grid> + Send + Sync + 'static,
) -> Option<Rule> {
    let sides = Sides::choose(rng, low, high)?;
    let scene = Scene::choose(rng, 5);
    Some(telling_sides(Rule::new(move |rng| Some(scene.draw(rng, sides)), apply)))
}

/// Requires that left, right, top and bottom can be told apart in the demonstrations.
pub(super) fn telling_sides(rule: Rule) -> Rule {
    let is_symmetric = |grid: &Grid| Dihedral::ALL[1..].iter().any(|d| d.apply(grid) == *grid);
    rule.showing(move |grid| u64::from(!is_symmetric(grid))).requiring(1)
}

/// A grid of at most 30×30 whose cells come from `color`.
pub(super) fn assembled(
    height: usize,
    width: usize,
    color: impl Fn(usize, usize) -> Color,
) -> Option<Grid> {
    let fits = (1..=MAX_SIDE).contains(&height) && (1..=MAX_SIDE).contains(&width);
    fits.then(|| Grid::from_fn(height, width, color))
}

fn flip(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let symmetry = pick(rng, &[Dihedral::FlipColumns, Dihedral::Transpose]);
    on_any_scene(rng, 3, max_side.min(16), move |grid| Some(symmetry.apply(grid)))
}

fn rotate(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let symmetry = pick(rng, &[Dihedral::Rotate90, Dihedral::Rotate180]);
    on_any_scene(rng, 3, max_side.min(14), move |grid| Some(symmetry.apply(grid)))
}

fn mirror_join(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let reflected_first = chance(rng, 0.3);
    on_any_scene(rng, 2, (max_side / 2).min(10), move |grid| {
        let (height, width) = grid.shape();
        assembled(height, 2 * width, |r, c| {
            let c = if reflected_first { 2 * width - 1 - c } else { c };
            let c = if c < width { c } else { 2 * width - 1 - c };
            grid.get(r, if reflected_first { width - 1 - c } else { c })
        })
    })
}

fn mirror_quad(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    on_any_scene(rng, 2, (max_side / 2).min(8), |grid| {
        let (height, width) = grid.shape();
        assembled(2 * height, 2 * width, |r, c| {
            grid.get(r.min(2 * height - 1 - r), c.min(2 * width - 1 - c))
        })
    })
}

fn tile(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let (down, across) = pick(rng, &[(1, 2), (2, 2), (1, 3), (3, 3), (2, 3)]);
    on_any_scene(rng, 2, (max_side / across).min(8), move |grid| {
        let (height, width) = grid.shape();
        assembled(down * height, across * width, |r, c| grid.get(r % height, c % width))
    })
}

fn tile_alternate(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let (down, across) = pick(rng, &[(1, 3), (3, 3), (2, 3), (3, 2)]);
    let by_row = chance(rng, 0.5);
    let symmetry = pick(rng, &[Dihedral::FlipRows, Dihedral::FlipColumns, Dihedral::Rotate180]);
    on_any_scene(rng, 2, (max_side / 3).min(5), move |grid| {
        let (height, width) = grid.shape();
        let other = symmetry.apply(grid);
        assembled(down * height, across * width, |r, c| {
            let turned = if by_row && down > 1 { r / height } else { c / width } % 2 == 1;
            if turned { &other } else { grid }.get(r % height, c % width)
        })
    })
}

fn cyclic_shift(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let by = between(rng, 1, 2);
    on_any_scene(rng, 4, max_side.min(12), move |grid| {
        let (height, width) = grid.shape();
        assembled(height, width, |r, c| grid.get(r, (c + width - by % width) % width))
    })
}

fn shear(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(10))?;
    let scene = Scene::choose(rng, 5);
    let apply = |grid: &Grid| {
        let (height, width) = grid.shape();
        assembled(height, width, |r, c| grid.get(r, (c + r * (width - 1)) % width))
    };
    // A bit for each other direction that makes something else of it: where only one row is filled, several make the same.
    let features = move |grid: &Grid| {
        let own = apply(grid);
        let seen = |d: &Dihedral| Some(d.inverse().apply(&apply(&d.apply(grid))?));
        let others = Dihedral::ALL.iter().enumerate();
        others.fold(0, |bits, (i, d)| bits | u64::from(seen(d) != own) << i)
    };
    // Half a turn makes the same of every grid of some shapes, and is no ambiguity there.
    let told = |d: &Dihedral| !matches!(d, Dihedral::Identity | Dihedral::Rotate180);
    let all = Dihedral::ALL.iter().enumerate();
    let required = all.filter(|(_, d)| told(d)).fold(0, |bits, (i, _)| bits | 1 << i);
    let rule = Rule::new(move |rng| Some(scene.draw(rng, sides)), apply);
    Some(rule.showing(features).requiring(required))
}

fn swap_halves(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(12))?;
    let scene = Scene::choose(rng, 5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let grid = scene.draw(rng, sides);
        crop(&grid, (0, 0), grid.height(), grid.width() & !1)
    };
    let apply = |grid: &Grid| {
        let half = grid.width() / 2;
        let color = |r, c| grid.get(r, if c < half { c + half } else { c - half });
        assembled(grid.height(), grid.width(), color).filter(|_| grid.width().is_multiple_of(2))
    };
    Some(telling_sides(Rule::new(draw, apply)))
}

fn turning_quad(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    use Dihedral::{Identity, Rotate90, Rotate180, Rotate270};
    let high = (max_side / 2).min(6);
    let sides = Sides::choose(rng, 2, high)?;
    let scene = Scene::choose(rng, 5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let grid = scene.draw(rng, sides);
        let side = grid.height().min(grid.width());
        crop(&grid, (0, 0), side, side).filter(|g| Rotate90.apply(g) != *g)
    };
    let apply = |grid: &Grid| {
        let side = grid.height();
        let turned = [Identity, Rotate270, Rotate90, Rotate180].map(|d| d.apply(grid));
        assembled(2 * side, 2 * side, |r, c| {
            turned[2 * (r / side) + c / side].get(r % side, c % side)
        })
    };
    Some(Rule::new(draw, apply))
}

/// Copies of the grid on a grid of its own form: at `(i, j)` if `at(i, j)`.
fn copies(grid: &Grid, at: impl Fn(usize, usize) -> bool) -> Option<Grid> {
    let (height, width) = grid.shape();
    assembled(height * height, width * width, |r, c| {
        if at(r / height, c / width) { grid.get(r % height, c % width) } else { 0 }
    })
}

fn self_tile(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let most = (2..=5).rev().find(|n| n * n <= max_side)?;
    let most = most.min(between(rng, 3, 5));
    let sides = Sides::choose(rng, 2, most)?;
    let colors = palette(rng, 5, &[]);
    let one_color = chance(rng, 0.6);
    let inverted = chance(rng, 0.3);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let color = pick(rng, &colors);
        let palette = if one_color { &[color][..] } else { &colors };
        dots(rng, &mut grid, palette, 0.5);
        Some(grid).filter(|g| count(g, 0) > 0 && count(g, 0) < g.cells().len())
    };
    Some(Rule::new(draw, move |grid| copies(grid, |i, j| (grid.get(i, j) == 0) == inverted)))
}

fn tile_by_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let most = (2..=4).rev().find(|n| n * n <= max_side)?;
    let sides = Sides::choose(rng, most.min(3), most)?;
    let [key] = colors(rng);
    let others = palette(rng, 3, &[key]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let mut palette = others.clone();
        palette.extend([key, key]);
        Some(dense(rng, height, width, &palette)).filter(|g| count(g, key) > 0)
    };
    Some(Rule::new(draw, move |grid| copies(grid, |i, j| grid.get(i, j) == key)))
}
