//! Which episodes a training step is made of.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::{IteratorRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::state::fingerprint;
use super::{DataConfig, EpisodeConfig, PretrainConfig, PretrainError};
use crate::arc::{ColorPermutation, Dihedral, Example, Task};
use crate::contamination::TrainingPairs;
use crate::dataset::{Episode, Format, Frame, Query};
use crate::engine::{Encoded, Told, canvas_of};
use crate::rng::stream;
use crate::synth;

/// The pairs of one task: its own and further ones made by the same rule.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The task's id.
    pub id: String,
    /// Demonstrations and answered tests.
    pub own: Vec<Example>,
    /// Generated pairs (RE-ARC).
    pub generated: Vec<Example>,
}

/// All collected tasks, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    /// Trained on; the position of a task is its row in the table of task tokens.
    pub train: Vec<Source>,
    /// Only watched.
    pub held_out: Vec<Source>,
}

impl Corpus {
    /// Joins tasks with generated pairs of the same ids and sets some aside, as the settings say. Pairs of other ids are left
    /// out: who names fewer tasks wants to train on no others.
    pub fn new<M>(
        tasks: Vec<Task>,
        generated: Vec<(String, Vec<Example>)>,
        config: &PretrainConfig<M>,
    ) -> Self {
        let mut sources: BTreeMap<String, Source> = BTreeMap::new();
        for task in tasks {
            let source = sources.entry(task.id.clone()).or_default();
            source.own.extend(task.examples);
            source.own.extend(
                task.tests
                    .into_iter()
                    .filter_map(|t| t.output.map(|output| Example { input: t.input, output })),
            );
        }
        for (id, pairs) in generated {
            if let Some(source) = sources.get_mut(&id) {
                source.generated.extend(pairs);
            }
        }
        for id in &config.data.exclude {
            sources.remove(id);
        }
        let mut corpus = Corpus::default();
        for (i, (id, mut source)) in sources.into_iter().enumerate() {
            source.id = id;
            let every = config.data.hold_out_every;
            let held_out = every > 0 && i % every == every - 1;
            if held_out { &mut corpus.held_out } else { &mut corpus.train }.push(source);
        }
        let settings = Settings::of(config);
        let fixed = (0..config.data.synth_tasks).into_par_iter().map(|i| fixed_rule(settings, i));
        corpus.train.extend(fixed.collect::<Vec<_>>());
        corpus
    }
}

/// Pairs of the generators' rule number `i`, drawn for the whole run.
fn fixed_rule(Settings { seed, data, episode }: Settings<'_>, i: usize) -> Source {
    let stream = synth::StreamConfig {
        seed,
        max_side: episode.synth_max_side,
        max_difficulty: episode.synth_difficulty[1],
        n_examples: (data.synth_pairs, data.synth_pairs),
        ..synth::StreamConfig::default()
    };
    let generated = synth::sample_at(stream, i as u64).examples;
    // By the hash a later run knows the same rule again, and no other of the same number.
    let hash = fingerprint(&TrainingPairs::of(&generated.iter().collect::<Vec<_>>()));
    Source { id: format!("synth-{i:05}-{}", &hash[..8]), own: Vec::new(), generated }
}

impl Corpus {
    /// Ids of the tasks that are trained on.
    pub(super) fn task_ids(&self) -> Vec<String> {
        self.train.iter().map(|s| s.id.clone()).collect()
    }

    /// The manifest of everything that may be drawn for training, generators apart: their tasks are endless.
    pub fn training_pairs(&self) -> TrainingPairs {
        let pairs: Vec<&Example> =
            self.train.iter().flat_map(|s| s.own.iter().chain(&s.generated)).collect();
        TrainingPairs::of(&pairs)
    }
}

/// A drawn episode with how it is to be encoded.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The episode.
    pub episode: Episode,
    /// Its format.
    pub format: Format,
    /// Row of the task table (end-to-end).
    pub task: usize,
    /// Whether queries are told the shapes of their outputs.
    pub told: bool,
    /// Height and width of the canvas of queries that are not told.
    pub canvas: (usize, usize),
}

impl Drawn {
    /// Adds the episode to a batch.
    pub fn encode(&self, into: &mut Encoded) {
        into.add(&self.episode, self.format, self.task, |pair| {
            if self.told {
                Told::Shape(pair.output.shape())
            } else {
                Told::Nothing { canvas: self.canvas }
            }
        });
    }
}

