//! Grids and tasks as pictures: a [`Figure`] says what is shown, and [`to_terminal`] and [`to_image`] draw it.

mod canvas;
mod lettering;
mod png;
mod sheet;
mod terminal;

use crate::arc::{Attempts, Grid, N_COLORS, Task};

pub use png::{png_bytes, to_image};
pub use sheet::contact_sheet;
pub use terminal::{TerminalStyle, to_terminal};

/// The colors as ARC's own viewer shows them, red, green, blue: black, blue, red, green, yellow, gray,
/// magenta, orange, sky, maroon.
pub const PALETTE: [[u8; 3]; N_COLORS] = [
    [0x00, 0x00, 0x00],
    [0x00, 0x74, 0xD9],
    [0xFF, 0x41, 0x36],
    [0x2E, 0xCC, 0x40],
    [0xFF, 0xDC, 0x00],
    [0xAA, 0xAA, 0xAA],
    [0xF0, 0x12, 0xBE],
    [0xFF, 0x85, 0x1B],
    [0x7F, 0xDB, 0xFF],
    [0x87, 0x0C, 0x25],
];

/// The color of the lines between cells and of the frame around a grid.
pub const LINES: [u8; 3] = [0x55, 0x55, 0x55];

/// The color of the word for a right attempt.
const RIGHT: [u8; 3] = [0x1F, 0xA8, 0x32];

/// The color of the word for a wrong attempt.
const WRONG: [u8; 3] = [0xE0, 0x35, 0x2B];

/// A grid in a figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panel {
    /// What stands above it.
    pub label: String,
    /// The cells; `None` draws a question mark.
    pub grid: Option<Grid>,
    /// Whether an attempt is right, where that is known.
    pub verdict: Option<bool>,
    /// Cells to mark, row by row; empty for none.
    pub marked: Vec<bool>,
}

/// Grids that belong together: an input, then what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What stands above them.
    pub label: String,
    /// The input and its outputs; an arrow leads from the first to the second.
    pub panels: Vec<Panel>,
    /// Whether the group begins a new line.
    pub new_line: bool,
}

/// What is to be drawn: groups that flow from left to right and wrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What stands on top.
    pub title: String,
    /// The groups in reading order.
    pub groups: Vec<Group>,
}

impl Panel {
    /// A grid without marks; `None` is an unknown one.
    pub fn plain(label: &str, grid: Option<&Grid>) -> Self {
        let label = label.to_string();
        Self { label, grid: grid.cloned(), verdict: None, marked: Vec::new() }
    }

    /// An attempt, judged against the truth where that is known. Wrong cells are marked and counted if the
    /// shape is right; else the label says the shape.
    pub fn attempt(label: &str, attempt: Option<&Grid>, truth: Option<&Grid>) -> Self {
        let mut panel = Self::plain(label, attempt);
        let Some(truth) = truth else { return panel };
        panel.verdict = Some(attempt == Some(truth));
        match attempt {
            Some(grid) if grid.shape() == truth.shape() => {
                let differs = |(a, b): (&u8, &u8)| a != b;
                panel.marked = grid.cells().iter().zip(truth.cells()).map(differs).collect();
                let wrong = panel.marked.iter().filter(|marked| **marked).count();
                if wrong > 0 {
                    panel.label = format!("{label} ({wrong} wrong)");
                }
            }
            Some(grid) => {
                let (height, width) = grid.shape();
                panel.label = format!("{label} ({height}×{width})");
            }
            None => {}
        }
        panel
    }

    /// Whether the cell with this row-major index is to be marked.
    fn is_marked(&self, cell: usize) -> bool {
        self.marked.get(cell).copied().unwrap_or(false)
    }
}

/// A task with its demonstrations, its tests and, if given, the attempts at them.
pub fn task_figure(task: &Task, attempts: Option<&[Attempts]>) -> Figure {
    let demonstration = |(i, example): (usize, &crate::arc::Example)| Group {
        label: format!("demonstration {}", i + 1),
        panels: vec![
            Panel::plain("input", Some(&example.input)),
            Panel::plain("output", Some(&example.output)),
        ],
        new_line: i == 0,
    };
    let mut groups: Vec<_> = task.examples.iter().enumerate().map(demonstration).collect();
    for (t, test) in task.tests.iter().enumerate() {
        let truth = test.output.as_ref();
        let mut panels =
            vec![Panel::plain("input", Some(&test.input)), Panel::plain("output", truth)];
        if let Some(attempts) = attempts.and_then(|all| all.get(t)) {
            let [first, second] = attempts.both();
            panels.push(Panel::attempt("attempt 1", first, truth));
            panels.push(Panel::attempt("attempt 2", second, truth));
        }
        let new_line = t == 0 || attempts.is_some();
        groups.push(Group { label: format!("test {}", t + 1), panels, new_line });
    }
    Figure { title: task.id.clone(), groups }
}

/// Black or white, whichever stands out from `rgb`.
fn contrast([r, g, b]: [u8; 3]) -> [u8; 3] {
    let light = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
    if light > 128_000 { [0; 3] } else { [255; 3] }
}

/// Cuts items of these widths into as few lines as fit `max_width`, and evenly: a line ends before an item
/// that begins a new one, or that would pass the width. Gives the number of items of each line.
fn wrap(items: &[(usize, bool)], gap: usize, max_width: usize) -> Vec<usize> {
    let widest = wrap_at(items, gap, max_width);
    // The narrowest width that needs no more lines leaves no item alone on the last one.
    let narrower = (0..max_width).find_map(|width| {
        let lines = wrap_at(items, gap, width);
        (lines.len() == widest.len()).then_some(lines)
    });
    narrower.unwrap_or(widest)
}

fn wrap_at(items: &[(usize, bool)], gap: usize, max_width: usize) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut used = 0;
    for &(width, new_line) in items {
        match lines.last_mut() {
            Some(count) if !new_line && used + gap + width <= max_width => {
                *count += 1;
                used += gap + width;
            }
            _ => {
                lines.push(1);
                used = width;
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_of_the_right_shape_marks_exactly_the_wrong_cells() {
        let truth = Grid::from_rows(&[[1, 2], [3, 4]]).unwrap();
        let attempt = Grid::from_rows(&[[1, 2], [0, 4]]).unwrap();
        let panel = Panel::attempt("a", Some(&attempt), Some(&truth));
        assert_eq!((panel.verdict, panel.marked), (Some(false), vec![false, false, true, false]));
        let right = Panel::attempt("a", Some(&truth), Some(&truth));
        assert_eq!((right.verdict, right.marked), (Some(true), vec![false; 4]));
        assert_eq!(Panel::attempt("a", Some(&truth), None).verdict, None);
        let missing = Panel::attempt("a", None, Some(&truth));
        assert_eq!((missing.verdict, missing.grid), (Some(false), None));
    }

    #[test]
    fn lines_wrap_at_the_width_and_where_told() {
        let items = [(4, true), (4, false), (4, false), (2, true), (20, false), (1, false)];
        assert_eq!(wrap(&items, 1, 9), [2, 1, 1, 1, 1]);
        assert_eq!(wrap(&[(4, true), (4, false), (4, false), (4, false)], 1, 14), [2, 2]);
        assert_eq!(wrap(&[], 1, 9), [0usize; 0]);
    }
}
