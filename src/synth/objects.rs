//! Objects told apart by size, shape, color, symmetry or a mark.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::arc::{Dihedral, Grid, MAX_SIDE};

use super::canvas::*;
use super::scene::{objects_scene, picture, scene_of};
use super::{Family, Group, Rule};

const fn family(
    name: &'static str,
    difficulty: u8,
    about: &'static str,
    rule: fn(&mut ChaCha8Rng, usize) -> Option<Rule>,
) -> Family {
    Family::new(name, Group::Objects, difficulty, about, rule)
}

pub(super) const FAMILIES: &[Family] = &[
    family(
        "extract-by-size",
        3,
        "the largest, smallest or middle object is cut out",
        extract_by_size,
    ),
    family("extract-by-color", 2, "the object of one color is cut out", extract_by_color),
    family("extract-odd-shape", 4, "the object of another shape is cut out", extract_odd_shape),
    family("extract-odd-color", 3, "the object of another color is cut out", extract_odd_color),
    family("extract-symmetric", 4, "the symmetric object is cut out", extract_symmetric),
    family("extract-marked", 3, "the object with a marked cell is cut out", extract_marked),
    family(
        "extract-commonest",
        4,
        "the shape that occurs most often is cut out",
        extract_commonest,
    ),
    family("keep-by-size", 2, "all objects but the largest or smallest vanish", keep_by_size),
    family("keep-color", 1, "only one color stays", keep_color),
    family("fill-boxes", 2, "the box of each object is filled up", fill_boxes),
    family("draw-boxes", 3, "a frame is drawn around each object", draw_boxes),
    family("outline", 2, "the cells around each object are colored", outlined),
    family("hollow-out", 2, "rectangles lose or change their inside", hollow_out),
    family("mark-corners", 2, "the corners of rectangles are recolored", mark_corners),
    family("mark-center", 2, "the center of each rectangle is marked", mark_center),
    family("flip-objects", 3, "each object is reflected in its place", flip_objects),
    family("line-up", 4, "the objects are set side by side from left to right", line_up),
    family("extract-most-holes", 4, "the object with most holes is cut out", extract_most_holes),
];

/// A scene of blobs with sides from `low` to `high`, each in one of `palette`.
fn blobs(
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

/// The object whose key is the largest, if it is the only one.
fn leading<K: Ord>(grid: &Grid, key: impl Fn(&Object) -> K) -> Option<Object> {
    let mut found = objects(grid);
    let index = only_max(found.iter().map(key))?;
    Some(found.swap_remove(index))
}

fn extract_by_size(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side)?;
    let n_colors = between(rng, 1, 4);
    let colors = palette(rng, n_colors, &[]);
    let which = pick(rng, &["largest", "largest", "smallest", "middle"]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let n = if which == "middle" { 3 } else { between(rng, 2, 4) };
        scene_of(rng, sides, n, |rng| {
            let color = pick(rng, &colors);
            blob(rng, 2, 5, color)
        })
    };
    let apply = move |grid: &Grid| {
        let mut found = objects(grid);
        found.sort_by_key(Object::size);
        let sizes: Vec<usize> = found.iter().map(Object::size).collect();
        let is_clear = sizes.windows(2).all(|w| w[0] < w[1]);
        let index = match which {
            "largest" => found.len() - 1,
            "smallest" => 0,
            _ if found.len() == 3 => 1,
            _ => return None,
        };
        is_clear.then(|| found[index].sprite(grid))
    };
    Some(Rule::new(draw, apply))
}

fn extract_by_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 7, max_side)?;
    let [key] = colors(rng);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut colors = palette(rng, 6, &[key]);
        colors.push(key);
        blobs(rng, sides, 2, (2, 4), &colors)
    };
    let apply = move |grid: &Grid| {
        let found = objects(grid);
        let mut keyed = found.iter().filter(|o| o.color(grid) == key);
        let object = keyed.next()?;
        keyed.next().is_none().then(|| object.sprite(grid))
    };
    Some(Rule::new(draw, apply))
}

/// The index of the one item that differs from all the others, which are alike.
fn odd_one<T: PartialEq>(items: &[T]) -> Option<usize> {
    let mut odd = (0..items.len()).filter(|&i| {
        let mut others = (0..items.len()).filter(|&j| j != i);
        let first = others.next();
        first.is_some_and(|f| items[f] != items[i] && others.all(|j| items[j] == items[f]))
    });
    let only = odd.next().filter(|_| items.len() > 2);
    only.filter(|_| odd.next().is_none())
}

fn extract_odd_shape(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 9, max_side)?;
    let n_colors = between(rng, 1, 4);
    let colors = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (height, width) = (between(rng, 2, 3), between(rng, 2, 3));
        let forms = [shape(rng, height, width), shape(rng, height, width)];
        let mut drawn = 0;
        objects_scene(rng, sides, 3, |rng| {
            let color = pick(rng, &colors);
            drawn += 1;
            map_cells(&forms[usize::from(drawn == 1)], |c| c * color)
        })
    };
    let apply = |grid: &Grid| {
        let found = objects(grid);
        let masks: Vec<Grid> = found.iter().map(Object::mask).collect();
        odd_one(&masks).map(|i| found[i].sprite(grid))
    };
    Some(Rule::new(draw, apply))
}

