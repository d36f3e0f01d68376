//! Panels side by side and grids of separators.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Dihedral, Grid};

use super::canvas::*;
use super::scene::{dense, dots};
use super::{Family, Group, Rule};

const fn family(
    name: &'static str,
    difficulty: u8,
    about: &'static str,
    rule: fn(&mut ChaCha8Rng, usize) -> Option<Rule>,
) -> Family {
    Family::new(name, Group::Panels, difficulty, about, rule)
}

pub(super) const FAMILIES: &[Family] = &[
    family("panel-boolean", 3, "two panels are joined by a boolean operation", boolean),
    family("panel-overlay", 3, "one panel is laid over the other", overlay),
    family("panel-overlay-many", 5, "several panels are laid over one another", overlay_many),
    family("panel-mask", 3, "one panel is a mask for the other", mask),
    family("panel-odd", 3, "the panel unlike the others is given", odd_panel),
    family("panel-fullest", 3, "the panel with most or fewest dots is given", fullest),
    family("panel-difference", 3, "where the panels differ is marked", difference),
    family("panel-copy", 2, "the picture is copied to the empty panels", copy_panel),
    family("panel-summary", 3, "each room of a grid becomes a cell", summary),
    family("panel-fill-fullest", 4, "the fullest room of a grid is filled", fill_fullest),
    family("panel-map", 4, "a small map says which rooms are filled", map_of_rooms),
    family("panel-first", 1, "one of the panels is given", first_panel),
    family("panel-without-lines", 2, "the separating lines vanish", without_lines),
    family(
        "panel-stamp",
        4,
        "a picture is drawn in each room with a dot, in its color",
        stamp_rooms,
    ),
    family("panel-recolor", 3, "a cell beside each panel gives its color", recolor_panel),
];

/// `n` panels side by side, separated by columns of `line` (or by nothing if it is `None`).
fn join(panels: &[Grid], line: Option<Color>) -> Grid {
    let (height, width) = panels[0].shape();
    let pitch = width + usize::from(line.is_some());
    let total = panels.len() * pitch - usize::from(line.is_some());
    let mut grid = Grid::filled(height, total, line.unwrap_or(0));
    for (i, panel) in panels.iter().enumerate() {
        for (r, c) in cells(panel) {
            grid.set(r, i * pitch + c, panel.get(r, c));
        }
    }
    grid
}

/// The `n` panels of a grid made by [`join`].
fn split(grid: &Grid, n: usize, line: Option<Color>) -> Option<Vec<Grid>> {
    let gap = usize::from(line.is_some());
    let width = (grid.width() + gap) / n - gap;
    let fits = (width + gap) * n == grid.width() + gap;
    let panel = |i: usize| crop(grid, (0, i * (width + gap)), grid.height(), width);
    (0..n).map(panel).collect::<Option<Vec<_>>>().filter(|_| fits)
}

/// How panels are set side by side.
#[derive(Clone, Copy)]
struct Layout {
    sides: Sides,
    n: usize,
    line: Option<Color>,
}

impl Layout {
    fn choose(rng: &mut ChaCha8Rng, max_side: usize, n: usize, line: Color) -> Option<Self> {
        if n < 2 {
            return None;
        }
        let line = (n > 2 || chance(rng, 0.7)).then_some(line);
        let high = ((max_side + 1) / n).checked_sub(1)?.min(9);
        Some(Self { sides: Sides::choose(rng, 2, high)?, n, line })
    }

    /// A scene of panels, each drawn by `panel`.
    fn scene(
        self,
        rng: &mut ChaCha8Rng,
        mut panel: impl FnMut(&mut ChaCha8Rng, usize, Grid) -> Grid,
    ) -> Grid {
        let blank = self.sides.empty(rng);
        let panels: Vec<Grid> = (0..self.n).map(|i| panel(rng, i, blank.clone())).collect();
        join(&panels, self.line)
    }

    fn panels(self, grid: &Grid) -> Option<Vec<Grid>> {
        split(grid, self.n, self.line)
    }
}

fn dotted(rng: &mut ChaCha8Rng, mut grid: Grid, palette: &[Color], density: f64) -> Grid {
    dots(rng, &mut grid, palette, density);
    grid
}

