//! A grid of colors, the only kind of value an ARC task is made of.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A color, 0 to 9. 0 is the usual background (black).
pub type Color = u8;

/// Number of colors.
pub const N_COLORS: usize = 10;

/// Largest height and width that ARC allows.
pub const MAX_SIDE: usize = 30;

/// A rectangle of colors, at least 1×1 and at most 30×30, stored row by row.
///
/// The bounds hold for every value of this type, so that no later stage has to check them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grid {
    height: usize,
    width: usize,
    cells: Vec<Color>,
}

/// Why some cells are not a [`Grid`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// No rows, or rows without cells.
    #[error("the grid is empty")]
    Empty,
    /// More than 30 rows or columns.
    #[error("the grid is {height}×{width}; at most 30×30 is allowed")]
    TooLarge {
        /// Number of rows found.
        height: usize,
        /// Number of columns found.
        width: usize,
    },
    /// A row that is longer or shorter than the first one.
    #[error("row {row} has {found} cells, but row 0 has {expected}")]
    Ragged {
        /// Index of the offending row.
        row: usize,
        /// Cells in row 0.
        expected: usize,
        /// Cells in the offending row.
        found: usize,
    },
    /// A color outside 0 to 9.
    #[error("cell (row {row}, column {column}) is {value}; colors are whole numbers from 0 to 9")]
    BadColor {
        /// Row of the cell.
        row: usize,
        /// Column of the cell.
        column: usize,
        /// What stands there, as written.
        value: String,
    },
}

impl Grid {
    /// Makes a grid from rows.
    ///
    /// # Errors
    /// [`GridError`] if the rows are empty, ragged, too many or too long, or hold a color above 9.
    pub fn from_rows<R: AsRef<[Color]>>(rows: &[R]) -> Result<Self, GridError> {
        let height = rows.len();
        let width = rows.first().map_or(0, |row| row.as_ref().len());
        if let Some((row, found)) =
            rows.iter().map(|r| r.as_ref().len()).enumerate().find(|&(_, len)| len != width)
        {
            return Err(GridError::Ragged { row, expected: width, found });
        }
        let cells = rows.iter().flat_map(|row| row.as_ref().iter().copied()).collect();
        Self::from_cells(height, width, cells)
    }

    /// Makes a grid from `height * width` cells in row-major order.
    ///
    /// # Errors
    /// [`GridError`] as in [`Grid::from_rows`].
    ///
    /// # Panics
    /// If `cells.len() != height * width`.
    pub fn from_cells(height: usize, width: usize, cells: Vec<Color>) -> Result<Self, GridError> {
        assert_eq!(cells.len(), height * width, "a grid needs height × width cells");
        if height == 0 || width == 0 {
            return Err(GridError::Empty);
        }
        if height > MAX_SIDE || width > MAX_SIDE {
            return Err(GridError::TooLarge { height, width });
        }
        if let Some(i) = cells.iter().position(|&c| usize::from(c) >= N_COLORS) {
            let value = cells[i].to_string();
            return Err(GridError::BadColor { row: i / width, column: i % width, value });
        }
        Ok(Self { height, width, cells })
    }

    /// A grid of one color.
    ///
    /// # Panics
    /// If the size or the color is out of bounds.
    pub fn filled(height: usize, width: usize, color: Color) -> Self {
        Self::from_cells(height, width, vec![color; height * width])
            .expect("a legal size and color")
    }

    /// Makes a grid by asking for each cell's color.
    ///
    /// # Panics
    /// If the size or a color is out of bounds.
    pub fn from_fn(height: usize, width: usize, color: impl Fn(usize, usize) -> Color) -> Self {
        let cells = (0..height * width).map(|i| color(i / width, i % width)).collect();
        Self::from_cells(height, width, cells).expect("a legal size and colors")
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `(height, width)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// All cells, row by row.
    pub fn cells(&self) -> &[Color] {
        &self.cells
    }

    /// Rows from top to bottom.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[Color]> {
        self.cells.chunks_exact(self.width)
    }

    /// The color at a cell.
    ///
    /// # Panics
    /// If the cell is outside the grid.
    pub fn get(&self, row: usize, column: usize) -> Color {
        assert!(row < self.height && column < self.width, "cell outside the grid");
        self.cells[row * self.width + column]
    }

    /// Sets the color of a cell.
    ///
    /// # Panics
    /// If the cell is outside the grid or the color above 9.
    pub fn set(&mut self, row: usize, column: usize, color: Color) {
        assert!(row < self.height && column < self.width, "cell outside the grid");
        assert!(usize::from(color) < N_COLORS, "colors are 0 to 9");
        self.cells[row * self.width + column] = color;
    }

    /// The colors that occur, as a table.
    pub fn palette(&self) -> [bool; N_COLORS] {
        let mut used = [false; N_COLORS];
        for &c in &self.cells {
            used[usize::from(c)] = true;
        }
        used
    }
}

impl fmt::Debug for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, row) in self.rows().enumerate() {
            if i > 0 {
                f.write_str("/")?;
            }
            for c in row {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Grid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows())
    }
}

impl<'de> Deserialize<'de> for Grid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rows = Vec::<Vec<Color>>::deserialize(deserializer)?;
        Grid::from_rows(&rows).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_cells_are_refused_with_their_place() {
        let check = |rows: &[&[u8]], expected: GridError| {
            assert_eq!(Grid::from_rows(rows), Err(expected));
        };
        check(&[], GridError::Empty);
        check(&[&[]], GridError::Empty);
        check(&[&[1, 2], &[3]], GridError::Ragged { row: 1, expected: 2, found: 1 });
        check(&[&[0, 10]], GridError::BadColor { row: 0, column: 1, value: "10".into() });
        check(&[&[0; 31]], GridError::TooLarge { height: 1, width: 31 });
    }

    #[test]
    fn json_is_an_array_of_rows() {
        let grid = Grid::from_rows(&[[1, 2], [3, 4]]).unwrap();
        let text = serde_json::to_string(&grid).unwrap();
        assert_eq!(text, "[[1,2],[3,4]]");
        assert_eq!(serde_json::from_str::<Grid>(&text).unwrap(), grid);
    }
}
