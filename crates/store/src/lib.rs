//! The persistent data of an installation, in SQLite or in Postgres behind one API.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | [`Database`]: connect, migrate, unlock |
//! | `dialect` | the two pools and the macros over them: everything that differs between the databases |
//! | `postgres` | Postgres, directly or through a connection pooler |
//! | `migrations`, `row` | the tables of both databases, and reading their rows |
//! | `transaction` | the transactions of all changes, with a revision and an audit entry |
//! | `apps`, `keys`, `identity` | one function for each statement, the SQL above it |
//! | `operators`, `sessions`, `sign_in_links`, `tokens`, `scope` | operators, their sessions and API tokens, and their rights |
//! | `signing_keys` | the keys that sign Fanfare's own tokens |
//! | `acme` | accounts, certificates and challenges of ACME servers |
//! | `actor`, `audit` | the audit log |
//! | `alerts` | conditions that need an operator |
//! | `answers` | answers to idempotent requests |
//! | `demo` | the demo app of the first run |
//! | `changes`, `watch` | changes since a revision, and when to ask for them |
//! | `outboxes` | where events wait that backends wrote in their own database |
//! | `quotas` | shares of quotas |
//! | `usage` | what apps did, by minute, hour and day |
//! | `webhooks` | webhooks, what was recorded for them, and what waits to be sent |
//! | `seal`, `master_key` | [`MasterKey`]: secrets at rest, and replacing their key |
//! | `examine` | looking at a database without changing it |
//! | `error` | [`StoreError`] |
//!
//! Each change of what is administered takes an [`Actor`] and writes one entry of the audit log in the same transaction. A call that changes
//! nothing writes none.

mod acme;
mod actor;
mod alerts;
mod answers;
mod apps;
mod audit;
mod changes;
mod database;
mod demo;
mod dialect;
mod error;
mod examine;
mod identity;
mod keys;
mod master_key;
mod migrations;
mod operators;
mod outboxes;
mod postgres;
mod quotas;
mod row;
mod scope;
mod seal;
mod sessions;
mod sign_in_links;
mod signing_keys;
mod tokens;
mod transaction;
mod usage;
mod watch;
mod webhooks;

pub use acme::{AcmeCertificate, AcmeChallenge, AcmeOrder, AcmeState};
pub use actor::{Actor, ActorKind, InvalidActorKind};
pub use alerts::{AlertRecord, NewAlert};
pub use answers::Reservation;
pub use apps::{AppRecord, NewApp};
pub use audit::{AUDIT_ACTIONS, AuditFilter, AuditRecord};
pub use changes::{ChangedApp, Changes, FORMER_KEY_DAYS, MAX_FORMER_KEYS};
pub use database::{Database, Store};
pub use dialect::{check_url, sqlite_file};
pub use error::StoreError;
pub use examine::{Examination, ServerExamination};
pub use keys::{FormerKeyRecord, KeyRecord, KeyUse, NewKey};
pub use operators::{NewOperator, OperatorRecord};
pub use outboxes::{NewOutbox, OUTBOX_POLL_INTERVALS, OutboxRecord, OutboxState};
pub use quotas::{QuotaLevel, QuotaPeriod, Share, ShareRequest, share_size};
pub use scope::{InvalidRole, Role};
pub use seal::{InvalidMasterKey, MasterKey};
pub use sessions::{NewSession, Rotation, SessionProof, SessionRecord};
pub use signing_keys::SigningKeyRecord;
pub use tokens::{NewToken, TokenRecord};
pub use usage::{DAY, HOUR, MINUTE, SAMPLES, UsageCounts, UsageMinute, UsageStep, UsageTotal};
pub use watch::Watch;
pub use webhooks::{
    Announced, DeliveryAttempt, DeliveryDetails, DeliveryFilter, DeliveryPage, DeliveryRecord,
    DeliveryState, EndpointHealth, NewDelivery, NewWebhook, NextStep, Outcome, Recorded, Replay,
    StateChange, Subject, UnknownWord, WEBHOOK_EVENTS, WEBHOOK_SECRET_BYTES, WaitingDelivery,
    WebhookBacklog, WebhookChange, WebhookDay, WebhookFormat, WebhookHeader, WebhookHealth,
    WebhookRecord, WebhookSecret, WebhookState, webhook_secret_bytes,
};
