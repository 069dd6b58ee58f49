//! Subscribe and unsubscribe, every kind of channel (docs/protocol.md#subscribe to docs/protocol.md#presence).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanfare_protocol::client::Subscribe;
use fanfare_protocol::presence::Member;
use fanfare_protocol::signature::channel_auth_text;
use fanfare_protocol::{
    ChannelKind, ChannelName, CloseCode, Frame, HistoryState, Limits, ServerMessage, SocketId,
    UserId,
};
use tokio::time::timeout;

use crate::app::App;
use crate::backlog::{Join, Passed};
use crate::budget::Holder;
use crate::bus::Topic;
use crate::channel_ref::ChannelRef;
use crate::clock::SUBSCRIBE_TIMEOUT;
use crate::connection::{Connection, Subscription};
use crate::error::Refusal;
use crate::outbox::Origin;
use crate::recover::{Ask, Recovery};
use crate::refusals::RefusalKind;
use crate::roster::RosterError;
use crate::route::{Attached, ChannelId};
use crate::sequence::{Generation, Offset, Position};
use crate::session::{Session, excerpt};
use crate::snapshot::PresenceSnapshot;

/// Longest name of a refused channel that is repeated to the client, in bytes.
const MAX_REPEATED_NAME: usize = 1000;
/// The connection is closed for this.
const AWAY: &str = "Away";
const CUT_OFF: &str = "This server is cut off from the others and cannot serve you now, reconnect";

/// Why a subscription is refused, and the words for `pusher:subscription_error`.
struct Refused {
    kind: &'static str,
    status: u16,
    message: String,
}

impl Refused {
    fn auth(message: String) -> Self {
        Self {
            kind: "AuthError",
            status: 401,
            message,
        }
    }

    fn channel(message: String) -> Self {
        Self {
            kind: "InvalidChannel",
            status: 400,
            message,
        }
    }

    fn member(message: String) -> Self {
        Self {
            kind: "InvalidMember",
            status: 400,
            message,
        }
    }

    /// The other nodes cannot be reached. Where the client comes back to, they may be.
    fn away() -> Self {
        Self::close(CUT_OFF)
    }

    /// More has come by than is kept for a connection that joins.
    fn overtaken() -> Self {
        Self::close("More came on a channel than is kept for you while you subscribed, reconnect")
    }

    fn close(message: &str) -> Self {
        Self {
            kind: AWAY,
            status: 503,
            message: message.into(),
        }
    }

    fn duplicate(channel: &str) -> Self {
        Self {
            kind: "AlreadySubscribed",
            status: 409,
            message: format!("Existing subscription to channel {channel}"),
        }
    }

    fn limit(message: String) -> Self {
        Self {
            kind: "LimitReached",
            status: 403,
            message,
        }
    }
}

/// One of an app's subscriptions, while it is being made.
struct Reserved(Arc<App>);

impl Reserved {
    fn take(app: &Arc<App>, max: usize) -> Option<Self> {
        let more = |now: usize| (now < max).then_some(now + 1);
        app.subscriptions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Self(Arc::clone(app)))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What came by while a connection joined, that is not in what it is told.
#[derive(Default)]
struct Meanwhile {
    edges: Vec<(Position, Frame)>,
    events: Vec<(Offset, Frame, Option<SocketId>)>,
}

impl Meanwhile {
    /// What is newer than `position`, and than the recovery if there is one.
    fn newer(passed: Vec<Passed>, position: Position, recovery: Option<&Recovery>) -> Self {
        let recovered = recovery.filter(|recovery| recovery.state.position.is_some());
        let mut newer = Self::default();
        for passed in passed {
            match passed {
                Passed::Edge {
                    position: at,
                    frame,
                } if at > position => newer.edges.push((at, frame)),
                Passed::Event {
                    offset,
                    frame,
                    except,
                } if recovered.is_some_and(|recovery| offset > recovery.newest) => {
                    newer.events.push((offset, frame, except));
                }
                Passed::Edge { .. } | Passed::Event { .. } => {}
            }
        }
        newer
    }
}

impl Session {
    pub(crate) async fn subscribe(&self, request: &Subscribe<'_>) {
        let Err(refused) = self.try_subscribe(request).await else {
            return;
        };
        if refused.kind == AWAY {
            return self.close_to_return(refused.message);
        }
        let kind = match refused.status {
            401 => RefusalKind::SubscriptionAuth,
            _ => RefusalKind::Subscription,
        };
        self.note_refusal(kind, &refused.message);
        self.send_error(&refused.message);
        // Hosted Pusher says no more than that; this reaches code that is bound to the channel.
        if request.channel.len() <= MAX_REPEATED_NAME {
            self.send(&ServerMessage::SubscriptionError {
                channel: &request.channel,
                kind: refused.kind,
                message: excerpt(&refused.message),
                status: refused.status,
            });
        }
    }

