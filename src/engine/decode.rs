//! How a family that writes grids cell after cell decodes them.

use serde::{Deserialize, Serialize};

/// What is written under a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecodeMethod {
    /// The most probable token after token.
    Greedy,
    /// That, and tokens drawn at random some times.
    Sample,
    /// That, and the most probable grids that a beam finds, row by row.
    Beam,
    /// That, and every grid with a probability above a threshold, found depth-first (Franzen et al. 2025).
    Search,
}

/// Settings of decoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeConfig {
    /// What is written under a view.
    pub method: DecodeMethod,
    /// Search: grids with more than this probability under the view are found; above 0.
    pub threshold: f64,
    /// Search, beam: tokens that are tried at most, in each view.
    pub max_nodes: usize,
    /// Search, beam: wall seconds at most, in each view; 0 sets no limit.
    pub seconds: f64,
    /// Beam: beginnings that are followed, and grids that are found, in each view; fewer where the memory holds fewer.
    pub beams: usize,
    /// Sample: grids drawn in each view.
    pub samples: usize,
    /// Sample: what scores are divided by; the lower, the nearer to greedy.
    pub temperature: f64,
}
