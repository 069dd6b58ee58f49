//! Alerts: conditions that need an operator. There is a row for each kind and subject, with its latest occurrence, so
//! that however many nodes see a condition and however often, it is opened once and resolved once.

use serde_json::json;

use crate::actor::Actor;
use crate::audit::Target;
use crate::database::{Store, issue_id, now};
use crate::dialect::{execute, execute_alone, fetch_optional, on_db};
use crate::error::StoreError;
use crate::row::from_row;

/// A query for whole rows.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT kind, subject, id, app_id, summary, opened_at, seen_at, resolved_at, silenced_until FROM alerts ",
            $condition
        )
    };
}

const SELECT_ONE: &str = select!("WHERE kind = $1 AND subject = $2");
const SELECT_BY_ID: &str = select!("WHERE id = $1");
/// Open ones first.
const SELECT_ALL: &str = select!("ORDER BY resolved_at IS NOT NULL, opened_at DESC, id LIMIT $1");
const SELECT_UNSEEN: &str = select!("WHERE resolved_at IS NULL AND seen_at < $1");
const SEE: &str = "UPDATE alerts SET seen_at = $1, summary = $2 WHERE kind = $3 AND subject = $4";
const OPEN: &str = "INSERT INTO alerts (kind, subject, id, app_id, summary, opened_at, seen_at) \
                    VALUES ($1, $2, $3, $4, $5, $6, $6) \
                    ON CONFLICT (kind, subject) DO UPDATE SET id = excluded.id, app_id = excluded.app_id, \
                    summary = excluded.summary, opened_at = excluded.opened_at, seen_at = excluded.seen_at, \
                    resolved_at = NULL";
const RESOLVE: &str = "UPDATE alerts SET resolved_at = $1 WHERE kind = $2 AND subject = $3";
const SILENCE: &str = "UPDATE alerts SET silenced_until = $1 WHERE id = $2";
const DELETE_OLD: &str = "DELETE FROM alerts WHERE resolved_at < $1 \
                          AND (silenced_until IS NULL OR silenced_until < $1)";

/// A condition that needs an operator, as a node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlert {
    /// Id of the occurrence, if it is a new one.
    pub id: String,
    /// Its kind, for example `store_away`.
    pub kind: String,
    /// The node or the app that it is about.
    pub subject: String,
    /// The app that it is about, if it is about one.
    pub app_id: Option<String>,
    /// One sentence with the numbers.
    pub summary: String,
}

/// The latest occurrence of a condition. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRecord {
    /// Id of this occurrence.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// The node or the app that it is about.
    pub subject: String,
    /// The app that it is about, if it is about one.
    pub app_id: Option<String>,
    /// One sentence with the numbers.
    pub summary: String,
    /// When it began.
    pub opened_at: i64,
    /// When a node last saw it.
    pub seen_at: i64,
    /// When it was over, or `None` while it is open.
    pub resolved_at: Option<i64>,
    /// Until when nobody is notified of it.
    pub silenced_until: Option<i64>,
}

from_row!(row => AlertRecord {
    id, kind, subject, app_id, summary, opened_at, seen_at, resolved_at, silenced_until,
});

impl NewAlert {
    /// Returns an id for a new occurrence.
    #[must_use]
    pub fn issue_id() -> String {
        issue_id("alr")
    }
}

impl AlertRecord {
    /// Returns whether nobody is notified of it now.
    #[must_use]
    pub fn is_silenced(&self) -> bool {
        self.silenced_until.is_some_and(|until| until > now())
    }
}

