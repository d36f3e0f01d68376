//! Charts as SVG. Their colors and strokes are classes of `page.css`, so that they follow the page's theme.

use maud::{Markup, html};

use super::bins::Bin;

/// Width of a chart in its own units; small enough that its text, 12.5 of them high, can be read on a phone.
const WIDTH: f64 = 400.0;

/// Height of a chart.
const HEIGHT: f64 = 240.0;

/// The plot area within a chart: left, top, right, bottom.
const AREA: [f64; 4] = [48.0, 22.0, WIDTH - 20.0, HEIGHT - 46.0];

/// How values are laid along an axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// What the values are.
    pub label: String,
    low: f64,
    high: f64,
    log: bool,
    /// Values that are written at the axis.
    ticks: Vec<(f64, String)>,
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its class: color and dashes.
    pub class: &'static str,
    /// Its points, in the axes' units.
    pub points: Vec<(f64, f64)>,
    /// Whether the value holds until the next point, instead of changing evenly.
    pub stepped: bool,
    /// Whether each point gets a dot.
    pub dotted: bool,
    /// The region around it, as lower and upper edge; empty for none.
    pub band: Vec<(f64, f64, f64)>,
}

impl Axis {
    /// Shares from 0 to 1 as percentages, up to a round one that is no lower than `high`.
    pub(super) fn share(label: &str, high: f64) -> Self {
        const STEPS: [u32; 4] = [2, 5, 10, 20];
        let high = (100.0 * high.clamp(0.02, 1.0)).ceil() as u32;
        let step = STEPS.into_iter().find(|step| high.div_ceil(*step) <= 5).unwrap_or(20);
        let ticks = (0..=high.div_ceil(step)).map(|i| i * step);
        let ticks: Vec<_> = ticks.map(|t| (f64::from(t) / 100.0, format!("{t} %"))).collect();
        let high = ticks.last().map_or(1.0, |tick| tick.0);
        Self { label: label.into(), low: 0.0, high, log: false, ticks }
    }

    /// Differences of shares in points, 0 among them, from a round one no higher than `low` to one no lower than `high`.
    pub(super) fn points(label: &str, low: f64, high: f64) -> Self {
        const STEPS: [i32; 5] = [2, 5, 10, 20, 50];
        let (low, high) =
            ((100.0 * low.min(0.0)).floor() as i32, (100.0 * high.max(0.02)).ceil() as i32);
        let fits = |step: &i32| high.div_euclid(*step) - low.div_euclid(*step) <= 6;
        let step = STEPS.into_iter().find(fits).unwrap_or(50);
        let (first, last) = (low.div_euclid(step), -(-high).div_euclid(step));
        let tick = |t: i32| (f64::from(t) / 100.0, format!("{t:+}").replace('-', "−"));
        let ticks: Vec<_> = (first..=last).map(|i| tick(i * step)).collect();
        let (low, high) = (ticks[0].0, ticks[ticks.len() - 1].0);
        Self { label: label.into(), low, high, log: false, ticks }
    }

    /// Positive values by their logarithm, with ticks at round ones.
    pub(super) fn log(label: &str, low: f64, high: f64) -> Self {
        /// Multiples of powers of ten, the roundest first.
        const MARKS: [&[f64]; 4] = [
            &[1.0],
            &[1.0, 3.0],
            &[1.0, 2.0, 5.0],
            &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
        ];
        let low = low.max(1e-6);
        let high = high.max(low * 2.0);
        let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
        let ticks = |marks: &[f64]| -> Vec<(f64, String)> {
            let values = decades.clone().flat_map(|d| marks.iter().map(move |m| m * 10f64.powi(d)));
            let within = values.filter(|v| (low * 0.999..=high * 1.001).contains(v));
            within.map(|v| (v, plain(v))).collect()
        };
        // As few ticks as say how far apart values are.
        let ticks = MARKS.map(ticks).into_iter().find(|ticks| ticks.len() > 2);
        Self { label: label.into(), low, high, log: true, ticks: ticks.unwrap_or_default() }
    }

