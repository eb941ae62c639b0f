//! One look-up in a CRDS context that is read already: `cargo bench --bench references`.
//!
//! The mapping has as many entries as the largest of real observatories (some
//! thousands), each with two dates.
#![allow(clippy::expect_used, reason = "a benchmark that cannot go on says where")]

use irisgpu::refs::crds::{Crds, Facts};

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 100, 5000])]
fn look_up(bencher: divan::Bencher, entries: usize) {
    let dir = tempfile::tempdir().expect("folder");
    let keys: String = (0..entries)
        .map(|i| {
            format!(
                "('IMG{}|IFU', 'F{i}', 'N/A'): UseAfter({{'2020-01-01 00:00:00': 'a{i}.fits', \
                 '2024-01-01 00:00:00': 'b{i}.fits'}}),\n",
                i % 4 + 1
            )
        })
        .collect();
    let text = format!(
        "header = {{'mapping': 'REFERENCE', 'name': 'x.rmap', 'derived_from': 'none', 'observatory': 'x',\n\
         'instrument': 'IRIS', 'filekind': 'FLAT',\n'parkey': (('META.INSTRUMENT.DETECTOR', \
         'META.INSTRUMENT.FILTER', 'META.INSTRUMENT.PUPIL'), ('META.DATE',))}}\nselector = Match({{\n{keys}}})\n"
    );
    let path = dir.path().join("x.rmap");
    std::fs::write(&path, text).expect("write");
    let crds = Crds::open(path.to_str(), &|_| None).expect("open").expect("CRDS");
    let facts: Facts = [
        ("META.INSTRUMENT.DETECTOR", format!("IMG{}", (entries - 1) % 4 + 1)),
        ("META.INSTRUMENT.FILTER", format!("F{}", entries - 1)),
        ("META.INSTRUMENT.PUPIL", "CLEAR".to_owned()),
        ("META.DATE", "2032-01-02T03:04:05".to_owned()),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into();
    assert_eq!(crds.best("flat", &facts).answer.file(), Some(format!("b{}.fits", entries - 1).as_str()));
    bencher.bench(|| crds.best("flat", &facts));
}
