//! Whether a model has seen what it is tested on: it carries a manifest, one 64-bit hash for each pair
//! that it may have been trained on. A pair and its seven turned or mirrored forms, in whatever colors, have the
//! same hash, because training shows them all.

use rayon::prelude::*;

use super::pair_hash;
use crate::arc::{Example, Task};

/// Hashes of training pairs. Two different pairs of a set of a million meet by chance about once in
/// 10⁷ sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainingPairs {
    /// In ascending order, each once.
    hashes: Vec<u64>,
}

impl TrainingPairs {
    /// The hashes of pairs.
    pub fn of(pairs: &[&Example]) -> Self {
        Self::from_hashes(pairs.par_iter().map(|pair| pair_hash(pair)).collect())
    }

    /// From hashes in any order.
    pub fn from_hashes(mut hashes: Vec<u64>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self { hashes }
    }

    /// The hashes, in ascending order.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// These and others.
    pub fn union(&self, other: &Self) -> Self {
        Self::from_hashes([&self.hashes[..], &other.hashes[..]].concat())
    }

    /// Whether the pair, turned and recolored in any way, is among them.
    pub fn contains(&self, pair: &Example) -> bool {
        self.hashes.binary_search(&pair_hash(pair)).is_ok()
    }

    /// Whether any pair of the task is among them: a demonstration, or a test whose answer is known.
    pub fn know(&self, task: &Task) -> bool {
        let mut answered = task.tests.iter().filter_map(|test| {
            Some(Example { input: test.input.clone(), output: test.output.clone()? })
        });
        task.examples.iter().any(|pair| self.contains(pair))
            || answered.any(|pair| self.contains(&pair))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::strategies::{example, view};
    use crate::arc::{Dihedral, Grid, Test};

    proptest! {
        #[test]
        fn a_pair_is_found_in_any_position_and_color(pair in example(6), view in view(1)) {
            let known = TrainingPairs::of(&[&pair]);
            prop_assert!(known.contains(&view.apply_example(&pair)));
        }
    }

    #[test]
    fn different_pairs_differ_and_answers_count() {
        let cell = |rows: &[&[u8]]| Grid::from_rows(rows).unwrap();
        let (a, b) = (cell(&[&[1, 2], &[1, 1]]), cell(&[&[1, 2], &[2, 1]]));
        let trained = Example { input: a.clone(), output: b.clone() };
        let known = TrainingPairs::of(&[&trained]);
        let other = Example { input: b.clone(), output: a.clone() };
        assert!(!known.contains(&other));
        // Turned alone, the input makes another pair.
        let turned = Example { input: Dihedral::FlipRows.apply(&a), output: b.clone() };
        assert!(!known.contains(&turned));
        let task = |answer: Option<Grid>| Task {
            id: "t".into(),
            examples: vec![other.clone()],
            tests: vec![Test { input: a.clone(), output: answer }],
        };
        assert!(known.know(&task(Some(b.clone()))));
        assert!(!known.know(&task(Some(a.clone()))));
        assert!(!known.know(&task(None)));
        assert_eq!(known.union(&TrainingPairs::of(&[&trained, &other])).hashes().len(), 2);
    }
}
