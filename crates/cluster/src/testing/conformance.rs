//! What a back end promises, as cases that run the same over each of them.

#[allow(missing_docs, reason = "the name of a case says what it checks")]
pub mod events;
#[allow(missing_docs, reason = "the name of a case says what it checks")]
pub mod history;
#[allow(missing_docs, reason = "the name of a case says what it checks")]
pub mod nodes;
#[allow(missing_docs, reason = "the name of a case says what it checks")]
pub mod reaper;
#[allow(missing_docs, reason = "the name of a case says what it checks")]
pub mod roster;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use std::time::Duration;

use crate::Message;
use crate::backend::{
    Answer, Backend, Connected, Connection, HistoryPage, HistoryRequest, Incoming, Moment,
    NodeName, Publication, Step, StepError, Topic,
};
use bytes::Bytes;
use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, UserId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

/// A moment that does not come.
const LATER: Moment = 9_000_000_000_000_000;
/// A moment that is over.
const BEFORE: Moment = 1;
/// How long something that must come may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A backend that nobody else uses, as if there were one for each test.
#[derive(Clone)]
pub struct Stage {
    backend: Arc<dyn Backend>,
}

impl Stage {
    /// Returns a stage on a back end that nobody else uses.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// Connects.
    pub async fn connect(&self) -> Peer {
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
    pub async fn listener(&self, channels: &[&str]) -> Peer {
        let peer = self.connect().await;
        for channel in channels {
            let topic = topic_of(channel);
            peer.done(Step::Subscribe { topic }).await;
        }
        peer
    }
}

/// Somebody who is connected.
pub struct Peer {
    connection: Arc<dyn Connection>,
    /// Nodes that were put into the list of an app.
    enlisted: RefCell<HashSet<(String, String)>>,
    incoming: RefCell<UnboundedReceiver<Incoming>>,
}

impl Peer {
    /// Takes steps as nodes do, which put themselves into an app's list before they say something of it.
    pub async fn take_all(&self, steps: Vec<Step>) -> Vec<Result<Answer, StepError>> {
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

    /// Takes steps, and returns their answers.
    pub async fn take_as_they_are(&self, steps: Vec<Step>) -> Vec<Result<Answer, StepError>> {
        let count = steps.len();
        let answers = timeout(TIMEOUT, self.connection.take(steps)).await;
        let answers = answers.expect("answers in time");
        assert_eq!(answers.len(), count);
        answers
    }

    /// Takes a step, and returns its answer.
    pub async fn try_take(&self, step: Step) -> Result<Answer, StepError> {
        self.take_all(vec![step]).await.remove(0)
    }

    /// Takes a step that must not fail, and returns its answer.
    pub async fn take(&self, step: Step) -> Answer {
        let words = format!("{step:?}");
        let answer = self.try_take(step).await;
        answer.unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    /// Reads a page of a history.
    pub async fn history(&self, request: HistoryRequest) -> HistoryPage {
        let page = timeout(TIMEOUT, self.connection.history(request)).await;
        page.expect("a page in time")
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Takes a step that must be answered with [`Answer::Done`].
    pub async fn done(&self, step: Step) {
        assert_eq!(self.take(step).await, Answer::Done);
    }

    /// The next message that was told.
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "one thing is heard at a time"
    )]
    pub async fn next_message(&self) -> (Topic, Bytes) {
        let next = timeout(TIMEOUT, self.incoming.borrow_mut().recv()).await;
        match next.expect("a message in time") {
            Some(Incoming::Message { topic, message, .. }) => (topic, message),
            other => panic!("instead of a message: {other:?}"),
        }
    }

    /// The data of the events that were told, so many.
    pub async fn events(&self, count: usize) -> Vec<String> {
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
    pub async fn hears_nothing(&self) {
        let topic = topic_of("hears-nothing");
        self.done(Step::Subscribe {
            topic: topic.clone(),
        })
        .await;
        self.take(publish("hears-nothing", "end")).await;
        let (heard, _) = self.next_message().await;
        assert_eq!(heard, topic);
        self.done(Step::Unsubscribe { topic }).await;
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
pub fn topic_of(channel: &str) -> Topic {
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
pub fn event(data: &str) -> Bytes {
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

/// Returns a step that publishes one event.
pub fn publish(channel: &str, data: &str) -> Step {
    publish_all(vec![publication(channel, data)])
}

/// Defines a test for each case. `$run` is a function that runs a case on a [`Stage`].
#[macro_export]
macro_rules! conformance_suite {
    ($run:path) => {
        $crate::conformance_suite! { @cases $run;
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
        one_node_claims_a_dead_node_until_its_claim_expires;
    reaper: what_a_dead_node_has_left_is_cleared_away_and_told_as_if_it_had_said_so
        two_who_clear_away_the_same_do_it_once
        a_node_that_leaves_thousands_of_everything_is_cleared_away_bit_by_bit;
        }
    };
    (@cases $run:path; $($module:ident: $($case:ident)*;)*) => {
        $($(#[test] fn $case() {
            $run($crate::testing::conformance::$module::$case);
        })*)*
    };
}
