//! Refused sign-ins for the audit log. Strangers cause them, so they are counted by the hour instead of recorded one by
//! one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare_store::{Actor, Store, StoreError};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::clock::unix_millis;

/// Milliseconds of an hour.
const HOUR: i64 = 60 * 60 * 1000;
/// Number of sources (address and operator) that have entries of their own in an hour. Refusals from further ones share
/// one entry.
const MAX_ADDRESSES: usize = 100;
/// How long entries are kept, in milliseconds: 90 days.
const RETENTION: i64 = 90 * 24 * HOUR;
/// How often an ended hour is recorded.
const TICK: Duration = Duration::from_secs(60);
/// How long a call to the store may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Counts refused sign-ins by hour, address and operator. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<Hour>>);

#[derive(Debug, Default)]
struct Hour {
    /// Hours since 1970.
    number: i64,
    counts: HashMap<Source, u64>,
    /// Refusals from sources without an entry of their own.
    elsewhere: u64,
}

/// An address and the operator that the sign-in named, if there is one of that name.
type Source = (Option<IpAddr>, String);

/// An entry for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    address: Option<IpAddr>,
    operator: String,
    /// Number of refusals within the hour, or `None` for the first one, which is recorded when it happens.
    refused: Option<u64>,
}

impl Refusals {
    /// Records a refused sign-in: the first one of a source in an hour at once, and their number after the hour.
    pub(crate) async fn note(&self, store: &Store, address: Option<IpAddr>, operator: &str) {
        let entries = self.0.lock().note(address, operator, unix_millis());
        write_down(store, entries).await;
    }

    /// Records hours that are over and deletes entries older than [`RETENTION`]. Never returns.
    pub(crate) async fn run(self, store: Store) {
        let mut tick = 0_u32;
        loop {
            if tick.is_multiple_of(60) {
                prune(&store).await;
            }
            tick = tick.wrapping_add(1);
            sleep(TICK).await;
            let entries = self.0.lock().end_if_over(unix_millis());
            write_down(&store, entries).await;
        }
    }

    /// Records the current hour's counts, at the end of the process.
    pub(crate) async fn finish(&self, store: &Store) {
        let entries = self.0.lock().end();
        write_down(store, entries).await;
    }
}

impl Hour {
    fn note(&mut self, address: Option<IpAddr>, operator: &str, now: i64) -> Vec<Entry> {
        let mut entries = self.end_if_over(now);
        self.number = now / HOUR;
        let key = (address, operator.to_owned());
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
        } else if self.counts.len() >= MAX_ADDRESSES {
            self.elsewhere += 1;
        } else {
            entries.push(Entry {
                address,
                operator: operator.to_owned(),
                refused: None,
            });
            self.counts.insert(key, 1);
        }
        entries
    }

    fn end_if_over(&mut self, now: i64) -> Vec<Entry> {
        if now / HOUR == self.number {
            return Vec::new();
        }
        self.end()
    }

    /// Ends the hour. Returns the counts above one, because the first refusal is already recorded.
    fn end(&mut self) -> Vec<Entry> {
        let counts = std::mem::take(&mut self.counts).into_iter();
        let mut entries: Vec<_> = counts
            .filter(|(_, refused)| *refused > 1)
            .map(|((address, operator), refused)| Entry {
                address,
                operator,
                refused: Some(refused),
            })
            .collect();
        let elsewhere = std::mem::take(&mut self.elsewhere);
        if elsewhere > 0 {
            entries.push(Entry {
                address: None,
                operator: "unknown".into(),
                refused: Some(elsewhere),
            });
        }
        entries
    }
}

async fn write_down(store: &Store, entries: Vec<Entry>) {
    for entry in entries {
        let address = entry.address.map(|address| address.to_string());
        let by = Actor {
            address: address.clone(),
            ..Actor::system()
        };
        let details = match entry.refused {
            None => json!({"address": address}),
            Some(refused) => json!({"address": address, "refused_within_the_hour": refused}),
        };
        let recorded = store.record(
            &by,
            "session.refuse",
            "operator",
            &entry.operator,
            None,
            &details,
        );
        let recorded = timeout(STORE_TIMEOUT, recorded).await;
        if let Err(error) = recorded.unwrap_or(Err(StoreError::Late)) {
            tracing::warn!(%error, "a refused sign-in is not in the audit log");
        }
    }
}

async fn prune(store: &Store) {
    let before = unix_millis() - RETENTION;
    let pruned = timeout(STORE_TIMEOUT, store.delete_refused_sign_ins(before)).await;
    if let Err(error) = pruned.unwrap_or(Err(StoreError::Late)) {
        tracing::debug!(%error, "old refused sign-ins stay in the audit log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: usize) -> Option<IpAddr> {
        format!("10.0.{}.{}", last / 256, last % 256).parse().ok()
    }

    #[test]
    fn the_first_of_an_hour_is_written_down_at_once_and_the_number_after_it() {
        let mut hour = Hour::default();
        let now = 1_000_000 * HOUR;
        let first = hour.note(address(1), "unknown", now);
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].address, first[0].refused), (address(1), None));
        for _ in 0..14_400 {
            assert!(hour.note(address(1), "unknown", now + HOUR - 1).is_empty());
        }
        assert!(hour.end_if_over(now + HOUR - 1).is_empty());
        let over = hour.end_if_over(now + HOUR);
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].refused, Some(14_401));
        assert!(hour.end_if_over(now + 2 * HOUR).is_empty());
        assert_eq!(hour.note(address(1), "unknown", now + 2 * HOUR).len(), 1);
        assert!(hour.end().is_empty(), "one is written down already");
    }

    #[test]
    fn many_addresses_are_counted_together() {
        let mut hour = Hour::default();
        let now = 1_000_000 * HOUR;
        let written: usize = (0..10_000)
            .map(|number| hour.note(address(number), "unknown", now).len())
            .sum();
        assert_eq!(written, MAX_ADDRESSES);
        let over = hour.end();
        assert_eq!(over.len(), 1);
        let elsewhere = 10_000 - MAX_ADDRESSES as u64;
        assert_eq!((over[0].address, over[0].refused), (None, Some(elsewhere)));
    }
}
