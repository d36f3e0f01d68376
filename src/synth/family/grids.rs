//! Grids of rooms with lines between them.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};
use crate::synth::canvas::*;
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Group::Panels, "panel-summary", 3, "each room of a grid becomes a cell", summary),
    Family::new(
        Group::Panels,
        "panel-fill-fullest",
        4,
        "the fullest room of a grid is filled",
        fill_fullest,
    ),
    Family::new(
        Group::Panels,
        "panel-map",
        4,
        "a small map says which rooms are filled",
        map_of_rooms,
    ),
    Family::new(
        Group::Panels,
        "panel-without-lines",
        2,
        "the separating lines vanish",
        without_lines,
    ),
    Family::new(
        Group::Panels,
        "panel-stamp",
        4,
        "a picture is drawn in each room with a dot, in its color",
        stamp_rooms,
    ),
];

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
        let mut output = rooms.empty(side, side);
        if grid.shape() != output.shape() {
            return None;
        }
        let home = rooms.all(grid).find(|&room| rooms.n_dots(grid, room) > 0)?;
        let (top, left) = rooms.corner(home);
        for (i, j) in rooms.all(grid) {
            paint(&mut output, rooms.cells((i, j)), grid.get(top + i, left + j));
        }
        Some(output)
    };
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
