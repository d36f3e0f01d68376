//! A curve in block characters.

/// Eighths of a cell, from empty to full.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws positive values on a logarithmic scale as `height` lines of bars, `width` of them at most, the first
/// value on the left. Where there are more values than bars, a bar is the mean of its share.
///
/// The largest and the smallest bar stand in front of the first and the last line.
pub(super) fn chart(values: &[f32], width: usize, height: usize) -> Vec<String> {
    let bars = shares(values, width);
    if bars.is_empty() || height == 0 {
        return Vec::new();
    }
    let logs: Vec<f32> = bars.iter().map(|v| v.max(1e-9).ln()).collect();
    let (low, high) = logs.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let eighths = |log: f32| {
        // Even the lowest bar is seen, and a flat curve stands half high.
        let share = if high > low { (log - low) / (high - low) } else { 0.5 };
        1 + (share * (height * 8 - 1) as f32).round() as usize
    };
    let line = |row: usize| {
        let below = (height - 1 - row) * 8;
        let label = match row {
            0 => format!("{:>8.4} ", high.exp()),
            _ if row + 1 == height => format!("{:>8.4} ", low.exp()),
            _ => " ".repeat(9),
        };
        let cells = logs.iter().map(|&log| EIGHTHS[eighths(log).saturating_sub(below).min(8)]);
        label.chars().chain(cells).collect::<String>().trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// Cuts values into at most `count` shares of nearly the same length, and takes their means.
fn shares(values: &[f32], count: usize) -> Vec<f32> {
    let (n, count) = (values.len(), count.min(values.len()));
    let share = |i: usize| &values[i * n / count..(i + 1) * n / count];
    (0..count).map(|i| share(i).iter().sum::<f32>() / share(i).len() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_curve_falls_from_the_top_line_to_the_bottom() {
        let lines = chart(&[8.0, 4.0, 2.0, 1.0], 10, 2);
        assert_eq!(lines, ["  8.0000 █▃", "  1.0000 ██▆▁"].map(str::to_owned));
    }

    #[test]
    fn more_values_than_bars_are_averaged_and_none_is_lost() {
        assert_eq!(shares(&[1.0, 3.0, 5.0, 7.0, 9.0], 2), [2.0, 7.0]);
        assert_eq!(shares(&[1.0, 3.0], 5), [1.0, 3.0]);
        let lines = chart(&vec![1.0; 1000], 60, 3);
        assert!(lines.iter().all(|l| l.chars().count() <= 69), "{lines:?}");
    }

    #[test]
    fn nothing_gives_nothing_and_zeros_do_not_break_it() {
        assert!(chart(&[], 10, 4).is_empty());
        assert_eq!(chart(&[0.0, 0.0], 10, 4).len(), 4);
        assert_eq!(chart(&[1.0, 0.0], 10, 1).len(), 1);
    }
}
