//! What an operator sees of connections, and does about one.

use std::time::Duration;

use fanfare_protocol::{AppSettings, Framing, SocketId};
use tokio::time::advance;

use crate::node::{Seen, definition, settle, with_node};

#[test]
fn connections_of_all_shards_are_listed_page_by_page_by_their_socket_ids() {
    with_node(3, async |node| {
        let clients: Vec<_> = (0..10).map(|_| node.connect()).collect();
        let mut ids: Vec<SocketId> = clients.iter().map(|c| c.session().socket_id()).collect();
        ids.sort();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = node
                .engine
                .list_connections(&node.app(), None, after, 4)
                .await;
            after = page.last().map(|connection| connection.socket_id);
            seen.extend(page.iter().map(|connection| connection.socket_id));
            if page.len() < 4 {
                break;
            }
        }
        assert_eq!(seen, ids);
    });
}

#[test]
fn a_connection_tells_what_it_is_subscribed_to_and_for_how_long_it_is_there() {
    with_node(2, async |node| {
        let client = node.connect();
        client.subscribe("b").await;
        client.subscribe("a").await;
        client.seen();
        advance(Duration::from_secs(10)).await;
        let id = client.session().socket_id();
        let found = node.engine.inspect_connection(&node.app(), id).await;
        let found = found.expect("it is here");
        assert_eq!(found.channels, ["a", "b"]);
        assert_eq!(found.transport, Framing::WebSocket);
        assert_eq!(
            (found.age, found.silent),
            (Duration::from_secs(10), Duration::from_secs(10))
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
                .list_connections(&other, None, None, 10)
                .await
                .is_empty()
        );
        assert!(node.engine.inspect_connection(&other, id).await.is_none());
        assert!(!node.engine.disconnect(&other, id).await);
        assert!(client.seen().is_empty());
    });
}
