//! Why a client has not got an event: a verdict from what the history and the nodes know, with what supports it. What
//! isn't known is said, with what would make it known.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::nodes::{Gone, Here, Span, Trail};

/// Times of two nodes that differ by less than this many milliseconds have no certain order.
const CLOCK_MARGIN: i64 = 250;
/// The close code of connections that may have missed events.
const EVENTS_MISSED: u16 = 4101;
/// How the names of users' own channels begin.
const SERVER_TO_USER: &str = "#server-to-user-";

/// What became of an event for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It was queued for the client, and its connection is still there.
    Delivered,
    /// The client is connected and not subscribed to the channel.
    NotSubscribed,
    /// The client subscribed after the event.
    SubscribedLater,
    /// The publisher left the client's connection out (`socket_id`).
    Excluded,
    /// The client's connection was closed because it may have missed events.
    Fenced,
    /// The client was not connected.
    Disconnected,
    /// No such event was published.
    NoSuchEvent,
    /// Not enough is known.
    Unknown,
}

/// Something that is known, and when it was so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Evidence {
    /// Unix time in milliseconds; `null` if it is so now, or always.
    #[schema(required)]
    pub(crate) at: Option<i64>,
    /// What is known.
    #[schema(example = "123.456 subscribed to the channel")]
    pub(crate) what: String,
}

/// Why a client has not got an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Explanation {
    /// What became of the event for the client.
    pub(crate) verdict: Verdict,
    /// The same in a sentence.
    pub(crate) answer: String,
    /// What supports it, the oldest first.
    pub(crate) evidence: Vec<Evidence>,
}

/// What is known of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Published {
    /// It was published.
    Found(FoundEvent),
    /// It was not: the history has everything since this time.
    Not { since: i64 },
    /// It isn't in the history, which doesn't reach back far enough.
    NotKept { since: i64 },
    /// The channel keeps no history.
    NoHistory,
    /// The history can't be read now, for this reason.
    Unreadable(String),
}

/// An event of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundEvent {
    pub(crate) name: String,
    pub(crate) position: String,
    pub(crate) at: i64,
    /// The connection that the publisher left out.
    pub(crate) except: Option<String>,
}

/// What is asked, and what is known.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    /// The client, in words.
    pub(crate) client: &'a str,
    pub(crate) channel: &'a str,
    /// The name of the event, if a certain one is meant.
    pub(crate) event: Option<&'a str>,
    pub(crate) published: &'a Published,
    pub(crate) trail: &'a Trail,
    /// Nodes that said nothing.
    pub(crate) unanswered: &'a [String],
}

