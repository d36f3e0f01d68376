//! What the page's script draws from: tasks, attempts, candidates and curves as one compact JSON text.

use serde::Serialize;

use super::curves::thinned;
use super::facts::{Facts, TaskFacts};
use crate::arc::{Grid, N_COLORS, Task};
use crate::candidate::{Candidate, IMPOSSIBLE, MapMeta, Uncertainty};
use crate::dataset::Format;
use crate::engine::StopReason;
use crate::pipeline::{TaskRecord, TestRecord};
use crate::render::{LINES, PALETTE};
use crate::vote::{FormatWeights, Panel, Selector, rank};

/// Candidates of a test that the page lists, besides the truth.
const LISTED: usize = 6;

/// Points of a loss curve.
const POINTS: usize = 60;

/// Levels of a heat map, written as the digits of base 36.
const LEVELS: u32 = 35;

/// Everything that the script reads.
#[derive(Debug, Serialize)]
pub(super) struct Data<'a> {
    palette: Vec<String>,
    lines: String,
    sides: Vec<&'a str>,
    tasks: Vec<TaskData<'a>>,
}

/// A task with what each side made of it. Grids are texts: a digit a cell, rows apart by `/`.
#[derive(Debug, Serialize)]
struct TaskData<'a> {
    id: &'a str,
    demos: Vec<[String; 2]>,
    tests: Vec<PairData>,
    runs: Vec<Option<RunData<'a>>>,
}

/// A test's input and its answer, if known.
#[derive(Debug, Serialize)]
struct PairData {
    input: String,
    truth: Option<String>,
}

/// What one run made of a task.
#[derive(Debug, Serialize)]
struct RunData<'a> {
    outcome: &'static str,
    failed: Option<&'a str>,
    notes: &'a [String],
    /// Baseline, fit, prediction, vote, total.
    seconds: [f64; 5],
    steps: usize,
    best: usize,
    start: Option<&'a str>,
    stop: &'static str,
    /// How the demonstration was predicted that had been held out: its number from 1, predictions exact, predictions made,
    /// steps before.
    held_out: Option<[usize; 4]>,
    /// For each map: index of its symmetry, `c` if recolored, `o` if reordered, `i` or `e` for the format.
    maps: Vec<String>,
    curve: CurveData,
    tests: Vec<TestData>,
}

/// Loss curves as `[step, mean loss, step, mean loss, ..]`, and held-out checks as `[step, exact, of]`.
#[derive(Debug, Serialize)]
struct CurveData {
    icl: Vec<f64>,
    e2e: Vec<f64>,
    checks: Vec<[usize; 3]>,
}

/// What one run made of a test.
#[derive(Debug, Serialize)]
struct TestData {
    attempts: [String; 2],
    baseline: Option<String>,
    heat: Option<HeatData>,
    candidates: Vec<CandidateData>,
    /// Candidates there were.
    found: usize,
    /// For each voting rule, whether its first (1), its second (2) or no attempt (0) is right; empty if unknown.
    rules: Vec<(&'static str, u8)>,
}

/// How unsure each cell is.
#[derive(Debug, Serialize)]
struct HeatData {
    /// `entropy` (0 to ln 10 nats) or `votes` (share of views that say otherwise than the first attempt).
    kind: &'static str,
    /// A digit in base 36 a cell, 0 to z, rows apart by `/`.
    rows: String,
}

/// A row of the vote table.
#[derive(Debug, Serialize)]
struct CandidateData {
    rank: usize,
    grid: String,
    score: f32,
    /// Its share if each view spreads one vote over all candidates, 0 to 1.
    share: f32,
    by: Vec<usize>,
    also: Vec<usize>,
    blend: bool,
    /// By map, in nats; `null` if the map cannot hold the grid.
    log_probs: Vec<Option<f32>>,
}

impl<'a> Data<'a> {
    /// What the page of these sides needs. The tasks are the first side's; the other's are matched by id.
    pub(super) fn of(sides: &[&'a Facts<'a>]) -> Self {
        let hex = |[r, g, b]: &[u8; 3]| format!("#{r:02x}{g:02x}{b:02x}");
        let first = sides.first().map_or(&[][..], |side| &side.tasks);
        Self {
            palette: PALETTE.iter().map(hex).collect(),
            lines: hex(&LINES),
            sides: sides.iter().map(|facts| facts.side.name.as_str()).collect(),
            tasks: first.iter().map(|task| TaskData::of(task.task, sides)).collect(),
        }
    }

