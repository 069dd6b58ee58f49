//! The outbox of each app: where events wait that its backends wrote in their own database, and what the node that reads
//! it says of it.

use std::ops::RangeInclusive;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::actor::Actor;
use crate::audit::{Target, difference};
use crate::database::Store;
use crate::dialect::{execute, execute_alone, fetch_optional};
use crate::error::StoreError;
use crate::row::from_row;
use crate::transaction::Transaction;

const SELECT: &str = "SELECT app_id, url, stream, poll_interval, created_at, updated_at FROM outboxes \
                      WHERE app_id = $1";
const SET: &str = "INSERT INTO outboxes (app_id, url, stream, poll_interval, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (app_id) DO UPDATE SET url = excluded.url, stream = excluded.stream, \
                       poll_interval = excluded.poll_interval, created_at = excluded.created_at, \
                       updated_at = excluded.updated_at";
const DELETE: &str = "DELETE FROM outboxes WHERE app_id = $1";
const DELETE_STATE: &str = "DELETE FROM outbox_states WHERE app_id = $1";
/// A report that comes after the outbox was removed has no effect, or leaves a row that nobody sees: the next outbox of
/// the app begins without it.
const REPORT: &str = "INSERT INTO outbox_states (app_id, node, connected, backlog, backlog_is_exact, oldest_at, published, \
                                                 rejected, last_event_at, last_error, last_error_at, reported_at) \
                      SELECT app_id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM outboxes WHERE app_id = $1 \
                      ON CONFLICT (app_id) DO UPDATE SET node = excluded.node, connected = excluded.connected, \
                          backlog = excluded.backlog, backlog_is_exact = excluded.backlog_is_exact, \
                          oldest_at = excluded.oldest_at, published = outbox_states.published + excluded.published, \
                          rejected = outbox_states.rejected + excluded.rejected, \
                          last_event_at = COALESCE(excluded.last_event_at, outbox_states.last_event_at), \
                          last_error = COALESCE(excluded.last_error, outbox_states.last_error), \
                          last_error_at = COALESCE(excluded.last_error_at, outbox_states.last_error_at), \
                          reported_at = excluded.reported_at";
const STATE: &str = "SELECT s.node, s.connected, s.backlog, s.backlog_is_exact, s.oldest_at, s.published, s.rejected, \
                            s.last_event_at, s.last_error, s.last_error_at, s.reported_at \
                     FROM outbox_states s JOIN outboxes o ON o.app_id = s.app_id WHERE s.app_id = $1";

/// How often an outbox may be looked at, in milliseconds.
pub const OUTBOX_POLL_INTERVALS: RangeInclusive<i64> = 5..=60_000;

/// An app's outbox.
#[derive(Debug, Clone)]
pub struct OutboxRecord {
    /// Where it is, with the credentials.
    pub url: SecretString,
    /// The stream's key in Redis, or `None` for the default one and in Postgres.
    pub stream: Option<String>,
    /// How often a node looks for events of which nothing told it, in milliseconds.
    pub poll_interval: i64,
    /// When the app got an outbox, Unix time in milliseconds.
    pub created_at: i64,
    /// When it was last changed, Unix time in milliseconds.
    pub updated_at: i64,
}

/// An outbox to set. The store takes any URL and stream; what they may be is known where they are used.
#[derive(Debug, Clone)]
pub struct NewOutbox {
    /// Where it is, with the credentials.
    pub url: SecretString,
    /// The stream's key in Redis, or `None` for the default one and in Postgres.
    pub stream: Option<String>,
    /// How often a node looks for events, in milliseconds, of [`OUTBOX_POLL_INTERVALS`].
    pub poll_interval: i64,
}

pub(crate) struct SealedOutbox {
    pub(crate) app_id: String,
    url: Vec<u8>,
    stream: Option<String>,
    poll_interval: i64,
    created_at: i64,
    updated_at: i64,
}

from_row!(row => SealedOutbox { app_id, url, stream, poll_interval, created_at, updated_at });

