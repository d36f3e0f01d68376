//! What the library has to say, on standard error.

use std::io;
use std::panic;
use std::thread;

use tracing_subscriber::EnvFilter;

/// Starts the log: `RUST_LOG` if it is set, otherwise warnings, with `-v` each stage, with `-vv` each step.
///
/// Panics of worker threads go to the log too: a caught one is in the task's record, and its place in the
/// source concerns developers only.
pub(super) fn start(verbose: u8) {
    let default = match verbose {
        0 => "error",
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
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some("main") {
            usual(info);
        } else {
            tracing::debug!("{info}");
        }
    }));
}
