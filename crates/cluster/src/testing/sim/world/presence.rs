//! What nodes report to the world.

use std::collections::BTreeMap;
use std::fmt;

use fanfare_engine::{Online, PresenceSnapshot, TransitionKind};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, UserId};

use super::super::trace::in_words;
use super::{InApp, Turn};
use crate::Message;
use crate::backend::{
    BackendError, Change, Counted, Joined, LogRules, Moment, NodeName, Reply, Report, Topic,
};

/// The answer to a report, on its way to the report's reply.
pub(in crate::testing::sim) struct Replied {
    words: String,
    reply: Box<dyn FnOnce() + Send>,
}

impl Replied {
    fn new<T: fmt::Debug + Send + 'static>(reply: Reply<T>, answer: T) -> Self {
        Self {
            words: in_words(&answer),
            reply: Box::new(move || reply.send(answer)),
        }
    }

    /// Hands the answer to the report's reply.
    pub(in crate::testing::sim) fn reply(self) {
        (self.reply)();
    }
}

impl fmt::Debug for Replied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Turn<'_> {
    pub(in crate::testing::sim) fn report(
        &mut self,
        node: &NodeName,
        deadline: Moment,
        report: Report,
    ) -> Result<Replied, BackendError> {
        self.check_deadline(deadline)?;
        let Report { app, change } = report;
        self.in_app(&app, |app| {
            if !app.app.enlisted.contains(&**node) {
                return Err(BackendError::Forgotten);
            }
            Ok(app.change(node, change))
        })
    }

    pub(in crate::testing::sim) fn snapshot(
        &mut self,
        app: &AppId,
        channel: &str,
    ) -> PresenceSnapshot {
        self.in_app(app, |app| app.snapshot(channel))
    }

    pub(in crate::testing::sim) fn user_counts(
        &mut self,
        app: &AppId,
        channels: &[String],
    ) -> Vec<usize> {
        self.in_app(app, |app| {
            let users = |channel| app.app.seats.get(channel).map_or(0, BTreeMap::len);
            channels.iter().map(users).collect()
        })
    }

    pub(in crate::testing::sim) fn remote_subscriptions(
        &mut self,
        app: &AppId,
        node: &str,
        channel: &str,
    ) -> usize {
        self.in_app(app, |app| {
            let all = app.app.counts.get(channel).copied().unwrap_or(0);
            all - app.count_of(node, channel)
        })
    }

    pub(in crate::testing::sim) fn all_remote_subscriptions(
        &mut self,
        app: &AppId,
        node: &str,
        prefix: &str,
    ) -> Vec<(String, usize)> {
        self.in_app(app, |app| {
            let counts = app.app.counts.iter();
            let mut remote: BTreeMap<_, _> = counts
                .map(|(name, all)| (name.clone(), all - app.count_of(node, name)))
                .filter(|(_, count)| *count > 0)
                .collect();
            for name in app.app.seats.keys() {
                remote.entry(name.clone()).or_default();
            }
            remote.retain(|name, _| name.starts_with(prefix));
            remote.into_iter().collect()
        })
    }

    pub(in crate::testing::sim) fn online(&mut self, app: &AppId, users: &[UserId]) -> Online {
        self.in_app(app, |app| Online {
            position: app.app.position,
            online: users
                .iter()
                .map(|user| app.app.online.contains_key(user.as_str()))
                .collect(),
        })
    }

    pub(in crate::testing::sim) fn remote_connections(&mut self, app: &AppId, node: &str) -> usize {
        self.in_app(app, |app| {
            let counts = app.app.connections.iter();
            let remote = counts.filter(|(name, _)| name.as_str() != node);
            remote.map(|(_, count)| count).sum()
        })
    }

    pub(in crate::testing::sim) fn connections_by_node(
        &mut self,
        app: &AppId,
    ) -> Vec<(String, usize)> {
        self.in_app(app, |app| {
            let connections = app.app.connections.iter();
            connections
                .map(|(node, count)| (node.clone(), *count))
                .collect()
        })
    }
}

