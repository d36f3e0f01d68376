//! Decoding with a cache, several prompts side by side, and the probability of given answers.

use burn::tensor::{DType, Int, Tensor, TensorData, activation};
use rand::Rng;

use super::attention::KvCache;
use super::batch::{Batch, InputError, Sequence};
use super::filter::TokenFilter;
use super::lora::Lora;
use super::model::Llama;

/// Numbers that a score matrix may hold at once: attention's of a part of a prompt, or the vocabulary's of some tokens.
const SCORES_AT_ONCE: usize = 1 << 26;

/// What follows a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Tokens, the one that ended them included.
    pub tokens: Vec<u32>,
    /// Their summed natural-log probability under the model, in nats.
    pub log_prob: f64,
    /// Whether a token ended them; otherwise the limit, the context's end, or a filter that lets nothing through.
    pub ended: bool,
}

/// The most probable token after token that `filter` allows, until one of `ends` or `max_new_tokens`, for each
/// prompt. Of equals the first in the vocabulary.
///
/// # Errors
/// [`InputError`] if there are no prompts, one is empty or longer than the context, or a token is unknown.
pub fn greedy(
    model: &Llama,
    lora: Option<&Lora>,
    prompts: &[Vec<u32>],
    ends: &[u32],
    max_new_tokens: usize,
    filter: &dyn TokenFilter,
) -> Result<Vec<Generated>, InputError> {
    let mut choose = |_: usize, choices: &[(u32, f32)]| most_probable(choices);
    let decoding = Decoding { model, lora, ends, max_new_tokens, filter, choose: &mut choose };
    decoding.run(&mut KvCache::default(), prompts, &[])
}

/// Of equals the first.
pub(super) fn most_probable(choices: &[(u32, f32)]) -> Option<u32> {
    let best = |best: (u32, f32), other: (u32, f32)| if other.1 > best.1 { other } else { best };
    choices.iter().copied().reduce(best).map(|(token, _)| token)
}

/// Tokens drawn at random from those that `filter` allows, each prompt from its own stream, with scores divided by
/// `temperature`.
///
/// # Errors
/// As [`greedy`].
///
/// # Panics
/// If there is not a stream for each prompt.
pub fn sample(
    model: &Llama,
    lora: Option<&Lora>,
    prompts: &[Vec<u32>],
    ends: &[u32],
    temperature: f64,
    rngs: &mut [impl Rng],
    filter: &dyn TokenFilter,
) -> Result<Vec<Generated>, InputError> {
    assert_eq!(prompts.len(), rngs.len(), "a stream for each prompt");
    let mut choose = |row: usize, choices: &[(u32, f32)]| {
        let top = choices.iter().fold(f32::NEG_INFINITY, |top, &(_, l)| top.max(l));
        let weight = |l: f32| (f64::from(l - top) / temperature).exp();
        let mut left =
            rngs[row].random::<f64>() * choices.iter().map(|&(_, l)| weight(l)).sum::<f64>();
        let drawn = choices.iter().find(|&&(_, l)| {
            left -= weight(l);
            left < 0.0
        });
        drawn.or(choices.last()).map(|&(token, _)| token)
    };
    let max_new_tokens = usize::MAX;
    let decoding = Decoding { model, lora, ends, max_new_tokens, filter, choose: &mut choose };
    decoding.run(&mut KvCache::default(), prompts, &[])
}

/// Chooses the next token of a row among those that may follow, with their log-probabilities; `None` ends the row.
type Choose<'a> = dyn FnMut(usize, &[(u32, f32)]) -> Option<u32> + 'a;

/// How prompts are continued, token by token.
pub(super) struct Decoding<'a> {
    pub(super) model: &'a Llama,
    pub(super) lora: Option<&'a Lora>,
    pub(super) ends: &'a [u32],
    pub(super) max_new_tokens: usize,
    pub(super) filter: &'a dyn TokenFilter,
    pub(super) choose: &'a mut Choose<'a>,
}

/// What a prompt has become.
struct Continued {
    n_prompt: usize,
    answer: Generated,
    /// Prefixes of the answer behind which a token was chosen, or none could be.
    n_read: usize,
    /// The token that is to be read next, if the answer goes on.
    next: Option<u32>,
}

