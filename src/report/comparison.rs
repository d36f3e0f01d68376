//! A comparison as one HTML page: intervals, costs, and the table, without any script.

use maud::{Markup, html};

use super::method::rule;
use super::page::document;
use super::plot::{Axis, Interval, dots, figure, intervals};
use super::words::count;
use crate::compare::{Row, Table, p_value};

/// Whatever stands in the page, a browser fetches nothing and runs nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page of a comparison. `reports` has for each row the address of its run's report, beside the page, if there is one.
pub fn comparison_page(table: &Table, reports: &[Option<String>]) -> String {
    let tasks = table.rows.first().map_or(0, |row| row.score.tasks);
    let judged = table.rows.iter().any(|row| row.score.solved.is_some());
    let views = table.views_cells();
    let all: Vec<&Row> = table.rows.iter().collect();
    let viewed: Vec<&Row> = table.rows.iter().filter(|row| !row.by_views.is_empty()).collect();
    let title = format!("{} · arc-ttt compare", table.comparison);
    let content = html! {
        header {
            div.bar { p.brand { "arc-ttt" span { "compare" } } }
            h1 { (table.comparison) }
            p.sub {
                (count(table.rows.len(), "variant")) " on " (count(tasks, "task")) " of " (table.dataset)
            }
        }
        main {
            section #summary { (lead(table)) }
            section #results {
                h2 { "Results" }
                @if judged {
                    div.plots { (solved(table)) (against(table)) }
                    div.plots.one { (cost(table)) }
                }
                h3 { "The table" }
                div.scroll { (rows(&table.cells(), &all, &table.baseline, Some(reports))) }
                (notes(table, reports))
            }
            @if views.len() > 1 {
                section #views {
                    h2 { "Best of N views" }
                    div.scroll { (rows(&views, &viewed, &table.baseline, None)) }
                    p.note {
                        "The vote made anew over the first N views alone: tasks right with two attempts, and in \
                         brackets with any candidate."
                    }
                }
            }
        }
    };
    document(&title, POLICY, &content, &html! {}).into_string()
}

/// The result in a sentence, no stronger than the test.
fn lead(table: &Table) -> Markup {
    if table.rows.iter().all(|row| row.score.solved.is_none()) {
        return html! { p.lead { "No answer to these tasks is known here, so nothing is judged." } };
    }
    let judged = |row: &&Row| row.versus_baseline.is_some();
    let best = table.rows.iter().rev().filter(judged).max_by_key(|row| row.score.solved);
    let baseline = table.rows.iter().find(|row| row.variant == table.baseline);
    let (Some(best), Some(baseline)) = (best, baseline) else { return html! {} };
    let (Some(versus), Some(solved)) = (best.versus_baseline, best.score.solved) else {
        return html! {};
    };
    html! {
        p.lead {
            "Of all but the baseline " em { (best.variant) } " solves the most: " (solved) " of " (best.score.known_tasks) ", against "
            (baseline.score.solved.unwrap_or(0)) " by the baseline, " em { (baseline.variant) } " (alone "
            (versus.gained) " and " (versus.lost) ", p " (p_value(versus.p)) "). "
            @if versus.p >= 0.05 { "Chance alone may explain the difference." }
            @else if table.rows.len() > 2 {
                "It was chosen from " (table.rows.len() - 1) " after the fact, which the test does not know."
            }
        }
    }
}

fn solved(table: &Table) -> Markup {
    let row = |row: &Row| {
        let value = row.score.pass_at_2.strict?;
        let text = format!("{}/{}", row.score.solved?, row.score.known_tasks);
        Some(Interval { name: row.variant.clone(), text, value, ends: row.score.strict_interval })
    };
    let rows: Vec<Interval> = table.rows.iter().filter_map(row).collect();
    let high =
        rows.iter().map(|row| row.ends.map_or(row.value, |ends| ends[1])).fold(0.0, f64::max);
    let baseline = table.rows.iter().find(|row| row.variant == table.baseline);
    let reference = baseline.and_then(|row| row.score.pass_at_2.strict).unwrap_or(0.0);
    figure(
        "Solved",
        "Tasks with every test right in two attempts, and 95 % intervals by the bootstrap over tasks; dashed: the baseline.",
        &[],
        &intervals(
            &Axis::share("tasks solved", high),
            &rows,
            reference,
            "Solved tasks with intervals",
        ),
    )
}

fn against(table: &Table) -> Markup {
    let row = |row: &Row| {
        let versus = row.versus_baseline?;
        let text = format!("+{} −{}, p {}", versus.gained, versus.lost, p_value(versus.p));
        let (name, value) = (row.variant.clone(), versus.difference);
        Some(Interval { name, text, value, ends: versus.interval })
    };
    let rows: Vec<Interval> = table.rows.iter().filter_map(row).collect();
    if rows.is_empty() {
        return html! {};
    }
    let ends = |row: &Interval| row.ends.unwrap_or([row.value; 2]);
    let low = rows.iter().map(|row| ends(row)[0]).fold(0.0, f64::min);
    let high = rows.iter().map(|row| ends(row)[1]).fold(0.0, f64::max);
    let axis = Axis::points("points of the fractional score", low, high);
    figure(
        &format!("Against {}", table.baseline),
        "Task by task: the difference with its 95 % interval, tasks gained and lost, and the exact McNemar test.",
        &[],
        &intervals(&axis, &rows, 0.0, "Differences from the baseline with intervals"),
    )
}