    /// A client that was left without an answer would be in doubt; one that comes back may find a node that can serve it.
    pub(crate) fn close_as_away(&self) {
        self.close_to_return(CUT_OFF.into());
    }

    fn close_to_return(&self, message: String) {
        self.close(&Refusal::new(CloseCode::OverCapacity, message));
    }

    async fn try_subscribe(&self, request: &Subscribe<'_>) -> Result<(), Refused> {
        let name = &*request.channel;
        let is_subscribed = |connection: &mut Connection| {
            connection.subscriptions.contains_key(name) && !connection.is_unasked(name)
        };
        if self.with(is_subscribed) {
            return Err(Refused::duplicate(name));
        }
        let app = self.with(|connection| connection.app.clone());
        let limits = &app.settings().limits;
        let channel = ChannelName::parse(&request.channel, limits.channel_name)
            .map_err(|error| Refused::channel(error.to_string()))?;
        self.check_room()?;
        let _reserved = self.reserve_subscription(&app, name)?;
        self.check_budget(&channel)?;
        match channel.kind() {
            ChannelKind::Public => self.join(request, &ChannelRef { app, channel }).await?,
            ChannelKind::Private | ChannelKind::Encrypted => {
                self.authorize(request)?;
                self.join(request, &ChannelRef { app, channel }).await?;
            }
            ChannelKind::Presence => {
                self.authorize(request)?;
                let member = self.member(request, limits)?;
                let max = limits.presence_members;
                self.join_presence(request, ChannelRef { app, channel }, member, max)
                    .await?;
            }
            ChannelKind::ServerToUser => {
                let user = self.user().map(|user| user.user_id);
                if user.as_ref().map(UserId::as_str) != channel.user() {
                    return Err(Refused::auth(format!(
                        "{channel} is only for the user it names, signed in"
                    )));
                }
                self.join_own(request, &ChannelRef { app, channel }).await?;
            }
        }
        Ok(())
    }

    fn check_room(&self) -> Result<(), Refused> {
        let max = self.shard.engine.options().max_subscriptions;
        if self.with(|connection| connection.subscribed()) < max {
            return Ok(());
        }
        Err(Refused::limit(format!(
            "This connection is subscribed to {max} channels, the most it may be (connections.max_subscriptions)"
        )))
    }

    /// Reserves one of the app's subscriptions, until the subscription counts by itself or is refused.
    fn reserve_subscription(&self, app: &Arc<App>, channel: &str) -> Result<Reserved, Refused> {
        let quota = app.settings().limits.subscriptions;
        // One that the client got with its sign-in counts already.
        let is_unlimited = quota == 0 || self.with(|connection| connection.is_unasked(channel));
        let max = if is_unlimited { usize::MAX } else { quota };
        Reserved::take(app, max).ok_or_else(|| {
            Refused::limit(format!(
                "The app has {quota} subscriptions on this server, the most it may have (limits.subscriptions)"
            ))
        })
    }

    /// A client whose node has no room is closed so that it finds another; one whose network or app has reached its bound
    /// would not fare better elsewhere.
    fn check_budget(&self, channel: &ChannelName) -> Result<(), Refused> {
        let Err(exceeded) = self.with(|connection| connection.check_subscription(channel)) else {
            return Ok(());
        };
        if exceeded.holder == Holder::Node {
            self.close(&Refusal::new(
                CloseCode::OverCapacity,
                format!("{exceeded}, reconnect"),
            ));
        }
        Err(Refused::limit(exceeded.to_string()))
    }

