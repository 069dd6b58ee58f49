//! Server-Sent Events: each frame is one event, whole, because several clients split what comes in parts
//! (docs/any-client.md#server-sent-events).

use std::time::Duration;

use serde::Deserialize;
use std::borrow::Cow;

use crate::frame::Content;
use crate::plain::Plain;

/// How a client that asked for a stream of events gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventStream {
    /// Whether data is the whole message, channel and name included.
    pub is_enveloped: bool,
    /// Whether the bytes are those of HTTP/1.1's chunked coding.
    pub is_chunked: bool,
}

/// The end of a body in chunked coding.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// A comment. Without an empty line after it: to some clients that would be an event without data.
const COMMENT: &[u8] = b":\n";
/// When a client returns whose connection breaks, at the earliest, and the time over which those that break together are spread.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_SPREAD: Duration = Duration::from_secs(2);

/// Returns the bytes of a frame.
pub(crate) fn encode(content: Content<'_>, stream: EventStream) -> Vec<u8> {
    let event = match content {
        Content::Ping => COMMENT.to_vec(),
        // What there is to say is in the error before it.
        Content::Close { .. } if stream.is_chunked => return LAST_CHUNK.to_vec(),
        Content::Close { .. } => return Vec::new(),
        Content::Text(json) => event(&Plain::read(json), stream.is_enveloped),
    };
    if stream.is_chunked && !event.is_empty() {
        chunk(&event)
    } else {
        event
    }
}

/// Returns bytes as one chunk of HTTP/1.1's chunked coding.
#[must_use]
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

/// Returns when a client is to return that was told a close code: at once, or after a while.
#[must_use]
pub fn retry_after(code: u16) -> Duration {
    match code {
        4200..=4299 => Duration::from_secs(1),
        _ => Duration::from_secs(5),
    }
}

fn event(message: &Plain<'_>, is_enveloped: bool) -> Vec<u8> {
    let is_of_protocol = message.is_of_protocol();
    let mut out = Vec::with_capacity(message.data.len() + message.event.len() + 128);
    // An event without a name is one named `message` to every `EventSource`, and htmx 4 shows those without a name only.
    let is_unnamed = !is_of_protocol && (is_enveloped || message.event == "message");
    if !is_unnamed {
        out.extend_from_slice(b"event: ");
        let name = message.event.bytes();
        // A name has one line here.
        out.extend(name.map(|byte| {
            if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                byte
            }
        }));
        out.push(b'\n');
    }
    if let Some(retry) = retry(message) {
        out.extend_from_slice(format!("retry: {}\n", retry.as_millis()).as_bytes());
    }
    if is_of_protocol || is_enveloped {
        push_data(&mut out, &message.to_object());
    } else {
        push_data(&mut out, message.data.as_bytes());
    }
    if let (Some(channel), Some(position)) = (&message.channel, position(message)) {
        out.extend_from_slice(format!("id: {channel} {position}\n").as_bytes());
    }
    out.push(b'\n');
    out
}

/// Appends data, a field for each of its lines.
fn push_data(out: &mut Vec<u8>, data: &[u8]) {
    let mut rest = data;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let (line, more) = rest.split_at(end.unwrap_or(rest.len()));
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
        rest = match more {
            [] => return,
            [b'\r', b'\n', more @ ..] | [_, more @ ..] => more,
        };
    }
}

/// Returns when the client is to return, if the message is one to say so with.
fn retry(message: &Plain<'_>) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Error {
        code: Option<u16>,
    }
    match &*message.event {
        "pusher:connection_established" => {
            // Told by its socket id, which is random: clients have no jitter of their own.
            let spread = RETRY_SPREAD.as_millis() as u64;
            let number = message.data.bytes().fold(0_u64, |number, byte| {
                number.wrapping_mul(31).wrapping_add(byte.into())
            });
            Some(RETRY + Duration::from_millis(number % spread))
        }
        "pusher:error" => {
            let error: Error = serde_json::from_str(&message.data).ok()?;
            error.code.filter(|code| *code >= 4000).map(retry_after)
        }
        _ => None,
    }
}

