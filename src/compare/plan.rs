//! What is to be compared: a file of variants, resolved to recipes and to the runs that they need.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::engine::Family;
use crate::recipe::{Recipe, RecipeError, for_family};
use crate::vote::VoteConfig;

/// The embedded comparisons, by name.
pub const COMPARISONS: [(&str, &str); 7] = [
    ("formats", include_str!("../../data/recipes/compare-formats.toml")),
    ("language", include_str!("../../data/recipes/compare-language.toml")),
    ("ablation-paper", include_str!("../../data/recipes/ablation-paper.toml")),
    ("ablation-scaling", include_str!("../../data/recipes/ablation-scaling.toml")),
    ("ablation-stopping", include_str!("../../data/recipes/ablation-stopping.toml")),
    ("ablation-scheduler", include_str!("../../data/recipes/ablation-scheduler.toml")),
    ("selectors", include_str!("../../data/recipes/compare-selectors.toml")),
];

/// Why a comparison cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Neither an embedded one nor a file.
    #[error("`{name}` is neither an embedded comparison ({known}) nor a file", known = names())]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// A file that cannot be read.
    #[error("cannot read the comparison {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that is not a comparison.
    #[error("{origin}: {problem}")]
    Malformed {
        /// The file or embedded comparison.
        origin: String,
        /// What is wrong, with its line.
        problem: String,
    },
    /// A variant whose recipe cannot be used.
    #[error("{origin}, variant `{variant}`: {source}")]
    Recipe {
        /// The file or embedded comparison.
        origin: String,
        /// The variant's name.
        variant: String,
        /// What is wrong with its recipe.
        source: Box<RecipeError>,
    },
    /// A variant that is asked for and not there.
    #[error("there is no variant `{name}` in {origin}; it has {known}")]
    NoVariant {
        /// What was asked for.
        name: String,
        /// The file or embedded comparison.
        origin: String,
        /// The variants there are.
        known: String,
    },
}

fn names() -> String {
    COMPARISONS.map(|(name, _)| name).join(", ")
}

/// A comparison as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    recipe: Option<String>,
    baseline: Option<String>,
    variants: Vec<WrittenVariant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenVariant {
    name: String,
    steps: Option<usize>,
    seconds: Option<f64>,
    #[serde(default)]
    scheduled: bool,
    #[serde(default)]
    set: toml::Table,
}

/// One row of a comparison: a name, a recipe, and what limits each task.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// How the tables call it.
    pub name: String,
    /// The settings.
    pub recipe: Recipe,
    /// Gradient steps for each task, where they are not the recipe's.
    pub steps: Option<usize>,
    /// Wall seconds for each task.
    pub seconds: Option<f64>,
    /// Whether these are a mean, and the schedule gives the time of all tasks where it is worth most.
    pub scheduled: bool,
}

/// The variants in order, each with everything resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The embedded name, or the file's.
    pub name: String,
    /// Which variant the others are tested against.
    pub baseline: usize,
    /// What is compared.
    pub variants: Vec<Variant>,
}

/// A run that one or more variants need.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// A name for its directory: the first variant's and a fingerprint.
    pub name: String,
    /// The settings, with the default vote: it changes nothing that the variants read.
    pub recipe: Recipe,
    /// Gradient steps for each task.
    pub steps: Option<usize>,
    /// Wall seconds for each task.
    pub seconds: Option<f64>,
    /// Whether these are a mean ([`Variant::scheduled`]).
    pub scheduled: bool,
    /// The variants that read it, by index.
    pub variants: Vec<usize>,
}

