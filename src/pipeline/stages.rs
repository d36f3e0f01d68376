//! The stages that the pipeline goes through, and what a task carries from one to the next.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::clock::{Clock, affordable, fit_seconds, share_of_baseline};
use super::guard::guard;
use super::parts::{Fitted, Fitting};
use super::record::{CutShort, Seconds, Solved, TaskRecord, TestRecord, fallback_attempts};
use super::{Curve, Event, Interrupted, TaskLimits, VIEWS_AT_ONCE};
use crate::adapter::{FitConfig, FitFormat};
use crate::arc::{Grid, Task, View};
use crate::candidate::{
    Candidate, CandidateConfig, IMPOSSIBLE, MapMeta, Predictions, Proposals, ViewStop, ViewsConfig,
    add_scores, collect_candidates, forget_maps, merge_proposals, sample_views, uncertainty,
};
use crate::engine::{
    Adapter, DecodeConfig, DecodeMethod, Engine, EngineError, Family, FitLimits, FitStep,
    PredictPlan, StopReason, metas,
};
use crate::recipe::Recipe;
use crate::vote::{Panel, tally_votes};

/// How many predictions of a test under one view take as long as a gradient step, about. A fit without the
/// time for one step would only overrun the budget.
const STEP_COST: f64 = 5.0;

/// The same for a family that writes: it writes token after token, and learns from all at once.
const WRITER_STEP_COST: f64 = 0.5;

/// Share of the time after the fit that goes to scores, in a family that writes.
const SCORING: f64 = 0.5;

/// A task on its way through the stages.
pub(super) struct Solving<'a> {
    engine: &'a dyn Engine,
    task: &'a Task,
    recipe: &'a Recipe,
    limits: TaskLimits<'a>,
    clock: Clock,
    views: Vec<View>,
    /// Views that score candidates and propose none.
    fresh: Vec<View>,
    /// Seconds that one view of every test takes, as far as is known.
    seconds_per_view: f64,
    /// Whether the family writes grids and does not predict cells, as far as is known.
    writes: bool,
    failed: Option<String>,
    seconds: Seconds,
}

/// What was predicted, and under how many views.
pub(super) struct Predicted {
    /// Maps of each test, as many for each.
    maps: Vec<Predictions>,
    /// Views done.
    done: usize,
    /// Views wanted.
    of: usize,
    /// How many of them were predicted together, call by call.
    chunks: Vec<usize>,
    /// Whether the views agreed enough for the rest to be left out.
    settled: bool,
}

impl<'a> Solving<'a> {
    /// Begins with a task; its clock starts now.
    pub(super) fn begin(
        engine: &'a dyn Engine,
        task: &'a Task,
        recipe: &'a Recipe,
        limits: TaskLimits<'a>,
    ) -> Self {
        let count = recipe.views.count + recipe.candidates.fresh_views;
        let all = ViewsConfig { count, ..recipe.views.clone() };
        let mut views = sample_views(&all, task.examples.len(), recipe.seed, &task.id);
        let fresh = views.split_off(recipe.views.count.min(views.len()));
        Self {
            engine,
            task,
            recipe,
            limits,
            clock: Clock::start(limits.seconds.filter(|_| limits.replay.is_none())),
            views,
            fresh,
            seconds_per_view: 0.0,
            writes: false,
            failed: None,
            seconds: Seconds::default(),
        }
    }

    /// Seconds since it began.
    pub(super) fn elapsed(&self) -> f64 {
        self.clock.elapsed()
    }

