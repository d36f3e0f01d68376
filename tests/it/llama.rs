//! The Llama family against transformers and peft: tests/golden, made by scripts/make_golden.py.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use arc_ttt::adapter::LoraConfig;
use arc_ttt::arc::{Example, Grid, Task, Test};
use arc_ttt::engine::{Engine, FitLimits, LlamaEngine};
use arc_ttt::llama::{
    Answer, Batch, GridTokens, Incomplete, InputError, KvCache, Llama, LlamaConfig, Lora, Module,
    Search, SearchLimits, Searches, Sequence, Target, TokenFilter, TrainError, Trainer, Workload,
    beam, checkpoint_bytes, greedy, load_adapter, sample, save_adapter, score, training_pairs,
    write_tokenizer,
};
use arc_ttt::model::AdamW;
use arc_ttt::recipe::Recipe;
use arc_ttt::rng::stream;
use burn::tensor::{Device, FloatDType, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use crate::common::Place;

const MODELS: [&str; 6] = ["llama", "llama-tied", "mistral-nemo", "qwen2", "qwen3", "qwen3-tied"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn load(folder: &Path) -> Llama {
    Llama::load(folder, FloatDType::F32, &Device::flex()).unwrap()
}

/// Why a checkpoint is not loaded.
fn refusal(folder: &Path) -> String {
    Llama::load(folder, FloatDType::F32, &Device::flex()).unwrap_err().to_string()
}

/// A checkpoint with what transformers and peft make of it.
struct Golden {
    model: Llama,
    folder: PathBuf,
    json: Value,
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Golden {
    fn new(name: &str) -> Self {
        let folder = folder(name);
        let text = fs::read_to_string(folder.join("golden.json")).unwrap();
        let stored = read_tensors(&folder.join("golden.safetensors"));
        let tensors = stored.into_iter().map(|(name, t)| (name, floats(&t.bytes))).collect();
        let json = serde_json::from_str(&text).unwrap();
        Self { model: load(&folder), folder, json, tensors }
    }

    /// The same model with each block in Burn's operations, as on a graphics card.
    fn burn_operations(&self) -> Llama {
        let mut model = self.model.clone();
        model.fused = false;
        model
    }

    fn adapter(&self) -> Lora {
        load_adapter(&self.folder.join("adapter"), &self.model).unwrap()
    }

    fn sequences(&self, field: &str) -> Vec<Sequence> {
        let list = self.json[field].as_array().unwrap().iter();
        let targets = |s: &Value| {
            s["targets"].as_array().unwrap().iter().map(|t| t.as_bool().unwrap()).collect()
        };
        list.map(|s| Sequence { tokens: tokens(&s["tokens"]), targets: targets(s) }).collect()
    }

    fn ends(&self) -> &[u32] {
        &self.model.config.eos_token_ids
    }

    /// The prompt, the threshold, the limits, and every answer above the threshold, of the brute-force search.
    fn search(&self) -> (Vec<u32>, f64, SearchLimits, Vec<Answer>) {
        let golden = &self.json["search"];
        let threshold = golden["threshold"].as_f64().unwrap();
        let limits = SearchLimits {
            max_new_tokens: golden["max_new_tokens"].as_u64().unwrap() as usize,
            max_nodes: usize::MAX,
            time: None,
        };
        let answers = golden["found"].as_array().unwrap().iter();
        let answers = answers.map(|a| Answer {
            tokens: tokens(&a["tokens"]),
            log_prob: a["log_prob"].as_f64().unwrap(),
        });
        (tokens(&golden["prompt"]), threshold, limits, answers.collect())
    }
}

fn tokens(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as u32).collect()
}

/// A tensor as it lies in a file.
#[derive(Clone)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn read_tensors(path: &Path) -> BTreeMap<String, Stored> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored = |v: TensorView<'_>| Stored {
        dtype: v.dtype(),
        shape: v.shape().to_vec(),
        bytes: v.data().to_vec(),
    };
    file.iter().map(|(name, view)| (name.to_owned(), stored(view))).collect()
}

fn write_tensors(path: &Path, tensors: &BTreeMap<String, Stored>) {
    let views = tensors
        .iter()
        .map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// A copy of a checkpoint, for spoiling.
fn copy(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("adapter")).unwrap();
    for part in ["", "adapter"] {
        for entry in fs::read_dir(folder(name).join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let to = copy.path().join(part).join(path.file_name().unwrap());
                fs::write(to, fs::read(path).unwrap()).unwrap();
            }
        }
    }
    copy
}

/// Changes the tensors of a file.
fn change(path: &Path, f: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    let mut tensors = read_tensors(path);
    f(&mut tensors);
    write_tensors(path, &tensors);
}

/// Changes fields of a JSON file.
fn set(path: &Path, fields: Value) {
    let mut value: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for (field, new) in fields.as_object().unwrap() {
        value[field] = new.clone();
    }
    fs::write(path, value.to_string()).unwrap();
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Scores of all tokens of sequence `i` of a batch.
fn logits_of(model: &Llama, batch: &Batch, lora: Option<&Lora>, i: usize) -> Vec<f32> {
    let (row, columns) = batch.place(i);
    let logits = model.logits(batch, lora).unwrap();
    values(logits.slice([row..row + 1, columns, 0..model.config.vocab_size]))
}

fn alone(model: &Llama, sequence: &Sequence, lora: Option<&Lora>) -> Vec<f32> {
    logits_of(model, &Batch::padded(std::slice::from_ref(sequence)).unwrap(), lora, 0)
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], most: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let difference = |(a, b): (&f32, &f32)| if a.is_nan() { f32::INFINITY } else { (a - b).abs() };
    let worst = found.iter().zip(expected).map(difference).fold(0.0, f32::max);
    assert!(worst <= most, "{what}: off by {worst}, more than {most}");
}

/// Checks `|found − expected| ≤ most · |expected|`, in the norm of the whole tensor.
#[track_caller]
fn assert_relative(found: &[f32], expected: &[f32], most: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|x| x * x).sum::<f32>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let size = norm(&mut expected.iter().copied());
    assert!(size > 0.0 && difference <= most * size, "{what}: {difference} of {size}");
}

#[test]
fn logits_are_those_of_transformers_with_and_without_an_adapter_of_peft() {
    for name in MODELS {
        let golden = Golden::new(name);
        let lora = golden.adapter();
        for (i, sequence) in golden.sequences("sequences").iter().enumerate() {
            for (kind, lora) in [("logits", None), ("adapted_logits", Some(&lora))] {
                let expected = &golden.tensors[&format!("{kind}.{i}")];
                for model in [&golden.model, &golden.burn_operations()] {
                    let found = alone(model, sequence, lora);
                    let what = format!("{name} {kind} {i}, fused {}", model.fused);
                    assert_near(&found, expected, 1e-4, &what);
                }
            }
        }
    }
}

#[test]
fn padded_and_packed_sequences_are_as_if_alone() {
    for name in MODELS {
        let golden = Golden::new(name);
        let sequences = golden.sequences("sequences");
        let lora = golden.adapter();
        // 23 + 14 and 9, and 23 + 9 + 14 with padding behind.
        for batch in [
            Batch::padded(&sequences).unwrap(),
            Batch::packed(&sequences, 33).unwrap(),
            Batch::packed(&sequences, 50).unwrap(),
        ] {
            for (i, sequence) in sequences.iter().enumerate() {
                let found = logits_of(&golden.model, &batch, Some(&lora), i);
                let expected = alone(&golden.model, sequence, Some(&lora));
                assert_relative(&found, &expected, 2e-5, &format!("{name} {batch:?} {i}"));
            }
            let loss = golden.model.loss(&batch, None).unwrap().into_scalar::<f32>();
            assert_near(&[loss], &[golden.json["loss"].as_f64().unwrap() as f32], 1e-4, name);
        }
    }
}

