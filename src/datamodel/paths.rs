//! Where the data models of liger_iris_pipeline and iris_pipeline keep a keyword:
//! `META.INSTRUMENT.FILTER` of FILTER.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Keyword and path of every keyword of both packages' schemas.
const TABLE: &str = include_str!("keywords.csv");

static PATHS: LazyLock<BTreeMap<&'static str, Vec<String>>> = LazyLock::new(|| {
    let mut paths: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (keyword, path) in TABLE.lines().skip(1).filter_map(|line| line.split_once(',')) {
        paths.entry(keyword).or_default().push(path.to_ascii_uppercase());
    }
    paths
});

/// The paths of a keyword, in capitals; none for a keyword that neither knows.
pub fn paths(keyword: &str) -> &'static [String] {
    PATHS.get(keyword).map_or(&[], Vec::as_slice)
}

/// The keyword that a path is written as.
pub fn keyword_of(path: &str) -> Option<&'static str> {
    PATHS.iter().find(|(_, paths)| paths.iter().any(|p| p.eq_ignore_ascii_case(path))).map(|(k, _)| *k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        assert_eq!(paths("FILTER"), ["META.INSTRUMENT.FILTER"]);
        assert_eq!(paths("NOSUCH"), [] as [String; 0]);
        assert_eq!(keyword_of("meta.instrument.era"), Some("INSTERA"));
    }
}
