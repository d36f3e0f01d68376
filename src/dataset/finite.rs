//! The finite dataset of the paper: items that are built once and gone through in epochs.
//!
//! Source: Akyürek et al. 2024, arXiv 2411.07279, §3.1 and its published code. There the kept items and
//! their order change between runs, because sets are iterated; here they follow from the seed.

use std::collections::BTreeSet;

use rand::Rng;
use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};

use super::source::{item_queries, palette, stage};
use super::{DatasetConfig, Episode, Format, Frame, LossOn, Query, usable_augmenters};
use crate::arc::{ColorPermutation, Dihedral, Example, Grid};
use crate::rng::stream;

/// The items of one task in one format.
#[derive(Debug, Clone)]
pub(super) struct Items {
    task: String,
    format: Format,
    loss_on: LossOn,
    bases: Vec<Base>,
    items: Vec<Item>,
    /// Items that always stay together.
    units: Vec<Vec<usize>>,
    units_per_episode: usize,
}

/// All demonstrations under one augmenter.
#[derive(Debug, Clone)]
struct Base {
    pairs: Vec<Example>,
    dihedral: Option<Dihedral>,
}

/// One held-out pair and what is read to predict it, as indices into a base.
#[derive(Debug, Clone)]
struct Item {
    base: usize,
    colors: ColorPermutation,
    context: Vec<usize>,
    target: usize,
}

impl Item {
    /// Every pair that it shows, the target last.
    fn pairs(&self) -> impl Iterator<Item = usize> {
        self.context.iter().copied().chain([self.target])
    }
}

impl Items {
    /// Augments, holds out, recolors and reorders, filters by size, drops repeated items, tops up with
    /// leave-two-out items or cuts, in this order.
    ///
    /// Too large is what has more than `max_cells`, or what `fits` refuses as an episode of its own. If every item is, the
    /// unaugmented ones are kept all the same: a fit cut to its memory beats none.
    pub(super) fn build(
        task: &str,
        examples: &[Example],
        config: &DatasetConfig,
        format: Format,
        seed: u64,
        fits: &dyn Fn(&Episode) -> bool,
    ) -> Items {
        let bases = bases(task, examples, config, format, seed);
        let loss_on = config.loss_on;
        let mut rng = stream(seed, task, &stage("items", format), 0);
        let mut seen = BTreeSet::new();
        let mut fresh = |n_left_out| {
            let mut items = held_out(0..bases.len(), examples.len(), format, n_left_out);
            items.extend(permuted(&items, &bases, config, &mut rng));
            // Whether an episode fits may take writing it, so that is asked last: copies of an item fit as it does.
            items.retain(|item| {
                (config.max_cells == 0 || cells(item, &bases) <= config.max_cells)
                    && seen.insert(digest(item, &bases, format))
                    && fits(&show(&[item], &bases, loss_on))
            });
            items
        };
        let mut items = fresh(1);
        let missing = config.max_items.saturating_sub(items.len());
        let mut more = if missing > 0 && format == Format::Icl { fresh(2) } else { Vec::new() };
        more.shuffle(&mut rng);
        more.truncate(missing);
        items.extend(more);
        if items.is_empty() {
            items = held_out(0..1, examples.len(), format, 1);
        }
        if items.len() > config.max_items {
            items.shuffle(&mut rng);
            items.truncate(config.max_items.max(1));
        }
        let units = units(&items, config.batch_size, format);
        let mixed = format == Format::Icl && config.batch_size > 0;
        let units_per_episode = if mixed { config.batch_size } else { 1 };
        let task = task.to_owned();
        Items { task, format, loss_on, bases, items, units, units_per_episode }
    }

    pub(super) fn episodes_per_epoch(&self) -> u64 {
        self.units.len().div_ceil(self.units_per_episode) as u64
    }

    /// Step `step` of as many epochs as are asked for, each in an order of its own.
    pub(super) fn episode(&self, step: u64, seed: u64) -> Episode {
        let epoch = step / self.episodes_per_epoch();
        let position = (step % self.episodes_per_epoch()) as usize;
        let mut order: Vec<usize> = (0..self.units.len()).collect();
        order.shuffle(&mut stream(seed, &self.task, &stage("epoch", self.format), epoch));
        let units = order.chunks(self.units_per_episode).nth(position);
        let units = units.expect("the position is below the number of episodes");
        let items = units.iter().flat_map(|&unit| &self.units[unit]).map(|&i| &self.items[i]);
        show(&items.collect::<Vec<_>>(), &self.bases, self.loss_on)
    }
}