#[test]
fn gradients_and_ten_steps_of_adamw_are_those_of_peft_and_torch() {
    // With all activations held, and with those of one block at a time; in fused blocks, and in the operations that
    // other devices run.
    let ways =
        |name| [(false, true), (true, true), (false, false), (true, false)].map(|w| (name, w));
    for (name, (recomputes, fused)) in MODELS.into_iter().flat_map(ways) {
        let golden = Golden::new(name);
        let model = if fused { golden.model.clone() } else { golden.burn_operations() };
        let batches = ["sequences", "more_sequences"]
            .map(|field| Batch::padded(&golden.sequences(field)).unwrap());
        let adamw = &golden.json["adamw"];
        let number = |v: &Value| v.as_f64().unwrap();
        let settings = AdamW {
            betas: [number(&adamw["betas"][0]), number(&adamw["betas"][1])],
            weight_decay: number(&adamw["weight_decay"]),
        };
        let trainer = Trainer::new(&model, golden.adapter(), settings, 0.0);
        let mut trainer = trainer.with_gradient_checkpointing(recomputes);
        let (_, gradients) = trainer.gradients(&batches[0]).unwrap();
        assert_eq!(gradients.len(), trainer.lora().pairs.len());
        for (module, gradient) in gradients {
            for (part, found) in [("A", gradient.a), ("B", gradient.b)] {
                let expected = golden.factor("gradient", module, part);
                let what = format!("{name} gradient of {part} of {module:?}");
                assert_relative(&values(found), expected, 1e-3, &what);
            }
        }
        let rate = number(&adamw["learning_rate"]);
        let losses: Vec<f32> =
            (0..10).map(|step| trainer.step(&batches[step % 2], rate).unwrap()).collect();
        let expected: Vec<f32> =
            golden.json["losses"].as_array().unwrap().iter().map(|l| number(l) as f32).collect();
        assert_relative(&losses, &expected, 1e-3, &format!("{name} losses"));
        for (&module, pair) in &trainer.lora().pairs {
            for (part, found) in [("A", &pair.a), ("B", &pair.b)] {
                let expected = golden.factor("after", module, part);
                let what = format!("{name} {part} of {module:?} after ten steps");
                assert_relative(&values(found.clone()), expected, 1e-3, &what);
            }
        }
    }
}

impl Golden {
    /// A tensor of the goldens under PEFT's name for a layer's factor.
    fn factor(&self, kind: &str, module: Module, part: &str) -> &[f32] {
        let path = module.path();
        let plain = format!("{kind}.base_model.model.{path}.lora_{part}.weight");
        let embedding = format!("{kind}.base_model.model.{path}.lora_embedding_{part}");
        self.tensors.get(&plain).unwrap_or_else(|| &self.tensors[&embedding])
    }
}

#[test]
fn greedy_output_is_that_of_transformers_for_prompts_side_by_side_and_alone() {
    for name in MODELS {
        let golden = Golden::new(name);
        let expected = golden.json["greedy"].as_array().unwrap();
        let prompts: Vec<Vec<u32>> = expected.iter().map(|g| tokens(&g["prompt"])).collect();
        let run =
            |prompts: &[Vec<u32>]| greedy(&golden.model, None, prompts, golden.ends(), 12, &());
        let together = run(&prompts).unwrap();
        for (i, expected) in expected.iter().enumerate() {
            let output = tokens(&expected["output"]);
            assert_eq!(together[i].tokens, output, "{name} {i}");
            assert_eq!(together[i].ended, golden.ends().contains(output.last().unwrap()));
            let alone = run(&prompts[i..=i]).unwrap().remove(0);
            assert_eq!(alone.tokens, output, "{name} {i} alone");
            assert!((alone.log_prob - together[i].log_prob).abs() < 1e-4);
        }
    }
}

#[test]
fn cached_steps_are_as_one_pass_also_behind_a_truncation() {
    for name in MODELS {
        let golden = Golden::new(name);
        let lora = golden.adapter();
        let all = golden.sequences("sequences").remove(0).tokens;
        let vocab = golden.model.config.vocab_size;
        let expected = alone(&golden.model, &Sequence::prompt(&all), Some(&lora));
        let mut cache = KvCache::default();
        let check = |cache: &mut KvCache, range: std::ops::Range<usize>| {
            let end = range.end;
            let prompt = Batch::padded(&[Sequence::prompt(&all[range.clone()])]).unwrap();
            let logits = golden.model.next_logits(&prompt, Some(&lora), Some(cache)).unwrap();
            let expected = &expected[(end - 1) * vocab..end * vocab];
            assert_relative(&values(logits), expected, 2e-5, &format!("{name} {range:?}"));
            assert_eq!(cache.len(), end);
        };
        check(&mut cache, 0..5);
        for at in 5..9 {
            check(&mut cache, at..at + 1);
        }
        check(&mut cache, 9..20);
        cache.truncate(6);
        check(&mut cache, 6..7);
        check(&mut cache, 7..23);
    }
}

fn run_search(
    golden: &Golden,
    guess: &[u32],
    threshold: f64,
    limits: SearchLimits,
    f: &dyn TokenFilter,
) -> Search {
    let (prompt, ..) = golden.search();
    let (model, ends) = (&golden.model, golden.ends());
    let (prompts, guesses) = ([prompt], [guess.to_vec()]);
    let begun =
        Searches::behind_greedy(model, None, &prompts, &guesses, ends, threshold, f).unwrap().1;
    begun.run(&[limits]).unwrap().remove(0)
}

#[track_caller]
fn assert_same(found: &[Answer], expected: &[Answer], what: &str) {
    let list = |answers: &[Answer]| answers.iter().map(|a| a.tokens.clone()).collect::<Vec<_>>();
    assert_eq!(list(found), list(expected), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a.log_prob - b.log_prob).abs() < 1e-4, "{what}: {a:?} {b:?}");
    }
}

#[test]
fn the_search_finds_exactly_what_brute_force_finds_whatever_the_guess() {
    for name in MODELS {
        let golden = Golden::new(name);
        let (_, threshold, limits, expected) = golden.search();
        let plain = run_search(&golden, &[], threshold, limits, &());
        assert_same(&plain.answers, &expected, name);
        // Longer answers were not looked for, and some of them may be as probable.
        assert_eq!(plain.incomplete, Some(Incomplete::Length));
        let wrong = [&[19, 4, 4, 4][..], &[19; 99], golden.ends()];
        for guess in expected.iter().map(|answer| answer.tokens.as_slice()).chain(wrong) {
            let guided = run_search(&golden, guess, threshold, limits, &());
            assert_same(&guided.answers, &expected, name);
            assert_eq!((guided.nodes, guided.incomplete), (plain.nodes, plain.incomplete));
        }
    }
}

