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
#[allow(missing_docs, reason = "the name of a case says what it checks")]
pub mod transitions;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use std::time::Duration;

use crate::Message;
use crate::backend::{
    Backend, BackendError, Broker, Call, Change, Connected, Counted, Incoming, Joined, LogRules,
    Membership, Moment, NodeName, Presence, Publication, Publish, Published, Reply, Report, Topic,
};
use bytes::Bytes;
use fanfare_engine::{IdempotencyKey, PresenceSnapshot};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, UserId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A deadline that does not pass.
const LATER: Moment = 9_000_000_000_000_000;
/// A deadline that has passed.
const BEFORE: Moment = 1;
/// How long something that must come may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A back end of one test.
#[derive(Clone)]
pub struct Stage {
    backend: Arc<dyn Backend>,
}

impl Stage {
    /// Returns the stage of a test on a back end of its own.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// Connects.
    pub async fn connect(&self) -> Peer {
        let Connected {
            broker,
            presence,
            membership,
            incoming,
        } = self.backend.connect().await.unwrap();
        Peer {
            broker,
            presence,
            membership,
            incoming: RefCell::new(incoming),
            enlisted: RefCell::default(),
        }
    }

    /// Returns a connection that subscribes to channels.
    pub async fn subscriber(&self, channels: &[&str]) -> Peer {
        let peer = self.connect().await;
        for channel in channels {
            peer.subscribe(topic_of(channel)).await;
        }
        peer
    }
}

/// A connection of a node.
pub struct Peer {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) membership: Arc<dyn Membership>,
    /// Nodes that were put into the list of the app.
    enlisted: RefCell<HashSet<String>>,
    incoming: RefCell<UnboundedReceiver<Incoming>>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

impl Peer {
    /// Waits for an answer that must not be an error.
    pub async fn ok<T>(&self, call: Call<T>) -> T {
        let answer = timeout(TIMEOUT, call).await.expect("an answer in time");
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Subscribes to a topic.
    pub async fn subscribe(&self, topic: Topic) {
        self.ok(self.broker.subscribe(vec![topic])).await;
    }

    /// Unsubscribes from a topic.
    pub async fn unsubscribe(&self, topic: Topic) {
        self.ok(self.broker.unsubscribe(vec![topic])).await;
    }

    /// Publishes events.
    async fn publish_all(&self, publications: Vec<Publication>) -> Published {
        self.ok(self.broker.publish(publish_of(publications))).await
    }

    /// Publishes one event.
    pub async fn publish(&self, channel: &str, data: &str) -> Published {
        self.publish_all(vec![publication(channel, data)]).await
    }

    /// Publishes one event, which may fail.
    ///
    /// # Errors
    ///
    /// Returns the back end's error.
    pub async fn try_publish(&self, channel: &str, data: &str) -> Result<Published, BackendError> {
        let published = self
            .broker
            .publish(publish_of(vec![publication(channel, data)]));
        timeout(TIMEOUT, published)
            .await
            .expect("an answer in time")
    }

    /// Sends reports of a node as nodes do, which put themselves into the app's list before.
    async fn report_all(&self, name: &str, changes: Vec<Change>) {
        if self.enlisted.borrow_mut().insert(name.to_owned()) {
            self.enlist(name).await;
        }
        for answer in self.try_report(name, LATER, changes).await {
            answer.unwrap();
        }
    }

    /// Puts a node into the app's list.
    async fn enlist(&self, name: &str) {
        let enlisted = self.membership.enlist(&app(), &node(name), LATER);
        self.ok(enlisted).await;
    }

    /// Sends reports of a node, and returns whether each was taken.
    async fn try_report(
        &self,
        name: &str,
        deadline: Moment,
        changes: Vec<Change>,
    ) -> Vec<Result<(), BackendError>> {
        let count = changes.len();
        let report = |change| Report { app: app(), change };
        let reports = changes.into_iter().map(report).collect();
        let answers = self.presence.report(&node(name), deadline, reports);
        let answers = timeout(TIMEOUT, answers).await.expect("answers in time");
        assert_eq!(answers.len(), count);
        answers
    }

    /// Sends one report of a node, and returns its answer.
    async fn report<T: Send + 'static>(
        &self,
        name: &str,
        change: impl FnOnce(Reply<T>) -> Change,
    ) -> T {
        let (sender, answer) = oneshot::channel();
        self.report_all(name, vec![change(sender.into())]).await;
        answer.await.expect("an answer")
    }

