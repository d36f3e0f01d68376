//! The one settings struct of a run, composed of the stages' own.
//!
//! A recipe is a TOML file. `data/recipes/default.toml` states every key with a comment; the other presets,
//! and files of users, state what differs. A run keeps its resolved recipe, complete.

mod error;
mod layer;
mod validate;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use error::RecipeError;

use crate::adapter::{FitConfig, LoraConfig};
use crate::candidate::{CandidateConfig, ViewsConfig};
use crate::dataset::DatasetConfig;
use crate::effort::ScheduleConfig;
use crate::engine::{DecodeConfig, Family, FitPlan, LanguageConfig};
use crate::vote::VoteConfig;

/// The embedded recipes, by name.
pub const PRESETS: [(&str, &str); 9] = [
    ("default", include_str!("../../data/recipes/default.toml")),
    ("fast", include_str!("../../data/recipes/fast.toml")),
    ("paper", include_str!("../../data/recipes/paper.toml")),
    ("poe", include_str!("../../data/recipes/poe.toml")),
    ("llama-default", include_str!("../../data/recipes/llama-default.toml")),
    ("llama-fast", include_str!("../../data/recipes/llama-fast.toml")),
    ("llama-paper", include_str!("../../data/recipes/llama-paper.toml")),
    ("llama-poe", include_str!("../../data/recipes/llama-poe.toml")),
    ("llama-nvarc", include_str!("../../data/recipes/llama-nvarc.toml")),
];

/// The recipe that a name means for a model of that family: `paper` is `llama-paper` for a language model.
pub fn for_family(name: &str, family: Family) -> String {
    let own = format!("llama-{name}");
    let is_preset = PRESETS.iter().any(|(preset, _)| *preset == own);
    if family == Family::Llama && is_preset { own } else { name.to_owned() }
}

/// Everything that decides a run's results, besides the tasks, the model and the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// How reports call it.
    pub name: String,
    /// Root of all random streams; below 2⁶³, which is what TOML can hold.
    pub seed: u64,
    /// The models that it is for.
    pub family: Family,
    /// How episodes are made.
    pub dataset: DatasetConfig,
    /// The adapter's shape.
    pub lora: LoraConfig,
    /// The optimization.
    pub fit: FitConfig,
    /// The views under which tests are predicted.
    pub views: ViewsConfig,
    /// What concerns language models alone.
    pub language: LanguageConfig,
    /// How language models write their answers.
    pub decode: DecodeConfig,
    /// How candidates are made of the predictions.
    pub candidates: CandidateConfig,
    /// How the attempts are chosen from them.
    pub vote: VoteConfig,
    /// How a run's time is given to its tasks, where it is not shared out evenly.
    pub schedule: ScheduleConfig,
}

impl Recipe {
    /// Reads a preset or a recipe file, lays it over what it extends, applies the overrides
    /// (`KEY=VALUE`, later ones win) and checks the whole.
    ///
    /// # Errors
    /// [`RecipeError`], naming the key, its value and the mend.
    ///
    /// # Example
    /// ```
    /// use arc_ttt::recipe::Recipe;
    ///
    /// let recipe = Recipe::resolve("fast", &["fit.learning_rate=1e-3"])?;
    /// assert_eq!(recipe.fit.learning_rate, 1e-3);
    ///
    /// let error = Recipe::resolve("fast", &["fit.learning_rte=1e-3"]).unwrap_err();
    /// assert!(error.to_string().contains("did you mean `fit.learning_rate`?"));
    /// # Ok::<(), arc_ttt::recipe::RecipeError>(())
    /// ```
    pub fn resolve<S: AsRef<str>>(source: &str, overrides: &[S]) -> Result<Recipe, RecipeError> {
        let mut settings = layer::load(source)?;
        for text in overrides {
            layer::set(&mut settings, text.as_ref())?;
        }
        layer::read_text_format(&mut settings)?;
        let recipe = settings.try_into::<Recipe>().map_err(|e| RecipeError::Impossible {
            key: "the recipe".into(),
            value: "not complete".into(),
            allowed: e.message().to_owned(),
        })?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The complete recipe as TOML; resolving it gives the same recipe.
    ///
    /// # Panics
    /// If the seed is too large for TOML, which [`Recipe::validate`] refuses.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are tables, lists, texts and numbers that TOML has")
    }

