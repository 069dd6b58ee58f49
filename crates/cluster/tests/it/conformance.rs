//! What a backend promises, the same for the simulated one and for Redis in all its forms.

mod events;
mod history;
mod nodes;
mod reaper;
mod roster;

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fanfare_cluster::backend::{
    Answer, Backend, Connected, Connection, Incoming, Moment, NodeName, Publication, Step,
    StepError, Topic,
};
use fanfare_cluster::{Message, Redis};
use fanfare_engine::testing::run_paused;
use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, UserId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::servers::{self, PASSWORD};
use crate::sim::{Sim, Weather};

/// A moment that does not come.
const LATER: Moment = 9_000_000_000_000_000;
/// A moment that is over.
const BEFORE: Moment = 1;
/// How long something that must come may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A backend that nobody else uses, as if there were one for each test.
struct Stage {
    backend: Arc<dyn Backend>,
}

impl Stage {
    fn redis(url: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            backend: Arc::new(Redis::new(url, &prefix).unwrap()),
        }
    }

    async fn connect(&self) -> Peer {
        let Connected {
            connection,
            incoming,
        } = self.backend.connect().await.unwrap();
        Peer {
            connection,
            incoming: RefCell::new(incoming),
            enlisted: RefCell::default(),
        }
    }

    /// A connection that listens to channels.
    async fn listener(&self, channels: &[&str]) -> Peer {
        let peer = self.connect().await;
        for channel in channels {
            let topic = topic_of(channel);
            peer.done(Step::Listen { topic }).await;
        }
        peer
    }
}

/// Somebody who is connected.
struct Peer {
    connection: Arc<dyn Connection>,
    /// Nodes that were put into the list of an app.
    enlisted: RefCell<HashSet<(String, String)>>,
    incoming: RefCell<UnboundedReceiver<Incoming>>,
}

impl Peer {
    /// Takes steps as nodes do, which put themselves into an app's list before they say something of it.
    async fn take_all(&self, steps: Vec<Step>) -> Vec<Result<Answer, StepError>> {
        let new: Vec<_> = steps
            .iter()
            .filter_map(Step::reporter)
            .filter(|(app, node)| {
                let name = (app.to_string(), node.to_string());
                self.enlisted.borrow_mut().insert(name)
            })
            .map(|(app, node)| enlist_in(app.clone(), node.clone()))
            .collect();
        if !new.is_empty() {
            for answer in self.take_as_they_are(new).await {
                assert_eq!(answer, Ok(Answer::Done));
            }
        }
        self.take_as_they_are(steps).await
    }

    async fn take_as_they_are(&self, steps: Vec<Step>) -> Vec<Result<Answer, StepError>> {
        let count = steps.len();
        let answers = timeout(TIMEOUT, self.connection.take(steps)).await;
        let answers = answers.expect("answers in time");
        assert_eq!(answers.len(), count);
        answers
    }

    async fn try_take(&self, step: Step) -> Result<Answer, StepError> {
        self.take_all(vec![step]).await.remove(0)
    }

    async fn take(&self, step: Step) -> Answer {
        let words = format!("{step:?}");
        let answer = self.try_take(step).await;
        answer.unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    async fn done(&self, step: Step) {
        assert_eq!(self.take(step).await, Answer::Done);
    }

    /// The next message that was told.
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "one thing is heard at a time"
    )]
    async fn next_message(&self) -> (Topic, Bytes) {
        let next = timeout(TIMEOUT, self.incoming.borrow_mut().recv()).await;
        match next.expect("a message in time") {
            Some(Incoming::Message { topic, message, .. }) => (topic, message),
            other => panic!("instead of a message: {other:?}"),
        }
    }

    /// The data of the events that were told, so many.
    async fn events(&self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        while events.len() < count {
            let (_, message) = self.next_message().await;
            if let Message::Event { data, .. } = Message::read(&message).unwrap() {
                events.push(data.to_owned());
            }
        }
        events
    }

    /// Nothing is on its way: something that is told now is the next that is heard.
    async fn hears_nothing(&self) {
        let topic = topic_of("hears-nothing");
        self.done(Step::Listen {
            topic: topic.clone(),
        })
        .await;
        self.take(publish("hears-nothing", "end")).await;
        let (heard, _) = self.next_message().await;
        assert_eq!(heard, topic);
        self.done(Step::Unlisten { topic }).await;
    }
}

fn enlist_in(app: AppId, node: NodeName) -> Step {
    Step::Enlist {
        app,
        node,
        deadline: LATER,
    }
}

fn app() -> AppId {
    AppId::parse("1").unwrap()
}

/// The topic of a channel of [`app`].
pub(crate) fn topic_of(channel: &str) -> Topic {
    let channel = ChannelName::parse(channel, usize::MAX).unwrap();
    Topic::Channel(app(), channel)
}

