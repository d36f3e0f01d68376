//! The rows of a comparison, from the records of its runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Comparison, Efficiency, Reading, Variant};
use crate::arc::{Attempts, Dataset, Grid, Submission};
use crate::effort::Difficulty;
use crate::evaluate::{Candidates, Score, TaskScore, bootstrap_interval, mcnemar, score_tasks};
use crate::pipeline::TaskRecord;
use crate::vote::Selector;

/// What a comparison has come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// The comparison's name.
    pub comparison: String,
    /// The name of the tasks.
    pub dataset: String,
    /// The variant that the others are tested against.
    pub baseline: String,
    /// The variant that says how hard the tasks are: of those whose runs can tell one that held a demonstration out, or else
    /// one that was fitted; of several the baseline, or else the first. `None` if no run can tell.
    pub difficulty_by: Option<String>,
    /// A row for each variant, in order.
    pub rows: Vec<Row>,
}

/// One variant's row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The variant's name.
    pub variant: String,
    /// Gradient steps for each task, if they are not the recipe's.
    pub step_limit: Option<usize>,
    /// Wall seconds for each task, if they are limited.
    pub budget_seconds: Option<f64>,
    /// The score under every rule.
    pub score: Score,
    /// Tasks of which a stage has failed. They count by the attempts that are left, so a row with such tasks is not what
    /// the variant can do.
    pub failed: usize,
    /// Wall seconds a task, on average.
    pub seconds: f64,
    /// Gradient steps a task, on average; of an adapter that tasks share, a task's part.
    pub steps: f64,
    /// The most memory that the process of the run has held, with all its tasks in flight; `None` if the system does not
    /// say.
    pub peak_memory_bytes: Option<u64>,
    /// Tasks that it worked on at the same time.
    pub jobs: Option<usize>,
    /// The rule of the vote that its run was made with, and that the run's own report goes by: of variants that share a run
    /// the rule of one of them. `None` if the run has predicted nothing.
    pub run_selector: Option<Selector>,
    /// What share of the spending led to the answers.
    pub efficiency: Efficiency,
    /// The tasks whose answers are known, by how hard [`Table::difficulty_by`] took them to be: the same tasks in every
    /// row.
    pub by_difficulty: BTreeMap<Difficulty, Bin>,
    /// Against the baseline, on the tasks whose answers are known; `None` for the baseline itself.
    pub versus_baseline: Option<VersusBaseline>,
    /// The best of N views: the vote over the first views alone. Empty where the variant reads but a part of a run, where
    /// there was one view, or where no answer is known.
    pub by_views: Vec<AfterViews>,
    /// By task, the share of its tests that are right.
    pub tasks: BTreeMap<String, Option<f64>>,
}

/// The share of tasks with every test right after so many views, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AfterViews {
    /// Views.
    pub views: usize,
    /// With the first attempt.
    pub pass_at_1: f64,
    /// With either attempt.
    pub pass_at_2: f64,
    /// With any candidate.
    pub oracle: f64,
}

/// Tasks that have something in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// How many of them are solved.
    pub solved: usize,
    /// How many there are.
    pub of: usize,
}

/// A variant against the baseline, task by task.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct VersusBaseline {
    /// Tasks that the variant alone solves.
    pub gained: usize,
    /// Tasks that the baseline alone solves.
    pub lost: usize,
    /// The exact two-sided McNemar test of these two ([`mcnemar`]).
    pub p: f64,
    /// Mean over the tasks of the difference of their fractional scores.
    pub difference: f64,
    /// Its 95 % interval, by the paired bootstrap over tasks.
    pub interval: Option<[f64; 2]>,
}

/// What is known of a run.
#[derive(Debug, Clone, Copy)]
pub struct RunFacts<'a> {
    /// Its records, by task.
    pub records: &'a BTreeMap<String, TaskRecord>,
    /// Tasks that it worked on at the same time.
    pub jobs: Option<usize>,
    /// The most memory that its process has held.
    pub peak_memory_bytes: Option<u64>,
    /// Gradient steps a task of an adapter that all tasks share, which no record counts.
    pub shared_steps: Option<f64>,
}

