//! The bodies of requests: events as hosted Pusher writes them, to the byte, and as Standard Webhooks describes them.

use fanfare_protocol::WebhookEvent;
use fanfare_store::WebhookFormat;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Milliseconds after its creation for which the body of a delivery stays the same. Pusher's Python library refuses a
/// body whose `time_ms` differs from its clock by more than five minutes, so later attempts have a new time.
const SAME_BODY: i64 = 4 * 60_000;

/// An event as receivers get it. All values are text except the count: receivers in typed languages expect text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub(crate) enum EventBody<'a> {
    ChannelOccupied {
        channel: &'a str,
    },
    ChannelVacated {
        channel: &'a str,
    },
    MemberAdded {
        channel: &'a str,
        user_id: &'a str,
    },
    MemberRemoved {
        channel: &'a str,
        user_id: &'a str,
    },
    ClientEvent {
        channel: &'a str,
        event: &'a str,
        data: &'a str,
        socket_id: &'a str,
        /// Only on presence channels.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<&'a str>,
    },
    CacheMiss {
        channel: &'a str,
    },
    SubscriptionCount {
        channel: &'a str,
        subscription_count: usize,
    },
}

impl EventBody<'_> {
    /// Returns what it tells of.
    pub(crate) fn kind(&self) -> WebhookEvent {
        match self {
            Self::ChannelOccupied { .. } => WebhookEvent::ChannelOccupied,
            Self::ChannelVacated { .. } => WebhookEvent::ChannelVacated,
            Self::MemberAdded { .. } => WebhookEvent::MemberAdded,
            Self::MemberRemoved { .. } => WebhookEvent::MemberRemoved,
            Self::ClientEvent { .. } => WebhookEvent::ClientEvent,
            Self::CacheMiss { .. } => WebhookEvent::CacheMiss,
            Self::SubscriptionCount { .. } => WebhookEvent::SubscriptionCount,
        }
    }

    /// Returns the event as JSON, in the order of fields that hosted Pusher has.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("writing an event into memory does not fail")
    }
}

/// What a request tells of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    /// A JSON array of events, as [`EventBody::to_json`] writes them.
    pub(crate) events: &'a str,
    /// When they were recorded, Unix time in milliseconds.
    pub(crate) created_at: i64,
    pub(crate) is_replay: bool,
}

/// Returns the body of an attempt at `now`, Unix time in milliseconds.
pub(crate) fn body(format: WebhookFormat, content: Content<'_>, now: i64) -> String {
    match format {
        WebhookFormat::Pusher => pusher_body(content, now),
        WebhookFormat::Standard => standard_body(content),
    }
}

