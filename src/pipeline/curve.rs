//! A fit's steps in columns: one line of a record holds thousands of them.

use serde::{Deserialize, Serialize};

use crate::dataset::Format;
use crate::engine::{Check, FitStep};

/// Every step of a fit. In JSON a list for each quantity instead of an object for each step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Columns", into = "Columns")]
pub struct Curve(pub Vec<FitStep>);

/// The columns of a [`Curve`], all of the same length but `checks`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Columns {
    /// Mean cross-entropy, nats.
    loss: Vec<f32>,
    /// Seconds since the fit began, to the millisecond.
    seconds: Vec<f64>,
    /// Share of the schedule behind, exactly: a replay depends on it.
    progress: Vec<f32>,
    /// A letter a step: `i` in-context, `e` end-to-end.
    format: String,
    /// Held-out checks: step, demonstrations reproduced, demonstrations tried.
    checks: Vec<[usize; 3]>,
}

/// Columns that do not belong together.
#[derive(Debug, thiserror::Error)]
#[error("the columns of the loss curve do not fit together")]
struct Uneven;

impl From<Curve> for Columns {
    fn from(Curve(steps): Curve) -> Self {
        let mut columns = Columns::default();
        for s in steps {
            // JSON knows no infinity, and a record that cannot be read back would be lost.
            columns.loss.push(if s.loss.is_finite() { s.loss } else { f32::MAX });
            columns.seconds.push((s.seconds * 1e3).round() / 1e3);
            columns.progress.push(s.progress);
            columns.format.push(match s.format {
                Format::Icl => 'i',
                Format::E2e => 'e',
            });
            columns.checks.extend(s.check.map(|c| [s.step, c.exact, c.of]));
        }
        columns
    }
}

impl TryFrom<Columns> for Curve {
    type Error = Uneven;
    fn try_from(columns: Columns) -> Result<Self, Uneven> {
        let n = columns.loss.len();
        let formats: Vec<_> = columns.format.chars().collect();
        if [columns.seconds.len(), columns.progress.len(), formats.len()] != [n; 3] {
            return Err(Uneven);
        }
        let mut steps = Vec::with_capacity(n);
        for (i, format) in formats.into_iter().enumerate() {
            let format = match format {
                'i' => Format::Icl,
                'e' => Format::E2e,
                _ => return Err(Uneven),
            };
            let (loss, seconds) = (columns.loss[i], columns.seconds[i]);
            let progress = columns.progress[i];
            steps.push(FitStep { step: i + 1, format, loss, seconds, progress, check: None });
        }
        for [step, exact, of] in columns.checks {
            let index = step.checked_sub(1).ok_or(Uneven)?;
            steps.get_mut(index).ok_or(Uneven)?.check = Some(Check { exact, of });
        }
        Ok(Self(steps))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_curve_comes_back_from_json_with_its_schedule_bit_for_bit(
            steps in proptest::collection::vec((0f32..9.0, 0f32..=1.0, any::<bool>(), 0usize..4), 0..40)
        ) {
            let step = |(i, &(loss, progress, icl, check)): (usize, &(f32, f32, bool, usize))| FitStep {
                step: i + 1,
                format: if icl { Format::Icl } else { Format::E2e },
                loss,
                seconds: i as f64 / 8.0,
                progress,
                check: (check > 0).then_some(Check { exact: check - 1, of: 3 }),
            };
            let curve = Curve(steps.iter().enumerate().map(step).collect());
            let text = serde_json::to_string(&curve).unwrap();
            prop_assert_eq!(serde_json::from_str::<Curve>(&text).unwrap(), curve);
        }
    }

    #[test]
    fn columns_of_different_lengths_are_refused() {
        let text = r#"{"loss":[1.0],"seconds":[],"progress":[0.0],"format":"i","checks":[]}"#;
        serde_json::from_str::<Curve>(text).unwrap_err();
        let text =
            r#"{"loss":[1.0],"seconds":[0.0],"progress":[0.0],"format":"i","checks":[[2,1,1]]}"#;
        serde_json::from_str::<Curve>(text).unwrap_err();
    }
}
