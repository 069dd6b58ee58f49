//! Changes since a revision, through which a running node learns what other processes changed.

use std::collections::HashMap;

use secrecy::SecretString;

use crate::apps::AppRecord;
use crate::database::{Store, now};
use crate::dialect::on_db;
use crate::error::StoreError;
use crate::identity::SealedIdentity;
use crate::keys::{FormerKeyRecord, KeyRecord, SealedKey};
use crate::outboxes::{OutboxRecord, SealedOutbox};
use crate::usage::DAY;
use crate::webhooks::{SealedWebhook, WebhookRecord};

const REVISION: &str = "SELECT revision, master_key_id FROM installation WHERE id = 1";
const CHANGED_APPS: &str = "SELECT id, name, settings, created_at, updated_at, revision FROM apps \
                            WHERE revision > $1 AND revision <= $2";
const DELETED_APPS: &str = "SELECT id FROM deleted_apps WHERE revision > $1 AND revision <= $2";
/// Read after the apps and without an upper bound: an app that is changed again in between would otherwise seem to have
/// no key.
const CHANGED_KEYS: &str = "SELECT k.key, k.app_id, k.secret, k.label, k.created_at, k.expires_at, \
                                   k.revoked_at, k.last_used_at, k.last_used_from \
                            FROM keys k JOIN apps a ON a.id = k.app_id \
                            WHERE a.revision > $1 AND k.revoked_at IS NULL \
                              AND (k.expires_at IS NULL OR k.expires_at > $2) \
                            ORDER BY k.created_at, k.key";
/// The last keys of each app that ended after $3. A key that expired and was revoked later ended when it expired.
const FORMER_KEYS: &str = "SELECT key, app_id, expires_at, revoked_at FROM \
                             (SELECT key, app_id, expires_at, revoked_at, \
                                     ROW_NUMBER() OVER (PARTITION BY app_id ORDER BY ended_at DESC, key) AS place FROM \
                               (SELECT k.key, k.app_id, k.expires_at, k.revoked_at, \
                                       CASE WHEN k.revoked_at IS NULL OR k.expires_at < k.revoked_at \
                                            THEN k.expires_at ELSE k.revoked_at END AS ended_at \
                                FROM keys k JOIN apps a ON a.id = k.app_id \
                                WHERE a.revision > $1 AND (k.revoked_at IS NOT NULL OR k.expires_at <= $2)) ended \
                              WHERE ended_at > $3) placed \
                           WHERE place <= $4 ORDER BY app_id, place";
const CHANGED_IDENTITIES: &str = "SELECT i.app_id, i.config \
                                  FROM identities i JOIN apps a ON a.id = i.app_id \
                                  WHERE a.revision > $1";

const CHANGED_WEBHOOKS: &str = "SELECT w.id, w.app_id, w.name, w.url, w.events, w.channels, w.format, w.is_batched, \
                                       w.headers, w.secrets, w.state, w.state_reason, w.created_at, w.updated_at \
                                FROM webhooks w JOIN apps a ON a.id = w.app_id \
                                WHERE a.revision > $1 ORDER BY w.created_at, w.id";

const CHANGED_OUTBOXES: &str = "SELECT o.app_id, o.url, o.stream, o.poll_interval, o.created_at, o.updated_at \
                                FROM outboxes o JOIN apps a ON a.id = o.app_id \
                                WHERE a.revision > $1";

/// Days for which changes name keys that aren't active any more.
pub const FORMER_KEY_DAYS: i64 = 30;
/// Most keys of an app that aren't active any more and that changes name.
pub const MAX_FORMER_KEYS: usize = 100;

/// Changes that a node has to apply.
#[derive(Debug)]
pub struct Changes {
    /// Revision to pass next time.
    pub revision: i64,
    /// Apps that are new or have changed.
    pub apps: Vec<ChangedApp>,
    /// Ids of deleted apps.
    pub deleted: Vec<String>,
}

/// An app that is new or has changed, itself or in its keys, identity, webhooks or outbox.
#[derive(Debug)]
pub struct ChangedApp {
    /// The app.
    pub app: AppRecord,
    /// All its active keys, of which some may expire later.
    pub keys: Vec<KeyRecord>,
    /// The keys that ended in the last [`FORMER_KEY_DAYS`] days, the last [`MAX_FORMER_KEYS`] of them, latest first.
    pub former_keys: Vec<FormerKeyRecord>,
    /// Its identity; see [`Store::identity`].
    pub identity: Option<SecretString>,
    /// All its webhooks, oldest first.
    pub webhooks: Vec<WebhookRecord>,
    /// Its outbox, if one is set.
    pub outbox: Option<OutboxRecord>,
}

impl Store {
    /// Returns what is newer than `revision`; 0 means everything.
    ///
    /// # Errors
    ///
    /// Returns the database's error, or [`StoreError::WrongMasterKey`] if the master key was replaced.
    pub async fn changes_since(&self, revision: i64) -> Result<Changes, StoreError> {
        let newest = self.revision_under_our_key().await?;
        let mut changes = Changes {
            revision: newest,
            apps: Vec::new(),
            deleted: Vec::new(),
        };
        if newest == revision {
            return Ok(changes);
        }
        // These reads share no transaction: a change in between only makes a result newer, and the next call reads it
        // again.
        let apps: Vec<AppRecord> = on_db!(&self.db, pool =>
            sqlx::query_as(CHANGED_APPS).bind(revision).bind(newest).fetch_all(pool).await)?;
        let at = now();
        let mut keys = self.changed_keys(revision, at).await?;
        let mut former_keys = self.former_keys(revision, at).await?;
        let mut identities = self.changed_identities(revision).await?;
        let mut webhooks = self.changed_webhooks(revision).await?;
        let mut outboxes = self.changed_outboxes(revision).await?;
        let whole = |app: AppRecord| ChangedApp {
            keys: keys.remove(&app.id).unwrap_or_default(),
            former_keys: former_keys.remove(&app.id).unwrap_or_default(),
            identity: identities.remove(&app.id),
            webhooks: webhooks.remove(&app.id).unwrap_or_default(),
            outbox: outboxes.remove(&app.id),
            app,
        };
        changes.apps = apps.into_iter().map(whole).collect();
        changes.deleted = on_db!(&self.db, pool =>
            sqlx::query_scalar(DELETED_APPS).bind(revision).bind(newest).fetch_all(pool).await)?;
        Ok(changes)
    }

