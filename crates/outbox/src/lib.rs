//! The events that backends write in their own database instead of sending them: rows of a table in Postgres, which a
//! transaction inserts and a rollback takes back, or entries of a stream in Redis.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `location` | [`Location`]: where an app's outbox is, and the rules for its URL |

mod location;

pub use location::Location;
