//! The shape of an output, inferred from the shapes of the demonstrations.
//!
//! A rule speaks if it gives the right shape on every demonstration. If the outputs have the shape of their
//! inputs, that settles it. Otherwise all rules that speak must agree on the input at hand: where they
//! disagree, nothing is said, and the model's predicted PAD region decides. A wrong shape costs the task, a
//! silence costs little.

use serde::{Deserialize, Serialize};

use super::shape_features::{
    Shape, commonest_color, content, half_of_longer_side, largest_object, merged_lines,
    most_colorful_object, panel, panel_counts, rarest_color, tightest_color, times_colors,
};
use super::{Example, Grid, MAX_SIDE};

/// A way in which an output's shape follows from its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShapeRule {
    /// The input's shape.
    Same,
    /// One shape for all.
    Constant,
    /// Fixed multiples or fractions of the input's height and width.
    Ratio,
    /// A multiple or fraction of the input's sides, plus or minus a fixed number of rows and columns.
    Affine,
    /// Height and width change places.
    Swapped,
    /// Half of the input, cut across its longer side.
    HalfOfLongerSide,
    /// The input's shape times its number of colors besides the background.
    TimesColors,
    /// The input's shape with equal neighboring rows and columns merged.
    MergedLines,
    /// The rectangle around everything that is not background.
    Content,
    /// The object of one color with the most cells.
    LargestObject,
    /// The object with the most colors.
    MostColorfulObject,
    /// The extent of the color that covers the smallest rectangle.
    TightestColor,
    /// The extent of the most frequent color besides the background.
    CommonestColor,
    /// The extent of the least frequent color.
    RarestColor,
    /// The number of panels between separating lines.
    PanelCounts,
    /// One panel between separating lines.
    Panel,
}

impl ShapeRule {
    /// All rules, the most general first.
    pub const ALL: [ShapeRule; 16] = [
        ShapeRule::Same,
        ShapeRule::Constant,
        ShapeRule::Ratio,
        ShapeRule::Affine,
        ShapeRule::Swapped,
        ShapeRule::HalfOfLongerSide,
        ShapeRule::TimesColors,
        ShapeRule::MergedLines,
        ShapeRule::Content,
        ShapeRule::LargestObject,
        ShapeRule::MostColorfulObject,
        ShapeRule::TightestColor,
        ShapeRule::CommonestColor,
        ShapeRule::RarestColor,
        ShapeRule::PanelCounts,
        ShapeRule::Panel,
    ];

    /// The shape of the output for `input`, if the rule holds on all `examples` and gives a legal shape.
    pub fn predict(self, examples: &[Example], input: &Grid) -> Option<(usize, usize)> {
        let (height, width) = match self {
            ShapeRule::Constant => constant(examples)?,
            ShapeRule::Ratio => ratio(examples, input.shape())?,
            ShapeRule::Affine => affine(examples, input.shape())?,
            feature => {
                let holds = |e: &Example| feature.measure(&e.input) == Some(e.output.shape());
                if examples.is_empty() || !examples.iter().all(holds) {
                    return None;
                }
                feature.measure(input)?
            }
        };
        let legal = 1..=MAX_SIDE;
        (legal.contains(&height) && legal.contains(&width)).then_some((height, width))
    }

    /// The shape read off one input, for the rules that have nothing to fit.
    fn measure(self, input: &Grid) -> Option<Shape> {
        match self {
            ShapeRule::Same => Some(input.shape()),
            ShapeRule::Swapped => Some((input.width(), input.height())),
            ShapeRule::HalfOfLongerSide => half_of_longer_side(input),
            ShapeRule::TimesColors => times_colors(input),
            ShapeRule::MergedLines => merged_lines(input),
            ShapeRule::Content => content(input),
            ShapeRule::LargestObject => largest_object(input),
            ShapeRule::MostColorfulObject => most_colorful_object(input),
            ShapeRule::TightestColor => tightest_color(input),
            ShapeRule::CommonestColor => commonest_color(input),
            ShapeRule::RarestColor => rarest_color(input),
            ShapeRule::PanelCounts => panel_counts(input),
            ShapeRule::Panel => panel(input),
            ShapeRule::Constant | ShapeRule::Ratio | ShapeRule::Affine => None,
        }
    }
}

