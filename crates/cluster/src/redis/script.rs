//! The Lua scripts: one for each call, so that each is atomic and takes one round trip.

use redis::{Cmd, cmd};

/// Scripts that write nothing.
const READS: &[&str] = &[
    "presence_snapshot",
    "user_counts",
    "remote_subscriptions",
    "all_remote_subscriptions",
    "online",
    "cached",
    "apps",
    "live_nodes",
    "enlisted",
    "connections_by_node",
];

/// A script, and the hash by which Redis knows it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: String,
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

    /// Returns the command that runs the script on the keys under `tag`. Arguments follow.
    pub(super) fn call(&self, tag: &str) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.hash).arg(1).arg(tag);
        call
    }
}

macro_rules! scripts {
    ($($name:ident)*) => {
        /// All scripts.
        #[derive(Debug)]
        pub(super) struct Scripts { $(pub(super) $name: Script,)* }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self { $($name: Script::new(stringify!($name), include_str!(concat!(stringify!($name), ".lua"))),)* }
            }

            pub(super) fn all(&self) -> Vec<&Script> {
                vec![$(&self.$name,)*]
            }
        }
    };
}

scripts!(publish broadcast cached history
    join leave subscriptions sign_in sign_out connections admit
    due_transitions settle_transitions arm_transitions forget_transitions
    presence_snapshot user_counts remote_subscriptions all_remote_subscriptions online remote_connections connections_by_node
    heartbeat live_nodes register apps enlist enlisted claim reap forget);
