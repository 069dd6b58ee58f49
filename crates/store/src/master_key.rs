//! Replaces the master key of the whole installation.

use std::sync::Arc;

use serde_json::json;

use crate::actor::Actor;
use crate::answers;
use crate::audit::Target;
use crate::database::{CHECK_TEXT, Store};
use crate::dialect::{Tx, execute, fetch_all};
use crate::error::StoreError;
use crate::seal::MasterKey;
use crate::{acme, identity, keys, outboxes, signing_keys, webhooks};

const SET_CHECK: &str =
    "UPDATE installation SET master_key_check = $1, master_key_id = $2 WHERE id = 1";

/// A column of sealed texts. Two other columns identify a row, and give the context in which its text is sealed.
struct Column {
    name: &'static str,
    select: &'static str,
    update: &'static str,
    context: fn(&str, &str) -> String,
}

const COLUMNS: [Column; 10] = [
    Column {
        name: "key",
        select: "SELECT app_id, key, secret FROM keys",
        update: "UPDATE keys SET secret = $3 WHERE app_id = $1 AND key = $2",
        context: keys::context,
    },
    Column {
        name: "identity of app",
        select: "SELECT '', app_id, config FROM identities",
        update: "UPDATE identities SET config = $3 WHERE $1 = '' AND app_id = $2",
        context: |_, app_id| identity::context(app_id),
    },
    Column {
        name: "webhook",
        select: "SELECT app_id, id, secrets FROM webhooks",
        update: "UPDATE webhooks SET secrets = $3 WHERE app_id = $1 AND id = $2",
        context: webhooks::secrets_context,
    },
    Column {
        name: "webhook's headers",
        select: "SELECT app_id, id, headers FROM webhooks WHERE headers IS NOT NULL",
        update: "UPDATE webhooks SET headers = $3 WHERE app_id = $1 AND id = $2",
        context: webhooks::headers_context,
    },
    Column {
        name: "signing key",
        select: "SELECT '', id, secret FROM signing_keys",
        update: "UPDATE signing_keys SET secret = $3 WHERE $1 = '' AND id = $2",
        context: |_, id| signing_keys::context(id),
    },
    Column {
        name: "ACME account with",
        select: "SELECT '', directory, credentials FROM acme_accounts",
        update: "UPDATE acme_accounts SET credentials = $3 WHERE $1 = '' AND directory = $2",
        context: |_, directory| acme::account_context(directory),
    },
    Column {
        name: "ACME certificate of",
        select: "SELECT directory, names, private_key FROM acme_certificates WHERE private_key IS NOT NULL",
        update: "UPDATE acme_certificates SET private_key = $3 WHERE directory = $1 AND names = $2",
        context: acme::certificate_context,
    },
    Column {
        name: "outbox of app",
        select: "SELECT '', app_id, url FROM outboxes",
        update: "UPDATE outboxes SET url = $3 WHERE $1 = '' AND app_id = $2",
        context: |_, app_id| outboxes::context(app_id),
    },
    Column {
        name: "answer",
        select: "SELECT scope, key, body FROM answers WHERE body IS NOT NULL",
        update: "UPDATE answers SET body = $3 WHERE scope = $1 AND key = $2",
        context: answers::context,
    },
    Column {
        name: "request",
        select: "SELECT scope, key, body_hash FROM answers",
        update: "UPDATE answers SET body_hash = $3 WHERE scope = $1 AND key = $2",
        context: answers::request_context,
    },
];

impl Store {
    /// Seals everything with another master key in one transaction, and returns how many secrets that were. Stores that
    /// still have the old key are refused from then on.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Conflict`] if a secret doesn't open with the present key, or the database's error. Nothing
    /// was changed.
    pub async fn rotate_master_key(
        self,
        new: &MasterKey,
        by: &Actor,
    ) -> Result<(Self, usize), StoreError> {
        let mut transaction = self.begin(by).await?;
        let mut resealed = 0;
        for column in &COLUMNS {
            resealed += self.reseal(&mut transaction.tx, column, new).await?;
        }
        let check = new.seal(CHECK_TEXT, CHECK_TEXT);
        execute!(&mut transaction.tx, SET_CHECK, check, new.id())?;
        let details = json!({"resealed": resealed});
        transaction
            .record(
                "master_key.rotate",
                Target::of("master_key", &new.id()),
                &details,
            )
            .await?;
        transaction.commit().await?;
        let store = Self {
            db: self.db,
            master_key: Arc::new(new.clone()),
            webhook_day: self.webhook_day,
        };
        Ok((store, resealed))
    }

    async fn reseal(
        &self,
        tx: &mut Tx,
        column: &Column,
        new: &MasterKey,
    ) -> Result<usize, StoreError> {
        let rows = fetch_all!((String, String, Vec<u8>), tx, column.select)?;
        let count = rows.len();
        for (one, two, sealed) in rows {
            let context = (column.context)(&one, &two);
            let plain = self.master_key.open(&sealed, &context).map_err(|_| {
                StoreError::Conflict(format!(
                    "the {} {two:?} does not open with the present master key; it is damaged, delete it first",
                    column.name
                ))
            })?;
            execute!(tx, column.update, one, two, new.seal(&plain, &context))?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::COLUMNS;
    use crate::dialect::{Db, Pool};

    /// Columns with bytes that no master key seals: hashes, the check that a rotation sets itself, and the sketches of
    /// users. These hold parts of keyed hashes, which can't be turned back into users to be hashed under a new key.
    const NOT_RESEALED: [&str; 7] = [
        "refresh_tokens.hash",
        "sessions.cookie_hash",
        "sign_in_links.hash",
        "installation.master_key_check",
        "usage_minutes.users",
        "usage_hours.users",
        "usage_days.users",
    ];

    /// Returns `keys.secret` for `UPDATE keys SET secret = $3 WHERE ..`.
    fn updated(sql: &str) -> String {
        let words: Vec<&str> = sql.split_whitespace().collect();
        assert_eq!(
            (words[0], words[2], words[4]),
            ("UPDATE", "SET", "="),
            "{sql}"
        );
        format!("{}.{}", words[1], words[3])
    }

    #[tokio::test]
    async fn a_rotation_reseals_every_column_of_the_schema_that_holds_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::open(&folder.path().join("x.db"), true)
            .await
            .expect("a store");
        let Pool::Sqlite(pool) = &db.pool else {
            unreachable!("an SQLite file was opened")
        };
        let columns: Vec<String> = sqlx::query_scalar(
            "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND c.type = 'BLOB' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\'",
        )
        .fetch_all(pool)
        .await
        .expect("the schema");
        let in_schema: BTreeSet<String> = columns.into_iter().collect();
        let resealed = COLUMNS.iter().map(|column| updated(column.update));
        let known: BTreeSet<String> = resealed.chain(NOT_RESEALED.map(str::to_owned)).collect();
        assert_eq!(
            known, in_schema,
            "name a column that is sealed in COLUMNS, any other in NOT_RESEALED"
        );
        for column in &COLUMNS {
            let table = updated(column.update);
            let (table, name) = table.split_once('.').expect("a table and a column");
            assert!(
                column.select.contains(&format!("{name} FROM {table}")),
                "{} reads another column than {} writes",
                column.select,
                column.update
            );
        }
    }
}
