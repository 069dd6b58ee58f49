//! Since which version there is what.

/// The names of each release as `fanfare reference --names` printed them, the oldest first: `("0.2.0",
/// include_str!("released/0.2.0.txt"))`. Such a file isn't changed any more.
const RELEASES: &[(&str, &str)] = &[];

/// Returns the first version with a name: that of a release, or else the one that is being made.
pub(super) fn since(name: &str) -> &'static str {
    let has = |names: &str| names.lines().any(|line| line == name);
    let first = RELEASES.iter().find(|(_, names)| has(names));
    let next = env!("CARGO_PKG_VERSION");
    let is_released = RELEASES.iter().any(|(version, _)| *version == next);
    match first {
        Some((version, _)) => version,
        None if is_released => "the next version",
        None => next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_every_release_in_the_changelog_are_kept() {
        let changelog = include_str!("../../../../CHANGELOG.md");
        let headings = changelog
            .lines()
            .filter_map(|line| line.strip_prefix("## ["));
        let mut versions: Vec<&str> = headings
            .filter_map(|line| line.split(']').next())
            .filter(|version| *version != "Unreleased")
            .collect();
        versions.reverse();
        let kept: Vec<&str> = RELEASES.iter().map(|(version, _)| *version).collect();
        assert_eq!(
            kept, versions,
            "write what `fanfare reference --names` prints of a release to crates/server/src/reference/released"
        );
    }
}