    /// JSON that may stand in a script element: no text in it can end the element.
    pub(super) fn to_script(&self) -> String {
        let text = serde_json::to_string(self).expect("texts and numbers have a JSON form");
        text.replace('<', "\\u003c")
    }
}

impl<'a> TaskData<'a> {
    fn of(task: &'a Task, sides: &[&'a Facts<'a>]) -> Self {
        let run = |facts: &&'a Facts<'a>| {
            // Two sets may have different tasks of one name.
            let same = |other: &&TaskFacts<'_>| {
                other.task.id == task.id && other.task.without_answers() == task.without_answers()
            };
            let of_task = facts.tasks.iter().find(same)?;
            Some(RunData::of(of_task, of_task.record?, &facts.side.recipe.vote.weights))
        };
        let test = |test: &crate::arc::Test| PairData {
            input: grid_text(&test.input),
            truth: test.output.as_ref().map(grid_text),
        };
        let demo = |pair: &crate::arc::Example| [grid_text(&pair.input), grid_text(&pair.output)];
        Self {
            id: &task.id,
            demos: task.examples.iter().map(demo).collect(),
            tests: task.tests.iter().map(test).collect(),
            runs: sides.iter().map(run).collect(),
        }
    }
}

impl<'a> RunData<'a> {
    fn of(facts: &TaskFacts<'a>, record: &'a TaskRecord, weights: &FormatWeights) -> Self {
        let s = &record.seconds;
        let tests = (0..record.attempts.len())
            .map(|t| TestData::of(t, record, facts.task.tests[t].output.as_ref(), weights));
        Self {
            outcome: facts.outcome.key(),
            failed: record.failed.as_deref(),
            notes: &record.notes,
            seconds: [s.baseline, s.fit, s.predict, s.vote, s.total].map(thousandths),
            steps: record.steps,
            best: record.best_step,
            start: record.start.as_deref(),
            stop: stop(record.stop),
            held_out: record.held_out.map(|h| [h.demonstration + 1, h.exact, h.of, h.steps]),
            maps: record.maps.iter().chain(&record.experts).map(map_code).collect(),
            curve: CurveData::of(record),
            tests: tests.collect(),
        }
    }
}

impl CurveData {
    fn of(record: &TaskRecord) -> Self {
        let points = |format| {
            let points = thinned(&record.curve, format, POINTS);
            points.into_iter().flat_map(|(step, loss)| [step as f64, three_digits(loss)]).collect()
        };
        let check = |step: &crate::engine::FitStep| {
            step.check.map(|check| [step.step, check.exact, check.of])
        };
        let checks = record.curve.0.iter().filter_map(check).collect();
        Self { icl: points(Format::Icl), e2e: points(Format::E2e), checks }
    }
}

impl TestData {
    fn of(t: usize, record: &TaskRecord, truth: Option<&Grid>, weights: &FormatWeights) -> Self {
        let attempts = &record.attempts[t];
        let test = record.tests.get(t);
        Self {
            attempts: [grid_text(&attempts[0]), grid_text(&attempts[1])],
            baseline: record.baseline.get(t).map(grid_text),
            heat: test.and_then(|test| heat(test, &attempts[0])),
            candidates: test
                .map_or(Vec::new(), |test| listed(test, record.panel(), truth, weights)),
            found: test.map_or(0, |test| test.candidates.len()),
            rules: test.zip(truth).map_or(Vec::new(), |(test, truth)| rules(test, attempts, truth)),
        }
    }
}

/// The best candidates under the rule that chose, and the truth if it is another one of them.
fn listed(
    test: &TestRecord,
    panel: Panel<'_>,
    truth: Option<&Grid>,
    weights: &FormatWeights,
) -> Vec<CandidateData> {
    let ranked = rank(&test.candidates, panel, test.tally.selector, weights);
    let shares = rank(&test.candidates, panel, Selector::MbrExact, weights);
    let is_truth = |c: usize| Some(&test.candidates[c].grid) == truth;
    let wanted =
        ranked.iter().enumerate().filter(|(rank, r)| *rank < LISTED || is_truth(r.candidate));
    let row = |(rank, ranked): (usize, &crate::vote::Ranked)| {
        let candidate = &test.candidates[ranked.candidate];
        let share = shares.iter().find(|share| share.candidate == ranked.candidate);
        CandidateData {
            rank: rank + 1,
            grid: grid_text(&candidate.grid),
            score: ranked.score,
            share: (share.map_or(0.0, |share| share.score) * 1e4).round() / 1e4,
            by: candidate.proposed_by.clone(),
            also: candidate.found_by.clone(),
            blend: candidate.product || candidate.majority,
            log_probs: log_probs(candidate),
        }
    };
    wanted.map(row).collect()
}

fn log_probs(candidate: &Candidate) -> Vec<Option<f32>> {
    let known = |&log_prob: &f32| (log_prob > IMPOSSIBLE).then(|| (log_prob * 10.0).round() / 10.0);
    candidate.log_probs.iter().map(known).collect()
}

fn rules(test: &TestRecord, attempts: &[Grid; 2], truth: &Grid) -> Vec<(&'static str, u8)> {
    let right = |selector| {
        let by_rule = test.tally.attempts_by(selector, &test.candidates, &attempts[0]);
        let place = by_rule.iter().position(|attempt| attempt == truth);
        (super::method::rule(selector).0, place.map_or(0, |place| place as u8 + 1))
    };
    Selector::ALL.map(right).into()
}

