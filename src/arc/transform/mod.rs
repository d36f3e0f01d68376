//! The invertible transforms: dihedral group of the square, color permutation, example order.
//!
//! Each is plain data with an exact inverse, and composes with its like by `then`. Transforms without an
//! inverse live in [`crate::dataset`], typed train-only, so that they cannot reach inference.

mod colors;
mod dihedral;
mod view;

pub use colors::{ColorPermutation, NotAPermutation};
pub use dihedral::Dihedral;
pub use view::{NotAnOrder, View};

/// Random values for property tests, here and in later stages.
#[cfg(test)]
pub(crate) mod strategies {
    use proptest::prelude::*;

    use super::{ColorPermutation, Dihedral, View};
    use crate::arc::{Color, Example, Grid, N_COLORS, Task, Test};

    /// A grid with sides up to `max_side`.
    pub(crate) fn grid(max_side: usize) -> impl Strategy<Value = Grid> {
        (1..=max_side, 1..=max_side).prop_flat_map(|(height, width)| {
            prop::collection::vec(0..N_COLORS as Color, height * width)
                .prop_map(move |cells| Grid::from_cells(height, width, cells).unwrap())
        })
    }

    /// An example with sides up to `max_side`.
    pub(crate) fn example(max_side: usize) -> impl Strategy<Value = Example> {
        (grid(max_side), grid(max_side)).prop_map(|(input, output)| Example { input, output })
    }

    /// A task with `n_examples` demonstrations, a test with an answer and one without.
    pub(crate) fn task(n_examples: usize, max_side: usize) -> impl Strategy<Value = Task> {
        let examples = prop::collection::vec(example(max_side), n_examples);
        (examples, example(max_side), grid(max_side)).prop_map(|(examples, test, open)| Task {
            id: "random".into(),
            examples,
            tests: vec![
                Test { input: test.input, output: Some(test.output) },
                Test { input: open, output: None },
            ],
        })
    }

    /// Any of the eight symmetries.
    pub(crate) fn dihedral() -> impl Strategy<Value = Dihedral> {
        prop::sample::select(Dihedral::ALL.to_vec())
    }

    /// Any permutation of the ten colors.
    pub(crate) fn colors() -> impl Strategy<Value = ColorPermutation> {
        Just(*ColorPermutation::IDENTITY.table()).prop_shuffle().prop_map(|table| {
            ColorPermutation::new(table).expect("a shuffled identity is a permutation")
        })
    }

    /// A view of a task with `n_examples` demonstrations; one in four leaves their order alone.
    pub(crate) fn view(n_examples: usize) -> impl Strategy<Value = View> {
        let shuffled = Just((0..n_examples).collect::<Vec<_>>()).prop_shuffle();
        let order = prop_oneof![1 => Just(Vec::new()), 3 => shuffled];
        (dihedral(), colors(), order).prop_map(|(dihedral, colors, order)| View {
            dihedral,
            colors,
            order,
        })
    }
}
