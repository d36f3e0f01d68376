//! A rule with its constants fixed, and how examples that show it are drawn.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use crate::arc::{ColorPermutation, Dihedral, Example, Grid};

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
            unshown.or((self.required & !all != 0).then_some(0))
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
            let dull = shown[..n_examples].windows(2).all(same_output) && n_examples > 1;
            unshown.or((self.required & !known != 0 || dull).then_some(0))
        })
    }

    /// Draws examples and replaces the one that `fault` names, until it names none.
    fn draw_until_sound(
        &self,
        rng: &mut ChaCha8Rng,
        n: usize,
        max_side: usize,
        fault: impl Fn(&[Shown]) -> Option<usize>,
    ) -> Option<Vec<Example>> {
        let mut shown: Vec<Shown> = Vec::with_capacity(n);
        let mut replaced = 0;
        for _ in 0..40 + 12 * n {
            if shown.len() == n {
                let dull = n > 1 && shown.windows(2).all(same_output);
                let Some(index) = fault(&shown).or(dull.then_some(0)) else {
                    return Some(shown.into_iter().map(|s| s.example).collect());
                };
                // A fault of the set as a whole is put on the first; take each in turn.
                let index = if index == 0 { replaced % n } else { index };
                replaced += 1;
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