/// What one variant has come to, by itself.
struct Outcome {
    scores: Vec<TaskScore>,
    seconds: f64,
    steps: f64,
    efficiency: Efficiency,
    difficulties: BTreeMap<String, Difficulty>,
    /// Whether some difficulty is also by a demonstration that had no part in the fit.
    held_out: bool,
    by_views: Vec<AfterViews>,
}

impl Table {
    /// Makes the rows. `runs` has what is known of each of [`Comparison::works`]; tasks without a record count as wrong.
    pub fn of(comparison: &Comparison, dataset: &Dataset, runs: &[RunFacts<'_>]) -> Self {
        let works = comparison.works();
        let run = |variant: usize| {
            let work = works.iter().position(|work| work.variants.contains(&variant));
            runs[work.expect("every variant has its run")]
        };
        let variants = &comparison.variants;
        let outcomes: Vec<Outcome> =
            (0..variants.len()).map(|i| Outcome::of(&variants[i], dataset, run(i))).collect();
        // A model that was not fitted says little of what is hard to learn.
        let says_less = |&i: &usize| match &outcomes[i] {
            Outcome { held_out: true, .. } => 0,
            Outcome { steps, .. } if *steps > 0.0 => 1,
            _ => 2,
        };
        let tells = |&i: &usize| !outcomes[i].difficulties.is_empty();
        let baseline_first = std::iter::once(comparison.baseline).chain(0..variants.len());
        let teller = baseline_first.filter(tells).min_by_key(says_less);
        let unknown = BTreeMap::new();
        let difficulties = teller.map_or(&unknown, |i| &outcomes[i].difficulties);
        let rows = variants.iter().zip(&outcomes).enumerate().map(|(i, (variant, outcome))| {
            let other = (i != comparison.baseline).then(|| &outcomes[comparison.baseline].scores);
            let RunFacts { jobs, peak_memory_bytes, .. } = run(i);
            let fractions = outcome.scores.iter().map(|t| (t.id.clone(), t.fractional()));
            Row {
                variant: variant.name.clone(),
                step_limit: variant.steps,
                budget_seconds: variant.seconds,
                score: Score::of(&outcome.scores),
                failed: run(i).records.values().filter(|r| r.failed.is_some()).count(),
                seconds: outcome.seconds,
                steps: outcome.steps,
                peak_memory_bytes,
                jobs,
                run_selector: run_selector(run(i).records),
                by_difficulty: by_difficulty(&outcome.scores, difficulties),
                efficiency: outcome.efficiency,
                versus_baseline: other.and_then(|other| VersusBaseline::of(&outcome.scores, other)),
                by_views: outcome.by_views.clone(),
                tasks: fractions.collect(),
            }
        });
        Self {
            comparison: comparison.name.clone(),
            dataset: dataset.name.clone(),
            baseline: variants[comparison.baseline].name.clone(),
            difficulty_by: teller.map(|i| variants[i].name.clone()),
            rows: rows.collect(),
        }
    }
}

impl Outcome {
    fn of(variant: &Variant, dataset: &Dataset, run: RunFacts<'_>) -> Self {
        let records = read(&variant.reads, variant, run.records);
        let mean = |value: fn(&TaskRecord) -> f64| {
            records.values().map(value).sum::<f64>() / records.len().max(1) as f64
        };
        let pairs = dataset.tasks.iter().filter_map(|t| Some((t, records.get(&t.id)?)));
        let difficulty = |(id, r): (&String, &TaskRecord)| Some((id.clone(), r.difficulty?));
        let whole = variant.reads == Reading::default();
        Self {
            scores: score(dataset, &records),
            seconds: mean(|record| record.seconds.total),
            steps: mean(|record| record.steps as f64) + run.shared_steps.unwrap_or(0.0),
            efficiency: Efficiency::of(pairs, &variant.recipe.vote),
            difficulties: records.iter().filter_map(difficulty).collect(),
            held_out: records.values().any(|record| record.telling_hold_out().is_some()),
            by_views: if whole { by_views(variant, dataset, run.records) } else { Vec::new() },
        }
    }
}

/// The rule that chose the attempts in these records.
fn run_selector(records: &BTreeMap<String, TaskRecord>) -> Option<Selector> {
    records.values().flat_map(|record| &record.tests).map(|test| test.tally.selector).next()
}

/// What the variant's vote makes of what is read of the records.
fn read(
    reads: &Reading,
    variant: &Variant,
    records: &BTreeMap<String, TaskRecord>,
) -> BTreeMap<String, TaskRecord> {
    let read = |(id, r): (&String, &TaskRecord)| (id.clone(), reads.of(r, &variant.recipe.vote));
    records.iter().map(read).collect()
}

/// The best of 1, 2, 4, .. and all views.
fn by_views(
    variant: &Variant,
    dataset: &Dataset,
    records: &BTreeMap<String, TaskRecord>,
) -> Vec<AfterViews> {
    let most = records.values().map(|record| record.views).max().unwrap_or(0);
    let after = |views: usize| {
        let reads = Reading { views: Some(views), ..Reading::default() };
        let score = Score::of(&score(dataset, &read(&reads, variant, records)));
        let oracle = score.oracle.and_then(|oracle| oracle.strict);
        Some(AfterViews {
            views,
            pass_at_1: score.pass_at_1.strict?,
            pass_at_2: score.pass_at_2.strict?,
            oracle: oracle?,
        })
    };
    if most < 2 {
        Vec::new()
    } else {
        numbers_of_views(most).into_iter().filter_map(after).collect()
    }
}

/// 1, 2, 4, .. and `most`.
pub fn numbers_of_views(most: usize) -> Vec<usize> {
    let doubled = std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|&n| n < most);
    doubled.chain([most]).collect()
}

