//! What several nodes promise, and what breaks where the promise is not kept. Each test says what would fail it.

use std::time::Duration;

use fanfare_engine::testing::{Client, Seen, data, run_paused, settle};
use fanfare_engine::{BusError, PublishError};
use fanfare_protocol::ChannelName;
use tokio::time::{Instant, sleep};

use crate::conformance::topic_of;
use crate::nodes::{ClusterNode, LEASE};
use crate::sim::{Sim, Weather};

/// Longer than a node may be silent, shorter than its lease.
const SILENT: Duration = Duration::from_millis(3500);
const MOMENT: Duration = Duration::from_millis(300);

async fn start(sim: &Sim, process: u64) -> ClusterNode {
    ClusterNode::start(sim.backend(process), 2).await
}

/// Nodes that receive each other's messages.
async fn nodes(sim: &Sim, count: u64) -> Vec<ClusterNode> {
    let mut nodes = Vec::new();
    for process in 0..count {
        nodes.push(start(sim, process).await);
    }
    for node in &nodes {
        node.ready().await;
    }
    nodes
}

async fn publish(node: &ClusterNode, event: &str) -> Result<(), PublishError> {
    node.node.try_publish("news", "e", event, None).await
}

fn is_away(answer: &Result<(), PublishError>) -> bool {
    *answer == Err(PublishError::Bus(BusError::Disconnected))
}

/// The events that a client got, by their data.
fn received(client: &Client) -> Vec<String> {
    let events = client.seen().into_iter().filter_map(|seen| match seen {
        Seen::Event(event) if event["event"] == "e" => Some(event["data"].as_str()?.to_owned()),
        _ => None,
    });
    events.collect()
}

async fn users(node: &ClusterNode, channel: &str) -> Vec<String> {
    let name = ChannelName::parse(channel, 200).unwrap();
    let users = node.engine().users(&node.node.app(), &name).await.unwrap();
    users.iter().map(ToString::to_string).collect()
}

async fn join(client: &Client, user: &str) {
    let member = format!(r#"{{"user_id":"{user}"}}"#);
    client.join("presence-a", &member).await;
}

/// The presence changes that a client received.
fn changes(client: &Client) -> Vec<(String, String)> {
    let changes = client.seen().into_iter().filter_map(|seen| match seen {
        Seen::Event(event) => {
            let name = event["event"]
                .as_str()?
                .strip_prefix("pusher_internal:member_")?;
            let user = data(&event)["user_id"].as_str()?.to_owned();
            Some((name.to_owned(), user))
        }
        _ => None,
    });
    changes.collect()
}

fn change(name: &str, user: &str) -> (String, String) {
    (name.to_owned(), user.to_owned())
}

/// docs/clustering.md#rule-1: fails if the world takes what comes after its deadline, or a node keeps what was not taken and
/// sends it again.
#[test]
fn an_event_that_was_not_taken_in_time_is_refused_fast_and_never_delivered() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let client = nodes[1].node.connect();
        client.subscribe("news").await;
        sim.stop(true);
        let start = Instant::now();
        let late = publish(&nodes[0], "late").await;
        assert_eq!(late, Err(PublishError::Bus(BusError::Unanswered)));
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{:?}",
            start.elapsed()
        );
        sleep(LEASE).await;
        assert!(is_away(&publish(&nodes[0], "away").await));
        sim.stop(false);
        for node in &nodes {
            node.ready().await;
        }
        let again = nodes[1].node.connect();
        again.subscribe("news").await;
        publish(&nodes[0], "new").await.unwrap();
        sleep(LEASE).await;
        let was_published = |event: &str| {
            sim.with(|world| {
                world
                    .sent
                    .iter()
                    .any(|sent| sent.message.ends_with(event.as_bytes()))
            })
        };
        assert!(was_published("new") && !was_published("late"));
        assert_eq!(received(&again), ["new"]);
        assert!(received(&client).is_empty(), "it was fenced before");
    });
}

