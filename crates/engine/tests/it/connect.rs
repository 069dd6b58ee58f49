//! Admission: C-003, C-007, C-008, C-009.

use std::collections::HashSet;

use fanfare_engine::Settings;
use fanfare_protocol::CloseCode;

use crate::node::{
    KEY, Node, Seen, definition, options, settings, settle, with_node, with_options,
};

fn refused(node: &Node, key: &str, protocol: Option<&str>) -> CloseCode {
    node.engine.admit(key, protocol).expect_err("refused").code
}

#[test]
fn protocols_4_to_7_are_spoken_and_no_other() {
    with_node(1, async |node| {
        for protocol in ["4", "5", "6", "7"] {
            assert!(node.engine.admit(KEY, Some(protocol)).is_ok(), "{protocol}");
        }
        for protocol in ["3", "99", "abc", "", "7.0", "-7"] {
            assert_eq!(
                refused(&node, KEY, Some(protocol)),
                CloseCode::UnsupportedProtocol,
                "{protocol}"
            );
        }
        assert_eq!(refused(&node, KEY, None), CloseCode::NoProtocol);
    });
}

#[test]
fn unknown_and_empty_keys_are_told_apart() {
    with_node(1, async |node| {
        assert_eq!(refused(&node, "nope", Some("7")), CloseCode::UnknownApp);
        assert_eq!(refused(&node, "", Some("7")), CloseCode::PathNotFound);
    });
}

#[test]
fn a_disabled_app_lets_nobody_in_and_its_connections_are_closed() {
    with_node(2, async |node| {
        let (one, two) = (node.connect(), node.connect());
        node.engine.update_apps(vec![definition(
            "1",
            KEY,
            Settings {
                enabled: false,
                ..settings()
            },
        )]);
        settle().await;
        assert_eq!(refused(&node, KEY, Some("7")), CloseCode::AppDisabled);
        for client in [one, two] {
            assert_eq!(client.seen().last(), Some(&Seen::Close(4003)));
        }
    });
}

#[test]
fn a_key_that_is_no_longer_in_force_closes_its_connections_and_no_others() {
    with_node(1, async |node| {
        let mut both = definition("1", KEY, settings());
        both.keys.extend(definition("1", "second", settings()).keys);
        node.engine.update_apps(vec![both]);
        let (old, new) = (node.connect(), node.connect_with("second"));
        node.engine
            .update_apps(vec![definition("1", "second", settings())]);
        settle().await;
        assert_eq!(old.seen().last(), Some(&Seen::Close(4009)));
        assert!(new.seen().is_empty());
        assert_eq!(refused(&node, KEY, Some("7")), CloseCode::UnknownApp);
    });
}

#[test]
fn a_full_node_sends_clients_away_for_a_moment() {
    let mut options = options(1);
    options.max_connections = 1;
    with_options(options, async |node| {
        let mut first = node.connect();
        assert_eq!(refused(&node, KEY, Some("7")), CloseCode::OverCapacity);
        first.leave().await;
        let on_its_way = node.engine.admit(KEY, Some("7")).unwrap();
        assert_eq!(
            refused(&node, KEY, Some("7")),
            CloseCode::OverCapacity,
            "a place is taken with the admission"
        );
        drop(on_its_way);
        assert!(node.engine.admit(KEY, Some("7")).is_ok());
    });
}

#[test]
fn a_thousand_connections_have_a_thousand_socket_ids() {
    with_node(2, async |node| {
        let clients: Vec<_> = (0..1000).map(|_| node.connect()).collect();
        let ids: HashSet<_> = clients
            .iter()
            .map(|client| client.socket_id.clone())
            .collect();
        assert_eq!(ids.len(), 1000);
    });
}