impl Decoding<'_> {
    /// Decodes prompts with an empty cache, which then holds for each prompt what was read: all but the last token.
    ///
    /// There may be a guess for each prompt. Prompts and guesses are read in one pass; as far as what is chosen is what
    /// was guessed, it needs no pass of its own.
    pub(super) fn run(
        mut self,
        cache: &mut KvCache,
        prompts: &[Vec<u32>],
        guesses: &[Vec<u32>],
    ) -> Result<Vec<Generated>, InputError> {
        let mut rows = self.read(cache, prompts, guesses)?;
        loop {
            let live = rows.iter().enumerate().filter_map(|(i, row)| Some((i, row.next?)));
            let (live, next): (Vec<usize>, Vec<u32>) = live.unzip();
            if live.is_empty() {
                break;
            }
            let batch = Batch::step(&next).on_rows(live.clone());
            let logits = self.model.next_logits(&batch, self.lora, Some(cache))?;
            for (&i, log_probs) in live.iter().zip(&log_probs(logits)) {
                self.go_on(i, &mut rows[i], log_probs);
            }
        }
        Ok(rows.into_iter().map(|row| row.answer).collect())
    }

    /// Reads prompts and guesses, and goes down these as far as they are right.
    fn read(
        &mut self,
        cache: &mut KvCache,
        prompts: &[Vec<u32>],
        guesses: &[Vec<u32>],
    ) -> Result<Vec<Continued>, InputError> {
        let beginnings: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let guess = |i: usize| {
            let guess: &[u32] = guesses.get(i).map_or(&[], Vec::as_slice);
            // Neither the token that ends a guess nor one at the longest length leads to anything that has to be read.
            let ended = guess.iter().position(|token| self.ends.contains(token));
            let room = self.model.config.max_length.saturating_sub(prompts[i].len());
            &guess[..ended.unwrap_or(guess.len()).min(room).min(self.max_new_tokens)]
        };
        let guesses: Vec<&[u32]> = (0..prompts.len()).map(guess).collect();
        let [_, rest] = read_beginnings(self.model, self.lora, &beginnings, cache)?.shape();
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let read = longest - rest;
        let both = |(prompt, guess): (&Vec<u32>, &&[u32])| {
            Sequence::prompt(&[&prompt[read..], guess].concat())
        };
        let batch = Batch::padded(&prompts.iter().zip(&guesses).map(both).collect::<Vec<_>>())?;
        let hidden = self.model.hidden_states(&batch, self.lora, Some(cache))?;
        let empty = Generated { tokens: Vec::new(), log_prob: 0.0, ended: false };
        let row = |prompt: &Vec<u32>| Continued {
            n_prompt: prompt.len(),
            answer: empty.clone(),
            n_read: 0,
            next: None,
        };
        let mut rows: Vec<Continued> = prompts.iter().map(row).collect();
        if self.max_new_tokens == 0 {
            return Ok(rows);
        }
        let [_, length] = batch.shape();
        let last = |i: usize| i * length + prompts[i].len() - read - 1;
        let prefixes = |i: usize| (0..=guesses[i].len()).map(move |n| (i, n));
        let prefixes: Vec<(usize, usize)> = (0..prompts.len()).flat_map(prefixes).collect();
        for part in prefixes.chunks((SCORES_AT_ONCE / self.model.config.vocab_size).max(1)) {
            let places: Vec<usize> = part.iter().map(|&(i, n)| last(i) + n).collect();
            let logits = self.model.project_at(hidden.clone(), &places, self.lora);
            for (&(i, n), log_probs) in part.iter().zip(&log_probs(logits)) {
                let row = &mut rows[i];
                let is_right = n == 0 || row.next == Some(guesses[i][n - 1]);
                if n == row.n_read && is_right {
                    self.go_on(i, row, log_probs);
                }
            }
        }
        for (i, row) in rows.iter().enumerate() {
            cache.truncate_row(i, row.n_prompt + row.n_read - 1);
        }
        Ok(rows)
    }

    /// Chooses what follows a row's answer.
    fn go_on(&mut self, i: usize, row: &mut Continued, log_probs: &[f32]) {
        let Continued { n_prompt, answer, n_read, next } = row;
        *n_read += 1;
        let choices = choices(log_probs, &answer.tokens, self.filter);
        *next = (self.choose)(i, &choices);
        let Some(token) = *next else { return };
        answer.tokens.push(token);
        answer.log_prob += f64::from(log_probs[token as usize]);
        answer.ended = self.ends.contains(&token);
        let is_full = *n_prompt + answer.tokens.len() > self.model.config.max_length;
        if answer.ended || answer.tokens.len() >= self.max_new_tokens || is_full {
            *next = None;
        }
    }
}