/// docs/clustering.md#rule-1: fails if an event waits in the node until there is a connection.
#[test]
fn an_event_is_refused_at_once_while_there_is_no_connection() {
    run_paused(async {
        let sim = Sim::new(2, Weather::Calm);
        let nodes = nodes(&sim, 1).await;
        sim.refuse(true);
        sim.cut(0);
        settle().await;
        let start = Instant::now();
        assert!(is_away(&publish(&nodes[0], "away").await));
        assert_eq!(start.elapsed(), Duration::ZERO);
        sim.refuse(false);
        nodes[0].ready().await;
        let client = nodes[0].node.connect();
        client.subscribe("news").await;
        sleep(LEASE).await;
        assert!(received(&client).is_empty());
    });
}

/// docs/clustering.md#rule-2: fails if a node hands its own events straight to its own connections.
#[test]
fn connections_get_the_events_of_their_own_node_in_the_order_of_all_nodes() {
    run_paused(async {
        let sim = Sim::new(3, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let clients = [nodes[0].node.connect(), nodes[1].node.connect()];
        for client in &clients {
            client.subscribe("news").await;
        }
        sim.stall(0, true, false);
        let here = async { publish(&nodes[0], "of here").await.unwrap() };
        let there = async {
            sleep(MOMENT).await;
            publish(&nodes[1], "of there").await.unwrap();
            sim.stall(0, false, false);
        };
        tokio::join!(here, there);
        sleep(MOMENT).await;
        for client in &clients {
            assert_eq!(received(client), ["of there", "of here"]);
        }
    });
}

/// docs/clustering.md#rule-3: fails if a node is ready as soon as it has a connection, or when it receives others that do not
/// receive it.
#[test]
fn a_fresh_node_publishes_nothing_before_all_nodes_receive_it() {
    for (up, down) in [(true, false), (false, true)] {
        run_paused(async {
            let sim = Sim::new(4, Weather::Calm);
            let nodes = nodes(&sim, 2).await;
            sim.stall(0, up, down);
            let fresh = start(&sim, 2).await;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                assert!(is_away(&publish(&fresh, "early").await));
                sleep(MOMENT).await;
            }
            sim.stall(0, false, false);
            sleep(MOMENT).await;
            assert!(nodes[0].is_ready() && fresh.is_ready());
            publish(&fresh, "in time").await.unwrap();
        });
    }
}

/// docs/clustering.md#rule-3: fails if a node that has lost its connection believes the world, which has forgotten the
/// others.
#[test]
fn after_a_loss_of_memory_nobody_publishes_before_all_are_back_or_their_lease_is_over() {
    run_paused(async {
        let sim = Sim::new(5, Weather::Calm);
        let nodes = nodes(&sim, 3).await;
        sim.stall(2, true, true);
        sim.restart();
        settle().await;
        let start = Instant::now();
        while start.elapsed() < LEASE {
            for node in &nodes {
                assert!(is_away(&publish(node, "early").await));
            }
            sleep(MOMENT).await;
        }
        sleep(Duration::from_secs(1)).await;
        assert!(nodes[0].is_ready() && nodes[1].is_ready());
        sim.stall(2, false, false);
        nodes[2].ready().await;

        sim.restart();
        for node in &nodes {
            node.ready().await;
        }
        assert!(
            start.elapsed() < LEASE * 3,
            "all were back long before a lease was over"
        );
    });
}

