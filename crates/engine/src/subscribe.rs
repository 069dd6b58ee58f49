//! Subscribing to channels of every kind (docs/protocol.md#subscribe to docs/protocol.md#presence):
//! the rules, and the answers to the client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanfare_protocol::client::Subscribe;
use fanfare_protocol::signature::channel_auth_text;
use fanfare_protocol::{ChannelKind, ChannelName, CloseCode, HistoryState, ServerMessage, UserId};
use tokio::time::timeout;

use self::error::SubscribeError;
use self::joining::{Joining, Meanwhile};
use crate::app::App;
use crate::budget::Holder;
use crate::bus::Topic;
use crate::channel_ref::ChannelRef;
use crate::clock::SUBSCRIBE_TIMEOUT;
use crate::connection::Connection;
use crate::error::Refusal;
use crate::live::{LiveEvent, LiveKind};
use crate::recover::{Recovery, RecoveryQuery, ReservedQuery};
use crate::refusals::RefusalKind;
use crate::roster::RosterError;
use crate::route::ChannelId;
use crate::sequence::Generation;
use crate::session::{Session, excerpt};
use crate::shard::Subscribers;
use crate::subscription_share::SubscriptionShare;

mod error;
mod joining;
mod leave;
mod presence;
mod replay;

/// Longest name of a refused channel, in bytes, that is repeated to the client.
const MAX_REPEATED_NAME: usize = 1000;

/// A reserved subscription of an app, held while the subscription is being made.
struct Reserved {
    app: Arc<App>,
    /// Counts it for the client's network, if the app has a quota.
    _share: Option<SubscriptionShare>,
}

impl Reserved {
    fn take(app: &Arc<App>, max: usize) -> Option<Self> {
        let more = |now: usize| (now < max).then_some(now + 1);
        // Relaxed, because only the number itself matters; nothing else is published with it.
        app.subscriptions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Self {
            app: Arc::clone(app),
            _share: None,
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.app.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    /// Handles a `pusher:subscribe`, and waits until the connection is subscribed or the refusal is
    /// sent. If the other nodes don't answer in time, the connection is closed instead.
    pub(crate) async fn subscribe(&self, request: &Subscribe<'_>) {
        let Err(error) = self.try_subscribe(request).await else {
            if self.is_watched() {
                self.show_subscription(&request.channel);
            }
            return;
        };
        let message = error.to_string();
        let Some(event) = error.event() else {
            return self.close_to_return(message);
        };
        let kind = match error {
            SubscribeError::Auth(_) => RefusalKind::SubscriptionAuth,
            _ => RefusalKind::Subscription,
        };
        self.note_refusal_of(kind, &message, Some(&request.channel), None);
        self.send_error(&message);
        // Hosted Pusher sends only the error; this event reaches code that is bound to the channel.
        if request.channel.len() <= MAX_REPEATED_NAME {
            self.send(&ServerMessage::SubscriptionError {
                channel: &request.channel,
                kind: event.kind,
                message: excerpt(&message),
                status: event.status,
            });
        }
    }

    /// Shows a new subscription to those who watch the app.
    fn show_subscription(&self, channel: &str) {
        let (subscribers, member) = self.with(|connection| {
            let subscription = connection.subscriptions.get(channel);
            let member = subscription.and_then(|subscription| subscription.member.as_ref());
            let member = member.map(|(user, _)| user.clone());
            (connection.app.channels.subscribers(channel), member)
        });
        self.show_live(LiveEvent {
            channel: Some(channel),
            user_id: member.as_ref().map(UserId::as_str),
            subscribers: Some(subscribers),
            ..LiveEvent::new(LiveKind::Subscribed)
        });
    }

    /// Closes a connection that cannot be served because the other nodes are unreachable. Its
    /// client may find a node that can serve it, where no answer would leave it in doubt.
    pub(crate) fn close_as_disconnected(&self) {
        self.close_to_return(SubscribeError::Disconnected.to_string());
    }

    /// Closes the connection with a code that makes its client reconnect after a while.
    fn close_to_return(&self, message: String) {
        self.close(&Refusal::new(CloseCode::OverCapacity, message));
    }

    async fn try_subscribe(&self, request: &Subscribe<'_>) -> Result<(), SubscribeError> {
        let name = &*request.channel;
        let is_subscribed = |connection: &mut Connection| {
            connection.subscriptions.contains(name) && !connection.is_implicit(name)
        };
        if self.with(is_subscribed) {
            return Err(SubscribeError::AlreadySubscribed(name.into()));
        }
        let app = self.with(|connection| connection.app.clone());
        let limits = &app.settings().limits;
        let channel = ChannelName::parse(&request.channel, limits.channel_name)
            .map_err(|error| SubscribeError::InvalidChannel(error.to_string()))?;
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
                let channel_ref = ChannelRef { app, channel };
                self.join_presence(request, &channel_ref, member, max)
                    .await?;
            }
            ChannelKind::ServerToUser => {
                let user = self.user().map(|user| user.user_id);
                if user.as_ref().map(UserId::as_str) != channel.user() {
                    return Err(SubscribeError::Auth(format!(
                        "{channel} is only for the user it names, signed in"
                    )));
                }
                self.join_own(request, &ChannelRef { app, channel }).await?;
            }
        }
        Ok(())
    }

