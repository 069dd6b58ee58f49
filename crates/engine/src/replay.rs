//! Events of a history on their way to a client that reconnects.

use std::collections::VecDeque;

use fanfare_protocol::{ChannelName, Frame, HistoryPosition, ServerMessage, UserId};

use crate::channel_ref::ChannelRef;
use crate::history::{HistoryQuery, Recorded};
use crate::history_reads::HistoryCharge;

/// About how many bytes a frame takes besides its texts.
const FRAME_ROOM: usize = 200;
/// Bytes after which a charge is lowered to what is still to be sent.
const CHARGE_STEP: usize = 64 * 1024;

/// Events of a history on their way to a client. They are encoded one by one, so that a client that
/// missed much costs little while its socket takes what is before them.
#[derive(Debug)]
pub(crate) struct Replay {
    channel: ChannelName,
    events: VecDeque<Recorded>,
    /// The history's newest position.
    newest: HistoryPosition,
    weight: usize,
    /// The charge for the events that are still to be sent.
    charge: HistoryCharge,
}

impl Replay {
    /// Returns a replay of some events, or `None` if there are none. `charge` is lowered to what they take.
    pub(crate) fn new(
        channel: &ChannelName,
        events: Vec<Recorded>,
        newest: HistoryPosition,
        mut charge: HistoryCharge,
    ) -> Option<Self> {
        let weight = events.iter().map(weight).sum();
        if events.is_empty() {
            return None;
        }
        charge.set(weight);
        Some(Self {
            channel: channel.clone(),
            events: events.into(),
            newest,
            weight,
            charge,
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
        let newest = position(lengths.len() as u64);
        Self::new(&channel, events, newest, HistoryCharge::of_none()).expect("events")
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
        // In steps, because a charge costs a lock.
        if self.charge.amount() >= self.weight + CHARGE_STEP {
            self.charge.set(self.weight);
        }
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

/// Returns the most bytes that the answer to a query may have, in which texts count.
pub(crate) fn most_bytes(channel_ref: &ChannelRef, query: &HistoryQuery) -> usize {
    let size = channel_ref
        .app
        .retention(&channel_ref.channel)
        .map_or(0, |retention| retention.size);
    let settings = channel_ref.app.settings();
    let limits = &settings.limits;
    let data = limits.event_data.max(limits.client_event_data);
    let of_one = data + limits.event_name + FRAME_ROOM;
    query.most_events(size).saturating_mul(of_one)
}

/// Returns about how many bytes an event's frame has.
pub(crate) fn weight(event: &Recorded) -> usize {
    event.data.len() + event.name.len() + FRAME_ROOM
}