/// The record's entropies where they have the shape of the first attempt, or else the votes against each of its cells.
fn heat(test: &TestRecord, attempt: &Grid) -> Option<HeatData> {
    let shape = |u: &&Uncertainty| (u.height, u.width) == attempt.shape();
    match test.uncertainty.as_ref().filter(shape) {
        Some(uncertainty) => {
            let most = (N_COLORS as f32).ln();
            let levels = uncertainty.entropy.iter().map(|entropy| f64::from(entropy / most));
            Some(HeatData { kind: "entropy", rows: heat_text(levels, uncertainty.width) })
        }
        None => {
            let against = votes_against(&test.candidates, attempt)?;
            Some(HeatData { kind: "votes", rows: heat_text(against.into_iter(), attempt.width()) })
        }
    }
}

/// By cell, the share of the proposals of the attempt's shape that have another color there; `None` if there are none.
fn votes_against(candidates: &[Candidate], attempt: &Grid) -> Option<Vec<f64>> {
    let alike = || candidates.iter().filter(|c| c.grid.shape() == attempt.shape());
    let all: usize = alike().map(|candidate| candidate.proposed_by.len()).sum();
    let against = |(cell, color): (usize, &u8)| {
        let others = alike().filter(|candidate| candidate.grid.cells()[cell] != *color);
        others.map(|candidate| candidate.proposed_by.len()).sum::<usize>() as f64 / all as f64
    };
    (all > 0).then(|| attempt.cells().iter().enumerate().map(against).collect())
}

/// Levels from 0 to 1 as digits in base 36.
fn heat_text(levels: impl Iterator<Item = f64>, width: usize) -> String {
    let mut text = String::new();
    for (i, level) in levels.enumerate() {
        if i > 0 && i % width == 0 {
            text.push('/');
        }
        let digit = (level * f64::from(LEVELS)).round().clamp(0.0, f64::from(LEVELS));
        text.extend(char::from_digit(digit as u32, LEVELS + 1));
    }
    text
}

fn grid_text(grid: &Grid) -> String {
    let digit = |&color: &u8| char::from(b'0' + color);
    let rows: Vec<String> = grid.rows().map(|row| row.iter().map(digit).collect()).collect();
    rows.join("/")
}

fn map_code(map: &MapMeta) -> String {
    let view = &map.view;
    let mut code = view.dihedral.index().to_string();
    if view.colors != crate::arc::ColorPermutation::IDENTITY {
        code.push('c');
    }
    if !view.order.is_empty() {
        code.push('o');
    }
    code.push(match map.format {
        Format::Icl => 'i',
        Format::E2e => 'e',
    });
    code
}

fn stop(stop: StopReason) -> &'static str {
    match stop {
        StopReason::NotFitted => "not fitted",
        StopReason::Steps => "all steps done",
        StopReason::Budget => "time spent",
        StopReason::HeldOut => "what was held out was predicted well enough",
        StopReason::Converged => "the loss was low enough",
        StopReason::GivenUp => "given up, as it could not go on",
        StopReason::Interrupted => "interrupted",
    }
}

fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn three_digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_and_levels_are_a_character_a_cell() {
        let grid = Grid::from_rows(&[[0, 1, 2], [9, 8, 7]]).unwrap();
        assert_eq!(grid_text(&grid), "012/987");
        assert_eq!(heat_text([0.0, 0.5, 1.0, 2.0].into_iter(), 2), "0i/zz");
    }

    #[test]
    fn votes_against_a_cell_are_those_of_proposals_of_its_shape() {
        let candidate = |rows: &[&[u8]], votes: usize| Candidate {
            grid: Grid::from_rows(rows).unwrap(),
            proposed_by: (0..votes).collect(),
            found_by: vec![],
            product: false,
            majority: false,
            log_probs: vec![],
        };
        let candidates =
            [candidate(&[&[1, 2]], 3), candidate(&[&[1, 3]], 1), candidate(&[&[1], &[2]], 4)];
        assert_eq!(votes_against(&candidates, &candidates[0].grid), Some(vec![0.0, 0.25]));
        assert_eq!(votes_against(&[], &candidates[0].grid), None);
    }

    #[test]
    fn no_text_ends_the_script_element() {
        let data = Data {
            palette: vec![],
            lines: String::new(),
            sides: vec!["</script><b>"],
            tasks: vec![],
        };
        let text = data.to_script();
        assert!(!text.contains('<'), "{text}");
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["sides"][0], "</script><b>");
    }

    #[test]
    fn losses_keep_three_digits() {
        assert_eq!([0.000_123_456, 2.345_67, 0.0].map(three_digits), [0.000_123, 2.35, 0.0]);
    }
}
