//! Test-time training for ARC-style few-shot grid tasks.
//!
//! ```text
//! task ─▶ views ─▶ TTT dataset ─▶ adapter ─▶ candidates ─▶ scores ─▶ vote ─▶ submission
//! arc     arc      dataset        adapter    candidate     candidate vote    run
//! ```
//!
//! Each stage is a plain function from values to values; [`pipeline`] calls them in this order.
//! The method is Akyürek et al. 2024, arXiv 2411.07279.

pub mod memory;
pub mod rng;
pub mod arc;
pub mod synth;
pub mod public;
pub mod contamination;
pub mod dataset;
pub mod text;
pub mod candidate;
pub mod vote;
pub mod kernel;
pub mod model;
pub mod device;
pub mod adapter;
pub mod llama;
pub mod engine;
pub mod pretrain;
pub mod evaluate;
pub mod effort;
pub mod recipe;
pub mod pipeline;
pub mod run;
pub mod compare;
pub mod render;
pub mod report;
pub mod cli;