    /// Numbers that double, each written.
    pub(super) fn doubling(label: &str, values: &[usize]) -> Self {
        let ends = (values.first().copied().unwrap_or(1), values.last().copied().unwrap_or(2));
        let ticks = values.iter().map(|&v| (v as f64, v.to_string())).collect();
        Self { label: label.into(), low: ends.0 as f64, high: ends.1 as f64, log: true, ticks }
    }

    /// Where a value stands, from 0 at the low end to 1 at the high end.
    fn at(&self, value: f64) -> f64 {
        let scale = |v: f64| if self.log { v.max(1e-12).ln() } else { v };
        let (low, high) = (scale(self.low), scale(self.high));
        ((scale(value) - low) / (high - low)).clamp(0.0, 1.0)
    }
}

/// A number without needless zeros.
fn plain(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

/// A coordinate, to a tenth of a unit.
fn c(value: f64) -> String {
    format!("{}", (value * 10.0).round() / 10.0)
}

fn px(axis: &Axis, value: f64) -> f64 {
    AREA[0] + axis.at(value) * (AREA[2] - AREA[0])
}

fn py(axis: &Axis, value: f64) -> f64 {
    AREA[3] - axis.at(value) * (AREA[3] - AREA[1])
}

/// A figure: its title, a sentence on it, the chart and the legend where there is more than one series.
pub(super) fn figure(title: &str, note: &str, legend: &[(&str, &str)], chart: &Markup) -> Markup {
    html! {
        figure.plot {
            figcaption {
                h3 { (title) }
                p { (note) }
            }
            (chart)
            @if !legend.is_empty() {
                ul.legend {
                    @for (class, name) in legend {
                        li { span class={ "key " (class) } {} (name) }
                    }
                }
            }
        }
    }
}

/// Lines over two axes. `alt` says in words what is to be seen.
pub(super) fn lines(x: &Axis, y: &Axis, lines: &[Line], alt: &str) -> Markup {
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(alt) {
            (frame(x, y))
            @for line in lines {
                @if !line.band.is_empty() {
                    path class={ "band " (line.class) } d=(band(x, y, &line.band)) {}
                }
            }
            @for line in lines {
                path class={ "line " (line.class) } d=(path(x, y, line)) {}
                @if line.dotted {
                    @for &(vx, vy) in &line.points {
                        circle class={ "dot " (line.class) } cx=(c(px(x, vx))) cy=(c(py(y, vy))) r="3.5" {
                            title { (line.name) ": " (plain(vx)) ", " (format!("{:.1} %", 100.0 * vy)) }
                        }
                    }
                }
            }
        }
    }
}

/// Grid lines, ticks and labels.
fn frame(x: &Axis, y: &Axis) -> Markup {
    let [left, _, right, bottom] = AREA;
    html! {
        g.axis {
            @for (value, text) in &y.ticks {
                @let at = py(y, *value);
                line x1=(c(left)) x2=(c(right)) y1=(c(at)) y2=(c(at)) {}
                text x=(c(left - 8.0)) y=(c(at + 4.0)) text-anchor="end" { (text) }
            }
            @for (value, text) in &x.ticks {
                @let at = px(x, *value);
                line.tick x1=(c(at)) x2=(c(at)) y1=(c(bottom)) y2=(c(bottom + 5.0)) {}
                text x=(c(at)) y=(c(bottom + 19.0)) text-anchor="middle" { (text) }
            }
            text.label x=(c((left + right) / 2.0)) y=(c(HEIGHT - 6.0)) text-anchor="middle" { (x.label) }
        }
    }
}

fn path(x: &Axis, y: &Axis, line: &Line) -> String {
    let mut d = String::new();
    for (i, &(vx, vy)) in line.points.iter().enumerate() {
        let (at_x, at_y) = (c(px(x, vx)), c(py(y, vy)));
        d += &match (i, line.stepped) {
            (0, _) => format!("M{at_x} {at_y}"),
            (_, true) => format!("H{at_x}V{at_y}"),
            (_, false) => format!("L{at_x} {at_y}"),
        };
    }
    d
}

fn band(x: &Axis, y: &Axis, edges: &[(f64, f64, f64)]) -> String {
    let point = |vx: f64, vy: f64| format!("{} {}", c(px(x, vx)), c(py(y, vy)));
    let lower = edges.iter().map(|&(vx, low, _)| point(vx, low));
    let upper = edges.iter().rev().map(|&(vx, _, high)| point(vx, high));
    format!("M{}Z", lower.chain(upper).collect::<Vec<_>>().join("L"))
}

