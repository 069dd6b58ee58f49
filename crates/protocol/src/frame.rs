//! Bytes ready for a socket, the same for all clients, because frames of a server are not masked.

use std::cell::OnceCell;

use bytes::Bytes;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame as RawFrame, FrameHeader};

use crate::close::CloseCode;
use crate::event_stream::{self, EventStream};
use crate::{plain, socket_io, sockjs};

/// The longest reason a close frame can carry, in bytes (RFC 6455, 5.5).
const MAX_REASON: usize = 123;
/// The longest header of an unmasked frame, in bytes.
const MAX_HEADER: usize = 10;

/// How frames are encoded on a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// RFC 6455.
    WebSocket,
    /// Lines of text, for clients without WebSockets (docs/protocol.md#fallback-framing).
    SockJs,
    /// RFC 6455 with plain JSON objects (docs/any-client.md#plain-websocket).
    Object,
    /// RFC 6455 with the data of events and nothing around it (docs/any-client.md#raw-websocket).
    Raw,
    /// Server-Sent Events (docs/any-client.md#server-sent-events).
    EventStream(EventStream),
    /// Lines from which packets of Socket.IO are made (docs/any-client.md#socketio).
    SocketIo,
}

/// Number of encodings besides that of a WebSocket.
const OTHER_ENCODINGS: usize = 8;

impl Framing {
    /// Returns the bytes before the first frame.
    #[must_use]
    pub fn opening(self) -> &'static [u8] {
        match self {
            Self::SockJs => sockjs::OPEN,
            Self::WebSocket | Self::Object | Self::Raw | Self::EventStream(_) | Self::SocketIo => {
                b""
            }
        }
    }

    /// Returns whether the client can't send anything on this transport, not even that it is there.
    #[must_use]
    pub fn is_one_way(self) -> bool {
        matches!(self, Self::EventStream(_))
    }

    /// Returns whether frames are those of RFC 6455.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::Object | Self::Raw)
    }

    /// Returns a number of its own below [`Self::COUNT`], 0 for Pusher's WebSockets.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::WebSocket => 0,
            Self::SockJs => 1,
            Self::Object => 2,
            Self::Raw => 3,
            Self::EventStream(EventStream {
                is_enveloped,
                is_chunked,
            }) => 4 + 2 * usize::from(is_enveloped) + usize::from(is_chunked),
            Self::SocketIo => 8,
        }
    }

    /// Number of framings.
    pub const COUNT: usize = 1 + OTHER_ENCODINGS;
}

/// One encoded frame, shared by all its receivers.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The WebSocket frame, header included.
    websocket: Bytes,
    /// The other encodings, each made when the first client needs it. Boxed, because most frames have none.
    others: OnceCell<Box<[OnceCell<Bytes>; OTHER_ENCODINGS]>>,
}

/// Returns a WebSocket frame that closes.
fn closing(code: u16, reason: &str) -> Vec<u8> {
    let frame = RawFrame::close(Some(CloseFrame {
        code: code.into(),
        reason: reason.into(),
    }));
    let mut bytes = Vec::with_capacity(frame.len());
    frame
        .format(&mut bytes)
        .expect("writing into memory does not fail");
    bytes
}

/// The content of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    Text(&'a [u8]),
    Ping,
    Close { code: u16, reason: &'a [u8] },
}

