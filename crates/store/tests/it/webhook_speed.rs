//! How fast webhooks are recorded, sent and read, with a million deliveries of a day. It fails where something takes longer
//! than it may. Ignored, because it takes a minute and needs a machine that does nothing else:
//! `cargo test -p fanfare-store --test it webhook_speed -- --ignored --nocapture`.

use std::time::Duration;

use fanfare_store::{
    DAY, DeliveryFilter, DeliveryState, EndpointHealth, HOUR, NewDelivery, NextStep, StateChange,
    Store,
};

use tokio::time::Instant;

use crate::harness::{Kind, by};
use crate::webhook_queue::{Setup, channel, delivery, outcome, set_up};

/// A bit for each lane.
const ALL_LANES: i64 = -1;

/// 2026-11-20T00:00:00Z.
const DAY_ZERO: i64 = 20_777 * DAY;
/// Transitions of a pass.
const PASS: i64 = 200;
const PASSES: i64 = 200;
const MILLION: i64 = 1_000_000;

/// Transitions of one pass, all of other channels.
fn pass(number: i64) -> Vec<StateChange> {
    let name = |n: i64| format!("presence-room-{}", number * PASS + n);
    (0..PASS).map(|n| channel(&name(n), true, number)).collect()
}

async fn record(store: &Store, setup: &Setup, number: i64) {
    let changes = pass(number);
    let make = |is_news: &[bool]| {
        assert!(is_news.iter().all(|is_news| *is_news));
        let webhooks = setup.webhooks.iter();
        let of = |webhook: &String| {
            let webhook = webhook.clone();
            let one =
                move |change: &StateChange| delivery(&webhook, "channel_occupied", &change.channel);
            changes.iter().map(one).collect::<Vec<NewDelivery>>()
        };
        webhooks.flat_map(of).collect()
    };
    store
        .record_webhook_events(&setup.app, number, &changes, DAY_ZERO + number, make)
        .await
        .unwrap();
}

