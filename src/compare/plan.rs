//! What is to be compared: a file of variants, resolved to recipes and to the runs that they need.

use std::path::Path;

use serde::Deserialize;

use super::Reading;
use crate::engine::Family;
use crate::recipe::{Recipe, RecipeError, for_family};

/// The embedded comparisons, by name.
pub const COMPARISONS: [(&str, &str); 8] = [
    ("formats", include_str!("../../data/recipes/compare-formats.toml")),
    ("language", include_str!("../../data/recipes/compare-language.toml")),
    ("ablation-paper", include_str!("../../data/recipes/ablation-paper.toml")),
    ("ablation-scaling", include_str!("../../data/recipes/ablation-scaling.toml")),
    ("ablation-stopping", include_str!("../../data/recipes/ablation-stopping.toml")),
    ("ablation-scheduler", include_str!("../../data/recipes/ablation-scheduler.toml")),
    ("selectors", include_str!("../../data/recipes/compare-selectors.toml")),
    ("gain", include_str!("../../data/recipes/compare-gain.toml")),
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
    /// A variant whose time is shared among the tasks, and that has none.
    #[error(
        "the variant `{variant}` shares the time of all tasks (share = \"{share}\") and has none; give --budget, the mean, \
         or `seconds` in the file"
    )]
    NoTime {
        /// The variant's name.
        variant: String,
        /// How it shares the time.
        share: &'static str,
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
    share: Share,
    #[serde(default)]
    set: toml::Table,
    #[serde(default)]
    reads: Reading,
}

/// Who gets a variant's seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Each task as many; what it does not need is lost.
    #[default]
    Each,
    /// They are a mean: a task gets an even share of what all tasks have left when its turn comes.
    Even,
    /// They are a mean: the recipe's `[schedule]` gives the time of all tasks where it is worth most.
    Scheduled,
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
    /// Whether it states `fit.steps` itself, which a limit of the command then leaves alone.
    pub states_steps: bool,
    /// Wall seconds for each task.
    pub seconds: Option<f64>,
    /// Who gets them.
    pub share: Share,
    /// What it reads of its run.
    pub reads: Reading,
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
    /// The settings of the first of its variants. The vote is made anew for each of the others, which may have one of their
    /// own; unless the time was scheduled, which goes by what the vote chose.
    pub recipe: Recipe,
    /// Gradient steps for each task.
    pub steps: Option<usize>,
    /// Wall seconds for each task.
    pub seconds: Option<f64>,
    /// Who gets them.
    pub share: Share,
    /// The variants that read it, by index.
    pub variants: Vec<usize>,
}

