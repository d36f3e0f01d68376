//! The fused blocks against Burn's operations and finite differences, on random models larger than the goldens.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use rand::Rng;
use serde_json::json;

use super::*;
use crate::adapter::LoraConfig;
use crate::model::AdamW;
use crate::rng::stream;

/// Heads of 16 in groups of 2; 100 to 200 tokens are several blocks and no whole number of them.
fn config(architecture: &str) -> LlamaConfig {
    let fields = json!({
        "architectures": [architecture], "vocab_size": 24, "hidden_size": 48, "head_dim": 16,
        "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
        "rope_theta": 100.0, "hidden_act": "silu", "tie_word_embeddings": false,
        "attention_bias": architecture == "LlamaForCausalLM",
        "mlp_bias": architecture == "LlamaForCausalLM",
    });
    LlamaConfig::parse(&fields.to_string(), Path::new("config.json")).unwrap()
}

/// All weights far from zero, so that nothing is hidden by another thing's smallness.
fn model(architecture: &str) -> Llama {
    let device = Device::flex();
    let mut values = random_values(&config(architecture));
    Llama::from_parameters(config(architecture), |name, _| {
        Tensor::from_inner(values.remove(name).unwrap()).to_device(&device)
    })
}

fn random_values(config: &LlamaConfig) -> BTreeMap<String, Tensor<2>> {
    let mut values = BTreeMap::new();
    Llama::from_parameters(config.clone(), |name, shape| {
        let mut rng = stream(7, "test", name, 0);
        let n: usize = shape.iter().product();
        let columns = shape[shape.len() - 1];
        let list: Vec<f32> = (0..n).map(|_| rng.random_range(-0.5..0.5)).collect();
        let data = burn::tensor::TensorData::new(list, [n / columns, columns]);
        let value = Tensor::<2>::from_data(data, &Device::flex());
        values.insert(name.to_owned(), value.clone());
        value
    });
    values
}

fn adapter(model: &Llama, rank: usize) -> Lora {
    let config = LoraConfig {
        rank,
        alpha: 3.0,
        rank_stabilized: false,
        target_modules: Target::ALL.map(|(name, _)| name.to_owned()).to_vec(),
    };
    let fresh = Lora::fresh(&config, &model.config, 1, "test", &Device::flex()).unwrap();
    let mut seed = 0;
    fresh.map(|t| {
        seed += 1;
        let mut rng = stream(seed, "test", "lora", 0);
        let [rows, columns] = t.dims();
        let list: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-0.3..0.3)).collect();
        Tensor::from_data(burn::tensor::TensorData::new(list, [rows, columns]), &t.device())
    })
}

fn sequences(lengths: &[usize]) -> Vec<Sequence> {
    let mut rng = stream(3, "test", "tokens", 0);
    let mut sequence = |&n: &usize| Sequence {
        tokens: (0..n).map(|_| rng.random_range(0..24)).collect(),
        targets: (0..n).map(|_| rng.random()).collect(),
    };
    lengths.iter().map(&mut sequence).collect()
}

fn burn_operations(model: &Llama) -> Llama {
    let mut model = model.clone();
    model.fused = false;
    model
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], most: f32, what: &str) {
    let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|x| x * x).sum::<f32>().sqrt();
    let off = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let size = norm(&mut expected.iter().copied());
    assert!(found.len() == expected.len() && off <= most * size, "{what}: {off} of {size}");
}

const ARCHITECTURES: [&str; 3] = ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"];

fn trainer(model: &Llama, lora: &Lora) -> Trainer {
    let adamw = AdamW { betas: [0.9, 0.999], weight_decay: 0.0 };
    Trainer::new(model, lora.clone(), adamw, 0.0)
}