    /// Checks that the connection may have another subscription.
    fn check_room(&self) -> Result<(), SubscribeError> {
        let max = self.shard.engine.options().max_subscriptions;
        if self.with(|connection| connection.subscribed()) < max {
            return Ok(());
        }
        Err(SubscribeError::LimitReached(format!(
            "This connection is subscribed to {max} channels, the most it may be (connections.max_subscriptions)"
        )))
    }

    /// Reserves one of the app's subscriptions, until the subscription itself counts or is refused.
    fn reserve_subscription(
        &self,
        app: &Arc<App>,
        channel: &str,
    ) -> Result<Reserved, SubscribeError> {
        let quota = app.settings().limits.subscriptions;
        // A subscription that came with the sign-in counts already.
        let is_unlimited = quota == 0 || self.with(|connection| connection.is_implicit(channel));
        let max = if is_unlimited { usize::MAX } else { quota };
        let mut reserved = Reserved::take(app, max).ok_or_else(|| {
            SubscribeError::LimitReached(format!(
                "The app has {quota} subscriptions on this server, the most it may have (limits.subscriptions)"
            ))
        })?;
        if !is_unlimited {
            let used = app.subscriptions.load(Ordering::Relaxed);
            // This one is counted already.
            let left = quota.saturating_sub(used.saturating_sub(1));
            reserved._share = self.reserve_share(quota, left)?;
        }
        Ok(reserved)
    }

    /// Reserves a subscription of the client's network, if one is charged. Only new subscriptions
    /// are refused: a client relies on those that were confirmed.
    fn reserve_share(
        &self,
        quota: usize,
        left: usize,
    ) -> Result<Option<SubscriptionShare>, SubscribeError> {
        self.with(|connection| {
            let Some(share) = connection.subscription_share() else {
                return Ok(None);
            };
            match share.exceeded(quota, left) {
                None => Ok(Some(share.one_more())),
                Some((network, held)) => Err(SubscribeError::LimitReached(format!(
                    "Your network {network} has {held} of the {quota} subscriptions that the app may have on this server, and the rest is kept for other networks (limits.subscriptions)"
                ))),
            }
        })
    }

    /// Refuses a subscription over a budget. If the node is full the connection is closed, so that
    /// the client finds another node. A full network or app would be refused elsewhere too.
    fn check_budget(&self, channel: &ChannelName) -> Result<(), SubscribeError> {
        let Err(exceeded) = self.with(|connection| connection.check_subscription(channel)) else {
            return Ok(());
        };
        if exceeded.holder == Holder::Node {
            self.close(&Refusal::new(
                CloseCode::OverCapacity,
                format!("{exceeded}, reconnect"),
            ));
        }
        Err(SubscribeError::LimitReached(exceeded.to_string()))
    }

    /// Checks the signature over socket id, channel and `channel_data`, whatever the kind of channel.
    fn authorize(&self, request: &Subscribe<'_>) -> Result<(), SubscribeError> {
        let channel = &request.channel;
        let missing =
            || SubscribeError::Auth(format!("Auth info required to subscribe to {channel}"));
        let auth = request.auth.as_deref().ok_or_else(missing)?;
        let text = channel_auth_text(self.socket_id(), channel, request.channel_data.as_deref());
        self.check_signature(auth, &text, &format!("for {channel}"))
            .map_err(SubscribeError::Auth)
    }

    /// Returns what a subscription asks of the channel's history, or what the client is told if it
    /// asks nothing. Waits for the query's turn. The connection isn't attached meanwhile, so no
    /// backlog grows for it.
    ///
    /// # Errors
    ///
    /// Returns [`SubscribeError::Busy`] if the turn doesn't come in time.
    async fn recovery_query(
        &self,
        request: &Subscribe<'_>,
        channel_ref: &ChannelRef,
    ) -> Result<Result<ReservedQuery, HistoryState>, SubscribeError> {
        match RecoveryQuery::of(request, channel_ref) {
            Ok(query) => {
                let reserved = self.reserve_history(channel_ref, query).await;
                reserved.map(Ok).ok_or(SubscribeError::Busy)
            }
            Err(state) => Ok(Err(state)),
        }
    }

