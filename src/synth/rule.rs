//! A rule with its constants fixed, and how examples that show it are drawn.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use crate::arc::{ColorPermutation, Dihedral, Example, Grid};

use super::canvas::{between, chance};

type Draw = dyn Fn(&mut ChaCha8Rng) -> Option<Grid> + Send + Sync;
type Apply = dyn Fn(&Grid) -> Option<Grid> + Send + Sync;
type Features = dyn Fn(&Grid) -> u64 + Send + Sync;

/// One rule of a family: any number of inputs, and what the rule makes of each.
///
/// A rule says which of its *features* an input brings to light: bits, one for each part of the rule
/// (an entry of its color map, a branch of its condition). Nobody can infer a part that no demonstration
/// shows, so an example may only ask for features that the others show.
#[derive(Clone)]
pub struct Rule {
    draw: Arc<Draw>,
    apply: Arc<Apply>,
    features: Arc<Features>,
    required: u64,
    dihedral: Dihedral,
    colors: ColorPermutation,
}

/// An example with what it shows of its rule.
struct Shown {
    example: Example,
    features: u64,
    /// Colors of the output that are not in the input, as bits.
    new_colors: u16,
}

impl Rule {
    /// A rule from a way of drawing inputs and the function that it is.
    ///
    /// Both may decline (`None`) what the rule is not made for: a crowded scene, a tie.
    pub(super) fn new(
        draw: impl Fn(&mut ChaCha8Rng) -> Option<Grid> + Send + Sync + 'static,
        apply: impl Fn(&Grid) -> Option<Grid> + Send + Sync + 'static,
    ) -> Self {
        Self {
            draw: Arc::new(draw),
            apply: Arc::new(apply),
            features: Arc::new(|_| 0),
            required: 0,
            dihedral: Dihedral::Identity,
            colors: ColorPermutation::IDENTITY,
        }
    }

    /// States which features an input shows, in the low 32 bits.
    pub(super) fn showing(
        mut self,
        features: impl Fn(&Grid) -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.features = Arc::new(features);
        self
    }

    /// States the features that the demonstrations must show, whatever the test asks.
    pub(super) fn requiring(mut self, required: u64) -> Self {
        self.required = required;
        self
    }

    /// The same rule in a turned and recolored world.
    pub(super) fn seen_through(mut self, dihedral: Dihedral, colors: ColorPermutation) -> Self {
        self.dihedral = dihedral;
        self.colors = colors;
        self
    }

    /// This rule, and then `next` on what it makes; each must change what it is given.
    pub(super) fn then(self, next: Rule) -> Rule {
        let required = self.required | next.required << 32;
        let (first, last) = (Arc::new(self), Arc::new(next));
        let (source, watched) = (first.clone(), (first.clone(), last.clone()));
        let apply = move |grid: &Grid| {
            let middle = first.apply(grid).filter(|middle| middle != grid)?;
            last.apply(&middle).filter(|output| *output != middle && output != grid)
        };
        let features = move |grid: &Grid| {
            let (first, last) = &watched;
            let later = first.apply(grid).map_or(0, |middle| last.features(&middle));
            first.features(grid) & 0xffff_ffff | later << 32
        };
        Rule::new(move |rng| source.pair(rng).map(|pair| pair.input), apply)
            .showing(features)
            .requiring(required)
    }

    fn show(&self, grid: &Grid) -> Grid {
        self.colors.apply(&self.dihedral.apply(grid))
    }

    fn hide(&self, grid: &Grid) -> Grid {
        self.dihedral.inverse().apply(&self.colors.inverse().apply(grid))
    }

    /// What the rule makes of `input`; `None` where it does not say.
    pub fn apply(&self, input: &Grid) -> Option<Grid> {
        (self.apply)(&self.hide(input)).map(|output| self.show(&output))
    }

    fn features(&self, input: &Grid) -> u64 {
        (self.features)(&self.hide(input))
    }

