//! `rectmat`: rectification matrices in OSIRIS's format.

use super::args::{Rectmat, RectmatVerb};
use super::exit::Exit;
use crate::error::Result;
use crate::fits::Header;
use crate::pipeline::lenspx::{LensCal, rectmat as files};

/// Runs `rectmat`.
pub(super) fn rectmat(args: &Rectmat) -> Result<Exit> {
    match &args.verb {
        RectmatVerb::Export { lenspx, output } => files::export(&LensCal::load(lenspx)?, output)?,
        RectmatVerb::Import { matrix, like, output } => {
            let cal = files::import(matrix, &LensCal::load(like)?)?;
            let mut header = Header::new();
            let name = matrix.file_name().unwrap_or_default().to_string_lossy();
            header.set("RECTMAT", name.as_ref(), "rectification matrix that the profiles are from");
            cal.save(output, &header)?;
        }
    }
    Ok(Exit::Done)
}