impl Frame {
    /// Returns a text frame with this JSON text.
    #[must_use]
    pub fn text(json: &[u8]) -> Self {
        let header = FrameHeader {
            opcode: OpCode::Data(Data::Text),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::with_capacity(MAX_HEADER + json.len());
        header
            .format(json.len() as u64, &mut bytes)
            .expect("writing into memory does not fail");
        bytes.extend_from_slice(json);
        Self::of(bytes)
    }

    /// Returns a PING, which every client answers by itself.
    #[must_use]
    pub fn ping() -> Self {
        let header = FrameHeader {
            opcode: OpCode::Control(Control::Ping),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::with_capacity(2);
        header
            .format(0, &mut bytes)
            .expect("writing into memory does not fail");
        Self::of(bytes)
    }

    /// Returns the last frame of a connection. A reason beyond 123 bytes is cut at a character
    /// boundary.
    #[must_use]
    pub fn close(code: CloseCode, reason: &str) -> Self {
        let cut = reason.floor_char_boundary(MAX_REASON);
        Self::of(closing(code.number(), &reason[..cut]))
    }

    fn of(websocket: Vec<u8>) -> Self {
        Self {
            websocket: websocket.into(),
            others: OnceCell::new(),
        }
    }

    /// Returns the bytes for a transport. There are none if nothing of the frame is for its clients.
    #[must_use]
    #[inline]
    pub fn bytes(&self, framing: Framing) -> &Bytes {
        match framing.index().checked_sub(1) {
            None => &self.websocket,
            Some(other) => {
                self.others.get_or_init(Box::default)[other].get_or_init(|| self.encode(framing))
            }
        }
    }

    fn encode(&self, framing: Framing) -> Bytes {
        let content = self.content();
        match (framing, content) {
            (Framing::SockJs, _) => sockjs::line(content).into(),
            (Framing::EventStream(stream), _) => event_stream::encode(content, stream).into(),
            (Framing::SocketIo, _) => socket_io::line(content).into(),
            (Framing::Object, Content::Text(json)) => Self::text(&plain::object(json)).websocket,
            (Framing::Raw, Content::Text(json)) => plain::event_data(json)
                .map(|data| Self::text(data.as_bytes()).websocket)
                .unwrap_or_default(),
            (Framing::Raw, Content::Close { code, reason }) => {
                let reason = String::from_utf8_lossy(reason);
                closing(plain::raw_close_code(code), &reason).into()
            }
            (Framing::WebSocket | Framing::Object | Framing::Raw, _) => self.websocket.clone(),
        }
    }

    /// Returns the length of the WebSocket frame in bytes, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.websocket.len()
    }

    /// Returns false, because a frame has at least its header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.websocket.is_empty()
    }

    fn content(&self) -> Content<'_> {
        let (opcode, length) = (self.websocket[0] & 0x0f, self.websocket[1]);
        let header = match length {
            0..=125 => 2,
            126 => 4,
            _ => MAX_HEADER,
        };
        let payload = &self.websocket[header..];
        match (opcode, payload) {
            (0x9, _) => Content::Ping,
            (0x8, [high, low, reason @ ..]) => Content::Close {
                code: u16::from_be_bytes([*high, *low]),
                reason,
            },
            _ => Content::Text(payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_grow_with_the_payload() {
        for (length, header) in [
            (5, vec![0x81, 5]),
            (126, vec![0x81, 126, 0, 126]),
            (70_000, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
        ] {
            let json = vec![b'x'; length];
            let frame = Frame::text(&json);
            let bytes = frame.bytes(Framing::WebSocket);
            assert_eq!(&bytes[..header.len()], header);
            assert_eq!(&bytes[header.len()..], json);
            assert_eq!(frame.content(), Content::Text(&json));
        }
        assert_eq!(&Frame::ping().bytes(Framing::WebSocket)[..], [0x89, 0]);
    }

    #[test]
    fn a_long_close_reason_is_cut_at_a_character() {
        let frame = Frame::close(CloseCode::UnknownApp, &"é".repeat(100));
        let bytes = frame.bytes(Framing::WebSocket);
        assert_eq!(bytes[0], 0x88);
        assert_eq!(bytes[1], 2 + 122);
        assert_eq!(bytes[2..4], 4001_u16.to_be_bytes());
        assert!(std::str::from_utf8(&bytes[4..]).is_ok());
    }

    #[test]
    fn every_frame_is_one_line_of_sockjs() {
        let line = |frame: &Frame| {
            String::from_utf8(frame.bytes(Framing::SockJs).to_vec()).expect("lines are text")
        };
        let text = Frame::text("{\"a\":\"é\\n\"}\n".as_bytes());
        assert_eq!(line(&text), "a[\"{\\\"a\\\":\\\"é\\\\n\\\"}\\n\"]\n");
        assert_eq!(line(&Frame::ping()), "h\n");
        let close = Frame::close(CloseCode::UnknownApp, "no \"app\"");
        assert_eq!(line(&close), "c[4001,\"no \\\"app\\\"\"]\n");
    }
}
