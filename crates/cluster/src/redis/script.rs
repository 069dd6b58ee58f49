//! The Lua scripts: one for each step, so that each is atomic and takes one round trip.

use redis::{Cmd, cmd};

use fanfare_engine::HistoryQuery;

use super::keys::Keys;
use crate::backend::{HistoryRequest, Step};

/// Scripts that write nothing.
const READS: &[&str] = &[
    "presence_snapshot",
    "user_counts",
    "remote_subscriptions",
    "all_remote_subscriptions",
    "online",
    "cached",
    "apps",
    "census",
    "enlisted",
    "connections_by_node",
];

/// A script, and the hash by which Redis knows it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) text: String,
    hash: String,
}

impl Script {
    /// Puts the flags and the prelude before a script. The first line declares what the script
    /// does, so that Redis refuses all of it while it accepts no writes (because its memory is
    /// full, or a master has too few replicas), instead of stopping halfway.
    fn new(name: &str, body: &str) -> Self {
        let flags = if READS.contains(&name) {
            " flags=no-writes"
        } else {
            ""
        };
        let text = format!("#!lua{flags}\n{}\n{body}", include_str!("prelude.lua"));
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    fn call(&self, tag: &str) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.hash).arg(1).arg(tag);
        call
    }
}

macro_rules! scripts {
    ($($name:ident)*) => {
        /// All scripts.
        #[derive(Debug)]
        pub(crate) struct Scripts { $($name: Script,)* }

        impl Scripts {
            pub(crate) fn new() -> Self {
                Self { $($name: Script::new(stringify!($name), include_str!(concat!(stringify!($name), ".lua"))),)* }
            }

            pub(crate) fn all(&self) -> Vec<&Script> {
                vec![$(&self.$name,)*]
            }
        }
    };
}

scripts!(publish join leave presence_snapshot user_counts count remote_subscriptions all_remote_subscriptions sign_in sign_out online admit connections remote_connections cached history heartbeat
    broadcast census register apps claim reap forget enlist enlisted connections_by_node);

impl Scripts {
    /// Returns the key or topic that decides which master takes a step.
    pub(crate) fn key(&self, keys: &Keys, step: &Step) -> String {
        match (step.app(), step) {
            (Some(app), _) => keys.of_app(app),
            (None, Step::Subscribe { topic } | Step::Unsubscribe { topic }) => keys.topic(topic),
            (None, _) => keys.of_installation(),
        }
    }

    /// Returns a step as a command; `run` names the run of the master that takes it.
    pub(crate) fn command(&self, keys: &Keys, step: &Step, run: &str) -> Cmd {
        let mut command = match self.script(step) {
            Some(script) => script.call(&self.key(keys, step)),
            None if matches!(step, Step::Subscribe { .. }) => cmd("SSUBSCRIBE"),
            None => cmd("SUNSUBSCRIBE"),
        };
        put_arguments(&mut command, keys, step, run);
        command
    }

    /// Returns the command that reads a history; `run` names the run of the master that has it.
    pub(crate) fn history(&self, keys: &Keys, request: &HistoryRequest, run: &str) -> Cmd {
        let (kind, position, count) = match &request.query {
            HistoryQuery::Last(count) => ("last", None, *count),
            HistoryQuery::After(position) => ("after", Some(position), 0),
            HistoryQuery::Forward(position, count) => ("forward", position.as_ref(), *count),
            HistoryQuery::Backward(position, count) => ("backward", position.as_ref(), *count),
        };
        let epoch = position.map_or("", |position| &*position.epoch);
        let offset = position.map_or(0, |position| position.offset);
        let mut command = self.history.call(&keys.of_app(&request.app));
        command.arg(&request.channel).arg(kind).arg(epoch);
        command.arg(offset).arg(count).arg(fresh_epoch()).arg(run);
        command.arg(request.rules).arg(request.room);
        command
    }

    fn script(&self, step: &Step) -> Option<&Script> {
        Some(match step {
            Step::Publish { .. } => &self.publish,
            Step::Join { .. } => &self.join,
            Step::Leave { .. } => &self.leave,
            Step::PresenceSnapshot { .. } => &self.presence_snapshot,
            Step::UserCounts { .. } => &self.user_counts,
            Step::Count { .. } => &self.count,
            Step::RemoteSubscriptions { .. } => &self.remote_subscriptions,
            Step::AllRemoteSubscriptions { .. } => &self.all_remote_subscriptions,
            Step::SignIn { .. } => &self.sign_in,
            Step::SignOut { .. } => &self.sign_out,
            Step::Online { .. } => &self.online,
            Step::Admit { .. } => &self.admit,
            Step::Connections { .. } => &self.connections,
            Step::RemoteConnections { .. } => &self.remote_connections,
            Step::Cached { .. } => &self.cached,
            Step::Reap { .. } => &self.reap,
            Step::Heartbeat { .. } => &self.heartbeat,
            Step::Census => &self.census,
            Step::Broadcast { .. } => &self.broadcast,
            Step::Register { .. } => &self.register,
            Step::Apps { .. } => &self.apps,
            Step::Claim { .. } => &self.claim,
            Step::Forget { .. } => &self.forget,
            Step::Enlist { .. } => &self.enlist,
            Step::Enlisted { .. } => &self.enlisted,
            Step::ConnectionsByNode { .. } => &self.connections_by_node,
            Step::Subscribe { .. } | Step::Unsubscribe { .. } => return None,
        })
    }
}

