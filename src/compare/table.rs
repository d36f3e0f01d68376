//! The rows of a comparison, from the records of its runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Comparison, Efficiency, Variant};
use crate::arc::{Attempts, Dataset, Grid, Submission};
use crate::effort::Difficulty;
use crate::evaluate::{Candidates, Score, TaskScore, bootstrap_interval, mcnemar, score_tasks};
use crate::pipeline::TaskRecord;

/// What a comparison has come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// The comparison's name.
    pub comparison: String,
    /// The name of the tasks.
    pub dataset: String,
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
    /// Wall seconds a task, on average.
    pub seconds: f64,
    /// Gradient steps a task, on average.
    pub steps: f64,
    /// The most memory that the process of the run has held; `None` if the system does not say.
    pub peak_memory_bytes: Option<u64>,
    /// What share of the spending led to the answers.
    pub efficiency: Efficiency,
    /// The tasks whose answers are known, by how hard the baseline's run took them to be: the same tasks in every row.
    pub by_difficulty: BTreeMap<Difficulty, Bin>,
    /// Against the baseline, on the tasks whose answers are known; `None` for the baseline itself.
    pub versus_baseline: Option<VersusBaseline>,
    /// By task, the share of its tests that are right.
    pub tasks: BTreeMap<String, Option<f64>>,
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
pub type Records<'a> = (&'a BTreeMap<String, TaskRecord>, Option<u64>);

