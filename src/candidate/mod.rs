//! Decoded answers: one prediction a view, mapped back, merged, and scored under every view.

mod cell_map;
mod collect;
mod majority;
mod n_best;
mod prepared;
mod refine;
mod score;
mod stopping;
#[cfg(test)]
pub(crate) mod testing;
mod uncertainty;
mod views;

pub use cell_map::{CellMap, IMPOSSIBLE, MapMeta, N_CLASSES, PAD_CLASS};
pub use collect::{Candidate, CandidateConfig, VoteGroup, collect_candidates, vote_groups};
pub use majority::{column_majority, row_majority};
pub use n_best::NBestConfig;
pub use refine::{GivenCells, sure_cells};
pub use score::score_grids;
pub use stopping::ViewStop;
pub use uncertainty::{Uncertainty, uncertainty};
pub use views::{ViewColors, ViewsConfig, sample_views};
