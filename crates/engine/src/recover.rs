//! What a client that comes back gets of a channel's history: all that it missed, in order, before anything live, or the
//! word that it does not.

use std::collections::VecDeque;

use fanfare_protocol::client::Subscribe;
use fanfare_protocol::history::MAX_SIZE;
use fanfare_protocol::{
    ChannelName, Frame, HistoryPosition, HistoryState, Recover, ServerMessage, SocketId,
    Unrecovered, UserId,
};
use tokio::time::timeout;

use crate::bus::Retention;
use crate::cache::Offset;
use crate::history::{HistoryAnswer, HistoryQuery, Recorded};
use crate::roster::{ChannelRef, RosterError};
use crate::session::Session;
use crate::subscribe::SUBSCRIBE_TIMEOUT;

/// What a frame takes besides its texts, about.
const FRAME_ROOM: usize = 200;

/// What a client wants to know of a channel's history, which it has.
#[derive(Debug)]
pub(crate) struct Ask {
    query: HistoryQuery,
    /// Whether it was there before.
    came_back: bool,
    /// Its position cannot be read.
    lost: bool,
    /// The connection it had.
    former: Option<SocketId>,
}

/// What it gets.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// What it is told of its position.
    pub(crate) state: HistoryState,
    /// The events, until they are sent.
    replay: Option<Replay>,
    /// Whether there are any.
    has_events: bool,
    /// Later events are live.
    pub(crate) newest: Offset,
    /// The connection the client had.
    former: Option<SocketId>,
}

impl Recovery {
    /// Nothing, and what is said of that.
    pub(crate) fn told(state: HistoryState) -> Self {
        Self {
            state,
            ..Self::default()
        }
    }

    /// Whether an event is for the client, by whom it leaves out.
    pub(crate) fn is_for(&self, except: Option<SocketId>) -> bool {
        except.is_none() || except != self.former
    }

    /// Whether what a cache channel keeps is among what the client has.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_events || self.state.recovered == Some(Ok(()))
    }

    /// Takes the events out, to be sent.
    pub(crate) fn take_replay(&mut self) -> Option<Replay> {
        self.replay.take()
    }
}

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
    fn new(channel: &ChannelName, events: Vec<Recorded>, newest: HistoryPosition) -> Option<Self> {
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
fn before(event: &Recorded) -> HistoryPosition {
    HistoryPosition {
        epoch: event.position.epoch.clone(),
        offset: event.position.offset - 1,
    }
}

/// About how many bytes an event's frame has.
fn weight(event: &Recorded) -> usize {
    event.data.len() + event.name.len() + FRAME_ROOM
}

impl Ask {
    /// What a subscription asks of the channel's history, if the channel has one; else what it is told.
    pub(crate) fn of(
        request: &Subscribe<'_>,
        channel_ref: &ChannelRef,
    ) -> Result<Self, HistoryState> {
        let Some(recover) = &request.recover else {
            return Err(HistoryState::default());
        };
        let came_back = matches!(recover, Recover::From { .. });
        let has_history = Retention::of(channel_ref).is_some();
        if !has_history {
            return Err(HistoryState {
                position: None,
                recovered: came_back.then_some(Err(Unrecovered::Off)),
            });
        }
        let last = HistoryQuery::Last(request.rewind.unwrap_or(0).min(MAX_SIZE));
        Ok(match recover {
            Recover::Start => Self {
                query: last,
                came_back,
                lost: false,
                former: None,
            },
            Recover::From {
                position,
                socket_id,
            } => Self {
                lost: position.is_none(),
                query: position
                    .clone()
                    .map_or(HistoryQuery::Last(0), HistoryQuery::After),
                came_back,
                former: *socket_id,
            },
        })
    }
}

impl Session {
    /// Asks the history. Whoever asks counts as joining, so that events which come by meanwhile are kept.
    pub(crate) async fn recover(
        &self,
        channel_ref: &ChannelRef,
        ask: &Ask,
    ) -> Result<Recovery, RosterError> {
        let engine = &self.shard.engine;
        let room = engine.options().max_replay_bytes;
        let answer = timeout(
            SUBSCRIBE_TIMEOUT,
            engine.bus().history(channel_ref, ask.query.clone(), room),
        )
        .await;
        let answer = answer
            .ok()
            .and_then(Result::ok)
            .ok_or(RosterError::Disconnected)?;
        Ok(self.recovery(channel_ref, ask, answer))
    }

    fn recovery(&self, channel_ref: &ChannelRef, ask: &Ask, answer: HistoryAnswer) -> Recovery {
        let HistoryAnswer {
            position,
            newest,
            events,
        } = answer;
        let events = if ask.lost {
            Err(Unrecovered::Expired)
        } else {
            events
        };
        let room = self.shard.engine.options().max_replay_bytes;
        let own = Some(self.socket_id());
        let events = events.and_then(|events| choose(ask, own, events, room));
        let recovered = ask.came_back.then_some(match &events {
            Ok(_) => Ok(()),
            Err(reason) => Err(*reason),
        });
        let events = events.unwrap_or_default();
        let told = events.first().map_or_else(|| position.clone(), before);
        Recovery {
            state: HistoryState {
                position: Some(told),
                recovered,
            },
            has_events: !events.is_empty(),
            replay: Replay::new(&channel_ref.channel, events, position),
            newest,
            former: ask.former,
        }
    }
}

/// Chooses which of the events the client is sent: all that it missed; of what it rewinds to, the newest that there is room
/// for.
fn choose(
    ask: &Ask,
    own: Option<SocketId>,
    events: Vec<Recorded>,
    mut room: usize,
) -> Result<Vec<Recorded>, Unrecovered> {
    let mut chosen = Vec::new();
    for event in events.into_iter().rev() {
        if event.except.is_some() && (event.except == ask.former || event.except == own) {
            continue;
        }
        match room.checked_sub(weight(&event)) {
            Some(rest) => room = rest,
            None if ask.came_back => return Err(Unrecovered::TooLarge),
            None => break,
        }
        chosen.push(event);
    }
    chosen.reverse();
    Ok(chosen)
}