    /// Draws one example; `None` if this attempt at one failed.
    pub fn pair(&self, rng: &mut ChaCha8Rng) -> Option<Example> {
        let is_blank = |grid: &Grid| grid.cells().len() > 1 && grid.cells().iter().all(|&c| c == 0);
        let input = (self.draw)(rng)?;
        let output = (self.apply)(&input)?;
        if output == input || is_blank(&input) || is_blank(&output) {
            return None;
        }
        Some(Example { input: self.show(&input), output: self.show(&output) })
    }

    fn shown(&self, rng: &mut ChaCha8Rng, max_side: usize) -> Option<Shown> {
        let example = self.pair(rng)?;
        let fits = |grid: &Grid| grid.height().max(grid.width()) <= max_side;
        if !fits(&example.input) || !fits(&example.output) {
            return None;
        }
        let (before, after) = (example.input.palette(), example.output.palette());
        let new_colors =
            (0..before.len()).filter(|&c| after[c] && !before[c]).fold(0, |bits, c| bits | 1 << c);
        Some(Shown { features: self.features(&example.input), new_colors, example })
    }

    /// Draws `n` examples of which any one can be inferred from the others.
    pub fn pairs(&self, rng: &mut ChaCha8Rng, n: usize, max_side: usize) -> Option<Vec<Example>> {
        self.draw_until_sound(rng, n, max_side, |shown| {
            let rest = |i: usize| (0..shown.len()).filter(move |&j| j != i);
            let unshown = (0..n).find(|&i| n > 1 && !told(shown, rest(i), i));
            let all = shown.iter().fold(0, |bits, s| bits | s.features);
            let lacking = self.required & !all != 0;
            unshown.map(Fault::At).or(lacking.then_some(Fault::Whole))
        })
    }

    /// Draws `n_examples` demonstrations and then `n_tests` tests that can be inferred from them.
    pub(super) fn examples_and_tests(
        &self,
        rng: &mut ChaCha8Rng,
        n_examples: usize,
        n_tests: usize,
        max_side: usize,
    ) -> Option<Vec<Example>> {
        let n = n_examples + n_tests;
        self.draw_until_sound(rng, n, max_side, |shown| {
            let known = shown[..n_examples].iter().fold(0, |bits, s| bits | s.features);
            let unshown = (n_examples..n).find(|&i| !told(shown, 0..n_examples, i));
            let dull = n_examples > 1 && shown[..n_examples].windows(2).all(same_output);
            let lacking = dull || self.required & !known != 0;
            unshown.map(Fault::At).or(lacking.then_some(Fault::Whole))
        })
    }

    /// Draws examples and replaces some until `fault` finds nothing to mend.
    fn draw_until_sound(
        &self,
        rng: &mut ChaCha8Rng,
        n: usize,
        max_side: usize,
        fault: impl Fn(&[Shown]) -> Option<Fault>,
    ) -> Option<Vec<Example>> {
        let mut shown: Vec<Shown> = Vec::with_capacity(n);
        for _ in 0..40 + 12 * n {
            if shown.len() == n {
                let dull = n > 1 && shown.windows(2).all(same_output);
                let index = match fault(&shown).or(dull.then_some(Fault::Whole)) {
                    None => return Some(shown.into_iter().map(|s| s.example).collect()),
                    // What one example asks for, another may come to show.
                    Some(Fault::At(index)) if chance(rng, 0.5) => index,
                    Some(_) => between(rng, 0, n - 1),
                };
                shown.swap_remove(index);
            }
            if let Some(new) = self.shown(rng, max_side)
                && shown.iter().all(|s| s.example.input != new.example.input)
            {
                shown.push(new);
            }
        }
        None
    }
}

/// What is wrong with a set of examples.
enum Fault {
    /// One example asks for what the others do not show.
    At(usize),
    /// The set as a whole does not show enough.
    Whole,
}

fn same_output(pair: &[Shown]) -> bool {
    pair[0].example.output == pair[1].example.output
}

