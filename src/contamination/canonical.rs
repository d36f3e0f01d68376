//! One hash for a pair in all its positions and colors.

use sha2::{Digest, Sha256};

use crate::arc::{Color, Dihedral, Example, Grid, N_COLORS};

/// The first 64 bits of the SHA-256 of a pair's least form under the eight symmetries of the square, colors
/// renamed in the order in which they appear.
pub fn pair_hash(pair: &Example) -> u64 {
    form_hash(&[&pair.input, &pair.output])
}

/// As [`pair_hash`], of grids that are turned and recolored together.
pub(super) fn form_hash(grids: &[&Grid]) -> u64 {
    let form = |dihedral: Dihedral| {
        let mut names = Names::default();
        let mut bytes = Vec::with_capacity(grids.iter().map(|g| g.cells().len() + 2).sum());
        for grid in grids {
            append(&dihedral.apply(grid), &mut names, &mut bytes);
        }
        bytes
    };
    let least = Dihedral::ALL.into_iter().map(form).min().expect("eight symmetries");
    let digest = Sha256::digest(least);
    u64::from_le_bytes(*digest.first_chunk().expect("32 bytes"))
}

/// Colors by the number of colors seen before them.
#[derive(Default)]
struct Names {
    of: [Option<Color>; N_COLORS],
    seen: Color,
}

/// Appends a grid's shape and its cells, under their new names.
fn append(grid: &Grid, names: &mut Names, bytes: &mut Vec<u8>) {
    bytes.extend([grid.height() as u8, grid.width() as u8]);
    for &color in grid.cells() {
        let name = *names.of[usize::from(color)].get_or_insert_with(|| {
            names.seen += 1;
            names.seen - 1
        });
        bytes.push(name);
    }
}
