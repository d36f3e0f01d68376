//! Answers under views, and how probable given ones are.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::LlamaEngine;
use super::memory::cached_tokens;
use super::writer::Prompt;
use crate::arc::{Grid, Task, View};
use crate::candidate::{CutReason, IMPOSSIBLE, MapMeta, Proposals, favorite};
use crate::dataset::Format;
use crate::engine::{Adapter, DecodeMethod, EngineError, PredictPlan, metas};
use crate::llama::{
    Generated, Incomplete, Lora, Search, SearchLimits, Searches, beam, greedy, sample,
    score as scores,
};
use crate::rng::stream;

/// Tokens of prompts that are decoded side by side at most, whatever the memory.
const PROMPTS_AT_ONCE: usize = 1 << 14;

/// Tokens of answers that are scored side by side at most, with their copies of the prompt.
const ANSWERS_AT_ONCE: usize = 1 << 15;

/// A prompt, and what was written behind it.
struct Writing {
    prompt: Prompt,
    proposals: Proposals,
    /// Grids that were written in other tokens than those that are asked for their score, with these.
    respelt: Vec<(Grid, Vec<u32>)>,
}

/// Writes a test's output under each view; see [`crate::engine::Engine::predict`].
pub(super) fn predict(
    engine: &LlamaEngine,
    task: &Task,
    test: usize,
    adapter: Option<&Adapter>,
    views: &[View],
    plan: PredictPlan<'_>,
) -> Result<Vec<Proposals>, EngineError> {
    let lora = engine.lora(adapter)?;
    let call = Call { engine, lora: lora.as_ref(), plan, began: Instant::now() };
    let writings =
        metas(views, adapter).into_iter().map(|meta| Writing::new(engine, task, test, meta));
    let mut writings = writings.collect::<Result<Vec<Writing>, EngineError>>()?;
    match plan.decode.method {
        DecodeMethod::Greedy => call.write_first(&mut writings)?,
        DecodeMethod::Search => call.search(&mut writings)?,
        DecodeMethod::Sample => {
            call.write_first(&mut writings)?;
            call.draw(&mut writings, &task.id, test)?;
        }
        DecodeMethod::Beam => {
            call.write_first(&mut writings)?;
            call.follow_beams(&mut writings)?;
        }
    }
    writings.into_iter().map(|writing| call.finish(writing)).collect()
}

/// A prediction under way.
#[derive(Clone, Copy)]
struct Call<'a> {
    engine: &'a LlamaEngine,
    lora: Option<&'a Lora>,
    plan: PredictPlan<'a>,
    began: Instant,
}

