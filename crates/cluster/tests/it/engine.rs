//! What clients and backends see, the same on a node by itself, on nodes over the simulated backend and over Redis.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_cluster::Redis;
use fanfare_engine::testing::{
    Client, KEY, LocalNode, SECRET, Seen, arrival, data, definition, options, run_paused, settings,
};
use fanfare_engine::{Arrival, Engine, IdempotencyKey, Notices, Occupancy, PublishOutcome};
use fanfare_protocol::api::Event;
use fanfare_protocol::signature::{SigningKey, user_auth_text};
use fanfare_protocol::{AppSettings, ChannelName, CloseCode, Limits, UserId};
use serde_json::{Value, json};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use crate::nodes::{ClusterNode, Recorder};
use crate::servers;
use crate::sim::{Sim, Weather};

/// How long something that must come may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Nodes that work together; one, if it is by itself.
struct Nodes {
    nodes: Vec<LocalNode>,
    recorders: Vec<Arc<Recorder>>,
    _clusters: Vec<ClusterParts>,
}

/// What keeps a node among others.
type ClusterParts = Arc<fanfare_cluster::Cluster>;

impl Nodes {
    async fn alone() -> Self {
        let recorder = Arc::new(Recorder::default());
        let notices = Arc::clone(&recorder) as Arc<dyn Notices>;
        let node = LocalNode::start(Engine::new(options(2), notices)).await;
        Self {
            nodes: vec![node],
            recorders: vec![recorder],
            _clusters: Vec::new(),
        }
    }

    async fn together(started: Vec<ClusterNode>) -> Self {
        for node in &started {
            timeout(TIMEOUT, node.ready())
                .await
                .expect("nodes that receive each other");
        }
        let mut nodes = Self {
            nodes: Vec::new(),
            recorders: Vec::new(),
            _clusters: Vec::new(),
        };
        for ClusterNode {
            node,
            cluster,
            notices,
            ..
        } in started
        {
            nodes.nodes.push(node);
            nodes.recorders.push(notices);
            nodes._clusters.push(cluster);
        }
        nodes
    }

    /// One of the nodes: another with each number, as far as there are so many.
    fn node(&self, number: usize) -> &LocalNode {
        &self.nodes[number % self.nodes.len()]
    }

    fn set(&self, settings: &AppSettings) {
        for node in &self.nodes {
            let app = definition("1", KEY, settings.clone());
            node.engine.update_apps(vec![app], &[]);
        }
    }

    async fn publish(&self, number: usize, channel: &str, event: &str, except: Option<&str>) {
        let node = self.node(number);
        let published = node.try_publish(channel, "e", event, except).await;
        published.unwrap();
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < TIMEOUT, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for so many messages.
async fn messages(client: &Client, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    until(&format!("{count} messages"), async || {
        all.extend(client.events());
        all.len() >= count
    })
    .await;
    assert_eq!(all.len(), count, "{all:?}");
    all
}

fn names(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect()
}

fn texts(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["data"].as_str().unwrap())
        .collect()
}

async fn subscribe(client: &Client, channel: &str) {
    client.subscribe(channel).await;
    let events = messages(client, 1).await;
    assert_eq!(names(&events), ["pusher_internal:subscription_succeeded"]);
}

/// Joins the presence channel of these tests, and says who is there.
async fn join(client: &Client, user: &str) -> Vec<String> {
    let member = json!({"user_id": user}).to_string();
    client.join("presence-a", &member).await;
    let events = messages(client, 1).await;
    let ids = data(&events[0])["presence"]["ids"].clone();
    let mut ids: Vec<String> = serde_json::from_value(ids).unwrap();
    ids.sort();
    ids
}

async fn sign_in(client: &Client, user: &str, watched: &[&str]) {
    let user_data = json!({"id": user, "watchlist": watched}).to_string();
    let text = user_auth_text(client.session().socket_id(), &user_data);
    let auth = format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text));
    let message = json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user_data}});
    client.send(&message).await;
}

/// Who came online and who went offline, as it was told.
fn watched(event: &Value) -> Vec<(String, Vec<String>)> {
    assert_eq!(event["event"], "pusher_internal:watchlist_events");
    let events: Vec<Value> = serde_json::from_value(data(event)["events"].clone()).unwrap();
    let told = events.iter().map(|event| {
        let name = event["name"].as_str().unwrap().to_owned();
        let users = serde_json::from_value(event["user_ids"].clone());
        (name, users.unwrap())
    });
    told.collect()
}