/// docs/clustering.md#rule-3: fails if a connection that broke before a heartbeat arrived forgets the nodes that were known.
#[test]
fn a_connection_that_breaks_at_once_does_not_make_a_node_forget_the_others() {
    run_paused(async {
        let sim = Sim::new(6, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        sim.stall(1, true, true);
        sim.restart();
        sim.stall(0, true, true);
        sleep(Duration::from_secs(1)).await;
        sim.stall(0, false, false);
        // The next connection is there, and breaks before its first answer.
        while sim.topics_of(0).is_empty() && sim.lines(0) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        sim.cut(0);
        let start = Instant::now();
        while start.elapsed() < LEASE - MOMENT {
            assert!(is_away(&publish(&nodes[0], "early").await));
            sleep(MOMENT).await;
        }
    });
}

/// docs/clustering.md#rule-4: fails if events can still be published over a connection on which nothing arrives.
#[test]
fn a_node_that_receives_nothing_publishes_nothing() {
    run_paused(async {
        let sim = Sim::new(7, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let (deaf, receiving) = (nodes[0].node.connect(), nodes[1].node.connect());
        deaf.subscribe("news").await;
        receiving.subscribe("news").await;
        sim.stall(0, false, true);
        sleep(SILENT + Duration::from_secs(1)).await;
        assert!(!nodes[0].is_ready());
        assert!(is_away(&publish(&nodes[0], "deaf").await));
        publish(&nodes[1], "missed").await.unwrap();
        sim.stall(0, false, false);
        nodes[0].ready().await;
        publish(&nodes[0], "after").await.unwrap();
        sleep(LEASE).await;
        assert_eq!(received(&receiving), ["missed", "after"]);
        let seen = deaf.seen();
        assert_eq!(
            seen.last(),
            Some(&Seen::Close(4101)),
            "it has missed something, and was told: {seen:?}"
        );
    });
}

/// docs/clustering.md#rule-5: fails if a snapshot and the changes after it are put together without positions.
#[test]
fn a_hundred_users_who_join_at_the_same_moment_over_three_nodes_all_see_each_other() {
    for seed in 0..20 {
        run_paused(async {
            let sim = Sim::new(seed, Weather::Windy);
            let nodes = nodes(&sim, 3).await;
            let clients: Vec<_> = (0..100)
                .map(|user| (user, nodes[user % 3].node.connect()))
                .collect();
            let joins = clients.iter().map(|(user, client)| join_as(client, *user));
            futures_util::future::join_all(joins).await;
            sleep(Duration::from_secs(3)).await;
            for (user, client) in &clients {
                let events = client.events();
                assert_eq!(events[0]["event"], "pusher_internal:subscription_succeeded");
                let ids = data(&events[0])["presence"]["ids"].clone();
                let mut members: Vec<String> = serde_json::from_value(ids).unwrap();
                for event in &events[1..] {
                    assert_eq!(event["event"], "pusher_internal:member_added");
                    let user = data(event)["user_id"].as_str().unwrap().to_owned();
                    assert!(!members.contains(&user), "{user} was announced twice");
                    members.push(user);
                }
                assert_eq!(members.len(), 100, "what user {user} sees");
            }
        });
    }
}

async fn join_as(client: &Client, user: usize) {
    join(client, &format!("u{user}")).await;
}

/// docs/clustering.md#rule-6: fails if a lease is long, if two nodes speak for the dead, or if nobody does.
#[test]
fn within_ten_seconds_exactly_one_node_speaks_for_a_dead_one() {
    for seed in 0..20 {
        run_paused(async {
            let sim = Sim::new(seed, Weather::Windy);
            let nodes = nodes(&sim, 3).await;
            let (left, stays) = (nodes[0].node.connect(), nodes[1].node.connect());
            join(&left, "dead").await;
            left.subscribe("alone").await;
            join(&stays, "alive").await;
            sleep(Duration::from_secs(1)).await;
            stays.seen();
            nodes[0].kill();
            sim.kill(0);
            sleep(Duration::from_secs(10)).await;
            assert_eq!(changes(&stays), [change("removed", "dead")]);
            let notices: Vec<_> = nodes[1..]
                .iter()
                .flat_map(|node| node.notices.all())
                .collect();
            let count = |channel: &str, what: &str| {
                let same = |notice: &&(String, String)| notice.0 == channel && notice.1 == what;
                notices.iter().filter(same).count()
            };
            assert_eq!(count("presence-a", "removed dead"), 1, "{notices:?}");
            assert_eq!(count("alone", "vacated"), 1, "{notices:?}");
            assert_eq!(count("presence-a", "vacated"), 0, "{notices:?}");
            assert_eq!(users(&nodes[2], "presence-a").await, ["alive"]);
        });
    }
}

/// docs/clustering.md#rule-6: fails if who clears up and dies over it is not followed by somebody else.
#[test]
fn somebody_else_goes_on_when_who_clears_up_after_the_dead_dies_as_well() {
    run_paused(async {
        let sim = Sim::new(8, Weather::Calm);
        sim.with(|world| world.part = (1, 1));
        let nodes = nodes(&sim, 3).await;
        let clients: Vec<_> = (0..30).map(|_| nodes[0].node.connect()).collect();
        for (user, client) in clients.iter().enumerate() {
            join_as(client, user).await;
        }
        let stays = nodes[2].node.connect();
        join(&stays, "alive").await;
        nodes[0].kill();
        sim.kill(0);
        while users(&nodes[2], "presence-a").await.len() > 25 {
            sleep(Duration::from_millis(1)).await;
        }
        for process in [1, 2] {
            if sim
                .changes()
                .iter()
                .any(|change| change.process == process && change.what.starts_with("removed"))
            {
                // Its connection is lost in the midst of it.
                sim.cut(process);
            }
        }
        sleep(LEASE * 3).await;
        assert_eq!(users(&nodes[1], "presence-a").await, ["alive"]);
        assert_eq!(sim.with(|world| world.traces()).len(), 2);
    });
}

/// docs/clustering.md#rule-6: fails if a beat that comes after the lease has run out makes a node alive again without its
/// knowledge.
#[test]
fn a_node_that_was_taken_for_dead_learns_of_it_and_says_everything_again() {
    run_paused(async {
        for offset in 0..10 {
            let sim = Sim::new(9, Weather::Calm);
            let nodes = nodes(&sim, 2).await;
            let client = nodes[0].node.connect();
            join(&client, "here").await;
            sleep(Duration::from_millis(100 * offset)).await;
            // First an answer is late, and then what is said next.
            sim.stall(0, false, true);
            sleep(Duration::from_millis(2800)).await;
            sim.stall(0, false, false);
            sleep(Duration::from_millis(20)).await;
            sim.stall(0, true, false);
            sleep(Duration::from_millis(3700)).await;
            sim.stall(0, false, false);
            sleep(LEASE * 2).await;
            let is_open = !client.session().is_closing();
            let there = users(&nodes[1], "presence-a").await;
            assert_eq!(there, ["here"], "the client is open: {is_open}");
        }
    });
}

/// Fails if a node goes on beating into a memory that knows nothing of it.
#[test]
fn a_node_that_was_forgotten_says_everything_again() {
    run_paused(async {
        let sim = Sim::new(14, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let client = nodes[0].node.connect();
        join(&client, "here").await;
        sim.with(|world| world.forget());
        sleep(LEASE * 2).await;
        assert!(nodes.iter().all(ClusterNode::is_ready));
        assert_eq!(users(&nodes[1], "presence-a").await, ["here"]);
        assert_eq!(client.seen().last(), Some(&Seen::Close(4101)));
    });
}

/// Fails if what was said over a connection is cleared away before it was said again over the next.
#[test]
fn a_node_that_has_lost_its_connection_for_a_moment_is_not_seen_to_leave() {
    for seed in 0..20 {
        run_paused(async {
            let sim = Sim::new(seed, Weather::Windy);
            let nodes = nodes(&sim, 2).await;
            let clients = [nodes[0].node.connect(), nodes[1].node.connect()];
            if seed % 2 == 0 {
                join(&clients[0], "a").await;
            }
            join(&clients[1], "b").await;
            clients[0].subscribe("news").await;
            sleep(Duration::from_secs(1)).await;
            clients[1].seen();
            sim.cut(0);
            // Nobody takes what the client is told for its end: it is fenced, and stays for as long as that takes.
            sleep(Duration::from_millis(1500)).await;
            assert_eq!(changes(&clients[1]), []);
            let notices: Vec<_> = nodes.iter().flat_map(|node| node.notices.all()).collect();
            let vacated = notices.iter().filter(|(_, what)| what == "vacated");
            assert_eq!(vacated.count(), 0, "{notices:?}");
        });
    }
}

/// docs/clustering.md#rule-7: fails if all are closed at once, or if a node that ends still takes connections.
#[test]
fn the_connections_of_a_node_that_ends_are_closed_bit_by_bit_and_go_to_nodes_that_stay() {
    run_paused(async {
        let sim = Sim::new(10, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let clients: Vec<_> = (0..400).map(|_| nodes[0].node.connect()).collect();
        let engine = std::sync::Arc::clone(nodes[0].engine());
        let period = Duration::from_secs(1);
        let drain = tokio::spawn(async move { engine.drain(period).await });
        let closed = || {
            clients
                .iter()
                .filter(|client| client.session().is_closing())
                .count()
        };
        sleep(period / 4).await;
        assert!(
            (80..=120).contains(&closed()),
            "after a quarter: {}",
            closed()
        );
        sleep(period / 4).await;
        assert!(
            (180..=220).contains(&closed()),
            "after a half: {}",
            closed()
        );
        let arrival = fanfare_engine::testing::arrival("app-key");
        assert!(nodes[0].engine().admit(arrival).is_err());
        assert!(nodes[1].engine().admit(arrival).is_ok());
        sleep(period * 3 / 4).await;
        assert_eq!(closed(), 400);
        for mut client in clients {
            assert_eq!(client.seen().last(), Some(&Seen::Close(4200)));
            client.leave().await;
        }
        drain.await.unwrap();
    });
}

/// docs/clustering.md#rule-8: fails if the end waits for somebody who does not answer.
#[test]
fn a_node_ends_in_time_while_the_world_does_not_answer() {
    run_paused(async {
        let sim = Sim::new(11, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let client = nodes[0].node.connect();
        join(&client, "a").await;
        sim.stop(true);
        let start = Instant::now();
        nodes[0].cluster.leave().await;
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{:?}",
            start.elapsed()
        );
        sim.refuse(true);
        sim.cut(1);
        settle().await;
        let start = Instant::now();
        nodes[1].cluster.leave().await;
        assert_eq!(start.elapsed(), Duration::ZERO, "there is nobody to tell");
    });
}

/// Fails if others wait for the lease of a node that has said farewell, or if something is said after that.
#[test]
fn a_node_that_says_farewell_leaves_nothing_even_with_clients_still_there() {
    run_paused(async {
        let sim = Sim::new(12, Weather::Windy);
        let nodes = nodes(&sim, 2).await;
        let (busy, stays) = (nodes[0].node.connect(), nodes[1].node.connect());
        join(&busy, "a").await;
        busy.subscribe("news").await;
        join(&stays, "b").await;
        let idle = nodes[0].node.connect();
        nodes[0].cluster.leave().await;
        sleep(MOMENT).await;
        assert_eq!(users(&nodes[1], "presence-a").await, ["b"]);
        assert_eq!(changes(&stays), [change("removed", "a")]);
        // Whoever is still there does not know that it is over.
        busy.unsubscribe("news").await;
        let more = async {
            idle.subscribe("more").await;
            join(&idle, "c").await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), more).await;
        sleep(Duration::from_secs(1)).await;
        nodes[0].kill();
        sim.kill(0);
        sleep(MOMENT).await;
        let traces = sim.with(|world| world.traces());
        assert_eq!(traces.len(), 1, "{traces:?}");
        assert_eq!(users(&nodes[1], "presence-a").await, ["b"]);
        let fresh = start(&sim, 2).await;
        sleep(Duration::from_secs(1)).await;
        assert!(fresh.is_ready(), "{:?}", fresh.engine().unready());
    });
}

/// Fails if what comes after a message that could not be read is still delivered.
#[test]
fn nothing_is_delivered_after_a_message_that_cannot_be_read() {
    run_paused(async {
        let sim = Sim::new(13, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let client = nodes[0].node.connect();
        client.subscribe("news").await;
        publish(&nodes[1], "before").await.unwrap();
        sleep(MOMENT).await;
        sim.stall(0, false, true);
        sim.publish(topic_of("news"), b"2 of another version");
        publish(&nodes[1], "after").await.unwrap();
        sleep(MOMENT).await;
        sim.stall(0, false, false);
        sleep(LEASE).await;
        let seen = client.seen();
        assert_eq!(seen.last(), Some(&Seen::Close(4101)), "{seen:?}");
        let events = seen
            .iter()
            .filter(|seen| matches!(seen, Seen::Event(event) if event["event"] == "e"));
        assert_eq!(events.count(), 1, "{seen:?}");
    });
}
