//! The removal of what dead nodes left.

use std::collections::BTreeSet;

use crate::Message;
use crate::backend::{LogRules, Reaped, Reply, Topic};

use super::{Peer, Stage, app, count, join, member, node, sign_in, user};

/// Removes all entries of a node, and returns them and how many calls that took.
async fn reap(who: &Peer, name: &str) -> (Reaped, usize) {
    let (mut all, mut calls) = (Reaped::default(), 0);
    loop {
        let part = who
            .ok(who
                .membership
                .reap(&app(), &node(name), LogRules::default()))
            .await;
        calls += 1;
        assert!(calls < 10_000, "it does not end");
        all.removed.extend(part.removed);
        all.vacated.extend(part.vacated);
        all.counted.extend(part.counted);
        if !part.more {
            return (all, calls);
        }
    }
}

pub async fn the_entries_of_a_dead_node_are_removed_and_announced_as_if_it_had_reported_that(
    stage: Stage,
) {
    let who = stage.connect().await;
    who.join("dead", "presence-a", member("alone")).await;
    who.join("dead", "presence-a", member("both")).await;
    who.join("alive", "presence-a", member("both")).await;
    who.count("dead", "presence-a", 2, false).await;
    who.count("alive", "presence-a", 1, false).await;
    who.count("dead", "b", 1, false).await;
    who.sign_in("dead", "alone").await;
    who.sign_in("dead", "both").await;
    who.sign_in("alive", "both").await;
    who.connections("dead", 5).await;
    let subscriber = stage.subscriber(&["presence-a", "b"]).await;
    subscriber.subscribe(Topic::Users(app())).await;
    let (reaped, _) = reap(&who, "dead").await;
    assert_eq!(reaped.removed, [("presence-a".to_owned(), user("alone"))]);
    assert_eq!(reaped.vacated, ["b"]);
    assert_eq!(reaped.counted, ["presence-a"]);
    let (_, message) = subscriber.next_message().await;
    let removed = Message::read(&message).unwrap();
    assert!(matches!(removed, Message::Removed { user_id, .. } if user_id == user("alone")));
    let (_, message) = subscriber.next_message().await;
    let offline = Message::read(&message).unwrap();
    let is_alone = matches!(offline, Message::Online { user_id, online: false, .. } if user_id == user("alone"));
    assert!(is_alone);
    subscriber.receives_nothing().await;

    assert_eq!(who.snapshot("presence-a").await.members, [member("both")]);
    assert!(
        who.admit("alive", 1).await,
        "the dead node's connections don't count any more"
    );
    assert_eq!(
        reap(&who, "dead").await,
        (Reaped::default(), 1),
        "nothing is left"
    );
    assert_eq!(reap(&who, "never was").await, (Reaped::default(), 1));
}

pub async fn two_reapers_of_the_same_node_remove_each_entry_once(stage: Stage) {
    let (one, other) = (stage.connect().await, stage.connect().await);
    let users: BTreeSet<_> = (0..500).map(|number| format!("u{number:03}")).collect();
    let join = |user: &String| join("presence-a", member(user), usize::MAX, Reply::ignore());
    let count = |user: &String| count(user, 1, false, Reply::ignore());
    let changes = users.iter().map(join).chain(users.iter().map(count));
    one.report_all("dead", changes.collect()).await;
    let subscriber = stage.subscriber(&["presence-a"]).await;
    let ((first, _), (second, _)) = tokio::join!(reap(&one, "dead"), reap(&other, "dead"));
    let removed = first.removed.iter().chain(&second.removed);
    let removed: Vec<_> = removed.map(|(_, user)| user.to_string()).collect();
    assert_eq!(removed.len(), 500, "each once");
    assert_eq!(removed.into_iter().collect::<BTreeSet<_>>(), users);
    assert_eq!(first.vacated.len() + second.vacated.len(), 500, "each once");
    let mut announced = BTreeSet::new();
    for _ in 0..500 {
        let (_, message) = subscriber.next_message().await;
        match Message::read(&message).unwrap() {
            Message::Removed { user_id, .. } => assert!(announced.insert(user_id.to_string())),
            other => panic!("{other:?}"),
        }
    }
    subscriber.receives_nothing().await;
}

pub async fn a_node_that_leaves_thousands_of_entries_is_reaped_part_by_part(stage: Stage) {
    const MANY: usize = 10_000;
    let who = stage.connect().await;
    for from in (0..MANY).step_by(1000) {
        let numbers = || from..from + 1000;
        let user = |n| format!("u{n}");
        let channel = |n| format!("presence-{}", n % 100);
        let counts = numbers().map(|n| count(&format!("c{n}"), 1, false, Reply::ignore()));
        let users = numbers().map(|n| sign_in(&user(n), Reply::ignore()));
        let members =
            numbers().map(|n| join(&channel(n), member(&user(n)), usize::MAX, Reply::ignore()));
        let changes = counts.chain(users).chain(members).collect();
        who.report_all("dead", changes).await;
    }
    let (reaped, calls) = reap(&who, "dead").await;
    assert_eq!(reaped.vacated.len(), MANY);
    assert_eq!(reaped.removed.len(), MANY);
    assert!(calls > 10, "each call is short: {calls}");
    let (rest, _) = reap(&who, "dead").await;
    assert_eq!(rest, Reaped::default());
}
