//! Ctrl-C: the first lets what is in flight finish, the second ends at once.

use std::sync::atomic::{AtomicBool, Ordering};

use super::exit::Exit;
use super::print::note;

static STOP: AtomicBool = AtomicBool::new(false);

/// Begins to listen (once a process) and returns what turns true.
pub(super) fn stop() -> &'static AtomicBool {
    // A handler that is there already is this one.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            // Files being written keep their .part names and are made again.
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        note("finishing what is in flight; once more stops at once");
    });
    &STOP
}