#[test]
fn searches_side_by_side_find_what_each_finds_alone() {
    for name in MODELS {
        let golden = Golden::new(name);
        let (prompt, threshold, limits, expected) = golden.search();
        let (model, ends) = (&golden.model, golden.ends());
        let prompts = [prompt.clone(), prompt[..2].to_vec(), [&[7, 9, 4][..], &prompt].concat()];
        // A guess for one of them, and none for the others.
        let guesses = [Vec::new(), expected[0].tokens.clone(), Vec::new()];
        let begin = |prompts: &[Vec<u32>], guesses: &[Vec<u32>]| {
            Searches::behind_greedy(model, None, prompts, guesses, ends, threshold, &()).unwrap()
        };
        let (answers, begun) = begin(&prompts, &guesses);
        let together = begun.run(&[limits; 3]).unwrap();
        assert_same(&together[0].answers, &expected, name);
        let mut nodes = Vec::new();
        for ((prompt, answer), found) in prompts.iter().zip(&answers).zip(&together) {
            let greedy =
                greedy(model, None, std::slice::from_ref(prompt), ends, usize::MAX, &()).unwrap();
            assert_eq!((&answer.tokens, answer.ended), (&greedy[0].tokens, greedy[0].ended));
            let alone = begin(std::slice::from_ref(prompt), &[]).1;
            let alone = alone.run(&[limits]).unwrap().remove(0);
            assert_same(&found.answers, &alone.answers, name);
            assert_eq!((found.nodes, found.incomplete), (alone.nodes, alone.incomplete));
            nodes.push(found.nodes);
        }
        // Each has limits of its own, and the others go on.
        let limits = [nodes[0], nodes[1] / 2, nodes[2]]
            .map(|max_nodes| SearchLimits { max_nodes, ..limits });
        let cut = begin(&prompts, &guesses).1.run(&limits).unwrap();
        assert_eq!((&cut[0], &cut[2]), (&together[0], &together[2]), "{name}");
        assert_eq!((cut[1].incomplete, cut[1].nodes), (Some(Incomplete::Nodes), nodes[1] / 2));
    }
}

#[test]
fn a_beam_of_one_is_greedy_and_a_wide_one_finds_the_most_probable_answers() {
    for name in MODELS {
        let golden = Golden::new(name);
        let (prompt, threshold, limits, mut expected) = golden.search();
        let width = 100;
        let threshold = f64::max(threshold, 1.0 / width as f64);
        let (model, ends) = (&golden.model, golden.ends());
        let rows = |tokens: &[u32]| tokens.iter().filter(|token| **token == 14).count();
        let none = SearchLimits { max_new_tokens: usize::MAX, max_nodes: usize::MAX, time: None };
        let limited = |width: usize, rows: &dyn Fn(&[u32]) -> usize, limits: SearchLimits| {
            beam(model, None, &prompt, width, ends, &(), rows, limits).unwrap()
        };
        let run = |width: usize, rows: &dyn Fn(&[u32]) -> usize| limited(width, rows, none).answers;
        let greedy =
            greedy(model, None, std::slice::from_ref(&prompt), ends, usize::MAX, &()).unwrap();
        let one = run(1, &rows);
        // Where greedy decoding does not end, nothing is found.
        assert_eq!(one.len(), usize::from(greedy[0].ended), "{name}");
        assert!(one.iter().all(|found| found.tokens == greedy[0].tokens));
        // No beginning of an answer above the threshold can lose to so many others.
        expected.retain(|answer| answer.log_prob > threshold.ln());
        for found in [run(width, &|_| 0), run(width, &rows)] {
            let found = found.into_iter().filter(|found| {
                found.log_prob > threshold.ln() && found.tokens.len() <= limits.max_new_tokens
            });
            assert_same(&found.collect::<Vec<_>>(), &expected, name);
        }
        assert_eq!(run(0, &rows), []);
        // Beginnings that may not become longer are lost, and that is said.
        let short = limited(width, &rows, SearchLimits { max_new_tokens: 4, ..none });
        assert_eq!(short.incomplete, Some(Incomplete::Length), "{name}");
        assert!(short.answers.iter().all(|answer| answer.tokens.len() <= 4), "{name}");
        let time = Some(std::time::Duration::ZERO);
        let late = limited(width, &rows, SearchLimits { time, ..none });
        assert_eq!((late.nodes, late.incomplete), (0, Some(Incomplete::Time)));
        // So many nodes as were run before time was over end it at the same place.
        let whole = limited(3, &rows, none);
        for max_nodes in [whole.nodes / 2, whole.nodes - 1] {
            let cut = limited(3, &rows, SearchLimits { max_nodes, ..none });
            assert_eq!(cut.incomplete, Some(Incomplete::Nodes), "{name}");
            assert!(cut.nodes <= max_nodes, "{name}");
            let again = limited(3, &rows, SearchLimits { max_nodes: cut.nodes, ..none });
            assert_eq!(again, cut, "{name}");
        }
    }
}

#[test]
fn filters_leave_answers_out_and_change_no_probability() {
    for name in MODELS {
        let golden = Golden::new(name);
        let (_, threshold, limits, mut expected) = golden.search();
        let first = expected[0].tokens[0];
        let without = |generated: &[u32], allowed: &mut [bool]| {
            if generated.is_empty() {
                allowed[first as usize] = false;
            }
        };
        expected.retain(|answer| answer.tokens[0] != first);
        let found = run_search(&golden, &[first], threshold, limits, &without);
        assert_same(&found.answers, &expected, name);
    }
}

#[test]
fn a_search_that_is_cut_short_says_so_and_one_that_is_not_says_nothing() {
    let golden = Golden::new("llama");
    let (_, threshold, limits, expected) = golden.search();
    let cut = run_search(&golden, &[], threshold, SearchLimits { max_nodes: 1, ..limits }, &());
    assert_eq!((cut.incomplete, cut.nodes), (Some(Incomplete::Nodes), 1));
    assert!(cut.answers.len() < expected.len());
    let time = Some(std::time::Duration::ZERO);
    let cut = run_search(&golden, &[], threshold, SearchLimits { time, ..limits }, &());
    assert_eq!((cut.incomplete, cut.nodes), (Some(Incomplete::Time), 0));
    // So high a threshold that nothing is left at the longest length.
    let high = run_search(&golden, &[], 0.999, limits, &());
    assert_eq!((high.incomplete, high.answers.len()), (None, 0));
}

#[test]
fn under_the_grammar_all_grids_come_out_and_nothing_else() {
    for name in MODELS {
        let golden = Golden::new(name);
        let colors = std::array::from_fn(|i| 4 + i as u32);
        let ends = golden.ends().to_vec();
        let grids = GridTokens { colors, row_end: 14, last_row_ends: true, ends };
        let (_, _, limits, _) = golden.search();
        // So low a threshold that every grid of one or two cells in a row is above it.
        let found = run_search(&golden, &[], 1e-300, limits, &grids);
        assert_eq!(found.answers.len(), 110 * golden.ends().len(), "{name}");
        for Answer { tokens, .. } in &found.answers {
            let cells = tokens.len() - 2;
            assert!(tokens[..cells].iter().all(|t| colors.contains(t)), "{name}: {tokens:?}");
            assert!(tokens[cells] == 14 && golden.ends().contains(&tokens[cells + 1]));
        }
    }
}

