//! Answers under views, and how probable given ones are.

use std::time::{Duration, Instant};

use super::LlamaEngine;
use super::writer::Prompt;
use crate::arc::{Grid, Task, View};
use crate::candidate::{CutReason, IMPOSSIBLE, MapMeta, Proposals};
use crate::dataset::Format;
use crate::engine::{Adapter, DecodeMethod, EngineError, PredictPlan};
use crate::llama::{
    Generated, Incomplete, Lora, SearchLimits, greedy, sample, score as scores, search,
};
use crate::rng::stream;

/// Tokens of prompts that are decoded side by side at most.
const TOKENS_AT_ONCE: usize = 1 << 14;

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
    let firsts = side_by_side(engine, &asked, 1, &mut |prompts, ends, _| {
        Ok(greedy(&engine.model, lora, prompts, ends, usize::MAX, engine.writer.answers())?)
    })?;
    let mut proposals: Vec<Proposals> = asked
        .iter()
        .zip(&firsts)
        .map(|((meta, prompt), first)| {
            let mut proposals = Proposals {
                meta: meta.clone(),
                grids: Vec::new(),
                cut: (!first[0].ended).then_some(CutReason::Length),
                nodes: 0,
                left_out: prompt.left_out,
            };
            propose(engine, &mut proposals, &first[0].tokens, first[0].log_prob);
            proposals
        })
        .collect();
    match plan.decode.method {
        DecodeMethod::Greedy => {}
        DecodeMethod::Sample => {
            let stage = |i: usize| {
                let meta = serde_json::to_string(&asked[i].0).expect("views have a JSON form");
                format!("sample/{test}/{meta}")
            };
            let n = plan.decode.samples;
            let drawn = side_by_side(engine, &asked, n, &mut |prompts, ends, which| {
                let rngs =
                    which.iter().map(|&(i, k)| stream(plan.seed, &task.id, &stage(i), k as u64));
                let mut rngs: Vec<_> = rngs.collect();
                let (model, answers) = (&engine.model, engine.writer.answers());
                Ok(sample(model, lora, prompts, ends, plan.decode.temperature, &mut rngs, answers)?)
            })?;
            for (proposals, drawn) in proposals.iter_mut().zip(&drawn) {
                for answer in drawn {
                    propose(engine, proposals, &answer.tokens, answer.log_prob);
                }
            }
        }
        DecodeMethod::Search => {
            for (i, proposals) in proposals.iter_mut().enumerate() {
                let left = plan.seconds.map(|s| (s - began.elapsed().as_secs_f64()).max(0.0));
                let share = left.map(|left| left / (asked.len() - i) as f64);
                search_one(engine, lora, &asked[i].1, &firsts[i][0], i, share, plan, proposals)?;
            }
        }
    }
    Ok(proposals)
}

/// Searches under one view, with the greedy answer as the guess; `share` are the seconds that it may take.
fn search_one(
    engine: &LlamaEngine,
    lora: Option<&Lora>,
    prompt: &Prompt,
    first: &Generated,
    index: usize,
    share: Option<f64>,
    plan: PredictPlan<'_>,
    proposals: &mut Proposals,
) -> Result<(), EngineError> {
    let own = Some(plan.decode.seconds).filter(|&s| s > 0.0);
    let seconds = share.into_iter().chain(own).reduce(f64::min);
    let repeated = plan.cut_after.map(|cut| cut.get(index).copied().flatten());
    let max_nodes = plan.decode.max_nodes;
    let limits = SearchLimits {
        threshold: plan.decode.threshold,
        max_new_tokens: usize::MAX,
        max_nodes: repeated.flatten().unwrap_or(max_nodes).min(max_nodes),
        time: seconds.filter(|_| repeated.is_none()).map(Duration::from_secs_f64),
    };
    let answers = engine.writer.answers();
    let (tokens, ends) = (&prompt.tokens, &answers.ends);
    let found = search(&engine.model, lora, tokens, &first.tokens, ends, &limits, answers)?;
    for answer in &found.answers {
        propose(engine, proposals, &answer.tokens, answer.log_prob);
    }
    proposals.nodes = found.nodes;
    proposals.cut = found.incomplete.map(|why| match why {
        Incomplete::Length => CutReason::Length,
        Incomplete::Nodes if repeated.flatten().is_some() => CutReason::Time,
        Incomplete::Nodes => CutReason::Nodes,
        Incomplete::Time => CutReason::Time,
    });
    Ok(())
}

/// The log-probability of grids under a view; see [`crate::engine::Engine::score`].
pub(super) fn score(
    engine: &LlamaEngine,
    task: &Task,
    test: usize,
    adapter: Option<&Adapter>,
    under: &MapMeta,
    grids: &[&Grid],
) -> Result<Vec<f32>, EngineError> {
    let lora = engine.lora(adapter)?;
    let prompt = prompt(engine, task, test, under)?;
    let answer = |grid: &&Grid| engine.writer.answer(&prompt, &under.view.apply(grid));
    let answers = grids.iter().map(answer).collect::<Result<Vec<_>, _>>()?;
    // Its last token is predicted and not read.
    let fits = |a: &Vec<u32>| prompt.tokens.len() + a.len() <= engine.model.config.max_length + 1;
    let possible: Vec<Vec<u32>> = answers.iter().filter(|a| fits(a)).cloned().collect();
    let mut known = scores(&engine.model, lora.as_ref(), &prompt.tokens, &possible)?.into_iter();
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

/// Decodes prompts, which of the asked ones and which repetition of it.
type Decode<'a> =
    dyn FnMut(&[Vec<u32>], &[u32], &[(usize, usize)]) -> Result<Vec<Generated>, EngineError> + 'a;

/// Decodes each prompt `n` times, as many side by side as there is room for.
fn side_by_side(
    engine: &LlamaEngine,
    asked: &[Asked],
    n: usize,
    decode: &mut Decode<'_>,
) -> Result<Vec<Vec<Generated>>, EngineError> {
    let ends = &engine.writer.answers().ends;
    let all: Vec<(usize, usize)> =
        (0..asked.len()).flat_map(|i| (0..n).map(move |k| (i, k))).collect();
    let longest = asked.iter().map(|(_, prompt)| prompt.tokens.len()).max().unwrap_or(1);
    let mut decoded = vec![Vec::with_capacity(n); asked.len()];
    for part in all.chunks((TOKENS_AT_ONCE / longest).max(1)) {
        let prompts: Vec<Vec<u32>> = part.iter().map(|&(i, _)| asked[i].1.tokens.clone()).collect();
        for (&(i, _), answer) in part.iter().zip(decode(&prompts, ends, part)?) {
            decoded[i].push(answer);
        }
    }
    Ok(decoded)
}
