//! The method in words, from the recipe that was used.

use crate::adapter::{FitFormat, FitMethod, FitScope};
use crate::candidate::{ViewColors, ViewStop};
use crate::dataset::{ColorSampling, LossOn, Sampling};
use crate::engine::{DecodeMethod, Family};
use crate::recipe::Recipe;
use crate::run::Limits;
use crate::text::AUTO;
use crate::vote::Selector;

use super::Side;
use super::words::{count, list, seconds};

/// A step of the method: its name, and what is done.
pub(super) type Step = (&'static str, String);

/// What a run did with each task, in order.
pub(super) fn steps(side: &Side) -> Vec<Step> {
    let (recipe, model) = (&side.recipe, &side.run.identity.model);
    let mut steps = Vec::new();
    if recipe.fit.format == FitFormat::None {
        let text = format!(
            "None: {} reads the demonstrations in context and answers without any training.",
            model.name
        );
        steps.push(("Fit", text));
    } else {
        steps.push(("Adapter", adapter(recipe, &model.name)));
        steps.push(("Training data", data(recipe)));
        steps.push(("Fit", fit(recipe, &side.run.identity.limits)));
    }
    steps.push(("Views", views(recipe)));
    steps.push(("Candidates", candidates(recipe)));
    steps.push(("Vote", vote(recipe)));
    let Limits { total_seconds, evenly, .. } = side.run.identity.limits;
    if let Some(total) = total_seconds {
        let tasks = side.run.identity.own_tasks().len();
        let abstained = side.run.records.values().filter(|record| record.abstained).count();
        let text = if evenly {
            evenly_shared(total, tasks)
        } else {
            schedule(recipe, total, tasks, abstained)
        };
        steps.push(("Time", text));
    }
    steps
}

fn adapter(recipe: &Recipe, model: &str) -> String {
    if recipe.fit.method == FitMethod::Full {
        return format!("A copy of all weights of {model} is trained for each task anew.");
    }
    if recipe.fit.scope == FitScope::Shared {
        return format!(
            "One LoRA adapter of rank {} (alpha {}) on {} of {model} is fitted for all tasks together.",
            recipe.lora.rank,
            recipe.lora.alpha,
            list(&recipe.lora.target_modules)
        );
    }
    format!(
        "Each task gets a fresh LoRA adapter of rank {} (alpha {}) on {} of {model}, whose own weights stay frozen.",
        recipe.lora.rank,
        recipe.lora.alpha,
        list(&recipe.lora.target_modules)
    )
}

fn data(recipe: &Recipe) -> String {
    let config = &recipe.dataset;
    let is_llama = recipe.family == Family::Llama;
    let episodes = match (recipe.fit.format, config.sampling) {
        (FitFormat::E2e, _) if is_llama => {
            "Single demonstrations as text, each to be predicted from its input alone (end-to-end)."
        }
        (FitFormat::Both, _) if is_llama => {
            "Texts of demonstrations that predict another (leave-one-out), and single demonstrations, in \
             alternation."
        }
        (FitFormat::E2e, _) => {
            "Single demonstrations, each to be predicted from learned task tokens (end-to-end)."
        }
        (FitFormat::Both, _) => {
            "Leave-one-out episodes (a demonstration predicted from the others) and single demonstrations with \
             learned task tokens, in alternation."
        }
        (_, Sampling::Streaming) => {
            "Leave-one-out episodes: each demonstration in turn is predicted from the others."
        }
        (_, Sampling::Ordered) => {
            "The last demonstration of a random order is predicted from those before it."
        }
        (_, Sampling::Finite) => "A fixed list of leave-one-out items, gone through in epochs.",
    };
    let symmetries = if config.dihedrals && config.sampling != Sampling::Finite {
        "Every step draws one of the eight symmetries of the square; colors are "
    } else {
        "Colors are "
    };
    let colors = match config.colors {
        ColorSampling::None => "left as they are",
        ColorSampling::Uniform => "permuted at random",
        ColorSampling::KeepZero => "permuted at random, except 0",
        ColorSampling::Mixed => "left, permuted except 0, or all permuted, by chance",
        ColorSampling::PreferUnused => "exchanged for unused ones, except 0",
    };
    let augmenters = match (config.sampling, config.augment_probability > 0.0) {
        (Sampling::Finite, _) => {
            format!(" {} make further items.", count(config.augmenters.len(), "augmenter"))
        }
        (_, true) => format!(
            " With probability {} one of {} comes first.",
            config.augment_probability,
            count(config.augmenters.len(), "augmenter")
        ),
        _ => String::new(),
    };
    let loss = match config.loss_on {
        LossOn::OutputsFrom(k) if recipe.fit.format != FitFormat::E2e => {
            format!(" The loss also counts the demonstrations' outputs from number {k} on.")
        }
        _ => String::new(),
    };
    format!("{episodes} {symmetries}{colors}.{augmenters}{loss}")
}

fn fit(recipe: &Recipe, limits: &Limits) -> String {
    let steps = limits.steps.unwrap_or(recipe.fit.steps);
    let mut text = format!(
        "AdamW, peak learning rate {}, warmup and cosine decay, at most {} a task",
        recipe.fit.learning_rate,
        count(steps, "step")
    );
    if let Some(budget) = limits.budget_seconds {
        text += &format!(" and {} of wall time for everything", seconds(budget));
    }
    text.push('.');
    let checked = matches!(recipe.fit.format, FitFormat::Icl | FitFormat::Both);
    if checked && recipe.fit.check_every > 0 {
        text += &format!(
            " Every {} steps each demonstration is predicted from the others, as a check",
            recipe.fit.check_every
        );
        if recipe.fit.patience > 0 {
            text += &format!("; {} perfect ones in a row end the fit early", recipe.fit.patience);
        }
        text.push('.');
    }
    if recipe.fit.hold_out > 0.0 {
        text += &format!(
            " In the first {:.0} % one demonstration is left out, which then has to be predicted.",
            100.0 * recipe.fit.hold_out
        );
    }
    if recipe.fit.hold_out_enough > 0.0 {
        text += &format!(
            " Where at least {:.0} % of these predictions are exact, the rest is no longer than that part.",
            100.0 * recipe.fit.hold_out_enough
        );
    }
    if recipe.fit.converged_loss > 0.0 {
        text +=
            &format!(" A mean loss below {} nats a cell ends it too.", recipe.fit.converged_loss);
    }
    if recipe.fit.least_steps > 0 {
        let least = recipe.fit.least_steps;
        text += &format!(" Where there is no time for {least} steps the base model answers.");
    }
    text
}

fn views(recipe: &Recipe) -> String {
    let config = &recipe.views;
    if config.count == 1 {
        return "The test is predicted once, as it is.".to_owned();
    }
    let later = match (config.colors, config.orders) {
        (ViewColors::None, false) => "",
        (ViewColors::None, true) => "; later rounds also shuffle the demonstrations",
        (_, false) => "; later rounds also permute the colors",
        (_, true) => "; later rounds also permute the colors and shuffle the demonstrations",
    };
    let symmetries = match config.dihedrals.len() {
        0 | 1 => "one orientation".to_owned(),
        n => format!("{n} symmetries in turn"),
    };
    let stop = match config.stop {
        ViewStop::Never => "",
        ViewStop::Decided => {
            " It ends when the rest could not change the two grids that most views propose."
        }
        ViewStop::Beta => " It ends when most views agree, with 95 % confidence.",
    };
    format!(
        "Each test is predicted under up to {} views: {symmetries}{later}. Predictions are mapped back to the task's \
         own frame.{stop}",
        config.count
    )
}

fn candidates(recipe: &Recipe) -> String {
    let config = &recipe.candidates;
    let mut text = decoding(recipe) + "Every distinct grid that a view proposes";
    if config.n_best.limit > 0 {
        text += &format!(", up to {} more that it finds probable", config.n_best.limit);
    }
    if config.product {
        text += ", the cell-wise product of all views";
    }
    if config.majorities {
        text += ", row and column majorities";
    }
    text + &match config.fresh_views {
        0 => ". Each is scored under every view.".to_owned(),
        n => format!(". Each is scored under {} that proposed nothing.", count(n, "fresh view")),
    }
}

/// How a language model writes its answers; nothing for a grid model.
fn decoding(recipe: &Recipe) -> String {
    let config = &recipe.decode;
    let how = match config.method {
        _ if recipe.family == Family::Grid => return String::new(),
        DecodeMethod::Greedy => "token by token, the most probable one".to_owned(),
        DecodeMethod::Sample => format!(
            "the most probable, and {} drawn at temperature {}",
            config.samples, config.temperature
        ),
        DecodeMethod::Beam => {
            format!("the most probable, and the best of {}", count(config.beams, "beam"))
        }
        DecodeMethod::Search => format!(
            "every one with a probability above {}, found depth-first with at most {}",
            config.threshold,
            count(config.max_nodes, "step")
        ),
    };
    let format = match recipe.language.text_format.name() {
        AUTO => String::new(),
        name => format!(" in the format {name}"),
    };
    format!("Under each view whole grids are written as text{format}: {how}. ")
}

fn vote(recipe: &Recipe) -> String {
    let (name, what) = rule(recipe.vote.selector);
    format!("The two attempts are the best by {name}: {what}.")
}

fn evenly_shared(total: f64, tasks: usize) -> String {
    format!(
        "{} of wall time for {}: each gets the same share of what is left when its turn comes.",
        seconds(total),
        count(tasks, "task")
    )
}

fn schedule(recipe: &Recipe, total: f64, tasks: usize, abstained: usize) -> String {
    let config = &recipe.schedule;
    let share = |share: f64| format!("{:.0} %", 100.0 * share);
    format!(
        "{} of wall time for {}: each gets {} of the mean first; then a task at a time gets {} more, the one that is \
         expected to gain most by it, up to {} of the mean. From {} it abstains: after some visit they looked hopeless, and \
         are answered with what that gave.",
        seconds(total),
        count(tasks, "task"),
        share(config.floor),
        share(config.slice),
        share(config.cap),
        count(abstained, "task")
    )
}

/// A voting rule: its name, and how it ranks.
pub(super) fn rule(selector: Selector) -> (&'static str, &'static str) {
    match selector {
        Selector::Majority => ("majority", "the number of views that propose a grid"),
        Selector::Hierarchical => {
            ("hierarchical vote", "votes within each symmetry, then among their winners")
        }
        Selector::Sum => ("sum", "the sum of its probabilities under all views"),
        Selector::Product => {
            ("product of experts", "the product of its probabilities under all views")
        }
        Selector::Min => ("minimum", "its lowest probability under a view"),
        Selector::Max => ("maximum", "its highest probability under a view"),
        Selector::CountMeanLog => {
            ("count and mean log", "how many views find it, plus its mean log-probability")
        }
        Selector::Confidence => ("confidence", "the mean probability of one of its cells"),
        Selector::MbrExact => {
            ("Bayes risk, exact", "its share if each view spreads one vote over all grids")
        }
        Selector::MbrCells => {
            ("Bayes risk, cells", "the share of cells that it is expected to have right")
        }
        Selector::Pair => (
            "best pair",
            "the chance that it is right if the views are independent, or if one of them alone is right",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(steps: Option<usize>, budget_seconds: Option<f64>) -> Limits {
        Limits { budget_seconds, total_seconds: None, evenly: false, steps, memory_bytes: 1 }
    }

    #[test]
    fn the_words_follow_the_recipe() {
        let recipe = Recipe::resolve("default", &["fit.format=icl", "views.count=5"]).unwrap();
        assert!(adapter(&recipe, "grid-1M").contains("rank 32"));
        assert!(data(&recipe).starts_with("Leave-one-out"));
        let words = fit(&recipe, &limits(Some(7), Some(30.0)));
        assert!(words.contains("at most 7 steps a task and 30.0 s of wall time"), "{words}");
        assert!(words.contains("Every 50 steps"), "{words}");
        assert!(
            views(&recipe).contains("up to 5 views: 8 symmetries in turn"),
            "{}",
            views(&recipe)
        );
        let set = ["fit.hold_out=0.3", "fit.hold_out_enough=1"];
        let words = fit(&Recipe::resolve("default", &set).unwrap(), &limits(None, None));
        assert!(words.contains("In the first 30 % one demonstration is left out"), "{words}");
        assert!(words.contains("at least 100 % of these"), "{words}");
        let words = schedule(&Recipe::default(), 1800.0, 60, 7);
        assert!(words.contains("for 60 tasks: each gets 40 % of the mean"), "{words}");
        assert!(words.contains("From 7 tasks it abstains"), "{words}");
        let e2e = Recipe::default();
        assert!(!fit(&e2e, &limits(None, None)).contains("check"));
        assert!(data(&e2e).contains("task tokens"));
    }

    #[test]
    fn the_text_format_is_told_where_it_is_known() {
        let words = |set: &str| candidates(&Recipe::resolve("llama-default", &[set]).unwrap());
        assert!(words("language.text_format=nvarc").contains("as text in the format nvarc: every"));
        assert!(words("language.text_format=auto").contains("written as text: every"));
    }

    #[test]
    fn every_preset_can_be_told() {
        for (name, _) in crate::recipe::PRESETS {
            let recipe = Recipe::resolve::<&str>(name, &[]).unwrap();
            for text in [adapter(&recipe, "m"), data(&recipe), views(&recipe), candidates(&recipe)]
            {
                assert!(text.ends_with('.') && !text.contains("  "), "{text}");
            }
        }
    }
}
