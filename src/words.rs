//! Words that what is printed has in common.

/// `1 star`, `2 stars`: a number of what is called `one` alone.
pub(crate) fn counted(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "star")), ["0 stars", "1 star", "2 stars"]);
    }
}
