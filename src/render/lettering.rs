//! Letters for pictures, as strokes, so that no font file is needed and any size is smooth.

/// A letter's strokes in a field where capitals reach from 0 (top) to 6 (base line), small letters from 2,
/// and descenders to 8.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Glyph {
    /// Line segments `[x0, y0, x1, y1]`; a dot is a segment of length 0.
    pub segments: Vec<[f32; 4]>,
    /// Width from the leftmost to the rightmost stroke.
    pub width: f32,
}

/// Space between the strokes of neighboring letters.
pub(super) const SPACING: f32 = 1.9;

/// Height of capitals.
pub(super) const CAPITAL: f32 = 6.0;

/// Each letter's strokes: points as two digits `xy`, joined by `-` to a line, lines parted by a space.
const STROKES: &[(char, &str)] = &[
    ('A', "06-20-46 14-34"),
    ('B', "00-06 00-20-31-32-23-03 23-34-35-26-06"),
    ('C', "41-30-10-01-05-16-36-45"),
    ('D', "00-06-26-44-42-20-00"),
    ('E', "30-00-06-36 03-23"),
    ('F', "30-00-06 03-23"),
    ('G', "41-30-10-01-05-16-36-45-43-23"),
    ('H', "00-06 40-46 03-43"),
    ('I', "00-06"),
    ('J', "30-35-26-16-05"),
    ('K', "00-06 40-04 22-46"),
    ('L', "00-06-36"),
    ('M', "06-00-23-40-46"),
    ('N', "06-00-46-40"),
    ('O', "10-30-41-45-36-16-05-01-10"),
    ('P', "00-06 00-20-31-32-23-03"),
    ('Q', "10-30-41-45-36-16-05-01-10 34-47"),
    ('R', "00-06 00-20-31-32-23-03 13-36"),
    ('S', "41-30-10-01-02-13-33-44-45-36-16-05"),
    ('T', "00-40 20-26"),
    ('U', "00-05-16-36-45-40"),
    ('V', "00-26-40"),
    ('W', "00-16-22-36-40"),
    ('X', "00-46 40-06"),
    ('Y', "00-23-40 23-26"),
    ('Z', "00-40-06-46"),
    ('a', "32-36 33-22-12-03-05-16-26-35"),
    ('b', "00-06 03-12-22-33-35-26-16-05"),
    ('c', "33-22-12-03-05-16-26-35"),
    ('d', "30-36 33-22-12-03-05-16-26-35"),
    ('e', "04-34-33-22-12-03-05-16-26-35"),
    ('f', "30-20-11-16 02-22"),
    ('g', "32-37-28-18-07 33-22-12-03-05-16-26-35"),
    ('h', "00-06 03-12-22-33-36"),
    ('i', "02-06 00-00"),
    ('j', "12-17-08 10-10"),
    ('k', "00-06 32-04 13-36"),
    ('l', "00-06"),
    ('m', "02-06 03-12-23-26 23-32-43-46"),
    ('n', "02-06 03-12-22-33-36"),
    ('o', "12-22-33-35-26-16-05-03-12"),
    ('p', "02-08 03-12-22-33-35-26-16-05"),
    ('q', "32-38 33-22-12-03-05-16-26-35"),
    ('r', "02-06 03-12-22"),
    ('s', "32-12-03-14-24-35-26-06"),
    ('t', "10-15-26 02-22"),
    ('u', "02-05-16-26-35 32-36"),
    ('v', "02-26-42"),
    ('w', "02-16-23-36-42"),
    ('x', "02-36 32-06"),
    ('y', "02-26 42-18"),
    ('z', "02-32-06-36"),
    ('0', "10-20-31-35-26-16-05-01-10"),
    ('1', "01-10-16"),
    ('2', "01-10-20-31-32-06-36"),
    ('3', "01-10-20-31-32-23-13 23-34-35-26-16-05"),
    ('4', "26-20-04-34"),
    ('5', "30-00-02-22-33-35-26-16-05"),
    ('6', "20-10-01-05-16-26-35-34-23-13-04"),
    ('7', "00-30-16"),
    ('8', "10-20-31-32-23-13-02-01-10 13-04-05-16-26-35-34-23"),
    ('9', "16-26-35-31-20-10-01-02-13-23-32"),
    (' ', ""),
    ('.', "06-06"),
    (',', "16-07"),
    (':', "03-03 06-06"),
    (';', "13-13 16-07"),
    ('!', "00-04 06-06"),
    ('?', "01-10-20-31-32-23-24 26-26"),
    ('-', "04-24"),
    ('_', "07-37"),
    ('+', "04-44 22-26"),
    ('=', "03-33 05-35"),
    ('/', "30-06"),
    ('|', "00-07"),
    ('(', "10-01-05-16"),
    (')', "00-11-15-06"),
    ('[', "10-00-06-16"),
    (']', "00-10-16-06"),
    ('%', "40-06 00-10-11-01-00 35-45-46-36-35"),
    ('×', "03-36 33-06"),
    ('✓', "04-16-41"),
    ('✗', "01-46 41-06"),
];

/// What a letter without strokes of its own is drawn as.
const UNKNOWN: &str = "00-30-36-06-00";

/// The strokes of a letter; a box if there are none for it.
pub(super) fn glyph(letter: char) -> Glyph {
    let found = STROKES.iter().find(|(own, _)| *own == letter);
    let strokes = found.map_or(UNKNOWN, |(_, strokes)| strokes);
    let mut segments = Vec::new();
    for line in strokes.split_whitespace() {
        let points: Vec<[f32; 2]> = line.split('-').map(point).collect();
        segments.extend(points.windows(2).map(|p| [p[0][0], p[0][1], p[1][0], p[1][1]]));
    }
    let ends = segments.iter().map(|s| s[0].max(s[2]));
    let width = ends.reduce(f32::max).unwrap_or(1.0);
    Glyph { segments, width }
}

/// Width of a line of text, from its first stroke to its last.
pub(super) fn text_width(text: &str) -> f32 {
    let widths: f32 = text.chars().map(|letter| glyph(letter).width + SPACING).sum();
    (widths - SPACING).max(0.0)
}

fn point(xy: &str) -> [f32; 2] {
    let digit = |i: usize| f32::from(xy.as_bytes()[i] - b'0');
    [digit(0), digit(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stroke_lies_in_the_field_and_letters_differ() {
        for (i, (letter, strokes)) in STROKES.iter().enumerate() {
            let glyph = glyph(*letter);
            assert!(glyph.width <= 4.0, "{letter}");
            assert!(glyph.segments.iter().all(|s| s[1] <= 8.0 && s[3] <= 8.0), "{letter}");
            assert!(*letter == ' ' || !glyph.segments.is_empty(), "{letter}");
            let before = &STROKES[..i];
            assert!(before.iter().all(|(own, _)| own != letter), "{letter} stands twice");
            // Capital I and small l are the same bar.
            assert!(*letter == 'l' || before.iter().all(|(_, own)| own != strokes), "{letter}");
        }
    }

    #[test]
    fn a_letter_that_is_not_known_is_a_box() {
        assert_eq!(glyph('漢').segments.len(), 4);
    }
}