fn name(channel: &str) -> ChannelName {
    ChannelName::parse(channel, 200).unwrap()
}

fn run<F: Future<Output = ()>>(case: impl FnOnce(Nodes) -> F) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let server = servers::single();
    let url = format!("redis://127.0.0.1:{}", server.port);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let prefix = format!("engine-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut started = Vec::new();
        for _ in 0..3 {
            let redis = Arc::new(Redis::new(&url, &prefix).unwrap());
            started.push(ClusterNode::start(redis, 2).await);
        }
        case(Nodes::together(started).await).await;
    });
}

macro_rules! cases {
    ($($case:ident)*) => {
        mod alone {
            $(#[test] fn $case() {
                super::run_paused(async { super::$case(super::Nodes::alone().await).await });
            })*
        }
        mod simulated {
            use super::*;
            $(#[test] fn $case() {
                run_paused(async {
                    let sim = Sim::new(1, Weather::Windy);
                    let mut started = Vec::new();
                    for process in 0..3 {
                        started.push(ClusterNode::start(sim.backend(process), 2).await);
                    }
                    super::$case(Nodes::together(started).await).await;
                });
            })*
        }
        mod redis {
            $(#[test] fn $case() {
                super::run(super::$case);
            })*
        }
    };
}

cases! {
    events_reach_every_subscriber_in_one_order
    the_connection_that_is_excluded_gets_nothing_wherever_it_is
    client_events_reach_the_others_wherever_they_are
    who_joins_sees_who_is_there_and_then_who_comes_and_goes
    a_user_with_connections_on_several_nodes_leaves_with_the_last
    channels_and_users_are_counted_over_all_nodes
    a_presence_channel_is_counted_as_its_members_are_listed
    subscribers_are_told_how_many_they_are_over_all_nodes
    who_comes_and_goes_on_several_nodes_costs_subscribers_four_counts_a_second
    who_comes_back_to_a_channel_that_was_left_gets_its_events
    a_cache_channel_keeps_its_last_event_for_every_node
    a_request_that_is_sent_again_is_delivered_once
    the_connections_of_a_user_are_closed_on_every_node
    who_watches_is_told_who_is_online_on_any_node
    an_app_has_so_many_connections_and_no_more
    clients_of_other_networks_take_the_place_of_connections_of_the_largest_on_any_node
    what_is_worth_telling_is_noticed_once
}

async fn events_reach_every_subscriber_in_one_order(nodes: Nodes) {
    let clients: Vec<_> = (0..6).map(|number| nodes.node(number).connect()).collect();
    for client in &clients {
        subscribe(client, "news").await;
    }
    let publish = |number: usize| {
        let nodes = &nodes;
        async move {
            nodes
                .publish(number, "news", &number.to_string(), None)
                .await
        }
    };
    futures_util::future::join_all((0..60).map(publish)).await;
    let first = messages(&clients[0], 60).await;
    let mut sorted = texts(&first);
    sorted.sort_by_key(|text| text.parse::<u32>().unwrap());
    let all: Vec<_> = (0..60).map(|number| number.to_string()).collect();
    assert_eq!(sorted, all);
    for client in &clients[1..] {
        let others = messages(client, 60).await;
        assert_eq!(texts(&others), texts(&first));
    }
}

async fn the_connection_that_is_excluded_gets_nothing_wherever_it_is(nodes: Nodes) {
    let clients: Vec<_> = (0..3).map(|number| nodes.node(number).connect()).collect();
    for client in &clients {
        subscribe(client, "news").await;
    }
    for number in 0..3 {
        let except = Some(&*clients[1].socket_id);
        nodes.publish(number, "news", "not for one", except).await;
    }
    nodes.publish(0, "news", "for all", None).await;
    let for_one = messages(&clients[1], 1).await;
    assert_eq!(texts(&for_one), ["for all"]);
    messages(&clients[0], 4).await;
    messages(&clients[2], 4).await;
}

