//! Events of a history on their way to a client that reconnects.

use std::collections::VecDeque;

use fanfare_protocol::{ChannelName, Frame, HistoryPosition, ServerMessage, UserId};

use crate::history::Recorded;

/// About how many bytes a frame takes besides its texts.
const FRAME_ROOM: usize = 200;

/// Events of a history on their way to a client. They are encoded one by one, so that a client that
/// missed much costs little while its socket takes what is before them.
#[derive(Debug)]
pub(crate) struct Replay {
    channel: ChannelName,
    events: VecDeque<Recorded>,
    /// The history's newest position.
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

    /// Returns events with data of these lengths.
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

    /// Returns about how many bytes its frames have.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Encodes the next event. Its frame has the position that the client has reached with it. An
    /// event that leaves the client out is covered by the position of the one before, and the last
    /// frame has the history's newest position. So a client that disconnects halfway continues from
    /// there.
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

/// Returns the position before an event.
pub(crate) fn before(event: &Recorded) -> HistoryPosition {
    HistoryPosition {
        epoch: event.position.epoch.clone(),
        offset: event.position.offset - 1,
    }
}

/// Returns about how many bytes an event's frame has.
pub(crate) fn weight(event: &Recorded) -> usize {
    event.data.len() + event.name.len() + FRAME_ROOM
}
