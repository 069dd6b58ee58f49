//! What a client asks for arrives as fast as its socket takes it, and never counts as reading too slowly.

use std::collections::VecDeque;
use std::time::Duration;

use fanfare_engine::{Options, Reading};
use fanfare_protocol::{AppSettings, HistoryRule, Limits};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::node::{
    Client, KEY, Node, Seen, data, definition, options, settings, settle, with_node, with_options,
};

const TICK: Duration = Duration::from_millis(10);
/// Bytes in a tick on a link of 10 Mbit/s.
const TEN_MBIT: usize = 12_500;

/// Reads on as the server's readers do, from a client that sends `messages` at once on a link that takes so many bytes each
/// tick; returns when all was handled and written.
async fn read(client: &Client, messages: Vec<Value>, link: usize) -> Duration {
    let start = Instant::now();
    let mut messages: VecDeque<_> = messages.into();
    let session = client.session();
    loop {
        client.allow(link);
        session.flush();
        session.note_activity();
        while session.reading() == Reading::Now
            && let Some(message) = messages.pop_front()
        {
            session.handle(&message.to_string()).await;
            session.count_message();
        }
        session.flush();
        settle().await;
        assert!(!session.is_closing(), "{:?}", client.seen().last());
        if messages.is_empty() && session.is_flushed() {
            client.allow(usize::MAX);
            return start.elapsed();
        }
        sleep(TICK).await;
    }
}

fn subscribe(channel: &str) -> Value {
    json!({"event": "pusher:subscribe", "data": {"channel": channel}})
}

fn large_events(node: &Node) {
    let limits = Limits {
        event_data: 1_000_000,
        client_event_data: 1_000_000,
        cache_bytes: 64 << 20,
        presence_member_size: 2_000_000,
        ..Limits::HOSTED
    };
    let settings = AppSettings {
        limits,
        ..settings()
    };
    node.engine
        .update_apps(vec![definition("1", KEY, settings)], &[]);
}

/// As [`Node::publish`], with data of any length.
async fn publish(node: &Node, channel: &str, name: &str, data: &str) {
    let limits = node.app().settings().limits.clone();
    let body = json!({"name": name, "channel": channel, "data": data}).to_string();
    let event = fanfare_protocol::api::Event::parse(body.as_bytes(), &limits).unwrap();
    let published = node.engine.publish(&node.app(), &[event], None).await;
    published.map(|_| ()).unwrap();
    settle().await;
}

