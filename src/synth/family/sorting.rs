//! Ranks and order by size.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::counting::scatter_dots;
use crate::arc::{Color, Grid, MAX_SIDE};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::scene_of;
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Counting,
        "histogram",
        4,
        "each color as a bar of its number, longest first",
        histogram,
    ),
    Family::new(
        Group::Counting,
        "rank-colors",
        4,
        "the colors by the size of their objects",
        rank_colors,
    ),
    Family::new(Group::Counting, "sort-bars", 3, "bars are sorted by height", sort_bars),
    Family::new(
        Group::Counting,
        "tallest-shortest",
        2,
        "the tallest and the shortest bar are recolored",
        tallest_shortest,
    ),
    Family::new(
        Group::Counting,
        "color-by-length-rank",
        3,
        "the rank of a bar's length gives its color",
        length_rank,
    ),
];

/// The colors with a key each, the largest key first; `None` if two are alike.
fn ranked(grid: &Grid, key: impl Fn(Color) -> usize) -> Option<Vec<(Color, usize)>> {
    let mut found: Vec<(Color, usize)> = colors_of(grid).iter().map(|&c| (c, key(c))).collect();
    found.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
    found.windows(2).all(|w| w[0].1 > w[1].1).then_some(found)
}

fn histogram(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(10))?;
    let most = between(rng, 2, 4);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let n = between(rng, 2, most);
        let mut numbers = [1, 2, 3, 4, 5, 6];
        numbers.shuffle(rng);
        for (color, number) in palette(rng, n, &[]).into_iter().zip(numbers) {
            scatter_dots(rng, &mut grid, color, number)?;
        }
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let found = ranked(grid, |c| count(grid, c))?;
        let longest = found.first()?.1;
        let fits = found.len() > 1 && longest <= MAX_SIDE;
        let color = |r: usize, c: usize| if c < found[r].1 { found[r].0 } else { 0 };
        fits.then(|| Grid::from_fn(found.len(), longest, color))
    };
    Some(Rule::new(draw, apply))
}

fn rank_colors(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let n = between(rng, 2, 4);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut colors = palette(rng, n, &[]);
        scene_of(rng, sides, n, |rng| {
            let (height, width) = (between(rng, 1, 4), between(rng, 1, 4));
            Grid::filled(height, width, colors.pop().unwrap_or(1))
        })
    };
    let apply = |grid: &Grid| {
        let found = ranked(grid, |c| count(grid, c))?;
        Some(Grid::from_fn(found.len(), 1, |r, _| found[r].0))
    };
    Some(Rule::new(draw, apply))
}

/// Bars that stand on the floor, each a column wide, with their heights; a column between two bars
/// if `pitch` is 2.
fn bars_scene(
    rng: &mut ChaCha8Rng,
    sides: Sides,
    pitch: usize,
    color: impl Fn(&mut ChaCha8Rng) -> Color,
) -> Grid {
    let mut grid = sides.empty(rng);
    let height = grid.height();
    for c in (0..grid.width()).step_by(pitch) {
        let (long, color) = (between(rng, 1, height), color(rng));
        paint(&mut grid, (height - long..height).map(|r| (r, c)), color);
    }
    grid
}

fn bar_height(grid: &Grid, c: usize) -> usize {
    (0..grid.height()).filter(|&r| grid.get(r, c) != 0).count()
}

fn sort_bars(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(14))?;
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[]);
    let draw =
        move |rng: &mut ChaCha8Rng| Some(bars_scene(rng, sides, 1, |rng| pick(rng, &palette)));
    let apply = move |grid: &Grid| {
        let mut order: Vec<usize> = (0..grid.width()).collect();
        order.sort_by_key(|&c| (bar_height(grid, c), grid.get(grid.height() - 1, c)));
        // Equal heights must not differ in color, or their order would be anyone's guess.
        let key = |c: usize| (bar_height(grid, c), grid.get(grid.height() - 1, c));
        let is_clear =
            order.windows(2).all(|w| key(w[0]).0 < key(w[1]).0 || key(w[0]) == key(w[1]));
        is_clear.then(|| Grid::from_fn(grid.height(), grid.width(), |r, c| grid.get(r, order[c])))
    };
    Some(Rule::new(draw, apply))
}

fn tallest_shortest(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(16))?;
    let [base, tall, short] = colors(rng);
    let (tall, short) = pick(rng, &[(tall, short), (tall, base), (base, short)]);
    let draw = move |rng: &mut ChaCha8Rng| Some(bars_scene(rng, sides, 2, |_| base));
    let apply = move |grid: &Grid| {
        let found = objects(grid);
        let tallest = only_max(found.iter().map(|o| o.height))?;
        let shortest = only_max(found.iter().map(|o| usize::MAX - o.height))?;
        let mut output = grid.clone();
        paint(&mut output, found[tallest].cells.iter().copied(), tall);
        paint(&mut output, found[shortest].cells.iter().copied(), short);
        (found.len() > 2).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

fn length_rank(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(16))?;
    let [base, codes @ ..]: [Color; 5] = colors(rng);
    let draw = move |rng: &mut ChaCha8Rng| Some(bars_scene(rng, sides, 2, |_| base));
    let apply = move |grid: &Grid| {
        let mut found = objects(grid);
        found.sort_by_key(|o| std::cmp::Reverse(o.height));
        let is_clear = found.windows(2).all(|w| w[0].height > w[1].height);
        let mut output = grid.clone();
        for (object, &code) in found.iter().zip(&codes) {
            paint(&mut output, object.cells.iter().copied(), code);
        }
        (is_clear && (2..=codes.len()).contains(&found.len())).then_some(output)
    };
    Some(Rule::new(draw, apply))
}