fn node(name: &str) -> NodeName {
    name.into()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn member(name: &str) -> Member {
    Member {
        user_id: user(name),
        user_info: None,
    }
}

/// An event as it travels, neither kept nor recorded.
pub(crate) fn event(data: &str) -> Bytes {
    let event = Message::Event {
        position: None,
        keep: false,
        recorded: None,
        name: "e",
        user_id: None,
        except: None,
        data,
    };
    event.write()
}

/// One more connection of the app, where it may have `max` of them over all nodes.
fn admit(name: &str, max: usize) -> Step {
    Step::Admit {
        app: app(),
        node: node(name),
        change: 0,
        max,
        deadline: LATER,
    }
}

fn publication(channel: &str, data: &str) -> Publication {
    Publication {
        channel: channel.into(),
        message: event(data),
        keep: None,
        history: None,
    }
}

fn publish_all(publications: Vec<Publication>) -> Step {
    Step::Publish {
        app: app(),
        publications,
        once: None,
        deadline: LATER,
    }
}

fn publish(channel: &str, data: &str) -> Step {
    publish_all(vec![publication(channel, data)])
}

fn run<F: Future<Output = ()>>(case: impl FnOnce(Stage) -> F, url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(case(Stage::redis(url)));
}

/// Each case for each backend.
macro_rules! cases {
    ($($module:ident: $($case:ident)*;)*) => {
        mod simulated {
            use super::*;
            $($(#[test] fn $case() {
                run_paused(async {
                    let sim = Sim::new(1, Weather::Windy);
                    let stage = Stage { backend: sim.backend(0) };
                    $module::$case(stage).await;
                });
            })*)*
        }
        mod redis {
            use super::*;
            $($(#[test] fn $case() {
                let server = servers::single();
                run($module::$case, &format!("redis://127.0.0.1:{}", server.port));
            })*)*
        }
        mod redis_cluster {
            use super::*;
            $($(#[test] fn $case() {
                let servers = servers::cluster();
                run($module::$case, &format!("redis://127.0.0.1:{}", servers[1].port));
            })*)*
        }
        mod sentinel {
            use super::*;
            $($(#[test] fn $case() {
                let watched = servers::watched();
                let password = PASSWORD.replace('@', "%40").replace(':', "%3A");
                let port = watched.sentinel.port;
                let url = format!("redis://:{password}@127.0.0.1:{port}?sentinel=chosen");
                run($module::$case, &url);
            })*)*
        }
    };
}

cases! {
    events: events_are_told_in_order_to_all_who_listen_and_to_nobody_else
        events_of_one_request_are_told_one_after_the_other
        steps_of_an_app_are_taken_in_the_order_in_which_they_were_asked
        an_event_as_long_as_they_come_is_told_whole
        a_request_that_comes_twice_is_told_once
        what_comes_too_late_is_not_taken
        a_kept_event_is_told_and_kept_with_a_position_that_grows
        a_kept_event_expires
        the_oldest_kept_events_go_when_there_is_too_much;
    history: a_history_answers_with_what_came_after_a_position
        a_history_is_read_forward_and_backward_from_any_position
        a_history_holds_so_many_events_and_for_so_long
        a_history_that_begins_anew_knows_nothing_of_the_one_before
        a_history_is_of_its_rules
        a_history_gives_what_there_is_room_for
        an_event_that_is_kept_and_recorded_is_both;
    roster: a_user_comes_with_the_first_node_and_leaves_with_the_last
        what_is_said_twice_counts_once
        a_full_channel_takes_nobody_new
        counts_are_added_up_over_all_nodes
        users_are_online_from_the_first_node_to_the_last
        connections_are_let_in_up_to_the_quota_of_all_nodes
        connections_are_known_by_node;
    nodes: nodes_live_for_as_long_as_their_lease_and_are_dead_until_they_are_forgotten
        all_nodes_are_told_of_beats_and_of_what_is_said_to_all
        it_is_known_of_which_apps_a_node_has_said_something
        no_lease_ends_further_ahead_than_it_is_long
        an_app_takes_nothing_of_a_node_that_is_not_in_its_list
        one_node_takes_a_burial_on_until_its_time_is_over;
    reaper: what_a_dead_node_has_left_is_cleared_away_and_told_as_if_it_had_said_so
        two_who_clear_away_the_same_do_it_once
        a_node_that_leaves_thousands_of_everything_is_cleared_away_bit_by_bit;
}

/// Returns Redis' clients that send commands of nodes: whether each is subscribed to something, and its id.
fn clients(server: &servers::Server) -> Vec<(bool, String)> {
    let list = server.ask(&["client", "list"]);
    let field = |line: &str, name: &str| {
        let mut fields = line.split(' ');
        let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    };
    let nodes = list
        .lines()
        .filter(|line| !field(line, "cmd").starts_with("client"));
    nodes
        .map(|line| (field(line, "ssub") != "0", field(line, "id")))
        .collect()
}

#[test]
fn histories_are_read_over_a_connection_of_their_own_that_may_break() {
    let server = servers::Server::start(servers::free_port(), &[], false);
    let case = async |stage: Stage| {
        let peer = stage.listener(&["a"]).await;
        assert_eq!(clients(&server).len(), 1, "no history was read yet");
        for _ in 0..2 {
            assert_eq!(history::length_of_an_empty_one(&peer).await, 0);
            let all = clients(&server);
            let [(false, id)] = &all
                .into_iter()
                .filter(|(is_subscribed, _)| !is_subscribed)
                .collect::<Vec<_>>()[..]
            else {
                panic!("one connection reads histories alone");
            };
            assert_eq!(server.ask(&["client", "kill", "id", id]).trim(), "1");
        }
        // The connection for everything else is still the first one.
        peer.take(publish("a", "1")).await;
        assert_eq!(peer.events(1).await, ["1"]);
    };
    run(case, &format!("redis://127.0.0.1:{}", server.port));
}
