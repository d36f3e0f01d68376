//! Beam search, row of a grid by row.

use std::time::Instant;

use super::attention::KvCache;
use super::batch::{Batch, InputError};
use super::decode::{choices, log_probs, read_beginnings};
use super::filter::TokenFilter;
use super::lora::Lora;
use super::model::Llama;
use super::search::{Answer, Incomplete, Search, SearchLimits};

/// A beginning of an answer.
#[derive(Debug, Clone)]
struct Hypothesis {
    tokens: Vec<u32>,
    log_prob: f64,
    /// Rows of the grid that are whole, and whether its last token has made one so, or ended it.
    n_rows: usize,
    is_whole: bool,
    /// The row of the cache that holds the prompt and all but the last of its tokens; none if it ended.
    held: Option<usize>,
}

impl Hypothesis {
    fn is_ended(&self, ends: &[u32]) -> bool {
        self.tokens.last().is_some_and(|token| ends.contains(token))
    }
}

/// The most probable answers that a beam of `width` beginnings finds, most probable first, within limits whose time
/// counts from here. Where these end it, the answers are those that were whole by then.
///
/// Beginnings compete where a row of the grid ends: those that have come there wait until `width` of them are at least
/// as probable as any that has not, and the `width` best go on with the next row. So a wide first row is not held
/// against a narrow one before both are whole. Within a row the `width` best go on token by token. `n_rows`
/// counts the whole rows of an answer's beginning; answers end with one of `ends`. Beginnings that reach the longest
/// length or the context's end before are dropped, and the result says so.
///
/// `2 · width` copies of the prompt's keys and values are held.
///
/// # Errors
/// [`InputError`] if the prompt is empty or longer than the context, or has an unknown token.
pub fn beam(
    model: &Llama,
    lora: Option<&Lora>,
    prompt: &[u32],
    width: usize,
    ends: &[u32],
    filter: &dyn TokenFilter,
    n_rows: &dyn Fn(&[u32]) -> usize,
    limits: SearchLimits,
) -> Result<Search, InputError> {
    let started = Instant::now();
    let Some((&last_of_prompt, beginning)) = prompt.split_last() else {
        return Err(InputError::Empty { sequence: 0 });
    };
    let mut prompt_cache = KvCache::default();
    if !beginning.is_empty() {
        let batch = read_beginnings(model, lora, &[beginning], &mut prompt_cache)?;
        model.hidden_states(&batch, lora, Some(&mut prompt_cache))?;
    }
    let mut cache = prompt_cache.repeated(2 * width);
    let first =
        Hypothesis { tokens: Vec::new(), log_prob: 0.0, n_rows: 0, is_whole: false, held: Some(0) };
    let mut waiting: Vec<Hypothesis> = Vec::new();
    let mut active = if width == 0 { Vec::new() } else { vec![first] };
    let (mut nodes, mut incomplete) = (0, None);
    'rows: while !active.is_empty() {
        while let Some(best) = active.first() {
            if waiting.len() == width && waiting[width - 1].log_prob >= best.log_prob {
                break;
            }
            if limits.time.is_some_and(|time| started.elapsed() >= time) {
                incomplete = Some(Incomplete::Time);
                break 'rows;
            }
            if nodes + active.len() > limits.max_nodes {
                incomplete = Some(Incomplete::Nodes);
                break 'rows;
            }
            nodes += active.len();
            let last = |h: &Hypothesis| h.tokens.last().copied().unwrap_or(last_of_prompt);
            let next: Vec<u32> = active.iter().map(last).collect();
            let rows = active.iter().filter_map(|h| h.held).collect();
            let batch = Batch::step(&next).on_rows(rows);
            let logits = model.next_logits(&batch, lora, Some(&mut cache))?;
            let mut children = children(&active, &log_probs(logits), width, filter);
            for child in &mut children {
                let rows_before = std::mem::replace(&mut child.n_rows, n_rows(&child.tokens));
                let ended = child.is_ended(ends);
                child.is_whole = ended || child.n_rows > rows_before;
                // The last token has to be read before anything can follow it.
                let is_full = beginning.len() + child.tokens.len() >= model.config.max_length
                    || child.tokens.len() >= limits.max_new_tokens;
                child.held = child.held.filter(|_| !ended && !is_full);
                if is_full && !ended {
                    incomplete = Some(Incomplete::Length);
                }
            }
            children.retain(|child| child.held.is_some() || child.is_ended(ends));
            place(&mut children, &waiting, 2 * width, &mut cache);
            let (whole, unfinished): (Vec<_>, Vec<_>) =
                children.into_iter().partition(|child| child.is_whole);
            waiting.extend(whole);
            waiting.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
            waiting.truncate(width);
            active = unfinished;
        }
        let (next, ended): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|h| h.held.is_some());
        (active, waiting) = (next, ended);
    }
    let ended = waiting.into_iter().filter(|h| h.is_ended(ends));
    let answers = ended.map(|h| Answer { tokens: h.tokens, log_prob: h.log_prob }).collect();
    Ok(Search { answers, nodes, incomplete })
}

/// The `width` most probable beginnings that are a token longer, most probable first; each `held` where its parent is.
fn children(
    parents: &[Hypothesis],
    log_probs: &[Vec<f32>],
    width: usize,
    filter: &dyn TokenFilter,
) -> Vec<Hypothesis> {
    let of = |(i, parent): (usize, &Hypothesis)| {
        let own = choices(&log_probs[i], &parent.tokens, filter).into_iter();
        let log_prob = parent.log_prob;
        own.map(move |(token, own)| (i, token, log_prob + f64::from(own))).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = parents.iter().enumerate().flat_map(of).collect();
    all.sort_by(|a, b| b.2.total_cmp(&a.2));
    all.truncate(width);
    let child = |(i, token, log_prob): (usize, u32, f64)| {
        let mut child = parents[i].clone();
        child.tokens.push(token);
        Hypothesis { log_prob, ..child }
    };
    all.into_iter().map(child).collect()
}

/// Gives each child that goes on a row of its own: the first of a parent its parent's, others a copy.
fn place(children: &mut [Hypothesis], waiting: &[Hypothesis], n_rows: usize, cache: &mut KvCache) {
    let mut taken = vec![false; n_rows];
    waiting.iter().filter_map(|h| h.held).for_each(|row| taken[row] = true);
    let mut copies = Vec::new();
    for (i, child) in children.iter().enumerate() {
        if let Some(row) = child.held
            && std::mem::replace(&mut taken[row], true)
        {
            copies.push((i, row));
        }
    }
    let mut pairs = Vec::with_capacity(copies.len());
    for (i, from) in copies {
        let to = taken.iter().position(|taken| !taken).expect("a row for each of both kinds");
        taken[to] = true;
        pairs.push((from, to));
        children[i].held = Some(to);
    }
    cache.copy_rows(&pairs);
}
