//! Test-time training for ARC-style few-shot grid tasks.
//!
//! ```text
//! task ─▶ views ─▶ TTT dataset ─▶ adapter ─▶ candidates ─▶ scores ─▶ vote ─▶ submission
//! arc     arc      dataset        adapter    candidate     candidate vote    run
//! ```
//!
//! Each stage is a plain function from values to values; [`pipeline`] calls them in this order.
//! The method is Akyürek et al. 2024, arXiv 2411.07279.

pub mod adapter;
pub mod arc;
pub mod candidate;
pub mod cli;
pub mod dataset;
pub mod device;
pub mod engine;
pub mod evaluate;
pub mod kernel;
pub mod memory;
pub mod model;
pub mod pipeline;
pub mod pretrain;
pub mod public;
pub mod recipe;
pub mod render;
pub mod rng;
pub mod run;
pub mod synth;
pub mod vote;
