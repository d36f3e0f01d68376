//! The paper's augmenters: 23 ways of changing all pairs of a task, for training only.
//!
//! Six are symmetries; the others enlarge or shift the grids. Most have no inverse that a prediction could be
//! mapped back with, so an [`Augmenter`] is no [`View`](crate::arc::View) and cannot be made one: it acts on
//! demonstrations, whose outputs are known, and nowhere else.
//!
//! Source: Akyürek et al. 2024, arXiv 2411.07279, and its published code (the paper's Table 5 leaves out the
//! three repetitions).

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::arc::{Dihedral, Example, Grid, MAX_SIDE};

/// One of the paper's augmenters, applied alike to inputs and outputs of all pairs.
///
/// "Rows" means along the vertical axis (`Flip(0)`, `Reflect(0)`, `Repeat(0)` in the published code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmenter {
    /// A quarter turn counter-clockwise.
    Rotate90,
    /// A quarter turn clockwise.
    Rotate270,
    /// A half turn.
    Rotate180,
    /// Up ↔ down.
    FlipRows,
    /// Left ↔ right.
    FlipColumns,
    /// The mirror image above the grid.
    ReflectRowsReversed,
    /// The mirror image left of the grid.
    ReflectColumnsReversed,
    /// The mirror image below the grid.
    ReflectRows,
    /// The mirror image right of the grid.
    ReflectColumns,
    /// A cyclic shift down and right by 0 to 3 cells, one for all inputs and another for all outputs.
    Translate,
    /// Reflection in the main diagonal.
    Transpose,
    /// Every cell becomes 2×2 cells.
    Scale,
    /// Every row twice.
    ScaleHeight,
    /// Every column twice.
    ScaleWidth,
    /// [`Augmenter::Rotate90`], then [`Augmenter::Scale`].
    Rotate90Scale,
    /// [`Augmenter::Rotate270`], then [`Augmenter::Scale`].
    Rotate270Scale,
    /// [`Augmenter::Rotate180`], then [`Augmenter::Scale`].
    Rotate180Scale,
    /// [`Augmenter::FlipRows`], then [`Augmenter::Scale`].
    FlipRowsScale,
    /// [`Augmenter::FlipColumns`], then [`Augmenter::Scale`].
    FlipColumnsScale,
    /// [`Augmenter::Transpose`], then [`Augmenter::Scale`].
    TransposeScale,
    /// The grid twice, one below the other.
    RepeatRows,
    /// The grid twice, side by side.
    RepeatColumns,
    /// The grid four times, 2×2.
    RepeatBoth,
}

/// What is done to a grid after the symmetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    /// Mirror image appended along (rows, columns), or put first if `reversed`.
    Reflect {
        rows: bool,
        reversed: bool,
    },
    Translate,
    /// Each cell becomes so many rows and columns.
    Scale(usize, usize),
    /// So many copies down and across.
    Repeat(usize, usize),
}

impl Augmenter {
    /// All 23, in the order of the published code: 11 basic, 3 sizes, 6 chains, 3 repetitions.
    pub const ALL: [Augmenter; 23] = {
        use Augmenter::*;
        [
            Rotate90,
            Rotate270,
            Rotate180,
            FlipRows,
            FlipColumns,
            ReflectRowsReversed,
            ReflectColumnsReversed,
            ReflectRows,
            ReflectColumns,
            Translate,
            Transpose,
            Scale,
            ScaleHeight,
            ScaleWidth,
            Rotate90Scale,
            Rotate270Scale,
            Rotate180Scale,
            FlipRowsScale,
            FlipColumnsScale,
            TransposeScale,
            RepeatRows,
            RepeatColumns,
            RepeatBoth,
        ]
    };