    /// What has failed, if anything has.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    pub(super) fn check_interrupt(&self) -> Result<(), Interrupted> {
        if self.limits.interrupted.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    /// The result of a stage; a failure is kept for the record, the first one if there are several.
    pub(super) fn keep<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|reason| {
                tracing::warn!("{reason}");
                self.failed.get_or_insert(reason);
            })
            .ok()
    }

    /// What the base model says under the first view, a map for each test; empty if it fails. A family that writes
    /// grids writes the one greedy answer.
    pub(super) fn baseline(&mut self, on_event: &mut dyn FnMut(Event)) -> Vec<Predictions> {
        let began = Instant::now();
        let decode = DecodeConfig { method: DecodeMethod::Greedy, ..self.recipe.decode.clone() };
        let maps = guard("in-context baseline", || {
            let plan = PredictPlan { decode: &decode, ..self.plan(None) };
            let tests = 0..self.task.tests.len();
            let of = |test| self.engine.predict(self.task, test, None, &self.views[..1], plan);
            tests.map(of).collect::<Result<Vec<_>, EngineError>>()
        });
        let maps = self.keep(maps).unwrap_or_default();
        self.seconds.baseline = began.elapsed().as_secs_f64();
        self.seconds_per_view = self.seconds.baseline;
        self.writes = matches!(maps.first(), Some(Predictions::Grids(_)));
        if !maps.is_empty() {
            on_event(Event::Baseline { grids: self.answers(&maps) });
        }
        maps
    }

    /// Takes what an earlier record says of the time a view takes in place of the baseline's.
    pub(super) fn expect_as(&mut self, record: &TaskRecord) {
        // Every visit has predicted under about as many views.
        let views = (record.views * record.visits()).max(1) as f64;
        self.writes = self.recipe.family != Family::Grid;
        let share = share_of_baseline(self.task, self.format(), self.writes);
        self.seconds_per_view = record.seconds.predict / views / share;
    }

    /// The format that is fitted: with one demonstration none can be left out.
    fn format(&self) -> FitFormat {
        match self.recipe.fit.format {
            FitFormat::Icl | FitFormat::Both if self.task.examples.len() == 1 => FitFormat::E2e,
            format => format,
        }
    }

    /// The first proposal for each test; its input where nothing was found.
    pub(super) fn answers(&self, maps: &[Predictions]) -> Vec<Grid> {
        let inputs = self.task.tests.iter().map(|test| &test.input);
        let first = |(maps, input): (&Predictions, &Grid)| {
            maps.proposals().into_iter().next().unwrap_or_else(|| input.clone())
        };
        maps.iter().zip(inputs).map(first).collect()
    }

    /// Share of the time after the fit that goes to scores. Maps of cells say by themselves what they think of a grid.
    fn scoring(&self) -> f64 {
        match (self.writes, self.fresh.len()) {
            (true, _) => SCORING,
            (false, fresh) => fresh as f64 / (self.views.len() + fresh) as f64,
        }
    }

    fn plan(&self, seconds: Option<f64>) -> PredictPlan<'a> {
        let Recipe { decode, seed, .. } = self.recipe;
        let memory_bytes = self.limits.memory_bytes;
        let earlier = &[];
        PredictPlan { decode, seed: *seed, seconds, cut_after: None, earlier, memory_bytes }
    }

    /// Maps under some of the views, for each test, behind those that there are.
    fn predict_chunk(
        &self,
        adapter: Option<&Adapter>,
        earlier: &[Predictions],
        views: Range<usize>,
        seconds: Option<f64>,
    ) -> Result<Vec<Predictions>, EngineError> {
        let formats = adapter.map_or(1, |a| a.formats.len());
        let maps = views.start * formats..views.end * formats;
        let views = &self.views[views];
        let n_tests = self.task.tests.len();
        let tests = (0..n_tests).map(|test| {
            let cut_after: Option<Vec<Option<usize>>> = self
                .limits
                .replay
                .map(|replay| maps.clone().map(|map| replay.cut_after(test, map)).collect());
            let seconds = seconds.map(|s| s / n_tests as f64);
            let earlier = match &earlier[test] {
                Predictions::Grids(proposals) => proposals.as_slice(),
                Predictions::Cells(_) => &[],
            };
            let cut_after = cut_after.as_deref();
            let plan = PredictPlan { cut_after, earlier, ..self.plan(seconds) };
            self.engine.predict(self.task, test, adapter, views, plan)
        });
        tests.collect()
    }

    /// The fit, or what stands for it where there is none or it fails; `earlier` is one to go on with, and the
    /// seconds that it has taken.
    pub(super) fn fit(
        &mut self,
        earlier: Option<(Fitted, f64)>,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fitted, String> {
        let repeated = self.limits.replay;
        let config = FitConfig { format: self.format(), ..self.recipe.fit.clone() };
        if config.format == FitFormat::None {
            return Ok(Fitted::none(StopReason::NotFitted, None));
        }
        if repeated.is_some_and(|r| !r.fitted) {
            let note = Some("not fitted in the repeated run");
            return Ok(Fitted::none(StopReason::NotFitted, note));
        }
        let share = share_of_baseline(self.task, config.format, self.writes);
        let per_view = share * self.seconds_per_view / (1.0 - self.scoring());
        let left = self.clock.left();
        let seconds = left.map(|s| fit_seconds(s, self.views.len(), per_view));
        let cost = if self.writes { WRITER_STEP_COST } else { STEP_COST };
        let least = cost * self.seconds_per_view / self.task.tests.len() as f64;
        if seconds.is_some_and(|s| s <= least) {
            return Ok(Fitted::none(StopReason::Budget, Some("no time for a fit")));
        }
        let limits = FitLimits {
            seconds,
            steps: self.limits.steps,
            progress: None,
            memory_bytes: self.limits.memory_bytes,
            interrupted: self.limits.interrupted,
        };
        let began = Instant::now();
        let (engine, task, recipe) = (self.engine, self.task, self.recipe);
        let fitting = Fitting { engine, task, recipe, config: &config, limits };
        let fitted = guard("fit", || match (repeated, earlier) {
            (Some(repeated), _) => fitting.repeat(&repeated.parts, on_step),
            (None, Some((fitted, seconds))) => fitting.go_on(fitted, seconds, on_step),
            (None, None) => fitting.fresh(on_step),
        });
        self.seconds.fit = began.elapsed().as_secs_f64();
        let mut fitted = fitted?;
        // Without an adapter the base model predicts, at the baseline's cost.
        if fitted.fit.adapter.is_some() {
            self.seconds_per_view = per_view;
        }
        if self.task.examples.len() == 1 {
            let note = "one demonstration: leave-one-out is impossible, fitted end-to-end";
            fitted.fit.notes.push(note.to_owned());
        }
        Ok(fitted)
    }

    /// Maps under as many views as time allows, for each test.
    ///
    /// Without an adapter the baseline's maps are those of the first view, unless more than the greedy answer is
    /// wanted.
    pub(super) fn predict(
        &mut self,
        baseline: &[Predictions],
        adapter: Option<&Adapter>,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Predicted, Interrupted> {
        let began = Instant::now();
        let repeated = self.limits.replay.map(|r| r.chunks.as_slice());
        let of = repeated.map_or(self.views.len(), |_| self.views.len().min(self.repeated_views()));
        let mut predicted = Predicted {
            maps: vec![Predictions::default(); self.task.tests.len()],
            done: 0,
            of,
            chunks: vec![],
            settled: false,
        };
        let is_all = !self.writes || self.recipe.decode.method == DecodeMethod::Greedy;
        if adapter.is_none() && !baseline.is_empty() && is_all {
            predicted.add(1, baseline.to_vec());
        }
        let reserved = self.clock.left().map_or(0.0, |left| left * self.scoring());
        while predicted.done < of {
            self.check_interrupt()?;
            let (done, calls) = (predicted.done, predicted.chunks.len());
            let n = match repeated {
                Some(chunks) => chunks.get(calls).map_or(0, |&n| n.min(of - done)),
                None => self.next_chunk(done, of, reserved),
            };
            if n == 0 {
                break;
            }
            if repeated.is_none() && predicted.is_settled(self.recipe.views.stop) {
                predicted.settled = true;
                break;
            }
            let chunk_began = Instant::now();
            let left = self.clock.left().map(|left| (left - reserved).max(0.0));
            let earlier = &predicted.maps;
            let chunk =
                guard("prediction", || self.predict_chunk(adapter, earlier, done..done + n, left));
            let Some(chunk) = self.keep(chunk) else { break };
            self.seconds_per_view = chunk_began.elapsed().as_secs_f64() / n as f64;
            predicted.add(n, chunk);
            on_event(Event::Views { done: predicted.done, of });
        }
        self.seconds.predict = began.elapsed().as_secs_f64();
        Ok(predicted)
    }

    /// How many views to predict next; 0 if time is over but for the `reserved` seconds.
    fn next_chunk(&self, done: usize, of: usize, reserved: f64) -> usize {
        let wanted = VIEWS_AT_ONCE.min(of - done);
        let left = self.clock.left().map(|left| left - reserved);
        let affordable = affordable(left, wanted, self.seconds_per_view);
        // A fitted adapter is worth one view at the very least.
        if done == 0 { affordable.max(1) } else { affordable }
    }

    /// Views of the run that is repeated.
    fn repeated_views(&self) -> usize {
        self.limits.replay.map_or(0, |r| r.chunks.iter().sum())
    }

    /// Candidates, scores and vote for each test; empty if that fails.
    pub(super) fn choose(
        &mut self,
        predicted: &Predicted,
        adapter: Option<&Adapter>,
    ) -> Result<Chosen, Interrupted> {
        let began = Instant::now();
        let experts = metas(&self.fresh, adapter);
        let mut chosen = Chosen { metas: predicted.metas(), experts, ..Chosen::default() };
        if predicted.done > 0 {
            let candidates =
                guard("candidates", || self.candidates(predicted, adapter, &chosen.experts));
            self.check_interrupt()?;
            if let Some((candidates, n_scores)) = self.keep(candidates) {
                chosen.unscored = chosen.panel().experts.len() - n_scores;
                let fresh = !chosen.experts.is_empty();
                let scoring = if fresh { &mut chosen.experts } else { &mut chosen.metas };
                scoring.truncate(n_scores);
                let vote = |(candidates, maps): (Vec<Candidate>, &Predictions)| {
                    let tally = tally_votes(&candidates, chosen.panel(), &self.recipe.vote);
                    let (uncertainty, cut) = match maps {
                        Predictions::Cells(maps) => (uncertainty(maps), Vec::new()),
                        Predictions::Grids(proposals) => (None, cuts(proposals)),
                    };
                    TestRecord { candidates, tally, uncertainty, cut }
                };
                let tests = candidates.into_iter().zip(&predicted.maps).map(vote);
                let tests = guard("vote", || Ok::<_, Infallible>(tests.collect()));
                chosen.tests = self.keep(tests).unwrap_or_default();
            }
        }
        self.seconds.vote = began.elapsed().as_secs_f64();
        Ok(chosen)
    }

    /// The candidates of each test with their scores, and the number of maps, or of `experts` if there are any, that have
    /// scored them.
    fn candidates(
        &self,
        predicted: &Predicted,
        adapter: Option<&Adapter>,
        experts: &[MapMeta],
    ) -> Result<(Vec<Vec<Candidate>>, usize), EngineError> {
        let config = &self.recipe.candidates;
        let mut candidates: Vec<Vec<Candidate>> = Vec::with_capacity(predicted.maps.len());
        for maps in &predicted.maps {
            candidates.push(match maps {
                Predictions::Cells(maps) => collect_candidates(maps, config),
                Predictions::Grids(proposals) => merge_proposals(proposals, config),
            });
        }
        let n_maps = predicted.metas().len();
        let mut n_scores = n_maps;
        if !experts.is_empty() {
            n_scores = experts.len();
            candidates.iter_mut().flatten().for_each(|candidate| candidate.log_probs.clear());
        } else if !predicted.maps.iter().any(|maps| matches!(maps, Predictions::Grids(_))) {
            return Ok((candidates, n_maps));
        }
        let began = Instant::now();
        for map in 0..n_scores {
            // The first map is scored in any case, or there would be nothing to vote with.
            let each = began.elapsed().as_secs_f64() / map.max(1) as f64;
            let over = match self.limits.replay {
                Some(replay) => replay.scored.is_some_and(|n| map >= n),
                None => self.clock.left().is_some_and(|left| left < each),
            };
            if map > 0 && (over || self.check_interrupt().is_err()) {
                if experts.is_empty() {
                    candidates.iter_mut().for_each(|candidates| forget_maps(candidates, map));
                }
                return Ok((candidates, map));
            }
            for (test, maps) in predicted.maps.iter().enumerate() {
                let (under, said) = match (experts, maps) {
                    ([], Predictions::Cells(_)) => continue,
                    ([], Predictions::Grids(maps)) => (&maps[map].meta, maps[map].grids.as_slice()),
                    (experts, _) => (&experts[map], &[][..]),
                };
                let (found, memory) = (&candidates[test], self.limits.memory_bytes);
                let scores =
                    scores(self.engine, self.task, test, adapter, under, said, found, memory)?;
                add_scores(&mut candidates[test], scores);
            }
        }
        Ok((candidates, n_scores))
    }

    /// The record, and the adapter.
    pub(super) fn finish(
        mut self,
        baseline: Vec<Grid>,
        fitted: Fitted,
        predicted: &Predicted,
        chosen: Chosen,
    ) -> Solved {
        let mut attempts = fallback_attempts(self.task);
        for (attempts, first) in attempts.iter_mut().zip(&baseline) {
            *attempts = [first.clone(), attempts[0].clone()];
        }
        for (attempts, test) in attempts.iter_mut().zip(&chosen.tests) {
            *attempts = test.tally.attempts(&test.candidates, &attempts[0]);
        }
        let Predicted { done, of, chunks, settled, .. } = predicted;
        let Fitted { fit, parts, held_out } = fitted;
        let mut notes = fit.notes;
        if *settled {
            notes.push(format!("settled after {done} of {of} views"));
        } else if done < of {
            notes.push(format!("{done} of {of} views"));
        }
        notes.extend(predicted.notes());
        let n_scores = chosen.panel().experts.len();
        if chosen.unscored > 0 {
            let n = n_scores;
            notes.push(format!("time for scores under {n} of {} predictions", n + chosen.unscored));
        }
        self.seconds.total = self.clock.elapsed();
        let kept = fit.curve.iter().take(fit.best_step);
        let mut record = TaskRecord {
            task: self.task.id.clone(),
            attempts,
            baseline,
            failed: self.failed,
            notes,
            fitted: fit.adapter.is_some(),
            stop: fit.stop,
            start: fit.start,
            steps: fit.steps,
            best_step: fit.best_step,
            check: kept.filter_map(|step| step.check).next_back(),
            parts,
            held_out,
            difficulty: None,
            abstained: false,
            views: *done,
            chunks: chunks.clone(),
            seconds: self.seconds,
            curve: Curve(fit.curve),
            scored: (chosen.unscored > 0).then_some(n_scores),
            maps: chosen.metas,
            experts: chosen.experts,
            tests: chosen.tests,
        };
        record.difficulty = record.estimate_difficulty();
        Solved { record, adapter: fit.adapter }
    }
}

/// The candidates of a test with what every prediction says of them, however long that takes.
pub(super) fn scored_candidates(
    engine: &dyn Engine,
    task: &Task,
    test: usize,
    adapter: Option<&Adapter>,
    predictions: &Predictions,
    config: &CandidateConfig,
    memory_bytes: u64,
) -> Result<Vec<Candidate>, EngineError> {
    let proposals = match predictions {
        Predictions::Cells(maps) => return Ok(collect_candidates(maps, config)),
        Predictions::Grids(proposals) => proposals,
    };
    let mut candidates = merge_proposals(proposals, config);
    for Proposals { meta, grids, .. } in proposals {
        let scores = scores(engine, task, test, adapter, meta, grids, &candidates, memory_bytes)?;
        add_scores(&mut candidates, scores);
    }
    Ok(candidates)
}

/// What one map says of each candidate; only what it has not `said` by itself is asked for.
fn scores(
    engine: &dyn Engine,
    task: &Task,
    test: usize,
    adapter: Option<&Adapter>,
    under: &MapMeta,
    said: &[(Grid, f32)],
    candidates: &[Candidate],
    memory_bytes: u64,
) -> Result<Vec<f32>, EngineError> {
    let of = |grid: &Grid| said.iter().find(|(g, _)| g == grid).map(|(_, l)| *l);
    let known: Vec<Option<f32>> = candidates.iter().map(|c| of(&c.grid)).collect();
    let unknown = candidates.iter().zip(&known).filter(|(_, known)| known.is_none());
    let asked: Vec<&Grid> = unknown.map(|(candidate, _)| &candidate.grid).collect();
    let mut scores = Vec::new();
    if !asked.is_empty() {
        scores = engine.score(task, test, adapter, under, &asked, memory_bytes)?;
    }
    let mut scores = scores.into_iter();
    Ok(known.into_iter().map(|k| k.or_else(|| scores.next()).unwrap_or(IMPOSSIBLE)).collect())
}

/// What was chosen from: the maps, and the candidates and tally of each test.
#[derive(Default)]
pub(super) struct Chosen {
    /// Where they score the candidates, those that did.
    metas: Vec<MapMeta>,
    /// Fresh views that have scored the candidates; empty where the maps do.
    experts: Vec<MapMeta>,
    tests: Vec<TestRecord>,
    /// Maps or fresh views without scores, for want of time.
    unscored: usize,
}

impl Chosen {
    /// Whether there was no vote.
    pub(super) fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    fn panel(&self) -> Panel<'_> {
        Panel::new(&self.metas, &self.experts)
    }
}