/// One episode of some items. Items of one transform share their pairs; others do not see each other.
fn show(items: &[&Item], bases: &[Base], loss_on: LossOn) -> Episode {
    let mut shown: Vec<(usize, ColorPermutation, usize)> = Vec::new();
    let mut queries: Vec<Query> = Vec::new();
    for item in items {
        let mut place = |pair: usize| {
            let key = (item.base, item.colors, pair);
            shown.iter().position(|s| *s == key).unwrap_or_else(|| {
                shown.push(key);
                shown.len() - 1
            })
        };
        let context: Vec<usize> = item.context.iter().map(|&pair| place(pair)).collect();
        for query in item_queries(place(item.target), &context, loss_on) {
            if !queries.contains(&query) {
                queries.push(query);
            }
        }
    }
    let pairs = shown.iter().map(|(base, colors, pair)| {
        let Example { input, output } = &bases[*base].pairs[*pair];
        Example { input: colors.apply(input), output: colors.apply(output) }
    });
    let frame = |item: &Item| {
        let dihedral = bases[item.base].dihedral?;
        Some(Frame { dihedral, colors: item.colors })
    };
    let shared = frame(items[0]).filter(|f| items.iter().all(|i| frame(i) == Some(*f)));
    Episode { pairs: pairs.collect(), queries, frame: shared }
}

/// The demonstrations as they are, and under each augmenter that keeps them within 30×30.
fn bases(
    task: &str,
    examples: &[Example],
    config: &DatasetConfig,
    format: Format,
    seed: u64,
) -> Vec<Base> {
    let mut bases = vec![Base { pairs: examples.to_vec(), dihedral: Some(Dihedral::Identity) }];
    bases.extend(usable_augmenters(config, format).filter_map(|augmenter| {
        let mut rng = stream(seed, task, &stage(augmenter.name(), format), 0);
        let pairs = augmenter.apply(examples, &mut rng)?;
        Some(Base { pairs, dihedral: augmenter.dihedral() })
    }));
    bases
}

/// Each pair of each base held out, read from all the others less each set of `n_left_out - 1` of them; pairs
/// by themselves in the end-to-end format. Items with nothing to read are no in-context items.
fn held_out(
    bases: std::ops::Range<usize>,
    n_pairs: usize,
    format: Format,
    n_left_out: usize,
) -> Vec<Item> {
    let contexts = |target: usize| -> Vec<Vec<usize>> {
        let others: Vec<usize> = (0..n_pairs).filter(|&i| i != target).collect();
        match (format, n_left_out) {
            (Format::E2e, _) => vec![Vec::new()],
            (Format::Icl, 1) => vec![others],
            (Format::Icl, _) => {
                let without = |dropped| others.iter().copied().filter(|&i| i != dropped).collect();
                others.iter().map(|&dropped| without(dropped)).collect()
            }
        }
    };
    let colors = ColorPermutation::IDENTITY;
    let of_base = |base| {
        (0..n_pairs).flat_map(move |target| {
            contexts(target).into_iter().map(move |context| Item { base, colors, context, target })
        })
    };
    bases
        .flat_map(of_base)
        .filter(|item| format == Format::E2e || !item.context.is_empty())
        .collect()
}

/// A copy of each item a round, with colors of its own and then an order of its own.
fn permuted(
    items: &[Item],
    bases: &[Base],
    config: &DatasetConfig,
    rng: &mut impl Rng,
) -> Vec<Item> {
    let mut copies = Vec::with_capacity(items.len() * config.permute_rounds);
    for _ in 0..config.permute_rounds {
        for item in items {
            let used = palette(item.pairs().map(|pair| &bases[item.base].pairs[pair]));
            let colors = config.draw_colors(&used, rng);
            let mut context = item.context.clone();
            context.shuffle(rng);
            copies.push(Item { colors, context, ..*item });
        }
    }
    copies
}

fn cells(item: &Item, bases: &[Base]) -> usize {
    let pairs = item.pairs().map(|pair| &bases[item.base].pairs[pair]);
    pairs.map(Example::n_cells).sum()
}

