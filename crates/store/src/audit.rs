//! The audit log. Every change writes its entry in its own transaction. No entry is ever changed, and only those of
//! refused sign-ins are deleted, after 90 days.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::actor::Actor;
use crate::database::Store;
use crate::dialect::{execute, execute_alone, on_db};
use crate::error::StoreError;
use crate::row::{from_row, parsed};
use crate::scope::to_list;
use crate::transaction::Transaction;

const INSERT: &str = "INSERT INTO audit (at, actor_kind, actor_id, actor_name, actor_address, action, \
                                         target_kind, target_id, app_id, details) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const DELETE_REFUSED: &str = "DELETE FROM audit WHERE action = 'session.refuse' AND at < $1";
/// `$2` is a list of app ids, each between colons; see [`to_list`].
const SELECT: &str = "SELECT id, at, actor_kind, actor_id, actor_name, actor_address, action, \
                             target_kind, target_id, app_id, details FROM audit \
                      WHERE ($1 IS NULL OR app_id = $1) \
                        AND ($2 IS NULL OR replace($2, ':' || app_id || ':', '') <> $2) \
                        AND ($3 IS NULL OR actor_id = $3) \
                        AND ($4 IS NULL OR action = $4) \
                        AND ($5 IS NULL OR target_id = $5) \
                        AND ($6 IS NULL OR at >= $6) \
                        AND ($7 IS NULL OR at < $7) \
                        AND ($8 IS NULL OR id < $8) \
                      ORDER BY id DESC LIMIT $9";

/// All actions that entries have.
pub const AUDIT_ACTIONS: [&str; 42] = [
    "alert.open",
    "alert.resolve",
    "alert.silence",
    "app.create",
    "app.delete",
    "app.update",
    "connection.close",
    "console.open",
    "event.publish",
    "event.simulate",
    "identity.update",
    "key.create",
    "key.revoke",
    "key.update",
    "master_key.rotate",
    "node.drain",
    "node.end_drain",
    "operator.create",
    "operator.delete",
    "operator.password",
    "operator.sign_in_link",
    "operator.update",
    "outbox.remove",
    "outbox.set",
    "session.create",
    "session.refuse",
    "session.reuse",
    "session.revoke",
    "session.revoke_all",
    "signing_key.create",
    "signing_key.rotate",
    "token.create",
    "token.revoke",
    "webhook.activate",
    "webhook.add_secret",
    "webhook.create",
    "webhook.delete",
    "webhook.disable",
    "webhook.pause",
    "webhook.replay",
    "webhook.test",
    "webhook.update",
];

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditRecord {
    /// Number of the entry. Later entries have higher ones.
    pub id: i64,
    /// Unix time in milliseconds.
    pub at: i64,
    /// Actor.
    pub actor: Actor,
    /// Action, for example `app.create`.
    pub action: String,
    /// Kind of the target: `app`, `key`, `operator`, `session`, `token`, `signing_key`, ...
    pub target_kind: String,
    /// Id of the target.
    pub target_id: String,
    /// App that the target belongs to.
    pub app_id: Option<String>,
    /// Details, never a secret. For a change: each field that changed, with `before` and `after`.
    pub details: Value,
}

from_row!(row => AuditRecord {
    id,
    at,
    actor: Actor::from_row(row)?,
    action,
    target_kind,
    target_id,
    app_id,
    details: parsed(row, "details", |text| serde_json::from_str(&text))?,
});

/// Filter for entries. An empty filter matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Entries of one app.
    pub app: Option<String>,
    /// Entries of these apps only; entries that belong to no app don't match.
    pub apps: Option<Vec<String>>,
    /// Entries by one operator or token.
    pub actor_id: Option<String>,
    /// Entries of one action.
    pub action: Option<String>,
    /// Entries about one target.
    pub target_id: Option<String>,
    /// Entries at or after this Unix time in milliseconds.
    pub since: Option<i64>,
    /// Entries before this Unix time in milliseconds.
    pub until: Option<i64>,
    /// Entries older than this one, which was the last of the previous page.
    pub before_id: Option<i64>,
}

