//! The views under which a test is predicted.

use std::collections::BTreeSet;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::ViewStop;
use crate::arc::{ColorPermutation, Dihedral, View};
use crate::rng;

/// How the recolorings of views are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewColors {
    /// Colors stay as they are.
    None,
    /// Uniform over the permutations that keep 0.
    KeepZero,
    /// Uniform over all permutations.
    Uniform,
}

/// Settings of [`sample_views`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewsConfig {
    /// Number of views, at least 1. Franzen et al. (arXiv 2505.07859) use 16.
    pub count: usize,
    /// The symmetries, taken in turn; empty means the identity alone.
    pub dihedrals: Vec<Dihedral>,
    /// Recoloring of the views after the first round of symmetries.
    pub colors: ViewColors,
    /// Shuffle the demonstrations in the views after the first round of symmetries.
    pub orders: bool,
    /// When predicting ends before all views are done.
    pub stop: ViewStop,
}

impl Default for ViewsConfig {
    fn default() -> Self {
        Self {
            count: 16,
            dihedrals: Dihedral::ALL.to_vec(),
            colors: ViewColors::Uniform,
            orders: true,
            stop: ViewStop::Never,
        }
    }
}

/// Draws made for one view before the views are taken to be exhausted.
const MAX_DRAWS: u64 = 64;

/// Distinct views of a task with `n_examples` demonstrations, the task as it is first.
///
/// The symmetries take turns, and their first round is neither recolored nor reordered. The views of a
/// smaller `count` are a prefix of those of a larger one, so that each prefix covers the symmetries as evenly
/// as its length allows. There are fewer than `count` where the settings allow no more.
pub fn sample_views(config: &ViewsConfig, n_examples: usize, seed: u64, task: &str) -> Vec<View> {
    let mut dihedrals = vec![Dihedral::Identity];
    for &dihedral in &config.dihedrals {
        if !dihedrals.contains(&dihedral) {
            dihedrals.push(dihedral);
        }
    }
    let mut seen = BTreeSet::new();
    let mut views = Vec::new();
    let mut turn = 0;
    // A symmetry that has run out of new views is passed over; none is left when a whole round fails.
    let mut failures = 0;
    while views.len() < config.count.max(1) && failures < dihedrals.len() {
        let dihedral = dihedrals[turn % dihedrals.len()];
        let view = if turn < dihedrals.len() {
            Some(View { dihedral, ..View::IDENTITY })
        } else {
            draw(config, dihedral, n_examples, |draw| {
                rng::stream(seed, task, "views", turn as u64 * MAX_DRAWS + draw)
            })
            .find(|view| !seen.contains(view))
        };
        turn += 1;
        match view {
            Some(view) => {
                failures = 0;
                seen.insert(view.clone());
                views.push(view);
            }
            None => failures += 1,
        }
    }
    views
}

/// Views under `dihedral`, one for each of so many random streams.
fn draw<R: rand::Rng>(
    config: &ViewsConfig,
    dihedral: Dihedral,
    n_examples: usize,
    stream: impl Fn(u64) -> R,
) -> impl Iterator<Item = View> {
    (0..MAX_DRAWS).map(move |index| {
        let mut rng = stream(index);
        let colors = match config.colors {
            ViewColors::None => ColorPermutation::IDENTITY,
            ViewColors::KeepZero => ColorPermutation::random_keeping_zero(&mut rng),
            ViewColors::Uniform => ColorPermutation::random(&mut rng),
        };
        let mut order: Vec<usize> = (0..n_examples).collect();
        if config.orders {
            order.shuffle(&mut rng);
        }
        if order.is_sorted() {
            order.clear(); // The one way to write the unchanged order.
        }
        View { dihedral, colors, order }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(config: &ViewsConfig, n_examples: usize) -> Vec<View> {
        sample_views(config, n_examples, 7, "task")
    }

    fn count(count: usize) -> ViewsConfig {
        ViewsConfig { count, ..Default::default() }
    }

    #[test]
    fn views_start_with_the_task_itself_and_go_round_the_symmetries() {
        let views = sample(&count(20), 3);
        assert_eq!(views.len(), 20);
        assert_eq!(views[0], View::IDENTITY);
        for (i, view) in views.iter().enumerate() {
            assert_eq!(view.dihedral, Dihedral::ALL[i % 8]);
            assert_eq!(i < 8, view.colors == ColorPermutation::IDENTITY && view.order.is_empty());
        }
    }

    #[test]
    fn fewer_views_are_a_prefix_of_more() {
        let many = sample(&count(64), 4);
        for n in [1, 5, 8, 30] {
            assert_eq!(sample(&count(n), 4), many[..n]);
        }
    }

    #[test]
    fn views_are_distinct_and_end_where_there_are_no_more() {
        let orders = ViewsConfig { colors: ViewColors::None, ..count(500) };
        for (n_examples, expected) in [(1, 8), (2, 16), (3, 48)] {
            let views = sample(&orders, n_examples);
            let distinct: BTreeSet<&View> = views.iter().collect();
            assert_eq!((views.len(), distinct.len()), (expected, expected));
        }
        let plain = ViewsConfig { colors: ViewColors::None, orders: false, ..count(500) };
        assert_eq!(sample(&plain, 3).len(), 8);
        let identity = ViewsConfig { dihedrals: Vec::new(), ..plain };
        assert_eq!(sample(&identity, 3), [View::IDENTITY]);
    }

    #[test]
    fn colors_are_drawn_as_configured_and_depend_on_seed_and_task() {
        let keeping = ViewsConfig { colors: ViewColors::KeepZero, ..count(40) };
        assert!(sample(&keeping, 3).iter().all(|v| v.colors.map(0) == 0));
        assert!(sample(&count(40), 3).iter().any(|v| v.colors.map(0) != 0));
        let views = sample(&count(9), 3);
        assert_ne!(views, sample_views(&count(9), 3, 8, "task"));
        assert_ne!(views, sample_views(&count(9), 3, 7, "other"));
    }
}