    /// Subscribes to a channel without members: attaches first, then asks for the history, and
    /// sends what passed in between after it.
    async fn join(
        &self,
        request: &Subscribe<'_>,
        channel_ref: &ChannelRef,
    ) -> Result<(), SubscribeError> {
        let query = self.recovery_query(request, channel_ref).await?;
        let wants_positions = query.is_ok();
        let mut joining = Joining::begin(self, channel_ref, wants_positions);
        let was_receiving = joining.is_receiving();
        let (mut recovery, meanwhile) = match query {
            // Nothing is awaited, so nothing can pass meanwhile.
            Err(state) if was_receiving => (Recovery::without_events(state), Meanwhile::default()),
            query => {
                joining.keep_backlog();
                // The client's own subscription replaces the one from its sign-in; the backlog
                // keeps what passes.
                self.leave_implicit(&channel_ref.channel);
                // The connection may be fenced or closed after each of these awaits; what is sent
                // then is dropped.
                let received_since = joining.receive_channel().await?;
                let recovery = joining.recover(received_since, query).await?;
                let meanwhile = if wants_positions {
                    joining.meanwhile(None, &recovery)?
                } else {
                    Meanwhile::default()
                };
                (recovery, meanwhile)
            }
        };
        // No await from here to `subscribe`, so nothing passes in between.
        self.send(&ServerMessage::SubscriptionSucceeded {
            channel: channel_ref.channel.as_str(),
            history: &recovery.state,
        });
        let newest = self.send_missed(&mut recovery, meanwhile.events);
        joining.subscribe(None, &recovery, newest);
        if !was_receiving {
            // The count may have been announced before this connection could receive it.
            self.shard
                .engine
                .deliverer()
                .report_count_again(channel_ref);
        }
        Ok(())
    }

    /// Subscribes to the channel of the signed-in user, whose events the connection receives since
    /// the sign-in.
    async fn join_own(
        &self,
        request: &Subscribe<'_>,
        channel_ref: &ChannelRef,
    ) -> Result<(), SubscribeError> {
        if self.with(|connection| connection.is_implicit(channel_ref.channel.as_str()))
            && let Err(history) = RecoveryQuery::of(request, channel_ref)
        {
            self.with(|connection| {
                if let Some(user) = &mut connection.user {
                    user.implicit_channel = None;
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

    /// Gives the connection the events of its user's own channel, before it subscribes: clients
    /// subscribe only once they know that they are signed in, and events sent before would be lost.
    /// Returns the channel, or `None` if the user's id is no valid channel name.
    ///
    /// # Errors
    ///
    /// Returns [`RosterError::Disconnected`] if the other nodes don't answer within
    /// [`SUBSCRIBE_TIMEOUT`].
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
        let mut joining = Joining::begin(self, &channel_ref, false);
        if !joining.is_receiving() {
            joining.keep_backlog();
            let received_since = joining.receive_channel().await;
            received_since.map_err(|_| RosterError::Disconnected)?;
        }
        joining.subscribe(None, &Recovery::default(), None);
        Ok(Some(channel_ref.channel))
    }

    /// Waits until this node receives a topic, and returns the generation since which it does, or
    /// `None` after [`SUBSCRIBE_TIMEOUT`].
    pub(crate) async fn receive_topic(&self, topic: Topic) -> Option<Generation> {
        let engine = &self.shard.engine;
        let unbroken = async {
            loop {
                let since = engine.bus().subscribe(&topic).await;
                if since == engine.deliverer().generation() {
                    return since;
                }
                // The connection to the back end was lost in between, and the bus doesn't know it
                // yet.
                tokio::task::yield_now().await;
            }
        };
        timeout(SUBSCRIBE_TIMEOUT, unbroken).await.ok()
    }

    /// Runs `read` on the channel's entry of this shard, which is created if there is none.
    fn with_channel<T>(&self, id: ChannelId, read: impl FnOnce(&mut Subscribers) -> T) -> T {
        let mut state = self.shard.state();
        let app = state.connections[self.slot].app_slot;
        let new = || Subscribers {
            app,
            ..Subscribers::default()
        };
        read(state.channels.entry(id).or_insert_with(new))
    }
}