impl VersusBaseline {
    /// Compares two scores of the same tasks in the same order; `None` if no answer is known.
    pub fn of(here: &[TaskScore], there: &[TaskScore]) -> Option<Self> {
        let pairs = here.iter().zip(there);
        let fractions: Vec<(f64, f64)> =
            pairs.filter_map(|(a, b)| Some((a.fractional()?, b.fractional()?))).collect();
        let count =
            |wins: fn(f64, f64) -> bool| fractions.iter().filter(|(a, b)| wins(*a, *b)).count();
        let gained = count(|a, b| a == 1.0 && b < 1.0);
        let lost = count(|a, b| a < 1.0 && b == 1.0);
        let differences: Vec<f64> = fractions.iter().map(|(a, b)| a - b).collect();
        (!differences.is_empty()).then(|| Self {
            gained,
            lost,
            p: mcnemar(gained, lost),
            difference: differences.iter().sum::<f64>() / differences.len() as f64,
            interval: bootstrap_interval(&differences, 0),
        })
    }
}

/// Counts the scores of tasks into their difficulties.
fn by_difficulty(
    scores: &[TaskScore],
    difficulties: &BTreeMap<String, Difficulty>,
) -> BTreeMap<Difficulty, Bin> {
    let mut bins = BTreeMap::new();
    for score in scores {
        if let (Some(solved), Some(difficulty)) = (score.solved(), difficulties.get(&score.id)) {
            let bin: &mut Bin = bins.entry(*difficulty).or_default();
            bin.of += 1;
            bin.solved += usize::from(solved);
        }
    }
    bins
}

