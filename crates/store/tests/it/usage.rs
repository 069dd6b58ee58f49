//! What apps did, by minute, hour and day.

use std::collections::BTreeMap;

use fanfare_protocol::{AppId, UserHashKey, UserSketch};
use fanfare_store::{
    AuditFilter, DAY, HOUR, MINUTE, Store, UsageCounts, UsageMinute, UsageStep, UsageTotal,
};

use crate::harness::Kind;

/// 2026-11-20T00:00:00Z.
const DAY_ZERO: i64 = 20_777 * DAY;

/// A minute of an app in which a node had `connections` all the time, and delivered so much.
fn minute(app: Option<&str>, at: i64, connections: i64, deliveries: i64) -> UsageMinute {
    UsageMinute {
        app: app.map(Into::into),
        at,
        connections: [connections; 6],
        counts: UsageCounts {
            deliveries,
            events: 1,
            ..UsageCounts::default()
        },
        ..UsageMinute::default()
    }
}

fn users(names: &[&str]) -> Option<Vec<u8>> {
    let mut sketch = UserSketch::default();
    let app = AppId::parse("a").unwrap();
    for name in names {
        sketch.insert(UserHashKey::default(), &app, name);
    }
    Some(sketch.to_bytes())
}

async fn write(store: &Store, run: &str, flush: i64, rows: &[UsageMinute], now: i64) {
    let late = store.write_usage(run, flush, rows, now).await.unwrap();
    assert_eq!(late, 0);
}

async fn roll_up(store: &Store, now: i64) -> usize {
    let mut rolled = 0;
    while store.roll_up_usage(now).await.unwrap() {
        rolled += 1;
        assert!(rolled < 100, "it does not end");
    }
    rolled
}

/// Each period's beginning, deliveries, peak and sum of connections.
fn numbers(totals: &[UsageTotal]) -> Vec<[i64; 4]> {
    let numbers = |total: &UsageTotal| {
        [
            total.at,
            total.counts.deliveries,
            total.connections_peak,
            total.connections_sum,
        ]
    };
    totals.iter().map(numbers).collect()
}

async fn read(store: &Store, step: UsageStep, from: i64, until: i64) -> Vec<[i64; 4]> {
    let found = store.usage(Some("a"), step, from, until).await.unwrap();
    assert!(found.iter().all(|total| total.app.as_deref() == Some("a")));
    numbers(&found)
}

#[tokio::test]
async fn a_minute_that_is_written_again_counts_once_and_an_old_write_changes_nothing() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let at = DAY_ZERO + 5 * MINUTE;
        for (flush, deliveries) in [(1, 10), (1, 10), (3, 25), (2, 17)] {
            let row = minute(Some("a"), at, 2, deliveries);
            write(&store, "one", flush, &[row], at).await;
        }
        write(&store, "two", 1, &[minute(Some("a"), at, 3, 100)], at).await;
        let found = read(&store, UsageStep::Minute, at, at + MINUTE).await;
        assert_eq!(found, [[at, 125, 5, 30]], "two nodes, each once");
    }
}

#[tokio::test]
async fn the_peak_is_the_highest_sum_of_one_moment() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let at = DAY_ZERO;
        let moving = |connections| UsageMinute {
            connections,
            ..minute(Some("a"), at, 0, 0)
        };
        // Clients move from one node to the other.
        write(&store, "one", 1, &[moving([9, 9, 4, 0, 0, 0])], at).await;
        write(&store, "two", 1, &[moving([0, 1, 5, 9, 9, 8])], at).await;
        for now in [at, at + DAY] {
            roll_up(&store, now).await;
            for step in [UsageStep::Minute, UsageStep::Hour] {
                let found = read(&store, step, at, at + HOUR).await;
                assert_eq!(found, [[at, 0, 10, 54]], "{step:?}");
            }
        }
    }
}

