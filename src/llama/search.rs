//! Depth-first search of every continuation that is probable enough (Franzen et al. 2025, arXiv 2505.07859,
//! algorithm 1).

use std::time::{Duration, Instant};

use super::attention::KvCache;
use super::batch::{Batch, InputError, Sequence};
use super::decode::{log_probs, read_beginnings};
use super::filter::TokenFilter;
use super::lora::Lora;
use super::model::Llama;

/// What a search looks for, and what ends it early.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchLimits {
    /// Continuations with more than this probability are found, above 0.
    pub threshold: f64,
    /// Tokens of a continuation at most, the end included.
    pub max_new_tokens: usize,
    /// Prefixes that are run through the model at most, one token each.
    pub max_nodes: usize,
    /// Time at most.
    pub time: Option<Duration>,
}

/// A continuation that ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Tokens, the one that ends it included.
    pub tokens: Vec<u32>,
    /// Summed natural-log probability, in nats.
    pub log_prob: f64,
}

/// Why a search may have missed continuations above the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incomplete {
    /// Some prefix was probable enough at the longest length.
    Length,
    /// The nodes were spent.
    Nodes,
    /// The time was spent.
    Time,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Continuations above the threshold, most probable first, equals by their tokens.
    pub answers: Vec<Answer>,
    /// Prefixes that were run through the model, besides the prompt and the guess.
    pub nodes: usize,
    /// Why there may be more; `None` if these are all.
    pub incomplete: Option<Incomplete>,
}

/// Finds every continuation of `prompt` that ends with one of `ends`, has a probability above the threshold and
/// passes `filter`. Probabilities are the model's, not renormalized over what the filter allows.
///
/// One cache serves the whole search: it is cut back where the search turns back. With a `guess`, such as the
/// best answer of another view, prompt and guess are read in one pass and the search goes down that path first,
/// for the cost of that pass. The guess changes no answer, only the order and the cost.
///
/// # Errors
/// [`InputError`] if the prompt is empty or longer than the context, or it or the guess has an unknown token.
///
/// # Panics
/// If the threshold is not above 0.
pub fn search(
    model: &Llama,
    lora: Option<&Lora>,
    prompt: &[u32],
    guess: &[u32],
    ends: &[u32],
    limits: &SearchLimits,
    filter: &dyn TokenFilter,
) -> Result<Search, InputError> {
    assert!(limits.threshold > 0.0, "with no threshold the search would not end");
    if prompt.is_empty() {
        return Err(InputError::Empty { sequence: 0 });
    }
    // Neither the token that ends a guess nor one at the longest length leads to anything that has to be read.
    let ended = guess.iter().position(|token| ends.contains(token)).unwrap_or(guess.len());
    let room = model.config.max_length.saturating_sub(prompt.len());
    let guess = &guess[..ended.min(room).min(limits.max_new_tokens.saturating_sub(1))];
    let mut cache = KvCache::default();
    let both = [prompt, guess].concat();
    // The end that comes back may reach into the prompt, and never behind its last token.
    let (beginning, _) = both.split_at(prompt.len());
    let rest = read_beginnings(model, lora, &[beginning], &mut cache)?.shape()[1];
    let from = prompt.len() - rest;
    let batch = Batch::padded(&[Sequence::prompt(&both[from..])])?.behind(&[from]);
    let hidden = model.hidden_states(&batch, lora, Some(&mut cache))?;
    let read: Vec<usize> = (rest - 1..rest + guess.len()).collect();
    let known = log_probs(model.project_at(hidden, &read, lora));
    let search = DepthFirst {
        started: Instant::now(),
        model,
        lora,
        n_prompt: prompt.len(),
        guess,
        known,
        ends,
        limits,
        filter,
        cache,
        allowed: vec![true; model.config.vocab_size],
        found: Search { answers: Vec::new(), nodes: 0, incomplete: None },
    };
    search.run()
}

