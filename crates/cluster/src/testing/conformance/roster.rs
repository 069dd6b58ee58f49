//! Who is where.

use crate::Message;
use crate::backend::{Answer, Step, Topic};
use fanfare_engine::{Position, PresenceSnapshot};
use fanfare_protocol::UserId;
use fanfare_protocol::presence::Member;

use super::{LATER, Peer, Stage, admit, app, member, node, user};

pub(super) fn join(name: &str, channel: &str, member: Member) -> Step {
    Step::Join {
        app: app(),
        node: node(name),
        channel: channel.into(),
        member,
        max: usize::MAX,
        view: true,
        deadline: LATER,
    }
}

pub(super) fn leave(name: &str, channel: &str, who: &str) -> Step {
    Step::Leave {
        app: app(),
        node: node(name),
        channel: channel.into(),
        user: user(who),
        deadline: LATER,
    }
}

pub(super) fn count(name: &str, channel: &str, count: usize, announce: bool) -> Step {
    Step::Count {
        app: app(),
        node: node(name),
        channel: channel.into(),
        count,
        announce,
        deadline: LATER,
    }
}

pub(super) fn enter(name: &str, who: &str) -> Step {
    Step::SignIn {
        app: app(),
        node: node(name),
        user: user(who),
        deadline: LATER,
    }
}

pub(super) fn exit(name: &str, who: &str) -> Step {
    Step::SignOut {
        app: app(),
        node: node(name),
        user: user(who),
        deadline: LATER,
    }
}

pub async fn view(who: &Peer, channel: &str) -> PresenceSnapshot {
    let (app, channel) = (app(), channel.to_owned());
    match who.take(Step::PresenceSnapshot { app, channel }).await {
        Answer::PresenceSnapshot(mut snapshot) => {
            snapshot
                .members
                .sort_by(|one, other| one.user_id.cmp(&other.user_id));
            snapshot
        }
        other => panic!("{other:?}"),
    }
}

async fn joined(who: &Peer, step: Step) -> (bool, Position, Vec<String>) {
    match who.take(step).await {
        Answer::Joined { added, snapshot } => {
            let members = snapshot
                .members
                .iter()
                .map(|member| member.user_id.to_string());
            let mut members: Vec<_> = members.collect();
            members.sort();
            (added, snapshot.position, members)
        }
        other => panic!("{other:?}"),
    }
}

pub async fn a_user_comes_with_the_first_node_and_leaves_with_the_last(stage: Stage) {
    let listener = stage.listener(&["presence-a"]).await;
    let who = stage.connect().await;
    let info = |text: &str| Member {
        user_id: user("é:u"),
        user_info: Some(text.into()),
    };
    let (added, first, members) = joined(&who, join("one", "presence-a", info("{\"n\":1}"))).await;
    assert!(added);
    assert_eq!(members, ["é:u"]);
    let (added, second, members) = joined(&who, join("two", "presence-a", info("{\"n\":2}"))).await;
    assert!(!added, "another node had them");
    assert_eq!((second, members), (first, vec!["é:u".to_owned()]));
    let seen = view(&who, "presence-a").await;
    assert_eq!(
        seen.members,
        [info("{\"n\":2}")],
        "the newest is known of them"
    );
    let (added, third, members) = joined(&who, join("two", "presence-a", member("b"))).await;
    assert!(added && third > first);
    assert_eq!(members, ["b", "é:u"]);

    assert_eq!(
        who.take(leave("one", "presence-a", "é:u")).await,
        Answer::Changed(false)
    );
    assert_eq!(
        who.take(leave("two", "presence-a", "é:u")).await,
        Answer::Changed(true)
    );
    let seen = view(&who, "presence-a").await;
    assert!(seen.position > third);
    assert_eq!(seen.members, [member("b")]);

    let (_, message) = listener.next_message().await;
    let added = Message::Added {
        position: first,
        user_id: user("é:u"),
        user_info: Some("{\"n\":1}"),
    };
    assert_eq!(Message::read(&message), Ok(added));
    let (_, message) = listener.next_message().await;
    let added = Message::Added {
        position: third,
        user_id: user("b"),
        user_info: None,
    };
    assert_eq!(Message::read(&message), Ok(added));
    let (_, message) = listener.next_message().await;
    let removed = Message::Removed {
        position: seen.position,
        user_id: user("é:u"),
    };
    assert_eq!(Message::read(&message), Ok(removed));
    listener.hears_nothing().await;
}

