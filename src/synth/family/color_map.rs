//! Colors that stand for other colors, and recoloring cell by cell.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid, N_COLORS};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{Scene, dots, objects_scene, recoloring};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Color, "color-map", 1, "each color becomes another one", color_map)
        .general(),
    Family::new(Group::Color, "swap-colors", 1, "two colors change places", swap_colors),
    Family::new(
        Group::Color,
        "color-by-half",
        2,
        "cells are recolored by the half they lie in",
        by_half,
    ),
    Family::new(
        Group::Color,
        "color-by-legend",
        4,
        "a legend beside the scene maps its colors",
        by_legend,
    ),
    Family::new(
        Group::Color,
        "color-by-header",
        3,
        "cells take the color at the head of their column",
        by_header,
    ),
    Family::new(
        Group::Color,
        "keep-commonest",
        2,
        "only the commonest color stays",
        keep_commonest,
    ),
    Family::new(
        Group::Color,
        "color-by-parity",
        2,
        "cells are recolored by the parity of their row",
        by_parity,
    ),
    Family::new(Group::Color, "color-checkered", 3, "rectangles become checkered", checkered),
];

fn color_map(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(16))?;
    let scene = Scene::choose(rng, 5);
    let mut map = recoloring(rng, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    if scene.palette().len() > 2 && chance(rng, 0.4) {
        let kept = usize::from(scene.palette()[0]);
        map[kept] = kept as Color;
    }
    if chance(rng, 0.2) {
        [map[0]] = colors(rng);
    }
    let apply = move |grid: &Grid| Some(map_cells(grid, |c| map[usize::from(c)]));
    Some(Rule::new(move |rng| Some(scene.draw(rng, sides)), apply).showing(color_bits))
}

fn swap_colors(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(16))?;
    let scene = Scene::choose(rng, 5);
    let &[a, b, ..] = scene.palette() else { return None };
    let swap = move |c| {
        if c == a {
            b
        } else if c == b {
            a
        } else {
            c
        }
    };
    let draw = move |rng: &mut ChaCha8Rng| {
        Some(scene.draw(rng, sides)).filter(|grid| count(grid, a) > 0 && count(grid, b) > 0)
    };
    Some(Rule::new(draw, move |grid| Some(map_cells(grid, swap))).showing(color_bits))
}

fn by_half(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(14))?;
    let [base, upper, lower] = colors(rng);
    let upper = if chance(rng, 0.3) { base } else { upper };
    let density = 0.1 * between(rng, 2, 6) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let mut grid = Grid::filled(height & !1, width, 0);
        dots(rng, &mut grid, &[base], density);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let color = |r: usize| if r < grid.height() / 2 { upper } else { lower };
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| {
            if grid.get(r, c) == 0 { 0 } else { color(r) }
        }))
    };
    Some(Rule::new(draw, apply))
}

fn by_legend(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let [wall] = colors(rng);
    let most = between(rng, 2, 4);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let n = between(rng, 2, most);
        let pairs = palette(rng, 2 * n, &[wall]);
        let used = pairs.get(..n)?.to_vec();
        for (i, pair) in used.iter().zip(pairs.get(n..)?).enumerate() {
            grid.set(i, 0, *pair.0);
            grid.set(i, 1, *pair.1);
        }
        let height = grid.height();
        paint(&mut grid, (0..height).map(|r| (r, 2)), wall);
        let mut body = Grid::filled(height, grid.width() - 3, 0);
        let n_objects = body.cells().len() / 12 + 2;
        scatter(rng, &mut body, (2, n_objects), |rng| {
            let color = pick(rng, &used);
            blob(rng, 1, 3, color)
        })?;
        paste(&mut grid, &body, (0, 3));
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut map = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        for r in 0..grid.height() {
            map[usize::from(grid.get(r, 0))] = grid.get(r, 1);
        }
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| {
            let color = grid.get(r, c);
            if c < 3 { color } else { map[usize::from(color)] }
        }))
    };
    Some(Rule::new(draw, apply))
}

fn by_header(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let [base] = colors(rng);
    let n_colors = between(rng, 2, 5);
    let density = 0.1 * between(rng, 3, 6) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        dots(rng, &mut grid, &[base], density);
        let heads = palette(rng, n_colors, &[base]);
        for c in 0..grid.width() {
            let color = pick(rng, &heads);
            grid.set(0, c, color);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let color = |r, c| if grid.get(r, c) == 0 { 0 } else { grid.get(0, c) };
        Some(Grid::from_fn(grid.height(), grid.width(), color))
    };
    Some(Rule::new(draw, apply))
}

fn keep_commonest(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let scene = Scene::choose(rng, 5);
    let keeps_rarest = chance(rng, 0.3);
    if scene.palette().len() < 2 {
        return None;
    }
    let draw = move |rng: &mut ChaCha8Rng| Some(scene.draw(rng, sides));
    let apply = move |grid: &Grid| {
        let found = colors_of(grid);
        let key = |&c: &Color| {
            let n = count(grid, c) as isize;
            if keeps_rarest { -n } else { n }
        };
        let kept = found[only_max(found.iter().map(key))?];
        Some(map_cells(grid, |c| if c == kept { c } else { 0 }))
    };
    Some(Rule::new(draw, apply))
}

fn by_parity(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let [base, even, odd] = colors(rng);
    let odd = if chance(rng, 0.4) { base } else { odd };
    let density = 0.1 * between(rng, 4, 9) as f64;
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        dots(rng, &mut grid, &[base], density);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| match grid.get(r, c) {
            0 => 0,
            _ if r % 2 == 0 => even,
            _ => odd,
        }))
    };
    // Rows are counted from the top, which an odd number of them does not tell from the bottom.
    Some(Rule::new(draw, apply).showing(|grid| 1 << (grid.height() % 2)))
}

fn checkered(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [base, second, alternate] = colors(rng);
    let bases = if chance(rng, 0.5) { [base, base] } else { [base, second] };
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 2, 5), between(rng, 2, 5));
            Grid::filled(height, width, pick(rng, &bases))
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for object in objects(grid) {
            let odd = |&&(r, c): &&Cell| (r + c + object.top + object.left) % 2 == 1;
            paint(&mut output, object.cells.iter().filter(odd).copied(), alternate);
        }
        Some(output)
    };
    // Which corner the board begins in shows in objects of such sides alone.
    let features = |grid: &Grid| {
        let bit = |object: &Object| 1 << (N_COLORS + object.height % 2 * 2 + object.width % 2);
        objects(grid).iter().map(bit).fold(color_bits(grid), |bits, bit: u64| bits | bit)
    };
    Some(Rule::new(draw, apply).showing(features))
}
