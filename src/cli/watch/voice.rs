//! What a watch says: on the terminal, in the log, and in the status file.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::LAST;
use crate::cli::args::{Level, Talk};
use crate::cli::log::{Log, utc};
use crate::cli::print;
use crate::cli::summary::about;

/// Says things to whoever sits there, and to the log.
pub(super) struct Voice {
    pub(super) log: Log,
    quiet: bool,
    verbose: bool,
    /// The last warnings and errors, for the status file: each once, with the first that
    /// it is about.
    grave: RefCell<VecDeque<Grave>>,
}

/// A warning or an error.
struct Grave {
    time: String,
    exposure: String,
    message: String,
    times: usize,
}

impl Voice {
    pub(super) fn new(log: Log, talk: &Talk) -> Voice {
        Voice { log, quiet: talk.quiet, verbose: talk.verbose, grave: RefCell::default() }
    }

    pub(super) fn say(&self, level: Level, exposure: &str, message: &str) {
        self.log.event(level, exposure, message);
        self.show(level, exposure, message);
    }

    /// Not to the log, which has it already. A warning that many exposures give is shown
    /// once.
    pub(super) fn show(&self, level: Level, exposure: &str, message: &str) {
        let time = utc(SystemTime::now());
        let again = matches!(level, Level::Warn | Level::Error) && self.again(&time, exposure, message);
        let shown = match level {
            Level::Error => true,
            Level::Warn => !self.quiet && !again,
            Level::Debug => self.verbose,
            _ => !self.quiet,
        };
        if shown {
            let sentence = if exposure.is_empty() { message.to_owned() } else { about(exposure, message) };
            let word = if level == Level::Warn { "warning: " } else { "" };
            print::note(&format!("{}  {word}{sentence}", time.get(11..19).unwrap_or_default()));
        }
    }

    /// Notes a warning or an error; whether it was said lately.
    fn again(&self, time: &str, exposure: &str, message: &str) -> bool {
        let mut grave = self.grave.borrow_mut();
        if let Some(said) = grave.iter_mut().find(|g| g.message == message) {
            said.times += 1;
            return true;
        }
        let (time, exposure, message) = (time.to_owned(), exposure.to_owned(), message.to_owned());
        grave.push_back(Grave { time, exposure, message, times: 1 });
        while grave.len() > LAST {
            grave.pop_front();
        }
        false
    }

    pub(super) fn warnings(&self) -> Value {
        let row = |g: &Grave| json!({"time": g.time, "exposure": g.exposure, "message": g.message, "times": g.times});
        self.grave.borrow().iter().map(row).collect()
    }
}
