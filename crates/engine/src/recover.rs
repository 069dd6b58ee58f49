//! The recovery of a client that reconnects: all that it missed of a channel's history, in order
//! and before anything live, or the reason why not.

use fanfare_protocol::client::Subscribe;
use fanfare_protocol::history::MAX_SIZE;
use fanfare_protocol::{HistoryState, Recover, SocketId, Unrecovered};
use tokio::time::timeout;

use crate::bus::HistoryRead;
use crate::channel_ref::ChannelRef;
use crate::clock::SUBSCRIBE_TIMEOUT;
use crate::history::{HistoryAnswer, HistoryQuery, Recorded};
use crate::history_reads::HistoryCharge;
use crate::lifecycle::{LifecycleKind, Note};
use crate::replay::{Replay, before, most_bytes, weight};
use crate::roster::RosterError;
use crate::sequence::Offset;
use crate::session::Session;

/// A client's query of a channel's history.
#[derive(Debug)]
pub(crate) struct RecoveryQuery {
    history: HistoryQuery,
    /// Whether the client names a position that it had.
    is_returning: bool,
    /// Whether that position cannot be read.
    lost: bool,
    /// The connection that the client had before.
    former: Option<SocketId>,
}

/// A query that has its turn.
#[derive(Debug)]
pub(crate) struct ReservedQuery {
    query: RecoveryQuery,
    /// The charge for what the answer may take.
    charge: HistoryCharge,
}

/// The answer to a client's query of a history.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// The position and outcome that the client is told.
    pub(crate) state: HistoryState,
    /// The events, until they are sent.
    replay: Option<Replay>,
    /// Whether there were any.
    has_events: bool,
    /// The offset of the newest event in the answer: later events are live.
    pub(crate) newest: Option<Offset>,
    /// The connection that the client had before.
    former: Option<SocketId>,
}

impl Recovery {
    /// Returns a recovery without events, with what the client is told.
    pub(crate) fn without_events(state: HistoryState) -> Self {
        Self {
            state,
            ..Self::default()
        }
    }

    /// Returns whether an event is for the client: one that leaves out its former connection is
    /// not.
    pub(crate) fn is_for(&self, except: Option<SocketId>) -> bool {
        except.is_none() || except != self.former
    }

    /// Returns whether the client has the event that the cache channel keeps.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_events || self.state.recovered == Some(Ok(()))
    }

    /// Takes the events out, to be sent.
    pub(crate) fn take_replay(&mut self) -> Option<Replay> {
        self.replay.take()
    }
}

impl RecoveryQuery {
    /// Returns what a subscription asks of the channel's history.
    ///
    /// # Errors
    ///
    /// Returns what the client is told if it asks nothing or the channel has no history.
    pub(crate) fn of(
        request: &Subscribe<'_>,
        channel_ref: &ChannelRef,
    ) -> Result<Self, HistoryState> {
        let Some(recover) = &request.recover else {
            return Err(HistoryState::default());
        };
        let is_returning = matches!(recover, Recover::From { .. });
        let has_history = channel_ref.app.retention(&channel_ref.channel).is_some();
        if !has_history {
            return Err(HistoryState {
                position: None,
                recovered: is_returning.then_some(Err(Unrecovered::Off)),
            });
        }
        let last = HistoryQuery::Last(request.rewind.unwrap_or(0).min(MAX_SIZE));
        Ok(match recover {
            Recover::Start => Self {
                history: last,
                is_returning,
                lost: false,
                former: None,
            },
            Recover::From {
                position,
                socket_id,
            } => Self {
                lost: position.is_none(),
                history: position
                    .clone()
                    .map_or(HistoryQuery::Last(0), HistoryQuery::After),
                is_returning,
                former: *socket_id,
            },
        })
    }
}

