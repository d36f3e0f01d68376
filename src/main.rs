//! The `arc-ttt` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    arc_ttt::cli::main()
}
