//! What nodes share loses a part of what it knows, its clock is set, its connections break again and again, or it takes nothing. Each
//! test says what would fail it.

use std::sync::Arc;
use std::time::Duration;

use fanfare_cluster::Redis;
use fanfare_cluster::backend::{Backend, Change, Counted, LogRules, NodeName, Reply, Report};
use fanfare_engine::testing::{Client, KEY, Seen, arrival, data, run_paused, settle};
use fanfare_engine::{Admitted, Refusal};
use fanfare_protocol::{AppId, ChannelName, CloseCode};
use fanfare_testkit::RedisServer;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::nodes::{ClusterNode, LEASE, with_quota};
use crate::sim::{Sim, Weather, World};

/// Within this nothing is left of who is gone.
const GONE_WITHIN: Duration = LEASE.saturating_add(Duration::from_secs(2));
const ROOM: &str = "presence-a";

async fn admit(node: &ClusterNode) -> Result<Admitted, Refusal> {
    node.engine().admit_on_all_nodes(arrival(KEY)).await
}

async fn connect(node: &ClusterNode) -> Client {
    node.node.connect_admitted(admit(node).await.unwrap())
}

async fn join(client: &Client, user: &str) {
    let member = format!(r#"{{"user_id":"{user}"}}"#);
    client.join(ROOM, &member).await;
}

async fn users(node: &ClusterNode) -> Vec<String> {
    let name = ChannelName::parse(ROOM, 200).unwrap();
    let users = node.engine().users(&node.node.app(), &name).await.unwrap();
    users.iter().map(ToString::to_string).collect()
}

/// The presence changes that a client received.
fn changes(client: &Client) -> Vec<String> {
    let changes = client.seen().into_iter().filter_map(|seen| match seen {
        Seen::Event(event) => {
            let name = event["event"].as_str()?;
            let name = name.strip_prefix("pusher_internal:member_")?;
            Some(format!("{name} {}", data(&event)["user_id"]))
        }
        _ => None,
    });
    changes.collect()
}

fn close_code(client: &Client) -> Option<u16> {
    client.seen().into_iter().find_map(|seen| match seen {
        Seen::Close(code) => Some(code),
        _ => None,
    })
}

/// Fails if a node looks for what it had left only where the world says, or if what is said right after the loss is taken under a
/// name that nobody knows.
#[test]
fn after_any_loss_nobody_who_is_gone_is_there_or_counts() {
    type Lose = fn(&mut World);
    let losses: [(&str, Lose); 3] = [
        ("everything", World::flush),
        ("what is of the installation", World::flush_installation),
        ("what is of apps", World::flush_apps),
    ];
    for (lost, lose) in losses {
        for (offset, also_killed) in [(0, false), (300, false), (600, true), (900, true)] {
            run_paused(async {
                let sim = Sim::new(offset, Weather::Calm);
                let nodes = with_quota(&sim, 3, 4).await;
                sleep(Duration::from_millis(offset)).await;
                let (stays, goes) = (connect(&nodes[0]).await, connect(&nodes[1]).await);
                join(&stays, "stays").await;
                join(&goes, "goes").await;
                goes.subscribe("alone").await;
                sleep(Duration::from_secs(1)).await;
                sim.with(lose);
                // Before anybody knows, one comes and one goes.
                let late = admit(&nodes[1]).await;
                if let Ok(late) = late {
                    let mut late = nodes[1].node.connect_admitted(late);
                    settle().await;
                    late.leave().await;
                }
                let mut goes = goes;
                goes.leave().await;
                if also_killed {
                    nodes[2].kill();
                    sim.kill(2);
                }
                // Who is told to come back leaves.
                let (lost_at, mut stays) = (Instant::now(), stays);
                sleep(Duration::from_secs(3)).await;
                let mut there = vec!["stays".to_owned()];
                if close_code(&stays).is_some() {
                    stays.leave().await;
                    there.clear();
                }
                sleep(GONE_WITHIN.saturating_sub(lost_at.elapsed())).await;
                let words = format!("{lost}, after {offset} ms");
                for node in &nodes[..2] {
                    assert!(node.is_ready(), "{words}");
                    assert_eq!(users(node).await, there, "{words}");
                    let listed = node.engine().channels(&node.node.app(), "").await;
                    assert_eq!(listed.unwrap().len(), there.len(), "{words}");
                }
                let counted = sim.with(|world| world.connections_of("1"));
                let counted = counted.values().sum::<usize>();
                assert_eq!(counted, there.len(), "{words}");
                let alive = if also_killed { 2 } else { 3 };
                let names = sim.with(|world| world.traces().len());
                assert_eq!(names, alive, "{words}: {:?}", sim.with(|w| w.traces()));
                let mut more = Vec::new();
                while counted + more.len() < 4 {
                    let one = admit(&nodes[0]).await;
                    more.push(one.unwrap_or_else(|refusal| panic!("{words}: {refusal:?}")));
                }
                let refused = admit(&nodes[1]).await.map(|_| ()).unwrap_err();
                assert_eq!(refused.code, CloseCode::OverQuota, "{words}");
            });
        }
    }
}

/// Fails if each connection gives clients that were fenced before it another while to wait.
#[test]
fn clients_are_told_in_time_that_they_have_missed_something_however_often_the_connection_breaks() {
    for period in [300, 700, 1800, 2500] {
        run_paused(async {
            let sim = Sim::new(period, Weather::Calm);
            let nodes = with_quota(&sim, 2, 0).await;
            let client = connect(&nodes[0]).await;
            client.subscribe("news").await;
            settle().await;
            let start = Instant::now();
            sim.cut(0);
            while close_code(&client).is_none() {
                let since = start.elapsed();
                assert!(since < Duration::from_secs(6), "{period}: still there");
                sleep(Duration::from_millis(period)).await;
                sim.cut(0);
            }
        });
    }
}

/// Fails if clients are closed over as long as a drain takes, in which a 200 does not reach them.
#[test]
fn when_the_connection_is_back_those_who_missed_something_are_told_within_a_second() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let nodes = with_quota(&sim, 1, 0).await;
        let mut clients = Vec::new();
        for _ in 0..140 {
            let client = connect(&nodes[0]).await;
            client.subscribe("news").await;
            clients.push(client);
        }
        sim.cut(0);
        settle().await;
        nodes[0].ready().await;
        sleep(Duration::from_secs(1)).await;
        let told = clients.iter().filter_map(close_code);
        assert_eq!(told.collect::<Vec<_>>(), [4101; 140]);
    });
}

