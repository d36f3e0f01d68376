//! What a model predicts for one test: cells or whole grids, as its family does.

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
    /// What ended the search before it had found all that it looked for.
    pub cut: Option<CutReason>,
    /// Steps that the search took.
    pub nodes: usize,
    /// Demonstrations that were left out of the prompt, so that it fits the model's context.
    pub left_out: usize,
}

/// What ends a search early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutReason {
    /// The model's context had no room for a longer answer.
    Length,
    /// The steps that it may take.
    Nodes,
    /// The time.
    Time,
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
