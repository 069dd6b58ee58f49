//! What webhooks tell of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::channel::ChannelKind;
use crate::channel_pattern::ChannelPattern;

/// The kinds of channels that webhooks tell of.
const KINDS: [ChannelKind; 4] = [
    ChannelKind::Public,
    ChannelKind::Private,
    ChannelKind::Encrypted,
    ChannelKind::Presence,
];

/// What a webhook tells of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WebhookEvent {
    /// A channel has its first subscriber.
    ChannelOccupied,
    /// A channel has lost its last subscriber.
    ChannelVacated,
    /// A user has come to a presence channel.
    MemberAdded,
    /// A user has left a presence channel.
    MemberRemoved,
    /// A client has sent an event.
    ClientEvent,
    /// A client has subscribed to a cache channel that keeps no event.
    CacheMiss,
    /// The number of a channel's subscribers has changed.
    SubscriptionCount,
}

impl WebhookEvent {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ChannelOccupied,
        Self::ChannelVacated,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::ClientEvent,
        Self::CacheMiss,
        Self::SubscriptionCount,
    ];

    /// Returns its name in requests and settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChannelOccupied => "channel_occupied",
            Self::ChannelVacated => "channel_vacated",
            Self::MemberAdded => "member_added",
            Self::MemberRemoved => "member_removed",
            Self::ClientEvent => "client_event",
            Self::CacheMiss => "cache_miss",
            Self::SubscriptionCount => "subscription_count",
        }
    }

    /// Returns whether it can happen on a channel that matches a pattern.
    #[must_use]
    pub fn can_happen_on(self, pattern: &ChannelPattern) -> bool {
        let mut kinds = KINDS.into_iter();
        match self {
            Self::ChannelOccupied | Self::ChannelVacated => {
                kinds.any(|kind| pattern.can_match_kind(kind))
            }
            Self::MemberAdded | Self::MemberRemoved => {
                kinds.any(|kind| kind.has_members() && pattern.can_match_kind(kind))
            }
            Self::ClientEvent => {
                kinds.any(|kind| kind.may_take_client_events() && pattern.can_match_kind(kind))
            }
            Self::CacheMiss => kinds.any(|kind| pattern.can_match_prefix(&kind.cache_prefix())),
            Self::SubscriptionCount => {
                kinds.any(|kind| kind.is_counted() && pattern.can_match_kind(kind))
            }
        }
    }
}

impl fmt::Display for WebhookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for WebhookEvent {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let found = Self::ALL.into_iter().find(|event| event.as_str() == name);
        found.ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for event in WebhookEvent::ALL {
            assert_eq!(event.as_str().parse(), Ok(event));
            let json = serde_json::to_string(&event).expect("a name");
            assert_eq!(json, format!("\"{event}\""));
        }
        assert_eq!("channel_ocupied".parse::<WebhookEvent>(), Err(()));
    }

    #[test]
    fn what_can_never_happen_on_a_pattern_is_known() {
        let can = |event: WebhookEvent, pattern: &str| {
            event.can_happen_on(&ChannelPattern::parse(pattern).expect(pattern))
        };
        for event in WebhookEvent::ALL {
            assert!(can(event, "*"), "{event}");
        }
        for (event, possible, impossible) in [
            (WebhookEvent::ChannelOccupied, "room", "#server-to-user-*"),
            (WebhookEvent::MemberAdded, "presence-a*", "private-*"),
            (WebhookEvent::MemberRemoved, "p*", "room"),
            (WebhookEvent::ClientEvent, "news", "#server-to-user-*"),
            (WebhookEvent::CacheMiss, "private-*", "private-room-*"),
            (WebhookEvent::CacheMiss, "cache-x", "news-*"),
            (WebhookEvent::SubscriptionCount, "private-*", "presence-*"),
            (
                WebhookEvent::SubscriptionCount,
                "news",
                "private-encrypted-*",
            ),
        ] {
            assert!(can(event, possible), "{event} {possible}");
            assert!(!can(event, impossible), "{event} {impossible}");
        }
    }
}
