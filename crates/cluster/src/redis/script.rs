//! The scripts: one for each step, so that each is atomic and takes one round trip.

use redis::{Cmd, cmd};

use fanfare_engine::HistoryQuery;

use crate::backend::Step;
use crate::names::Names;

/// Scripts that change nothing.
const READS: &[&str] = &[
    "view",
    "user_counts",
    "elsewhere",
    "all_elsewhere",
    "online",
    "cached",
    "apps",
];

/// A script, and what Redis knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) text: String,
    hash: String,
}

impl Script {
    /// With a first line that says what it does, Redis refuses the whole script when it takes no changes (its memory is
    /// full, a master has too few replicas), instead of stopping in the middle of it.
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
        /// All of them.
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

scripts!(publish join leave view user_counts count elsewhere all_elsewhere enter exit online admit connections cached history beat
    tell_nodes register apps claim bury forget);

impl Scripts {
    /// A step as a command, and the key or topic that says which master takes it.
    pub(crate) fn command(&self, names: &Names, step: &Step) -> (String, Cmd) {
        let call = |script: &Script, tag: String| {
            let call = script.call(&tag);
            (tag, call)
        };
        let of_app = |app| names.of_app(app);
        let (tag, mut command) = match step {
            Step::Publish { app, .. } => call(&self.publish, of_app(app)),
            Step::Join { app, .. } => call(&self.join, of_app(app)),
            Step::Leave { app, .. } => call(&self.leave, of_app(app)),
            Step::View { app, .. } => call(&self.view, of_app(app)),
            Step::UserCounts { app, .. } => call(&self.user_counts, of_app(app)),
            Step::Count { app, .. } => call(&self.count, of_app(app)),
            Step::Elsewhere { app, .. } => call(&self.elsewhere, of_app(app)),
            Step::AllElsewhere { app, .. } => call(&self.all_elsewhere, of_app(app)),
            Step::Enter { app, .. } => call(&self.enter, of_app(app)),
            Step::Exit { app, .. } => call(&self.exit, of_app(app)),
            Step::Online { app, .. } => call(&self.online, of_app(app)),
            Step::Admit { app, .. } => call(&self.admit, of_app(app)),
            Step::Connections { app, .. } => call(&self.connections, of_app(app)),
            Step::Cached { app, .. } => call(&self.cached, of_app(app)),
            Step::History { app, .. } => call(&self.history, of_app(app)),
            Step::Bury { app, .. } => call(&self.bury, of_app(app)),
            Step::Beat { .. } => call(&self.beat, names.of_installation()),
            Step::TellNodes { .. } => call(&self.tell_nodes, names.of_installation()),
            Step::Register { .. } => call(&self.register, names.of_installation()),
            Step::Apps { .. } => call(&self.apps, names.of_installation()),
            Step::Claim { .. } => call(&self.claim, names.of_installation()),
            Step::Forget { .. } => call(&self.forget, names.of_installation()),
            Step::Listen { topic } => (topic.clone(), cmd("SSUBSCRIBE")),
            Step::Unlisten { topic } => (topic.clone(), cmd("SUNSUBSCRIBE")),
        };
        put_arguments(&mut command, step);
        (tag, command)
    }
}

/// In the order in which the scripts take them.
#[expect(clippy::too_many_lines, reason = "a table: one entry a step")]
fn put_arguments(command: &mut Cmd, step: &Step) {
    match step {
        Step::Publish {
            tellings,
            once,
            deadline,
            ..
        } => {
            let (key, digest) = once
                .as_ref()
                .map_or(("", ""), |once| (&*once.key, &*once.digest));
            command
                .arg(deadline)
                .arg(key)
                .arg(digest)
                .arg(fresh_epoch());
            for telling in tellings {
                let (ttl, most) = telling.keep.map_or((0, 0), |keep| {
                    let millis = u64::try_from(keep.ttl.as_millis()).unwrap_or(u64::MAX);
                    (millis, keep.max_bytes)
                });
                command.arg(&telling.channel).arg(ttl).arg(most);
                let (size, ttl) = telling
                    .history
                    .map_or((0, 0), |history| (history.size, millis(history.ttl)));
                command.arg(size).arg(ttl);
                command.arg(&telling.message[..]);
            }
        }
        Step::Join {
            node,
            channel,
            member,
            max,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(channel);
            command.arg(member.user_id.as_str());
            command.arg(member.user_info.as_deref().unwrap_or_default());
            command.arg(max);
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
        Step::View { channel, .. } | Step::Cached { channel, .. } => {
            command.arg(channel);
        }
        Step::History { channel, query, .. } => {
            let (kind, position, count) = match query {
                HistoryQuery::Last(count) => ("last", None, *count),
                HistoryQuery::After(position) => ("after", Some(position), 0),
                HistoryQuery::Forward(position, count) => ("forward", position.as_ref(), *count),
                HistoryQuery::Backward(position, count) => ("backward", position.as_ref(), *count),
            };
            let epoch = position.map_or("", |position| &*position.epoch);
            let offset = position.map_or(0, |position| position.offset);
            command.arg(channel).arg(kind).arg(epoch).arg(offset);
            command.arg(count).arg(fresh_epoch());
        }
        Step::UserCounts { channels, .. } => {
            command.arg(channels);
        }
        Step::Count {
            node,
            channel,
            count,
            tell,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(channel);
            command.arg(count).arg(u8::from(*tell));
        }
        Step::Elsewhere { node, channel, .. } => {
            command.arg(&**node).arg(channel);
        }
        Step::AllElsewhere { node, prefix, .. } => {
            command.arg(&**node).arg(prefix);
        }
        Step::Enter {
            node,
            user,
            deadline,
            ..
        }
        | Step::Exit {
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
            max,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(max);
        }
        Step::Connections {
            node,
            count,
            deadline,
            ..
        } => {
            command.arg(deadline).arg(&**node).arg(count);
        }
        Step::Beat {
            node,
            first,
            lease,
            message,
        } => {
            command.arg(&**node).arg(millis(*lease)).arg(&message[..]);
            command.arg(u8::from(*first));
        }
        Step::TellNodes { message, deadline } => {
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
        Step::Apps { node } | Step::Forget { node } | Step::Bury { node, .. } => {
            command.arg(&**node);
        }
        Step::Listen { topic } | Step::Unlisten { topic } => {
            command.arg(topic);
        }
    }
}

/// Of a history that begins with this step.
fn fresh_epoch() -> String {
    format!("{:08x}", rand::random::<u32>())
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