async fn client_events_reach_the_others_wherever_they_are(nodes: Nodes) {
    let clients: Vec<_> = (0..3).map(|number| nodes.node(number).connect()).collect();
    for client in &clients {
        subscribe(client, "private-a").await;
    }
    let event = json!({"event": "client-e", "channel": "private-a", "data": "hello"});
    clients[0].send(&event).await;
    for client in &clients[1..] {
        let events = messages(client, 1).await;
        assert_eq!(
            (names(&events)[0], texts(&events)[0]),
            ("client-e", "hello")
        );
    }
    nodes.publish(0, "private-a", "end", None).await;
    assert_eq!(texts(&messages(&clients[0], 1).await), ["end"]);
}

async fn who_joins_sees_who_is_there_and_then_who_comes_and_goes(nodes: Nodes) {
    let mut clients: Vec<_> = (0..3).map(|number| nodes.node(number).connect()).collect();
    assert_eq!(join(&clients[0], "a").await, ["a"]);
    assert_eq!(join(&clients[1], "b").await, ["a", "b"]);
    assert_eq!(join(&clients[2], "c").await, ["a", "b", "c"]);
    let events = messages(&clients[0], 2).await;
    assert_eq!(names(&events), ["pusher_internal:member_added"; 2]);
    clients[2].leave().await;
    clients[1].unsubscribe("presence-a").await;
    let events = messages(&clients[0], 2).await;
    assert_eq!(names(&events), ["pusher_internal:member_removed"; 2]);
    let users = [data(&events[0]), data(&events[1])];
    assert_eq!(users, [json!({"user_id": "c"}), json!({"user_id": "b"})]);
    let node = nodes.node(2);
    let there = node.engine.users(&node.app(), &name("presence-a")).await;
    assert_eq!(there.unwrap(), [UserId::new("a").unwrap()]);
}

async fn a_user_with_connections_on_several_nodes_leaves_with_the_last(nodes: Nodes) {
    let watcher = nodes.node(0).connect();
    join(&watcher, "watcher").await;
    let mut clients: Vec<_> = (0..4).map(|number| nodes.node(number).connect()).collect();
    for client in &clients {
        assert_eq!(join(client, "u").await, ["u", "watcher"]);
    }
    assert_eq!(
        names(&messages(&watcher, 1).await),
        ["pusher_internal:member_added"]
    );
    for client in &mut clients[..3] {
        client.leave().await;
    }
    let node = nodes.node(1);
    let (engine, app) = (&node.engine, node.app());
    until("the count of connections that are left", async || {
        let found = engine.channel(&app, &name("presence-a")).await.unwrap();
        (found.subscription_count, found.user_count) == (2, Some(2))
    })
    .await;
    assert!(watcher.events().is_empty());
    clients[3].leave().await;
    assert_eq!(
        names(&messages(&watcher, 1).await),
        ["pusher_internal:member_removed"]
    );
}

async fn channels_and_users_are_counted_over_all_nodes(nodes: Nodes) {
    let clients: Vec<_> = (0..6).map(|number| nodes.node(number).connect()).collect();
    for (number, client) in clients.iter().enumerate() {
        join(client, &format!("u{}", number % 2)).await;
        if number < 2 {
            subscribe(client, "news").await;
        }
    }
    for number in 0..3 {
        let node = nodes.node(number);
        let (engine, app) = (&node.engine, node.app());
        let mut found = Vec::new();
        until("the counts of all nodes", async || {
            let channels = engine.channels(&app, "").await.unwrap();
            let count = |(name, found): (ChannelName, Occupancy)| {
                (name.to_string(), found.subscription_count, found.user_count)
            };
            found = channels.into_iter().map(count).collect();
            let counts: Vec<_> = found.iter().map(|found| found.1).collect();
            counts == [2, 6]
        })
        .await;
        let users: Vec<_> = found.iter().map(|found| found.2).collect();
        assert_eq!((&*found[0].0, &*found[1].0), ("news", "presence-a"));
        assert_eq!(users, [None, Some(2)]);
        let some = engine.channels(&app, "presence-").await.unwrap();
        assert_eq!(some.len(), 1);
    }
}

