//! Sections of figures as one report.

use super::figure::{Section, Verdict};

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The engine.
    pub device: String,
    /// What a reader must know of how it was measured, as sentences.
    pub note: String,
    /// What was measured, in order.
    pub sections: Vec<Section>,
}

impl Report {
    /// The worst verdict of all.
    pub fn verdict(&self) -> Verdict {
        self.sections.iter().map(Section::verdict).max().unwrap_or(Verdict::Met)
    }

    /// As markdown: a table of the targets, then one a section.
    pub fn markdown(&self) -> String {
        let mut out = format!("Engine: {}.", self.device);
        if !self.note.is_empty() {
            out += &format!(" {}", self.note);
        }
        out += &format!("\n\n| figure | target | worst | at | |\n|{}\n", "---|".repeat(5));
        for row in self.sections.iter().flat_map(Section::summary) {
            out += &format!("| {} |\n", row.join(" | "));
        }
        for section in &self.sections {
            out += &format!("\n{}", section.markdown());
        }
        out
    }
}
