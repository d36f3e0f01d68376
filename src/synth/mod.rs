//! Generators of tasks in the manner of ARC.
//!
//! A [`Family`] is a small program that draws a [`Rule`]: an idea of ARC's core knowledge (objects,
//! symmetry, counting, motion, lines, ..) with its constants sampled. A rule then gives any number of
//! examples, and only such sets of them from which the rule can be inferred. The generators make the
//! demonstration tasks that ship with the program and the tasks on which the base model is trained.
//!
//! Invariant: a task depends on the random stream alone; nothing here does I/O.

mod canvas;
mod component;
mod demo;
mod family;
mod rule;
mod scene;
mod stream;

use std::sync::LazyLock;

use rand_chacha::ChaCha8Rng;

use crate::arc::{ColorPermutation, Dihedral, Example, Task, Test};

use canvas::{between, chance, pick};
pub use demo::{demo_json, demo_tasks};
pub use rule::Rule;
pub use stream::{MIN_STREAM_SIDE, Sampled, StreamConfig, sample_at, stream};

/// The core knowledge that a family is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Colors that stand for something: color maps, recoloring by a property.
    Color,
    /// Symmetry, scaling, cropping, tiling.
    Geometry,
    /// Objects told apart by size, shape, color or place.
    Objects,
    /// Gravity, sliding, pushing.
    Motion,
    /// Lines, rays, connections.
    Lines,
    /// Inside and outside, filling, borders.
    Filling,
    /// Repetition, symmetry completion, noise.
    Patterns,
    /// Panels and grids of separators.
    Panels,
    /// Counting, comparing, sorting.
    Counting,
    /// Stamps, copies, drawing between marks.
    Copying,
}

/// A kind of task.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Name in lower case with hyphens, unique.
    pub name: &'static str,
    /// What it is about.
    pub group: Group,
    /// From 1 (seen at a glance) to 5 (takes a person a while).
    pub difficulty: u8,
    /// The rule in a few words.
    pub about: &'static str,
    /// True if its rules say something for any grid, so that they can follow another rule.
    pub is_general: bool,
    rule: fn(&mut ChaCha8Rng, usize) -> Option<Rule>,
}

impl Family {
    const fn new(
        group: Group,
        name: &'static str,
        difficulty: u8,
        about: &'static str,
        rule: fn(&mut ChaCha8Rng, usize) -> Option<Rule>,
    ) -> Self {
        Self { name, group, difficulty, about, is_general: false, rule }
    }

    const fn general(mut self) -> Self {
        self.is_general = true;
        self
    }
}

/// All families, in a stable order.
pub fn families() -> &'static [Family] {
    static ALL: LazyLock<Vec<Family>> = LazyLock::new(family::all);
    &ALL
}

/// The family called `name`.
pub fn family(name: &str) -> Option<&'static Family> {
    families().iter().find(|family| family.name == name)
}

/// How often a set of examples is begun anew before a caller is told that it cannot be had.
const ATTEMPTS: usize = 12;

/// How often a world has another background than 0.
const OTHER_BACKGROUND: f64 = 0.1;

/// Draws a rule of `family` for grids of at most `max_side`, in a world turned at random.
pub fn sample_rule(family: &Family, rng: &mut ChaCha8Rng, max_side: usize) -> Option<Rule> {
    let rule = (family.rule)(rng, max_side)?;
    let dihedral = pick(rng, &Dihedral::ALL);
    let recolored = chance(rng, OTHER_BACKGROUND);
    let colors = if recolored { ColorPermutation::random(rng) } else { ColorPermutation::IDENTITY };
    Some(rule.seen_through(dihedral, colors))
}

/// Draws `n` examples of one rule of `family`, each of which can be inferred from the others.
///
/// `None` if `max_side` leaves no room for the family, or (rarely) if chance was against it.
pub fn sample_pairs(
    family: &Family,
    rng: &mut ChaCha8Rng,
    n: usize,
    max_side: usize,
) -> Option<Vec<Example>> {
    (0..ATTEMPTS).find_map(|_| sample_rule(family, rng, max_side)?.pairs(rng, n, max_side))
}