/// The tokens that may follow a prefix, with their log-probabilities.
pub(super) fn choices(
    log_probs: &[f32],
    prefix: &[u32],
    filter: &dyn TokenFilter,
) -> Vec<(u32, f32)> {
    let mut allowed = vec![true; log_probs.len()];
    filter.restrict(prefix, &mut allowed);
    let all = log_probs.iter().enumerate().filter(|&(token, _)| allowed[token]);
    all.map(|(token, &log_prob)| (token as u32, log_prob)).collect()
}

/// Reads prompts into an empty cache, but for the ends that come back as the batch to go on with: at least the last
/// token of each. In parts, so that attention's scores never are those of whole prompts by whole prompts.
pub(super) fn read_beginnings(
    model: &Llama,
    lora: Option<&Lora>,
    prompts: &[&[u32]],
    cache: &mut KvCache,
) -> Result<Batch, InputError> {
    let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
    let heads = model.config.num_attention_heads;
    let part = (SCORES_AT_ONCE / (prompts.len() * heads * longest).max(1)).max(16);
    read_in_parts(model, lora, prompts, cache, part)
}

/// [`read_beginnings`] in parts of so many tokens.
fn read_in_parts(
    model: &Llama,
    lora: Option<&Lora>,
    prompts: &[&[u32]],
    cache: &mut KvCache,
    part: usize,
) -> Result<Batch, InputError> {
    let batch = |from: usize, to: usize| {
        let part = |p: &&[u32]| Sequence::prompt(&p[from..to.min(p.len())]);
        Batch::padded(&prompts.iter().map(part).collect::<Vec<_>>())
    };
    let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
    let shortest = prompts.iter().map(|p| p.len()).min().unwrap_or(0);
    let mut read = 0;
    // What is left is a part, or begins where the shortest prompt ends.
    while longest - read > part && read + 1 < shortest {
        let to = (read + part).min(shortest - 1);
        model.hidden_states(&batch(read, to)?, lora, Some(cache))?;
        read = to;
    }
    batch(read, longest)
}

/// What a model says of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Summed natural-log probability of its tokens, in nats.
    pub log_prob: f64,
    /// Whether each of its tokens is the most probable one at its place: it is the greedy answer.
    pub is_greedy: bool,
}

/// What a model says of answers to one prompt, each the one that ends it included. The prompt is read once for all; so
/// many answers go on from it side by side that with their copies of the prompt they have at most `cached` tokens.
///
/// # Errors
/// [`InputError`] if the prompt or an answer is empty, they are longer than the context together, or a token is
/// unknown.
pub fn score(
    model: &Llama,
    lora: Option<&Lora>,
    prompt: &[u32],
    answers: &[Vec<u32>],
    cached: usize,
) -> Result<Vec<Score>, InputError> {
    let Some((&last, beginning)) = prompt.split_last() else {
        return Err(InputError::Empty { sequence: 0 });
    };
    if let Some(sequence) = answers.iter().position(Vec::is_empty) {
        return Err(InputError::Empty { sequence });
    }
    let mut cache = KvCache::default();
    if !beginning.is_empty() {
        let batch = read_beginnings(model, lora, &[beginning], &mut cache)?;
        model.hidden_states(&batch, lora, Some(&mut cache))?;
    }
    // Answers of about a length go side by side.
    let mut order: Vec<usize> = (0..answers.len()).collect();
    order.sort_by_key(|&i| answers[i].len());
    let mut scores = vec![Score { log_prob: 0.0, is_greedy: true }; answers.len()];
    let mut waiting = order.as_slice();
    while let Some(&shortest) = waiting.first() {
        // Lengths rise, so that a row more is longer than those before.
        let fits = |n: usize| n * (prompt.len() + answers[waiting[n - 1]].len()) <= cached;
        let n = (2..=waiting.len()).take_while(|&n| fits(n)).last().unwrap_or(1);
        let (together, later) = waiting.split_at(n);
        debug_assert!(answers[shortest].len() <= answers[together[n - 1]].len());
        let row = |&i: &usize| {
            let answer = &answers[i];
            Sequence::prompt(&[&[last], &answer[..answer.len() - 1]].concat())
        };
        let rows: Vec<Sequence> = together.iter().map(row).collect();
        let batch = Batch::padded(&rows)?;
        let hidden = model.hidden_states(&batch, lora, Some(&mut cache.repeated(n)))?;
        let [_, length] = batch.shape();
        let read = together.iter().enumerate();
        let read =
            read.flat_map(|(row, &i)| (0..answers[i].len()).map(move |j| (row * length + j, i, j)));
        let read: Vec<(usize, usize, usize)> = read.collect();
        for part in read.chunks((SCORES_AT_ONCE / model.config.vocab_size).max(1)) {
            let places: Vec<usize> = part.iter().map(|&(place, ..)| place).collect();
            let tokens: Vec<u32> = part.iter().map(|&(_, i, j)| answers[i][j]).collect();
            let logits = model.project_at(hidden.clone(), &places, lora);
            for (&(_, i, _), (log_prob, is_best)) in part.iter().zip(told(logits, &tokens)) {
                scores[i].log_prob += f64::from(log_prob);
                scores[i].is_greedy &= is_best;
            }
        }
        waiting = later;
    }
    Ok(scores)
}