pub async fn what_is_said_twice_counts_once(stage: Stage) {
    let listener = stage.listener(&["presence-a"]).await;
    let who = stage.connect().await;
    let (added, first, _) = joined(&who, join("one", "presence-a", member("u"))).await;
    let (again, second, _) = joined(&who, join("one", "presence-a", member("u"))).await;
    assert_eq!((added, again, first), (true, false, second));
    for expected in [true, false] {
        let left = who.take(leave("one", "presence-a", "u")).await;
        assert_eq!(left, Answer::Changed(expected));
    }
    let nobody = who.take(leave("two", "presence-b", "u")).await;
    assert_eq!(nobody, Answer::Changed(false));
    for expected in [true, false] {
        assert_eq!(who.take(enter("one", "u")).await, Answer::Changed(expected));
    }
    for expected in [true, false] {
        assert_eq!(who.take(exit("one", "u")).await, Answer::Changed(expected));
    }
    for (before, after) in [(0, 2), (2, 2)] {
        let counted = who.take(count("one", "presence-a", 2, false)).await;
        assert_eq!(counted, Answer::Counted { before, after });
    }
    listener.next_message().await;
    listener.next_message().await;
    listener.hears_nothing().await;
}

pub async fn a_full_channel_takes_nobody_new(stage: Stage) {
    let who = stage.connect().await;
    let join = |name: &str, who: &str, most: usize| Step::Join {
        app: app(),
        node: node(name),
        channel: "presence-a".into(),
        member: member(who),
        max: most,
        view: true,
        deadline: LATER,
    };
    assert_eq!(who.take(join("one", "a", 0)).await, Answer::Full);
    for user in ["a", "b"] {
        joined(&who, join("one", user, 2)).await;
    }
    assert_eq!(who.take(join("two", "c", 2)).await, Answer::Full);
    let (added, _, members) = joined(&who, join("two", "b", 2)).await;
    assert_eq!((added, members.len()), (false, 2));
    let channels = ["presence-a", "presence-b"].map(str::to_owned).into();
    let counts = Step::UserCounts {
        app: app(),
        channels,
    };
    assert_eq!(who.take(counts).await, Answer::Numbers(vec![2, 0]));
    who.take(leave("one", "presence-a", "a")).await;
    let (added, ..) = joined(&who, join("two", "c", 2)).await;
    assert!(added);
}

pub async fn counts_are_added_up_over_all_nodes(stage: Stage) {
    let listener = stage.listener(&["a"]).await;
    let who = stage.connect().await;
    let counted = |before, after| Answer::Counted { before, after };
    assert_eq!(who.take(count("one", "a", 2, true)).await, counted(0, 2));
    assert_eq!(who.take(count("two", "a", 3, true)).await, counted(2, 5));
    assert_eq!(who.take(count("two", "ab", 1, false)).await, counted(0, 1));
    assert_eq!(who.take(count("two", "b", 4, false)).await, counted(0, 4));
    let elsewhere = |name: &str, channel: &str| Step::RemoteSubscriptions {
        app: app(),
        node: node(name),
        channel: channel.into(),
    };
    for (name, channel, count) in [
        ("one", "a", 3),
        ("two", "a", 2),
        ("three", "a", 5),
        ("two", "b", 0),
        ("one", "c", 0),
    ] {
        let answer = who.take(elsewhere(name, channel)).await;
        assert_eq!(answer, Answer::Numbers(vec![count]), "{channel} for {name}");
    }
    let all = |name: &str| Step::AllRemoteSubscriptions {
        app: app(),
        node: node(name),
        prefix: "a".into(),
    };
    let Answer::Counts(mut counts) = who.take(all("one")).await else {
        panic!("counts");
    };
    counts.sort();
    assert_eq!(counts, [("a".to_owned(), 3), ("ab".to_owned(), 1)]);
    let counts = who.take(all("two")).await;
    assert_eq!(counts, Answer::Counts(vec![("a".into(), 2)]));
    let presence = |prefix: &str| Step::AllRemoteSubscriptions {
        app: app(),
        node: node("one"),
        prefix: prefix.into(),
    };
    who.take(join("one", "presence-a", member("u"))).await;
    who.take(join("two", "presence-a", member("u"))).await;
    for (prefix, count) in [("", 0), ("pre", 0), ("presence-a", 0), ("presence-", 2)] {
        if count > 0 {
            who.take(self::count("two", "presence-a", count, false))
                .await;
        }
        let Answer::Counts(counts) = who.take(presence(prefix)).await else {
            panic!("counts");
        };
        let found: Vec<_> = counts
            .iter()
            .filter(|(name, _)| name == "presence-a")
            .collect();
        assert_eq!(found, [&("presence-a".to_owned(), count)], "{prefix:?}");
    }
    for prefix in ["presence-b", "presence-ab", "private-"] {
        assert_eq!(who.take(presence(prefix)).await, Answer::Counts(vec![]));
    }
    assert_eq!(who.take(count("two", "a", 0, true)).await, counted(5, 2));
    assert_eq!(who.take(count("one", "a", 0, true)).await, counted(2, 0));
    for told in [2, 5, 2] {
        let (_, message) = listener.next_message().await;
        assert_eq!(Message::read(&message), Ok(Message::Count(told)));
    }
    listener.hears_nothing().await;
}