#[test]
fn loss_and_adapter_s_gradients_are_those_of_burn_s_operations() {
    for name in ARCHITECTURES {
        let model = model(name);
        // So few tokens that the update stays beside the weights, and so many that it is added to them.
        for (rank, batch) in [
            (3, Batch::padded(&sequences(&[11])).unwrap()),
            (3, Batch::padded(&sequences(&[19])).unwrap()),
            (5, Batch::padded(&sequences(&[200, 131])).unwrap()),
            (20, Batch::packed(&sequences(&[70, 64, 9, 140, 1]), 150).unwrap()),
        ] {
            let lora = adapter(&model, rank);
            let (loss, gradients) = trainer(&model, &lora).gradients(&batch).unwrap();
            let oracle = trainer(&burn_operations(&model), &lora).gradients(&batch).unwrap();
            assert!((loss - oracle.0).abs() < 1e-4, "{name}: {loss} {}", oracle.0);
            for (module, pair) in gradients {
                let expected = &oracle.1[&module];
                let what = format!("{name} rank {rank} {module:?}");
                assert_near(&values(pair.a), &values(expected.a.clone()), 1e-4, &what);
                assert_near(&values(pair.b), &values(expected.b.clone()), 1e-4, &what);
            }
        }
    }
}

#[test]
fn gradients_of_all_weights_are_those_of_burn_s_operations() {
    for name in ARCHITECTURES {
        let batch = Batch::packed(&sequences(&[70, 64, 9, 140]), 150).unwrap();
        let run = |fused: bool| {
            let tracked: BTreeMap<String, Tensor<2>> = random_values(&config(name))
                .into_iter()
                .map(|(name, value)| (name, Tensor::from_inner(value).require_grad()))
                .collect();
            let mut model = Llama::from_parameters(config(name), |name, _| tracked[name].clone());
            model.fused = fused;
            let mut grads = model.loss(&batch, None).unwrap().backward();
            tracked
                .iter()
                .map(|(name, t)| (name.clone(), values(t.grad_remove(&mut grads).unwrap())))
                .collect::<Vec<_>>()
        };
        for ((parameter, found), (_, expected)) in run(true).iter().zip(&run(false)) {
            assert_near(found, expected, 1e-4, &format!("{name} {parameter}"));
        }
    }
}

#[test]
fn gradients_are_the_loss_s_finite_differences() {
    let model = model("Qwen3ForCausalLM");
    let lora = adapter(&model, 2);
    let batch = Batch::padded(&sequences(&[90])).unwrap();
    let (_, gradients) = trainer(&model, &lora).gradients(&batch).unwrap();
    for (module, pair) in &gradients {
        // Along the gradient the loss changes by the gradient's length.
        let direction = pair.b.clone();
        let length = values(direction.clone().powi_scalar(2).sum())[0].sqrt();
        let loss_at = |step: f32| {
            let mut moved = lora.clone();
            let b = &mut moved.pairs.get_mut(module).unwrap().b;
            *b = b.clone() + direction.clone() * (step / length);
            f64::from(values(model.loss(&batch, Some(&moved)).unwrap())[0])
        };
        let step = 2e-2;
        let slope = (loss_at(step) - loss_at(-step)) / f64::from(2.0 * step);
        let off = (slope - f64::from(length)).abs() / f64::from(length);
        assert!(off < 0.05, "{module:?}: {slope} and not {length}");
    }
}