fn boolean(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let [line, left, right, result] = colors(rng);
    let layout = Layout::choose(rng, max_side, 2, line)?;
    let right = if chance(rng, 0.3) { left } else { right };
    // Bit 2·left + right: and, or, xor, nor, left alone, not both, the same.
    let table: u8 = pick(rng, &[0b1000, 0b1110, 0b0110, 0b0001, 0b0100, 0b0111, 0b1001]);
    let draw = move |rng: &mut ChaCha8Rng| {
        Some(layout.scene(rng, |rng, i, panel| dotted(rng, panel, &[[left, right][i]], 0.5)))
    };
    let cases = move |grid: &Grid| -> Option<Grid> {
        let panels = layout.panels(grid)?;
        let bit = |i: usize, r, c| Color::from(panels[i].get(r, c) != 0);
        let (height, width) = panels[0].shape();
        Some(Grid::from_fn(height, width, |r, c| 2 * bit(0, r, c) + bit(1, r, c)))
    };
    let apply =
        move |grid: &Grid| Some(map_cells(&cases(grid)?, |case| (table >> case & 1) * result));
    let features = move |grid: &Grid| cases(grid).map_or(0, |cases| color_bits(&cases));
    Some(Rule::new(draw, apply).showing(features).requiring(0b1111))
}

fn overlay(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let [line, left, right] = colors(rng);
    let layout = Layout::choose(rng, max_side, 2, line)?;
    let draw = move |rng: &mut ChaCha8Rng| {
        Some(layout.scene(rng, |rng, i, panel| dotted(rng, panel, &[[left, right][i]], 0.5)))
    };
    let apply = move |grid: &Grid| {
        let panels = layout.panels(grid)?;
        let mut output = panels[1].clone();
        paste(&mut output, &panels[0], (0, 0));
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn overlay_many(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let n = between(rng, 3, 4).min((max_side + 1) / 4);
    let [line, colors @ ..]: [Color; 5] = colors(rng);
    let layout = Layout::choose(rng, max_side, n, line)?;
    let draw = move |rng: &mut ChaCha8Rng| {
        Some(layout.scene(rng, |rng, i, panel| dotted(rng, panel, &[colors[i]], 0.5)))
    };
    // The order of the layers is a constant of the rule, not that of the panels.
    let mut order: Vec<usize> = (0..n).collect();
    rand::seq::SliceRandom::shuffle(order.as_mut_slice(), rng);
    let layers = order.clone();
    let apply = move |grid: &Grid| {
        let panels = layout.panels(grid)?;
        let mut output = panels[layers[0]].clone();
        for &layer in &layers[1..] {
            paste(&mut output, &panels[layer], (0, 0));
        }
        Some(output)
    };
    // A bit for each two neighboring layers that meet where no higher one covers them.
    let features = move |grid: &Grid| {
        let Some(panels) = layout.panels(grid) else { return 0 };
        let has = |i: usize, r, c| panels[order[i]].get(r, c) != 0;
        (1..n).fold(0, |bits, i| {
            let met = cells(&panels[0]).any(|(r, c)| {
                has(i, r, c) && has(i - 1, r, c) && !(i + 1..n).any(|j| has(j, r, c))
            });
            bits | u64::from(met) << i
        })
    };
    Some(Rule::new(draw, apply).showing(features).requiring((1 << n) - 2))
}

fn mask(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let [line, key] = colors(rng);
    let layout = Layout::choose(rng, max_side, 2, line)?;
    let n_colors = between(rng, 2, 4);
    let palette = palette(rng, n_colors, &[line, key]);
    let inverted = chance(rng, 0.3);
    let draw = move |rng: &mut ChaCha8Rng| {
        Some(layout.scene(rng, |rng, i, panel| match i {
            0 => dense(rng, panel.height(), panel.width(), &palette),
            _ => dotted(rng, panel, &[key], 0.5),
        }))
    };
    let apply = move |grid: &Grid| {
        let panels = layout.panels(grid)?;
        let (height, width) = panels[0].shape();
        Some(Grid::from_fn(height, width, |r, c| {
            if (panels[1].get(r, c) == 0) == inverted { panels[0].get(r, c) } else { 0 }
        }))
    };
    Some(Rule::new(draw, apply))
}

fn odd_panel(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let n = between(rng, 3, 4).min((max_side + 1) / 4);
    let [line] = colors(rng);
    let layout = Layout::choose(rng, max_side, n, line)?;
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[line]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let odd = between(rng, 0, n - 1);
        let mut usual: Option<Grid> = None;
        Some(layout.scene(rng, |rng, i, panel| {
            if i == odd {
                return dotted(rng, panel, &palette, 0.5);
            }
            usual.get_or_insert_with(|| dotted(rng, panel, &palette, 0.5)).clone()
        }))
    };
    let apply = move |grid: &Grid| {
        let panels = layout.panels(grid)?;
        let number = |panel: &Grid| panels.iter().filter(|p| *p == panel).count();
        panels.iter().find(|panel| number(panel) == 1).cloned()
    };
    Some(Rule::new(draw, apply))
}

fn fullest(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let n = between(rng, 2, 4).min((max_side + 1) / 4);
    let [line] = colors(rng);
    let layout = Layout::choose(rng, max_side, n, line)?;
    let sign = pick(rng, &[1, -1]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let palette = palette(rng, n, &[line]);
        Some(layout.scene(rng, |rng, i, panel| {
            let density = 0.1 * between(rng, 1, 7) as f64;
            dotted(rng, panel, &[palette[i]], density)
        }))
    };
    let apply = move |grid: &Grid| {
        let panels = layout.panels(grid)?;
        let index = only_max(panels.iter().map(|p| -sign * count(p, 0) as isize))?;
        panels.get(index).cloned()
    };
    Some(Rule::new(draw, apply))
}

fn difference(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let [line, mark] = colors(rng);
    let layout = Layout::choose(rng, max_side, 2, line)?;
    let n_colors = between(rng, 2, 4);
    let palette = palette(rng, n_colors, &[line, mark]);
    let keeps = chance(rng, 0.4);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut first: Option<Grid> = None;
        Some(layout.scene(rng, |rng, _, panel| {
            let Some(known) = &first else {
                let panel = dense(rng, panel.height(), panel.width(), &palette);
                return first.insert(panel).clone();
            };
            let mut panel = known.clone();
            dots(rng, &mut panel, &palette, 0.3);
            panel
        }))
    };
    let apply = move |grid: &Grid| {
        let panels = layout.panels(grid)?;
        let (height, width) = panels[0].shape();
        Some(Grid::from_fn(height, width, |r, c| {
            let (a, b) = (panels[0].get(r, c), panels[1].get(r, c));
            if a != b {
                mark
            } else if keeps {
                a
            } else {
                0
            }
        }))
    };
    Some(Rule::new(draw, apply))
}

