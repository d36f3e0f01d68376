//! Random cell maps for tests.

use proptest::prelude::*;

use super::{CellMap, N_CLASSES};
use crate::arc::{Grid, strategies};
use crate::dataset::Format;

/// Log-softmax.
pub(crate) fn normalized(logits: [f32; N_CLASSES]) -> [f32; N_CLASSES] {
    let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    logits.map(|l| (f64::from(l) - sum.ln()) as f32)
}

fn cells(n: usize) -> impl Strategy<Value = Vec<[f32; N_CLASSES]>> {
    let cell = prop::array::uniform11(-6.0_f32..3.0).prop_map(normalized);
    prop::collection::vec(cell, n)
}

/// A map of which no shape is known, with sides up to `max_side`.
pub(crate) fn open_map(max_side: usize) -> impl Strategy<Value = CellMap> {
    (1..=max_side, 1..=max_side)
        .prop_flat_map(|(h, w)| (Just((h, w)), cells(h * w), strategies::view(3)))
        .prop_map(|((height, width), log_probs, view)| CellMap {
            view,
            format: Format::Icl,
            height,
            width,
            log_probs,
            shape: None,
        })
}

/// A map with a forced shape, with sides up to `max_side`.
pub(crate) fn forced_map(max_side: usize) -> impl Strategy<Value = CellMap> {
    (open_map(max_side), 0..30_usize, 0..30_usize).prop_map(|(map, h, w)| CellMap {
        shape: Some((h % map.height + 1, w % map.width + 1)),
        format: Format::E2e,
        ..map
    })
}

/// A map under `view` that is sure of `grid`, which stands in the task's frame: its colors get
/// probability `p`, the other nine share the rest.
pub(crate) fn sure_map(view: crate::arc::View, grid: &Grid, p: f32) -> CellMap {
    let shown = view.apply(grid);
    let cell = |&color: &u8| {
        let mut cell = [((1.0 - p) / 9.0).ln(); N_CLASSES];
        cell[usize::from(color)] = p.ln();
        cell[super::PAD_CLASS] = f32::NEG_INFINITY;
        cell
    };
    CellMap {
        view,
        format: Format::Icl,
        height: shown.height(),
        width: shown.width(),
        log_probs: shown.cells().iter().map(cell).collect(),
        shape: Some(shown.shape()),
    }
}
