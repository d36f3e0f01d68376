//! What two sets of tasks have in common.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;
use serde::Serialize;

use super::canonical::form_hash;
use super::near::{Counts, difference, slack_bits};
use crate::arc::{Grid, Task};

/// When tasks are taken for related.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AuditConfig {
    /// Two pairs are near if in the inputs, and in the outputs too, at most this share of the cells drawn (those
    /// that have not the grid's commonest color) differ; 0: no pairs are near.
    pub near: f64,
    /// Least evidence against chance, in bits. With 0 every pair in common counts.
    pub evidence: f64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { near: 0.05, evidence: 12.0 }
    }
}

/// How closely two tasks, or two pairs of them, are related; the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Tasks alone: the same pairs, cell by cell, in any order.
    Identical,
    /// A pair in common, cell by cell.
    Exact,
    /// A pair in common, turned, mirrored or recolored.
    Equivalent,
    /// A pair in common but for a few cells, turned, mirrored or recolored or not.
    Near,
    /// An input in common, turned, mirrored or recolored or not, whose output is another or not known.
    Input,
}

impl Level {
    /// All levels, the strongest first.
    pub const ALL: [Level; 5] =
        [Level::Identical, Level::Exact, Level::Equivalent, Level::Near, Level::Input];

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Level::Identical => "identical",
            Level::Exact => "exact",
            Level::Equivalent => "equivalent",
            Level::Near => "near",
            Level::Input => "input",
        }
    }
}

/// Two tasks that are related.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The strongest relation between them.
    pub level: Level,
    /// The task's id in the first set.
    pub a: String,
    /// The task's id in the second set.
    pub b: String,
    /// Number of demonstrations and tests of the first task.
    pub pairs_a: usize,
    /// Number of demonstrations and tests of the second task.
    pub pairs_b: usize,
    /// Evidence against chance, in bits.
    pub evidence: f64,
    /// What each pair of the first task is most closely related to in the second.
    pub matches: Vec<Match>,
}

/// Two pairs, or two inputs, that are related.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// How closely; never [`Level::Identical`].
    pub level: Level,
    /// Where the pair stands in the first task: `train[0]`, `test[0]`.
    pub a: String,
    /// Where the pair stands in the second task.
    pub b: String,
}

/// The related tasks of two sets: the strongest relations first, of these first the tasks with different ids,
/// then as the sets are ordered.
///
/// Demonstrations and tests with answers are pairs; a test without one is an input. Each pair is compared by
/// itself, under a symmetry and a renaming of the colors of its own. Small grids are alike by chance, so
/// what tasks have in common must be [evidence](AuditConfig::evidence), unless it is all that they are.
///
/// Evidence is counted in bits. An input in common brings the logarithm, to base 2, of the number of grids with as many
/// cells of each color, less 3 bits for the symmetries if it is turned or recolored, less the number of ways to
/// change as many cells if it is near; equal inputs count once. From the sum goes the logarithm of the number of
/// ways to choose as many pairs of either task.
pub fn audit(a: &[Task], b: &[Task], config: &AuditConfig) -> Vec<Finding> {
    findings(&Set::of(a), &Set::of(b), |_, _| true, config)
}

/// As [`audit`], of the tasks of one set with each other: no task with itself, and no two tasks twice.
pub fn duplicates(tasks: &[Task], config: &AuditConfig) -> Vec<Finding> {
    let set = Set::of(tasks);
    findings(&set, &set, |a, b| a < b, config)
}

/// A demonstration or a test.
struct Pair<'a> {
    /// Index of its task.
    task: usize,
    input: &'a Grid,
    drawn: Counts,
    /// The same for the input in all positions and colors.
    input_form: u64,
    output: Option<Output<'a>>,
}

struct Output<'a> {
    grid: &'a Grid,
    drawn: Counts,
    /// The same for the pair in all positions and colors.
    form: u64,
}

/// Tasks with the pairs of all of them.
struct Set<'a> {
    tasks: &'a [Task],
    /// In the order of the tasks, of each the demonstrations first.
    pairs: Vec<Pair<'a>>,
    /// Where each task's pairs begin; and, at the end, their number.
    starts: Vec<usize>,
}