fn copy_panel(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let n = between(rng, 2, 4).min((max_side + 1) / 4);
    let [line] = colors(rng);
    let layout = Layout { line: Some(line), ..Layout::choose(rng, max_side, n, line)? };
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[line]);
    let symmetry = pick(rng, &[Dihedral::Identity, Dihedral::FlipColumns, Dihedral::FlipRows]);
    let draw = move |rng: &mut ChaCha8Rng| {
        Some(layout.scene(rng, |rng, i, panel| match i {
            0 => dotted(rng, panel, &palette, 0.5),
            _ => panel,
        }))
    };
    let apply = move |grid: &Grid| {
        let panels = layout.panels(grid)?;
        let copies = |i: usize| {
            if i.is_multiple_of(2) { panels[0].clone() } else { symmetry.apply(&panels[0]) }
        };
        Some(join(&(0..n).map(copies).collect::<Vec<_>>(), layout.line))
    };
    Some(Rule::new(draw, apply))
}

/// Rooms of equal size, separated by lines.
#[derive(Clone, Copy)]
struct Rooms {
    side: usize,
    line: Color,
}

impl Rooms {
    fn choose(
        rng: &mut ChaCha8Rng,
        max_side: usize,
        (low, high): (usize, usize),
    ) -> Option<(Self, Sides)> {
        let side = between(rng, low, high);
        let most = ((max_side + 1) / (side + 1)).min(6);
        let [line] = colors(rng);
        Some((Self { side, line }, Sides::choose(rng, 2, most)?))
    }

