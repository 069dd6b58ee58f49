//! What a client that comes back gets of a channel's history: all that it missed, in order, before anything live, or the
//! word that it does not.

use fanfare_protocol::client::Subscribe;
use fanfare_protocol::{
    Frame, HistoryState, Recover, ServerMessage, SocketId, Unrecovered, UserId,
};
use tokio::time::timeout;

use crate::bus::Retention;
use crate::cache::Offset;
use crate::history::{HistoryAnswer, HistoryQuery, Recorded};
use crate::roster::{Place, RosterError};
use crate::session::Session;
use crate::subscribe::PATIENCE;

/// Most of a connection's outbox that what it missed may take.
const SHARE_OF_OUTBOX: usize = 2;

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
    /// The events.
    pub(crate) frames: Vec<Frame>,
    /// Later events are live.
    pub(crate) newest: Offset,
}

impl Recovery {
    /// Nothing, and what is said of that.
    pub(crate) fn told(state: HistoryState) -> Self {
        Self {
            state,
            ..Self::default()
        }
    }

    /// Whether what a cache channel keeps is among what the client has.
    pub(crate) fn is_complete(&self) -> bool {
        !self.frames.is_empty() || self.state.recovered == Some(Ok(()))
    }
}

impl Ask {
    /// What a subscription asks of the channel's history, if the channel has one; else what it is told.
    pub(crate) fn of(request: &Subscribe<'_>, place: &Place) -> Result<Self, HistoryState> {
        let came_back = matches!(request.recover, Some(Recover::From { .. }));
        let has_history = Retention::of(place).is_some();
        let Some(recover) = &request.recover else {
            return Err(HistoryState::default());
        };
        if !has_history {
            return Err(HistoryState {
                position: None,
                recovered: came_back.then_some(Err(Unrecovered::Off)),
            });
        }
        let last = HistoryQuery::Last(request.rewind.unwrap_or(0));
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
    pub(crate) async fn recover(&self, place: &Place, ask: &Ask) -> Result<Recovery, RosterError> {
        let engine = &self.shard.engine;
        let answer = timeout(PATIENCE, engine.bus().history(place, ask.query.clone())).await;
        let answer = answer.ok().and_then(Result::ok).ok_or(RosterError::Away)?;
        Ok(self.recovery(place, ask, answer))
    }

    fn recovery(&self, place: &Place, ask: &Ask, answer: HistoryAnswer) -> Recovery {
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
        let room = self.shard.engine.options().outbox_bytes / SHARE_OF_OUTBOX;
        let events = events.and_then(|events| self.frames(place, ask, &events, room));
        let recovered = ask.came_back.then_some(match &events {
            Ok(_) => Ok(()),
            Err(reason) => Err(*reason),
        });
        Recovery {
            state: HistoryState {
                position: Some(position),
                recovered,
            },
            frames: events.unwrap_or_default(),
            newest,
        }
    }

    /// What the client is sent. Of what it rewinds to, the newest that there is room for.
    fn frames(
        &self,
        place: &Place,
        ask: &Ask,
        events: &[Recorded],
        room: usize,
    ) -> Result<Vec<Frame>, Unrecovered> {
        let sent = |event: &&Recorded| event.except.is_none() || event.except != ask.former;
        let frame = |event: &Recorded| {
            let message = ServerMessage::Event {
                name: &event.name,
                channel: place.channel.as_str(),
                data: &event.data,
                user_id: event.user_id.as_ref().map(UserId::as_str),
                position: Some(&event.position),
            };
            message.to_frame()
        };
        let mut left = room;
        let mut frames = Vec::new();
        for event in events.iter().rev().filter(sent) {
            let frame = frame(event);
            match left.checked_sub(frame.len()) {
                Some(rest) => left = rest,
                None if ask.came_back => return Err(Unrecovered::TooLarge),
                None => break,
            }
            frames.push(frame);
        }
        frames.reverse();
        Ok(frames)
    }
}
