//! A table as text: aligned for the terminal, Markdown, CSV.

use super::{Bin, Row, Table};
use crate::effort::Difficulty;

/// What stands where a value is not known.
const UNKNOWN: &str = "–";

impl Table {
    /// Aligned columns, and a note.
    pub fn to_text(&self) -> String {
        let cells = self.cells();
        let widths: Vec<usize> = (0..cells[0].len())
            .map(|c| cells.iter().map(|row| row[c].chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let padded = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
                if i == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
        };
        let lines: String = cells.iter().map(line).collect();
        format!("{lines}\n{}\n", self.note())
    }

    /// Tables in Markdown: the rows with a note, and the best of N views where it is known.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("{}\n{}\n", markdown(&self.cells()), self.note());
        let views = self.views_cells();
        if views.len() > 1 {
            text += "\nThe vote over the first N views alone: tasks right with two attempts (with any candidate).\n\n";
            text += &markdown(&views);
        }
        text
    }

    /// Comma-separated values with plain numbers, a line a variant; what is not known is empty.
    pub fn to_csv(&self) -> String {
        let heads = "variant,step_limit,budget_seconds,tasks,known_tasks,missing,failed,solved,pass_at_2_strict,\
             pass_at_2_strict_low,pass_at_2_strict_high,pass_at_2_fractional,pass_at_2_fractional_low,\
             pass_at_2_fractional_high,pass_at_1_strict,oracle_strict,difficulty_by,easy_solved,easy_tasks,\
             medium_solved,medium_tasks,hard_solved,hard_tasks,hopeless_solved,hopeless_tasks,seconds,steps,\
             peak_memory_bytes,jobs,outcome_efficiency,outcome_efficiency_of_solved,process_efficiency,gained,lost,\
             mcnemar_p,difference,difference_low,difference_high";
        let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
        let count = |value: Option<usize>| value.map_or(String::new(), |v| v.to_string());
        let ends = |interval: Option<[f64; 2]>| [0, 1].map(|end| number(interval.map(|i| i[end])));
        let line = |row: &Row| {
            let (score, versus) = (&row.score, row.versus_baseline);
            let mut fields = vec![
                quoted(&row.variant),
                count(row.step_limit),
                number(row.budget_seconds),
                score.tasks.to_string(),
                score.known_tasks.to_string(),
                score.missing.to_string(),
                row.failed.to_string(),
                count(score.solved),
                number(score.pass_at_2.strict),
            ];
            fields.extend(ends(score.strict_interval));
            fields.push(number(score.pass_at_2.fractional));
            fields.extend(ends(score.fractional_interval));
            fields.extend([
                number(score.pass_at_1.strict),
                number(score.oracle.and_then(|o| o.strict)),
                quoted(self.difficulty_by.as_deref().unwrap_or_default()),
            ]);
            let bins = bins(row);
            fields.extend(bins.iter().flat_map(|bin| [bin.solved, bin.of]).map(|n| n.to_string()));
            fields.extend([
                row.seconds.to_string(),
                row.steps.to_string(),
                row.peak_memory_bytes.map_or(String::new(), |bytes| bytes.to_string()),
                count(row.jobs),
                number(row.efficiency.outcome),
                number(row.efficiency.outcome_of_solved),
                number(row.efficiency.process),
                count(versus.map(|v| v.gained)),
                count(versus.map(|v| v.lost)),
                number(versus.map(|v| v.p)),
                number(versus.map(|v| v.difference)),
            ]);
            fields.extend(ends(versus.and_then(|v| v.interval)));
            fields.join(",")
        };
        let lines = std::iter::once(heads.to_owned()).chain(self.rows.iter().map(line));
        lines.map(|line| line + "\n").collect()
    }

    /// The best of N views as comma-separated values, a line for each variant and N.
    pub fn views_to_csv(&self) -> String {
        let mut text = "variant,views,pass_at_1_strict,pass_at_2_strict,oracle_strict\n".to_owned();
        for row in &self.rows {
            for point in &row.by_views {
                let super::AfterViews { views, pass_at_1, pass_at_2, oracle } = point;
                let variant = quoted(&row.variant);
                text += &format!("{variant},{views},{pass_at_1},{pass_at_2},{oracle}\n");
            }
        }
        text
    }