#[test]
fn our_adapters_come_back_and_load_in_peft() {
    // `scripts/make_golden.py --check-adapter DIR` asks peft for its opinion of what is written here.
    let kept = std::env::var_os("ARC_TTT_WRITE_ADAPTERS").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let to = kept.as_deref().unwrap_or(temporary.path());
    for name in MODELS {
        let golden = Golden::new(name);
        let sequences = golden.sequences("sequences");
        let config = LoraConfig {
            rank: 5,
            alpha: 7.0,
            rank_stabilized: name.starts_with('q'),
            target_modules: golden.adapter().config.target_modules,
        };
        let fresh = Lora::fresh(&config, &golden.model.config, 3, "task", &Device::flex()).unwrap();
        let base = alone(&golden.model, &sequences[0], None);
        assert_near(&alone(&golden.model, &sequences[0], Some(&fresh)), &base, 0.0, name);
        let batch = Batch::padded(&sequences).unwrap();
        let adamw = AdamW { betas: [0.9, 0.999], weight_decay: 0.0 };
        let mut trainer = Trainer::new(&golden.model, fresh, adamw, 1.0);
        let losses: Vec<f32> = (0..8).map(|_| trainer.step(&batch, 0.05).unwrap()).collect();
        assert!(losses[7] < losses[0] - 0.2, "{name}: {losses:?}");
        let lora = trainer.into_lora();
        save_adapter(&to.join(name), &lora, name).unwrap();
        let again = load_adapter(&to.join(name), &golden.model).unwrap();
        assert_eq!(again.config, lora.config);
        let mut stored = BTreeMap::new();
        for (i, sequence) in sequences.iter().enumerate() {
            let logits = alone(&golden.model, sequence, Some(&lora));
            assert_near(&alone(&golden.model, sequence, Some(&again)), &logits, 0.0, name);
            let shape = vec![sequence.tokens.len(), golden.model.config.vocab_size];
            let bytes = logits.iter().flat_map(|v| v.to_le_bytes()).collect();
            stored.insert(format!("logits.{i}"), Stored { dtype: Dtype::F32, shape, bytes });
        }
        write_tensors(&to.join(name).join("logits.safetensors"), &stored);
    }
}

/// A copy of a checkpoint with some tokens of its vocabulary alone, numbered anew.
fn pruned(name: &str, kept: &[u32]) -> tempfile::TempDir {
    let copy = copy(name);
    change(&copy.path().join("model.safetensors"), |tensors| {
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let Some(stored) = tensors.get_mut(name) else { continue };
            let row = stored.bytes.len() / stored.shape[0];
            let rows = kept.iter().map(|&token| &stored.bytes[token as usize * row..][..row]);
            stored.bytes = rows.collect::<Vec<_>>().concat();
            stored.shape[0] = kept.len();
        }
    });
    let new = |old: u32| kept.iter().position(|&token| token == old).unwrap();
    let fields = json!({
        "vocab_size": kept.len(), "bos_token_id": new(1), "eos_token_id": new(2), "pad_token_id": null,
    });
    set(&copy.path().join("config.json"), fields);
    copy
}

#[test]
fn a_pruned_vocabulary_is_the_full_one_with_the_others_masked() {
    // In another order than they had.
    let kept = [1, 9, 2, 14, 4, 5, 12, 7];
    let full = |tokens: &[u32]| tokens.iter().map(|&t| kept[t as usize]).collect::<Vec<u32>>();
    // Untied and tied embeddings.
    for name in ["llama", "qwen2"] {
        let golden = Golden::new(name);
        let folder = pruned(name, &kept);
        let small = load(folder.path());
        assert_eq!(small.config.eos_token_ids, [2]);
        // Log-probabilities of the kept tokens behind each of some, with the others masked.
        let masked = |tokens: &[u32]| -> Vec<f32> {
            let logits = alone(&golden.model, &Sequence::prompt(tokens), None);
            let rows = logits.chunks(golden.model.config.vocab_size).map(|row| {
                let logits: Vec<f32> = kept.iter().map(|&token| row[token as usize]).collect();
                let sum = logits.iter().map(|logit| logit.exp()).sum::<f32>().ln();
                logits.iter().map(|logit| logit - sum).collect::<Vec<f32>>()
            });
            rows.collect::<Vec<_>>().concat()
        };
        let n = kept.len();
        let of_answer = |prompt: &[u32], answer: &[u32]| -> f64 {
            let log_probs = masked(&full(&[prompt, answer].concat()));
            let own = answer.iter().enumerate();
            own.map(|(i, &t)| f64::from(log_probs[(prompt.len() - 1 + i) * n + t as usize])).sum()
        };
        let prompt = [0, 4, 1, 5, 3, 7, 6, 1, 4, 4];
        let logits = alone(&small, &Sequence::prompt(&prompt), None);
        let log_probs = logits.chunks(n).flat_map(|row| {
            let sum = row.iter().map(|logit| logit.exp()).sum::<f32>().ln();
            row.iter().map(move |logit| logit - sum)
        });
        assert_near(&log_probs.collect::<Vec<_>>(), &masked(&full(&prompt)), 1e-5, name);

        let only_kept = |_: &[u32], allowed: &mut [bool]| {
            allowed.iter_mut().enumerate().for_each(|(t, may)| *may = kept.contains(&(t as u32)));
        };
        let greedy_of = |model: &Llama, prompt: Vec<u32>, filter: &dyn TokenFilter| {
            let ends = &model.config.eos_token_ids;
            greedy(model, None, &[prompt], ends, 9, filter).unwrap().remove(0)
        };
        let found = greedy_of(&small, prompt.to_vec(), &());
        let expected = greedy_of(&golden.model, full(&prompt), &only_kept);
        assert_eq!(full(&found.tokens), expected.tokens, "{name}");
        assert!((found.log_prob - of_answer(&prompt, &found.tokens)).abs() < 1e-4, "{name}");

        // The full model gives every answer less, as the others get some; the search looks far below.
        let search = |model: &Llama, prompt: Vec<u32>, threshold: f64, filter: &dyn TokenFilter| {
            let limits = SearchLimits { max_new_tokens: 4, max_nodes: usize::MAX, time: None };
            let ends = &model.config.eos_token_ids;
            let begun =
                Searches::behind_greedy(model, None, &[prompt], &[], ends, threshold, filter);
            begun.unwrap().1.run(&[limits]).unwrap().remove(0).answers
        };
        let all = search(&golden.model, full(&prompt), 1e-30, &only_kept);
        assert_eq!(all.len(), 1 + 7 + 49 + 343, "{name}");
        let old = |t: &u32| kept.iter().position(|token| token == t).unwrap() as u32;
        let renormalized = all.iter().map(|answer| {
            let tokens: Vec<u32> = answer.tokens.iter().map(old).collect();
            Answer { log_prob: of_answer(&prompt, &tokens), tokens }
        });
        let mut expected: Vec<Answer> = renormalized.collect();
        expected.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
        // A threshold in a gap, so that rounding cannot decide.
        let gap = |at: &usize| expected[*at - 1].log_prob - expected[*at].log_prob;
        let at = (8..expected.len()).find(|at| gap(at) > 0.02).unwrap();
        let least = (expected[at - 1].log_prob + expected[at].log_prob) / 2.0;
        expected.truncate(at);
        let found = search(&small, prompt.to_vec(), least.exp(), &());
        assert_same(&found, &expected, name);
        let answers: Vec<Vec<u32>> = found.iter().map(|answer| answer.tokens.clone()).collect();
        for (score, answer) in
            score(&small, None, &prompt, &answers, 1000).unwrap().iter().zip(&expected)
        {
            assert!((score.log_prob - answer.log_prob).abs() < 1e-4, "{name}");
        }
    }
}

