//! Comparisons for tests.

use std::collections::BTreeMap;

use super::{Comparison, Reading, RunFacts, Share, Variant, Work};
use crate::adapter::FitFormat;
use crate::arc::{Dataset, Task};
use crate::pipeline::TaskRecord;
use crate::pipeline::mock::{recipe, record, task};
use crate::recipe::Recipe;
use crate::vote::Selector;

/// A variant without limits of its own.
pub(crate) fn variant(name: &str, recipe: Recipe) -> Variant {
    Variant {
        name: name.into(),
        recipe,
        steps: None,
        states_steps: false,
        seconds: None,
        share: Share::Each,
        reads: Reading::default(),
    }
}

/// What is known of a run beside its records.
pub(crate) fn facts(records: &BTreeMap<String, TaskRecord>) -> RunFacts<'_> {
    let peak_memory_bytes = Some(7 << 20);
    RunFacts { records, jobs: Some(2), peak_memory_bytes, shared_steps: None }
}

/// The records of all runs of a comparison, three steps each.
pub(crate) fn records(
    comparison: &Comparison,
    tasks: &[Task],
) -> Vec<BTreeMap<String, TaskRecord>> {
    let solve =
        |work: &Work| tasks.iter().map(|t| (t.id.clone(), record(t, &work.recipe, 3))).collect();
    comparison.works().iter().map(solve).collect()
}

/// Three variants, of which the last two share a run, and the records of the two runs on tasks `a` and `b`.
pub(crate) fn compared() -> (Comparison, Dataset, Vec<BTreeMap<String, TaskRecord>>) {
    let mut none = recipe();
    none.views.count = 8;
    none.fit.format = FitFormat::None;
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
    let records = records(&comparison, &tasks);
    (comparison, Dataset { name: "two".into(), tasks, ..Dataset::default() }, records)
}
