//! Small finished runs for tests.

use crate::arc::{Dataset, Grid};
use crate::engine::Engine;
use crate::pipeline::mock::{Mock, recipe, record, task};
use crate::run::{Circumstances, Identity, Limits, Run};

use super::Side;

/// A run over tasks named by `ids`, of which those in `solved` have what the run answers as their truth; the other
/// truths are something that nobody answers.
pub(super) fn side(name: &str, ids: &[&str], solved: &[&str]) -> Side {
    let recipe = recipe();
    let mut tasks: Vec<_> = ids.iter().map(|id| task(id)).collect();
    let records: Vec<_> = tasks.iter().map(|task| record(task, &recipe, 5)).collect();
    for (task, record) in tasks.iter_mut().zip(&records) {
        for (test, attempts) in task.tests.iter_mut().zip(&record.attempts) {
            let right = solved.contains(&task.id.as_str());
            let truth = if right { attempts[0].clone() } else { Grid::filled(1, 7, 3) };
            test.output = Some(truth);
        }
    }
    let dataset = Dataset { name: "mock".into(), tasks, ..Dataset::default() };
    let identity = Identity::new(
        &recipe,
        &dataset,
        Mock::default().info(),
        Limits {
            budget_seconds: None,
            total_seconds: None,
            evenly: false,
            steps: Some(5),
            memory_bytes: 1,
        },
    );
    let circumstances = Circumstances {
        command: vec!["test".into()],
        burn: "test".into(),
        platform: "test".into(),
        jobs: 1,
        threads: 1,
        began: 0,
        deadline_seconds: None,
        trained_on: None,
    };
    let records = records.into_iter().map(|record| (record.task.clone(), record)).collect();
    Side { name: name.into(), run: Run { identity, circumstances, records }, recipe, dataset }
}
