//! The whole page.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use super::data::Data;
use super::facts::{Facts, Outcome};
use super::versus::Versus;
use super::words::{UNKNOWN, count, date, seconds};
use super::{ReportError, Side, gallery, method, results};
use crate::run::Limits;

/// The style of all pages.
const CSS: &str = include_str!("page.css");

const SCRIPT: &str = include_str!("page.js");

/// Whatever stands in the page, a browser fetches nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// A finished page, and what it says in short.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The page: one file of HTML.
    pub html: String,
    /// What became of the tasks of each run.
    pub runs: Vec<Counts>,
    /// The two runs on the tasks that both have, if there are two.
    pub versus: Option<Pairs>,
}

/// What became of the tasks of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    /// The run's name.
    pub name: String,
    /// Its tasks.
    pub tasks: usize,
    /// Tasks all of whose tests are right with two attempts; `None` if no answer is known.
    pub solved: Option<usize>,
    /// Share of the tasks that are solved.
    pub strict: Option<f64>,
    /// Mean share of a task's tests that are right.
    pub fractional: Option<f64>,
    /// Tasks by [`Outcome::key`].
    pub outcomes: std::collections::BTreeMap<&'static str, usize>,
}

/// What two runs solve of the tasks that both have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pairs {
    /// Tasks that both solve.
    pub both: usize,
    /// Tasks that the first alone solves.
    pub only_first: usize,
    /// Tasks that the second alone solves.
    pub only_second: usize,
    /// Tasks that neither solves.
    pub neither: usize,
    /// The exact two-sided McNemar test; `None` if no answer is known.
    pub p: Option<f64>,
}

/// Makes the page of a run, or of a run and another one on the same tasks.
///
/// # Errors
/// [`ReportError::NothingInCommon`] if the two runs share no task.
pub fn report(first: &Side, second: Option<&Side>) -> Result<Report, ReportError> {
    let facts: Vec<Facts<'_>> = std::iter::once(first).chain(second).map(Facts::of).collect();
    let sides: Vec<&Facts<'_>> = facts.iter().collect();
    let versus = match &sides[..] {
        [a, b] => Some(Versus::of(a, b)),
        _ => None,
    };
    if let (Some(versus), Some(second)) = (&versus, second)
        && versus.unpaired == first.dataset.tasks.len() + second.dataset.tasks.len()
    {
        let (a, b) = (first.name.clone(), second.name.clone());
        return Err(ReportError::NothingInCommon { a, b });
    }
    let html = page(&sides, versus.as_ref()).into_string();
    let pairs = |versus: &Versus| {
        let [both, only_first, only_second, neither] = versus.tasks.each_ref().map(Vec::len);
        Pairs { both, only_first, only_second, neither, p: versus.test.map(|test| test.p) }
    };
    let versus = versus.as_ref().map(pairs);
    Ok(Report { html, runs: facts.iter().map(Counts::of).collect(), versus })
}

impl Counts {
    fn of(facts: &Facts<'_>) -> Self {
        let n = |outcome| facts.tasks.iter().filter(|task| task.outcome == outcome).count();
        let outcomes = Outcome::ALL.map(|outcome| (outcome.key(), n(outcome)));
        Self {
            name: facts.side.name.clone(),
            tasks: facts.tasks.len(),
            solved: facts.score.solved,
            strict: facts.score.pass_at_2.strict,
            fractional: facts.score.pass_at_2.fractional,
            outcomes: outcomes.into(),
        }
    }
}

fn page(sides: &[&Facts<'_>], versus: Option<&Versus>) -> Markup {
    let names: Vec<&str> = sides.iter().map(|facts| facts.side.name.as_str()).collect();
    let judged = sides.iter().any(|facts| facts.score.solved.is_some());
    let content = html! {
        (head(sides))
        main {
            section #summary {
                @for (i, facts) in sides.iter().enumerate() { (summary(facts, i, sides.len() > 1)) }
            }
            @if let (Some(versus), [a, b]) = (versus, &names[..]) { (versus.section(a, b)) }
            section #results {
                h2 { "Results" }
                @if judged {
                    (results::score_table(sides))
                } @else {
                    p { "No answer to these tasks is known here. Name a file that has them with --solutions." }
                }
                (results::charts(sides))
                @if judged {
                    h3 { "The same candidates under every voting rule" }
                    (results::rules_table(sides))
                }
            }
            section #method {
                h2 { "Method" }
                @for facts in sides { (method_of(facts, sides.len() > 1)) }
            }
            (gallery::section(sides, versus))
            section #made {
                h2 { "How it was made" }
                @for facts in sides { (made(facts.side, sides.len() > 1)) }
            }
        }
    };
    let scripts = html! {
        script #data type="application/json" { (PreEscaped(Data::of(sides).to_script())) }
        script { (PreEscaped(SCRIPT)) }
    };
    document(&format!("{} · arc-ttt report", names.join(" and ")), POLICY, &content, &scripts)
}

/// One file of HTML with the style of all pages. The policy says what a browser may fetch and run, whatever stands in the page.
pub(super) fn document(title: &str, policy: &str, content: &Markup, scripts: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(CSS)) }
            }
            body {
                (content)
                footer { p { "Made by arc-ttt " (env!("CARGO_PKG_VERSION")) ". This file needs no network." } }
                (scripts)
            }
        }
    }
}