impl<'a> Set<'a> {
    fn of(tasks: &'a [Task]) -> Self {
        let grids = |(index, task): (usize, &'a Task)| {
            let examples = task.examples.iter().map(|e| (&e.input, Some(&e.output)));
            let tests = task.tests.iter().map(|t| (&t.input, t.output.as_ref()));
            examples.chain(tests).map(move |(input, output)| (index, input, output))
        };
        let grids: Vec<_> = tasks.iter().enumerate().flat_map(grids).collect();
        let mut starts = vec![0];
        for task in tasks {
            starts.push(starts[starts.len() - 1] + task.examples.len() + task.tests.len());
        }
        let pair = |&(task, input, output): &(usize, &'a Grid, Option<&'a Grid>)| Pair {
            task,
            input,
            drawn: Counts::of(input),
            input_form: form_hash(&[input]),
            output: output.map(|grid| Output {
                grid,
                drawn: Counts::of(grid),
                form: form_hash(&[input, grid]),
            }),
        };
        Self { tasks, pairs: grids.par_iter().map(pair).collect(), starts }
    }

    fn pairs_of(&self, task: usize) -> &[Pair<'a>] {
        &self.pairs[self.starts[task]..self.starts[task + 1]]
    }

    /// The pairs by a key, for those that have one.
    fn by<K: Eq + std::hash::Hash>(
        &self,
        key: impl Fn(&Pair<'a>) -> Option<K>,
    ) -> HashMap<K, Vec<usize>> {
        let mut index: HashMap<K, Vec<usize>> = HashMap::new();
        for (i, pair) in self.pairs.iter().enumerate() {
            if let Some(key) = key(pair) {
                index.entry(key).or_default().push(i);
            }
        }
        index
    }

    /// Where a pair stands in its task.
    fn place(&self, pair: usize) -> String {
        let task = self.pairs[pair].task;
        let (index, examples) = (pair - self.starts[task], self.tasks[task].examples.len());
        match index.checked_sub(examples) {
            None => format!("train[{index}]"),
            Some(index) => format!("test[{index}]"),
        }
    }
}

impl Pair<'_> {
    fn form(&self) -> Option<u64> {
        self.output.as_ref().map(|output| output.form)
    }

    /// Its grids.
    fn cells(&self) -> (&Grid, Option<&Grid>) {
        (self.input, self.output.as_ref().map(|output| output.grid))
    }

    /// The shapes of input and output, the same if both are turned.
    fn shapes(&self) -> Option<[usize; 4]> {
        let ((h, w), (to_h, to_w)) = (self.input.shape(), self.output.as_ref()?.grid.shape());
        Some([h, w, to_h, to_w].min([w, h, to_w, to_h]))
    }
}

/// Two pairs that are related.
#[derive(Clone, Copy)]
struct Found {
    /// Index of the pair of the first set.
    a: usize,
    /// Index of the pair of the second set.
    b: usize,
    level: Level,
    /// What it says against chance.
    bits: f64,
}

/// What the free choice among eight symmetries is worth.
const SYMMETRY_BITS: f64 = 3.0;

fn findings(
    a: &Set,
    b: &Set,
    wanted: impl Fn(usize, usize) -> bool + Sync,
    config: &AuditConfig,
) -> Vec<Finding> {
    let inputs = b.by(|pair| Some(pair.input_form));
    let shapes = if config.near > 0.0 { b.by(Pair::shapes) } else { HashMap::new() };
    // Of each pair of the first set, the most closely related pair of each task of the second.
    let related = |i: usize| {
        let pair = &a.pairs[i];
        let alike = inputs.get(&pair.input_form).into_iter().flatten();
        let as_large = pair.shapes().and_then(|key| shapes.get(&key)).into_iter().flatten();
        let mut closest: BTreeMap<usize, Found> = BTreeMap::new();
        for &j in alike.chain(as_large) {
            let other = &b.pairs[j];
            if !wanted(pair.task, other.task) {
                continue;
            }
            if let Some((level, bits)) = relation(pair, other, config.near) {
                let found = Found { a: i, b: j, level, bits };
                let best = closest.entry(other.task).or_insert(found);
                if level < best.level {
                    *best = found;
                }
            }
        }
        closest
    };
    let related: Vec<_> = (0..a.pairs.len()).into_par_iter().map(related).collect();
    let mut by_tasks: BTreeMap<(usize, usize), Vec<Found>> = BTreeMap::new();
    for (task, found) in related.into_iter().flatten() {
        by_tasks.entry((a.pairs[found.a].task, task)).or_default().push(found);
    }
    let mut findings: Vec<_> =
        by_tasks.values().filter_map(|found| finding(a, b, found, config.evidence)).collect();
    findings.sort_by_key(|finding| (finding.level, finding.a == finding.b));
    findings
}

