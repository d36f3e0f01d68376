//! How far two pairs are apart, and what a likeness is worth as evidence.

use std::sync::LazyLock;

use crate::arc::{Color, Dihedral, Grid, MAX_SIDE, N_COLORS};

/// The number of cells of each color, most first: the same for a grid turned and recolored in any way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts([usize; N_COLORS]);

impl Counts {
    pub(super) fn of(grid: &Grid) -> Self {
        let mut counts = [0; N_COLORS];
        for &color in grid.cells() {
            counts[usize::from(color)] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        Self(counts)
    }

    /// Cells that have not the commonest color: what is drawn in the grid.
    pub(super) fn drawn(&self) -> usize {
        self.0[1..].iter().sum()
    }

    /// At least so many cells of two grids of one shape differ, however these are turned and recolored.
    pub(super) fn apart(&self, other: &Self) -> usize {
        self.0.iter().zip(&other.0).map(|(a, b)| a.abs_diff(*b)).sum::<usize>() / 2
    }

    /// How much a grid says by the places of its colors: the logarithm, to base 2, of the number of grids that
    /// have as many cells of each color.
    pub(super) fn bits(&self) -> f64 {
        let cells = self.0.iter().sum();
        log2_factorial(cells) - self.0.iter().map(|&n| log2_factorial(n)).sum::<f64>()
    }
}

/// The logarithm, to base 2, of the number of grids that differ from one of `cells` cells in `differing` of
/// them: what a likeness says less than an identity.
pub(super) fn slack_bits(cells: usize, differing: usize) -> f64 {
    let places =
        log2_factorial(cells) - log2_factorial(differing) - log2_factorial(cells - differing);
    places + differing as f64 * ((N_COLORS - 1) as f64).log2()
}

fn log2_factorial(n: usize) -> f64 {
    static TABLE: LazyLock<Vec<f64>> = LazyLock::new(|| {
        let sums = (1..=MAX_SIDE * MAX_SIDE).scan(0.0, |sum, n| {
            *sum += (n as f64).log2();
            Some(*sum)
        });
        std::iter::once(0.0).chain(sums).collect()
    });
    TABLE[n]
}

/// Cells in which two pairs (input, output) differ under the symmetry and the renaming of colors that bring
/// them closest: `[in the inputs, in the outputs]`, if neither is above what is allowed.
///
/// The renaming is found greedily, the most frequent correspondence first. With few differing cells that is the
/// best one; where it is not, too many cells are counted, never too few.
pub(super) fn difference(a: [&Grid; 2], b: [&Grid; 2], allowed: [usize; 2]) -> Option<[usize; 2]> {
    let under = |dihedral: Dihedral| {
        let turned = b.map(|grid| dihedral.apply(grid));
        let fits = a.iter().zip(&turned).all(|(a, b)| a.shape() == b.shape());
        let differing = fits.then(|| differing([(a[0], &turned[0]), (a[1], &turned[1])]))?;
        (differing[0] <= allowed[0] && differing[1] <= allowed[1]).then_some(differing)
    };
    Dihedral::ALL.into_iter().filter_map(under).min_by_key(|[input, output]| input + output)
}

/// How often each color of one grid stands where each color of another does.
type Correspondence = [[usize; N_COLORS]; N_COLORS];

fn differing(grids: [(&Grid, &Grid); 2]) -> [usize; 2] {
    let tables = grids.map(|(a, b)| {
        let mut table: Correspondence = [[0; N_COLORS]; N_COLORS];
        for (&a, &b) in a.cells().iter().zip(b.cells()) {
            table[usize::from(a)][usize::from(b)] += 1;
        }
        table
    });
    let names = renaming(&tables);
    let same = |table: &Correspondence| -> usize {
        table.iter().zip(names).map(|(row, name)| row[usize::from(name)]).sum()
    };
    [0, 1].map(|i| grids[i].0.cells().len() - same(&tables[i]))
}

/// For each color of the first grids the one that it is called in the second.
fn renaming(tables: &[Correspondence; 2]) -> [Color; N_COLORS] {
    let mut all: Vec<(usize, usize, usize)> = Vec::with_capacity(N_COLORS * N_COLORS);
    for a in 0..N_COLORS {
        all.extend((0..N_COLORS).map(|b| (tables[0][a][b] + tables[1][a][b], a, b)));
    }
    all.sort_unstable_by(|x, y| y.0.cmp(&x.0).then(x.cmp(y)));
    let (mut names, mut taken) = ([None; N_COLORS], [false; N_COLORS]);
    for (_, a, b) in all {
        if names[a].is_none() && !taken[b] {
            names[a] = Some(b as Color);
            taken[b] = true;
        }
    }
    names.map(|name| name.expect("ten names for ten colors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_count_the_grids_with_the_same_colors_and_the_grids_close_by() {
        let counts = |rows: &[[Color; 2]]| Counts::of(&Grid::from_rows(rows).unwrap());
        // Six places for two cells of four; 36 ways to change one of four cells.
        assert!((counts(&[[1, 2], [2, 1]]).bits() - 6f64.log2()).abs() < 1e-9);
        assert_eq!(counts(&[[3, 3], [3, 3]]).bits(), 0.0);
        assert!((slack_bits(4, 1) - 36f64.log2()).abs() < 1e-9);
        assert_eq!(slack_bits(900, 0), 0.0);
        assert_eq!(counts(&[[1, 2], [2, 2]]).drawn(), 1);
        assert_eq!(counts(&[[1, 2], [2, 2]]).apart(&counts(&[[5, 6], [5, 6]])), 1);
    }

    #[test]
    fn the_difference_is_that_of_the_closest_position_and_names() {
        let grid = |rows: &[[Color; 3]]| Grid::from_rows(rows).unwrap();
        let a = grid(&[[1, 1, 1], [2, 2, 2]]);
        // Turned, 1 called 4 and 2 called 1; then one cell changed.
        let b = grid(&[[4, 4, 4], [1, 1, 5]]);
        let b = Dihedral::Rotate90.apply(&b);
        assert_eq!(difference([&a, &a], [&b, &b], [1, 1]), Some([1, 1]));
        assert_eq!(difference([&a, &a], [&b, &b], [1, 0]), None);
        // Input and output are turned and recolored together.
        let upside_down = Dihedral::FlipRows.apply(&b);
        assert_eq!(difference([&a, &a], [&b, &upside_down], [0, 0]), None);
    }
}
