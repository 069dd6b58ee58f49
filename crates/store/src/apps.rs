//! Apps and their settings.

use fanfare_protocol::{AppId, AppSettings};
use serde_json::{Value, json};

use crate::actor::Actor;
use crate::audit::{Target, difference};
use crate::database::Store;
use crate::dialect::{execute, fetch_optional, on_db};
use crate::error::StoreError;
use crate::keys::{KeyRecord, NewKey};
use crate::row::{from_row, parsed};
use crate::scope::{check_name, to_list};
use crate::transaction::Transaction;

const INSERT: &str = "INSERT INTO apps (id, name, settings, demo, created_at, updated_at, revision) \
                      VALUES ($1, $2, $3, $4, $5, $5, $6)";
const UPDATE: &str =
    "UPDATE apps SET name = $2, settings = $3, updated_at = $4, revision = $5 WHERE id = $1";
const TOUCH: &str = "UPDATE apps SET revision = $2 WHERE id = $1";
const DELETE: &str = "DELETE FROM apps WHERE id = $1";
const DELETE_KEYS: &str = "DELETE FROM keys WHERE app_id = $1";
const DELETE_IDENTITY: &str = "DELETE FROM identities WHERE app_id = $1";
const INSERT_DELETED: &str = "INSERT INTO deleted_apps (id, revision) VALUES ($1, $2)";
const DELETE_DELETED: &str = "DELETE FROM deleted_apps WHERE id = $1";
const SELECT: &str =
    "SELECT id, name, settings, created_at, updated_at, revision FROM apps WHERE id = $1";
const SELECT_ALL: &str = "SELECT id, name, settings, created_at, updated_at, revision FROM apps \
                          ORDER BY created_at, id";
/// `$3` is a list of app ids, each between colons; see [`to_list`].
const SELECT_PAGE: &str = "SELECT id, name, settings, created_at, updated_at, revision FROM apps \
                           WHERE (created_at, id) > ($1, $2) \
                             AND ($3 IS NULL OR replace($3, ':' || id || ':', '') <> $3) \
                           ORDER BY created_at, id LIMIT $4";

/// An app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRecord {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Settings.
    pub settings: AppSettings,
    /// Unix time in milliseconds.
    pub created_at: i64,
    /// When name, settings or identity were last changed, Unix time in milliseconds.
    pub updated_at: i64,
    /// Revision of the installation at the last change of the app or of its keys, identity, webhooks or outbox.
    pub revision: i64,
}

from_row!(row => AppRecord {
    id,
    name,
    settings: parsed(row, "settings", AppSettings::try_from)?,
    created_at,
    updated_at,
    revision,
});

/// An app to create. Absent fields are generated.
#[derive(Debug, Clone, Default)]
pub struct NewApp {
    /// An imported id; issued ones are digits.
    pub id: Option<String>,
    /// For people.
    pub name: String,
    /// Settings.
    pub settings: AppSettings,
    /// Its first key.
    pub key: NewKey,
    /// Whether it is the demo app, of which there is at most one.
    pub demo: bool,
}

impl Store {
    /// Creates an app and its first key in one transaction.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Invalid`] if id, name, key or secret aren't valid, and [`StoreError::Conflict`] if id or
    /// key are in use.
    pub async fn create_app(
        &self,
        new: NewApp,
        by: &Actor,
    ) -> Result<(AppRecord, KeyRecord), StoreError> {
        let id = new.id.unwrap_or_else(draw_id);
        AppId::parse(&id).map_err(|error| {
            StoreError::Invalid(format!("app id {id:?} is not possible: {error}"))
        })?;
        let name = check_name(&new.name, "an app's")?;
        let key = new.key.issue(&id)?;
        let mut transaction = self.begin(by).await?;
        let app = AppRecord {
            id,
            name,
            settings: new.settings,
            created_at: transaction.at,
            updated_at: transaction.at,
            revision: transaction.revision,
        };
        transaction.insert_app(&app, new.demo).await?;
        transaction.insert_key(&key, self.seal(&key)).await?;
        let details = json!({"name": app.name, "key": key.key});
        transaction
            .record("app.create", Target::app(&app.id), &details)
            .await?;
        transaction.commit().await?;
        Ok((app, key))
    }

    /// Returns an app.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such app.
    pub async fn app(&self, id: &str) -> Result<AppRecord, StoreError> {
        self.find(SELECT, id).await?.ok_or_else(|| not_found(id))
    }