impl Store {
    /// Opens an alert, or notes that an open one was seen again. Returns it if this call has opened it.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn open_alert(&self, alert: &NewAlert) -> Result<Option<AlertRecord>, StoreError> {
        let by = Actor::system();
        let mut transaction = self.begin_quietly(&by).await?;
        let (kind, subject, at) = (&alert.kind, &alert.subject, transaction.at);
        let known = fetch_optional!(AlertRecord, &mut transaction.tx, SELECT_ONE, kind, subject)?;
        if known.is_some_and(|known| known.resolved_at.is_none()) {
            execute!(&mut transaction.tx, SEE, at, &alert.summary, kind, subject)?;
            transaction.commit().await?;
            return Ok(None);
        }
        let id = &alert.id;
        let (app_id, summary) = (&alert.app_id, &alert.summary);
        execute!(
            &mut transaction.tx,
            OPEN,
            kind,
            subject,
            id,
            app_id,
            summary,
            at
        )?;
        let target = Target {
            kind: "alert",
            id,
            app: alert.app_id.as_deref(),
        };
        let details = json!({"kind": kind, "subject": subject, "summary": summary});
        transaction.record("alert.open", target, &details).await?;
        let opened = fetch_optional!(AlertRecord, &mut transaction.tx, SELECT_BY_ID, id)?;
        transaction.commit().await?;
        Ok(opened)
    }

    /// Resolves an open alert. Returns it if this call has resolved it.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn resolve_alert(
        &self,
        kind: &str,
        subject: &str,
    ) -> Result<Option<AlertRecord>, StoreError> {
        let by = Actor::system();
        let mut transaction = self.begin_quietly(&by).await?;
        let known = fetch_optional!(AlertRecord, &mut transaction.tx, SELECT_ONE, kind, subject)?;
        let Some(open) = known.filter(|known| known.resolved_at.is_none()) else {
            return Ok(None);
        };
        let at = transaction.at;
        execute!(&mut transaction.tx, RESOLVE, at, kind, subject)?;
        let target = Target {
            kind: "alert",
            id: &open.id,
            app: open.app_id.as_deref(),
        };
        let details = json!({"kind": kind, "subject": subject});
        transaction
            .record("alert.resolve", target, &details)
            .await?;
        transaction.commit().await?;
        Ok(Some(AlertRecord {
            resolved_at: Some(at),
            ..open
        }))
    }

    /// Notifies nobody of an alert until a time, its later occurrences included. `None` ends that.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if no alert has this id, or the database's error.
    pub async fn silence_alert(
        &self,
        id: &str,
        until: Option<i64>,
        by: &Actor,
    ) -> Result<AlertRecord, StoreError> {
        let mut transaction = self.begin_quietly(by).await?;
        let known = fetch_optional!(AlertRecord, &mut transaction.tx, SELECT_BY_ID, id)?;
        let known = known.ok_or_else(|| no_alert(id))?;
        execute!(&mut transaction.tx, SILENCE, until, id)?;
        let target = Target {
            kind: "alert",
            id,
            app: known.app_id.as_deref(),
        };
        let details =
            json!({"kind": known.kind, "subject": known.subject, "silenced_until": until});
        transaction
            .record("alert.silence", target, &details)
            .await?;
        transaction.commit().await?;
        Ok(AlertRecord {
            silenced_until: until,
            ..known
        })
    }

    /// Returns the alert with an id.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is none, or the database's error.
    pub async fn alert(&self, id: &str) -> Result<AlertRecord, StoreError> {
        let found = self.find(SELECT_BY_ID, id).await?;
        found.ok_or_else(|| no_alert(id))
    }

    /// Returns at most `limit` alerts, open ones first, each kind with the latest first.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn alerts(&self, limit: i64) -> Result<Vec<AlertRecord>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_as(SELECT_ALL).bind(limit).fetch_all(pool).await)?)
    }

    /// Returns open alerts that no node has seen since a time, as after the death of the node that saw them.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn unseen_alerts(&self, since: i64) -> Result<Vec<AlertRecord>, StoreError> {
        Ok(
            on_db!(&self.db, pool => sqlx::query_as(SELECT_UNSEEN).bind(since).fetch_all(pool).await)?,
        )
    }

    /// Deletes alerts that were resolved before a time.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn delete_old_alerts(&self, before: i64) -> Result<(), StoreError> {
        execute_alone!(&self.db, DELETE_OLD, before)?;
        Ok(())
    }
}

fn no_alert(id: &str) -> StoreError {
    StoreError::NotFound(format!("there is no alert with id {id:?}"))
}