/// The searches that were cut short.
fn cuts(proposals: &[Proposals]) -> Vec<CutShort> {
    let cut =
        |(map, p): (usize, &Proposals)| Some(CutShort { map, reason: p.cut?, nodes: p.nodes });
    proposals.iter().enumerate().filter_map(cut).collect()
}

impl Predicted {
    /// What each map was made under, the same for every test.
    fn metas(&self) -> Vec<MapMeta> {
        self.maps.first().map_or(Vec::new(), Predictions::metas)
    }

    /// What a reader should know of the predictions.
    fn notes(&self) -> Vec<String> {
        let all: Vec<&Proposals> = self
            .maps
            .iter()
            .flat_map(|maps| match maps {
                Predictions::Grids(proposals) => proposals.as_slice(),
                Predictions::Cells(_) => &[],
            })
            .collect();
        let mut notes = Vec::new();
        let cut = all.iter().filter(|p| p.cut.is_some()).count();
        if cut > 0 {
            notes.push(format!("{cut} of {} searches are incomplete", all.len()));
        }
        let left_out = all.iter().map(|p| p.left_out).max().unwrap_or(0);
        if left_out > 0 {
            notes.push(format!(
                "up to {left_out} demonstrations left out of a prompt, the longest first: the model's context \
                 holds no more"
            ));
        }
        notes
    }

