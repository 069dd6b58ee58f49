//! What an installation knows, in SQLite or in Postgres behind one API.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | [`Database`]: connect, migrate, unlock |
//! | `dialect` | the two pools and the macros over them: all that knows of two databases |
//! | `postgres` | Postgres, directly or through a connection pooler |
//! | `migrations`, `row` | the tables of both databases, and how their rows are read |
//! | `transaction` | in which everything is changed, with a revision and an audit entry |
//! | `apps`, `keys`, `identity` | one function a statement, the SQL above it |
//! | `operators`, `sessions`, `tokens`, `scope` | who administers the installation, and what they may do |
//! | `signing_keys` | what signs the tokens we issue ourselves |
//! | `actor`, `audit` | who changed what |
//! | `answers` | answers to requests that may come twice |
//! | `demo` | the app of the first run |
//! | `changes`, `watch` | what is newer than a revision, and when to ask |
//! | `seal`, `master_key` | [`MasterKey`]: secrets at rest, and another key for them |
//! | `error` | [`StoreError`] |
//!
//! Whatever changes something takes an [`Actor`], and writes one entry of the audit log in the same transaction. Where
//! nothing changes, there is none.

mod actor;
mod answers;
mod apps;
mod audit;
mod changes;
mod database;
mod demo;
mod dialect;
mod error;
mod identity;
mod keys;
mod master_key;
mod migrations;
mod operators;
mod postgres;
mod row;
mod scope;
mod seal;
mod sessions;
mod signing_keys;
mod tokens;
mod transaction;
mod watch;

pub use actor::{Actor, ActorKind, InvalidActorKind};
pub use answers::Reservation;
pub use apps::{AppRecord, NewApp};
pub use audit::{AuditFilter, AuditRecord};
pub use changes::{ChangedApp, Changes};
pub use database::{Database, Store};
pub use dialect::{check_url, sqlite_file};
pub use error::StoreError;
pub use keys::{KeyRecord, KeyUse, NewKey};
pub use operators::{NewOperator, OperatorRecord};
pub use scope::{InvalidRole, Role};
pub use seal::{InvalidMasterKey, MasterKey};
pub use sessions::{NewSession, Rotation, SessionRecord};
pub use signing_keys::SigningKeyRecord;
pub use tokens::{NewToken, TokenRecord};
pub use watch::Watch;