/// An estimate with its interval, as a row of [`intervals`].
#[derive(Debug, Clone)]
pub(super) struct Interval {
    /// What it is of.
    pub name: String,
    /// The estimate in words.
    pub text: String,
    /// The estimate, in the axis's units.
    pub value: f64,
    /// Its 95 % interval, if it is known.
    pub ends: Option<[f64; 2]>,
}

/// A row for each estimate: its name, and below it a dot within its interval; a dashed line marks `reference` in all.
pub(super) fn intervals(x: &Axis, rows: &[Interval], reference: f64, alt: &str) -> Markup {
    let [left, right, top, high] = [20.0, WIDTH - 22.0, 6.0, 34.0];
    let at = |value: f64| c(left + x.at(value) * (right - left));
    let bottom = top + high * rows.len() as f64 + 4.0;
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (c(bottom + 46.0)) } role="img" aria-label=(alt) {
            g.axis {
                @for (value, text) in &x.ticks {
                    line x1=(at(*value)) x2=(at(*value)) y1=(c(top)) y2=(c(bottom)) {}
                    text x=(at(*value)) y=(c(bottom + 19.0)) text-anchor="middle" { (text) }
                }
                text.label x=(c(WIDTH / 2.0)) y=(c(bottom + 40.0)) text-anchor="middle" { (x.label) }
            }
            line.reference x1=(at(reference)) x2=(at(reference)) y1=(c(top)) y2=(c(bottom)) {}
            @for (i, row) in rows.iter().enumerate() {
                @let y = top + high * i as f64;
                text.name x=(c(left)) y=(c(y + 13.0)) { (row.name) }
                text.count x=(c(right)) y=(c(y + 13.0)) text-anchor="end" { (row.text) }
                @if let Some([low, high]) = row.ends {
                    line.whisker x1=(at(low)) x2=(at(high)) y1=(c(y + 24.0)) y2=(c(y + 24.0)) {}
                }
                circle.dot.a cx=(at(row.value)) cy=(c(y + 24.0)) r="4.5" {}
            }
        }
    }
}

/// Numbered dots over two axes, from 1 on.
pub(super) fn dots(x: &Axis, y: &Axis, points: &[(f64, f64)], alt: &str) -> Markup {
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(alt) {
            (frame(x, y))
            @for (i, &(vx, vy)) in points.iter().enumerate() {
                circle.dot.a cx=(c(px(x, vx))) cy=(c(py(y, vy))) r="3.5" {}
                text.count x=(c(px(x, vx) + 6.0)) y=(c(py(y, vy) - 5.0)) { (i + 1) }
            }
        }
    }
}

/// Bars of the share of solved tasks in each bin, a bar for each series; below each bin how many of how many.
///
/// # Panics
/// If the series do not have the same bins.
pub(super) fn bars(label: &str, series: &[(&str, Vec<Bin>)], alt: &str) -> Markup {
    let [left, top, right, bottom] = AREA;
    let y = Axis::share("", 1.0);
    let x = Axis { label: label.into(), low: 0.0, high: 1.0, log: false, ticks: Vec::new() };
    let n = series.first().map_or(0, |(_, bins)| bins.len());
    assert!(series.iter().all(|(_, bins)| bins.len() == n), "series of the same bins");
    let slot = (right - left) / n.max(1) as f64;
    // Two bars side by side take the room that their numbers need.
    let share = if series.len() > 1 { 0.94 } else { 0.62 };
    let width = (slot * share / series.len().max(1) as f64).min(44.0);
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(alt) {
            (frame(&x, &y))
            @for bin in 0..n {
                @let middle = left + slot * (bin as f64 + 0.5);
                g.axis { text x=(c(middle)) y=(c(bottom + 19.0)) text-anchor="middle" { (series[0].1[bin].label) } }
                @for (s, (class, bins)) in series.iter().enumerate() {
                    @let Bin { solved, of, .. } = bins[bin];
                    @let start = middle + width * (s as f64 - series.len() as f64 / 2.0);
                    @let high = if of > 0 { (bottom - top) * solved as f64 / of as f64 } else { 0.0 };
                    @if of > 0 {
                        rect class={ "bar " (class) } x=(c(start + 1.0)) width=(c(width - 2.0)) rx="2"
                            y=(c(bottom - high.max(1.5))) height=(c(high.max(1.5))) {}
                        text.count x=(c(start + width / 2.0)) y=(c(bottom - high - 6.0))
                            text-anchor="middle" { (solved) "/" (of) }
                    }
                }
            }
        }
    }
}