    /// A grid of `down` × `across` empty rooms.
    fn empty(self, down: usize, across: usize) -> Grid {
        let pitch = self.side + 1;
        Grid::from_fn(down * pitch - 1, across * pitch - 1, |r, c| {
            if r % pitch == self.side || c % pitch == self.side { self.line } else { 0 }
        })
    }

    /// How many rooms a grid has, down and across.
    fn number(self, grid: &Grid) -> (usize, usize) {
        ((grid.height() + 1) / (self.side + 1), (grid.width() + 1) / (self.side + 1))
    }

    fn corner(self, (i, j): Cell) -> Cell {
        (i * (self.side + 1), j * (self.side + 1))
    }

    fn cells(self, room: Cell) -> impl Iterator<Item = Cell> + Clone {
        rectangle(self.corner(room), self.side, self.side)
    }

    /// The rooms in reading order.
    fn all(self, grid: &Grid) -> impl Iterator<Item = Cell> + Clone + use<> {
        let (down, across) = self.number(grid);
        rectangle((0, 0), down, across)
    }

    fn n_dots(self, grid: &Grid, room: Cell) -> usize {
        self.cells(room).filter(|&(r, c)| grid.get(r, c) != 0).count()
    }
}

fn summary(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let (rooms, sides) = Rooms::choose(rng, max_side, (1, 3))?;
    let n_colors = between(rng, 1, 4);
    let palette = palette(rng, n_colors, &[rooms.line]);
    let is_solid = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (down, across) = sides.draw(rng);
        let mut grid = rooms.empty(down, across);
        for room in rectangle((0, 0), down, across) {
            let color = pick(rng, &palette);
            if chance(rng, 0.4) {
                continue;
            }
            let n = if is_solid { 9 } else { between(rng, 1, 3) };
            let all: Vec<Cell> = rooms.cells(room).collect();
            let some: Vec<Cell> = (0..n).map(|_| pick(rng, &all)).collect();
            paint(&mut grid, if is_solid { all } else { some }, color);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let (down, across) = rooms.number(grid);
        Some(Grid::from_fn(down, across, |i, j| {
            let mut found = rooms.cells((i, j)).map(|(r, c)| grid.get(r, c));
            found.find(|&c| c != 0).unwrap_or(0)
        }))
    };
    Some(Rule::new(draw, apply))
}

