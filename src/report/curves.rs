//! Loss curves, thinned out and summed up.

use crate::dataset::Format;
use crate::pipeline::{Curve, TaskRecord};

/// Points of a summed-up curve.
const POINTS: usize = 40;

/// The quartiles of the loss of several fits at one share of their steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quartiles {
    /// Share of the steps that are done, 0 to 1.
    pub share: f64,
    /// A quarter of the fits is below this, in nats.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// A quarter of the fits is above this.
    pub high: f64,
}

/// The quartiles over the fits of several records, at even shares of their steps; empty without a fit.
pub(super) fn quartiles<'a>(records: impl Iterator<Item = &'a TaskRecord>) -> Vec<Quartiles> {
    let curves: Vec<Vec<f64>> = records
        .map(|record| record.curve.0.iter().map(|step| f64::from(step.loss)).collect())
        .filter(|losses: &Vec<f64>| !losses.is_empty())
        .collect();
    if curves.is_empty() {
        return Vec::new();
    }
    let at = |point: usize| {
        let mut losses: Vec<f64> = curves.iter().map(|curve| piece_mean(curve, point)).collect();
        losses.sort_by(f64::total_cmp);
        let quantile = |share: f64| losses[((losses.len() - 1) as f64 * share).round() as usize];
        let share = (point as f64 + 0.5) / POINTS as f64;
        Quartiles { share, low: quantile(0.25), median: quantile(0.5), high: quantile(0.75) }
    };
    (0..POINTS).map(at).collect()
}

/// The mean of one of [`POINTS`] even pieces of a curve, at least of one step.
fn piece_mean(losses: &[f64], piece: usize) -> f64 {
    let cut = |piece: usize| piece * losses.len() / POINTS;
    let start = cut(piece).min(losses.len() - 1);
    let end = cut(piece + 1).clamp(start + 1, losses.len());
    mean(&losses[start..end])
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The steps in one format in at most `limit` points: `(last step, mean loss)` of even pieces.
pub(super) fn thinned(curve: &Curve, format: Format, limit: usize) -> Vec<(usize, f64)> {
    let steps: Vec<_> = curve.0.iter().filter(|step| step.format == format).collect();
    let size = steps.len().div_ceil(limit).max(1);
    let point = |piece: &[&crate::engine::FitStep]| {
        let losses: Vec<f64> = piece.iter().map(|step| f64::from(step.loss)).collect();
        (piece[piece.len() - 1].step, mean(&losses))
    };
    steps.chunks(size).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::FitStep;

    fn curve(losses: &[f32]) -> Curve {
        let step = |(i, &loss): (usize, &f32)| FitStep {
            step: i + 1,
            format: Format::Icl,
            loss,
            seconds: 0.0,
            progress: 0.0,
            check: None,
        };
        Curve(losses.iter().enumerate().map(step).collect())
    }

    #[test]
    fn a_long_curve_is_averaged_and_a_short_one_is_kept() {
        let points = thinned(&curve(&[4.0, 2.0, 1.0, 1.0, 0.5]), Format::Icl, 3);
        assert_eq!(points, [(2, 3.0), (4, 1.0), (5, 0.5)]);
        assert_eq!(thinned(&curve(&[4.0]), Format::Icl, 3), [(1, 4.0)]);
        assert_eq!(thinned(&curve(&[4.0]), Format::E2e, 3), []);
    }

    #[test]
    fn pieces_cover_every_step_and_exist_for_a_single_one() {
        let losses: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(piece_mean(&losses, 0), 0.5);
        assert_eq!(piece_mean(&losses, POINTS - 1), 98.0);
        assert_eq!(piece_mean(&[7.0], POINTS - 1), 7.0);
    }
}
