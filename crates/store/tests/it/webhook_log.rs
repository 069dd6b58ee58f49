//! The log of deliveries: pages, filters, replays, and what is deleted of it.

use fanfare_store::{
    AuditFilter, DAY, DeliveryFilter, DeliveryPage, DeliveryState, EndpointHealth, HOUR,
    NewDelivery, NextStep, Outcome, Replay, Store, StoreError, WebhookChange, WebhookState,
};
use sqlx::{Connection, Executor, PgConnection};

use crate::harness::{Kind, app, by};
use crate::webhook_queue::{Setup, channel, delivery, outcome, set_up};

/// A bit for each lane.
const ALL_LANES: i64 = -1;

/// 2026-11-20T00:00:00Z.
const DAY_ZERO: i64 = 20_777 * DAY;

async fn append(store: &Store, setup: &Setup, now: i64, deliveries: Vec<NewDelivery>) {
    let count = deliveries.len();
    let recorded = store
        .record_webhook_events(&setup.app, 0, &[], now, |_| deliveries)
        .await
        .unwrap();
    assert_eq!(recorded.deliveries, count);
}

/// Records as many deliveries at a time, in several calls.
async fn fill(store: &Store, setup: &Setup, times: &[(i64, usize)]) {
    for (now, count) in times {
        let one = delivery(&setup.webhooks[0], "client_event", "a");
        append(store, setup, *now, vec![one; *count]).await;
    }
}

async fn page(store: &Store, setup: &Setup, filter: DeliveryFilter, limit: i64) -> DeliveryPage {
    let id = &setup.webhooks[0];
    store.webhook_deliveries(id, &filter, limit).await.unwrap()
}

fn sequences(page: &DeliveryPage) -> Vec<i64> {
    page.deliveries.iter().map(|one| one.sequence).collect()
}

/// The sequence numbers of all that a filter matches, and of how many pages.
async fn all(store: &Store, setup: &Setup, filter: &DeliveryFilter) -> (Vec<i64>, usize) {
    let mut filter = filter.clone();
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = page(store, setup, filter.clone(), 7).await;
        found.extend(sequences(&page));
        pages += 1;
        if !page.has_more {
            return (found, pages);
        }
        match filter.after {
            Some(_) => filter.after = Some(page.position),
            None => filter.before = Some(page.position),
        }
    }
}

async fn settle(store: &Store, webhook: &str, outcomes: &[Outcome]) {
    store
        .lease_webhooks("x", i64::MAX, 60_000, 100)
        .await
        .unwrap();
    let health = EndpointHealth::default();
    let settled = store
        .settle_deliveries("x", webhook, outcomes, &health)
        .await;
    assert!(settled.unwrap());
}

#[tokio::test]
async fn the_log_is_paged_in_both_directions_over_days_and_each_delivery_comes_once() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 2).await;
        fill(
            &store,
            &setup,
            &[
                (DAY_ZERO, 10),
                (DAY_ZERO + DAY, 15),
                (DAY_ZERO + 5 * DAY, 3),
            ],
        )
        .await;
        let (newest_first, pages) = all(&store, &setup, &DeliveryFilter::default()).await;
        assert_eq!(newest_first, (1..=28).rev().collect::<Vec<_>>());
        assert_eq!(pages, 4);
        let after = |after| DeliveryFilter {
            after: Some(after),
            ..DeliveryFilter::default()
        };
        assert_eq!(
            all(&store, &setup, &after(0)).await.0,
            (1..=28).collect::<Vec<_>>()
        );
        assert_eq!(
            all(&store, &setup, &after(9)).await.0,
            (10..=28).collect::<Vec<_>>()
        );
        let between = DeliveryFilter {
            before: Some(13),
            ..after(9)
        };
        assert_eq!(all(&store, &setup, &between).await.0, [10, 11, 12]);
        let end = page(&store, &setup, after(28), 7).await;
        let nothing = DeliveryPage {
            deliveries: Vec::new(),
            position: 28,
            has_more: false,
            oldest: Some(1),
        };
        assert_eq!(end, nothing);
        let none = store
            .webhook_deliveries(&setup.webhooks[1], &after(0), 7)
            .await
            .unwrap();
        assert!(none.deliveries.is_empty() && none.oldest.is_none() && none.position == 0);
        let unknown = store
            .webhook_deliveries("none", &after(0), 7)
            .await
            .unwrap();
        assert!(!unknown.has_more && unknown.deliveries.is_empty());
    }
}

