//! Deletes what is of no use any more: what was announced long ago, what no webhook of its app wants, and what waited for
//! webhooks that are deleted. In small pieces, so that other writers get their turn, and each piece under the lock of its
//! app, so that nodes never wait for each other in a circle.

use super::days::DELETED_AT_ONCE;
use crate::database::Store;
use crate::dialect::{Tx, execute, execute_alone, fetch_all, on_db};
use crate::error::StoreError;
use crate::transaction::Transaction;

const LOCK_APP: &str = "UPDATE webhook_apps SET app_id = app_id WHERE app_id = $1";
const EVENTS: &str = "SELECT events FROM webhooks WHERE app_id = $1";
const NEXT_APP: &str = "SELECT MIN(app_id) FROM webhook_announced WHERE app_id > $1";
const DELETE_OLD: &str = "DELETE FROM webhook_announced WHERE (app_id, kind, channel, user_id) IN \
                          (SELECT app_id, kind, channel, user_id FROM webhook_announced \
                           WHERE app_id = $1 AND NOT is_present AND at < $2 LIMIT $3)";
const DELETE_KIND: &str = "DELETE FROM webhook_announced WHERE (app_id, kind, channel, user_id) IN \
                           (SELECT app_id, kind, channel, user_id FROM webhook_announced \
                            WHERE app_id = $1 AND kind = $2 LIMIT $3)";
const NEXT_QUEUE: &str = "SELECT MIN(webhook_id) FROM webhook_queue WHERE webhook_id > $1";
const IS_KNOWN: &str = "SELECT COUNT(*) FROM webhook_health WHERE webhook_id = $1";
const DELETE_QUEUE: &str = "DELETE FROM webhook_queue WHERE (webhook_id, sequence) IN \
                            (SELECT webhook_id, sequence FROM webhook_queue WHERE webhook_id = $1 LIMIT $2)";

/// What is announced, and the events that tell of it.
const KINDS: [(&str, &[&str]); 3] = [
    ("channel", &["channel_occupied", "channel_vacated"]),
    ("member", &["member_added", "member_removed"]),
    ("cache_miss", &["cache_miss"]),
];

/// Returns the kinds of what some webhooks want to be told of, by their columns `events`.
fn kinds_of(events: &[Option<String>]) -> Vec<&'static str> {
    let wants = |names: &[&str]| {
        events.iter().any(|events| match events {
            None => true,
            Some(json) => serde_json::from_str::<Vec<String>>(json)
                .unwrap_or_default()
                .iter()
                .any(|event| names.contains(&event.as_str())),
        })
    };
    let wanted = KINDS.iter().filter(|(_, names)| wants(names));
    wanted.map(|(kind, _)| *kind).collect()
}

impl Transaction<'_> {
    /// Returns the kinds that an app's webhooks want to be told of.
    pub(super) async fn wanted_kinds(
        &mut self,
        app_id: &str,
    ) -> Result<Vec<&'static str>, StoreError> {
        wanted_kinds(&mut self.tx, app_id).await
    }

    /// Forgets what was announced of the kinds that no webhook of an app wanted so far. What a node that didn't know that
    /// yet has recorded would be taken for what receivers know.
    pub(super) async fn forget_other_kinds(
        &mut self,
        app_id: &str,
        wanted_so_far: &[&str],
    ) -> Result<(), StoreError> {
        execute!(&mut self.tx, LOCK_APP, app_id)?;
        let others = KINDS
            .iter()
            .filter(|(kind, _)| !wanted_so_far.contains(kind));
        for (kind, _) in others {
            execute!(&mut self.tx, DELETE_KIND, app_id, *kind, i64::MAX)?;
        }
        Ok(())
    }
}

async fn wanted_kinds(tx: &mut Tx, app_id: &str) -> Result<Vec<&'static str>, StoreError> {
    let events = fetch_all!((Option<String>,), tx, EVENTS, app_id)?;
    let events: Vec<_> = events.into_iter().map(|(events,)| events).collect();
    Ok(kinds_of(&events))
}

