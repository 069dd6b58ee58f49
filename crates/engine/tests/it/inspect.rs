//! What an operator sees of connections, and does about one.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::testing::{Client, KEY, LocalNode, arrival, options, run_paused};
use fanfare_engine::{
    ConnectionFilter, ConnectionInfo, ConnectionPage, ConnectionPlace, LifecycleKind,
    MAX_LISTED_CHANNELS, Options, Resource,
};
use fanfare_protocol::{AppKey, AppSettings, ChannelName, Framing, SocketId, UserId};
use tokio::time::{advance, sleep};

use crate::node::{Seen, definition, settle, with_node};

#[test]
fn connections_of_all_shards_are_listed_page_by_page_each_once() {
    with_node(3, async |node| {
        let clients: Vec<_> = (0..10).map(|_| node.connect()).collect();
        let (mut seen, mut place, mut pages) = (Vec::new(), Some(ConnectionPlace::default()), 0);
        while let Some(from) = place {
            let (app, filter) = (node.app(), ConnectionFilter::default());
            let listed = node.engine.list_connections(&app, &filter, from, 4);
            let page = listed.await;
            assert!(page.connections.len() <= 4);
            seen.extend(page.connections.iter().map(|found| found.socket_id));
            (place, pages) = (page.next, pages + 1);
        }
        // The last page is told apart, although the second was full.
        assert_eq!(pages, 3);
        assert_eq!(sorted(seen), ids(&clients));
    });
}

#[test]
fn a_page_goes_on_beyond_what_a_shard_looks_at_in_one_turn() {
    let options = Options {
        max_connections: 10_000,
        ..options(1)
    };
    run_paused(async {
        let node = LocalNode::alone(options).await;
        // The one that is looked for is in a slot of the third turn.
        let clients: Vec<_> = (0..9000).map(|_| node.connect()).collect();
        let last = clients.last().unwrap();
        last.subscribe("news").await;
        let id = last.session().socket_id();
        let by_channel = ConnectionFilter {
            channel: ChannelName::parse("news", 100).ok(),
            ..ConnectionFilter::default()
        };
        let page = list(&node, &by_channel).await;
        assert_eq!(ids_of(&page), [id]);
        assert_eq!(page.next, None);
        assert!(
            node.engine
                .inspect_connection(&node.app(), id)
                .await
                .is_some()
        );
    });
}