#[tokio::test]
async fn a_page_has_bounded_bytes() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let large = |n: usize| NewDelivery {
            events: format!("[{:?}]", "x".repeat(n)),
            ..delivery(&setup.webhooks[0], "client_event", "a")
        };
        let sizes = [1 << 20, 2 << 20, 3 << 20, 5 << 20, 10, 10];
        append(&store, &setup, DAY_ZERO, sizes.map(large).to_vec()).await;
        let mut after = 0;
        let mut pages = Vec::new();
        loop {
            let filter = DeliveryFilter {
                after: Some(after),
                ..DeliveryFilter::default()
            };
            let page = page(&store, &setup, filter, 100).await;
            pages.push(sequences(&page));
            after = page.position;
            if !page.has_more {
                break;
            }
        }
        assert_eq!(pages, [vec![1, 2], vec![3], vec![4], vec![5, 6]]);
        assert_eq!(after, 6);
    }
}

#[tokio::test]
async fn a_filter_matches_what_it_names_and_nothing_else() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let id = &setup.webhooks[0];
        let batch = NewDelivery {
            names: "member_added member_removed".into(),
            channel: None,
            events: r#"[{"name":"member_added","channel":"a\"b"},{"name":"member_removed","channel":"presence-x"}]"#.into(),
            count: 2,
            ..delivery(id, "", "")
        };
        let mut deliveries = vec![
            delivery(id, "member_added", "presence-x"),
            batch,
            // An underscore is no wildcard.
            delivery(id, "memberXadded", "presence_x"),
            delivery(id, "cache_miss", "a\"b"),
        ];
        deliveries[3].is_kept = true;
        append(&store, &setup, DAY_ZERO, deliveries).await;
        let outcomes = [
            outcome(1, NextStep::Delivered),
            outcome(2, NextStep::Failed),
        ];
        settle(&store, id, &outcomes).await;
        let found = async |filter: DeliveryFilter| {
            let filter = DeliveryFilter {
                after: Some(0),
                ..filter
            };
            all(&store, &setup, &filter).await.0
        };
        let event = |name: &str| DeliveryFilter {
            event: Some(name.into()),
            ..DeliveryFilter::default()
        };
        assert_eq!(found(event("member_added")).await, [1, 2]);
        assert_eq!(found(event("member_removed")).await, [2]);
        assert_eq!(found(event("member")).await, [0_i64; 0]);
        let of = |name: &str| DeliveryFilter {
            channel: Some(name.into()),
            ..DeliveryFilter::default()
        };
        assert_eq!(found(of("presence-x")).await, [1, 2]);
        assert_eq!(found(of("a\"b")).await, [2, 4]);
        assert_eq!(found(of("presence")).await, [0_i64; 0]);
        for (state, sequence) in [
            (DeliveryState::Delivered, 1),
            (DeliveryState::Failed, 2),
            (DeliveryState::Waiting, 3),
            (DeliveryState::Kept, 4),
        ] {
            let filter = DeliveryFilter {
                state: Some(state),
                ..DeliveryFilter::default()
            };
            assert_eq!(found(filter).await, [sequence], "{state}");
        }
        let both = DeliveryFilter {
            state: Some(DeliveryState::Failed),
            ..event("member_added")
        };
        assert_eq!(found(both).await, [2]);
    }
}

#[tokio::test]
async fn a_time_is_found_in_and_between_days() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let times: Vec<(i64, usize)> = (0..60).map(|hour| (DAY_ZERO + hour * HOUR, 1)).collect();
        fill(&store, &setup, &times).await;
        for (from, until) in [
            (0, 60),
            (5, 6),
            (5, 30),
            (24, 48),
            (23, 25),
            (59, 99),
            (60, 99),
            (-9, 0),
            (30, 20),
        ] {
            for after in [None, Some(0), Some(10)] {
                let filter = DeliveryFilter {
                    after,
                    from: Some(DAY_ZERO + from * HOUR),
                    until: Some(DAY_ZERO + until * HOUR),
                    ..DeliveryFilter::default()
                };
                let (mut found, _) = all(&store, &setup, &filter).await;
                found.sort_unstable();
                let first = from.max(0) + 1;
                let expected: Vec<i64> =
                    (first.max(after.unwrap_or(0) + 1)..=until.min(60)).collect();
                assert_eq!(found, expected, "{from} to {until} after {after:?}");
            }
        }
    }
}

