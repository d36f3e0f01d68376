//! Depth-first search of every continuation that is probable enough (Franzen et al. 2025, arXiv 2505.07859,
//! algorithm 1).

use std::time::{Duration, Instant};

use super::attention::KvCache;
use super::batch::{Batch, InputError};
use super::decode::{Decoding, Generated, choices, log_probs, most_probable};
use super::filter::TokenFilter;
use super::lora::Lora;
use super::model::Llama;

/// What ends a search or a beam early.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchLimits {
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

/// Why a search may have missed continuations above the threshold, and why a beam lost some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incomplete {
    /// Some prefix was probable enough at the longest length, and had to be dropped.
    Length,
    /// The nodes were spent.
    Nodes,
    /// The time was spent.
    Time,
}

/// What a search or a beam has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Continuations, most probable first; of a search all above the threshold, equals by their tokens.
    pub answers: Vec<Answer>,
    /// Prefixes that were run through the model, besides the prompt and, in a search, the greedy continuation.
    pub nodes: usize,
    /// Why there may be more; `None` if these are all.
    pub incomplete: Option<Incomplete>,
}

/// What may follow a prefix and is more probable than the threshold by itself, with its log-probability.
type Choices = Vec<(u32, f32)>;

/// Searches behind several prompts that have been continued greedily, and go on side by side.
///
/// One cache serves them all, a row each, which is cut back where a search turns back; in each round every search
/// that is not over runs one token, all in one pass. A search goes down the greedy path first, for which it needs no pass
/// any more.
pub struct Searches<'a> {
    model: &'a Llama,
    lora: Option<&'a Lora>,
    ends: &'a [u32],
    filter: &'a dyn TokenFilter,
    /// Log-probability that a continuation must exceed.
    least: f64,
    cache: KvCache,
    begun: Vec<Begun>,
}

/// A prompt and a path behind it that were read.
struct Begun {
    n_prompt: usize,
    path: Vec<u32>,
    /// Choices behind each prefix of the path, the empty one first.
    known: Vec<Choices>,
}

impl<'a> Searches<'a> {
    /// Decodes each prompt greedily, however probable what comes is: it comes back too. The searches look for every
    /// continuation that ends with one of `ends`, has a probability above `threshold` and passes `filter`.
    /// Probabilities are the model's, not renormalized over what the filter allows.
    ///
    /// There may be a guess for each prompt, such as the best answer of another view: it is read in one pass with the
    /// prompt, and as far as the greedy continuation is the same, nothing of it is decoded.
    ///
    /// # Errors
    /// [`InputError`] if there are no prompts, one is empty or longer than the context, or a token is unknown.
    ///
    /// # Panics
    /// If the threshold is not above 0.
    pub fn behind_greedy(
        model: &'a Llama,
        lora: Option<&'a Lora>,
        prompts: &[Vec<u32>],
        guesses: &[Vec<u32>],
        ends: &'a [u32],
        threshold: f64,
        filter: &'a dyn TokenFilter,
    ) -> Result<(Vec<Generated>, Self), InputError> {
        assert!(threshold > 0.0, "with no threshold the search would not end");
        let least = threshold.ln();
        let mut cache = KvCache::default();
        let mut known: Vec<Vec<Choices>> = vec![Vec::new(); prompts.len()];
        let mut choose = |row: usize, choices: &[(u32, f32)]| {
            known[row].push(probable(choices, least));
            most_probable(choices)
        };
        let (max_new_tokens, choose) = (usize::MAX, &mut choose);
        let decoding = Decoding { model, lora, ends, max_new_tokens, filter, choose };
        let answers = decoding.run(&mut cache, prompts, guesses)?;
        let begun = prompts.iter().zip(&answers).zip(known).map(|((prompt, answer), known)| {
            // The last token was not read. Where the filter let nothing through, all were.
            let path = answer.tokens[..known.len().max(1) - 1].to_vec();
            Begun { n_prompt: prompt.len(), path, known }
        });
        let begun = begun.collect();
        Ok((answers, Self { model, lora, ends, filter, least, cache, begun }))
    }

