//! A connection that joins a channel: from attaching its shard until it is subscribed or gives up.

use fanfare_protocol::presence::Member;
use fanfare_protocol::{Frame, HistoryState, UserId};
use tokio::time::timeout;

use super::error::SubscribeError;
use super::replay::PendingEvent;
use crate::backlog::{BacklogEntry, Join};
use crate::bus::Topic;
use crate::channel_ref::ChannelRef;
use crate::clock::SUBSCRIBE_TIMEOUT;
use crate::recover::{Recovery, ReservedQuery};
use crate::roster::RosterError;
use crate::route::{Attached, ChannelId};
use crate::sequence::{Generation, Offset, Position};
use crate::session::Session;
use crate::snapshot::PresenceSnapshot;
use crate::subscriptions::Subscription;

/// A connection that joins a channel. The channel's events reach its shard from the start, and are
/// kept for it while it waits for answers. Dropped before [`Joining::subscribe`], it undoes every
/// step.
pub(super) struct Joining<'a> {
    session: &'a Session,
    channel_ref: &'a ChannelRef,
    id: ChannelId,
    /// Generation since which this node receives the channel's events, if it does.
    received_since: Option<Generation>,
    /// Whether the client gets each event's position in the channel's history.
    wants_positions: bool,
    /// The backlog entry that keeps what passes for this connection.
    backlog: Option<Join>,
    /// The user that was added to a presence channel.
    member: Option<UserId>,
    /// Whether a subscription count was announced meanwhile.
    missed_count: bool,
    is_subscribed: bool,
}

/// Changes and events that passed while a connection joined, and that no answer to the client has.
#[derive(Default)]
pub(super) struct Meanwhile {
    pub(super) changes: Vec<(Position, Frame)>,
    pub(super) events: Vec<PendingEvent>,
}

impl Meanwhile {
    /// Picks the changes after `snapshot`, if there is one, and the events after what was recovered.
    fn newer(passed: Vec<BacklogEntry>, snapshot: Option<Position>, recovery: &Recovery) -> Self {
        let has_position = recovery.state.position.is_some();
        let mut newer = Self::default();
        for passed in passed {
            match passed {
                BacklogEntry::PresenceChange { position, frame }
                    if snapshot.is_some_and(|snapshot| position > snapshot) =>
                {
                    newer.changes.push((position, frame));
                }
                BacklogEntry::Event {
                    offset,
                    frame,
                    except,
                } if has_position && Some(offset) > recovery.newest => {
                    newer.events.push(PendingEvent {
                        offset,
                        frame,
                        except,
                    })
                }
                BacklogEntry::PresenceChange { .. } | BacklogEntry::Event { .. } => {}
            }
        }
        newer
    }
}

impl<'a> Joining<'a> {
    /// Attaches the connection's shard to a channel. From now on the shard receives the channel's
    /// events.
    pub(super) fn begin(
        session: &'a Session,
        channel_ref: &'a ChannelRef,
        wants_positions: bool,
    ) -> Self {
        let shard = session.shard.index;
        let deliverer = session.shard.engine.deliverer();
        let Attached { id, received_since } = deliverer.attach(channel_ref, shard, wants_positions);
        Self {
            session,
            channel_ref,
            id,
            received_since,
            wants_positions,
            backlog: None,
            member: None,
            missed_count: false,
            is_subscribed: false,
        }
    }

    /// Returns whether this node receives the channel's events already.
    pub(super) fn is_receiving(&self) -> bool {
        self.received_since.is_some()
    }

    /// Keeps what passes from now on, until [`Joining::meanwhile`] takes it.
    pub(super) fn keep_backlog(&mut self) {
        let join = self.session.with_channel(self.id, |subscribers| {
            subscribers.backlog.get_or_insert_default().begin()
        });
        self.backlog = Some(join);
    }

    /// Waits until this node receives the channel's events, and returns the generation since which it does.
    ///
    /// # Errors
    ///
    /// Returns [`SubscribeError::Disconnected`] if the other nodes don't answer in time.
    pub(super) async fn receive_channel(&mut self) -> Result<Generation, SubscribeError> {
        if let Some(since) = self.received_since {
            return Ok(since);
        }
        let topic = Topic::Channel(self.channel_ref.clone());
        let since = self.session.receive_topic(topic).await;
        let since = since.ok_or(SubscribeError::Disconnected)?;
        let deliverer = self.session.shard.engine.deliverer();
        deliverer.note_receiving(self.channel_ref, since);
        self.received_since = Some(since);
        Ok(since)
    }

    /// Adds the user to the channel's members, waits for the roster, and returns the members with
    /// the user included.
    ///
    /// # Errors
    ///
    /// Returns [`SubscribeError::Disconnected`] if the other nodes don't answer in time, and
    /// [`SubscribeError::LimitReached`] if the channel has `max` members.
    pub(super) async fn enter(
        &mut self,
        member: Member,
        max: usize,
    ) -> Result<PresenceSnapshot, SubscribeError> {
        let channel_ref = self.channel_ref;
        let roster = self.session.shard.engine.roster();
        // Set before the await: a join that times out may still happen, and the drop takes it back.
        self.member = Some(member.user_id.clone());
        let presence = &channel_ref.app.local_presence;
        let joined = presence.join(&channel_ref.channel, member, |member| {
            roster.join(channel_ref, member, max)
        });
        let answer = timeout(SUBSCRIBE_TIMEOUT, joined).await;
        answer
            .unwrap_or(Err(RosterError::Disconnected))
            .map_err(|error| match error {
                RosterError::Disconnected | RosterError::Unsettled => SubscribeError::Disconnected,
                RosterError::Full { .. } => SubscribeError::LimitReached(format!(
                    "Cannot subscribe to {}: {error}",
                    channel_ref.channel
                )),
            })
    }