/// The log-probability of a token in each row of scores `[n, vocab_size]`, and whether it is the first of the most
/// probable ones.
fn told(logits: Tensor<2>, tokens: &[u32]) -> Vec<(f32, bool)> {
    let n = tokens.len();
    let log_probs = activation::log_softmax(logits.cast(DType::F32), 1);
    let ids: Vec<i32> = tokens.iter().map(|&t| t as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [n, 1]), &log_probs.device());
    let own = log_probs.clone().gather(1, ids.clone());
    let best = log_probs.argmax(1).equal(ids);
    let own = own.into_data().try_into_vec::<f32>().expect("an f32 tensor");
    let best: Vec<bool> = best.into_data().iter::<bool>().collect();
    own.into_iter().zip(best).collect()
}

/// Natural-log probabilities in host memory, `[n, vocab_size]` row by row.
pub(super) fn log_probs(logits: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, vocab_size] = logits.dims();
    let data = activation::log_softmax(logits.cast(DType::F32), 1).into_data();
    let values = data.try_into_vec::<f32>().expect("an f32 tensor");
    values.chunks(vocab_size).map(<[f32]>::to_vec).collect()
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::path::Path;

    use burn::tensor::{Device, FloatDType};

    use super::*;

    fn model() -> Llama {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mistral-nemo");
        Llama::load(&folder, FloatDType::F32, &Device::flex()).unwrap()
    }

    #[test]
    fn a_guess_saves_passes_as_far_as_it_is_right_and_changes_nothing() {
        let (model, prompts) = (model(), [vec![4, 5, 6, 7, 8], vec![9, 3], vec![5; 9]]);
        let ends = &[][..];
        let plain = greedy(&model, None, &prompts, ends, 7, &()).unwrap();
        let of = |i: usize, n: usize| plain[i].tokens[..n].to_vec();
        // All of it and one more, none, and three right ones with a wrong one among others behind.
        let wrong = |token: u32| (token + 1) % 20;
        let mut third = of(2, 7);
        third[3] = wrong(third[3]);
        let guesses = [[of(0, 7), vec![1]].concat(), Vec::new(), third];
        let mut choose = |_: usize, choices: &[(u32, f32)]| most_probable(choices);
        let mut decoding = Decoding {
            model: &model,
            lora: None,
            ends,
            max_new_tokens: 7,
            filter: &(),
            choose: &mut choose,
        };
        let mut cache = KvCache::default();
        let rows = decoding.read(&mut cache, &prompts, &guesses).unwrap();
        let lengths: Vec<usize> = rows.iter().map(|row| row.answer.tokens.len()).collect();
        assert_eq!(lengths, [7, 1, 4]);
        assert_eq!(cache.lengths(), [5 + 6, 2, 9 + 3]);
        let guided = decoding.run(&mut KvCache::default(), &prompts, &guesses).unwrap();
        for (guided, plain) in guided.iter().zip(&plain) {
            assert_eq!((&guided.tokens, guided.ended), (&plain.tokens, plain.ended));
            assert!((guided.log_prob - plain.log_prob).abs() < 1e-4);
        }
    }

    #[test]
    fn prompts_read_in_parts_are_prompts_read_at_once() {
        let model = model();
        let prompts: [&[u32]; 2] = [&[4, 5, 6, 7, 8, 9, 10, 11, 12], &[9, 3, 9, 3, 9, 3]];
        let next = |part: usize| {
            let mut cache = KvCache::default();
            let batch = read_in_parts(&model, None, &prompts, &mut cache, part).unwrap();
            let left = batch.shape()[1];
            let logits = model.next_logits(&batch, None, Some(&mut cache)).unwrap();
            (left, log_probs(logits).concat())
        };
        let (all, expected) = next(100);
        assert_eq!(all, 9);
        // The shorter one keeps a token for the end.
        for (part, left) in [(1, 4), (2, 4), (3, 4), (4, 4), (6, 4), (8, 4)] {
            let (found_left, found) = next(part);
            assert_eq!(found_left, left, "{part}");
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{part}: {worst}");
        }
    }
}
