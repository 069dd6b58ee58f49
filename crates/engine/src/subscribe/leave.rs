//! Unsubscribing, and undoing the parts of a subscription.

use fanfare_protocol::{ChannelName, UserId};

use crate::bus::Topic;
use crate::channel_ref::ChannelRef;
use crate::lifecycle::{LifecycleKind, Note};
use crate::live::{LiveEvent, LiveKind};
use crate::route::ChannelId;
use crate::session::Session;
use crate::shard::State;
use crate::subscriptions::Subscription;

impl Session {
    /// Handles a `pusher:unsubscribe`; a channel without a subscription gets an error.
    pub(crate) fn unsubscribe(&self, channel: &str) {
        let since = self.with(|connection| {
            let subscription = connection.subscriptions.get(channel);
            subscription.and_then(Subscription::since)
        });
        if self.with(|connection| connection.is_implicit(channel)) || !self.leave(channel) {
            self.send_error(&format!("No current subscription to channel {channel}"));
            return;
        }
        self.note_lifecycle(&Note {
            channel: Some(channel),
            since,
            ..Note::of(LifecycleKind::Unsubscribed)
        });
        if self.is_watched() {
            self.show_live(LiveEvent {
                channel: Some(channel),
                ..LiveEvent::new(LiveKind::Unsubscribed)
            });
        }
    }

    /// Leaves a channel, and returns whether the connection was on it.
    pub(crate) fn leave(&self, channel: &str) -> bool {
        let left = self.with(|connection| {
            if connection.is_implicit(channel)
                && let Some(user) = &mut connection.user
            {
                user.implicit_channel = None;
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

    /// Ends the subscription that came with the sign-in, because the client subscribes by itself
    /// now.
    pub(super) fn leave_implicit(&self, channel: &ChannelName) {
        if self.with(|connection| connection.is_implicit(channel.as_str())) {
            self.leave(channel.as_str());
        }
    }

    /// Removes a connection of a user from a presence channel. The roster gets it if it was the
    /// user's last one here.
    pub(super) fn leave_presence(&self, channel_ref: &ChannelRef, user: &UserId) {
        let roster = self.shard.engine.roster();
        let presence = &channel_ref.app.local_presence;
        presence.leave(&channel_ref.channel, user, || {
            roster.leave(channel_ref, user);
        });
    }

    /// Detaches the shard from a channel. The bus ends its subscription after the node's last subscriber.
    pub(super) fn leave_channel(
        &self,
        channel_ref: &ChannelRef,
        wants_positions: bool,
        last: bool,
    ) {
        let engine = &self.shard.engine;
        let index = self.shard.index;
        if engine
            .deliverer()
            .detach(channel_ref, index, wants_positions, last)
        {
            engine
                .bus()
                .unsubscribe(&Topic::Channel(channel_ref.clone()));
        }
    }
}

impl State {
    /// Removes a subscription from its channel's list, and returns whether it was the shard's last
    /// one.
    fn remove(&mut self, channel: &ChannelName, subscription: &Subscription) -> bool {
        let Some(subscribers) = self.channels.get_mut(&subscription.channel) else {
            return true;
        };
        let slots = subscribers.list(subscription.wants_positions);
        // The last slot takes the free place, so leaving costs the same on a channel of any size.
        let index = subscription.index as usize;
        slots.swap_remove(index);
        if let Some(moved) = slots.get(index)
            && let Some(moved) = self.connections[*moved]
                .subscriptions
                .get_mut(channel.as_str())
        {
            moved.index = subscription.index;
        }
        self.vacate(subscription.channel)
    }

    /// Removes a channel that has no connection left on this shard, and returns whether that was
    /// so.
    pub(super) fn vacate(&mut self, id: ChannelId) -> bool {
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
