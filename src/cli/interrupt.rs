//! Ctrl-C, or SIGTERM: the first lets what is in flight finish, the second ends at once, as
//! does the first where that takes too long (who sends SIGTERM may not come again).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::exit::Exit;
use super::print::note;

/// What is in flight has so long.
const GRACE: Duration = Duration::from_secs(60);

static STOP: AtomicBool = AtomicBool::new(false);

/// Begins to listen (once a process) and returns what turns true.
pub(super) fn stop() -> &'static AtomicBool {
    // A handler that is there already is this one.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            end();
        }
        note("finishing what is in flight, a minute at most; once more stops at once");
        std::thread::spawn(|| {
            std::thread::sleep(GRACE);
            note("it takes too long: it is left for the next run");
            end();
        });
    });
    &STOP
}

/// Files being written keep their .part names and are made again.
fn end() -> ! {
    std::process::exit(i32::from(Exit::Interrupted.code()))
}