    /// The fit that these settings ask for, of a fresh adapter.
    pub fn fit_plan(&self) -> FitPlan<'_> {
        let Self { dataset, lora, fit, seed, .. } = self;
        FitPlan { dataset, lora, fit, seed: *seed, start: None }
    }

    /// SHA-256, in hex, of all settings but the name, as JSON with sorted keys.
    ///
    /// Two recipes with one fingerprint give the same results.
    pub fn fingerprint(&self) -> String {
        let mut value = serde_json::to_value(self).expect("settings have a JSON form");
        value.as_object_mut().expect("a recipe is an object").remove("name");
        value.sort_all_objects();
        let digest = Sha256::digest(value.to_string());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Default for Recipe {
    /// The preset `default`.
    fn default() -> Self {
        Recipe::resolve::<&str>("default", &[]).expect("the embedded presets are tested")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::FitFormat;
    use crate::dataset::{Augmenter, LossOn, Sampling};
    use crate::engine::DecodeMethod;
    use crate::text::FormatChoice;
    use crate::vote::Selector;

    fn preset(name: &str) -> Recipe {
        Recipe::resolve::<&str>(name, &[]).unwrap()
    }

    /// Resolves a recipe file with that text, and gives the error as a user sees it.
    fn complaint(text: &str, overrides: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, text).unwrap();
        let error = Recipe::resolve(path.to_str().unwrap(), overrides).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "mine.toml")
    }

    #[test]
    fn every_preset_is_named_as_its_file_and_comes_back_from_its_own_text() {
        let folder = tempfile::tempdir().unwrap();
        for (name, _) in PRESETS {
            let recipe = preset(name);
            assert_eq!(recipe.name, name);
            let path = folder.path().join("saved.toml");
            std::fs::write(&path, recipe.to_toml()).unwrap();
            let back = Recipe::resolve::<&str>(path.to_str().unwrap(), &[]).unwrap();
            assert_eq!(back, recipe);
            assert_eq!(back.fingerprint(), recipe.fingerprint());
        }
    }

    #[test]
    fn the_default_recipe_states_every_key() {
        let stated: toml::Table = PRESETS[0].1.parse().unwrap();
        let complete: toml::Table = Recipe::default().to_toml().parse().unwrap();
        let sorted = |table| {
            let mut keys = layer::leaves(table, "");
            keys.sort();
            keys
        };
        assert_eq!(sorted(&stated), sorted(&complete));
    }

    #[test]
    fn the_paper_preset_has_the_numbers_of_the_paper() {
        let paper = preset("paper");
        assert_eq!(paper.dataset.sampling, Sampling::Finite);
        assert_eq!(paper.dataset.augmenters, Augmenter::ALL);
        assert_eq!(paper.dataset.loss_on, LossOn::OutputsFrom(2));
        assert_eq!((paper.dataset.max_items, paper.dataset.batch_size), (250, 2));
        assert_eq!((paper.lora.rank, paper.lora.alpha), (128, 16.0));
        assert_eq!((paper.fit.learning_rate, paper.fit.warmup), (5e-5, 0.1));
        let steps = paper.dataset.epochs * paper.dataset.max_items / paper.dataset.batch_size;
        assert_eq!(paper.fit.steps, steps);
        assert_eq!(paper.vote.selector, Selector::Hierarchical);
    }

    #[test]
    fn the_poe_preset_has_the_numbers_of_its_paper() {
        let poe = preset("poe");
        assert_eq!(poe.dataset.sampling, Sampling::Ordered);
        assert_eq!(poe.fit.steps as f64 * poe.fit.warmup, 32.0);
        assert!(poe.lora.rank_stabilized);
        assert_eq!(poe.lora.scale(), 16.0 / 32f32.sqrt());
        assert_eq!((poe.views.count, poe.views.dihedrals.len()), (16, 8));
        assert_eq!(poe.vote.selector, Selector::Product);
    }

    #[test]
    fn the_language_models_presets_have_the_numbers_of_their_papers() {
        let paper = preset(&for_family("paper", Family::Llama));
        assert_eq!((paper.lora.rank, paper.lora.alpha, paper.fit.max_tokens), (128, 16.0, 8192));
        let targets = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"];
        assert_eq!(paper.lora.target_modules, targets);
        assert_eq!((paper.fit.learning_rate, paper.fit.warmup, paper.fit.steps), (5e-5, 0.1, 250));
        assert_eq!(paper.dataset, DatasetConfig { max_cells: 0, ..preset("paper").dataset });
        assert_eq!(paper.decode.method, DecodeMethod::Greedy);
        let poe = preset("llama-poe");
        assert_eq!((poe.lora.rank, poe.lora.alpha, poe.fit.steps), (32, 16.0, 64));
        assert_eq!((poe.decode.method, poe.decode.threshold), (DecodeMethod::Search, 0.09));
        let nvarc = preset("llama-nvarc");
        assert_eq!((nvarc.lora.rank, nvarc.lora.alpha, nvarc.fit.steps), (256, 32.0, 128));
        assert_eq!((nvarc.fit.learning_rate, nvarc.decode.threshold), (5e-5, 0.2));
        assert_eq!(nvarc.dataset.loss_on, LossOn::OutputsFrom(1));
        for name in ["default", "fast", "paper", "poe", "nvarc"] {
            assert_eq!(preset(&for_family(name, Family::Llama)).family, Family::Llama);
        }
        assert_eq!(for_family("paper", Family::Grid), "paper");
        assert_eq!(for_family("mine.toml", Family::Llama), "mine.toml");
    }

    #[test]
    fn the_vote_has_one_default() {
        assert_eq!(crate::vote::VoteConfig::default(), Recipe::default().vote);
    }

    #[test]
    fn what_belongs_to_the_other_family_is_refused() {
        let check = |source: &str, set: &str, expected: &str| {
            let error = Recipe::resolve(source, &[set]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(
            "llama-default",
            "lora.target_modules=qkv_proj",
            "the layers are embed_tokens, q_proj",
        );
        check("llama-default", "fit.method=full", "language models are fitted by LoRA alone");
        check("default", "dataset.loss_on=outputs-from-1", "the first has nothing to be read from");
        check("llama-default", "language.text_format=papr", "did you mean `paper`?");
        check("llama-default", "decode.threshold=0", "must be above 0");
        check("llama-default", "decode.temperature=0", "must be above 0");
    }

    #[test]
    fn overrides_are_typed_by_their_key_and_the_last_one_wins() {
        let recipe = Recipe::resolve(
            "default",
            &[
                "fit.steps=7",
                "fit.steps = 2e3",
                "fit.learning_rate=1",
                "fit.format=icl",
                "fit.betas=0, 0.5",
                "lora.target_modules=qkv_proj,o_proj",
                "lora.rank_stabilized=true",
                "dataset.augmenters=[\"scale\"]",
                "dataset.loss_on=\"outputs-from-3\"",
                "name=a=b",
            ],
        );
        let recipe = recipe.unwrap();
        assert_eq!(recipe.fit.steps, 2000);
        assert_eq!(recipe.fit.learning_rate, 1.0);
        assert_eq!(recipe.fit.format, FitFormat::Icl);
        assert_eq!(recipe.fit.betas, [0.0, 0.5]);
        assert_eq!(recipe.lora.target_modules, ["qkv_proj", "o_proj"]);
        assert!(recipe.lora.rank_stabilized);
        assert_eq!(recipe.dataset.augmenters, [Augmenter::Scale]);
        assert_eq!(recipe.dataset.loss_on, LossOn::OutputsFrom(3));
        assert_eq!(recipe.name, "a=b");
    }

    #[test]
    fn a_file_states_what_differs_from_what_it_extends() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        write("base.toml", "extends = \"poe\"\n[fit]\nsteps = 8\n[lora]\nrank = 2");
        let path = write("child.toml", "extends = \"base.toml\"\n[fit]\nsteps = 9");
        let child = Recipe::resolve::<&str>(&path, &[]).unwrap();
        assert_eq!((child.fit.steps, child.lora.rank), (9, 2));
        let expected = Recipe { name: "child".into(), ..preset("poe") };
        let lora = LoraConfig { rank: 2, ..expected.lora.clone() };
        let fit = FitConfig { steps: 9, ..expected.fit.clone() };
        assert_eq!(child, Recipe { lora, fit, ..expected });

        let plain = Recipe::resolve::<&str>(&write("plain.toml", ""), &[]).unwrap();
        assert_eq!(plain, Recipe { name: "plain".into(), ..Recipe::default() });

        write("a.toml", "extends = \"b.toml\"");
        let path = write("b.toml", "extends = \"a.toml\"");
        let error = Recipe::resolve::<&str>(&path, &[]).unwrap_err();
        assert!(matches!(error, RecipeError::Circle(_)), "{error}");
    }

    #[test]
    fn a_text_format_of_the_user_s_becomes_part_of_the_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        let compact = include_str!("../../data/formats/compact.toml");
        let format = compact.replace("\"compact\"", "\"mine\"");
        write("format.toml", &format);
        let set = format!("language.text_format={}", path("format.toml"));
        let resolve = |source: &str, sets: &[&str]| Recipe::resolve(source, sets).unwrap();
        let recipe = resolve("llama-default", &[&set]);
        let FormatChoice::Own(own) = &recipe.language.text_format else { panic!("a name") };
        assert_eq!((own.name.as_str(), own.prologue.as_str()), ("mine", "{bos}"));
        // What has been read counts, whatever becomes of the file.
        write("saved.toml", &recipe.to_toml());
        write("format.toml", &format.replace("{bos}", "").replace("own_vocabulary = true", ""));
        let saved = resolve(&path("saved.toml"), &[]);
        assert_eq!((&saved, saved.fingerprint()), (&recipe, recipe.fingerprint()));
        let other = resolve("llama-default", &[&set]);
        assert_ne!(other.fingerprint(), recipe.fingerprint());
        // A format is replaced as a whole: by another, by its name, and by a recipe that extends this one.
        assert_eq!(resolve(&path("saved.toml"), &[&set]).language, other.language);
        let named = resolve(&path("saved.toml"), &["language.text_format=paper"]);
        assert_eq!(named.language.text_format, "paper".into());
        let table = other.to_toml().parse::<toml::Table>().unwrap()["language"].to_string();
        let inline = format!("extends = \"saved.toml\"\nlanguage = {table}");
        write("inline.toml", &inline);
        assert_eq!(resolve(&path("inline.toml"), &[]).language, other.language);
    }

    #[test]
    fn text_formats_that_cannot_be_used_are_named_with_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("format.toml");
        let check = |text: &str, expected: &[&str]| {
            std::fs::write(&path, text).unwrap();
            let set = format!("language.text_format={}", path.display());
            let error = Recipe::resolve("llama-default", &[set]).unwrap_err().to_string();
            for part in [&["`language.text_format` in ", "format.toml: "], expected].concat() {
                assert!(error.contains(part), "{part}: {error}");
            }
        };
        let compact = include_str!("../../data/formats/compact.toml");
        let mine = compact.replace("\"compact\"", "\"mine\"");
        check("[grid", &["TOML parse error at line 1", "keys of data/formats/paper.toml"]);
        check(&mine.replace("prologue", "prolog"), &["unknown field `prolog`", "`prologue`"]);
        check(&mine.replace("close = \"\"\n", ""), &["missing field `close`"]);
        check(&mine.replace("\"9\"]", "\"9\", \"x\"]"), &["invalid length 11", "the ten colors"]);
        check(&mine.replace(", \"9\"]", "]"), &["invalid length 9", "the ten colors"]);
        check(&mine.replace("\"7\"", "\"1\""), &["color 1", "change one of them in `grid.cells`"]);
        check(&mine.replace("\"\\n\"", "\"\""), &["change `grid.between_rows`"]);
        check(&compact.replace("{bos}", ""), &["`compact` is not the built-in one of this name"]);
        let error = Recipe::resolve("llama-default", &["language.text_format=no.toml"]);
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read the text format no.toml, which `language."),
            "{error}"
        );
        let inline = "extends = \"llama-default\"\n[language.text_format]\nname = \"mine\"";
        let error = complaint(inline, &[]);
        assert!(
            error.starts_with("`language.text_format` in mine.toml: no text format"),
            "{error}"
        );
        assert!(error.contains("missing field"), "{error}");
        let error = Recipe::resolve("llama-default", &["language.text_format=unheard-of"]);
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("barc, compact; a file's name ends in .toml"), "{error}");
    }

    #[test]
    fn the_fingerprint_follows_the_settings_and_not_the_name() {
        let print = |set: &[&str]| Recipe::resolve("default", set).unwrap().fingerprint();
        let first = print(&[]);
        assert_eq!(first.len(), 64);
        assert_eq!(first, print(&["name=other"]));
        assert_eq!(first, print(&["fit.learning_rate=0.004"]));
        for set in ["seed=1", "fit.steps=1999", "lora.alpha=64.5", "dataset.dihedrals=false"] {
            assert_ne!(first, print(&[set]), "{set}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_mend() {
        let check = |text: &str, expected: &str| assert_eq!(complaint(text, &[]), expected);
        check(
            "[fit]\nlearning_rte = 1.0",
            "mine.toml sets the unknown key `fit.learning_rte`; did you mean `fit.learning_rate`?",
        );
        check("rank = 3", "mine.toml sets the unknown key `rank`; did you mean `lora.rank`?");
        check(
            "[lora]\ndropout = 0.1",
            "mine.toml sets the unknown key `lora.dropout`; the keys there are alpha, rank, \
             rank_stabilized, target_modules",
        );
        check("[fitt]\nsteps = 3", "mine.toml sets the unknown key `fitt`; did you mean `fit`?");
        check(
            "[episode]\nuntold = 0.1",
            "mine.toml sets the unknown key `episode`; such keys are those of `arc-ttt pretrain`",
        );
        check(
            "baseline = \"none\"",
            "mine.toml sets the unknown key `baseline`; such keys make a comparison: `arc-ttt compare FILE TASKS`",
        );
        check("fit = 3", "mine.toml sets `fit` to 3, but it takes keys of its own");
        check(
            "[fit]\nsteps = \"many\"",
            "mine.toml sets `fit.steps` to \"many\", but it takes a whole number",
        );
        check(
            "[fit]\nsteps = 1.5",
            "mine.toml sets `fit.steps` to 1.5, but it takes a whole number",
        );
        check("[fit]\nwarmup = true", "mine.toml sets `fit.warmup` to true, but it takes a number");
        check(
            "[fit]\nbetas = [0.9, \"a\"]",
            "mine.toml sets `fit.betas` to [0.9, \"a\"], but it takes a list, each entry a number",
        );
        check("extends = 3", "mine.toml sets `extends` to 3, but it takes the name of a recipe");
        assert!(
            complaint("[fit", &[]).starts_with("mine.toml is not TOML: TOML parse error at line 1")
        );
    }

    #[test]
    fn impossible_values_are_named_with_what_is_allowed() {
        let check = |set: &str, expected: &str| {
            assert_eq!(Recipe::resolve("default", &[set]).unwrap_err().to_string(), expected);
        };
        check("fit.warmup=1.5", "`fit.warmup` is 1.5; it must be from 0 to 1");
        check("fit.warmup=nan", "`fit.warmup` is NaN; it must be from 0 to 1");
        check("fit.steps=0", "`fit.steps` is 0; it must be from 1 to 10000000");
        check("fit.steps=-3", "`fit.steps` is -3; it must be at least 0");
        check("fit.learning_rate=0", "`fit.learning_rate` is 0; it must be above 0 and at most 1");
        check("fit.betas=0.9,1", "`fit.betas` is 1; each must be from 0 to less than 1");
        for wrong in ["[0.9]", "[0.9, 0.99, 0.999]"] {
            let message = format!("`fit.betas` is {wrong}; it must be an array of length 2");
            check(&format!("fit.betas={wrong}"), &message);
        }
        check(
            "fit.format=ice",
            "`fit.format` is \"ice\"; it must be one of `none`, `icl`, `e2e`, `both`",
        );
        check("fit.method=ful", "`fit.method` is \"ful\"; it must be `lora` or `full`");
        check(
            "fit.check_every=0",
            "`fit.patience` is 6; but fit.check_every = 0 makes no checks to wait for; set that to \
             some steps, or this to 0",
        );
        check(
            "fit.matrix_learning_rate=0.01",
            "`fit.matrix_learning_rate` is 0.01; but only fit.method = \"full\" moves matrices by Muon; \
             set that, or this to 0",
        );
        check(
            "fit.hold_out_enough=0.9",
            "`fit.hold_out_enough` is 0.9; but fit.hold_out = 0 holds nothing out; set that to a share of the \
             fit, or this to 0",
        );
        check(
            "fit.scope=shared",
            "`fit.format` is \"e2e\"; but fit.scope = \"shared\" fits in-context episodes alone; set this to \"icl\"",
        );
        check("fit.hold_out=1", "`fit.hold_out` is 1; it must be from 0 to 0.9");
        check(
            "schedule.cap=0.1",
            "`schedule.cap` is 0.1; it must be at least schedule.floor (0.4)",
        );
        check(
            "schedule.gain.hard=0.1",
            "`schedule.gain.hard` is of length 1; it must have a chance for each of schedule.gain.steps (6)",
        );
        check(
            "schedule.gain.easy=0.5,0.4,0.6,0.6,0.6,0.6",
            "`schedule.gain.easy` is 0.4 after 0.5; chances must be from 0 to 1 and not fall",
        );
        check(
            "schedule.gain.steps=8,4",
            "`schedule.gain.steps` is 4 after 8; it must rise from above 0",
        );
        check("lora.rank=0", "`lora.rank` is 0; it must be from 1 to 4096");
        check("lora.alpha=-1", "`lora.alpha` is -1; it must be above 0 and at most 1000000");
        check(
            "lora.target_modules=qvk_proj",
            "`lora.target_modules` is \"qvk_proj\"; did you mean `qkv_proj`?",
        );
        check(
            "lora.target_modules=lm_head",
            "`lora.target_modules` is \"lm_head\"; the layers are qkv_proj, o_proj, up_proj, down_proj",
        );
        check(
            "lora.target_modules=[]",
            "`lora.target_modules` is []; name at least one layer, or set fit.format = \"none\"",
        );
        check("views.count=0", "`views.count` is 0; it must be from 1 to 100000");
        check(
            "views.colors=mixed",
            "`views.colors` is \"mixed\"; it must be one of `none`, `keep-zero`, `uniform`",
        );
        check(
            "views.dihedrals=transpose,transpose",
            "`views.dihedrals` is \"transpose\" twice; name each once",
        );
        check(
            "candidates.fresh_views=100001",
            "`candidates.fresh_views` is 100001; it must be from 0 to 100000",
        );
        check(
            "candidates.n_best.min_ratio=1.5",
            "`candidates.n_best.min_ratio` is 1.5; it must be from 0 to 1",
        );
        check(
            "candidates.n_best.limt=2",
            "the override candidates.n_best.limt=2 sets the unknown key `candidates.n_best.limt`; did you \
             mean `candidates.n_best.limit`?",
        );
        let error = Recipe::resolve("paper", &["vote.weights.icl=0"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`vote.weights.icl` is 0; nothing that this fit.format predicts would count; raise it"
        );
        check("vote.keep_ranks=1", "`vote.keep_ranks` is 1; it must be from 2 to 1000000");
        check("dataset.keep_zero=2", "`dataset.keep_zero` is 2; it must be from 0 to 1");
        check("dataset.max_items=0", "`dataset.max_items` is 0; it must be from 1 to 1000000");
        check(
            "dataset.augmenters=scale,scale",
            "`dataset.augmenters` is \"scale\" twice; name each once",
        );
        check(
            "dataset.loss_on=outputs-from-0",
            "`dataset.loss_on` is \"outputs-from-0\"; `outputs-from-0` is neither `test-output` nor \
             `outputs-from-K` with K of at least 1",
        );
        check(
            "lora.r=8",
            "the override lora.r=8 sets the unknown key `lora.r`; the keys there are alpha, rank, \
             rank_stabilized, target_modules",
        );
        check("steps", "`steps` is no override; write KEY=VALUE, such as fit.learning_rate=1e-4");
        check("=3", "`=3` is no override; write KEY=VALUE, such as fit.learning_rate=1e-4");
    }

    #[test]
    fn a_recipe_that_is_not_there_is_named_with_the_presets() {
        let check = |source: &str, expected: &str| {
            assert_eq!(Recipe::resolve::<&str>(source, &[]).unwrap_err().to_string(), expected);
        };
        check(
            "papr",
            "`papr` is neither a preset (default, fast, paper, poe, llama-default, llama-fast, llama-paper, \
             llama-poe, llama-nvarc) nor a file; did you mean `paper`?",
        );
        check(
            "nvarc",
            "`nvarc` is neither a preset (default, fast, paper, poe, llama-default, llama-fast, llama-paper, \
             llama-poe, llama-nvarc) nor a file; that one is for language models (--model)",
        );
        check("no/such.toml", "cannot read the recipe no/such.toml");
    }
}
