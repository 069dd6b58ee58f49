//! Histories of channels.

use std::time::Duration;

use crate::Message;
use crate::backend::{HistoryPage, HistoryRequest, Keep, Publication};
use bytes::Bytes;
use fanfare_engine::{HistoryQuery, Retention};
use fanfare_protocol::{HistoryPosition, Unrecovered};
use tokio::time::sleep;

use super::{Peer, Stage, app, publication};

const LONG: Retention = Retention {
    size: 100,
    ttl: Duration::from_secs(60),
    rules: 0,
};

fn recorded(channel: &str, data: &str, retention: Retention) -> Publication {
    Publication {
        history: Some(retention),
        ..publication(channel, data)
    }
}

async fn record(who: &Peer, numbers: std::ops::Range<usize>, retention: Retention) {
    for number in numbers {
        let publication = recorded("a", &number.to_string(), retention);
        who.publish_all(vec![publication]).await;
    }
}

async fn ask(who: &Peer, channel: &str, query: HistoryQuery) -> HistoryPage {
    ask_under(who, channel, query, 0, usize::MAX).await
}

async fn ask_under(
    who: &Peer,
    channel: &str,
    query: HistoryQuery,
    rules: u64,
    room: usize,
) -> HistoryPage {
    let request = HistoryRequest {
        app: app(),
        channel: channel.into(),
        query,
        rules,
        room,
    };
    who.ok(who.broker.history(request)).await
}

pub async fn length_of_an_empty_one(who: &Peer) -> usize {
    let page = ask(who, "empty", HistoryQuery::Last(9)).await;
    page.messages.map_or(0, |messages| messages.len())
}

fn texts(messages: &[Bytes]) -> Vec<&str> {
    let text = |message| match Message::read(message).unwrap() {
        Message::Event { data, .. } => data,
        other => panic!("{other:?}"),
    };
    messages.iter().map(|message| text(message)).collect()
}

/// The events, by their data.
async fn held(who: &Peer, query: HistoryQuery) -> Result<Vec<String>, Unrecovered> {
    let messages = ask(who, "a", query).await.messages?;
    Ok(texts(&messages).into_iter().map(str::to_owned).collect())
}

fn at(page: &HistoryPage, offset: u64) -> HistoryPosition {
    HistoryPosition {
        offset,
        ..page.position.clone()
    }
}

