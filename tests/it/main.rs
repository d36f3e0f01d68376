//! The program as its users meet it.

mod architecture;
mod audit;
mod bad_input;
mod commands;
mod common;
mod compare;
mod data;
mod kaggle;
mod language;
mod llama;
mod report;
mod resume;
mod shards;
mod synth;