#[test]
fn sixteen_bit_checkpoints_are_read_as_what_they_round_to() {
    let golden = Golden::new("qwen3");
    let sequence = &golden.sequences("sequences")[0];
    let exact = alone(&golden.model, sequence, None);
    for dtype in [Dtype::BF16, Dtype::F16] {
        let (rounded, small) = (copy("qwen3"), copy("qwen3"));
        let word = |v: f32| match dtype {
            Dtype::BF16 => (bf16::from_f32(v).to_bits(), bf16::from_f32(v).to_f32()),
            _ => (f16::from_f32(v).to_bits(), f16::from_f32(v).to_f32()),
        };
        let path = |copy: &tempfile::TempDir| copy.path().join("model.safetensors");
        change(&path(&rounded), |tensors| {
            for t in tensors.values_mut() {
                t.bytes = floats(&t.bytes).iter().flat_map(|&v| word(v).1.to_le_bytes()).collect();
            }
        });
        change(&path(&small), |tensors| {
            for t in tensors.values_mut() {
                t.dtype = dtype;
                t.bytes = floats(&t.bytes).iter().flat_map(|&v| word(v).0.to_le_bytes()).collect();
            }
        });
        let found = alone(&load(small.path()), sequence, None);
        assert_near(&found, &alone(&load(rounded.path()), sequence, None), 0.0, "rounded");
        assert_near(&found, &exact, 0.5, "rounding changes little");
    }
    let half = Llama::load(&golden.folder, FloatDType::BF16, &Device::flex()).unwrap();
    let batch = Batch::padded(std::slice::from_ref(sequence)).unwrap();
    let lora = golden.adapter();
    let expected = &golden.tensors["adapted_logits.0"];
    let found = values(half.logits(&batch, Some(&lora)).unwrap().cast(FloatDType::F32));
    assert_relative(&found, expected, 0.05, "computed in bf16");
}

#[test]
fn spoilt_checkpoints_are_refused_by_file_and_tensor() {
    let whole = "model.safetensors";
    let shard = "model-00002-of-00005.safetensors";
    let index = "model.safetensors.index.json";
    let check = |name: &str, spoil: &dyn Fn(&Path), expected: &[&str]| {
        let copy = copy(name);
        load(copy.path());
        spoil(copy.path());
        let error = refusal(copy.path());
        for part in expected {
            assert!(error.contains(part), "{error}: no `{part}`");
        }
    };
    check("mistral-nemo", &|p| fs::remove_file(p.join(shard)).unwrap(), &[shard, "is missing"]);
    let cut = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 10]).unwrap();
    };
    check("mistral-nemo", &|p| cut(p.join(shard)), &[shard, "not a whole"]);
    check("llama", &|p| cut(p.join(whole)), &[whole, "not a whole"]);
    check("llama", &|p| fs::write(p.join(whole), "").unwrap(), &[whole, "not a whole"]);
    check("llama", &|p| fs::remove_file(p.join(whole)).unwrap(), &["has neither"]);
    check("llama", &|p| fs::remove_file(p.join("config.json")).unwrap(), &["config.json"]);
    check("mistral-nemo", &|p| fs::write(p.join(index), "{}").unwrap(), &[index, "weight_map"]);
    let outside = |p: &Path| {
        set(&p.join(index), json!({"weight_map": {"model.norm.weight": "../x.safetensors"}}));
    };
    check("mistral-nemo", &outside, &[index, "../x.safetensors"]);
    let norm = "model.norm.weight";
    let spoil = |f: fn(&mut BTreeMap<String, Stored>)| {
        move |p: &Path| change(&p.join("model.safetensors"), f)
    };
    let without = |t: &mut BTreeMap<String, Stored>| drop(t.remove("model.norm.weight"));
    check("llama", &spoil(without), &["lacks", norm]);
    let more = |t: &mut BTreeMap<String, Stored>| {
        t.insert("model.layers.0.extra".into(), t["model.norm.weight"].clone());
    };
    check("llama", &spoil(more), &["model.layers.0.extra", whole]);
    let flat = |t: &mut BTreeMap<String, Stored>| {
        t.get_mut("model.norm.weight").unwrap().shape = vec![2, 12];
    };
    check("llama", &spoil(flat), &[norm, "[2, 12]", "[24]", whole]);
    let integers = |t: &mut BTreeMap<String, Stored>| {
        t.get_mut("model.norm.weight").unwrap().dtype = Dtype::I32;
    };
    check("llama", &spoil(integers), &[norm, "I32", whole]);
    // Another network of the family: its tensors are not there, or have no place.
    let other = |p: &Path| {
        set(&p.join("config.json"), json!({"architectures": ["Qwen3ForCausalLM"]}));
    };
    check("llama", &other, &["q_norm"]);
    let other = |p: &Path| {
        set(&p.join("config.json"), json!({"architectures": ["LlamaForCausalLM"]}));
    };
    check("qwen3", &other, &["k_norm"]);
}

#[test]
fn a_head_beside_a_tied_embedding_must_be_the_embedding() {
    let copy = copy("qwen2");
    let path = copy.path().join("model.safetensors");
    let add = |t: &mut BTreeMap<String, Stored>| {
        t.insert("lm_head.weight".into(), t["model.embed_tokens.weight"].clone());
    };
    change(&path, add);
    load(copy.path());
    change(&path, |t| t.get_mut("lm_head.weight").unwrap().bytes[0] ^= 1);
    assert!(refusal(copy.path()).contains("tie_word_embeddings"));
}

