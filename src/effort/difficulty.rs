//! The difficulty of a task, from what can be seen without its answer.

use serde::{Deserialize, Serialize};

/// How hard a task is for a model, in bins with absolute bounds: a set of hard tasks has no easy ones.
///
/// The estimate behind them is the chance that one prediction is right: the geometric mean of the held-out solve rate
/// and of the share of the views that agree on the first attempt, or the one of them that is known. The bounds are
/// those of Liu et al. 2025 (arXiv 2502.06703), who bin by the rate of right answers instead of by quantiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difficulty {
    /// The estimate is at least [`Difficulty::EASY`].
    Easy,
    /// At least [`Difficulty::MEDIUM`].
    Medium,
    /// Below that, but at least [`Difficulty::AGREED`] of the views agree.
    Hard,
    /// Neither: nothing held out was predicted, and the views do not agree.
    Hopeless,
}

impl Difficulty {
    /// All of them, the easiest first.
    pub const ALL: [Difficulty; 4] =
        [Difficulty::Easy, Difficulty::Medium, Difficulty::Hard, Difficulty::Hopeless];

    /// Least estimate of an easy task.
    pub const EASY: f64 = 0.5;

    /// Least estimate of a medium task.
    pub const MEDIUM: f64 = 0.1;

    /// Least share of the views that agree on a hard task.
    pub const AGREED: f64 = 0.25;

    /// The bin of a task with this held-out solve rate and this share of views that propose the first attempt, both
    /// from 0 to 1; `None` if neither is known.
    pub fn of(held_out: Option<f64>, agreement: Option<f64>) -> Option<Self> {
        let estimate = match (held_out, agreement) {
            (Some(rate), Some(share)) => (rate * share).sqrt(),
            (rate, share) => rate.or(share)?,
        };
        Some(if estimate >= Self::EASY {
            Self::Easy
        } else if estimate >= Self::MEDIUM {
            Self::Medium
        } else if agreement.is_some_and(|share| share >= Self::AGREED) {
            Self::Hard
        } else {
            Self::Hopeless
        })
    }

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Medium => "medium",
            Self::Hard => "hard",
            Self::Hopeless => "hopeless",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_have_absolute_bounds() {
        let check = |held_out, agreement, expected: &str| {
            let bin = Difficulty::of(held_out, agreement).map_or("unknown", Difficulty::name);
            assert_eq!(bin, expected, "{held_out:?} {agreement:?}");
        };
        check(Some(1.0), Some(1.0), "easy");
        check(Some(0.5), Some(0.5), "easy");
        check(Some(1.0), Some(0.2), "medium");
        check(Some(0.125), Some(1.0), "medium");
        check(Some(0.0), Some(1.0), "hard");
        check(Some(0.0), Some(0.25), "hard");
        check(Some(0.0), Some(0.2), "hopeless");
        check(None, Some(0.5), "easy");
        check(None, Some(0.125), "medium");
        check(None, Some(0.0625), "hopeless");
        check(Some(0.3), None, "medium");
        check(Some(0.0), None, "hopeless");
        check(None, None, "unknown");
    }

    #[test]
    fn names_are_those_of_the_files() {
        for difficulty in Difficulty::ALL {
            let text = serde_json::to_string(&difficulty).unwrap();
            assert_eq!(text, format!("{:?}", difficulty.name()));
        }
    }
}
