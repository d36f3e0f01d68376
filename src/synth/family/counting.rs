//! Numbers of objects and cells as bars, squares, colors and copies.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid, MAX_SIDE};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{dense, dots, objects_scene, scene_of};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Counting,
        "count-to-bar",
        3,
        "a bar as long as there are objects",
        count_to_bar,
    ),
    Family::new(
        Group::Counting,
        "count-to-diagonal",
        4,
        "a square as large as the number of objects",
        count_to_diagonal,
    ),
    Family::new(
        Group::Counting,
        "count-to-color",
        4,
        "the number of objects gives a color",
        count_to_color,
    ),
    Family::new(
        Group::Counting,
        "dominant-color",
        2,
        "a block of the commonest color",
        dominant_color,
    ),
    Family::new(
        Group::Counting,
        "largest-color",
        3,
        "a block of the color of the largest object",
        largest_color,
    ),
    Family::new(
        Group::Counting,
        "unique-dot",
        4,
        "the only cell of its color is framed",
        unique_dot,
    ),
    Family::new(
        Group::Counting,
        "repeat-by-count",
        4,
        "the grid repeated once for each of its cells",
        repeat_by_count,
    ),
    Family::new(
        Group::Counting,
        "parity-of-row",
        4,
        "even and odd numbers of cells are told apart",
        parity_of_row,
    ),
    Family::new(
        Group::Counting,
        "row-majority",
        3,
        "each row takes its commonest color",
        row_majority,
    ),
    Family::new(
        Group::Counting,
        "fullest-row",
        3,
        "the row with most cells is recolored",
        fullest_row,
    ),
];

/// A way of drawing an object that is counted: a dot, a block or a blob.
fn counted(rng: &mut ChaCha8Rng) -> impl Fn(&mut ChaCha8Rng, Color) -> Grid + Copy + use<> {
    let manner = between(rng, 0, 2);
    move |rng, color| match manner {
        0 => Grid::filled(1, 1, color),
        1 => Grid::filled(2, 2, color),
        _ => blob(rng, 1, 3, color),
    }
}

fn count_to_bar(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side.min(16))?;
    let [base, other, bar] = colors(rng);
    let most = between(rng, 3, 6);
    let bar = if chance(rng, 0.5) { base } else { bar };
    let has_others = chance(rng, 0.4);
    let sprite = counted(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        let n = between(rng, 1, most);
        let mut colors = vec![base; n];
        if has_others {
            colors.resize(n + between(rng, 0, 2), other);
        }
        scene_of(rng, sides, colors.len(), |rng| sprite(rng, colors.pop().unwrap_or(base)))
    };
    let number =
        move |grid: &Grid| plain_objects(grid).iter().filter(|o| o.color(grid) == base).count();
    let apply = move |grid: &Grid| {
        let n = number(grid);
        (1..=most).contains(&n).then(|| Grid::from_fn(1, most, |_, c| if c < n { bar } else { 0 }))
    };
    // Where there are objects that do not count, their number must differ from that of the others.
    let features = move |grid: &Grid| {
        let all = plain_objects(grid).len();
        u64::from(all != number(grid) && all != 2 * number(grid))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(u64::from(has_others)))
}

fn count_to_diagonal(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(14))?;
    let [base] = colors(rng);
    let is_full = chance(rng, 0.4);
    let sprite = counted(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        let n = between(rng, 1, 5);
        scene_of(rng, sides, n, |rng| sprite(rng, base))
    };
    let apply = move |grid: &Grid| {
        let n = objects(grid).len();
        Some(Grid::from_fn(n, n, |r, c| if is_full || r == c { base } else { 0 }))
    };
    Some(Rule::new(draw, apply))
}

fn count_to_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(14))?;
    let [base, codes @ ..]: [Color; 4] = colors(rng);
    let side = between(rng, 1, 3);
    let sprite = counted(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        let n = between(rng, 1, codes.len());
        scene_of(rng, sides, n, |rng| sprite(rng, base))
    };
    let apply =
        move |grid: &Grid| Some(Grid::filled(side, side, *codes.get(objects(grid).len() - 1)?));
    Some(Rule::new(draw, apply).showing(|grid| 1 << objects(grid).len().min(9)))
}

fn dominant_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(12))?;
    let side = between(rng, 1, 3);
    let n_colors = between(rng, 2, 4);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = sides.draw(rng);
        let mut palette = palette(rng, n_colors, &[]);
        palette.push(palette[0]);
        Some(dense(rng, height, width, &palette))
    };
    let apply = move |grid: &Grid| {
        let color = only_max((0..10).map(|c| count(grid, c)))?;
        Some(Grid::filled(side, side, color as Color))
    };
    Some(Rule::new(draw, apply))
}

