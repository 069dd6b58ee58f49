//! Transition logs.

use std::time::Duration;

use fanfare_engine::testing::story::in_words;
use fanfare_engine::{DueTransitions, Present};
use tokio::time::sleep;

use super::{Peer, Stage, app, member, node, user};
use crate::backend::{Change, Counted, LogRules, Reply};

/// Long enough for the calls of a case, and short enough to wait for.
const GRACE: Duration = Duration::from_millis(400);
/// After this all that was logged is due.
const OVER: Duration = Duration::from_millis(600);

const ALL: LogRules = LogRules {
    channels: true,
    members: true,
    grace: GRACE,
    max_entries: 100_000,
};

fn join(channel: &str, who: &str, log: LogRules) -> Change {
    Change::Join {
        channel: channel.into(),
        member: member(who),
        max: usize::MAX,
        wants_members: false,
        log,
        reply: Reply::ignore(),
    }
}

fn leave(channel: &str, who: &str, log: LogRules) -> Change {
    Change::Leave {
        channel: channel.into(),
        user: user(who),
        log,
        reply: Reply::ignore(),
    }
}

fn count(channel: &str, count: usize, log: LogRules) -> Change {
    Change::Subscriptions {
        channel: channel.into(),
        count,
        announce: false,
        visited: false,
        log,
        reply: Reply::ignore(),
    }
}

/// Reads what is due.
async fn read(who: &Peer, max: usize) -> DueTransitions {
    who.ok(who.presence.due_transitions(&app(), max)).await
}

fn words(read: &DueTransitions) -> Vec<String> {
    let keys = read.due.iter().map(|transition| in_words(&transition.key));
    keys.collect()
}

/// Reads what is due, and settles it.
async fn take(who: &Peer) -> Vec<String> {
    let read = read(who, 10_000).await;
    let told = words(&read);
    who.ok(who.presence.settle_transitions(&app(), read.due))
        .await;
    told
}

async fn arm(who: &Peer, present: &[(&str, Option<&str>)], newest_stamp: i64, rules: LogRules) {
    let present = present.iter().map(|(channel, user)| Present {
        channel: (*channel).to_owned(),
        user: user.map(str::to_owned),
    });
    let armed = who
        .presence
        .arm_transitions(&app(), present.collect(), newest_stamp, rules);
    who.ok(armed).await;
}

pub async fn a_channel_and_its_members_are_logged_in_the_order_in_which_receivers_are_told(
    stage: Stage,
) {
    let who = stage.connect().await;
    let changes = vec![
        join("presence-a", "é u:", ALL),
        count("presence-a", 1, ALL),
        count("presence-a", 0, ALL),
        leave("presence-a", "é u:", ALL),
    ];
    who.report_all("one", changes).await;
    sleep(OVER).await;
    let part = read(&who, 3).await;
    assert_eq!(part.next_due, Some(Duration::ZERO), "there is more");
    let all = read(&who, 10).await;
    assert_eq!(all.due[..3], part.due, "it stays until it is settled");
    let told = [
        "occupied presence-a",
        "added presence-a é u:",
        "removed presence-a é u:",
        "vacated presence-a",
    ];
    assert_eq!(words(&all), told);
    let [occupied, added, removed, vacated] = [0, 1, 2, 3].map(|at| all.due[at].due_ms);
    // The steps of a report are written one after the other, perhaps a millisecond apart.
    let apart = 50..=100;
    assert!(apart.contains(&(added - occupied)), "{}", added - occupied);
    assert!(removed - occupied >= 400, "{}", removed - occupied);
    assert!(
        apart.contains(&(vacated - removed)),
        "{}",
        vacated - removed
    );
    assert_eq!(take(&who).await, told);
    let left = read(&who, 10).await;
    assert_eq!((left.due, left.next_due, left.refused), (vec![], None, 0));
    let long = LogRules {
        grace: Duration::from_secs(20),
        ..ALL
    };
    arm(&who, &[("gone", None)], 0, long).await;
    let later = read(&who, 10).await;
    assert_eq!(later.due, []);
    let next = later.next_due.expect("an entry that waits");
    assert!(next > long.grace / 2 && next <= Duration::from_millis(20_050));
}