    /// The cells of the table for people, the heads first.
    pub fn cells(&self) -> Vec<Vec<String>> {
        let bins = Difficulty::ALL.map(Difficulty::name).join(" ");
        let heads = [
            "variant",
            "solved",
            "pass@2 strict",
            "95 %",
            "pass@2 fractional",
            "95 %",
            "pass@1",
            "oracle",
            &bins,
            "s/task",
            "steps",
            "process MiB (jobs)",
            "ξ_O",
            "ξ_P",
            &format!("against {}", self.baseline),
            "difference",
            "95 %",
            "p",
        ];
        let heads = heads.map(str::to_owned).into();
        std::iter::once(heads).chain(self.rows.iter().map(cells)).collect()
    }

    /// What a reader of the table should know, in a line.
    pub fn note(&self) -> String {
        let difficulty = match &self.difficulty_by {
            Some(name) => {
                format!("Difficulties are as the run of \"{name}\" took the tasks to be. ")
            }
            None => String::new(),
        };
        difficulty
            + "Differences are points of the fractional score. Process MiB is the peak of a run's whole process, with so \
               many tasks (jobs) at a time."
    }

    /// The cells of a table of the best of N views, the heads first: for each N the share of tasks that are right with two
    /// attempts, and with any candidate.
    pub fn views_cells(&self) -> Vec<Vec<String>> {
        let points = || self.rows.iter().flat_map(|row| &row.by_views);
        let numbers: std::collections::BTreeSet<usize> = points().map(|p| p.views).collect();
        let heads = numbers.iter().map(|n| if *n == 1 { "1 view".into() } else { format!("{n}") });
        let line = |row: &Row| {
            let cell = |n: &usize| {
                let point = row.by_views.iter().find(|point| point.views == *n);
                point.map_or(UNKNOWN.to_owned(), |p| {
                    format!("{:.1} % ({:.1})", 100.0 * p.pass_at_2, 100.0 * p.oracle)
                })
            };
            std::iter::once(row.variant.clone()).chain(numbers.iter().map(cell)).collect()
        };
        let known = self.rows.iter().filter(|row| !row.by_views.is_empty());
        std::iter::once(std::iter::once("variant".to_owned()).chain(heads).collect())
            .chain(known.map(line))
            .collect()
    }
}

/// The p-value of a test as people read it: three digits behind the point, or that it is below a thousandth.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

/// A table in Markdown; the first line has the heads.
fn markdown(cells: &[Vec<String>]) -> String {
    let line = |row: &[String]| {
        let escaped: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", escaped.join(" | "))
    };
    let rule = format!("|---|{}\n", "---:|".repeat(cells[0].len() - 1));
    let rows: String = cells[1..].iter().map(|row| line(row)).collect();
    format!("{}{rule}{rows}", line(&cells[0]))
}

/// What a row says of each difficulty.
fn bins(row: &Row) -> [Bin; 4] {
    Difficulty::ALL
        .map(|difficulty| row.by_difficulty.get(&difficulty).copied().unwrap_or_default())
}