/// Writes deliveries behind the store's back, as many as a busy day has.
async fn flood(kind: &Kind, webhook: &str, count: i64) {
    kind.execute(&format!(
        "INSERT INTO webhook_deliveries_20261120 (webhook_id, sequence, created_at, lane, state, attempts, event_count, \
         size, names, channel, events) SELECT '{webhook}', i, {DAY_ZERO} + i, 0, 'delivered', 1, 1, 2, 'client_event', 'a', '[]' \
         FROM (WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n) AS numbers"
    ))
    .await;
    kind.execute(&format!(
        "UPDATE webhook_health SET last_sequence = {count}"
    ))
    .await;
}

#[tokio::test]
async fn a_filter_that_matches_little_looks_at_a_bounded_part_and_says_where_to_go_on() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        fill(&store, &setup, &[(DAY_ZERO, 1)]).await;
        flood(&kind, &setup.webhooks[0], 120_000).await;
        let waiting = |after, before| DeliveryFilter {
            state: Some(DeliveryState::Waiting),
            after,
            before,
            ..DeliveryFilter::default()
        };
        let first = page(&store, &setup, waiting(Some(0), None), 100).await;
        assert_eq!(
            (sequences(&first), first.position, first.has_more),
            (vec![1], 50_000, true)
        );
        let last = page(&store, &setup, waiting(Some(100_000), None), 100).await;
        assert_eq!((last.position, last.has_more), (120_000, false));
        let mut before = None;
        let mut positions = Vec::new();
        loop {
            let page = page(&store, &setup, waiting(None, before), 100).await;
            positions.push((page.position, page.deliveries.len()));
            if !page.has_more {
                break;
            }
            before = Some(page.position);
        }
        assert_eq!(positions, [(70_001, 0), (20_001, 0), (1, 1)]);
        let replay = DeliveryFilter {
            after: Some(60_000),
            ..DeliveryFilter::default()
        };
        let counted = store
            .replay_deliveries(
                &setup.app,
                &setup.webhooks[0],
                &replay,
                true,
                DAY_ZERO,
                &by(),
            )
            .await
            .unwrap();
        let expected = Replay {
            deliveries: 60_000,
            waiting: 0,
            next: None,
        };
        assert_eq!(counted, expected);
    }
}

