//! Apps.

use fanfare_protocol::AppId;

use crate::changes::NEXT_REVISION;
use crate::database::{Store, now};
use crate::dialect::on_db;
use crate::error::StoreError;
use crate::keys::{self, KeyRecord, NewKey};

const INSERT: &str = "INSERT INTO apps (id, name, enabled, client_events, demo, created_at, revision) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7)";
const SELECT: &str = "SELECT id, name, enabled, client_events, created_at FROM apps WHERE id = $1";
const SELECT_ALL: &str =
    "SELECT id, name, enabled, client_events, created_at FROM apps ORDER BY created_at, id";

/// Longest name of an app, in characters.
const MAX_NAME: usize = 200;

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AppRecord {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// A disabled app takes neither connections nor events.
    pub enabled: bool,
    /// Whether clients may send events of their own.
    pub client_events: bool,
    /// Unix time in milliseconds.
    pub created_at: i64,
}

/// An app to be: what is left out is drawn.
#[derive(Debug, Clone, Default)]
pub struct NewApp {
    /// An imported id; issued ones are digits.
    pub id: Option<String>,
    /// For people.
    pub name: String,
    /// Whether clients may send events of their own.
    pub client_events: bool,
    /// Its first key.
    pub key: NewKey,
    /// Whether it is the app of the first run, of which there is one.
    pub demo: bool,
}

impl Store {
    /// Creates an app and its first key, in one step.
    ///
    /// # Errors
    ///
    /// Id, key or secret are not allowed, or taken.
    pub async fn create_app(&self, new: NewApp) -> Result<(AppRecord, KeyRecord), StoreError> {
        let id = new.id.unwrap_or_else(issue_id);
        AppId::parse(&id).map_err(|error| {
            StoreError::Invalid(format!("app id {id:?} is not possible: {error}"))
        })?;
        let name = new.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control)
        {
            return Err(StoreError::Invalid(format!(
                "an app's name has 1 to {MAX_NAME} printable characters"
            )));
        }
        let app = AppRecord {
            id,
            name,
            enabled: true,
            client_events: new.client_events,
            created_at: now(),
        };
        let key = new.key.issue(&app.id)?;
        let sealed = self.seal(&key);
        on_db!(&self.db, pool => {
            let mut tx = pool.begin().await?;
            let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *tx).await?;
            sqlx::query(INSERT)
                .bind(&app.id)
                .bind(&app.name)
                .bind(app.enabled)
                .bind(app.client_events)
                .bind(new.demo)
                .bind(app.created_at)
                .bind(revision)
                .execute(&mut *tx)
                .await
                .map_err(|error| StoreError::or_conflict(error, || format!("there is an app with id {:?} already", app.id)))?;
            keys::insert!(&mut *tx, key, sealed);
            tx.commit().await?;
        });
        Ok((app, key))
    }

    /// One app.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn app(&self, id: &str) -> Result<AppRecord, StoreError> {
        let found =
            on_db!(&self.db, pool => sqlx::query_as(SELECT).bind(id).fetch_optional(pool).await)?;
        found.ok_or_else(|| StoreError::NotFound(format!("there is no app with id {id:?}")))
    }

    /// All apps, oldest first.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn apps(&self) -> Result<Vec<AppRecord>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_as(SELECT_ALL).fetch_all(pool).await)?)
    }
}

/// Digits, because some SDKs take nothing else.
fn issue_id() -> String {
    rand::random_range(100_000_000_u32..=999_999_999).to_string()
}