/// What the model is shown of an item: its grids in order and, end-to-end, its frame.
fn digest(item: &Item, bases: &[Base], format: Format) -> [u8; 32] {
    let base = &bases[item.base];
    let mut hash = Sha256::new();
    if let (Format::E2e, Some(dihedral)) = (format, base.dihedral) {
        hash.update([dihedral.index() as u8]);
        hash.update(item.colors.table());
    }
    let mut add = |grid: &Grid| {
        hash.update([grid.height() as u8, grid.width() as u8]);
        hash.update(grid.cells().iter().map(|&c| item.colors.map(c)).collect::<Vec<_>>());
    };
    for pair in item.pairs() {
        add(&base.pairs[pair].input);
        add(&base.pairs[pair].output);
    }
    hash.finalize().into()
}

/// Cuts the items into what is shuffled as a whole: transforms, parts of them, or single items.
fn units(items: &[Item], batch_size: usize, format: Format) -> Vec<Vec<usize>> {
    if format == Format::Icl && batch_size > 0 {
        return (0..items.len()).map(|i| vec![i]).collect();
    }
    let mut groups: Vec<((usize, ColorPermutation), Vec<usize>)> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let key = (item.base, item.colors);
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(i),
            None => groups.push((key, vec![i])),
        }
    }
    let groups = groups.into_iter().map(|(_, group)| group);
    let largest = if batch_size == 0 { items.len() } else { batch_size };
    groups.flat_map(|g| g.chunks(largest).map(<[usize]>::to_vec).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_no_leak, finite, originals, task};
    use super::super::{Augmenter, ColorSampling, EpisodeSource};
    use super::*;

    fn items(n: usize, config: &DatasetConfig, format: Format) -> Items {
        Items::build("sample", &task(n).examples, config, format, 0, &|_| true)
    }

    fn source(n: usize, config: &DatasetConfig, format: Format) -> EpisodeSource {
        EpisodeSource::new(&task(n), config, format, 0)
    }

    fn epoch(source: &EpisodeSource, epoch: u64) -> Vec<Episode> {
        let steps = source.steps().unwrap() / 2;
        (epoch * steps..(epoch + 1) * steps).map(|step| source.episode(step)).collect()
    }

    /// Number of items by length of context.
    fn by_context(items: &Items) -> Vec<usize> {
        let mut counts = vec![0; 10];
        items.items.iter().for_each(|item| counts[item.context.len()] += 1);
        counts
    }

    #[test]
    fn three_demonstrations_give_144_items_and_leave_two_out_fills_up() {
        let counts = by_context(&items(3, &finite(), Format::Icl));
        assert_eq!(counts[2], 24 * 3 * 2, "24 transforms × 3 held out × (plain + permuted)");
        assert_eq!(counts[1], 250 - 144);
        assert_eq!(counts.iter().sum::<usize>(), 250);
    }

    #[test]
    fn leave_two_out_adds_all_it_has_and_no_more() {
        let config = DatasetConfig { max_items: 10_000, ..finite() };
        let counts = by_context(&items(3, &config, Format::Icl));
        assert_eq!(counts[2], 144);
        // Each of 3 held out, less one of the 2 others; a single pair has no order, but colors of its own.
        assert_eq!(counts[1], 24 * 6 * 2);
    }

    #[test]
    fn with_two_demonstrations_nothing_is_left_to_read_after_leaving_two_out() {
        let counts = by_context(&items(2, &finite(), Format::Icl));
        assert_eq!(counts[1], 24 * 2 * 2);
        assert_eq!(counts.iter().sum::<usize>(), 96);
    }

    #[test]
    fn many_demonstrations_are_cut_to_the_maximum_at_random() {
        let counts = by_context(&items(7, &finite(), Format::Icl));
        assert_eq!(counts[6], 250);
        let kept = items(7, &finite(), Format::Icl);
        let bases: BTreeSet<_> = kept.items.iter().map(|item| item.base).collect();
        assert_eq!(bases.len(), 24, "the cut does not favor a transform");
        assert!(kept.items.iter().any(|item| item.colors != ColorPermutation::IDENTITY));
    }

    #[test]
    fn too_large_and_repeated_items_leave_before_the_cut() {
        // Three pairs of 12 + 6 cells: plain items have 54, doubled ones 108, scaled ones 216.
        let config = DatasetConfig { max_cells: 54, max_items: 40, ..finite() };
        let kept = items(3, &config, Format::Icl);
        assert_eq!(kept.items.len(), 40, "8 transforms × 3 × 2 = 48 fit");
        assert!(kept.items.iter().all(|item| cells(item, &kept.bases) <= 54));
        // Without colors every permuted copy of a single-pair context repeats its original.
        let config = DatasetConfig { colors: ColorSampling::None, ..finite() };
        assert_eq!(by_context(&items(2, &config, Format::Icl))[1], 48);
        // Turning and mirroring one color does nothing.
        let flat = |i| Example { input: Grid::filled(2, 2, i), output: Grid::filled(1, 1, i) };
        let config = DatasetConfig { permute_rounds: 0, ..finite() };
        let pairs = [flat(1), flat(2)];
        let kept = Items::build("flat", &pairs, &config, Format::Icl, 0, &|_| true);
        let shapes = [(2, 2), (4, 2), (2, 4), (4, 4)];
        assert_eq!(kept.items.len(), 2 * shapes.len());
        // End-to-end, the model is told the symmetry: these are not repetitions.
        let kept = Items::build("flat", &pairs, &config, Format::E2e, 0, &|_| true);
        assert_eq!(kept.items.len(), 2 * 7);
    }

    #[test]
    fn what_the_caller_finds_too_large_leaves_before_the_cut_as_what_has_too_many_cells() {
        let config = DatasetConfig { max_items: 40, ..finite() };
        let cells = |episode: &Episode| -> usize {
            let grids = episode.pairs.iter().flat_map(|pair| [&pair.input, &pair.output]);
            grids.map(|grid| grid.cells().len()).sum()
        };
        let examples = task(3).examples;
        let build = |config: &DatasetConfig, fits: &dyn Fn(&Episode) -> bool| {
            Items::build("sample", &examples, config, Format::Icl, 0, fits)
        };
        let told = build(&config, &|episode| cells(episode) <= 54);
        let by_cells = build(&DatasetConfig { max_cells: 54, ..config.clone() }, &|_| true);
        assert_eq!(told.items.len(), 40);
        let pairs = |items: &Items| -> Vec<Vec<Example>> {
            (0..items.episodes_per_epoch()).map(|i| items.episode(i, 0).pairs).collect()
        };
        assert_eq!(pairs(&told), pairs(&by_cells));
        assert_ne!(pairs(&told), pairs(&build(&config, &|_| true)));
        assert_eq!(build(&config, &|_| false).items.len(), 3, "the unaugmented ones");
    }

    #[test]
    fn items_that_are_all_too_large_are_kept_unaugmented() {
        let config = DatasetConfig { max_cells: 5, ..finite() };
        for format in [Format::Icl, Format::E2e] {
            let kept = items(3, &config, format);
            assert_eq!(kept.items.len(), 3);
            assert!(kept.items.iter().all(|item| item.base == 0));
        }
    }

    #[test]
    fn items_are_augmented_recolored_and_reordered() {
        let kept = items(4, &finite(), Format::Icl);
        let plain = |item: &&Item| item.colors == ColorPermutation::IDENTITY;
        assert!(kept.items.iter().filter(plain).all(|item| item.context.is_sorted()));
        let mut copies = kept.items.iter().filter(|item| !plain(item));
        assert!(copies.any(|item| !item.context.is_sorted()));
        // Colors 0 to 4 are in use: the paper sends 1 to 4 to four of the five others, item by item.
        for item in kept.items.iter().filter(|item| !plain(item)) {
            assert_eq!(item.colors.map(0), 0);
            assert!((1..5).all(|color| item.colors.map(color) > 4));
        }
    }

    #[test]
    fn no_item_reads_its_target_and_every_frame_explains_both_grids() {
        let loss_on = LossOn::OutputsFrom(2);
        for (format, batch_size) in
            [(Format::Icl, 0), (Format::Icl, 1), (Format::Icl, 3), (Format::E2e, 0)]
        {
            let source = source(4, &DatasetConfig { batch_size, loss_on, ..finite() }, format);
            let mut frames = 0;
            for episode in epoch(&source, 0) {
                assert_no_leak(&episode);
                if episode.frame.is_some() {
                    originals(&episode, &task(4));
                    frames += 1;
                }
            }
            assert!(frames > 10 || batch_size == 3, "random batches mix transforms");
        }
    }

    #[test]
    fn without_batches_the_items_of_a_transform_share_one_episode() {
        let config = DatasetConfig { permute_rounds: 0, max_items: 72, ..finite() };
        let source = source(3, &config, Format::Icl);
        let episodes = epoch(&source, 0);
        assert_eq!(episodes.len(), 24);
        for episode in &episodes {
            assert_eq!(episode.pairs.len(), 3);
            assert_eq!(episode.queries.len(), 3);
            assert!(episode.queries.iter().all(|query| query.context.len() == 2));
        }
        assert_eq!(episodes.iter().filter(|e| e.frame.is_some()).count(), 7);
    }

    #[test]
    fn batches_hold_so_many_items_and_two_epochs_of_250_in_twos_are_250_steps() {
        let config = DatasetConfig { batch_size: 2, epochs: 2, ..finite() };
        let source = source(3, &config, Format::Icl);
        assert_eq!(source.steps(), Some(250));
        assert!((0..250).all(|step| source.episode(step).queries.len() == 2));
        let endless = DatasetConfig { epochs: 0, ..config };
        assert_eq!(
            super::super::EpisodeSource::new(&task(3), &endless, Format::Icl, 0).steps(),
            None
        );
    }

    #[test]
    fn the_loss_can_count_the_demonstrations_of_an_item() {
        let config = DatasetConfig { batch_size: 1, loss_on: LossOn::OutputsFrom(2), ..finite() };
        let source = source(5, &config, Format::Icl);
        let episode = epoch(&source, 0).into_iter().find(|e| e.pairs.len() == 5).unwrap();
        let Query { target, context } = &episode.queries[0];
        assert_eq!(context.len(), 4);
        let mut expected = vec![Query { target: *target, context: context.clone() }];
        expected
            .extend((1..4).map(|j| Query { target: context[j], context: context[..j].to_vec() }));
        assert_eq!(episode.queries, expected);
    }

    /// What an episode's first query shows, whatever the numbers of its pairs.
    fn content(episode: &Episode) -> Vec<Example> {
        let Query { target, context } = &episode.queries[0];
        context.iter().chain([target]).map(|&i| episode.pairs[i].clone()).collect()
    }

    #[test]
    fn an_epoch_shows_every_item_once_in_an_order_of_its_own() {
        let config = DatasetConfig { batch_size: 1, ..finite() };
        let source = source(3, &config, Format::Icl);
        let orders = [0, 1].map(|n| epoch(&source, n).iter().map(content).collect::<Vec<_>>());
        assert_ne!(orders[0], orders[1]);
        let [first, second] = orders.map(BTreeSet::from_iter);
        assert_eq!(first.len(), 250, "no item repeats");
        assert_eq!(first, second);
    }

    #[test]
    fn two_runs_are_equal_and_other_seeds_differ() {
        for format in [Format::Icl, Format::E2e] {
            let (a, b) = (source(5, &finite(), format), source(5, &finite(), format));
            assert_eq!(epoch(&a, 1), epoch(&b, 1));
            let other = EpisodeSource::new(&task(5), &finite(), format, 1);
            assert_ne!(epoch(&a, 0), epoch(&other, 0));
        }
    }

    #[test]
    fn end_to_end_items_are_pairs_alone_under_symmetries_and_colors() {
        let source = source(3, &finite(), Format::E2e);
        let episodes = epoch(&source, 0);
        let queries = episodes.iter().flat_map(|e| &e.queries);
        assert_eq!(queries.clone().count(), 7 * 3 * 2);
        assert!(queries.clone().all(|query| query.context.is_empty()));
        assert!(episodes.iter().all(|episode| episode.frame.is_some()));
    }

    #[test]
    fn an_augmenter_that_does_not_fit_gives_no_items() {
        let mut large = task(2);
        large.examples[0].input = Grid::filled(16, 3, 2);
        let config = DatasetConfig { permute_rounds: 0, ..finite() };
        let kept = Items::build("large", &large.examples, &config, Format::Icl, 0, &|_| true);
        // 16 rows cannot be doubled; turned by a quarter they are columns, which cannot be doubled either.
        let fits = |a: &Augmenter| a.apply(&large.examples, &mut stream(0, "", "", 0)).is_some();
        let n_fitting = Augmenter::ALL.iter().filter(|a| fits(a)).count();
        assert_eq!(n_fitting, 23 - 2 - 2 - 6 - 2);
        assert_eq!(kept.bases.len(), 1 + n_fitting);
    }
}
