//! Greedy decoding with a cache, several prompts side by side.

use burn::tensor::{DType, Tensor, activation};

use super::attention::KvCache;
use super::batch::{Batch, InputError, Sequence};
use super::filter::TokenFilter;
use super::lora::Lora;
use super::model::Llama;

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
    let sequences: Vec<Sequence> = prompts.iter().map(|p| Sequence::prompt(p)).collect();
    let mut batch = Batch::padded(&sequences)?;
    let lengths = batch.lengths();
    let mut cache = KvCache::default();
    let empty = Generated { tokens: Vec::new(), log_prob: 0.0, ended: false };
    let mut generated = vec![empty; prompts.len()];
    let mut live = vec![max_new_tokens > 0; prompts.len()];
    let mut allowed = vec![true; model.config.vocab_size];
    while live.contains(&true) {
        let log_probs = log_probs(model.next_logits(&batch, lora, Some(&mut cache))?);
        // A row that is finished goes on with token 0, which no one looks at.
        let mut next = vec![0; prompts.len()];
        for (i, answer) in generated.iter_mut().enumerate() {
            if !live[i] {
                continue;
            }
            allowed.fill(true);
            filter.restrict(&answer.tokens, &mut allowed);
            let choices = log_probs[i].iter().enumerate().filter(|&(token, _)| allowed[token]);
            let best = choices.reduce(|best, other| if other.1 > best.1 { other } else { best });
            let Some((token, &log_prob)) = best else {
                live[i] = false;
                continue;
            };
            next[i] = token as u32;
            answer.tokens.push(next[i]);
            answer.log_prob += f64::from(log_prob);
            answer.ended = ends.contains(&next[i]);
            let full = lengths[i] + answer.tokens.len() > model.config.max_length;
            live[i] = !answer.ended && answer.tokens.len() < max_new_tokens && !full;
        }
        let last = |(n, answer): (&usize, &Generated)| {
            (n + answer.tokens.len()).saturating_sub(1).min(model.config.max_length - 1)
        };
        let places: Vec<usize> = lengths.iter().zip(&generated).map(last).collect();
        batch = Batch::step(&next, &places);
    }
    Ok(generated)
}

/// Natural-log probabilities in host memory, `[n, vocab_size]` row by row.
pub(super) fn log_probs(logits: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, vocab_size] = logits.dims();
    let data = activation::log_softmax(logits.cast(DType::F32), 1).into_data();
    let values = data.try_into_vec::<f32>().expect("an f32 tensor");
    values.chunks(vocab_size).map(<[f32]>::to_vec).collect()
}