/// What is let in at a moment of the run.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Canvas cells of a pair.
    cells: usize,
    /// Difficulty of a generator.
    difficulty: u8,
}

/// The part of the settings that decides what is drawn.
#[derive(Debug, Clone, Copy)]
struct Settings<'a> {
    seed: u64,
    data: &'a DataConfig,
    episode: &'a EpisodeConfig,
}

impl<'a> Settings<'a> {
    fn of<M>(config: &'a PretrainConfig<M>) -> Self {
        Self { seed: config.seed, data: &config.data, episode: &config.episode }
    }
}

/// Draws episodes; each is a function of the seed and of its place in the run.
#[derive(Debug)]
pub struct Sampler<'a> {
    config: Settings<'a>,
    corpus: &'a Corpus,
    /// Tasks with enough pairs within the last size limit: position in `corpus.train`, and the smallest limit
    /// that lets in enough of them.
    usable: Vec<(usize, usize)>,
}

impl<'a> Sampler<'a> {
    /// Prepares drawing from a corpus.
    ///
    /// # Errors
    /// [`PretrainError::NoData`] if no task has enough pairs within the size limit and the generators are off.
    pub fn new<M>(
        corpus: &'a Corpus,
        config: &'a PretrainConfig<M>,
    ) -> Result<Self, PretrainError> {
        let config = Settings::of(config);
        let usable: Vec<(usize, usize)> = (0..corpus.train.len())
            .filter_map(|i| Some((i, least_limit(&corpus.train[i], config.episode.pairs[0])?)))
            .filter(|&(_, limit)| limit <= config.episode.max_cells)
            .collect();
        if usable.is_empty() && (config.data.synth <= 0.0 || config.data.collected > 0.0) {
            return Err(PretrainError::NoData { max_cells: config.episode.max_cells });
        }
        Ok(Self { config, corpus, usable })
    }

    /// Rows of the tasks that are drawn.
    pub(super) fn rows(&self) -> impl Iterator<Item = usize> {
        self.usable.iter().map(|&(row, _)| row)
    }

    /// The batch of a step, when `share` of the run is done.
    pub fn batch(&self, step: usize, share: f64) -> Encoded {
        let mut encoded = Encoded::default();
        let mut index = 0;
        while encoded.batch.n_cells() < self.config.episode.cells_per_step {
            self.drawn(step, share, index).encode(&mut encoded);
            index += 1;
        }
        encoded
    }

    /// An episode of a step, when `share` of the run is done.
    pub(super) fn drawn(&self, step: usize, share: f64, index: u64) -> Drawn {
        let most = Limits {
            cells: self.config.episode.max_cells_at(share),
            difficulty: self.config.episode.max_difficulty_at(share),
        };
        let stage = format!("step-{step}");
        self.draw(&self.turn(step), most, &mut stream(self.config.seed, "pretrain", &stage, index))
    }

    /// The tasks whose turn it is, of [`Sampler::usable`]: one leaves and one follows at equal intervals, all in an order that is
    /// drawn anew for each round.
    fn turn(&self, step: usize) -> Vec<(usize, usize)> {
        let EpisodeConfig { at_a_time, turn_steps, .. } = *self.config.episode;
        let n = self.usable.len();
        if at_a_time == 0 || at_a_time >= n {
            return self.usable.clone();
        }
        let first = step * at_a_time / turn_steps.max(1);
        let places = first..first + at_a_time;
        let round = |index: usize| {
            let mut round = self.usable.clone();
            round.shuffle(&mut stream(self.config.seed, "pretrain", "round", index as u64));
            round
        };
        let tasks = (first / n..=(places.end - 1) / n).flat_map(round);
        tasks.skip(first % n).take(at_a_time).collect()
    }

