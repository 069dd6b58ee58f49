//! What must be true of a run, said so simply that it is right.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_cluster::Message;
use fanfare_cluster::backend::Topic;
use fanfare_engine::testing::{Seen, data};
use serde_json::Value;
use tokio::time::Instant;

use super::client::{Connection, Entry};
use crate::sim::World;

/// An event that was published on a channel, in the world's order.
pub(crate) struct SentEvent {
    pub(crate) id: String,
    pub(crate) at: Instant,
    losses: usize,
    except: Option<String>,
    is_kept: bool,
}

pub(crate) type Log = BTreeMap<String, Vec<SentEvent>>;

pub(crate) fn log(world: &World) -> Log {
    let mut log = Log::new();
    for sent in &world.sent {
        let Topic::Channel(_, channel) = &sent.topic else {
            continue;
        };
        if let Ok(Message::Event {
            position,
            except,
            data,
            ..
        }) = Message::read(&sent.message)
        {
            log.entry(channel.to_string()).or_default().push(SentEvent {
                id: data.to_owned(),
                at: sent.at,
                losses: sent.losses,
                except: except.map(|id| id.to_string()),
                is_kept: position.is_some(),
            });
        }
    }
    log
}

/// What a client knows at its end, or at the end of the run.
#[derive(Debug, Default)]
pub(crate) struct Belief {
    pub(crate) channels: BTreeMap<String, Subscribed>,
    pub(crate) is_signed_in: bool,
    pub(crate) online: BTreeSet<String>,
    pub(crate) offline: BTreeSet<String>,
    watched: BTreeSet<String>,
    /// With each new watchlist a client is sent about all users on it, also about those it knows of.
    has_signed_in_again: bool,
    closed: bool,
    /// The world has lost something while connections stayed: those who live say again who is with them, which is sent to
    /// clients who know, until their own node has noticed and closes them.
    flushed: bool,
    /// The newest event of each channel that came live, over all subscriptions.
    newest: BTreeMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct Subscribed {
    since: Instant,
    /// On cache channels: whether the kept event, or that there is none, is still to come.
    expects_kept: bool,
    /// The event that was kept, or nothing if there was none.
    replayed: Option<usize>,
    last: Option<usize>,
    pub(crate) members: BTreeSet<String>,
    pub(crate) count: Option<u64>,
}

impl Belief {
    pub(crate) fn of(connection: &Connection, log: &Log, flushed: bool) -> Self {
        let mut belief = Self {
            flushed,
            ..Self::default()
        };
        for entry in connection.entries.borrow().iter() {
            match entry {
                Entry::Unsubscribed(channel) => {
                    belief.channels.remove(*channel);
                }
                Entry::Seen(at, seen) => belief.learn(connection, log, *at, seen),
            }
        }
        belief
    }

    fn learn(&mut self, connection: &Connection, log: &Log, at: Instant, seen: &Seen) {
        assert!(!self.closed, "{seen:?} came after the close frame");
        let event = match seen {
            Seen::Event(event) => event,
            Seen::Ping => return,
            Seen::Close(_) => {
                self.closed = true;
                return;
            }
        };
        let name = event["event"].as_str().unwrap();
        let channel = event["channel"].as_str().unwrap_or_default();
        let user = || data(event)["user_id"].as_str().unwrap().to_owned();
        match name {
            "pusher_internal:subscription_succeeded" => {
                let members = serde_json::from_value(data(event)["presence"]["ids"].clone());
                let subscribed = Subscribed {
                    since: at,
                    expects_kept: channel.contains("cache-"),
                    replayed: None,
                    last: None,
                    members: members.unwrap_or_default(),
                    count: None,
                };
                let before = self.channels.insert(channel.to_owned(), subscribed);
                assert!(before.is_none(), "{channel} was subscribed to twice");
            }
            "pusher_internal:member_added" => {
                let members = &mut self.channels.get_mut(channel).unwrap().members;
                let user = user();
                assert!(
                    members.insert(user.clone()) || self.flushed,
                    "{user} was added twice to {channel}"
                );
            }
            "pusher_internal:member_removed" => {
                let members = &mut self.channels.get_mut(channel).unwrap().members;
                let user = user();
                assert!(
                    members.remove(&user) || self.flushed,
                    "{user} was removed from {channel} without being there"
                );
            }
            "pusher_internal:subscription_count" => {
                let subscribed = self.channels.get_mut(channel).unwrap();
                subscribed.count = data(event)["subscription_count"].as_u64();
            }
            "pusher_internal:watchlist_events" => self.learn_online(event),
            "pusher:signin_success" => self.sign_in(event),
            "pusher:cache_miss" => {
                let subscribed = self.channels.get_mut(channel).unwrap();
                assert!(subscribed.expects_kept, "a second answer of the cache");
                subscribed.expects_kept = false;
            }
            // Only a second subscription to the same channel is refused in these runs.
            "pusher:subscription_error" => {
                assert_eq!(data(event)["type"], "AlreadySubscribed", "{event}");
            }
            // What was asked for cannot be done, and the connection stays; or it is closed.
            "pusher:error" | "pusher:connection_established" => {}
            "e" | "client-e" => {
                let id = event["data"].as_str().unwrap();
                self.receive(connection, log, channel, id);
            }
            other => panic!("unexpected {other}"),
        }
    }

