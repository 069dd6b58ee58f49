//! Bytes ready for a socket, the same for everybody: frames from a server are not masked.

use bytes::Bytes;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame as RawFrame, FrameHeader};

use crate::close::CloseCode;

/// The longest reason a close frame can carry, in bytes (RFC 6455, 5.5).
const MAX_REASON: usize = 123;
/// The longest header of an unmasked frame, in bytes.
const MAX_HEADER: usize = 10;

/// One WebSocket frame, header included, shared by everybody who gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// A text frame around JSON text.
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
        Self(bytes.into())
    }

    /// A PING, which every client answers by itself.
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
        Self(bytes.into())
    }

    /// The last frame of a connection. A reason beyond 123 bytes is cut at a character.
    #[must_use]
    pub fn close(code: CloseCode, reason: &str) -> Self {
        let cut = reason.floor_char_boundary(MAX_REASON);
        let frame = RawFrame::close(Some(CloseFrame {
            code: code.number().into(),
            reason: reason[..cut].into(),
        }));
        let mut bytes = Vec::with_capacity(frame.len());
        frame
            .format(&mut bytes)
            .expect("writing into memory does not fail");
        Self(bytes.into())
    }

    /// The bytes for the socket.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Bytes on the wire, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a frame has at least its header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
            assert_eq!(&frame.bytes()[..header.len()], header);
            assert_eq!(&frame.bytes()[header.len()..], json);
        }
        assert_eq!(&Frame::ping().bytes()[..], [0x89, 0]);
    }

    #[test]
    fn a_long_close_reason_is_cut_at_a_character() {
        let frame = Frame::close(CloseCode::UnknownApp, &"é".repeat(100));
        assert_eq!(frame.bytes()[0], 0x88);
        assert_eq!(frame.bytes()[1], 2 + 122);
        assert_eq!(frame.bytes()[2..4], 4001_u16.to_be_bytes());
        assert!(std::str::from_utf8(&frame.bytes()[4..]).is_ok());
    }
}