    fn draw(&self, turn: &[(usize, usize)], most: Limits, rng: &mut ChaCha8Rng) -> Drawn {
        let (data, episode) = (self.config.data, self.config.episode);
        let synth = rng.random::<f64>() * (data.synth + data.collected) < data.synth;
        // The limit of the run's beginning may let in no collected task yet; then the smallest are taken.
        let limit = self.usable.iter().map(|u| u.1).min().unwrap_or(0).max(most.cells);
        let within = |tasks: &[(usize, usize)], rng: &mut ChaCha8Rng| {
            tasks.iter().filter(|u| u.1 <= limit).map(|u| u.0).choose(rng)
        };
        let any = |rng: &mut ChaCha8Rng| within(turn, rng).or_else(|| within(&self.usable, rng));
        let row = if synth { None } else { any(rng) };
        let Some(row) = row else {
            let config = synth::StreamConfig {
                seed: self.config.seed,
                max_side: most
                    .cells
                    .isqrt()
                    .min(episode.synth_max_side)
                    .max(synth::MIN_STREAM_SIDE),
                max_difficulty: most.difficulty,
                n_examples: (episode.pairs[0], episode.pairs[1]),
                ..synth::StreamConfig::default()
            };
            let pairs = synth::sample_at(config, rng.random()).examples;
            return icl_episode(augment(pairs, most.cells, self.config, rng), self.config, rng);
        };
        let source = &self.corpus.train[row];
        if rng.random::<f64>() < episode.e2e_share {
            // The canvas is the task's, as in a fit: a pair's own would give away the shape of its output.
            let n = episode.e2e_pairs.max(episode.pairs[0]);
            let pairs = draw_pairs(source, n, limit, self.config, rng);
            let pairs = augment(pairs, limit, self.config, rng);
            e2e_episode(&pairs, episode.e2e_pairs, row, self.config, rng)
        } else {
            let n = rng.random_range(episode.pairs[0]..=episode.pairs[1]);
            let pairs = draw_pairs(source, n, limit, self.config, rng);
            icl_episode(augment(pairs, limit, self.config, rng), self.config, rng)
        }
    }

    /// The same in-context episodes of the held-out tasks at every call.
    pub(super) fn held_out_episodes(&self) -> Vec<Drawn> {
        let max_cells = self.config.episode.max_cells;
        let usable = |s: &Source| {
            least_limit(s, self.config.episode.pairs[0]).is_some_and(|l| l <= max_cells)
        };
        let sources = self.corpus.held_out.iter().filter(|s| usable(s));
        let episode = |source: &Source, index: u64| {
            let mut rng = stream(self.config.seed, &source.id, "held-out", index);
            let EpisodeConfig { pairs: [few, many], .. } = *self.config.episode;
            let n = rng.random_range(few..=many);
            let pairs = draw_pairs(source, n, max_cells, self.config, &mut rng);
            Drawn { told: true, ..icl_episode(pairs, self.config, &mut rng) }
        };
        sources.flat_map(|source| (0..4).map(move |index| episode(source, index))).collect()
    }

    /// The same end-to-end episode of each trained task at every call, on canvases that the run begins with.
    fn trained_episodes(&self) -> impl Iterator<Item = Drawn> {
        let limit = self.config.episode.max_cells_at(0.0);
        self.usable.iter().filter(move |(_, least)| *least <= limit).map(move |&(row, _)| {
            let source = &self.corpus.train[row];
            let mut rng = stream(self.config.seed, &source.id, "trained", 0);
            let pairs = draw_pairs(source, 1, limit, self.config, &mut rng);
            Drawn { told: true, ..e2e_episode(&pairs, 1, row, self.config, &mut rng) }
        })
    }

    /// The episodes of the held-out tasks, and with `trained` those of the trained ones, as batches.
    pub fn evaluation(&self, trained: bool) -> Vec<Encoded> {
        let mut batches: Vec<Encoded> = Vec::new();
        let most = self.config.episode.cells_per_step;
        let trained = trained.then(|| self.trained_episodes()).into_iter().flatten();
        for drawn in self.held_out_episodes().into_iter().chain(trained) {
            if batches.last().is_none_or(|b| b.batch.n_cells() >= most) {
                batches.push(Encoded::default());
            }
            drawn.encode(batches.last_mut().expect("there is one"));
        }
        batches
    }
}

fn canvas_cells(pair: &Example) -> usize {
    let (h, w) = canvas_of(std::slice::from_ref(pair));
    h * w
}

/// The smallest size limit under which `n` pairs of the task can be drawn; `None` if it has fewer.
fn least_limit(source: &Source, n: usize) -> Option<usize> {
    let mut cells: Vec<usize> =
        source.own.iter().chain(&source.generated).map(canvas_cells).collect();
    cells.sort_unstable();
    cells.get(n.max(1) - 1).copied()
}

