//! One object cut out: by size, color, shape, symmetry or a mark.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::objects::blobs;
use crate::arc::{Dihedral, Grid, MAX_SIDE};
use crate::synth::canvas::*;
use crate::synth::component::*;
use crate::synth::scene::{objects_scene, scene_of};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Objects,
        "extract-by-size",
        3,
        "the largest, smallest or middle object is cut out",
        extract_by_size,
    ),
    Family::new(
        Group::Objects,
        "extract-by-color",
        2,
        "the object of one color is cut out",
        extract_by_color,
    ),
    Family::new(
        Group::Objects,
        "extract-odd-shape",
        4,
        "the object of another shape is cut out",
        extract_odd_shape,
    ),
    Family::new(
        Group::Objects,
        "extract-odd-color",
        3,
        "the object of another color is cut out",
        extract_odd_color,
    ),
    Family::new(
        Group::Objects,
        "extract-symmetric",
        4,
        "the symmetric object is cut out",
        extract_symmetric,
    ),
    Family::new(
        Group::Objects,
        "extract-marked",
        3,
        "the object with a marked cell is cut out",
        extract_marked,
    ),
    Family::new(
        Group::Objects,
        "extract-commonest",
        4,
        "the shape that occurs most often is cut out",
        extract_commonest,
    ),
    Family::new(
        Group::Objects,
        "extract-most-holes",
        4,
        "the object with most holes is cut out",
        extract_most_holes,
    ),
    Family::new(
        Group::Objects,
        "line-up",
        4,
        "the objects are set side by side from left to right",
        line_up,
    ),
];

/// The object whose key is the largest, if it is the only one.
pub(super) fn leading<K: Ord>(grid: &Grid, key: impl Fn(&Object) -> K) -> Option<Object> {
    let mut found = objects(grid);
    let index = only_max(found.iter().map(key))?;
    Some(found.swap_remove(index))
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
    let palette = colors.clone();
    let has =
        |grid: &Grid, o: &Object, color| o.cells.iter().any(|&(r, c)| grid.get(r, c) == color);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut drawn = 0;
        objects_scene(rng, sides, 2, |rng| {
            let color = pick(rng, &palette);
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
        let mut marked = objects(grid).into_iter().filter(|o| has(grid, o, mark));
        let object = marked.next()?;
        marked.next().is_none().then(|| object.sprite(grid))
    };
    // Another object has the color that the marked one has besides, or that might be what it is told by.
    let not_alone = move |grid: &Grid| {
        let found = objects(grid);
        let marked = found.iter().find(|o| has(grid, o, mark));
        let others = || found.iter().filter(|o| !has(grid, o, mark));
        let shared = marked.is_some_and(|marked| {
            let mut besides = colors.iter().filter(|&&color| has(grid, marked, color));
            besides.all(|&color| others().any(|o| has(grid, o, color)))
        });
        u64::from(shared)
    };
    Some(Rule::new(draw, apply).showing(not_alone).requiring(1))
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
