//! Stamps, copies, and drawing between marks.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};

use super::canvas::*;
use super::scene::{dense, objects_scene, picture, recoloring};
use super::{Family, Group, Rule};

const fn family(
    name: &'static str,
    difficulty: u8,
    about: &'static str,
    rule: fn(&mut ChaCha8Rng, usize) -> Option<Rule>,
) -> Family {
    Family::new(name, Group::Copying, difficulty, about, rule)
}

pub(super) const FAMILIES: &[Family] = &[
    family("stamp", 2, "a fixed pattern is drawn around each dot", stamp),
    family("stamp-by-color", 3, "the dot's color says which pattern is drawn", stamp_by_color),
    family("copy-to-marks", 4, "the pattern in the scene is copied to each mark", copy_to_marks),
    family("box-from-corners", 2, "four marks become the corners of a frame", box_from_corners),
    family("box-from-diagonal", 3, "two marks become corners of a rectangle", box_from_diagonal),
    family("match-shapes", 5, "objects take the color of the sample of their shape", match_shapes),
    family("swap-inside", 2, "frames and their insides swap colors", swap_inside),
    family("magnify-object", 3, "the object is cut out and enlarged", magnify),
    family("paste-into-frame", 4, "the object is put into the frame", paste_into_frame),
    family("texture-fill", 4, "frames are filled with the texture at the corner", texture_fill),
    family("repeat-toward-mark", 4, "an object is repeated toward the mark beside it", toward_mark),
    family("join-recolored", 3, "the grid and a recolored copy side by side", join_recolored),
    family("double-dots", 2, "each dot gets a partner beside it", double_dots),
    family("copy-rows-down", 2, "colored rows are copied to the rows below", copy_rows_down),
];

/// A pattern of `side` × `side` around its middle, which is not background.
fn stamp_pattern(rng: &mut ChaCha8Rng, side: usize, palette: &[Color]) -> Grid {
    if side == 3 && chance(rng, 0.5) {
        let color = pick(rng, palette);
        let steps: &[Step] = pick(rng, &[&SIDES[..], &CORNERS[..], &AROUND[..], &SIDES[..2]]);
        let mut pattern = Grid::filled(3, 3, 0);
        let around: Vec<Cell> = steps.iter().filter_map(|&s| step(&pattern, (1, 1), s)).collect();
        paint(&mut pattern, around, color);
        return pattern;
    }
    let mut pattern = picture(rng, side, side, palette);
    pattern.set(side / 2, side / 2, 0);
    pattern
}

/// Draws `pattern` around a cell, under what is there.
fn stamp_at(output: &mut Grid, (r, c): Cell, pattern: &Grid) {
    let half = pattern.height() as isize / 2;
    paste_signed(output, pattern, (r as isize - half, c as isize - half));
}

/// Dots at least `gap` apart.
fn apart_dots(rng: &mut ChaCha8Rng, sides: Sides, gap: usize, palette: &[Color]) -> Grid {
    let mut grid = sides.empty(rng);
    let most = 1 + grid.cells().len() / 40;
    for _ in 0..between(rng, 1, most + 1) {
        let color = pick(rng, palette);
        place(rng, &mut grid, &Grid::filled(1, 1, color), gap);
    }
    grid
}

fn stamp(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let side = pick(rng, &[3, 3, 5]);
    let sides = Sides::choose(rng, side + 2, max_side.min(20))?;
    let n_colors = between(rng, 1, 2);
    let dot_colors = palette(rng, n_colors, &[]);
    let inks = palette(rng, 2, &dot_colors);
    let pattern = stamp_pattern(rng, side, &inks);
    let draw = move |rng: &mut ChaCha8Rng| Some(apart_dots(rng, sides, side - 1, &dot_colors));
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells(grid).filter(|&(r, c)| grid.get(r, c) != 0) {
            stamp_at(&mut output, cell, &pattern);
        }
        Some(output)
    };
    // At least one pattern must be seen whole.
    let features = move |grid: &Grid| {
        let half = side / 2;
        let is_inner = |&(r, c): &Cell| {
            grid.get(r, c) != 0
                && (half..grid.height() - half).contains(&r)
                && (half..grid.width() - half).contains(&c)
        };
        u64::from(cells(grid).any(|cell| is_inner(&cell)))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(1))
}

fn stamp_by_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side.min(20))?;
    let [first, second, a, b] = colors(rng);
    let patterns = [stamp_pattern(rng, 3, &[a]), stamp_pattern(rng, 3, &[b])];
    let draw = move |rng: &mut ChaCha8Rng| Some(apart_dots(rng, sides, 2, &[first, second]));
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for (color, pattern) in [first, second].into_iter().zip(&patterns) {
            for cell in cells_of(grid, color) {
                stamp_at(&mut output, cell, pattern);
            }
        }
        Some(output)
    };
    let features = move |grid: &Grid| {
        let is_inner = |&(r, c): &Cell| {
            (1..grid.height() - 1).contains(&r) && (1..grid.width() - 1).contains(&c)
        };
        let shown = |color| u64::from(cells_of(grid, color).iter().any(is_inner));
        shown(first) | shown(second) << 1
    };
    Some(Rule::new(draw, apply).showing(features).requiring(0b11))
}

