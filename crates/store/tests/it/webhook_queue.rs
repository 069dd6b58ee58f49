//! What is recorded for webhooks, and what waits to be sent.

use fanfare_store::{
    Announced, DAY, DeliveryAttempt, EndpointHealth, NewDelivery, NewWebhook, NextStep, Outcome,
    Recorded, StateChange, Store, Subject, WaitingDelivery, WebhookState,
};

use crate::harness::{Kind, app, by};

/// A bit for each lane.
const ALL_LANES: i64 = -1;

/// 2026-11-20T00:00:00Z.
const DAY_ZERO: i64 = 20_777 * DAY;
const LEASE: i64 = 60_000;

/// An app with as many webhooks.
pub(crate) struct Setup {
    pub(crate) app: String,
    pub(crate) webhooks: Vec<String>,
}

pub(crate) async fn set_up(store: &Store, webhooks: usize) -> Setup {
    let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..webhooks {
        let new = NewWebhook {
            name: "a".into(),
            url: Some("https://example.com".into()),
            ..NewWebhook::default()
        };
        let made = store.create_webhook(&one.id, new, 10, &by()).await.unwrap();
        ids.push(made.id);
    }
    Setup {
        app: one.id,
        webhooks: ids,
    }
}

pub(crate) fn channel(name: &str, is_present: bool, due: i64) -> StateChange {
    StateChange {
        channel: name.into(),
        subject: Subject::Channel,
        is_present,
        due,
    }
}

fn member(name: &str, user: &str, is_present: bool, due: i64) -> StateChange {
    StateChange {
        subject: Subject::Member(user.into()),
        ..channel(name, is_present, due)
    }
}

fn cache_miss(name: &str) -> StateChange {
    StateChange {
        subject: Subject::CacheMiss,
        ..channel(name, false, 0)
    }
}