/// Fails if a node answers with counts that it was told of before the last member came or went.
async fn a_presence_channel_is_counted_as_its_members_are_listed(nodes: Nodes) {
    let channel = name("presence-a");
    let mut there = Vec::new();
    for (number, user) in ["a", "b", "c"].into_iter().enumerate() {
        let client = nodes.node(number).connect();
        join(&client, user).await;
        there.push(client);
        for node in &nodes.nodes {
            let (engine, app) = (&node.engine, node.app());
            let members = engine.users(&app, &channel).await.unwrap().len();
            assert_eq!(members, there.len());
            let expected = Occupancy {
                subscription_count: members,
                user_count: Some(members),
            };
            assert_eq!(engine.channel(&app, &channel).await.unwrap(), expected);
            for prefix in ["", "presence-"] {
                let listed = engine.channels(&app, prefix).await.unwrap();
                assert_eq!(listed, [(channel.clone(), expected)], "{prefix:?}");
            }
        }
    }
    for mut client in there {
        client.leave().await;
    }
    // Whether the counts of the nodes are told before or after that.
    let (engine, app) = (&nodes.node(0).engine, nodes.node(0).app());
    until("nobody is there", async || {
        engine.users(&app, &channel).await.unwrap().is_empty()
    })
    .await;
    for node in &nodes.nodes {
        let (engine, app) = (&node.engine, node.app());
        let found = engine.channel(&app, &channel).await.unwrap();
        assert_eq!((found.subscription_count, found.user_count), (0, Some(0)));
        assert_eq!(engine.channels(&app, "").await.unwrap(), []);
    }
}

async fn subscribers_are_told_how_many_they_are_over_all_nodes(nodes: Nodes) {
    nodes.set(&AppSettings {
        subscription_count: true,
        ..settings()
    });
    let mut clients: Vec<_> = (0..4).map(|number| nodes.node(number).connect()).collect();
    let mut seen: Vec<Option<Value>> = vec![None; 4];
    for client in &clients {
        client.subscribe("news").await;
    }
    for expected in [4, 3] {
        until("the same number everywhere", async || {
            for (client, seen) in clients.iter().zip(&mut seen) {
                if client.session.is_some() {
                    let events = client.events().into_iter();
                    let mut counts =
                        events.filter(|e| e["event"] == "pusher_internal:subscription_count");
                    *seen = counts.next_back().map(|event| data(&event)).or(seen.take());
                }
            }
            let told = json!({"subscription_count": expected});
            let open = clients
                .iter()
                .zip(&seen)
                .filter(|(client, _)| client.session.is_some());
            open.map(|(_, seen)| seen)
                .all(|seen| seen.as_ref() == Some(&told))
        })
        .await;
        if expected == 4 {
            clients[3].leave().await;
        }
    }
}

async fn who_comes_and_goes_on_several_nodes_costs_subscribers_four_counts_a_second(nodes: Nodes) {
    nodes.set(&AppSettings {
        subscription_count: true,
        ..settings()
    });
    let clients: Vec<_> = (0..6).map(|number| nodes.node(number).connect()).collect();
    let (staying, toggling) = clients.split_at(3);
    for client in staying {
        client.subscribe("news").await;
    }
    let mut counts: Vec<Vec<Value>> = vec![Vec::new(); 3];
    let mut look = |client: usize| {
        let events = staying[client].events().into_iter();
        let told = events.filter(|e| e["event"] == "pusher_internal:subscription_count");
        counts[client].extend(told.map(|event| data(&event)["subscription_count"].clone()));
        counts[client].clone()
    };
    let start = Instant::now();
    for _ in 0..20 {
        for client in toggling {
            client.subscribe("news").await;
            client.unsubscribe("news").await;
        }
        sleep(Duration::from_millis(50)).await;
    }
    toggling[2].subscribe("news").await;
    for client in 0..3 {
        until("the last count", async || {
            look(client).last() == Some(&json!(4))
        })
        .await;
        let most = start.elapsed().as_millis() / 250 + 3;
        let counts = look(client);
        assert!(counts.len() as u128 <= most, "{counts:?}");
        let again = counts.windows(2).find(|two| two[0] == two[1]);
        assert_eq!(again, None, "told twice");
    }
}

