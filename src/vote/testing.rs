//! Stores of candidates for tests.

use crate::arc::{Color, Dihedral, Grid, View};
use crate::candidate::{Candidate, MapMeta};
use crate::dataset::Format;

/// Reads `012/345`.
pub(crate) fn grid(text: &str) -> Grid {
    let row = |row: &str| row.bytes().map(|b| b - b'0').collect::<Vec<Color>>();
    Grid::from_rows(&text.split('/').map(row).collect::<Vec<_>>()).unwrap()
}

/// Maps under these symmetries, all in-context.
pub(crate) fn maps(dihedrals: &[Dihedral]) -> Vec<MapMeta> {
    let view = |&dihedral: &Dihedral| View { dihedral, ..View::IDENTITY };
    dihedrals.iter().map(|d| MapMeta { view: view(d), format: Format::Icl }).collect()
}

/// Candidates with their percentages under each map. Each map proposes the one that it likes most, the first
/// of several.
pub(crate) fn store(candidates: &[(&str, &[f32])]) -> Vec<Candidate> {
    let mut store: Vec<Candidate> = candidates
        .iter()
        .map(|(text, percent)| Candidate {
            grid: grid(text),
            proposed_by: Vec::new(),
            found_by: Vec::new(),
            product: false,
            majority: false,
            log_probs: percent.iter().map(|p| (p / 100.0).ln()).collect(),
        })
        .collect();
    for map in 0..store[0].log_probs.len() {
        let best = (1..store.len()).fold(0, |best, c| {
            if store[c].log_probs[map] > store[best].log_probs[map] { c } else { best }
        });
        store[best].proposed_by.push(map);
    }
    store
}