/// An output's shape and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferredShape {
    /// Height and width.
    pub shape: (usize, usize),
    /// The first rule of [`ShapeRule::ALL`] that gives it.
    pub rule: ShapeRule,
}

/// The shape of the output for `input`, or `None` if the demonstrations leave it open.
///
/// It does not depend on the view: a task shown turned and recolored gives the turned shape.
pub fn infer_shape(examples: &[Example], input: &Grid) -> Option<(usize, usize)> {
    infer_shape_with_rule(examples, input).map(|inferred| inferred.shape)
}

/// What [`infer_shape`] finds, with the rule that says it.
pub fn infer_shape_with_rule(examples: &[Example], input: &Grid) -> Option<InferredShape> {
    let mut found: Option<InferredShape> = None;
    for rule in ShapeRule::ALL {
        let Some(shape) = rule.predict(examples, input) else { continue };
        match found {
            None => found = Some(InferredShape { shape, rule }),
            Some(first) if first.shape != shape => return None,
            Some(_) => {}
        }
        if rule == ShapeRule::Same {
            break;
        }
    }
    found
}

/// The shape of every output, if they have the same.
fn constant(examples: &[Example]) -> Option<Shape> {
    let shape = examples.first()?.output.shape();
    examples.iter().all(|e| e.output.shape() == shape).then_some(shape)
}

/// The input's sides times the outputs' common ratio to their inputs.
fn ratio(examples: &[Example], (height, width): Shape) -> Option<Shape> {
    let first = examples.first()?;
    let scale = |side: usize, from: fn(&Grid) -> usize| {
        let (numerator, denominator) = (from(&first.output), from(&first.input));
        let common = |e: &Example| from(&e.output) * denominator == from(&e.input) * numerator;
        let scaled = side * numerator;
        (examples.iter().all(common) && scaled.is_multiple_of(denominator))
            .then(|| scaled / denominator)
    };
    Some((scale(height, Grid::height)?, scale(width, Grid::width)?))
}

/// Factors that [`affine`] tries, as numerator and denominator.
const AFFINE_FACTORS: [(i64, i64); 5] = [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3)];