fn copy_to_marks(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side)?;
    let [mark] = colors(rng);
    let n_inks = between(rng, 1, 2);
    let side = pick(rng, &[3, 3, 5]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let inks = palette(rng, n_inks, &[mark]);
        let mut pattern = picture(rng, side, side, &inks);
        pattern.set(side / 2, side / 2, mark);
        let mut grid = sides.empty(rng);
        place(rng, &mut grid, &pattern, 0)?;
        for _ in 0..between(rng, 1, 3) {
            // Room for the whole copy: reserve its box while placing.
            let reserved = Grid::filled(side, side, mark);
            if let Some((top, left)) = place(rng, &mut grid, &reserved, 1) {
                paint(&mut grid, rectangle((top, left), side, side), 0);
                paint(&mut grid, [(top + side / 2, left + side / 2)], mark);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let found = objects(grid);
        let pattern = found.iter().max_by_key(|o| o.size())?;
        let is_whole = (pattern.height, pattern.width) == (side, side);
        let others = found.iter().filter(|o| o.size() == 1);
        let mut output = grid.clone();
        let mut n = 0;
        for dot in others {
            let (r, c) = dot.cells[0];
            let half = side / 2;
            let corner = (r.checked_sub(half)?, c.checked_sub(half)?);
            if !is_free_but(&output, corner, side, (r, c)) {
                return None;
            }
            paste(&mut output, &pattern.sprite(grid), corner);
            n += 1;
        }
        (is_whole && n > 0 && n + 1 == found.len()).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

/// True if a square holds only background, one cell excepted, and is inside the grid.
fn is_free_but(grid: &Grid, corner: Cell, side: usize, except: Cell) -> bool {
    corner.0 + side <= grid.height()
        && corner.1 + side <= grid.width()
        && rectangle(corner, side, side).all(|(r, c)| (r, c) == except || grid.get(r, c) == 0)
}

fn box_from_corners(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 6, max_side)?;
    let [dot, other, line] = colors(rng);
    let dots = if chance(rng, 0.6) { [dot, dot] } else { [dot, other] };
    let fills = chance(rng, 0.4);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 1, |rng| {
            let (height, width) = (between(rng, 3, 7), between(rng, 3, 7));
            let mut sprite = Grid::filled(height, width, 0);
            let color = pick(rng, &dots);
            let corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)];
            paint(&mut sprite, corners, color);
            sprite
        })
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        let mut n_used = 0;
        for (r, c) in cells(grid).filter(|&(r, c)| grid.get(r, c) != 0) {
            let color = grid.get(r, c);
            let same = |&(i, j): &Cell| grid.get(i, j) == color;
            let next = |direction| ray(grid, (r, c), direction).find(|&(i, j)| grid.get(i, j) != 0);
            let (Some(right), Some(down)) = (next((0, 1)), next((1, 0))) else { continue };
            if !same(&right) || !same(&down) || !same(&(down.0, right.1)) {
                continue;
            }
            let (height, width) = (down.0 + 1 - r, right.1 + 1 - c);
            let inside = rectangle((r, c), height, width)
                .filter(|&(i, j)| (i > r && i < down.0 && j > c && j < right.1) == fills);
            for (i, j) in inside {
                if grid.get(i, j) == 0 {
                    output.set(i, j, line);
                }
            }
            n_used += 4;
        }
        (n_used == grid.cells().len() - count(grid, 0)).then_some(output)
    };
    Some(Rule::new(draw, apply))
}

fn box_from_diagonal(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 5, max_side.min(18))?;
    let [dot, fill] = colors(rng);
    let fill = if chance(rng, 0.3) { dot } else { fill };
    let is_frame = chance(rng, 0.4);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..2 {
            let cell = (between(rng, 0, grid.height() - 1), between(rng, 0, grid.width() - 1));
            paint(&mut grid, [cell], dot);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let dots = cells_of(grid, dot);
        let &[(top, a), (bottom, b)] = dots.as_slice() else { return None };
        let (left, right) = (a.min(b), a.max(b));
        if bottom - top < 2 || right - left < 2 {
            return None;
        }
        let (height, width) = (bottom + 1 - top, right + 1 - left);
        let mut output = grid.clone();
        if is_frame {
            paint(&mut output, outline((top, left), height, width), fill);
        } else {
            paint(&mut output, rectangle((top, left), height, width), fill);
        }
        paint(&mut output, dots, dot);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

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
            let (outer, inner) = (grid.get(o.top, o.left), grid.get(o.top + 1, o.left + 1));
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
        Some(Grid::from_fn(factor * sprite.height(), factor * sprite.width(), |r, c| {
            sprite.get(r / factor, c / factor)
        }))
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
        super::scene::dots(rng, &mut grid, &palette, 0.5);
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

fn double_dots(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 4, max_side.min(16))?;
    let [partner] = colors(rng);
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[partner]);
    let own_color = chance(rng, 0.4);
    let by = pick(rng, &[(0, 1), (0, 1), (1, 1), (0, 2)]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        for _ in 0..1 + grid.cells().len() / 14 {
            let color = pick(rng, &palette);
            place(rng, &mut grid, &Grid::filled(1, 1, color), 1);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for cell in cells(grid).filter(|&(r, c)| grid.get(r, c) != 0) {
            let Some(next) = step(grid, cell, by) else { continue };
            if grid.get(next.0, next.1) != 0 {
                return None;
            }
            paint(&mut output, [next], if own_color { grid.get(cell.0, cell.1) } else { partner });
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
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
