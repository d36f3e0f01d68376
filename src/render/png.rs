//! Figures as images.

use image::{ImageFormat, RgbImage};

use super::canvas::{Canvas, text_width};
use super::{Figure, Group, LINES, PALETTE, Panel, RIGHT, WRONG, contrast, wrap};
use crate::arc::Grid;

pub(super) const PAPER: [u8; 3] = [0xFC, 0xFC, 0xFA];
pub(super) const INK: [u8; 3] = [0x22, 0x24, 0x28];
pub(super) const FAINT: [u8; 3] = [0x7A, 0x7F, 0x87];

/// Pixels around everything.
const MARGIN: usize = 32;
/// Width at which groups wrap.
const MAX_WIDTH: usize = 1600;
/// Height of capitals of the title, of group labels and of panel labels.
const TITLE: usize = 22;
const LABEL: usize = 13;
const SMALL: usize = 11;
/// Pixels between the panels of a group; the arrow stands in the first such gap.
const PANEL_GAP: usize = 44;
/// Pixels between groups side by side, and between lines of groups.
const GROUP_GAP: usize = 72;
const LINE_GAP: usize = 40;
/// From the top of a group to the top of its panels, and from there to their cells.
const GROUP_HEAD: usize = LABEL + 14;
const PANEL_HEAD: usize = SMALL + 10;
/// Side that the largest grid of a figure aims at, and the bounds of a cell's side.
const GRID_SIDE: usize = 420;
const CELL_SIDES: (usize, usize) = (10, 36);

/// The figure as an image: a title, then the groups with their labels, wrapped; cells with thin lines
/// between them, wrong ones crossed.
pub fn to_image(figure: &Figure) -> RgbImage {
    let cell = cell_side(figure);
    let sizes: Vec<_> = figure.groups.iter().map(|group| group_size(group, cell)).collect();
    let items: Vec<_> =
        sizes.iter().zip(&figure.groups).map(|(size, group)| (size[0], group.new_line)).collect();
    let lines = wrap(&items, GROUP_GAP, MAX_WIDTH - 2 * MARGIN);
    let placed = place(&sizes, &lines);
    let ends = || placed.iter().zip(&sizes);
    let right = ends().map(|(at, size)| at[0] + size[0]).max().unwrap_or(0);
    let bottom = ends().map(|(at, size)| at[1] + size[1]).max().unwrap_or(MARGIN + TITLE);
    let width = right.max(MARGIN + text_width(&figure.title, TITLE)) + MARGIN;
    let mut canvas = Canvas::new(width, bottom + MARGIN, PAPER);
    canvas.text([MARGIN, MARGIN], &figure.title, TITLE, INK);
    for (group, at) in figure.groups.iter().zip(placed) {
        draw_group(&mut canvas, group, at, cell);
    }
    canvas.into_image()
}

/// An image as the bytes of a PNG file.
pub fn png_bytes(image: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("memory takes any PNG");
    bytes.into_inner()
}

/// The side of a cell in pixels, the line after it included; one for the whole figure, so that grids can be
/// compared.
fn cell_side(figure: &Figure) -> usize {
    let grids = figure.groups.iter().flat_map(|g| &g.panels).filter_map(|p| p.grid.as_ref());
    let largest = grids.map(|g| g.height().max(g.width())).max().unwrap_or(1);
    (GRID_SIDE / largest).clamp(CELL_SIDES.0, CELL_SIDES.1)
}

/// Where each group's top left corner is, line by line.
fn place(sizes: &[[usize; 2]], lines: &[usize]) -> Vec<[usize; 2]> {
    let mut placed = Vec::with_capacity(sizes.len());
    let mut top = MARGIN + TITLE + LINE_GAP;
    for &count in lines {
        let line = &sizes[placed.len()..placed.len() + count];
        let mut left = MARGIN;
        for size in line {
            placed.push([left, top]);
            left += size[0] + GROUP_GAP;
        }
        top += line.iter().map(|size| size[1]).max().unwrap_or(0) + LINE_GAP;
    }
    placed
}

fn group_size(group: &Group, cell: usize) -> [usize; 2] {
    let panels = || group.panels.iter().map(|panel| panel_size(panel, cell));
    let gaps = PANEL_GAP * group.panels.len().saturating_sub(1);
    let width = panels().map(|size| size[0]).sum::<usize>() + gaps;
    let height = panels().map(|size| size[1]).max().unwrap_or(0);
    [width.max(text_width(&group.label, LABEL)), GROUP_HEAD + height]
}

