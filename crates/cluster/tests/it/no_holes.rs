//! No hole, no double, nobody sent away for good: the sequences that have each broken that once, and what a node must do
//! in them. Each test says first what went wrong.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fanfare_cluster::Redis;
use fanfare_cluster::backend::{
    Backend, BackendError, Broker, CachedMessage, Call, Census, Change, ConnectError, Connected,
    HistoryPage, HistoryRequest, Incoming, IncomingBytes, LeaseRenewal, LiveNodes, LogRules,
    Membership, Moment, NodeName, Publication, Publish, Published, Reaped, Reply, Report, Topic,
};
use fanfare_engine::testing::{KEY, Seen, arrival, definition, run_paused, settings, settle};
use fanfare_engine::{BoxFuture, HistoryQuery, Retention};
use fanfare_protocol::{AppId, AppSettings, HistoryRule, Limits};
use fanfare_testkit::RedisServer;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::sleep;

use crate::conformance::{event, topic_of};
use crate::nodes::{ClusterNode, LEASE};
use crate::sim::{Sim, Weather};

/// The simulated backend, with somebody in the way of one process.
struct Between {
    inner: Arc<dyn Backend>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Into what the node receives.
    incoming: Mutex<Option<UnboundedSender<Incoming>>>,
    connects: AtomicUsize,
    /// The next beat brings this many events first, and then breaks the connection.
    break_next: AtomicUsize,
    broke: Notify,
    /// Publishes are answered as a master of a Redis Cluster does that has not got the slot any more.
    moved: AtomicBool,
    /// Whoever asked a history does nothing with the answer for a while, as when its shard is busy.
    busy: AtomicBool,
}

impl Backend for Between {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectError>> {
        Box::pin(async move {
            let mut connected = self.inner.connect().await?;
            self.state.connects.fetch_add(1, Ordering::Relaxed);
            self.state.moved.store(false, Ordering::Relaxed);
            let (sender, incoming) = mpsc::unbounded_channel();
            *self.state.incoming.lock() = Some(sender.clone());
            tokio::spawn(async move {
                while let Some(next) = connected.incoming.recv().await {
                    if sender.send(next).is_err() {
                        return;
                    }
                }
            });
            Ok(Connected {
                broker: Arc::new(BrokerBetween {
                    inner: connected.broker,
                    state: Arc::clone(&self.state),
                }),
                presence: connected.presence,
                membership: Arc::new(MembershipBetween {
                    inner: connected.membership,
                    state: Arc::clone(&self.state),
                }),
                incoming,
            })
        })
    }
}

struct BrokerBetween {
    inner: Arc<dyn Broker>,
    state: Arc<State>,
}

impl Broker for BrokerBetween {
    fn publish(&self, publish: Publish) -> Call<Published> {
        if self.state.moved.load(Ordering::Relaxed) {
            return broken("MOVED 1 10.0.0.2:6379");
        }
        self.inner.publish(publish)
    }

    fn broadcast(&self, message: Bytes, deadline: Moment) -> Call<()> {
        self.inner.broadcast(message, deadline)
    }

    fn send(&self, topic: Topic, message: Bytes) -> Call<()> {
        self.inner.send(topic, message)
    }

    fn subscribe(&self, topics: Vec<Topic>) -> Call<()> {
        self.inner.subscribe(topics)
    }

    fn unsubscribe(&self, topics: Vec<Topic>) -> Call<()> {
        self.inner.unsubscribe(topics)
    }

    fn cached(&self, app: &AppId, channel: &str) -> Call<Option<CachedMessage>> {
        self.inner.cached(app, channel)
    }

    fn history(&self, request: HistoryRequest) -> Call<HistoryPage> {
        let page = self.inner.history(request);
        if self.state.busy.load(Ordering::Relaxed) {
            return Box::pin(async move {
                let page = page.await;
                sleep(Duration::from_millis(500)).await;
                page
            });
        }
        page
    }
}

struct MembershipBetween {
    inner: Arc<dyn Membership>,
    state: Arc<State>,
}

