//! A live event as viewers get it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use fanfare_protocol::SocketId;
use serde::{Deserialize, Serialize};

use super::event::{LiveEvent, LiveKind};

/// Most bytes of an event's data that a line has.
pub(super) const MAX_DATA: usize = 4096;
/// Most bytes of any other text, because some are chosen by clients.
const MAX_TEXT: usize = 1024;
/// About what a line takes beside its texts, in bytes.
const LINE_BYTES: usize = 480;

/// A live event, kept for viewers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveLine {
    /// The node on which it happened.
    pub node: Arc<str>,
    /// Its number on that node.
    pub sequence: u64,
    /// When it happened, Unix time in milliseconds.
    pub time_ms: u64,
    /// What happened.
    pub kind: LiveKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    /// The length of the whole data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_bytes: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    socket_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transport: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscribers: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivery: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
}

/// A line as a viewer gets it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    id: String,
    time_ms: u64,
    node: &'a str,
    kind: LiveKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_bytes: Option<usize>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    data_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
}

impl LiveLine {
    pub(super) fn new(node: Arc<str>, sequence: u64, time_ms: u64, event: &LiveEvent<'_>) -> Self {
        let text = |text: Option<&str>| text.map(|text| cut(text, MAX_TEXT).to_owned());
        Self {
            node,
            sequence,
            time_ms,
            kind: event.kind,
            channel: text(event.channel),
            event: text(event.event),
            data: event.data.map(|data| cut(data, MAX_DATA).to_owned()),
            data_bytes: event.data.map(str::len),
            socket_id: event.socket_id.map(|socket_id| socket_id.to_string()),
            user_id: text(event.user_id),
            key: text(event.key),
            address: event.address,
            transport: text(event.transport),
            client: text(event.client),
            subscribers: event.subscribers,
            refusal: text(event.refusal),
            reason: text(event.reason),
            code: event.code,
            webhook_id: text(event.webhook_id),
            delivery: event.delivery,
            status: event.status,
            took_ms: event.took_ms,
        }
    }

    /// Returns the event again, as filters look at it.
    pub(super) fn as_event(&self) -> LiveEvent<'_> {
        let socket_id = self.socket_id.as_deref();
        LiveEvent {
            channel: self.channel.as_deref(),
            event: self.event.as_deref(),
            data: self.data.as_deref(),
            socket_id: socket_id.and_then(|socket_id| SocketId::parse(socket_id).ok()),
            user_id: self.user_id.as_deref(),
            reason: self.reason.as_deref(),
            refusal: self.refusal.as_deref(),
            ..LiveEvent::new(self.kind)
        }
    }

    /// Returns whether it is kept even if nobody watches.
    pub(super) fn is_always_kept(&self) -> bool {
        self.as_event().is_always_kept()
    }

    /// Returns about how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [
            &self.channel,
            &self.event,
            &self.data,
            &self.user_id,
            &self.client,
            &self.reason,
        ];
        let lengths = texts.into_iter().flatten().map(String::len);
        LINE_BYTES + lengths.sum::<usize>()
    }

    /// Returns the line as JSON, with or without what is the app's own: the data of events, and
    /// those parts of reasons that quote what clients sent.
    #[must_use]
    pub fn to_json(&self, payloads: bool) -> String {
        let data = self.data.as_deref().filter(|_| payloads);
        let shown = Shown {
            id: format!("{}-{}", self.node, self.sequence),
            time_ms: self.time_ms,
            node: &self.node,
            kind: self.kind,
            channel: self.channel.as_deref(),
            event: self.event.as_deref(),
            data,
            data_bytes: self.data_bytes,
            data_truncated: data.is_some_and(|data| Some(data.len()) < self.data_bytes),
            socket_id: self.socket_id.as_deref(),
            user_id: self.user_id.as_deref(),
            key: self.key.as_deref(),
            address: self.address,
            transport: self.transport.as_deref(),
            client: self.client.as_deref(),
            subscribers: self.subscribers,
            refusal: self.refusal.as_deref(),
            reason: self.as_event().shown_reason(payloads),
            code: self.code,
            webhook_id: self.webhook_id.as_deref(),
            delivery: self.delivery,
            status: self.status,
            took_ms: self.took_ms,
        };
        serde_json::to_string(&shown).expect("a line is JSON")
    }
}

/// Longest quoted name in a reason that everybody may see, in bytes.
const MAX_QUOTED_NAME: usize = 40;

/// Returns a reason without what it quotes of clients: only short names stay. A text that was to be signed may hold
/// anything, and so may what was sent in place of a signature.
fn without_payload(reason: &str) -> String {
    let mut shown = String::with_capacity(reason.len());
    let mut rest = reason;
    while let Some(at) = rest.find(['"', '`', '{', '[']) {
        shown.push_str(&rest[..at]);
        let mark = rest.as_bytes()[at];
        if matches!(mark, b'{' | b'[') {
            shown.push('…');
            return shown;
        }
        shown.push(mark.into());
        let quoted = &rest[at + 1..];
        let Some(end) = end_of_quote(quoted, mark) else {
            shown.push('…');
            return shown;
        };
        shown.push_str(if is_short_name(&quoted[..end]) {
            &quoted[..end]
        } else {
            "…"
        });
        shown.push(mark.into());
        rest = &quoted[end + 1..];
    }
    shown.push_str(rest);
    shown
}

