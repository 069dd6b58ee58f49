//! A text from outside, cut to what an error message needs of it.

use std::borrow::Cow;

/// Characters kept of the beginning: enough for the longest words that serde puts before a value.
const HEAD: usize = 60;
/// Characters kept of the end, where serde says what it expected and where.
const TAIL: usize = 60;

/// Returns the text, or its beginning and its end if it is long, so that an answer is not as long
/// as what it answers.
#[must_use]
pub fn excerpt(text: &str) -> Cow<'_, str> {
    let after_head = text.char_indices().nth(HEAD).map(|(at, _)| at);
    let before_tail = text.char_indices().nth_back(TAIL - 1).map(|(at, _)| at);
    match (after_head, before_tail) {
        (Some(head), Some(tail)) if head < tail => {
            Cow::Owned(format!("{} … {}", &text[..head], &text[tail..]))
        }
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        for short in ["", "a", &"é".repeat(HEAD + TAIL)] {
            assert_eq!(excerpt(short), short);
        }
        let long = format!("a{}z", "é".repeat(10_000));
        let cut = excerpt(&long);
        assert_eq!(cut.chars().count(), HEAD + 3 + TAIL);
        assert!(cut.starts_with("aé") && cut.ends_with("éz"), "{cut}");
    }
}
