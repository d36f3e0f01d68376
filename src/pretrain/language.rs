//! Training of a language model of the Llama family, on the same episodes written as text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::moving::{Mover, Moving, Origin};
use super::sample::Drawn;
use super::state::fingerprint;
use super::{
    Answers, Corpus, Evaluation, FormatProgress, PretrainConfig, PretrainError, Progress, Sampler,
    Training, Until,
};
use crate::arc::write_atomically;
use crate::contamination::TrainingPairs;
use crate::llama::{Batch, Llama, LlamaConfig, Sequence, checkpoint_bytes};
use crate::text::{CharVocabulary, TextFormat, target_tokens};

/// Episodes in a row that may be longer than the context before a step is given up.
const MOST_TOO_LONG: usize = 1000;

/// The folder of the averaged weights in a run's folder, as transformers reads it.
const CHECKPOINT: &str = "checkpoint";

/// Sizes of the network, under the names of `config.json`, and how tasks are written for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelConfig {
    /// A network of the family.
    pub architecture: String,
    /// Name of the text format; its characters are the vocabulary.
    pub format: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values.
    pub num_key_value_heads: usize,
    /// Tokens of the longest sequence.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the embedding is also the head.
    pub tie_word_embeddings: bool,
}

impl LanguageModelConfig {
    fn vocabulary(&self) -> Result<(TextFormat, CharVocabulary), PretrainError> {
        let format = TextFormat::built_in(&self.format)
            .ok_or_else(|| PretrainError::UnknownFormat { name: self.format.clone() })?;
        let vocabulary = CharVocabulary::of(&format);
        Ok((format, vocabulary))
    }

    /// The checkpoint's `config.json`.
    fn json(&self, vocab_size: usize) -> Value {
        let model_type = self.architecture.trim_end_matches("ForCausalLM").to_lowercase();
        json!({
            "architectures": [self.architecture], "model_type": model_type,
            "vocab_size": vocab_size, "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.hidden_size / self.num_attention_heads.max(1),
            "max_position_embeddings": self.max_position_embeddings,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": 1e-5, "hidden_act": "silu", "attention_bias": false, "mlp_bias": false,
            "sliding_window": null, "tie_word_embeddings": self.tie_word_embeddings,
            "pad_token_id": CharVocabulary::PAD, "bos_token_id": CharVocabulary::BOS,
            "eos_token_id": CharVocabulary::EOS, "torch_dtype": "float32",
        })
    }
}

/// A language model's training run in memory.
pub struct LanguageTrainer<'a> {
    config: &'a PretrainConfig<LanguageModelConfig>,
    sampler: Sampler<'a>,
    format: TextFormat,
    vocabulary: CharVocabulary,
    model: LlamaConfig,
    moving: Moving,
    device: Device,
    training_pairs: TrainingPairs,
}

impl<'a> LanguageTrainer<'a> {
    /// A run at its beginning, with random weights.
    ///
    /// # Errors
    /// [`PretrainError`] if there is nothing to train on or the sizes do not fit each other.
    pub fn new(
        config: &'a PretrainConfig<LanguageModelConfig>,
        corpus: &'a Corpus,
        device: &Device,
    ) -> Result<Self, PretrainError> {
        if config.episode.e2e_share > 0.0 || config.episode.untold > 0.0 {
            return Err(PretrainError::NotForText);
        }
        let sampler = Sampler::new(corpus, config)?;
        let (format, vocabulary) = config.model.vocabulary()?;
        let text = config.model.json(vocabulary.len()).to_string();
        let model = LlamaConfig::parse(&text, Path::new("the recipe's [model]"))?;
        let random = Llama::random(model.clone(), config.seed, device);
        let tensors = random.parameters().into_iter().map(|(name, _, value)| (name, value));
        // Muon's factor for tall matrices counts on `[inputs, outputs]`; checkpoints have it the other way round.
        let optimizer = &config.optimizer;
        let mover = |name: &str, [outputs, inputs]: [usize; 2]| {
            if name.ends_with("_proj.weight") {
                let factor = (outputs as f64 / inputs as f64).sqrt();
                Mover::Muon(optimizer.matrix_learning_rate * factor)
            } else {
                Mover::AdamW { peak: optimizer.learning_rate, betas: optimizer.betas }
            }
        };
        let training_pairs = corpus.training_pairs();
        let origin = Origin {
            tasks: corpus.task_ids(),
            pairs: fingerprint(&training_pairs),
            initial: String::new(),
        };
        let moving = Moving::new(tensors.collect(), optimizer, config.precision, mover, origin);
        let device = device.clone();
        Ok(Self { config, sampler, format, vocabulary, model, moving, device, training_pairs })
    }