#[test]
fn adapters_that_do_not_fit_or_are_not_supported_are_refused() {
    let check = |name: &str, spoil: &dyn Fn(&Path), expected: &[&str]| {
        let copy = copy(name);
        let adapter = copy.path().join("adapter");
        let model = load(copy.path());
        load_adapter(&adapter, &model).unwrap();
        spoil(&adapter);
        let error = load_adapter(&adapter, &model).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{error}: no `{part}`");
        }
    };
    let (config, tensors) = ("adapter_config.json", "adapter_model.safetensors");
    let fields =
        |fields: Value| move |p: &Path| set(&p.join("adapter_config.json"), fields.clone());
    check("qwen2", &fields(json!({"use_dora": true})), &[config, "use_dora"]);
    check("qwen2", &fields(json!({"rank_pattern": {"q_proj": 2}})), &[config, "rank_pattern"]);
    check("qwen2", &fields(json!({"some_new_option": 3})), &[config, "some_new_option"]);
    check("qwen2", &fields(json!({"bias": "all"})), &[config, "bias"]);
    check("qwen2", &fields(json!({"init_lora_weights": "pissa"})), &["init_lora_weights"]);
    check("qwen2", &fields(json!({"peft_type": "IA3"})), &[config, "peft_type"]);
    check("qwen2", &fields(json!({"r": 5})), &[tensors, "lora_A", "[5, 16]"]);
    let more = json!({"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]});
    check("qwen2", &fields(more), &["up_proj.lora_A", "missing"]);
    check("qwen2", &fields(json!({"target_modules": ["q_proj"]})), &["does not name"]);
    check("qwen2", &|p| fs::remove_file(p.join(tensors)).unwrap(), &[tensors]);
    let name = "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight";
    check("qwen2", &|p| change(&p.join(tensors), |t| drop(t.remove(name))), &[name, "missing"]);
    let copied = "base_model.model.lm_head.base_layer.weight";
    let changed = |p: &Path| {
        change(&p.join(tensors), |t| t.get_mut(copied).unwrap().bytes[3] ^= 0x80);
    };
    check("llama", &changed, &[copied, "differs"]);
    // A pattern names whatever is there.
    let golden = copy("qwen2");
    let adapter = golden.path().join("adapter");
    set(&adapter.join(config), json!({"target_modules": ".*_proj"}));
    let lora = load_adapter(&adapter, &load(golden.path())).unwrap();
    assert_eq!(lora.config.target_modules.len(), lora.pairs.len());
}

#[test]
fn what_the_model_cannot_read_is_refused() {
    let golden = Golden::new("qwen2");
    let model = &golden.model;
    let batch = |tokens: &[u32]| Batch::padded(&[Sequence::prompt(tokens)]).unwrap();
    let error = |tokens: &[u32]| model.logits(&batch(tokens), None).unwrap_err();
    assert_eq!(error(&[5; 65]), InputError::TooLong { length: 65, most: 64 });
    assert_eq!(error(&[5, 20]), InputError::UnknownToken { token: 20, vocab_size: 20 });
    assert_eq!(model.loss(&batch(&[5, 6]), None).unwrap_err(), InputError::NoTargets);
    let mut trainer = Trainer::new(
        model,
        golden.adapter(),
        AdamW { betas: [0.9, 0.999], weight_decay: 0.0 },
        0.0,
    );
    assert_eq!(trainer.step(&batch(&[5]), 1.0), Err(TrainError::Input(InputError::NoTargets)));
    // A prompt as long as the context leaves room for one token, which nothing reads.
    let full = greedy(model, None, &[vec![5; 64], vec![7; 60]], &[], 9, &()).unwrap();
    assert_eq!(full.iter().map(|g| g.tokens.len()).collect::<Vec<_>>(), [1, 5]);
    let mut cache = KvCache::default();
    model.next_logits(&batch(&[1, 2]), None, Some(&mut cache)).unwrap();
    let two = Batch::padded(&[Sequence::prompt(&[1]), Sequence::prompt(&[2])]).unwrap();
    let error = model.next_logits(&two, None, Some(&mut cache)).unwrap_err();
    assert_eq!(error, InputError::Rows { cached: 1, rows: 2 });
}

#[test]
fn a_score_is_the_sum_over_the_answer_s_tokens_whatever_stands_beside_it() {
    for name in MODELS {
        let golden = Golden::new(name);
        let lora = golden.adapter();
        let prompt = [4, 9, 3, 11, 7];
        let answers = [vec![5, 2], vec![6, 6, 6, 6, 6, 8], vec![12], vec![5, 3]];
        let score = |answers: &[Vec<u32>], cached: usize| {
            score(&golden.model, Some(&lora), &prompt, answers, cached).unwrap()
        };
        // All side by side, two by two, and one by one.
        let scores = [1000, 14, 0].map(|cached| score(&answers, cached)).concat();
        for (answer, found) in answers.iter().cycle().zip(scores) {
            let whole = Sequence::prompt(&[&prompt[..], answer].concat());
            let logits = alone(&golden.model, &whole, Some(&lora));
            let (mut log_prob, mut is_greedy) = (0.0, true);
            for (i, &token) in answer.iter().enumerate() {
                let at = (prompt.len() + i - 1) * 20;
                let row = &logits[at..at + 20];
                let sum: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
                log_prob += f64::from(row[token as usize]) - sum.ln();
                is_greedy &= row.iter().all(|&other| other <= row[token as usize]);
            }
            assert!(
                (found.log_prob - log_prob).abs() < 1e-4,
                "{name} {answer:?}: {found:?}, {log_prob}"
            );
            assert_eq!(found.is_greedy, is_greedy, "{name} {answer:?}");
        }
        assert!(score(&[], 0).is_empty());
        let greedy = greedy(&golden.model, Some(&lora), &[prompt.to_vec()], &[], 6, &()).unwrap();
        let best = &greedy[0];
        let own = score(std::slice::from_ref(&best.tokens), 0)[0];
        assert!(own.is_greedy && (own.log_prob - best.log_prob).abs() < 1e-4, "{name}");
    }
}

#[test]
fn samples_follow_the_probabilities_and_the_temperature() {
    let golden = Golden::new("qwen3");
    let prompts = vec![vec![4, 9, 3]; 400];
    let drawn = |temperature: f64| {
        let mut rngs: Vec<_> = (0..400).map(|i| stream(0, "task", "sample", i)).collect();
        // One token, for every token ends it.
        let ends: Vec<u32> = (0..20).collect();
        let model = &golden.model;
        let all = sample(model, None, &prompts, &ends, temperature, &mut rngs, &()).unwrap();
        let mut counts = [0.0; 20];
        all.iter().for_each(|one| counts[one.tokens[0] as usize] += 1.0 / 400.0);
        counts
    };
    let logits = alone(&golden.model, &Sequence::prompt(&[4, 9, 3]), None);
    let last = &logits[40..60];
    for temperature in [1.0, 0.3] {
        let weights: Vec<f64> = last.iter().map(|&l| (f64::from(l) / temperature).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for (found, weight) in drawn(temperature).into_iter().zip(weights) {
            // Four standard deviations of a share of 400.
            assert!(
                (found - weight / sum).abs() < 0.1,
                "{temperature}: {found} for {}",
                weight / sum
            );
        }
    }
    assert_eq!(drawn(1.0), drawn(1.0));
}

#[test]
fn what_pretrain_exports_loads_back() {
    // `scripts/make_golden.py --check-checkpoint DIR` asks transformers for its opinion of what is written here.
    let kept = std::env::var_os("ARC_TTT_WRITE_CHECKPOINT").map(PathBuf::from);
    let place = Place::new(&[]);
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/recipes/pretrain-llama.toml");
    let run = |out: &str, steps: &str, architecture: &str| {
        let architecture = format!("model.architecture={architecture}");
        let recipe = recipe.display().to_string();
        let mut args = vec!["pretrain", "--recipe", &recipe, "--tasks", "demo", "--device", "cpu"];
        args.extend(["--out", out, "--steps", steps, "--set", &architecture]);
        for small in [
            "model.hidden_size=32",
            "model.intermediate_size=48",
            "model.num_hidden_layers=2",
            "episode.cells_per_step=1200",
            "data.hold_out_every=18",
        ] {
            args.extend(["--set", small]);
        }
        place.arc(&args).assert().success();
        place.path(out).join("checkpoint")
    };
    let folder = run("whole", "4", "LlamaForCausalLM");
    let bytes = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    let folder_name = folder.display().to_string();
    let mut solve = vec!["solve", "demo", "--limit", "2", "--steps", "2", "--model", &folder_name];
    solve.extend(["--set", "views.count=2", "--set", "decode.method=greedy"]);
    let (solved, _) = place.json(&solve);
    assert_eq!(solved["trained_on"].as_array().unwrap().len(), 2, "{solved}");
    let qwen = run("qwen", "1", "Qwen3ForCausalLM");
    for (folder, name) in [(&folder, "llama"), (&qwen, "qwen3")] {
        let model = load(folder);
        assert_eq!((model.config.vocab_size, model.config.hidden_size), (16, 32));
        assert!(checkpoint_bytes(&model, None).len() < bytes(folder).len(), "with a manifest");
        let known = training_pairs(folder).unwrap().unwrap();
        let demo = arc_ttt::public::resolve("demo").unwrap().tasks;
        let seen = demo.iter().filter(|task| known.know(task)).count();
        assert_eq!((seen, demo.len()), (34, 36), "two tasks are held out");
        let sequence = Sequence::prompt(&(0..40).map(|i| i * 7 % 16).collect::<Vec<_>>());
        let logits = alone(&model, &sequence, None);
        assert!(logits.iter().all(|v| v.is_finite()) && logits[0] != logits[1]);
        if let Some(kept) = &kept {
            let to = kept.join(name);
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
            let bytes = logits.iter().flat_map(|v| v.to_le_bytes()).collect();
            let stored = Stored { dtype: Dtype::F32, shape: vec![40, 16], bytes };
            let tensors = BTreeMap::from([("logits".to_owned(), stored)]);
            write_tensors(&to.join("logits.safetensors"), &tensors);
        }
    }
}

/// The memory that this process holds now, from which its peak is counted anew.
fn memory_now() -> u64 {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    arc_ttt::memory::peak_bytes().unwrap()
}

/// Runs in a process of its own, which the test below starts: a process has one highest memory.
#[test]
fn measured_step() {
    let Ok(kind) = std::env::var("ARC_TTT_MEASURE") else { return };
    let (config, work) = measured(&kind);
    let mut model = Llama::random(config, 0, &Device::flex());
    if work.weight_bytes == 2 {
        let mut weights = model.parameters().into_iter();
        model = Llama::from_parameters(model.config.clone(), |_, _| {
            weights.next().unwrap().2.cast(FloatDType::BF16)
        });
    }
    model.fused = work.fused;
    let lora = LoraConfig {
        rank: work.rank,
        alpha: 1.0,
        rank_stabilized: false,
        target_modules: work.adapted.iter().map(|t| t.name().to_owned()).collect(),
    };
    let lora = Lora::fresh(&lora, &model.config, 0, "measure", &Device::flex()).unwrap();
    let sequence = Sequence {
        tokens: (0..work.length).map(|i| (i * i % 16) as u32).collect(),
        targets: (0..work.length).map(|i| i >= work.length - work.targets).collect(),
    };
    let batch = Batch::padded(&[sequence]).unwrap();
    let adamw = AdamW { betas: [0.9, 0.999], weight_decay: 0.0 };
    let mut trainer = Trainer::new(&model, lora, adamw, 0.0)
        .with_gradient_checkpointing(work.gradient_checkpointing);
    let before = memory_now();
    trainer.step(&batch, 1e-3).unwrap();
    println!("MEASURED {}", arc_ttt::memory::peak_bytes().unwrap() - before);
}

fn measured_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 16, "hidden_size": 128,
        "intermediate_size": 352, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "rope_theta": 1e4, "hidden_act": "silu", "tie_word_embeddings": true,
    })
}

