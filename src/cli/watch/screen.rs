//! The newest product in DS9, while the night goes on.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::voice::Voice;
use crate::cli::args::Level;
use crate::quicklook::ds9;

/// Sends products to DS9 from a thread of its own: a DS9 that hangs keeps no frame waiting.
pub(super) struct Screen {
    to: Sender<PathBuf>,
    said: Receiver<String>,
}

impl Screen {
    /// `None`, with a warning, where DS9 cannot be spoken to.
    pub(super) fn open(voice: &Voice) -> Option<Screen> {
        if let Err(e) = ds9::available() {
            voice.say(Level::Warn, "", &format!("{e}; products are not shown there"));
            return None;
        }
        let (to, paths) = channel::<PathBuf>();
        let (tell, said) = channel();
        std::thread::spawn(move || {
            while let Ok(first) = paths.recv() {
                // Of several that came meanwhile, the newest.
                let newest = paths.try_iter().last().unwrap_or(first);
                if let Err(e) = ds9::show(&newest) {
                    // Nobody listens any more: the watch is over.
                    let _ = tell.send(e.to_string());
                }
            }
        });
        Some(Screen { to, said })
    }

    /// Shows a product.
    pub(super) fn show(&self, product: &Path) {
        // The thread ends with this one alone.
        let _ = self.to.send(product.to_path_buf());
    }

    /// Says what went wrong meanwhile.
    pub(super) fn listen(&self, voice: &Voice) {
        self.said.try_iter().for_each(|what| voice.say(Level::Warn, "", &what));
    }
}
