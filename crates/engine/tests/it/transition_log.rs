//! What receivers are told of channels and members, and the other channel events that the outside
//! wants: C-093 to C-097.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::testing::story::Story;
use fanfare_engine::testing::{self, LocalNode};
use fanfare_engine::{Engine, Notice, Notices, Options, Present, WantedNotices};
use fanfare_protocol::{AppId, AppSettings, ChannelName};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::node::{KEY, Node, definition, options, settings, settle, with_options};
use crate::users::sign_in;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn all_wanted() -> WantedNotices {
    WantedNotices {
        channels: true,
        members: true,
        client_events: true,
        cache_misses: true,
        subscription_counts: true,
    }
}

fn want(node: &Node, wanted_notices: WantedNotices, settings: AppSettings) {
    let app = definition("1", KEY, settings);
    let app = fanfare_engine::AppDefinition {
        wanted_notices,
        ..app
    };
    node.engine.update_apps(vec![app], &[]);
}

/// A node whose app wants all channel events, and what its receivers are told.
struct Told {
    node: Node,
    story: Mutex<Story>,
}

impl Told {
    /// Returns what is due, and notes that receivers were told.
    async fn now(&self) -> Vec<String> {
        let app = AppId::parse("1").unwrap();
        let mut story = std::mem::take(&mut *self.story.lock());
        let told = story
            .drain(&**self.node.engine.transition_log(), &app)
            .await;
        *self.story.lock() = story;
        told
    }

    async fn after(&self, time: Duration) -> Vec<String> {
        sleep(time).await;
        self.now().await
    }

    async fn next_due(&self) -> Option<Duration> {
        let log = self.node.engine.transition_log();
        let app = AppId::parse("1").unwrap();
        let read = log.due(&app, 0).await.unwrap();
        read.next_due
    }
}

fn with_receivers<F: Future<Output = ()>>(test: impl FnOnce(Told) -> F) {
    with_limited_receivers(options(2), test);
}

fn with_limited_receivers<F: Future<Output = ()>>(options: Options, test: impl FnOnce(Told) -> F) {
    with_options(options, async |node| {
        want(&node, all_wanted(), settings());
        let story = Mutex::default();
        test(Told { node, story }).await;
    });
}

fn user(name: &str) -> String {
    json!({"user_id": name}).to_string()
}

#[test]
fn a_short_visit_is_told_as_both_its_beginning_and_its_end() {
    with_receivers(async |told| {
        let mut client = told.node.connect();
        client.join("presence-a", &user("u")).await;
        client.leave().await;
        assert_eq!(told.now().await, ["occupied presence-a"]);
        assert_eq!(told.after(50 * MILLISECOND).await, ["added presence-a u"]);
        assert!(told.after(2900 * MILLISECOND).await.is_empty());
        assert_eq!(told.after(50 * MILLISECOND).await, ["removed presence-a u"]);
        assert_eq!(told.next_due().await, Some(50 * MILLISECOND));
        assert_eq!(told.after(50 * MILLISECOND).await, ["vacated presence-a"]);
        assert_eq!(told.next_due().await, None);
    });
}

#[test]
fn what_is_told_late_is_told_in_its_order() {
    with_receivers(async |told| {
        let mut client = told.node.connect();
        client.join("presence-a", &user("u")).await;
        client.leave().await;
        let story = [
            "occupied presence-a",
            "added presence-a u",
            "removed presence-a u",
            "vacated presence-a",
        ];
        assert_eq!(told.after(10 * SECOND).await, story);
    });
}

#[test]
fn a_page_that_is_reloaded_within_three_seconds_is_no_news() {
    with_receivers(async |told| {
        let mut client = told.node.connect();
        client.join("presence-a", &user("u")).await;
        assert_eq!(told.after(SECOND).await.len(), 2);
        for _ in 0..5 {
            client.leave().await;
            assert!(told.after(2900 * MILLISECOND).await.is_empty());
            client = told.node.connect();
            client.join("presence-a", &user("u")).await;
            assert!(told.after(90 * MILLISECOND).await.is_empty());
        }
        assert!(told.after(10 * SECOND).await.is_empty());
        client.leave().await;
        assert_eq!(
            told.after(4 * SECOND).await,
            ["removed presence-a u", "vacated presence-a"]
        );
    });
}

