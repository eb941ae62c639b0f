//! `meta`: what files say of themselves.

use serde_json::{Value, json};

use super::args::{Meta, MetaVerb};
use super::exit::Exit;
use super::{options, print};
use crate::datamodel::{What, registry};
use crate::error::Result;
use crate::night::{Checked, check_file};
use crate::words::counted;

/// Runs `meta`.
pub(super) fn meta(args: &Meta) -> Result<Exit> {
    let MetaVerb::Check { files, instrument, json } = &args.verb;
    let instrument = options::instrument(instrument.as_deref())?;
    let checked: Vec<Checked> = files.iter().map(|f| check_file(f, &instrument)).collect();
    if *json {
        print::json(&json!({ "files": checked.iter().map(in_json).collect::<Vec<_>>() }))?;
    } else {
        checked.iter().try_for_each(|c| print::out(&in_words(c)))?;
    }
    Ok(if checked.iter().any(|c| c.errors() > 0) { Exit::SomeFailed } else { Exit::Done })
}

fn in_json(checked: &Checked) -> Value {
    let findings: Vec<Value> = checked
        .findings
        .iter()
        .map(|f| {
            json!({
                "severity": severity(f.error),
                "kind": f.what.text(),
                "keyword": f.keyword,
                "message": f.sentence,
            })
        })
        .collect();
    json!({
        "file": checked.file,
        "level": checked.level.map(|l| l.text()),
        "errors": checked.errors(),
        "findings": findings,
    })
}

fn severity(error: bool) -> &'static str {
    if error { "error" } else { "note" }
}

/// A line a finding, each with the file's name; what is missing and need not be there in
/// lists (with --json, each says what it may be).
fn in_words(checked: &Checked) -> String {
    let file = checked.file.display();
    let mut text = String::new();
    // Of the data model, and of the observatory's models.
    let (mut absent, mut telemetry): (Vec<&str>, Vec<&str>) = Default::default();
    for f in &checked.findings {
        if f.what == What::Missing && !f.error && f.sentence.contains("is missing; ") {
            let model = registry::entry(&f.keyword).is_some_and(|e| e.of_the_model());
            if model { &mut absent } else { &mut telemetry }.push(&f.keyword);
        } else {
            text += &format!("{file}: {}: {}: {}\n", severity(f.error), f.what.text(), f.sentence);
        }
    }
    for (which, keywords) in [("of the data model", absent), ("of the observatory", telemetry)] {
        if !keywords.is_empty() {
            text += &format!("{file}: note: missing, {which}: {}\n", keywords.join(", "));
        }
    }
    let level = checked.level.map_or_else(String::new, |l| format!(" ({})", l.text()));
    let errors = match checked.errors() {
        0 => "nothing to mend".into(),
        n => counted(n, "error"),
    };
    text + &format!("{file}{level}: {errors}\n")
}