    /// Whether these are too few views to stand in place of `earlier` ones: fewer, and fewer than half of those wanted. A view or
    /// two of many is missing by chance, since a fit leaves what views take on average.
    pub(super) fn are_too_few_after(&self, earlier: usize) -> bool {
        !self.settled && self.done < earlier.min(self.of.div_ceil(2))
    }

    /// Whether the views done so far settle every test.
    fn is_settled(&self, stop: ViewStop) -> bool {
        self.maps.iter().all(|maps| {
            let a_view = maps.len() / self.done.max(1);
            stop.is_settled(maps, (self.of - self.done) * a_view)
        })
    }

    /// Adds the maps of the next `n` views, for each test.
    fn add(&mut self, n: usize, chunk: Vec<Predictions>) {
        for (maps, new) in self.maps.iter_mut().zip(chunk) {
            maps.extend(new);
        }
        self.done += n;
        self.chunks.push(n);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::pipeline::mock::{Mock, recipe, record, task};

    static IDLE: AtomicBool = AtomicBool::new(false);

    fn limits() -> TaskLimits<'static> {
        let (seconds, steps) = (Some(60.0), Some(1));
        TaskLimits { seconds, steps, memory_bytes: 1, replay: None, interrupted: &IDLE }
    }

    #[test]
    fn a_view_costs_what_the_baseline_did_unless_something_was_fitted() {
        let mut recipe = recipe();
        recipe.fit.format = FitFormat::E2e;
        for (id, is_fitted) in [("a", true), ("panic-fit", false), ("too-large", false)] {
            let (engine, task) = (Mock::default(), task(id).without_answers());
            let mut solving = Solving::begin(&engine, &task, &recipe, limits());
            solving.seconds_per_view = 0.1;
            assert_eq!(solving.fit(None, &mut |_| {}).is_ok(), is_fitted, "{id}");
            assert_eq!(solving.seconds_per_view < 0.1, is_fitted, "{id}");
        }
    }