impl Membership for MembershipBetween {
    fn heartbeat(&self, renewal: LeaseRenewal) -> Call<Census> {
        let count = self.state.break_next.swap(0, Ordering::Relaxed);
        if count > 0 {
            for number in 0..count {
                self.state.push(message(&number.to_string()));
            }
            self.state.broke.notify_one();
            return broken("the connection broke");
        }
        self.inner.heartbeat(renewal)
    }

    fn live_nodes(&self) -> Call<LiveNodes> {
        self.inner.live_nodes()
    }

    fn register(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()> {
        self.inner.register(app, node, deadline)
    }

    fn apps(&self, node: &NodeName) -> Call<Vec<String>> {
        self.inner.apps(node)
    }

    fn enlist(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()> {
        self.inner.enlist(app, node, deadline)
    }

    fn enlisted(&self, app: &AppId) -> Call<Vec<String>> {
        self.inner.enlisted(app)
    }

    fn claim(&self, node: &NodeName, lease: Duration) -> Call<bool> {
        self.inner.claim(node, lease)
    }

    fn reap(&self, app: &AppId, node: &NodeName, log: LogRules) -> Call<Reaped> {
        self.inner.reap(app, node, log)
    }

    fn forget(&self, node: &NodeName) -> Call<bool> {
        self.inner.forget(node)
    }
}

fn broken<T: Send + 'static>(reason: &str) -> Call<T> {
    Box::pin(ready(Err(BackendError::Broken(reason.into()))))
}

impl State {
    fn push(&self, incoming: Incoming) {
        let _ = self.incoming.lock().as_ref().unwrap().send(incoming);
    }
}

fn message(data: &str) -> Incoming {
    Incoming::Message {
        topic: topic_of("news"),
        message: event(data),
        room: IncomingBytes::default(),
    }
}

async fn start_between(sim: &Sim, process: u64) -> (ClusterNode, Arc<State>) {
    let state = Arc::new(State::default());
    let between = Between {
        inner: sim.backend(process),
        state: Arc::clone(&state),
    };
    let node = ClusterNode::start(Arc::new(between), 1).await;
    node.ready().await;
    (node, state)
}

fn received(seen: &[Seen]) -> Vec<String> {
    let events = seen.iter().filter_map(|seen| match seen {
        Seen::Event(event) if event["event"] == "e" => Some(event["data"].as_str()?.to_owned()),
        _ => None,
    });
    events.collect()
}

/// A node that is 64 MiB behind drops a message, says that the connection is lost, and goes on with what comes as soon as
/// there is room again: what comes after the loss must not be handed on.
#[test]
fn nothing_is_delivered_after_the_word_that_the_connection_is_lost() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let (node, state) = start_between(&sim, 0).await;
        let client = node.node.connect();
        client.subscribe("news").await;
        client.seen();
        state.push(message("1"));
        state.push(Incoming::Lost(
            "this node is 64 MiB behind; 2 is lost".into(),
        ));
        state.push(message("3"));
        settle().await;
        assert_eq!(received(&client.seen()), ["1"], "3 comes after a hole");
    });
}

/// When a connection is lost, topics are forgotten while what it has brought is still handed on; somebody who
/// subscribes meanwhile makes the topic known again, and the rest goes to those who were there before.
#[test]
fn nothing_is_delivered_after_a_hole_when_somebody_subscribes_while_the_rest_is_handed_on() {
    run_paused(async {
        let sim = Sim::new(2, Weather::Calm);
        let (node, state) = start_between(&sim, 0).await;
        let client = node.node.connect();
        client.subscribe("news").await;
        client.seen();
        let late = node.node.connect();
        state.break_next.store(2000, Ordering::Relaxed);
        let lost = async {
            state.broke.notified().await;
            late.subscribe("news").await;
        };
        let _ = tokio::time::timeout(Duration::from_millis(1500), lost).await;
        settle().await;
        let seen = received(&client.seen());
        let whole: Vec<_> = (0..seen.len()).map(|number| number.to_string()).collect();
        let first = seen.iter().zip(&whole).find(|(got, want)| got != want);
        assert!(
            first.is_none(),
            "of {} events, got and expected: {first:?}",
            seen.len()
        );
    });
}