fn head(sides: &[&Facts<'_>]) -> Markup {
    let identity = &sides[0].side.run.identity;
    html! {
        header {
            div.bar {
                p.brand { "arc-ttt" span { "report" } }
                nav {
                    @if sides.len() > 1 { a href="#versus" { "Versus" } }
                    a href="#results" { "Results" }
                    a href="#method" { "Method" }
                    a href="#gallery" { "Tasks" }
                }
                button #theme type="button" aria-label="Switch between light and dark" { span {} }
            }
            h1 {
                (sides[0].side.name)
                @for facts in &sides[1..] { span.against { " against " } (facts.side.name) }
            }
            p.sub {
                (count(sides[0].tasks.len(), "task")) " of " (identity.dataset)
                " · " span { (identity.model.name) " on " (identity.model.device) }
                " · " span { (date(sides[0].side.run.circumstances.began)) }
            }
        }
    }
}

fn summary(facts: &Facts<'_>, index: usize, named: bool) -> Markup {
    let missing = facts.tasks.iter().filter(|task| task.record.is_none()).count();
    let failed = facts.records().filter(|record| record.failed.is_some()).count();
    html! {
        @if named { h2.name { span class={ "key " (["a", "b"][index]) } {} (facts.side.name) } }
        (results::tiles(facts))
        (results::contamination(facts))
        @if missing > 0 {
            p.stamp.open {
                strong { "Not finished. " }
                "The run has no record of " (count(missing, "task")) " yet; they count as not solved."
            }
        }
        @if failed > 0 {
            p.stamp.open {
                strong { "Failures. " }
                "A stage failed in " (count(failed, "task"))
                "; the attempts there are the best that the other stages gave."
            }
        }
    }
}

fn method_of(facts: &Facts<'_>, named: bool) -> Markup {
    html! {
        @if named { h3 { (facts.side.name) } }
        p { "Recipe " em { (facts.side.recipe.name) } ". Everything below is done for each task, without its answers." }
        dl.method {
            @for (name, what) in method::steps(facts.side) { div { dt { (name) } dd { (what) } } }
        }
    }
}

/// What it takes to repeat a run.
fn made(side: &Side, named: bool) -> Markup {
    let (identity, circumstances) = (&side.run.identity, &side.run.circumstances);
    let shard = identity.shard.map_or(UNKNOWN.to_owned(), |shard| shard.to_string());
    html! {
        @if named { h3 { (side.name) } }
        dl.made {
            dt { "Command" } dd { code { (circumstances.command.join(" ")) } }
            dt { "Model" } dd {
                (identity.model.name) ", " (identity.model.parameters) " weights, "
                code { (short(&identity.model.sha256)) }
            }
            dt { "Tasks" } dd { (identity.dataset) ", " code { (short(&identity.dataset_sha256)) } }
            dt { "Seed" } dd { (identity.seed) }
            dt { "Limits" } dd { (limits(&identity.limits, circumstances.deadline_seconds)) }
            @if identity.shard.is_some() { dt { "Shard" } dd { (shard) } }
            dt { "Machine" } dd {
                (circumstances.platform) ", " (count(circumstances.jobs, "job")) ", "
                (count(circumstances.threads, "thread"))
            }
            dt { "Versions" } dd { "arc-ttt " (identity.version) ", Burn " (circumstances.burn) }
            dt { "Run" } dd { code { (short(&identity.fingerprint())) } }
        }
        details.recipe { summary { "The resolved recipe" } pre { (identity.settings) } }
    }
}

/// What limits the work on a task, or on all together.
fn limits(limits: &Limits, deadline: Option<f64>) -> String {
    let mut parts = Vec::new();
    parts.extend(deadline.map(|s| format!("{} for all tasks at first, shared evenly", seconds(s))));
    parts.extend(limits.total_seconds.map(|s| {
        let how = if limits.evenly { "shared evenly" } else { "given where it is worth most" };
        format!("{} for all tasks together, {how}", seconds(s))
    }));
    parts.extend(limits.budget_seconds.map(|s| format!("{} a task", seconds(s))));
    parts.extend(limits.steps.map(|n| format!("{} a task", count(n, "step"))));
    if parts.is_empty() { "the recipe's".to_owned() } else { parts.join("; ") }
}

/// The beginning of a hash.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_run() {
        let none = Limits {
            budget_seconds: None,
            total_seconds: None,
            evenly: false,
            steps: None,
            memory_bytes: 1,
        };
        let both = Limits { budget_seconds: Some(30.0), steps: Some(7), ..none };
        let total = Limits { total_seconds: Some(600.0), ..none };
        let check = |of: Limits, expected: &str| assert_eq!(limits(&of, None), expected);
        check(none, "the recipe's");
        check(both, "30.0 s a task; 7 steps a task");
        check(total, "10 min for all tasks together, given where it is worth most");
        let evenly = Limits { evenly: true, ..total };
        check(evenly, "10 min for all tasks together, shared evenly");
        let under = limits(&none, Some(600.0));
        assert_eq!(under, "10 min for all tasks at first, shared evenly");
    }
}
