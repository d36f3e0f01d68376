//! What the library has to say, on standard error, and what users are told of a panic.

use std::any::Any;
use std::io;
use std::panic;

use tracing_subscriber::EnvFilter;

/// Without `-v`: errors, and the warnings that no record or result repeats.
const USUAL: &str = "error,arc_ttt::cli=warn,arc_ttt::device=warn,arc_ttt::engine::load=warn";

/// Starts the log: `RUST_LOG` if it is set, otherwise errors and what users have to know, with `-v` each stage, with `-vv`
/// each step.
///
/// Panics go to the log alone: a caught one is in the task's record, and its place in the source concerns developers only.
/// What [`defect`] says of one that ends the program is for its catcher to print.
pub(super) fn start(verbose: u8) {
    let default = match verbose {
        0 => USUAL,
        1 => "arc_ttt=info,warn",
        2 => "arc_ttt=debug,info",
        _ => "arc_ttt=trace,debug",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::new(directives),
        _ => EnvFilter::new(default),
    };
    let color = io::IsTerminal::is_terminal(&io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second start is a test's; the first one stays.
    let _ = log.with_ansi(color).try_init();
    panic::set_hook(Box::new(|info| tracing::debug!("{info}")));
}

/// What users are told of a panic that nothing has caught.
pub(super) fn defect(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("no message");
    format!("arc-ttt has a defect: {message}; RUST_LOG=debug tells where")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_pool_is_told_where_the_pool_was_called() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let check = |run: fn(), expected: &str| {
            let run = panic::AssertUnwindSafe(|| pool.install(run));
            let panic = panic::catch_unwind(run).unwrap_err();
            assert_eq!(
                defect(panic.as_ref()),
                format!("arc-ttt has a defect: {expected}; RUST_LOG=debug tells where")
            );
        };
        check(|| panic!("plain"), "plain");
        check(|| panic!("cell {}", 3), "cell 3");
    }
}
