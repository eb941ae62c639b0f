//! One run at a time writes into an output folder, or many that do tasks of one plan.
//!
//! The lock is the operating system's lock on a file in the folder, so it ends
//! with its process however that ends: a file left by a killed run is simply
//! taken over. The process number in it is for the message only. The file stays
//! (removing it would let two later runs lock two different files).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Its file in a folder of products.
pub(super) const NAME: &str = ".irisgpu.lock";

/// Held while a run writes; dropping it lets the next one in.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the folder (created when missing), or says who has it.
    pub fn take(folder: &Path) -> Result<Lock> {
        Self::with(folder, File::try_lock)
    }

    /// Takes it together with others who share it: those that do tasks of one plan.
    pub fn share(folder: &Path) -> Result<Lock> {
        Self::with(folder, File::try_lock_shared)
    }

    /// Whether the folder is still the one that was taken: it may be removed, or another be
    /// put in its place, and that has a lock of its own.
    pub fn is_held(&self) -> bool {
        let Ok(there) = std::fs::metadata(&self.path) else { return false };
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            self.file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        }
        #[cfg(not(unix))]
        {
            there.is_file()
        }
    }

    fn with(folder: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Lock> {
        let unwritable = |e: std::io::Error| {
            Error::Usage(format!(
                "cannot write in {}: {e}; give another folder with -o, or make this one writable",
                folder.display()
            ))
        };
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        let path = folder.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unwritable)?;
        match lock(&file) {
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                return Err(Error::Usage(format!(
                    "another irisgpu ({}) is writing in {}; wait for it, or give another folder with -o",
                    if owner.trim().is_empty() { "unknown" } else { owner.trim() },
                    folder.display()
                )));
            }
            // Some network file systems have no locks; working beats refusing.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        file.set_len(0).map_err(unwritable)?;
        writeln!(file, "process {}", std::process::id()).map_err(unwritable)?;
        Ok(Lock { file, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_writer_and_a_dead_ones_file_is_taken_over() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join(NAME), "process 1\n").expect("stale file");
        let first = Lock::take(dir.path()).expect("first");
        let sentence = Lock::take(dir.path()).expect_err("second").to_string();
        assert!(sentence.contains(&format!("process {}", std::process::id())), "{sentence}");
        assert!(first.is_held());
        drop(first);
        let third = Lock::take(dir.path()).expect("after");
        std::fs::remove_dir_all(dir.path()).expect("remove");
        assert!(!third.is_held());
        let fourth = Lock::take(dir.path()).expect("another folder");
        assert!(fourth.is_held() && !third.is_held());
    }
}
