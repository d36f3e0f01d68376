//! How unsure the maps are of each cell.

use serde::{Deserialize, Serialize};

use super::CellMap;
use super::prepared::PreparedMap;
use crate::arc::N_COLORS;

/// The entropy of each output cell, in the task's frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Uncertainty {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Entropy of the ten colors in nats, 0 to ln 10, cell by cell; rounded to thousandths.
    pub entropy: Vec<f32>,
}

/// The entropy of the average of all maps in each cell, or `None` if the maps do not agree on the shape.
pub fn uncertainty(maps: &[CellMap]) -> Option<Uncertainty> {
    let shape = maps.first()?.most_probable_shape();
    if maps.iter().any(|map| map.most_probable_shape() != shape) {
        return None;
    }
    let (height, width) = shape;
    let mut average = vec![[0.0_f32; N_COLORS]; height * width];
    for map in maps.iter().map(PreparedMap::new) {
        for (average, cell) in average.iter_mut().zip(map.place(shape)?.cells()) {
            let colors = cell.map(f32::exp);
            // Without a forced shape some of the probability is PAD's: colors share what is left.
            let total = colors.iter().sum::<f32>() * maps.len() as f32;
            for (mean, color) in average.iter_mut().zip(colors) {
                *mean += color / total;
            }
        }
    }
    let entropy = |average: &[f32; N_COLORS]| {
        let terms = average.iter().filter(|&&p| p > 0.0).map(|&p| -p * p.ln());
        (terms.sum::<f32>().max(0.0) * 1000.0).round() / 1000.0
    };
    let entropy = average.iter().map(entropy).collect();
    Some(Uncertainty { height, width, entropy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{ColorPermutation, Dihedral, Grid, View};
    use crate::candidate::testing::sure_map;

    fn turned(dihedral: Dihedral) -> View {
        let colors = ColorPermutation::new([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]).unwrap();
        View { dihedral, colors, order: Vec::new() }
    }

    #[test]
    fn cells_on_which_the_views_differ_are_uncertain() {
        let grid = Grid::from_rows(&[[1, 2, 3], [4, 5, 6]]).unwrap();
        let mut other = grid.clone();
        other.set(1, 2, 0);
        let maps = [
            sure_map(View::IDENTITY, &grid, 1.0),
            sure_map(turned(Dihedral::Rotate90), &other, 1.0),
        ];
        let map = uncertainty(&maps).unwrap();
        assert_eq!((map.height, map.width), (2, 3));
        assert_eq!(map.entropy, [0.0, 0.0, 0.0, 0.0, 0.0, 0.693]);
    }

    #[test]
    fn a_uniform_cell_has_the_entropy_of_ten_colors() {
        let map = uncertainty(&[sure_map(View::IDENTITY, &Grid::filled(1, 1, 0), 0.1)]).unwrap();
        assert_eq!(map.entropy, [2.303]);
    }

    #[test]
    fn views_that_disagree_on_the_shape_give_no_map() {
        let maps = [
            sure_map(View::IDENTITY, &Grid::filled(2, 3, 0), 0.9),
            sure_map(turned(Dihedral::Transpose), &Grid::filled(3, 2, 0), 0.9),
        ];
        assert_eq!(uncertainty(&maps), None);
        assert!(uncertainty(&maps[..1]).is_some());
    }
}
