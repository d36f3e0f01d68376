//! The training loop.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::moving::{Mover, Moving, Origin};
use super::state::fingerprint;
use super::{
    Corpus, OptimizerConfig, PretrainConfig, PretrainError, Sampler, Source, Training, Until,
};
use crate::arc::write_atomically;
use crate::contamination::TrainingPairs;
use crate::dataset::Format;
use crate::engine::{Encoded, HostTensor};
use crate::model::{
    Conditioning, GridModel, StoredDtype, Weights, cross_entropy, is_matrix, log_probabilities,
    normal, to_device, to_host,
};
use crate::rng::stream;

/// Name of the table of task tokens among the trained tensors; it is not part of the model.
const TABLE: &str = "task_table";

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Share of the run that is done.
    pub share: f64,
    /// Canvas cells in the step, or a language model's tokens.
    pub n_cells: usize,
    /// Losses and exact answers of the in-context and of the end-to-end format. A language model's queries are all outputs
    /// that it learns; one is exact if each of its tokens is the most probable one behind those before it.
    pub formats: [FormatProgress; 2],
}

/// What a step did in one format.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FormatProgress {
    /// Sum over the queries of their mean cross-entropy a cell, in nats; of a language model, of the step's mean a token.
    pub loss: f32,
    /// Queries whose every cell or token was right.
    pub exact: usize,
    /// Queries.
    pub queries: usize,
}

impl FormatProgress {
    /// Adds what further queries had.
    pub fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.exact += other.exact;
        self.queries += other.queries;
    }
}

/// What the averaged weights do on fixed episodes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evaluation {
    /// On the held-out tasks, in-context; `None` if none is held out.
    pub held_out: Option<Answers>,
    /// On the trained tasks, end-to-end, with canvases as small as at the beginning of the run, so that phases can be compared;
    /// `None` if none is trained in this format. The steps' own loss is that of weights in motion on canvases that grow.
    pub trained: Option<Answers>,
}

/// How well queries are answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answers {
    /// Mean cross-entropy a cell, in nats.
    pub loss: f64,
    /// Share of queries whose every cell was right.
    pub exact: f64,
}

impl Answers {
    /// The means of sums over queries; `None` if there are none.
    pub(super) fn of(sum: FormatProgress) -> Option<Self> {
        let n = sum.queries as f64;
        let mean = || Self { loss: f64::from(sum.loss) / n, exact: sum.exact as f64 / n };
        (sum.queries > 0).then(mean)
    }
}

/// A training run in memory.
pub struct Trainer<'a> {
    config: &'a PretrainConfig,
    sampler: Sampler<'a>,
    corpus: &'a Corpus,
    model: GridModel,
    moving: Moving,
    device: Device,
    /// The manifest: what the weights may have been trained on; `None` if earlier weights did not say.
    training_pairs: Option<TrainingPairs>,
    /// Rows of the table that are exported as starts: those that are trained, and those of earlier weights. The others are noise.
    starts: BTreeSet<usize>,
    /// The batch of the next step, if it is drawn already.
    ahead: Option<(usize, Encoded)>,
}