impl Work {
    /// Whether a run with another vote has the same predictions. Which task gets time by a schedule depends on how hard it
    /// looks, and so on what was chosen.
    pub fn any_vote(&self) -> bool {
        self.share != Share::Scheduled
    }
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
            let WrittenVariant { name, steps, seconds, share, set, reads } = variant;
            if variants.iter().any(|other| other.name == name) {
                return Err(malformed(format!("two variants are called `{name}`; rename one")));
            }
            if seconds.is_some_and(|s| s.is_nan() || s <= 0.0) {
                return Err(malformed(format!("`{name}` has no time: `seconds` must be above 0")));
            }
            if reads.views == Some(0) {
                return Err(malformed(format!(
                    "`{name}` reads no view: `reads.views` must be above 0"
                )));
            }
            let fit = set.get("fit").and_then(toml::Value::as_table);
            let states_steps = fit.is_some_and(|fit| fit.contains_key("steps"));
            let mut overrides = overrides.to_vec();
            overrides.extend(assignments(&set, ""));
            let recipe = Recipe::resolve(&base, &overrides).map_err(|source_error| {
                let (origin, variant) = (source.to_owned(), name.clone());
                CompareError::Recipe { origin, variant, source: Box::new(source_error) }
            })?;
            variants.push(Variant { name, recipe, steps, states_steps, seconds, share, reads });
        }
        let baseline = match &written.baseline {
            None if variants.is_empty() => return Err(malformed("it has no [[variants]]".into())),
            None => 0,
            Some(name) => find(&variants, name, source)?,
        };
        Ok(Self { name, baseline, variants })
    }

    /// Gives steps and seconds to the variants that have no limits of their own: a variant's own word wins.
    ///
    /// # Errors
    /// [`CompareError::NoTime`] if time is to be shared that a variant does not have.
    pub fn limit(
        &mut self,
        steps: Option<usize>,
        seconds: Option<f64>,
    ) -> Result<(), CompareError> {
        for variant in &mut self.variants {
            if variant.steps.is_none() && variant.seconds.is_none() {
                variant.steps = steps.filter(|_| !variant.states_steps);
                variant.seconds = seconds;
            }
            if variant.share != Share::Each && variant.seconds.is_none() {
                let share = if variant.share == Share::Even { "even" } else { "scheduled" };
                return Err(CompareError::NoTime { variant: variant.name.clone(), share });
            }
        }
        Ok(())
    }

    /// Tests the others against this variant, in place of the file's.
    ///
    /// # Errors
    /// [`CompareError::NoVariant`].
    pub fn set_baseline(&mut self, name: &str) -> Result<(), CompareError> {
        self.baseline = find(&self.variants, name, &self.name)?;
        Ok(())
    }

    /// Leaves the variants of these names, and the baseline. What is no variant's name is taken as several, apart by commas.
    ///
    /// # Errors
    /// [`CompareError::NoVariant`].
    pub fn select(&mut self, names: &[String]) -> Result<(), CompareError> {
        let is_name = |text: &str| self.variants.iter().any(|v| v.name == text);
        let apart = |text: &String| match is_name(text) {
            true => vec![text.clone()],
            false => text.split(',').map(|name| name.trim().to_owned()).collect(),
        };
        let names: Vec<String> = names.iter().flat_map(apart).collect();
        for name in &names {
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
            let Variant { recipe, steps, seconds, share, .. } = variant.clone();
            let same = |work: &&mut Work| {
                let vote = if work.any_vote() { &work.recipe.vote } else { &recipe.vote };
                let recipe = Recipe { vote: vote.clone(), ..recipe.clone() };
                (work.steps, work.seconds, work.share) == (steps, seconds, share)
                    && work.recipe.fingerprint() == recipe.fingerprint()
            };
            match works.iter_mut().find(same) {
                Some(work) => work.variants.push(i),
                None => works.push(Work { recipe, steps, seconds, share, variants: vec![i] }),
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
        // A name may have a comma.
        let known: Vec<String> = variants.iter().map(|v| format!("`{}`", v.name)).collect();
        let (name, origin, known) = (name.to_owned(), origin.to_owned(), known.join(", "));
        CompareError::NoVariant { name, origin, known }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::FitFormat;
    use crate::vote::{Selector, VoteConfig};

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
    fn embedded_comparisons_share_the_runs_that_their_heads_say() {
        let runs = |name: &str| -> std::collections::BTreeSet<String> {
            let comparison = Comparison::read(name, None, &[], Family::Grid).unwrap();
            let works = comparison.works().into_iter();
            // A run is found again whatever its vote.
            let print =
                |work: Work| Recipe { vote: VoteConfig::default(), ..work.recipe }.fingerprint();
            works.map(print).collect()
        };
        let (formats, paper, stopping) =
            (runs("formats"), runs("ablation-paper"), runs("ablation-stopping"));
        assert!(formats.is_subset(&paper) && runs("selectors").is_subset(&formats));
        assert_eq!((paper.len(), stopping.len()), (16, 12));
        assert_eq!(stopping.intersection(&formats).count(), 3);
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
    fn variants_of_the_vote_and_of_what_it_reads_share_a_run() {
        let readers = |comparison: &Comparison| -> Vec<Vec<usize>> {
            comparison.works().into_iter().map(|work| work.variants).collect()
        };
        let mut comparison = read(THREE).unwrap();
        assert_eq!(readers(&comparison), [vec![0, 1], vec![2]]);
        comparison.variants[1].reads.views = Some(1);
        assert_eq!(readers(&comparison), [vec![0, 1], vec![2]]);
        comparison.variants[0].seconds = Some(3.0);
        assert_eq!(readers(&comparison).len(), 3, "other limits are other work");
        comparison.variants[1].seconds = Some(3.0);
        assert_eq!(readers(&comparison).len(), 2);
        for share in [Share::Even, Share::Scheduled] {
            comparison.variants[1].share = share;
            assert_eq!(readers(&comparison).len(), 3);
        }
        comparison.variants[0].share = Share::Even;
        comparison.variants[1].share = Share::Even;
        assert_eq!(readers(&comparison).len(), 2);
        comparison.variants[0].share = Share::Scheduled;
        comparison.variants[1].share = Share::Scheduled;
        assert_eq!(readers(&comparison).len(), 3, "the vote says who gets the time");
        comparison.variants[1].recipe.vote = comparison.variants[0].recipe.vote.clone();
        assert_eq!(readers(&comparison).len(), 2);
    }

    #[test]
    fn a_run_is_made_with_the_vote_of_its_first_variant() {
        let mut comparison = read(THREE).unwrap();
        let rules = |comparison: &Comparison| -> Vec<Selector> {
            comparison.works().iter().map(|work| work.recipe.vote.selector).collect()
        };
        assert_eq!(rules(&comparison), [Selector::Product, Selector::Sum]);
        comparison.variants.swap(0, 1);
        assert_eq!(rules(&comparison), [Selector::Sum; 2]);
    }

    #[test]
    fn what_is_read_is_written_beside_what_is_set() {
        let text = r#"
            [[variants]]
            name = "a"
            reads = { views = 4, stop = "beta", dihedrals = ["transpose"] }
        "#;
        let reads = read(text).unwrap().variants.remove(0).reads;
        let dihedrals = vec![crate::arc::Dihedral::Transpose];
        let stop = crate::candidate::ViewStop::Beta;
        assert_eq!(reads, Reading { views: Some(4), stop, dihedrals });
    }

    #[test]
    fn a_variant_s_own_limits_win_over_the_command_s() {
        let text = r#"
            [[variants]]
            name = "plain"
            [[variants]]
            name = "25 steps"
            set = { fit.steps = 25 }
            [[variants]]
            name = "own limit"
            steps = 7
            [[variants]]
            name = "own time"
            seconds = 5
        "#;
        let mut comparison = read(text).unwrap();
        comparison.limit(Some(100), Some(20.0)).unwrap();
        let limits: Vec<_> = comparison.variants.iter().map(|v| (v.steps, v.seconds)).collect();
        let expected =
            [(Some(100), Some(20.0)), (None, Some(20.0)), (Some(7), None), (None, Some(5.0))];
        assert_eq!(limits, expected);
        assert_eq!(comparison.variants[1].recipe.fit.steps, 25);
    }

    #[test]
    fn time_that_is_shared_must_be_there() {
        for share in ["even", "scheduled"] {
            let text = format!("[[variants]]\nname = 'a'\nshare = '{share}'");
            let error = read(&text).unwrap().limit(Some(9), None).unwrap_err().to_string();
            assert!(error.contains("`a`") && error.contains("--budget"), "{error}");
            read(&text).unwrap().limit(None, Some(9.0)).unwrap();
        }
    }

    #[test]
    fn a_selection_keeps_the_baseline() {
        let mut comparison = read(THREE).unwrap();
        comparison.select(&["TTT, sum".to_owned()]).unwrap();
        let names: Vec<_> = comparison.variants.iter().map(|v| v.name.as_str()).collect();
        assert_eq!((names, comparison.baseline), (vec!["TTT, sum", "none"], 1));
        let error = comparison.select(&["sun".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "there is no variant `sun` in mine; it has `TTT, sum`, `none`");
        comparison.set_baseline("TTT, sum").unwrap();
        assert_eq!(comparison.baseline, 0);
        assert!(comparison.set_baseline("sun").is_err());
    }

    #[test]
    fn names_are_apart_by_commas_where_the_whole_is_no_name() {
        let left = |names: &[&str]| -> Result<Vec<String>, String> {
            let mut comparison = read(THREE).unwrap();
            comparison.variants[1].name = "sum".into();
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            comparison.select(&names).map_err(|error| error.to_string())?;
            Ok(comparison.variants.into_iter().map(|variant| variant.name).collect())
        };
        assert_eq!(left(&["sum,none"]).unwrap(), ["sum", "none"]);
        assert_eq!(left(&["TTT, product", "sum, none"]).unwrap(), ["TTT, product", "sum", "none"]);
        assert!(left(&["sum,sun"]).unwrap_err().starts_with("there is no variant `sun`"));
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
        let blind = "[[variants]]\nname = 'a'\nreads = { views = 0 }";
        assert!(complaint(blind).contains("reads no view"));
        let error = Comparison::read("nowhere", None, &[], Family::Grid).unwrap_err().to_string();
        assert!(error.contains("ablation-paper"), "{error}");
    }
}