pub async fn a_return_within_the_grace_cancels_the_end(stage: Stage) {
    let who = stage.connect().await;
    let come = |channel| vec![join(channel, "u", ALL), count(channel, 1, ALL)];
    let go = |channel| vec![leave(channel, "u", ALL), count(channel, 0, ALL)];
    who.report_all("one", come("presence-a")).await;
    sleep(OVER).await;
    assert_eq!(take(&who).await.len(), 2);
    who.report_all("one", go("presence-a")).await;
    // Another node's client is as good as the first.
    who.report_all("two", come("presence-a")).await;
    sleep(OVER).await;
    let told = ["occupied presence-a", "added presence-a u"];
    assert_eq!(take(&who).await, told, "what receivers know already");
    who.report_all("two", go("presence-a")).await;
    sleep(OVER).await;
    let told = ["removed presence-a u", "vacated presence-a"];
    assert_eq!(take(&who).await, told);
}

pub async fn a_visit_between_two_reports_is_logged_as_both(stage: Stage) {
    let who = stage.connect().await;
    let visit = |channel: &str, log: LogRules| Change::Subscriptions {
        channel: channel.into(),
        count: 0,
        announce: true,
        visited: true,
        log,
        reply: Reply::ignore(),
    };
    who.report_all("one", vec![count("b", 1, ALL)]).await;
    take(&who).await;
    let quiet = LogRules::default();
    let visits = vec![visit("a", ALL), visit("b", ALL), visit("c", quiet)];
    who.report_all("two", visits).await;
    sleep(OVER).await;
    let told = take(&who).await;
    assert_eq!(told, ["occupied a", "vacated a"], "b is occupied anyway");
}

pub async fn only_what_is_wanted_is_logged(stage: Stage) {
    let who = stage.connect().await;
    let channels = LogRules {
        members: false,
        ..ALL
    };
    let members = LogRules {
        channels: false,
        ..ALL
    };
    for (rules, channel, told) in [
        (LogRules::default(), "presence-a", vec![]),
        (
            channels,
            "presence-b",
            vec!["occupied presence-b", "vacated presence-b"],
        ),
        (
            members,
            "presence-c",
            vec!["added presence-c u", "removed presence-c u"],
        ),
    ] {
        let changes = vec![
            join(channel, "u", rules),
            count(channel, 1, rules),
            count(channel, 0, rules),
            leave(channel, "u", rules),
        ];
        who.report_all("one", changes).await;
        sleep(OVER).await;
        assert_eq!(take(&who).await, told);
    }
    who.report_all("one", vec![count("a", 1, ALL)]).await;
    who.ok(who.presence.forget_transitions(&app())).await;
    assert_eq!(take(&who).await, Vec::<String>::new());
}

pub async fn an_entry_that_is_due_at_another_time_is_not_settled(stage: Stage) {
    let who = stage.connect().await;
    let visit = || vec![count("a", 1, ALL), count("a", 0, ALL)];
    who.report_all("one", visit()).await;
    sleep(OVER).await;
    let earlier = read(&who, 10).await;
    assert_eq!(words(&earlier), ["occupied a", "vacated a"]);
    sleep(Duration::from_millis(5)).await;
    who.report_all("one", visit()).await;
    who.ok(who.presence.settle_transitions(&app(), earlier.due))
        .await;
    sleep(OVER).await;
    assert_eq!(take(&who).await, ["occupied a", "vacated a"]);
    assert_eq!(take(&who).await, Vec::<String>::new());
}

