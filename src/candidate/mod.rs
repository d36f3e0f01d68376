//! Decoded answers: predictions under every view, mapped back, merged, and scored under every view.

mod cell_map;
mod collect;
mod majority;
mod n_best;
mod prediction;
mod prepared;
mod score;
mod stopping;
#[cfg(test)]
pub(crate) mod testing;
mod uncertainty;
mod views;

pub use cell_map::{CellMap, IMPOSSIBLE, MapMeta, N_CLASSES, PAD_CLASS};
pub use collect::{
    Candidate, CandidateConfig, VoteGroup, add_scores, collect_candidates, forget_maps,
    merge_proposals, vote_groups,
};
pub use majority::{column_majority, row_majority};
pub use n_best::NBestConfig;
pub use prediction::{CutReason, Predictions, Proposals, favorite};
pub use score::score_grids;
pub use stopping::ViewStop;
pub use uncertainty::{Uncertainty, uncertainty};
pub use views::{ViewColors, ViewsConfig, sample_views};