async fn who_comes_back_to_a_channel_that_was_left_gets_its_events(nodes: Nodes) {
    for pause in [0, 1, 5500] {
        let mut client = nodes.node(1).connect();
        subscribe(&client, "news").await;
        nodes.publish(0, "news", "one", None).await;
        messages(&client, 1).await;
        client.unsubscribe("news").await;
        sleep(Duration::from_millis(pause)).await;
        subscribe(&client, "news").await;
        nodes.publish(0, "news", "two", None).await;
        assert_eq!(texts(&messages(&client, 1).await), ["two"]);
        client.leave().await;
    }
}

async fn a_cache_channel_keeps_its_last_event_for_every_node(nodes: Nodes) {
    let early = nodes.node(0).connect();
    early.subscribe("cache-a").await;
    let events = messages(&early, 2).await;
    assert_eq!(names(&events)[1], "pusher:cache_miss");
    nodes.publish(1, "cache-a", "old", None).await;
    nodes.publish(2, "cache-a", "new", None).await;
    assert_eq!(texts(&messages(&early, 2).await), ["old", "new"]);
    for number in 0..3 {
        let late = nodes.node(number).connect();
        late.subscribe("cache-a").await;
        let events = messages(&late, 2).await;
        assert_eq!(texts(&events)[1], "new", "node {number}");
        let node = nodes.node(number);
        let kept = node.engine.cached(&node.app(), &name("cache-a")).await;
        assert_eq!(&*kept.unwrap().unwrap().data, "new");
        nodes.publish(number + 1, "cache-a", "new", None).await;
        assert_eq!(texts(&messages(&late, 1).await), ["new"]);
    }
    assert_eq!(messages(&early, 3).await.len(), 3);
}

async fn a_request_that_is_sent_again_is_delivered_once(nodes: Nodes) {
    if nodes.nodes.len() == 1 {
        // By itself, it is for whoever takes the request to know.
        return;
    }
    let client = nodes.node(0).connect();
    subscribe(&client, "news").await;
    let body = json!({"name": "e", "channel": "news", "data": "once"}).to_string();
    let event = Event::parse(body.as_bytes(), &Limits::HOSTED).unwrap();
    let once = IdempotencyKey {
        key: "k".into(),
        digest: "d".into(),
    };
    let mut answers = Vec::new();
    for number in 0..3 {
        let node = nodes.node(number);
        let events = std::slice::from_ref(&event);
        let (app, once) = (node.app(), Some(once.clone()));
        answers.push(node.engine.publish(&app, events, once).await.unwrap());
    }
    assert_eq!(
        answers,
        [
            PublishOutcome::Accepted,
            PublishOutcome::Duplicate,
            PublishOutcome::Duplicate
        ]
    );
    nodes.publish(0, "news", "end", None).await;
    assert_eq!(texts(&messages(&client, 2).await), ["once", "end"]);
}

async fn the_connections_of_a_user_are_closed_on_every_node(nodes: Nodes) {
    let clients: Vec<_> = (0..4).map(|number| nodes.node(number).connect()).collect();
    for (number, client) in clients.iter().enumerate() {
        sign_in(client, if number < 3 { "gone" } else { "stays" }, &[]).await;
        messages(client, 1).await;
    }
    let node = nodes.node(1);
    let user = UserId::new("gone").unwrap();
    node.engine
        .terminate_user(&node.app(), &user)
        .await
        .unwrap();
    for client in &clients[..3] {
        let mut last = None;
        until("the end of a connection", async || {
            last = client.seen().pop().or(last.take());
            matches!(last, Some(Seen::Close(_)))
        })
        .await;
    }
    assert!(!clients[3].session().is_closing());
}

