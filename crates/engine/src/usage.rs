//! What each app did since it was asked last, for the history of usage. Apps without connections and traffic cost
//! nothing.

use std::collections::{BTreeMap, HashMap};

use fanfare_protocol::{AppId, UserSketch};

use crate::engine::Engine;
use crate::session::Session;
use crate::shard::Shard;
use crate::traffic::{BackendTraffic, ClientTraffic};

/// What an app did on this node since the last [`Engine::take_usage`].
#[derive(Debug, Default)]
pub struct AppUsage {
    /// Its connections now.
    pub connections: u64,
    /// What its clients did and got.
    pub clients: ClientTraffic,
    /// What its backends published.
    pub backend: BackendTraffic,
    /// Who signed in or joined a presence channel, and who was there for half a minute.
    pub users: UserSketch,
    /// What was refused, by kind.
    pub refused: BTreeMap<&'static str, u64>,
}

/// What the apps did on this node since the last [`Engine::take_usage`].
#[derive(Debug, Default)]
pub struct NodeUsage {
    /// The apps that did anything or have connections, deleted ones included.
    pub apps: HashMap<AppId, AppUsage>,
    /// What was refused without an app, or with too many apps to count them all.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Engine {
    /// Returns what the apps did since the last call. One caller at a time. Waits for all shards.
    pub async fn take_usage(&self) -> NodeUsage {
        let mut usage = NodeUsage::default();
        for shard in self
            .ask(|shard: &Shard| shard.state().stats.take_usage())
            .await
        {
            for part in shard {
                let app = usage.apps.entry(part.app).or_default();
                app.connections += part.connections as u64;
                app.clients += part.traffic;
                if let Some(users) = part.users {
                    app.users.merge(&users);
                }
            }
        }
        for (app, traffic) in self.apps().take_moved() {
            usage.apps.entry(app).or_default().backend += traffic;
        }
        for (app, kinds) in self.refusals().take_by_app() {
            match AppId::parse(&app) {
                Ok(app) => usage.apps.entry(app).or_default().refused = kinds,
                Err(_) => usage.refused = kinds,
            }
        }
        usage
    }
}

impl Session {
    /// Counts a user who came in on this connection.
    pub(crate) fn note_user(&self, user_id: &str) {
        let key = self.shard.engine.options().user_hash_key;
        let state = &mut *self.shard.state();
        let app = state.connections[self.slot].app_slot;
        state.stats.note_user(app, key, user_id);
    }
}
