//! The eight symmetries of the square.

use serde::{Deserialize, Serialize};

use crate::arc::Grid;

/// A symmetry of the square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dihedral {
    /// No change.
    Identity,
    /// A quarter turn counter-clockwise.
    Rotate90,
    /// A half turn.
    Rotate180,
    /// A quarter turn clockwise.
    Rotate270,
    /// Rows in reverse order (up ↔ down).
    FlipRows,
    /// Columns in reverse order (left ↔ right).
    FlipColumns,
    /// Reflection in the main diagonal.
    Transpose,
    /// Reflection in the other diagonal.
    AntiTranspose,
}

impl Dihedral {
    /// All eight, identity first.
    pub const ALL: [Dihedral; 8] = [
        Dihedral::Identity,
        Dihedral::Rotate90,
        Dihedral::Rotate180,
        Dihedral::Rotate270,
        Dihedral::FlipRows,
        Dihedral::FlipColumns,
        Dihedral::Transpose,
        Dihedral::AntiTranspose,
    ];

    /// Position in [`Dihedral::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The symmetry that undoes this one.
    pub fn inverse(self) -> Dihedral {
        match self {
            Dihedral::Rotate90 => Dihedral::Rotate270,
            Dihedral::Rotate270 => Dihedral::Rotate90,
            other => other,
        }
    }

    /// This symmetry followed by `next`, as one symmetry.
    pub fn then(self, next: Dihedral) -> Dihedral {
        let (turns, mirrored) = self.turns();
        let (next_turns, next_mirrored) = next.turns();
        // A transposition after a turn is the opposite turn after the transposition.
        let turns = if next_mirrored { 4 - turns } else { turns };
        Dihedral::from_turns(next_turns + turns, mirrored != next_mirrored)
    }

    /// The symmetry as (transposed first?, then so many quarter turns counter-clockwise).
    fn turns(self) -> (usize, bool) {
        match self {
            Dihedral::Identity => (0, false),
            Dihedral::Rotate90 => (1, false),
            Dihedral::Rotate180 => (2, false),
            Dihedral::Rotate270 => (3, false),
            Dihedral::Transpose => (0, true),
            Dihedral::FlipRows => (1, true),
            Dihedral::AntiTranspose => (2, true),
            Dihedral::FlipColumns => (3, true),
        }
    }

    /// The opposite of [`Dihedral::turns`]; `turns` counts modulo 4.
    fn from_turns(turns: usize, mirrored: bool) -> Dihedral {
        let found = Dihedral::ALL.into_iter().find(|d| d.turns() == (turns % 4, mirrored));
        found.expect("the eight symmetries are all pairs of four turns and a transposition")
    }

    /// True if height and width change places.
    pub fn swaps_axes(self) -> bool {
        use Dihedral::{AntiTranspose, Rotate90, Rotate270, Transpose};
        matches!(self, Rotate90 | Rotate270 | Transpose | AntiTranspose)
    }

    /// The shape of a transformed grid of shape `(height, width)`.
    pub fn apply_shape(self, (height, width): (usize, usize)) -> (usize, usize) {
        if self.swaps_axes() { (width, height) } else { (height, width) }
    }

    /// Where cell `(row, column)` of the *transformed* rectangle comes from, in an original of
    /// shape `(height, width)`.
    pub fn source(
        self,
        (height, width): (usize, usize),
        row: usize,
        column: usize,
    ) -> (usize, usize) {
        match self {
            Dihedral::Identity => (row, column),
            Dihedral::Rotate90 => (column, width - 1 - row),
            Dihedral::Rotate180 => (height - 1 - row, width - 1 - column),
            Dihedral::Rotate270 => (height - 1 - column, row),
            Dihedral::FlipRows => (height - 1 - row, column),
            Dihedral::FlipColumns => (row, width - 1 - column),
            Dihedral::Transpose => (column, row),
            Dihedral::AntiTranspose => (height - 1 - column, width - 1 - row),
        }
    }

    /// The transformed grid.
    pub fn apply(self, grid: &Grid) -> Grid {
        let (height, width) = self.apply_shape(grid.shape());
        Grid::from_fn(height, width, |r, c| {
            let (row, column) = self.source(grid.shape(), r, c);
            grid.get(row, column)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::strategies;

    fn rows(d: Dihedral) -> Vec<Vec<u8>> {
        let grid = Grid::from_rows(&[[1, 2, 3], [4, 5, 6]]).unwrap();
        d.apply(&grid).rows().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn each_symmetry_moves_the_cells_as_its_name_says() {
        let check = |d, expected: &[&[u8]]| assert_eq!(rows(d), expected, "{d:?}");
        check(Dihedral::Identity, &[&[1, 2, 3], &[4, 5, 6]]);
        check(Dihedral::Rotate90, &[&[3, 6], &[2, 5], &[1, 4]]);
        check(Dihedral::Rotate180, &[&[6, 5, 4], &[3, 2, 1]]);
        check(Dihedral::Rotate270, &[&[4, 1], &[5, 2], &[6, 3]]);
        check(Dihedral::FlipRows, &[&[4, 5, 6], &[1, 2, 3]]);
        check(Dihedral::FlipColumns, &[&[3, 2, 1], &[6, 5, 4]]);
        check(Dihedral::Transpose, &[&[1, 4], &[2, 5], &[3, 6]]);
        check(Dihedral::AntiTranspose, &[&[6, 3], &[5, 2], &[4, 1]]);
    }

    #[test]
    fn the_eight_symmetries_are_a_group() {
        for (i, a) in Dihedral::ALL.into_iter().enumerate() {
            assert_eq!(a.index(), i);
            assert_eq!(a.then(a.inverse()), Dihedral::Identity);
            assert_eq!(a.inverse().then(a), Dihedral::Identity);
            assert_eq!(a.then(Dihedral::Identity), a);
            assert_eq!(Dihedral::Identity.then(a), a);
            let row: std::collections::BTreeSet<_> =
                Dihedral::ALL.into_iter().map(|b| a.then(b)).collect();
            assert_eq!(row.len(), 8, "each row of the table holds every symmetry once");
            for b in Dihedral::ALL {
                for c in Dihedral::ALL {
                    assert_eq!(a.then(b).then(c), a.then(b.then(c)));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_inverse_gives_every_grid_back(
            grid in strategies::grid(30),
            d in strategies::dihedral(),
        ) {
            prop_assert_eq!(d.inverse().apply(&d.apply(&grid)), grid.clone());
            prop_assert_eq!(d.apply(&d.inverse().apply(&grid)), grid);
        }

        #[test]
        fn applying_a_composition_is_applying_one_after_the_other(
            grid in strategies::grid(12),
            a in strategies::dihedral(),
            b in strategies::dihedral(),
        ) {
            prop_assert_eq!(a.then(b).apply(&grid), b.apply(&a.apply(&grid)));
        }

        #[test]
        fn shape_and_source_say_what_apply_does(
            grid in strategies::grid(12),
            d in strategies::dihedral(),
        ) {
            let moved = d.apply(&grid);
            prop_assert_eq!(moved.shape(), d.apply_shape(grid.shape()));
            for r in 0..moved.height() {
                for c in 0..moved.width() {
                    let (row, column) = d.source(grid.shape(), r, c);
                    prop_assert_eq!(moved.get(r, c), grid.get(row, column));
                }
            }
        }
    }
}
