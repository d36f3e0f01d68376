//! The program as its users meet it.

mod architecture;
mod audit;
mod bad_input;
mod commands;
mod common;
mod compare;
mod data;
mod kaggle;
mod report;
mod llama;
mod resume;
mod shards;
mod synth;