    async fn changed_keys(
        &self,
        revision: i64,
        at: i64,
    ) -> Result<HashMap<String, Vec<KeyRecord>>, StoreError> {
        let sealed: Vec<SealedKey> = on_db!(&self.db, pool =>
            sqlx::query_as(CHANGED_KEYS).bind(revision).bind(at).fetch_all(pool).await)?;
        let mut by_app: HashMap<String, Vec<KeyRecord>> = HashMap::new();
        for key in sealed {
            let (app, name) = (key.app_id.clone(), key.key.clone());
            match self.open(key) {
                Ok(key) => by_app.entry(app).or_default().push(key),
                Err(error) => {
                    // After a rotation no secret opens. Then nothing may be left out.
                    self.revision_under_our_key().await?;
                    tracing::error!(app, key = name, %error, "this key is left out: its secret does not open");
                }
            }
        }
        Ok(by_app)
    }

    async fn former_keys(
        &self,
        revision: i64,
        at: i64,
    ) -> Result<HashMap<String, Vec<FormerKeyRecord>>, StoreError> {
        let since = at - FORMER_KEY_DAYS * DAY;
        let most = i64::try_from(MAX_FORMER_KEYS).unwrap_or(i64::MAX);
        let former: Vec<FormerKeyRecord> = on_db!(&self.db, pool =>
            sqlx::query_as(FORMER_KEYS).bind(revision).bind(at).bind(since).bind(most).fetch_all(pool).await)?;
        let mut by_app: HashMap<String, Vec<FormerKeyRecord>> = HashMap::new();
        for key in former {
            by_app.entry(key.app_id.clone()).or_default().push(key);
        }
        Ok(by_app)
    }

    async fn changed_identities(
        &self,
        revision: i64,
    ) -> Result<HashMap<String, SecretString>, StoreError> {
        let sealed: Vec<SealedIdentity> = on_db!(&self.db, pool =>
            sqlx::query_as(CHANGED_IDENTITIES).bind(revision).fetch_all(pool).await)?;
        let mut by_app = HashMap::new();
        for identity in sealed {
            let app = identity.app_id.clone();
            match self.open_identity(&identity) {
                Ok(config) => {
                    by_app.insert(app, config);
                }
                Err(error) => {
                    // After a rotation no secret opens. Then nothing may be left out.
                    self.revision_under_our_key().await?;
                    tracing::error!(app, %error, "this app's identity is left out: it does not open");
                }
            }
        }
        Ok(by_app)
    }

    async fn changed_webhooks(
        &self,
        revision: i64,
    ) -> Result<HashMap<String, Vec<WebhookRecord>>, StoreError> {
        let sealed: Vec<SealedWebhook> = on_db!(&self.db, pool =>
            sqlx::query_as(CHANGED_WEBHOOKS).bind(revision).fetch_all(pool).await)?;
        let mut by_app: HashMap<String, Vec<WebhookRecord>> = HashMap::new();
        for webhook in sealed {
            let (app, id) = (webhook.app_id.clone(), webhook.id.clone());
            match self.open_webhook(webhook) {
                Ok(webhook) => by_app.entry(app).or_default().push(webhook),
                Err(error) => {
                    // After a rotation no secret opens. Then nothing may be left out.
                    self.revision_under_our_key().await?;
                    tracing::error!(app, webhook = id, %error, "this webhook is left out: its secrets do not open");
                }
            }
        }
        Ok(by_app)
    }

    async fn changed_outboxes(
        &self,
        revision: i64,
    ) -> Result<HashMap<String, OutboxRecord>, StoreError> {
        let sealed: Vec<SealedOutbox> = on_db!(&self.db, pool =>
            sqlx::query_as(CHANGED_OUTBOXES).bind(revision).fetch_all(pool).await)?;
        let mut by_app = HashMap::new();
        for outbox in sealed {
            let app = outbox.app_id.clone();
            match self.open_outbox(outbox) {
                Ok(outbox) => {
                    by_app.insert(app, outbox);
                }
                Err(error) => {
                    // After a rotation no secret opens. Then nothing may be left out.
                    self.revision_under_our_key().await?;
                    tracing::error!(app, %error, "this app's outbox is left out: its URL does not open; set it again");
                }
            }
        }
        Ok(by_app)
    }

    /// Returns the installation's revision, or [`StoreError::WrongMasterKey`] if its secrets are sealed with another
    /// master key. Secrets that don't open then aren't damaged: the node keeps what it knew until it gets the new key.
    async fn revision_under_our_key(&self) -> Result<i64, StoreError> {
        let (revision, master_key_id): (i64, Option<String>) =
            on_db!(&self.db, pool => sqlx::query_as(REVISION).fetch_one(pool).await)?;
        if master_key_id != Some(self.master_key.id()) {
            return Err(StoreError::WrongMasterKey);
        }
        Ok(revision)
    }
}
