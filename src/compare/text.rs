//! A table as text: aligned for the terminal, Markdown, CSV.

use super::{Bin, Row, Table};
use crate::effort::Difficulty;

const COLUMNS: [&str; 12] = [
    "variant",
    "solved",
    "fractional",
    "95 %",
    "pass@1",
    "oracle",
    "easy medium hard hopeless",
    "s/task",
    "steps",
    "MiB",
    "ξ_O",
    "ξ_P",
];

impl Table {
    /// Aligned columns.
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
        cells.iter().map(line).collect()
    }

    /// A table in Markdown.
    pub fn to_markdown(&self) -> String {
        let cells = self.cells();
        let line = |row: &[String]| {
            let escaped: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", escaped.join(" | "))
        };
        let rule = format!("|---|{}\n", "---:|".repeat(cells[0].len() - 1));
        let rows: String = cells[1..].iter().map(|row| line(row)).collect();
        format!("{}{rule}{rows}", line(&cells[0]))
    }

    /// Comma-separated values with plain numbers, a line a variant; what is not known is empty.
    pub fn to_csv(&self) -> String {
        let mut text = String::from(
            "variant,step_limit,budget_seconds,tasks,known_tasks,missing,solved,strict,fractional,\
             fractional_low,fractional_high,pass_at_1_strict,oracle_strict,easy_solved,easy_tasks,medium_solved,\
             medium_tasks,hard_solved,hard_tasks,hopeless_solved,hopeless_tasks,seconds,steps,peak_memory_bytes,\
             outcome_efficiency,outcome_efficiency_of_solved,process_efficiency,gained,lost,mcnemar_p,difference,difference_low,difference_high\n",
        );
        for row in &self.rows {
            let (score, versus) = (&row.score, row.versus_baseline);
            let interval = score.fractional_interval;
            let difference = versus.and_then(|v| v.interval);
            let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
            let count = |value: Option<usize>| value.map_or(String::new(), |v| v.to_string());
            let mut fields = vec![
                quoted(&row.variant),
                count(row.step_limit),
                number(row.budget_seconds),
                score.tasks.to_string(),
                score.known_tasks.to_string(),
                score.missing.to_string(),
                count(score.solved),
                number(score.pass_at_2.strict),
                number(score.pass_at_2.fractional),
                number(interval.map(|i| i[0])),
                number(interval.map(|i| i[1])),
                number(score.pass_at_1.strict),
                number(score.oracle.and_then(|o| o.strict)),
            ];
            let bins = bins(row);
            fields.extend(bins.iter().flat_map(|bin| [bin.solved, bin.of]).map(|n| n.to_string()));
            fields.extend([
                row.seconds.to_string(),
                row.steps.to_string(),
                row.peak_memory_bytes.map_or(String::new(), |bytes| bytes.to_string()),
                number(row.efficiency.outcome),
                number(row.efficiency.outcome_of_solved),
                number(row.efficiency.process),
                count(versus.map(|v| v.gained)),
                count(versus.map(|v| v.lost)),
                number(versus.map(|v| v.p)),
                number(versus.map(|v| v.difference)),
                number(difference.map(|i| i[0])),
                number(difference.map(|i| i[1])),
            ]);
            text += &fields.join(",");
            text.push('\n');
        }
        text
    }

    /// The cells of a table for people, the heads first.
    fn cells(&self) -> Vec<Vec<String>> {
        let baseline = self.rows.iter().find(|row| row.versus_baseline.is_none());
        let against = baseline.map_or("baseline", |row| row.variant.as_str());
        let mut heads: Vec<String> = COLUMNS.map(str::to_owned).into();
        heads.extend([format!("against {against}"), "p".to_owned()]);
        std::iter::once(heads).chain(self.rows.iter().map(cells)).collect()
    }
}

/// What a row says of each difficulty.
fn bins(row: &Row) -> [Bin; 4] {
    Difficulty::ALL
        .map(|difficulty| row.by_difficulty.get(&difficulty).copied().unwrap_or_default())
}

fn cells(row: &Row) -> Vec<String> {
    let score = &row.score;
    let percent =
        |share: Option<f64>| share.map_or("–".into(), |s| format!("{:.1} %", 100.0 * s));
    let share = |share: Option<f64>| share.map_or("–".into(), |s| format!("{s:.2}"));
    let solved = score.solved.map_or("–".into(), |n| format!("{n}/{}", score.known_tasks));
    let interval = score
        .fractional_interval
        .map_or("–".into(), |[low, high]| format!("{:.1}–{:.1}", 100.0 * low, 100.0 * high));
    let memory = row.peak_memory_bytes.map_or("–".into(), |bytes| (bytes >> 20).to_string());
    let (changes, p) = match row.versus_baseline {
        Some(v) => (format!("+{} −{}", v.gained, v.lost), format!("{:.2}", v.p)),
        None => (String::new(), String::new()),
    };
    let missing =
        if score.missing > 0 { format!(" ({} missing)", score.missing) } else { String::new() };
    vec![
        format!("{}{missing}", row.variant),
        solved,
        percent(score.pass_at_2.fractional),
        interval,
        percent(score.pass_at_1.strict),
        percent(score.oracle.and_then(|oracle| oracle.strict)),
        bins(row).map(|bin| format!("{}/{}", bin.solved, bin.of)).join(" "),
        format!("{:.1}", row.seconds),
        format!("{:.0}", row.steps),
        memory,
        share(row.efficiency.outcome),
        share(row.efficiency.process),
        changes,
        p,
    ]
}

/// A field as RFC 4180 has it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