impl InApp<'_> {
    fn change(&mut self, node: &str, change: Change) -> Replied {
        match change {
            Change::Join {
                channel,
                member,
                max,
                wants_members,
                log,
                reply,
            } => {
                let joined = self.join(node, &channel, &member, max, wants_members, log);
                Replied::new(reply, joined)
            }
            Change::Leave {
                channel,
                user,
                log,
                reply,
            } => {
                let removed = self.unseat(node, &channel, user.as_str(), log);
                Replied::new(reply, removed)
            }
            Change::Subscriptions {
                channel,
                count,
                announce,
                visited,
                log,
                reply,
            } => {
                let counted = self.recount(node, &channel, count, log);
                if visited
                    && counted
                        == (Counted {
                            before: 0,
                            after: 0,
                        })
                    && log.channels
                {
                    self.note_change(&channel, "occupied");
                    self.note_change(&channel, "vacated");
                    self.log_transition(TransitionKind::Occupied, &channel, None, log);
                    self.log_transition(TransitionKind::Vacated, &channel, None, log);
                }
                if announce && counted.after > 0 {
                    self.publish_on_channel(&channel, Message::Count(counted.after).write());
                }
                if counted.before == 0 && counted.after > 0 {
                    self.note_change(&channel, "occupied");
                }
                Replied::new(reply, counted)
            }
            Change::SignIn { user, reply } => Replied::new(reply, self.sign_in(node, &user)),
            Change::SignOut { user, reply } => {
                Replied::new(reply, self.sign_out(node, user.as_str()))
            }
            Change::Connections { count } => {
                let connections = &mut self.app.connections;
                match count {
                    0 => connections.remove(node),
                    count => connections.insert(node.to_owned(), count),
                };
                Replied::new(Reply::ignore(), ())
            }
            Change::Admit { change, max, reply } => {
                Replied::new(reply, self.admit(node, max, change))
            }
        }
    }

    fn admit(&mut self, node: &str, max: usize, change: i64) -> bool {
        let connections = &mut self.app.connections;
        let has = connections.get(node).copied().unwrap_or(0);
        match has.saturating_add_signed(isize::try_from(change).unwrap()) {
            0 => connections.remove(node),
            has => connections.insert(node.to_owned(), has),
        };
        let has_room = connections.values().sum::<usize>() < max;
        if has_room {
            *connections.entry(node.to_owned()).or_default() += 1;
        }
        has_room
    }

    fn join(
        &mut self,
        node: &str,
        channel: &str,
        member: &Member,
        max: usize,
        wants_members: bool,
        log: LogRules,
    ) -> Joined {
        let user = member.user_id.as_str();
        let seats = self.app.seats.entry(channel.to_owned()).or_default();
        if !seats.contains_key(user) && seats.len() >= max {
            if seats.is_empty() {
                self.app.seats.remove(channel);
            }
            return Joined::Full;
        }
        let info = member.user_info.as_deref().unwrap_or_default();
        let members = self.app.members.entry(channel.to_owned()).or_default();
        members.insert(user.to_owned(), info.to_owned());
        let key = (node.to_owned(), channel.to_owned());
        let here = self.app.here.entry(key).or_default();
        let mut added = false;
        if here.insert(user.to_owned()) {
            let nodes = seats.entry(user.to_owned()).or_default();
            *nodes += 1;
            added = *nodes == 1;
        }
        if added {
            if self.app.seats[channel].len() == 1 && !self.app.counts.contains_key(channel) {
                self.log_transition(TransitionKind::Occupied, channel, None, log);
            }
            self.log_transition(TransitionKind::Added, channel, Some(user), log);
            self.note_change(channel, format!("added {user}"));
            let position = self.next_position();
            let added = Message::Added {
                position,
                user_id: member.user_id.clone(),
                user_info: member.user_info.as_deref(),
            };
            self.publish_on_channel(channel, added.write());
        }
        let mut snapshot = self.snapshot(channel);
        if !wants_members {
            snapshot.members.clear();
        }
        Joined::Member { added, snapshot }
    }

    fn snapshot(&self, channel: &str) -> PresenceSnapshot {
        let members = self.app.members.get(channel).into_iter().flatten();
        let member = |(user, info): (&String, &String)| Member {
            user_id: UserId::new(user).unwrap(),
            user_info: (!info.is_empty()).then(|| info.as_str().into()),
        };
        PresenceSnapshot {
            position: self.app.position,
            members: members.map(member).collect(),
        }
    }

    pub(super) fn unseat(&mut self, node: &str, channel: &str, user: &str, log: LogRules) -> bool {
        let key = (node.to_owned(), channel.to_owned());
        let Some(here) = self.app.here.get_mut(&key) else {
            return false;
        };
        if !here.remove(user) {
            return false;
        }
        if here.is_empty() {
            self.app.here.remove(&key);
        }
        let seats = self.app.seats.get_mut(channel).unwrap();
        let nodes = seats.get_mut(user).unwrap();
        *nodes -= 1;
        if *nodes > 0 {
            return false;
        }
        seats.remove(user);
        if seats.is_empty() {
            self.app.seats.remove(channel);
        }
        let members = self.app.members.get_mut(channel).unwrap();
        members.remove(user);
        if members.is_empty() {
            self.app.members.remove(channel);
        }
        self.log_transition(TransitionKind::Removed, channel, Some(user), log);
        if !self.is_occupied(channel) {
            self.log_transition(TransitionKind::Vacated, channel, None, log);
        }
        self.note_change(channel, format!("removed {user}"));
        let position = self.next_position();
        let user_id = UserId::new(user).unwrap();
        let removed = Message::Removed { position, user_id };
        self.publish_on_channel(channel, removed.write());
        true
    }

    fn count_of(&self, node: &str, channel: &str) -> usize {
        let counts = self.app.counts_of.get(node);
        counts
            .and_then(|counts| counts.get(channel).copied())
            .unwrap_or(0)
    }

    pub(super) fn recount(
        &mut self,
        node: &str,
        channel: &str,
        count: usize,
        log: LogRules,
    ) -> Counted {
        let before = self.app.counts.get(channel).copied().unwrap_or(0);
        let after = before + count - self.count_of(node, channel);
        let mine = self.app.counts_of.entry(node.to_owned()).or_default();
        set(mine, channel, count);
        if mine.is_empty() {
            self.app.counts_of.remove(node);
        }
        set(&mut self.app.counts, channel, after);
        let had_members = self.app.seats.contains_key(channel);
        let is_known = had_members && self.is_occupied_logged(channel);
        if before == 0 && after > 0 && !is_known {
            self.log_transition(TransitionKind::Occupied, channel, None, log);
        }
        if before > 0 && !self.is_occupied(channel) {
            self.log_transition(TransitionKind::Vacated, channel, None, log);
        }
        if before > 0 && after == 0 {
            self.note_change(channel, "vacated");
        }
        Counted { before, after }
    }

    fn sign_in(&mut self, node: &str, user: &UserId) -> bool {
        let here = self.app.online_of.entry(node.to_owned()).or_default();
        if !here.insert(user.to_string()) {
            return false;
        }
        let nodes = self.app.online.entry(user.to_string()).or_default();
        *nodes += 1;
        if *nodes > 1 {
            return false;
        }
        self.publish_online(user.as_str(), true);
        true
    }

    pub(super) fn sign_out(&mut self, node: &str, user: &str) -> bool {
        let Some(here) = self.app.online_of.get_mut(node) else {
            return false;
        };
        if !here.remove(user) {
            return false;
        }
        if here.is_empty() {
            self.app.online_of.remove(node);
        }
        let nodes = self.app.online.get_mut(user).unwrap();
        *nodes -= 1;
        if *nodes > 0 {
            return false;
        }
        self.app.online.remove(user);
        self.publish_online(user, false);
        true
    }

    fn publish_online(&mut self, user: &str, online: bool) {
        let message = Message::Online {
            position: self.next_position(),
            user_id: UserId::new(user).unwrap(),
            online,
        };
        self.messages
            .push((Topic::Users(self.id.clone()), message.write()));
    }
}

fn set(counts: &mut BTreeMap<String, usize>, channel: &str, count: usize) {
    if count > 0 {
        counts.insert(channel.to_owned(), count);
    } else {
        counts.remove(channel);
    }
}
