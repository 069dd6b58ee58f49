//! Names against patterns with stars: rules of histories, grants and allowed origins. Written here because crates for globs
//! give other characters a meaning too, and don't ask what a star may stand for.

/// Returns whether `text` consists of `literals` in their order, with a star between two neighbours
/// that stands for any text which `star` accepts, the empty one included.
///
/// Each literal is taken at the first place where it fits; only the last must end where the text
/// ends. So a `star` that refuses some texts decides alone only where there is one star.
pub(crate) fn matches(
    mut literals: impl DoubleEndedIterator<Item = impl AsRef<str>>,
    text: &str,
    star: impl Fn(&str) -> bool,
) -> bool {
    let first = literals.next();
    let Some(mut rest) = first.and_then(|first| text.strip_prefix(first.as_ref())) else {
        return false;
    };
    let Some(last) = literals.next_back() else {
        return rest.is_empty();
    };
    for literal in literals {
        let literal = literal.as_ref();
        let Some(at) = rest.find(literal).filter(|at| star(&rest[..*at])) else {
            return false;
        };
        rest = &rest[at + literal.len()..];
    }
    rest.strip_suffix(last.as_ref()).is_some_and(star)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        matches(pattern.split('*'), name, |_| true)
    }

    #[test]
    fn stars_stand_for_any_characters_and_the_rest_for_itself() {
        for (pattern, name) in [
            ("*", "anything"),
            ("*", ""),
            ("", ""),
            ("a", "a"),
            ("private-*", "private-"),
            ("private-*", "private-room"),
            ("*-log", "a-log"),
            ("a*b*c", "axxbyyc"),
            ("a*b*c", "abcbc"),
            ("*-x-*-z", "a-x-b-x-c-z"),
            ("a*a", "aa"),
            ("a**b", "ab"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a", "ab"),
            ("a", "A"),
            ("private-*", "privat"),
            ("a*b*c", "acb"),
            ("ab*ba", "aba"),
            ("*-x-*-z", "a-x-z"),
            ("a*a", "a"),
            ("", "a"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_star_stands_only_for_what_it_may() {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        for (pattern, name, fits) in [
            ("a-*", "a-1", true),
            ("a-*", "a-", true),
            ("a-*", "a-x", false),
            ("*-*-z", "1-2-z", true),
            ("*-*-z", "1-x-z", false),
            ("*-*-z", "x-2-z", false),
        ] {
            assert_eq!(matches(pattern.split('*'), name, digits), fits, "{pattern}");
        }
    }

    /// Matches by trying every text for the first star.
    fn fits_by_trying(pattern: &str, name: &str) -> bool {
        let Some((literal, after)) = pattern.split_once('*') else {
            return pattern == name;
        };
        name.strip_prefix(literal)
            .is_some_and(|rest| (0..=rest.len()).any(|at| fits_by_trying(after, &rest[at..])))
    }

    proptest! {
        #[test]
        fn the_first_place_that_fits_is_as_good_as_any(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(fits(&pattern, &name), fits_by_trying(&pattern, &name));
        }
    }
}