    /// Who joins a presence channel: whom `channel_data` names, else who is signed in.
    fn member(&self, request: &Subscribe<'_>, limits: &Limits) -> Result<Member, Refused> {
        if let Some(channel_data) = request.channel_data.as_deref() {
            return Member::parse(channel_data, limits)
                .map_err(|error| Refused::member(error.to_string()));
        }
        let channel = &request.channel;
        let user = self.user().ok_or_else(|| {
            Refused::auth(format!(
                "channel_data is required for presence channel {channel}, or a signed-in user"
            ))
        })?;
        user.check_size(limits)
            .map_err(|error| Refused::member(error.to_string()))?;
        Ok(user)
    }

    /// Checks the signature over socket id, channel and `channel_data`, whatever the kind of channel.
    fn authorize(&self, request: &Subscribe<'_>) -> Result<(), Refused> {
        let channel = &request.channel;
        let missing = || Refused::auth(format!("Auth info required to subscribe to {channel}"));
        let auth = request.auth.as_deref().ok_or_else(missing)?;
        let text = channel_auth_text(self.socket_id(), channel, request.channel_data.as_deref());
        self.check_signature(auth, &text, &format!("for {channel}"))
            .map_err(Refused::auth)
    }

    async fn join(&self, request: &Subscribe<'_>, channel_ref: &ChannelRef) -> Result<(), Refused> {
        let deliverer = self.shard.engine.deliverer();
        let ask = Ask::of(request, channel_ref);
        let wants_positions = ask.is_ok();
        let Attached { id, listening } =
            deliverer.attach(channel_ref, self.shard.index, wants_positions);
        let (mut recovery, meanwhile) = match (listening, ask) {
            (Some(_), Err(state)) => (Recovery::told(state), Meanwhile::default()),
            (_, ask) => {
                let join = self.begin_join(id);
                self.leave_unasked(&channel_ref.channel);
                let recovery = self.hear_and_recover(channel_ref, listening, ask).await;
                let passed = self.end_join(id, join);
                let joined = recovery.map_err(|_| Refused::away()).and_then(|recovery| {
                    if !wants_positions {
                        return Ok((recovery, Meanwhile::default()));
                    }
                    let passed = passed.ok_or_else(Refused::overtaken)?;
                    let meanwhile = Meanwhile::newer(passed, Position::MAX, Some(&recovery));
                    Ok((recovery, meanwhile))
                });
                joined.inspect_err(|_| self.detach(channel_ref, id, wants_positions))?
            }
        };
        self.send(&ServerMessage::SubscriptionSucceeded {
            channel: channel_ref.channel.as_str(),
            history: &recovery.state,
        });
        let newest = self.send_missed(&mut recovery, meanwhile.events);
        self.insert(
            channel_ref,
            id,
            None,
            wants_positions.then_some((&recovery, newest)),
        );
        if listening.is_none() {
            // How many subscribers there are may have been told before this one could hear it.
            deliverer.count_again(channel_ref);
        }
        Ok(())
    }

    /// Subscribes to the channel of the user who is signed in, whose events come already since then.
    async fn join_own(
        &self,
        request: &Subscribe<'_>,
        channel_ref: &ChannelRef,
    ) -> Result<(), Refused> {
        if self.with(|connection| connection.is_unasked(channel_ref.channel.as_str()))
            && let Err(history) = Ask::of(request, channel_ref)
        {
            self.with(|connection| {
                if let Some(user) = &mut connection.user {
                    user.unasked = None;
                }
            });
            self.send(&ServerMessage::SubscriptionSucceeded {
                channel: channel_ref.channel.as_str(),
                history: &history,
            });
            return Ok(());
        }
        self.join(request, channel_ref).await
    }

