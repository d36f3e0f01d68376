//! Episodes by step number, as the fit asks for them.

use std::collections::BTreeSet;

use rand::Rng;
use rand::seq::SliceRandom;

use super::finite::Items;
use super::{DatasetConfig, Episode, Format, Frame, LossOn, Query, Sampling};
use crate::arc::{Dihedral, Example, N_COLORS, Task, View};
use crate::rng::stream;

/// Leave-one-out needs two demonstrations: one to hold out, one to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the task has one demonstration, so none can be held out; the end-to-end format is used instead"
)]
pub struct LeaveOneOutImpossible;

/// The episodes of one task in one format.
///
/// [`EpisodeSource::episode`] depends on the step number alone, not on what was drawn before.
///
/// # Order of operations
/// Streaming: a train-only augmenter (if any), then symmetry and recoloring, all on the pairs in the drawn
/// order. Finite: augment, hold out, add recolored and reordered copies, leave out the too large, then the
/// repeated, fill up with leave-two-out items or cut to size ([`Sampling::Finite`]).
#[derive(Debug, Clone)]
pub struct EpisodeSource {
    task: String,
    examples: Vec<Example>,
    config: DatasetConfig,
    format: Format,
    seed: u64,
    problem: Option<LeaveOneOutImpossible>,
    items: Option<Items>,
}

impl EpisodeSource {
    /// Prepares the episodes of a task; a finite dataset is built here.
    ///
    /// A demonstration that stands in the task twice counts once: it would be read while it is held out. With
    /// a single one, in-context falls back to end-to-end ([`EpisodeSource::problem`]).
    ///
    /// # Panics
    /// If the task has no demonstration.
    pub fn new(task: &Task, config: &DatasetConfig, format: Format, seed: u64) -> EpisodeSource {
        Self::fitting(task, config, format, seed, &|_| true)
    }

    /// As [`EpisodeSource::new`]; items of a finite dataset that `fits` refuses, each as an episode of its own, are left
    /// out as those with more than `max_cells` are, before the others are cut to size or filled up.
    ///
    /// # Panics
    /// If the task has no demonstration.
    pub fn fitting(
        task: &Task,
        config: &DatasetConfig,
        format: Format,
        seed: u64,
        fits: &dyn Fn(&Episode) -> bool,
    ) -> EpisodeSource {
        assert!(!task.examples.is_empty(), "a task has at least one demonstration");
        let mut seen = BTreeSet::new();
        let examples: Vec<_> = task.examples.iter().filter(|&e| seen.insert(e)).cloned().collect();
        let problem =
            (format == Format::Icl && examples.len() < 2).then_some(LeaveOneOutImpossible);
        let format = if problem.is_some() { Format::E2e } else { format };
        let items = (config.sampling == Sampling::Finite)
            .then(|| Items::build(&task.id, &examples, config, format, seed, fits));
        let (task, config) = (task.id.clone(), config.clone());
        EpisodeSource { task, examples, config, format, seed, problem, items }
    }

    /// The format of the episodes: the one asked for, unless there is a [`EpisodeSource::problem`].
    pub fn format(&self) -> Format {
        self.format
    }

    /// Why the in-context format that was asked for is not used.
    pub fn problem(&self) -> Option<LeaveOneOutImpossible> {
        self.problem
    }

    /// Steps after which a finite dataset is used up; `None` if it never is.
    pub fn steps(&self) -> Option<u64> {
        let items = self.items.as_ref().filter(|_| self.config.epochs > 0)?;
        Some(items.episodes_per_epoch() * self.config.epochs as u64)
    }

    /// The episode of step `step`, counted from 0 among the steps of this format.
    pub fn episode(&self, step: u64) -> Episode {
        match &self.items {
            Some(items) => items.episode(step, self.seed),
            None => self.draw(step),
        }
    }

