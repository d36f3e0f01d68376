//! Answers under views, and how probable given ones are.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::LlamaEngine;
use super::memory::cached_tokens;
use super::writer::Prompt;
use crate::arc::{Grid, Task, View};
use crate::candidate::{CutReason, IMPOSSIBLE, MapMeta, Proposals};
use crate::dataset::Format;
use crate::engine::{Adapter, DecodeMethod, EngineError, PredictPlan};
use crate::llama::{
    Incomplete, Search, SearchLimits, Searches, beam, greedy, sample, score as scores,
};
use crate::rng::stream;

/// Tokens of prompts that are decoded side by side at most, whatever the memory.
const PROMPTS_AT_ONCE: usize = 1 << 14;

/// Tokens of answers that are scored side by side at most, with their copies of the prompt.
const ANSWERS_AT_ONCE: usize = 1 << 15;

/// A prompt with what it was made under.
type Asked = (MapMeta, Prompt);

/// Writes a test's output under each view; see [`crate::engine::Engine::predict`].
pub(super) fn predict(
    engine: &LlamaEngine,
    task: &Task,
    test: usize,
    adapter: Option<&Adapter>,
    views: &[View],
    plan: PredictPlan<'_>,
) -> Result<Vec<Proposals>, EngineError> {
    let began = Instant::now();
    let lora = engine.lora(adapter)?;
    let lora = lora.as_ref();
    let formats = adapter.map_or(vec![Format::Icl], |a| a.formats.clone());
    let metas = views
        .iter()
        .flat_map(|view| formats.iter().map(|&format| MapMeta { view: view.clone(), format }));
    let asked = metas.map(|meta| Ok((meta.clone(), prompt(engine, task, test, &meta)?)));
    let asked = asked.collect::<Result<Vec<Asked>, EngineError>>()?;
    let mut proposals: Vec<Proposals> = asked.iter().map(nothing_yet).collect();
    let (model, answers) = (&engine.model, engine.writer.answers());
    let at_once = cached_tokens(engine, plan.memory_bytes).min(PROMPTS_AT_ONCE);
    for part in side_by_side(&asked, 1, at_once) {
        let prompts: Vec<Vec<u32>> = part.clone().map(|i| asked[i].1.tokens.clone()).collect();
        let (ends, method) = (&answers.ends, plan.decode.method);
        let (firsts, begun) = if method == DecodeMethod::Search {
            let threshold = plan.decode.threshold;
            let (firsts, begun) =
                Searches::behind_greedy(model, lora, &prompts, ends, threshold, answers)?;
            (firsts, Some(begun))
        } else {
            (greedy(model, lora, &prompts, ends, usize::MAX, answers)?, None)
        };
        for (i, first) in part.clone().zip(&firsts) {
            proposals[i].cut = (!first.ended).then_some(CutReason::Length);
            propose(engine, &mut proposals[i], &first.tokens, first.log_prob);
        }
        if let Some(begun) = begun {
            let left = plan.seconds.map(|s| (s - began.elapsed().as_secs_f64()).max(0.0));
            let share = part.len() as f64 / (asked.len() - part.start) as f64;
            let limits: Vec<_> =
                part.clone().map(|i| limits(i, left.map(|s| s * share), plan)).collect();
            for (i, found) in part.zip(begun.run(&limits)?) {
                take_in(engine, &mut proposals[i], &found, repeated(i, plan));
            }
        }
    }
    match plan.decode.method {
        DecodeMethod::Greedy | DecodeMethod::Search => {}
        DecodeMethod::Sample => {
            let n = plan.decode.samples;
            for part in side_by_side(&asked, n, at_once) {
                let which = part.map(|drawn| (drawn / n, drawn % n));
                let prompts = which.clone().map(|(i, _)| asked[i].1.tokens.clone());
                let rngs = which.clone().map(|(i, k)| {
                    let meta = serde_json::to_string(&asked[i].0).expect("views have a JSON form");
                    let stage = format!("sample/{test}/{meta}");
                    stream(plan.seed, &task.id, &stage, k as u64)
                });
                let (prompts, mut rngs): (Vec<_>, Vec<_>) = (prompts.collect(), rngs.collect());
                let (ends, temperature) = (&answers.ends, plan.decode.temperature);
                let drawn = sample(model, lora, &prompts, ends, temperature, &mut rngs, answers)?;
                for ((i, _), answer) in which.zip(&drawn) {
                    propose(engine, &mut proposals[i], &answer.tokens, answer.log_prob);
                }
            }
        }
        DecodeMethod::Beam => {
            for ((_, prompt), proposals) in asked.iter().zip(&mut proposals) {
                let (tokens, width) = (&prompt.tokens, plan.decode.beams);
                let n_rows = |tokens: &[u32]| answers.n_rows(tokens);
                for found in beam(model, lora, tokens, width, &answers.ends, answers, &n_rows)? {
                    propose(engine, proposals, &found.tokens, found.log_prob);
                }
            }
        }
    }
    Ok(proposals)
}

