//! What a client that comes back gets of a channel's history: all that it missed, in order, before anything live, or the
//! word that it does not.

use fanfare_protocol::client::Subscribe;
use fanfare_protocol::history::MAX_SIZE;
use fanfare_protocol::{
    Frame, HistoryPosition, HistoryState, Recover, ServerMessage, SocketId, Unrecovered, UserId,
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
    /// The events.
    pub(crate) frames: Vec<Frame>,
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
        !self.frames.is_empty() || self.state.recovered == Some(Ok(()))
    }
}

impl Ask {
    /// What a subscription asks of the channel's history, if the channel has one; else what it is told.
    pub(crate) fn of(request: &Subscribe<'_>, place: &Place) -> Result<Self, HistoryState> {
        let Some(recover) = &request.recover else {
            return Err(HistoryState::default());
        };
        let came_back = matches!(recover, Recover::From { .. });
        let has_history = Retention::of(place).is_some();
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
    pub(crate) async fn recover(&self, place: &Place, ask: &Ask) -> Result<Recovery, RosterError> {
        let engine = &self.shard.engine;
        let room = self.room_for_missed();
        let answer = timeout(
            PATIENCE,
            engine.bus().history(place, ask.query.clone(), room),
        )
        .await;
        let answer = answer.ok().and_then(Result::ok).ok_or(RosterError::Away)?;
        Ok(self.recovery(place, ask, answer))
    }

    /// What waits for the client already leaves less.
    fn room_for_missed(&self) -> usize {
        self.flush();
        let waiting = self.with(|connection| connection.waiting());
        let left = self
            .shard
            .engine
            .options()
            .outbox_bytes
            .saturating_sub(waiting);
        left / SHARE_OF_OUTBOX
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
        let room = self.room_for_missed();
        let own = Some(self.socket_id());
        let events = events.and_then(|events| choose(ask, own, events, room));
        let recovered = ask.came_back.then_some(match &events {
            Ok(_) => Ok(()),
            Err(reason) => Err(*reason),
        });
        let events = events.unwrap_or_default();
        let told = events.first().map_or(&position, |(before, _)| before);
        Recovery {
            state: HistoryState {
                position: Some(told.clone()),
                recovered,
            },
            frames: frames(place, &events, &position),
            newest,
            former: ask.former,
        }
    }
}

/// What the client is sent of the events, each with the position before it. Of what it rewinds to, the newest that there is
/// room for.
fn choose(
    ask: &Ask,
    own: Option<SocketId>,
    events: Vec<Recorded>,
    mut room: usize,
) -> Result<Vec<(HistoryPosition, Recorded)>, Unrecovered> {
    let mut chosen = Vec::new();
    for event in events.into_iter().rev() {
        if event.except.is_some() && (event.except == ask.former || event.except == own) {
            continue;
        }
        match room.checked_sub(event.data.len() + event.name.len() + FRAME_ROOM) {
            Some(rest) => room = rest,
            None if ask.came_back => return Err(Unrecovered::TooLarge),
            None => break,
        }
        let before = HistoryPosition {
            epoch: event.position.epoch.clone(),
            offset: event.position.offset - 1,
        };
        chosen.push((before, event));
    }
    chosen.reverse();
    Ok(chosen)
}

/// Each frame tells the position up to which the client is then: what it was left out of comes with the one before, and the
/// last one is where the history is. So whoever breaks off in the middle goes on from there.
fn frames(
    place: &Place,
    events: &[(HistoryPosition, Recorded)],
    newest: &HistoryPosition,
) -> Vec<Frame> {
    let reached = events.iter().skip(1).map(|(before, _)| before);
    let reached = reached.chain(std::iter::once(newest));
    let frame = |((_, event), position): (&(HistoryPosition, Recorded), &HistoryPosition)| {
        let message = ServerMessage::Event {
            name: &event.name,
            channel: place.channel.as_str(),
            data: &event.data,
            user_id: event.user_id.as_ref().map(UserId::as_str),
            position: Some(position),
        };
        message.to_frame()
    };
    events.iter().zip(reached).map(frame).collect()
}