    /// The averaged weights as a model.
    pub fn averaged(&self) -> Llama {
        self.model_of(|t| t.average.clone())
    }

    fn model_of(&self, value: impl Fn(&super::moving::Trained) -> Tensor<2>) -> Llama {
        let find = |name: &str, _: &[usize]| {
            let found = self.moving.trained.iter().find(|t| t.name == name);
            value(found.expect("every parameter is trained"))
        };
        Llama::from_parameters(self.model.clone(), find)
    }

    /// An episode as tokens, its last pair the query; `None` if it is longer than the context.
    ///
    /// Outputs are learnt from the second on: the first follows from nothing.
    fn sequence(&self, drawn: &Drawn) -> Option<Sequence> {
        let (query, demonstrations) = drawn.episode.pairs.split_last()?;
        let special = self.vocabulary.special();
        let written =
            self.format.write(demonstrations, &query.input, Some(&query.output), &special);
        let encoded = self.vocabulary.encode(&written.text).expect("the format's own characters");
        let (tokens, offsets): (Vec<u32>, Vec<(usize, usize)>) = encoded.into_iter().unzip();
        let targets = target_tokens(&offsets, &written.outputs[1..]);
        (tokens.len() <= self.model.max_length).then_some(Sequence { tokens, targets })
    }

    /// The sequences of a step.
    fn sequences(&self, share: f64) -> Result<Vec<Sequence>, PretrainError> {
        let mut sequences = Vec::new();
        let (mut n_tokens, mut index, mut too_long) = (0, 0, 0);
        while n_tokens < self.config.episode.cells_per_step {
            let drawn = self.sampler.drawn(self.moving.step, share, index);
            index += 1;
            if let Some(sequence) = self.sequence(&drawn) {
                n_tokens += sequence.tokens.len();
                sequences.push(sequence);
                too_long = 0;
                continue;
            }
            too_long += 1;
            if too_long == MOST_TOO_LONG {
                let most = self.config.model.max_position_embeddings;
                return Err(PretrainError::TooLong { most, episodes: too_long });
            }
        }
        Ok(sequences)
    }
}

impl Training for LanguageTrainer<'_> {
    const UNIT: &'static str = "tokens";

    fn resume(&mut self, path: &Path) -> Result<(), PretrainError> {
        self.moving.resume(path, self.config, &self.device)
    }

    fn save(&self, path: &Path) -> Result<(), PretrainError> {
        self.moving.save(path, self.config)
    }

    fn steps(&self) -> usize {
        self.moving.step
    }

    fn seconds(&self) -> f64 {
        self.moving.seconds
    }

    fn n_weights(&self) -> u64 {
        let shapes = self.averaged().parameters().into_iter().map(|(_, _, value)| value.dims());
        shapes.map(|[rows, columns]| (rows * columns) as u64).sum()
    }

    fn train_step(&mut self, until: Until) -> Result<Progress, PretrainError> {
        let started = Instant::now();
        let sequences = self.sequences(self.share(until))?;
        let batch = one_row(&sequences);
        let values: BTreeMap<&str, Tensor<2>> = self
            .moving
            .trained
            .iter()
            .map(|t| (t.name.as_str(), Tensor::from_inner(t.value.clone()).require_grad()))
            .collect();
        let model = Llama::from_parameters(self.model.clone(), |name, _| values[name].clone());
        let (loss, hits) = model.loss_and_hits(&batch, None)?;
        let value: f32 = loss.clone().inner().into_scalar();
        if !value.is_finite() {
            return Err(PretrainError::Diverged(value, self.moving.step));
        }
        let mut grads = loss.backward();
        let gradients = self.moving.trained.iter();
        let gradients =
            gradients.map(|t| values[t.name.as_str()].grad_remove(&mut grads)).collect();
        drop(values);
        self.moving.update(gradients, &self.config.optimizer, until);
        self.moving.seconds += started.elapsed().as_secs_f64();
        let (exact, queries) = exact_outputs(&sequences, &hits);
        let format = FormatProgress { loss: value * queries as f32, exact, queries };
        Ok(Progress {
            step: self.moving.step,
            seconds: self.moving.seconds,
            share: self.share(until),
            n_cells: batch.shape()[1],
            formats: [format, FormatProgress::default()],
        })
    }

    /// Of the held-out tasks alone. An answer is exact if each of its tokens is the most probable one behind those before it.
    fn evaluate(&self) -> Result<Evaluation, PretrainError> {
        let model = self.averaged();
        let mut sum = FormatProgress::default();
        for drawn in self.sampler.held_out_episodes() {
            let Some(mut sequence) = self.sequence(&drawn) else { continue };
            // Of the query's output alone.
            let last = sequence.targets.iter().rposition(|t| !t).map_or(0, |at| at + 1);
            sequence.targets[..last].fill(false);
            let batch = Batch::padded(std::slice::from_ref(&sequence))?;
            let (mean, hits) = model.loss_and_hits(&batch, None)?;
            let exact = usize::from(hits.iter().all(|&hit| hit));
            sum.add(FormatProgress { loss: mean.into_scalar(), exact, queries: 1 });
        }
        Ok(Evaluation { held_out: Answers::of(sum), trained: None })
    }

    /// Writes the averaged weights as a checkpoint for `transformers`: `config.json`, `model.safetensors` with the
    /// manifest of the training pairs in its metadata, and the tokenizer's files.
    fn export(&self, folder: &Path) -> Result<PathBuf, PretrainError> {
        let folder = folder.join(CHECKPOINT);
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| PretrainError::Io { path, source }
        };
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        let mut files = self.vocabulary.files(self.model.max_length);
        files.push(("config.json", self.config.model.json(self.vocabulary.len())));
        let generation = json!({
            "bos_token_id": CharVocabulary::BOS, "eos_token_id": CharVocabulary::EOS,
            "pad_token_id": CharVocabulary::PAD,
        });
        files.push(("generation_config.json", generation));
        for (name, value) in files {
            let path = folder.join(name);
            let text = format!("{value:#}\n");
            write_atomically(&path, text.as_bytes()).map_err(io(&path))?;
        }
        let path = folder.join("model.safetensors");
        let bytes = checkpoint_bytes(&self.averaged(), Some(&self.training_pairs));
        write_atomically(&path, &bytes).map_err(io(&path))?;
        Ok(folder)
    }
}