    /// From now on the connection gets what is sent to its user, without having asked: clients subscribe only when they have
    /// seen that they are signed in, and what is sent before that would be lost. Returns the channel, if it can have one.
    ///
    /// # Errors
    ///
    /// Returns [`RosterError::Disconnected`] while the other nodes do not answer.
    pub(crate) async fn open_own_channel(
        &self,
        app: &Arc<App>,
        user: &UserId,
    ) -> Result<Option<ChannelName>, RosterError> {
        let max = app.settings().limits.channel_name;
        let Ok(channel) = ChannelName::of_user(user, max) else {
            return Ok(None);
        };
        let channel_ref = ChannelRef {
            app: Arc::clone(app),
            channel,
        };
        let deliverer = self.shard.engine.deliverer();
        let Attached { id, listening } = deliverer.attach(&channel_ref, self.shard.index, false);
        if listening.is_none() {
            let join = self.begin_join(id);
            let since = self.wait_to_hear(&channel_ref).await;
            self.end_join(id, join);
            if since.is_none() {
                self.detach(&channel_ref, id, false);
                return Err(RosterError::Disconnected);
            }
        }
        self.insert(&channel_ref, id, None, None);
        Ok(Some(channel_ref.channel))
    }

    /// What comes by from now on is kept for the subscription that the client has asked for.
    fn leave_unasked(&self, channel: &ChannelName) {
        if self.with(|connection| connection.is_unasked(channel.as_str())) {
            self.leave(channel.as_str());
        }
    }

    /// Waits until the channel's events come here, then asks for what came before.
    async fn hear_and_recover(
        &self,
        channel_ref: &ChannelRef,
        listening: Option<Generation>,
        ask: Result<Ask, HistoryState>,
    ) -> Result<Recovery, RosterError> {
        let listening = match listening {
            None => self.wait_to_hear(channel_ref).await,
            since => since,
        };
        let since = listening.ok_or(RosterError::Disconnected)?;
        let recovery = match ask {
            Ok(ask) => self.recover(channel_ref, &ask).await?,
            Err(state) => Recovery::told(state),
        };
        self.unbroken(since)?;
        Ok(recovery)
    }

    /// What was missed since the connection to the others broke is in no answer.
    fn unbroken(&self, since: Generation) -> Result<(), RosterError> {
        let same = since == self.shard.engine.deliverer().generation();
        same.then_some(()).ok_or(RosterError::Disconnected)
    }

    /// Sends what was missed, and what came by while that was asked for; says up to when events are accounted for.
    fn send_missed(
        &self,
        recovery: &mut Recovery,
        events: Vec<(Offset, Frame, Option<SocketId>)>,
    ) -> Offset {
        let mut state = self.shard.state();
        if let Some(replay) = recovery.take_replay() {
            state.replay(self.slot, replay);
        }
        let mut newest = recovery.newest;
        let own = Some(state.connections[self.slot].socket_id);
        for (offset, frame, except) in events {
            newest = newest.max(offset);
            if except != own && recovery.is_for(except) {
                state.push(self.slot, &frame, Origin::Live);
            }
        }
        newest
    }

    /// Since when this node hears of a channel's events; nothing if the others stay away.
    async fn wait_to_hear(&self, channel_ref: &ChannelRef) -> Option<Generation> {
        let since = self.listen(Topic::Channel(channel_ref.clone())).await?;
        self.shard
            .engine
            .deliverer()
            .note_listening(channel_ref, since);
        Some(since)
    }

    /// Since when this node hears of a topic, up to this moment; nothing if the others stay away.
    pub(crate) async fn listen(&self, topic: Topic) -> Option<Generation> {
        let engine = &self.shard.engine;
        let unbroken = async {
            loop {
                let since = engine.bus().listen(&topic).await;
                if since == engine.deliverer().generation() {
                    return since;
                }
                // The connection was lost a moment ago, and not everybody knows it.
                tokio::task::yield_now().await;
            }
        };
        timeout(SUBSCRIBE_TIMEOUT, unbroken).await.ok()
    }

    /// A connection is on the way in, for which the channel's entry is kept, and what comes by.
    fn begin_join(&self, id: ChannelId) -> Join {
        self.with_channel(id, |subscribers| {
            subscribers.backlog.get_or_insert_default().begin()
        })
    }

    /// One less is on the way in. Returns what came by meanwhile, or `None` if that was more than is kept.
    fn end_join(&self, id: ChannelId, join: Join) -> Option<Vec<Passed>> {
        self.with_channel(id, |subscribers| {
            let backlog = subscribers.backlog.as_mut()?;
            let passed = backlog.end(join);
            if !backlog.is_needed() {
                subscribers.backlog = None;
            }
            passed
        })
    }