    fn draw(&self, step: u64) -> Episode {
        let mut rng = stream(self.seed, &self.task, &stage("episode", self.format), step);
        let mut pairs = self.examples.clone();
        pairs.shuffle(&mut rng);
        let mut before = Some(Dihedral::Identity);
        if let Some((augmented, dihedral)) = self.augment(&pairs, &mut rng) {
            (pairs, before) = (augmented, dihedral);
        }
        let dihedral = self.draw_dihedral(step);
        let colors = self.config.draw_colors(&palette(&pairs), &mut rng);
        let view = View { dihedral, colors, order: Vec::new() };
        Episode {
            pairs: pairs.iter().map(|pair| view.apply_example(pair)).collect(),
            queries: self.queries(pairs.len()),
            frame: before.map(|before| Frame { dihedral: before.then(dihedral), colors }),
        }
    }

    /// The pairs under a train-only augmenter and the symmetry that it is, if the dice and the size let it.
    fn augment(
        &self,
        pairs: &[Example],
        rng: &mut impl Rng,
    ) -> Option<(Vec<Example>, Option<Dihedral>)> {
        if rng.random::<f64>() >= self.config.augment_probability {
            return None;
        }
        let usable: Vec<_> = super::usable_augmenters(&self.config, self.format).collect();
        if usable.is_empty() {
            return None;
        }
        let augmenter = usable[rng.random_range(0..usable.len())];
        Some((augmenter.apply(pairs, rng)?, augmenter.dihedral()))
    }

    /// The step's symmetry: uniformly random, but every eight steps have all eight.
    fn draw_dihedral(&self, step: u64) -> Dihedral {
        if !self.config.dihedrals {
            return Dihedral::Identity;
        }
        let mut block = Dihedral::ALL;
        let stage = stage("symmetries", self.format);
        block.shuffle(&mut stream(self.seed, &self.task, &stage, step / 8));
        block[(step % 8) as usize]
    }

    fn queries(&self, n_pairs: usize) -> Vec<Query> {
        let others = |target| (0..n_pairs).filter(|&i| i != target).collect();
        match (self.format, self.config.sampling) {
            (Format::E2e, _) => {
                (0..n_pairs).map(|target| Query { target, context: Vec::new() }).collect()
            }
            (Format::Icl, Sampling::Ordered) => {
                let order: Vec<usize> = (0..n_pairs - 1).collect();
                item_queries(n_pairs - 1, &order, self.config.loss_on)
            }
            (Format::Icl, _) => {
                let held_out = (0..n_pairs).map(|target| Query { target, context: others(target) });
                let mut queries: Vec<_> = held_out.collect();
                let order: Vec<usize> = (0..n_pairs).collect();
                // What precedes the last pair is all the others: that query is there already.
                queries.extend(preceding(&order[..n_pairs - 1], self.config.loss_on));
                queries
            }
        }
    }
}

/// The queries of one in-context item: the held-out pair, then the demonstrations that the loss counts.
pub(super) fn item_queries(target: usize, context: &[usize], loss_on: LossOn) -> Vec<Query> {
    debug_assert!(!context.contains(&target), "a target is never read");
    let mut queries = vec![Query { target, context: context.to_vec() }];
    queries.extend(preceding(context, loss_on));
    queries
}

/// Each demonstration from the k-th on, predicted from the ones before it.
fn preceding(order: &[usize], loss_on: LossOn) -> Vec<Query> {
    match loss_on {
        LossOn::TestOutput => Vec::new(),
        LossOn::OutputsFrom(k) => (k.max(1) - 1..order.len())
            .map(|j| Query { target: order[j], context: order[..j].to_vec() })
            .collect(),
    }
}

/// The colors that occur in some pairs.
pub(super) fn palette<'a>(pairs: impl IntoIterator<Item = &'a Example>) -> [bool; N_COLORS] {
    let mut used = [false; N_COLORS];
    for grid in pairs.into_iter().flat_map(|pair| [&pair.input, &pair.output]) {
        for (slot, here) in used.iter_mut().zip(grid.palette()) {
            *slot |= here;
        }
    }
    used
}

