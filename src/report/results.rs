//! The results of one run or two side by side: figures, tables and charts.

use maud::{Markup, html};

use super::bins::{Bin, by_agreement, by_check, by_difficulty, by_size};
use super::curves::quartiles;
use super::facts::{Facts, TaskFacts};
use super::method::rule;
use super::plot::{Axis, Line, bars, figure, lines, parts};
use super::progress::{against_time, against_views};
use super::words::{UNKNOWN, count, interval, percent, seconds};
use crate::compare::AfterViews;
use crate::evaluate::{Score, Shares};
use crate::pipeline::TaskRecord;

/// The classes of the two sides' colors.
const SIDES: [&str; 2] = ["a", "b"];

/// The stages of a task: class, name, and their seconds.
type Stage = (&'static str, &'static str, fn(&TaskRecord) -> f64);

const STAGES: [Stage; 5] = [
    ("s1", "baseline", |r| r.seconds.baseline),
    ("s2", "fit", |r| r.seconds.fit),
    ("s3", "prediction", |r| r.seconds.predict),
    ("s4", "vote", |r| r.seconds.vote),
    ("s5", "the rest", |r| {
        let s = &r.seconds;
        (s.total - s.baseline - s.fit - s.predict - s.vote).max(0.0)
    }),
];

/// The figures that are read first.
pub(super) fn tiles(facts: &Facts<'_>) -> Markup {
    let score = &facts.score;
    let records = facts.records().count();
    let total: f64 = facts.records().map(|record| record.seconds.total).sum();
    let each = if records > 0 { seconds(total / records as f64) } else { UNKNOWN.to_owned() };
    let strict = |shares: &Shares| percent(shares.strict);
    html! {
        dl.tiles {
            @match score.solved {
                Some(solved) => { div.lead {
                    dt { "Solved, two attempts" }
                    dd { (solved) small { " of " (score.known_tasks) } }
                    dd.note { (strict(&score.pass_at_2)) ", 95 % " (interval(score.strict_interval)) }
                } },
                None => { div.lead {
                    dt { "Answered" }
                    dd { (records) small { " of " (score.tasks) } }
                    dd.note { "no answers are known, so nothing is judged" }
                } },
            }
            @if score.solved.is_some() {
                div {
                    dt { "Without training" }
                    dd { (strict(&facts.baseline.pass_at_1)) }
                    dd.note { "the base model's one answer" }
                }
                div {
                    dt { "First attempt" }
                    dd { (strict(&score.pass_at_1)) }
                    dd.note { "pass@1" }
                }
                div {
                    dt { "Among candidates" }
                    dd { (score.oracle.map_or(UNKNOWN.to_owned(), |oracle| strict(&oracle))) }
                    dd.note { "what a perfect vote would solve" }
                }
            }
            div {
                dt { "Time a task" }
                dd { (each) }
                dd.note { (seconds(total)) " of work in all" }
            }
        }
    }
}

/// Whether the model has seen these tasks in training.
pub(super) fn contamination(facts: &Facts<'_>) -> Markup {
    let known: Vec<_> = facts.tasks.iter().filter(|task| task.trained_on).collect();
    let clean: Vec<_> =
        facts.tasks.iter().filter(|t| !t.trained_on).filter_map(|t| t.score.solved()).collect();
    let solved = clean.iter().filter(|solved| **solved).count();
    html! {
        @match &facts.side.run.circumstances.trained_on {
            None => { p.stamp.open {
                strong { "Contamination not known. " }
                "The model does not say what it was trained on."
            } },
            Some(_) if known.is_empty() => { p.stamp.clean {
                strong { "No contamination found. " }
                "The model's manifest holds no pair of these " (count(facts.tasks.len(), "task"))
                ", turned, mirrored or recolored in any way."
            } },
            Some(_) => { p.stamp.found {
                strong { "Contaminated. " }
                "The model was trained on pairs of " (known.len()) " of these "
                (count(facts.tasks.len(), "task")) ": "
                @for (i, task) in known.iter().take(5).enumerate() {
                    @if i > 0 { ", " }
                    code { (task.task.id) }
                }
                @if known.len() > 5 { ", …" }
                "."
                @if !clean.is_empty() {
                    " Without them it solves " (solved) " of " (clean.len()) "."
                }
            } },
        }
    }
}