#[test]
fn clients_of_a_node_that_stops_have_longer_to_return() {
    with_receivers(async |told| {
        let mut client = told.node.connect();
        client.join("presence-a", &user("u")).await;
        assert_eq!(told.after(SECOND).await.len(), 2);
        let engine = Arc::clone(&told.node.engine);
        let draining = tokio::task::spawn_local(async move { engine.drain(Duration::ZERO).await });
        settle().await;
        client.leave().await;
        draining.await.unwrap();
        assert!(told.after(19 * SECOND).await.is_empty());
        assert_eq!(told.after(SECOND).await, ["removed presence-a u"]);
        assert_eq!(told.after(50 * MILLISECOND).await, ["vacated presence-a"]);
    });
}

#[test]
fn ten_thousand_members_who_leave_at_once_are_each_told_once() {
    const MANY: usize = 10_000;
    let options = Options {
        max_connections: MANY,
        ..options(2)
    };
    with_limited_receivers(options, async |told| {
        let mut clients = Vec::new();
        let mut settings = settings();
        settings.limits.presence_members = MANY;
        want(&told.node, all_wanted(), settings);
        for number in 0..MANY {
            // Each to a channel of a hundred, so that the joins' snapshots stay small.
            let client = told.node.connect();
            let channel = format!("presence-{}", number / 100);
            client.join(&channel, &user(&number.to_string())).await;
            client.seen();
            clients.push(client);
        }
        assert_eq!(told.after(SECOND).await.len(), MANY + MANY / 100);
        let start = Instant::now();
        for client in &mut clients {
            client.leave().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(told.after(2 * SECOND).await.is_empty());
        let mut ends = told.after(2 * SECOND).await;
        assert_eq!(ends.len(), MANY + MANY / 100);
        ends.sort();
        ends.dedup();
        assert_eq!(ends.len(), MANY + MANY / 100, "each once");
        assert_eq!(told.next_due().await, None, "nothing is left");
    });
}

#[test]
fn what_does_not_fit_is_counted_and_found_when_it_is_armed() {
    let options = Options {
        max_transitions: 2,
        ..options(1)
    };
    with_limited_receivers(options, async |told| {
        let app = AppId::parse("1").unwrap();
        let log = Arc::clone(told.node.engine.transition_log());
        let client = told.node.connect();
        for channel in ["a", "b"] {
            client.subscribe(channel).await;
            assert_eq!(told.now().await.len(), 1);
        }
        client.subscribe("c").await;
        for channel in ["a", "b", "c"] {
            client.unsubscribe(channel).await;
        }
        let read = log.due(&app, 10).await.unwrap();
        assert_eq!((read.due.len(), read.refused), (1, 2), "of b and c");
        assert_eq!(told.after(4 * SECOND).await, ["occupied c", "vacated a"]);
        let (present, stamp) = {
            let story = told.story.lock();
            (story.present(), story.newest_stamp())
        };
        log.arm(&app, present, stamp).await.unwrap();
        assert!(told.after(20 * SECOND).await.is_empty());
        let story = told.after(50 * MILLISECOND).await;
        assert_eq!(story, ["vacated b", "vacated c"]);
    });
}

#[test]
fn receivers_are_owed_the_end_of_what_ended_with_the_process_before() {
    with_receivers(async |told| {
        let app = AppId::parse("1").unwrap();
        let log = Arc::clone(told.node.engine.transition_log());
        let present = |channel: &str, user: Option<&str>| Present {
            channel: channel.into(),
            user: user.map(str::to_owned),
        };
        let before = vec![
            present("a", None),
            present("b", None),
            present("presence-a", None),
            present("presence-a", Some("u")),
            present("presence-a", Some("v")),
        ];
        let ahead = i64::MAX / 2;
        log.arm(&app, before, ahead).await.unwrap();
        let client = told.node.connect();
        client.subscribe("b").await;
        client.join("presence-a", &user("v")).await;
        let read = log.due(&app, 10).await.unwrap();
        assert!(read.stamp > ahead, "newer than all that was recorded");
        assert_eq!(read.due.len(), 2);
        sleep(30 * SECOND).await;
        let read = log.due(&app, 10).await.unwrap();
        let ends = read.due.iter().filter(|due| !due.key.kind.is_present());
        let ends: Vec<_> = ends.map(|due| testing::story::in_words(&due.key)).collect();
        assert_eq!(ends, ["removed presence-a u", "vacated a"]);
    });
}

#[test]
fn what_was_armed_while_it_is_present_or_waits_already_adds_nothing() {
    with_receivers(async |told| {
        let app = AppId::parse("1").unwrap();
        let log = Arc::clone(told.node.engine.transition_log());
        let client = told.node.connect();
        client.join("presence-a", &user("u")).await;
        client.subscribe("b").await;
        assert_eq!(told.after(SECOND).await.len(), 3);
        client.unsubscribe("b").await;
        let present = told.story.lock().present();
        log.arm(&app, present, 0).await.unwrap();
        assert_eq!(told.after(4 * SECOND).await, ["vacated b"]);
        assert_eq!(told.next_due().await, None);
    });
}

#[test]
fn an_entry_that_has_become_due_at_another_time_is_not_settled() {
    with_receivers(async |told| {
        let app = AppId::parse("1").unwrap();
        let log = Arc::clone(told.node.engine.transition_log());
        let client = told.node.connect();
        client.subscribe("a").await;
        assert_eq!(told.now().await, ["occupied a"]);
        client.unsubscribe("a").await;
        sleep(4 * SECOND).await;
        let read = log.due(&app, 10).await.unwrap();
        assert_eq!(read.due.len(), 1);
        client.subscribe("a").await;
        client.unsubscribe("a").await;
        log.settle(&app, read.due).await.unwrap();
        assert_eq!(told.next_due().await, Some(Duration::ZERO));
        assert!(told.now().await.is_empty(), "it was occupied all the time");
        assert_eq!(told.after(4 * SECOND).await, ["vacated a"]);
    });
}

#[test]
fn a_return_after_the_end_was_read_outlives_what_is_settled() {
    with_receivers(async |told| {
        let app = AppId::parse("1").unwrap();
        let log = Arc::clone(told.node.engine.transition_log());
        let mut client = told.node.connect();
        client.join("presence-a", &user("u")).await;
        client.leave().await;
        sleep(4 * SECOND).await;
        let visit = log.due(&app, 10).await.unwrap();
        assert_eq!(visit.due.len(), 4, "beginnings and ends");
        told.story.lock().record(&visit);
        told.node.connect().join("presence-a", &user("u")).await;
        log.settle(&app, visit.due).await.unwrap();
        let story = told.after(4 * SECOND).await;
        assert_eq!(story, ["occupied presence-a", "added presence-a u"]);
    });
}

#[test]
fn an_app_that_wants_nothing_has_no_log_and_one_that_stops_to_want_it_none_any_more() {
    with_receivers(async |told| {
        let app = AppId::parse("1").unwrap();
        let log = Arc::clone(told.node.engine.transition_log());
        let client = told.node.connect();
        client.join("presence-a", &user("u")).await;
        assert!(told.next_due().await.is_some());
        want(&told.node, WantedNotices::default(), settings());
        log.forget(&app).await.unwrap();
        client.unsubscribe("presence-a").await;
        client.subscribe("b").await;
        assert_eq!(told.next_due().await, None);
        let only_members = WantedNotices {
            members: true,
            ..WantedNotices::default()
        };
        want(&told.node, only_members, settings());
        client.join("presence-c", &user("u")).await;
        assert_eq!(told.after(SECOND).await, ["added presence-c u"]);
    });
}

#[test]
fn the_own_channel_of_a_user_is_never_told() {
    with_receivers(async |told| {
        let client = told.node.connect();
        sign_in(&client, &json!({"id": "u"}).to_string()).await;
        let own = ChannelName::parse("#server-to-user-u", 200).unwrap();
        let subscribers = told.node.engine.local_subscribers(&told.node.app(), &own);
        assert_eq!(subscribers, 1, "it is subscribed to");
        assert_eq!(told.next_due().await, None);
    });
}

/// Writes down the channel events that are in no transition log.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Notices for Recorder {
    fn notice(&self, _: &AppId, channel: &ChannelName, notice: Notice<'_>) {
        let text = match notice {
            Notice::ClientEvent {
                event,
                data,
                socket_id,
                user_id,
            } => {
                let user = user_id.map(ToString::to_string);
                format!("{event} {data} of {socket_id} {user:?}")
            }
            Notice::CacheMiss => "cache miss".to_owned(),
            Notice::SubscriptionCount(count) => format!("count {count}"),
            _ => return,
        };
        self.0.lock().push(format!("{channel}: {text}"));
    }
}