impl Case<'_> {
    pub(crate) fn explain(&self) -> Explanation {
        let (verdict, answer) = self.decide();
        let mut evidence = self.evidence();
        evidence.sort_by_key(|evidence| evidence.at.unwrap_or(i64::MAX));
        Explanation {
            verdict,
            answer,
            evidence,
        }
    }

    fn decide(&self) -> (Verdict, String) {
        let channel = self.channel;
        match self.published {
            Published::Found(event) => self.decide_for(event),
            Published::Not { .. } => {
                let which = self
                    .event
                    .map_or("event".into(), |name| format!("event {name:?}"));
                let answer = format!(
                    "No {which} was published on {channel:?} in this time: look at the publisher, the name and the channel."
                );
                (Verdict::NoSuchEvent, answer)
            }
            other => {
                if let Some(absent) = self.absent(None) {
                    return absent;
                }
                let why = match other {
                    Published::NotKept { .. } => {
                        "the channel's history doesn't reach back that far; a rule with more events or a longer time would"
                    }
                    Published::Unreadable(_) => "the channel's history can't be read now",
                    _ => {
                        "the channel keeps no history; a rule for it (history in the app's settings) would tell from then on"
                    }
                };
                let answer = format!(
                    "{} is subscribed to {channel:?}. Whether the event was published isn't known: {why}.",
                    self.client
                );
                (Verdict::Unknown, answer)
            }
        }
    }

    fn decide_for(&self, event: &FoundEvent) -> (Verdict, String) {
        let client = self.client;
        if let Some(except) = self.excluded(event) {
            let answer = format!(
                "The publisher left the connection {except} out (socket_id), which is that of {client}."
            );
            return (Verdict::Excluded, answer);
        }
        let subscribed: Vec<_> = self
            .subscribed()
            .filter_map(|(here, since)| Some((here, since?)))
            .collect();
        let before = |(_, since): &&(&Here, i64)| *since + CLOCK_MARGIN <= event.at;
        if let Some((here, _)) = subscribed.iter().find(before) {
            return delivered(client, here);
        }
        if let Some(queued) = self.queued_earlier(event) {
            return queued;
        }
        if self.subscribed().any(|(_, since)| since.is_none()) {
            let answer = format!(
                "{client} is subscribed, and since when isn't known, because its connection is older than 49 days."
            );
            return (Verdict::Unknown, answer);
        }
        let close = |(_, since): &&(&Here, i64)| since.abs_diff(event.at) < CLOCK_MARGIN as u64;
        let mut ends = self
            .spans()
            .flat_map(|(_, span)| [span.since, Some(span.until)]);
        let ended_close =
            ends.any(|at| at.is_some_and(|at| at.abs_diff(event.at) < CLOCK_MARGIN as u64));
        if ended_close || subscribed.iter().any(|one| close(&one)) {
            let answer = format!(
                "{client} subscribed or unsubscribed at the very moment of the event: which was first can't be told from the clocks of nodes."
            );
            return (Verdict::Unknown, answer);
        }
        if let Some(fenced) = self.fenced_after(event) {
            let answer = format!(
                "The connection {} of {client} was closed with 4101, because its node was cut off and may have missed events: the \
                 client has to recover them from the history, or to ask the backend.",
                fenced.socket_id
            );
            return (Verdict::Fenced, answer);
        }
        let gone_before = self
            .trail
            .closed
            .iter()
            .find(|gone| gone.closed_at < event.at);
        match (subscribed.first(), self.closed_after(event), gone_before) {
            (_, Some(gone), _) if !gone.knows_subscriptions => {
                let answer = format!(
                    "The connection {} of {client} was there at the time and has ended since. Not all of its subscriptions are \
                     remembered.",
                    gone.socket_id
                );
                (Verdict::Unknown, answer)
            }
            (None, Some(gone), _) => {
                let answer = format!(
                    "{client} was connected at the time ({}) and not subscribed to {:?}. That connection has ended since.",
                    gone.socket_id, self.channel
                );
                (Verdict::NotSubscribed, answer)
            }
            (Some((here, _)), _, _) => {
                let forgotten = if here.knows_earlier {
                    ""
                } else {
                    " Whether it was subscribed before that isn't remembered."
                };
                let answer = format!(
                    "{client} subscribed to {:?} after the event (connection {}): a client gets events from its subscription on, \
                     and earlier ones only by recovering from the history.{forgotten}",
                    self.channel, here.socket_id
                );
                (Verdict::SubscribedLater, answer)
            }
            (None, None, _) => self.absent(Some(event)).unwrap_or_else(|| {
                let answer = format!("What {client} was subscribed to at the time isn't known.");
                (Verdict::Unknown, answer)
            }),
        }
    }

    /// Returns what follows from the client having no subscription now, if it has none.
    fn absent(&self, event: Option<&FoundEvent>) -> Option<(Verdict, String)> {
        let client = self.client;
        if self.subscribed().next().is_some() {
            return None;
        }
        if !self.unanswered.is_empty() {
            let answer = format!(
                "{client} may be connected to a node that didn't answer: {}. Ask again.",
                self.unanswered.join(", ")
            );
            return Some((Verdict::Unknown, answer));
        }
        if let Some(here) = self.trail.connections.first() {
            let forgotten = if here.knows_earlier {
                ""
            } else {
                " Whether it was before isn't remembered."
            };
            let id = &here.socket_id;
            let answer = match self.channel.strip_prefix(SERVER_TO_USER) {
                Some(user) => format!(
                    "{client} is connected ({id}) and isn't signed in as {user:?} now: only connections that are get the events of \
                     {:?}.{forgotten}",
                    self.channel
                ),
                None => format!(
                    "{client} is connected ({id}) and isn't subscribed to {:?} now.{forgotten}",
                    self.channel
                ),
            };
            return Some((Verdict::NotSubscribed, answer));
        }
        let before = |gone: &&Gone| event.is_none_or(|event| gone.closed_at <= event.at);
        let answer = match self.trail.closed.iter().find(before) {
            Some(gone) => format!(
                "{client} wasn't connected: its connection {} had ended ({}).",
                gone.socket_id,
                reason(gone)
            ),
            None => format!(
                "{client} isn't connected, and no connection of it ended within the last hour. A connection belongs to a user once \
                 it has signed in or joined a presence channel: others are found by socket_id."
            ),
        };
        Some((Verdict::Disconnected, answer))
    }

    /// Returns the connections that are subscribed, with the times of their subscriptions.
    fn subscribed(&self) -> impl Iterator<Item = (&Here, Option<i64>)> {
        let here = self.trail.connections.iter();
        here.filter_map(|here| Some((here, here.subscription?.0)))
    }

    /// Returns the connection that the publisher left out, if it is the client's and the client has no other that is
    /// subscribed.
    fn excluded<'e>(&self, event: &'e FoundEvent) -> Option<&'e str> {
        let except = event.except.as_deref()?;
        let others = self.subscribed().any(|(here, _)| here.socket_id != except);
        let here = self.trail.connections.iter().map(|here| &here.socket_id);
        let mut all = here.chain(self.trail.closed.iter().map(|gone| &gone.socket_id));
        (!others && all.any(|id| id == except)).then_some(except)
    }

    fn closed_after(&self, event: &FoundEvent) -> Option<&Gone> {
        let mut closed = self.trail.closed.iter();
        closed.find(|gone| {
            gone.closed_at >= event.at && gone.connected_at.is_none_or(|since| since <= event.at)
        })
    }

    /// Returns the times of subscriptions that have ended, with their connections.
    fn spans(&self) -> impl Iterator<Item = (&str, Span)> {
        let here = self.trail.connections.iter();
        let here = here.flat_map(|here| {
            let spans = here.earlier.iter();
            spans.map(|span| (&*here.socket_id, *span))
        });
        let gone = self.trail.closed.iter();
        here.chain(gone.flat_map(|gone| {
            let spans = gone.subscriptions.iter();
            spans.map(|span| (&*gone.socket_id, *span))
        }))
    }

    /// Returns what follows from a subscription that has ended and was there at the time.
    fn queued_earlier(&self, event: &FoundEvent) -> Option<(Verdict, String)> {
        let client = self.client;
        let (id, _) = self.spans().find(|(_, span)| {
            let since = span
                .since
                .is_some_and(|since| since + CLOCK_MARGIN <= event.at);
            since && event.at + CLOCK_MARGIN <= span.until
        })?;
        let Some(gone) = self.trail.closed.iter().find(|gone| gone.socket_id == id) else {
            let answer = format!(
                "It was delivered: {client} was subscribed at the time ({id}), and has unsubscribed since."
            );
            return Some((Verdict::Delivered, answer));
        };
        if gone.code == Some(EVENTS_MISSED) {
            return None;
        }
        let answer = format!(
            "It was queued for {client}, who was subscribed at the time ({id}). That connection has ended since ({}): what the \
             client hadn't read by then it gets only by recovering from the history.",
            reason(gone)
        );
        Some((Verdict::Delivered, answer))
    }

    fn fenced_after(&self, event: &FoundEvent) -> Option<&Gone> {
        let mut closed = self.trail.closed.iter();
        closed.find(|gone| gone.code == Some(EVENTS_MISSED) && gone.closed_at >= event.at)
    }

    fn evidence(&self) -> Vec<Evidence> {
        let mut all = Vec::new();
        let mut add = |at: Option<i64>, what: String| all.push(Evidence { at, what });
        match self.published {
            Published::Found(event) => {
                let FoundEvent { name, position, .. } = event;
                add(
                    Some(event.at),
                    format!("the event {name:?} was published at position {position}"),
                );
                if let Some(except) = &event.except {
                    add(Some(event.at), format!("its publisher left out {except}"));
                }
            }
            Published::Not { since } => {
                add(Some(*since), "the history has everything since then, unless its rule or what nodes share is younger".into());
            }
            Published::NotKept { since } => {
                add(Some(*since), "the history begins".into());
            }
            Published::NoHistory => add(None, "the channel keeps no history".into()),
            Published::Unreadable(reason) => {
                add(None, format!("the history can't be read: {reason}"));
            }
        }
        for here in &self.trail.connections {
            let id = &here.socket_id;
            add(Some(here.connected_at), format!("{id} connected"));
            if let Some(since) = here.subscription {
                let when = if since.0.is_none() {
                    ", at a time that isn't known"
                } else {
                    ""
                };
                add(since.0, format!("{id} subscribed to the channel{when}"));
            }
            if here.waiting_bytes > 0 {
                let bytes = here.waiting_bytes;
                add(None, format!("{bytes} bytes wait until {id} reads"));
            }
            if here.is_fenced {
                add(
                    None,
                    format!("{id} is fenced: it gets nothing more and will be closed with 4101"),
                );
            }
        }
        for (id, span) in self.spans() {
            if let Some(since) = span.since {
                add(Some(since), format!("{id} subscribed to the channel"));
            }
            // The end of a connection is told below.
            let mut ended = self.trail.closed.iter();
            if !ended.any(|gone| gone.socket_id == id && gone.closed_at <= span.until) {
                add(Some(span.until), format!("{id} unsubscribed from it"));
            }
        }
        for gone in &self.trail.closed {
            let what = format!("{} ended: {}", gone.socket_id, reason(gone));
            add(Some(gone.closed_at), what);
        }
        for node in self.unanswered {
            add(None, format!("the node {node} didn't answer"));
        }
        all
    }
}

