//! Subscribe and unsubscribe, every kind of channel (spec 2.2 to 2.5).

use fanfare_protocol::client::Subscribe;
use fanfare_protocol::presence::Member;
use fanfare_protocol::signature::channel_auth_text;
use fanfare_protocol::{ChannelKind, ChannelName, Limits, ServerMessage, UserId};

use crate::cache::Offset;
use crate::connection::Subscription;
use crate::deliver::ChannelId;
use crate::roster::{Place, RosterError, View};
use crate::session::{Session, excerpt};

/// No channel can have this name, so nobody is bound to it.
const INVALID_CHANNEL: &str = "InvalidChannel";

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
            kind: INVALID_CHANNEL,
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

    fn limit(message: String) -> Self {
        Self {
            kind: "LimitReached",
            status: 403,
            message,
        }
    }
}

impl Session {
    pub(crate) async fn subscribe(&self, request: &Subscribe<'_>) {
        if self.with(|connection| connection.subscriptions.contains_key(&*request.channel)) {
            return self.complain(&format!(
                "Existing subscription to channel {}",
                request.channel
            ));
        }
        let Err(refused) = self.try_subscribe(request).await else {
            return;
        };
        self.complain(&refused.message);
        // Hosted Pusher says no more than that; this reaches those who bound to the channel.
        if refused.kind != INVALID_CHANNEL {
            self.send(&ServerMessage::SubscriptionError {
                channel: &request.channel,
                kind: refused.kind,
                message: excerpt(&refused.message),
                status: refused.status,
            });
        }
    }

    async fn try_subscribe(&self, request: &Subscribe<'_>) -> Result<(), Refused> {
        let app = self.with(|connection| connection.app.clone());
        let limits = &app.settings().limits;
        let channel = ChannelName::parse(&request.channel, limits.channel_name)
            .map_err(|error| Refused::channel(error.to_string()))?;
        self.check_room()?;
        match channel.kind() {
            ChannelKind::Public => self.join(&Place { app, channel }),
            ChannelKind::Private => {
                self.authorize(request)?;
                self.join(&Place { app, channel });
            }
            ChannelKind::Presence => {
                self.authorize(request)?;
                let member = self.member(request, limits)?;
                self.join_presence(Place { app, channel }, member, limits.presence_members)
                    .await?;
            }
            ChannelKind::ServerToUser => {
                let user = self.user().map(|user| user.user_id);
                if user.as_ref().map(UserId::as_str) != channel.user() {
                    return Err(Refused::auth(format!(
                        "{channel} is only for the user it names, signed in"
                    )));
                }
                self.join(&Place { app, channel });
            }
        }
        Ok(())
    }

    fn check_room(&self) -> Result<(), Refused> {
        let max = self.shard.engine.options().max_subscriptions;
        if self.with(|connection| connection.subscriptions.len()) < max {
            return Ok(());
        }
        Err(Refused::limit(format!(
            "This connection is subscribed to {max} channels, the most it may be (connections.max_subscriptions)"
        )))
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

    fn join(&self, place: &Place) {
        let id = self
            .shard
            .engine
            .deliverer()
            .attach(place, self.shard.index);
        self.send(&ServerMessage::SubscriptionSucceeded {
            channel: place.channel.as_str(),
        });
        self.insert(place, id, None);
    }

    /// The channel's events reach this shard before the roster is asked, so no edge falls between view and events.
    async fn join_presence(&self, place: Place, member: Member, max: usize) -> Result<(), Refused> {
        let engine = &self.shard.engine;
        let id = engine.deliverer().attach(&place, self.shard.index);
        self.shard.state().channels.entry(id).or_default().joining += 1;
        let user = member.user_id.clone();
        let joined = engine.roster().join(&place, member, max).await;
        let joined = match joined {
            Ok(view) => Ok(self.newest_view(&place, id, view).await),
            Err(error @ RosterError::Full { .. }) => Err(error),
        };
        self.with_channel(id, |subscribers| subscribers.joining -= 1);
        match joined {
            Ok(view) => {
                let channel = place.channel.as_str();
                self.send(&ServerMessage::PresenceSucceeded {
                    channel,
                    members: &view.members,
                });
                self.insert(&place, id, Some((user, view.position)));
                Ok(())
            }
            Err(error) => {
                let last = self.shard.state().vacate(id);
                engine.deliverer().detach(&place, self.shard.index, last);
                let message = format!("Cannot subscribe to {}: {error}", place.channel);
                Err(Refused::limit(message))
            }
        }
    }

    /// Edges that came by while the roster was asked are in no view yet: ask again until the view has them.
    async fn newest_view(&self, place: &Place, id: ChannelId, mut view: View) -> View {
        while self.with_channel(id, |subscribers| subscribers.last_edge) > view.position {
            view = self.shard.engine.roster().view(place).await;
        }
        view
    }

    fn with_channel<T>(
        &self,
        id: ChannelId,
        read: impl FnOnce(&mut crate::shard::Subscribers) -> T,
    ) -> T {
        read(self.shard.state().channels.entry(id).or_default())
    }

    /// The subscription stands from here on; on a cache channel the last event comes before any live one.
    fn insert(&self, place: &Place, id: ChannelId, member: Option<(UserId, u64)>) {
        let replayed = if place.channel.is_cached() {
            self.replay(place)
        } else {
            Offset::default()
        };
        let index = self.with_channel(id, |subscribers| {
            subscribers.replayed = subscribers.replayed.max(replayed);
            subscribers.slots.push(self.slot);
            subscribers.slots.len() - 1
        });
        let subscription = Subscription {
            channel: id,
            index,
            member,
            replayed,
        };
        self.with(|connection| {
            connection
                .subscriptions
                .insert(place.channel.clone(), subscription)
        });
    }

    fn replay(&self, place: &Place) -> Offset {
        let channel = place.channel.as_str();
        let (event, offset) = place.app.cache.recall(channel);
        self.send(&match &event {
            Some(event) => ServerMessage::Event {
                name: &event.name,
                channel,
                data: &event.data,
                user_id: None,
            },
            None => ServerMessage::CacheMiss { channel },
        });
        offset
    }

    pub(crate) async fn unsubscribe(&self, channel: &str) {
        if !self.leave(channel).await {
            self.complain(&format!("No current subscription to channel {channel}"));
        }
    }

    /// Leaves a channel; says whether there was anything to leave.
    pub(crate) async fn leave(&self, channel: &str) -> bool {
        let left = self.with(|connection| {
            let entry = connection.subscriptions.remove_entry(channel);
            entry.map(|(channel, subscription)| {
                (
                    Place {
                        app: connection.app.clone(),
                        channel,
                    },
                    subscription,
                )
            })
        });
        let Some((place, subscription)) = left else {
            return false;
        };
        let last = self.shard.state().remove(&place.channel, &subscription);
        self.shard
            .engine
            .deliverer()
            .detach(&place, self.shard.index, last);
        if let Some((user, _)) = &subscription.member {
            self.shard.engine.roster().leave(&place, user).await;
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
        subscribers.slots.swap_remove(subscription.index);
        if let Some(moved) = subscribers.slots.get(subscription.index)
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
            .is_none_or(|s| s.slots.is_empty() && s.joining == 0);
        if vacated {
            self.channels.remove(&id);
        }
        vacated
    }
}
