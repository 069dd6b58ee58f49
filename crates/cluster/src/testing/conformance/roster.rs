//! Members, counts, signed-in users and connections, over all nodes.

use crate::Message;
use crate::backend::{Counted, Joined, Topic};
use fanfare_engine::Position;
use fanfare_protocol::presence::Member;

use super::{Peer, Stage, app, member, node, user};

/// Adds a user, and returns whether that was a change over all nodes, its position, and the members.
async fn joined(
    who: &Peer,
    name: &str,
    channel: &str,
    member: Member,
) -> (bool, Position, Vec<String>) {
    read_joined(who.join(name, channel, member).await)
}

fn read_joined(joined: Joined) -> (bool, Position, Vec<String>) {
    match joined {
        Joined::Member { added, snapshot } => {
            let members = snapshot.members.iter();
            let mut members: Vec<_> = members.map(|member| member.user_id.to_string()).collect();
            members.sort();
            (added, snapshot.position, members)
        }
        Joined::Full => panic!("it is full"),
    }
}

pub async fn a_user_comes_with_the_first_node_and_leaves_with_the_last(stage: Stage) {
    let subscriber = stage.subscriber(&["presence-a"]).await;
    let who = stage.connect().await;
    let info = |text: &str| Member {
        user_id: user("é:u"),
        user_info: Some(text.into()),
    };
    let (added, first, members) = joined(&who, "one", "presence-a", info("{\"n\":1}")).await;
    assert!(added);
    assert_eq!(members, ["é:u"]);
    let (added, second, members) = joined(&who, "two", "presence-a", info("{\"n\":2}")).await;
    assert!(!added, "another node had the user");
    assert_eq!((second, members), (first, vec!["é:u".to_owned()]));
    let seen = who.snapshot("presence-a").await;
    assert_eq!(
        seen.members,
        [info("{\"n\":2}")],
        "the newest info of the user"
    );
    let (added, third, members) = joined(&who, "two", "presence-a", member("b")).await;
    assert!(added && third > first);
    assert_eq!(members, ["b", "é:u"]);

    assert!(!who.leave("one", "presence-a", "é:u").await);
    assert!(who.leave("two", "presence-a", "é:u").await);
    let seen = who.snapshot("presence-a").await;
    assert!(seen.position > third);
    assert_eq!(seen.members, [member("b")]);

    let (_, message) = subscriber.next_message().await;
    let added = Message::Added {
        position: first,
        user_id: user("é:u"),
        user_info: Some("{\"n\":1}"),
    };
    assert_eq!(Message::read(&message), Ok(added));
    let (_, message) = subscriber.next_message().await;
    let added = Message::Added {
        position: third,
        user_id: user("b"),
        user_info: None,
    };
    assert_eq!(Message::read(&message), Ok(added));
    let (_, message) = subscriber.next_message().await;
    let removed = Message::Removed {
        position: seen.position,
        user_id: user("é:u"),
    };
    assert_eq!(Message::read(&message), Ok(removed));
    subscriber.receives_nothing().await;
}

pub async fn a_repeated_report_counts_once(stage: Stage) {
    let subscriber = stage.subscriber(&["presence-a"]).await;
    let who = stage.connect().await;
    let (added, first, _) = joined(&who, "one", "presence-a", member("u")).await;
    let (again, second, _) = joined(&who, "one", "presence-a", member("u")).await;
    assert_eq!((added, again, first), (true, false, second));
    for expected in [true, false] {
        assert_eq!(who.leave("one", "presence-a", "u").await, expected);
    }
    assert!(!who.leave("two", "presence-b", "u").await);
    for expected in [true, false] {
        assert_eq!(who.sign_in("one", "u").await, expected);
    }
    for expected in [true, false] {
        assert_eq!(who.sign_out("one", "u").await, expected);
    }
    for (before, after) in [(0, 2), (2, 2)] {
        let counted = who.count("one", "presence-a", 2, false).await;
        assert_eq!(counted, Counted { before, after });
    }
    subscriber.next_message().await;
    subscriber.next_message().await;
    subscriber.receives_nothing().await;
}

pub async fn a_full_channel_admits_no_new_user(stage: Stage) {
    let who = stage.connect().await;
    let join = async |name: &str, who_joins: &str, max: usize| {
        who.join_at_most(name, "presence-a", member(who_joins), max)
            .await
    };
    assert_eq!(join("one", "a", 0).await, Joined::Full);
    for user in ["a", "b"] {
        read_joined(join("one", user, 2).await);
    }
    assert_eq!(join("two", "c", 2).await, Joined::Full);
    let (added, _, members) = read_joined(join("two", "b", 2).await);
    assert_eq!((added, members.len()), (false, 2));
    let channels = ["presence-a", "presence-b"].map(str::to_owned).into();
    let counts = who.presence.user_counts(&app(), channels);
    assert_eq!(who.ok(counts).await, [2, 0]);
    who.leave("one", "presence-a", "a").await;
    let (added, ..) = read_joined(join("two", "c", 2).await);
    assert!(added);
}