    /// The channel's events reach this shard before the roster is asked, so no edge falls between view and events: what
    /// comes by meanwhile follows the view, unless it is in it.
    async fn join_presence(
        &self,
        request: &Subscribe<'_>,
        channel_ref: ChannelRef,
        member: Member,
        max: usize,
    ) -> Result<(), Refused> {
        let engine = &self.shard.engine;
        let ask = Ask::of(request, &channel_ref);
        let wants_positions = ask.is_ok();
        let attached = engine
            .deliverer()
            .attach(&channel_ref, self.shard.index, wants_positions);
        let Attached { id, listening } = attached;
        let join = self.begin_join(id);
        let user = member.user_id.clone();
        let joined = self.ask_in(&channel_ref, listening, member, max, ask).await;
        let passed = self.end_join(id, join);
        match joined {
            Ok((view, mut recovery)) => {
                let Some(passed) = passed else {
                    self.detach(&channel_ref, id, wants_positions);
                    self.leave_presence(&channel_ref, &user);
                    return Err(Refused::overtaken());
                };
                let Meanwhile { edges, events } =
                    Meanwhile::newer(passed, view.position, Some(&recovery));
                self.send(&ServerMessage::PresenceSucceeded {
                    channel: channel_ref.channel.as_str(),
                    members: &view.members,
                    history: &recovery.state,
                });
                let newest_edge = edges
                    .last()
                    .map_or(view.position, |(position, _)| *position);
                for (_, frame) in edges {
                    self.shard.state().push(self.slot, &frame, Origin::Live);
                }
                let newest = self.send_missed(&mut recovery, events);
                let recovered = wants_positions.then_some((&recovery, newest));
                self.insert(&channel_ref, id, Some((user, newest_edge)), recovered);
                Ok(())
            }
            Err(error) => {
                self.detach(&channel_ref, id, wants_positions);
                let message = || format!("Cannot subscribe to {}: {error}", channel_ref.channel);
                Err(match error {
                    RosterError::Disconnected | RosterError::Unsettled => Refused::away(),
                    RosterError::Full { .. } => Refused::limit(message()),
                })
            }
        }
    }

    /// Who is there, the new member included; and what it missed.
    async fn ask_in(
        &self,
        channel_ref: &ChannelRef,
        listening: Option<Generation>,
        member: Member,
        max: usize,
        ask: Result<Ask, HistoryState>,
    ) -> Result<(PresenceSnapshot, Recovery), RosterError> {
        let engine = &self.shard.engine;
        let listening = match listening {
            None => self.wait_to_hear(channel_ref).await,
            since => since,
        };
        let since = listening.ok_or(RosterError::Disconnected)?;
        let user = member.user_id.clone();
        let view = channel_ref
            .app
            .rooms
            .join(&channel_ref.channel, member, |member| {
                engine.roster().join(channel_ref, member, max)
            });
        let view = timeout(SUBSCRIBE_TIMEOUT, view)
            .await
            .unwrap_or(Err(RosterError::Disconnected));
        let joined = match view {
            Ok(view) => {
                let recovery = self.hear_and_recover(channel_ref, Some(since), ask).await;
                recovery.map(|recovery| (view, recovery))
            }
            Err(error) => Err(error),
        };
        if joined.is_err() {
            self.leave_presence(channel_ref, &user);
        }
        joined
    }

    /// The roster hears of it when this was the user's last connection here.
    fn leave_presence(&self, channel_ref: &ChannelRef, user: &UserId) {
        let roster = self.shard.engine.roster();
        let rooms = &channel_ref.app.rooms;
        rooms.leave(&channel_ref.channel, user, || {
            roster.leave(channel_ref, user);
        });
    }

    /// Takes back that somebody was on the way in.
    fn detach(&self, channel_ref: &ChannelRef, id: ChannelId, wants_positions: bool) {
        let last = self.shard.state().vacate(id);
        self.leave_channel(channel_ref, wants_positions, last);
    }

    fn leave_channel(&self, channel_ref: &ChannelRef, wants_positions: bool, last: bool) {
        let engine = &self.shard.engine;
        let index = self.shard.index;
        if engine
            .deliverer()
            .detach(channel_ref, index, wants_positions, last)
        {
            engine.bus().unlisten(&Topic::Channel(channel_ref.clone()));
        }
    }