/// Returns where a quote ends, or `None` if it was cut.
fn end_of_quote(quoted: &str, mark: u8) -> Option<usize> {
    let mut is_escaped = false;
    quoted.bytes().position(|byte| {
        let ends = byte == mark && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

fn is_short_name(quoted: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=@,.;#".contains(&byte);
    quoted.len() <= MAX_QUOTED_NAME && quoted.bytes().all(is_part)
}

impl<'a> LiveEvent<'a> {
    /// Returns the reason for a viewer. What quotes clients' data is left out for those who may not see
    /// it: a text that was to be signed has the user's, and an invalid message may have anything.
    pub(super) fn shown_reason(&self, payloads: bool) -> Option<Cow<'a, str>> {
        let reason = self.reason?;
        Some(match self.refusal {
            _ if payloads => reason.into(),
            refusal => public_reason(refusal.unwrap_or_default(), reason),
        })
    }
}

/// Returns the reason of a refusal for those who may not see clients' data.
pub(crate) fn public_reason<'a>(refusal: &str, reason: &'a str) -> Cow<'a, str> {
    match refusal {
        "message" | "fallback_body" => "it is no message of the protocol".into(),
        _ => without_payload(reason).into(),
    }
}

/// Returns the beginning of a text, cut at a character boundary.
pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &LiveEvent<'_>) -> LiveLine {
        LiveLine::new("node".into(), 7, 1000, event)
    }

    #[test]
    fn data_is_cut_and_left_out_for_those_who_may_not_see_it() {
        let data = "é".repeat(3000);
        let line = line(&LiveEvent {
            channel: Some("news"),
            data: Some(&data),
            ..LiveEvent::new(LiveKind::Publish)
        });
        let shown: serde_json::Value = serde_json::from_str(&line.to_json(true)).expect("JSON");
        assert_eq!(shown["data"].as_str().map(str::len), Some(MAX_DATA));
        assert_eq!(shown["data_truncated"], true);
        assert_eq!(
            (&shown["id"], &shown["data_bytes"]),
            (&"node-7".into(), &6000.into())
        );
        let hidden: serde_json::Value = serde_json::from_str(&line.to_json(false)).expect("JSON");
        assert_eq!(
            hidden,
            serde_json::json!({"id": "node-7", "time_ms": 1000, "node": "node", "kind": "publish", "channel": "news", "data_bytes": 6000})
        );
    }

    #[test]
    fn reasons_quote_no_objects_to_those_who_may_not_see_data() {
        let signed = r#"expected HMAC of "1.2:presence-a:{\"user_id\":\"1\",\"user_info\":{\"a\":1}}" with the secret"#;
        let line = line(&LiveEvent {
            reason: Some(signed),
            ..LiveEvent::new(LiveKind::Refused)
        });
        let hidden = line.to_json(false);
        assert!(
            hidden.contains(r#"expected HMAC of \"…\" with the secret"#),
            "{hidden}"
        );
        assert!(line.to_json(true).contains("user_info"));
        let invalid = self::line(&LiveEvent {
            refusal: Some("message"),
            reason: Some("Invalid message: invalid type: string \"private\""),
            ..LiveEvent::new(LiveKind::Refused)
        });
        assert!(!invalid.to_json(false).contains("private"));
    }

    #[test]
    fn of_what_reasons_quote_only_short_names_are_for_everybody() {
        for (reason, shown) in [
            ("no quote", "no quote"),
            (
                r#"the key "abc" of "private-x""#,
                r#"the key "abc" of "private-x""#,
            ),
            // A nested object ends before the cut.
            (
                r#"of "1.2:presence-a:{\"a\":{\"b\":1},\"password\":\"secret"#,
                r#"of "…"#,
            ),
            (
                r#"of "1.2:presence-a:[\"secret\"]", got "x""#,
                r#"of "…", got "x""#,
            ),
            (r#"of "1.2::user::secret", got "x""#, r#"of "…", got "x""#),
            (r#"of "} secret {", got "x""#, r#"of "…", got "x""#),
            (
                r#"expected KEY:SIGNATURE, got "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0""#,
                r#"expected KEY:SIGNATURE, got "…""#,
            ),
            (r#"invalid value `a b`"#, "invalid value `…`"),
            (r#"unquoted {"a":{}} secret"#, "unquoted …"),
        ] {
            assert_eq!(without_payload(reason), shown);
        }
    }

    #[test]
    fn other_nodes_read_what_a_node_writes() {
        let line = line(&LiveEvent {
            socket_id: SocketId::parse("1.2").ok(),
            user_id: Some("ann"),
            address: "::1".parse().ok(),
            code: Some(4200),
            ..LiveEvent::new(LiveKind::Disconnected)
        });
        let text = serde_json::to_string(&line).expect("JSON");
        assert_eq!(
            serde_json::from_str::<LiveLine>(&text).expect("a line"),
            line
        );
    }
}
