//! Panels side by side, compared and combined.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Dihedral, Grid};
use crate::synth::canvas::*;
use crate::synth::scene::{dense, dots};
use crate::synth::{Family, Group, Rule};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Group::Panels,
        "panel-boolean",
        3,
        "two panels are joined by a boolean operation",
        boolean,
    ),
    Family::new(Group::Panels, "panel-overlay", 3, "one panel is laid over the other", overlay),
    Family::new(
        Group::Panels,
        "panel-overlay-many",
        5,
        "several panels are laid over one another",
        overlay_many,
    ),
    Family::new(Group::Panels, "panel-mask", 3, "one panel is a mask for the other", mask),
    Family::new(Group::Panels, "panel-odd", 3, "the panel unlike the others is given", odd_panel),
    Family::new(
        Group::Panels,
        "panel-fullest",
        3,
        "the panel with most or fewest dots is given",
        fullest,
    ),
    Family::new(
        Group::Panels,
        "panel-difference",
        3,
        "where the panels differ is marked",
        difference,
    ),
    Family::new(
        Group::Panels,
        "panel-copy",
        2,
        "the picture is copied to the empty panels",
        copy_panel,
    ),
    Family::new(Group::Panels, "panel-first", 1, "one of the panels is given", first_panel),
    Family::new(
        Group::Panels,
        "panel-recolor",
        3,
        "a cell beside each panel gives its color",
        recolor_panel,
    ),
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
    // Which lies on top shows only where both have a cell.
    let meet = move |grid: &Grid| {
        let Some(panels) = layout.panels(grid) else { return 0 };
        let has = |i: usize, (r, c)| panels[i].get(r, c) != 0;
        u64::from(cells(&panels[0]).any(|cell| has(0, cell) && has(1, cell)))
    };
    Some(Rule::new(draw, apply).showing(meet).requiring(1))
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
    // Which way a copy is turned shows in a picture that none of these leaves alone.
    let features = move |grid: &Grid| {
        use Dihedral::{FlipColumns, FlipRows, Rotate180};
        let Some(panels) = layout.panels(grid) else { return 0 };
        let changes = |d: Dihedral| d.apply(&panels[0]) != panels[0];
        u64::from([FlipColumns, FlipRows, Rotate180].into_iter().all(changes))
    };
    Some(Rule::new(draw, apply).showing(features).requiring(1))
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

fn recolor_panel(rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let [line, base] = colors(rng);
    let n = between(rng, 2, 3);
    let high = ((max_side + 1) / n).checked_sub(1)?.min(max_side.checked_sub(2)?).min(6);
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
