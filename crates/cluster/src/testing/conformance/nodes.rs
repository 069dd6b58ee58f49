//! Which nodes live.

use std::time::Duration;

use crate::backend::{Answer, Moment, Step, StepError, Topic};
use fanfare_protocol::AppId;
use tokio::time::sleep;

use super::roster::{count, enter, exit, join, leave};
use super::{LATER, Peer, Stage, admit, app, enlist_in, event, member, node};

const SHORT: Duration = Duration::from_millis(1200);
const LONG: Duration = Duration::from_secs(60);

fn beat(name: &str, first: bool, lease: Duration) -> Step {
    Step::Heartbeat {
        node: node(name),
        first,
        lease,
        message: event(name),
    }
}

async fn nodes(who: &Peer, step: Step) -> (Moment, Vec<String>, Vec<String>) {
    match who.take(step).await {
        Answer::Heartbeat {
            now,
            mut live,
            mut dead,
        } => {
            live.sort();
            dead.sort();
            (now, live, dead)
        }
        other => panic!("{other:?}"),
    }
}

pub async fn nodes_live_for_as_long_as_their_lease_and_are_dead_until_they_are_forgotten(
    stage: Stage,
) {
    let who = stage.connect().await;
    let (first, live, dead) = nodes(&who, beat("stays", true, LONG)).await;
    assert_eq!((live, dead), (vec!["stays".to_owned()], vec![]));
    nodes(&who, beat("goes", true, SHORT)).await;
    let (_, live, dead) = nodes(&who, beat("goes", false, SHORT)).await;
    assert_eq!((live.len(), dead.len()), (2, 0));
    sleep(SHORT + Duration::from_millis(50)).await;
    let (second, live, dead) = nodes(&who, beat("stays", false, LONG)).await;
    assert!(
        second >= first + 1_000_000,
        "a clock of microseconds: {first}, {second}"
    );
    assert_eq!(
        (live, dead),
        (vec!["stays".to_owned()], vec!["goes".to_owned()])
    );
    for name in ["goes", "was never there"] {
        let late = who.try_take(beat(name, false, LONG)).await;
        assert_eq!(late, Err(StepError::Late), "{name}");
    }
    for known in [true, false] {
        let forgotten = who.take(Step::Forget { node: node("goes") }).await;
        assert_eq!(forgotten, Answer::Changed(known));
    }
    let (_, live, dead) = nodes(&who, beat("stays", false, LONG)).await;
    assert_eq!((live.len(), dead.len()), (1, 0));
}

pub async fn all_nodes_are_told_of_beats_and_of_what_is_said_to_all(stage: Stage) {
    let (one, other) = (stage.connect().await, stage.connect().await);
    let topic = Topic::Nodes;
    for who in [&one, &other] {
        who.done(Step::Subscribe {
            topic: topic.clone(),
        })
        .await;
    }
    one.take(beat("one", true, LONG)).await;
    let message = event("to all");
    other
        .done(Step::Broadcast {
            message: message.clone(),
            deadline: LATER,
        })
        .await;
    for who in [&one, &other] {
        assert_eq!(who.next_message().await, (topic.clone(), event("one")));
        assert_eq!(who.next_message().await, (topic.clone(), message.clone()));
    }
}

pub async fn it_is_known_of_which_apps_a_node_has_said_something(stage: Stage) {
    let who = stage.connect().await;
    let second = AppId::parse("2").unwrap();
    for app in [app(), second.clone(), second] {
        who.done(Step::Register {
            app,
            node: node("n"),
            deadline: LATER,
        })
        .await;
    }
    let Answer::Names(mut apps) = who.take(Step::Apps { node: node("n") }).await else {
        panic!("names");
    };
    apps.sort();
    assert_eq!(apps, ["1", "2"]);
    who.take(Step::Forget { node: node("n") }).await;
    let apps = who.take(Step::Apps { node: node("n") }).await;
    assert_eq!(apps, Answer::Names(vec![]));
}

pub async fn one_node_claims_a_dead_node_until_its_claim_expires(stage: Stage) {
    let (one, other) = (stage.connect().await, stage.connect().await);
    let claim = || Step::Claim {
        node: node("dead"),
        lease: SHORT,
    };
    let (first, second) = tokio::join!(one.take(claim()), other.take(claim()));
    let mut answers = [first, second];
    answers.sort_by_key(|answer| *answer == Answer::Numbers(vec![1]));
    assert_eq!(
        answers,
        [Answer::Numbers(vec![0]), Answer::Numbers(vec![1])]
    );
    sleep(SHORT + Duration::from_millis(50)).await;
    assert_eq!(other.take(claim()).await, Answer::Numbers(vec![1]));
    one.take(Step::Forget { node: node("dead") }).await;
    assert_eq!(one.take(claim()).await, Answer::Numbers(vec![1]));
}

pub async fn no_lease_ends_further_ahead_than_it_is_long(stage: Stage) {
    let who = stage.connect().await;
    nodes(&who, beat("long", true, LONG)).await;
    nodes(&who, beat("ahead", true, SHORT)).await;
    // As if the clock was set back by a minute after that.
    nodes(&who, beat("ahead", false, LONG)).await;
    nodes(&who, beat("other", true, SHORT)).await;
    sleep(SHORT + Duration::from_millis(50)).await;
    let (_, live, dead) = nodes(&who, beat("long", false, LONG)).await;
    assert_eq!(live, ["long"], "a node with a longer lease keeps it");
    assert_eq!(dead, ["ahead", "other"]);
}

pub async fn an_app_takes_nothing_of_a_node_that_is_not_in_its_list(stage: Stage) {
    let who = stage.connect().await;
    let all = || {
        let mut all = vec![
            join("n", "presence-a", member("u")),
            leave("n", "presence-a", "u"),
            count("n", "a", 1, false),
            enter("n", "u"),
            exit("n", "u"),
            admit("n", 5),
        ];
        all.push(Step::Connections {
            app: app(),
            node: node("n"),
            count: 1,
            deadline: LATER,
        });
        all
    };
    let refused = vec![Err(StepError::Forgotten); all().len()];
    assert_eq!(who.take_as_they_are(all()).await, refused);
    who.done(enlist_in(app(), node("n"))).await;
    who.done(enlist_in(app(), node("m"))).await;
    let Answer::Names(mut names) = who.take(Step::Enlisted { app: app() }).await else {
        panic!("names");
    };
    names.sort();
    assert_eq!(names, ["m", "n"]);
    for answer in who.take_as_they_are(all()).await {
        answer.unwrap();
    }
    let reap = Step::Reap {
        app: app(),
        node: node("n"),
    };
    who.take(reap).await;
    assert_eq!(
        who.take(Step::Enlisted { app: app() }).await,
        Answer::Names(vec!["m".into()])
    );
    assert_eq!(who.take_as_they_are(all()).await, refused);
}
