//! Numbers as the page writes them.

/// What stands where a value is not known.
pub(super) const UNKNOWN: &str = "–";

/// A share as a percentage.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or(UNKNOWN.to_owned(), |s| format!("{:.1} %", 100.0 * s))
}

/// A 95 % interval of a share.
pub(super) fn interval(interval: Option<[f64; 2]>) -> String {
    match interval {
        Some([low, high]) => format!("{:.1} – {:.1} %", 100.0 * low, 100.0 * high),
        None => UNKNOWN.to_owned(),
    }
}

/// A duration with a digit or two that matter.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", 1e3 * s),
        s if s < 99.95 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A count with its noun.
pub(super) fn count(n: usize, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

/// Items in a sentence: `a, b and c`.
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The day, in UTC, of a number of seconds since 1970, as `2026-11-24`.
///
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub(super) fn date(seconds: u64) -> String {
    /// Days of 400 years, after which the calendar repeats.
    const ERA: u64 = 146_097;
    // Years begin in March, so that the leap day is the last one.
    let days = seconds / 86_400 + 719_468;
    let day_of_era = days % ERA;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = days / ERA * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_798_761_599, "2026-12-31"),
            (1_798_761_600, "2027-01-01"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }

    #[test]
    fn durations_keep_the_digits_that_matter() {
        let shown = [0.0123, 1.04, 99.96, 4000.0].map(seconds);
        assert_eq!(shown, ["12 ms", "1.0 s", "2 min", "1.1 h"]);
    }

    #[test]
    fn lists_read_as_sentences() {
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(
            [list(&items[..0]), list(&items[..1]), list(&items)],
            ["none", "a", "a, b and c"]
        );
    }
}