    fn sign_in(&mut self, event: &Value) {
        self.has_signed_in_again |= self.is_signed_in;
        self.is_signed_in = true;
        let user_data = data(event)["user_data"].as_str().unwrap().to_owned();
        let user: Value = serde_json::from_str(&user_data).unwrap();
        self.watched = serde_json::from_value(user["watchlist"].clone()).unwrap();
        self.online.retain(|user| self.watched.contains(user));
        self.offline.retain(|user| self.watched.contains(user));
    }

    fn learn_online(&mut self, event: &Value) {
        let events: Vec<Value> = serde_json::from_value(data(event)["events"].clone()).unwrap();
        for event in events {
            let users: Vec<String> = serde_json::from_value(event["user_ids"].clone()).unwrap();
            let online = event["name"] == "online";
            // A change may still be on its way when its user is no longer watched.
            for user in users.into_iter().filter(|user| self.watched.contains(user)) {
                let (to, from) = if online {
                    (&mut self.online, &mut self.offline)
                } else {
                    (&mut self.offline, &mut self.online)
                };
                from.remove(&user);
                assert!(
                    to.insert(user.clone()) || self.flushed || self.has_signed_in_again,
                    "{user} came online, or went offline, twice"
                );
            }
        }
    }

    fn receive(&mut self, connection: &Connection, log: &Log, channel: &str, id: &str) {
        let sent = log.get(channel).map_or(&[][..], Vec::as_slice);
        let subscribed = self.channels.get_mut(channel).expect("a subscription");
        let known: Vec<usize> = (0..sent.len()).filter(|at| sent[*at].id == id).collect();
        assert!(!known.is_empty(), "{id} on {channel} was never told");
        if subscribed.expects_kept {
            subscribed.expects_kept = false;
            let replayed = *known.last().unwrap();
            assert!(sent[replayed].is_kept, "{id} on {channel} is not kept");
            subscribed.replayed = Some(replayed);
            return;
        }
        let (from, is_next) = match (subscribed.last, subscribed.replayed) {
            (Some(last), _) => (last + 1, true),
            (None, Some(replayed)) => (replayed + 1, false),
            (None, None) => (0, false),
        };
        let at = known.into_iter().find(|at| *at >= from);
        let at = at.unwrap_or_else(|| panic!("{id} on {channel} came again, or too late"));
        for missed in from..at {
            let missed = &sent[missed];
            let is_own = missed.except.as_deref() == Some(&*connection.socket_id);
            let before = !is_next && missed.at <= subscribed.since;
            assert!(
                is_own || before && !needs_replay(subscribed, channel, missed, &sent[at]),
                "{} on {channel} was missed before {id}",
                missed.id
            );
        }
        let newest = self.newest.insert(channel.to_owned(), at);
        assert!(
            newest.is_none_or(|newest| newest < at),
            "{id} on {channel} came twice"
        );
        subscribed.last = Some(at);
    }

    /// Nothing is missing at the end.
    pub(crate) fn check_complete(&self, connection: &Connection, log: &Log) {
        for (channel, subscribed) in &self.channels {
            assert!(
                !subscribed.expects_kept,
                "no answer of the cache: {channel}"
            );
            let sent = log.get(channel).map_or(&[][..], Vec::as_slice);
            let from = match (subscribed.last, subscribed.replayed) {
                (Some(last), _) => last + 1,
                (None, Some(replayed)) => replayed + 1,
                (None, None) => 0,
            };
            for missed in &sent[from..] {
                let is_own = missed.except.as_deref() == Some(&*connection.socket_id);
                let before = subscribed.last.is_none() && missed.at <= subscribed.since;
                assert!(
                    is_own
                        || before
                            && !needs_replay(subscribed, channel, missed, sent.last().unwrap()),
                    "{} on {channel} did not come to {} of process {}",
                    missed.id,
                    connection.socket_id,
                    connection.process
                );
            }
        }
    }
}

/// Whether an event from before a subscription had to be the one that was kept, or a later one.
fn needs_replay(
    subscribed: &Subscribed,
    channel: &str,
    missed: &SentEvent,
    next: &SentEvent,
) -> bool {
    let replays = channel.contains("cache-") && missed.is_kept;
    // What was kept is lost with the world's memory.
    replays && (subscribed.replayed.is_some() || missed.losses == next.losses)
}