#[tokio::test]
async fn a_reader_that_goes_on_after_what_it_has_never_misses_anything() {
    for kind in Kind::all().await {
        let stores = kind.stores_of_nodes(3).await;
        let setup = set_up(&stores[0], 1).await;
        let (nodes, rounds) = (3, 40);
        let writing = stores.iter().zip(0..nodes).map(|(store, node)| {
            let setup = &setup;
            async move {
                for round in 0..rounds {
                    // At midnight in the middle.
                    let now = DAY_ZERO + DAY - rounds / 2 + round;
                    let name = format!("{node}-{round}");
                    let one = delivery(&setup.webhooks[0], "client_event", &name);
                    append(store, setup, now, vec![one; 3]).await;
                }
            }
        });
        let total = nodes * rounds * 3;
        let reader = kind.store().await;
        let reading = async {
            let mut seen = Vec::new();
            while i64::try_from(seen.len()).unwrap() < total {
                let filter = DeliveryFilter {
                    after: Some(seen.last().copied().unwrap_or(0)),
                    ..DeliveryFilter::default()
                };
                let page = page(&reader, &setup, filter, 10).await;
                seen.extend(sequences(&page));
            }
            seen
        };
        let (_, seen) = tokio::join!(futures_util::future::join_all(writing), reading);
        assert_eq!(seen, (1..=total).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn every_attempt_is_in_the_log_with_what_was_answered() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let id = &setup.webhooks[0];
        fill(&store, &setup, &[(DAY_ZERO, 1)]).await;
        let mut first = outcome(1, NextStep::Retry(DAY_ZERO + 9));
        if let Some(attempt) = &mut first.attempt {
            attempt.status = Some(500);
            attempt.error = Some("500\0".into());
            attempt.answer = Some(format!("\0{}", "ä".repeat(5_000)));
        }
        settle(&store, id, std::slice::from_ref(&first)).await;
        let waiting = store
            .waiting_deliveries("x", id, 0, false, ALL_LANES, 10)
            .await
            .unwrap();
        assert_eq!(
            (waiting[0].attempts, waiting[0].tries, waiting[0].due),
            (1, 1, DAY_ZERO + 9)
        );
        let mut second = outcome(1, NextStep::Delivered);
        if let Some(attempt) = &mut second.attempt {
            attempt.attempt = 2;
        }
        settle(&store, id, &[second]).await;
        let details = store.webhook_delivery(id, 1).await.unwrap().unwrap();
        assert_eq!(details.delivery.state, DeliveryState::Delivered);
        assert_eq!(
            (details.delivery.attempts, details.delivery.finished_at),
            (2, Some(DAY_ZERO + 1))
        );
        let found: Vec<_> = details
            .attempts
            .iter()
            .map(|one| (one.attempt, one.status))
            .collect();
        assert_eq!(found, [(1, Some(500)), (2, Some(200))]);
        let answer = details.attempts[0].answer.as_deref().unwrap();
        assert!(answer.len() > 4_000 && answer.len() <= 4_100 && answer.starts_with("\u{fffd}ä"));
        assert_eq!(details.attempts[0].error.as_deref(), Some("500\u{fffd}"));
        assert!(store.webhook_delivery(id, 2).await.unwrap().is_none());
        let bytes = store.webhook_days().await.unwrap()[0].bytes;
        assert!(bytes > 4_000, "the answers count: {bytes}");
    }
}

#[tokio::test]
async fn a_replay_queues_what_does_not_wait_already_after_it_was_counted() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let id = &setup.webhooks[0];
        fill(&store, &setup, &[(DAY_ZERO, 3), (DAY_ZERO + DAY, 3)]).await;
        let outcomes = [
            outcome(1, NextStep::Delivered),
            outcome(2, NextStep::Failed),
            outcome(4, NextStep::Failed),
            outcome(5, NextStep::Delivered),
        ];
        settle(&store, id, &outcomes).await;
        store
            .set_webhook_state(&setup.app, id, WebhookState::Disabled, None, None, &by())
            .await
            .unwrap();
        let failed = DeliveryFilter {
            state: Some(DeliveryState::Failed),
            ..DeliveryFilter::default()
        };
        let now = DAY_ZERO + 2 * DAY;
        let replay = async |filter: &DeliveryFilter, dry_run| {
            let replayed = store
                .replay_deliveries(&setup.app, id, filter, dry_run, now, &by())
                .await
                .unwrap();
            (replayed.deliveries, replayed.waiting)
        };
        let replays = async || {
            let found = store
                .waiting_deliveries("x", id, 0, true, ALL_LANES, 10)
                .await
                .unwrap();
            assert!(
                found
                    .iter()
                    .all(|one| one.is_replay && one.queued_at == now && one.due == now)
            );
            assert!(found.iter().all(|one| one.tries == 0 && one.attempts == 1));
            found.iter().map(|one| one.sequence).collect::<Vec<_>>()
        };
        assert_eq!(replay(&failed, true).await, (2, 0));
        assert_eq!(replays().await, Vec::<i64>::new());
        assert_eq!(
            (replay(&failed, false).await, replays().await),
            ((2, 0), vec![2, 4])
        );
        let audit = store
            .audit(&AuditFilter::default(), 1)
            .await
            .unwrap()
            .remove(0);
        assert_eq!(
            (audit.action.as_str(), audit.details["deliveries"].as_i64()),
            ("webhook.replay", Some(2))
        );
        assert_eq!(audit.app_id.as_deref(), Some(setup.app.as_str()));
        assert_eq!(replay(&failed, false).await, (0, 0), "they wait");
        let second = DeliveryFilter::of_sequence(2);
        assert_eq!(replay(&second, false).await, (0, 1), "it waits");
        let one = DeliveryFilter::of_sequence(1);
        assert_eq!(
            (replay(&one, false).await, replays().await),
            ((1, 0), vec![1, 2, 4])
        );
        let health = store.webhook_health(id).await.unwrap().unwrap();
        assert_eq!((health.next_due, health.last_sequence), (Some(DAY_ZERO), 6));
        let mut again = outcome(1, NextStep::Delivered);
        if let Some(attempt) = &mut again.attempt {
            attempt.attempt = 2;
            attempt.is_replay = true;
        }
        settle(&store, id, &[again]).await;
        let details = store.webhook_delivery(id, 1).await.unwrap().unwrap();
        assert_eq!(
            (details.delivery.state, details.attempts.len()),
            (DeliveryState::Delivered, 2)
        );
        assert!(details.attempts[1].is_replay);
        let (two, _) = store.create_app(app("two"), &by()).await.unwrap();
        let wrong = store
            .replay_deliveries(&two.id, id, &failed, true, now, &by())
            .await;
        assert!(matches!(wrong, Err(StoreError::NotFound(_))), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_dropped_day_takes_what_waits_of_it_along_and_today_is_never_dropped() {
    for kind in Kind::all().await {
        let (store, other) = (kind.store().await, kind.store().await);
        let setup = set_up(&store, 1).await;
        let id = &setup.webhooks[0];
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        fill(
            &store,
            &setup,
            &[(DAY_ZERO, 3), (DAY_ZERO + DAY, 2), (now, 4)],
        )
        .await;
        let before = DAY_ZERO + DAY + HOUR;
        let (one, two) = tokio::join!(
            store.drop_webhook_days(before),
            other.drop_webhook_days(before)
        );
        assert_eq!(
            one.unwrap() + two.unwrap(),
            1,
            "one of the nodes dropped it"
        );
        let page = page(&store, &setup, DeliveryFilter::default(), 100).await;
        assert_eq!(
            (sequences(&page), page.oldest),
            (vec![9, 8, 7, 6, 5, 4], Some(4))
        );
        store
            .lease_webhooks("x", i64::MAX, 60_000, 1)
            .await
            .unwrap();
        let waiting = store
            .waiting_deliveries("x", id, 0, false, ALL_LANES, 100)
            .await
            .unwrap();
        assert_eq!(waiting.len(), 6);
        settle(&store, id, &[outcome(1, NextStep::Delivered)]).await;
        assert!(store.webhook_delivery(id, 1).await.unwrap().is_none());
        assert_eq!(store.drop_webhook_days(i64::MAX).await.unwrap(), 1);
        let days = store.webhook_days().await.unwrap();
        assert_eq!(
            days.iter().map(|day| day.deliveries).collect::<Vec<_>>(),
            [4]
        );
        let health = store.webhook_health(id).await.unwrap().unwrap();
        assert_eq!(health.last_sequence, 9, "no number is given again");
        fill(&other, &setup, &[(now, 1)]).await;
        // A node whose clock stands in a dropped day makes its tables again.
        fill(&store, &setup, &[(DAY_ZERO, 1), (now, 1)]).await;
        let after = DeliveryFilter {
            after: Some(9),
            ..DeliveryFilter::default()
        };
        assert_eq!(all(&store, &setup, &after).await.0, [10, 11, 12]);
    }
}

#[tokio::test]
async fn a_day_that_somebody_reads_for_long_is_dropped_later_and_meanwhile_holds_nobody_up() {
    for kind in Kind::all().await {
        let (Kind::Postgres(url) | Kind::Pooled(_, url)) = &kind else {
            continue;
        };
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        fill(&store, &setup, &[(DAY_ZERO, 1), (DAY_ZERO + DAY, 1)]).await;
        let mut backup = PgConnection::connect(url).await.unwrap();
        let mut reading = backup.begin().await.unwrap();
        reading
            .execute("SELECT COUNT(*) FROM webhook_deliveries_20261120")
            .await
            .unwrap();
        let late = store.drop_webhook_days(DAY_ZERO + DAY).await;
        assert!(matches!(late, Err(StoreError::Late)), "{late:?}");
        fill(&store, &setup, &[(DAY_ZERO + DAY, 1)]).await;
        assert_eq!(
            all(&store, &setup, &DeliveryFilter::default()).await.0,
            [3, 2, 1]
        );
        reading.rollback().await.unwrap();
        assert_eq!(store.drop_webhook_days(DAY_ZERO + DAY).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn outcomes_are_written_although_a_day_of_theirs_is_dropped_at_the_same_time() {
    for kind in Kind::all().await {
        let (Kind::Postgres(url) | Kind::Pooled(_, url)) = &kind else {
            continue;
        };
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let id = setup.webhooks[0].clone();
        fill(&store, &setup, &[(DAY_ZERO, 1), (DAY_ZERO + DAY, 1)]).await;
        let mut other = PgConnection::connect(url).await.unwrap();
        let mut dropping = other.begin().await.unwrap();
        for sql in [
            "DROP TABLE webhook_deliveries_20261120",
            "DELETE FROM webhook_queue WHERE sequence = 1",
        ] {
            dropping.execute(sql).await.unwrap();
        }
        let settling = {
            let store = store.clone();
            let outcomes = [
                outcome(1, NextStep::Delivered),
                outcome(2, NextStep::Delivered),
            ];
            tokio::spawn(async move { settle(&store, &id, &outcomes).await })
        };
        let mut observer = PgConnection::connect(url).await.unwrap();
        let waiting = "SELECT 1 FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while observer.execute(waiting).await.unwrap().rows_affected() == 0 {
            tokio::task::yield_now().await;
        }
        dropping.commit().await.unwrap();
        settling.await.unwrap();
        let left = store.webhook_delivery(&setup.webhooks[0], 2).await.unwrap();
        assert_eq!(left.unwrap().delivery.state, DeliveryState::Delivered);
    }
}

#[tokio::test]
async fn what_deleted_webhooks_leave_is_deleted_and_what_nobody_wants_is_forgotten() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 2).await;
        let count = async |table: &str| kind.number(&format!("SELECT COUNT(*) FROM {table}")).await;
        let both = |_: &[bool]| {
            let deliveries = setup
                .webhooks
                .iter()
                .map(|id| delivery(id, "channel_occupied", "a"));
            deliveries.collect()
        };
        let changes = [channel("a", true, 1)];
        store
            .record_webhook_events(&setup.app, 10, &changes, DAY_ZERO, both)
            .await
            .unwrap();
        assert_eq!(
            (
                count("webhook_queue").await,
                count("webhook_announced").await
            ),
            (2, 1)
        );
        store
            .delete_webhook(&setup.app, &setup.webhooks[0], None, &by())
            .await
            .unwrap();
        assert_eq!(
            (
                count("webhook_queue").await,
                count("webhook_announced").await
            ),
            (1, 1)
        );
        let events = |name: &str| WebhookChange {
            events: Some(Some(vec![name.into()])),
            ..WebhookChange::default()
        };
        let update = async |change| {
            let id = &setup.webhooks[1];
            store
                .update_webhook(&setup.app, id, change, None, &by())
                .await
                .unwrap();
        };
        update(events("member_added")).await;
        assert_eq!(count("webhook_announced").await, 0);
        // A node that didn't know that yet.
        store
            .record_webhook_events(&setup.app, 20, &changes, DAY_ZERO, |_| Vec::new())
            .await
            .unwrap();
        assert_eq!(count("webhook_announced").await, 1);
        update(events("channel_vacated")).await;
        assert_eq!(
            count("webhook_announced").await,
            0,
            "receivers were never told"
        );
        store
            .record_webhook_events(&setup.app, 30, &changes, DAY_ZERO, |_| Vec::new())
            .await
            .unwrap();
        let other = set_up(&store, 1).await;
        store.delete_app(&setup.app, &by()).await.unwrap();
        for table in [
            "webhook_queue",
            "webhook_announced",
            "webhooks WHERE app_id <> ''",
        ] {
            let expected = i64::from(table.starts_with("webhooks"));
            assert_eq!(count(table).await, expected, "{table}");
        }
        let rows = count("webhook_apps").await + count("webhook_health").await;
        assert_eq!(rows, 2, "those of the other app");
        drop(other);
    }
}

#[tokio::test]
async fn pruning_deletes_what_was_announced_as_absent_long_ago_and_what_an_interrupted_deletion_left()
 {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let record = async |stamp, changes: &[_]| {
            store
                .record_webhook_events(&setup.app, stamp, changes, DAY_ZERO, |_| Vec::new())
                .await
                .unwrap();
        };
        record(1_000, &[channel("old", true, 1), channel("kept", true, 1)]).await;
        record(2_000, &[channel("old", false, 2)]).await;
        record(
            9_000,
            &[channel("young", true, 3), channel("young", false, 4)],
        )
        .await;
        fill(&store, &setup, &[(DAY_ZERO, 2)]).await;
        for sql in [
            "INSERT INTO webhook_queue SELECT 'wh_gone', sequence, day, lane, size, queued_at, is_replay, attempts, due \
             FROM webhook_queue",
            "INSERT INTO webhook_announced SELECT 'gone', kind, channel, user_id, is_present, at, present_due, absent_due \
             FROM webhook_announced",
        ] {
            kind.execute(sql).await;
        }
        store.prune_webhooks(9).await.unwrap();
        let count = async |sql: &str| kind.number(&format!("SELECT COUNT(*) FROM {sql}")).await;
        assert_eq!(count("webhook_announced").await, 2);
        assert_eq!(count("webhook_announced WHERE channel = 'old'").await, 0);
        assert_eq!(count("webhook_queue").await, 2);
        assert_eq!(count("webhook_queue WHERE webhook_id = 'wh_gone'").await, 0);
        store.prune_webhooks(10).await.unwrap();
        assert_eq!(count("webhook_announced").await, 1, "what is present stays");
    }
}