/// What the node that reads an outbox says of it. Times are Unix milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxState {
    /// The node.
    pub node: String,
    /// Whether it reaches the outbox.
    pub connected: bool,
    /// How many events wait.
    pub backlog: i64,
    /// Whether `backlog` was counted. It is a least number otherwise.
    pub backlog_is_exact: bool,
    /// When the oldest event that waits was written.
    pub oldest_at: Option<i64>,
    /// Events that were published: in a report since the one before, otherwise since the outbox was set.
    pub published: i64,
    /// Events that were refused, counted as the published ones.
    pub rejected: i64,
    /// When an event was last published. A report without it leaves what is known.
    pub last_event_at: Option<i64>,
    /// What last went wrong, also if it is over. A report without it leaves what is known.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<i64>,
    /// When the node said so.
    pub reported_at: i64,
}

from_row!(row => OutboxState {
    node,
    connected,
    backlog,
    backlog_is_exact,
    oldest_at,
    published,
    rejected,
    last_event_at,
    last_error,
    last_error_at,
    reported_at,
});

impl Store {
    /// Sets an app's outbox, instead of the one it has, and returns it. What was counted of an outbox at another place is
    /// forgotten. Without a difference, nothing is written. The audit log gets no credentials.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such app, [`StoreError::Invalid`] for the interval, or
    /// [`StoreError::Stale`] if the app's revision isn't the expected one.
    pub async fn set_outbox(
        &self,
        app_id: &str,
        new: NewOutbox,
        expected_app_revision: Option<i64>,
        by: &Actor,
    ) -> Result<OutboxRecord, StoreError> {
        new.check()?;
        let mut transaction = self.begin(by).await?;
        transaction
            .check_revision(app_id, expected_app_revision)
            .await?;
        transaction.touch_app(app_id).await?;
        let found = fetch_optional!(SealedOutbox, &mut transaction.tx, SELECT, app_id)?;
        let created_at = found
            .as_ref()
            .map_or(transaction.at, |found| found.created_at);
        let after = OutboxRecord {
            url: new.url,
            stream: new.stream,
            poll_interval: new.poll_interval,
            created_at,
            updated_at: transaction.at,
        };
        // An outbox that doesn't open may be replaced.
        let before = found.and_then(|found| self.open_outbox(found).ok());
        let (details, is_elsewhere) = match before {
            // The dropped transaction rolls back, so that its revision isn't used.
            Some(before) if before.is_same(&after) => return Ok(before),
            Some(before) => (before.difference(&after), !before.is_at_place_of(&after)),
            None => (after.public_fields(), true),
        };
        if is_elsewhere {
            execute!(&mut transaction.tx, DELETE_STATE, app_id)?;
        }
        let sealed = self
            .master_key
            .seal(after.url.expose_secret(), &context(app_id));
        execute!(
            &mut transaction.tx,
            SET,
            app_id,
            sealed,
            &after.stream,
            after.poll_interval,
            after.created_at,
            after.updated_at
        )?;
        transaction
            .record("outbox.set", Target::outbox(app_id), &details)
            .await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Removes an app's outbox. Events that wait there stay, and nothing reads them.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such app or it has no outbox, or [`StoreError::Stale`] if the app's
    /// revision isn't the expected one.
    pub async fn remove_outbox(
        &self,
        app_id: &str,
        expected_app_revision: Option<i64>,
        by: &Actor,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin(by).await?;
        transaction
            .check_revision(app_id, expected_app_revision)
            .await?;
        transaction.touch_app(app_id).await?;
        let found = fetch_optional!(SealedOutbox, &mut transaction.tx, SELECT, app_id)?;
        let Some(found) = found else {
            return Err(StoreError::NotFound(format!(
                "the app {app_id:?} has no outbox"
            )));
        };
        // One whose URL doesn't open can be removed as well.
        let details = match self.open_outbox(found) {
            Ok(outbox) => outbox.public_fields(),
            Err(_) => json!({}),
        };
        transaction.delete_outbox(app_id).await?;
        transaction
            .record("outbox.remove", Target::outbox(app_id), &details)
            .await?;
        transaction.commit().await
    }

    /// Returns an app's outbox, if one is set.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::WrongMasterKey`] if its URL doesn't open, or the database's error.
    pub async fn outbox(&self, app_id: &str) -> Result<Option<OutboxRecord>, StoreError> {
        let sealed: Option<SealedOutbox> = self.find(SELECT, app_id).await?;
        sealed.map(|sealed| self.open_outbox(sealed)).transpose()
    }

    /// Takes what the node that reads an outbox says of it. Has no effect if the outbox was removed.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn report_outbox(&self, app_id: &str, state: &OutboxState) -> Result<(), StoreError> {
        execute_alone!(
            &self.db,
            REPORT,
            app_id,
            &state.node,
            state.connected,
            state.backlog,
            state.backlog_is_exact,
            state.oldest_at,
            state.published,
            state.rejected,
            state.last_event_at,
            &state.last_error,
            state.last_error_at,
            state.reported_at
        )?;
        Ok(())
    }