fn panel_size(panel: &Panel, cell: usize) -> [usize; 2] {
    let [width, height] = cells_size(panel.grid.as_ref(), cell);
    [width.max(text_width(&shown_label(panel), SMALL)), PANEL_HEAD + height]
}

/// Pixels of the framed cells; an unknown grid takes a square of three cells.
fn cells_size(grid: Option<&Grid>, cell: usize) -> [usize; 2] {
    let (height, width) = grid.map_or((3, 3), Grid::shape);
    [width * cell + 1, height * cell + 1]
}

fn shown_label(panel: &Panel) -> String {
    match panel.verdict {
        Some(true) => format!("{} ✓", panel.label),
        Some(false) => format!("{} ✗", panel.label),
        None => panel.label.clone(),
    }
}

fn draw_group(canvas: &mut Canvas, group: &Group, [x, y]: [usize; 2], cell: usize) {
    canvas.text([x, y], &group.label, LABEL, INK);
    let heights = group.panels.iter().map(|panel| panel_size(panel, cell)[1]);
    let tallest = heights.max().unwrap_or(0);
    let mut left = x;
    for (i, panel) in group.panels.iter().enumerate() {
        let [width, height] = panel_size(panel, cell);
        // Grids of different heights stand on one middle line, the arrow's.
        draw_panel(canvas, panel, [left, y + GROUP_HEAD + (tallest - height) / 2], cell);
        if i == 0 && group.panels.len() > 1 {
            let [own_width, _] = cells_size(panel.grid.as_ref(), cell);
            let middle = y + GROUP_HEAD + (tallest + PANEL_HEAD) / 2;
            draw_arrow(canvas, left + own_width, left + width + PANEL_GAP, middle);
        }
        left += width + PANEL_GAP;
    }
}

/// An arrow in the middle between two grids.
fn draw_arrow(canvas: &mut Canvas, from: usize, to: usize, y: usize) {
    const LENGTH: f32 = 22.0;
    const HEAD: f32 = 6.0;
    let (center, y) = ((from + to) as f32 / 2.0, y as f32 + 0.5);
    let (tail, tip) = (center - LENGTH / 2.0, center + LENGTH / 2.0);
    let head = |dy: f32| [tip - HEAD, y + dy, tip, y];
    canvas.stroke(&[[tail, y, tip, y], head(-HEAD), head(HEAD)], 2.2, FAINT);
}

fn draw_panel(canvas: &mut Canvas, panel: &Panel, [x, y]: [usize; 2], cell: usize) {
    let color = match panel.verdict {
        Some(true) => RIGHT,
        Some(false) => WRONG,
        None => FAINT,
    };
    canvas.text([x, y], &shown_label(panel), SMALL, color);
    let top = y + PANEL_HEAD;
    let size = cells_size(panel.grid.as_ref(), cell);
    match &panel.grid {
        Some(grid) => draw_cells(canvas, panel, grid, [x, top], cell),
        None => draw_unknown(canvas, [x, top], size),
    }
    if panel.verdict.is_some() {
        draw_frame(canvas, [x, top], size, color);
    }
}

fn draw_cells(canvas: &mut Canvas, panel: &Panel, grid: &Grid, [x, y]: [usize; 2], cell: usize) {
    canvas.fill([x, y], cells_size(Some(grid), cell), LINES);
    for (i, &color) in grid.cells().iter().enumerate() {
        let (row, column) = (i / grid.width(), i % grid.width());
        let [left, top] = [x + column * cell + 1, y + row * cell + 1];
        let rgb = PALETTE[usize::from(color)];
        canvas.fill([left, top], [cell - 1; 2], rgb);
        if panel.is_marked(i) {
            draw_cross(canvas, [left, top], cell - 1, contrast(rgb));
        }
    }
}

fn draw_cross(canvas: &mut Canvas, [x, y]: [usize; 2], side: usize, color: [u8; 3]) {
    let inset = 0.28 * side as f32;
    let near = |at: usize| at as f32 + inset;
    let far = |at: usize| (at + side) as f32 - inset;
    let lines = [[near(x), near(y), far(x), far(y)], [near(x), far(y), far(x), near(y)]];
    canvas.stroke(&lines, (0.1 * side as f32).clamp(1.3, 2.6), color);
}