/// Draws `n` examples of a rule of `first` followed by a rule of `second` on what the first makes.
///
/// `None` if `second` is not general, or as for [`sample_pairs`].
pub fn sample_composition(
    first: &Family,
    second: &Family,
    rng: &mut ChaCha8Rng,
    n: usize,
    max_side: usize,
) -> Option<Vec<Example>> {
    (0..ATTEMPTS).find_map(|_| composed_rule(first, second, rng, max_side)?.pairs(rng, n, max_side))
}

/// Draws a rule of `first` and then a rule of `second` in the same world.
fn composed_rule(
    first: &Family,
    second: &Family,
    rng: &mut ChaCha8Rng,
    max_side: usize,
) -> Option<Rule> {
    if !second.is_general {
        return None;
    }
    // The second may enlarge what it is given, so the first is often kept small.
    let room = between(rng, (max_side / 3).max(3).min(max_side), max_side);
    let first = (first.rule)(rng, room)?;
    let first = first.seen_through(pick(rng, &Dihedral::ALL), ColorPermutation::IDENTITY);
    let second = (second.rule)(rng, max_side)?;
    let second = second.seen_through(pick(rng, &Dihedral::ALL), ColorPermutation::IDENTITY);
    Some(first.then(second))
}

/// Draws a task of `family`: demonstrations, and tests that can be inferred from them.
///
/// Its id is the family's name. `None` as for [`sample_pairs`].
pub fn sample_task(
    family: &Family,
    rng: &mut ChaCha8Rng,
    n_examples: usize,
    n_tests: usize,
    max_side: usize,
) -> Option<Task> {
    let mut examples = (0..ATTEMPTS).find_map(|_| {
        let rule = sample_rule(family, rng, max_side)?;
        rule.examples_and_tests(rng, n_examples, n_tests, max_side)
    })?;
    let tests = examples
        .split_off(n_examples)
        .into_iter()
        .map(|e| Test { input: e.input, output: Some(e.output) })
        .collect();
    Some(Task { id: family.name.to_owned(), examples, tests })
}