/// Parts of a whole as one bar: `(class, share)`.
pub(super) fn parts(parts: &[(&str, f64)], alt: &str) -> Markup {
    let starts = parts.iter().scan(0.0, |sum, part| {
        let start = *sum;
        *sum += part.1;
        Some(start)
    });
    html! {
        svg.parts viewBox={ "0 0 " (WIDTH) " 26" } preserveAspectRatio="none" role="img" aria-label=(alt) {
            @for ((class, share), start) in parts.iter().zip(starts) {
                rect class={ "bar " (class) } x=(c(WIDTH * start)) width=(c(WIDTH * share)) y="0" height="26" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_put_their_ends_at_the_ends() {
        let time = Axis::log("s", 0.5, 80.0);
        assert_eq!((time.at(0.5), time.at(80.0)), (0.0, 1.0));
        assert!((time.at((0.5f64 * 80.0).sqrt()) - 0.5).abs() < 1e-9);
        assert!(time.ticks.iter().any(|(v, text)| *v == 10.0 && text == "10"));
        for (low, high) in [(3.0, 5.0), (0.9, 1.0), (1e-4, 1e3), (2.0, 40.0)] {
            let ticks = Axis::log("s", low, high).ticks;
            assert!((3..=8).contains(&ticks.len()), "{low} {high}: {ticks:?}");
        }
        assert_eq!(
            [0.13, 0.5, 0.51, 0.0].map(|high| Axis::share("", high).high),
            [0.15, 0.5, 0.6, 0.02]
        );
        assert_eq!(Axis::share("", 1.0).high, 1.0);
    }

    #[test]
    fn differences_have_ticks_on_both_sides_of_nothing() {
        let check = |low, high, expected: &[&str]| {
            let axis = Axis::points("", low, high);
            let ticks: Vec<_> = axis.ticks.iter().map(|tick| tick.1.as_str()).collect();
            assert_eq!(ticks, expected);
            assert!(axis.low <= low && axis.high >= high);
        };
        check(-0.031, 0.152, &["−5", "+0", "+5", "+10", "+15", "+20"]);
        check(0.0, 0.0, &["+0", "+2"]);
        check(-0.9, -0.1, &["−100", "−80", "−60", "−40", "−20", "+0", "+20"]);
    }

    #[test]
    fn intervals_stand_in_their_rows_around_their_dots() {
        let row = |name: &str, value, ends| Interval {
            name: name.into(),
            text: "1/2".into(),
            value,
            ends,
        };
        let axis = Axis::share("solved", 1.0);
        let rows = [row("a <b>", 0.5, Some([0.25, 1.0])), row("c", 0.0, None)];
        let svg = intervals(&axis, &rows, 0.5, "").into_string();
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("class=\"whisker\" x1=\"109.5\" x2=\"378\""), "{svg}");
        assert!(svg.contains("cx=\"199\"") && svg.contains("cx=\"20\""), "{svg}");
        assert_eq!(svg.matches("whisker").count(), 1);
    }

    #[test]
    fn a_stepped_line_turns_only_at_right_angles() {
        let line = Line {
            name: "a".into(),
            class: "a",
            points: vec![(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)],
            stepped: true,
            dotted: false,
            band: vec![],
        };
        let axis = Axis::share("", 1.0);
        let d = path(&axis, &axis, &line);
        assert!(d.matches('H').count() == 2 && !d.contains('L'), "{d}");
    }

    #[test]
    fn bars_say_how_many_of_how_many() {
        let bin = |solved, of| Bin { label: "1–5".into(), solved, of };
        let svg = bars("side", &[("a", vec![bin(1, 3)]), ("b", vec![bin(0, 0)])], "").into_string();
        assert!(svg.contains("1/3") && !svg.contains("0/0"), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
