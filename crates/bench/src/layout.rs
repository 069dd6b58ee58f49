//! The layout of delivered events: learned once, then used to find the sequence number without parsing.
//!
//! Servers differ in how they write an event. But one server writes all events of a run with the same length and the
//! number at the same place, because names and payloads have equal lengths.

use crate::wire::after;

const DIGITS: usize = 8;

/// Returns the data of an event: its number between marks, then padding up to `len` bytes.
pub(crate) fn payload(sequence: u32, len: usize) -> String {
    let mut data = format!("#{sequence:0DIGITS$}#");
    let padding = len.saturating_sub(data.len());
    data.push_str(&"x".repeat(padding));
    data
}

/// Place of the sequence number in a frame.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    frame_len: usize,
    at: usize,
}

impl Layout {
    /// Returns the sequence number of an event's frame, or `None` for other frames.
    #[inline]
    pub(crate) fn sequence(&mut self, frame: &[u8]) -> Option<u32> {
        if frame.len() == self.frame_len
            && let Some(number) = number_at(frame, self.at)
        {
            return Some(number);
        }
        self.learn(frame)
    }

    #[cold]
    fn learn(&mut self, frame: &[u8]) -> Option<u32> {
        let mut rest = frame;
        while let Some(found) = after(rest, "#") {
            let at = frame.len() - found.len();
            if let Some(number) = number_at(frame, at) {
                *self = Self {
                    frame_len: frame.len(),
                    at,
                };
                return Some(number);
            }
            rest = found;
        }
        None
    }
}

#[inline]
fn number_at(frame: &[u8], at: usize) -> Option<u32> {
    let digits = frame.get(at..=at + DIGITS)?;
    if digits[DIGITS] != b'#' {
        return None;
    }
    digits[..DIGITS].iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_number_is_learned_from_the_first_event() {
        let mut layout = Layout::default();
        let event = |n| format!("{{\"channel\":\"a#b\",\"data\":\"{}\"}}", payload(n, 40));
        assert_eq!(layout.sequence(event(42).as_bytes()), Some(42));
        let learned = (layout.frame_len, layout.at);
        assert_eq!(learned, (event(0).len(), 26));
        assert_eq!(
            layout.sequence(event(99_999_999).as_bytes()),
            Some(99_999_999)
        );
        assert_eq!((layout.frame_len, layout.at), learned);
    }

    #[test]
    fn a_frame_that_is_no_event_leaves_the_layout_alone() {
        let mut layout = Layout::default();
        assert_eq!(layout.sequence(b"..#00000007#"), Some(7));
        for other in [b"".as_slice(), b"{#0000000a#}", b"#1234567", b"##########"] {
            assert_eq!(layout.sequence(other), None);
        }
        assert_eq!(layout.at, 3);
    }

    #[test]
    fn an_event_of_another_length_is_learned_anew() {
        let mut layout = Layout::default();
        assert_eq!(layout.sequence(b"..#00000007#"), Some(7));
        assert_eq!(layout.sequence(b"....#00000008#.."), Some(8));
    }

    #[test]
    fn payloads_have_the_length_asked_for() {
        assert_eq!(payload(3, 14), "#00000003#xxxx");
        assert_eq!(payload(12_345_678, 70_000).len(), 70_000);
    }
}