pub(crate) fn delivery(webhook: &str, name: &str, channel: &str) -> NewDelivery {
    NewDelivery {
        webhook_id: webhook.into(),
        lane: 0,
        names: name.into(),
        channel: Some(channel.into()),
        events: format!(r#"[{{"name":"{name}","channel":"{channel}"}}]"#),
        count: 1,
        is_kept: false,
    }
}

/// A delivery to every webhook for every change that is news.
fn told(setup: &Setup, changes: &[StateChange], is_news: &[bool]) -> Vec<NewDelivery> {
    let news = changes.iter().zip(is_news).filter(|(_, is_news)| **is_news);
    let to_all = news.flat_map(|(change, _)| {
        let name = match (&change.subject, change.is_present) {
            (Subject::Channel, true) => "channel_occupied",
            (Subject::Channel, false) => "channel_vacated",
            (Subject::Member(_), true) => "member_added",
            (Subject::Member(_), false) => "member_removed",
            (Subject::CacheMiss, _) => "cache_miss",
        };
        let webhooks = setup.webhooks.iter();
        webhooks.map(move |webhook| delivery(webhook, name, &change.channel))
    });
    to_all.collect()
}

async fn record_at(
    store: &Store,
    setup: &Setup,
    stamp: i64,
    changes: &[StateChange],
    now: i64,
) -> Recorded {
    let make = |is_news: &[bool]| told(setup, changes, is_news);
    store
        .record_webhook_events(&setup.app, stamp, changes, now, make)
        .await
        .unwrap()
}

async fn record(store: &Store, setup: &Setup, stamp: i64, changes: &[StateChange]) -> Recorded {
    record_at(store, setup, stamp, changes, DAY_ZERO).await
}

/// What waits for the first webhook, which the node leases.
async fn waiting(store: &Store, setup: &Setup) -> Vec<WaitingDelivery> {
    let leased = store.lease_webhooks("reader", i64::MAX, LEASE, 100).await;
    assert!(leased.unwrap().contains(&setup.webhooks[0]));
    store
        .waiting_deliveries("reader", &setup.webhooks[0], 0, false, ALL_LANES, 1_000)
        .await
        .unwrap()
}

/// Names and channels of what waits for the first webhook.
async fn story(store: &Store, setup: &Setup) -> Vec<String> {
    let waiting = waiting(store, setup).await;
    let sequences: Vec<i64> = waiting.iter().map(|one| one.sequence).collect();
    let expected: Vec<i64> = (1..).take(waiting.len()).collect();
    assert_eq!(sequences, expected, "each number once, in order");
    let text = |one: WaitingDelivery| format!("{} {}", one.names, one.channel.unwrap());
    waiting.into_iter().map(text).collect()
}

fn attempt(number: i64, status: Option<i64>) -> DeliveryAttempt {
    DeliveryAttempt {
        attempt: number,
        at: DAY_ZERO,
        milliseconds: 5,
        status,
        error: status.is_none().then(|| "refused".into()),
        answer: status.map(|_| "an answer".into()),
        node: "reader".into(),
        is_replay: false,
    }
}

pub(crate) fn outcome(sequence: i64, next: NextStep) -> Outcome {
    let status = (next == NextStep::Delivered).then_some(200);
    Outcome {
        sequence,
        attempt: Some(attempt(1, status)),
        next,
        at: DAY_ZERO + 1,
    }
}

#[tokio::test]
async fn each_change_is_told_once_to_every_webhook_in_order() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 2).await;
        let come = [
            channel("a", true, 1),
            member("a", "ann", true, 2),
            member("a", "bob", true, 2),
            channel("b", true, 3),
        ];
        assert_eq!(record(&store, &setup, 10, &come).await.deliveries, 8);
        // Read again, because the process ended before it settled them, or because another node was as fast.
        assert_eq!(record(&store, &setup, 11, &come).await, Recorded::default());
        // A transition that was recorded under another due time changes nothing either.
        let again = [channel("a", true, 9)];
        assert_eq!(
            record(&store, &setup, 12, &again).await,
            Recorded::default()
        );
        let gone = [member("a", "ann", false, 20), channel("b", false, 21)];
        assert_eq!(record(&store, &setup, 30, &gone).await.deliveries, 4);
        let expected = [
            "channel_occupied a",
            "member_added a",
            "member_added a",
            "channel_occupied b",
            "member_removed a",
            "channel_vacated b",
        ];
        assert_eq!(story(&store, &setup).await, expected);
        let present = store.announced_present(&setup.app, None, 10).await.unwrap();
        let announced = |channel: &str, user: Option<&str>| Announced {
            channel: channel.into(),
            user: user.map(Into::into),
        };
        assert_eq!(present, [announced("a", None), announced("a", Some("bob"))]);
        let members = store
            .announced_members(&setup.app, &["a", "b"])
            .await
            .unwrap();
        assert_eq!(members, present[1..]);
        let rest = store.announced_present(&setup.app, Some(&present[0]), 10);
        assert_eq!(rest.await.unwrap(), present[1..]);
        let first = store.announced_present(&setup.app, None, 1).await.unwrap();
        assert_eq!(first, present[..1]);
    }
}

#[tokio::test]
async fn a_short_visit_is_told_as_both_once_and_the_next_one_again() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let visit = |due| [channel("a", true, due), channel("a", false, due + 3_050)];
        for stamp in [5_000_000, 5_000_001] {
            record(&store, &setup, stamp, &visit(1)).await;
        }
        record(&store, &setup, 9_000_000, &visit(5_001)).await;
        let expected = ["channel_occupied a", "channel_vacated a"].repeat(2);
        assert_eq!(story(&store, &setup).await, expected);
    }
}