pub async fn a_history_answers_with_what_came_after_a_position(stage: Stage) {
    let subscriber = stage.subscriber(&["a"]).await;
    let who = stage.connect().await;
    let empty = ask(&who, "a", HistoryQuery::Last(9)).await;
    assert_eq!(empty.messages, Ok(vec![]));
    assert_eq!((empty.position.offset, empty.newest), (0, 0));
    record(&who, 1..6, LONG).await;
    let page = ask(&who, "a", HistoryQuery::After(empty.position.clone())).await;
    assert_eq!(
        page.position,
        at(&empty, 5),
        "counted since it was first asked for"
    );
    let messages = page.messages.clone().unwrap();
    assert_eq!(texts(&messages), ["1", "2", "3", "4", "5"]);
    let mut newest = 0;
    for (message, offset) in messages.iter().zip(1..) {
        assert_eq!(
            subscriber.next_message().await.1,
            message,
            "held as it was published"
        );
        match Message::read(message).unwrap() {
            Message::Event {
                position: Some(position),
                recorded: Some(recorded),
                keep: false,
                ..
            } => {
                assert_eq!(recorded, at(&empty, offset));
                assert!(position > newest);
                newest = position;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(page.newest, newest);
    let after = |offset| HistoryQuery::After(at(&page, offset));
    assert_eq!(held(&who, after(3)).await, Ok(vec!["4".into(), "5".into()]));
    assert_eq!(held(&who, after(5)).await, Ok(vec![]));
    assert_eq!(held(&who, after(6)).await, Err(Unrecovered::Expired));
    let other = HistoryPosition {
        epoch: "another".into(),
        offset: 3,
    };
    let expired = held(&who, HistoryQuery::After(other)).await;
    assert_eq!(expired, Err(Unrecovered::Expired));
    who.publish_all(vec![publication("a", "not recorded")])
        .await;
    assert_eq!(held(&who, after(5)).await, Ok(vec![]));
}

pub async fn a_history_is_read_forward_and_backward_from_any_position(stage: Stage) {
    let who = stage.connect().await;
    record(&who, 1..8, Retention { size: 5, ..LONG }).await;
    let page = ask(&who, "a", HistoryQuery::Last(0)).await;
    let from = |offset| Some(at(&page, offset));
    for (query, expected) in [
        (HistoryQuery::Last(2), "6 7"),
        (HistoryQuery::Last(9), "3 4 5 6 7"),
        (HistoryQuery::Forward(None, 2), "3 4"),
        (HistoryQuery::Forward(from(4), 2), "5 6"),
        (HistoryQuery::Forward(from(2), 2), "3 4"),
        (HistoryQuery::Forward(from(7), 2), ""),
        (HistoryQuery::Backward(None, 2), "7 6"),
        (HistoryQuery::Backward(from(7), 2), "6 5"),
        (HistoryQuery::Backward(from(5), 9), "4 3"),
        (HistoryQuery::Backward(from(3), 9), ""),
        (HistoryQuery::Backward(from(1), 9), ""),
        (HistoryQuery::After(at(&page, 2)), "3 4 5 6 7"),
    ] {
        let words = format!("{query:?}");
        let found = held(&who, query).await.unwrap();
        assert_eq!(found.join(" "), expected, "{words}");
    }
    for query in [
        HistoryQuery::After(at(&page, 1)),
        HistoryQuery::Forward(from(1), 2),
    ] {
        assert_eq!(held(&who, query).await, Err(Unrecovered::TooOld));
    }
}

pub async fn a_history_holds_so_many_events_and_for_so_long(stage: Stage) {
    let who = stage.connect().await;
    let short = Retention {
        size: 100,
        ttl: Duration::from_millis(1500),
        rules: 0,
    };
    record(&who, 1..3, short).await;
    sleep(Duration::from_millis(1000)).await;
    record(&who, 3..5, short).await;
    let page = ask(&who, "a", HistoryQuery::Last(9)).await;
    assert_eq!(texts(&page.messages.clone().unwrap()).len(), 4);
    sleep(Duration::from_millis(800)).await;
    let left = held(&who, HistoryQuery::Last(9)).await.unwrap();
    assert_eq!(left.join(" "), "3 4");
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(held(&who, HistoryQuery::Last(9)).await, Ok(vec![]));
    let nothing_missed = held(&who, HistoryQuery::After(at(&page, 4))).await;
    assert_eq!(
        nothing_missed,
        Ok(vec![]),
        "it is known that there was nothing more"
    );
    let missed = held(&who, HistoryQuery::After(at(&page, 3))).await;
    assert_eq!(missed, Err(Unrecovered::TooOld));
    record(&who, 5..6, short).await;
    let next = ask(&who, "a", HistoryQuery::After(at(&page, 4))).await;
    assert_eq!(next.position, at(&page, 5), "it is counted on");
    assert_eq!(texts(&next.messages.unwrap()), ["5"]);
}

pub async fn histories_of_two_channels_have_different_epochs(stage: Stage) {
    let who = stage.connect().await;
    record(&who, 1..3, LONG).await;
    let one = ask(&who, "a", HistoryQuery::Last(9)).await;
    let other = ask(&who, "b", HistoryQuery::Last(9)).await;
    assert_ne!(one.position.epoch, other.position.epoch);
    assert_eq!(other.messages, Ok(vec![]));
}

pub async fn a_history_is_of_its_rules(stage: Stage) {
    let who = stage.connect().await;
    record(&who, 1..3, LONG).await;
    let before = ask(&who, "a", HistoryQuery::Last(9)).await;
    let others = u64::MAX - 1;
    let asked = HistoryQuery::After(before.position.clone());
    let page = ask_under(&who, "a", asked, others, usize::MAX).await;
    assert_eq!(page.messages, Err(Unrecovered::Expired));
    assert_ne!(page.position.epoch, before.position.epoch);
    let rules = Retention {
        rules: others,
        ..LONG
    };
    record(&who, 3..4, rules).await;
    let page = ask_under(&who, "a", HistoryQuery::Last(9), others, usize::MAX).await;
    assert_eq!(texts(&page.messages.clone().unwrap()), ["3"]);
    assert_eq!(page.position.offset, 1);
    record(&who, 4..5, LONG).await;
    let page = ask(&who, "a", HistoryQuery::Last(9)).await;
    assert_eq!(texts(&page.messages.unwrap()), ["4"], "it was begun anew");
}

pub async fn a_history_gives_what_there_is_room_for(stage: Stage) {
    let who = stage.connect().await;
    let begin = ask(&who, "a", HistoryQuery::Last(0)).await;
    record(&who, 1..6, LONG).await;
    let all = ask(&who, "a", HistoryQuery::Last(9))
        .await
        .messages
        .unwrap();
    let room = all.iter().rev().take(2).map(Bytes::len).sum();
    let last = ask_under(&who, "a", HistoryQuery::Last(9), 0, room).await;
    assert_eq!(texts(&last.messages.unwrap()), ["4", "5"], "the newest");
    let after = |offset| HistoryQuery::After(at(&begin, offset));
    let page = ask_under(&who, "a", after(3), 0, room).await;
    assert_eq!(texts(&page.messages.unwrap()), ["4", "5"]);
    let page = ask_under(&who, "a", after(2), 0, room).await;
    assert_eq!(page.messages, Err(Unrecovered::TooLarge), "all or none");
    for (query, expected) in [
        (HistoryQuery::Forward(None, 4), vec!["1", "2", "3", "4"]),
        (HistoryQuery::Backward(None, 3), vec!["5", "4", "3"]),
    ] {
        let page = ask_under(&who, "a", query, 0, room).await;
        assert_eq!(texts(&page.messages.unwrap()), expected);
    }
}

pub async fn an_event_can_be_cached_and_recorded(stage: Stage) {
    let subscriber = stage.subscriber(&["cache-a"]).await;
    let who = stage.connect().await;
    let both = Publication {
        keep: Some(Keep {
            ttl: LONG.ttl,
            max_bytes: 10_000,
        }),
        ..recorded("cache-a", "both", LONG)
    };
    who.publish_all(vec![both]).await;
    let (_, message) = subscriber.next_message().await;
    let event = Message::read(&message).unwrap();
    let is_both = matches!(
        event,
        Message::Event {
            keep: true,
            recorded: Some(_),
            ..
        }
    );
    assert!(is_both, "{event:?}");
    let cached = who.ok(who.broker.cached(&app(), "cache-a")).await;
    let cached = cached.expect("a cached event");
    assert_eq!(cached.message, message);
    let history = ask(&who, "cache-a", HistoryQuery::Last(1)).await;
    assert_eq!(history.messages, Ok(vec![message]));
}