#[test]
fn filters_choose_by_user_address_key_channel_and_socket_id() {
    with_node(2, async |node| {
        let (ada, bob, cleo) = (
            from(&node, "10.1.2.3"),
            from(&node, "10.9.9.9"),
            from(&node, "2001:db8::7"),
        );
        ada.join("presence-room", r#"{"user_id":"ada"}"#).await;
        bob.subscribe("news").await;
        let id = |client: &Client| client.session().socket_id();
        let found = async |filter: ConnectionFilter| sorted(ids_of(&list(&node, &filter).await));
        let none = ConnectionFilter::default;
        let of = |text: &str| ConnectionFilter {
            addresses: text.parse().ok(),
            ..none()
        };
        assert_eq!(
            found(of("10.0.0.0/8")).await,
            sorted(vec![id(&ada), id(&bob)])
        );
        assert_eq!(found(of("10.1.2.3/32")).await, [id(&ada)]);
        assert_eq!(found(of("2001:db8::/32")).await, [id(&cleo)]);
        let user = UserId::new("ada");
        assert_eq!(found(ConnectionFilter { user, ..none() }).await, [id(&ada)]);
        let channel = ChannelName::parse("news", 100).ok();
        assert_eq!(
            found(ConnectionFilter { channel, ..none() }).await,
            [id(&bob)]
        );
        let socket_id = Some(id(&cleo).to_string()[2..].to_owned());
        assert_eq!(
            found(ConnectionFilter {
                socket_id,
                ..none()
            })
            .await,
            [id(&cleo)]
        );
        let key = AppKey::parse("another").ok();
        assert!(found(ConnectionFilter { key, ..none() }).await.is_empty());
        let key = AppKey::parse(KEY).ok();
        assert_eq!(found(ConnectionFilter { key, ..none() }).await.len(), 3);
    });
}

#[test]
fn a_list_tells_the_first_channels_and_a_page_stays_short_whatever_they_are_called() {
    with_node(1, async |node| {
        let clients: Vec<_> = (0..40).map(|_| node.connect()).collect();
        for client in &clients {
            for number in 0..60 {
                let name = format!("{number:02}{}", "x".repeat(150));
                client.subscribe(&name).await;
            }
        }
        let page = list(&node, &ConnectionFilter::default()).await;
        let first = &page.connections[0];
        assert_eq!(
            (first.channel_count, first.channels.len()),
            (60, MAX_LISTED_CHANNELS)
        );
        assert!(first.channels[0].channel.as_str().starts_with("00"));
        assert!(page.connections.len() < 30, "{}", page.connections.len());
        assert!(page.next.is_some());
    });
}

#[test]
fn a_connection_counts_what_went_over_it() {
    with_node(1, async |node| {
        let client = node.connect();
        let sent = r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#;
        client.send_text(sent).await;
        let before = inspect(&node, &client).await;
        assert_eq!(
            (before.traffic.messages_in, before.traffic.messages_out),
            (1, 2)
        );
        assert_eq!(before.traffic.bytes_in, sent.len() as u64);
        assert!(before.traffic.bytes_out > 100);
        assert_eq!(before.traffic.waiting_bytes_peak, 0);
        // The socket takes nothing, then everything.
        client.allow(0);
        let data = "x".repeat(2000);
        node.publish("news", "e", &data).await;
        let blocked = inspect(&node, &client).await;
        assert!(blocked.waiting_bytes > 2000);
        assert_eq!(
            blocked.traffic.waiting_bytes_peak as usize,
            blocked.waiting_bytes
        );
        assert_eq!(blocked.traffic.bytes_out, before.traffic.bytes_out);
        client.allow(usize::MAX);
        client.session().flush();
        let after = inspect(&node, &client).await;
        assert_eq!(after.waiting_bytes, 0);
        assert_eq!(
            after.traffic.waiting_bytes_peak,
            blocked.traffic.waiting_bytes_peak
        );
        assert_eq!(
            after.traffic.bytes_out,
            before.traffic.bytes_out + blocked.waiting_bytes as u64
        );
        assert_eq!(after.traffic.messages_out, 3);
    });
}

#[test]
fn a_pong_tells_the_round_trip() {
    run_paused(async {
        let node = LocalNode::alone(Options {
            ping_interval: Some(Duration::from_secs(25)),
            ..options(1)
        })
        .await;
        let client = node.connect();
        assert_eq!(inspect(&node, &client).await.round_trip, None);
        while !client.seen().contains(&Seen::Ping) {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_millis(30)).await;
        client.session().note_pong();
        let took = inspect(&node, &client).await.round_trip.unwrap();
        let ms = took.as_millis();
        assert!((30..=40).contains(&ms), "{took:?}");
    });
}

#[test]
fn connections_that_ended_are_remembered_with_their_user_and_why() {
    with_node(1, async |node| {
        let mut left = node.connect();
        left.join("presence-room", r#"{"user_id":"ada"}"#).await;
        let closed = node.connect();
        let (left_id, closed_id) = (left.session().socket_id(), closed.session().socket_id());
        left.leave().await;
        node.engine.disconnect(&node.app(), closed_id).await;
        settle().await;
        let app = node.app();
        let of_ada = app.closed_connections(None, UserId::new("ada").as_ref());
        assert_eq!(of_ada.len(), 1);
        assert_eq!((of_ada[0].socket_id, of_ada[0].code), (left_id, None));
        let found = app.closed_connections(Some(closed_id), None);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].code, &*found[0].reason),
            (Some(4009), "An operator has closed this connection")
        );
        assert_eq!(app.closed_connections(None, None)[0].socket_id, closed_id);
    });
}

#[test]
fn the_last_things_that_happened_to_a_connection_are_told_in_order() {
    with_node(1, async |node| {
        let mut client = node.connect();
        let used = || node.engine.ledger().used(Resource::LifecycleBytes);
        client.subscribe("news").await;
        sleep(Duration::from_secs(1)).await;
        client.subscribe("sports").await;
        assert_eq!(used(), 0, "what its state shows isn't noted");
        sleep(Duration::from_secs(1)).await;
        client.unsubscribe("sports").await;
        sleep(Duration::from_secs(1)).await;
        let signed = format!("{KEY}:{}", "0".repeat(64));
        let channel_data = r#"{"user_id":"ada","user_info":{"name":"hidden"}}"#;
        for _ in 0..3 {
            let data = serde_json::json!({"channel": "presence-a", "auth": signed, "channel_data": channel_data});
            client
                .send(&serde_json::json!({"event": "pusher:subscribe", "data": data}))
                .await;
        }
        let seen = inspect(&node, &client).await.recent;
        let told: Vec<_> = seen
            .iter()
            .map(|entry| {
                let ago = entry.ago.as_secs();
                (entry.kind, ago, entry.count, entry.channel.as_deref())
            })
            .collect();
        assert_eq!(
            told,
            [
                (LifecycleKind::Connected, 3, 1, None),
                (LifecycleKind::Subscribed, 3, 1, Some("news")),
                (LifecycleKind::Subscribed, 2, 1, Some("sports")),
                (LifecycleKind::Unsubscribed, 1, 1, Some("sports")),
                (LifecycleKind::Refused, 0, 3, Some("presence-a")),
            ]
        );
        let why = seen[4].text.as_deref().unwrap();
        assert!(why.starts_with("Invalid signature"), "{why}");
        assert!(!why.contains("hidden"), "{why}");
        assert!(used() > 0);
        let listed = list(&node, &ConnectionFilter::default()).await;
        assert!(listed.connections[0].recent.is_empty());

        let id = client.session().socket_id();
        client.leave().await;
        settle().await;
        assert_eq!(used(), 0);
        let ended = &node.app().closed_connections(Some(id), None)[0];
        let was_on: Vec<_> = ended
            .subscriptions
            .iter()
            .map(|it| (&*it.channel, it.since.unwrap() - it.until))
            .collect();
        let second = Duration::from_secs;
        assert_eq!(was_on, [("news", second(3)), ("sports", second(1))]);
        assert!(ended.has_all_subscriptions);
    });
}

