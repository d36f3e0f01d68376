//! What steps are worth, learnt from a comparison.

use std::collections::BTreeMap;

use super::{Comparison, Table, Variant};
use crate::adapter::FitFormat;
use crate::effort::{Difficulty, GainTable};
use crate::recipe::Recipe;

/// An estimate leans on the recipe's own table as much as on so many tasks: of a few tasks no share says much.
const PRIOR_TASKS: f64 = 2.0;

/// The table of `[schedule.gain]` that a finished comparison has measured; `None` without two variants whose recipes differ
/// in `fit.steps` or the limits alone.
///
/// A column for each variant, at the steps that its tasks had on average; a chance is the share of the tasks of a difficulty
/// that it has solved, drawn a little towards the recipe's own table, and made not to fall from column to column.
pub fn learn_gain(comparison: &Comparison, table: &Table) -> Option<GainTable> {
    let own = |i: usize| &comparison.variants[i].recipe.schedule.gain;
    let mut columns: BTreeMap<usize, usize> = BTreeMap::new();
    for i in alike(comparison) {
        columns.entry(table.rows[i].steps.round() as usize).or_insert(i);
    }
    columns.remove(&0);
    let first = *columns.values().next()?;
    let chances = |difficulty: Difficulty| {
        let shares = columns.iter().map(|(&steps, &i)| {
            let bin = table.rows[i].by_difficulty.get(&difficulty).copied().unwrap_or_default();
            let assumed = own(first).chance(difficulty, steps as f64);
            (bin.solved as f64 + PRIOR_TASKS * assumed) / (bin.of as f64 + PRIOR_TASKS)
        });
        not_falling(shares.collect())
    };
    let [easy, medium, hard] =
        [Difficulty::Easy, Difficulty::Medium, Difficulty::Hard].map(chances);
    let steps: Vec<usize> = columns.into_keys().collect();
    (steps.len() > 1).then_some(GainTable { steps, easy, medium, hard })
}

/// The most variants that differ in their steps alone, by index; the first of equally many.
fn alike(comparison: &Comparison) -> Vec<usize> {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for (i, variant) in comparison.variants.iter().enumerate() {
        let Variant { recipe, share, reads, .. } = variant;
        if recipe.fit.format == FitFormat::None {
            continue;
        }
        let mut same = Recipe::clone(recipe);
        same.fit.steps = 1;
        let key = format!("{} {share:?} {reads:?}", same.fingerprint());
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(i),
            None => groups.push((key, vec![i])),
        }
    }
    let most = groups.iter().map(|(_, group)| group.len()).max();
    let group = groups.into_iter().find(|(_, group)| Some(group.len()) == most);
    group.map_or(Vec::new(), |(_, group)| group)
}