fn draw_unknown(canvas: &mut Canvas, [x, y]: [usize; 2], [width, height]: [usize; 2]) {
    draw_outline(canvas, [x, y], [width, height], FAINT);
    let size = (height / 3).clamp(10, 28);
    let left = x + (width - text_width("?", size)) / 2;
    canvas.text([left, y + (height - size) / 2], "?", size, FAINT);
}

/// A frame of two pixels, one pixel off the grid.
fn draw_frame(
    canvas: &mut Canvas,
    [x, y]: [usize; 2],
    [width, height]: [usize; 2],
    color: [u8; 3],
) {
    for off in [2, 3] {
        let size = [width + 2 * off, height + 2 * off];
        draw_outline(canvas, [x - off, y - off], size, color);
    }
}

fn draw_outline(
    canvas: &mut Canvas,
    [x, y]: [usize; 2],
    [width, height]: [usize; 2],
    color: [u8; 3],
) {
    canvas.fill([x, y], [width, 1], color);
    canvas.fill([x, y + height - 1], [width, 1], color);
    canvas.fill([x, y], [1, height], color);
    canvas.fill([x + width - 1, y], [1, height], color);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{Attempts, Example, Task, Test};
    use crate::render::task_figure;

    fn panel(rows: &[[u8; 2]], marked: Vec<bool>) -> Panel {
        let grid = Grid::from_rows(rows).unwrap();
        Panel { marked, ..Panel::plain("", Some(&grid)) }
    }

    #[test]
    fn every_cell_has_its_color_and_lines_run_between_them() {
        let panel = panel(&[[0, 1], [2, 9]], vec![]);
        let mut canvas = Canvas::new(21, 21, PAPER);
        draw_cells(&mut canvas, &panel, panel.grid.as_ref().unwrap(), [0, 0], 10);
        let image = canvas.into_image();
        for (x, y, color) in [(5, 5, 0), (15, 5, 1), (5, 15, 2), (15, 15, 9)] {
            assert_eq!(image.get_pixel(x, y).0, PALETTE[color]);
        }
        for (x, y) in [(0, 5), (10, 5), (20, 5), (5, 0), (5, 10), (5, 20)] {
            assert_eq!(image.get_pixel(x, y).0, LINES);
        }
    }

    #[test]
    fn only_marked_cells_are_crossed() {
        let panel = panel(&[[0, 0], [0, 0]], vec![false, false, true, false]);
        let mut canvas = Canvas::new(41, 41, PAPER);
        draw_cells(&mut canvas, &panel, panel.grid.as_ref().unwrap(), [0, 0], 20);
        let image = canvas.into_image();
        let is_bright = |x, y| image.get_pixel(x, y).0[0] > 128;
        assert!(is_bright(10, 30), "the crossed cell's center");
        assert!(![(10, 10), (30, 10), (30, 30)].iter().any(|&(x, y)| is_bright(x, y)));
    }

    #[test]
    fn a_figure_with_every_kind_of_panel_fits_its_image() {
        let grid = |h, w| Grid::from_fn(h, w, |r, c| ((r * w + c) % 10) as u8);
        let example = Example { input: grid(30, 30), output: grid(1, 30) };
        let tests = vec![
            Test { input: grid(3, 3), output: Some(grid(2, 2)) },
            Test { input: grid(3, 3), output: None },
        ];
        let task = Task { id: "a".into(), examples: vec![example; 5], tests };
        let attempts = vec![Attempts::new(grid(2, 2), grid(1, 1)); 2];
        let image = to_image(&task_figure(&task, Some(&attempts)));
        assert!(image.width() <= MAX_WIDTH as u32, "{}", image.width());
        // The margins stay empty.
        let (width, height) = image.dimensions();
        let margin = MARGIN as u32 - 4;
        let inside = |x, y| x >= margin && y >= margin && x < width - margin && y < height - margin;
        let outside = image.enumerate_pixels().filter(|&(x, y, _)| !inside(x, y));
        assert!(outside.into_iter().all(|(_, _, pixel)| pixel.0 == PAPER));
        assert_eq!(image::load_from_memory(&png_bytes(&image)).unwrap().to_rgb8(), image);
    }
}