#[tokio::test]
async fn a_read_that_a_newer_one_has_overtaken_changes_nothing_and_is_not_to_be_settled() {
    for kind in Kind::all().await {
        let (slow, fast) = (kind.store().await, kind.store().await);
        let setup = set_up(&slow, 1).await;
        record(&fast, &setup, 10, &[channel("a", true, 1)]).await;
        // The slow node read that the channel is to be vacated. It came to life again before that was recorded.
        let stale = [channel("b", true, 15), channel("a", false, 16)];
        record(&fast, &setup, 30, &[channel("a", true, 20)]).await;
        let late = record(&slow, &setup, 17, &stale).await;
        let expected = Recorded {
            deliveries: 1,
            stale: vec![1],
        };
        assert_eq!(late, expected);
        let expected = ["channel_occupied a", "channel_occupied b"];
        assert_eq!(story(&fast, &setup).await, expected);
    }
}

#[tokio::test]
async fn nodes_that_record_the_same_transitions_at_once_tell_each_of_them_once() {
    for kind in Kind::all().await {
        let stores = kind.stores_of_nodes(3).await;
        let setup = set_up(&stores[0], 2).await;
        let rounds = 20;
        let nodes = stores.iter().enumerate().map(|(number, store)| {
            let setup = &setup;
            async move {
                for round in 0..rounds {
                    let is_present = round % 2 == 0;
                    let mut changes: Vec<_> = (0..30)
                        .map(|n| channel(&format!("c{n}"), is_present, 100 * round))
                        .collect();
                    if number == 1 {
                        changes.reverse();
                    }
                    let number = i64::try_from(number).unwrap();
                    record(store, setup, 1_000 * round + number, &changes).await;
                }
            }
        });
        futures_util::future::join_all(nodes).await;
        // A node that fell behind by a round has told what the others then knew to be over, so only each channel's own
        // story counts: never the same twice in a row.
        let mut last = std::collections::HashMap::new();
        for line in story(&stores[0], &setup).await {
            let (name, channel) = line.split_once(' ').unwrap();
            let before = last.insert(channel.to_owned(), name.to_owned());
            assert_ne!(before.as_deref(), Some(name), "{channel}");
        }
        assert_eq!(last.len(), 30);
        assert!(last.values().all(|name| name == "channel_vacated"));
    }
}

#[tokio::test]
async fn a_cache_miss_is_told_again_after_ten_seconds_and_is_never_present() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let second = 1_000_000;
        let mut deliveries = Vec::new();
        for at in [0, 1, 9, 10, 11, 20, 22] {
            let misses = [cache_miss("cache-a"), cache_miss("cache-a")];
            deliveries.push(
                record(&store, &setup, at * second, &misses)
                    .await
                    .deliveries,
            );
        }
        assert_eq!(deliveries, [1, 0, 0, 0, 1, 0, 1]);
        let present = store.announced_present(&setup.app, None, 10).await.unwrap();
        assert!(present.is_empty(), "{present:?}");
    }
}

#[tokio::test]
async fn a_webhook_that_was_deleted_gets_nothing_and_an_app_without_any_records_nothing() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 2).await;
        let delete = async |number: usize| {
            let id = &setup.webhooks[number];
            store
                .delete_webhook(&setup.app, id, None, &by())
                .await
                .unwrap();
        };
        delete(1).await;
        let changes = [channel("a", true, 1)];
        assert_eq!(record(&store, &setup, 10, &changes).await.deliveries, 1);
        delete(0).await;
        let changes = [channel("a", false, 2)];
        assert_eq!(
            record(&store, &setup, 20, &changes).await,
            Recorded::default()
        );
        let other = set_up(&store, 1).await;
        let gone = Setup {
            app: "none".into(),
            webhooks: other.webhooks,
        };
        assert_eq!(
            record(&store, &gone, 30, &changes).await,
            Recorded::default()
        );
    }
}

