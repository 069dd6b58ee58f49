//! What a node knows of a user's or a client's connections to a channel, those that ended lately included.

use fanfare_engine::{
    ClosedConnection, ConnectionFilter, ConnectionInfo, ConnectionPlace, PastSubscription,
};
use fanfare_protocol::{ChannelName, SocketId, UserId};
use serde::{Deserialize, Serialize};

use super::Ask;
use super::connections::at;
use crate::app_state::AppState;

/// Most connections of each kind that are told of.
const MAX_CONNECTIONS: usize = 20;

/// Asks a node for the trail of a user, or of one connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FindTrail {
    pub(crate) app: String,
    pub(crate) channel: String,
    #[serde(default)]
    pub(crate) user_id: Option<String>,
    #[serde(default)]
    pub(crate) socket_id: Option<String>,
}

/// What a node knows of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trail {
    /// Connections that are there.
    pub(crate) connections: Vec<Here>,
    /// Connections that ended within the last hour, newest first.
    pub(crate) closed: Vec<Gone>,
}

/// A connection that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Here {
    pub(crate) socket_id: String,
    pub(crate) connected_at: i64,
    /// Its subscription to the channel, if it has one.
    pub(crate) subscription: Option<SubscribedAt>,
    pub(crate) waiting_bytes: usize,
    pub(crate) is_fenced: bool,
    /// When it was subscribed to the channel before, the oldest first.
    #[serde(default)]
    pub(crate) earlier: Vec<Span>,
    /// Whether these are all.
    #[serde(default)]
    pub(crate) knows_earlier: bool,
}

/// A time of being subscribed to the channel that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// When it began, if that is known.
    pub(crate) since: Option<i64>,
    pub(crate) until: i64,
}

impl Span {
    /// Returns the spans of those subscriptions that are of a channel, the oldest first.
    fn of(subscriptions: &[PastSubscription], channel: &ChannelName) -> Vec<Self> {
        let of_channel = subscriptions
            .iter()
            .filter(|it| it.channel == channel.as_str());
        let spans = of_channel.map(|it| Self {
            since: it.since.map(at),
            until: at(it.until),
        });
        let mut spans: Vec<_> = spans.collect();
        spans.sort_by_key(|span| span.until);
        spans
    }
}

/// When a subscription was made, if that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubscribedAt(pub(crate) Option<i64>);

/// A connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gone {
    pub(crate) socket_id: String,
    pub(crate) closed_at: i64,
    /// The code with which the server closed it, or `None` if its client left.
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) connected_at: Option<i64>,
    /// When it was subscribed to the channel.
    #[serde(default)]
    pub(crate) subscriptions: Vec<Span>,
    /// Whether these are all.
    #[serde(default)]
    pub(crate) knows_subscriptions: bool,
}

impl Gone {
    fn of(found: ClosedConnection, channel: &ChannelName) -> Self {
        let mut subscriptions = Span::of(&found.subscriptions, channel);
        let closed_at = at(found.ago);
        let user = found.user_id.as_ref().map(UserId::as_str);
        // A signed-in user gets the events of the own channel without subscribing to it.
        if let Some(signed_in) = found.signed_in
            && channel.user().is_some()
            && channel.user() == user
        {
            subscriptions = vec![Span {
                since: Some(at(signed_in)),
                until: closed_at,
            }];
        }
        Self {
            socket_id: found.socket_id.to_string(),
            closed_at,
            code: found.code,
            reason: found.reason,
            connected_at: Some(at(found.connected)),
            subscriptions,
            knows_subscriptions: found.has_all_subscriptions,
        }
    }
}

impl Here {
    fn of(found: &ConnectionInfo, channel: &ChannelName) -> Self {
        let subscription = found.channels.iter().find(|it| it.channel == *channel);
        let mut subscription = subscription.map(|it| SubscribedAt(it.age.map(at)));
        let user = found.user_id.as_ref().map(UserId::as_str);
        // A signed-in user gets the events of the own channel without subscribing to it.
        if channel.user().is_some() && channel.user() == user {
            subscription = Some(SubscribedAt(found.signed_in.map(at)));
        }
        Self {
            socket_id: found.socket_id.to_string(),
            connected_at: at(found.age),
            subscription,
            waiting_bytes: found.waiting_bytes,
            is_fenced: found.is_fenced,
            earlier: Span::of(&found.ended_subscriptions, channel),
            knows_earlier: found.has_all_ended_subscriptions,
        }
    }
}

impl FindTrail {
    async fn find(self, state: &AppState) -> Option<Trail> {
        let app = state.engine.apps().by_id(&self.app)?;
        let channel = ChannelName::parse(&self.channel, usize::MAX).ok()?;
        let user = self.user_id.as_deref().and_then(UserId::new);
        let socket_id = self.socket_id.as_deref().map(SocketId::parse);
        let socket_id = socket_id.transpose().ok()?;
        if user.is_none() && socket_id.is_none() {
            return None;
        }
        let filter = ConnectionFilter {
            user: user.clone(),
            socket_id: self.socket_id,
            ..ConnectionFilter::default()
        };
        // Subscribed ones first, because those decide, and a user may have more than are told of.
        let subscribed = ConnectionFilter {
            channel: Some(channel.clone()),
            ..filter.clone()
        };
        let mut connections: Vec<Here> = Vec::new();
        for filter in [subscribed, filter] {
            let from = ConnectionPlace::default();
            let listed = state
                .engine
                .list_connections(&app, &filter, from, MAX_CONNECTIONS);
            for found in listed.await.connections {
                let is_wanted = socket_id.is_none_or(|socket_id| found.socket_id == socket_id);
                let here = Here::of(&found, &channel);
                if is_wanted && !connections.iter().any(|it| it.socket_id == here.socket_id) {
                    connections.push(here);
                }
            }
        }
        let closed = app.closed_connections(socket_id, user.as_ref()).into_iter();
        let gone = closed.take(MAX_CONNECTIONS);
        let gone = gone.map(|found| Gone::of(found, &channel));
        Some(Trail {
            connections,
            closed: gone.collect(),
        })
    }
}

impl Ask for FindTrail {
    type Answer = Trail;

    async fn answer(self, state: &AppState) -> Trail {
        self.find(state).await.unwrap_or_default()
    }
}
