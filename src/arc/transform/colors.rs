//! Bijections of the ten colors.

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::arc::{Color, Grid, N_COLORS};

/// A bijection of the ten colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "[Color; N_COLORS]", into = "[Color; N_COLORS]")]
pub struct ColorPermutation([Color; N_COLORS]);

/// A table of colors that is not a bijection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a permutation of the colors 0 to 9")]
pub struct NotAPermutation(pub [Color; N_COLORS]);

impl ColorPermutation {
    /// The permutation that changes nothing.
    pub const IDENTITY: ColorPermutation = ColorPermutation([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

    /// Takes `map[old] = new`.
    ///
    /// # Errors
    /// [`NotAPermutation`] if two colors would merge or a value is above 9.
    pub fn new(map: [Color; N_COLORS]) -> Result<Self, NotAPermutation> {
        let mut seen = [false; N_COLORS];
        for &c in &map {
            match seen.get_mut(usize::from(c)) {
                Some(slot) if !*slot => *slot = true,
                _ => return Err(NotAPermutation(map)),
            }
        }
        Ok(Self(map))
    }

    /// A uniformly random permutation of all ten colors.
    pub fn random(rng: &mut impl Rng) -> Self {
        let mut map = Self::IDENTITY.0;
        map.shuffle(rng);
        Self(map)
    }

    /// A uniformly random permutation that keeps 0 in its place.
    pub fn random_keeping_zero(rng: &mut impl Rng) -> Self {
        let mut map = Self::IDENTITY.0;
        map[1..].shuffle(rng);
        Self(map)
    }

    /// The paper's `PermuteColors` for a task that uses the colors in `used`.
    ///
    /// 0 stays. Each other used color, in ascending order, goes to an unused color while any remain; after
    /// that it changes places with a random used color that has not changed places yet (possibly itself),
    /// even if that one had found an unused color before. Used colors therefore never merge. The unused
    /// colors take whatever is left, so that the whole is a bijection; no grid of the task shows them.
    ///
    /// Source: Akyürek et al. 2024, `PermuteColors` of the published code.
    pub fn random_preferring_unused(used: &[bool; N_COLORS], rng: &mut impl Rng) -> Self {
        let (used, mut free): (Vec<usize>, Vec<usize>) = (1..N_COLORS).partition(|&c| used[c]);
        free.shuffle(rng);
        let mut partners = used.clone();
        partners.shuffle(rng);
        let mut map: [Option<usize>; N_COLORS] = [None; N_COLORS];
        map[0] = Some(0);
        for &color in &used {
            if map[color].is_some() {
                continue;
            }
            if let Some(new) = free.pop() {
                map[color] = Some(new);
                continue;
            }
            let partner = partners.pop().expect("a color that was not moved is still a partner");
            partners.retain(|&p| p != color);
            map[partner] = Some(color);
            map[color] = Some(partner);
        }
        Self::completed(map)
    }

    /// A bijection that agrees with `map` wherever that says something (without repeating a color).
    fn completed(mut map: [Option<usize>; N_COLORS]) -> Self {
        for old in 0..N_COLORS {
            if map[old].is_none() && !map.contains(&Some(old)) {
                map[old] = Some(old);
            }
        }
        for old in 0..N_COLORS {
            if map[old].is_none() {
                map[old] = (0..N_COLORS).find(|&new| !map.contains(&Some(new)));
            }
        }
        Self(map.map(|new| new.expect("ten colors for ten colors") as Color))
    }

    /// The new color of `color`.
    pub fn map(&self, color: Color) -> Color {
        self.0[usize::from(color)]
    }

    /// The whole table, `table[old] = new`.
    pub fn table(&self) -> &[Color; N_COLORS] {
        &self.0
    }

    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Self {
        let mut map = [0; N_COLORS];
        for (old, &new) in self.0.iter().enumerate() {
            map[usize::from(new)] = old as Color;
        }
        Self(map)
    }

    /// This permutation followed by `next`, as one permutation.
    pub fn then(&self, next: &ColorPermutation) -> Self {
        Self(self.0.map(|color| next.map(color)))
    }

    /// The recolored grid.
    pub fn apply(&self, grid: &Grid) -> Grid {
        Grid::from_fn(grid.height(), grid.width(), |r, c| self.map(grid.get(r, c)))
    }
}

impl TryFrom<[Color; N_COLORS]> for ColorPermutation {
    type Error = NotAPermutation;
    fn try_from(map: [Color; N_COLORS]) -> Result<Self, NotAPermutation> {
        Self::new(map)
    }
}

impl From<ColorPermutation> for [Color; N_COLORS] {
    fn from(p: ColorPermutation) -> Self {
        p.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::arc::strategies;

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    #[test]
    fn merging_tables_are_refused() {
        let check = |map: [Color; N_COLORS]| {
            assert_eq!(ColorPermutation::new(map), Err(NotAPermutation(map)));
            let text = serde_json::to_string(&map).unwrap();
            assert!(serde_json::from_str::<ColorPermutation>(&text).is_err(), "{text}");
        };
        check([0, 1, 1, 3, 4, 5, 6, 7, 8, 9]);
        check([0; N_COLORS]);
        check([10, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    /// Recoloring in place, one color after the other, merges colors whenever a new color is also an old one
    /// that comes later. The table looks every cell up in the original instead.
    #[test]
    fn chained_colors_do_not_merge() {
        let shift = ColorPermutation::new([1, 2, 3, 4, 5, 6, 7, 8, 9, 0]).unwrap();
        let all = Grid::from_fn(2, 5, |r, c| (5 * r + c) as Color);
        assert_eq!(shift.apply(&all).palette(), [true; N_COLORS]);
    }

    #[test]
    fn every_color_can_go_everywhere_unless_zero_is_kept() {
        let mut uniform = [[0; N_COLORS]; N_COLORS];
        let mut keeping = [[0; N_COLORS]; N_COLORS];
        let mut rng = rng(0);
        for _ in 0..2000 {
            let (a, b) = (
                ColorPermutation::random(&mut rng),
                ColorPermutation::random_keeping_zero(&mut rng),
            );
            for old in 0..N_COLORS {
                uniform[old][usize::from(a.map(old as Color))] += 1;
                keeping[old][usize::from(b.map(old as Color))] += 1;
            }
        }
        assert!(uniform.iter().flatten().all(|n| (140..260).contains(n)), "{uniform:?}");
        assert_eq!(keeping[0][0], 2000);
        let others = keeping[1..].iter().flat_map(|row| &row[1..]);
        assert!(others.clone().all(|n| (160..290).contains(n)), "{keeping:?}");
    }

    proptest! {
        #[test]
        fn the_inverse_gives_every_grid_back(
            grid in strategies::grid(30),
            p in strategies::colors(),
        ) {
            prop_assert_eq!(p.inverse().apply(&p.apply(&grid)), grid.clone());
            prop_assert_eq!(p.apply(&p.inverse().apply(&grid)), grid);
            prop_assert_eq!(p.then(&p.inverse()), ColorPermutation::IDENTITY);
        }

        #[test]
        fn applying_a_composition_is_applying_one_after_the_other(
            grid in strategies::grid(8),
            a in strategies::colors(),
            b in strategies::colors(),
        ) {
            prop_assert_eq!(a.then(&b).apply(&grid), b.apply(&a.apply(&grid)));
        }

        #[test]
        fn json_gives_the_permutation_back(p in strategies::colors()) {
            let text = serde_json::to_string(&p).unwrap();
            prop_assert_eq!(serde_json::from_str::<ColorPermutation>(&text).unwrap(), p);
        }

        #[test]
        fn the_papers_permutation_keeps_zero_and_moves_used_colors_to_unused_ones(
            used in prop::array::uniform10(any::<bool>()),
            seed in any::<u64>(),
        ) {
            let p = ColorPermutation::random_preferring_unused(&used, &mut rng(seed));
            prop_assert!(ColorPermutation::new(*p.table()).is_ok(), "no colors merge");
            prop_assert_eq!(p.map(0), 0);
            let colors: Vec<Color> = (1..10).filter(|&c| used[usize::from(c)]).collect();
            let n_free = 9 - colors.len();
            let to_unused = colors.iter().filter(|&&c| !used[usize::from(p.map(c))]).count();
            if colors.len() <= n_free {
                prop_assert_eq!(to_unused, colors.len(), "there was an unused color for each");
            }
            for &c in &colors {
                let new = p.map(c);
                if used[usize::from(new)] {
                    prop_assert_eq!(p.map(new), c, "among themselves, used colors swap");
                }
            }
        }

        #[test]
        fn with_every_color_in_use_the_papers_permutation_swaps_pairs(seed in any::<u64>()) {
            let p = ColorPermutation::random_preferring_unused(&[true; N_COLORS], &mut rng(seed));
            prop_assert_eq!(p, p.inverse());
        }
    }
}