    /// Returns what was last said of an app's outbox; `None` before the first report.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn outbox_state(&self, app_id: &str) -> Result<Option<OutboxState>, StoreError> {
        self.find(STATE, app_id).await
    }

    pub(crate) fn open_outbox(&self, sealed: SealedOutbox) -> Result<OutboxRecord, StoreError> {
        let url = self
            .master_key
            .open(&sealed.url, &context(&sealed.app_id))
            .map_err(|_| StoreError::WrongMasterKey)?;
        Ok(OutboxRecord {
            url: url.into(),
            stream: sealed.stream,
            poll_interval: sealed.poll_interval,
            created_at: sealed.created_at,
            updated_at: sealed.updated_at,
        })
    }
}

impl Transaction<'_> {
    /// Deletes an app's outbox, if it has one, and what was said of it.
    pub(crate) async fn delete_outbox(&mut self, app_id: &str) -> Result<(), StoreError> {
        execute!(&mut self.tx, DELETE, app_id)?;
        execute!(&mut self.tx, DELETE_STATE, app_id)?;
        Ok(())
    }
}

impl NewOutbox {
    /// Checks what the store can judge. Callers check where the outbox is.
    fn check(&self) -> Result<(), StoreError> {
        if !OUTBOX_POLL_INTERVALS.contains(&self.poll_interval) {
            let (least, most) = OUTBOX_POLL_INTERVALS.into_inner();
            return Err(StoreError::Invalid(format!(
                "poll_interval is {least} to {most} milliseconds, not {}",
                self.poll_interval
            )));
        }
        Ok(())
    }
}

impl OutboxRecord {
    /// Returns what the audit log may show of it.
    fn public_fields(&self) -> Value {
        json!({
            "url": without_credentials(self.url.expose_secret()),
            "stream": self.stream,
            "poll_interval": self.poll_interval,
        })
    }

    /// Returns what the audit log may show of a change.
    fn difference(&self, after: &Self) -> Value {
        let (old, new) = (self.public_fields(), after.public_fields());
        let mut changed = difference(&old, &new);
        if self.url.expose_secret() != after.url.expose_secret() {
            // Both look the same if only the credentials differ.
            let urls = json!({"before": old["url"], "after": new["url"]});
            changed.insert("url".into(), urls);
        }
        changed.into()
    }

    /// Returns whether both have the same settings, whenever they were set.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.url.expose_secret() == other.url.expose_secret()
            && self.stream == other.stream
            && self.poll_interval == other.poll_interval
    }

    /// Returns whether another outbox is at the same place, perhaps with other credentials.
    fn is_at_place_of(&self, other: &Self) -> bool {
        let place = |outbox: &Self| without_credentials(outbox.url.expose_secret());
        place(self) == place(other) && self.stream == other.stream
    }
}

/// Returns scheme, host, port and database of a URL, without user, password and parameters.
fn without_credentials(url: &str) -> String {
    let address = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = address.split_once("://") else {
        return String::new();
    };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{place}")
}

/// Returns the context in which an outbox's URL is sealed.
pub(crate) fn context(app_id: &str) -> String {
    format!("outbox::{app_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_is_its_place() {
        for (url, shown) in [
            (
                "postgres://me:s@cret@db:5432/app?password=x",
                "postgres://db:5432/app",
            ),
            (
                "postgres:///app?host=/run&password=s@cret",
                "postgres:///app",
            ),
            ("rediss://:secret@cache/1#x", "rediss://cache/1"),
            ("redis://cache", "redis://cache"),
            ("secret", ""),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
