//! An image to draw on: rectangles, smooth lines and text.

use image::{Rgb, RgbImage};

use super::lettering::{self, CAPITAL, SPACING, glyph};

/// An image being drawn.
pub(super) struct Canvas {
    image: RgbImage,
}

impl Canvas {
    /// A canvas of one color.
    pub(super) fn new(width: usize, height: usize, color: [u8; 3]) -> Self {
        Self { image: RgbImage::from_pixel(width as u32, height as u32, Rgb(color)) }
    }

    /// The finished image.
    pub(super) fn into_image(self) -> RgbImage {
        self.image
    }

    /// Fills a rectangle; what lies outside the canvas is cut off.
    pub(super) fn fill(&mut self, [x, y]: [usize; 2], [width, height]: [usize; 2], color: [u8; 3]) {
        let (right, bottom) = (self.image.width() as usize, self.image.height() as usize);
        for row in y..(y + height).min(bottom) {
            for column in x..(x + width).min(right) {
                self.image.put_pixel(column as u32, row as u32, Rgb(color));
            }
        }
    }

    /// Draws lines `[x0, y0, x1, y1]` of one thickness, with round ends and smooth edges. Lines that meet
    /// join without a seam.
    pub(super) fn stroke(&mut self, segments: &[[f32; 4]], thickness: f32, color: [u8; 3]) {
        let Some(bounds) = bounds(segments, thickness) else { return };
        let last = [self.image.width() as f32 - 1.0, self.image.height() as f32 - 1.0];
        let range = |low: f32, high: f32, last: f32| {
            low.floor().clamp(0.0, last) as u32..=high.ceil().clamp(0.0, last) as u32
        };
        for y in range(bounds[1], bounds[3], last[1]) {
            for x in range(bounds[0], bounds[2], last[0]) {
                let center = [x as f32 + 0.5, y as f32 + 0.5];
                let distances = segments.iter().map(|segment| distance(center, *segment));
                let nearest = distances.fold(f32::INFINITY, f32::min);
                let cover = (thickness / 2.0 - nearest + 0.5).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let Rgb(pixel) = self.image.get_pixel_mut(x, y);
                    for (below, above) in pixel.iter_mut().zip(color) {
                        let mixed = f32::from(*below) * (1.0 - cover) + f32::from(above) * cover;
                        *below = mixed.round() as u8;
                    }
                }
            }
        }
    }

    /// Writes a line of text with capitals of `size` pixels; `at` is the top left corner of the first.
    pub(super) fn text(&mut self, [x, y]: [usize; 2], text: &str, size: usize, color: [u8; 3]) {
        let unit = size as f32 / CAPITAL;
        let (mut left, top) = (x as f32 + unit / 2.0, y as f32);
        for letter in text.chars() {
            let glyph = glyph(letter);
            let place = |[x0, y0, x1, y1]: &[f32; 4]| {
                [left + x0 * unit, top + y0 * unit, left + x1 * unit, top + y1 * unit]
            };
            let segments: Vec<_> = glyph.segments.iter().map(place).collect();
            self.stroke(&segments, 0.85 * unit, color);
            left += (glyph.width + SPACING) * unit;
        }
    }
}

/// Pixels that a line of text with capitals of `size` pixels takes.
pub(super) fn text_width(text: &str, size: usize) -> usize {
    ((lettering::text_width(text) + 1.0) * size as f32 / CAPITAL).ceil() as usize
}

/// The rectangle `[left, top, right, bottom]` that lines can touch.
fn bounds(segments: &[[f32; 4]], thickness: f32) -> Option<[f32; 4]> {
    let hull = segments
        .iter()
        .map(|[x0, y0, x1, y1]| [x0.min(*x1), y0.min(*y1), x0.max(*x1), y0.max(*y1)]);
    let reach = thickness / 2.0 + 1.0;
    hull.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])])
        .map(|[l, t, r, b]| [l - reach, t - reach, r + reach, b + reach])
}

/// Distance of a point from a line segment.
fn distance([x, y]: [f32; 2], [x0, y0, x1, y1]: [f32; 4]) -> f32 {
    let (dx, dy) = (x1 - x0, y1 - y0);
    let length_squared = dx * dx + dy * dy;
    let along = if length_squared == 0.0 {
        0.0
    } else {
        (((x - x0) * dx + (y - y0) * dy) / length_squared).clamp(0.0, 1.0)
    };
    (x - x0 - along * dx).hypot(y - y0 - along * dy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_over_the_edge_is_cut_off() {
        let mut canvas = Canvas::new(4, 3, [255; 3]);
        canvas.fill([2, 1], [9, 9], [0; 3]);
        canvas.stroke(&[[-5.0, -5.0, 50.0, -5.0]], 2.0, [0; 3]);
        let image = canvas.into_image();
        let dark = image.enumerate_pixels().filter(|(_, _, p)| p.0 == [0; 3]).count();
        assert_eq!(dark, 4);
    }

    #[test]
    fn a_line_is_as_thick_as_told() {
        let mut canvas = Canvas::new(9, 9, [0; 3]);
        canvas.stroke(&[[0.0, 4.5, 9.0, 4.5]], 3.0, [200; 3]);
        let image = canvas.into_image();
        let column: Vec<u8> = (0..9).map(|y| image.get_pixel(4, y).0[0]).collect();
        assert_eq!(column, [0, 0, 0, 200, 200, 200, 0, 0, 0]);
    }

    #[test]
    fn text_stays_within_its_width() {
        let text = "Test 1 (3×4) ✗";
        let width = text_width(text, 12);
        let mut canvas = Canvas::new(width + 20, 20, [255; 3]);
        canvas.text([0, 2], text, 12, [0; 3]);
        let image = canvas.into_image();
        let rightmost =
            image.enumerate_pixels().filter(|(_, _, p)| p.0[0] < 128).map(|(x, ..)| x).max();
        let rightmost = rightmost.unwrap() as usize;
        assert!(rightmost < width && rightmost + 4 > width, "{rightmost} of {width}");
    }
}
