//! What dead nodes have left.

use std::collections::BTreeSet;

use crate::Message;
use crate::backend::{Answer, Reaped, Step, Topic};

use super::roster::{count, enter, join, view};
use super::{LATER, Peer, Stage, admit, app, member, node, user};

/// Clears all away; gives what was, and how many steps that took.
async fn reap(who: &Peer, name: &str) -> (Reaped, usize) {
    let (mut all, mut steps) = (Reaped::default(), 0);
    loop {
        let step = Step::Reap {
            app: app(),
            node: node(name),
        };
        let Answer::Reaped(part) = who.take(step).await else {
            panic!("what was cleared away");
        };
        steps += 1;
        assert!(steps < 10_000, "it does not end");
        all.removed.extend(part.removed);
        all.vacated.extend(part.vacated);
        all.counted.extend(part.counted);
        if !part.more {
            return (all, steps);
        }
    }
}

pub async fn what_a_dead_node_has_left_is_cleared_away_and_told_as_if_it_had_said_so(stage: Stage) {
    let who = stage.connect().await;
    for step in [
        join("dead", "presence-a", member("alone")),
        join("dead", "presence-a", member("both")),
        join("alive", "presence-a", member("both")),
        count("dead", "presence-a", 2, false),
        count("alive", "presence-a", 1, false),
        count("dead", "b", 1, false),
        enter("dead", "alone"),
        enter("dead", "both"),
        enter("alive", "both"),
    ] {
        who.take(step).await;
    }
    who.done(Step::Connections {
        app: app(),
        node: node("dead"),
        count: 5,
        deadline: LATER,
    })
    .await;
    let listener = stage.listener(&["presence-a", "b"]).await;
    let users = Topic::Users(app());
    listener.done(Step::Subscribe { topic: users }).await;
    let (reaped, _) = reap(&who, "dead").await;
    assert_eq!(reaped.removed, [("presence-a".to_owned(), user("alone"))]);
    assert_eq!(reaped.vacated, ["b"]);
    assert_eq!(reaped.counted, ["presence-a"]);
    let (_, message) = listener.next_message().await;
    let removed = Message::read(&message).unwrap();
    assert!(matches!(removed, Message::Removed { user_id, .. } if user_id == user("alone")));
    let (_, message) = listener.next_message().await;
    let offline = Message::read(&message).unwrap();
    let is_alone = matches!(offline, Message::Online { user_id, online: false, .. } if user_id == user("alone"));
    assert!(is_alone);
    listener.hears_nothing().await;

    assert_eq!(view(&who, "presence-a").await.members, [member("both")]);
    assert_eq!(
        who.take(admit("alive", 1)).await,
        Answer::Changed(true),
        "its connections count no more"
    );
    assert_eq!(
        reap(&who, "dead").await,
        (Reaped::default(), 1),
        "nothing is left"
    );
    assert_eq!(reap(&who, "never was").await, (Reaped::default(), 1));
}

pub async fn two_who_clear_away_the_same_do_it_once(stage: Stage) {
    let (one, other) = (stage.connect().await, stage.connect().await);
    let users: BTreeSet<_> = (0..500).map(|number| format!("u{number:03}")).collect();
    let mut steps: Vec<_> = users
        .iter()
        .map(|user| join("dead", "presence-a", member(user)))
        .collect();
    steps.extend(users.iter().map(|user| count("dead", user, 1, false)));
    for answer in one.take_all(steps).await {
        answer.unwrap();
    }
    let listener = stage.listener(&["presence-a"]).await;
    let ((first, _), (second, _)) = tokio::join!(reap(&one, "dead"), reap(&other, "dead"));
    let removed = first.removed.iter().chain(&second.removed);
    let removed: Vec<_> = removed.map(|(_, user)| user.to_string()).collect();
    assert_eq!(removed.len(), 500, "each once");
    assert_eq!(removed.into_iter().collect::<BTreeSet<_>>(), users);
    assert_eq!(first.vacated.len() + second.vacated.len(), 500, "each once");
    let mut told = BTreeSet::new();
    for _ in 0..500 {
        let (_, message) = listener.next_message().await;
        match Message::read(&message).unwrap() {
            Message::Removed { user_id, .. } => assert!(told.insert(user_id.to_string())),
            other => panic!("{other:?}"),
        }
    }
    listener.hears_nothing().await;
}

pub async fn a_node_that_leaves_thousands_of_everything_is_cleared_away_bit_by_bit(stage: Stage) {
    const MANY: usize = 10_000;
    let who = stage.connect().await;
    for from in (0..MANY).step_by(1000) {
        let numbers = || from..from + 1000;
        let mut steps: Vec<_> = numbers()
            .map(|n| count("dead", &format!("c{n}"), 1, false))
            .collect();
        steps.extend(numbers().map(|n| enter("dead", &format!("u{n}"))));
        steps.extend(numbers().map(|n| {
            join(
                "dead",
                &format!("presence-{}", n % 100),
                member(&format!("u{n}")),
            )
        }));
        for answer in who.take_all(steps).await {
            answer.unwrap();
        }
    }
    let (reaped, steps) = reap(&who, "dead").await;
    assert_eq!(reaped.vacated.len(), MANY);
    assert_eq!(reaped.removed.len(), MANY);
    assert!(steps > 10, "each step is short: {steps}");
    let (rest, _) = reap(&who, "dead").await;
    assert_eq!(rest, Reaped::default());
}