/// The input's sides times a factor plus fixed offsets.
///
/// Two points always lie on a line, so that it takes three demonstrations, and outputs that differ.
fn affine(examples: &[Example], (height, width): Shape) -> Option<Shape> {
    if examples.len() < 3 || constant(examples).is_some() {
        return None;
    }
    AFFINE_FACTORS.iter().find_map(|&(numerator, denominator)| {
        let offset = |e: &Example, from: fn(&Grid) -> usize| {
            denominator * from(&e.output) as i64 - numerator * from(&e.input) as i64
        };
        let side = |side: usize, from: fn(&Grid) -> usize| {
            let b = offset(&examples[0], from);
            let scaled = numerator * side as i64 + b;
            let fits = examples.iter().all(|e| offset(e, from) == b) && scaled % denominator == 0;
            fits.then(|| usize::try_from(scaled / denominator).ok()).flatten()
        };
        Some((side(height, Grid::height)?, side(width, Grid::width)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{ColorPermutation, Dihedral, View};
    use proptest::prelude::*;

    fn blank(shape: Shape) -> Grid {
        Grid::filled(shape.0, shape.1, 0)
    }

    /// Examples of blank grids, which only the rules about shapes can read.
    fn shapes(pairs: &[(Shape, Shape)]) -> Vec<Example> {
        let example = |&(i, o)| Example { input: blank(i), output: blank(o) };
        pairs.iter().map(example).collect()
    }

    fn rule_for(pairs: &[(Shape, Shape)], test: Shape) -> Option<(ShapeRule, Shape)> {
        infer_shape_with_rule(&shapes(pairs), &blank(test)).map(|i| (i.rule, i.shape))
    }

    #[test]
    fn the_rules_about_shapes_speak_only_when_every_demonstration_agrees() {
        use ShapeRule::{Affine, Constant, Ratio, Same, Swapped};
        let check = |pairs: &[(Shape, Shape)], test, expected| {
            assert_eq!(rule_for(pairs, test), expected, "{pairs:?} on {test:?}");
        };
        check(&[((3, 4), (3, 4)), ((5, 5), (5, 5))], (9, 2), Some((Same, (9, 2))));
        // The same shape settles it, even where a constant one would say otherwise.
        check(&[((3, 3), (3, 3)), ((3, 3), (3, 3))], (9, 2), Some((Same, (9, 2))));
        check(&[((3, 4), (2, 2)), ((5, 5), (2, 2))], (9, 7), Some((Constant, (2, 2))));
        check(&[((2, 3), (4, 9)), ((4, 2), (8, 6))], (3, 3), Some((Ratio, (6, 9))));
        check(&[((6, 4), (3, 2)), ((2, 8), (1, 4))], (4, 4), Some((Ratio, (2, 2))));
        check(&[((6, 4), (3, 2)), ((2, 8), (1, 4))], (5, 4), None);
        check(&[((2, 3), (3, 2)), ((5, 4), (4, 5))], (7, 9), Some((Swapped, (9, 7))));
        let halves = [((5, 5), (2, 2)), ((7, 7), (3, 3)), ((11, 11), (5, 5))];
        check(&halves, (13, 9), Some((Affine, (6, 4))));
        check(&halves[..2], (13, 9), None);
        check(&halves, (12, 12), None);
        // Seen from equal inputs, a constant and a ratio look alike: they must agree, or be silent.
        check(&[((3, 3), (6, 6)), ((3, 3), (6, 6))], (3, 3), Some((Constant, (6, 6))));
        check(&[((3, 3), (6, 6)), ((3, 3), (6, 6))], (4, 4), None);
        check(&[((3, 3), (12, 12)), ((4, 4), (16, 16))], (9, 9), None); // 36×36 is no grid
        check(&[], (3, 3), None);
    }

    #[test]
    fn rules_that_disagree_say_nothing() {
        let rows = |text: &str| {
            let rows: Vec<Vec<u8>> =
                text.split('/').map(|r| r.bytes().map(|b| b - b'0').collect()).collect();
            Grid::from_rows(&rows).unwrap()
        };
        let examples = [
            Example { input: rows("0000/0110/0000"), output: blank((1, 2)) },
            Example { input: rows("00000/01000/01000"), output: blank((2, 1)) },
        ];
        let one_object = rows("000/111/000");
        let inferred = infer_shape_with_rule(&examples, &one_object);
        assert_eq!(inferred.map(|i| (i.rule, i.shape)), Some((ShapeRule::Content, (1, 3))));
        let two_objects = rows("1000/0000/0222");
        assert_eq!(infer_shape(&examples, &two_objects), None);
    }

    fn any_grid() -> impl Strategy<Value = Grid> {
        (1..7_usize, 1..7_usize).prop_flat_map(|(h, w)| {
            prop::collection::vec(prop_oneof![3 => Just(0_u8), 2 => 0..4_u8], h * w)
                .prop_map(move |cells| Grid::from_cells(h, w, cells).unwrap())
        })
    }

    proptest! {
        #[test]
        fn the_inferred_shape_does_not_depend_on_the_view(
            inputs in prop::collection::vec(any_grid(), 1..4),
            test in any_grid(),
            rule in 0..ShapeRule::ALL.len(),
            dihedral in 0..8_usize,
            seed: u64,
        ) {
            let mut rng = crate::rng::stream(seed, "", "shape", 0);
            let colors = ColorPermutation::random(&mut rng);
            let view = View { dihedral: Dihedral::ALL[dihedral], colors, order: Vec::new() };
            // Outputs that follow one of the rules, so that there is something to infer.
            let output = |grid: &Grid| match ShapeRule::ALL[rule].measure(grid) {
                Some((h, w)) if h.max(w) <= MAX_SIDE => blank((h, w)),
                _ => blank((2, 3)),
            };
            let examples: Vec<Example> = inputs
                .iter()
                .map(|input| Example { input: input.clone(), output: output(input) })
                .collect();
            let shown: Vec<Example> = examples.iter().map(|e| view.apply_example(e)).collect();
            prop_assert_eq!(
                infer_shape(&shown, &view.apply(&test)),
                infer_shape(&examples, &test).map(|s| view.dihedral.apply_shape(s))
            );
        }
    }
}