#[test]
fn a_drain_that_ends_closes_no_further_connections_and_lets_new_ones_in() {
    with_node(1, async |node| {
        let clients: Vec<_> = (0..100).map(|_| node.connect()).collect();
        let engine = Arc::clone(&node.engine);
        let drain =
            tokio::task::spawn_local(async move { engine.drain(Duration::from_secs(10)).await });
        // A few connections are closed faster, one in ten milliseconds.
        sleep(Duration::from_millis(500)).await;
        assert!(node.engine.admit(arrival(KEY)).is_err());
        node.engine.accept_connections();
        drain.await.unwrap();
        sleep(Duration::from_secs(20)).await;
        let is_closed = |client: &&Client| client.seen().contains(&Seen::Close(4200));
        let closed = clients.iter().filter(is_closed).count();
        assert!((40..=60).contains(&closed), "{closed}");
        assert!(node.engine.admit(arrival(KEY)).is_ok());
    });
}

async fn list(node: &LocalNode, filter: &ConnectionFilter) -> ConnectionPage {
    let from = ConnectionPlace::default();
    node.engine
        .list_connections(&node.app(), filter, from, 200)
        .await
}

async fn inspect(node: &LocalNode, client: &Client) -> ConnectionInfo {
    let id = client.session().socket_id();
    let found = node.engine.inspect_connection(&node.app(), id).await;
    found.expect("it is here")
}

/// Returns a client at an address.
fn from(node: &LocalNode, address: &str) -> Client {
    let mut admitted = node.engine.admit(arrival(KEY)).unwrap();
    admitted.came_from(address.parse().ok());
    node.connect_admitted(admitted)
}

fn ids_of(page: &ConnectionPage) -> Vec<SocketId> {
    let found = page.connections.iter();
    found.map(|found| found.socket_id).collect()
}

fn ids(clients: &[Client]) -> Vec<SocketId> {
    sorted(clients.iter().map(|c| c.session().socket_id()).collect())
}

fn sorted(mut ids: Vec<SocketId>) -> Vec<SocketId> {
    ids.sort();
    ids
}

#[test]
fn a_connection_tells_what_it_is_subscribed_to_and_for_how_long_it_is_there() {
    with_node(2, async |node| {
        let client = node.connect();
        client.subscribe("b").await;
        advance(Duration::from_secs(4)).await;
        client.subscribe("a").await;
        client.seen();
        advance(Duration::from_secs(10)).await;
        let id = client.session().socket_id();
        let found = node.engine.inspect_connection(&node.app(), id).await;
        let found = found.expect("it is here");
        let channels = found.channels.iter();
        let channels: Vec<_> = channels
            .map(|found| (found.channel.as_str(), found.age.unwrap().as_secs()))
            .collect();
        assert_eq!(channels, [("a", 10), ("b", 14)]);
        assert_eq!(found.transport, Framing::WebSocket);
        assert_eq!(
            (found.age, found.silent),
            (Duration::from_secs(14), Duration::from_secs(10))
        );
        assert_eq!((found.user_id, found.waiting_bytes), (None, 0));
    });
}

#[test]
fn an_operator_closes_one_connection_for_good_and_no_other() {
    with_node(2, async |node| {
        let (one, other) = (node.connect(), node.connect());
        let id = one.session().socket_id();
        assert!(node.engine.disconnect(&node.app(), id).await);
        settle().await;
        assert_eq!(one.seen().last(), Some(&Seen::Close(4009)));
        assert!(other.seen().is_empty());
        assert!(
            !node
                .engine
                .disconnect(&node.app(), SocketId::parse("1.1").unwrap())
                .await
        );
    });
}

#[test]
fn connections_of_another_app_are_not_seen() {
    with_node(1, async |node| {
        let client = node.connect();
        node.engine.update_apps(
            vec![definition("2", "other-key", AppSettings::default())],
            &[],
        );
        let other = node.engine.apps().by_id("2").unwrap();
        let id = client.session().socket_id();
        assert!(
            node.engine
                .list_connections(
                    &other,
                    &ConnectionFilter::default(),
                    ConnectionPlace::default(),
                    10
                )
                .await
                .connections
                .is_empty()
        );
        assert!(node.engine.inspect_connection(&other, id).await.is_none());
        assert!(!node.engine.disconnect(&other, id).await);
        assert!(client.seen().is_empty());
    });
}
