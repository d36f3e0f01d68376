//! One composed choice of symmetry, recoloring and order, under which a task is shown to the model.

use serde::{Deserialize, Serialize};

use super::{ColorPermutation, Dihedral};
use crate::arc::{Example, Grid, Task, Test};

/// One way of showing a task: a symmetry, a recoloring and an order of the demonstrations.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "UncheckedView")]
pub struct View {
    /// Applied to every grid.
    pub dihedral: Dihedral,
    /// Applied to every grid.
    pub colors: ColorPermutation,
    /// `order[new position] = old position`; empty means unchanged.
    pub order: Vec<usize>,
}

/// An order of demonstrations that leaves one out or repeats one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not name each demonstration once")]
pub struct NotAnOrder(pub Vec<usize>);

/// A view as it is written, before its order is checked.
#[derive(Deserialize)]
struct UncheckedView {
    dihedral: Dihedral,
    colors: ColorPermutation,
    order: Vec<usize>,
}

impl TryFrom<UncheckedView> for View {
    type Error = NotAnOrder;
    fn try_from(view: UncheckedView) -> Result<Self, NotAnOrder> {
        let UncheckedView { dihedral, colors, order } = view;
        if is_order(&order) { Ok(View { dihedral, colors, order }) } else { Err(NotAnOrder(order)) }
    }
}

/// True if `order` holds each of 0 to `order.len() - 1` once.
fn is_order(order: &[usize]) -> bool {
    let mut seen = vec![false; order.len()];
    order.iter().all(|&i| seen.get_mut(i).is_some_and(|slot| !std::mem::replace(slot, true)))
}

impl View {
    /// The task as it is.
    pub const IDENTITY: View = View {
        dihedral: Dihedral::Identity,
        colors: ColorPermutation::IDENTITY,
        order: Vec::new(),
    };

    /// The view that undoes this one.
    pub fn inverse(&self) -> View {
        let mut order = vec![0; self.order.len()];
        for (new, &old) in self.order.iter().enumerate() {
            order[old] = new;
        }
        View { dihedral: self.dihedral.inverse(), colors: self.colors.inverse(), order }
    }

    /// This view followed by `next`, as one view. An unchanged order comes out empty.
    ///
    /// # Panics
    /// If both orders say something, about different numbers of demonstrations.
    pub fn then(&self, next: &View) -> View {
        let mut order = match (self.order.is_empty(), next.order.is_empty()) {
            (_, true) => self.order.clone(),
            (true, _) => next.order.clone(),
            _ => {
                assert_eq!(self.order.len(), next.order.len(), "views of one task compose");
                next.order.iter().map(|&i| self.order[i]).collect()
            }
        };
        if order.iter().enumerate().all(|(new, &old)| new == old) {
            order.clear();
        }
        View {
            dihedral: self.dihedral.then(next.dihedral),
            colors: self.colors.then(&next.colors),
            order,
        }
    }

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
            assert!(
                self.order.len() == task.examples.len() && is_order(&self.order),
                "the order names every example once"
            );
            self.order.iter().map(|&i| shown(i)).collect()
        };
        let tests = task.tests.iter().map(|t| Test {
            input: self.apply(&t.input),
            output: t.output.as_ref().map(|g| self.apply(g)),
        });
        Task { id: task.id.clone(), examples, tests: tests.collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::strategies;

    proptest! {
        #[test]
        fn a_prediction_comes_back_exactly(
            grid in strategies::grid(30),
            view in strategies::view(4),
        ) {
            prop_assert_eq!(view.invert(&view.apply(&grid)), grid.clone());
            prop_assert_eq!(view.apply(&view.invert(&grid)), grid.clone());
            prop_assert_eq!(view.inverse().apply(&grid), view.invert(&grid));
        }

        #[test]
        fn the_inverse_gives_every_task_back(
            task in strategies::task(4, 8),
            view in strategies::view(4),
        ) {
            prop_assert_eq!(view.inverse().apply_task(&view.apply_task(&task)), task);
            prop_assert_eq!(view.then(&view.inverse()), View::IDENTITY);
            prop_assert_eq!(view.inverse().then(&view), View::IDENTITY);
        }

        #[test]
        fn applying_a_composition_is_applying_one_after_the_other(
            task in strategies::task(3, 6),
            a in strategies::view(3),
            b in strategies::view(3),
        ) {
            prop_assert_eq!(a.then(&b).apply_task(&task), b.apply_task(&a.apply_task(&task)));
        }

        #[test]
        fn json_gives_the_view_back(view in strategies::view(5)) {
            let text = serde_json::to_string(&view).unwrap();
            prop_assert_eq!(serde_json::from_str::<View>(&text).unwrap(), view);
        }
    }

    #[test]
    fn a_view_shows_input_output_and_test_alike() {
        let grid = |rows: &[[u8; 2]]| Grid::from_rows(rows).unwrap();
        let example = Example { input: grid(&[[1, 2]]), output: grid(&[[3, 4]]) };
        let task = Task {
            id: "t".into(),
            examples: vec![example.clone(), Example { input: grid(&[[5, 6]]), ..example }],
            tests: vec![Test { input: grid(&[[7, 8]]), output: Some(grid(&[[9, 0]])) }],
        };
        let view = View {
            dihedral: Dihedral::FlipColumns,
            colors: ColorPermutation::new([1, 0, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap(),
            order: vec![1, 0],
        };
        let shown = view.apply_task(&task);
        assert_eq!(shown.examples[0].input, grid(&[[6, 5]]));
        assert_eq!(shown.examples[1].input, grid(&[[2, 0]]));
        assert_eq!(shown.examples[1].output, grid(&[[4, 3]]));
        assert_eq!(shown.tests[0].input, grid(&[[8, 7]]));
        assert_eq!(shown.tests[0].output, Some(grid(&[[1, 9]])));
    }

    #[test]
    fn orders_that_repeat_or_leave_out_are_refused() {
        let check = |order: &str| {
            let text = format!(
                r#"{{"dihedral":"identity","colors":[0,1,2,3,4,5,6,7,8,9],"order":{order}}}"#
            );
            assert!(serde_json::from_str::<View>(&text).is_err(), "{order}");
        };
        check("[0,0]");
        check("[1]");
        check("[0,2]");
    }
}
