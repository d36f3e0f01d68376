//! Keeps what goes wrong inside a stage from ending more than the stage.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a stage; an error or a panic becomes the reason why it failed.
pub(super) fn guard<T, E: Display>(
    stage: &str,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    // Whatever the stage has left half changed belongs to this task alone and is dropped with it.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| format!("{stage}: {error}")),
        Err(panic) => Err(format!("{stage}: panicked: {}", message(panic.as_ref()))),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_panics_become_reasons_with_the_stage() {
        let check = |run: fn() -> Result<u8, &'static str>, expected: &str| {
            assert_eq!(guard("fit", run), Err(expected.to_owned()));
        };
        check(|| Err("too large"), "fit: too large");
        check(|| panic!("plain"), "fit: panicked: plain");
        check(|| panic!("cell {}", 3), "fit: panicked: cell 3");
        assert_eq!(guard("fit", || Ok::<_, &str>(7)), Ok(7));
    }
}