impl<'a> Trainer<'a> {
    /// A run at its beginning: random weights, or those of `initial`.
    ///
    /// # Errors
    /// [`PretrainError`] if there is nothing to train on or the initial weights do not fit.
    pub fn new(
        config: &'a PretrainConfig,
        corpus: &'a Corpus,
        initial: Option<&Weights>,
        device: &Device,
    ) -> Result<Self, PretrainError> {
        let sampler = Sampler::new(corpus, config)?;
        if let Some(weights) = initial.filter(|weights| weights.config != config.model) {
            let serde_json::Value::Object(sizes) =
                serde_json::to_value(&weights.config).expect("plain numbers")
            else {
                unreachable!("a struct is an object");
            };
            let option =
                |(key, value): (&String, &serde_json::Value)| format!(" --set model.{key}={value}");
            return Err(PretrainError::OtherNetwork { sizes: sizes.iter().map(option).collect() });
        }
        let mut model = match initial {
            Some(weights) => GridModel::from_weights(weights, device)?,
            None => GridModel::random(&config.model, config.seed, device),
        };
        model.precision = config.precision;
        let starts = initial.map(|weights| (&model, weights.starts.as_slice()));
        let table = initial_table(config, &corpus.train, starts);
        // The table takes their place.
        model.task_tokens = model.start(0);
        let mut tensors = vec![(TABLE.to_owned(), to_device(&table, device))];
        model.map(&mut |name, tensor| {
            tensors.push((name.to_owned(), tensor.clone()));
            tensor
        });
        let optimizer = &config.optimizer;
        let OptimizerConfig { learning_rate, task_learning_rate, betas, task_betas, .. } =
            *optimizer;
        let mover = |name: &str, _| match name {
            TABLE => {
                let own = Some(task_learning_rate).filter(|rate| *rate > 0.0);
                Mover::AdamW { peak: own.unwrap_or(learning_rate), betas: task_betas }
            }
            _ if is_matrix(name) => Mover::Muon(optimizer.matrix_learning_rate),
            _ => Mover::AdamW { peak: learning_rate, betas },
        };
        let training_pairs = corpus.training_pairs();
        let origin = Origin {
            tasks: corpus.task_ids(),
            pairs: fingerprint(&training_pairs),
            initial: initial.map_or(String::new(), |weights| weights.sha256.clone()),
        };
        let moving = Moving::new(tensors, optimizer, config.precision, mover, origin);
        let mut trainer = Self {
            config,
            corpus,
            model,
            moving,
            device: device.clone(),
            training_pairs: Some(training_pairs),
            starts: sampler.rows().filter(|_| fits_tasks(config)).collect(),
            sampler,
            ahead: None,
        };
        if let Some(earlier) = initial {
            trainer.remember(earlier);
        }
        Ok(trainer)
    }

    /// Adds what earlier weights were trained on to the manifest, and their tasks to the starts; a manifest that they lack is
    /// lacking from then on.
    pub fn remember(&mut self, earlier: &Weights) {
        let both = self.training_pairs.take().zip(earlier.training_pairs.as_ref());
        self.training_pairs = both.map(|(ours, theirs)| ours.union(theirs));
        let rows = self.corpus.train.iter().enumerate();
        self.starts
            .extend(rows.filter(|(_, s)| earlier.starts.contains(&s.id)).map(|(row, _)| row));
    }

    /// The averaged weights, with the mean of the task table and then its rows as the starts of a new task's tokens; rows that
    /// were never trained take no part.
    pub fn averaged(&self) -> GridModel {
        let value = |name: &str| {
            let found = self.moving.trained.iter().find(|t| t.name == name);
            found.expect("every parameter is trained").average.clone()
        };
        let mut model = self.model.map(&mut |name, _| value(name));
        if !self.starts.is_empty() {
            let (m, d) = (self.config.model.n_task_tokens, self.config.model.d_model);
            let rows: Vec<i32> = self.starts.iter().map(|&row| row as i32).collect();
            let rows = Tensor::<1, Int>::from_data(TensorData::from(&rows[..]), &self.device);
            let table = value(TABLE).reshape([self.corpus.train.len(), m, d]).select(0, rows);
            let starts = Tensor::cat(vec![table.clone().mean_dim(0), table], 0);
            model.task_tokens = starts.reshape([(1 + self.starts.len()) * m, d]);
        }
        model
    }

    /// The averaged weights with the manifest of everything that they may have been trained on.
    pub fn weights(&self) -> Weights {
        let ids = self.starts.iter().map(|&row| self.corpus.train[row].id.clone());
        Weights {
            starts: ids.collect(),
            training_pairs: self.training_pairs.clone(),
            ..self.averaged().to_weights()
        }
    }
}

