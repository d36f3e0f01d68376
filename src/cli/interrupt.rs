//! Ctrl-C and SIGTERM: the first asks the work to end at a clean point, the second ends it at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code after an interruption, as shells use it: 128 + SIGINT.
pub(super) const INTERRUPTED: u8 = 130;

static FLAG: AtomicBool = AtomicBool::new(false);
static INSTALLED: OnceLock<()> = OnceLock::new();

/// The flag that the first signal sets; installs the handler on the first call.
pub(super) fn flag() -> &'static AtomicBool {
    INSTALLED.get_or_init(|| {
        let handler = || {
            if FLAG.swap(true, Ordering::SeqCst) {
                std::process::exit(INTERRUPTED.into());
            }
            say!("finishing what is in hand; once more to end at once");
        };
        // Without a handler the signal simply ends the program, and the next run resumes.
        if let Err(error) = ctrlc::set_handler(handler) {
            tracing::warn!("no signal handler: {error}");
        }
    });
    &FLAG
}