/// Target of an action.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) kind: &'a str,
    pub(crate) id: &'a str,
    pub(crate) app: Option<&'a str>,
}

impl<'a> Target<'a> {
    pub(crate) fn app(id: &'a str) -> Self {
        Self {
            kind: "app",
            id,
            app: Some(id),
        }
    }

    pub(crate) fn key(key: &'a str, app_id: &'a str) -> Self {
        Self {
            kind: "key",
            id: key,
            app: Some(app_id),
        }
    }

    pub(crate) fn webhook(id: &'a str, app_id: &'a str) -> Self {
        Self {
            kind: "webhook",
            id,
            app: Some(app_id),
        }
    }

    pub(crate) fn outbox(app_id: &'a str) -> Self {
        Self {
            kind: "outbox",
            id: app_id,
            app: Some(app_id),
        }
    }

    /// Returns a target that belongs to no app.
    pub(crate) fn of(kind: &'a str, id: &'a str) -> Self {
        Self {
            kind,
            id,
            app: None,
        }
    }
}

impl Transaction<'_> {
    /// Records what this transaction does. `details` must hold no secret.
    pub(crate) async fn record(
        &mut self,
        action: &str,
        target: Target<'_>,
        details: &Value,
    ) -> Result<(), StoreError> {
        debug_assert!(
            AUDIT_ACTIONS.contains(&action),
            "{action} is missing in AUDIT_ACTIONS"
        );
        let by = self.by;
        execute!(
            &mut self.tx,
            INSERT,
            self.at,
            by.kind.to_string(),
            &by.id,
            &by.name,
            &by.address,
            action,
            target.kind,
            target.id,
            target.app,
            details.to_string(),
        )?;
        Ok(())
    }
}

impl Store {
    /// Records an action that changes nothing in the store, for example a failed sign-in. `details` must hold no
    /// secret.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn record(
        &self,
        by: &Actor,
        action: &str,
        target_kind: &str,
        target_id: &str,
        app_id: Option<&str>,
        details: &Value,
    ) -> Result<(), StoreError> {
        let target = Target {
            kind: target_kind,
            id: target_id,
            app: app_id,
        };
        let mut transaction = self.begin_quietly(by).await?;
        transaction.record(action, target, details).await?;
        transaction.commit().await
    }

    /// Deletes entries of refused sign-ins before a Unix time in milliseconds. Strangers cause them, so they must not
    /// pile up forever.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn delete_refused_sign_ins(&self, before: i64) -> Result<(), StoreError> {
        execute_alone!(&self.db, DELETE_REFUSED, before)?;
        Ok(())
    }

    /// Returns the newest entries that match `filter`, newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        limit: i64,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_as(SELECT)
            .bind(&filter.app)
            .bind(filter.apps.as_deref().map(to_list))
            .bind(&filter.actor_id)
            .bind(&filter.action)
            .bind(&filter.target_id)
            .bind(filter.since)
            .bind(filter.until)
            .bind(filter.before_id)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }
}

/// Returns the differences between two JSON objects by path: `{"limits.connections": {"before": 1, "after": 2}}`. Empty
/// if there are none.
pub(crate) fn difference(before: &Value, after: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    compare("", before, after, &mut found);
    found
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Map<String, Value>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let names = old
                .keys()
                .chain(new.keys().filter(|name| !old.contains_key(*name)));
            for name in names {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                compare(
                    &path,
                    old.get(name).unwrap_or(&Value::Null),
                    new.get(name).unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        _ if before != after => {
            found.insert(path.into(), json!({"before": before, "after": after}));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_each_field_that_changed_and_no_other() {
        let before = json!({"name": "a", "limits": {"x": 1, "y": 2}, "list": [1]});
        let after = json!({"name": "a", "limits": {"x": 1, "y": 3}, "list": [1, 2], "new": true});
        assert_eq!(
            Value::Object(difference(&before, &after)),
            json!({
                "limits.y": {"before": 2, "after": 3},
                "list": {"before": [1], "after": [1, 2]},
                "new": {"before": null, "after": true},
            })
        );
        assert!(difference(&before, &before).is_empty());
    }
}