impl Training for Trainer<'_> {
    const UNIT: &'static str = "cells";

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
        self.averaged().n_parameters()
    }

    fn train_step(&mut self, until: Until) -> Result<Progress, PretrainError> {
        let started = Instant::now();
        let step = self.moving.step;
        let encoded = match self.ahead.take() {
            Some((of, encoded)) if of == step => encoded,
            _ => self.sampler.batch(step, self.share(until)),
        };
        let after = self.moving.share_after_step(until);
        let sampler = &self.sampler;
        let moving = &mut self.moving;
        let (model, optimizer) = (&self.model, &self.config.optimizer);
        // The next batch is drawn meanwhile.
        let (next, (value, log_probs)) = std::thread::scope(|scope| {
            let next = scope.spawn(move || sampler.batch(step + 1, after));
            let done = take_step(model, moving, &encoded, optimizer, until);
            (next.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), done)
        });
        self.ahead = Some((step + 1, next));
        if !value.is_finite() {
            return Err(PretrainError::Diverged(value, step));
        }
        self.moving.seconds += started.elapsed().as_secs_f64();
        Ok(Progress {
            step: self.moving.step,
            seconds: self.moving.seconds,
            share: self.share(until),
            n_cells: encoded.batch.n_cells(),
            formats: by_format(&encoded, &log_probs),
        })
    }

    fn evaluate(&self) -> Result<Evaluation, PretrainError> {
        let model = self.averaged();
        let table = &self.moving.trained[0].average;
        let mut sums = [FormatProgress::default(); 2];
        for encoded in self.sampler.evaluation(fits_tasks(self.config)) {
            let log_probs = log_probabilities(model.forward(&encoded.batch, Some(table), None));
            sums.iter_mut().zip(by_format(&encoded, &log_probs)).for_each(|(sum, p)| sum.add(p));
        }
        let [held_out, trained] = sums.map(Answers::of);
        Ok(Evaluation { held_out, trained })
    }

    /// One file, with the manifest of everything that the weights may have been trained on.
    fn export(&self, folder: &Path) -> Result<PathBuf, PretrainError> {
        let path = model_in(folder);
        let bytes = self.weights().to_bytes(StoredDtype::F16);
        write_atomically(&path, &bytes)
            .map_err(|source| PretrainError::Io { path: path.clone(), source })?;
        Ok(path)
    }
}

/// Where a grid model's averaged weights are in a run's folder.
pub fn model_in(folder: &Path) -> PathBuf {
    folder.join("model.safetensors")
}

/// Whether the table of task tokens is trained.
fn fits_tasks(config: &PretrainConfig) -> bool {
    config.episode.e2e_share > 0.0 && config.data.collected > 0.0
}

/// Moves the weights by one batch; gives the loss and the log-probabilities of its query cells before that.
fn take_step(
    model: &GridModel,
    moving: &mut Moving,
    encoded: &Encoded,
    optimizer: &OptimizerConfig,
    until: Until,
) -> (f32, Vec<[f32; 11]>) {
    let values: Vec<Tensor<2>> =
        moving.trained.iter().map(|t| Tensor::from_inner(t.value.clone()).require_grad()).collect();
    let mut next = values.iter().skip(1).cloned();
    let model = model.map(&mut |_, _| next.next().expect("as many as parameters"));
    let logits = model.forward(&encoded.batch, Some(&values[0]), None);
    let weights: Vec<f32> = encoded.weights.iter().map(|w| w / encoded.n_episodes as f32).collect();
    let loss = cross_entropy(logits.clone(), &encoded.targets, &weights);
    let mut grads = loss.backward();
    let gradients: Vec<Option<Tensor<2>>> =
        values.iter().map(|v| v.grad_remove(&mut grads)).collect();
    moving.update(gradients, optimizer, until);
    // Reading waits for the device, so it comes last.
    (loss.inner().into_scalar(), log_probabilities(logits.inner()))
}

/// The table of task tokens at a run's beginning. Tasks that an earlier run has trained on too keep their tokens: where a table
/// begins anew, trunk and tokens have to find each other again. The others begin near the mean of its tasks'.
fn initial_table(
    config: &PretrainConfig,
    tasks: &[Source],
    initial: Option<(&GridModel, &[String])>,
) -> HostTensor {
    let (m, d) = (config.model.n_task_tokens, config.model.d_model);
    let mut rng = stream(config.seed, "init", TABLE, 0);
    let initial = initial.map(|(model, ids)| (to_host(&model.task_tokens).values, ids));
    let mut values = Vec::with_capacity(tasks.len() * m * d);
    for task in tasks {
        let noise = (0..m * d).map(|_| 0.5 * normal(&mut rng)).collect::<Vec<f32>>();
        let Some((starts, ids)) = &initial else {
            values.extend(noise);
            continue;
        };
        // The first start is the mean.
        let start = ids.iter().position(|id| *id == task.id).map_or(0, |i| i + 1);
        let share = if start > 0 { 0.0 } else { 0.2 };
        let tokens = &starts[start * m * d..(start + 1) * m * d];
        values.extend(tokens.iter().zip(noise).map(|(s, noise)| s + share * noise));
    }
    HostTensor { shape: vec![tasks.len() * m, d], values }
}