pub async fn a_return_after_the_end_was_read_outlives_what_is_settled(stage: Stage) {
    let who = stage.connect().await;
    let come = || vec![join("presence-a", "u", ALL), count("b", 1, ALL)];
    let go = || vec![leave("presence-a", "u", ALL), count("b", 0, ALL)];
    who.report_all("one", come()).await;
    who.report_all("one", go()).await;
    sleep(OVER).await;
    let visit = read(&who, 10).await;
    assert_eq!(visit.due.len(), 6, "beginnings and ends");
    who.report_all("one", come()).await;
    who.ok(who.presence.settle_transitions(&app(), visit.due))
        .await;
    sleep(OVER).await;
    let mut told = take(&who).await;
    told.sort();
    assert_eq!(
        told,
        ["added presence-a u", "occupied b", "occupied presence-a"]
    );
}

pub async fn the_end_of_what_is_present_again_is_dropped(stage: Stage) {
    let who = stage.connect().await;
    let channels = ["presence-a", "b"];
    let come = |log| {
        vec![
            join(channels[0], "u", log),
            count(channels[0], 1, log),
            count(channels[1], 1, log),
        ]
    };
    who.report_all("one", come(ALL)).await;
    let go = vec![
        count(channels[0], 0, ALL),
        leave(channels[0], "u", ALL),
        count(channels[1], 0, ALL),
    ];
    who.report_all("one", go).await;
    sleep(OVER).await;
    assert_eq!(read(&who, 10).await.due.len(), 6);
    // A node that logs nothing, because its version doesn't know the log.
    who.report_all("two", come(LogRules::default())).await;
    let told = take(&who).await;
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().all(|told| !told.starts_with("vacated")));
    assert!(told.iter().all(|told| !told.starts_with("removed")));
    assert_eq!(read(&who, 10).await.next_due, None);
}

pub async fn a_channel_is_occupied_while_it_has_members_or_subscriptions(stage: Stage) {
    let who = stage.connect().await;
    who.report_all("one", vec![join("presence-a", "u", ALL)])
        .await;
    sleep(OVER).await;
    let told = ["occupied presence-a", "added presence-a u"];
    assert_eq!(
        take(&who).await,
        told,
        "its subscriptions are not reported yet"
    );
    let counted = who.count("one", "presence-a", 0, false).await;
    assert_eq!((counted.before, counted.after), (0, 0));
    who.report_all("two", vec![count("presence-a", 1, ALL)])
        .await;
    who.report_all("one", vec![leave("presence-a", "u", ALL)])
        .await;
    sleep(OVER).await;
    let told = ["occupied presence-a", "removed presence-a u"];
    assert_eq!(take(&who).await, told);
    who.report_all("one", vec![join("presence-a", "v", ALL)])
        .await;
    who.report_all("two", vec![count("presence-a", 0, ALL)])
        .await;
    sleep(OVER).await;
    assert_eq!(
        take(&who).await,
        ["added presence-a v"],
        "a member is there"
    );
    who.report_all("one", vec![leave("presence-a", "v", ALL)])
        .await;
    sleep(OVER).await;
    let told = ["removed presence-a v", "vacated presence-a"];
    assert_eq!(take(&who).await, told);
}

pub async fn what_receivers_are_owed_is_armed_unless_it_is_present(stage: Stage) {
    let who = stage.connect().await;
    let quiet = LogRules::default();
    let changes = vec![
        join("presence-a", "there", quiet),
        count("here", 1, quiet),
        count("leaving", 1, ALL),
        count("leaving", 0, ALL),
    ];
    who.report_all("one", changes).await;
    take(&who).await;
    let present = [
        ("presence-a", None),
        ("presence-a", Some("there")),
        ("presence-a", Some("gone")),
        ("presence-b", Some("gone")),
        ("here", None),
        ("leaving", None),
        ("gone", None),
    ];
    let later = LogRules {
        grace: 2 * GRACE,
        ..ALL
    };
    arm(&who, &present, 0, later).await;
    sleep(2 * OVER).await;
    let told = [
        "vacated leaving", // It waited already.
        "removed presence-a gone",
        "removed presence-b gone",
        "vacated gone",
    ];
    assert_eq!(take(&who).await, told);
}