/// What is solved at what cost; nothing where all cost about the same.
fn cost(table: &Table) -> Markup {
    let point = |row: &Row| Some((row.seconds, row.score.pass_at_2.strict?));
    let Some(points) = table.rows.iter().map(point).collect::<Option<Vec<_>>>() else {
        return html! {};
    };
    let low = points.iter().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|point| point.0).fold(0.0, f64::max);
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    if low <= 0.0 || high < 1.5 * low || most == 0.0 {
        return html! {};
    }
    let (x, y) = (Axis::log("seconds a task", low, high), Axis::share("", most));
    figure(
        "Solved against time",
        "Numbered as the rows of the table.",
        &[],
        &dots(&x, &y, &points, "Share of tasks solved against seconds a task"),
    )
}

/// A table of these variants, the heads of its cells first. With reports the variants are numbered, and a name leads to
/// the report of its run.
fn rows(
    cells: &[Vec<String>],
    variants: &[&Row],
    baseline: &str,
    reports: Option<&[Option<String>]>,
) -> Markup {
    html! {
        table.rows {
            thead { tr { @for head in &cells[0] { th { (head) } } } }
            tbody { @for (i, (row, variant)) in cells[1..].iter().zip(variants).enumerate() {
                tr.reference[variant.variant == baseline] {
                    th scope="row" {
                        @if reports.is_some() { (i + 1) ". " }
                        @match reports.and_then(|reports| reports.get(i)?.as_ref()) {
                            Some(report) => { a href=(report) { (row[0]) } },
                            None => { (row[0]) },
                        }
                    }
                    @for cell in &row[1..] { td { (cell) } }
                }
            } }
        }
    }
}

fn notes(table: &Table, reports: &[Option<String>]) -> Markup {
    html! {
        p.note {
            "Strict counts a task if all of its tests are right; fractional by the share of its tests that are right. "
            (table.note())
            " ξ_O: share of the time after which the right grids were attempted, 0 where they never were; ξ_P: share of the \
             time that went to predictions of new grids; neither is known of runs that came back to a task."
            @if reports.iter().any(Option::is_some) {
                " A name leads to the report of its run, which has the votes of the rule that it was made with, over all \
                 views (" (rules_of_runs(table)) ")."
            }
        }
    }
}

/// The rules of the vote that the runs were made with, in the order of the rows.
fn rules_of_runs(table: &Table) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in table.rows.iter().filter_map(|row| row.run_selector).map(rule) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{Dataset, Grid};
    use crate::compare::Comparison;
    use crate::compare::testing::{facts, records, variant};
    use crate::pipeline::mock::{recipe, task};

    fn table(answered: bool, whole: bool) -> Table {
        let variant = |name: &str, views: usize| {
            let mut recipe = recipe();
            recipe.views.count = views;
            variant(name, recipe)
        };
        let variants = vec![variant("base", 8), variant("<b>more</b>", 16)];
        let comparison = Comparison { name: "mine & more".into(), baseline: 0, variants };
        let mut tasks = vec![task("a"), task("b")];
        let mut records = records(&comparison, &tasks);
        if !whole {
            records[0].remove("b");
        }
        // Both solve `a`, and neither solves `b`.
        for (t, test) in tasks[0].tests.iter_mut().enumerate() {
            test.output = answered.then(|| records[0]["a"].attempts[t][0].clone());
        }
        for test in &mut tasks[1].tests {
            test.output = answered.then(|| Grid::filled(1, 7, 3));
        }
        let dataset = Dataset { name: "two".into(), tasks, ..Dataset::default() };
        let runs: Vec<_> = records.iter().map(facts).collect();
        Table::of(&comparison, &dataset, &runs)
    }

    #[test]
    fn one_page_shows_the_table_with_its_intervals_and_fetches_nothing() {
        let table = table(true, true);
        let page = comparison_page(&table, &[None, Some("runs/more-1234/report.html".into())]);
        for reference in ["http://", "https://", "src=", "url(", "<link", "<script", "NaN"] {
            assert!(!page.contains(reference), "{reference}");
        }
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
        assert!(page.contains("mine &amp; more") && !page.contains("<b>more"), "{page}");
        assert!(page.contains("<a href=\"runs/more-1234/report.html\">&lt;b&gt;more"), "{page}");
        // Where the two never differ, how much they may differ is not known.
        assert_eq!(table.rows[1].versus_baseline.unwrap().interval, None);
        assert_eq!(page.matches("class=\"whisker\"").count(), 2);
        for cell in table.cells().iter().flatten().filter(|cell| !cell.contains('<')) {
            assert!(page.contains(cell.as_str()), "{cell}");
        }
        assert!(page.contains("Best of N views"));
        assert!(page.contains("that it was made with, over all views (sum)."), "{page}");
    }

    #[test]
    fn the_baseline_is_marked_in_both_tables_and_no_other_row_is_said_to_lead_it() {
        for whole in [true, false] {
            let page = comparison_page(&table(true, whole), &[]);
            assert_eq!(page.matches("<tr class=\"reference\">").count(), 2, "{page}");
            assert_eq!(page.contains("base (1 missing)"), !whole);
            assert!(page.contains("Of all but the baseline <em>&lt;b&gt;more"), "{page}");
        }
    }

    #[test]
    fn without_answers_nothing_is_judged() {
        let page = comparison_page(&table(false, true), &[]);
        assert!(page.contains("nothing is judged") && !page.contains("whisker\""), "{page}");
        assert!(!page.contains("Best of N"));
    }
}
