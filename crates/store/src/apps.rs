//! Apps.

use fanfare_protocol::{AppId, AppSettings};

use crate::changes::NEXT_REVISION;
use crate::database::{Store, now};
use crate::dialect::on_db;
use crate::error::StoreError;
use crate::keys::{self, KeyRecord, NewKey};

const INSERT: &str = "INSERT INTO apps (id, name, settings, demo, created_at, revision) \
                      VALUES ($1, $2, $3, $4, $5, $6)";
const UPDATE: &str = "UPDATE apps SET name = $2, settings = $3, revision = $4 WHERE id = $1";
const SELECT: &str = "SELECT id, name, settings, created_at FROM apps WHERE id = $1";
const SELECT_ALL: &str = "SELECT id, name, settings, created_at FROM apps ORDER BY created_at, id";

/// Longest name of an app, in characters.
const MAX_NAME: usize = 200;

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AppRecord {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// What may be changed while it runs.
    #[sqlx(try_from = "String")]
    pub settings: AppSettings,
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
    /// What may be changed while it runs.
    pub settings: AppSettings,
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
        let name = check_name(&new.name)?;
        let app = AppRecord {
            id,
            name,
            settings: new.settings,
            created_at: now(),
        };
        let key = new.key.issue(&app.id)?;
        let sealed = self.seal(&key);
        let settings = to_json(&app.settings);
        on_db!(&self.db, pool => {
            let mut tx = pool.begin().await?;
            let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *tx).await?;
            sqlx::query(INSERT)
                .bind(&app.id)
                .bind(&app.name)
                .bind(settings)
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

impl Store {
    /// Changes an app's name and settings.
    ///
    /// # Errors
    ///
    /// There is no such app, or the name is not possible.
    pub async fn update_app(&self, app: &AppRecord) -> Result<(), StoreError> {
        let (name, settings) = (check_name(&app.name)?, to_json(&app.settings));
        on_db!(&self.db, pool => {
            let mut tx = pool.begin().await?;
            let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *tx).await?;
            let updated = sqlx::query(UPDATE)
                .bind(&app.id)
                .bind(name)
                .bind(settings)
                .bind(revision)
                .execute(&mut *tx)
                .await?;
            if updated.rows_affected() == 0 {
                return Err(StoreError::NotFound(format!("there is no app with id {:?}", app.id)));
            }
            tx.commit().await?;
        });
        Ok(())
    }
}

fn check_name(name: &str) -> Result<String, StoreError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(StoreError::Invalid(format!(
            "an app's name has 1 to {MAX_NAME} printable characters"
        )));
    }
    Ok(name.to_owned())
}

fn to_json(settings: &AppSettings) -> String {
    serde_json::to_string(settings).expect("settings are JSON")
}

/// Digits, because some SDKs take nothing else.
fn issue_id() -> String {
    rand::random_range(100_000_000_u32..=999_999_999).to_string()
}
