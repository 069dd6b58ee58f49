//! SockJS framing (docs/protocol.md#fallback-framing), as pusher-js uses it where no WebSocket gets
//! through: lines out, arrays of frames in.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};

use crate::frame::Content;
use crate::json;

/// The first line of a session.
pub const OPEN: &[u8] = b"o\n";
/// A line that only shows that the server is alive.
pub const HEARTBEAT: &[u8] = b"h\n";
/// Most frames in one body of `xhr_send`. pusher-js sends one in each.
pub const MAX_SENT_FRAMES: usize = 1000;

/// Why a body of `xhr_send` is invalid, as text for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSend {
    /// The body isn't a JSON array of strings.
    #[error("The body must be a JSON array of frames, each a string: {0}")]
    NotFrames(String),
    /// The body has too many frames.
    #[error("The body has more than {MAX_SENT_FRAMES} frames: send them in several requests")]
    TooMany,
    /// A frame is too large.
    #[error("A message of {size} bytes is too large, at most {max} are allowed")]
    TooLarge {
        /// The frame's bytes.
        size: usize,
        /// Most bytes of a frame.
        max: usize,
    },
}

/// The frames of one body, in two allocations however many they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentFrames {
    text: String,
    ends: Vec<usize>,
}

impl SentFrames {
    /// Returns the number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there are no frames, so that the client only shows that it is alive.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the frame at `index`, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..*self.ends.get(index)?)
    }

    /// Returns the frames in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.text[*start..*end])
    }
}

/// Reads the frames in the body of `xhr_send`. Stops at the first frame that is one too many or too
/// large.
///
/// # Errors
///
/// Returns [`BadSend`] if the body isn't a JSON array of strings, has more than
/// [`MAX_SENT_FRAMES`], or a string has more than `max_frame` bytes.
pub fn parse_send(body: &[u8], max_frame: usize) -> Result<SentFrames, BadSend> {
    let wrong = Cell::new(None);
    let seed = Frames {
        wrong: &wrong,
        max_frame,
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let frames = seed.deserialize(&mut reader);
    let frames = frames.and_then(|frames| reader.end().map(|()| frames));
    frames.map_err(|error| {
        wrong
            .take()
            .unwrap_or_else(|| BadSend::NotFrames(json::reason(&error)))
    })
}

/// Reads frames, and counts and measures them while it does.
struct Frames<'a> {
    /// Why it stopped, if that is this module's rule and not JSON's.
    wrong: &'a Cell<Option<BadSend>>,
    max_frame: usize,
}

impl<'de> DeserializeSeed<'de> for Frames<'_> {
    type Value = SentFrames;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<SentFrames, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Frames<'_> {
    type Value = SentFrames;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<SentFrames, A::Error> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        let mut frames = SentFrames::default();
        while let Some(Text(frame)) = array.next_element()? {
            let refusal = if frames.len() == MAX_SENT_FRAMES {
                Some(BadSend::TooMany)
            } else if frame.len() > self.max_frame {
                Some(BadSend::TooLarge {
                    size: frame.len(),
                    max: self.max_frame,
                })
            } else {
                None
            };
            if refusal.is_some() {
                self.wrong.set(refusal);
                return Err(A::Error::custom("refused"));
            }
            frames.text.push_str(&frame);
            frames.ends.push(frames.text.len());
        }
        Ok(frames)
    }
}

/// Encodes a frame as one line. JSON escapes every line break within it.
pub(crate) fn line(content: Content<'_>) -> Vec<u8> {
    let quoted =
        |text: &[u8]| serde_json::to_string(&String::from_utf8_lossy(text)).expect("text is JSON");
    match content {
        Content::Text(text) => format!("a[{}]\n", quoted(text)).into_bytes(),
        Content::Ping => HEARTBEAT.to_vec(),
        Content::Close { code, reason } => format!("c[{code},{}]\n", quoted(reason)).into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_an_array_of_frames() {
        assert_eq!(parse_send(b"[]", 10), Ok(SentFrames::default()));
        let three = parse_send(br#"["{}","","\u00e9"]"#, 10).expect("three frames");
        assert_eq!(three.iter().collect::<Vec<_>>(), ["{}", "", "é"]);
        assert_eq!(three.len(), 3);
        for bad in [
            "",
            "{}",
            "[1]",
            "[\"a\"",
            "[[\"a\"]]",
            "null",
            "\"a\"",
            "[] []",
        ] {
            let refused = parse_send(bad.as_bytes(), 10);
            assert!(matches!(refused, Err(BadSend::NotFrames(_))), "{bad}");
        }
        assert!(parse_send(b"[\"\xff\"]", 10).is_err());
    }

    #[test]
    fn a_body_has_so_many_frames_and_is_read_no_further() {
        let body = |count: usize, end: &str| {
            format!("[{}{end}", vec!["\"\""; count].join(",")).into_bytes()
        };
        let most = parse_send(&body(MAX_SENT_FRAMES, "]"), 10).expect("as many as may be");
        assert_eq!(most.len(), MAX_SENT_FRAMES);
        assert_eq!(
            parse_send(&body(MAX_SENT_FRAMES + 1, "]"), 10),
            Err(BadSend::TooMany)
        );
        let nonsense_after = body(MAX_SENT_FRAMES + 1, "nonsense");
        assert_eq!(parse_send(&nonsense_after, 10), Err(BadSend::TooMany));
    }

    #[test]
    fn an_answer_is_short_however_long_the_body() {
        let body = format!("\"{}\"", "\\u0001".repeat(10_000));
        let answer = parse_send(body.as_bytes(), 10)
            .expect_err("no array")
            .to_string();
        assert!(answer.len() < 500, "{} bytes: {answer}", answer.len());
    }

    #[test]
    fn a_frame_is_as_long_as_a_message_may_be() {
        assert!(parse_send(br#"["0123456789"]"#, 10).is_ok());
        let refused = parse_send(br#"["","0123456789a"]"#, 10);
        assert_eq!(refused, Err(BadSend::TooLarge { size: 11, max: 10 }));
    }
}
