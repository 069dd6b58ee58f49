//! Which live events a viewer wants.

use fanfare_protocol::{ChannelPattern, EventPattern, SocketId};
use serde::{Deserialize, Serialize};

use super::event::{LiveEvent, LiveKind};
use super::line::{MAX_DATA, cut};

/// Longest text that is searched for, in bytes.
const MAX_TEXT: usize = 200;

/// What a viewer asks for, as text. It travels between nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveQuery {
    /// The kinds; an empty list stands for all.
    #[serde(default)]
    pub kinds: Vec<LiveKind>,
    /// A pattern of channels.
    pub channel: Option<String>,
    /// A pattern of names of events.
    pub event: Option<String>,
    /// A user.
    pub user_id: Option<String>,
    /// A connection.
    pub socket_id: Option<String>,
    /// A text within the data or the reason.
    pub text: Option<String>,
    /// Whether the viewer may see data. One who may not doesn't find out by searching it either.
    pub payloads: bool,
}

/// What a viewer asks for, ready to be compared.
#[derive(Debug, Clone)]
pub(super) struct LiveFilter {
    kinds: u32,
    channel: Option<ChannelPattern>,
    event: Option<EventPattern>,
    user_id: Option<String>,
    socket_id: Option<SocketId>,
    text: Option<String>,
    payloads: bool,
}

impl LiveQuery {
    /// Reads the query.
    ///
    /// # Errors
    ///
    /// Returns a text with the part, its value and the rule that it breaks.
    pub(super) fn compile(&self) -> Result<LiveFilter, String> {
        let kinds = self.kinds.iter().fold(0, |bits, kind| bits | kind.bit());
        let channel = self.channel.as_deref().map(ChannelPattern::parse);
        let event = self.event.as_deref().map(EventPattern::parse);
        let socket_id = self.socket_id.as_deref().map(|text| {
            SocketId::parse(text)
                .map_err(|_| format!("socket_id must be like 123.456, it is {text:?}"))
        });
        if let Some(text) = self.text.as_deref().filter(|text| text.len() > MAX_TEXT) {
            let length = text.len();
            return Err(format!(
                "text must have at most {MAX_TEXT} bytes, it has {length}"
            ));
        }
        Ok(LiveFilter {
            kinds: if kinds == 0 { u32::MAX } else { kinds },
            channel: channel.transpose().map_err(|error| error.to_string())?,
            event: event.transpose().map_err(|error| error.to_string())?,
            user_id: self.user_id.clone(),
            socket_id: socket_id.transpose()?,
            text: self.text.clone().filter(|text| !text.is_empty()),
            payloads: self.payloads,
        })
    }
}

impl LiveFilter {
    /// Returns whether the viewer wants an event. What is cheap to compare is compared first.
    pub(super) fn matches(&self, event: &LiveEvent<'_>) -> bool {
        let matches_text = |pattern: Option<bool>| pattern.unwrap_or(false);
        self.kinds & event.kind.bit() != 0
            && (self.socket_id.is_none() || self.socket_id == event.socket_id)
            && (self.user_id.is_none() || self.user_id.as_deref() == event.user_id)
            && self.channel.as_ref().is_none_or(|pattern| {
                matches_text(event.channel.map(|channel| pattern.matches(channel)))
            })
            && self
                .event
                .as_ref()
                .is_none_or(|pattern| matches_text(event.event.map(|name| pattern.matches(name))))
            && self
                .text
                .as_deref()
                .is_none_or(|text| self.has(text, event))
    }

    /// Returns whether what the viewer sees of an event contains a text.
    fn has(&self, text: &str, event: &LiveEvent<'_>) -> bool {
        let data = event.data.filter(|_| self.payloads);
        data.is_some_and(|data| cut(data, MAX_DATA).contains(text))
            || event
                .shown_reason(self.payloads)
                .is_some_and(|reason| reason.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> LiveEvent<'static> {
        LiveEvent {
            channel: Some("room-1"),
            event: Some("moved"),
            data: Some("to the left"),
            socket_id: SocketId::parse("1.2").ok(),
            user_id: Some("ann"),
            ..LiveEvent::new(LiveKind::ClientEvent)
        }
    }

    fn matches(query: &LiveQuery) -> bool {
        query.compile().expect("a query").matches(&event())
    }

    fn with(set: impl FnOnce(&mut LiveQuery, Option<String>), value: &str) -> LiveQuery {
        let mut query = LiveQuery {
            payloads: true,
            ..LiveQuery::default()
        };
        set(&mut query, Some(value.to_owned()));
        query
    }

    #[test]
    fn every_part_must_match() {
        assert!(matches(&LiveQuery::default()));
        for (value, matching) in [("room-*", true), ("*", true), ("room-2", false)] {
            assert_eq!(
                matches(&with(|query, value| query.channel = value, value)),
                matching
            );
        }
        for (value, matching) in [("m*d", true), ("client-*", false)] {
            assert_eq!(
                matches(&with(|query, value| query.event = value, value)),
                matching
            );
        }
        for (value, matching) in [("ann", true), ("an", false)] {
            assert_eq!(
                matches(&with(|query, value| query.user_id = value, value)),
                matching
            );
        }
        for (value, matching) in [("1.2", true), ("1.3", false)] {
            assert_eq!(
                matches(&with(|query, value| query.socket_id = value, value)),
                matching
            );
        }
        for (value, matching) in [("the left", true), ("right", false)] {
            assert_eq!(
                matches(&with(|query, value| query.text = value, value)),
                matching
            );
        }
        let kinds = |kinds: &[LiveKind]| LiveQuery {
            kinds: kinds.to_vec(),
            ..LiveQuery::default()
        };
        assert!(matches(&kinds(&[LiveKind::Publish, LiveKind::ClientEvent])));
        assert!(!matches(&kinds(&[LiveKind::Publish])));
    }

    #[test]
    fn an_event_without_what_is_asked_for_does_not_match() {
        let connected = LiveEvent::new(LiveKind::Connected);
        for query in [
            with(|query, value| query.channel = value, "*"),
            with(|query, value| query.event = value, "*"),
            with(|query, value| query.text = value, "a"),
        ] {
            assert!(!query.compile().expect("a query").matches(&connected));
        }
    }

    #[test]
    fn data_that_a_viewer_may_not_see_is_not_searched() {
        let hidden = LiveQuery {
            payloads: false,
            ..with(|query, value| query.text = value, "the left")
        };
        assert!(!matches(&hidden));
    }

    #[test]
    fn what_cannot_be_asked_is_refused_in_words() {
        for (query, words) in [
            (
                with(|query, value| query.channel = value, "a b"),
                "no name has a ' '",
            ),
            (
                with(|query, value| query.event = value, ""),
                "1 to 200 bytes",
            ),
            (
                with(|query, value| query.socket_id = value, "12"),
                "like 123.456",
            ),
            (
                with(|query, value| query.text = value, &"a".repeat(201)),
                "at most 200",
            ),
        ] {
            let refused = query.compile().expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
    }
}