#[tokio::test]
async fn what_is_recorded_at_midnight_goes_to_both_days_and_waits_in_order() {
    for kind in Kind::all().await {
        let (store, behind) = (kind.store().await, kind.store().await);
        let setup = set_up(&store, 1).await;
        let midnight = DAY_ZERO + DAY;
        let mut times = Vec::new();
        for (number, now) in [midnight - 1, midnight, midnight - 30_000, midnight + 9]
            .into_iter()
            .enumerate()
        {
            let number = i64::try_from(number).unwrap();
            let changes = [channel(&format!("c{number}"), true, number)];
            // The third was recorded by a node whose clock is behind.
            let node = if number == 2 { &behind } else { &store };
            record_at(node, &setup, 10 + number, &changes, now).await;
            times.push(now);
        }
        times[2] = midnight;
        let found = waiting(&store, &setup).await;
        let created: Vec<i64> = found.iter().map(|one| one.created_at).collect();
        assert_eq!(created, times, "never earlier than the one before");
        assert_eq!(story(&store, &setup).await.len(), 4);
        for (table, count) in [("20261120", 1), ("20261121", 3)] {
            let sql = format!("SELECT COUNT(*) FROM webhook_deliveries_{table}");
            assert_eq!(kind.number(&sql).await, count, "{table}");
        }
        let days = store.webhook_days().await.unwrap();
        let counts: Vec<_> = days.iter().map(|day| (day.day, day.deliveries)).collect();
        assert_eq!(counts, [(DAY_ZERO, 1), (midnight, 3)]);
        assert!(days.iter().all(|day| day.bytes > 100));
    }
}

#[tokio::test]
async fn nodes_that_need_the_same_day_at_once_make_its_tables_once() {
    for kind in Kind::all().await {
        let stores = kind.stores_of_nodes(4).await;
        let setup = set_up(&stores[0], 1).await;
        for day in 0..5 {
            let recording = stores.iter().zip(0_i64..).map(|(store, node)| {
                let number = 10 * day + node;
                let changes = [channel(&format!("c{number}"), true, number)];
                let setup = &setup;
                async move { record_at(store, setup, number, &changes, DAY_ZERO + day * DAY).await }
            });
            for recorded in futures_util::future::join_all(recording).await {
                assert_eq!(recorded.deliveries, 1);
            }
        }
        assert_eq!(story(&stores[0], &setup).await.len(), 20);
        assert_eq!(stores[0].webhook_days().await.unwrap().len(), 5);
    }
}

#[tokio::test]
async fn one_node_at_a_time_sends_and_what_an_old_holder_writes_is_refused() {
    for kind in Kind::all().await {
        let (one, two) = (kind.store().await, kind.store().await);
        let setup = set_up(&one, 1).await;
        let id = &setup.webhooks[0];
        record(
            &one,
            &setup,
            10,
            &[channel("a", true, 1), channel("b", true, 1)],
        )
        .await;
        let lease = async |store: &Store, node, ms| {
            store.lease_webhooks(node, DAY_ZERO, ms, 10).await.unwrap()
        };
        assert_eq!(lease(&one, "one", LEASE).await, setup.webhooks);
        assert!(lease(&two, "two", LEASE).await.is_empty());
        assert_eq!(lease(&one, "one", LEASE).await, setup.webhooks, "its own");
        let health = EndpointHealth::default();
        let first = [outcome(1, NextStep::Delivered)];
        let settle = async |store: &Store, node, outcomes: &[Outcome]| {
            store
                .settle_deliveries(node, id, outcomes, &health)
                .await
                .unwrap()
        };
        assert!(!settle(&two, "two", &first).await);
        let unread = two
            .waiting_deliveries("two", id, 0, false, ALL_LANES, 10)
            .await;
        assert!(unread.unwrap().is_empty(), "only the holder sends");
        // The lease runs out before anything is settled.
        one.release_webhooks("one", &setup.webhooks).await.unwrap();
        assert_eq!(lease(&one, "one", 0).await, setup.webhooks);
        assert_eq!(lease(&two, "two", LEASE).await, setup.webhooks);
        assert!(!settle(&one, "one", &first).await);
        assert!(settle(&two, "two", &first).await);
        // Written again, because the answer of the first time was lost.
        assert!(settle(&two, "two", &first).await);
        let left = two
            .waiting_deliveries("two", id, 0, false, ALL_LANES, 10)
            .await
            .unwrap();
        assert_eq!(left.iter().map(|one| one.sequence).collect::<Vec<_>>(), [2]);
        two.release_webhooks("one", &setup.webhooks).await.unwrap();
        assert!(
            lease(&one, "one", LEASE).await.is_empty(),
            "not its own to release"
        );
        two.release_webhooks("two", &setup.webhooks).await.unwrap();
        assert_eq!(lease(&one, "one", LEASE).await, setup.webhooks);
    }
}