pub async fn stamps_rise_with_every_read(stage: Stage) {
    let (one, other) = (stage.connect().await, stage.connect().await);
    let mut newest = 0;
    for who in [&one, &other, &one, &other] {
        let stamp = read(who, 1).await.stamp;
        assert!(stamp > newest, "{stamp} after {newest}");
        newest = stamp;
    }
    let ahead = newest + 3_600_000_000;
    arm(&one, &[], ahead, ALL).await;
    arm(&one, &[], newest, ALL).await;
    assert_eq!(read(&other, 1).await.stamp, ahead + 1);
    assert_eq!(read(&one, 1).await.stamp, ahead + 2);
}

pub async fn a_full_log_refuses_entries_and_counts_them(stage: Stage) {
    let who = stage.connect().await;
    let few = LogRules {
        max_entries: 2,
        ..ALL
    };
    let changes = ["a", "b", "c", "d"].map(|channel| count(channel, 1, few));
    who.report_all("one", changes.into()).await;
    sleep(Duration::from_millis(5)).await;
    let full = read(&who, 10).await;
    assert_eq!((words(&full).len(), full.refused), (2, 2));
    assert_eq!(take(&who).await, ["occupied a", "occupied b"]);
    who.report_all("one", vec![count("e", 1, few)]).await;
    let read = read(&who, 10).await;
    assert_eq!(
        (words(&read), read.refused),
        (vec!["occupied e".to_owned()], 2)
    );
}

pub async fn what_a_dead_node_had_is_logged_when_it_is_reaped(stage: Stage) {
    let who = stage.connect().await;
    let changes = vec![
        join("presence-a", "alone", ALL),
        join("presence-a", "both", ALL),
        join("presence-b", "alone", ALL),
        count("presence-a", 2, ALL),
        count("c", 1, ALL),
    ];
    who.report_all("dead", changes).await;
    who.report_all("alive", vec![join("presence-a", "both", ALL)])
        .await;
    sleep(OVER).await;
    assert_eq!(take(&who).await.len(), 6);
    let longer = LogRules {
        grace: 2 * GRACE,
        ..ALL
    };
    let reap = || who.membership.reap(&app(), &node("dead"), longer);
    while who.ok(reap()).await.more {}
    // A client that returns before its end was read cancels it.
    who.report_all("alive", vec![count("c", 1, ALL)]).await;
    sleep(2 * OVER).await;
    let mut told = take(&who).await;
    told.sort();
    let expected = [
        "occupied c",
        "removed presence-a alone",
        "removed presence-b alone",
        "vacated presence-b",
    ];
    assert_eq!(told, expected);
    let counted = who.count("alive", "c", 1, false).await;
    assert_eq!(
        counted,
        Counted {
            before: 1,
            after: 1
        }
    );
}

pub async fn thousands_of_entries_are_read_part_by_part(stage: Stage) {
    const MANY: usize = 10_000;
    const PART: usize = 1000;
    let who = stage.connect().await;
    let long = LogRules {
        grace: Duration::from_secs(20),
        ..ALL
    };
    for from in (0..MANY).step_by(PART) {
        let present: Vec<_> = (from..from + PART).map(|n| format!("u{n}")).collect();
        let joins = present.iter().map(|user| join("presence-a", user, long));
        who.report_all("one", joins.collect()).await;
    }
    sleep(Duration::from_millis(60)).await;
    let (mut told, mut reads) = (Vec::new(), 0);
    loop {
        let read = read(&who, PART).await;
        assert!(read.due.len() <= PART);
        told.extend(words(&read));
        let more = read.next_due.is_some();
        who.ok(who.presence.settle_transitions(&app(), read.due))
            .await;
        reads += 1;
        if !more {
            break;
        }
    }
    told.sort();
    told.dedup();
    assert_eq!((told.len(), reads), (MANY + 1, 11));
    let users: Vec<_> = (0..MANY).map(|n| format!("u{n}")).collect();
    let owed: Vec<_> = users
        .iter()
        .map(|user| ("presence-b", Some(&**user)))
        .collect();
    let now = LogRules {
        grace: Duration::ZERO,
        ..ALL
    };
    arm(&who, &owed, 0, now).await;
    assert_eq!(take(&who).await.len(), MANY);
}
