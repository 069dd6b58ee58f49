//! What can happen in an app that an operator may watch.

use std::net::IpAddr;
use std::str::FromStr;

use fanfare_protocol::SocketId;
use serde::{Deserialize, Serialize};

/// A kind of live event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveKind {
    /// A connection came.
    Connected,
    /// A connection went.
    Disconnected,
    /// A connection signed in as a user.
    SignedIn,
    /// A connection subscribed to a channel.
    Subscribed,
    /// A connection left a channel.
    Unsubscribed,
    /// A client's event was accepted.
    ClientEvent,
    /// A backend's event was accepted.
    Publish,
    /// A client subscribed to a cache channel that keeps no event.
    CacheMiss,
    /// A channel got its first subscription over all nodes.
    Occupied,
    /// A channel lost its last subscription over all nodes.
    Vacated,
    /// A user came to a presence channel.
    MemberAdded,
    /// A user left a presence channel.
    MemberRemoved,
    /// A webhook's receiver was asked to take a delivery.
    Webhook,
    /// A connection, subscription or request was refused.
    Refused,
}

impl LiveKind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::Connected,
        Self::Disconnected,
        Self::SignedIn,
        Self::Subscribed,
        Self::Unsubscribed,
        Self::ClientEvent,
        Self::Publish,
        Self::CacheMiss,
        Self::Occupied,
        Self::Vacated,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::Webhook,
        Self::Refused,
    ];

    /// Returns the name of the kind, as viewers get it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::SignedIn => "signed_in",
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
            Self::ClientEvent => "client_event",
            Self::Publish => "publish",
            Self::CacheMiss => "cache_miss",
            Self::Occupied => "occupied",
            Self::Vacated => "vacated",
            Self::MemberAdded => "member_added",
            Self::MemberRemoved => "member_removed",
            Self::Webhook => "webhook",
            Self::Refused => "refused",
        }
    }

    /// Returns a number with one bit set, another one for each kind.
    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl FromStr for LiveKind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == name).ok_or(())
    }
}

/// A live event, borrowed from where it happens: nothing is copied until it is known that a viewer
/// wants it.
#[derive(Debug, Clone, Copy)]
pub struct LiveEvent<'a> {
    /// What happened.
    pub kind: LiveKind,
    /// The channel.
    pub channel: Option<&'a str>,
    /// The name of the published event, or of the events that a webhook's delivery tells.
    pub event: Option<&'a str>,
    /// The event's data.
    pub data: Option<&'a str>,
    /// The connection.
    pub socket_id: Option<SocketId>,
    /// The user.
    pub user_id: Option<&'a str>,
    /// The app key.
    pub key: Option<&'a str>,
    /// The client's network address.
    pub address: Option<IpAddr>,
    /// The connection's transport.
    pub transport: Option<&'static str>,
    /// The client library.
    pub client: Option<&'a str>,
    /// The channel's subscribed connections on this node.
    pub subscribers: Option<usize>,
    /// What was refused, as the log has it.
    pub refusal: Option<&'a str>,
    /// Why, in words.
    pub reason: Option<&'a str>,
    /// The close code.
    pub code: Option<u16>,
    /// The webhook.
    pub webhook_id: Option<&'a str>,
    /// The sequence number of the webhook's delivery.
    pub delivery: Option<i64>,
    /// The HTTP status of the receiver's answer.
    pub status: Option<u16>,
    /// Milliseconds until the receiver's answer.
    pub took_ms: Option<u64>,
}

impl LiveEvent<'_> {
    /// Returns an event of which nothing is known but its kind.
    #[must_use]
    pub fn new(kind: LiveKind) -> Self {
        Self {
            kind,
            channel: None,
            event: None,
            data: None,
            socket_id: None,
            user_id: None,
            key: None,
            address: None,
            transport: None,
            client: None,
            subscribers: None,
            refusal: None,
            reason: None,
            code: None,
            webhook_id: None,
            delivery: None,
            status: None,
            took_ms: None,
        }
    }

    /// Returns whether it is kept even if nobody watches: people look for the reason afterwards.
    pub(super) fn is_always_kept(&self) -> bool {
        match self.kind {
            LiveKind::Refused => true,
            LiveKind::Webhook => self.reason.is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_and_a_bit_of_its_own() {
        let mut bits = 0;
        for kind in LiveKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(
                serde_json::to_string(&kind).expect("JSON"),
                format!("{:?}", kind.as_str())
            );
            assert_eq!(bits & kind.bit(), 0);
            bits |= kind.bit();
        }
        assert!("other".parse::<LiveKind>().is_err());
    }
}