impl Comparison {
    /// Reads an embedded comparison or a file. `recipe` replaces the one that all variants start from, and
    /// `overrides` (`KEY=VALUE`) change it; what a variant states comes last.
    ///
    /// # Errors
    /// [`CompareError`], naming the file, the variant and the mend.
    pub fn read(
        source: &str,
        recipe: Option<&str>,
        overrides: &[String],
        family: Family,
    ) -> Result<Self, CompareError> {
        let embedded = COMPARISONS.iter().find(|(name, _)| *name == source);
        let path = Path::new(source);
        let (name, text) = match embedded {
            Some((name, text)) => ((*name).to_owned(), (*text).to_owned()),
            None if path.is_file() => {
                let unreadable = |e| CompareError::Unreadable { path: source.into(), source: e };
                let text = std::fs::read_to_string(path).map_err(unreadable)?;
                let stem = path.file_stem().unwrap_or(path.as_os_str());
                (stem.to_string_lossy().into_owned(), text)
            }
            None => return Err(CompareError::NotFound { name: source.to_owned() }),
        };
        let malformed =
            |problem: String| CompareError::Malformed { origin: source.into(), problem };
        let written: Written =
            toml::from_str(&text).map_err(|e| malformed(e.to_string().trim_end().to_owned()))?;
        // A recipe file is named from where the comparison lies.
        let base =
            written.recipe.map(|base| match path.parent().map(|folder| folder.join(&base)) {
                Some(beside) if embedded.is_none() && beside.is_file() => {
                    beside.display().to_string()
                }
                _ => base,
            });
        let base = for_family(recipe.or(base.as_deref()).unwrap_or("default"), family);
        let mut variants: Vec<Variant> = Vec::with_capacity(written.variants.len());
        for variant in written.variants {
            let WrittenVariant { name, steps, seconds, scheduled, set } = variant;
            if variants.iter().any(|other| other.name == name) {
                return Err(malformed(format!("two variants are called `{name}`; rename one")));
            }
            if seconds.is_some_and(|s| s.is_nan() || s <= 0.0) {
                return Err(malformed(format!("`{name}` has no time: `seconds` must be above 0")));
            }
            let mut overrides = overrides.to_vec();
            overrides.extend(assignments(&set, ""));
            let recipe = Recipe::resolve(&base, &overrides).map_err(|source_error| {
                let (origin, variant) = (source.to_owned(), name.clone());
                CompareError::Recipe { origin, variant, source: Box::new(source_error) }
            })?;
            variants.push(Variant { name, recipe, steps, seconds, scheduled });
        }
        let baseline = match &written.baseline {
            None if variants.is_empty() => return Err(malformed("it has no [[variants]]".into())),
            None => 0,
            Some(name) => find(&variants, name, source)?,
        };
        Ok(Self { name, baseline, variants })
    }

    /// Leaves the variants of these names, and the baseline.
    ///
    /// # Errors
    /// [`CompareError::NoVariant`].
    pub fn select(&mut self, names: &[String]) -> Result<(), CompareError> {
        for name in names {
            find(&self.variants, name, &self.name)?;
        }
        let baseline = self.variants[self.baseline].name.clone();
        self.variants.retain(|v| v.name == baseline || names.contains(&v.name));
        self.baseline = find(&self.variants, &baseline, &self.name)?;
        Ok(())
    }

    /// The runs that the variants need, in the order of the variants.
    pub fn works(&self) -> Vec<Work> {
        let mut works: Vec<Work> = Vec::new();
        for (i, variant) in self.variants.iter().enumerate() {
            let Variant { name, recipe, steps, seconds, scheduled } = variant.clone();
            let recipe = Recipe { vote: VoteConfig::default(), ..recipe };
            let same = |work: &&mut Work| {
                let limits = (work.steps, work.seconds, work.scheduled);
                limits == (steps, seconds, scheduled)
                    && work.recipe.fingerprint() == recipe.fingerprint()
            };
            match works.iter_mut().find(same) {
                Some(work) => work.variants.push(i),
                None => {
                    let name = directory_name(&name, &recipe, (steps, seconds, scheduled));
                    works.push(Work { name, recipe, steps, seconds, scheduled, variants: vec![i] });
                }
            }
        }
        works
    }
}

/// `KEY=VALUE` for every value of a table.
fn assignments(table: &toml::Table, prefix: &str) -> Vec<String> {
    let one = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Table(inner) => assignments(inner, &format!("{prefix}{key}.")),
        value => vec![format!("{prefix}{key}={value}")],
    };
    table.iter().flat_map(one).collect()
}

fn find(variants: &[Variant], name: &str, origin: &str) -> Result<usize, CompareError> {
    variants.iter().position(|v| v.name == name).ok_or_else(|| {
        let known: Vec<&str> = variants.iter().map(|v| v.name.as_str()).collect();
        let (name, origin, known) = (name.to_owned(), origin.to_owned(), known.join(", "));
        CompareError::NoVariant { name, origin, known }
    })
}

