//! Figures as text for a terminal, in 24-bit color or in digits.

use super::{Figure, Group, LINES, PALETTE, Panel, RIGHT, WRONG, contrast, wrap};
use crate::arc::Grid;

/// How a terminal is drawn to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Columns.
    pub width: usize,
    /// Whether to use color; without it, cells are digits and wrong ones carry a star.
    pub color: bool,
}

/// How large cells are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// Two columns and a line a cell.
    Wide,
    /// A column and half a line a cell in color, a column and a line in digits.
    Narrow,
}

/// Where shorter blocks stand beside higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Align {
    Top,
    Middle,
}

/// Columns between the panels of a group, where the arrow stands.
const ARROW: usize = 3;
/// Columns between groups.
const GAP: usize = 4;

const RESET: &str = "\x1b[0m";

/// Lines of text, all of the same visible width.
struct Block {
    width: usize,
    lines: Vec<String>,
}

/// The figure as text, every line ended, no line wider than the terminal unless a single grid is.
///
/// Cells are two columns wide where every group fits the width so, else one.
pub fn to_terminal(figure: &Figure, style: TerminalStyle) -> String {
    let fits =
        |scale| figure.groups.iter().all(|group| group_width(group, scale, style) <= style.width);
    let scale = if fits(Scale::Wide) { Scale::Wide } else { Scale::Narrow };
    let blocks: Vec<_> = figure.groups.iter().map(|g| group_block(g, scale, style)).collect();
    let items: Vec<_> =
        blocks.iter().zip(&figure.groups).map(|(block, g)| (block.width, g.new_line)).collect();
    let mut text = format!("{}\n", strong(&figure.title, style));
    let mut blocks = blocks.into_iter();
    for count in wrap(&items, GAP, style.width) {
        let line: Vec<Block> = blocks.by_ref().take(count).collect();
        text.push('\n');
        for row in beside(line, GAP, Align::Top).lines {
            text.push_str(row.trim_end());
            text.push('\n');
        }
    }
    text
}

fn group_width(group: &Group, scale: Scale, style: TerminalStyle) -> usize {
    let widths = group.panels.iter().map(|panel| panel_block(panel, scale, style).width);
    widths.sum::<usize>() + ARROW * group.panels.len().saturating_sub(1)
}

/// A group: its label over its panels, which wrap if the terminal is too narrow.
fn group_block(group: &Group, scale: Scale, style: TerminalStyle) -> Block {
    let panels: Vec<_> = group.panels.iter().map(|p| panel_block(p, scale, style)).collect();
    let items: Vec<_> = panels.iter().map(|block| (block.width, false)).collect();
    let mut lines = vec![(group.label.chars().count(), strong(&group.label, style))];
    let (mut panels, mut first) = (panels.into_iter(), true);
    for count in wrap(&items, ARROW, style.width) {
        let mut row: Vec<Block> = panels.by_ref().take(count).collect();
        if first && row.len() > 1 {
            // The blank line stands beside the labels, so that the arrow is halfway down the cells.
            let arrow = Block { width: ARROW, lines: vec!["   ".to_string(), " → ".to_string()] };
            row.insert(1, arrow);
        }
        let joined = if first { beside_arrow(row) } else { beside(row, ARROW, Align::Middle) };
        first = false;
        lines.extend(joined.lines.into_iter().map(|line| (joined.width, line)));
    }
    let width = lines.iter().map(|(width, _)| *width).max().unwrap_or(0);
    let pad = |(own, line): (usize, String)| line + &" ".repeat(width - own);
    Block { width, lines: lines.into_iter().map(pad).collect() }
}

/// Joins a first row: nothing extra around the arrow, the usual gap between the later panels.
fn beside_arrow(row: Vec<Block>) -> Block {
    let mut row = row.into_iter();
    let head = beside(row.by_ref().take(3).collect(), 0, Align::Middle);
    let rest: Vec<Block> = row.collect();
    beside(std::iter::once(head).chain(rest).collect(), ARROW, Align::Middle)
}