/// Scores the attempts of records.
fn score(dataset: &Dataset, records: &BTreeMap<String, TaskRecord>) -> Vec<TaskScore> {
    let both = |[first, second]: &[Grid; 2]| Attempts::new(first.clone(), second.clone());
    let attempts = |record: &TaskRecord| record.attempts.iter().map(both).collect();
    let tasks = records.iter().map(|(id, record)| (id.clone(), attempts(record))).collect();
    let candidates: Candidates =
        records.iter().map(|(id, record)| (id.clone(), record.candidate_grids())).collect();
    score_tasks(dataset, &Submission { tasks }, Some(&candidates))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::{compared, facts};
    use crate::pipeline::HeldOut;

    #[test]
    fn rows_are_what_solve_would_have_submitted() {
        let (comparison, mut dataset, records) = compared();
        // The truth is what the product chooses for `a`, and nothing that anyone answers for `b`.
        for (t, test) in dataset.tasks[0].tests.iter_mut().enumerate() {
            test.output = Some(records[1]["a"].attempts[t][0].clone());
        }
        for test in &mut dataset.tasks[1].tests {
            test.output = Some(Grid::filled(1, 7, 3));
        }
        let runs: Vec<_> = records.iter().map(facts).collect();
        let table = Table::of(&comparison, &dataset, &runs);
        let solved: Vec<_> = table.rows.iter().map(|row| row.score.solved.unwrap()).collect();
        assert_eq!((table.rows.len(), solved[1]), (3, 1));
        assert!(table.rows[0].versus_baseline.is_none());
        let versus = table.rows[1].versus_baseline.unwrap();
        assert_eq!((versus.gained, versus.lost), (1 - solved[0], 0));
        assert_eq!(versus.p, mcnemar(versus.gained, 0));
        assert_eq!(table.rows[1].tasks, [("a".into(), Some(1.0)), ("b".into(), Some(0.0))].into());
        assert_eq!((table.rows[0].steps, table.rows[1].steps), (0.0, 3.0));
        // By what one run takes them to be, whatever the row: that of the first fit, as the baseline has none.
        assert_eq!(table.difficulty_by.as_deref(), Some("product"));
        let count = |row: &Row| row.by_difficulty.values().map(|bin| bin.of).sum::<usize>();
        let of_a = records[1]["a"].difficulty.unwrap();
        // The variants that share a run share its report, which goes by the vote of the first.
        let rules: Vec<_> = table.rows.iter().map(|row| row.run_selector.unwrap()).collect();
        assert_eq!(rules, [Selector::Sum, Selector::Product, Selector::Product]);
        for (row, solved) in table.rows.iter().zip(&solved) {
            assert_eq!((row.by_difficulty[&of_a].solved, count(row)), (*solved, 2));
        }

        // The vote that `solve` would have made with the variant's own recipe.
        let own = &comparison.variants[2].recipe.vote;
        for record in records[1].values() {
            let read = Reading::default().of(record, own);
            for (attempts, test) in read.attempts.iter().zip(&record.tests) {
                let ranked = &test.tally.ranks[&Selector::Min];
                assert_eq!(attempts[0], test.candidates[ranked[0].candidate].grid);
            }
        }
    }

    #[test]
    fn tasks_that_were_not_reached_count_as_wrong_and_are_named() {
        let (comparison, mut dataset, mut records) = compared();
        for task in &mut dataset.tasks {
            for (t, test) in task.tests.iter_mut().enumerate() {
                test.output = Some(records[1][&task.id].attempts[t][0].clone());
            }
        }
        records[1].remove("b");
        let runs: Vec<_> = records.iter().map(facts).collect();
        let table = Table::of(&comparison, &dataset, &runs);
        assert_eq!((table.rows[1].score.solved, table.rows[1].score.missing), (Some(1), 1));
        assert!(table.to_text().contains("product (1 missing)"), "{}", table.to_text());
        records[1].get_mut("a").unwrap().failed = Some("no memory".into());
        let runs: Vec<_> = records.iter().map(facts).collect();
        let table = Table::of(&comparison, &dataset, &runs);
        assert_eq!(table.rows.iter().map(|row| row.failed).collect::<Vec<_>>(), [0, 1, 1]);
        assert!(table.to_text().contains("product (1 missing, 1 failed)"), "{}", table.to_text());
    }

    #[test]
    fn a_run_that_held_out_or_was_fitted_says_how_hard_tasks_are() {
        let (mut comparison, dataset, mut records) = compared();
        let by = |comparison: &Comparison, records: &[BTreeMap<String, TaskRecord>]| {
            let runs: Vec<_> = records.iter().map(facts).collect();
            Table::of(comparison, &dataset, &runs).difficulty_by.unwrap()
        };
        assert_eq!(by(&comparison, &records), "product", "the baseline is not fitted");
        comparison.baseline = 2;
        assert_eq!(by(&comparison, &records), "min", "it is fitted as the other is");
        let (demonstration, exact, of) = (0, 4, 8);
        let held_out = |steps| HeldOut { demonstration, steps, exact, of, solved: false };
        let first = records[0].get_mut("a").unwrap();
        first.held_out = Some(held_out(HeldOut::LEAST_STEPS - 1));
        assert_eq!(by(&comparison, &records), "min", "too early to tell");
        records[0].get_mut("a").unwrap().held_out = Some(held_out(HeldOut::LEAST_STEPS));
        assert_eq!(by(&comparison, &records), "none");
    }

    #[test]
    fn the_first_variant_that_can_tell_says_how_hard_tasks_are() {
        let (mut comparison, dataset, records) = compared();
        let runs: Vec<_> = records.iter().map(facts).collect();
        // Of one view nothing can be told.
        comparison.variants[0].reads.views = Some(1);
        let table = Table::of(&comparison, &dataset, &runs);
        assert_eq!(table.difficulty_by.as_deref(), Some("product"));
        let of = |row: &Row| row.by_difficulty.values().map(|bin| bin.of).sum::<usize>();
        assert!(table.rows.iter().all(|row| of(row) == 2));
        assert!(table.to_text().contains("the run of \"product\" took"), "{}", table.to_text());
        comparison.variants.iter_mut().for_each(|variant| variant.reads.views = Some(1));
        let table = Table::of(&comparison, &dataset, &runs);
        assert_eq!((table.difficulty_by, of(&table.rows[0])), (None, 0));
    }

    #[test]
    fn the_best_of_n_views_ends_with_the_score_and_a_part_of_a_run_has_none() {
        let (mut comparison, dataset, records) = compared();
        let runs: Vec<_> = records.iter().map(facts).collect();
        comparison.variants[2].reads.views = Some(4);
        let table = Table::of(&comparison, &dataset, &runs);
        let [none, product, part] = &table.rows[..] else { panic!("three rows") };
        let views = |row: &Row| row.by_views.iter().map(|point| point.views).collect::<Vec<_>>();
        assert_eq!((views(none), views(part)), (vec![1, 2, 4, 8], vec![]));
        let last = product.by_views.last().unwrap();
        assert_eq!((last.views, Some(last.pass_at_2)), (16, product.score.pass_at_2.strict));
        assert_eq!(Some(last.oracle), product.score.oracle.unwrap().strict);
        let four = product.by_views.iter().find(|point| point.views == 4).unwrap();
        assert_eq!(Some(four.oracle), part.score.oracle.unwrap().strict);
        let csv = table.views_to_csv();
        assert_eq!(csv.lines().count(), 1 + 4 + 5, "{csv}");
        assert!(csv.contains("\nnone,8,"), "{csv}");
        assert!(table.to_markdown().contains("| none | "), "{}", table.to_markdown());
    }

    #[test]
    fn an_adapter_that_tasks_share_counts_its_steps() {
        let (comparison, dataset, records) = compared();
        let mut runs: Vec<_> = records.iter().map(facts).collect();
        runs[0].shared_steps = Some(12.5);
        let table = Table::of(&comparison, &dataset, &runs);
        assert_eq!((table.rows[0].steps, table.rows[1].steps), (12.5, 3.0));
    }

    #[test]
    fn every_form_has_a_line_a_variant_and_repeats() {
        let (mut comparison, dataset, records) = compared();
        comparison.variants[1].name = "odd, \"name\" | here".into();
        let runs: Vec<_> = records.iter().map(facts).collect();
        let table = Table::of(&comparison, &dataset, &runs);
        assert_eq!(table, Table::of(&comparison, &dataset, &runs));
        let (text, csv, markdown) = (table.to_text(), table.to_csv(), table.to_markdown());
        assert_eq!(
            [text.lines().count(), csv.lines().count(), markdown.lines().count()],
            [4 + 2, 4, 5 + 2 + 3 + 5]
        );
        assert!(
            csv.lines().nth(2).unwrap().starts_with("\"odd, \"\"name\"\" | here\",,,2,"),
            "{csv}"
        );
        assert!(markdown.contains("odd, \"name\" \\| here |"), "{markdown}");
        assert!(text.starts_with("variant") && text.contains("against none"), "{text}");
        let fields = |line: &str| line.replace("odd, ", "odd ").split(',').count();
        let counts: Vec<_> = csv.lines().map(fields).collect();
        assert!(counts.iter().all(|n| *n == counts[0]), "{csv}");
    }

    #[test]
    fn numbers_of_views_double_and_end_with_all() {
        assert_eq!(numbers_of_views(1), [1]);
        assert_eq!(numbers_of_views(8), [1, 2, 4, 8]);
        assert_eq!(numbers_of_views(11), [1, 2, 4, 8, 11]);
    }
}