pub async fn counts_are_added_up_over_all_nodes(stage: Stage) {
    let subscriber = stage.subscriber(&["a"]).await;
    let who = stage.connect().await;
    let counted = |before, after| Counted { before, after };
    assert_eq!(who.count("one", "a", 2, true).await, counted(0, 2));
    assert_eq!(who.count("two", "a", 3, true).await, counted(2, 5));
    assert_eq!(who.count("two", "ab", 1, false).await, counted(0, 1));
    assert_eq!(who.count("two", "b", 4, false).await, counted(0, 4));
    for (name, channel, count) in [
        ("one", "a", 3),
        ("two", "a", 2),
        ("three", "a", 5),
        ("two", "b", 0),
        ("one", "c", 0),
    ] {
        let remote = who
            .presence
            .remote_subscriptions(&app(), &node(name), channel);
        assert_eq!(who.ok(remote).await, count, "{channel} for {name}");
    }
    let all = async |name: &str, prefix: &str| {
        let counts = who
            .presence
            .all_remote_subscriptions(&app(), &node(name), prefix);
        let mut counts = who.ok(counts).await;
        counts.sort();
        counts
    };
    let expected = [("a".to_owned(), 3), ("ab".to_owned(), 1)];
    assert_eq!(all("one", "a").await, expected);
    assert_eq!(all("two", "a").await, [("a".to_owned(), 2)]);
    who.join("one", "presence-a", member("u")).await;
    who.join("two", "presence-a", member("u")).await;
    for (prefix, count) in [("", 0), ("pre", 0), ("presence-a", 0), ("presence-", 2)] {
        if count > 0 {
            who.count("two", "presence-a", count, false).await;
        }
        let mut found = all("one", prefix).await;
        found.retain(|(name, _)| name == "presence-a");
        assert_eq!(found, [("presence-a".to_owned(), count)], "{prefix:?}");
    }
    for prefix in ["presence-b", "presence-ab", "private-"] {
        assert_eq!(all("one", prefix).await, []);
    }
    assert_eq!(who.count("two", "a", 0, true).await, counted(5, 2));
    assert_eq!(who.count("one", "a", 0, true).await, counted(2, 0));
    for count in [2, 5, 2] {
        let (_, message) = subscriber.next_message().await;
        assert_eq!(Message::read(&message), Ok(Message::Count(count)));
    }
    subscriber.receives_nothing().await;
}

pub async fn users_are_online_from_the_first_node_to_the_last(stage: Stage) {
    let subscriber = stage.connect().await;
    subscriber.subscribe(Topic::Users(app())).await;
    let who = stage.connect().await;
    let online = async || {
        let users = vec![user("a"), user("b"), user("a")];
        who.ok(who.presence.online(&app(), users)).await
    };
    let before = online().await;
    assert_eq!((before.position, before.online), (0, vec![false; 3]));
    assert!(who.sign_in("one", "a").await);
    assert!(!who.sign_in("two", "a").await);
    assert!(!who.sign_out("one", "a").await);
    let after = online().await;
    assert_eq!(after.online, [true, false, true]);
    assert!(who.sign_out("two", "a").await);
    let (_, message) = subscriber.next_message().await;
    let came_online = Message::Online {
        position: after.position,
        user_id: user("a"),
        online: true,
    };
    assert_eq!(Message::read(&message), Ok(came_online));
    let (_, message) = subscriber.next_message().await;
    match Message::read(&message).unwrap() {
        Message::Online {
            position,
            online: false,
            ..
        } => assert!(position > after.position),
        other => panic!("{other:?}"),
    }
    subscriber.receives_nothing().await;
}

pub async fn connections_are_admitted_up_to_the_quota_of_all_nodes(stage: Stage) {
    let who = stage.connect().await;
    who.connections("one", 2).await;
    who.connections("two", 1).await;
    assert!(who.admit("one", 5).await);
    assert!(who.admit("three", 5).await);
    assert!(!who.admit("two", 5).await);
    who.connections("one", 0).await;
    for expected in [true, true, true, false] {
        assert_eq!(who.admit("two", 5).await, expected);
    }
    for (name, count) in [("one", 5), ("two", 1), ("three", 4), ("nobody", 5)] {
        let remote = who.presence.remote_connections(&app(), &node(name));
        assert_eq!(who.ok(remote).await, count, "{name}");
    }
}

pub async fn connections_are_known_by_node(stage: Stage) {
    let who = stage.connect().await;
    let by_node = async || {
        let mut counts = who.ok(who.presence.connections_by_node(&app())).await;
        counts.sort();
        counts
    };
    assert_eq!(by_node().await, []);
    for (name, count) in [("one", 2), ("two", 1), ("three", 4), ("three", 0)] {
        who.connections(name, count).await;
    }
    assert!(who.admit("two", 5).await);
    assert_eq!(
        by_node().await,
        [("one".to_owned(), 2), ("two".to_owned(), 2)]
    );
}