impl Table {
    /// Makes the rows. `runs` has the records and the peak memory of each of [`Comparison::works`]; tasks without a
    /// record count as wrong.
    pub fn of(comparison: &Comparison, dataset: &Dataset, runs: &[Records<'_>]) -> Self {
        let works = comparison.works();
        let run = |variant: usize| {
            let work = works.iter().position(|work| work.variants.contains(&variant));
            runs[work.expect("every variant has its run")]
        };
        let scored: Vec<Vec<TaskScore>> = (0..comparison.variants.len())
            .map(|i| score_by(&comparison.variants[i], dataset, run(i).0))
            .collect();
        let rows = comparison.variants.iter().enumerate().map(|(i, variant)| {
            let (records, peak_memory_bytes) = run(i);
            let mean = |value: fn(&TaskRecord) -> f64| {
                records.values().map(value).sum::<f64>() / records.len().max(1) as f64
            };
            let pairs = dataset.tasks.iter().filter_map(|t| Some((t, records.get(&t.id)?)));
            let other = (i != comparison.baseline).then(|| &scored[comparison.baseline]);
            Row {
                variant: variant.name.clone(),
                step_limit: variant.steps,
                budget_seconds: variant.seconds,
                score: Score::of(&scored[i]),
                seconds: mean(|record| record.seconds.total),
                steps: mean(|record| record.steps as f64),
                peak_memory_bytes,
                by_difficulty: by_difficulty(&scored[i], run(comparison.baseline).0),
                efficiency: Efficiency::of(pairs, &variant.recipe.vote),
                versus_baseline: other.and_then(|other| VersusBaseline::of(&scored[i], other)),
                tasks: scored[i].iter().map(|t| (t.id.clone(), t.fractional())).collect(),
            }
        });
        let (name, dataset) = (comparison.name.clone(), dataset.name.clone());
        Self { comparison: name, dataset, rows: rows.collect() }
    }
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

/// Counts scores into the difficulties that some records state.
fn by_difficulty(
    scores: &[TaskScore],
    records: &BTreeMap<String, TaskRecord>,
) -> BTreeMap<Difficulty, Bin> {
    let mut bins = BTreeMap::new();
    for score in scores {
        let difficulty = records.get(&score.id).and_then(|record| record.difficulty);
        if let (Some(solved), Some(difficulty)) = (score.solved(), difficulty) {
            let bin: &mut Bin = bins.entry(difficulty).or_default();
            bin.of += 1;
            bin.solved += usize::from(solved);
        }
    }
    bins
}

/// Scores what the variant's vote makes of the records.
fn score_by(
    variant: &Variant,
    dataset: &Dataset,
    records: &BTreeMap<String, TaskRecord>,
) -> Vec<TaskScore> {
    let both = |[first, second]: [Grid; 2]| Attempts::new(first, second);
    let vote =
        |record: &TaskRecord| record.revote(&variant.recipe.vote).into_iter().map(both).collect();
    let tasks = records.iter().map(|(id, record)| (id.clone(), vote(record))).collect();
    let candidates: Candidates =
        records.iter().map(|(id, record)| (id.clone(), record.candidate_grids())).collect();
    score_tasks(dataset, &Submission { tasks }, Some(&candidates))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Work;
    use crate::evaluate::mcnemar;
    use crate::pipeline::mock::{recipe, record, task};
    use crate::recipe::Recipe;
    use crate::vote::Selector;

    fn variant(name: &str, recipe: Recipe) -> Variant {
        Variant { name: name.into(), recipe, steps: None, seconds: None, scheduled: false }
    }

    /// Three variants, of which the last two share a run, and the records of the two runs on tasks `a` and `b`.
    fn compared() -> (Comparison, Dataset, Vec<BTreeMap<String, TaskRecord>>) {
        let mut none = recipe();
        none.views.count = 8;
        none.fit.format = crate::adapter::FitFormat::None;
        let by = |selector| {
            let mut recipe = recipe();
            recipe.vote.selector = selector;
            recipe
        };
        let variants = vec![
            variant("none", none),
            variant("product", by(Selector::Product)),
            variant("min", by(Selector::Min)),
        ];
        let comparison = Comparison { name: "test".into(), baseline: 0, variants };
        let tasks = vec![task("a"), task("b")];
        let solve = |work: &Work| -> BTreeMap<String, TaskRecord> {
            tasks.iter().map(|t| (t.id.clone(), record(t, &work.recipe, 3))).collect()
        };
        let records = comparison.works().iter().map(solve).collect();
        (comparison, Dataset { name: "two".into(), tasks, ..Dataset::default() }, records)
    }

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
        let runs: Vec<Records<'_>> = records.iter().map(|r| (r, Some(7 << 20))).collect();
        let table = Table::of(&comparison, &dataset, &runs);
        let solved: Vec<_> = table.rows.iter().map(|row| row.score.solved.unwrap()).collect();
        assert_eq!((table.rows.len(), solved[1]), (3, 1));
        assert!(table.rows[0].versus_baseline.is_none());
        let versus = table.rows[1].versus_baseline.unwrap();
        assert_eq!((versus.gained, versus.lost), (1 - solved[0], 0));
        assert_eq!(versus.p, mcnemar(versus.gained, 0));
        assert_eq!(table.rows[1].tasks, [("a".into(), Some(1.0)), ("b".into(), Some(0.0))].into());
        assert_eq!((table.rows[0].steps, table.rows[1].steps), (0.0, 3.0));
        // By what the baseline's run takes them to be, whatever the row.
        let count = |row: &Row| row.by_difficulty.values().map(|bin| bin.of).sum::<usize>();
        let of_a = records[0]["a"].difficulty.unwrap();
        for (row, solved) in table.rows.iter().zip(&solved) {
            assert_eq!((row.by_difficulty[&of_a].solved, count(row)), (*solved, 2));
        }

        // The vote that `solve` would have made with the variant's own recipe.
        let own = &comparison.variants[2].recipe.vote;
        for record in records[1].values() {
            for (attempts, test) in record.revote(own).iter().zip(&record.tests) {
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
        let runs: Vec<Records<'_>> = records.iter().map(|r| (r, None)).collect();
        let table = Table::of(&comparison, &dataset, &runs);
        assert_eq!((table.rows[1].score.solved, table.rows[1].score.missing), (Some(1), 1));
        assert!(table.to_text().contains("product (1 missing)"), "{}", table.to_text());
    }

    #[test]
    fn every_form_has_a_line_a_variant_and_repeats() {
        let (mut comparison, dataset, records) = compared();
        comparison.variants[1].name = "odd, \"name\" | here".into();
        let runs: Vec<Records<'_>> = records.iter().map(|r| (r, Some(7 << 20))).collect();
        let table = Table::of(&comparison, &dataset, &runs);
        assert_eq!(table, Table::of(&comparison, &dataset, &runs));
        let (text, csv, markdown) = (table.to_text(), table.to_csv(), table.to_markdown());
        assert_eq!(
            [text.lines().count(), csv.lines().count(), markdown.lines().count()],
            [4, 4, 5]
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
}