#[test]
fn checkpointing_changes_no_gradient_beyond_rounding() {
    for fused in [true, false] {
        let mut model = model("LlamaForCausalLM");
        model.fused = fused;
        let lora = adapter(&model, 4);
        let batch = Batch::padded(&sequences(&[150, 80])).unwrap();
        let run = |checkpointing: bool| {
            let trainer = trainer(&model, &lora).with_gradient_checkpointing(checkpointing);
            trainer.gradients(&batch).unwrap()
        };
        let ((loss, found), (expected_loss, expected)) = (run(true), run(false));
        assert_eq!(loss, expected_loss);
        assert_eq!(found.len(), expected.len());
        for (module, pair) in found {
            let [a, b] = [&expected[&module].a, &expected[&module].b].map(|t| values(t.clone()));
            assert_near(&values(pair.a), &a, 1e-5, &format!("{module:?}"));
            assert_near(&values(pair.b), &b, 1e-5, &format!("{module:?}"));
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let model = model("Qwen2ForCausalLM");
    let lora = adapter(&model, 4);
    let batch = Batch::padded(&sequences(&[300, 150])).unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (loss, gradients) = trainer(&model, &lora).gradients(&batch).unwrap();
            let logits = values(model.logits(&batch, Some(&lora)).unwrap());
            let gradients = gradients.into_values().map(|p| (values(p.a), values(p.b)));
            (loss, logits, gradients.collect::<Vec<_>>())
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn behind_a_cache_tokens_are_as_in_one_pass() {
    for name in ARCHITECTURES {
        let model = model(name);
        let lora = adapter(&model, 3);
        let rows = sequences(&[230, 230]);
        let batch = Batch::padded(&rows).unwrap();
        let expected = values(model.logits(&batch, Some(&lora)).unwrap());
        let oracle = values(burn_operations(&model).logits(&batch, Some(&lora)).unwrap());
        assert_near(&expected, &oracle, 1e-4, name);
        let mut cache = KvCache::default();
        // Few and many tokens behind few and many, and a turn back in between.
        for range in [0..70, 70..71, 71..74, 74..200, 200..230, 10..150, 150..151] {
            cache.truncate(range.start);
            let copy = cache.clone();
            let part = |s: &Sequence| Sequence::prompt(&s.tokens[range.clone()]);
            let parts: Vec<Sequence> = rows.iter().map(part).collect();
            let part = Batch::padded(&parts).unwrap();
            let logits = values(model.next_logits(&part, Some(&lora), Some(&mut cache)).unwrap());
            for row in 0..2 {
                let at = (row * 230 + range.end - 1) * 24;
                let found = &logits[row * 24..][..24];
                assert_near(found, &expected[at..at + 24], 1e-4, &format!("{name} {range:?}"));
            }
            assert_eq!((copy.len(), cache.len()), (range.start, range.end));
        }
    }
}

#[test]
fn rows_of_a_cache_go_on_each_by_itself() {
    for name in ARCHITECTURES {
        let model = model(name);
        let lora = adapter(&model, 3);
        let rows = sequences(&[50, 90, 70]);
        let batch = Batch::padded(&rows).unwrap();
        let expected = values(model.logits(&batch, Some(&lora)).unwrap());
        for model in [&model, &burn_operations(&model)] {
            let mut cache = KvCache::default();
            let check = |cache: &mut KvCache, parts: &[(usize, Range<usize>)]| {
                let part = |(row, range): &(usize, Range<usize>)| {
                    Sequence::prompt(&rows[*row].tokens[range.clone()])
                };
                let batch = Batch::padded(&parts.iter().map(part).collect::<Vec<_>>()).unwrap();
                let batch = batch.on_rows(parts.iter().map(|(row, _)| *row).collect());
                let logits = values(model.next_logits(&batch, Some(&lora), Some(cache)).unwrap());
                for (i, (row, range)) in parts.iter().enumerate() {
                    let at = (row * 90 + range.end - 1) * 24;
                    let found = &logits[i * 24..][..24];
                    let what = format!("{name} {row} {range:?} fused {}", model.fused);
                    assert_near(found, &expected[at..at + 24], 1e-4, &what);
                    assert_eq!(cache.lengths()[*row], range.end);
                }
            };
            check(&mut cache, &[(0, 0..11), (1, 0..30), (2, 0..1)]);
            check(&mut cache, &[(0, 11..12), (1, 30..31), (2, 1..2)]);
            check(&mut cache, &[(2, 2..40), (1, 31..40)]);
            cache.truncate_row(1, 7);
            check(&mut cache, &[(1, 7..8)]);
            check(&mut cache, &[(2, 40..41), (0, 12..13), (1, 8..9)]);
            assert_eq!(cache.len(), 41);
            cache.copy_rows(&[(1, 0)]);
            assert_eq!(cache.lengths(), [9, 9, 41]);
            let both = Batch::step(&[5, 5]).on_rows(vec![0, 1]);
            let logits = values(model.next_logits(&both, Some(&lora), Some(&mut cache)).unwrap());
            assert_near(&logits[..24], &logits[24..], 1e-6, "a copied row");
        }
    }
}

#[test]
fn a_cache_s_copy_is_not_written_through() {
    let model = model("LlamaForCausalLM");
    let next = |token: u32, cache: &mut KvCache| {
        let batch = Batch::padded(&[Sequence::prompt(&[token])]).unwrap();
        values(model.next_logits(&batch, None, Some(cache)).unwrap())
    };
    let mut cache = KvCache::default();
    next(1, &mut cache);
    let mut copy = cache.clone();
    next(2, &mut cache);
    next(9, &mut copy);
    let (mine, theirs) = (next(3, &mut cache), next(3, &mut copy));
    assert!(mine != theirs);
    copy.truncate(1);
    next(2, &mut copy);
    assert_eq!(next(3, &mut copy), mine);
}
