//! `report`: the night as a page.

use serde_json::json;

use super::args::Report;
use super::exit::Exit;
use super::{options, print};
use crate::error::Result;
use crate::report::night;
use crate::words::counted;

/// Runs `report`.
pub(super) fn report(args: &Report) -> Result<Exit> {
    let instrument = options::instrument(args.instrument.as_deref())?;
    // The night's folder, or that of the products itself.
    let within = args.night.join("reduced");
    let output = args.from.clone().unwrap_or(if within.is_dir() { within } else { args.night.clone() });
    let wanted = night::Options { folder: args.output.clone(), ..night::Options::default() };
    let written = night::write(&output, &instrument, &wanted)?;
    if args.json {
        print::json(&json!({
            "page": written.page, "json": written.json, "products": written.products, "looked_at": written.looked_at,
        }))?;
    } else {
        let (products, page) = (counted(written.products, "product"), written.page.display());
        print::out(&format!("{page}: {products}, {} looked at now\n", written.looked_at))?;
    }
    Ok(if written.products == 0 { Exit::Nothing } else { Exit::Done })
}

/// The command that was typed, quoted for a shell.
pub(super) fn command() -> String {
    let words = std::env::args_os().skip(1).map(|w| quoted(&w.to_string_lossy()));
    let words = ["irisgpu".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
    match std::env::current_dir() {
        Ok(folder) => format!("cd {} && {words}", quoted(&folder.to_string_lossy())),
        Err(_) => words,
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./=:,+@%".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
