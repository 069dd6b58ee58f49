//! What subscribers speak: their handshake, and the extent of a message.

use fanfare_protocol::signature::SigningKey;
use fanfare_protocol::signed_url::sign_url;

use crate::http::{self, Message};
use crate::target::Target;
use crate::wire::{self, after};

/// When a signed URL of a measurement ends: after every measurement.
const NEVER: u64 = u32::MAX as u64;

/// A kind of subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Clients {
    /// Those of Pusher's protocol.
    #[default]
    Pusher,
    /// Plain WebSockets, which name their channel in the URL.
    Plain,
    /// Streams of Server-Sent Events.
    Sse,
}

impl Clients {
    /// Returns the request of a subscriber's connection.
    pub(crate) fn request(self, target: &Target, channel: &str) -> Vec<u8> {
        let (key, host) = (&target.app.key, target.addresses[0]);
        let signed = |path: String| {
            let signing = SigningKey::new(&target.app.secret);
            let query = sign_url(&path, &format!("channels={channel}"), &signing, NEVER);
            format!("{path}?{query}")
        };
        let websocket = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
        let (url, headers) = match self {
            Self::Pusher => (
                format!("/app/{key}?protocol=7&client=bench&version=1"),
                websocket,
            ),
            Self::Plain => (signed(format!("/ws/{key}")), websocket),
            Self::Sse => (signed(format!("/sse/{key}")), ""),
        };
        format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").into_bytes()
    }

    /// Returns the answer's head at the start, if all of it has come. That of a stream is not the whole answer.
    pub(crate) fn head(self, bytes: &[u8]) -> Option<Message> {
        match self {
            Self::Pusher | Self::Plain => http::message(bytes),
            Self::Sse => {
                let len = bytes.len() - after(bytes, "\r\n\r\n")?.len();
                Some(Message { head: len, len })
            }
        }
    }

    /// Returns the status of an answer to that request.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Pusher | Self::Plain => 101,
            Self::Sse => 200,
        }
    }

    /// Returns whether the client itself asks for its channel, once it is greeted.
    pub(crate) fn subscribes(self) -> bool {
        self == Self::Pusher
    }

    /// Returns where the first message of a buffer begins and ends, if all of it has come.
    #[inline]
    pub(crate) fn message(self, bytes: &[u8]) -> Option<(usize, usize)> {
        match self {
            Self::Pusher | Self::Plain => wire::frame(bytes).map(|frame| (frame.head, frame.len)),
            Self::Sse => chunk(bytes),
        }
    }

    /// Returns the name of a contender with such subscribers.
    pub(crate) fn name(self, of_pusher: &'static str) -> &'static str {
        match (self, of_pusher) {
            (Self::Pusher, name) => name,
            (Self::Plain, "floor") => "floor plain",
            (Self::Plain, _) => "plain",
            (Self::Sse, "floor") => "floor sse",
            (Self::Sse, _) => "sse",
        }
    }
}

/// Returns the extent of a chunk of HTTP/1.1.
fn chunk(bytes: &[u8]) -> Option<(usize, usize)> {
    let rest = after(bytes.get(..bytes.len().min(10))?, "\r\n")?;
    let head = bytes.len().min(10) - rest.len();
    let length = std::str::from_utf8(&bytes[..head - 2]).ok()?;
    let end = head + usize::from_str_radix(length, 16).ok()? + 2;
    (bytes.len() >= end).then_some((head, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_found_only_when_all_of_it_is_there() {
        let bytes = b"12\r\nevent: e\ndata: 1\n\n\r\n2\r\n:\n\r\n";
        assert_eq!(chunk(bytes), Some((4, 24)));
        assert_eq!(chunk(&bytes[24..]), Some((3, 7)));
        for cut in 0..24 {
            assert_eq!(chunk(&bytes[..cut]), None);
        }
    }
}