/// Fails if the first node back takes those for dead who only could not say that they live.
#[test]
fn the_first_node_back_after_a_long_outage_buries_nobody_who_lives() {
    run_paused(async {
        let sim = Sim::new(2, Weather::Calm);
        let nodes = with_quota(&sim, 3, 0).await;
        let away = [connect(&nodes[1]).await, connect(&nodes[2]).await];
        join(&away[0], "one").await;
        join(&away[1], "two").await;
        sleep(Duration::from_secs(1)).await;
        for process in 1..3 {
            sim.stall(process, true, true);
        }
        sim.refuse(true);
        for process in 0..3 {
            sim.cut(process);
        }
        sleep(LEASE * 2).await;
        sim.refuse(false);
        let first = connect(&nodes[0]).await;
        join(&first, "first").await;
        sleep(Duration::from_millis(1500)).await;
        for process in 1..3 {
            sim.stall(process, false, false);
        }
        sleep(Duration::from_secs(3)).await;
        assert!(nodes.iter().all(ClusterNode::is_ready));
        assert_eq!(changes(&first), Vec::<String>::new());
        let notices: Vec<_> = nodes.iter().flat_map(|node| node.notices.all()).collect();
        let ended =
            |(_, what): &&(String, String)| what.starts_with("removed") || what == "vacated";
        assert_eq!(notices.iter().filter(ended).count(), 0, "{notices:?}");
    });
}

/// Fails if a lease from before the step ends as far ahead as the step was long.
#[test]
fn a_clock_that_is_set_back_keeps_a_dead_node_alive_for_no_longer_than_a_lease() {
    run_paused(async {
        let sim = Sim::new(3, Weather::Calm);
        let nodes = with_quota(&sim, 3, 0).await;
        let dies = connect(&nodes[0]).await;
        join(&dies, "dies").await;
        sleep(Duration::from_secs(2)).await;
        nodes[0].kill();
        sim.kill(0);
        sim.with(|world| world.set_clock(false, Duration::from_secs(60)));
        sleep(GONE_WITHIN).await;
        assert_eq!(users(&nodes[1]).await, Vec::<String>::new());
        let fresh = ClusterNode::start(sim.backend(3), 1).await;
        sleep(Duration::from_secs(1)).await;
        assert!(fresh.is_ready(), "it waits for the dead");
    });
}