    /// The name that recipes use.
    pub fn name(self) -> &'static str {
        self.definition().0
    }

    /// The symmetry that this augmenter is, if it is nothing more.
    pub fn dihedral(self) -> Option<Dihedral> {
        let (_, dihedral, change) = self.definition();
        (change == Change::Nothing).then_some(dihedral)
    }

    /// The augmented pairs, or `None` if a grid would exceed 30×30.
    ///
    /// Only [`Augmenter::Translate`] draws from `rng`: one shift for all inputs, then one for all outputs,
    /// each below 4 and below the smallest side it acts on.
    pub fn apply(self, pairs: &[Example], rng: &mut impl Rng) -> Option<Vec<Example>> {
        let (_, dihedral, change) = self.definition();
        let inputs = shift(pairs.iter().map(|e| &e.input), change, rng);
        let outputs = shift(pairs.iter().map(|e| &e.output), change, rng);
        let augmented = |grid: &Grid, shift| apply_change(&dihedral.apply(grid), change, shift);
        pairs
            .iter()
            .map(|e| {
                let input = augmented(&e.input, inputs)?;
                let output = augmented(&e.output, outputs)?;
                Some(Example { input, output })
            })
            .collect()
    }

    /// Name, symmetry, and what follows the symmetry.
    fn definition(self) -> (&'static str, Dihedral, Change) {
        use Dihedral as D;
        const DOUBLE: Change = Change::Scale(2, 2);
        let reflect = |rows, reversed| Change::Reflect { rows, reversed };
        match self {
            Augmenter::Rotate90 => ("rotate90", D::Rotate90, Change::Nothing),
            Augmenter::Rotate270 => ("rotate270", D::Rotate270, Change::Nothing),
            Augmenter::Rotate180 => ("rotate180", D::Rotate180, Change::Nothing),
            Augmenter::FlipRows => ("flip-rows", D::FlipRows, Change::Nothing),
            Augmenter::FlipColumns => ("flip-columns", D::FlipColumns, Change::Nothing),
            Augmenter::ReflectRowsReversed => {
                ("reflect-rows-reversed", D::Identity, reflect(true, true))
            }
            Augmenter::ReflectColumnsReversed => {
                ("reflect-columns-reversed", D::Identity, reflect(false, true))
            }
            Augmenter::ReflectRows => ("reflect-rows", D::Identity, reflect(true, false)),
            Augmenter::ReflectColumns => ("reflect-columns", D::Identity, reflect(false, false)),
            Augmenter::Translate => ("translate", D::Identity, Change::Translate),
            Augmenter::Transpose => ("transpose", D::Transpose, Change::Nothing),
            Augmenter::Scale => ("scale", D::Identity, DOUBLE),
            Augmenter::ScaleHeight => ("scale-height", D::Identity, Change::Scale(2, 1)),
            Augmenter::ScaleWidth => ("scale-width", D::Identity, Change::Scale(1, 2)),
            Augmenter::Rotate90Scale => ("rotate90-scale", D::Rotate90, DOUBLE),
            Augmenter::Rotate270Scale => ("rotate270-scale", D::Rotate270, DOUBLE),
            Augmenter::Rotate180Scale => ("rotate180-scale", D::Rotate180, DOUBLE),
            Augmenter::FlipRowsScale => ("flip-rows-scale", D::FlipRows, DOUBLE),
            Augmenter::FlipColumnsScale => ("flip-columns-scale", D::FlipColumns, DOUBLE),
            Augmenter::TransposeScale => ("transpose-scale", D::Transpose, DOUBLE),
            Augmenter::RepeatRows => ("repeat-rows", D::Identity, Change::Repeat(2, 1)),
            Augmenter::RepeatColumns => ("repeat-columns", D::Identity, Change::Repeat(1, 2)),
            Augmenter::RepeatBoth => ("repeat-both", D::Identity, Change::Repeat(2, 2)),
        }
    }
}

/// How far the grids move down and right; nothing is drawn where nothing moves.
fn shift<'a>(
    grids: impl Iterator<Item = &'a Grid>,
    change: Change,
    rng: &mut impl Rng,
) -> (usize, usize) {
    if change != Change::Translate {
        return (0, 0);
    }
    let smallest = grids.map(Grid::shape).reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)));
    let (height, width) = smallest.unwrap_or((1, 1));
    (rng.random_range(0..height.min(4)), rng.random_range(0..width.min(4)))
}