    /// Runs the searches, each within its limits; time counts from here.
    ///
    /// # Errors
    /// None that the prompts did not have.
    ///
    /// # Panics
    /// If there are not limits for each.
    pub fn run(mut self, limits: &[SearchLimits]) -> Result<Vec<Search>, InputError> {
        assert_eq!(limits.len(), self.begun.len(), "limits for each");
        let started = Instant::now();
        let context = self.model.config.max_length;
        let mut searches: Vec<DepthFirst> = std::mem::take(&mut self.begun)
            .into_iter()
            .zip(limits)
            .map(|(begun, &limits)| DepthFirst::new(begun, limits, self.least, context))
            .collect();
        let mut live: Vec<usize> = (0..searches.len()).collect();
        loop {
            live.retain(|&row| searches[row].advance(self.ends, self.least, &started));
            if live.is_empty() {
                break;
            }
            let next: Vec<u32> = live.iter().map(|&row| searches[row].last()).collect();
            for &row in &live {
                self.cache.truncate_row(row, searches[row].n_read());
            }
            let batch = Batch::step(&next).on_rows(live.clone());
            let logits = self.model.next_logits(&batch, self.lora, Some(&mut self.cache))?;
            for (&row, log_probs) in live.iter().zip(&log_probs(logits)) {
                let search = &mut searches[row];
                let choices = choices(log_probs, &search.prefix, self.filter);
                search.open(&choices, self.least);
            }
        }
        Ok(searches.into_iter().map(DepthFirst::finish).collect())
    }
}

fn probable(choices: &[(u32, f32)], least: f64) -> Choices {
    choices.iter().copied().filter(|&(_, log_prob)| f64::from(log_prob) > least).collect()
}

/// A token that may follow a prefix, with the log-probability of both together.
type Child = (u32, f64);

/// A search under way.
struct DepthFirst {
    begun: Begun,
    limits: SearchLimits,
    /// Tokens that an answer may have.
    longest: usize,
    prefix: Vec<u32>,
    log_prob: f64,
    /// For each prefix of `prefix`, what is still to be tried behind it, the next one last.
    open: Vec<Vec<Child>>,
    found: Search,
}

impl DepthFirst {
    fn new(begun: Begun, limits: SearchLimits, least: f64, context: usize) -> Self {
        let longest = limits.max_new_tokens.min(context - begun.n_prompt + 1);
        let mut search = Self {
            begun,
            limits,
            longest,
            prefix: Vec::new(),
            log_prob: 0.0,
            open: Vec::new(),
            found: Search { answers: Vec::new(), nodes: 0, incomplete: None },
        };
        if longest > 0 && !search.begun.known.is_empty() {
            search.open_known(least);
        }
        search
    }

    /// Goes on until a prefix has to be run through the model; whether there is one.
    fn advance(&mut self, ends: &[u32], least: f64, started: &Instant) -> bool {
        while let Some(children) = self.open.last_mut() {
            let Some((token, log_prob)) = children.pop() else {
                self.open.pop();
                self.prefix.pop();
                continue;
            };
            self.prefix.push(token);
            if ends.contains(&token) {
                self.found.answers.push(Answer { tokens: self.prefix.clone(), log_prob });
                self.prefix.pop();
            } else if self.prefix.len() == self.longest {
                self.found.incomplete = Some(Incomplete::Length);
                self.prefix.pop();
            } else if self.is_known() {
                self.log_prob = log_prob;
                self.open_known(least);
            } else if self.limits.time.is_some_and(|time| started.elapsed() >= time) {
                // Only where a node would be counted, so that the same number of nodes ends a search at the same place.
                self.found.incomplete = Some(Incomplete::Time);
                return false;
            } else if self.found.nodes == self.limits.max_nodes {
                self.found.incomplete = Some(Incomplete::Nodes);
                return false;
            } else {
                self.log_prob = log_prob;
                self.found.nodes += 1;
                return true;
            }
        }
        false
    }

    /// Whether the path, which is tried first at each step, so that the cache still holds it, tells what follows.
    fn is_known(&self) -> bool {
        self.begun.path.starts_with(&self.prefix)
    }

    fn open_known(&mut self, least: f64) {
        let choices = std::mem::take(&mut self.begun.known[self.prefix.len()]);
        self.open(&choices, least);
    }

    /// Opens what may follow the prefix and stays above the threshold: the path is tried first, then the most
    /// probable.
    fn open(&mut self, choices: &[(u32, f32)], least: f64) {
        let children = choices.iter().map(|&(token, own)| (token, self.log_prob + f64::from(own)));
        let mut children: Vec<Child> = children.filter(|&(_, total)| total > least).collect();
        let on_path = if self.is_known() { self.begun.path.get(self.prefix.len()) } else { None };
        children.sort_by(|a, b| {
            let first = |child: &Child| Some(&child.0) == on_path;
            first(a).cmp(&first(b)).then(a.1.total_cmp(&b.1)).then(b.0.cmp(&a.0))
        });
        self.open.push(children);
    }

    /// The prefix's last token, which is to be run.
    fn last(&self) -> u32 {
        *self.prefix.last().expect("a prefix that is to be run")
    }

    /// Tokens before it.
    fn n_read(&self) -> usize {
        self.begun.n_prompt + self.prefix.len() - 1
    }

    fn finish(mut self) -> Search {
        self.found.answers.sort_by(|a, b| {
            b.log_prob.total_cmp(&a.log_prob).then_with(|| a.tokens.cmp(&b.tokens))
        });
        self.found
    }
}