impl Call<'_> {
    /// Tokens whose keys and values the memory holds.
    fn memory(&self) -> usize {
        cached_tokens(self.engine, self.plan.memory_bytes)
    }

    /// Seconds that are left, if there is a limit.
    fn left(&self) -> Option<f64> {
        self.plan.seconds.map(|s| (s - self.began.elapsed().as_secs_f64()).max(0.0))
    }

    /// The most probable token after token.
    fn write_first(&self, writings: &mut [Writing]) -> Result<(), EngineError> {
        let (model, answers) = (&self.engine.model, self.engine.writer.answers());
        for part in self.side_by_side(writings, 1) {
            let part = &mut writings[part];
            let prompts: Vec<Vec<u32>> = part.iter().map(|w| w.prompt.tokens.clone()).collect();
            let firsts = greedy(model, self.lora, &prompts, &answers.ends, usize::MAX, answers)?;
            for (writing, first) in part.iter_mut().zip(&firsts) {
                writing.take_in_one(self.engine, first)?;
            }
        }
        Ok(())
    }

    /// That, and everything above the threshold. What most views before a part have proposed is its guess.
    fn search(&self, writings: &mut [Writing]) -> Result<(), EngineError> {
        let (model, answers) = (&self.engine.model, self.engine.writer.answers());
        let n = writings.len();
        for range in self.side_by_side(writings, 1) {
            let (done, following) = writings.split_at_mut(range.start);
            let part = &mut following[..range.len()];
            let earlier = self.plan.earlier.iter().chain(done.iter().map(|w| &w.proposals));
            let guesses = guesses(self.engine, favorite(earlier), part)?;
            let prompts: Vec<Vec<u32>> = part.iter().map(|w| w.prompt.tokens.clone()).collect();
            let (ends, threshold) = (&answers.ends, self.plan.decode.threshold);
            let (firsts, begun) = Searches::behind_greedy(
                model, self.lora, &prompts, &guesses, ends, threshold, answers,
            )?;
            for (writing, first) in part.iter_mut().zip(&firsts) {
                writing.take_in_one(self.engine, first)?;
            }
            let share = part.len() as f64 / (n - range.start) as f64;
            let seconds = self.left().map(|left| left * share);
            let limits: Vec<_> = range.clone().map(|i| limits(i, seconds, self.plan)).collect();
            for ((i, writing), found) in range.zip(part).zip(begun.run(&limits)?) {
                writing.take_in(self.engine, &found, repeated(i, self.plan))?;
            }
        }
        Ok(())
    }

    /// Grids drawn at random, until time is over.
    fn draw(&self, writings: &mut [Writing], task: &str, test: usize) -> Result<(), EngineError> {
        let (model, answers, plan) = (&self.engine.model, self.engine.writer.answers(), self.plan);
        let n = plan.decode.samples;
        let cut = (0..writings.len()).find_map(|i| Some(i * n + repeated(i, plan)?));
        for part in self.side_by_side(writings, n) {
            let (first, start) = (part.start / n, part.start);
            let over = plan.cut_after.is_none() && self.left() == Some(0.0);
            if over || cut.is_some_and(|cut| start >= cut) {
                // For this view some may have been drawn, for those behind it none.
                for (i, writing) in writings.iter_mut().enumerate().skip(first) {
                    writing.proposals.cut = Some(CutReason::Time);
                    writing.proposals.nodes = start.saturating_sub(i * n);
                }
                break;
            }
            let which = part.map(|drawn| (drawn / n, drawn % n));
            let prompts = which.clone().map(|(i, _)| writings[i].prompt.tokens.clone());
            let rngs = which.clone().map(|(i, k)| {
                let meta = &writings[i].proposals.meta;
                let meta = serde_json::to_string(meta).expect("views have a JSON form");
                stream(plan.seed, task, &format!("sample/{test}/{meta}"), k as u64)
            });
            let (prompts, mut rngs): (Vec<_>, Vec<_>) = (prompts.collect(), rngs.collect());
            let (ends, temperature) = (&answers.ends, plan.decode.temperature);
            let drawn = sample(model, self.lora, &prompts, ends, temperature, &mut rngs, answers)?;
            for ((i, _), answer) in which.zip(&drawn) {
                writings[i].take_in_one(self.engine, answer)?;
            }
        }
        Ok(())
    }

    /// What a beam finds, as wide as the memory allows.
    fn follow_beams(&self, writings: &mut [Writing]) -> Result<(), EngineError> {
        let (model, answers, plan) = (&self.engine.model, self.engine.writer.answers(), self.plan);
        let n_rows = |tokens: &[u32]| answers.n_rows(tokens);
        let (n, memory) = (writings.len(), self.memory());
        for (i, writing) in writings.iter_mut().enumerate() {
            let (tokens, ends) = (&writing.prompt.tokens, &answers.ends);
            // A beam holds two copies of the prompt for each beginning.
            let most = (memory / (2 * tokens.len())).max(1);
            let width = plan.decode.beams.min(most);
            let limits = limits(i, self.left().map(|left| left / (n - i) as f64), plan);
            let found = beam(model, self.lora, tokens, width, ends, answers, &n_rows, limits)?;
            writing.take_in(self.engine, &found, repeated(i, plan))?;
            if width < plan.decode.beams {
                writing.proposals.cut.get_or_insert(CutReason::Memory);
            }
        }
        Ok(())
    }

    /// Prompts, each `n` times, in parts that the memory holds, or of one prompt.
    fn side_by_side(
        &self,
        writings: &[Writing],
        n: usize,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let longest = writings.iter().map(|w| w.prompt.tokens.len()).max().unwrap_or(1);
        let at_once = (self.memory().min(PROMPTS_AT_ONCE) / longest).max(1);
        let all = writings.len() * n;
        (0..all).step_by(at_once).map(move |start| start..all.min(start + at_once))
    }

    /// The proposals, with the scores of what was written in other tokens alone.
    fn finish(&self, mut writing: Writing) -> Result<Proposals, EngineError> {
        let respelt = std::mem::take(&mut writing.respelt).into_iter();
        let (grids, answers): (Vec<Grid>, Vec<Vec<u32>>) =
            respelt.filter(|(grid, _)| !writing.is_known(grid)).unzip();
        if !grids.is_empty() {
            let memory_bytes = self.plan.memory_bytes;
            let scores =
                score_answers(self.engine, self.lora, &writing.prompt, &answers, memory_bytes)?;
            grids.into_iter().zip(scores).for_each(|(grid, score)| writing.add(grid, score));
        }
        Ok(writing.proposals)
    }
}

