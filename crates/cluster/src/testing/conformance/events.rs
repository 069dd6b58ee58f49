//! Events: who is told, in which order, how often, and what is kept.

use std::time::Duration;

use crate::Message;
use crate::backend::{Answer, CachedMessage, Keep, Publication, Published, Step, StepError, Topic};
use fanfare_engine::{IdempotencyKey, Position};
use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    BEFORE, LATER, Peer, Stage, admit, app, event, member, node, publication, publish, publish_all,
    topic_of, user,
};

const NOW: Answer = Answer::Published(Published::Now);

pub async fn events_are_told_in_order_to_all_who_listen_and_to_nobody_else(stage: Stage) {
    let (one, both) = (
        stage.listener(&["a"]).await,
        stage.listener(&["a", "b"]).await,
    );
    let who = stage.connect().await;
    for number in 0..50 {
        let channel = if number % 2 == 0 { "a" } else { "b" };
        assert_eq!(who.take(publish(channel, &number.to_string())).await, NOW);
    }
    let all: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    let even: Vec<_> = all.iter().step_by(2).cloned().collect();
    assert_eq!(one.events(25).await, even);
    assert_eq!(both.events(50).await, all);
    let topic = topic_of("a");
    both.done(Step::Unsubscribe { topic }).await;
    who.take(publish("a", "last")).await;
    assert_eq!(one.events(1).await, ["last"]);
    both.hears_nothing().await;
    who.hears_nothing().await;
}

pub async fn events_of_one_request_are_told_one_after_the_other(stage: Stage) {
    let listener = stage.listener(&["a", "b"]).await;
    let (one, other) = (stage.connect().await, stage.connect().await);
    let request = |who: &'static str| {
        let three = ["a", "b", "a"].map(|channel| publication(channel, who));
        publish_all(three.into())
    };
    for _ in 0..20 {
        tokio::join!(one.take(request("one")), other.take(request("other")));
        let heard = listener.events(6).await;
        assert!(heard[..3].iter().all(|data| *data == heard[0]), "{heard:?}");
        assert!(heard[3..].iter().all(|data| *data == heard[3]), "{heard:?}");
    }
}

pub async fn steps_of_an_app_are_taken_in_the_order_in_which_they_were_asked(stage: Stage) {
    let listener = stage.listener(&["a"]).await;
    let who = stage.connect().await;
    let steps = |from: usize| -> Vec<Step> {
        (from..from + 30)
            .map(|number| publish("a", &number.to_string()))
            .collect()
    };
    let asked = (0..10).map(|batch| who.take_all(steps(batch * 30)));
    for answers in join_all(asked).await {
        assert!(answers.iter().all(|answer| *answer == Ok(NOW)));
    }
    let all: Vec<_> = (0..300).map(|number| number.to_string()).collect();
    assert_eq!(listener.events(300).await, all);
}

pub async fn an_event_as_long_as_they_come_is_told_whole(stage: Stage) {
    let listener = stage.listener(&["a"]).await;
    let data = "é:1 ".repeat(100_000);
    stage.connect().await.take(publish("a", &data)).await;
    assert!(listener.events(1).await == [data]);
}

pub async fn a_request_that_comes_twice_is_told_once(stage: Stage) {
    let listener = stage.listener(&["a"]).await;
    let who = stage.connect().await;
    let with = |key: &str, digest: &str| Step::Publish {
        app: app(),
        publications: vec![publication("a", digest)],
        once: Some(IdempotencyKey {
            key: key.into(),
            digest: digest.into(),
        }),
        deadline: LATER,
    };
    assert_eq!(who.take(with("key", "one")).await, NOW);
    let before = Answer::Published(Published::Before);
    assert_eq!(who.take(with("key", "one")).await, before);
    let other = Answer::Published(Published::OtherRequest);
    assert_eq!(who.take(with("key", "two")).await, other);
    assert_eq!(who.take(with("another", "two")).await, NOW);
    assert_eq!(listener.events(2).await, ["one", "two"]);
    listener.hears_nothing().await;
}

/// Every step that has a deadline, after it.
fn late_steps(once: &IdempotencyKey) -> Vec<Step> {
    let (app, node, deadline) = (app(), node("n"), BEFORE);
    let channel = || "presence-a".to_owned();
    let publish_late = Step::Publish {
        app: app.clone(),
        publications: vec![publication("presence-a", "late")],
        once: Some(once.clone()),
        deadline,
    };
    vec![
        publish_late,
        Step::Join {
            app: app.clone(),
            node: node.clone(),
            channel: channel(),
            member: member("u"),
            max: 9,
            view: true,
            deadline,
        },
        Step::Leave {
            app: app.clone(),
            node: node.clone(),
            channel: channel(),
            user: user("u"),
            deadline,
        },
        Step::Count {
            app: app.clone(),
            node: node.clone(),
            channel: channel(),
            count: 3,
            announce: true,
            deadline,
        },
        Step::SignIn {
            app: app.clone(),
            node: node.clone(),
            user: user("u"),
            deadline,
        },
        Step::SignOut {
            app: app.clone(),
            node: node.clone(),
            user: user("u"),
            deadline,
        },
        Step::Connections {
            app: app.clone(),
            node: node.clone(),
            count: 3,
            deadline,
        },
        Step::Admit {
            app: app.clone(),
            node: node.clone(),
            change: 0,
            max: 9,
            deadline,
        },
        Step::Broadcast {
            message: event("late"),
            deadline,
        },
        Step::Register {
            app,
            node,
            deadline,
        },
    ]
}