#[tokio::test]
async fn a_webhook_is_leased_when_something_is_due_and_not_while_it_is_held_back() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let id = setup.webhooks[0].clone();
        let now = DAY_ZERO;
        let due = async || store.next_delivery_due("x").await.unwrap();
        let lease = async |at| {
            let leased = store.lease_webhooks("x", at, LEASE, 10).await.unwrap();
            store.release_webhooks("x", &leased).await.unwrap();
            leased.len()
        };
        assert_eq!((due().await, lease(now).await), (None, 0));
        record(&store, &setup, 10, &[channel("a", true, 1)]).await;
        assert_eq!((due().await, lease(now - 1).await), (Some(now), 0));
        let settle = async |outcome: Outcome, held_until| {
            let health = EndpointHealth {
                failures: 3,
                failing_since: Some(now),
                held_until,
                ..EndpointHealth::default()
            };
            store
                .lease_webhooks("x", i64::MAX, LEASE, 10)
                .await
                .unwrap();
            assert!(
                store
                    .settle_deliveries("x", &id, &[outcome], &health)
                    .await
                    .unwrap()
            );
            store.release_webhooks("x", &setup.webhooks).await.unwrap();
        };
        settle(outcome(1, NextStep::Retry(now + 60)), None).await;
        assert_eq!(due().await, Some(now + 60));
        assert_eq!((lease(now + 59).await, lease(now + 60).await), (0, 1));
        // Something newer is due earlier.
        record(&store, &setup, 20, &[channel("b", true, 1)]).await;
        assert_eq!((due().await, lease(now).await), (Some(now), 1));
        settle(outcome(1, NextStep::Retry(now + 60)), Some(now + 500)).await;
        assert_eq!(due().await, Some(now + 500));
        assert_eq!((lease(now + 499).await, lease(now + 500).await), (0, 1));
        let health = store.webhook_health(&id).await.unwrap().unwrap();
        assert_eq!((health.last_sequence, health.endpoint.failures), (2, 3));
        // An operator switches it off and on again.
        for state in [WebhookState::Paused, WebhookState::Active] {
            store
                .set_webhook_state(&setup.app, &id, state, None, None, &by())
                .await
                .unwrap();
        }
        let health = store.webhook_health(&id).await.unwrap().unwrap();
        assert_eq!(health.endpoint, EndpointHealth::default());
        assert_eq!(lease(now).await, 1);
        for sequence in [1, 2] {
            settle(outcome(sequence, NextStep::Failed), None).await;
        }
        assert_eq!((due().await, lease(i64::MAX).await), (None, 0));
    }
}

