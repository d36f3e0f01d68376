//! The gallery: a card a task, which the page's script draws and opens.

use maud::{Markup, html};

use super::facts::{Facts, Outcome, TaskFacts};
use super::versus::Versus;
use super::words::{percent, seconds};

/// The section with its filters and all cards.
pub(super) fn section(sides: &[&Facts<'_>], versus: Option<&Versus>) -> Markup {
    let first = sides[0];
    html! {
        section #gallery {
            h2 { "Tasks" }
            @if sides.len() > 1 {
                p.note { "Cards and filters show " em { (first.side.name) } "; an opened task shows both runs." }
            }
            div.controls {
                div.chips role="group" aria-label="Show only" {
                    @for (key, label, n) in filters(first, versus, sides) {
                        button type="button" data-filter=(key) aria-pressed=(key == "all") {
                            (label) span.n { (n) }
                        }
                    }
                }
                div.tools {
                    label { span { "Find" } input #search type="search" placeholder="task id" autocomplete="off"; }
                    label {
                        span { "Sort" }
                        select #sort {
                            option value="order" { "as in the run" }
                            option value="agreement" { "most agreement first" }
                            option value="seconds" { "longest first" }
                            option value="size" { "largest first" }
                        }
                    }
                    label.switch { input #digits type="checkbox"; span { "Digits in cells" } }
                }
                p #shown aria-live="polite" {}
            }
            div.cards {
                @for (i, task) in first.tasks.iter().enumerate() { (card(i, task, versus)) }
            }
            p #none hidden { "No task fits these filters." }
            noscript { p { "The grids are drawn by a script, which is turned off here." } }
        }
    }
}

/// The filters that some task fits: key, label and number of tasks.
fn filters(
    facts: &Facts<'_>,
    versus: Option<&Versus>,
    sides: &[&Facts<'_>],
) -> Vec<(&'static str, String, usize)> {
    let tasks = &facts.tasks;
    let mut filters = vec![("all", "all".to_owned(), tasks.len())];
    for outcome in Outcome::ALL {
        let n = tasks.iter().filter(|task| task.outcome == outcome).count();
        filters.push((outcome.key(), outcome.label().to_owned(), n));
    }
    for (key, label, has) in FLAGS {
        let n = tasks.iter().filter(|task| has(task)).count();
        filters.push((key, label.to_owned(), n));
    }
    if let (Some(versus), [a, b]) = (versus, sides) {
        filters.push(("only-a", format!("only {}", a.side.name), versus.tasks[1].len()));
        filters.push(("only-b", format!("only {}", b.side.name), versus.tasks[2].len()));
    }
    filters.retain(|(_, _, n)| *n > 0);
    filters
}

/// What a task may be besides its outcome: key, label, and whether it is.
type Flag = (&'static str, &'static str, fn(&TaskFacts<'_>) -> bool);

const FLAGS: [Flag; 5] = [
    ("low", "low confidence", |task| task.is_unsure()),
    ("abstained", "abstained", |task| task.record.is_some_and(|r| r.abstained)),
    ("failed", "a stage failed", |task| task.record.is_some_and(|r| r.failed.is_some())),
    ("noted", "with a note", |task| task.record.is_some_and(|r| !r.notes.is_empty())),
    ("known", "known from training", |task| task.trained_on),
];

fn card(index: usize, facts: &TaskFacts<'_>, versus: Option<&Versus>) -> Markup {
    let id = &facts.task.id;
    let flags: Vec<&str> = FLAGS.iter().filter(|flag| flag.2(facts)).map(|flag| flag.0).collect();
    let pair = versus.map_or("", |versus| versus.key(id));
    let total = facts.record.map(|record| record.seconds.total);
    html! {
        details.card data-task=(index) data-id=(id)
            data-keys={ (facts.outcome.key()) " " (flags.join(" ")) " " (pair) }
            data-agreement=(facts.agreement.unwrap_or(-1.0)) data-seconds=(total.unwrap_or(-1.0))
            data-size=(facts.task.largest_side())
        {
            summary {
                span.thumbs {}
                span.id { (id) }
                span class={ "outcome " (facts.outcome.key()) } { (facts.outcome.label()) }
                span.meta {
                    @if let Some(total) = total { span { (seconds(total)) } }
                    @if let Some(agreement) = facts.agreement { span { (percent(Some(agreement)).replace(".0 ", " ")) " agree" } }
                    @if let Some(difficulty) = facts.record.and_then(|r| r.difficulty) { span { (difficulty.name()) } }
                    @for flag in FLAGS.iter().filter(|flag| flag.2(facts) && flag.0 != "low") {
                        span.flag { (flag.1) }
                    }
                }
            }
            div.body {}
        }
    }
}