/// A search under way.
struct DepthFirst<'a> {
    started: Instant,
    model: &'a Llama,
    lora: Option<&'a Lora>,
    n_prompt: usize,
    guess: &'a [u32],
    /// Log-probabilities behind each prefix of the guess, the empty one first.
    known: Vec<Vec<f32>>,
    ends: &'a [u32],
    limits: &'a SearchLimits,
    filter: &'a dyn TokenFilter,
    cache: KvCache,
    allowed: Vec<bool>,
    found: Search,
}

/// A token that may follow a prefix, with the log-probability of both together.
type Child = (u32, f64);

impl DepthFirst<'_> {
    fn run(mut self) -> Result<Search, InputError> {
        let least = self.limits.threshold.ln();
        let longest =
            self.limits.max_new_tokens.min(self.model.config.max_length - self.n_prompt + 1);
        let mut prefix: Vec<u32> = Vec::new();
        // For each prefix of `prefix`, what is still to be tried behind it, the next one last.
        let mut open = Vec::new();
        if longest > 0 {
            let log_probs = self.known[0].clone();
            open.push(self.children(&prefix, &log_probs, 0.0, least));
        }
        while let Some(children) = open.last_mut() {
            let Some((token, log_prob)) = children.pop() else {
                open.pop();
                prefix.pop();
                continue;
            };
            prefix.push(token);
            if self.ends.contains(&token) {
                self.found.answers.push(Answer { tokens: prefix.clone(), log_prob });
                prefix.pop();
            } else if prefix.len() == longest {
                self.found.incomplete = Some(Incomplete::Length);
                prefix.pop();
            } else {
                let Some(log_probs) = self.log_probs(&prefix)? else { break };
                open.push(self.children(&prefix, &log_probs, log_prob, least));
            }
        }
        let order = |a: &Answer, b: &Answer| {
            b.log_prob.total_cmp(&a.log_prob).then_with(|| a.tokens.cmp(&b.tokens))
        };
        self.found.answers.sort_by(order);
        Ok(self.found)
    }

    /// What may follow a prefix and stays above the threshold, the most probable last, but the guess behind all.
    fn children(
        &mut self,
        prefix: &[u32],
        log_probs: &[f32],
        log_prob: f64,
        least: f64,
    ) -> Vec<Child> {
        self.allowed.fill(true);
        self.filter.restrict(prefix, &mut self.allowed);
        let children = log_probs.iter().zip(&self.allowed).enumerate();
        let children = children.filter(|(_, (_, allowed))| **allowed);
        let mut children: Vec<Child> = children
            .map(|(token, (&own, _))| (token as u32, log_prob + f64::from(own)))
            .filter(|&(_, total)| total > least)
            .collect();
        let guessed =
            self.guess.starts_with(prefix).then(|| self.guess.get(prefix.len())).flatten();
        children.sort_by(|a, b| {
            let first = |child: &Child| Some(&child.0) == guessed;
            first(a).cmp(&first(b)).then(a.1.total_cmp(&b.1)).then(b.0.cmp(&a.0))
        });
        children
    }

    /// Log-probabilities behind a prefix that is not empty; `None` if a limit is reached.
    fn log_probs(&mut self, prefix: &[u32]) -> Result<Option<Vec<f32>>, InputError> {
        // The guess is tried first at each step, so that the cache still holds it.
        if self.guess.starts_with(prefix) {
            return Ok(Some(self.known[prefix.len()].clone()));
        }
        // Only where a node would be counted, so that the same number of nodes ends a search at the same place.
        if self.limits.time.is_some_and(|time| self.started.elapsed() >= time) {
            self.found.incomplete = Some(Incomplete::Time);
            return Ok(None);
        }
        if self.found.nodes == self.limits.max_nodes {
            self.found.incomplete = Some(Incomplete::Nodes);
            return Ok(None);
        }
        self.found.nodes += 1;
        let (last, at) = (prefix[prefix.len() - 1], self.n_prompt + prefix.len() - 1);
        self.cache.truncate(at);
        let batch = Batch::step(&[last], &[at]);
        let logits = self.model.next_logits(&batch, self.lora, Some(&mut self.cache))?;
        Ok(log_probs(logits).pop())
    }
}
