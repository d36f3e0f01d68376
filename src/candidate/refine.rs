//! Cells that the maps of a test agree on, to be given to the model before it predicts the others once more.

use super::CellMap;
use super::prepared::{PreparedMap, best_two};
use crate::arc::{Grid, N_COLORS, View};

/// Some cells of an output in the task's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenCells {
    /// The colors of all cells, the given ones among them.
    colors: Grid,
    /// 1 where a cell is given.
    mask: Grid,
}

impl GivenCells {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.mask.cells().iter().filter(|&&given| given == 1).count()
    }

    /// Whether there is no other cell.
    pub fn is_whole(&self) -> bool {
        self.count() == self.mask.cells().len()
    }

    /// As the view shows them, row by row; `None` for a cell that is not given.
    pub fn shown(&self, view: &View) -> Vec<Option<u8>> {
        let (colors, mask) = (view.apply(&self.colors), view.dihedral.apply(&self.mask));
        let given = colors.cells().iter().zip(mask.cells());
        given.map(|(&color, &given)| (given == 1).then_some(color)).collect()
    }
}

/// The cells whose color has at least the probability `least` in the geometric mean of all maps: a product of experts
/// that does not grow surer by asking the same expert twice.
///
/// `None` if there is no map, or the maps were not all told one shape: cells of unlike outputs are not comparable.
pub fn sure_cells(maps: &[CellMap], least: f64) -> Option<GivenCells> {
    let shape = |map: &CellMap| Some(map.view.dihedral.inverse().apply_shape(map.shape?));
    let (height, width) = shape(maps.first()?)?;
    if maps.iter().any(|map| shape(map) != Some((height, width))) {
        return None;
    }
    let mut means = vec![[0.0_f32; N_COLORS]; height * width];
    for map in maps {
        let prepared = PreparedMap::new(map);
        let placed = prepared.place((height, width))?;
        for (mean, cell) in means.iter_mut().zip(placed.cells()) {
            for (mean, log_prob) in mean.iter_mut().zip(cell) {
                *mean += log_prob / maps.len() as f32;
            }
        }
    }
    let sure = |mean: &[f32; N_COLORS]| {
        let (color, _) = best_two(mean);
        let best = mean[usize::from(color)];
        let sum: f64 = mean.iter().map(|&log_prob| f64::from(log_prob - best).exp()).sum();
        (color, u8::from(1.0 / sum >= least))
    };
    let (colors, mask) = means.iter().map(sure).unzip();
    let grid = |cells| Grid::from_cells(height, width, cells).expect("a legal shape and colors");
    Some(GivenCells { colors: grid(colors), mask: grid(mask) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::strategies;
    use crate::candidate::testing::sure_map;

    proptest! {
        #[test]
        fn what_all_views_are_sure_of_is_given_as_each_view_shows_it(
            grid in strategies::grid(6),
            views in prop::collection::vec(strategies::view(3), 1..6),
        ) {
            let maps: Vec<CellMap> =
                views.iter().map(|view| sure_map(view.clone(), &grid, 0.9)).collect();
            let given = sure_cells(&maps, 0.85).unwrap();
            prop_assert!(given.is_whole());
            prop_assert_eq!(sure_cells(&maps, 0.95).unwrap().count(), 0);
            for view in &views {
                let shown: Option<Vec<u8>> = given.shown(view).into_iter().collect();
                prop_assert_eq!(shown.unwrap(), view.apply(&grid).cells().to_vec());
            }
        }
    }

    #[test]
    fn a_cell_on_which_the_maps_disagree_is_not_given() {
        let (one, other) =
            (Grid::from_rows(&[[1, 2]]).unwrap(), Grid::from_rows(&[[1, 3]]).unwrap());
        let turned = View { dihedral: crate::arc::Dihedral::Rotate90, ..View::IDENTITY };
        let maps = [sure_map(View::IDENTITY, &one, 0.9), sure_map(turned.clone(), &other, 0.9)];
        let given = sure_cells(&maps, 0.5).unwrap();
        assert_eq!(given.shown(&View::IDENTITY), [Some(1), None]);
        assert_eq!(given.shown(&turned).iter().flatten().collect::<Vec<_>>(), [&1]);
        let mut unlike = maps.clone();
        unlike[1].shape = None;
        assert_eq!(sure_cells(&unlike, 0.5), None);
        assert_eq!(sure_cells(&[], 0.5), None);
    }
}