/// A grid as the answer to each prompt, written as its view shows it; nothing without one.
fn guesses(
    engine: &LlamaEngine,
    grid: Option<&Grid>,
    part: &[Writing],
) -> Result<Vec<Vec<u32>>, EngineError> {
    let Some(grid) = grid else { return Ok(Vec::new()) };
    let guess = |w: &Writing| engine.writer.answer(&w.prompt, &w.proposals.meta.view.apply(grid));
    Ok(part.iter().map(guess).collect::<Result<_, _>>()?)
}

impl Writing {
    fn new(
        engine: &LlamaEngine,
        task: &Task,
        test: usize,
        meta: MapMeta,
    ) -> Result<Self, EngineError> {
        let prompt = prompt(engine, task, test, &meta)?;
        let left_out = prompt.left_out;
        let proposals = Proposals { meta, grids: Vec::new(), cut: None, nodes: 0, left_out };
        Ok(Self { prompt, proposals, respelt: Vec::new() })
    }

    /// Adds an answer, which may have been cut off.
    fn take_in_one(&mut self, engine: &LlamaEngine, answer: &Generated) -> Result<(), EngineError> {
        if !answer.ended {
            self.proposals.cut.get_or_insert(CutReason::Length);
        }
        self.propose(engine, &answer.tokens, answer.log_prob)
    }

    /// Adds what a search or a beam has found.
    fn take_in(
        &mut self,
        engine: &LlamaEngine,
        found: &Search,
        repeated: Option<usize>,
    ) -> Result<(), EngineError> {
        for answer in &found.answers {
            self.propose(engine, &answer.tokens, answer.log_prob)?;
        }
        self.proposals.nodes = found.nodes;
        self.proposals.cut = found.incomplete.map(|why| match why {
            Incomplete::Length => CutReason::Length,
            Incomplete::Nodes if repeated.is_some() => CutReason::Time,
            Incomplete::Nodes => CutReason::Nodes,
            Incomplete::Time => CutReason::Time,
        });
        Ok(())
    }

    /// Adds what an answer's tokens spell, if it is a grid.
    fn propose(
        &mut self,
        engine: &LlamaEngine,
        tokens: &[u32],
        log_prob: f64,
    ) -> Result<(), EngineError> {
        let Some(shown) = engine.writer.read(tokens) else { return Ok(()) };
        let grid = self.proposals.meta.view.invert(&shown);
        if self.is_known(&grid) {
            return Ok(());
        }
        // The same text can come of several tokens. Only those that other views are asked for make scores that compare.
        let own = engine.writer.answer(&self.prompt, &shown)?;
        if own == tokens {
            self.add(grid, log_prob as f32);
        } else if self.respelt.iter().all(|(known, _)| *known != grid) {
            self.respelt.push((grid, own));
        }
        Ok(())
    }

    fn is_known(&self, grid: &Grid) -> bool {
        self.proposals.grids.iter().any(|(known, _)| known == grid)
    }

    fn add(&mut self, grid: Grid, log_prob: f32) {
        let grids = &mut self.proposals.grids;
        let at = grids.partition_point(|(_, other)| *other >= log_prob);
        grids.insert(at, (grid, log_prob));
    }
}

/// The steps after which this search was cut for want of time in the run that is repeated.
fn repeated(index: usize, plan: PredictPlan<'_>) -> Option<usize> {
    plan.cut_after.and_then(|cut| cut.get(index).copied().flatten())
}

/// What a search or a beam may spend; `share` are seconds.
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
    score_answers(engine, lora.as_ref(), &prompt, &answers, memory_bytes)
}

