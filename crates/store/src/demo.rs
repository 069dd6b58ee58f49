//! The demo app of the first run, which the demo page uses.

use fanfare_protocol::settings::SocketIoSettings;
use fanfare_protocol::{AppSettings, HistoryRule};

use crate::actor::Actor;
use crate::apps::{AppRecord, NewApp};
use crate::database::Store;
use crate::dialect::on_db;
use crate::error::StoreError;
use crate::keys::KeyRecord;

const SELECT: &str = "SELECT id FROM apps WHERE demo";
const HAD_ANY_APP: &str =
    "SELECT COUNT(*) FROM (SELECT id FROM apps UNION ALL SELECT id FROM deleted_apps) ever";

impl Store {
    /// Returns the demo app with its oldest active key, or `None` if there is no such app or key.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn demo_app(&self) -> Result<Option<(AppRecord, KeyRecord)>, StoreError> {
        let id: Option<String> =
            on_db!(&self.db, pool => sqlx::query_scalar(SELECT).fetch_optional(pool).await)?;
        let Some(id) = id else { return Ok(None) };
        let app = self.app(&id).await?;
        let key = self.keys(&id).await?.into_iter().find(KeyRecord::is_active);
        Ok(key.map(|key| (app, key)))
    }

    /// Returns whether no app was ever created in this store.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn is_pristine(&self) -> Result<bool, StoreError> {
        let apps: i64 =
            on_db!(&self.db, pool => sqlx::query_scalar(HAD_ANY_APP).fetch_one(pool).await)?;
        Ok(apps == 0)
    }

    /// Creates the demo app, of which there is at most one.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Conflict`] if another node created it first.
    pub async fn create_demo_app(&self, by: &Actor) -> Result<(AppRecord, KeyRecord), StoreError> {
        let new = NewApp {
            name: "Demo".into(),
            settings: AppSettings {
                client_events: true,
                client_event_channels: vec!["demo-*".into()],
                socket_io: SocketIoSettings {
                    broadcast: vec!["demo-chat".into()],
                },
                history: vec![HistoryRule {
                    channels: "*".into(),
                    size: 100,
                    ttl: 300,
                }],
                ..AppSettings::default()
            },
            demo: true,
            ..NewApp::default()
        };
        self.create_app(new, by).await
    }
}
