//! What a vote reads of a run: all of its predictions, or some.

use serde::Deserialize;

use crate::arc::Dihedral;
use crate::candidate::{Candidate, MapMeta, ViewStop};
use crate::pipeline::{TaskRecord, TestRecord};
use crate::vote::{Panel, Tally, VoteConfig, rank};

/// Which predictions of a run a variant reads. Variants that differ in nothing else share the run, and so the fit: under a
/// budget in seconds too, where a run with fewer views of its own would fit for longer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reading {
    /// Only the first views, so many; `None`: all.
    pub views: Option<usize>,
    /// When no more views are read: asked where the run had made a call of the model.
    pub stop: ViewStop,
    /// Only views under these symmetries; empty: all.
    pub dihedrals: Vec<Dihedral>,
}

impl Reading {
    /// What the record of a run over these predictions alone would be, with the attempts that `vote` makes of them.
    ///
    /// Grids that only other views have found are no candidates then, and neither are blends of all views (the product
    /// cell by cell, the majorities), which are the views' own grids in nearly every case. The time of the other views is
    /// taken off. Only the chosen rule is tallied, and how hard the task looks is judged by what it chose.
    pub fn of(&self, record: &TaskRecord, vote: &VoteConfig) -> TaskRecord {
        let maps = self.maps(record);
        let metas: Vec<MapMeta> = maps.iter().map(|&map| record.maps[map].clone()).collect();
        let all = record.maps.len();
        let mut read = record.clone();
        for (i, (test, attempts)) in read.tests.iter_mut().zip(&mut read.attempts).enumerate() {
            if maps.len() < all {
                test.candidates = record.seen_by(&maps, &record.tests[i]);
            }
            let ranked = rank(
                &test.candidates,
                Panel::new(&metas, &record.experts),
                vote.selector,
                &vote.weights,
            );
            test.tally = Tally { selector: vote.selector, ranks: [(vote.selector, ranked)].into() };
            // Where these predictions have found nothing, the base model answers, as in a run.
            let fallback = record.baseline.get(i).unwrap_or(&attempts[0]);
            *attempts = test.tally.attempts(&test.candidates, fallback);
        }
        if maps.len() < all {
            let share = maps.len() as f64 / all as f64;
            let saved = record.seconds.predict * (1.0 - share);
            read.seconds.predict -= saved;
            read.seconds.total -= saved;
            read.views = (record.views as f64 * share).round() as usize;
            read.maps = metas;
        }
        read.difficulty = read.estimate_difficulty();
        read
    }

    /// The maps that are read, by index.
    fn maps(&self, record: &TaskRecord) -> Vec<usize> {
        let is_first = |map: &MapMeta| map.format == record.maps[0].format;
        let a_view = if record.maps.iter().all(is_first) { 1 } else { 2 };
        let wanted = self.views.unwrap_or(record.views).min(record.views);
        let calls = record.chunks.iter().scan(0, |done, n| {
            *done += n;
            Some(*done)
        });
        let settled = |&done: &usize| {
            let remaining = (wanted - done) * a_view;
            let votes = |test: &TestRecord| votes(test, done * a_view);
            record.tests.iter().all(|test| self.stop.settles(&votes(test), remaining))
        };
        let ended = calls.take_while(|done| *done < wanted).find(settled);
        let n_maps = (ended.unwrap_or(wanted) * a_view).min(record.maps.len());
        let fits = |map: &usize| {
            let dihedral = record.maps[*map].view.dihedral;
            self.dihedrals.is_empty() || self.dihedrals.contains(&dihedral)
        };
        (0..n_maps).filter(fits).collect()
    }
}

