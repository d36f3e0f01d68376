//! Values as people write them: durations and sizes of memory.

use std::time::Duration;

/// Reads a duration such as `30s`, `2m`, `1.5h` or `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 5] =
        [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let bad = || format!("`{text}` is no duration; write it with a unit, such as 30s, 2m or 1.5h");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(bad)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let unit = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(bad)?;
        seconds += number * unit.1;
        rest = next;
    }
    const LONGEST: f64 = 365.0 * 86400.0;
    match seconds {
        s if s < 1e-3 => Err(format!("`{text}` is no time at all; give more than zero")),
        s if s > LONGEST => Err(format!("`{text}` is too long; a year is the most")),
        s => Ok(Duration::from_secs_f64(s)),
    }
}

/// Reads a size of memory such as `600M`, `1.5GiB` or `2000000000`; K, M and G are powers of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no size of memory; write it as 600M or 1.5G");
    let (number, unit) = split_number(text.trim()).ok_or_else(bad)?;
    let unit = unit.trim().to_ascii_lowercase();
    let exponent = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        // A lone small number is mebibytes or gibibytes to whoever writes it.
        "" if unit.is_empty() && number < f64::from(1 << 20) => {
            return Err(format!("`{text}` has no unit; write it as 600M or 1.5G"));
        }
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(bad()),
    };
    let bytes = number * 1024f64.powi(exponent);
    if bytes < 1.0 || bytes > u64::MAX as f64 { Err(bad()) } else { Ok(bytes as u64) }
}

/// Splits `1.5h` into 1.5 and `h`.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

/// A duration as people read it: `4.2 s`, `12 min 30 s`, `2 h 5 min`.
pub(super) fn show_seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.95 => format!("{:.0} ms", s * 1e3),
        s if s < 99.5 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {:02} min", s as u64 / 3600, s as u64 / 60 % 60),
    }
}

/// A size of memory as people read it: `812 MiB`, `1.4 GiB`.
pub(super) fn show_bytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1000.0 {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{:.1} GiB", mebibytes / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, seconds) in [
            ("30s", 30.0),
            ("2m", 120.0),
            ("1.5h", 5400.0),
            ("1h30m", 5400.0),
            ("250ms", 0.25),
            (" 3 s", 3.0),
            ("1d", 86400.0),
        ] {
            assert_eq!(duration(text).map(|d| d.as_secs_f64()), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn durations_without_unit_or_sense_are_refused_with_an_example() {
        for text in ["30", "s", "", "1,5h", "-3s", "3 weeks", "1.2.3s", "0s", "1e9h", "366d"] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        assert!(duration("30").unwrap_err().contains("such as 30s"));
    }

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, size) in [
            ("600M", 600 << 20),
            ("1.5GiB", 3 << 29),
            ("2kb", 2048),
            ("77B", 77),
            ("2000000000", 2_000_000_000),
            ("1 T", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "M", "77", "0", "-1G", "5x", "1e3"] {
            assert!(bytes(text).unwrap_err().contains(&format!("`{text}`")));
        }
    }

    #[test]
    fn seconds_and_bytes_are_shown_in_fitting_units() {
        assert_eq!(show_seconds(0.25), "250 ms");
        assert_eq!(show_seconds(4.21), "4.2 s");
        assert_eq!(show_seconds(750.0), "12 min 30 s");
        assert_eq!(show_seconds(7505.0), "2 h 05 min");
        assert_eq!(show_bytes(812 << 20), "812 MiB");
        assert_eq!(show_bytes(3 << 29), "1.5 GiB");
    }
}