#[tokio::test]
async fn nodes_that_record_send_and_tidy_at_once_get_everything_done_and_never_fail() {
    for kind in Kind::all().await {
        let (stores, rounds, each) = (kind.stores_of_nodes(2).await, 15, 10);
        let setup = set_up(&stores[0], 3).await;
        let total = 2 * rounds * each;
        let recording = stores.iter().zip(0..).map(|(store, node)| {
            let setup = &setup;
            async move {
                for round in 0..rounds {
                    let mut deliveries = Vec::new();
                    for webhook in &setup.webhooks {
                        let one = delivery(webhook, "channel_occupied", "a");
                        deliveries.extend(vec![one; usize::try_from(each).unwrap()]);
                    }
                    let number = 2 * round + node;
                    let changes = [
                        channel("a", number % 3 == 0, number),
                        channel("b", true, number),
                    ];
                    store
                        .record_webhook_events(
                            &setup.app,
                            number,
                            &changes,
                            DAY_ZERO + number,
                            |_| deliveries,
                        )
                        .await
                        .unwrap();
                }
            }
        });
        let sending = stores.iter().zip(["x", "y"]).map(|(store, node)| {
            let setup = &setup;
            async move {
                let mut sent = Vec::new();
                loop {
                    let leased = store
                        .lease_webhooks(node, i64::MAX, 60_000, 2)
                        .await
                        .unwrap();
                    for id in &leased {
                        let waiting = store
                            .waiting_deliveries(node, id, 0, false, ALL_LANES, 25)
                            .await
                            .unwrap();
                        let outcomes: Vec<_> = waiting
                            .iter()
                            .map(|one| outcome(one.sequence, NextStep::Delivered))
                            .collect();
                        let health = EndpointHealth::default();
                        assert!(
                            store
                                .settle_deliveries(node, id, &outcomes, &health)
                                .await
                                .unwrap()
                        );
                        sent.extend(waiting.iter().map(|one| (id.clone(), one.sequence)));
                    }
                    store.release_webhooks(node, &leased).await.unwrap();
                    store.prune_webhooks(0).await.unwrap();
                    store.drop_webhook_days(DAY_ZERO).await.unwrap();
                    let mut is_done = true;
                    for id in &setup.webhooks {
                        let health = store.webhook_health(id).await.unwrap().unwrap();
                        is_done &= health.last_sequence == total && health.next_due.is_none();
                    }
                    if is_done {
                        return sent;
                    }
                }
            }
        });
        let (_, sent) = tokio::join!(
            futures_util::future::join_all(recording),
            futures_util::future::join_all(sending)
        );
        let mut sent = sent.concat();
        sent.sort();
        let mut expected = Vec::new();
        for id in &setup.webhooks {
            expected.extend((1..=total).map(|sequence| (id.clone(), sequence)));
        }
        expected.sort();
        assert_eq!(sent, expected, "each once");
        let present = stores[0].announced_present(&setup.app, None, 10).await;
        assert_eq!(present.unwrap().last().unwrap().channel, "b");
    }
}