/// How many of the first maps propose each candidate.
fn votes(test: &TestRecord, n_maps: usize) -> Vec<usize> {
    let votes = |c: &Candidate| c.proposed_by.iter().filter(|&&map| map < n_maps).count();
    test.candidates.iter().map(votes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::mock::{recipe, record, task};
    use crate::recipe::Recipe;
    use crate::vote::Selector;

    #[test]
    fn where_nothing_that_is_read_has_found_a_grid_the_base_model_answers() {
        let mut whole = record(&task("a"), &views(1, ViewStop::Never), 3);
        let baseline = crate::arc::Grid::filled(1, 7, 3);
        whole.baseline = vec![baseline.clone(); 3];
        let other = Dihedral::ALL.into_iter().find(|d| *d != whole.maps[0].view.dihedral);
        let reading = Reading { dihedrals: other.into_iter().collect(), ..Reading::default() };
        let part = reading.of(&whole, &VoteConfig::default());
        assert!(part.tests.iter().all(|test| test.candidates.is_empty()));
        assert_eq!(part.attempts, vec![[baseline.clone(), baseline]; 3]);
    }

    /// A recipe whose candidates are the views' own, and one vote.
    fn views(count: usize, stop: ViewStop) -> Recipe {
        let mut recipe = recipe();
        (recipe.views.count, recipe.views.stop) = (count, stop);
        (recipe.candidates.product, recipe.candidates.majorities) = (false, false);
        recipe.vote.selector = Selector::Majority;
        recipe
    }

    fn read(reading: &Reading, count: usize) -> TaskRecord {
        let recipe = views(count, ViewStop::Never);
        reading.of(&record(&task("a"), &recipe, 3), &recipe.vote)
    }

    #[test]
    fn fewer_views_read_are_what_a_run_with_fewer_views_predicts() {
        for count in [1, 3, 8, 20] {
            let own = record(&task("a"), &views(count, ViewStop::Never), 3);
            let part = read(&Reading { views: Some(count), ..Reading::default() }, 20);
            assert_eq!((part.attempts, &part.maps), (own.attempts, &own.maps), "{count} views");
            assert_eq!((part.views, part.difficulty), (count, own.difficulty));
            let grids = |tests: &[TestRecord]| -> Vec<Vec<_>> {
                let sorted = |test: &TestRecord| {
                    let mut all = test.candidates.clone();
                    all.sort_by(|a, b| a.grid.cmp(&b.grid));
                    all
                };
                tests.iter().map(sorted).collect()
            };
            assert_eq!(grids(&part.tests), grids(&own.tests), "{count} views");
        }
    }

    #[test]
    fn another_vote_is_read_as_a_run_with_it_would_have_judged_the_task() {
        let mut made = views(16, ViewStop::Never);
        made.vote.selector = Selector::Product;
        let product = record(&task("a"), &made, 3);
        made.vote.selector = Selector::Min;
        let min = record(&task("a"), &made, 3);
        // The two agree on these tasks: so the record has a word that is not its own.
        let stale = crate::effort::Difficulty::Hopeless;
        let whole = TaskRecord { difficulty: Some(stale), ..product };
        let read = Reading::default().of(&whole, &made.vote);
        assert_eq!((&read.attempts, read.difficulty), (&min.attempts, min.difficulty));
        assert_ne!(read.difficulty, Some(stale));
    }

    #[test]
    fn a_reading_ends_where_a_run_with_that_rule_would_have() {
        for stop in [ViewStop::Beta, ViewStop::Decided] {
            let own = record(&task("a"), &views(40, stop), 3);
            let part = read(&Reading { stop, ..Reading::default() }, 40);
            assert_eq!((part.views, part.attempts), (own.views, own.attempts), "{stop:?}");
        }
        assert_eq!(read(&Reading { stop: ViewStop::Beta, ..Reading::default() }, 40).views, 16);
    }

    #[test]
    fn a_symmetry_alone_is_read_and_the_time_of_the_others_taken_off() {
        let mut whole = record(&task("a"), &views(16, ViewStop::Never), 3);
        (whole.seconds.predict, whole.seconds.total) = (4.0, 10.0);
        let dihedrals = vec![Dihedral::Transpose, Dihedral::FlipRows];
        let reading = Reading { dihedrals: dihedrals.clone(), ..Reading::default() };
        let part = reading.of(&whole, &VoteConfig::default());
        assert!(part.maps.iter().all(|map| dihedrals.contains(&map.view.dihedral)));
        assert_eq!((part.maps.len(), part.views), (4, 4));
        assert_eq!((part.seconds.predict, part.seconds.total), (1.0, 7.0));
        let scores = part.tests.iter().flat_map(|test| &test.candidates);
        assert!(scores.into_iter().all(|candidate| candidate.log_probs.len() == 4));
        // All is what is read without any wish.
        let all = Reading::default().of(&whole, &views(16, ViewStop::Never).vote);
        assert_eq!((&all.attempts, all.seconds), (&whole.attempts, whole.seconds));
        assert_eq!(all.tests[0].candidates, whole.tests[0].candidates);
    }
}
