//! Grids put together from the most frequent rows or columns of several predictions.

use crate::arc::{Color, Dihedral, Grid};

/// Of the most frequent width and height among `grids`: each row the most frequent one at its place.
///
/// Rows are also taken from grids of another height, if their width is right. Ties go to the smaller
/// shape and row. `None` without grids.
///
/// Source: Akyürek et al. 2024, the reference code's row-based majority.
pub fn row_majority(grids: &[&Grid]) -> Option<Grid> {
    let (height, width) = most_frequent(grids.iter().map(|g| g.shape()))?;
    let rows: Vec<&[Color]> = (0..height)
        .map(|row| {
            let wide = grids.iter().filter(|g| g.width() == width && g.height() > row);
            most_frequent(wide.map(|g| &g.cells()[row * width..(row + 1) * width]))
                .expect("a grid of the most frequent shape has this row")
        })
        .collect();
    Some(Grid::from_rows(&rows).expect("rows of grids make a grid"))
}

/// As [`row_majority`], for columns.
pub fn column_majority(grids: &[&Grid]) -> Option<Grid> {
    let turned: Vec<Grid> = grids.iter().map(|g| Dihedral::Transpose.apply(g)).collect();
    let turned: Vec<&Grid> = turned.iter().collect();
    row_majority(&turned).map(|grid| Dihedral::Transpose.apply(&grid))
}

/// The most frequent value, the smallest of several.
fn most_frequent<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    // There are few distinct ones as a rule, so that a list beats a tree.
    let mut counts: Vec<(T, usize)> = Vec::new();
    for value in values {
        match counts.iter_mut().find(|(other, _)| *other == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0))).map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_are_chosen_each_for_itself() {
        let grid = |rows: &[[u8; 2]]| Grid::from_rows(rows).unwrap();
        let (a, b, c) = (grid(&[[1, 1], [2, 2]]), grid(&[[1, 1], [3, 2]]), grid(&[[4, 1], [3, 2]]));
        let taller = grid(&[[4, 1], [9, 9], [9, 9]]);
        let all = [&a, &b, &c];
        assert_eq!(row_majority(&all), Some(grid(&[[1, 1], [3, 2]])));
        // The three left columns differ, so that the smallest stands.
        assert_eq!(column_majority(&all), Some(grid(&[[1, 1], [2, 2]])));
        // Of another height, the right width: its rows count. Now [4, 1] is as frequent as [1, 1].
        assert_eq!(row_majority(&[&a, &b, &c, &taller]), Some(grid(&[[1, 1], [3, 2]])));
        let twice = [&a, &b, &c, &taller, &taller];
        assert_eq!(row_majority(&twice).unwrap().cells()[..2], [4, 1]);
        assert_eq!(row_majority(&[]), None);
    }

    #[test]
    fn columns_can_differ_from_rows() {
        let grid = |rows: &[[u8; 2]]| Grid::from_rows(rows).unwrap();
        let (a, b, c) = (grid(&[[1, 0], [1, 0]]), grid(&[[1, 2], [0, 2]]), grid(&[[3, 2], [1, 2]]));
        assert_eq!(column_majority(&[&a, &b, &c]), Some(grid(&[[1, 2], [0, 2]])));
        assert_eq!(row_majority(&[&a, &b, &c]), Some(grid(&[[1, 0], [0, 2]])));
    }
}
