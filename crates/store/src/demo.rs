//! The app of the first run, which the demo page uses.

use fanfare_protocol::AppSettings;

use crate::apps::{AppRecord, NewApp};
use crate::database::Store;
use crate::dialect::on_db;
use crate::error::StoreError;
use crate::keys::KeyRecord;

const SELECT: &str = "SELECT id FROM apps WHERE demo";
const SELECT_REVISION: &str = "SELECT revision FROM installation WHERE id = 1";

impl Store {
    /// The demo app and its oldest key in force, if there are such.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn demo_app(&self) -> Result<Option<(AppRecord, KeyRecord)>, StoreError> {
        let id: Option<String> =
            on_db!(&self.db, pool => sqlx::query_scalar(SELECT).fetch_optional(pool).await)?;
        let Some(id) = id else { return Ok(None) };
        let app = self.app(&id).await?;
        let key = self
            .keys(&id)
            .await?
            .into_iter()
            .find(|key| key.revoked_at.is_none());
        Ok(key.map(|key| (app, key)))
    }

    /// Whether nothing was ever created here.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn is_pristine(&self) -> Result<bool, StoreError> {
        let revision: i64 =
            on_db!(&self.db, pool => sqlx::query_scalar(SELECT_REVISION).fetch_one(pool).await)?;
        Ok(revision == 0)
    }

    /// Creates the demo app, of which there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if another node has made it in the meantime.
    pub async fn create_demo_app(&self) -> Result<(AppRecord, KeyRecord), StoreError> {
        self.create_app(NewApp {
            name: "Demo".into(),
            settings: AppSettings {
                client_events: true,
                ..AppSettings::default()
            },
            demo: true,
            ..NewApp::default()
        })
        .await
    }
}
