//! The events that backends write in their own database instead of sending them: rows of a table in Postgres, which a
//! transaction inserts and a rollback takes back, or entries of a stream in Redis.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `location` | [`Location`]: where an app's outbox is, and the rules for its URL |
//! | `event` | events as an outbox holds them, and what a batch of them may hold |
//! | `reader` | [`Reader`]: reading an outbox, wherever it is |
//! | `postgres` | the table and its functions, [`install`], and reading them |
//! | `redis` | the stream, and reading it |
//! | `error` | [`OutboxError`] |

mod error;
mod event;
mod location;
mod postgres;
mod reader;
mod redis;

pub use error::OutboxError;
pub use event::{BatchLimits, OutboxEvent, Rejection, batch_key};
pub use location::Location;
pub use postgres::{SCHEMA, grants, install};
pub use reader::{Backlog, Identity, Lease, MAX_COUNTED, PublishLimits, Reader};
