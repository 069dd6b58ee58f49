//! Admission: docs/compatibility.md#connections, C-003 and C-007 to C-009.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;

use fanfare_engine::{Arrival, FormerKey, KeyEnd};
use fanfare_protocol::{AppKey, AppSettings, CloseCode};

use crate::node::{
    Client, KEY, Node, Seen, arrival, definition, options, settings, settle, with_node,
    with_options,
};

fn refused(node: &Node, key: &str, protocol: Option<&str>) -> CloseCode {
    node.engine
        .admit(Arrival {
            key,
            protocol,
            ..Arrival::default()
        })
        .expect_err("refused")
        .code
}

#[test]
fn protocols_4_to_7_are_spoken_and_no_other() {
    with_node(1, async |node| {
        for protocol in ["4", "5", "6", "7"] {
            assert!(
                node.engine
                    .admit(Arrival {
                        protocol: Some(protocol),
                        ..arrival(KEY)
                    })
                    .is_ok(),
                "{protocol}"
            );
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
        node.engine.update_apps(
            vec![definition(
                "1",
                KEY,
                AppSettings {
                    enabled: false,
                    ..settings()
                },
            )],
            &[],
        );
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
        node.engine.update_apps(vec![both], &[]);
        let (old, new) = (node.connect(), node.connect_with("second"));
        node.engine
            .update_apps(vec![definition("1", "second", settings())], &[]);
        settle().await;
        assert_eq!(old.seen().last(), Some(&Seen::Close(4009)));
        assert!(new.seen().is_empty());
        assert_eq!(refused(&node, KEY, Some("7")), CloseCode::UnknownApp);
    });
}

#[test]
fn a_client_with_a_key_that_ended_lately_is_told_when() {
    with_node(1, async |node| {
        let former = |key: &str, end| FormerKey {
            key: AppKey::parse(key).unwrap(),
            end,
            ended_at: "2026-11-22T00:00:00Z".into(),
        };
        let mut app = definition("1", "second", settings());
        app.former_keys = vec![
            former(KEY, KeyEnd::Revoked),
            former("third", KeyEnd::Expired),
        ];
        let connected = node.connect();
        node.engine.update_apps(vec![app.clone()], &[]);
        settle().await;
        let words = |key: &str| {
            let refusal = node.engine.admit(arrival(key)).expect_err("refused");
            assert_eq!(refusal.code, CloseCode::UnknownApp);
            refusal.message
        };
        let revoked = "App key app-key is no longer active: it was revoked at 2026-11-22T00:00:00Z";
        assert_eq!(words(KEY), revoked);
        assert_eq!(
            words("third"),
            "App key third is no longer active: it expired at 2026-11-22T00:00:00Z"
        );
        let seen = connected.seen();
        let told =
            |seen: &Seen| matches!(seen, Seen::Event(event) if event["data"]["message"] == revoked);
        assert!(seen.iter().any(told), "{seen:?}");
        // Active again, as an expired key may be, and the other one forgotten.
        app.keys.extend(definition("1", "third", settings()).keys);
        app.former_keys.clear();
        node.engine.update_apps(vec![app.clone()], &[]);
        assert!(node.engine.admit(arrival("third")).is_ok());
        assert!(words(KEY).starts_with("Could not find an app"));
        app.former_keys = vec![former(KEY, KeyEnd::Revoked)];
        node.engine.update_apps(vec![app], &[]);
        assert_eq!(words(KEY), revoked);
        node.engine.update_apps(vec![], &["1".into()]);
        assert!(words(KEY).starts_with("Could not find an app"));
    });
}

#[test]
fn a_connection_that_was_admitted_before_its_key_was_revoked_is_closed_all_the_same() {
    with_node(1, async |node| {
        let admitted = node.engine.admit(arrival(KEY)).unwrap();
        node.engine
            .update_apps(vec![definition("1", "second", settings())], &[]);
        settle().await;
        let late = node.connect_admitted(admitted);
        assert_eq!(late.seen().last(), Some(&Seen::Close(4009)));
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
        let on_its_way = node.engine.admit(arrival(KEY)).unwrap();
        assert_eq!(
            refused(&node, KEY, Some("7")),
            CloseCode::OverCapacity,
            "a permit is taken with the admission"
        );
        drop(on_its_way);
        assert!(node.engine.admit(arrival(KEY)).is_ok());
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

#[test]
fn an_app_has_as_many_connections_as_it_may_have() {
    with_node(2, async |node| {
        let mut settings = settings();
        settings.limits.connections = 2;
        node.engine
            .update_apps(vec![definition("1", KEY, settings)], &[]);
        let mut clients = Vec::new();
        for _ in 0..2 {
            let admitted = node.engine.admit_on_all_nodes(arrival(KEY)).await;
            clients.push(admitted.unwrap());
        }
        let refusal = node.engine.admit(arrival(KEY)).unwrap_err();
        assert_eq!(refusal.code, CloseCode::OverQuota);
        assert!(refusal.message.contains("2 connections"), "{refusal}");
        clients.pop();
        assert!(node.engine.admit(arrival(KEY)).is_ok());
    });
}

/// Fails if a connection that may still be refused by other nodes keeps clients away for good.
#[test]
fn a_connection_that_is_asked_about_sends_nobody_away_for_good() {
    with_node(1, async |node| {
        let mut settings = settings();
        settings.limits.connections = 1;
        node.engine
            .update_apps(vec![definition("1", KEY, settings)], &[]);
        let asked = node.engine.admit(arrival(KEY)).unwrap();
        let refusal = node.engine.admit(arrival(KEY)).unwrap_err();
        assert_eq!(refusal.code, CloseCode::OverCapacity);
        drop(asked);
        let _admitted = node.engine.admit_on_all_nodes(arrival(KEY)).await.unwrap();
        let refusal = node.engine.admit(arrival(KEY)).unwrap_err();
        assert_eq!(refusal.code, CloseCode::OverQuota);
    });
}

#[test]
fn browsers_come_from_allowed_origins_and_others_say_none() {
    with_node(1, async |node| {
        let allowed = vec!["https://*.example.com".to_owned()];
        let settings = AppSettings {
            allowed_origins: allowed,
            ..settings()
        };
        node.engine
            .update_apps(vec![definition("1", KEY, settings)], &[]);
        let admit = |origin| {
            node.engine
                .admit(Arrival {
                    origin,
                    ..arrival(KEY)
                })
                .map(|_| ())
        };
        assert!(admit(Some("https://app.example.com")).is_ok());
        assert!(admit(None).is_ok());
        assert_eq!(
            admit(Some("https://evil.com")).unwrap_err().code,
            CloseCode::Unauthorized
        );
    });
}

#[test]
fn a_connection_that_does_not_authorize_itself_in_time_is_closed_where_the_app_wants_that() {
    with_node(1, async |node| {
        let anonymous_before = node.connect();
        let wanted = AppSettings {
            authorized_connections: true,
            ..settings()
        };
        let idle = node.connect();
        let (public, private) = (node.connect(), node.connect());
        public.subscribe("public").await;
        private.subscribe("private-a").await;
        for client in [&public, &private] {
            client.events();
        }
        tokio::time::sleep(std::time::Duration::from_secs(40)).await;
        assert!(
            anonymous_before.seen().is_empty(),
            "the app does not want it yet"
        );
        node.engine
            .update_apps(vec![definition("1", KEY, wanted)], &[]);
        let newcomer = node.connect();
        tokio::time::sleep(std::time::Duration::from_secs(25)).await;
        for client in [&idle, &public] {
            assert_eq!(client.seen().last(), Some(&Seen::Close(4009)));
        }
        assert!(newcomer.seen().is_empty(), "it still has time");
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        assert_eq!(newcomer.seen().last(), Some(&Seen::Close(4009)));
        assert!(private.seen().is_empty());
    });
}

#[test]
fn a_deleted_app_is_unknown_and_its_connections_are_closed() {
    with_node(2, async |node| {
        let (one, two) = (node.connect(), node.connect());
        node.engine
            .update_apps(vec![definition("2", "other", settings())], &[]);
        let other = node.connect_with("other");
        node.engine
            .update_apps(Vec::new(), &["1".to_owned(), "never there".to_owned()]);
        settle().await;
        for client in [one, two] {
            let seen = client.seen();
            assert_eq!(seen.last(), Some(&Seen::Close(4001)));
            assert!(
                format!("{seen:?}").contains("App 1 was deleted"),
                "{seen:?}"
            );
        }
        assert!(other.seen().is_empty());
        assert_eq!(refused(&node, KEY, Some("7")), CloseCode::UnknownApp);
        assert!(node.engine.apps().by_id("1").is_none());
        node.engine
            .update_apps(vec![definition("1", KEY, settings())], &[]);
        assert!(
            node.engine.admit(arrival(KEY)).is_ok(),
            "an app made anew is another app"
        );
    });
}

#[test]
fn an_app_that_wants_tls_sends_others_to_it() {
    with_node(1, async |node| {
        let settings = AppSettings {
            tls_only: true,
            ..AppSettings::default()
        };
        node.engine
            .update_apps(vec![definition("1", KEY, settings)], &[]);
        let refusal = node.engine.admit(arrival(KEY)).unwrap_err();
        assert_eq!(refusal.code, CloseCode::TlsOnly);
        let secure = Arrival {
            secure: true,
            ..arrival(KEY)
        };
        assert!(node.engine.admit(secure).is_ok());
    });
}

#[test]
fn a_deleted_app_is_let_go_once_its_last_connection_has_ended_and_its_traffic_still_counts() {
    for connected_at_the_end in [false, true] {
        with_node(1, async |node| {
            let mut client = node.connect();
            client.subscribe("news").await;
            node.publish("news", "e", "data").await;
            let app = Arc::downgrade(&node.app());
            if !connected_at_the_end {
                client.leave().await;
            }
            node.engine.update_apps(vec![], &["1".into()]);
            settle().await;
            if connected_at_the_end {
                client.leave().await;
            }
            drop(client);
            assert!(app.upgrade().is_none(), "nobody has asked for metrics");
            let stats = node.engine.stats().await;
            assert_eq!((stats.clients.deliveries, stats.clients.opened), (1, 1));
            assert!(stats.apps.is_empty(), "{:?}", stats.apps);
        });
    }
}

thread_local! {
    static SUBSCRIBER: RefCell<Option<Client>> = const { RefCell::new(None) };
    static CAME_AFTER: Cell<Option<usize>> = const { Cell::new(None) };
}

#[test]
fn an_event_overtakes_the_connections_that_wait_for_their_shard() {
    with_node(1, async |node| {
        let client = node.connect();
        client.subscribe("news").await;
        SUBSCRIBER.set(Some(client));
        for adopted in 0..100 {
            node.engine.adopt(move |_| {
                let has_come = SUBSCRIBER.with_borrow(|client| {
                    client
                        .as_ref()
                        .is_some_and(|client| client.names().contains(&"new".to_owned()))
                });
                if has_come && CAME_AFTER.get().is_none() {
                    CAME_AFTER.set(Some(adopted));
                }
            });
        }
        node.publish("news", "new", "{}").await;
        assert!(
            CAME_AFTER.get().is_some_and(|adopted| adopted < 20),
            "{:?}",
            CAME_AFTER.get()
        );
        SUBSCRIBER.take();
    });
}