fn measured(kind: &str) -> (LlamaConfig, Workload) {
    let mut config = measured_config();
    if kind.starts_with("head") {
        config["vocab_size"] = json!(40_000);
    }
    let config = LlamaConfig::parse(&config.to_string(), Path::new("config.json")).unwrap();
    let fused = kind.starts_with("fused");
    let length = if fused { 3000 } else { 700 };
    let work = Workload {
        rows: 1,
        length,
        targets: length / 3,
        rank: 16,
        adapted: Target::BLOCK.to_vec(),
        weight_bytes: if kind.contains("bf16") { 2 } else { 4 },
        gradient_checkpointing: kind.ends_with("checkpoints") || kind.starts_with("head"),
        fused,
    };
    (config, work)
}

/// The bytes that a test of this file measures in a process of its own, told by a variable of its environment.
#[cfg(target_os = "linux")]
fn measure(test: &str, variable: &str, value: &str) -> u64 {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("llama::{test}"), "--nocapture"])
        .env(variable, value)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, found) = text.split_once("MEASURED ").unwrap_or_else(|| panic!("{text}"));
    found.lines().next().unwrap().trim().parse().unwrap()
}

/// Runs in a process of its own, as [`measured_step`]: a checkpoint is loaded as f32 or bf16.
#[test]
fn measured_load() {
    let Ok(load) = std::env::var("ARC_TTT_MEASURE_LOAD") else { return };
    let (dtype, folder) = load.split_once(' ').unwrap();
    let dtype = if dtype == "f32" { FloatDType::F32 } else { FloatDType::BF16 };
    let before = arc_ttt::memory::peak_bytes().unwrap();
    let model = Llama::load(Path::new(folder), dtype, &Device::flex()).unwrap();
    println!("MEASURED {}", arc_ttt::memory::peak_bytes().unwrap() - before);
    drop(model);
}

#[test]
#[cfg(target_os = "linux")]
fn loading_takes_little_more_memory_than_the_weights() {
    let place = Place::new(&[]);
    let text = json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 8192, "hidden_size": 512,
        "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 8,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "hidden_act": "silu", "tie_word_embeddings": true,
    });
    let config = LlamaConfig::parse(&text.to_string(), Path::new("config.json")).unwrap();
    let n = config.n_parameters();
    let bytes = checkpoint_bytes(&Llama::random(config, 0, &Device::flex()), None);
    for stored in ["f32", "bf16"] {
        let folder = place.path(stored);
        fs::create_dir(&folder).unwrap();
        place.write(&format!("{stored}/config.json"), &text.to_string());
        let file = folder.join("model.safetensors");
        fs::write(&file, &bytes).unwrap();
        if stored == "bf16" {
            change(&file, |tensors| {
                for t in tensors.values_mut() {
                    let word = |v: f32| bf16::from_f32(v).to_bits().to_le_bytes();
                    t.dtype = Dtype::BF16;
                    t.bytes = floats(&t.bytes).into_iter().flat_map(word).collect();
                }
            });
        }
        for (loaded, size) in [("f32", 4), ("bf16", 2)] {
            let of = format!("{loaded} {}", folder.display());
            let ratio =
                measure("measured_load", "ARC_TTT_MEASURE_LOAD", &of) as f64 / (size * n) as f64;
            println!("{stored} as {loaded}: {ratio:.2} of the weights");
            // The largest tensor is a ninth of all, and stands in the file as well while it is read.
            let most = if (stored, loaded) == ("f32", "bf16") { 1.35 } else { 1.2 };
            assert!((0.95..most).contains(&ratio), "{stored} as {loaded}: {ratio}");
        }
    }
}

/// Runs in a process of its own, as [`measured_step`]: eight prompts are read into a cache, piece by piece.
#[test]
fn measured_cache() {
    let Ok(kind) = std::env::var("ARC_TTT_MEASURE_CACHE") else { return };
    let (config, work) = measured(&kind);
    let mut model = Llama::random(config, 0, &Device::flex());
    model.fused = work.fused;
    let before = memory_now();
    let mut cache = KvCache::default();
    // So small pieces that what is computed beside the cache is small.
    for _ in 0..CACHED / 10 {
        let piece = Sequence::prompt(&[3; 10]);
        let batch = Batch::padded(&vec![piece; 8]).unwrap();
        model.next_logits(&batch, None, Some(&mut cache)).unwrap();
    }
    assert_eq!(cache.len(), CACHED);
    println!("MEASURED {}", arc_ttt::memory::peak_bytes().unwrap() - before);
}

/// Tokens of each row in the measured cache.
const CACHED: usize = 2000;