fn extract_odd_color(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side)?;
    let draw = move |rng: &mut ChaCha8Rng| {
        let [usual, odd] = colors(rng);
        let mut drawn = 0;
        objects_scene(rng, sides, 3, |rng| {
            drawn += 1;
            blob(rng, 2, 3, if drawn == 1 { odd } else { usual })
        })
    };
    let apply = |grid: &Grid| {
        let found = objects(grid);
        let colors: Vec<u8> = found.iter().map(|o| o.color(grid)).collect();
        odd_one(&colors).map(|i| found[i].sprite(grid))
    };
    Some(Rule::new(draw, apply))
}

fn extract_symmetric(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 9, max_side)?;
    let n_colors = between(rng, 2, 4);
    let colors = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut drawn = 0;
        objects_scene(rng, sides, 2, |rng| {
            drawn += 1;
            let color = pick(rng, &colors);
            loop {
                let sprite = blob(rng, 3, 4, color);
                let n = Dihedral::ALL.iter().filter(|d| d.apply(&sprite) == sprite).count();
                if n == 1 && drawn > 1 || n == 2 && drawn == 1 && is_mirrored(&sprite) {
                    return sprite;
                }
            }
        })
    };
    let apply = |grid: &Grid| {
        let found = objects(grid);
        let mut symmetric = found.iter().filter(|o| is_mirrored(&o.mask()));
        let object = symmetric.next().filter(|_| found.len() > 1)?;
        symmetric.next().is_none().then(|| object.sprite(grid))
    };
    Some(Rule::new(draw, apply))
}

fn extract_marked(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 8, max_side)?;
    let [mark] = colors(rng);
    let n_colors = between(rng, 1, 3);
    let colors = palette(rng, n_colors, &[mark]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut drawn = 0;
        objects_scene(rng, sides, 2, |rng| {
            let color = pick(rng, &colors);
            let mut sprite = blob(rng, 2, 4, color);
            drawn += 1;
            if drawn == 1 {
                let cells = cells_of(&sprite, color);
                let (r, c) = pick(rng, &cells);
                sprite.set(r, c, mark);
            }
            sprite
        })
    };
    let apply = move |grid: &Grid| {
        let has_mark = |o: &&Object| o.cells.iter().any(|&(r, c)| grid.get(r, c) == mark);
        Some(objects(grid).iter().find(has_mark)?.sprite(grid))
    };
    Some(Rule::new(draw, apply))
}

fn extract_commonest(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 10, max_side)?;
    let draw = move |rng: &mut ChaCha8Rng| {
        let colors: [u8; 3] = colors(rng);
        let forms: [Grid; 3] = std::array::from_fn(|_| shape(rng, 3, 3));
        objects_scene(rng, sides, 3, |rng| {
            let which = pick(rng, &[0, 0, 0, 1, 1, 2]);
            map_cells(&forms[which], |c| c * colors[which])
        })
    };
    let apply = |grid: &Grid| {
        let sprites: Vec<Grid> = objects(grid).iter().map(|o| o.sprite(grid)).collect();
        let number = |s: &Grid| sprites.iter().filter(|other| *other == s).count();
        let best = sprites.iter().max_by_key(|s| number(s))?;
        let is_clear = sprites.iter().all(|s| s == best || number(s) < number(best));
        (is_clear && number(best) < sprites.len()).then(|| best.clone())
    };
    Some(Rule::new(draw, apply))
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
    Some(Rule::new(draw, apply))
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
            let framed = map_cells(&frame(sprite.height() + 2, sprite.width() + 2, 1), |_| 0);
            let mut framed = framed;
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

fn line_up(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let side = between(rng, 2, 3);
    let most = (max_side / side).min(5);
    let sides = Sides::choose(rng, 3 * side, max_side)?;
    let n = between(rng, 2, most);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = sides.empty(rng);
        let mut left = 0;
        let mut colors = palette(rng, 9, &[]);
        colors.shuffle(rng);
        for color in colors.into_iter().take(n) {
            left += between(rng, 0, 2);
            if left + side > grid.width() {
                break;
            }
            let top = between(rng, 0, grid.height() - side);
            let sprite = map_cells(&shape(rng, side, side), |c| c * color);
            paste(&mut grid, &sprite, (top, left));
            left += side + usize::from(chance(rng, 0.7));
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut found = plain_objects(grid);
        found.sort_by_key(|o| o.left);
        let fits = found.iter().all(|o| (o.height, o.width) == (side, side));
        let is_clear = found.windows(2).all(|w| w[0].left < w[1].left);
        let width = side * found.len();
        if !fits || !is_clear || found.len() < 2 || width > MAX_SIDE {
            return None;
        }
        let mut output = Grid::filled(side, width, 0);
        for (i, object) in found.iter().enumerate() {
            paste(&mut output, &object.sprite(grid), (0, side * i));
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn extract_most_holes(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let sides = Sides::choose(rng, 10, max_side)?;
    let n_colors = between(rng, 1, 3);
    let colors = palette(rng, n_colors, &[]);
    let draw = move |rng: &mut ChaCha8Rng| {
        objects_scene(rng, sides, 2, |rng| {
            let color = pick(rng, &colors);
            let (height, width) = (between(rng, 3, 5), between(rng, 3, 5));
            let mut sprite = Grid::filled(height, width, color);
            for _ in 0..between(rng, 0, 4) {
                let (r, c) = (between(rng, 1, height - 2), between(rng, 1, width - 2));
                if AROUND
                    .iter()
                    .all(|&s| step(&sprite, (r, c), s).is_none_or(|(i, j)| sprite.get(i, j) != 0))
                {
                    sprite.set(r, c, 0);
                }
            }
            sprite
        })
    };
    let apply = |grid: &Grid| Some(leading(grid, |o| holes(&o.mask()))?.sprite(grid));
    Some(Rule::new(draw, apply))
}