/// Joins blocks from left to right.
fn beside(blocks: Vec<Block>, gap: usize, align: Align) -> Block {
    let height = blocks.iter().map(|block| block.lines.len()).max().unwrap_or(0);
    let gaps = gap * blocks.len().saturating_sub(1);
    let width = blocks.iter().map(|block| block.width).sum::<usize>() + gaps;
    let mut lines = vec![String::new(); height];
    for (i, block) in blocks.iter().enumerate() {
        let above = match align {
            Align::Top => 0,
            Align::Middle => (height - block.lines.len()) / 2,
        };
        for (y, line) in lines.iter_mut().enumerate() {
            if i > 0 {
                line.push_str(&" ".repeat(gap));
            }
            match y.checked_sub(above).and_then(|y| block.lines.get(y)) {
                Some(text) => line.push_str(text),
                None => line.push_str(&" ".repeat(block.width)),
            }
        }
    }
    Block { width, lines }
}

/// A panel: its label over its framed cells.
fn panel_block(panel: &Panel, scale: Scale, style: TerminalStyle) -> Block {
    let sign = match panel.verdict {
        Some(true) => " ✓",
        Some(false) => " ✗",
        None => "",
    };
    let label = format!("{}{sign}", panel.label);
    let cells = match (&panel.grid, style.color) {
        (None, _) => Block { width: 1, lines: vec!["?".to_string()] },
        (Some(grid), false) => digits(panel, grid, scale),
        (Some(grid), true) if scale == Scale::Wide => wide_cells(panel, grid),
        (Some(grid), true) => half_cells(grid),
    };
    let label_width = label.chars().count();
    let width = cells.width.max(label_width);
    let shown = match panel.verdict {
        Some(right) if style.color => paint(&label, Some(if right { RIGHT } else { WRONG }), None),
        _ => label,
    };
    let pad = |text: String, own: usize| text + &" ".repeat(width - own);
    let mut lines = vec![pad(shown, label_width)];
    lines.extend(cells.lines.into_iter().map(|line| pad(line, cells.width)));
    Block { width, lines }
}

fn digits(panel: &Panel, grid: &Grid, scale: Scale) -> Block {
    let cell = |i: usize, color: u8| match scale {
        Scale::Wide if panel.is_marked(i) => format!("*{color}"),
        Scale::Wide => format!(" {color}"),
        Scale::Narrow => color.to_string(),
    };
    let line = |(y, row): (usize, &[u8])| -> String {
        row.iter().enumerate().map(|(x, &color)| cell(y * grid.width() + x, color)).collect()
    };
    let columns = if scale == Scale::Wide { 2 } else { 1 };
    Block { width: columns * grid.width(), lines: grid.rows().enumerate().map(line).collect() }
}

/// Two columns and a line a cell, in a thin frame.
fn wide_cells(panel: &Panel, grid: &Grid) -> Block {
    let inner = 2 * grid.width();
    let cell = |i: usize, color: u8| {
        let rgb = PALETTE[usize::from(color)];
        let text = if panel.is_marked(i) { "><" } else { "  " };
        paint(text, Some(contrast(rgb)), Some(rgb))
    };
    let side = |c: &str| paint(c, Some(LINES), None);
    let mut lines = vec![side(&format!("▗{}▖", "▄".repeat(inner)))];
    for (y, row) in grid.rows().enumerate() {
        let cells: String =
            row.iter().enumerate().map(|(x, &c)| cell(y * grid.width() + x, c)).collect();
        lines.push(format!("{}{cells}{}", side("▐"), side("▌")));
    }
    lines.push(side(&format!("▝{}▘", "▀".repeat(inner))));
    Block { width: inner + 2, lines }
}