/// How many outputs have hits alone, and how many there are. An output's targets stand in a row, and inputs stand between
/// outputs.
fn exact_outputs(sequences: &[Sequence], hits: &[bool]) -> (usize, usize) {
    let mut hits = hits.iter();
    let (mut exact, mut all) = (0, 0);
    for sequence in sequences {
        for output in sequence.targets.chunk_by(|a, b| a == b).filter(|run| run[0]) {
            let right = hits.by_ref().take(output.len()).filter(|&&hit| hit).count();
            exact += usize::from(right == output.len());
            all += 1;
        }
    }
    (exact, all)
}

/// All sequences packed into one row: nothing is padding.
fn one_row(sequences: &[Sequence]) -> Batch {
    let length = sequences.iter().map(|s| s.tokens.len()).sum();
    Batch::packed(sequences, length).expect("sequences with tokens, and room for all")
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::arc::{Example, Grid, Task};
    use crate::public::demo;

    fn config() -> PretrainConfig<LanguageModelConfig> {
        let recipe = include_str!("../../data/recipes/pretrain-llama.toml");
        let mut config: PretrainConfig<LanguageModelConfig> = toml::from_str(recipe).unwrap();
        config.model.hidden_size = 32;
        config.model.intermediate_size = 48;
        config.model.num_hidden_layers = 1;
        config.episode.cells_per_step = 600;
        config.optimizer.warmup_steps = 2;
        config.data.hold_out_every = 12;
        config
    }

    fn steps(trainer: &mut LanguageTrainer<'_>, n: usize, until: Until) {
        for _ in 0..n {
            trainer.train_step(until).unwrap();
        }
    }

    #[test]
    fn an_interrupted_run_ends_with_the_same_bytes() {
        let config = config();
        let corpus = Corpus::new(demo().tasks, Vec::new(), &config);
        let until = Until::Steps(6);
        let new = || LanguageTrainer::new(&config, &corpus, &Device::flex()).unwrap();
        let bytes = |t: &LanguageTrainer<'_>| checkpoint_bytes(&t.averaged(), None);
        let mut whole = new();
        steps(&mut whole, 6, until);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let mut first = new();
        steps(&mut first, 2, until);
        first.save(&path).unwrap();
        let mut second = new();
        second.resume(&path).unwrap();
        steps(&mut second, 4, until);
        assert!(bytes(&whole) == bytes(&second));
        assert!(bytes(&whole) != bytes(&first));
    }

    #[test]
    fn training_lowers_the_loss_and_only_later_outputs_are_learnt() {
        let config = config();
        let corpus = Corpus::new(demo().tasks, Vec::new(), &config);
        let mut trainer = LanguageTrainer::new(&config, &corpus, &Device::flex()).unwrap();
        let sequence = trainer.sequences(0.0).unwrap().remove(0);
        let ends = |s: &[u32]| s.iter().filter(|&&t| t == CharVocabulary::EOS).count();
        let learnt = sequence.tokens.iter().zip(&sequence.targets).filter(|(_, t)| **t);
        let learnt: Vec<u32> = learnt.map(|(token, _)| *token).collect();
        assert_eq!(ends(&learnt), ends(&sequence.tokens) - 1, "all answers but the first");
        let before = trainer.evaluate().unwrap().held_out.unwrap().loss;
        steps(&mut trainer, 60, Until::Steps(60));
        let after = trainer.evaluate().unwrap().held_out.unwrap().loss;
        assert!(after < 0.8 * before, "loss {before} → {after}");
    }

    #[test]
    fn an_output_is_exact_if_all_of_its_tokens_are_hit() {
        let sequence = |marks: &str| {
            let targets: Vec<bool> = marks.chars().map(|mark| mark == 'x').collect();
            Sequence { tokens: vec![0; targets.len()], targets }
        };
        let sequences = [sequence("..xx.x"), sequence(".xxx")];
        let hits = |text: &str| text.chars().map(|c| c == '1').collect::<Vec<bool>>();
        assert_eq!(exact_outputs(&sequences, &hits("111111")), (3, 3));
        assert_eq!(exact_outputs(&sequences, &hits("011110")), (1, 3));
        assert_eq!(exact_outputs(&sequences, &hits("110011")), (1, 3));
        assert_eq!(exact_outputs(&[], &[]), (0, 0));
    }

    #[test]
    fn hits_are_the_most_probable_tokens_and_exact_outputs_grow_with_training() {
        let mut config = config();
        // One small task alone is soon known by heart.
        config.data.synth = 0.0;
        config.data.hold_out_every = 0;
        config.episode.new_rule = 0.0;
        let task = |rows: &[&[u8]]| {
            let grid = Grid::from_rows(rows).unwrap();
            let pair = Example { input: grid.clone(), output: grid };
            Task { id: "same".into(), examples: vec![pair; 5], tests: Vec::new() }
        };
        let corpus = Corpus::new(vec![task(&[&[1, 1]])], Vec::new(), &config);
        let mut trainer = LanguageTrainer::new(&config, &corpus, &Device::flex()).unwrap();
        let sequences = trainer.sequences(0.0).unwrap();
        let batch = one_row(&sequences);
        let model = trainer.averaged();
        let (_, hits) = model.loss_and_hits(&batch, None).unwrap();
        let [_, length] = batch.shape();
        let logits = model.logits(&batch, None).unwrap().into_data();
        let logits: Vec<f32> = logits.iter().collect();
        let marks: Vec<(u32, bool)> = sequences
            .iter()
            .flat_map(|s| s.tokens.iter().copied().zip(s.targets.iter().copied()))
            .collect();
        let vocab = logits.len() / length;
        let expected = (1..length).filter(|&i| marks[i].1).map(|i| {
            let scores = &logits[(i - 1) * vocab..i * vocab];
            scores.iter().all(|&score| score <= scores[marks[i].0 as usize])
        });
        assert_eq!(hits, expected.collect::<Vec<_>>());
        let until = Until::Steps(250);
        let first = trainer.train_step(until).unwrap().formats[0];
        let outputs = sequences
            .iter()
            .map(|s| s.tokens.iter().filter(|&&t| t == CharVocabulary::EOS).count() - 1);
        assert_eq!(first.queries, outputs.sum::<usize>(), "all but the first of each text");
        assert!((0.0..8.0).contains(&(first.loss / first.queries as f32)));
        steps(&mut trainer, 248, until);
        let last = trainer.train_step(until).unwrap().formats[0];
        assert!(first.exact * 2 < first.queries, "{first:?}");
        assert!(last.exact * 2 > last.queries, "{last:?}");
    }

    #[test]
    fn settings_of_the_grid_model_alone_are_refused() {
        let mut config = config();
        config.episode.untold = 0.5;
        let corpus = Corpus::new(demo().tasks, Vec::new(), &config);
        let error = LanguageTrainer::new(&config, &corpus, &Device::flex()).err().unwrap();
        assert!(matches!(error, PretrainError::NotForText));
        config.episode.untold = 0.0;
        config.model.format = "other".into();
        let error = LanguageTrainer::new(&config, &corpus, &Device::flex()).err().unwrap();
        assert!(error.to_string().contains("compact"), "{error}");
    }

    #[test]
    fn a_context_that_no_episode_fits_is_an_error_and_no_endless_search() {
        let mut config = config();
        config.data.synth = 0.0;
        config.model.max_position_embeddings = 8;
        let corpus = Corpus::new(demo().tasks, Vec::new(), &config);
        let mut trainer = LanguageTrainer::new(&config, &corpus, &Device::flex()).unwrap();
        let error = trainer.train_step(Until::Steps(1)).unwrap_err().to_string();
        assert!(error.contains("raise model.max_position_embeddings (8)"), "{error}");
    }
}
