//! The invertible transforms: dihedral group of the square, color permutation, example order.
//!
//! Each is plain data with an exact inverse. Transforms without an inverse live in
//! [`crate::dataset`], typed train-only, so that they cannot reach inference.
//! A [`View`] is one composed choice of the three, under which a task is shown to the model.

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{Color, Example, Grid, N_COLORS, Task, Test};

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

/// A bijection of the ten colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "[Color; N_COLORS]", into = "[Color; N_COLORS]")]
pub struct ColorPermutation([Color; N_COLORS]);

/// A table of colors that is not a bijection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a permutation of the colors 0 to 9")]
pub struct NotAPermutation(pub [Color; N_COLORS]);

impl ColorPermutation {
    /// The permutation that changes nothing.
    pub const IDENTITY: ColorPermutation = ColorPermutation([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

    /// Takes `map[old] = new`.
    ///
    /// # Errors
    /// [`NotAPermutation`] if two colors would merge or a value is above 9.
    pub fn new(map: [Color; N_COLORS]) -> Result<Self, NotAPermutation> {
        let mut seen = [false; N_COLORS];
        for &c in &map {
            match seen.get_mut(usize::from(c)) {
                Some(slot) if !*slot => *slot = true,
                _ => return Err(NotAPermutation(map)),
            }
        }
        Ok(Self(map))
    }

    /// A uniformly random permutation of all ten colors.
    pub fn random(rng: &mut impl Rng) -> Self {
        let mut map = Self::IDENTITY.0;
        map.shuffle(rng);
        Self(map)
    }

    /// A uniformly random permutation that keeps 0 in its place.
    pub fn random_keeping_zero(rng: &mut impl Rng) -> Self {
        let mut map = Self::IDENTITY.0;
        map[1..].shuffle(rng);
        Self(map)
    }

    /// The new color of `color`.
    pub fn map(&self, color: Color) -> Color {
        self.0[usize::from(color)]
    }

    /// The whole table, `table[old] = new`.
    pub fn table(&self) -> &[Color; N_COLORS] {
        &self.0
    }

    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Self {
        let mut map = [0; N_COLORS];
        for (old, &new) in self.0.iter().enumerate() {
            map[usize::from(new)] = old as Color;
        }
        Self(map)
    }

    /// The recolored grid.
    pub fn apply(&self, grid: &Grid) -> Grid {
        Grid::from_fn(grid.height(), grid.width(), |r, c| self.map(grid.get(r, c)))
    }
}

impl TryFrom<[Color; N_COLORS]> for ColorPermutation {
    type Error = NotAPermutation;
    fn try_from(map: [Color; N_COLORS]) -> Result<Self, NotAPermutation> {
        Self::new(map)
    }
}

impl From<ColorPermutation> for [Color; N_COLORS] {
    fn from(p: ColorPermutation) -> Self {
        p.0
    }
}

/// One way of showing a task: a symmetry, a recoloring and an order of the demonstrations.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct View {
    /// Applied to every grid.
    pub dihedral: Dihedral,
    /// Applied to every grid.
    pub colors: ColorPermutation,
    /// `order[new position] = old position`; empty means unchanged.
    pub order: Vec<usize>,
}

impl View {
    /// The task as it is.
    pub const IDENTITY: View = View {
        dihedral: Dihedral::Identity,
        colors: ColorPermutation::IDENTITY,
        order: Vec::new(),
    };

    /// A grid as this view shows it.
    pub fn apply(&self, grid: &Grid) -> Grid {
        self.colors.apply(&self.dihedral.apply(grid))
    }

    /// A grid predicted under this view, back in the task's own frame.
    pub fn invert(&self, grid: &Grid) -> Grid {
        self.colors.inverse().apply(&self.dihedral.inverse().apply(grid))
    }

    /// An example as this view shows it.
    pub fn apply_example(&self, example: &Example) -> Example {
        Example { input: self.apply(&example.input), output: self.apply(&example.output) }
    }

    /// The whole task as this view shows it.
    ///
    /// # Panics
    /// If `order` is neither empty nor a permutation of the examples.
    pub fn apply_task(&self, task: &Task) -> Task {
        let shown = |i: usize| self.apply_example(&task.examples[i]);
        let examples = if self.order.is_empty() {
            (0..task.examples.len()).map(shown).collect()
        } else {
            assert_eq!(self.order.len(), task.examples.len(), "the order names every example once");
            self.order.iter().map(|&i| shown(i)).collect()
        };
        let tests = task.tests.iter().map(|t| Test {
            input: self.apply(&t.input),
            output: t.output.as_ref().map(|g| self.apply(g)),
        });
        Task { id: task.id.clone(), examples, tests: tests.collect() }
    }
}