/// How closely two pairs are related, and what that says against chance.
fn relation(a: &Pair, b: &Pair, near: f64) -> Option<(Level, f64)> {
    let bits = a.drawn.bits();
    let turned = (bits - SYMMETRY_BITS).max(0.0);
    if let (Some(x), Some(y)) = (&a.output, &b.output) {
        if a.input == b.input && x.grid == y.grid {
            return Some((Level::Exact, bits));
        }
        if x.form == y.form {
            return Some((Level::Equivalent, turned));
        }
        let counts = [(&a.drawn, &b.drawn), (&x.drawn, &y.drawn)];
        let allowed =
            counts.map(|(a, b)| (near * a.drawn().min(b.drawn()) as f64).floor() as usize);
        let may_be = counts.iter().zip(allowed).all(|((a, b), most)| a.apart(b) <= most);
        if may_be
            && allowed != [0, 0]
            && let Some([in_inputs, _]) = difference([a.input, x.grid], [b.input, y.grid], allowed)
        {
            let slack = slack_bits(a.input.cells().len(), in_inputs);
            let bits = bits.min(b.drawn.bits()) - SYMMETRY_BITS - slack;
            return Some((Level::Near, bits.max(0.0)));
        }
    }
    let bits = if a.input == b.input { bits } else { turned };
    (a.input_form == b.input_form).then_some((Level::Input, bits))
}

/// What two tasks have in common, if that is all of them or evidence enough.
fn finding(a: &Set, b: &Set, found: &[Found], least_evidence: f64) -> Option<Finding> {
    let (task_a, task_b) = (a.pairs[found[0].a].task, b.pairs[found[0].b].task);
    let (pairs_a, pairs_b) = (a.pairs_of(task_a), b.pairs_of(task_b));
    let all = found.len() == pairs_a.len() && found.len() == pairs_b.len();
    let identical = all && sorted(pairs_a, Pair::cells) == sorted(pairs_b, Pair::cells);
    let equivalent = all
        && found.iter().all(|found| found.level <= Level::Equivalent)
        && sorted(pairs_a, Pair::form) == sorted(pairs_b, Pair::form);
    // What is written is what is compared.
    let evidence = (10.0 * evidence(a, found, pairs_b.len())).round() / 10.0;
    if !identical && !equivalent && evidence < least_evidence {
        return None;
    }
    let strongest = found.iter().map(|found| found.level).min().expect("something was found");
    let matched =
        |found: &Found| Match { level: found.level, a: a.place(found.a), b: b.place(found.b) };
    Some(Finding {
        level: if identical { Level::Identical } else { strongest },
        a: a.tasks[task_a].id.clone(),
        b: b.tasks[task_b].id.clone(),
        pairs_a: pairs_a.len(),
        pairs_b: pairs_b.len(),
        evidence,
        matches: found.iter().map(matched).collect(),
    })
}

fn sorted<'a, K: Ord>(pairs: &'a [Pair<'a>], key: impl Fn(&'a Pair<'a>) -> K) -> Vec<K> {
    let mut keys: Vec<K> = pairs.iter().map(key).collect();
    keys.sort_unstable();
    keys
}

/// Evidence that one task's pairs are not related to those of another task, of `n_b` pairs, by chance.
fn evidence(a: &Set, found: &[Found], n_b: usize) -> f64 {
    let n_a = a.pairs_of(a.pairs[found[0].a].task).len();
    let mut by_input: BTreeMap<u64, f64> = BTreeMap::new();
    for found in found {
        let bits = by_input.entry(a.pairs[found.a].input_form).or_default();
        *bits = bits.max(found.bits);
    }
    let mut bits: Vec<f64> = by_input.into_values().collect();
    bits.sort_by(|x, y| y.total_cmp(x));
    // From k pairs to k + 1 the number of choices grows by (n_a - k) / (k + 1) times n_b - k.
    let growth = |k: usize| ((n_a - k) * (n_b - k)) as f64 / (k + 1) as f64;
    let sums = bits.iter().take(n_b).enumerate().scan(0.0, |sum, (k, bits)| {
        *sum += bits - growth(k).log2();
        Some(*sum)
    });
    sums.fold(0.0, f64::max)
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
