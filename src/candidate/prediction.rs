//! What a model predicts for one test: cells or whole grids, as its family does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cell_map::{CellMap, MapMeta};
use crate::arc::Grid;

/// Predictions of one test, one for each view and format; all of a kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Predictions {
    /// Of a family that predicts all cells at once: the probability of any grid follows from its map.
    Cells(Vec<CellMap>),
    /// Of a family that writes grids cell after cell: the probability of a grid that a view did not write is the
    /// model's to say.
    Grids(Vec<Proposals>),
}

/// The grids that a model has written under one view.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposals {
    /// The view and the format.
    pub meta: MapMeta,
    /// Distinct grids in the task's own frame with their log-probability under this view, in nats; the most
    /// probable first.
    pub grids: Vec<(Grid, f32)>,
    /// What ended the search, the beam or the draws before they had found all that they looked for.
    pub cut: Option<CutReason>,
    /// Steps that they took: tokens that were tried, or grids that were drawn.
    pub nodes: usize,
    /// Demonstrations that were left out of the prompt, so that it fits the model's context.
    pub left_out: usize,
}

/// What ends a search, a beam or draws early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutReason {
    /// The model's context had no room for a longer answer.
    Length,
    /// The steps that it may take.
    Nodes,
    /// The time.
    Time,
    /// The memory, which holds fewer beginnings side by side than a beam was to have.
    Memory,
}

/// The grid that most of these propose; of equals the one that one of them finds most probable, then the first in order.
pub fn favorite<'a>(proposals: impl Iterator<Item = &'a Proposals>) -> Option<&'a Grid> {
    let mut found: BTreeMap<&Grid, (usize, f32)> = BTreeMap::new();
    for (grid, log_prob) in proposals.filter_map(|p| p.grids.first()) {
        let (n, best) = found.entry(grid).or_insert((0, f32::NEG_INFINITY));
        (*n, *best) = (*n + 1, best.max(*log_prob));
    }
    let better = |a: &(usize, f32), b: &(usize, f32)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
    found.into_iter().rev().max_by(|(_, a), (_, b)| better(a, b)).map(|(grid, _)| grid)
}

impl Default for Predictions {
    fn default() -> Self {
        Self::Cells(Vec::new())
    }
}

impl Predictions {
    /// Number of predictions.
    pub fn len(&self) -> usize {
        match self {
            Self::Cells(maps) => maps.len(),
            Self::Grids(proposals) => proposals.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What each was made under.
    pub fn metas(&self) -> Vec<MapMeta> {
        match self {
            Self::Cells(maps) => maps.iter().map(CellMap::meta).collect(),
            Self::Grids(proposals) => proposals.iter().map(|p| p.meta.clone()).collect(),
        }
    }

    /// The grid that each proposes, in the task's own frame; a search may have found none.
    pub fn proposals(&self) -> Vec<Grid> {
        match self {
            Self::Cells(maps) => maps.iter().map(CellMap::proposal).collect(),
            Self::Grids(proposals) => {
                proposals.iter().filter_map(|p| Some(p.grids.first()?.0.clone())).collect()
            }
        }
    }

    /// Puts later predictions behind these.
    ///
    /// # Panics
    /// If there are predictions of both kinds.
    pub fn extend(&mut self, later: Self) {
        match (&mut *self, later) {
            (Self::Cells(maps), Self::Cells(later)) => maps.extend(later),
            (Self::Grids(proposals), Self::Grids(later)) => proposals.extend(later),
            (earlier, later) if earlier.is_empty() => *earlier = later,
            (_, later) => assert!(later.is_empty(), "a family makes one kind of prediction"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::View;
    use crate::dataset::Format;

    #[test]
    fn the_favorite_is_what_most_propose_then_what_one_is_surest_of() {
        let grid = |color: u8| Grid::filled(1, 1, color);
        let proposals = |grids: &[(u8, f32)]| Proposals {
            meta: MapMeta { view: View::IDENTITY, format: Format::Icl },
            grids: grids.iter().map(|&(color, log_prob)| (grid(color), log_prob)).collect(),
            cut: None,
            nodes: 0,
            left_out: 0,
        };
        let check = |views: &[&[(u8, f32)]], expected: Option<u8>| {
            let views: Vec<Proposals> = views.iter().map(|grids| proposals(grids)).collect();
            assert_eq!(favorite(views.iter()).cloned(), expected.map(grid), "{views:?}");
        };
        check(&[], None);
        check(&[&[]], None);
        check(&[&[(3, -0.1)], &[(2, -2.0), (3, -3.0)], &[(2, -1.0)]], Some(2));
        check(&[&[(3, -0.5)], &[(2, -0.1)]], Some(2));
        check(&[&[(3, -0.5)], &[(2, -0.5)]], Some(2));
    }
}
