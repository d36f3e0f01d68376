//! Scenes without a rule of their own: the inputs of families that act on any grid.

use rand_chacha::ChaCha8Rng;

use crate::arc::{Color, Grid};

use super::canvas::{
    Sides, between, blob, chance, colors, paint, palette, pick, rectangle, scatter, shape,
};
use super::component::{Object, objects};

/// A manner of drawing, chosen once for a rule so that its examples look alike.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    manner: Manner,
    palette: Vec<Color>,
    density: f64,
}

#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Single cells on background.
    Dots,
    /// Every cell colored; small grids only.
    Dense,
    /// Separate objects of one color each.
    Objects,
    /// Overlapping rectangles.
    Blocks,
    /// Whole rows and columns of color, and parts of them.
    Bars,
    /// One object of several colors.
    Figure,
}

impl Scene {
    /// A random manner with up to `n_colors` colors.
    pub(super) fn choose(rng: &mut ChaCha8Rng, n_colors: usize) -> Self {
        use Manner::{Bars, Blocks, Dense, Dots, Figure, Objects};
        let manner = pick(rng, &[Dots, Dots, Dense, Objects, Objects, Blocks, Bars, Figure]);
        let n = between(rng, 1, n_colors.max(1));
        Self { manner, palette: palette(rng, n, &[]), density: 0.1 * between(rng, 2, 5) as f64 }
    }

    /// The colors that may occur.
    pub(super) fn palette(&self) -> &[Color] {
        &self.palette
    }

    /// A grid of that manner.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng, sides: Sides) -> Grid {
        let mut grid = sides.empty(rng);
        let (height, width) = grid.shape();
        let area = height * width;
        let manner = match self.manner {
            Manner::Dense if area > 64 || self.palette.len() < 2 => Manner::Blocks,
            Manner::Dots if area > 225 => Manner::Objects,
            Manner::Objects if area < 25 => Manner::Dots,
            manner => manner,
        };
        let n_parts = 2 + area / 40;
        let color = |rng: &mut ChaCha8Rng| pick(rng, &self.palette);
        match manner {
            Manner::Dots => dots(rng, &mut grid, &self.palette, self.density),
            Manner::Dense => dots(rng, &mut grid, &self.palette, 1.0),
            Manner::Objects => {
                scatter(rng, &mut grid, (0, n_parts + 1), |rng| {
                    let color = color(rng);
                    blob(rng, 1, 4, color)
                });
            }
            Manner::Blocks => {
                for _ in 0..n_parts {
                    let (h, w) = (between(rng, 1, height / 2 + 1), between(rng, 1, width / 2 + 1));
                    let corner = (between(rng, 0, height - h), between(rng, 0, width - w));
                    let color = color(rng);
                    paint(&mut grid, rectangle(corner, h, w), color);
                }
            }
            Manner::Bars => bars(rng, &mut grid, &self.palette),
            Manner::Figure => {
                let (h, w) = (between(rng, height / 2, height).max(1), between(rng, 1, width));
                let mask = shape(rng, h, w);
                let corner = (between(rng, 0, height - h), between(rng, 0, width - w));
                for (r, c) in rectangle((0, 0), h, w) {
                    if mask.get(r, c) != 0 {
                        let color = color(rng);
                        grid.set(corner.0 + r, corner.1 + c, color);
                    }
                }
            }
        }
        grid
    }
}

/// Colors each cell with probability `density`.
pub(super) fn dots(rng: &mut ChaCha8Rng, grid: &mut Grid, palette: &[Color], density: f64) {
    for (r, c) in rectangle((0, 0), grid.height(), grid.width()) {
        if chance(rng, density) {
            let color = pick(rng, palette);
            grid.set(r, c, color);
        }
    }
}

/// A grid whose every cell has a color from `palette`.
pub(super) fn dense(rng: &mut ChaCha8Rng, height: usize, width: usize, palette: &[Color]) -> Grid {
    let mut grid = Grid::filled(height, width, 0);
    dots(rng, &mut grid, palette, 1.0);
    grid
}

/// A small picture of background and some colors that touches all four edges of its box.
pub(super) fn picture(
    rng: &mut ChaCha8Rng,
    height: usize,
    width: usize,
    palette: &[Color],
) -> Grid {
    let mut grid = shape(rng, height, width);
    for (r, c) in rectangle((0, 0), height, width) {
        if grid.get(r, c) != 0 {
            let color = pick(rng, palette);
            grid.set(r, c, color);
        }
    }
    grid
}

fn bars(rng: &mut ChaCha8Rng, grid: &mut Grid, palette: &[Color]) {
    let (height, width) = grid.shape();
    for _ in 0..between(rng, 2, 2 + (height + width) / 8) {
        let (across, length) = if chance(rng, 0.5) { (true, width) } else { (false, height) };
        let long = if chance(rng, 0.5) { length } else { between(rng, 1, length) };
        let start = between(rng, 0, length - long);
        let line = between(rng, 0, if across { height } else { width } - 1);
        let color = pick(rng, palette);
        let cell = |i| if across { (line, start + i) } else { (start + i, line) };
        paint(grid, (0..long).map(cell), color);
    }
}

/// A scene of at least `least` separate objects, each drawn by `sprite`.
pub(super) fn objects_scene(
    rng: &mut ChaCha8Rng,
    sides: Sides,
    least: usize,
    sprite: impl FnMut(&mut ChaCha8Rng) -> Grid,
) -> Option<Grid> {
    let mut grid = sides.empty(rng);
    let n = (grid.cells().len() / 24).clamp(least, 9);
    let n = between(rng, least, n);
    scatter(rng, &mut grid, (least, n + 2), sprite)?;
    Some(grid)
}

/// A scene of `n` separate objects, or `None` if not all found room.
pub(super) fn scene_of(
    rng: &mut ChaCha8Rng,
    sides: Sides,
    n: usize,
    sprite: impl FnMut(&mut ChaCha8Rng) -> Grid,
) -> Option<Grid> {
    let mut grid = sides.empty(rng);
    scatter(rng, &mut grid, (n, n), sprite)?;
    Some(grid)
}

/// The grid with each of its objects in the color that `color` gives it.
pub(super) fn recolor_objects(
    grid: &Grid,
    color: impl Fn(&Object) -> Option<Color>,
) -> Option<Grid> {
    let mut output = grid.clone();
    for object in objects(grid) {
        let color = color(&object)?;
        paint(&mut output, object.cells.iter().copied(), color);
    }
    Some(output)
}

/// A color map that moves every color of `palette` to another color, and leaves the others.
pub(super) fn recoloring(rng: &mut ChaCha8Rng, palette: &[Color]) -> [Color; 10] {
    let mut map = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    for &color in palette {
        let others: [Color; 2] = colors(rng);
        map[usize::from(color)] = if others[0] == color { others[1] } else { others[0] };
    }
    map
}