/// Draws `n` different pairs of a task, within the size limit.
fn draw_pairs(
    source: &Source,
    n: usize,
    max_cells: usize,
    config: Settings<'_>,
    rng: &mut ChaCha8Rng,
) -> Vec<Example> {
    let small = |p: &&Example| canvas_cells(p) <= max_cells;
    let n_own = (0..n).filter(|_| rng.random::<f64>() < config.data.own_pairs).count();
    let mut own: Vec<&Example> = source.own.iter().filter(small).collect();
    own.shuffle(rng);
    let mut pairs: Vec<&Example> =
        source.generated.iter().filter(small).choose_multiple(rng, n - n_own.min(own.len()));
    own.truncate(n - pairs.len());
    pairs.extend(own);
    pairs.shuffle(rng);
    pairs.into_iter().cloned().collect()
}

/// The pairs, in some episodes changed by an augmenter under which they keep to the size limit.
fn augment(
    pairs: Vec<Example>,
    max_cells: usize,
    config: Settings<'_>,
    rng: &mut ChaCha8Rng,
) -> Vec<Example> {
    let EpisodeConfig { augmenters, augment_probability, .. } = config.episode;
    // Nothing is drawn where there is none, so that runs without augmenters are what they were before there were any.
    if *augment_probability == 0.0 || rng.random::<f64>() >= *augment_probability {
        return pairs;
    }
    let small = |pairs: &Vec<Example>| pairs.iter().all(|p| canvas_cells(p) <= max_cells);
    let augmented: Vec<Vec<Example>> =
        augmenters.iter().filter_map(|a| a.apply(&pairs, rng)).filter(small).collect();
    augmented.into_iter().choose(rng).unwrap_or(pairs)
}

fn draw_frame(config: Settings<'_>, rng: &mut ChaCha8Rng) -> Frame {
    let dihedral = Dihedral::ALL[rng.random_range(0..8)];
    let colors = if rng.random::<f64>() < config.episode.keep_zero {
        ColorPermutation::random_keeping_zero(rng)
    } else {
        ColorPermutation::random(rng)
    };
    Frame { dihedral, colors }
}

fn show(pairs: &[Example], input: Frame, output: Frame) -> Vec<Example> {
    let apply = |frame: Frame, grid| frame.colors.apply(&frame.dihedral.apply(grid));
    pairs
        .iter()
        .map(|p| Example { input: apply(input, &p.input), output: apply(output, &p.output) })
        .collect()
}

fn icl_episode(pairs: Vec<Example>, config: Settings<'_>, rng: &mut ChaCha8Rng) -> Drawn {
    let frame = draw_frame(config, rng);
    // Another symmetry and recoloring of the outputs alone makes another rule of the same kind.
    let output = if rng.random::<f64>() < config.episode.new_rule {
        let extra = draw_frame(config, rng);
        if rng.random() {
            Frame { colors: frame.colors, ..extra }
        } else {
            Frame { dihedral: frame.dihedral, ..extra }
        }
    } else {
        frame
    };
    let n = pairs.len();
    let queries = (0..n)
        .map(|target| Query { target, context: (0..n).filter(|&i| i != target).collect() })
        .collect();
    let told = rng.random::<f64>() >= config.episode.untold;
    let pairs = show(&pairs, frame, output);
    let canvas = canvas_of(&pairs);
    let episode = Episode { pairs, queries, frame: None };
    Drawn { episode, format: Format::Icl, task: 0, told, canvas }
}

/// An end-to-end episode of the first `n` of these pairs of a task, all of which its canvas could hold.
fn e2e_episode(
    pairs: &[Example],
    n: usize,
    task: usize,
    config: Settings<'_>,
    rng: &mut ChaCha8Rng,
) -> Drawn {
    let frame = draw_frame(config, rng);
    let queries = (0..n).map(|target| Query { target, context: Vec::new() }).collect();
    let told = rng.random::<f64>() >= config.episode.untold;
    let mut pairs = show(pairs, frame, frame);
    let canvas = canvas_of(&pairs);
    pairs.truncate(n);
    let episode = Episode { pairs, queries, frame: Some(frame) };
    Drawn { episode, format: Format::E2e, task, told, canvas }
}
