//! Events: which nodes receive them, in which order, how often, and which are cached.

use std::time::Duration;

use crate::Message;
use crate::backend::{BackendError, CachedMessage, Keep, Publication, Publish, Published, Topic};
use fanfare_engine::Position;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    BEFORE, Peer, Stage, app, changes_of_every_kind, event, node, publication, publish_once,
    topic_of, user,
};

pub async fn events_reach_all_subscribers_in_order_and_no_others(stage: Stage) {
    let (one, both) = (
        stage.subscriber(&["a"]).await,
        stage.subscriber(&["a", "b"]).await,
    );
    let who = stage.connect().await;
    for number in 0..50 {
        let channel = if number % 2 == 0 { "a" } else { "b" };
        let published = who.publish(channel, &number.to_string()).await;
        assert_eq!(published, Published::Now);
    }
    let all: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    let even: Vec<_> = all.iter().step_by(2).cloned().collect();
    assert_eq!(one.events(25).await, even);
    assert_eq!(both.events(50).await, all);
    both.unsubscribe(topic_of("a")).await;
    who.publish("a", "last").await;
    assert_eq!(one.events(1).await, ["last"]);
    both.receives_nothing().await;
    who.receives_nothing().await;
}

pub async fn events_of_one_request_arrive_one_after_the_other(stage: Stage) {
    let subscriber = stage.subscriber(&["a", "b"]).await;
    let (one, other) = (stage.connect().await, stage.connect().await);
    let request = |who: &'static str| ["a", "b", "a"].map(|channel| publication(channel, who));
    for _ in 0..20 {
        tokio::join!(
            one.publish_all(request("one").into()),
            other.publish_all(request("other").into())
        );
        let received = subscriber.events(6).await;
        let is_one_request = |part: &[String]| part.iter().all(|data| *data == part[0]);
        assert!(is_one_request(&received[..3]), "{received:?}");
        assert!(is_one_request(&received[3..]), "{received:?}");
    }
}

pub async fn calls_of_an_app_are_taken_in_the_order_in_which_they_were_made(stage: Stage) {
    let subscriber = stage.subscriber(&["a"]).await;
    let who = stage.connect().await;
    let all: Vec<_> = (0..300).map(|number| number.to_string()).collect();
    // More than the sends that Tokio lets a task make before it must yield.
    for published in join_all(all.iter().map(|data| who.publish("a", data))).await {
        assert_eq!(published, Published::Now);
    }
    assert_eq!(subscriber.events(300).await, all);
}

pub async fn the_longest_event_arrives_whole(stage: Stage) {
    let subscriber = stage.subscriber(&["a"]).await;
    let data = "é:1 ".repeat(100_000);
    stage.connect().await.publish("a", &data).await;
    assert!(subscriber.events(1).await == [data]);
}

pub async fn a_message_reaches_those_who_subscribe_to_its_topic(stage: Stage) {
    let (one, other) = (stage.connect().await, stage.connect().await);
    one.subscribe(Topic::Live(app())).await;
    other.subscribe(Topic::Users(app())).await;
    let written = Message::LiveLines("{}").write();
    let sent = other.broker.send(Topic::Live(app()), written.clone());
    other.ok(sent).await;
    assert_eq!(one.next_message().await, (Topic::Live(app()), written));
    other.receives_nothing().await;
}

pub async fn a_repeated_request_is_published_once(stage: Stage) {
    let subscriber = stage.subscriber(&["a"]).await;
    let who = stage.connect().await;
    for (key, digest, expected) in [
        ("key", "one", Published::Now),
        ("key", "one", Published::Before),
        ("key", "two", Published::OtherRequest),
        ("another", "two", Published::Now),
    ] {
        let publish = publish_once(vec![publication("a", digest)], key, digest);
        let published = who.ok(who.broker.publish(publish)).await;
        assert_eq!(published, expected, "{key} {digest}");
    }
    assert_eq!(subscriber.events(2).await, ["one", "two"]);
    subscriber.receives_nothing().await;
}

