//! The families, a file for each kind of idea.
//!
//! To add one: write its rule function, list it in its file's `FAMILIES`, and look at its tasks with
//! `arc-ttt synth --family NAME --png sheet.png`.

mod color_map;
mod copying;
mod counting;
mod extract;
mod filling;
mod gravity;
mod grids;
mod lines;
mod mirror;
mod motion;
mod noise;
mod objects;
mod panels;
mod patterns;
mod property;
mod rays;
mod rooms;
mod scaling;
mod sorting;
mod stamps;
mod symmetry;

use super::Family;

/// All families, in a stable order.
pub(super) fn all() -> Vec<Family> {
    [
        color_map::FAMILIES,
        property::FAMILIES,
        symmetry::FAMILIES,
        scaling::FAMILIES,
        extract::FAMILIES,
        objects::FAMILIES,
        gravity::FAMILIES,
        motion::FAMILIES,
        rays::FAMILIES,
        lines::FAMILIES,
        rooms::FAMILIES,
        filling::FAMILIES,
        mirror::FAMILIES,
        patterns::FAMILIES,
        noise::FAMILIES,
        panels::FAMILIES,
        grids::FAMILIES,
        counting::FAMILIES,
        sorting::FAMILIES,
        stamps::FAMILIES,
        copying::FAMILIES,
    ]
    .concat()
}