async fn who_watches_is_told_who_is_online_on_any_node(nodes: Nodes) {
    nodes.set(&AppSettings {
        watchlists: true,
        ..settings()
    });
    let told = |name: &str, user: &str| vec![(name.to_owned(), vec![user.to_owned()])];
    for _ in 0..2 {
        let (mut watcher, mut there) = (nodes.node(0).connect(), nodes.node(1).connect());
        sign_in(&there, "a", &[]).await;
        messages(&there, 1).await;
        // Long enough for the other nodes to know.
        sleep(Duration::from_millis(300)).await;
        sign_in(&watcher, "w", &["a", "b"]).await;
        let events = messages(&watcher, 2).await;
        let mut first = told("online", "a");
        first.extend(told("offline", "b"));
        assert_eq!(watched(&events[1]), first);
        let mut others: Vec<_> = (1..3).map(|number| nodes.node(number).connect()).collect();
        for other in &others {
            sign_in(other, "b", &[]).await;
        }
        assert_eq!(
            watched(&messages(&watcher, 1).await[0]),
            told("online", "b")
        );
        for other in &others {
            messages(other, 1).await;
        }
        // Long enough for the second to count.
        sleep(Duration::from_millis(300)).await;
        for other in &mut others {
            other.leave().await;
        }
        assert_eq!(
            watched(&messages(&watcher, 1).await[0]),
            told("offline", "b")
        );
        there.leave().await;
        assert_eq!(
            watched(&messages(&watcher, 1).await[0]),
            told("offline", "a")
        );
        watcher.leave().await;
        // Longer than a node listens to what nobody wants.
        sleep(Duration::from_millis(5500)).await;
    }
}

async fn an_app_has_so_many_connections_and_no_more(nodes: Nodes) {
    let mut limited = settings();
    limited.limits.connections = 4;
    nodes.set(&limited);
    let connect = async |number: usize| {
        let node = nodes.node(number);
        let admitted = node.engine.admit_on_all_nodes(arrival(KEY)).await?;
        Ok::<_, fanfare_engine::Refusal>(node.connect_admitted(admitted))
    };
    let mut clients = Vec::new();
    for number in 0..4 {
        clients.push(connect(number).await.unwrap());
    }
    for number in 0..3 {
        let refusal = connect(number).await.map(|_| ()).expect_err("one too many");
        assert_eq!(refusal.code, CloseCode::OverQuota);
    }
    clients[2].leave().await;
    until("room for one more", async || connect(0).await.is_ok()).await;
}

async fn clients_of_other_networks_take_the_place_of_connections_of_the_largest_on_any_node(
    nodes: Nodes,
) {
    const QUOTA: usize = 12;
    let mut limited = settings();
    limited.limits.connections = QUOTA;
    nodes.set(&limited);
    let connect = async |number: usize, network: u8| {
        let node = nodes.node(number);
        let arrival = Arrival {
            charged_address: Some([192, 0, 2, network].into()),
            ..arrival(KEY)
        };
        let admitted = node.engine.admit_on_all_nodes(arrival).await?;
        Ok::<_, fanfare_engine::Refusal>(node.connect_admitted(admitted))
    };
    let mut held = Vec::new();
    for _ in 0..QUOTA {
        held.push(connect(0, 1).await.unwrap());
    }
    let mut newcomers = Vec::new();
    for number in 1..5 {
        // The client that is displaced comes back at once, to every node.
        for node in 0..3 {
            let refusal = connect(node, 1).await.map(|_| ()).unwrap_err();
            assert_eq!(refusal.code, CloseCode::OverCapacity, "{refusal}");
        }
        newcomers.push(connect(number, 1 + number as u8).await.unwrap());
    }
    let closed = |clients: &[Client]| {
        let is_closed = |client: &&Client| client.seen().contains(&Seen::Close(4100));
        clients.iter().filter(is_closed).count()
    };
    assert_eq!((closed(&held), closed(&newcomers)), (4, 0));
    let app = nodes.node(0).app();
    until("the places that were kept are given back", async || {
        let counted = nodes.node(0).engine.count_connections(&app).await;
        counted == Ok(QUOTA)
    })
    .await;
}

async fn what_is_worth_telling_is_noticed_once(nodes: Nodes) {
    let mut clients: Vec<_> = (0..3).map(|number| nodes.node(number).connect()).collect();
    for client in &clients {
        join(client, "u").await;
    }
    let noticed = || -> Vec<(String, String)> {
        let all = nodes.recorders.iter().flat_map(|recorder| recorder.all());
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    };
    let notice = |what: &str| ("presence-a".to_owned(), what.to_owned());
    until("who came", async || {
        noticed() == [notice("added u"), notice("occupied")]
    })
    .await;
    sleep(Duration::from_millis(300)).await;
    for client in &mut clients {
        client.leave().await;
    }
    let all = ["added u", "occupied", "removed u", "vacated"].map(notice);
    until("who went", async || noticed() == all).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(noticed(), all);
}