    async fn join(&self, name: &str, channel: &str, member: Member) -> Joined {
        self.join_at_most(name, channel, member, usize::MAX).await
    }

    async fn join_at_most(&self, name: &str, channel: &str, member: Member, max: usize) -> Joined {
        let join = |reply| join(channel, member, max, reply);
        self.report(name, join).await
    }

    async fn leave(&self, name: &str, channel: &str, who: &str) -> bool {
        self.report(name, |reply| leave(channel, who, reply)).await
    }

    async fn count(&self, name: &str, channel: &str, number: usize, announce: bool) -> Counted {
        self.report(name, |reply| count(channel, number, announce, reply))
            .await
    }

    async fn sign_in(&self, name: &str, who: &str) -> bool {
        self.report(name, |reply| sign_in(who, reply)).await
    }

    async fn sign_out(&self, name: &str, who: &str) -> bool {
        self.report(name, |reply| sign_out(who, reply)).await
    }

    async fn connections(&self, name: &str, count: usize) {
        self.report_all(name, vec![Change::Connections { count }])
            .await;
    }

    /// Admits one more connection of the app if it has fewer than `max` over all nodes.
    async fn admit(&self, name: &str, max: usize) -> bool {
        self.report(name, |reply| admit(max, reply)).await
    }

    /// Returns the members of a channel in the order of their ids.
    async fn snapshot(&self, channel: &str) -> PresenceSnapshot {
        let mut snapshot = self.ok(self.presence.snapshot(&app(), channel)).await;
        snapshot
            .members
            .sort_by(|one, other| one.user_id.cmp(&other.user_id));
        snapshot
    }