/// The task of `family` at `index` under `seed`: `n_examples` demonstrations and one test.
///
/// `None` as for [`sample_pairs`].
pub fn task_at(
    family: &Family,
    seed: u64,
    index: u64,
    n_examples: usize,
    max_side: usize,
) -> Option<Task> {
    let mut rng = crate::rng::stream(seed, family.name, "synth", index);
    sample_task(family, &mut rng, n_examples, 1, max_side)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn rng(family: &Family, index: u64) -> ChaCha8Rng {
        crate::rng::stream(7, family.name, "test", index)
    }

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = families().iter().map(|f| f.name).collect();
        assert_eq!(names.len(), families().len());
        assert!(families().iter().all(|f| (1..=5).contains(&f.difficulty)));
    }

    #[test]
    fn every_example_fits_and_is_what_its_rule_makes_of_the_input() {
        for family in families() {
            for (max_side, least) in [(12, 0), (16, 11), (30, 11)] {
                let rules = (0..12).filter_map(|i| {
                    let mut rng = rng(family, i);
                    (0..ATTEMPTS).find_map(|_| {
                        let rule = sample_rule(family, &mut rng, max_side)?;
                        let examples = rule.pairs(&mut rng, 4, max_side)?;
                        Some((rule, examples))
                    })
                });
                let mut n = 0;
                for (rule, examples) in rules {
                    n += 1;
                    for e in &examples {
                        assert_eq!(
                            rule.apply(&e.input).as_ref(),
                            Some(&e.output),
                            "{}",
                            family.name
                        );
                        assert_ne!(e.input, e.output, "{}", family.name);
                        let (input, output) = (e.input.shape(), e.output.shape());
                        let side = input.0.max(input.1).max(output.0).max(output.1);
                        assert!(side <= max_side, "{}: side {side} of {max_side}", family.name);
                    }
                    assert!(examples.windows(2).any(|e| e[0].output != e[1].output));
                }
                assert!(n >= least, "{}: only {n} of 12 rules at {max_side}", family.name);
            }
        }
    }

    #[test]
    fn no_other_rule_of_a_family_explains_the_demonstrations_and_answers_otherwise() {
        let n_others = if cfg!(debug_assertions) { 30 } else { 300 };
        let mut ambiguous: Vec<String> = Vec::new();
        for family in families() {
            let mut rng = rng(family, 1000);
            // The background is told by the picture, so all rules have the same.
            let mut rule = || {
                let rule = (family.rule)(&mut rng, 12)?;
                Some(rule.seen_through(pick(&mut rng, &Dihedral::ALL), ColorPermutation::IDENTITY))
            };
            let others: Vec<Rule> = (0..n_others).filter_map(|_| rule()).collect();
            let rules: Vec<Rule> = (0..n_others / 5).filter_map(|_| rule()).collect();
            let tasks = rules.iter().filter_map(|r| r.examples_and_tests(&mut rng, 3, 1, 12));
            let explains = |rule: &&Rule, demonstrations: &[Example]| {
                demonstrations.iter().all(|e| rule.apply(&e.input).as_ref() == Some(&e.output))
            };
            let answers_otherwise = |task: &Vec<Example>| {
                let explaining = others.iter().filter(|rule| explains(rule, &task[..3]));
                let mut answers = explaining.filter_map(|rule| rule.apply(&task[3].input));
                answers.any(|answer| answer != task[3].output)
            };
            let n = tasks.filter(answers_otherwise).count();
            if n > 0 {
                ambiguous.push(format!("{}: {n}", family.name));
            }
        }
        assert!(ambiguous.is_empty(), "tasks with two answers: {}", ambiguous.join(", "));
    }

    #[test]
    fn a_family_without_room_declines() {
        for family in families() {
            for max_side in 1..=10 {
                for i in 0..5 {
                    sample_pairs(family, &mut rng(family, i), 3, max_side);
                }
            }
        }
    }

    #[test]
    fn every_family_has_many_tasks_and_repeats_them_exactly() {
        for family in families() {
            let draw = |i| sample_pairs(family, &mut rng(family, i), 4, 16);
            let n = if cfg!(debug_assertions) { 40 } else { 200 };
            let distinct: HashSet<_> = (0..n).filter_map(draw).collect();
            assert!(20 * distinct.len() >= 19 * n as usize, "{}: {n}", family.name);
            assert_eq!(draw(3), draw(3), "{}", family.name);
        }
    }

    #[test]
    fn a_test_asks_for_no_color_that_nothing_shows() {
        for family in families() {
            let task = (0..50)
                .find_map(|i| sample_task(family, &mut rng(family, i), 3, 1, 20))
                .unwrap_or_else(|| panic!("{}: no task in 50", family.name));
            let mut shown = task.tests[0].input.palette();
            for (color, known) in shown.iter_mut().enumerate() {
                *known |= task.examples.iter().any(|e| e.output.palette()[color]);
            }
            let asked = task.tests[0].output.as_ref().unwrap().palette();
            assert!((0..10).all(|c| shown[c] || !asked[c]), "{}", family.name);
        }
    }

    #[test]
    fn a_composition_does_one_rule_and_then_the_other() {
        let first = family("color-map").unwrap();
        let second = family("upscale").unwrap();
        let mut n = 0;
        for i in 0..20 {
            let mut rng = rng(first, i);
            let attempt = (0..ATTEMPTS).find_map(|_| {
                let rule = composed_rule(first, second, &mut rng, 20)?;
                let examples = rule.pairs(&mut rng, 4, 20)?;
                Some((rule, examples))
            });
            let Some((rule, examples)) = attempt else { continue };
            n += 1;
            for e in &examples {
                assert_eq!(rule.apply(&e.input).as_ref(), Some(&e.output));
                assert!(e.output.height() > e.input.height());
            }
        }
        assert!(n > 15, "only {n} of 20");
    }
}
