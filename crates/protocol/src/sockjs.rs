//! SockJS framing (spec 6.3), as pusher-js speaks it where no WebSocket gets through: lines out, arrays of frames in.

use crate::excerpt::excerpt;
use crate::frame::Content;

/// The first line of a session.
pub const OPEN: &[u8] = b"o\n";
/// A line that says only that we are here.
pub const HEARTBEAT: &[u8] = b"h\n";

/// A body of `xhr_send` that cannot be read; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSend {
    /// It is no JSON array of strings.
    #[error("The body must be a JSON array of frames, each a string: {0}")]
    NotFrames(String),
    /// One of the frames is too large.
    #[error("A message of {size} bytes is too large, at most {max} are allowed")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// Most bytes of a frame.
        max: usize,
    },
}

/// Reads the body of `xhr_send`: the frames in it, none for a sign of life.
///
/// # Errors
///
/// It is no JSON array of strings, or a string has more than `max_frame` bytes.
pub fn parse_send(body: &[u8], max_frame: usize) -> Result<Vec<String>, BadSend> {
    let frames: Vec<String> = serde_json::from_slice(body)
        .map_err(|error| BadSend::NotFrames(excerpt(&error.to_string()).into_owned()))?;
    match frames
        .iter()
        .map(String::len)
        .find(|size| *size > max_frame)
    {
        Some(size) => Err(BadSend::TooLarge {
            size,
            max: max_frame,
        }),
        None => Ok(frames),
    }
}

/// A frame as one line. JSON escapes every line break within it.
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
        assert_eq!(parse_send(b"[]", 10), Ok(vec![]));
        let two = parse_send(br#"["{}","\u00e9"]"#, 10).expect("two frames");
        assert_eq!(two, ["{}", "é"]);
        for bad in ["", "{}", "[1]", "[\"a\"", "[[\"a\"]]", "null", "\"a\""] {
            let refused = parse_send(bad.as_bytes(), 10);
            assert!(matches!(refused, Err(BadSend::NotFrames(_))), "{bad}");
        }
        assert!(parse_send(b"[\"\xff\"]", 10).is_err());
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