fn pusher_body(content: Content<'_>, now: i64) -> String {
    let is_same = !content.is_replay && now - content.created_at < SAME_BODY;
    let time_ms = if is_same { content.created_at } else { now };
    // The events are JSON already, and are sent as they were recorded.
    format!(r#"{{"time_ms":{time_ms},"events":{}}}"#, content.events)
}

/// An event as Standard Webhooks describes it. The time of the attempt is in a header, so the body is always the same.
#[derive(Serialize)]
struct StandardBody {
    r#type: String,
    timestamp: String,
    data: Map<String, Value>,
}

/// An event as it was recorded.
#[derive(Deserialize)]
struct RecordedEvent {
    name: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn standard_body(content: Content<'_>) -> String {
    let timestamp = Timestamp::from_millisecond(content.created_at);
    let timestamp = timestamp.map_or_else(|_| content.created_at.to_string(), |at| at.to_string());
    let events: Vec<RecordedEvent> = serde_json::from_str(content.events).unwrap_or_default();
    let body = match <[RecordedEvent; 1]>::try_from(events) {
        Ok([RecordedEvent { name, rest }]) => StandardBody {
            r#type: name,
            timestamp,
            data: rest,
        },
        // Recorded while the webhook had the other format, in which a request may have several events.
        Err(_) => {
            let events = serde_json::from_str(content.events).unwrap_or_default();
            StandardBody {
                r#type: "events".into(),
                timestamp,
                data: Map::from_iter([("events".into(), events)]),
            }
        }
    };
    serde_json::to_string(&body).expect("writing a body into memory does not fail")
}

/// Returns a JSON array of events that are JSON themselves.
pub(super) fn array<'a>(events: impl IntoIterator<Item = &'a str>) -> String {
    let mut array = String::from("[");
    for (index, event) in events.into_iter().enumerate() {
        if index > 0 {
            array.push(',');
        }
        array.push_str(event);
    }
    array.push(']');
    array
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OCCUPIED: &str = r#"{"name":"channel_occupied","channel":"my-channel"}"#;

    fn content(events: &str, is_replay: bool) -> Content<'_> {
        Content {
            events,
            created_at: 1_327_078_148_132,
            is_replay,
        }
    }

    #[test]
    fn events_are_written_as_hosted_pusher_writes_them() {
        let client_event = |channel, user_id| EventBody::ClientEvent {
            channel,
            event: "client-typing",
            data: r#"{"at":1}"#,
            socket_id: "123.456",
            user_id,
        };
        let channel = "presence-a";
        for (event, json) in [
            (
                EventBody::ChannelOccupied {
                    channel: "my-channel",
                },
                OCCUPIED,
            ),
            (
                EventBody::ChannelVacated {
                    channel: "my-channel",
                },
                r#"{"name":"channel_vacated","channel":"my-channel"}"#,
            ),
            (
                EventBody::MemberAdded {
                    channel,
                    user_id: "7",
                },
                r#"{"name":"member_added","channel":"presence-a","user_id":"7"}"#,
            ),
            (
                EventBody::MemberRemoved {
                    channel,
                    user_id: "a \"b\"",
                },
                r#"{"name":"member_removed","channel":"presence-a","user_id":"a \"b\""}"#,
            ),
            (
                client_event(channel, Some("7")),
                r#"{"name":"client_event","channel":"presence-a","event":"client-typing","data":"{\"at\":1}","socket_id":"123.456","user_id":"7"}"#,
            ),
            (
                client_event("private-a", None),
                r#"{"name":"client_event","channel":"private-a","event":"client-typing","data":"{\"at\":1}","socket_id":"123.456"}"#,
            ),
            (
                EventBody::CacheMiss { channel: "cache-a" },
                r#"{"name":"cache_miss","channel":"cache-a"}"#,
            ),
            (
                EventBody::SubscriptionCount {
                    channel: "news",
                    subscription_count: 3,
                },
                r#"{"name":"subscription_count","channel":"news","subscription_count":3}"#,
            ),
        ] {
            assert_eq!(event.to_json(), json);
            let name = serde_json::to_value(event.kind()).expect("a name");
            assert_eq!(serde_json::to_value(&event).expect("JSON")["name"], name);
        }
    }

    #[test]
    fn a_body_is_that_of_the_published_vector() {
        let events = array([OCCUPIED]);
        let body = body(
            WebhookFormat::Pusher,
            content(&events, false),
            1_327_078_148_132,
        );
        assert_eq!(
            body,
            r#"{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"my-channel"}]}"#
        );
    }

    #[test]
    fn a_body_stays_the_same_for_four_minutes_and_has_a_new_time_afterwards() {
        let events = array([OCCUPIED, OCCUPIED]);
        let created_at = content(&events, false).created_at;
        let time = |is_replay, after: i64| {
            let body = pusher_body(content(&events, is_replay), created_at + after);
            let body: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(body["events"].as_array().map(Vec::len), Some(2));
            body["time_ms"].as_i64().expect("a number") - created_at
        };
        assert_eq!(time(false, 0), 0);
        assert_eq!(time(false, 239_999), 0);
        assert_eq!(time(false, 240_000), 240_000);
        assert_eq!(time(false, 18 * 3_600_000), 18 * 3_600_000);
        assert_eq!(time(true, 1000), 1000, "a replay is a new request");
    }

    #[test]
    fn a_standard_body_has_the_event_as_data_and_is_always_the_same() {
        let event = EventBody::ClientEvent {
            channel: "private-a",
            event: "client-x",
            data: "1",
            socket_id: "1.2",
            user_id: None,
        };
        let events = array([event.to_json().as_str()]);
        let first = body(WebhookFormat::Standard, content(&events, false), 0);
        let parsed: Value = serde_json::from_str(&first).expect("JSON");
        assert_eq!(
            parsed,
            json!({
                "type": "client_event",
                "timestamp": "2012-01-20T16:49:08.132Z",
                "data": {"channel": "private-a", "event": "client-x", "data": "1", "socket_id": "1.2"},
            })
        );
        let replayed = body(WebhookFormat::Standard, content(&events, true), i64::MAX);
        assert_eq!(first, replayed);
    }

    #[test]
    fn several_events_that_were_recorded_in_the_other_format_are_all_told() {
        let events = array([OCCUPIED, r#"{"name":"cache_miss","channel":"cache-a"}"#]);
        let body = body(WebhookFormat::Standard, content(&events, false), 0);
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["type"], "events");
        assert_eq!(body["data"]["events"][1]["name"], "cache_miss");
    }
}