    #[test]
    fn a_later_visit_needs_half_of_its_views_or_as_many_as_the_one_before() {
        let too_few = |done, settled, earlier| {
            let predicted = Predicted { maps: vec![], done, of: 16, chunks: vec![], settled };
            predicted.are_too_few_after(earlier)
        };
        for (done, settled, earlier, expected) in [
            (16, false, 16, false),
            (15, false, 16, false),
            (8, false, 16, false),
            (7, false, 16, true),
            (7, true, 16, false),
            (8, false, 9, false),
            (3, false, 3, false),
            (2, false, 3, true),
        ] {
            assert_eq!(too_few(done, settled, earlier), expected, "{done} after {earlier}");
        }
    }

    #[test]
    fn a_later_visit_expects_the_views_of_a_single_demonstration_to_take_as_long_as_before() {
        let mut recipe = recipe();
        recipe.fit.format = FitFormat::Icl;
        let (engine, mut task) = (Mock::default(), task("a").without_answers());
        task.examples.truncate(1);
        let mut record = record(&task, &recipe, 1);
        record.seconds.predict = record.views as f64;
        let mut solving = Solving::begin(&engine, &task, &recipe, limits());
        solving.expect_as(&record);
        solving.fit(None, &mut |_| {}).unwrap();
        assert!((solving.seconds_per_view - 1.0).abs() < 1e-9, "{}", solving.seconds_per_view);
    }
}