fn with_recorder<F: Future<Output = ()>>(test: impl FnOnce(Node, Arc<Recorder>) -> F) {
    testing::run_paused(async {
        let recorder = Arc::new(Recorder::default());
        let notices = Arc::clone(&recorder) as Arc<dyn Notices>;
        let node = LocalNode::start(Engine::new(options(2), notices)).await;
        test(node, recorder).await;
    });
}

#[test]
fn accepted_client_events_are_reported_with_the_user_on_presence_channels() {
    with_recorder(async |node, recorder| {
        let client = node.connect();
        client.join("presence-a", &user("u")).await;
        client.subscribe("private-a").await;
        let event = |channel: &str, event: &str| json!({"event": event, "channel": channel, "data": {"n": 1}});
        client.send(&event("private-a", "client-e")).await;
        assert!(recorder.take().is_empty(), "it isn't wanted");
        want(&node, all_wanted(), settings());
        client.send(&event("presence-a", "client-e")).await;
        client.send(&event("private-a", "client-e")).await;
        client.send(&event("private-b", "client-e")).await;
        client.send(&event("public", "client-e")).await;
        let id = &client.socket_id;
        let expected = [
            format!("presence-a: client-e {{\"n\":1}} of {id} Some(\"u\")"),
            format!("private-a: client-e {{\"n\":1}} of {id} None"),
        ];
        assert_eq!(recorder.take(), expected, "refused ones are not reported");
    });
}