pub async fn calls_after_their_deadline_are_not_taken(stage: Stage) {
    let subscriber = stage.subscriber(&["presence-a"]).await;
    subscriber.subscribe(Topic::Nodes).await;
    let who = stage.connect().await;
    let publish = |data| publish_once(vec![publication("presence-a", data)], "key", "d");
    let late = Publish {
        deadline: BEFORE,
        ..publish("late")
    };
    assert_eq!(who.broker.publish(late).await, Err(BackendError::Late));
    let broadcast = who.broker.broadcast(event("late"), BEFORE);
    assert_eq!(broadcast.await, Err(BackendError::Late));
    let register = who.membership.register(&app(), &node("n"), BEFORE);
    assert_eq!(register.await, Err(BackendError::Late));
    let enlist = who.membership.enlist(&app(), &node("n"), BEFORE);
    assert_eq!(enlist.await, Err(BackendError::Late));
    // Late, and not forgotten: the node is in the list.
    who.enlist("n").await;
    let changes = changes_of_every_kind("presence-a", "u");
    for (index, answer) in who
        .try_report("n", BEFORE, changes)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(answer, Err(BackendError::Late), "change {index}");
    }
    subscriber.receives_nothing().await;
    assert_eq!(
        who.ok(who.broker.publish(publish("in time"))).await,
        Published::Now,
        "the idempotency key of the late request is unused"
    );
    let snapshot = who.snapshot("presence-a").await;
    assert_eq!((snapshot.position, snapshot.members), (0, vec![]));
    let counts = who
        .presence
        .all_remote_subscriptions(&app(), &node("other"), "");
    assert_eq!(who.ok(counts).await, []);
    let online = who.ok(who.presence.online(&app(), vec![user("u")])).await;
    assert_eq!((online.position, online.online), (0, vec![false]));
    assert_eq!(
        who.ok(who.membership.apps(&node("n"))).await,
        Vec::<String>::new()
    );
    assert!(who.admit("n", 1).await, "no connection was counted");
}

fn cached_publication(channel: &str, data: &str, ttl: Duration, max_bytes: usize) -> Publication {
    Publication {
        keep: Some(Keep { ttl, max_bytes }),
        ..publication(channel, data)
    }
}

async fn cached(who: &Peer, channel: &str) -> Option<CachedMessage> {
    who.ok(who.broker.cached(&app(), channel)).await
}

fn position(message: &[u8]) -> Position {
    match Message::read(message).unwrap() {
        Message::Event {
            position: Some(position),
            ..
        } => position,
        other => panic!("no cached event: {other:?}"),
    }
}

const LONG: Duration = Duration::from_secs(60);

pub async fn a_cached_event_is_published_and_cached_with_a_position_that_grows(stage: Stage) {
    let subscriber = stage.subscriber(&["cache-a"]).await;
    let who = stage.connect().await;
    assert_eq!(cached(&who, "cache-a").await, None);
    let mut newest = 0;
    for number in 0..5 {
        let publication = cached_publication("cache-a", &number.to_string(), LONG, 10_000);
        who.publish_all(vec![publication]).await;
        let (_, message) = subscriber.next_message().await;
        let cached = cached(&who, "cache-a").await.unwrap();
        assert_eq!(cached.message, message);
        assert!(
            cached.ttl <= LONG && cached.ttl > LONG / 2,
            "{:?}",
            cached.ttl
        );
        assert!(position(&message) > newest);
        newest = position(&message);
    }
    who.publish("cache-a", "not cached").await;
    let cached = cached(&who, "cache-a").await.unwrap();
    assert_eq!(position(&cached.message), newest);
}

pub async fn a_cached_event_expires(stage: Stage) {
    let who = stage.connect().await;
    let short = Duration::from_millis(1500);
    let publications = vec![
        cached_publication("cache-short", "s", short, 10_000),
        cached_publication("cache-long", "l", LONG, 10_000),
        cached_publication("cache-not", "n", Duration::ZERO, 10_000),
    ];
    who.publish_all(publications).await;
    assert!(cached(&who, "cache-short").await.is_some());
    assert!(cached(&who, "cache-not").await.is_none());
    sleep(short + Duration::from_millis(50)).await;
    assert!(cached(&who, "cache-short").await.is_none());
    assert!(cached(&who, "cache-long").await.is_some());
}

pub async fn the_oldest_cached_events_are_dropped_beyond_the_limit(stage: Stage) {
    let who = stage.connect().await;
    let data = "x".repeat(1000);
    for number in 0..6 {
        let publication = cached_publication(&format!("cache-{number}"), &data, LONG, 4 * 1400);
        who.publish_all(vec![publication]).await;
        // Of two that were cached in the same millisecond, either may be dropped.
        sleep(Duration::from_millis(3)).await;
    }
    let mut is_cached = Vec::new();
    for number in 0..6 {
        is_cached.push(cached(&who, &format!("cache-{number}")).await.is_some());
    }
    assert_eq!(is_cached, [false, false, true, true, true, true]);
    let other = cached_publication("cache-5", "short", LONG, 4 * 1400);
    who.publish_all(vec![other]).await;
    assert!(
        cached(&who, "cache-2").await.is_some(),
        "the same channel's older event was dropped"
    );
    let huge = cached_publication("cache-9", &"x".repeat(9000), LONG, 4 * 1400);
    who.publish_all(vec![huge]).await;
    assert!(
        cached(&who, "cache-9").await.is_none(),
        "it is larger than the limit of all"
    );
}