/// The channels whose events arrived, in order.
fn channels_of(events: &[Value], name: &str) -> Vec<String> {
    let named = events.iter().filter(|event| event["event"] == name);
    named
        .map(|event| event["channel"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn five_hundred_kept_events_arrive_on_a_slow_link_in_the_time_it_needs() {
    let options = Options {
        max_subscriptions: 1000,
        ..options(1)
    };
    with_options(options, async |node| {
        let channels: Vec<_> = (0..500).map(|number| format!("cache-{number}")).collect();
        for channel in &channels {
            node.publish(channel, "kept", &"x".repeat(10_000)).await;
        }
        let client = node.connect();
        let messages = channels.iter().map(|channel| subscribe(channel)).collect();
        let took = read(&client, messages, TEN_MBIT).await;
        let seen = client.events();
        assert_eq!(channels_of(&seen, "kept"), channels);
        let bytes = 500 * 10_200;
        let needed = TICK * (bytes / TEN_MBIT) as u32;
        assert!(took < needed * 11 / 10, "{took:?} of {needed:?}");
    });
}

#[test]
fn three_kept_events_that_are_larger_than_the_bound_together_arrive_once_each() {
    with_node(1, async |node| {
        large_events(&node);
        let channels = ["cache-a", "cache-b", "cache-c"];
        for channel in channels {
            publish(&node, channel, "kept", &"x".repeat(600_000)).await;
        }
        let client = node.connect();
        let messages = channels.map(subscribe).to_vec();
        read(&client, messages, TEN_MBIT).await;
        assert_eq!(channels_of(&client.events(), "kept"), channels);
    });
}

#[test]
fn a_roster_of_ten_megabytes_arrives_and_what_happens_meanwhile_follows_it() {
    with_node(1, async |node| {
        large_events(&node);
        let info = "x".repeat(1_000_000);
        let members: Vec<_> = (0..10).map(|_| node.connect()).collect();
        for (number, member) in members.iter().enumerate() {
            let data = format!(r#"{{"user_id":"u{number}","user_info":{{"text":"{info}"}}}}"#);
            member.join("presence-a", &data).await;
            let told = member.events().remove(0);
            assert_eq!(
                told["event"], "pusher_internal:subscription_succeeded",
                "{told:.300}"
            );
        }
        let client = node.connect();
        let auth = client.auth("presence-a", Some(r#"{"user_id":"late"}"#));
        let content =
            json!({"channel": "presence-a", "auth": auth, "channel_data": r#"{"user_id":"late"}"#});
        let join = json!({"event": "pusher:subscribe", "data": content});
        let reading = read(&client, vec![join], TEN_MBIT);
        let meanwhile = async {
            sleep(Duration::from_secs(4)).await;
            node.publish("presence-a", "live", "d").await;
        };
        let (took, ()) = tokio::join!(reading, meanwhile);
        assert!(
            took > Duration::from_secs(7) && took < Duration::from_secs(9),
            "{took:?}: {:.300}",
            format!("{:?}", client.seen())
        );
        let seen = client.events();
        let names: Vec<_> = seen
            .iter()
            .map(|event| event["event"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["pusher_internal:subscription_succeeded", "live"]);
        assert_eq!(data(&seen[0])["presence"]["count"], 11);
    });
}

#[test]
fn a_history_far_larger_than_the_outbox_is_replayed_in_order_and_live_events_follow() {
    with_node(1, async |node| {
        let rule = HistoryRule {
            channels: "room".into(),
            size: 1000,
            ttl: 600,
        };
        let settings = AppSettings {
            history: vec![rule],
            ..settings()
        };
        node.engine
            .update_apps(vec![definition("1", KEY, settings)], &[]);
        for number in 0..90 {
            let text = format!("{number} {}", "x".repeat(10_000));
            node.publish("room", "e", &text).await;
        }
        let client = node.connect();
        let rewind = json!({"channel": "room", "recover": true, "rewind": 90});
        let message = json!({"event": "pusher:subscribe", "data": rewind});
        let reading = read(&client, vec![message], 2000);
        let meanwhile = async {
            for number in 90..100 {
                sleep(Duration::from_millis(300)).await;
                node.publish("room", "e", &format!("{number} live")).await;
            }
        };
        tokio::join!(reading, meanwhile);
        let seen = client.events();
        let numbers: Vec<usize> = seen[1..]
            .iter()
            .map(|event| {
                let text = event["data"].as_str().unwrap();
                text.split(' ').next().unwrap().parse().unwrap()
            })
            .collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn events_of_others_behind_what_was_asked_for_still_say_who_is_too_slow() {
    with_node(1, async |node| {
        large_events(&node);
        publish(&node, "cache-a", "kept", &"x".repeat(900_000)).await;
        let client = node.connect();
        client.subscribe("live").await;
        client.events();
        client.allow(1000);
        client.subscribe("cache-a").await;
        assert!(!client.session().is_closing());
        for _ in 0..12 {
            node.publish("live", "e", &"x".repeat(5000)).await;
        }
        assert!(!client.session().is_closing(), "60 of 64 KiB wait");
        for _ in 0..2 {
            node.publish("live", "e", &"x".repeat(5000)).await;
        }
        assert!(client.session().is_closing());
    });
}

#[test]
fn one_live_event_larger_than_the_bound_passes_and_small_ones_follow_it() {
    with_node(1, async |node| {
        large_events(&node);
        let client = node.connect();
        client.subscribe("a").await;
        client.events();
        client.allow(1000);
        publish(&node, "a", "large", &"x".repeat(900_000)).await;
        for _ in 0..10 {
            node.publish("a", "small", "d").await;
        }
        read(&client, Vec::new(), TEN_MBIT).await;
        let seen = client.events();
        assert_eq!(channels_of(&seen, "large").len(), 1);
        assert_eq!(channels_of(&seen, "small").len(), 10);
    });
}

#[test]
fn a_burst_that_the_socket_takes_is_not_held_against_the_client() {
    with_node(1, async |node| {
        large_events(&node);
        let client = node.connect();
        client.subscribe("a").await;
        client.events();
        let limits = node.app().settings().limits.clone();
        let text = "x".repeat(600_000);
        let body = json!({"name": "e", "channel": "a", "data": text}).to_string();
        let event = || fanfare_protocol::api::Event::parse(body.as_bytes(), &limits).unwrap();
        let burst = [event(), event(), event(), event()];
        let published = node.engine.publish(&node.app(), &burst, None).await;
        published
            .map(|_| ())
            .unwrap_or_else(|error| panic!("{error}"));
        settle().await;
        assert_eq!(client.names().len(), 4);
    });
}

#[test]
fn a_client_that_is_not_read_on_is_heard_by_what_it_takes_and_closed_when_it_takes_nothing() {
    with_node(1, async |node| {
        large_events(&node);
        publish(&node, "cache-a", "kept", &"x".repeat(900_000)).await;
        let client = node.connect();
        client.allow(1000);
        client.subscribe("cache-a").await;
        let end = Instant::now() + Duration::from_secs(400);
        while Instant::now() < end {
            sleep(Duration::from_secs(20)).await;
            client.allow(1000);
            client.session().flush();
        }
        assert!(!client.session().is_closing(), "it reads, though slowly");
        sleep(Duration::from_secs(32)).await;
        assert!(client.session().is_gone(), "it takes nothing");
    });
}

#[test]
fn a_client_that_never_reads_is_closed_whatever_it_says() {
    with_node(1, async |node| {
        let client = node.connect();
        client.subscribe("a").await;
        client.events();
        client.allow(0);
        node.publish("a", "e", "d").await;
        for _ in 0..28 {
            sleep(Duration::from_secs(1)).await;
            client.session().note_activity();
        }
        assert!(!client.session().is_closing());
        for _ in 0..4 {
            sleep(Duration::from_secs(1)).await;
            client.session().note_activity();
        }
        assert!(client.session().is_closing());
        client.allow(usize::MAX);
        client.session().flush();
        assert_eq!(client.seen().last(), Some(&Seen::Close(4201)));
    });
}

#[test]
fn messages_are_handled_at_a_rate_and_a_burst_at_once() {
    let options = Options {
        messages_per_second: 40,
        max_subscriptions: 100,
        ..options(1)
    };
    with_options(options, async |node| {
        let client = node.connect();
        // Client events have a rate of their own, ten a second, which is on top.
        let took = read(&client, vec![json!({}); 151 + 500], usize::MAX).await;
        let needed = Duration::from_secs(10);
        assert!(took >= needed && took < needed * 11 / 10, "{took:?}");
        assert_eq!(client.events().len(), 651, "each is answered");
    });
}

#[test]
fn client_events_without_a_rate_leave_that_of_all_other_messages() {
    let options = Options {
        messages_per_second: 40,
        max_subscriptions: 100,
        ..options(1)
    };
    with_options(options, async |node| {
        let mut unlimited = settings();
        unlimited.limits.client_events_per_second = 0;
        node.engine
            .update_apps(vec![definition("1", KEY, unlimited)], &[]);
        let client = node.connect();
        client.subscribe("private-a").await;
        let event = json!({"event": "client-a", "channel": "private-a", "data": {}});
        let took = read(&client, vec![event; 5000], usize::MAX).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        for other in [
            json!({}),
            json!({"event": "pusher:ping", "data": {}}),
            json!({"event": "client-a", "channel": "private-other", "data": {}}),
        ] {
            let took = read(&node.connect(), vec![other; 141 + 400], usize::MAX).await;
            let needed = Duration::from_secs(10);
            assert!(took >= needed && took < needed * 11 / 10, "{took:?}");
        }
    });
}
