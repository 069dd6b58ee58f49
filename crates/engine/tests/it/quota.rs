//! Quotas, with a test in the place of what keeps them.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::testing::{Client, LocalNode, arrival, complaint, definition, settle};
use fanfare_engine::{OverQuota, PublishError, QuotaOwner, QuotaShare, UsedUp};
use fanfare_protocol::{AppSettings, CloseCode, QuotaKind, Quotas};
use serde_json::json;
use tokio::time::Instant;

use crate::node::{KEY, Node, options, settings, with_node, with_options};

fn used_up(kind: QuotaKind) -> Arc<UsedUp> {
    Arc::new(UsedUp {
        owner: QuotaOwner::App,
        kind,
        limit: 1000,
        resets_at: "2026-11-22T00:00:00Z".into(),
    })
}

/// Gives the app quotas of a thousand each.
fn limit(node: &Node, quotas: Quotas) {
    let settings = AppSettings {
        quotas,
        ..settings()
    };
    node.engine
        .update_apps(vec![definition("1", KEY, settings)], &[]);
}

fn messages() -> Quotas {
    Quotas {
        messages_per_day: 1000,
        ..Quotas::default()
    }
}

fn deliveries() -> Quotas {
    Quotas {
        deliveries_per_day: 1000,
        ..Quotas::default()
    }
}

fn grant(node: &LocalNode, kind: QuotaKind, amount: i64, last: bool) {
    let app = node.app();
    let share: &QuotaShare = app.quotas().of(kind);
    share.grant(amount, last.then(|| used_up(kind)));
}

async fn publish(node: &Node) -> Result<(), PublishError> {
    let published = node.try_publish("private-a", "e", "x", None).await;
    settle().await;
    published
}

async fn subscribed(node: &Node) -> Client {
    let client = node.connect();
    client.subscribe("private-a").await;
    client.seen();
    client
}

#[test]
fn messages_stop_exactly_where_the_last_share_ends_and_the_error_says_when_it_begins_again() {
    with_node(1, async |node| {
        limit(&node, messages());
        grant(&node, QuotaKind::Messages, 3, true);
        for _ in 0..3 {
            publish(&node).await.unwrap();
        }
        let error = publish(&node).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(
            error,
            PublishError::OverQuota(OverQuota::UsedUp(_))
        ));
        for words in [
            "1000 messages a day",
            "quotas.messages_per_day",
            "2026-11-22T00:00:00Z",
        ] {
            assert!(text.contains(words), "{text}");
        }
        node.app().quotas().of(QuotaKind::Messages).begin();
        grant(&node, QuotaKind::Messages, 1, false);
        publish(&node).await.unwrap();
    });
}