/// Fails if what a node that is gone had is compared with a quota, or if it counts as living until its connection was seen to end:
/// stock clients never come back from a quota.
#[test]
fn nobody_is_over_a_quota_that_only_the_dead_use_up() {
    // With its connection, or like a machine that is gone without a word.
    for silent in [false, true] {
        run_paused(async {
            let sim = Sim::new(4, Weather::Calm);
            let nodes = with_quota(&sim, 2, 2).await;
            let _clients = [connect(&nodes[0]).await, connect(&nodes[0]).await];
            sleep(Duration::from_secs(2)).await;
            nodes[0].kill();
            if silent {
                sim.stall(0, true, true);
            } else {
                sim.kill(0);
            }
            let start = Instant::now();
            let admitted = loop {
                match admit(&nodes[1]).await {
                    Ok(admitted) => break admitted,
                    Err(refusal) => assert_eq!(refusal.code, CloseCode::OverCapacity),
                }
                assert!(start.elapsed() < GONE_WITHIN, "nobody is let in");
                sleep(Duration::from_millis(50)).await;
            };
            let _lives = nodes[1].node.connect_admitted(admitted);
            let _too = connect(&nodes[1]).await;
            let refused = admit(&nodes[1]).await.map(|_| ()).unwrap_err();
            assert_eq!(refused.code, CloseCode::OverQuota, "the living use it up");
        });
    }
}

/// Fails if a call whose script is gone breaks the connection, or is answered as if it may have been taken.
#[tokio::test]
async fn scripts_that_are_gone_are_loaded_again_and_every_call_is_taken_once() {
    let server = RedisServer::start(&[]);
    let backend = Redis::new(&format!("redis://127.0.0.1:{}", server.port), "test").unwrap();
    let connected = backend.connect().await.unwrap();
    let (app, node): (_, NodeName) = (AppId::parse("1").unwrap(), "n".into());
    let deadline = 9_000_000_000_000_000;
    let enlisted = connected.membership.enlist(&app, &node, deadline);
    enlisted.await.unwrap();
    let counted = Arc::new(Mutex::new(Vec::new()));
    let report = |count| {
        let counted = Arc::clone(&counted);
        let change = Change::Subscriptions {
            channel: "a".into(),
            count,
            announce: false,
            visited: false,
            log: LogRules::default(),
            reply: Reply::new(move |answer| counted.lock().push(answer)),
        };
        let app = app.clone();
        Report { app, change }
    };
    for _ in 0..3 {
        server.ask(&["SCRIPT", "FLUSH"]);
        // Many at once: one of them loads for all.
        let others = (0..20).map(|_| connected.membership.live_nodes());
        let others = futures_util::future::join_all(others);
        let reports = vec![report(2), report(1), report(0)];
        let reported = connected.presence.report(&node, deadline, reports);
        let (reported, others) = tokio::join!(reported, others);
        assert_eq!(reported, [Ok(()), Ok(()), Ok(())]);
        let expected = [(0, 2), (2, 1), (1, 0)];
        let expected = expected.map(|(before, after)| Counted { before, after });
        assert_eq!(std::mem::take(&mut *counted.lock()), expected);
        for answer in others {
            answer.unwrap();
        }
    }
}

/// Fails if a node that gets a connection and is refused tries again at once.
#[test]
fn a_node_whose_first_beat_is_refused_waits_before_it_tries_again() {
    run_paused(async {
        let sim = Sim::new(5, Weather::Calm);
        let nodes = with_quota(&sim, 1, 0).await;
        sim.fill(true);
        sleep(LEASE).await;
        let before = sim.connections();
        sleep(Duration::from_secs(20)).await;
        let tries = sim.connections() - before;
        assert!((10..60).contains(&tries), "{tries} connections in 20 s");
        assert!(!nodes[0].is_ready());
        sim.fill(false);
        sleep(Duration::from_secs(2)).await;
        assert!(nodes[0].is_ready());
    });
}