    fn with_channel<T>(
        &self,
        id: ChannelId,
        read: impl FnOnce(&mut crate::shard::Subscribers) -> T,
    ) -> T {
        read(self.shard.state().channels.entry(id).or_default())
    }

    /// The subscription stands from here on; on a cache channel the last event comes before any live one, unless the client
    /// has it.
    fn insert(
        &self,
        channel_ref: &ChannelRef,
        id: ChannelId,
        member: Option<(UserId, u64)>,
        recovered: Option<(&Recovery, Offset)>,
    ) {
        let mut replayed = recovered.map_or(Offset::default(), |(_, newest)| newest);
        let has_it = recovered.is_some_and(|(recovery, _)| recovery.is_complete());
        if channel_ref.channel.keeps_last() && !has_it {
            // What came by while the history was asked was sent already.
            let sent = recovered.map(|(recovery, newest)| (recovery.newest, newest));
            replayed = replayed.max(self.replay(channel_ref, sent));
        }
        let wants_positions = recovered.is_some();
        let index = self.with_channel(id, |subscribers| {
            subscribers.replayed = subscribers.replayed.max(replayed);
            let slots = subscribers.list(wants_positions);
            slots.push(self.slot);
            slots.len() - 1
        });
        let subscription = Subscription {
            channel: id,
            index,
            wants_positions,
            member,
            replayed,
        };
        self.with(|connection| {
            connection.add_subscription(channel_ref.channel.clone(), subscription)
        });
    }

    fn replay(&self, channel_ref: &ChannelRef, sent: Option<(Offset, Offset)>) -> Offset {
        let channel = channel_ref.channel.as_str();
        let (event, offset) = channel_ref.app.cache.recall(channel);
        if sent.is_some_and(|(before, newest)| before < offset && offset <= newest) {
            return offset;
        }
        self.send(&match &event {
            Some(event) => ServerMessage::Event {
                name: &event.name,
                channel,
                data: &event.data,
                user_id: None,
                position: None,
            },
            None => ServerMessage::CacheMiss { channel },
        });
        offset
    }

    pub(crate) fn unsubscribe(&self, channel: &str) {
        if self.with(|connection| connection.is_unasked(channel)) || !self.leave(channel) {
            self.send_error(&format!("No current subscription to channel {channel}"));
        }
    }

    /// Leaves a channel; says whether there was anything to leave.
    pub(crate) fn leave(&self, channel: &str) -> bool {
        let left = self.with(|connection| {
            if connection.is_unasked(channel)
                && let Some(user) = &mut connection.user
            {
                user.unasked = None;
            }
            let entry = connection.remove_subscription(channel);
            entry.map(|(channel, subscription)| {
                (
                    ChannelRef {
                        app: connection.app.clone(),
                        channel,
                    },
                    subscription,
                )
            })
        });
        let Some((channel_ref, subscription)) = left else {
            return false;
        };
        let last = self
            .shard
            .state()
            .remove(&channel_ref.channel, &subscription);
        self.leave_channel(&channel_ref, subscription.wants_positions, last);
        if let Some((user, _)) = &subscription.member {
            self.leave_presence(&channel_ref, user);
        }
        true
    }
}

impl crate::shard::State {
    /// Takes a subscription out of its channel's list; says whether it was the last one on this shard.
    fn remove(&mut self, channel: &ChannelName, subscription: &Subscription) -> bool {
        let Some(subscribers) = self.channels.get_mut(&subscription.channel) else {
            return true;
        };
        let slots = subscribers.list(subscription.wants_positions);
        slots.swap_remove(subscription.index);
        if let Some(moved) = slots.get(subscription.index)
            && let Some(moved) = self.connections[*moved].subscriptions.get_mut(channel)
        {
            moved.index = subscription.index;
        }
        self.vacate(subscription.channel)
    }

    /// Forgets a channel that has nobody left on this shard; says whether that is so.
    fn vacate(&mut self, id: ChannelId) -> bool {
        let vacated = self
            .channels
            .get(&id)
            .is_none_or(|s| s.slots.is_empty() && s.positioned.is_empty() && s.backlog.is_none());
        if vacated {
            self.channels.remove(&id);
        }
        vacated
    }
}