#[tokio::test]
async fn hours_and_days_are_the_same_before_and_after_they_are_rolled_up() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let mut rows = Vec::new();
        for hour in [0, 1, 23, 24] {
            for app in [None, Some("a"), Some("b")] {
                for number in [0, 59] {
                    let at = DAY_ZERO + hour * HOUR + number * MINUTE;
                    rows.push(minute(app, at, hour + number, 7));
                }
            }
        }
        let end = DAY_ZERO + 25 * HOUR;
        write(&store, "one", 1, &rows, end).await;
        let hours = async || read(&store, UsageStep::Hour, DAY_ZERO, end).await;
        let days = async || read(&store, UsageStep::Day, DAY_ZERO, DAY_ZERO + 2 * DAY).await;
        let (hours_before, days_before) = (hours().await, days().await);
        assert_eq!(hours_before.len(), 4);
        assert_eq!(hours_before[0], [DAY_ZERO, 14, 59, 59 * 6]);
        let peak = 23 + 59;
        let sum = 6 * (59 + (1 + 60) + (23 + 82));
        assert_eq!(days_before[0], [DAY_ZERO, 42, peak, sum]);
        assert_eq!(days_before.len(), 2);
        // The last hour and day are under way.
        let now = end - MINUTE;
        assert_eq!(roll_up(&store, now).await, 4, "three hours and a day");
        assert_eq!(roll_up(&store, now).await, 0);
        assert_eq!((hours().await, days().await), (hours_before, days_before));
    }
}

#[tokio::test]
async fn a_late_minute_still_counts_in_its_hour_and_day() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (at, now) = (DAY_ZERO + HOUR, DAY_ZERO + 40 * HOUR);
        write(&store, "one", 1, &[minute(Some("a"), at, 1, 7)], now).await;
        assert_eq!(roll_up(&store, now).await, 2);
        write(&store, "two", 1, &[minute(Some("a"), at, 1, 5)], now).await;
        for _ in 0..2 {
            let hour = read(&store, UsageStep::Hour, at, at + HOUR).await;
            assert_eq!(hour, [[at, 12, 2, 12]]);
            let day = read(&store, UsageStep::Day, DAY_ZERO, DAY_ZERO + DAY).await;
            assert_eq!(day, [[DAY_ZERO, 12, 2, 12]]);
            roll_up(&store, now).await;
        }
    }
}

#[tokio::test]
async fn what_is_too_old_is_refused_and_deleted_and_hours_outlive_their_minutes() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let row = minute(Some("a"), DAY_ZERO, 1, 7);
        write(&store, "one", 1, std::slice::from_ref(&row), DAY_ZERO).await;
        let now = DAY_ZERO + 49 * HOUR;
        // Not rolled up yet, so it stays.
        store.delete_old_usage(now).await.unwrap();
        let minutes = async || read(&store, UsageStep::Minute, DAY_ZERO, now).await.len();
        assert_eq!(minutes().await, 1);
        roll_up(&store, now).await;
        store.delete_old_usage(now).await.unwrap();
        assert_eq!(minutes().await, 0);
        let late = store.write_usage("two", 1, &[row], now).await.unwrap();
        assert_eq!((late, minutes().await), (1, 0));
        let hours = async || read(&store, UsageStep::Hour, DAY_ZERO, now).await.len();
        let days = async || read(&store, UsageStep::Day, DAY_ZERO, DAY_ZERO + DAY).await;
        store.delete_old_usage(DAY_ZERO + 90 * DAY).await.unwrap();
        assert_eq!(hours().await, 1);
        store.delete_old_usage(DAY_ZERO + 91 * DAY).await.unwrap();
        assert_eq!(hours().await, 0);
        assert_eq!(days().await, [[DAY_ZERO, 7, 1, 6]]);
        store
            .delete_old_usage(DAY_ZERO + (3 * 366 + 1) * DAY)
            .await
            .unwrap();
        assert!(days().await.is_empty());
    }
}