#[test]
#[cfg(target_os = "linux")]
fn the_estimated_cache_is_near_the_measured() {
    for kind in ["fused", "burn"] {
        let (config, work) = measured(kind);
        let estimated = config.budget(&Workload { rows: 8, length: CACHED, ..work }).kv_cache;
        let found = measure("measured_cache", "ARC_TTT_MEASURE_CACHE", kind);
        let ratio = estimated as f64 / found as f64;
        println!("cache, {kind}: estimated {estimated}, measured {found}, {ratio:.2}");
        assert!((0.67..1.5).contains(&ratio), "{kind}: {estimated} estimated, {found} measured");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn estimated_memory_is_near_the_measured() {
    for kind in [
        "fused",
        "fused-checkpoints",
        "burn",
        "burn-checkpoints",
        "bf16",
        "bf16-checkpoints",
        "head",
        "head-bf16",
    ] {
        let (config, work) = measured(kind);
        let budget = config.budget(&work);
        let estimated = budget.activations + budget.gradients;
        let found = measure("measured_step", "ARC_TTT_MEASURE", kind);
        let ratio = estimated as f64 / found as f64;
        println!("{kind}: estimated {estimated}, measured {found}, {ratio:.2}");
        assert!((0.67..1.5).contains(&ratio), "{kind}: {estimated} estimated, {found} measured");
    }
}

/// Runs in a process of its own, as [`measured_step`].
#[test]
fn measured_fit() {
    let Ok(memory_bytes) = std::env::var("ARC_TTT_MEASURE_FIT") else { return };
    let place = Place::new(&[]);
    let (config, _) = measured("fused");
    let folder = place.path("model");
    write_tokenizer(&folder).unwrap();
    place.write("model/config.json", &measured_config().to_string());
    let model = Llama::random(config, 0, &Device::flex());
    fs::write(folder.join("model.safetensors"), checkpoint_bytes(&model, None)).unwrap();
    let set = ["language.gradient_checkpointing=false", "dataset.sampling=streaming"];
    let recipe = Recipe::resolve("llama-default", &set).unwrap();
    let engine =
        LlamaEngine::load(&folder, "model", &recipe.language, &Device::flex(), "cpu").unwrap();
    // Three texts of about 1300 tokens in a step.
    let grid = |n: usize| Grid::from_fn(14, 14, |r, c| ((r * n + c) % 10) as u8);
    let example = |n: usize| Example { input: grid(n), output: grid(n + 3) };
    let test = Test { input: grid(9), output: None };
    let task = Task { id: "a".into(), examples: [1, 2, 3].map(example).into(), tests: vec![test] };
    let plan = recipe.fit_plan();
    let limits = FitLimits {
        seconds: None,
        steps: Some(2),
        progress: None,
        memory_bytes: memory_bytes.parse().unwrap(),
        interrupted: &AtomicBool::new(false),
    };
    let before = arc_ttt::memory::peak_bytes().unwrap();
    let fit = engine.fit(&task, plan, limits, &mut |_| ()).unwrap();
    assert!(!fit.notes.iter().any(|note| note.contains("more memory")), "{:?}", fit.notes);
    println!("MEASURED {}", arc_ttt::memory::peak_bytes().unwrap() - before);
}

#[test]
#[cfg(target_os = "linux")]
fn a_fit_keeps_to_its_memory() {
    let fit = |allowed: u64| {
        let found = measure("measured_fit", "ARC_TTT_MEASURE_FIT", &allowed.to_string());
        println!("{found} of {allowed} bytes");
        found
    };
    // All texts at once; one at a time; and with gradient checkpointing.
    let free = fit(1 << 30);
    for allowed in [105 << 20, 60 << 20] {
        let found = fit(allowed);
        assert!(found <= allowed && found < free, "{found} of {allowed}, {free} without a limit");
    }
}

#[test]
fn the_doctor_tells_what_fits_and_how_long_it_takes_from_a_config_alone() {
    let place = Place::new(&[]);
    // Llama 3.2 1B, Llama 3.2 3B, Llama 3.1 8B.
    let [small, middle, large] = [
        (2048, 8192, 16, 32, true, 1_235_814_400_u64),
        (3072, 8192, 28, 24, true, 3_212_749_824),
        (4096, 14336, 32, 32, false, 8_030_261_248),
    ]
    .map(|(hidden, mlp, layers, heads, tied, weights)| {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": hidden,
            "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
            "rope_theta": 5e5, "hidden_act": "silu", "tie_word_embeddings": tied,
        });
        place.write("config.json", &config.to_string());
        let doctor = ["doctor", "--model", "config.json", "--ranks", "16", "--lengths", "1024"];
        let (found, _) = place.json(&doctor);
        let says = found["model"]["says"].as_str().unwrap();
        assert!(says.contains(&format!("{weights} weights")), "{found}");
        assert_eq!(found["files"]["problem"], false, "{found}");
        let files = found["files"]["says"].as_str().unwrap();
        assert!(files.starts_with("model.safetensors, tokenizer.json missing"), "{files}");
        let told = place.json(&[&doctor[..], &["--tflops", "100"]].concat()).0;
        let lines = found["fits"].as_array().unwrap();
        assert_eq!(lines.len(), 6, "three formats, with checkpointing and without");
        for (line, told) in lines.iter().zip(told["fits"].as_array().unwrap()) {
            let number = |value: &Value| value.as_f64().unwrap();
            let of_all = number(&line["memory_bytes"]) + number(&line["bytes"]["weights"]);
            assert_eq!(of_all, number(&line["fitting_bytes"]), "one formula for both");
            // Two operations a weight and token, forward and for the inputs' gradients, three where a block runs twice.
            let flop = number(&line["bytes"]["flop"]) / (weights as f64 * 1024.0);
            let expected = if line["gradient_checkpointing"] == true { 6.0 } else { 4.0 };
            assert!((0.6 * expected..1.3 * expected).contains(&flop), "{flop} for {line}");
            if line["dtype"] == "f32 CPU" {
                assert!(number(&line["seconds"]["here"]) > 0.0, "measured: {line}");
                continue;
            }
            let seconds = |card: &str| number(&line["seconds"][card]);
            assert!(seconds("T4 16 GB") > seconds("H100 80 GB"), "{line}");
            let exact = number(&line["bytes"]["flop"]) / 100e12;
            assert!((number(&told["seconds"]["L4 24 GB"]) / exact - 1.0).abs() < 1e-9);
        }
        lines
            .iter()
            .find(|f| f["dtype"] == "bf16" && f["gradient_checkpointing"] == true)
            .unwrap()
            .clone()
    });
    let fits = |line: &Value| ["16", "24", "80"].map(|gb| line["fits_gb"][gb].as_bool().unwrap());
    assert_eq!(fits(&small), [true, true, true]);
    assert_eq!(fits(&middle), [true, true, true]);
    assert_eq!(fits(&large), [false, true, true]);
    assert_eq!(large["bytes"]["weights"], 8_030_261_248_u64 * 2);
    let plain = place.arc(&["doctor", "--model", "config.json"]).output().unwrap();
    let text = String::from_utf8(plain.stdout).unwrap();
    assert!(text.contains("H100 80 GB") && text.contains("40 % of its dense arithmetic"), "{text}");
    // A folder is meant to be used, so that what it lacks is a problem.
    let copy = copy("mistral-nemo");
    let shard = "model-00002-of-00005.safetensors";
    fs::remove_file(copy.path().join(shard)).unwrap();
    let (found, code) = place.json(&["doctor", "--model", copy.path().to_str().unwrap()]);
    assert_eq!((code, &found["files"]["problem"]), (1, &json!(true)), "{found}");
    let files = found["files"]["says"].as_str().unwrap();
    assert!(files.starts_with(&format!("{shard}, tokenizer.json missing")), "{files}");
}