/// A column and half a line a cell, in a thin frame; two rows of cells share a line.
fn half_cells(grid: &Grid) -> Block {
    let rgb = |row: usize, x: usize| PALETTE[usize::from(grid.get(row, x))];
    let side = |c: &str| paint(c, Some(LINES), None);
    let mut lines = vec![side(&format!("▗{}▖", "▄".repeat(grid.width())))];
    for top in (0..grid.height()).step_by(2) {
        // A single last row leaves the lower half of its line to the frame.
        let below = |x| if top + 1 < grid.height() { rgb(top + 1, x) } else { LINES };
        let cells: String =
            (0..grid.width()).map(|x| paint("▀", Some(rgb(top, x)), Some(below(x)))).collect();
        lines.push(format!("{}{cells}{}", side("▐"), side("▌")));
    }
    if grid.height().is_multiple_of(2) {
        lines.push(side(&format!("▝{}▘", "▀".repeat(grid.width()))));
    }
    Block { width: grid.width() + 2, lines }
}

fn strong(text: &str, style: TerminalStyle) -> String {
    if style.color { format!("\x1b[1m{text}{RESET}") } else { text.to_string() }
}

fn paint(text: &str, front: Option<[u8; 3]>, back: Option<[u8; 3]>) -> String {
    let code = |layer: u8, rgb: Option<[u8; 3]>| {
        rgb.map(|[r, g, b]| format!("\x1b[{layer};2;{r};{g};{b}m")).unwrap_or_default()
    };
    format!("{}{}{text}{RESET}", code(38, front), code(48, back))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{Attempts, Example, Task, Test};
    use crate::render::task_figure;

    fn task(side: usize) -> Task {
        let grid = Grid::from_fn(side, side, |r, c| ((r + c) % 10) as u8);
        let example = Example { input: grid.clone(), output: grid.clone() };
        let tests = vec![Test { input: grid.clone(), output: Some(grid) }];
        Task { id: "t".into(), examples: vec![example; 3], tests }
    }

    /// The text without its escape sequences.
    fn visible(text: &str) -> String {
        let mut plain = String::new();
        let mut parts = text.split('\x1b');
        plain.push_str(parts.next().unwrap_or_default());
        for part in parts {
            plain.push_str(part.split_once('m').unwrap().1);
        }
        plain
    }

    #[test]
    fn without_color_cells_are_digits_and_wrong_ones_carry_a_star() {
        let task = task(2);
        let wrong = Grid::from_rows(&[[0, 1], [1, 9]]).unwrap();
        let attempts = [Attempts::new(wrong, task.tests[0].input.clone())];
        let figure = task_figure(&task, Some(&attempts));
        let text = to_terminal(&figure, TerminalStyle { width: 60, color: false });
        let expected = "\
t

demonstration 1    demonstration 2    demonstration 3
input   output     input   output     input   output
 0 1  →  0 1        0 1  →  0 1        0 1  →  0 1
 1 2     1 2        1 2     1 2        1 2     1 2

test 1
input   output   attempt 1 (1 wrong) ✗   attempt 2 ✓
 0 1  →  0 1      0 1                     0 1
 1 2     1 2      1*9                     1 2
";
        assert_eq!(text, expected);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for (side, color) in [(3, false), (3, true), (12, true), (30, true), (30, false)] {
            for width in [40, 80, 200] {
                let text =
                    to_terminal(&task_figure(&task(side), None), TerminalStyle { width, color });
                let widest = visible(&text).lines().map(|l| l.chars().count()).max().unwrap();
                assert!(widest <= width, "{side} {color}: {widest} > {width}");
            }
        }
    }

    #[test]
    fn two_rows_share_a_line_and_a_single_last_row_ends_in_the_frame() {
        let grid = Grid::from_rows(&[[1], [2], [3]]).unwrap();
        let block = half_cells(&grid);
        assert_eq!(block.lines.len(), 3);
        assert!(block.lines[1].contains("38;2;0;116;217m\x1b[48;2;255;65;54m▀"));
        assert!(block.lines[2].contains("38;2;46;204;64m\x1b[48;2;85;85;85m▀"));
    }

    #[test]
    fn an_unknown_output_is_a_question_mark() {
        let mut task = task(2);
        task.tests[0].output = None;
        let style = TerminalStyle { width: 60, color: false };
        let text = to_terminal(&task_figure(&task, None), style);
        assert!(text.ends_with("test 1\ninput   output\n 0 1  → ?\n 1 2\n"), "{text}");
    }
}
