//! Ids of events for clients with several histories. A client hands back one id, that of the last event, so each id must
//! have the positions of all channels.

use std::collections::BTreeMap;

/// Most bytes of an id: it comes back in a header, or a URL.
const MAX_ID: usize = 4096;
const ID: &[u8] = b"id: ";

/// The positions that one client has reached.
#[derive(Debug, Default)]
pub(super) struct EventIds {
    /// By channel.
    positions: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl EventIds {
    /// Returns whole events with ids that have the positions of all channels.
    pub(super) fn complete(&mut self, events: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(events.len() + 256);
        for line in events.split_inclusive(|byte| *byte == b'\n') {
            // Lines of data begin with `data:`, so no data is taken for an id.
            match line.strip_prefix(ID) {
                Some(id) => self.push_id(&mut out, id.trim_ascii_end()),
                None => out.extend_from_slice(line),
            }
        }
        out
    }

    fn push_id(&mut self, out: &mut Vec<u8>, id: &[u8]) {
        let mut words = id.splitn(2, |byte| *byte == b' ');
        if let (Some(channel), Some(position)) = (words.next(), words.next()) {
            self.positions.insert(channel.to_vec(), position.to_vec());
        }
        let begin = out.len();
        out.extend_from_slice(ID);
        for (number, (channel, position)) in self.positions.iter().enumerate() {
            if number > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(channel);
            out.push(b' ');
            out.extend_from_slice(position);
        }
        if out.len() - begin > MAX_ID {
            // No id rather than one with some of the channels: the client is told that it can't recover.
            out.truncate(begin);
            out.extend_from_slice(b"id: -");
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(ids: &mut EventIds, events: &str) -> String {
        String::from_utf8(ids.complete(events.as_bytes())).expect("text")
    }

    #[test]
    fn every_id_has_the_positions_of_all_channels() {
        let mut ids = EventIds::default();
        let first = "event: a\ndata: 1\nid: orders e:1\n\nevent: b\ndata: id: no\n\n:\n";
        assert_eq!(complete(&mut ids, first), first);
        assert_eq!(
            complete(
                &mut ids,
                "data: 2\nid: news f:9\n\ndata: 3\nid: orders e:2\n\n"
            ),
            "data: 2\nid: news f:9 orders e:1\n\ndata: 3\nid: news f:9 orders e:2\n\n"
        );
    }

    #[test]
    fn an_id_that_would_be_too_long_names_no_channel() {
        let mut ids = EventIds::default();
        let mut last = String::new();
        for number in 0..30 {
            let channel = "x".repeat(150) + &number.to_string();
            last = complete(&mut ids, &format!("data: 1\nid: {channel} e:1\n\n"));
        }
        assert_eq!(last, "data: 1\nid: -\n\n");
    }
}
