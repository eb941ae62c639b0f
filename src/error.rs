//! The library's one error type: each variant prints a sentence that says what
//! went wrong, where (file, HDU, keyword), and how to mend it.

use std::path::{Path, PathBuf};

/// Result with the library's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, as sentences for the person at the keyboard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {doing} {}: {reason}", path.display())]
    Io {
        /// The verb: "read", "create", "rename" …
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason. Not called `source`: it is in the sentence, and
        /// printers of error chains would say it twice.
        reason: std::io::Error,
    },
    /// A FITS file is not what it should be.
    #[error("{}{}: {message}", path.display(), hdu_suffix(hdu))]
    Fits {
        /// The file.
        path: PathBuf,
        /// The HDU's name or number; empty when it concerns the whole file.
        hdu: String,
        /// The sentence, with the keyword and the mend.
        message: String,
    },
    /// Data or metadata of an exposure cannot be used.
    #[error("{}: {message}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// The sentence, with the keyword and the mend.
        message: String,
    },
    /// A reference file is missing or unusable.
    #[error("reference '{reftype}': {message}")]
    Reference {
        /// Which kind of reference (`dark`, `flat`, …).
        reftype: String,
        /// The sentence.
        message: String,
    },
    /// A configuration file or option is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// The command was used wrongly.
    #[error("{0}")]
    Usage(String),
    /// A benchmark could not run what it was to time.
    #[error("{0}")]
    Bench(String),
    /// No device fits what was asked for.
    #[error("{0}")]
    NoDevice(String),
    /// A device failed while computing.
    #[error("device '{device}': {message}")]
    Device {
        /// The device's name.
        device: String,
        /// The sentence.
        message: String,
    },
    /// There was nothing to do.
    #[error("{0}")]
    NothingToReduce(String),
    /// A numerical step cannot give an answer from what it was given.
    #[error("{0}")]
    Unsolvable(String),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

fn hdu_suffix(hdu: &str) -> String {
    if hdu.is_empty() { String::new() } else { format!("[{hdu}]") }
}

impl Error {
    /// An I/O error with its verb and path; for `map_err`.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |reason| Error::Io { doing, path, reason }
    }

    /// Whether a disk or a network failed, not what lies on it: asked again, it may be
    /// otherwise.
    pub fn is_of_the_disk(&self) -> bool {
        use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
        let Error::Io { reason, .. } = self else { return false };
        let of_the_file = [NotFound, PermissionDenied, IsADirectory, NotADirectory];
        reason.raw_os_error().is_some() && !of_the_file.contains(&reason.kind())
    }

    /// A FITS error in `hdu` of `path` (`""` for the whole file).
    pub fn fits(path: &Path, hdu: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Fits { path: path.to_path_buf(), hdu: hdu.into(), message: message.into() }
    }

    /// An unusable input.
    pub fn input(path: &Path, message: impl Into<String>) -> Error {
        Error::Input { path: path.to_path_buf(), message: message.into() }
    }

    /// An unusable or missing reference.
    pub fn reference(reftype: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Reference { reftype: reftype.into(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_is_no_fault_of_the_file() {
        let of = |code| Error::io("read", Path::new("gain.fits"))(std::io::Error::from_raw_os_error(code));
        // EIO, ESTALE; ENOENT, EACCES.
        assert!(of(5).is_of_the_disk() && of(116).is_of_the_disk());
        assert!(!of(2).is_of_the_disk() && !of(13).is_of_the_disk());
        let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "cut");
        assert!(!Error::io("read", Path::new("gain.fits"))(cut).is_of_the_disk());
    }
}
