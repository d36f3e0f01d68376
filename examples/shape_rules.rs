//! Prints how often the shape rules speak on a set of solved tasks, and how often they are right.
//!
//! ```text
//! cargo run --release --example shape_rules -- TASKS [SPLITS.json SPLIT]
//! ```
//! `TASKS` is anything that `solve` reads; a splits file maps names to lists of task ids.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};
use arc_ttt::arc::{ShapeRule, infer_shape_with_rule};
use arc_ttt::public;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let source = arguments.first().context("usage: shape_rules TASKS [SPLITS.json SPLIT]")?;
    let wanted: Option<HashSet<String>> = match &arguments[1..] {
        [splits, name, ..] => {
            let text = std::fs::read_to_string(splits).with_context(|| splits.clone())?;
            let mut splits: BTreeMap<String, HashSet<String>> = serde_json::from_str(&text)?;
            Some(splits.remove(name).with_context(|| format!("no split named {name}"))?)
        }
        _ => None,
    };
    let dataset = public::resolve(source)?;
    let mut of_rule: BTreeMap<ShapeRule, (usize, usize)> = BTreeMap::new();
    let (mut n_tests, mut spoken, mut right) = (0, 0, 0);
    for task in dataset.tasks.iter().filter(|t| wanted.as_ref().is_none_or(|w| w.contains(&t.id))) {
        for (index, test) in task.tests.iter().enumerate() {
            let Some(truth) = &test.output else { continue };
            n_tests += 1;
            let Some(inferred) = infer_shape_with_rule(&task.examples, &test.input) else {
                continue;
            };
            spoken += 1;
            let (said, correct) = of_rule.entry(inferred.rule).or_default();
            *said += 1;
            if inferred.shape == truth.shape() {
                right += 1;
                *correct += 1;
            } else {
                println!(
                    "wrong: {} test {index}: {inferred:?}, truth {:?}",
                    task.id,
                    truth.shape()
                );
            }
        }
    }
    println!("{n_tests} tests, {spoken} spoken, {right} right");
    for (rule, (said, correct)) in of_rule {
        println!("{rule:?}: {correct} of {said}");
    }
    Ok(())
}
