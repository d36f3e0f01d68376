//! Symmetry, scaling, cropping and tiling.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Dihedral, Grid, MAX_SIDE};

use super::canvas::*;
use super::scene::{Scene, dense, dots, picture};
use super::{Family, Group, Rule};

const fn family(
    name: &'static str,
    difficulty: u8,
    about: &'static str,
    rule: fn(&mut ChaCha8Rng, usize) -> Option<Rule>,
) -> Family {
    Family::new(name, Group::Geometry, difficulty, about, rule)
}

pub(super) const FAMILIES: &[Family] = &[
    family("flip", 1, "the grid is reflected", flip).general(),
    family("rotate", 1, "the grid is turned", rotate).general(),
    family("mirror-join", 2, "the grid and its reflection side by side", mirror_join).general(),
    family("mirror-quad", 2, "the grid reflected to all four quarters", mirror_quad).general(),
    family("tile", 2, "the grid repeated", tile).general(),
    family("tile-alternate", 3, "the grid repeated, every other copy reflected", tile_alternate),
    family("upscale", 2, "each cell becomes a block", upscale).general(),
    family("downscale", 2, "each block becomes a cell", downscale),
    family("upscale-by-colors", 4, "as many times as there are colors", upscale_by_colors),
    family("crop-corner", 1, "a corner of fixed size is cut out", crop_corner),
    family("crop-half", 1, "one half is kept", crop_half).general(),
    family("crop-content", 2, "the box around what is drawn", crop_content),
    family("crop-frame", 3, "what a frame encloses", crop_frame),
    family("self-tile", 4, "a copy of the grid wherever it has a color", self_tile),
    family("add-border", 1, "a border is added around the grid", add_border).general(),
    family("edge-border", 1, "the outermost cells become a border", edge_border).general(),
    family("trim", 1, "the outermost cells are cut off", trim).general(),
    family("cyclic-shift", 2, "the grid is shifted and wraps around", cyclic_shift).general(),
    family("stretch", 2, "every row is repeated", stretch).general(),
    family("squeeze", 3, "repeated rows and columns are merged", squeeze),
    family("turning-quad", 4, "the grid in four quarters, each turned further", turning_quad),
    family("tile-by-color", 4, "a copy of the grid at each cell of one color", tile_by_color),
    family("shear", 3, "each row is shifted one more than the row above", shear).general(),
    family("swap-halves", 2, "the halves change places", swap_halves).general(),
];

/// A rule that acts on any scene.
fn on_any_scene(
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
fn telling_sides(rule: Rule) -> Rule {
    let is_symmetric = |grid: &Grid| Dihedral::ALL[1..].iter().any(|d| d.apply(grid) == *grid);
    rule.showing(move |grid| u64::from(!is_symmetric(grid))).requiring(1)
}

/// A grid of at most 30×30 whose cells come from `color`.
fn assembled(height: usize, width: usize, color: impl Fn(usize, usize) -> Color) -> Option<Grid> {
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
        crop(grid, (wall.top + 1, wall.left + 1), wall.height - 2, wall.width - 2)
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

fn add_border(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let [color] = colors(rng);
    let thick = if max_side > 8 && chance(rng, 0.25) { 2 } else { 1 };
    on_any_scene(rng, 2, (max_side - 2 * thick).min(14), move |grid| {
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

fn cyclic_shift(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let by = between(rng, 1, 2);
    on_any_scene(rng, 4, max_side.min(12), move |grid| {
        let (height, width) = grid.shape();
        assembled(height, width, |r, c| grid.get(r, (c + width - by % width) % width))
    })
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

fn shear(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    on_any_scene(rng, 3, max_side.min(10), |grid| {
        let (height, width) = grid.shape();
        assembled(height, width, |r, c| grid.get(r, (c + r * (width - 1)) % width))
    })
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