#[tokio::test]
async fn users_count_once_over_nodes_and_hours_and_refusals_add_up_by_kind() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let row = |at, names: &[&str], refused: &[(&str, i64)]| UsageMinute {
            users: users(names),
            refused: refused
                .iter()
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect(),
            ..minute(Some("a"), at, 0, 0)
        };
        let one = [
            row(DAY_ZERO, &["ann", "bob"], &[("path", 2)]),
            row(DAY_ZERO + HOUR, &["ann"], &[]),
        ];
        let two = [row(
            DAY_ZERO,
            &["bob", "eve"],
            &[("path", 3), ("message", 1)],
        )];
        let now = DAY_ZERO + 30 * HOUR;
        write(&store, "one", 1, &one, now).await;
        write(&store, "two", 1, &two, now).await;
        for _ in 0..2 {
            let day = store
                .usage(Some("a"), UsageStep::Day, DAY_ZERO, DAY_ZERO + DAY)
                .await
                .unwrap();
            assert_eq!(day[0].users.estimate(), 3);
            let refused = [("message".to_owned(), 1), ("path".to_owned(), 5)];
            assert_eq!(day[0].refused, BTreeMap::from(refused));
            let by_app = store
                .usage_by_app(UsageStep::Hour, DAY_ZERO, DAY_ZERO + 2 * HOUR, None, 10)
                .await
                .unwrap();
            assert_eq!(by_app[0].users.estimate(), 3);
            roll_up(&store, now).await;
        }
    }
}

#[tokio::test]
async fn apps_come_in_pages_and_many_are_rolled_up_in_several_transactions() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let ids: Vec<String> = (0..450).map(|n| format!("App-{n:03}")).collect();
        let mut rows: Vec<_> = ids
            .iter()
            .map(|id| minute(Some(id), DAY_ZERO, 1, 1))
            .collect();
        rows.push(minute(None, DAY_ZERO, 450, 450));
        rows.push(minute(Some("app"), DAY_ZERO + HOUR, 1, 1));
        let now = DAY_ZERO + HOUR + 10 * MINUTE;
        write(&store, "one", 1, &rows, now).await;
        for _ in 0..2 {
            let mut found: Vec<String> = Vec::new();
            loop {
                let after = found.last().map(String::as_str);
                let page = store
                    .usage_by_app(UsageStep::Hour, DAY_ZERO, DAY_ZERO + 2 * HOUR, after, 100)
                    .await
                    .unwrap();
                if page.is_empty() {
                    break;
                }
                found.extend(page.into_iter().filter_map(|total| total.app));
            }
            assert_eq!(found[..450], ids);
            assert_eq!(found[450..], ["app"]);
            let all = store.usage(None, UsageStep::Hour, DAY_ZERO, DAY_ZERO + 2 * HOUR);
            assert_eq!(numbers(&all.await.unwrap()), [[DAY_ZERO, 450, 450, 2700]]);
            roll_up(&store, now).await;
        }
    }
}

#[tokio::test]
async fn two_nodes_that_roll_up_while_others_write_lose_nothing() {
    for kind in Kind::all().await {
        let (one, two) = (kind.store().await, kind.store().await);
        let now = DAY_ZERO + 26 * HOUR;
        let writer = async |store: &Store, run: &str| {
            for flush in 1..30 {
                let at = DAY_ZERO + (flush % 3) * HOUR + flush * MINUTE;
                let row = minute(Some("a"), at, 1, 1);
                write(store, run, flush, &[row], now).await;
            }
        };
        let roller = async |store: &Store| {
            for _ in 0..30 {
                store.roll_up_usage(now).await.unwrap();
            }
        };
        tokio::join!(
            writer(&one, "one"),
            writer(&two, "two"),
            roller(&one),
            roller(&two)
        );
        roll_up(&one, now).await;
        let day = read(&two, UsageStep::Day, DAY_ZERO, DAY_ZERO + DAY).await;
        assert_eq!(day, [[DAY_ZERO, 58, 2, 58 * 6]]);
    }
}

#[tokio::test]
async fn usage_is_neither_a_change_nor_an_entry_of_the_audit_log() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let before = store.changes_since(0).await.unwrap().revision;
        let row = minute(Some("gone"), DAY_ZERO, 1, 7);
        write(&store, "one", 1, &[row], DAY_ZERO).await;
        roll_up(&store, DAY_ZERO + 2 * DAY).await;
        let changes = store.changes_since(0).await.unwrap();
        assert_eq!(changes.revision, before);
        assert!(changes.apps.is_empty(), "no app comes back");
        let audit = store.audit(&AuditFilter::default(), 10).await.unwrap();
        assert!(audit.is_empty());
    }
}
