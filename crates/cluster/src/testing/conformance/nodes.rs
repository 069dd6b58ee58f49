//! Nodes: leases, broadcasts, and the lists by which reapers find entries.

use std::time::Duration;

use crate::backend::{BackendError, Call, Census, LeaseRenewal, LogRules, Topic};
use fanfare_protocol::AppId;
use tokio::time::sleep;

use super::{LATER, Peer, Stage, app, changes_of_every_kind, event, node};

const SHORT: Duration = Duration::from_millis(1200);
const LONG: Duration = Duration::from_secs(60);

fn heartbeat(who: &Peer, name: &str, first: bool, lease: Duration) -> Call<Census> {
    who.membership.heartbeat(LeaseRenewal {
        node: node(name),
        first,
        lease,
        message: event(name),
        installation: "ours".into(),
    })
}

/// Sends a heartbeat, and returns the nodes in the order of their names.
async fn beat(who: &Peer, name: &str, first: bool, lease: Duration) -> Census {
    let mut census = who.ok(heartbeat(who, name, first, lease)).await;
    census.live.sort();
    census.dead.sort();
    census
}

pub async fn nodes_live_for_as_long_as_their_lease_and_are_dead_until_they_are_forgotten(
    stage: Stage,
) {
    let who = stage.connect().await;
    let first = beat(&who, "stays", true, LONG).await;
    assert_eq!((first.live, first.dead), (vec!["stays".to_owned()], vec![]));
    beat(&who, "goes", true, SHORT).await;
    let census = beat(&who, "goes", false, SHORT).await;
    assert_eq!((census.live.len(), census.dead.len()), (2, 0));
    sleep(SHORT + Duration::from_millis(50)).await;
    let second = beat(&who, "stays", false, LONG).await;
    assert!(
        second.now >= first.now + 1_000_000,
        "a clock of microseconds: {}, {}",
        first.now,
        second.now
    );
    assert_eq!(
        (second.live, second.dead),
        (vec!["stays".to_owned()], vec!["goes".to_owned()])
    );
    for name in ["goes", "was never there"] {
        let late = heartbeat(&who, name, false, LONG).await;
        assert_eq!(late, Err(BackendError::Late), "{name}");
    }
    for known in [true, false] {
        let forgotten = who.ok(who.membership.forget(&node("goes"))).await;
        assert_eq!(forgotten, known);
    }
    let census = beat(&who, "stays", false, LONG).await;
    assert_eq!((census.live.len(), census.dead.len()), (1, 0));
}

pub async fn nodes_of_another_installation_are_refused_and_change_nothing(stage: Stage) {
    let who = stage.connect().await;
    beat(&who, "ours", true, LONG).await;
    let stranger = who.membership.heartbeat(LeaseRenewal {
        node: node("stranger"),
        first: true,
        lease: LONG,
        message: event("stranger"),
        installation: "theirs".into(),
    });
    assert_eq!(stranger.await, Err(BackendError::OtherInstallation));
    assert_eq!(beat(&who, "ours", false, LONG).await.live, ["ours"]);
}

pub async fn all_nodes_receive_heartbeats_and_broadcasts(stage: Stage) {
    let (one, other) = (stage.connect().await, stage.connect().await);
    for who in [&one, &other] {
        who.subscribe(Topic::Nodes).await;
    }
    beat(&one, "one", true, LONG).await;
    let message = event("to all");
    other
        .ok(other.broker.broadcast(message.clone(), LATER))
        .await;
    for who in [&one, &other] {
        assert_eq!(who.next_message().await, (Topic::Nodes, event("one")));
        assert_eq!(who.next_message().await, (Topic::Nodes, message.clone()));
    }
}

pub async fn the_apps_of_a_node_are_known_until_it_is_forgotten(stage: Stage) {
    let who = stage.connect().await;
    let (membership, name) = (&who.membership, node("n"));
    let second = AppId::parse("2").unwrap();
    for app in [&app(), &second, &second] {
        who.ok(membership.register(app, &name, LATER)).await;
    }
    let mut apps = who.ok(membership.apps(&name)).await;
    apps.sort();
    assert_eq!(apps, ["1", "2"]);
    who.ok(membership.forget(&name)).await;
    assert_eq!(who.ok(membership.apps(&name)).await, Vec::<String>::new());
}

pub async fn one_node_claims_a_dead_node_until_its_claim_expires(stage: Stage) {
    let (one, other) = (stage.connect().await, stage.connect().await);
    let dead = node("dead");
    let claim = |who: &Peer| who.membership.claim(&dead, SHORT);
    let (first, second) = tokio::join!(one.ok(claim(&one)), other.ok(claim(&other)));
    assert!(first != second, "one of them");
    sleep(SHORT + Duration::from_millis(50)).await;
    assert!(other.ok(claim(&other)).await);
    one.ok(one.membership.forget(&dead)).await;
    assert!(one.ok(claim(&one)).await);
}

pub async fn no_lease_ends_further_ahead_than_it_is_long(stage: Stage) {
    let who = stage.connect().await;
    beat(&who, "long", true, LONG).await;
    beat(&who, "ahead", true, SHORT).await;
    // As if the clock was set back by a minute after that.
    beat(&who, "ahead", false, LONG).await;
    beat(&who, "other", true, SHORT).await;
    sleep(SHORT + Duration::from_millis(50)).await;
    let census = beat(&who, "long", false, LONG).await;
    assert_eq!(census.live, ["long"], "a node with a longer lease keeps it");
    assert_eq!(census.dead, ["ahead", "other"]);
}

pub async fn an_app_takes_no_report_of_a_node_that_is_not_in_its_list(stage: Stage) {
    let who = stage.connect().await;
    let all = || changes_of_every_kind("presence-a", "u");
    let refused = vec![Err(BackendError::Forgotten); all().len()];
    assert_eq!(who.try_report("n", LATER, all()).await, refused);
    who.enlist("n").await;
    who.enlist("m").await;
    let mut names = who.ok(who.membership.enlisted(&app())).await;
    names.sort();
    assert_eq!(names, ["m", "n"]);
    for answer in who.try_report("n", LATER, all()).await {
        answer.unwrap();
    }
    who.ok(who.membership.reap(&app(), &node("n"), LogRules::default()))
        .await;
    assert_eq!(who.ok(who.membership.enlisted(&app())).await, ["m"]);
    assert_eq!(who.try_report("n", LATER, all()).await, refused);
}