impl Store {
    /// Deletes what was announced as absent before a Unix time in milliseconds, and what deletions of webhooks and apps
    /// have left because they were interrupted.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn prune_webhooks(&self, announced_before: i64) -> Result<(), StoreError> {
        let mut last = String::new();
        while let Some(app_id) = self.next_after(NEXT_APP, &last).await? {
            self.forget_unwanted(&app_id).await?;
            let before = announced_before.saturating_mul(1_000);
            while self.delete_old(&app_id, before).await? == DELETED_AT_ONCE {}
            last = app_id;
        }
        let mut last = String::new();
        while let Some(webhook_id) = self.next_after(NEXT_QUEUE, &last).await? {
            let known: i64 = on_db!(&self.db, pool => sqlx::query_scalar(IS_KNOWN).bind(&webhook_id).fetch_one(pool).await)?;
            if known == 0 {
                self.empty_queue(&webhook_id).await?;
            }
            last = webhook_id;
        }
        Ok(())
    }

    /// Deletes what deleted or changed webhooks have left.
    pub(crate) async fn tidy_webhooks(&self, app_id: &str, deleted: &[String]) {
        for webhook_id in deleted {
            // The deletion is done, whatever becomes of this: pruning makes up for it.
            let _ = self.empty_queue(webhook_id).await;
        }
        let _ = self.forget_unwanted(app_id).await;
    }

    /// Forgets what was announced of an app and none of its webhooks wants.
    pub(super) async fn forget_unwanted(&self, app_id: &str) -> Result<(), StoreError> {
        for (kind, _) in KINDS {
            while self.forget_kind(app_id, kind).await? == DELETED_AT_ONCE {}
        }
        Ok(())
    }

    /// Deletes one piece of what was announced of a kind, if no webhook wants it, and returns how many rows.
    async fn forget_kind(&self, app_id: &str, kind: &str) -> Result<i64, StoreError> {
        let mut tx = self.db.begin().await?;
        execute!(&mut tx, LOCK_APP, app_id)?;
        if wanted_kinds(&mut tx, app_id).await?.contains(&kind) {
            return Ok(0);
        }
        let deleted = execute!(&mut tx, DELETE_KIND, app_id, kind, DELETED_AT_ONCE)?;
        commit_deleted(tx, deleted).await
    }

    async fn delete_old(&self, app_id: &str, before: i64) -> Result<i64, StoreError> {
        let mut tx = self.db.begin().await?;
        execute!(&mut tx, LOCK_APP, app_id)?;
        let deleted = execute!(&mut tx, DELETE_OLD, app_id, before, DELETED_AT_ONCE)?;
        commit_deleted(tx, deleted).await
    }

    async fn empty_queue(&self, webhook_id: &str) -> Result<(), StoreError> {
        loop {
            let deleted = execute_alone!(&self.db, DELETE_QUEUE, webhook_id, DELETED_AT_ONCE)?;
            if deleted == 0 {
                return Ok(());
            }
        }
    }

    async fn next_after(
        &self,
        select: &'static str,
        last: &str,
    ) -> Result<Option<String>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(select).bind(last).fetch_one(pool).await)?)
    }
}

/// Commits a deletion and returns its rows. One that found nothing is rolled back, which costs no write.
async fn commit_deleted(tx: Tx, deleted: u64) -> Result<i64, StoreError> {
    if deleted > 0 {
        tx.commit().await?;
    }
    Ok(i64::try_from(deleted).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::WEBHOOK_EVENTS;

    #[test]
    fn every_event_that_is_announced_belongs_to_one_kind() {
        let mut announced: Vec<&str> = KINDS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        assert!(announced.iter().all(|name| WEBHOOK_EVENTS.contains(name)));
        let count = announced.len();
        announced.sort_unstable();
        announced.dedup();
        assert_eq!(announced.len(), count);
        let json = |names: &[&str]| Some(serde_json::to_string(names).expect("texts are JSON"));
        assert_eq!(kinds_of(&[json(&["client_event"])]), Vec::<&str>::new());
        assert_eq!(
            kinds_of(&[json(&["member_removed"]), json(&["cache_miss"])]),
            ["member", "cache_miss"]
        );
        assert_eq!(kinds_of(&[None]).len(), KINDS.len());
    }
}