/// The log-probability of answers to a prompt, in nats; what the context cannot hold is impossible.
fn score_answers(
    engine: &LlamaEngine,
    lora: Option<&Lora>,
    prompt: &Prompt,
    answers: &[Vec<u32>],
    memory_bytes: u64,
) -> Result<Vec<f32>, EngineError> {
    // Its last token is predicted and not read.
    let fits = |a: &Vec<u32>| prompt.tokens.len() + a.len() <= engine.model.config.max_length + 1;
    let possible: Vec<Vec<u32>> = answers.iter().filter(|a| fits(a)).cloned().collect();
    let cached = cached_tokens(engine, memory_bytes).min(ANSWERS_AT_ONCE);
    let known = scores(&engine.model, lora, &prompt.tokens, &possible, cached)?;
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::Device;
    use serde_json::{Value, json};

    use super::*;
    use crate::arc::{Dihedral, Example, Test};
    use crate::llama::write_tokenizer;
    use crate::recipe::Recipe;

    const END: u32 = 12;

    /// A tiny model whose tokenizer writes two zeros in a row as one token, the 16th.
    fn engine() -> LlamaEngine {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::copy(golden.join("model.safetensors"), path("model.safetensors")).unwrap();
        let edit = |from: &std::path::Path, to: &str, change: &dyn Fn(&mut Value)| {
            let mut value = serde_json::from_slice(&std::fs::read(from).unwrap()).unwrap();
            change(&mut value);
            std::fs::write(path(to), value.to_string()).unwrap();
        };
        edit(&golden.join("config.json"), "config.json", &|config| {
            config["max_position_embeddings"] = json!(1024);
        });
        write_tokenizer(folder.path()).unwrap();
        edit(&path("tokenizer.json"), "tokenizer.json", &|tokenizer| {
            tokenizer["model"]["vocab"]["00"] = json!(16);
            tokenizer["model"]["merges"] = json!([["0", "0"]]);
        });
        let mut recipe = Recipe::resolve::<&str>("llama-default", &[]).unwrap();
        recipe.language.text_format = "nvarc".into();
        LlamaEngine::load(folder.path(), "tiny", &recipe.language, &Device::flex(), "cpu").unwrap()
    }

    fn task() -> Task {
        let grid = |n: u8| Grid::from_fn(2, 3, |r, c| (r as u8 * n + c as u8) % 10);
        let examples = vec![Example { input: grid(3), output: grid(5) }];
        Task { id: "a".into(), examples, tests: vec![Test { input: grid(7), output: None }] }
    }

    fn meta(dihedral: Dihedral) -> MapMeta {
        MapMeta { view: View { dihedral, ..View::IDENTITY }, format: Format::Icl }
    }

    const MEMORY: u64 = 1 << 26;

    #[test]
    fn a_grid_in_other_tokens_than_the_tokenizer_s_own_is_scored_in_those() {
        let (engine, task, meta) = (engine(), task(), meta(Dihedral::Identity));
        let decode = Recipe::resolve::<&str>("llama-default", &[]).unwrap().decode;
        let plan = PredictPlan {
            decode: &decode,
            seed: 0,
            seconds: None,
            cut_after: None,
            earlier: &[],
            memory_bytes: MEMORY,
        };
        let call = Call { engine: &engine, lora: None, plan, began: Instant::now() };
        let [zeros, ones] = [0, 1].map(|color| Grid::filled(1, 2, color));
        let own = score(&engine, &task, 0, None, &meta, &[&zeros], MEMORY).unwrap()[0];
        let written = |answers: &[(&[u32], f64)]| {
            let mut writing = Writing::new(&engine, &task, 0, meta.clone()).unwrap();
            for (tokens, log_prob) in answers {
                writing.propose(&engine, tokens, *log_prob).unwrap();
            }
            call.finish(writing).unwrap().grids
        };
        let (split, merged, other) = ([0, 0, END], [16, END], [1, 1, END]);
        let found = written(&[(&split, -0.5), (&other, -0.25)]);
        assert_eq!(found, [(ones, -0.25), (zeros.clone(), own)]);
        for answers in
            [[(&split[..], -0.5), (&merged[..], -0.75)], [(&merged, -0.75), (&split, -0.5)]]
        {
            assert_eq!(written(&answers), [(zeros.clone(), -0.75)]);
        }
    }

    #[test]
    fn a_guess_is_written_as_its_view_shows_it_and_changes_no_answer() {
        let (engine, task) = (engine(), task());
        let of = |dihedral| Writing::new(&engine, &task, 0, meta(dihedral)).unwrap();
        let row = Grid::filled(1, 2, 0);
        let part = [of(Dihedral::Identity), of(Dihedral::Transpose)];
        let written = guesses(&engine, Some(&row), &part).unwrap();
        assert_eq!(written, [vec![16, END], vec![0, 10, 0, END]]);
        assert_eq!(guesses(&engine, None, &part).unwrap(), Vec::<Vec<u32>>::new());
        let recipe = Recipe::resolve("llama-default", &["decode.max_nodes=50"]).unwrap();
        let views = [Dihedral::Rotate90, Dihedral::FlipRows].map(|d| meta(d).view);
        let search = |earlier: &[Proposals]| {
            let plan = PredictPlan {
                decode: &recipe.decode,
                seed: 0,
                seconds: None,
                cut_after: None,
                earlier,
                memory_bytes: MEMORY,
            };
            predict(&engine, &task, 0, None, &views, plan).unwrap()
        };
        let plain = search(&[]);
        let guided = search(&plain);
        for (plain, guided) in plain.iter().zip(&guided) {
            assert_eq!((plain.cut, plain.nodes), (guided.cut, guided.nodes));
            assert_eq!(plain.grids.len(), guided.grids.len());
            for (a, b) in plain.grids.iter().zip(&guided.grids) {
                assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-2, "{a:?} {b:?}");
            }
        }
    }
}