/// Losses and exact answers, in-context first, then end-to-end.
fn by_format(encoded: &Encoded, log_probs: &[[f32; 11]]) -> [FormatProgress; 2] {
    let predicted: Vec<u8> = log_probs
        .iter()
        .map(|p| (1..11).fold(0, |best, i| if p[i] > p[best] { i } else { best }) as u8)
        .collect();
    let mut out = [FormatProgress::default(); 2];
    let exact = encoded.exact(&predicted);
    for ((span, exact), (_, conditioning)) in
        encoded.spans.iter().zip(exact).zip(&encoded.batch.queries)
    {
        let format = match conditioning {
            Conditioning::Context(_) => Format::Icl,
            Conditioning::Task { .. } => Format::E2e,
        };
        let asked: Vec<usize> = span.clone().filter(|&i| encoded.weights[i] > 0.0).collect();
        let sum: f32 = asked.iter().map(|&i| -log_probs[i][usize::from(encoded.targets[i])]).sum();
        let p = &mut out[usize::from(format == Format::E2e)];
        p.loss += sum / asked.len().max(1) as f32;
        p.exact += usize::from(exact);
        p.queries += 1;
    }
    out
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::arc::{Example, Grid, Task};
    use crate::dataset::{Augmenter, Episode};
    use crate::model::GridModelConfig;
    use crate::pretrain::{DataConfig, TrainState};

    fn config() -> PretrainConfig {
        let recipe = include_str!("../../data/recipes/pretrain.toml");
        let mut config: PretrainConfig = toml::from_str(recipe).unwrap();
        config.model.d_model = 32;
        config.model.d_ff = 64;
        config.model.n_layers = 1;
        config.model.n_heads = 4;
        config.episode.cells_per_step = 100;
        config.optimizer.warmup_steps = 2;
        config.data.synth = 0.0;
        config.data.hold_out_every = 3;
        config
    }

    /// Tasks that shift every color by a constant.
    fn tasks() -> Vec<Task> {
        let example = |shift: usize, i: usize| {
            let input = Grid::from_fn(2, 3, |r, c| ((r + 2 * c + i) % 5) as u8);
            let output =
                Grid::from_fn(2, 3, |r, c| ((usize::from(input.get(r, c)) + shift) % 10) as u8);
            Example { input, output }
        };
        (1..5)
            .map(|shift| Task {
                id: format!("shift-{shift}"),
                examples: (0..5).map(|i| example(shift, i)).collect(),
                tests: Vec::new(),
            })
            .collect()
    }

    const UNTIL: Until = Until::Steps(8);

    fn run(trainer: &mut Trainer<'_>, steps: usize) {
        for _ in 0..steps {
            trainer.train_step(UNTIL).unwrap();
        }
    }

    #[test]
    fn fixed_rules_of_the_generators_are_learnt_end_to_end_beside_the_collected_tasks() {
        let mut config = config();
        config.data.synth_tasks = 3;
        config.data.synth_pairs = 5;
        config.episode.synth_max_side = 8;
        config.episode.e2e_share = 1.0;
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        let alone = PretrainConfig {
            data: DataConfig { synth_tasks: 0, ..config.data.clone() },
            ..config.clone()
        };
        let collected = Corpus::new(tasks(), Vec::new(), &alone).train.len();
        assert_eq!(corpus.train.len(), collected + 3);
        let fixed = &corpus.train[collected..];
        assert!(fixed.iter().all(|rule| rule.generated.len() == 5 && rule.own.is_empty()));
        assert_ne!(fixed[0].generated, fixed[1].generated);
        let again = Corpus::new(tasks(), Vec::new(), &config);
        assert_eq!(fixed[2].generated, again.train[collected + 2].generated);
        let sampler = Sampler::new(&corpus, &config).unwrap();
        let rows = (0..40).flat_map(|step| sampler.batch(step, 1.0).batch.queries);
        let tasks = rows.filter_map(|(_, conditioning)| match conditioning {
            Conditioning::Task { task, .. } => Some(task),
            Conditioning::Context(_) => None,
        });
        let seen: std::collections::BTreeSet<usize> = tasks.collect();
        assert!(
            seen.iter().any(|&row| row >= collected) && seen.iter().any(|&row| row < collected)
        );
    }

    #[test]
    fn the_table_of_task_tokens_moves_at_a_learning_rate_of_its_own() {
        let mut config = config();
        config.episode.e2e_share = 1.0;
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        // How far two steps move the table and the first tensor of the model that AdamW moves, at most.
        let moved = |task_learning_rate: f64| -> [f32; 2] {
            let mut config = config.clone();
            config.optimizer.task_learning_rate = task_learning_rate;
            let mut trainer = Trainer::new(&config, &corpus, None, &Device::flex()).unwrap();
            let values =
                |t: &Trainer<'_>| [0, 1].map(|i| to_host(&t.moving.trained[i].value).values);
            let before = values(&trainer);
            // The readout begins at zero, so nothing else has a gradient in the first step.
            run(&mut trainer, 2);
            let furthest = |(a, b): (Vec<f32>, Vec<f32>)| {
                a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
            };
            let [t, e] = before;
            let [u, f] = values(&trainer);
            [(t, u), (e, f)].map(furthest)
        };
        let alike = |a: f32, b: f32| (a / b - 1.0).abs() < 0.01;
        let rate = config.optimizer.learning_rate;
        let (same, slow, fast) = (moved(0.0), moved(rate), moved(10.0 * rate));
        assert_eq!(same, slow, "0 says that it has none of its own");
        assert!(alike(fast[0], 10.0 * slow[0]), "{fast:?} {slow:?}");
        assert_eq!(fast[1], slow[1], "the model moves as before");
    }

    #[test]
    fn an_interrupted_run_ends_with_the_same_bytes() {
        let config = config();
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        let device = Device::flex();
        let mut whole = Trainer::new(&config, &corpus, None, &device).unwrap();
        run(&mut whole, 8);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let mut first = Trainer::new(&config, &corpus, None, &device).unwrap();
        run(&mut first, 3);
        first.save(&path).unwrap();
        let mut second = Trainer::new(&config, &corpus, None, &device).unwrap();
        second.resume(&path).unwrap();
        run(&mut second, 5);
        // The library that writes the file has an order of its own for the header's entries, by chance.
        for _ in 0..8 {
            let bytes = |run: &Trainer<'_>| run.weights().to_bytes(StoredDtype::F16);
            assert!(bytes(&whole) == bytes(&second));
        }
    }

    #[test]
    fn a_state_of_other_settings_or_a_cut_off_one_is_refused() {
        let config = config();
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        let device = Device::flex();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        Trainer::new(&config, &corpus, None, &device).unwrap().save(&path).unwrap();

        let mut other = config.clone();
        other.seed += 1;
        let mut trainer = Trainer::new(&other, &corpus, None, &device).unwrap();
        assert!(matches!(trainer.resume(&path), Err(PretrainError::OtherRun { .. })));

        let mut pairs = tasks();
        let small = Grid::from_rows(&[&[1]]).unwrap();
        pairs[0].examples[0] = Example { input: small.clone(), output: small };
        let others = Corpus::new(pairs, Vec::new(), &config);
        let mut trainer = Trainer::new(&config, &others, None, &device).unwrap();
        let error = trainer.resume(&path).unwrap_err().to_string();
        assert!(error.contains("other pairs: give the same --tasks and --re-arc"), "{error}");
        // A state of an earlier version does not say what its pairs were.
        let (mut state, tensors): (TrainState, _) = TrainState::load(&path).unwrap();
        state.pairs = None;
        state.save(&tensors, &path).unwrap();
        trainer.resume(&path).unwrap();

        let initial = Weights { sha256: "ab".to_owned(), ..trainer.weights() };
        let mut trainer = Trainer::new(&config, &corpus, Some(&initial), &device).unwrap();
        let error = trainer.resume(&path).unwrap_err().to_string();
        assert!(error.contains("give the same --init, or none"), "{error}");
        state.initial = None;
        state.save(&tensors, &path).unwrap();
        trainer.resume(&path).unwrap();
        // A run that goes on without --init still knows what it began with.
        state.initial = Some("ab".to_owned());
        state.save(&tensors, &path).unwrap();
        let mut without = Trainer::new(&config, &corpus, None, &device).unwrap();
        without.resume(&path).unwrap();
        without.save(&path).unwrap();
        let (state, _) = TrainState::<GridModelConfig>::load(&path).unwrap();
        assert_eq!(state.initial.as_deref(), Some("ab"));
        trainer.resume(&path).unwrap();

        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
        let mut trainer = Trainer::new(&config, &corpus, None, &device).unwrap();
        assert!(matches!(trainer.resume(&path), Err(PretrainError::DamagedState { .. })));
    }

    #[test]
    fn training_lowers_the_loss_and_held_out_tasks_are_not_trained_on() {
        let mut config = config();
        config.episode.new_rule = 0.0;
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        assert_eq!(corpus.held_out.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["shift-3"]);
        assert!(corpus.train.iter().all(|s| s.id != "shift-3"));
        let mut trainer = Trainer::new(&config, &corpus, None, &Device::flex()).unwrap();
        let loss = |p: Progress| {
            p.formats.iter().map(|f| f.loss).sum::<f32>()
                / p.formats.iter().map(|f| f.queries).sum::<usize>() as f32
        };
        let before = trainer.evaluate().unwrap();
        let first = loss(trainer.train_step(Until::Steps(800)).unwrap());
        for _ in 0..760 {
            trainer.train_step(Until::Steps(800)).unwrap();
        }
        let last = loss(trainer.train_step(Until::Steps(800)).unwrap());
        assert!(last < 0.95 * first, "loss {first} → {last}");
        let after = trainer.evaluate().unwrap();
        let [before, after] =
            [before, after].map(|e| (e.trained.unwrap().loss, e.held_out.is_some()));
        assert!(after.0 < 0.9 * before.0 && after.1, "{before:?} → {after:?}");
    }

    #[test]
    fn the_manifest_holds_what_is_trained_on_now_and_earlier_and_survives_the_file() {
        let config = config();
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        let device = Device::flex();
        let first = Trainer::new(&config, &corpus, None, &device).unwrap().weights();
        let known = first.training_pairs.as_ref().unwrap();
        let of = |ids: &[&str]| -> Vec<bool> {
            ids.iter().map(|id| known.know(tasks().iter().find(|t| t.id == *id).unwrap())).collect()
        };
        // shift-3 is held out.
        assert_eq!(of(&["shift-1", "shift-2", "shift-3", "shift-4"]), [true, true, false, true]);

        let bytes = first.to_bytes(StoredDtype::F16);
        let mut read = Weights::from_bytes(&bytes, Path::new("model")).unwrap();
        assert_eq!(read.training_pairs, first.training_pairs);
        assert_eq!(read.tensors.len(), first.tensors.len());

        let mut fewer = tasks();
        fewer.retain(|task| task.id == "shift-4");
        let corpus = Corpus::new(fewer, Vec::new(), &config);
        let second = Trainer::new(&config, &corpus, Some(&read), &device).unwrap().weights();
        assert_eq!(second.training_pairs, first.training_pairs, "what came before still counts");
        read.training_pairs = None;
        let third = Trainer::new(&config, &corpus, Some(&read), &device).unwrap().weights();
        assert_eq!(third.training_pairs, None, "nobody knows what came before");
    }

    #[test]
    fn a_run_that_goes_on_from_another_takes_its_task_tokens_over_by_the_tasks_ids() {
        let config = config();
        let device = Device::flex();
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        let mut first = Trainer::new(&config, &corpus, None, &device).unwrap();
        run(&mut first, 3);
        let weights = first.weights();
        assert_eq!(weights.starts, corpus.task_ids());

        let bytes = weights.to_bytes(StoredDtype::F32);
        let read = Weights::from_bytes(&bytes, "model".as_ref()).unwrap();
        let mut fewer = tasks();
        fewer.remove(0);
        let corpus = Corpus::new(fewer, Vec::new(), &config);
        let second = Trainer::new(&config, &corpus, Some(&read), &device).unwrap();
        assert_eq!(corpus.task_ids(), ["shift-2", "shift-3"]);
        let ours = to_host(&second.moving.trained[0].value).values;
        let theirs = to_host(&first.moving.trained[0].average).values;
        let row = config.model.n_task_tokens * config.model.d_model;
        let at = |id: &str| row * read.starts.iter().position(|start| start == id).unwrap();
        assert_eq!(ours[..row], theirs[at("shift-2")..][..row]);
        let mut wider = config.clone();
        wider.model.d_model = 64;
        let error = Trainer::new(&wider, &corpus, Some(&read), &device).err().unwrap().to_string();
        assert!(
            error.contains("another network") && error.contains("--set model.d_model=32 "),
            "{error}"
        );
        // shift-3 was held out before: it begins near the mean.
        let n = read.starts.len() as f32;
        let mean = |i: usize| theirs.chunks(row).map(|tokens| tokens[i]).sum::<f32>() / n;
        let square = |i: usize| (ours[row + i] - mean(i)).powi(2);
        let far = ((0..row).map(square).sum::<f32>() / row as f32).sqrt();
        assert!((0.05..0.15).contains(&far), "{far}");

        // A pair of larger grids alone: never drawn, so its tokens are no start, unless earlier weights have them.
        let mut larger = tasks();
        let grid = Grid::from_fn(5, 5, |r, c| ((r + c) % 3) as u8);
        larger[0].examples = vec![Example { input: grid.clone(), output: grid }];
        let corpus = Corpus::new(larger, Vec::new(), &config);
        assert_eq!(corpus.task_ids(), ["shift-1", "shift-2", "shift-4"]);
        let new = Trainer::new(&config, &corpus, None, &device).unwrap();
        let weights = new.weights();
        assert_eq!(weights.starts, ["shift-2", "shift-4"]);
        let tokens = &weights.tensors["task_tokens"].values;
        let table = to_host(&new.moving.trained[0].average).values;
        assert_eq!(tokens[row..], table[row..]);
        let mean = (table[row] + table[2 * row]) / 2.0;
        assert!((tokens[0] - mean).abs() < 1e-6, "{} {mean}", tokens[0]);
        let after = Trainer::new(&config, &corpus, Some(&read), &device).unwrap();
        assert_eq!(after.weights().starts, corpus.task_ids());

        // Nor are they lost where they are not trained.
        let mut in_context = config.clone();
        in_context.episode.e2e_share = 0.0;
        let after = Trainer::new(&in_context, &corpus, Some(&read), &device).unwrap().weights();
        assert_eq!(after.starts, corpus.task_ids());
        assert_eq!(after.tensors["task_tokens"].values.len(), 4 * row);

        let mut longer = read;
        longer.starts.push("one more".to_owned());
        let error = Weights::from_bytes(&longer.to_bytes(StoredDtype::F32), "model".as_ref());
        let error = error.err().unwrap().to_string();
        assert!(error.contains("names 4 tasks, and `task_tokens` has 32 rows"), "{error}");
    }

    #[test]
    fn some_episodes_are_augmented_within_the_size_limit() {
        let mut config = config();
        (config.data.hold_out_every, config.episode.new_rule) = (0, 0.0);
        // Of 2×3 cells; the double has 24.
        config.episode.augmenters =
            [Augmenter::Scale, Augmenter::ScaleHeight, Augmenter::ScaleWidth].into();
        let shapes = |probability: f64, e2e_share: f64, max_cells: usize| {
            let mut config = config.clone();
            (config.episode.augment_probability, config.episode.e2e_share) =
                (probability, e2e_share);
            (config.episode.first_max_cells, config.episode.max_cells) = (max_cells, max_cells);
            let corpus = Corpus::new(tasks(), Vec::new(), &config);
            let sampler = Sampler::new(&corpus, &config).unwrap();
            let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
            for step in 0..200 {
                let Episode { pairs, .. } = sampler.drawn(step, 1.0, 0).episode;
                let shape = pairs[0].input.shape();
                assert!(pairs.iter().all(|p| [p.input.shape(), p.output.shape()] == [shape; 2]));
                *counts.entry((shape.0.min(shape.1), shape.0.max(shape.1))).or_default() += 1;
            }
            counts
        };
        let all = |counts: &BTreeMap<_, _>| counts.keys().copied().collect::<Vec<_>>();
        for e2e_share in [0.0, 1.0] {
            assert_eq!(all(&shapes(0.0, e2e_share, 900)), [(2, 3)]);
            let half = shapes(0.5, e2e_share, 900);
            assert_eq!(all(&half), [(2, 3), (2, 6), (3, 4), (4, 6)]);
            assert!((70..130).contains(&half[&(2, 3)]), "{half:?}");
            assert_eq!(all(&shapes(1.0, e2e_share, 900)), [(2, 6), (3, 4), (4, 6)]);
            assert_eq!(
                all(&shapes(1.0, e2e_share, 23)),
                [(2, 6), (3, 4)],
                "the double is too large"
            );
            assert_eq!(all(&shapes(1.0, e2e_share, 11)), [(2, 3)], "nothing else is small enough");
        }
    }

    #[test]
    fn a_few_tasks_at_a_time_have_their_turn_and_all_in_the_end() {
        let mut config = config();
        config.data.hold_out_every = 0;
        (config.data.synth, config.episode.e2e_share) = (0.0, 1.0);
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        let drawn = |config: &PretrainConfig, steps: std::ops::Range<usize>| {
            let sampler = Sampler::new(&corpus, config).unwrap();
            let draws = steps.flat_map(|step| (0..20).map(move |index| (step, index)));
            let rows = draws.map(|(step, index)| sampler.drawn(step, 1.0, index).task);
            rows.collect::<std::collections::BTreeSet<usize>>()
        };
        assert_eq!(drawn(&config, 0..1).len(), 4, "all, unless told otherwise");
        (config.episode.at_a_time, config.episode.turn_steps) = (2, 6);
        let turns: Vec<_> = (0..24).map(|step| drawn(&config, step..step + 1)).collect();
        // In 6 steps two places are taken anew, one every 3; a round of four tasks takes 12.
        for (step, turn) in turns.iter().enumerate() {
            let is_between_rounds = step % 12 >= 9;
            assert!(turn.len() == 2 || is_between_rounds && turn.len() == 1, "{step}: {turn:?}");
            assert_eq!(*turn, turns[step / 3 * 3], "{step}");
        }
        assert_eq!(drawn(&config, 0..12).len(), 4);
        assert_ne!(turns[0], turns[3]);
    }

    #[test]
    fn a_run_grows_from_its_first_limits_to_its_last() {
        let mut episode = config().episode;
        (episode.first_max_cells, episode.max_cells, episode.growth) = (64, 900, 0.5);
        episode.synth_difficulty = [1, 5];
        let at = |share| (episode.max_cells_at(share), episode.max_difficulty_at(share));
        assert_eq!([at(0.0), at(0.25), at(0.5), at(1.0)], [(64, 1), (240, 3), (900, 5), (900, 5)]);
        episode.growth = 0.0;
        assert_eq!((episode.max_cells_at(0.0), episode.max_difficulty_at(0.0)), (900, 5));
    }

    #[test]
    fn generated_pairs_of_other_tasks_are_left_out() {
        let config = config();
        let pairs = || tasks()[0].examples.clone();
        let generated = vec![("shift-1".into(), pairs()), ("stranger".into(), pairs())];
        let corpus = Corpus::new(tasks(), generated, &config);
        assert_eq!(corpus.task_ids(), ["shift-1", "shift-2", "shift-4"]);
        assert_eq!(corpus.train[0].generated.len(), 5);
    }

    #[test]
    fn without_tasks_held_out_or_with_tokens_there_is_nothing_to_evaluate() {
        let mut config = config();
        config.data.hold_out_every = 0;
        config.episode.e2e_share = 0.0;
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        let trainer = Trainer::new(&config, &corpus, None, &Device::flex()).unwrap();
        assert!(trainer.sampler.evaluation(false).is_empty());
        assert_eq!(trainer.evaluate().unwrap(), Evaluation::default());
    }

    #[test]
    fn excluded_tasks_are_in_no_part_of_the_corpus() {
        let mut config = config();
        config.data.exclude = vec!["shift-2".into()];
        let corpus = Corpus::new(tasks(), vec![("shift-2".into(), Vec::new())], &config);
        assert!(corpus.train.iter().chain(&corpus.held_out).all(|s| s.id != "shift-2"));
    }

    #[test]
    fn a_size_limit_below_every_task_is_an_error() {
        let mut config = config();
        config.episode.max_cells = 5;
        let corpus = Corpus::new(tasks(), Vec::new(), &config);
        let trainer = Trainer::new(&config, &corpus, None, &Device::flex());
        assert!(matches!(trainer.err(), Some(PretrainError::NoData { max_cells: 5 })));
    }
}
