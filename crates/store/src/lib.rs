//! Apps and keys, in SQLite or in Postgres behind one API.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | [`Database`]: connect, migrate, unlock |
//! | `dialect` | the two pools and the macro over them: all that knows of two databases |
//! | `apps`, `keys` | one function a statement, the SQL above it |
//! | `demo` | the app of the first run |
//! | `changes` | what is newer than a revision |
//! | `seal` | [`MasterKey`]: secrets at rest |
//! | `error` | [`StoreError`] |

mod apps;
mod changes;
mod database;
mod demo;
mod dialect;
mod error;
mod keys;
mod seal;

pub use apps::{AppRecord, NewApp};
pub use changes::Changes;
pub use database::{Database, Store};
pub use error::StoreError;
pub use keys::{KeyRecord, NewKey};
pub use seal::{InvalidMasterKey, MasterKey};