#[test]
fn cache_misses_are_reported_where_clients_are_told_of_them() {
    with_recorder(async |node, recorder| {
        let client = node.connect();
        client.subscribe("cache-a").await;
        assert!(recorder.take().is_empty(), "it isn't wanted");
        want(&node, all_wanted(), settings());
        client.subscribe("cache-b").await;
        client.subscribe("b").await;
        assert_eq!(recorder.take(), ["cache-b: cache miss"]);
        node.publish("cache-b", "e", "1").await;
        node.connect().subscribe("cache-b").await;
        assert!(recorder.take().is_empty(), "an event is kept");
    });
}

#[test]
fn subscription_counts_are_reported_as_often_as_subscribers_get_them() {
    with_recorder(async |node, recorder| {
        want(&node, all_wanted(), settings());
        let first = node.connect();
        first.subscribe("a").await;
        assert!(recorder.take().is_empty(), "the app announces no counts");
        let counted = AppSettings {
            subscription_count: true,
            ..settings()
        };
        want(&node, all_wanted(), counted);
        assert_eq!(recorder.take(), ["a: count 1"]);
        let others: Vec<_> = (0..3).map(|_| node.connect()).collect();
        for client in &others {
            client.subscribe("a").await;
        }
        assert!(recorder.take().is_empty());
        sleep(SECOND).await;
        assert_eq!(recorder.take(), ["a: count 4"]);
        first.join("presence-a", &user("u")).await;
        sleep(SECOND).await;
        assert!(recorder.take().is_empty(), "presence channels have members");
    });
}