/// True if the examples `from` show all that example `to` asks for.
fn told(shown: &[Shown], from: impl Iterator<Item = usize>, to: usize) -> bool {
    let (features, colors) = from.fold((0, 0), |(features, colors), i| {
        (features | shown[i].features, colors | shown[i].new_colors)
    });
    shown[to].features & !features == 0 && shown[to].new_colors & !colors == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::Color;
    use crate::rng::stream;
    use crate::synth::canvas::{between, color_bits, map_cells};

    /// Three cells in colors 1 to 4, and what `apply` makes of each color.
    fn rule(apply: impl Fn(Color) -> Color + Copy + Send + Sync + 'static) -> Rule {
        let draw = |rng: &mut ChaCha8Rng| {
            let cells = (0..3).map(|_| between(rng, 1, 4) as Color).collect();
            Some(Grid::from_cells(1, 3, cells).unwrap())
        };
        Rule::new(draw, move |grid| Some(map_cells(grid, apply)))
    }

    /// A rule of four parts, none of which shows in the colors of the output.
    fn parts() -> Rule {
        rule(|c| 5 - c).showing(color_bits)
    }

    fn shown<'a>(examples: impl IntoIterator<Item = &'a Example>) -> u64 {
        examples.into_iter().fold(0, |bits, e| bits | color_bits(&e.input))
    }

    #[test]
    fn every_example_asks_only_for_what_the_others_show() {
        for i in 0..50 {
            let examples = parts().pairs(&mut stream(0, "pairs", "", i), 4, 10).unwrap();
            for (k, one) in examples.iter().enumerate() {
                let others = examples.iter().enumerate().filter(|&(j, _)| j != k).map(|(_, e)| e);
                assert_eq!(shown([one]) & !shown(others), 0, "{examples:?}");
            }
        }
    }

    #[test]
    fn a_test_asks_only_for_what_the_demonstrations_show() {
        for i in 0..50 {
            let mut rng = stream(0, "tests", "", i);
            let all = parts().examples_and_tests(&mut rng, 2, 2, 10).unwrap();
            assert_eq!(shown(&all[2..]) & !shown(&all[..2]), 0, "{all:?}");
        }
    }

    #[test]
    fn a_test_asks_for_no_new_color_that_no_demonstration_has() {
        for i in 0..50 {
            let mut rng = stream(0, "colors", "", i);
            let all = rule(|c| c + 5).examples_and_tests(&mut rng, 2, 1, 10).unwrap();
            assert_eq!(shown(&all[2..]) & !shown(&all[..2]), 0, "{all:?}");
        }
    }

    #[test]
    fn the_demonstrations_show_what_is_required() {
        for i in 0..50 {
            let mut rng = stream(0, "required", "", i);
            let all = parts().requiring(0b11110).examples_and_tests(&mut rng, 3, 1, 10).unwrap();
            assert_eq!(shown(&all[..3]), 0b11110, "{all:?}");
        }
    }

    #[test]
    fn examples_differ_and_fit() {
        for i in 0..50 {
            let mut rng = stream(0, "differ", "", i);
            let examples = rule(|c| 5 - c).pairs(&mut rng, 4, 3).unwrap();
            assert!((0..4).all(|k| !examples[..k].contains(&examples[k])));
            assert!(rule(|c| 5 - c).pairs(&mut rng, 4, 2).is_none());
        }
    }

    #[test]
    fn both_rules_of_a_composition_have_an_effect() {
        let both = rule(|c| if c == 1 { 5 } else { c }).then(rule(|c| if c == 2 { 6 } else { c }));
        for i in 0..50 {
            let Some(example) = both.pair(&mut stream(0, "both", "", i)) else { continue };
            assert_eq!(color_bits(&example.input) & 0b110, 0b110, "{example:?}");
        }
    }

    #[test]
    fn a_rule_seen_through_a_symmetry_is_a_function_of_what_is_seen() {
        let mut rng = stream(0, "seen", "", 0);
        let colors = ColorPermutation::random(&mut rng);
        let seen = parts().seen_through(Dihedral::Rotate90, colors);
        for example in seen.pairs(&mut rng, 4, 10).unwrap() {
            assert_eq!(example.input.shape(), (3, 1));
            assert_eq!(seen.apply(&example.input), Some(example.output));
        }
    }
}