/// The values nearest to these, by squares, that do not fall: neighbors that do are replaced by their mean (the
/// pool-adjacent-violators algorithm, Ayer et al. 1955). Rounded to thousandths.
fn not_falling(values: Vec<f64>) -> Vec<f64> {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for value in values {
        let mut pool = (value, 1);
        while let Some((sum, n)) =
            pools.pop_if(|(sum, n)| *sum / *n as f64 > pool.0 / pool.1 as f64)
        {
            pool = (pool.0 + sum, pool.1 + n);
        }
        pools.push(pool);
    }
    let mean = |(sum, n): (f64, usize)| vec![(1e3 * sum / n as f64).round() / 1e3; n];
    pools.into_iter().flat_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{Dataset, Grid};
    use crate::compare::testing::{facts, variant};
    use crate::effort::Difficulty::{Easy, Hard, Medium};
    use crate::pipeline::HeldOut;
    use crate::pipeline::mock::{recipe, record, task};

    /// What makes a task so hard where all views agree.
    fn held_out(difficulty: Difficulty) -> HeldOut {
        let exact = match difficulty {
            Easy => 8,
            Medium => 1,
            _ => 0,
        };
        HeldOut { demonstration: 0, steps: HeldOut::LEAST_STEPS, exact, of: 8, solved: false }
    }

    /// Variants of so many steps, of which `solved` says which of five tasks each solves.
    fn learn(steps: [usize; 3], solved: [[bool; 5]; 3]) -> Option<GainTable> {
        let by_steps = |steps: usize| {
            let mut recipe = recipe();
            recipe.fit.steps = steps;
            variant(&format!("{steps} steps"), recipe)
        };
        let mut none = recipe();
        none.fit.format = FitFormat::None;
        let mut variants: Vec<_> = steps.map(by_steps).into();
        variants.insert(0, variant("none", none));
        let mut other = recipe();
        other.lora.rank = 1;
        variants.push(variant("rank 1", other));
        let comparison = Comparison { name: "test".into(), baseline: 3, variants };
        let mut tasks: Vec<_> = (0..5).map(|i| task(&format!("t{i}"))).collect();
        for test in tasks.iter_mut().flat_map(|task| &mut task.tests) {
            test.output = Some(Grid::filled(2, 2, 4));
        }
        let runs: Vec<_> = comparison
            .works()
            .iter()
            .map(|work| {
                let made = tasks.iter().enumerate().map(|(t, task)| {
                    let mut record = record(&task.without_answers(), &work.recipe, 1);
                    record.steps = work.recipe.fit.steps;
                    record.held_out = Some(held_out([Easy, Easy, Easy, Medium, Hard][t]));
                    let by = steps.iter().position(|&steps| steps == record.steps);
                    let is_solved = by.is_some_and(|by| solved[by][t]);
                    let answer = Grid::filled(2, 2, if is_solved { 4 } else { 5 });
                    for test in &mut record.tests {
                        test.candidates.truncate(1);
                        test.candidates[0].grid = answer.clone();
                        test.candidates[0].proposed_by = (0..record.maps.len()).collect();
                    }
                    (task.id.clone(), record)
                });
                made.collect::<BTreeMap<_, _>>()
            })
            .collect();
        let dataset = Dataset { name: "five".into(), tasks, ..Dataset::default() };
        let runs: Vec<_> = runs.iter().map(facts).collect();
        learn_gain(&comparison, &Table::of(&comparison, &dataset, &runs))
    }

    #[test]
    fn chances_are_the_solved_shares_of_each_difficulty_by_steps() {
        let solved = [
            [true, false, false, false, false],
            [true, true, false, false, false],
            [true, true, true, true, false],
        ];
        let gain = learn([50, 100, 400], solved).unwrap();
        assert_eq!(gain.steps, [50, 100, 400]);
        let own = &recipe().schedule.gain;
        let expected = |solved: f64, of: f64, difficulty, steps| {
            (solved + 2.0 * own.chance(difficulty, steps)) / (of + 2.0)
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-3, "{a} {b}");
        close(gain.easy[0], expected(1.0, 3.0, Easy, 50.0));
        close(gain.easy[1], expected(2.0, 3.0, Easy, 100.0));
        close(gain.easy[2], expected(3.0, 3.0, Easy, 400.0));
        close(gain.medium[1], expected(0.0, 1.0, Medium, 100.0));
        close(gain.medium[2], expected(1.0, 1.0, Medium, 400.0));
        close(gain.hard[2], expected(0.0, 1.0, Hard, 400.0));
    }

    #[test]
    fn a_learnt_table_is_one_that_a_recipe_takes() {
        // More steps solve less here, which is chance.
        let solved = [[true; 5], [true, false, true, false, true], [false; 5]];
        let gain = learn([10, 20, 30], solved).unwrap();
        for chances in [&gain.easy, &gain.medium, &gain.hard] {
            assert!(chances.is_sorted() && chances.len() == 3, "{chances:?}");
        }
        let mut recipe = Recipe::default();
        recipe.schedule.gain = gain;
        recipe.validate().unwrap();
    }

    #[test]
    fn without_two_columns_nothing_is_learnt() {
        assert_eq!(learn([7, 7, 7], [[true; 5]; 3]), None);
    }

    #[test]
    fn falling_neighbors_are_pooled() {
        assert_eq!(not_falling(vec![0.1, 0.4, 0.2, 0.3, 0.9]), [0.1, 0.3, 0.3, 0.3, 0.9]);
        assert_eq!(not_falling(vec![0.3, 0.2, 0.1]), [0.2; 3]);
        assert_eq!(not_falling(vec![]), Vec::<f64>::new());
    }
}