/// A publish that breaks does not end the connection, so a master that has lost its slots is asked for ever.
#[test]
fn a_publish_that_was_sent_to_the_wrong_master_makes_the_node_look_for_the_right_one() {
    run_paused(async {
        let sim = Sim::new(3, Weather::Calm);
        let (node, state) = start_between(&sim, 0).await;
        state.moved.store(true, Ordering::Relaxed);
        for _ in 0..60 {
            if node.node.try_publish("news", "e", "x", None).await.is_ok() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
        panic!(
            "a minute of refusals, while it calls itself ready: {}, connections made: {}",
            node.is_ready(),
            state.connects.load(Ordering::Relaxed)
        );
    });
}

/// What a killed node had counts until it is buried; its clients, who come back after a second, are sent away with a
/// code that says never to come again.
#[test]
fn clients_of_a_killed_node_are_not_over_the_quota() {
    run_paused(async {
        let sim = Sim::new(4, Weather::Calm);
        let limits = Limits {
            connections: 10,
            ..Limits::HOSTED
        };
        let mut nodes = Vec::new();
        for process in 0..2 {
            let node = ClusterNode::start(sim.backend(process), 1).await;
            let settings = AppSettings {
                limits: limits.clone(),
                ..settings()
            };
            let definition = definition("1", KEY, settings);
            node.engine().update_apps(vec![definition], &[]);
            nodes.push(node);
        }
        for node in &nodes {
            node.ready().await;
        }
        let mut clients = Vec::new();
        for node in &nodes {
            for _ in 0..4 {
                let admitted = node.engine().admit_on_all_nodes(arrival(KEY)).await;
                clients.push(node.node.connect_admitted(admitted.unwrap()));
            }
        }
        sleep(Duration::from_secs(1)).await;
        nodes[0].kill();
        sim.kill(0);
        sleep(Duration::from_secs(1)).await;
        let mut refused = Vec::new();
        let mut back = Vec::new();
        for _ in 0..4 {
            match nodes[1].engine().admit_on_all_nodes(arrival(KEY)).await {
                Ok(admitted) => back.push(nodes[1].node.connect_admitted(admitted)),
                Err(refusal) => refused.push(refusal.code.number()),
            }
        }
        assert!(
            refused.iter().all(|code| *code >= 4100),
            "8 of 10 connections are there, and these codes were given: {refused:?}"
        );
    });
}

/// Who gave up waiting for a topic leaves it behind: it is listened to when the connection is back, for ever.
#[test]
fn what_nobody_waits_for_any_more_is_not_listened_to() {
    run_paused(async {
        let sim = Sim::new(5, Weather::Calm);
        let node = ClusterNode::start(sim.backend(0), 1).await;
        node.ready().await;
        sim.refuse(true);
        sim.cut(0);
        settle().await;
        for number in 0..50 {
            let mut client = node.node.connect();
            client.subscribe(&format!("random-{number}")).await;
            client.leave().await;
        }
        sleep(LEASE).await;
        sim.refuse(false);
        node.ready().await;
        sleep(LEASE * 10).await;
        let left = sim.topics_of(0);
        let left: Vec<_> = left
            .iter()
            .filter(|topic| matches!(topic, Topic::Channel(_, name) if name.as_str().contains("random")))
            .collect();
        assert!(
            left.is_empty(),
            "nobody is there, and it listens to {} channels",
            left.len()
        );
    });
}

/// What came by while the history was asked is sent, and then sent again as what the cache channel keeps.
#[test]
fn on_a_cache_channel_with_a_history_nothing_comes_twice() {
    run_paused(async {
        let sim = Sim::new(6, Weather::Calm);
        let (node, state) = start_between(&sim, 0).await;
        let rule = HistoryRule {
            channels: "*".into(),
            size: 10,
            ttl: 60,
        };
        let settings = AppSettings {
            history: vec![rule],
            ..settings()
        };
        let definition = definition("1", KEY, settings);
        node.engine().update_apps(vec![definition], &[]);
        state.busy.store(true, Ordering::Relaxed);
        let client = node.node.connect();
        let content = json!({"channel": "cache-news", "recover": true});
        let message = json!({"event": "pusher:subscribe", "data": content});
        let publish = async {
            sleep(Duration::from_millis(300)).await;
            node.node
                .try_publish("cache-news", "e", "once", None)
                .await
                .unwrap();
        };
        tokio::join!(client.send(&message), publish);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(received(&client.seen()), ["once"]);
    });
}

/// A replica that takes over without the last events counts on from there under the same epoch. Who had got the lost
/// ones is told that it has missed nothing, as soon as as many others were published.
#[test]
fn after_a_failover_that_has_lost_events_nobody_is_told_that_nothing_was_missed() {
    let servers = [(); 2].map(|()| RedisServer::start(&["repl-diskless-sync-delay 0"]));
    let [one, other] = [servers[0].port, servers[1].port];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(fail_over(one, other));
    assert!(
        answer.is_err() || answer == Ok(2),
        "nine' and ten' were missed, and it got so many events: {answer:?}"
    );
}

async fn fail_over(one: u16, other: u16) -> Result<usize, fanfare_protocol::Unrecovered> {
    let connect = async |port: u16| {
        let redis = Redis::new(&format!("redis://127.0.0.1:{port}"), "fanfare").unwrap();
        loop {
            match redis.connect().await {
                Ok(connected) => break connected,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let cli = |port: u16, words: &[&str]| {
        let mut cli = std::process::Command::new("redis-cli");
        cli.args(["-p", &port.to_string()]).args(words);
        cli.output().unwrap();
    };
    let app = AppId::parse("1").unwrap();
    let event = || Publish {
        app: app.clone(),
        publications: vec![Publication {
            channel: "news".into(),
            message: event("x"),
            keep: None,
            history: Some(Retention {
                size: 100,
                ttl: Duration::from_secs(60),
                rules: 0,
            }),
        }],
        idempotency_key: None,
        deadline: u64::MAX / 2,
    };
    let ask = async |connected: &Connected, query: HistoryQuery| {
        let request = HistoryRequest {
            app: app.clone(),
            channel: "news".into(),
            query,
            rules: 0,
            room: usize::MAX,
        };
        connected.broker.history(request).await.unwrap()
    };
    let publish = async |connected: &Connected, count: usize| {
        for _ in 0..count {
            connected.broker.publish(event()).await.unwrap();
        }
    };
    let master = connect(one).await;
    drop(connect(other).await);
    publish(&master, 8).await;
    cli(other, &["replicaof", "127.0.0.1", &one.to_string()]);
    sleep(Duration::from_secs(3)).await;
    // It is cut off from its master, which takes two more events, and dies.
    cli(other, &["replicaof", "no", "one"]);
    publish(&master, 2).await;
    let had = ask(&master, HistoryQuery::Last(0)).await.position;
    assert_eq!(had.offset, 10);
    let replica = connect(other).await;
    publish(&replica, 2).await;
    let told = ask(&replica, HistoryQuery::After(had.clone())).await;
    told.messages.map(|messages| messages.len())
}

/// `HSCAN 0` looks at the first 4000 buckets only, and finds nothing once these are empty: reaping some thousand
/// channels never ends, and a node that reaps its former names is never ready again.
#[test]
fn a_node_with_many_channels_can_be_reaped() {
    let redis = RedisServer::start(&[]);
    let port = redis.port;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(reap_many(port));
    assert!(answer.is_some(), "it was not done after 1000 calls");
}

async fn reap_many(port: u16) -> Option<usize> {
    let redis = Redis::new(&format!("redis://127.0.0.1:{port}"), "fanfare").unwrap();
    let connected = loop {
        match redis.connect().await {
            Ok(connected) => break connected,
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    };
    let (app, node): (_, NodeName) = (AppId::parse("1").unwrap(), "dead.1".into());
    let deadline = u64::MAX / 2;
    let enlisted = connected.membership.enlist(&app, &node, deadline);
    enlisted.await.unwrap();
    let report = |number: usize| Report {
        app: app.clone(),
        change: Change::Subscriptions {
            channel: format!("channel-{number}"),
            count: 1,
            announce: false,
            visited: false,
            log: LogRules::default(),
            reply: Reply::ignore(),
        },
    };
    let reports = (0..8000).map(report).collect();
    let reported = connected.presence.report(&node, deadline, reports).await;
    assert!(reported.iter().all(Result::is_ok));
    for calls in 0..1000 {
        let reaped = connected
            .membership
            .reap(&app, &node, LogRules::default())
            .await
            .unwrap();
        if !reaped.more {
            return Some(calls);
        }
    }
    None
}