#[test]
fn a_publish_waits_for_a_share_and_gives_up_in_time() {
    with_node(1, async |node| {
        limit(&node, messages());
        let later = async {
            node.engine.quota_requests().asked().await;
            assert_eq!(node.engine.quota_requests().take().len(), 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(node.app().quotas().of(QuotaKind::Messages).awaited(), 1);
            grant(&node, QuotaKind::Messages, 1, false);
        };
        let (published, ()) = tokio::join!(publish(&node), later);
        published.unwrap();
        let began = Instant::now();
        let error = publish(&node).await.unwrap_err();
        assert_eq!(error, PublishError::OverQuota(OverQuota::Unknown));
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        assert_eq!(node.app().quotas().of(QuotaKind::Messages).awaited(), 0);
    });
}

#[test]
fn deliveries_are_charged_afterwards_and_refuse_the_next_publish_on_every_node() {
    with_node(2, async |node| {
        let clients = [subscribed(&node).await, subscribed(&node).await];
        limit(&node, deliveries());
        grant(&node, QuotaKind::Deliveries, 3, false);
        publish(&node).await.unwrap();
        publish(&node).await.unwrap();
        let share = |node: &Node| node.app().quotas().of(QuotaKind::Deliveries).debt();
        assert_eq!(share(&node), 1, "two clients got two events");
        grant(&node, QuotaKind::Deliveries, 10, false);
        // Another node has found nothing left.
        let app = node.app();
        let share = app.quotas().of(QuotaKind::Deliveries);
        share.use_up(used_up(QuotaKind::Deliveries));
        let error = publish(&node).await.unwrap_err();
        assert!(error.to_string().contains("deliveries a day"), "{error}");
        assert_eq!(clients.map(|client| client.names().len()), [2, 2]);
    });
}

#[test]
fn a_used_up_quota_refuses_new_connections_with_4004_and_client_events_with_its_value() {
    with_node(1, async |node| {
        let one = subscribed(&node).await;
        let two = subscribed(&node).await;
        limit(&node, messages());
        grant(&node, QuotaKind::Messages, 1, true);
        let event = json!({"event": "client-e", "channel": "private-a", "data": {}});
        one.send(&event).await;
        assert_eq!(two.names(), ["client-e"]);
        one.send(&event).await;
        let told = complaint(&one.events());
        assert!(told.contains("1000 messages a day"), "{told}");
        let refused = node.engine.admit(arrival(KEY)).unwrap_err();
        assert_eq!(refused.code, CloseCode::OverQuota);
        assert!(refused.message.contains("2026-11-22T00:00:00Z"));
        // A changed quota is asked for anew.
        let more = Quotas {
            messages_per_day: 2000,
            ..Quotas::default()
        };
        limit(&node, more);
        assert!(node.engine.admit(arrival(KEY)).is_ok());
    });
}

#[test]
fn a_soft_quota_counts_and_refuses_nothing() {
    with_node(1, async |node| {
        let soft = Quotas {
            soft_messages_per_day: 1,
            soft_deliveries_per_day: 1,
            ..Quotas::default()
        };
        limit(&node, soft);
        let _client = subscribed(&node).await;
        for _ in 0..5 {
            publish(&node).await.unwrap();
        }
        let app = node.app();
        let debts = [QuotaKind::Messages, QuotaKind::Deliveries].map(|k| app.quotas().of(k).debt());
        assert_eq!(debts, [5, 5]);
    });
}

#[test]
fn the_installations_quota_counts_all_apps_and_events_that_fail_are_given_back() {
    let options = fanfare_engine::Options {
        quotas: messages(),
        inbox_bytes: 2000,
        ..options(1)
    };
    with_options(options, async |node| {
        let share = node.engine.installation_quotas().of(QuotaKind::Messages);
        share.grant(6, Some(used_up(QuotaKind::Messages)));
        let _client = subscribed(&node).await;
        // The first fills the shard's inbox, so the second finds no room.
        let large = "x".repeat(5000);
        let first = node.try_publish("private-a", "e", &large, None).await;
        first.unwrap();
        let failed = node.try_publish("private-a", "e", &large, None).await;
        assert!(matches!(failed, Err(PublishError::Bus(_))), "{failed:?}");
        settle().await;
        for _ in 0..5 {
            publish(&node).await.unwrap();
        }
        let error = publish(&node).await.unwrap_err();
        assert!(matches!(error, PublishError::OverQuota(_)));
    });
}

#[test]
fn a_request_that_is_not_answered_keeps_no_deleted_app() {
    with_node(1, async |node| {
        limit(&node, messages());
        assert!(publish(&node).await.is_err());
        node.engine.quota_requests().asked().await;
        let app = Arc::downgrade(&node.app());
        node.engine.update_apps(vec![], &["1".into()]);
        settle().await;
        assert!(app.upgrade().is_none());
        assert!(node.engine.quota_requests().take().is_empty());
    });
}

#[test]
fn without_quotas_nothing_is_asked() {
    with_node(1, async |node| {
        let _client = subscribed(&node).await;
        publish(&node).await.unwrap();
        assert!(node.engine.quota_requests().take().is_empty());
    });
}
