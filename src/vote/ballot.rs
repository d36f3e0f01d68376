//! Candidates and maps of one test, prepared for counting.

use std::cmp::Ordering;

use super::FormatWeights;
use crate::candidate::{Candidate, MapMeta};
use crate::dataset::Format;

/// The maps that a vote hears.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    /// Those that propose candidates.
    pub maps: &'a [MapMeta],
    /// Those that score them: the same, or fresh ones.
    pub experts: &'a [MapMeta],
}

impl<'a> Panel<'a> {
    /// Of maps that propose, and of fresh ones that score; without these the others score.
    pub fn new(maps: &'a [MapMeta], fresh: &'a [MapMeta]) -> Self {
        Self { maps, experts: if fresh.is_empty() { maps } else { fresh } }
    }
}

/// Maps that score what they propose.
impl<'a> From<&'a [MapMeta]> for Panel<'a> {
    fn from(maps: &'a [MapMeta]) -> Self {
        Self::new(maps, &[])
    }
}

impl<'a> From<&'a Vec<MapMeta>> for Panel<'a> {
    fn from(maps: &'a Vec<MapMeta>) -> Self {
        maps.as_slice().into()
    }
}

/// What every rule reads.
pub(super) struct Ballot<'a> {
    pub(super) candidates: &'a [Candidate],
    /// The maps that propose.
    pub(super) maps: &'a [MapMeta],
    weights: FormatWeights,
    /// Those of them that count, with their weights.
    pub(super) proposing: Vec<(usize, f64)>,
    /// The maps that score and count, with their weights.
    pub(super) experts: Vec<(usize, f64)>,
    /// Weighted sum of each candidate's log-probabilities.
    pub(super) product: Vec<f64>,
    /// Each candidate's share of the votes if every map spreads its weight over the candidates in proportion
    /// to their probabilities; they add up to 1.
    pub(super) shares: Vec<f64>,
}

fn weight(weights: &FormatWeights, format: Format) -> f64 {
    f64::from(match format {
        Format::Icl => weights.icl,
        Format::E2e => weights.e2e,
    })
}

/// The maps that count, with their weights. They are sorted by what they are, so that sums come out the same to the
/// last bit in whatever order the maps were made.
fn counting(maps: &[MapMeta], weights: &FormatWeights) -> Vec<(usize, f64)> {
    let with_weight = |(index, map): (usize, &MapMeta)| (index, weight(weights, map.format));
    let counting = maps.iter().enumerate().map(with_weight);
    let mut counting: Vec<(usize, f64)> = counting.filter(|&(_, w)| w > 0.0).collect();
    let name = |&(map, _): &(usize, f64)| (&maps[map].view, maps[map].format as usize);
    counting.sort_by(|a, b| name(a).cmp(&name(b)));
    counting
}

impl<'a> Ballot<'a> {
    pub(super) fn new(
        candidates: &'a [Candidate],
        Panel { maps, experts }: Panel<'a>,
        weights: &FormatWeights,
    ) -> Self {
        for candidate in candidates {
            assert_eq!(candidate.log_probs.len(), experts.len(), "a score for every map");
        }
        // If only formats without weight were predicted, they are all there is.
        let weights = if experts.iter().any(|map| weight(weights, map.format) > 0.0) {
            *weights
        } else {
            FormatWeights::default()
        };
        let mut ballot = Self {
            candidates,
            maps,
            weights,
            proposing: counting(maps, &weights),
            experts: counting(experts, &weights),
            product: Vec::new(),
            shares: vec![0.0; candidates.len()],
        };
        let product = |candidate| ballot.log_probs(candidate).map(|(l, weight)| l * weight).sum();
        ballot.product = (0..candidates.len()).map(product).collect();
        ballot.share_votes();
        ballot
    }

    /// Fills in the shares.
    fn share_votes(&mut self) {
        let total: f64 = self.total_weight();
        for &(map, weight) in &self.experts {
            let log_prob = |c: &Candidate| f64::from(c.log_probs[map]);
            let top = self.candidates.iter().map(log_prob).fold(f64::NEG_INFINITY, f64::max);
            let likelihood = |c: &Candidate| (log_prob(c) - top).exp();
            let likelihoods: Vec<f64> = self.candidates.iter().map(likelihood).collect();
            let vote = weight / total / likelihoods.iter().sum::<f64>();
            for (share, likelihood) in self.shares.iter_mut().zip(&likelihoods) {
                *share += vote * likelihood;
            }
        }
    }

    /// The log-probabilities of a candidate under the maps that score and count, with their weights.
    pub(super) fn log_probs(&self, candidate: usize) -> impl Iterator<Item = (f64, f64)> {
        let log_probs = &self.candidates[candidate].log_probs;
        self.experts.iter().map(|&(map, weight)| (f64::from(log_probs[map]), weight))
    }

    /// Sum of the weights of some maps that propose.
    pub(super) fn weight(&self, maps: &[usize]) -> f64 {
        // Counted by format: a sum of weights would depend on their order in its last bits.
        let e2e = maps.iter().filter(|&&map| self.maps[map].format == Format::E2e).count();
        let icl = maps.len() - e2e;
        icl as f64 * f64::from(self.weights.icl) + e2e as f64 * f64::from(self.weights.e2e)
    }

    /// Sum of the weights of all maps that score.
    pub(super) fn total_weight(&self) -> f64 {
        self.experts.iter().map(|(_, weight)| weight).sum()
    }

    /// How two candidates compare that a rule holds equal: the one that the product of experts prefers comes
    /// first, then the one that stands first in the store.
    pub(super) fn tie_break(&self, a: usize, b: usize) -> Ordering {
        self.product[b].total_cmp(&self.product[a]).then(a.cmp(&b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::Dihedral;
    use crate::vote::testing::{maps, store};

    #[test]
    fn sums_are_the_same_to_the_last_bit_in_any_order_of_the_maps() {
        let log_probs = [-0.1, -1.0e6, -0.3, -700.0, -1.0e-3, -12.345, -0.2, -5.5];
        let forwards: Vec<usize> = (0..8).collect();
        let backwards: Vec<usize> = (0..8).rev().collect();
        let weights = FormatWeights { icl: 0.7, e2e: 1.0 };
        let [a, b] = [forwards, backwards].map(|order| {
            let dihedrals: Vec<Dihedral> = order.iter().map(|&i| Dihedral::ALL[i]).collect();
            let mut candidates = store(&[("1", &[50.0; 8])]);
            candidates[0].log_probs = order.iter().map(|&i| log_probs[i]).collect();
            Ballot::new(&candidates, (&maps(&dihedrals)).into(), &weights).product[0].to_bits()
        });
        assert_eq!(a, b);
        let term = |&l: &f32| f64::from(l) * f64::from(weights.icl);
        let as_given: f64 = log_probs.iter().map(term).sum();
        let reversed: f64 = log_probs.iter().rev().map(term).sum();
        assert_ne!(as_given, reversed, "the case must be able to fail");
    }
}