pub async fn what_comes_too_late_is_not_taken(stage: Stage) {
    let listener = stage.listener(&["presence-a"]).await;
    let nodes_topic = Topic::Nodes;
    listener.done(Step::Subscribe { topic: nodes_topic }).await;
    let once = IdempotencyKey {
        key: "key".into(),
        digest: "d".into(),
    };
    let who = stage.connect().await;
    for step in late_steps(&once) {
        let words = format!("{step:?}");
        assert_eq!(who.try_take(step).await, Err(StepError::Late), "{words}");
    }
    listener.hears_nothing().await;
    let in_time = Step::Publish {
        app: app(),
        publications: vec![publication("presence-a", "in time")],
        once: Some(once),
        deadline: LATER,
    };
    assert_eq!(
        who.take(in_time).await,
        NOW,
        "its key stands for nothing yet"
    );
    let view = Step::PresenceSnapshot {
        app: app(),
        channel: "presence-a".into(),
    };
    let Answer::PresenceSnapshot(view) = who.take(view).await else {
        panic!("a view");
    };
    assert_eq!((view.position, view.members), (0, vec![]));
    let counts = Step::AllRemoteSubscriptions {
        app: app(),
        node: node("other"),
        prefix: String::new(),
    };
    assert_eq!(who.take(counts).await, Answer::Counts(vec![]));
    let online = Step::Online {
        app: app(),
        users: vec![user("u")],
    };
    let nobody = Answer::Online {
        position: 0,
        online: vec![false],
    };
    assert_eq!(who.take(online).await, nobody);
    let apps = who.take(Step::Apps { node: node("n") }).await;
    assert_eq!(apps, Answer::Names(vec![]));
    assert_eq!(
        who.take(admit("n", 1)).await,
        Answer::Changed(true),
        "nobody was counted"
    );
}

fn kept(channel: &str, data: &str, ttl: Duration, max_bytes: usize) -> Publication {
    Publication {
        keep: Some(Keep { ttl, max_bytes }),
        ..publication(channel, data)
    }
}

async fn cached(who: &Peer, channel: &str) -> Option<CachedMessage> {
    let (app, channel) = (app(), channel.to_owned());
    match who.take(Step::Cached { app, channel }).await {
        Answer::Cached(kept) => kept,
        other => panic!("{other:?}"),
    }
}

fn position(message: &[u8]) -> Position {
    match Message::read(message).unwrap() {
        Message::Event {
            position: Some(position),
            ..
        } => position,
        other => panic!("no kept event: {other:?}"),
    }
}

const LONG: Duration = Duration::from_secs(60);

pub async fn a_kept_event_is_told_and_kept_with_a_position_that_grows(stage: Stage) {
    let listener = stage.listener(&["cache-a"]).await;
    let who = stage.connect().await;
    assert_eq!(cached(&who, "cache-a").await, None);
    let mut newest = 0;
    for number in 0..5 {
        let publication = kept("cache-a", &number.to_string(), LONG, 10_000);
        who.take(publish_all(vec![publication])).await;
        let (_, told) = listener.next_message().await;
        let kept = cached(&who, "cache-a").await.unwrap();
        assert_eq!(kept.message, told);
        assert!(kept.ttl <= LONG && kept.ttl > LONG / 2, "{:?}", kept.ttl);
        assert!(position(&told) > newest);
        newest = position(&told);
    }
    who.take(publish("cache-a", "not kept")).await;
    let kept = cached(&who, "cache-a").await.unwrap();
    assert_eq!(position(&kept.message), newest);
}

pub async fn a_kept_event_expires(stage: Stage) {
    let who = stage.connect().await;
    let short = Duration::from_millis(1500);
    let publications = vec![
        kept("cache-short", "s", short, 10_000),
        kept("cache-long", "l", LONG, 10_000),
        kept("cache-not", "n", Duration::ZERO, 10_000),
    ];
    who.take(publish_all(publications)).await;
    assert!(cached(&who, "cache-short").await.is_some());
    assert!(cached(&who, "cache-not").await.is_none());
    sleep(short + Duration::from_millis(50)).await;
    assert!(cached(&who, "cache-short").await.is_none());
    assert!(cached(&who, "cache-long").await.is_some());
}

pub async fn the_oldest_kept_events_go_when_there_is_too_much(stage: Stage) {
    let who = stage.connect().await;
    let data = "x".repeat(1000);
    for number in 0..6 {
        let publication = kept(&format!("cache-{number}"), &data, LONG, 4 * 1400);
        who.take(publish_all(vec![publication])).await;
        // Of two that were kept at the same moment, either may go.
        sleep(Duration::from_millis(3)).await;
    }
    let mut is_kept = Vec::new();
    for number in 0..6 {
        is_kept.push(cached(&who, &format!("cache-{number}")).await.is_some());
    }
    assert_eq!(is_kept, [false, false, true, true, true, true]);
    let other = kept("cache-5", "short", LONG, 4 * 1400);
    who.take(publish_all(vec![other])).await;
    assert!(
        cached(&who, "cache-2").await.is_some(),
        "the same channel's older one went"
    );
    let huge = kept("cache-9", &"x".repeat(9000), LONG, 4 * 1400);
    who.take(publish_all(vec![huge])).await;
    assert!(
        cached(&who, "cache-9").await.is_none(),
        "it is more than all may be"
    );
}