    /// Returns the next message.
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "one message is received at a time"
    )]
    pub async fn next_message(&self) -> (Topic, Bytes) {
        let next = timeout(TIMEOUT, self.incoming.borrow_mut().recv()).await;
        match next.expect("a message in time") {
            Some(Incoming::Message { topic, message, .. }) => (topic, message),
            other => panic!("instead of a message: {other:?}"),
        }
    }

    /// Returns the data of the next events.
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

    /// Checks that no message is on its way: one that is published now is the next to arrive.
    pub async fn receives_nothing(&self) {
        let topic = topic_of("receives-nothing");
        self.subscribe(topic.clone()).await;
        self.publish("receives-nothing", "end").await;
        let (received, _) = self.next_message().await;
        assert_eq!(received, topic);
        self.unsubscribe(topic).await;
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

fn join(channel: &str, member: Member, max: usize, reply: Reply<Joined>) -> Change {
    Change::Join {
        channel: channel.into(),
        member,
        max,
        wants_members: true,
        log: LogRules::default(),
        reply,
    }
}

fn leave(channel: &str, who: &str, reply: Reply<bool>) -> Change {
    Change::Leave {
        channel: channel.into(),
        user: user(who),
        log: LogRules::default(),
        reply,
    }
}

fn count(channel: &str, count: usize, announce: bool, reply: Reply<Counted>) -> Change {
    Change::Subscriptions {
        channel: channel.into(),
        count,
        announce,
        visited: false,
        log: LogRules::default(),
        reply,
    }
}

fn sign_in(who: &str, reply: Reply<bool>) -> Change {
    let user = user(who);
    Change::SignIn { user, reply }
}

fn sign_out(who: &str, reply: Reply<bool>) -> Change {
    let user = user(who);
    Change::SignOut { user, reply }
}

fn admit(max: usize, reply: Reply<bool>) -> Change {
    Change::Admit {
        change: 0,
        max,
        reply,
    }
}

/// One change of each kind.
fn changes_of_every_kind(channel: &str, who: &str) -> Vec<Change> {
    vec![
        join(channel, member(who), 9, Reply::ignore()),
        leave(channel, who, Reply::ignore()),
        count(channel, 3, true, Reply::ignore()),
        sign_in(who, Reply::ignore()),
        sign_out(who, Reply::ignore()),
        Change::Connections { count: 3 },
        admit(9, Reply::ignore()),
    ]
}

fn publication(channel: &str, data: &str) -> Publication {
    Publication {
        channel: channel.into(),
        message: event(data),
        keep: None,
        history: None,
    }
}

fn publish_of(publications: Vec<Publication>) -> Publish {
    Publish {
        app: app(),
        publications,
        idempotency_key: None,
        deadline: LATER,
    }
}

fn publish_once(publications: Vec<Publication>, key: &str, digest: &str) -> Publish {
    Publish {
        idempotency_key: Some(IdempotencyKey {
            key: key.into(),
            digest: digest.into(),
        }),
        ..publish_of(publications)
    }
}

/// Defines a test for each case. `$run` is a function that runs a case on a [`Stage`].
#[macro_export]
macro_rules! conformance_suite {
    ($run:path) => {
        $crate::conformance_suite! { @cases $run;
    events: events_reach_all_subscribers_in_order_and_no_others
        events_of_one_request_arrive_one_after_the_other
        calls_of_an_app_are_taken_in_the_order_in_which_they_were_made
        the_longest_event_arrives_whole
        a_message_reaches_those_who_subscribe_to_its_topic
        a_repeated_request_is_published_once
        calls_after_their_deadline_are_not_taken
        a_cached_event_is_published_and_cached_with_a_position_that_grows
        a_cached_event_expires
        the_oldest_cached_events_are_dropped_beyond_the_limit;
    history: a_history_answers_with_what_came_after_a_position
        a_history_is_read_forward_and_backward_from_any_position
        a_history_holds_so_many_events_and_for_so_long
        histories_of_two_channels_have_different_epochs
        a_history_is_of_its_rules
        a_history_gives_what_there_is_room_for
        an_event_can_be_cached_and_recorded;
    roster: a_user_comes_with_the_first_node_and_leaves_with_the_last
        a_repeated_report_counts_once
        a_full_channel_admits_no_new_user
        counts_are_added_up_over_all_nodes
        users_are_online_from_the_first_node_to_the_last
        connections_are_admitted_up_to_the_quota_of_all_nodes
        connections_are_known_by_node;
    nodes: nodes_live_for_as_long_as_their_lease_and_are_dead_until_they_are_forgotten
        nodes_of_another_installation_are_refused_and_change_nothing
        all_nodes_receive_heartbeats_and_broadcasts
        the_apps_of_a_node_are_known_until_it_is_forgotten
        no_lease_ends_further_ahead_than_it_is_long
        an_app_takes_no_report_of_a_node_that_is_not_in_its_list
        one_node_claims_a_dead_node_until_its_claim_expires;
    reaper: the_entries_of_a_dead_node_are_removed_and_announced_as_if_it_had_reported_that
        two_reapers_of_the_same_node_remove_each_entry_once
        a_node_that_leaves_thousands_of_entries_is_reaped_part_by_part;
    transitions: a_channel_and_its_members_are_logged_in_the_order_in_which_receivers_are_told
        a_return_within_the_grace_cancels_the_end
        a_visit_between_two_reports_is_logged_as_both
        only_what_is_wanted_is_logged
        an_entry_that_is_due_at_another_time_is_not_settled
        a_return_after_the_end_was_read_outlives_what_is_settled
        the_end_of_what_is_present_again_is_dropped
        a_channel_is_occupied_while_it_has_members_or_subscriptions
        what_receivers_are_owed_is_armed_unless_it_is_present
        stamps_rise_with_every_read
        a_full_log_refuses_entries_and_counts_them
        what_a_dead_node_had_is_logged_when_it_is_reaped
        thousands_of_entries_are_read_part_by_part;
        }
    };
    (@cases $run:path; $($module:ident: $($case:ident)*;)*) => {
        $($(#[test] fn $case() {
            $run($crate::testing::conformance::$module::$case);
        })*)*
    };
}