/// The name of a random stream that the two formats do not share.
pub(super) fn stage(what: &str, format: Format) -> String {
    let format = match format {
        Format::Icl => "icl",
        Format::E2e => "e2e",
    };
    format!("dataset/{what}/{format}")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_no_leak, originals, streaming, task};
    use super::super::{Augmenter, ColorSampling};
    use super::*;

    fn source(n: usize, config: &DatasetConfig, format: Format) -> EpisodeSource {
        EpisodeSource::new(&task(n), config, format, 0)
    }

    fn query(target: usize, context: &[usize]) -> Query {
        Query { target, context: context.to_vec() }
    }

    #[test]
    fn in_context_holds_out_each_pair_and_reads_all_the_others() {
        let source = source(3, &streaming(), Format::Icl);
        for step in 0..50 {
            let episode = source.episode(step);
            assert_eq!(episode.queries, [query(0, &[1, 2]), query(1, &[0, 2]), query(2, &[0, 1])]);
            assert_no_leak(&episode);
        }
    }

    #[test]
    fn end_to_end_predicts_each_pair_from_nothing_but_its_input() {
        let source = source(3, &streaming(), Format::E2e);
        let episode = source.episode(0);
        assert_eq!(episode.queries, [query(0, &[]), query(1, &[]), query(2, &[])]);
        assert!(episode.frame.is_some());
    }

    #[test]
    fn each_step_shows_every_demonstration_under_its_frame() {
        for format in [Format::Icl, Format::E2e] {
            let source = source(3, &streaming(), format);
            let mut orders = BTreeSet::new();
            for step in 0..100 {
                let order = originals(&source.episode(step), &task(3));
                orders.insert(order.clone());
                assert_eq!(BTreeSet::from_iter(order), BTreeSet::from([0, 1, 2]));
            }
            assert_eq!(orders.len(), 6, "every order occurs");
        }
    }

    #[test]
    fn every_eight_steps_show_all_symmetries() {
        let source = source(2, &streaming(), Format::Icl);
        let mut blocks = BTreeSet::new();
        for block in 0..20 {
            let frames = (8 * block..8 * block + 8).map(|step| source.episode(step).frame.unwrap());
            let dihedrals: Vec<_> = frames.map(|frame| frame.dihedral).collect();
            assert_eq!(BTreeSet::from_iter(dihedrals.clone()).len(), 8);
            blocks.insert(dihedrals);
        }
        assert!(blocks.len() > 15, "in orders of their own");
        let plain = DatasetConfig { dihedrals: false, ..streaming() };
        let source = EpisodeSource::new(&task(2), &plain, Format::Icl, 0);
        assert!((0..8).all(|s| source.episode(s).frame.unwrap().dihedral == Dihedral::Identity));
    }

    #[test]
    fn an_episode_depends_on_its_step_seed_task_and_format_alone() {
        let config = streaming();
        let (a, b) = (source(4, &config, Format::Icl), source(4, &config, Format::Icl));
        let forward: Vec<_> = (0..20).map(|step| a.episode(step)).collect();
        let mut backward: Vec<_> = (0..20).rev().map(|step| b.episode(step)).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        let draws =
            |source: EpisodeSource| (0..5).map(|s| source.episode(s).pairs).collect::<Vec<_>>();
        let first = draws(a);
        let renamed = Task { id: "other".into(), ..task(4) };
        assert_ne!(first, draws(EpisodeSource::new(&task(4), &config, Format::Icl, 1)));
        assert_ne!(first, draws(EpisodeSource::new(&renamed, &config, Format::Icl, 0)));
        assert_ne!(first, draws(source(4, &config, Format::E2e)));
    }

    #[test]
    fn with_one_demonstration_in_context_becomes_end_to_end_and_says_so() {
        for sampling in [Sampling::Streaming, Sampling::Ordered, Sampling::Finite] {
            let config = DatasetConfig { sampling, ..streaming() };
            let one = source(1, &config, Format::Icl);
            assert_eq!(one.problem(), Some(LeaveOneOutImpossible));
            assert_eq!(one.format(), Format::E2e);
            assert_eq!(one.episode(0).queries, [query(0, &[])]);
            assert_eq!(source(1, &config, Format::E2e).problem(), None);
            assert_eq!(source(2, &config, Format::Icl).problem(), None);
        }
    }

    #[test]
    fn a_demonstration_that_stands_there_twice_is_not_read_while_it_is_held_out() {
        let mut twice = task(3);
        twice.examples.push(twice.examples[1].clone());
        for sampling in [Sampling::Streaming, Sampling::Ordered, Sampling::Finite] {
            let config = DatasetConfig { sampling, ..streaming() };
            let source = EpisodeSource::new(&twice, &config, Format::Icl, 0);
            (0..200).for_each(|step| assert_no_leak(&source.episode(step)));
        }
    }

    #[test]
    fn ordered_holds_out_the_last_pair_of_a_random_order() {
        let config = DatasetConfig { sampling: Sampling::Ordered, ..streaming() };
        let last = source(4, &config, Format::Icl);
        assert_eq!(last.episode(3).queries, [query(3, &[0, 1, 2])]);
        let targets: BTreeSet<_> =
            (0..60).map(|step| originals(&last.episode(step), &task(4))[3]).collect();
        assert_eq!(targets.len(), 4, "every demonstration is held out some time");
        let config = DatasetConfig { loss_on: LossOn::OutputsFrom(2), ..config };
        let queries = source(4, &config, Format::Icl).episode(0).queries;
        assert_eq!(queries, [query(3, &[0, 1, 2]), query(1, &[0]), query(2, &[0, 1])]);
    }

    #[test]
    fn the_loss_can_count_outputs_read_from_the_pairs_before_them() {
        let check = |k, expected: &[Query]| {
            let config = DatasetConfig { loss_on: LossOn::OutputsFrom(k), ..streaming() };
            let queries = source(4, &config, Format::Icl).episode(0).queries;
            assert_eq!(queries[..4].iter().map(|q| q.context.len()).sum::<usize>(), 12);
            assert_eq!(&queries[4..], expected);
        };
        check(2, &[query(1, &[0]), query(2, &[0, 1])]);
        check(3, &[query(2, &[0, 1])]);
        check(4, &[]);
        check(9, &[]);
    }

    #[test]
    fn train_only_augmenters_leave_no_frame_and_stay_out_of_the_end_to_end_format() {
        let config = DatasetConfig {
            augmenters: vec![Augmenter::Scale, Augmenter::Transpose],
            augment_probability: 1.0,
            colors: ColorSampling::None,
            ..streaming()
        };
        let icl = source(2, &config, Format::Icl);
        let mut scaled = 0;
        for step in 0..100 {
            let episode = icl.episode(step);
            let large = episode.pairs[0].input.cells().len() == 48;
            assert_eq!(episode.frame.is_none(), large);
            scaled += usize::from(large);
        }
        assert!((30..70).contains(&scaled), "{scaled}");
        let e2e = source(2, &config, Format::E2e);
        (0..100).for_each(|step| drop(originals(&e2e.episode(step), &task(2))));
    }

    #[test]
    fn a_step_does_without_an_augmenter_that_would_exceed_the_largest_grid() {
        let mut large = task(2);
        large.examples[0].input = crate::arc::Grid::filled(16, 16, 3);
        let config = DatasetConfig {
            augmenters: vec![Augmenter::Scale],
            augment_probability: 1.0,
            ..streaming()
        };
        let source = EpisodeSource::new(&large, &config, Format::Icl, 0);
        (0..20).for_each(|step| drop(originals(&source.episode(step), &large)));
    }

    #[test]
    fn a_stream_never_ends() {
        assert_eq!(source(3, &streaming(), Format::Icl).steps(), None);
    }
}