pub async fn users_are_online_from_the_first_node_to_the_last(stage: Stage) {
    let listener = stage.connect().await;
    let topic = Topic::Users(app());
    listener.done(Step::Subscribe { topic }).await;
    let who = stage.connect().await;
    let online = || Step::Online {
        app: app(),
        users: vec![user("a"), user("b"), user("a")],
    };
    let nobody = Answer::Online {
        position: 0,
        online: vec![false; 3],
    };
    assert_eq!(who.take(online()).await, nobody);
    for (step, added) in [
        (enter("one", "a"), true),
        (enter("two", "a"), false),
        (exit("one", "a"), false),
    ] {
        assert_eq!(who.take(step).await, Answer::Changed(added));
    }
    let Answer::Online {
        position,
        online: is,
    } = who.take(online()).await
    else {
        panic!("who is online");
    };
    assert_eq!(is, [true, false, true]);
    assert_eq!(who.take(exit("two", "a")).await, Answer::Changed(true));
    let told = |position, online| Message::Online {
        position,
        user_id: UserId::new("a").unwrap(),
        online,
    };
    let (_, message) = listener.next_message().await;
    assert_eq!(Message::read(&message), Ok(told(position, true)));
    let (_, message) = listener.next_message().await;
    match Message::read(&message).unwrap() {
        Message::Online {
            position: later,
            online: false,
            ..
        } => assert!(later > position),
        other => panic!("{other:?}"),
    }
    listener.hears_nothing().await;
}

pub async fn connections_are_let_in_up_to_the_quota_of_all_nodes(stage: Stage) {
    let who = stage.connect().await;
    let connections = |name: &str, count| Step::Connections {
        app: app(),
        node: node(name),
        count,
        deadline: LATER,
    };
    let admit = |name| admit(name, 5);
    who.done(connections("one", 2)).await;
    who.done(connections("two", 1)).await;
    assert_eq!(who.take(admit("one")).await, Answer::Changed(true));
    assert_eq!(who.take(admit("three")).await, Answer::Changed(true));
    assert_eq!(who.take(admit("two")).await, Answer::Changed(false));
    who.done(connections("one", 0)).await;
    for expected in [true, true, true, false] {
        assert_eq!(who.take(admit("two")).await, Answer::Changed(expected));
    }
    for (name, count) in [("one", 5), ("two", 1), ("three", 4), ("nobody", 5)] {
        let elsewhere = Step::RemoteConnections {
            app: app(),
            node: node(name),
        };
        assert_eq!(
            who.take(elsewhere).await,
            Answer::Numbers(vec![count]),
            "{name}"
        );
    }
}

pub async fn connections_are_known_by_node(stage: Stage) {
    let who = stage.connect().await;
    let by_node = || Step::ConnectionsByNode { app: app() };
    assert_eq!(who.take(by_node()).await, Answer::Counts(vec![]));
    for (name, count) in [("one", 2), ("two", 1), ("three", 4), ("three", 0)] {
        who.done(Step::Connections {
            app: app(),
            node: node(name),
            count,
            deadline: LATER,
        })
        .await;
    }
    assert_eq!(who.take(admit("two", 5)).await, Answer::Changed(true));
    let Answer::Counts(mut counts) = who.take(by_node()).await else {
        panic!("counts");
    };
    counts.sort();
    assert_eq!(counts, [("one".to_owned(), 2), ("two".to_owned(), 2)]);
}
