//! Reads that are left out of an exposure, and what is known of single reads.

use super::by;
use super::ramp::{Array, Ramp, Source};
use crate::error::{Error, Result};
use crate::fits::{Fits, HduKind, read_column};

impl Ramp {
    /// Leaves out the reads that `kept` (ramps × reads) does not name, and the ramps
    /// that keep none: they are not read at all, so the reads around one are
    /// neighbours then. With `in_place` they stay where they are and are DO_NOT_USE
    /// in every pixel, for methods that need evenly spaced reads. Ramps that keep
    /// fewer reads than others are filled up with reads that are DO_NOT_USE, at
    /// their ends where possible.
    pub fn select(&self, kept: &[bool], in_place: bool) -> Result<Ramp> {
        let n = self.reads;
        let count = |ramp: &[bool]| ramp.iter().filter(|k| **k).count();
        let most = kept.chunks(n).map(count).max().unwrap_or(0);
        if most == 0 {
            return Err(Error::input(
                &self.path,
                format!("keeps none of its {} reads: select fewer to drop (dq_init)", self.ramps * n),
            ));
        }
        let reads = if in_place { n } else { most };
        let (mut at, mut unused, mut ramps) = (Vec::new(), Vec::new(), Vec::new());
        for (r, kept) in kept.chunks(n).enumerate().filter(|(_, ramp)| count(ramp) > 0) {
            let mut taken = kept.to_vec();
            let first = kept.iter().position(|k| *k).unwrap_or(0);
            let last = kept.iter().rposition(|k| *k).unwrap_or(0);
            let fill = (last + 1..n).chain((0..first).rev()).chain(first..last).filter(|k| !kept[*k]);
            fill.take(reads - count(kept)).for_each(|k| taken[k] = true);
            for k in (0..n).filter(|k| taken[*k]) {
                at.push(r * n + k);
                unused.push(!kept[k] || self.unused.get(r * n + k).copied().unwrap_or(false));
            }
            ramps.push(r);
        }
        let mut out = self.pick(&at, reads)?;
        if !unused.contains(&true) {
            unused.clear();
        }
        out.has_groupdq |= !unused.is_empty();
        out.unused = unused;
        out.warnings.clone_from(&self.warnings);
        // The zero frame belongs to the first read.
        let first = at.iter().step_by(reads).zip(&ramps).all(|(at, r)| *at == r * n);
        if let Some(zero) = self.zeroframe.as_ref().filter(|_| first) {
            out.zeroframe = Some(Box::new(zero.pick(&ramps, 1)?));
        }
        Ok(out)
    }

    /// The last read of each ramp, as a ramp of one read.
    pub fn last_reads(&self) -> Result<Ramp> {
        let last: Vec<usize> = (1..=self.ramps).map(|r| r * self.reads - 1).collect();
        self.pick(&last, 1)
    }

    /// What the exposure says of each read, (ramps, reads), under the name `column`:
    /// a column of a binary table, or an image of that name, with one value a read
    /// (or one a read of a ramp, which holds for all ramps); in sets of one file a
    /// read, a keyword of each.
    ///
    /// # Errors
    /// Where nothing is called so, or its size is another.
    pub fn of_reads(&self, column: &str) -> Result<Vec<f64>> {
        let array = match &self.source {
            Source::Reads(files) => {
                let value = |f: &super::reads::ReadFile| {
                    f.header.number(column).ok_or_else(|| {
                        Error::input(&f.path, format!("has no keyword {column} that holds a number"))
                    })
                };
                return files.iter().map(value).collect();
            }
            Source::Array(array) => array,
        };
        let Array { fits, layout, planes, .. } = &**array;
        let (name, values) = find(fits, column)?;
        let all = layout.ramps * layout.reads;
        if values.len() != all && values.len() != layout.reads {
            return Err(fits.error(
                &name,
                format!(
                    "{column} has {} values: it must be one a read, {} (ramps x reads) or {}",
                    values.len(),
                    by(&[layout.ramps, layout.reads]),
                    layout.reads
                ),
            ));
        }
        Ok(planes.iter().map(|at| values[at % values.len()]).collect())
    }
}

/// The values called `column`, and the HDU that has them.
fn find(fits: &Fits, column: &str) -> Result<(String, Vec<f64>)> {
    let mut columns: Vec<String> = Vec::new();
    for hdu in fits.hdus.iter().filter(|h| h.kind == HduKind::BinTable) {
        let fields = 1..=hdu.header.integer("TFIELDS").unwrap_or(0);
        let names: Vec<String> = fields.filter_map(|n| hdu.header.text(&format!("TTYPE{n}"))).collect();
        if names.iter().any(|n| n.eq_ignore_ascii_case(column)) {
            let (values, width) = read_column(fits, hdu, column)?;
            if width != 1 {
                return Err(
                    fits.error(&hdu.name, format!("{column} has {width} values a row: one is needed"))
                );
            }
            return Ok((hdu.name.clone(), values));
        }
        columns.extend(names);
    }
    if let Some(hdu) = fits.hdu(&column.to_ascii_uppercase()).filter(|h| h.is_image()) {
        return Ok((hdu.name.clone(), fits.f64(hdu)?));
    }
    let there = match columns.as_slice() {
        [] => "it has no table".to_owned(),
        columns => format!("its tables have {}", columns.join(", ")),
    };
    let message = format!(
        "says nothing of single reads called {column} ({there}): name a column of a binary table with a row a read \
         (dq_init.read_column)"
    );
    Err(Error::input(&fits.path, message))
}
