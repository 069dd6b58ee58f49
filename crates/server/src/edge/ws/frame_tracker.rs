//! Follows the frames of a byte stream to know how many bytes of an unfinished message tungstenite holds, which it
//! doesn't expose.

/// Longest header of a frame without its mask (RFC 6455 5.2).
const MAX_HEADER: usize = 10;
/// Bit that marks the last frame of a message.
const FIN: u8 = 0x80;
/// Opcode bit of control frames, which may come between the frames of a message.
const CONTROL: u8 = 0x08;
/// Bit that says that a mask follows.
const MASKED: u8 = 0x80;

/// Position of a stream within its frames and messages. Only headers are parsed. Every connection has a tracker, so
/// lengths are small integers that saturate: no frame that long is accepted.
#[derive(Debug, Default)]
pub(super) struct FrameTracker {
    header: [u8; MAX_HEADER],
    /// Number of header bytes that have come.
    header_bytes: u8,
    /// Length of the frame's payload, once its header is complete.
    payload: Option<u32>,
    /// Number of payload bytes that haven't come.
    missing: u32,
    /// Total payload of the finished frames of the unfinished message.
    fragments: u32,
    /// Whether some frames of a message have come but not its last one.
    in_message: bool,
    /// Payload length of the longest frame since [`Self::forget_longest`].
    longest: u32,
    /// Number of complete messages, wrapping.
    messages: u16,
}

impl FrameTracker {
    /// Follows the next bytes of the stream.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((&next, rest)) = bytes.split_first() {
            if self.payload.is_none() {
                // The mask lies beyond the array and isn't needed.
                if let Some(byte) = self.header.get_mut(usize::from(self.header_bytes)) {
                    *byte = next;
                }
                self.header_bytes += 1;
                bytes = rest;
                if usize::from(self.header_bytes) == self.header_length() {
                    self.begin_payload();
                }
                continue;
            }
            let count = bytes.len().min(self.missing as usize);
            bytes = &bytes[count..];
            self.missing -= count as u32;
            if self.missing == 0 {
                self.finish_frame();
            }
        }
    }

    /// Returns whether no byte of an unfinished message has come.
    pub(super) fn is_between_messages(&self) -> bool {
        self.header_bytes == 0 && !self.in_message
    }

    /// Returns how many bytes tungstenite may hold: the frames of an unfinished message, the whole frame that is being
    /// read, and the buffer that a longer frame left behind.
    pub(super) fn held(&self) -> usize {
        let frame = self.payload.unwrap_or(0).max(self.longest);
        self.fragments.saturating_add(frame) as usize
    }

    /// Returns the payload length of the longest frame since [`Self::forget_longest`].
    pub(super) fn longest(&self) -> usize {
        self.longest as usize
    }

    /// Returns the number of complete messages, wrapping.
    pub(super) fn messages(&self) -> u16 {
        self.messages
    }

    /// Forgets the longest frame, after its buffer was freed.
    pub(super) fn forget_longest(&mut self) {
        self.longest = 0;
    }

    /// Returns the header's length as far as it is known. Its second byte tells it.
    fn header_length(&self) -> usize {
        if self.header_bytes < 2 {
            return 2;
        }
        let length = match self.header[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & MASKED == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn begin_payload(&mut self) {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let length = match self.header[1] & !MASKED {
            126 => number(&self.header[2..4]),
            127 => number(&self.header[2..10]),
            short => u64::from(short),
        };
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        (self.payload, self.missing) = (Some(length), length);
        self.longest = self.longest.max(length);
        if length == 0 {
            self.finish_frame();
        }
    }

    fn finish_frame(&mut self) {
        let length = self.payload.take().unwrap_or(0);
        self.header_bytes = 0;
        let first = self.header[0];
        if first & CONTROL != 0 {
            return;
        }
        self.in_message = first & FIN == 0;
        if self.in_message {
            self.fragments = self.fragments.saturating_add(length);
        } else {
            self.fragments = 0;
            self.messages = self.messages.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::Error;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};

    use super::*;

    /// Returns a masked frame. A mask of zeros leaves the payload as it is.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(MASKED | length as u8),
            126..0x10000 => {
                frame.push(MASKED | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(MASKED | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.resize(frame.len() + length, b'x');
        frame
    }

    /// Returns a message in several frames, with PINGs between them.
    fn message(lengths: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, length) in lengths.iter().enumerate() {
            let opcode = if at == 0 { 1 } else { 0 };
            let fin = if at + 1 == lengths.len() { FIN } else { 0 };
            bytes.extend(frame(fin | opcode, *length));
            if at % 2 == 1 {
                bytes.extend(frame(FIN | 9, at % 126));
            }
        }
        bytes
    }

    /// Gives what is there and takes everything.
    struct Wire<'a>(&'a [u8]);

    impl Read for Wire<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        }
    }

    impl Write for Wire<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn messages_end_where_the_library_sees_them_end(
            messages in prop::collection::vec(prop::collection::vec(prop_oneof![0..200_usize, 0..70_000_usize], 1..5), 1..6),
            cuts in prop::collection::vec(1..40_000_usize, 1..20),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|lengths| message(lengths)).collect();
            let mut context = WebSocketContext::new(Role::Server, None);
            let (mut tracker, mut read, mut complete) = (FrameTracker::default(), 0, 0);
            for cut in cuts.iter().cycle() {
                if read == stream.len() {
                    break;
                }
                let part = &stream[read..(read + cut).min(stream.len())];
                read += part.len();
                tracker.follow(part);
                let mut wire = Wire(part);
                loop {
                    match context.read(&mut wire) {
                        Ok(message) => complete += u16::from(message.is_text()),
                        Err(Error::Io(_)) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                prop_assert_eq!(tracker.messages(), complete);
            }
            prop_assert!(tracker.is_between_messages());
            prop_assert_eq!(complete as usize, messages.len());
            tracker.forget_longest();
            prop_assert_eq!(tracker.held(), 0);
        }
    }

    #[test]
    fn an_unfinished_message_holds_what_its_header_announces_and_its_finished_frames() {
        let mut tracker = FrameTracker::default();
        tracker.follow(&frame(1, 1000));
        tracker.follow(&frame(FIN | 9, 10));
        tracker.forget_longest();
        assert_eq!(tracker.held(), 1000);
        tracker.follow(&frame(0, 70_000)[..20]);
        assert_eq!((tracker.held(), tracker.messages()), (71_000, 0));
        assert!(!tracker.is_between_messages());
    }

    #[test]
    fn room_for_a_long_frame_counts_until_it_is_given_back() {
        let mut tracker = FrameTracker::default();
        tracker.follow(&frame(FIN | 1, 100_000));
        tracker.follow(&frame(FIN | 1, 10)[..1]);
        assert_eq!((tracker.held(), tracker.messages()), (100_000, 1));
        assert!(!tracker.is_between_messages());
    }

    #[test]
    fn an_absurd_length_overflows_nothing() {
        let mut tracker = FrameTracker::default();
        let header = [
            1,
            MASKED | 127,
            255,
            255,
            255,
            255,
            255,
            255,
            255,
            255,
            0,
            0,
            0,
            0,
        ];
        tracker.follow(&frame(1, 1000));
        tracker.follow(&header);
        tracker.follow(&[0; 100]);
        assert_eq!(tracker.held(), u32::MAX as usize);
    }
}