/// Shares under every rule of counting, for each side.
pub(super) fn score_table(sides: &[&Facts<'_>]) -> Markup {
    let row = |name: &str, shares: Option<Shares>, score: Option<&Score>| {
        html! {
            tr {
                th scope="row" { (name) }
                td { (percent(shares.and_then(|s| s.strict))) }
                td.quiet { (score.map_or(String::new(), |s| interval(s.strict_interval))) }
                td { (percent(shares.and_then(|s| s.fractional))) }
                td.quiet { (score.map_or(String::new(), |s| interval(s.fractional_interval))) }
                td { (percent(shares.and_then(|s| s.per_test))) }
            }
        }
    };
    html! {
        div.scroll { table {
            thead { tr {
                th {} th { "strict" } th.quiet { "95 %" } th { "fractional" } th.quiet { "95 %" } th { "per test" }
            } }
            @for (i, facts) in sides.iter().enumerate() {
                tbody {
                    @if sides.len() > 1 {
                        tr.group { th colspan="6" scope="rowgroup" {
                            span class={ "key " (SIDES[i]) } {} (facts.side.name)
                        } }
                    }
                    (row("without training", Some(facts.baseline.pass_at_1), None))
                    (row("first attempt", Some(facts.score.pass_at_1), None))
                    (row("two attempts", Some(facts.score.pass_at_2), Some(&facts.score)))
                    (row("any candidate", facts.score.oracle, None))
                }
            }
        } }
        p.note {
            "Strict counts a task if all of its tests are right; fractional by the share of its tests that are right. \
             Intervals by the bootstrap over tasks."
        }
    }
}

/// What every voting rule would have solved with the same candidates.
pub(super) fn rules_table(sides: &[&Facts<'_>]) -> Markup {
    let most = sides.iter().flat_map(|facts| facts.rules.iter().map(|rule| rule.1)).max();
    let most = most.unwrap_or(0).max(1);
    html! {
        div.scroll { table.rules {
            thead { tr {
                th { "rule" }
                @for facts in sides { th { @if sides.len() > 1 { (facts.side.name) } @else { "solved" } } }
                th.quiet.words { "ranks a grid by" }
            } }
            tbody {
                @for (i, (selector, _)) in sides[0].rules.iter().enumerate() {
                    @let (name, what) = rule(*selector);
                    tr {
                        th scope="row" { (name) }
                        @for facts in sides {
                            @let solved = facts.rules.get(i).map_or(0, |rule| rule.1);
                            @let chose = facts.side.recipe.vote.selector == *selector;
                            td.meter {
                                span class=(if chose { "fill chose" } else { "fill" })
                                    style={ "width:" (60.0 * solved as f64 / most as f64) "%" } {}
                                span { (solved) }
                            }
                        }
                        td.quiet.words { (what) }
                    }
                }
            }
        } }
        p.note { "The rule that chose the attempts is drawn in full color." }
    }
}

/// Every chart that the records have the numbers for.
pub(super) fn charts(sides: &[&Facts<'_>]) -> Markup {
    let judged = sides.iter().any(|facts| facts.score.solved.is_some());
    html! {
        div.plots {
            @if judged {
                (time_chart(sides))
                (views_chart(sides))
                (bins_chart(sides, by_size, "By size", "largest side of the task's grids",
                    "Solved tasks by the largest grid that the solver saw."))
                (bins_chart(sides, by_agreement, "By agreement", "views that propose the first attempt",
                    "A run that knows what it knows climbs to the right."))
                (bins_chart(sides, by_difficulty, "By difficulty", "as the run took the task to be, before any answer",
                    "By the held-out demonstration, where one was, and the agreement of the views."))
                (bins_chart(sides, by_check, "By held-out check", "predictions that were exact",
                    "Of the demonstration that the fit held out, or else of each from the others in its last check; neither \
                     needs an answer."))
            }
            @for (i, facts) in sides.iter().enumerate() { (loss_chart(facts, i, sides.len() > 1)) }
            (stages_chart(sides))
        }
    }
}

/// The legend of charts with a series a side.
fn legend<'a>(sides: &[&'a Facts<'_>]) -> Vec<(&'static str, &'a str)> {
    if sides.len() < 2 {
        return Vec::new();
    }
    sides.iter().zip(SIDES).map(|(facts, class)| (class, facts.side.name.as_str())).collect()
}

fn time_chart(sides: &[&Facts<'_>]) -> Markup {
    let points: Vec<_> = sides.iter().map(|facts| against_time(facts)).collect();
    let times = || points.iter().flatten().map(|point| point.0).filter(|t| *t > 0.0);
    let (Some(low), Some(high)) = (times().min_by(f64::total_cmp), times().max_by(f64::total_cmp))
    else {
        return html! {};
    };
    let most = points.iter().flatten().map(|point| point.1).fold(0.0, f64::max);
    if most == 0.0 {
        return html! {};
    }
    let line = |(i, points): (usize, Vec<(f64, f64)>)| Line {
        name: sides[i].side.name.clone(),
        class: SIDES[i],
        points: std::iter::once((low, 0.0)).chain(points).collect(),
        stepped: true,
        dotted: false,
        band: Vec::new(),
    };
    let drawn: Vec<_> = points.into_iter().enumerate().map(line).collect();
    let (x, y) = (Axis::log("seconds a task", low, high), Axis::share("", most));
    let alt = format!(
        "Share of tasks right against seconds a task, up to {} after {}",
        percent(Some(most)),
        seconds(high)
    );
    let revisited = sides.iter().flat_map(|facts| facts.records()).any(|r| r.visits() > 1);
    let mut note = "Tasks right, had each been cut off after so many seconds of work.".to_owned();
    if revisited {
        note += " Of tasks that were worked on in several visits only the base model's answer and the last one are known: \
                 what the earlier visits brought does not show.";
    }
    figure("Accuracy against time", &note, &legend(sides), &lines(&x, &y, &drawn, &alt))
}

fn views_chart(sides: &[&Facts<'_>]) -> Markup {
    let points: Vec<_> = sides.iter().map(|facts| against_views(facts)).collect();
    let Some(longest) = points.iter().max_by_key(|points| points.len()) else { return html! {} };
    if longest.is_empty() {
        return html! {};
    }
    let views: Vec<usize> = longest.iter().map(|point| point.views).collect();
    let most = points.iter().flatten().map(|point| point.oracle).fold(0.0, f64::max);
    if most == 0.0 {
        return html! {};
    }
    let mut drawn = Vec::new();
    for (i, points) in points.iter().enumerate() {
        let line = |name: &str, class, value: fn(&AfterViews) -> f64| Line {
            name: name.to_owned(),
            class,
            points: points.iter().map(|point| (point.views as f64, value(point))).collect(),
            stepped: false,
            dotted: true,
            band: Vec::new(),
        };
        let faint = ["a faint", "b faint"][i];
        drawn.push(line("any candidate", faint, |point| point.oracle));
        if sides.len() == 1 {
            drawn.push(line("first attempt", "a dashed", |point| point.pass_at_1));
        }
        drawn.push(line("two attempts", SIDES[i], |point| point.pass_at_2));
    }
    let names: Vec<(&str, &str)> = match sides {
        [_] => {
            vec![("a faint", "any candidate"), ("a", "two attempts"), ("a dashed", "first attempt")]
        }
        _ => legend(sides).into_iter().chain([("faint", "any candidate")]).collect(),
    };
    let (x, y) = (Axis::doubling("views", &views), Axis::share("", most));
    figure(
        "Accuracy against views",
        "The vote made anew over the first views alone.",
        &names,
        &lines(&x, &y, &drawn, "Share of tasks right against the number of views"),
    )
}

fn bins_chart(
    sides: &[&Facts<'_>],
    bins: fn(&Facts<'_>) -> Vec<Bin>,
    title: &str,
    label: &str,
    note: &str,
) -> Markup {
    let mut series: Vec<_> =
        sides.iter().zip(SIDES).map(|(facts, class)| (class, bins(facts))).collect();
    series.retain(|(_, bins)| bins.iter().any(|bin| bin.of > 0));
    if series.is_empty() {
        return html! {};
    }
    let alt = format!("{title}: share of tasks solved, by {label}");
    figure(title, note, &legend(sides), &bars(label, &series, &alt))
}

fn loss_chart(facts: &Facts<'_>, side: usize, named: bool) -> Markup {
    let of = |wanted: fn(&TaskFacts<'_>) -> bool| {
        quartiles(facts.tasks.iter().filter(|task| wanted(task)).filter_map(|task| task.record))
    };
    let groups: Vec<(&str, &str, Vec<_>)> = if facts.score.solved.is_some() {
        vec![
            ("good", "solved", of(|task| task.score.solved() == Some(true))),
            ("bad", "not solved", of(|task| task.score.solved() != Some(true))),
        ]
    } else {
        vec![(SIDES[side], "all tasks", of(|_| true))]
    };
    let groups: Vec<_> = groups.into_iter().filter(|group| !group.2.is_empty()).collect();
    let values = || groups.iter().flat_map(|group| group.2.iter());
    let low = values().map(|point| point.low).fold(f64::INFINITY, f64::min).max(1e-4);
    let high = values().map(|point| point.high).fold(0.0, f64::max);
    if groups.is_empty() || high <= 0.0 {
        return html! {};
    }
    let line = |(class, name, points): &(&'static str, &str, Vec<super::curves::Quartiles>)| Line {
        name: (*name).to_owned(),
        class,
        points: points.iter().map(|point| (point.share, point.median)).collect(),
        stepped: false,
        dotted: false,
        band: points.iter().map(|point| (point.share, point.low, point.high)).collect(),
    };
    let drawn: Vec<_> = groups.iter().map(line).collect();
    let names: Vec<_> = groups.iter().map(|group| (group.0, group.1)).collect();
    let (x, y) = (Axis::share("share of the steps", 1.0), Axis::log("", low, high));
    let title = if named { format!("Loss, {}", facts.side.name) } else { "Loss".to_owned() };
    figure(
        &title,
        "Cross-entropy in nats during the fits: the median and the middle half of the tasks.",
        &names,
        &lines(&x, &y, &drawn, "Median loss against the share of the steps"),
    )
}

fn stages_chart(sides: &[&Facts<'_>]) -> Markup {
    let of = |facts: &Facts<'_>| -> Vec<(f64, f64)> {
        let sum = |stage: &Stage| facts.records().map(stage.2).sum::<f64>();
        let sums: Vec<f64> = STAGES.iter().map(sum).collect();
        let all = sums.iter().sum::<f64>().max(1e-9);
        sums.into_iter().map(|seconds| (seconds, seconds / all)).collect()
    };
    let per_task =
        |facts: &Facts<'_>, sum: f64| seconds(sum / facts.records().count().max(1) as f64);
    let all: Vec<Vec<(f64, f64)>> = sides.iter().map(|facts| of(facts)).collect();
    let chart = html! {
        @for (facts, sums) in sides.iter().zip(&all) {
            @let shares: Vec<_> = STAGES.iter().zip(sums).map(|(s, sum)| (s.0, sum.1)).collect();
            @if sides.len() > 1 { p.side { (facts.side.name) } }
            (parts(&shares, "Shares of the stages in the time"))
        }
        table.stages {
            thead { tr {
                th { "stage" }
                @for facts in sides { th colspan="2" { @if sides.len() > 1 { (facts.side.name) } @else { "a task" } } }
            } }
            tbody { @for (i, (class, name, _)) in STAGES.iter().enumerate() { tr {
                th scope="row" { span class={ "key " (class) } {} (name) }
                @for (facts, sums) in sides.iter().zip(&all) {
                    td { (per_task(facts, sums[i].0)) }
                    td.quiet { (format!("{:.0} %", 100.0 * sums[i].1)) }
                }
            } } }
        }
    };
    figure(
        "Where the time went",
        "Wall time of the stages, on average over the tasks.",
        &[],
        &chart,
    )
}
