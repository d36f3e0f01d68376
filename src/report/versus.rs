//! What one run solves and the other does not.

use maud::{Markup, html};

use super::facts::{Facts, TaskFacts};
use super::words::{UNKNOWN, count};
use crate::compare::{VersusBaseline, p_value};
use crate::evaluate::TaskScore;

/// Two runs on the tasks that both have.
#[derive(Debug, Clone)]
pub(super) struct Versus {
    /// Ids of tasks by what the runs solve of them: both, the first alone, the second alone, neither.
    pub tasks: [Vec<String>; 4],
    /// Tasks that are in one run only, or are other tasks of the same name.
    pub unpaired: usize,
    /// The first run against the second; `None` if no answer is known.
    pub test: Option<VersusBaseline>,
}

impl Versus {
    /// Pairs the tasks of two runs. Tasks that a run has not got to count as not solved by it.
    pub(super) fn of(a: &Facts<'_>, b: &Facts<'_>) -> Self {
        let partner = |task: &TaskFacts<'_>| {
            let same = |other: &&TaskFacts<'_>| {
                other.task.id == task.task.id
                    && other.task.without_answers() == task.task.without_answers()
            };
            b.tasks.iter().find(same).cloned()
        };
        let pairs: Vec<_> =
            a.tasks.iter().filter_map(|task| Some((task, partner(task)?))).collect();
        let mut tasks: [Vec<String>; 4] = Default::default();
        for (here, there) in &pairs {
            let place = match (here.score.solved(), there.score.solved()) {
                (Some(true), Some(true)) => 0,
                (Some(true), Some(false)) => 1,
                (Some(false), Some(true)) => 2,
                (Some(false), Some(false)) => 3,
                _ => continue,
            };
            tasks[place].push(here.task.id.clone());
        }
        let (first, second): (Vec<TaskScore>, Vec<TaskScore>) =
            pairs.iter().map(|(here, there)| (here.score.clone(), there.score.clone())).unzip();
        let unpaired = a.tasks.len() + b.tasks.len() - 2 * pairs.len();
        Self { tasks, unpaired, test: VersusBaseline::of(&first, &second) }
    }

    /// Number of tasks that both runs have and whose answers are known.
    pub(super) fn pairs(&self) -> usize {
        self.tasks.iter().map(Vec::len).sum()
    }

    /// What the runs solve of a task: `both`, `only-a`, `only-b`, `neither`, or nothing if that is not known.
    pub(super) fn key(&self, task: &str) -> &'static str {
        const KEYS: [&str; 4] = ["both", "only-a", "only-b", "neither"];
        let place = self.tasks.iter().position(|ids| ids.iter().any(|id| id == task));
        place.map_or("", |place| KEYS[place])
    }

    /// The section of the page.
    pub(super) fn section(&self, a: &str, b: &str) -> Markup {
        let [both, only_a, only_b, neither] = self.tasks.each_ref().map(Vec::len);
        html! {
            section #versus {
                h2 { "One against the other" }
                @match &self.test {
                    None => { p { "No answer is known of a task that both runs have." } },
                    Some(test) => {
                        p.lead { (sentence(a, b, only_a, only_b, test.p)) }
                        div.pair {
                            table.square {
                                thead {
                                    tr { td {} th colspan="2" { (b) } }
                                    tr { th { (a) } th.quiet { "solved" } th.quiet { "not" } }
                                }
                                tbody {
                                    tr { th.quiet scope="row" { "solved" } td { (both) } td.a { (only_a) } }
                                    tr { th.quiet scope="row" { "not" } td.b { (only_b) } td { (neither) } }
                                }
                            }
                            dl.facts {
                                dt { "Exact McNemar test" }
                                dd { "p " (p_value(test.p)) ", two-sided, on " (count(only_a + only_b, "differing task")) }
                                dt { "Fractional score of " (a) " less that of " (b) }
                                dd { (points(test.difference)) (interval(test)) }
                                dt { "Pairs" }
                                dd {
                                    (count(self.pairs(), "task")) " in both runs"
                                    @if self.unpaired > 0 { "; " (self.unpaired) " in one of them only" }
                                }
                            }
                        }
                        (ids("a", a, &self.tasks[1]))
                        (ids("b", b, &self.tasks[2]))
                    }
                }
            }
        }
    }
}

/// The result in a sentence, no stronger than the test.
fn sentence(a: &str, b: &str, only_a: usize, only_b: usize, p: f64) -> Markup {
    let differ = p < 0.05;
    html! {
        em { (a) } " alone solves " (count(only_a, "task")) ", " em { (b) } " alone " (only_b) ". "
        @if differ {
            "That is more than chance explains."
        } @else {
            "Chance alone may explain the difference."
        }
    }
}

fn points(difference: f64) -> String {
    format!("{:+.1} points", 100.0 * difference).replace('-', "−")
}

fn interval(test: &VersusBaseline) -> String {
    let show = |[low, high]: [f64; 2]| format!(", 95 % {} to {}", points(low), points(high));
    test.interval.map_or(format!(", 95 % {UNKNOWN}"), show)
}

/// The ids that one run alone solves, as buttons that open the task.
fn ids(class: &str, name: &str, ids: &[String]) -> Markup {
    html! {
        @if !ids.is_empty() {
            h3 { span class={ "key " (class) } {} "Only " (name) }
            p.ids { @for id in ids { button type="button" data-open=(id) { (id) } " " } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::side;
    use super::*;

    #[test]
    fn tasks_are_paired_and_what_one_run_lacks_counts_as_not_solved() {
        let ids = ["a", "b", "c", "d"];
        let a = side("one", &ids, &["a", "b", "c"]);
        let mut b = side("two", &ids, &["a", "b", "c"]);
        b.run.records.remove("b");
        let (a, b) = (Facts::of(&a), Facts::of(&b));
        let versus = Versus::of(&a, &b);
        let section = versus.section("one", "two").into_string();
        assert!(
            section.contains("<dt>Fractional score of one less that of two</dt><dd>+25.0 points")
        );
        assert_eq!(versus.tasks.each_ref().map(Vec::len), [2, 1, 0, 1]);
        assert_eq!((versus.key("b"), versus.key("d"), versus.key("x")), ("only-a", "neither", ""));
        let test = versus.test.unwrap();
        assert_eq!((test.gained, test.lost, test.difference), (1, 0, 0.25));
        let other = Versus::of(&b, &a);
        assert_eq!((other.tasks[2].len(), other.test.unwrap().difference), (1, -0.25));
    }

    #[test]
    fn runs_on_other_tasks_have_no_pairs() {
        let (a, b) = (side("one", &["a"], &["a"]), side("two", &["b"], &["b"]));
        let versus = Versus::of(&Facts::of(&a), &Facts::of(&b));
        assert_eq!((versus.pairs(), versus.unpaired, versus.test), (0, 2, None));
    }
}