/// Returns the position that the client has reached with a message.
fn position<'a>(message: &'a Plain<'_>) -> Option<Cow<'a, str>> {
    #[derive(Deserialize)]
    struct Subscribed<'a> {
        #[serde(borrow)]
        position: Option<Cow<'a, str>>,
    }
    if message.event == "pusher:subscription_succeeded" {
        let subscribed: Subscribed<'_> = serde_json::from_str(&message.data).ok()?;
        return subscribed.position;
    }
    message.position.as_deref().map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CloseCode;
    use crate::frame::{Frame, Framing};
    use crate::history::HistoryPosition;
    use crate::ids::SocketId;
    use crate::server::{HistoryState, ServerMessage};

    const WHOLE: EventStream = EventStream {
        is_enveloped: false,
        is_chunked: false,
    };

    fn bytes(message: &ServerMessage<'_>, stream: EventStream) -> String {
        let frame = message.to_frame();
        String::from_utf8(frame.bytes(Framing::EventStream(stream)).to_vec()).expect("text")
    }

    fn published<'a>(
        name: &'a str,
        data: &'a str,
        position: Option<&'a HistoryPosition>,
    ) -> ServerMessage<'a> {
        ServerMessage::Event {
            name,
            channel: "orders",
            data,
            user_id: None,
            position,
        }
    }

    #[test]
    fn an_event_has_its_name_its_data_and_its_position_last() {
        let position = HistoryPosition {
            epoch: "e".into(),
            offset: 7,
        };
        let event = published("created", r#"{"id":1}"#, Some(&position));
        assert_eq!(
            bytes(&event, WHOLE),
            "event: created\ndata: {\"id\":1}\nid: orders e:7\n\n"
        );
        let enveloped = EventStream {
            is_enveloped: true,
            ..WHOLE
        };
        assert_eq!(
            bytes(&event, enveloped),
            "data: {\"channel\":\"orders\",\"event\":\"created\",\"data\":{\"id\":1},\"position\":\"e:7\"}\nid: orders e:7\n\n"
        );
        let chunked = EventStream {
            is_chunked: true,
            ..WHOLE
        };
        let event = published("e", "1", None);
        assert_eq!(bytes(&event, chunked), "12\r\nevent: e\ndata: 1\n\n\r\n");
    }

    #[test]
    fn every_line_of_data_is_a_field() {
        let event = published("a\r\nb", "one\r\ntwo\n\rthree\n", None);
        assert_eq!(
            bytes(&event, WHOLE),
            "event: a  b\ndata: one\ndata: two\ndata: \ndata: three\ndata: \n\n"
        );
    }

    #[test]
    fn a_new_client_is_told_where_it_is_and_when_to_return() {
        let history = HistoryState {
            position: Some(HistoryPosition {
                epoch: "e".into(),
                offset: 3,
            }),
            recovered: None,
        };
        let subscribed = ServerMessage::SubscriptionSucceeded {
            channel: "orders",
            history: &history,
        };
        assert_eq!(
            bytes(&subscribed, WHOLE),
            "event: pusher:subscription_succeeded\n\
             data: {\"channel\":\"orders\",\"event\":\"pusher:subscription_succeeded\",\"data\":{\"position\":\"e:3\"}}\n\
             id: orders e:3\n\n"
        );
        let mut told = std::collections::HashSet::new();
        for _ in 0..100 {
            let greeting = ServerMessage::ConnectionEstablished {
                socket_id: SocketId::random(),
                activity_timeout: 120,
            };
            let text = bytes(&greeting, WHOLE);
            let retry = text
                .lines()
                .nth(1)
                .and_then(|line| line.strip_prefix("retry: "));
            let retry: u64 = retry
                .and_then(|number| number.parse().ok())
                .expect("a retry");
            assert!((2000..4000).contains(&retry), "{retry}");
            told.insert(retry);
        }
        assert!(
            told.len() > 50,
            "clients that are cut off together return together: {told:?}"
        );
    }

    #[test]
    fn an_end_is_an_error_with_its_retry_and_then_the_last_chunk() {
        let error = ServerMessage::Error {
            code: Some(4200),
            message: "reconnect",
            reference: None,
        };
        assert_eq!(
            bytes(&error, WHOLE),
            "event: pusher:error\nretry: 1000\n\
             data: {\"event\":\"pusher:error\",\"data\":{\"code\":4200,\"message\":\"reconnect\"}}\n\n"
        );
        let close = Frame::close(CloseCode::Reconnect, "reconnect");
        let chunked = EventStream {
            is_chunked: true,
            ..WHOLE
        };
        assert_eq!(&close.bytes(Framing::EventStream(chunked))[..], LAST_CHUNK);
        assert!(close.bytes(Framing::EventStream(WHOLE)).is_empty());
        assert_eq!(
            &Frame::ping().bytes(Framing::EventStream(chunked))[..],
            b"2\r\n:\n\r\n"
        );
    }
}