fn largest_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let side = between(rng, 1, 3);
    let sign = pick(rng, &[1, 1, -1]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut colors = palette(rng, 9, &[]);
        objects_scene(rng, sides, 3, |rng| blob(rng, 1, 4, colors.pop().unwrap_or(1)))
    };
    let apply = move |grid: &Grid| {
        let found = plain_objects(grid);
        let index = only_max(found.iter().map(|o| sign * o.size() as isize))?;
        Some(Grid::filled(side, side, found[index].color(grid)))
    };
    Some(Rule::new(draw, apply))
}

/// Colors `n` cells of background.
pub(super) fn scatter_dots(
    rng: &mut ChaCha8Rng,
    grid: &mut Grid,
    color: Color,
    n: usize,
) -> Option<()> {
    let mut free = cells_of(grid, 0);
    free.shuffle(rng);
    paint(grid, free.get(..n)?.iter().copied(), color);
    Some(())
}

fn unique_dot(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(16))?;
    let [ring] = colors(rng);
    let clears = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let n = between(rng, 2, 4);
        for (i, color) in palette(rng, n, &[ring]).into_iter().enumerate() {
            let number = if i == 0 { 1 } else { between(rng, 2, 5) };
            scatter_dots(rng, &mut grid, color, number)?;
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut single = colors_of(grid).into_iter().filter(|&c| count(grid, c) == 1);
        let color = single.next().filter(|_| single.next().is_none())?;
        let cell = *cells_of(grid, color).first()?;
        let mut output =
            if clears { Grid::filled(grid.height(), grid.width(), 0) } else { grid.clone() };
        paint(&mut output, AROUND.iter().filter_map(|&s| step(grid, cell, s)), ring);
        paint(&mut output, [cell], color);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn repeat_by_count(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let most = between(rng, 3, 6);
    let sides = Sides::choose(rng, 2, (max_side / most).min(4))?;
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let n = between(rng, 2, most);
        for _ in 0..n {
            let color = pick(rng, &palette);
            scatter_dots(rng, &mut grid, color, 1)?;
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let n = grid.cells().len() - count(grid, 0);
        let (height, width) = grid.shape();
        let fits = (2..=most).contains(&n) && n * width <= MAX_SIDE;
        fits.then(|| Grid::from_fn(height, n * width, |r, c| grid.get(r, c % width)))
    };
    Some(Rule::new(draw, apply))
}

fn parity_of_row(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(12))?;
    let [base, even, odd] = colors(rng);
    let (even, odd) = pick(rng, &[(even, odd), (even, base), (base, odd)]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for r in 0..grid.height() {
            let long = between(rng, 0, grid.width().min(4));
            paint(&mut grid, (0..long).map(|c| (r, c)), base);
        }
        Some(grid)
    };
    let number = |grid: &Grid, r: usize| (0..grid.width()).filter(|&c| grid.get(r, c) != 0).count();
    let apply = move |grid: &Grid| {
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| match grid.get(r, c) {
            0 => 0,
            _ if number(grid, r).is_multiple_of(2) => even,
            _ => odd,
        }))
    };
    let lengths =
        move |grid: &Grid| (0..grid.height()).fold(0, |bits, r| bits | 1 << number(grid, r));
    Some(Rule::new(draw, apply).showing(lengths).requiring(0b1110))
}

fn row_majority(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 3, max_side.min(12))?;
    let n_colors = between(rng, 2, 4);
    let palette = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for r in 0..grid.height() {
            let main = pick(rng, &palette);
            for c in 0..grid.width() {
                let color = if chance(rng, 0.5) { main } else { pick(rng, &palette) };
                grid.set(r, c, color);
            }
        }
        Some(grid)
    };
    let apply = |grid: &Grid| {
        let main = |row: &[Color]| {
            only_max((0..10).map(|color| row.iter().filter(|&&c| c == color).count()))
        };
        let rows = grid.rows().map(main).collect::<Option<Vec<usize>>>()?;
        Some(Grid::from_fn(grid.height(), grid.width(), |r, _| rows[r] as Color))
    };
    Some(Rule::new(draw, apply))
}

fn fullest_row(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(14))?;
    let [base, mark] = colors(rng);
    let whole_row = chance(rng, 0.4);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        dots(rng, &mut grid, &[base], 0.35);
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let number = |r: usize| (0..grid.width()).filter(|&c| grid.get(r, c) != 0).count();
        let best = only_max((0..grid.height()).map(number))?;
        let mut output = grid.clone();
        let row = (0..grid.width()).map(|c| (best, c));
        paint(&mut output, row.filter(|&(r, c)| whole_row || grid.get(r, c) != 0), mark);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}