    /// Returns all apps, oldest first.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn apps(&self) -> Result<Vec<AppRecord>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_as(SELECT_ALL).fetch_all(pool).await)?)
    }

    /// Returns at most `limit` apps, oldest first: those after the one with this `created_at` and id, and among `only`
    /// if it is given.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn apps_page(
        &self,
        after: Option<(i64, String)>,
        limit: i64,
        only: Option<&[String]>,
    ) -> Result<Vec<AppRecord>, StoreError> {
        let (created_at, id) = after.unwrap_or((i64::MIN, String::new()));
        Ok(on_db!(&self.db, pool => sqlx::query_as(SELECT_PAGE)
            .bind(created_at)
            .bind(id)
            .bind(only.map(to_list))
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// Changes an app's name and settings, and returns the changed app. Without a difference, nothing is written.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`], [`StoreError::Invalid`] for the name, or [`StoreError::Stale`] if the revision
    /// isn't the expected one.
    pub async fn update_app(
        &self,
        app: &AppRecord,
        expected_revision: Option<i64>,
        by: &Actor,
    ) -> Result<AppRecord, StoreError> {
        let name = check_name(&app.name, "an app's")?;
        let mut transaction = self.begin(by).await?;
        let before = transaction.app(&app.id).await?;
        if expected_revision.is_some_and(|expected| expected != before.revision) {
            return Err(StoreError::Stale(format!(
                "the app {:?} was changed in the meantime",
                app.id
            )));
        }
        let after = AppRecord {
            name,
            settings: app.settings.clone(),
            updated_at: transaction.at,
            revision: transaction.revision,
            ..before.clone()
        };
        let changed = difference(&fields(&before), &fields(&after));
        // The dropped transaction rolls back, so that its revision isn't used.
        if changed.is_empty() {
            return Ok(before);
        }
        execute!(
            &mut transaction.tx,
            UPDATE,
            &after.id,
            &after.name,
            to_json(&after.settings),
            after.updated_at,
            after.revision,
        )?;
        transaction
            .record("app.update", Target::app(&app.id), &changed.into())
            .await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Deletes an app with its keys, its identity, its webhooks and its outbox. Running nodes close its connections.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such app.
    pub async fn delete_app(&self, id: &str, by: &Actor) -> Result<(), StoreError> {
        let mut transaction = self.begin(by).await?;
        let app = transaction.app(id).await?;
        let webhooks = transaction.delete_webhooks(id).await?;
        transaction.delete_outbox(id).await?;
        for delete in [DELETE_KEYS, DELETE_IDENTITY, DELETE] {
            execute!(&mut transaction.tx, delete, id)?;
        }
        // Kept, so that nodes that ask for changes learn of the deletion.
        execute!(
            &mut transaction.tx,
            INSERT_DELETED,
            id,
            transaction.revision
        )?;
        transaction
            .record("app.delete", Target::app(id), &json!({"name": app.name}))
            .await?;
        transaction.commit().await?;
        self.tidy_webhooks(id, &webhooks).await;
        Ok(())
    }
}

impl Transaction<'_> {
    pub(crate) async fn app(&mut self, id: &str) -> Result<AppRecord, StoreError> {
        fetch_optional!(AppRecord, &mut self.tx, SELECT, id)?.ok_or_else(|| not_found(id))
    }

    /// Checks that neither an app nor what belongs to it was changed since the caller read it.
    pub(crate) async fn check_revision(
        &mut self,
        app_id: &str,
        expected: Option<i64>,
    ) -> Result<(), StoreError> {
        let Some(expected) = expected else {
            return Ok(());
        };
        if self.app(app_id).await?.revision == expected {
            return Ok(());
        }
        Err(StoreError::Stale(format!(
            "the app {app_id:?}, or what belongs to it, was changed in the meantime"
        )))
    }

    /// Gives the app this transaction's revision, so that running nodes read it and what belongs to it again.
    pub(crate) async fn touch_app(&mut self, id: &str) -> Result<(), StoreError> {
        match execute!(&mut self.tx, TOUCH, id, self.revision)? {
            0 => Err(not_found(id)),
            _ => Ok(()),
        }
    }

    async fn insert_app(&mut self, app: &AppRecord, demo: bool) -> Result<(), StoreError> {
        let inserted = execute!(
            &mut self.tx,
            INSERT,
            &app.id,
            &app.name,
            to_json(&app.settings),
            demo,
            app.created_at,
            app.revision,
        );
        inserted.map_err(|error| {
            StoreError::or_conflict(error, || {
                format!("there is an app with id {:?} already", app.id)
            })
        })?;
        // An app may be created again under the id of a deleted one.
        execute!(&mut self.tx, DELETE_DELETED, &app.id)?;
        Ok(())
    }
}

fn not_found(id: &str) -> StoreError {
    StoreError::NotFound(format!("there is no app with id {id:?}"))
}

fn fields(app: &AppRecord) -> Value {
    json!({"name": app.name, "settings": app.settings})
}

fn to_json(settings: &AppSettings) -> String {
    serde_json::to_string(settings).expect("settings are JSON")
}

/// Generates an app id. It has digits only, because some SDKs accept nothing else.
fn draw_id() -> String {
    rand::random_range(100_000_000_u32..=999_999_999).to_string()
}