/// The first variant's name in plain letters, and a fingerprint of what makes the run.
fn directory_name(
    name: &str,
    recipe: &Recipe,
    limits: (Option<usize>, Option<f64>, bool),
) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let words: String = name.chars().map(plain).collect();
    let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
    let digest = Sha256::digest(format!("{} {limits:?}", recipe.fingerprint()));
    let fingerprint: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{fingerprint}", words.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::FitFormat;
    use crate::vote::Selector;

    fn read(text: &str) -> Result<Comparison, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, text).unwrap();
        let name = path.to_str().unwrap();
        let read = Comparison::read(name, None, &["lora.rank=4".to_owned()], Family::Grid);
        read.map_err(|e| e.to_string().replace(name, "mine.toml"))
    }

    const THREE: &str = r#"
        recipe = "fast"
        baseline = "none"
        [[variants]]
        name = "TTT, product"
        set = { vote.selector = "product", lora.rank = 8 }
        [[variants]]
        name = "TTT, sum"
        set = { vote.selector = "sum", lora.rank = 8 }
        [[variants]]
        name = "none"
        set = { fit.format = "none" }
    "#;

    #[test]
    fn every_embedded_comparison_resolves_and_its_baseline_is_there() {
        let all = COMPARISONS.map(|(name, _)| (name, Family::Grid));
        for (name, family) in all.into_iter().chain([("language", Family::Llama)]) {
            let comparison = Comparison::read(name, None, &[], family).unwrap();
            assert!(comparison.variants.len() >= 4, "{name}");
            assert!(comparison.baseline < comparison.variants.len());
        }
    }

    #[test]
    fn a_variant_states_what_differs_and_overrides_give_way_to_it() {
        let comparison = read(THREE).unwrap();
        assert_eq!((comparison.name.as_str(), comparison.baseline), ("mine", 2));
        let [product, sum, none] = comparison.variants.try_into().unwrap();
        assert_eq!((product.recipe.lora.rank, none.recipe.lora.rank), (8, 4));
        assert_eq!(sum.recipe.vote.selector, Selector::Sum);
        assert_eq!(none.recipe.fit.format, FitFormat::None);
        assert_eq!(
            none.recipe.views.count,
            Recipe::resolve::<&str>("fast", &[]).unwrap().views.count
        );
    }

    #[test]
    fn variants_of_the_vote_share_a_run_and_its_directory_does_not_depend_on_their_order() {
        let comparison = read(THREE).unwrap();
        let works = comparison.works();
        let readers: Vec<_> = works.iter().map(|work| work.variants.clone()).collect();
        assert_eq!(readers, [vec![0, 1], vec![2]]);
        assert!(works[0].name.starts_with("ttt-product-"), "{}", works[0].name);
        let mut turned = comparison.clone();
        turned.variants.swap(0, 1);
        let turned = turned.works();
        assert_eq!(turned[0].recipe.fingerprint(), works[0].recipe.fingerprint());
        let mut longer = comparison;
        longer.variants[0].seconds = Some(3.0);
        assert_eq!(longer.works().len(), 3, "other limits are other work");
        longer.variants[1].seconds = Some(3.0);
        assert_eq!(longer.works().len(), 2);
        longer.variants[1].scheduled = true;
        let works = longer.works();
        assert!(works.len() == 3 && works[0].name != works[1].name);
    }

    #[test]
    fn a_selection_keeps_the_baseline() {
        let mut comparison = read(THREE).unwrap();
        comparison.select(&["TTT, sum".to_owned()]).unwrap();
        let names: Vec<_> = comparison.variants.iter().map(|v| v.name.as_str()).collect();
        assert_eq!((names, comparison.baseline), (vec!["TTT, sum", "none"], 1));
        let error = comparison.select(&["sun".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "there is no variant `sun` in mine; it has TTT, sum, none");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let complaint = |text: &str| read(text).unwrap_err();
        assert!(complaint("variants = []").contains("it has no [[variants]]"));
        let twice = "[[variants]]\nname = 'a'\n[[variants]]\nname = 'a'";
        assert!(complaint(twice).contains("two variants are called `a`"));
        let key = "[[variants]]\nname = 'a'\nset = { fit.learning_rte = 1 }";
        let error = complaint(key);
        assert!(error.starts_with("mine.toml, variant `a`: "), "{error}");
        assert!(error.contains("did you mean `fit.learning_rate`?"), "{error}");
        assert!(complaint("[[variants]]\nname = 'a'\nseconds = 0.0").contains("above 0"));
        assert!(complaint("[[variants]]\nnam = 'a'").contains("unknown field"));
        let error = Comparison::read("nowhere", None, &[], Family::Grid).unwrap_err().to_string();
        assert!(error.contains("ablation-paper"), "{error}");
    }
}
