//! What standard output is and how to write to it.

use std::io::{self, IsTerminal, Write};

/// Columns to draw in where no terminal says how many it has.
const USUAL_WIDTH: usize = 100;

/// Whether to draw in color.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Color {
    /// In a terminal, unless NO_COLOR is set.
    Auto,
    /// Also into a file or a pipe.
    Always,
    /// Digits.
    Never,
}

impl Color {
    /// Whether to use color on standard output.
    pub(super) fn wanted(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                io::stdout().is_terminal() && !refused
            }
        }
    }
}

/// Columns of the terminal on standard output.
pub(super) fn width() -> usize {
    terminal_size::terminal_size().map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0).max(1))
}

/// Writes a line to standard error. Nothing can be done where that is closed (`2>&1 | head`), and the work goes on.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes to standard output; a reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// If the output cannot be written for another reason, such as a full disk.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