fn fill_fullest(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let (rooms, sides) = Rooms::choose(rng, max_side, (2, 4))?;
    let [dot, other] = palette(rng, 2, &[rooms.line]).try_into().ok()?;
    let fill = if chance(rng, 0.5) { dot } else { other };
    let clears = chance(rng, 0.5);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (down, across) = sides.draw(rng);
        let mut grid = rooms.empty(down, across);
        for room in rectangle((0, 0), down, across) {
            let share = 0.1 * between(rng, 0, 6) as f64;
            for cell in rooms.cells(room) {
                if chance(rng, share) {
                    paint(&mut grid, [cell], dot);
                }
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let best = only_max(rooms.all(grid).map(|room| rooms.n_dots(grid, room)))?;
        let (down, across) = rooms.number(grid);
        let mut output = if clears { rooms.empty(down, across) } else { grid.clone() };
        paint(&mut output, rooms.cells((best / across, best % across)), fill);
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn map_of_rooms(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let side = between(rng, 2, 3);
    if side * side + side - 1 > max_side {
        return None;
    }
    let [line] = colors(rng);
    let rooms = Rooms { side, line };
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[line]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut grid = rooms.empty(side, side);
        let home = (between(rng, 0, side - 1), between(rng, 0, side - 1));
        for cell in rooms.cells(home) {
            if chance(rng, 0.5) {
                let color = pick(rng, &palette);
                paint(&mut grid, [cell], color);
            }
        }
        Some(grid)
    };
    // The picture in one room shows which rooms to fill.
    let apply = move |grid: &Grid| {
        let home = rooms.all(grid).find(|&room| rooms.n_dots(grid, room) > 0)?;
        let (top, left) = rooms.corner(home);
        let mut output = rooms.empty(side, side);
        for (i, j) in rooms.all(grid) {
            paint(&mut output, rooms.cells((i, j)), grid.get(top + i, left + j));
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn first_panel(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let n = between(rng, 2, 4).min((max_side + 1) / 4);
    let [line] = colors(rng);
    let layout = Layout { line: Some(line), ..Layout::choose(rng, max_side, n, line)? };
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[line]);
    let which = between(rng, 0, n - 1);
    let draw = move |rng: &mut ChaCha8Rng| {
        Some(layout.scene(rng, |rng, _, panel| dotted(rng, panel, &palette, 0.5)))
    };
    let apply = move |grid: &Grid| layout.panels(grid)?.get(which).cloned();
    Some(Rule::new(draw, apply))
}

fn without_lines(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let (rooms, sides) = Rooms::choose(rng, max_side, (1, 3))?;
    let n_colors = between(rng, 1, 4);
    let palette = palette(rng, n_colors, &[rooms.line]);
    let draw = move |rng: &mut ChaCha8Rng| {
        let (down, across) = sides.draw(rng);
        let mut grid = rooms.empty(down, across);
        for room in rectangle((0, 0), down, across) {
            for cell in rooms.cells(room) {
                if chance(rng, 0.5) {
                    let color = pick(rng, &palette);
                    paint(&mut grid, [cell], color);
                }
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let (down, across) = rooms.number(grid);
        let side = rooms.side;
        Some(Grid::from_fn(down * side, across * side, |r, c| {
            let (top, left) = rooms.corner((r / side, c / side));
            grid.get(top + r % side, left + c % side)
        }))
    };
    Some(Rule::new(draw, apply))
}

fn stamp_rooms(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let side = pick(rng, &[3, 3, 5]);
    let most = ((max_side + 1) / (side + 1)).min(5);
    let [line] = colors(rng);
    let sides = Sides::choose(rng, 2, most)?;
    let rooms = Rooms { side, line };
    let n_colors = between(rng, 1, 3);
    let palette = palette(rng, n_colors, &[line]);
    let form = shape(rng, side, side);
    if form.get(side / 2, side / 2) == 0 {
        return None;
    }
    let draw = move |rng: &mut ChaCha8Rng| {
        let (down, across) = sides.draw(rng);
        let mut grid = rooms.empty(down, across);
        for room in rectangle((0, 0), down, across) {
            if chance(rng, 0.4) {
                let (top, left) = rooms.corner(room);
                let color = pick(rng, &palette);
                grid.set(top + side / 2, left + side / 2, color);
            }
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        let mut output = grid.clone();
        for room in rooms.all(grid) {
            let (top, left) = rooms.corner(room);
            let color = grid.get(top + side / 2, left + side / 2);
            paste(&mut output, &map_cells(&form, |c| c * color), (top, left));
        }
        Some(output)
    };
    Some(Rule::new(draw, apply))
}

fn recolor_panel(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let [line, base] = colors(rng);
    let n = between(rng, 2, 3);
    let high = ((max_side + 1) / n).checked_sub(1)?.min(max_side - 2).min(6);
    let sides = Sides::choose(rng, 2, high)?;
    let layout = Layout { sides, n, line: Some(line) };
    let draw = move |rng: &mut ChaCha8Rng| {
        let keys = palette(rng, n, &[line, base]);
        let body = layout.scene(rng, |rng, _, panel| dotted(rng, panel, &[base], 0.5));
        let pitch = (body.width() + 1) / n;
        let mut grid = Grid::filled(body.height() + 2, body.width(), 0);
        paint(&mut grid, (0..body.width()).map(|c| (1, c)), line);
        paste(&mut grid, &body, (2, 0));
        for (i, key) in keys.into_iter().enumerate() {
            paint(&mut grid, (i * pitch..(i + 1) * pitch - 1).map(|c| (0, c)), key);
        }
        Some(grid)
    };
    let apply = move |grid: &Grid| {
        Some(Grid::from_fn(grid.height(), grid.width(), |r, c| {
            if grid.get(r, c) == base { grid.get(0, c) } else { grid.get(r, c) }
        }))
    };
    Some(Rule::new(draw, apply))
}