fn cells(row: &Row) -> Vec<String> {
    let score = &row.score;
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    let percent = |share: Option<f64>| or_unknown(share.map(|s| format!("{:.1} %", 100.0 * s)));
    let share = |share: Option<f64>| or_unknown(share.map(|s| format!("{s:.2}")));
    let range = |[low, high]: [f64; 2]| format!("{:.1}–{:.1}", 100.0 * low, 100.0 * high);
    let signed = |difference: f64| format!("{:+.1}", 100.0 * difference).replace('-', "−");
    let lacking = [(score.missing, "missing"), (row.failed, "failed")];
    let lacking = lacking.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    let lacking = lacking.collect::<Vec<_>>().join(", ");
    let lacking = if lacking.is_empty() { lacking } else { format!(" ({lacking})") };
    let bins = match row.by_difficulty.is_empty() {
        true => UNKNOWN.to_owned(),
        false => bins(row).map(|bin| format!("{}/{}", bin.solved, bin.of)).join(" "),
    };
    let jobs = row.jobs.map_or(String::new(), |jobs| format!(" ({jobs})"));
    let versus = row.versus_baseline.map(|v| {
        let interval = v.interval.map(|[low, high]| format!("{} to {}", signed(low), signed(high)));
        let changes = format!("+{} −{}", v.gained, v.lost);
        [changes, signed(v.difference), or_unknown(interval), p_value(v.p)]
    });
    let mut cells = vec![
        format!("{}{lacking}", row.variant),
        or_unknown(score.solved.map(|n| format!("{n}/{}", score.known_tasks))),
        percent(score.pass_at_2.strict),
        or_unknown(score.strict_interval.map(range)),
        percent(score.pass_at_2.fractional),
        or_unknown(score.fractional_interval.map(range)),
        percent(score.pass_at_1.strict),
        percent(score.oracle.and_then(|oracle| oracle.strict)),
        bins,
        format!("{:.1}", row.seconds),
        format!("{:.0}", row.steps),
        or_unknown(row.peak_memory_bytes.map(|bytes| format!("{}{jobs}", bytes >> 20))),
        share(row.efficiency.outcome),
        share(row.efficiency.process),
    ];
    cells.extend(versus.unwrap_or_default());
    cells
}

/// A field as RFC 4180 has it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::{compared, facts};

    #[test]
    fn small_p_values_keep_their_digits() {
        let shown = [1.0, 0.0421, 0.003_14, 0.001, 0.000_999, 0.0].map(p_value);
        assert_eq!(shown, ["1.000", "0.042", "0.003", "0.001", "<0.001", "<0.001"]);
    }

    #[test]
    fn every_form_has_the_intervals_and_whose_memory_it_is() {
        let (comparison, mut dataset, records) = compared();
        for (t, test) in dataset.tasks[0].tests.iter_mut().enumerate() {
            test.output = Some(records[1]["a"].attempts[t][0].clone());
        }
        let runs: Vec<_> = records.iter().map(facts).collect();
        let mut table = Table::of(&comparison, &dataset, &runs);
        let row = &mut table.rows[1];
        row.score.strict_interval = Some([0.111, 0.922]);
        row.score.fractional_interval = Some([0.133, 0.944]);
        let versus = row.versus_baseline.as_mut().unwrap();
        (versus.p, versus.difference) = (0.0004, -0.25);
        versus.interval = Some([-0.5, 0.125]);
        let shown = ["11.1–92.2", "13.3–94.4", "−25.0", "−50.0 to +12.5", "<0.001", "7 (2)"];
        let (text, markdown) = (table.to_text(), table.to_markdown());
        for cell in shown {
            assert!(text.contains(cell) && markdown.contains(cell), "{cell}: {text}{markdown}");
        }
        let csv = table.to_csv();
        let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let (heads, product) = (lines.next().unwrap(), lines.nth(1).unwrap());
        let value = |head: &str| product[heads.iter().position(|h| *h == head).unwrap()];
        for (head, expected) in [
            ("pass_at_2_strict_low", "0.111"),
            ("pass_at_2_strict_high", "0.922"),
            ("pass_at_2_fractional_high", "0.944"),
            ("jobs", "2"),
            ("peak_memory_bytes", "7340032"),
            ("mcnemar_p", "0.0004"),
            ("difference", "-0.25"),
            ("difference_low", "-0.5"),
            ("difference_high", "0.125"),
        ] {
            assert_eq!(value(head), expected, "{head}");
        }
        let json = serde_json::to_value(&table).unwrap();
        assert_eq!(json["rows"][1]["score"]["strict_interval"][1], 0.922);
        assert_eq!((&json["rows"][1]["jobs"], &json["baseline"]), (&2.into(), &"none".into()));
    }
}