/// Appends a step's arguments in the order in which its script reads them. `run` names the run of
/// the Redis that takes it.
#[expect(clippy::too_many_lines, reason = "a table: one entry a step")]
fn put_arguments(command: &mut Cmd, keys: &Keys, step: &Step, run: &str) {
    match step {
        Step::Publish {
            publications,
            once,
            deadline,
            ..
        } => {
            let (key, digest) = once
                .as_ref()
                .map_or(("", ""), |once| (&*once.key, &*once.digest));
            // Most publishes go to channels without a history, which need no epoch.
            let records = publications
                .iter()
                .any(|publication| publication.history.is_some());
            let epoch = if records {
                fresh_epoch()
            } else {
                String::new()
            };
            command.arg(deadline).arg(key).arg(digest);
            command.arg(epoch).arg(run);
            for publication in publications {
                let (ttl, most) = publication
                    .keep
                    .map_or((0, 0), |keep| (millis(keep.ttl), keep.max_bytes));
                command.arg(&publication.channel).arg(ttl).arg(most);
                let (size, ttl, rules) = publication.history.map_or((0, 0, 0), |history| {
                    (history.size, millis(history.ttl), history.rules)
                });
                command.arg(size).arg(ttl).arg(rules);
                command.arg(&publication.message[..]);
            }
        }
        Step::Join {
            node,
            channel,
            member,
            max,
            view,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(channel);
            command.arg(member.user_id.as_str());
            command.arg(member.user_info.as_deref().unwrap_or_default());
            command.arg(max).arg(u8::from(*view));
        }
        Step::Leave {
            node,
            channel,
            user,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(channel);
            command.arg(user.as_str());
        }
        Step::PresenceSnapshot { channel, .. } | Step::Cached { channel, .. } => {
            command.arg(channel);
        }
        Step::UserCounts { channels, .. } => {
            command.arg(channels);
        }
        Step::Count {
            node,
            channel,
            count,
            announce,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(channel);
            command.arg(count).arg(u8::from(*announce));
        }
        Step::RemoteSubscriptions { node, channel, .. } => {
            command.arg(&**node).arg(channel);
        }
        Step::AllRemoteSubscriptions { node, prefix, .. } => {
            command.arg(&**node).arg(prefix);
        }
        Step::SignIn {
            node,
            user,
            deadline,
            ..
        }
        | Step::SignOut {
            node,
            user,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(user.as_str());
        }
        Step::Online { users, .. } => {
            for user in users {
                command.arg(user.as_str());
            }
        }
        Step::Admit {
            node,
            change,
            max,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(max).arg(change);
        }
        Step::RemoteConnections { node, .. } => {
            command.arg(&**node);
        }
        Step::Census | Step::Enlisted { .. } | Step::ConnectionsByNode { .. } => {}
        Step::Enlist { node, deadline, .. } => {
            command.arg(deadline).arg(&**node);
        }
        Step::Connections {
            node,
            count,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(count);
        }
        Step::Heartbeat {
            node,
            first,
            lease,
            message,
        } => {
            command.arg(&**node).arg(millis(*lease)).arg(&message[..]);
            command.arg(u8::from(*first));
        }
        Step::Broadcast { message, deadline } => {
            command.arg(deadline).arg(&message[..]);
        }
        Step::Register {
            app,
            node,
            deadline,
        } => {
            command.arg(deadline).arg(&**node).arg(app.as_str());
        }
        Step::Claim { node, lease } => {
            command.arg(&**node).arg(millis(*lease));
        }
        Step::Apps { node } | Step::Forget { node } | Step::Reap { node, .. } => {
            command.arg(&**node);
        }
        Step::Subscribe { topic } | Step::Unsubscribe { topic } => {
            command.arg(keys.topic(topic));
        }
    }
}

/// Returns the epoch of a history that may begin with this step.
fn fresh_epoch() -> String {
    format!("{:08x}", rand::random::<u32>())
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
