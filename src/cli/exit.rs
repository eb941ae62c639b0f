//! Exit codes.

use std::process::ExitCode;

use crate::error::Error;

/// How a run of the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All done (0).
    Done,
    /// Some exposures failed (1).
    SomeFailed,
    /// Wrong usage or configuration (2).
    Usage,
    /// No usable device though one was required (3).
    NoDevice,
    /// Nothing to reduce (64).
    Nothing,
    /// Interrupted (130).
    Interrupted,
}

impl Exit {
    /// The code of an error that ended the whole run.
    pub fn of(error: &Error) -> Exit {
        match error {
            Error::Config(_) | Error::Usage(_) => Exit::Usage,
            Error::NoDevice(_) => Exit::NoDevice,
            Error::NothingToReduce(_) => Exit::Nothing,
            Error::Interrupted => Exit::Interrupted,
            _ => Exit::SomeFailed,
        }
    }

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::SomeFailed => 1,
            Exit::Usage => 2,
            Exit::NoDevice => 3,
            Exit::Nothing => 64,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