fn delivered(client: &str, here: &Here) -> (Verdict, String) {
    let id = &here.socket_id;
    if here.is_fenced {
        let answer = format!(
            "The connection {id} of {client} is fenced, because its node was cut off from the others: it is closed with 4101, and \
             the client has to recover what it missed."
        );
        return (Verdict::Fenced, answer);
    }
    let answer = match here.waiting_bytes {
        0 => format!(
            "It was delivered: {client} was subscribed ({id}), and everything is written to its socket. Look at what the client \
             binds to: the event's name, and the channel."
        ),
        bytes => format!(
            "It was queued for {client} ({id}), for whom {bytes} bytes wait: the client, or its network, reads slowly."
        ),
    };
    (Verdict::Delivered, answer)
}

fn reason(gone: &Gone) -> String {
    match gone.code {
        Some(code) => format!("closed with {code}, {}", gone.reason),
        None => gone.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::SubscribedAt;

    const AT: i64 = 1_000_000;

    fn found(except: Option<&str>) -> Published {
        Published::Found(FoundEvent {
            name: "greeting".into(),
            position: "e:7".into(),
            at: AT,
            except: except.map(Into::into),
        })
    }

    fn here(id: &str, subscribed: Option<i64>) -> Here {
        Here {
            socket_id: id.into(),
            connected_at: AT - 10_000,
            subscription: subscribed.map(|at| SubscribedAt(Some(at))),
            waiting_bytes: 0,
            is_fenced: false,
            earlier: Vec::new(),
            knows_earlier: false,
        }
    }

    fn span(since: i64, until: i64) -> Span {
        Span {
            since: Some(since),
            until,
        }
    }

    fn gone(id: &str, closed_at: i64, code: Option<u16>) -> Gone {
        Gone {
            socket_id: id.into(),
            closed_at,
            code,
            reason: "why".into(),
            connected_at: None,
            subscriptions: Vec::new(),
            knows_subscriptions: false,
        }
    }

    fn explain(published: &Published, connections: Vec<Here>, closed: Vec<Gone>) -> Explanation {
        let trail = Trail {
            connections,
            closed,
        };
        let case = Case {
            client: "the user \"ada\"",
            channel: "news",
            event: Some("greeting"),
            published,
            trail: &trail,
            unanswered: &[],
        };
        case.explain()
    }

    fn verdict(published: &Published, connections: Vec<Here>, closed: Vec<Gone>) -> Verdict {
        explain(published, connections, closed).verdict
    }

    #[test]
    fn a_subscription_before_the_event_got_it_and_a_later_one_did_not() {
        let event = found(None);
        let before = here("1.1", Some(AT - 5000));
        assert_eq!(
            verdict(&event, vec![before.clone()], vec![]),
            Verdict::Delivered
        );
        let later = here("1.1", Some(AT + 5000));
        let told = explain(&event, vec![later.clone()], vec![]);
        assert_eq!(told.verdict, Verdict::SubscribedLater);
        let whats: Vec<_> = told.evidence.iter().map(|it| (it.at, &*it.what)).collect();
        assert_eq!(
            whats,
            [
                (Some(AT - 10_000), "1.1 connected"),
                (
                    Some(AT),
                    "the event \"greeting\" was published at position e:7"
                ),
                (Some(AT + 5000), "1.1 subscribed to the channel"),
            ]
        );
        // One of several is enough.
        let both = vec![later, here("2.2", Some(AT - 5000))];
        assert_eq!(verdict(&event, both, vec![]), Verdict::Delivered);
        let same_moment = vec![here("1.1", Some(AT + 100))];
        assert_eq!(verdict(&event, same_moment, vec![]), Verdict::Unknown);
        let unknown = Here {
            subscription: Some(SubscribedAt(None)),
            ..before.clone()
        };
        assert_eq!(verdict(&event, vec![unknown], vec![]), Verdict::Unknown);
        let slow = Here {
            waiting_bytes: 77,
            ..before
        };
        let told = explain(&event, vec![slow], vec![]);
        assert!(told.answer.contains("77 bytes wait"), "{}", told.answer);
    }

    #[test]
    fn the_publisher_may_have_left_the_connection_out() {
        let event = found(Some("1.1"));
        let before = here("1.1", Some(AT - 5000));
        assert_eq!(
            verdict(&event, vec![before.clone()], vec![]),
            Verdict::Excluded
        );
        let other = here("2.2", Some(AT - 5000));
        assert_eq!(
            verdict(&event, vec![before, other.clone()], vec![]),
            Verdict::Delivered
        );
        assert_eq!(verdict(&event, vec![other], vec![]), Verdict::Delivered);
        let has_left = vec![gone("1.1", AT + 9, None)];
        assert_eq!(verdict(&event, vec![], has_left), Verdict::Excluded);
    }

    #[test]
    fn a_client_without_a_subscription_is_elsewhere_or_gone() {
        let event = found(None);
        assert_eq!(
            verdict(&event, vec![here("1.1", None)], vec![]),
            Verdict::NotSubscribed
        );
        assert_eq!(verdict(&event, vec![], vec![]), Verdict::Disconnected);
        let told = explain(&event, vec![], vec![gone("1.1", AT - 9, Some(4200))]);
        assert_eq!(told.verdict, Verdict::Disconnected);
        assert!(
            told.answer.contains("closed with 4200, why"),
            "{}",
            told.answer
        );
        let after = vec![gone("1.1", AT + 9, Some(4200))];
        assert_eq!(verdict(&event, vec![], after), Verdict::Unknown);
        let cut_off = vec![gone("1.1", AT + 9, Some(4101))];
        assert_eq!(verdict(&event, vec![], cut_off), Verdict::Fenced);
        let fenced = Here {
            is_fenced: true,
            ..here("1.1", Some(AT - 5000))
        };
        assert_eq!(verdict(&event, vec![fenced], vec![]), Verdict::Fenced);
    }

    #[test]
    fn subscriptions_that_have_ended_count_too() {
        let event = found(None);
        let had = |earlier| Here {
            earlier: vec![earlier],
            knows_earlier: true,
            ..here("1.1", None)
        };
        let told = explain(&event, vec![had(span(AT - 5000, AT + 5000))], vec![]);
        assert_eq!(told.verdict, Verdict::Delivered);
        assert!(
            told.answer.contains("has unsubscribed since"),
            "{}",
            told.answer
        );
        let whats: Vec<_> = told.evidence.iter().map(|it| (it.at, &*it.what)).collect();
        assert_eq!(
            whats[1..],
            [
                (Some(AT - 5000), "1.1 subscribed to the channel"),
                (
                    Some(AT),
                    "the event \"greeting\" was published at position e:7"
                ),
                (Some(AT + 5000), "1.1 unsubscribed from it"),
            ]
        );
        for (span, expected) in [
            (span(AT - 5000, AT - 1000), Verdict::NotSubscribed),
            (span(AT - 5000, AT + 100), Verdict::Unknown),
            (span(AT - 100, AT + 5000), Verdict::Unknown),
            (span(AT + 1000, AT + 5000), Verdict::NotSubscribed),
        ] {
            let told = explain(&event, vec![had(span)], vec![]);
            assert_eq!(told.verdict, expected, "{span:?}: {}", told.answer);
            assert!(!told.answer.contains("remembered"), "{}", told.answer);
        }
        let ended = |subscriptions, code| Gone {
            connected_at: Some(AT - 9000),
            subscriptions,
            knows_subscriptions: true,
            ..gone("1.1", AT + 3000, code)
        };
        let was_on = || vec![span(AT - 5000, AT + 3000)];
        let told = explain(&event, vec![], vec![ended(was_on(), Some(4100))]);
        assert_eq!(told.verdict, Verdict::Delivered);
        assert!(told.answer.contains("closed with 4100"), "{}", told.answer);
        let cut_off = vec![ended(was_on(), Some(4101))];
        assert_eq!(verdict(&event, vec![], cut_off), Verdict::Fenced);
        let elsewhere = vec![ended(vec![], None)];
        assert_eq!(verdict(&event, vec![], elsewhere), Verdict::NotSubscribed);
        // A connection that came after the event and has ended says nothing about its time.
        let later = Gone {
            connected_at: Some(AT + 1000),
            ..ended(vec![], None)
        };
        assert_eq!(verdict(&event, vec![], vec![later]), Verdict::Disconnected);
    }

    #[test]
    fn without_the_event_only_what_is_certain_is_said() {
        let subscribed = || vec![here("1.1", Some(AT - 5000))];
        let not = Published::Not { since: AT - 9 };
        assert_eq!(verdict(&not, subscribed(), vec![]), Verdict::NoSuchEvent);
        for unknown in [
            Published::NotKept { since: AT },
            Published::NoHistory,
            Published::Unreadable("away".into()),
        ] {
            let told = explain(&unknown, subscribed(), vec![]);
            assert_eq!(told.verdict, Verdict::Unknown);
            assert!(told.answer.contains("history"), "{}", told.answer);
            let elsewhere = vec![here("1.1", None)];
            assert_eq!(verdict(&unknown, elsewhere, vec![]), Verdict::NotSubscribed);
        }
    }

    #[test]
    fn a_node_that_is_silent_may_have_the_client() {
        let (published, trail) = (found(None), Trail::default());
        let case = Case {
            client: "the user \"ada\"",
            channel: "news",
            event: None,
            published: &published,
            trail: &trail,
            unanswered: &["web-2".into()],
        };
        let told = case.explain();
        assert_eq!(told.verdict, Verdict::Unknown);
        assert!(told.answer.contains("web-2"));
    }
}