impl Session {
    /// Waits for the turn of a query, whose answer is charged from then on. Returns `None` if the turn
    /// doesn't come within [`SUBSCRIBE_TIMEOUT`].
    pub(crate) async fn reserve_history(
        &self,
        channel_ref: &ChannelRef,
        query: RecoveryQuery,
    ) -> Option<ReservedQuery> {
        let engine = &self.shard.engine;
        let payer = self.with(|connection| connection.payer.clone());
        let bytes = most_bytes(channel_ref, &query.history).min(engine.options().max_replay_bytes);
        let charge = engine
            .reserve_history(&channel_ref.app, &payer, bytes)
            .await?;
        Some(ReservedQuery { query, charge })
    }

    /// Asks the channel's history, and waits for the answer. The connection counts as joining, so
    /// that events that pass meanwhile are kept.
    ///
    /// # Errors
    ///
    /// Returns [`RosterError::Disconnected`] if the other nodes don't answer within
    /// [`SUBSCRIBE_TIMEOUT`].
    pub(crate) async fn recover(
        &self,
        channel_ref: &ChannelRef,
        ReservedQuery { query, charge }: ReservedQuery,
    ) -> Result<Recovery, RosterError> {
        let engine = &self.shard.engine;
        let read = HistoryRead {
            query: query.history.clone(),
            room: engine.options().max_replay_bytes,
            charge,
        };
        let answer = timeout(SUBSCRIBE_TIMEOUT, engine.bus().history(channel_ref, read)).await;
        let (answer, charge) = answer
            .ok()
            .and_then(Result::ok)
            .ok_or(RosterError::Disconnected)?;
        Ok(self.recovery(channel_ref, &query, answer, charge))
    }

    fn recovery(
        &self,
        channel_ref: &ChannelRef,
        query: &RecoveryQuery,
        answer: HistoryAnswer,
        charge: HistoryCharge,
    ) -> Recovery {
        let HistoryAnswer {
            position,
            newest,
            events,
        } = answer;
        let events = if query.lost {
            Err(Unrecovered::Expired)
        } else {
            events
        };
        let room = self.shard.engine.options().max_replay_bytes;
        let own = Some(self.socket_id());
        let events = events.and_then(|events| choose(query, own, events, room));
        let recovered = query.is_returning.then_some(match &events {
            Ok(_) => Ok(()),
            Err(reason) => Err(*reason),
        });
        if let Some(recovered) = recovered {
            self.shard.state().stats.recoveries.count(recovered.is_ok());
            let kind = match recovered {
                Ok(()) => LifecycleKind::Recovered,
                Err(_) => LifecycleKind::NotRecovered,
            };
            self.note_lifecycle(&Note {
                channel: Some(channel_ref.channel.as_str()),
                text: recovered.err().map(Unrecovered::as_str),
                ..Note::of(kind)
            });
        }
        let events = events.unwrap_or_default();
        let from = events.first().map_or_else(|| position.clone(), before);
        Recovery {
            state: HistoryState {
                position: Some(from),
                recovered,
            },
            has_events: !events.is_empty(),
            replay: Replay::new(&channel_ref.channel, events, position, charge),
            newest,
            former: query.former,
        }
    }
}

/// Chooses the events that the client is sent: all that it missed, or of those that it rewinds to,
/// the newest for which there is room.
fn choose(
    query: &RecoveryQuery,
    own: Option<SocketId>,
    events: Vec<Recorded>,
    mut room: usize,
) -> Result<Vec<Recorded>, Unrecovered> {
    let mut chosen = Vec::new();
    // From the newest, because a rewind keeps the newest events that fit.
    for event in events.into_iter().rev() {
        if event.except.is_some() && (event.except == query.former || event.except == own) {
            continue;
        }
        match room.checked_sub(weight(&event)) {
            Some(rest) => room = rest,
            None if query.is_returning => return Err(Unrecovered::TooLarge),
            None => break,
        }
        chosen.push(event);
    }
    chosen.reverse();
    Ok(chosen)
}