fn nothing_yet((meta, prompt): &Asked) -> Proposals {
    let left_out = prompt.left_out;
    Proposals { meta: meta.clone(), grids: Vec::new(), cut: None, nodes: 0, left_out }
}

/// Prompts, each `n` times, in parts of at most so many tokens, or of one prompt.
fn side_by_side(
    asked: &[Asked],
    n: usize,
    at_once: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let longest = asked.iter().map(|(_, prompt)| prompt.tokens.len()).max().unwrap_or(1);
    let (all, at_once) = (asked.len() * n, (at_once / longest).max(1));
    (0..all).step_by(at_once).map(move |start| start..all.min(start + at_once))
}

/// The steps after which this search was cut for want of time in the run that is repeated.
fn repeated(index: usize, plan: PredictPlan<'_>) -> Option<usize> {
    plan.cut_after.and_then(|cut| cut.get(index).copied().flatten())
}

/// What a search may spend; `share` are seconds.
fn limits(index: usize, share: Option<f64>, plan: PredictPlan<'_>) -> SearchLimits {
    let own = Some(plan.decode.seconds).filter(|&s| s > 0.0);
    let seconds = share.into_iter().chain(own).reduce(f64::min);
    let max_nodes = plan.decode.max_nodes;
    SearchLimits {
        max_new_tokens: usize::MAX,
        max_nodes: repeated(index, plan).unwrap_or(max_nodes).min(max_nodes),
        time: seconds.filter(|_| plan.cut_after.is_none()).map(Duration::from_secs_f64),
    }
}

/// Adds what a search has found.
fn take_in(
    engine: &LlamaEngine,
    proposals: &mut Proposals,
    found: &Search,
    repeated: Option<usize>,
) {
    for answer in &found.answers {
        propose(engine, proposals, &answer.tokens, answer.log_prob);
    }
    proposals.nodes = found.nodes;
    proposals.cut = found.incomplete.map(|why| match why {
        Incomplete::Length => CutReason::Length,
        Incomplete::Nodes if repeated.is_some() => CutReason::Time,
        Incomplete::Nodes => CutReason::Nodes,
        Incomplete::Time => CutReason::Time,
    });
}

/// The log-probability of grids under a view; see [`crate::engine::Engine::score`].
pub(super) fn score(
    engine: &LlamaEngine,
    task: &Task,
    test: usize,
    adapter: Option<&Adapter>,
    under: &MapMeta,
    grids: &[&Grid],
    memory_bytes: u64,
) -> Result<Vec<f32>, EngineError> {
    let lora = engine.lora(adapter)?;
    let prompt = prompt(engine, task, test, under)?;
    let answer = |grid: &&Grid| engine.writer.answer(&prompt, &under.view.apply(grid));
    let answers = grids.iter().map(answer).collect::<Result<Vec<_>, _>>()?;
    // Its last token is predicted and not read.
    let fits = |a: &Vec<u32>| prompt.tokens.len() + a.len() <= engine.model.config.max_length + 1;
    let possible: Vec<Vec<u32>> = answers.iter().filter(|a| fits(a)).cloned().collect();
    let cached = cached_tokens(engine, memory_bytes).min(ANSWERS_AT_ONCE);
    let known = scores(&engine.model, lora.as_ref(), &prompt.tokens, &possible, cached)?;
    let mut known = known.into_iter();
    let log_prob = |answer: &Vec<u32>| match fits(answer) {
        true => known.next().map_or(IMPOSSIBLE, |score| (score.log_prob as f32).max(IMPOSSIBLE)),
        false => IMPOSSIBLE,
    };
    Ok(answers.iter().map(log_prob).collect())
}

/// The prompt for a test under a view, in a format.
fn prompt(
    engine: &LlamaEngine,
    task: &Task,
    test: usize,
    under: &MapMeta,
) -> Result<Prompt, EngineError> {
    let shown = under.view.apply_task(task);
    let demonstrations = match under.format {
        Format::Icl => shown.examples.as_slice(),
        Format::E2e => &[],
    };
    let most = engine.model.config.max_length;
    let prompt = engine.writer.prompt(demonstrations, &shown.tests[test].input, most)?;
    if prompt.tokens.len() > most {
        return Err(EngineError::TooLong { tokens: prompt.tokens.len(), most });
    }
    Ok(prompt)
}

/// Adds what an answer's tokens spell, if it is a grid and better than what there is of it.
fn propose(engine: &LlamaEngine, proposals: &mut Proposals, tokens: &[u32], log_prob: f64) {
    let Some(shown) = engine.writer.read(tokens) else { return };
    let (grid, log_prob) = (proposals.meta.view.invert(&shown), log_prob as f32);
    // The same text can come of other tokens; the first way is the most probable one or the greedy answer.
    if proposals.grids.iter().any(|(known, _)| *known == grid) {
        return;
    }
    let at = proposals.grids.partition_point(|(_, other)| *other >= log_prob);
    proposals.grids.insert(at, (grid, log_prob));
}
