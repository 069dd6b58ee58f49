//! Events of a history on their way to a client that comes back.

use std::collections::VecDeque;

use fanfare_protocol::{ChannelName, Frame, HistoryPosition, ServerMessage, UserId};

use crate::history::Recorded;

/// What a frame takes besides its texts, about.
const FRAME_ROOM: usize = 200;

/// Events of a history on their way to a client. They are made into frames one by one, so that a client which missed much
/// costs little while its socket takes what is before them.
#[derive(Debug)]
pub(crate) struct Replay {
    channel: ChannelName,
    events: VecDeque<Recorded>,
    /// Where the history is after the last event.
    newest: HistoryPosition,
    weight: usize,
}

impl Replay {
    pub(crate) fn new(
        channel: &ChannelName,
        events: Vec<Recorded>,
        newest: HistoryPosition,
    ) -> Option<Self> {
        let weight = events.iter().map(weight).sum();
        (!events.is_empty()).then(|| Self {
            channel: channel.clone(),
            events: events.into(),
            newest,
            weight,
        })
    }

    /// Events with data of these lengths.
    #[cfg(test)]
    pub(crate) fn of_lengths(lengths: &[usize]) -> Self {
        let position = |offset| HistoryPosition {
            epoch: "epoch".into(),
            offset,
        };
        let event = |(length, offset): (&usize, u64)| Recorded {
            position: position(offset),
            name: "e".into(),
            data: "x".repeat(*length).into(),
            user_id: None,
            except: None,
            time: 0,
        };
        let events: Vec<_> = lengths.iter().zip(1..).map(event).collect();
        let channel = ChannelName::parse("c", 200).expect("a channel");
        Self::new(&channel, events, position(lengths.len() as u64)).expect("events")
    }

    /// About how many bytes its frames have.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Makes the next frame. It tells the position up to which the client is then: an event that the client was left out of
    /// comes with the one before, and the last frame tells where the history is. So a client that breaks off in the
    /// middle goes on from there.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        let event = self.events.pop_front()?;
        self.weight -= weight(&event);
        let reached = self
            .events
            .front()
            .map_or_else(|| self.newest.clone(), before);
        let message = ServerMessage::Event {
            name: &event.name,
            channel: self.channel.as_str(),
            data: &event.data,
            user_id: event.user_id.as_ref().map(UserId::as_str),
            position: Some(&reached),
        };
        Some(message.to_frame())
    }
}

/// The position before an event.
pub(crate) fn before(event: &Recorded) -> HistoryPosition {
    HistoryPosition {
        epoch: event.position.epoch.clone(),
        offset: event.position.offset - 1,
    }
}

/// About how many bytes an event's frame has.
pub(crate) fn weight(event: &Recorded) -> usize {
    event.data.len() + event.name.len() + FRAME_ROOM
}