fn apply_change(grid: &Grid, change: Change, (down, right): (usize, usize)) -> Option<Grid> {
    let (h, w) = grid.shape();
    match change {
        Change::Nothing => Some(grid.clone()),
        Change::Reflect { rows: true, reversed } => build(2 * h, w, |r, c| {
            let first = r < h;
            grid.get(if first != reversed { r % h } else { h - 1 - r % h }, c)
        }),
        Change::Reflect { rows: false, reversed } => build(h, 2 * w, |r, c| {
            let first = c < w;
            grid.get(r, if first != reversed { c % w } else { w - 1 - c % w })
        }),
        Change::Translate => build(h, w, |r, c| grid.get((r + h - down) % h, (c + w - right) % w)),
        Change::Scale(n, m) => build(n * h, m * w, |r, c| grid.get(r / n, c / m)),
        Change::Repeat(n, m) => build(n * h, m * w, |r, c| grid.get(r % h, c % w)),
    }
}

/// A grid of that size, if it is a legal one.
fn build(height: usize, width: usize, color: impl Fn(usize, usize) -> u8) -> Option<Grid> {
    (height <= MAX_SIDE && width <= MAX_SIDE).then(|| Grid::from_fn(height, width, color))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::arc::strategies;

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    fn text(grid: &Grid) -> String {
        format!("{grid:?}")
    }

    #[test]
    fn each_augmenter_changes_inputs_and_outputs_as_its_name_says() {
        let pair = Example {
            input: Grid::from_rows(&[[1, 2], [3, 4]]).unwrap(),
            output: Grid::from_rows(&[[5, 6]]).unwrap(),
        };
        let check = |augmenter: Augmenter, input: &str, output: &str| {
            let got = augmenter.apply(std::slice::from_ref(&pair), &mut rng(0)).unwrap();
            assert_eq!(text(&got[0].input), input, "{augmenter:?}");
            assert_eq!(text(&got[0].output), output, "{augmenter:?}");
        };
        check(Augmenter::Rotate90, "24/13", "6/5");
        check(Augmenter::Rotate270, "31/42", "5/6");
        check(Augmenter::Rotate180, "43/21", "65");
        check(Augmenter::FlipRows, "34/12", "56");
        check(Augmenter::FlipColumns, "21/43", "65");
        check(Augmenter::ReflectRowsReversed, "34/12/12/34", "56/56");
        check(Augmenter::ReflectColumnsReversed, "2112/4334", "6556");
        check(Augmenter::ReflectRows, "12/34/34/12", "56/56");
        check(Augmenter::ReflectColumns, "1221/3443", "5665");
        check(Augmenter::Transpose, "13/24", "5/6");
        check(Augmenter::Scale, "1122/1122/3344/3344", "5566/5566");
        check(Augmenter::ScaleHeight, "12/12/34/34", "56/56");
        check(Augmenter::ScaleWidth, "1122/3344", "5566");
        check(Augmenter::Rotate90Scale, "2244/2244/1133/1133", "66/66/55/55");
        check(Augmenter::Rotate270Scale, "3311/3311/4422/4422", "55/55/66/66");
        check(Augmenter::Rotate180Scale, "4433/4433/2211/2211", "6655/6655");
        check(Augmenter::FlipRowsScale, "3344/3344/1122/1122", "5566/5566");
        check(Augmenter::FlipColumnsScale, "2211/2211/4433/4433", "6655/6655");
        check(Augmenter::TransposeScale, "1133/1133/2244/2244", "55/55/66/66");
        check(Augmenter::RepeatRows, "12/34/12/34", "56/56");
        check(Augmenter::RepeatColumns, "1212/3434", "5656");
        check(Augmenter::RepeatBoth, "1212/3434/1212/3434", "5656/5656");
    }

    #[test]
    fn names_are_the_ones_of_recipes_and_none_repeats() {
        for augmenter in Augmenter::ALL {
            let json = serde_json::to_string(&augmenter).unwrap();
            assert_eq!(json, format!("\"{}\"", augmenter.name()));
        }
        let names: BTreeSet<_> = Augmenter::ALL.into_iter().map(Augmenter::name).collect();
        assert_eq!(names.len(), 23);
    }

    #[test]
    fn exactly_the_six_pure_symmetries_have_a_frame() {
        let pure: Vec<_> = Augmenter::ALL.into_iter().filter_map(Augmenter::dihedral).collect();
        use Dihedral::*;
        assert_eq!(pure, [Rotate90, Rotate270, Rotate180, FlipRows, FlipColumns, Transpose]);
    }

    /// A grid whose cells tell where they stood.
    fn numbered(height: usize, width: usize) -> Grid {
        Grid::from_fn(height, width, |r, c| ((r * 3 + c) % 10) as u8)
    }

    fn rolled(grid: &Grid, down: usize, right: usize) -> Grid {
        apply_change(grid, Change::Translate, (down, right)).unwrap()
    }

    #[test]
    fn a_translation_rolls_down_and_right() {
        let grid = Grid::from_rows(&[[1, 2, 3], [4, 5, 6]]).unwrap();
        assert_eq!(text(&rolled(&grid, 1, 0)), "456/123");
        assert_eq!(text(&rolled(&grid, 0, 1)), "312/645");
    }

    #[test]
    fn a_translation_shifts_all_inputs_alike_and_all_outputs_alike() {
        let pairs = [(5, 6), (7, 5)]
            .map(|(h, w)| Example { input: numbered(h, w), output: numbered(w, h) })
            .to_vec();
        let mut shifts = BTreeSet::new();
        for seed in 0..300 {
            let got = Augmenter::Translate.apply(&pairs, &mut rng(seed)).unwrap();
            let find = |before: &Grid, after: &Grid| {
                let mut at = (0..16).map(|i| (i / 4, i % 4));
                at.find(|&(d, r)| rolled(before, d, r) == *after).expect("a shift below 4")
            };
            let input = find(&pairs[0].input, &got[0].input);
            let output = find(&pairs[0].output, &got[0].output);
            assert_eq!(rolled(&pairs[1].input, input.0, input.1), got[1].input);
            assert_eq!(rolled(&pairs[1].output, output.0, output.1), got[1].output);
            shifts.insert((input, output));
        }
        assert!(shifts.iter().any(|(input, output)| input != output));
        let inputs: BTreeSet<_> = shifts.iter().map(|s| s.0).collect();
        assert_eq!(inputs.len(), 16, "every shift from 0 to 3 in both directions occurs");
    }

    proptest! {
        #[test]
        fn too_large_grids_are_none_and_others_are_changed_alike(
            pairs in prop::collection::vec(strategies::example(30), 1..4),
            augmenter in prop::sample::select(Augmenter::ALL.to_vec()),
            seed in any::<u64>(),
        ) {
            let (_, dihedral, change) = augmenter.definition();
            let (n, m) = match change {
                Change::Nothing | Change::Translate => (1, 1),
                Change::Reflect { rows: true, .. } => (2, 1),
                Change::Reflect { rows: false, .. } => (1, 2),
                Change::Scale(n, m) | Change::Repeat(n, m) => (n, m),
            };
            let expected = |grid: &Grid| {
                let (height, width) = dihedral.apply_shape(grid.shape());
                (n * height, m * width)
            };
            let grids = pairs.iter().flat_map(|e| [&e.input, &e.output]);
            let fits = grids.map(expected).all(|(h, w)| h <= MAX_SIDE && w <= MAX_SIDE);
            let got = augmenter.apply(&pairs, &mut rng(seed));
            prop_assert_eq!(got.is_some(), fits);
            for (before, after) in pairs.iter().zip(got.iter().flatten()) {
                prop_assert_eq!(after.input.shape(), expected(&before.input));
                prop_assert_eq!(after.output.shape(), expected(&before.output));
                prop_assert_eq!(after.input.palette(), before.input.palette());
            }
        }
    }
}