    /// Asks the channel's history for what the client missed, and waits for the answer. `listening`
    /// is the generation since which this node receives the channel's events.
    ///
    /// # Errors
    ///
    /// Returns [`SubscribeError::Disconnected`] if the other nodes don't answer in time, or if the
    /// connection to them broke since: events missed then are in no answer.
    pub(super) async fn recover(
        &self,
        received_since: Generation,
        query: Result<ReservedQuery, HistoryState>,
    ) -> Result<Recovery, SubscribeError> {
        let recovery = match query {
            Ok(query) => {
                let recovery = self.session.recover(self.channel_ref, query).await;
                recovery.map_err(|_| SubscribeError::Disconnected)?
            }
            Err(state) => Recovery::without_events(state),
        };
        // Checked after the last await: the generation may have ended during it.
        if received_since != self.session.shard.engine.deliverer().generation() {
            return Err(SubscribeError::Disconnected);
        }
        Ok(recovery)
    }

    /// Takes what passed since [`Joining::keep_backlog`] and is newer than the recovery and, on
    /// presence channels, than the `snapshot` at this position.
    ///
    /// # Errors
    ///
    /// Returns [`SubscribeError::Overtaken`] if more passed than is kept.
    pub(super) fn meanwhile(
        &mut self,
        snapshot: Option<Position>,
        recovery: &Recovery,
    ) -> Result<Meanwhile, SubscribeError> {
        let passed = self.end_backlog().ok_or(SubscribeError::Overtaken)?;
        Ok(Meanwhile::newer(passed, snapshot, recovery))
    }

    /// Ends the backlog's part for this connection, and returns what passed; `None` if that was
    /// more than is kept.
    fn end_backlog(&mut self) -> Option<Vec<BacklogEntry>> {
        let join = self.backlog.take()?;
        let missed_count = &mut self.missed_count;
        self.session.with_channel(self.id, |subscribers| {
            let backlog = subscribers.backlog.as_mut()?;
            *missed_count |= backlog.passed_count;
            let passed = backlog.end(join);
            if !backlog.is_needed() {
                subscribers.backlog = None;
            }
            passed
        })
    }

    /// Subscribes the connection: from here on it gets events as they come. On a cache channel the
    /// last event comes before any live one, unless the client has it. `known_until` is, on presence
    /// channels, the position of the last change that the client knows, and `newest` the offset of the last event
    /// that it was sent.
    pub(super) fn subscribe(
        mut self,
        known_until: Option<Position>,
        recovery: &Recovery,
        newest: Option<Offset>,
    ) {
        // The backlog ends without a look; the caller took what it needs.
        self.end_backlog();
        self.is_subscribed = true;
        let member = self.member.take().zip(known_until);
        let (session, channel_ref) = (self.session, self.channel_ref);
        if let Some((user, _)) = &member {
            session.note_user(user.as_str());
        }
        let recovered = self.wants_positions.then_some((recovery, newest));
        let mut replayed = recovered.and_then(|(_, newest)| newest);
        let has_it = recovered.is_some_and(|(recovery, _)| recovery.is_complete());
        if channel_ref.channel.keeps_last() && !has_it {
            // Events that passed while the history was read were sent already.
            let sent = recovered.map(|(recovery, newest)| (recovery.newest, newest));
            let was_sent = sent.filter(|(before, newest)| newest > before);
            // The history may be ahead of what this node keeps. An event between the two is still on
            // its way here, and the client gets it as a live one.
            let newest_sent = was_sent.and_then(|(_, newest)| newest);
            replayed = newest_sent.max(session.replay(channel_ref, sent));
        }
        let index = session.with_channel(self.id, |subscribers| {
            subscribers.replayed = subscribers.replayed.max(replayed);
            let slots = subscribers.list(self.wants_positions);
            slots.push(session.slot);
            slots.len() - 1
        });
        let subscription = Subscription {
            channel: self.id,
            // A shard has fewer connections than that.
            index: u32::try_from(index).unwrap_or(u32::MAX),
            wants_positions: self.wants_positions,
            since: u32::MAX,
            member,
            replayed,
            counted: None,
        };
        session.with(|connection| {
            connection.add_subscription(channel_ref.channel.clone(), subscription);
        });
        if self.missed_count {
            let mut state = session.shard.state();
            state.send_count(session.slot, &channel_ref.channel);
        }
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.end_backlog();
        if self.is_subscribed {
            return;
        }
        if let Some(user) = self.member.take() {
            self.session.leave_presence(self.channel_ref, &user);
        }
        let last = self.session.shard.state().vacate(self.id);
        self.session
            .leave_channel(self.channel_ref, self.wants_positions, last);
    }
}