#[tokio::test]
async fn what_waits_is_due_at_once_when_the_webhook_is_enabled() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let webhook = &setup.webhooks[0];
        let now = channel("a", true, 0);
        record(&store, &setup, 1, &[now]).await;
        assert_eq!(waiting(&store, &setup).await.len(), 1);
        let later = i64::MAX / 2;
        let outcomes = [Outcome {
            sequence: 1,
            attempt: Some(attempt(1, Some(500))),
            next: NextStep::Retry(later),
            at: DAY_ZERO,
        }];
        let failing = EndpointHealth {
            failures: 12,
            failing_since: Some(1),
            held_until: Some(later),
            ..EndpointHealth::default()
        };
        let settled = store.settle_deliveries("reader", webhook, &outcomes, &failing);
        assert!(settled.await.unwrap());
        let leases = [webhook.clone()];
        store.release_webhooks("reader", &leases).await.unwrap();
        let before = later - 1;
        let leased = store.lease_webhooks("other", before, LEASE, 10).await;
        assert_eq!(leased.unwrap(), Vec::<String>::new());
        store
            .set_webhook_state(&setup.app, webhook, WebhookState::Active, None, None, &by())
            .await
            .unwrap();
        let leased = store.lease_webhooks("reader", before, LEASE, 10).await;
        assert_eq!(leased.unwrap(), leases);
        assert!(waiting(&store, &setup).await[0].due < before);
        let health = store.webhook_health(webhook).await.unwrap().unwrap();
        assert_eq!(health.endpoint.failures, 0);
    }
}

#[tokio::test]
async fn what_waits_comes_in_pieces_of_bounded_size() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let id = &setup.webhooks[0];
        let large = |n: usize| NewDelivery {
            events: format!("[{:?}]", "x".repeat(n)),
            ..delivery(id, "client_event", "a")
        };
        let sizes = [1 << 20, 3 << 20, 5 << 20, 10];
        let make = |_: &[bool]| sizes.iter().map(|size| large(*size)).collect();
        let recorded = store
            .record_webhook_events(&setup.app, 0, &[], DAY_ZERO, make)
            .await;
        assert_eq!(recorded.unwrap().deliveries, 4);
        store
            .lease_webhooks("x", DAY_ZERO, LEASE, 10)
            .await
            .unwrap();
        let mut after = 0;
        let mut pieces = Vec::new();
        loop {
            let waiting = store
                .waiting_deliveries("x", id, after, false, ALL_LANES, 100)
                .await
                .unwrap();
            let Some(last) = waiting.last() else { break };
            after = last.sequence;
            pieces.push(waiting.len());
        }
        assert_eq!(pieces, [1, 1, 1, 1]);
    }
}

#[tokio::test]
async fn a_user_whose_id_databases_cannot_store_keeps_nobody_from_being_told_of() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let come = [member("a", "n\0l", true, 1), member("b", "ann", true, 1)];
        assert_eq!(record(&store, &setup, 10, &come).await.deliveries, 2);
        let gone = [member("a", "n\0l", false, 5)];
        assert_eq!(record(&store, &setup, 20, &gone).await.deliveries, 1);
        assert_eq!(record(&store, &setup, 21, &gone).await.deliveries, 0);
    }
}

#[tokio::test]
async fn what_waits_is_read_of_the_lanes_that_are_asked_for() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 1).await;
        let id = setup.webhooks[0].as_str();
        let in_lanes = |_: &[bool]| {
            let of_lane = |lane| NewDelivery {
                lane,
                ..delivery(id, "client_event", "a")
            };
            (0..4).map(of_lane).collect()
        };
        let recorded = store.record_webhook_events(&setup.app, 1, &[], DAY_ZERO, in_lanes);
        assert_eq!(recorded.await.unwrap().deliveries, 4);
        let leased = store.lease_webhooks("x", i64::MAX, LEASE, 100).await;
        assert_eq!(leased.unwrap(), [id]);
        for (lanes, expected) in [
            (0b1111, vec![0, 1, 2, 3]),
            (0b1010, vec![1, 3]),
            (0, vec![]),
        ] {
            let waiting = store.waiting_deliveries("x", id, 0, false, lanes, 10).await;
            let found: Vec<i64> = waiting.unwrap().iter().map(|one| one.lane).collect();
            assert_eq!(found, expected);
        }
    }
}