/// Sends what waits until there are `total` deliveries settled.
async fn send(store: &Store, webhook: &str, total: usize) {
    let mut settled = 0;
    while settled < total {
        store
            .lease_webhooks("x", i64::MAX, 60_000, 100)
            .await
            .unwrap();
        let waiting = store
            .waiting_deliveries("x", webhook, 0, false, ALL_LANES, 200)
            .await
            .unwrap();
        if waiting.is_empty() {
            // Nothing was recorded yet.
            tokio::task::yield_now().await;
            continue;
        }
        let outcomes: Vec<_> = waiting
            .iter()
            .map(|one| outcome(one.sequence, NextStep::Delivered))
            .collect();
        let health = EndpointHealth::default();
        assert!(
            store
                .settle_deliveries("x", webhook, &outcomes, &health)
                .await
                .unwrap()
        );
        settled += outcomes.len();
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Records and sends at the same time.
async fn measure_throughput(name: &str, store: &Store, setup: &Setup) {
    let total = PASSES * PASS;
    let started = Instant::now();
    let recording = async {
        for number in 1..=PASSES {
            record(store, setup, number).await;
        }
        started.elapsed()
    };
    let sending = send(store, &setup.webhooks[0], usize::try_from(total).unwrap());
    let (recorded, ()) = tokio::join!(recording, sending);
    let rate = |time: Duration| f64::from(i32::try_from(total).unwrap()) / time.as_secs_f64();
    let sent = rate(started.elapsed());
    eprintln!(
        "{name}: {:.0} transitions/s recorded, {sent:.0}/s sent and settled at the same time",
        rate(recorded)
    );
    assert!(sent >= 2_000.0);
}

/// Writes the rest of a day with a million deliveries behind the store's back.
async fn fill_day(kind: &Kind, webhook: &str) {
    let numbers = format!(
        "(WITH RECURSIVE n(i) AS (SELECT {} UNION ALL SELECT i + 1 FROM n WHERE i < {MILLION}) SELECT i FROM n) AS numbers",
        PASSES * PASS + 1
    );
    let at = format!("{DAY_ZERO} + i * 80");
    let events = r#"'[{"name":"channel_occupied","channel":"presence-room-' || i || '"}]'"#;
    kind.execute(&format!(
        "INSERT INTO webhook_deliveries_20261120 (webhook_id, sequence, created_at, lane, state, attempts, finished_at, \
         event_count, size, names, channel, events) SELECT '{webhook}', i, {at}, 0, 'delivered', 1, {at}, 1, 60, \
         'channel_occupied', 'presence-room-' || i, {events} FROM {numbers}"
    ))
    .await;
    kind.execute(&format!(
        "INSERT INTO webhook_attempts_20261120 (webhook_id, sequence, attempt, at, milliseconds, status, answer, node, \
         is_replay) SELECT '{webhook}', i, 1, {at}, 50, 200, '{}', 'node-1', FALSE FROM {numbers}",
        "x".repeat(100)
    ))
    .await;
    kind.execute(&format!(
        "UPDATE webhook_health SET last_sequence = {MILLION}"
    ))
    .await;
    kind.execute("ANALYZE").await;
}

async fn measure_pages(name: &str, store: &Store, webhook: &str) {
    let all = DeliveryFilter::default();
    let before = |before| DeliveryFilter {
        before: Some(before),
        ..all.clone()
    };
    let after = |after| DeliveryFilter {
        after: Some(after),
        ..all.clone()
    };
    let failed = DeliveryFilter {
        state: Some(DeliveryState::Failed),
        ..all.clone()
    };
    let event = DeliveryFilter {
        event: Some("cache_miss".into()),
        ..all.clone()
    };
    let channel = DeliveryFilter {
        channel: Some("presence-room-990000".into()),
        ..all.clone()
    };
    let hour = DeliveryFilter {
        from: Some(DAY_ZERO + DAY / 2),
        until: Some(DAY_ZERO + DAY / 2 + HOUR),
        ..all.clone()
    };
    for (what, filter) in [
        ("the newest", all.clone()),
        ("the middle", before(MILLION / 2)),
        ("the oldest", after(0)),
        ("what failed, of which there is nothing", failed),
        ("an event that there is not", event),
        ("one channel", channel),
        ("an hour", hour),
    ] {
        let mut times = Vec::new();
        for _ in 0..11 {
            let started = Instant::now();
            let page = store.webhook_deliveries(webhook, &filter, 100).await;
            times.push(started.elapsed());
            let page = page.unwrap();
            assert!(page.has_more || !page.deliveries.is_empty());
        }
        let (first, median) = (times[0], median(times));
        eprintln!("{name}: a page of {what}: {median:?}, the first {first:?}");
        assert!(median < Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute, and needs a machine that does nothing else"]
async fn webhook_speed() {
    for kind in Kind::all().await {
        let name = match &kind {
            Kind::Sqlite(_) => "SQLite",
            Kind::Postgres(_) => "Postgres",
            Kind::Pooled(..) => "Postgres behind a pooler",
        };
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let id = &setup.webhooks[0];
        measure_throughput(name, &store, &setup).await;
        fill_day(&kind, id).await;
        measure_pages(name, &store, id).await;
        let started = Instant::now();
        let failed = DeliveryFilter {
            state: Some(DeliveryState::Failed),
            ..DeliveryFilter::default()
        };
        store
            .replay_deliveries(&setup.app, id, &failed, true, DAY_ZERO, &by())
            .await
            .unwrap();
        eprintln!(
            "{name}: a replay of a million counted in {:?}",
            started.elapsed()
        );
        let started = Instant::now();
        assert_eq!(store.drop_webhook_days(DAY_ZERO + DAY).await.unwrap(), 1);
        let took = started.elapsed();
        eprintln!("{name}: the day dropped in {took:?}");
        assert!(took < Duration::from_secs(1));
    }
}
