//! Request bodies of the HTTP API (docs/http-api.md#publish, docs/http-api.md#publish-a-batch), read with errors that name
//! the field.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::channel::ChannelName;
use crate::event;
use crate::excerpt::excerpt;
use crate::ids::SocketId;
use crate::json;
use crate::limits::Limits;

/// One event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name. Shared, as the data are, by what delivers, records and caches the event.
    pub name: Arc<str>,
    /// The `data` that subscribers get, unchanged.
    pub data: Arc<str>,
    /// Its channels, each once.
    pub channels: Vec<ChannelName>,
    /// The connection that doesn't get it.
    pub except: Option<SocketId>,
    /// The channel attributes that the caller asks for; `None` if it asks for none.
    pub info: Option<Info>,
    /// The key that makes a repeated request count once.
    pub idempotency_key: Option<String>,
}

/// The parts of an event that is not sent as one JSON object.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// Its name.
    pub name: &'a str,
    /// The `data` that subscribers get, unchanged.
    pub data: Cow<'a, str>,
    /// Its channels.
    pub channels: Vec<String>,
    /// The connection that doesn't get it, as text; empty for none.
    pub socket_id: Option<&'a str>,
}

/// Attributes of a channel that a caller may ask for with `info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Info {
    /// The number of distinct users; presence channels only.
    pub user_count: bool,
    /// The number of subscribed connections.
    pub subscription_count: bool,
    /// The event that a cache channel keeps.
    pub cache: bool,
}

/// Why a body is refused, as text for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Status 400.
    #[error("{0}")]
    Invalid(String),
    /// Status 413.
    #[error("{0}")]
    TooLarge(String),
}

fn invalid(message: impl Into<String>) -> BadRequest {
    BadRequest::Invalid(message.into())
}

impl Info {
    /// Reads a comma-separated list of attributes.
    ///
    /// # Errors
    ///
    /// Returns [`BadRequest::Invalid`] if an attribute is unknown.
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        let mut info = Self::default();
        for attribute in text
            .split(',')
            .map(str::trim)
            .filter(|attribute| !attribute.is_empty())
        {
            match attribute {
                "user_count" => info.user_count = true,
                "subscription_count" => info.subscription_count = true,
                "cache" => info.cache = true,
                other => {
                    return Err(invalid(format!(
                        "Invalid info: {:?} is not known; there are user_count, subscription_count and cache",
                        excerpt(other)
                    )));
                }
            }
        }
        Ok(info)
    }
}

/// A client's request for a signature, as its backend or pusher-js sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// The client's connection.
    pub socket_id: SocketId,
    /// The channel; `None` for a sign-in.
    pub channel_name: Option<String>,
    /// The client's user, as compact JSON text.
    pub user: Option<String>,
}

#[derive(Deserialize)]
struct AuthBody<'a> {
    #[serde(borrow)]
    socket_id: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_name: Option<&'a RawValue>,
    #[serde(borrow)]
    user: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct EventBody<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    channels: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    socket_id: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    idempotency_key: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BatchBody<'a> {
    #[serde(borrow)]
    batch: Option<Vec<&'a RawValue>>,
}

impl Event {
    /// Reads the body of `POST events`.
    ///
    /// # Errors
    ///
    /// Returns [`BadRequest`], which names the field and the fault.
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, BadRequest> {
        Self::from_json(utf8(body)?, limits)
    }

    /// Reads the body of `POST batch_events`. One invalid event refuses all of them.
    ///
    /// # Errors
    ///
    /// Returns [`BadRequest`], which names the event, the field and the fault.
    pub fn parse_batch(body: &[u8], limits: &Limits) -> Result<Vec<Self>, BadRequest> {
        let body: BatchBody<'_> = json::object(utf8(body)?).map_err(|error| {
            let reason = json::reason(&error);
            invalid(format!(
                "Invalid body: {reason}; expected a JSON object with an array 'batch'"
            ))
        })?;
        let batch = body
            .batch
            .ok_or_else(|| invalid("Missing parameter: batch, an array of events"))?;
        if batch.is_empty() {
            return Err(invalid("Invalid batch: it is empty"));
        }
        if batch.len() > limits.batch_events {
            let (sent, max) = (batch.len(), limits.batch_events);
            return Err(invalid(format!(
                "Invalid batch: {sent} events, at most {max} are allowed"
            )));
        }
        let rate = limits.backend_events_per_second;
        if rate > 0 && batch.len() > rate as usize {
            // A refusal for the rate would ask to try again, for ever.
            return Err(invalid(format!(
                "Invalid batch: {sent} events, and the app may publish {rate} a second (limits.backend_events_per_second): \
                 send at most {rate} in one request",
                sent = batch.len()
            )));
        }
        let item = |(index, raw): (usize, &&RawValue)| {
            Self::from_json(raw.get(), limits).map_err(|error| match error {
                BadRequest::Invalid(text) => BadRequest::Invalid(format!("batch[{index}]: {text}")),
                BadRequest::TooLarge(text) => {
                    BadRequest::TooLarge(format!("batch[{index}]: {text}"))
                }
            })
        };
        batch.iter().enumerate().map(item).collect()
    }

    /// Checks an event that was read in another form.
    ///
    /// # Errors
    ///
    /// Returns [`BadRequest`], which names the part and the fault.
    pub fn new(new: NewEvent<'_>, limits: &Limits) -> Result<Self, BadRequest> {
        check(new.name, &new.data, limits)?;
        Ok(Self {
            name: new.name.into(),
            channels: channel_names(&new.channels, limits)?,
            except: parse_socket_id(new.socket_id.unwrap_or_default())?,
            data: new.data.into(),
            info: None,
            idempotency_key: None,
        })
    }

    fn from_json(text: &str, limits: &Limits) -> Result<Self, BadRequest> {
        let body: EventBody<'_> = json::object(text).map_err(|error| {
            let reason = json::reason(&error);
            invalid(format!("Invalid body: {reason}; expected a JSON object"))
        })?;
        let name = string("name", body.name)?.ok_or_else(|| invalid("Missing parameter: name"))?;
        let data = body
            .data
            .ok_or_else(|| invalid("Missing parameter: data"))?;
        let data = json::as_text(data).map_err(|_| invalid(format!("Invalid data: {HALF}")))?;
        check(&name, &data, limits)?;
        Ok(Self {
            channels: channels(&body, limits)?,
            except: socket_id(body.socket_id)?,
            info: string("info", body.info)?
                .map(|info| Info::parse(&info))
                .transpose()?,
            idempotency_key: string("idempotency_key", body.idempotency_key)?.map(Cow::into_owned),
            name: name.into(),
            data: data.into(),
        })
    }
}

impl AuthRequest {
    /// Reads a JSON body.
    ///
    /// # Errors
    ///
    /// Returns [`BadRequest::Invalid`], which names the field and the fault.
    pub fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        let body: AuthBody<'_> = json::object(utf8(body)?).map_err(|error| {
            let reason = json::reason(&error);
            invalid(format!("Invalid body: {reason}; expected a JSON object"))
        })?;
        let user = body.user.filter(|user| user.get() != "null");
        Ok(Self {
            socket_id: socket_id(body.socket_id)?
                .ok_or_else(|| invalid("Missing parameter: socket_id"))?,
            channel_name: string("channel_name", body.channel_name)?.map(Cow::into_owned),
            user: user.map(|user| json::compact(user.get())),
        })
    }

    /// Reads the fields of a form.
    ///
    /// # Errors
    ///
    /// Returns [`BadRequest::Invalid`] if the socket id is missing or invalid.
    pub fn of_form(
        socket_id: Option<&str>,
        channel_name: Option<String>,
    ) -> Result<Self, BadRequest> {
        let text = socket_id.ok_or_else(|| invalid("Missing parameter: socket_id"))?;
        let socket_id = SocketId::parse(text)
            .map_err(|error| invalid(format!("Invalid socket_id {:?}: {error}", excerpt(text))))?;
        Ok(Self {
            socket_id,
            channel_name,
            user: None,
        })
    }
}

/// What is wrong with a string that isn't text.
const HALF: &str =
    "it has half a character, such as \\ud83d without its other half: cut texts between characters";

/// Checks an event's name and the size of its data.
fn check(name: &str, data: &str, limits: &Limits) -> Result<(), BadRequest> {
    event::check_name(name, limits.event_name).map_err(|error| invalid(error.to_string()))?;
    if data.len() > limits.event_data {
        let (sent, max) = (data.len(), limits.event_data);
        return Err(BadRequest::TooLarge(format!(
            "The data content of this event is too large: {sent} bytes, at most {max} are allowed"
        )));
    }
    Ok(())
}

fn utf8(body: &[u8]) -> Result<&str, BadRequest> {
    std::str::from_utf8(body).map_err(|error| {
        invalid(match body {
            [0x1f, 0x8b, ..] => {
                "Invalid body: it is compressed; send it as it is, without Content-Encoding".into()
            }
            _ => format!("Invalid body: not UTF-8: {error}"),
        })
    })
}

/// Reads a field that is a string, or absent, or null.
fn string<'a>(field: &str, raw: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, BadRequest> {
    match raw {
        Some(raw) if raw.get() != "null" => json::string(raw.get()).map(Some).map_err(|_| {
            invalid(match json::kind(raw) {
                "a string" => format!("Invalid {field}: {HALF}"),
                kind => format!("Invalid {field}: it must be a string, it is {kind}"),
            })
        }),
        _ => Ok(None),
    }
}

fn channels(body: &EventBody<'_>, limits: &Limits) -> Result<Vec<ChannelName>, BadRequest> {
    let mut names = Vec::new();
    if let Some(raw) = body.channels.filter(|raw| raw.get() != "null") {
        names = serde_json::from_str::<Vec<json::Text<'_>>>(raw.get())
            .map_err(|_| invalid("Invalid channels: it must be an array of strings"))?;
    }
    names.extend(string("channel", body.channel)?.map(json::Text));
    channel_names(&names, limits)
}

fn channel_names(
    names: &[impl AsRef<str>],
    limits: &Limits,
) -> Result<Vec<ChannelName>, BadRequest> {
    if names.is_empty() {
        return Err(invalid(
            "Missing parameter: channels, an array of at least one channel name",
        ));
    }
    if names.len() > limits.channels_per_publish {
        let (sent, max) = (names.len(), limits.channels_per_publish);
        return Err(invalid(format!(
            "Invalid channels: {sent} of them, at most {max} are allowed"
        )));
    }
    let mut unique: Vec<ChannelName> = Vec::with_capacity(names.len());
    for name in names {
        let name = ChannelName::parse(name.as_ref(), limits.channel_name)
            .map_err(|error| invalid(error.to_string()))?;
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    Ok(unique)
}

fn socket_id(raw: Option<&RawValue>) -> Result<Option<SocketId>, BadRequest> {
    parse_socket_id(&string("socket_id", raw)?.unwrap_or_default())
}

fn parse_socket_id(text: &str) -> Result<Option<SocketId>, BadRequest> {
    if text.is_empty() {
        return Ok(None);
    }
    SocketId::parse(text)
        .map(Some)
        .map_err(|error| invalid(format!("Invalid socket_id {:?}: {error}", excerpt(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Event, BadRequest> {
        Event::parse(body.as_bytes(), &Limits::HOSTED)
    }

    fn refused(body: &str) -> String {
        match parse(body) {
            Err(BadRequest::Invalid(text)) => text,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn channels_come_as_an_array_or_alone_and_count_once() {
        let event =
            parse(r#"{"name":"e","data":"d","channels":["a","b","a"],"channel":"b"}"#).unwrap();
        let names: Vec<&str> = event.channels.iter().map(ChannelName::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(parse(r#"{"name":"e","data":"d","channel":"a"}"#).is_ok());
    }

    #[test]
    fn data_that_is_no_string_is_its_json_text() {
        let data = |data: &str| {
            let body = format!(r#"{{"name":"e","data":{data},"channel":"a"}}"#);
            parse(&body).unwrap().data
        };
        assert_eq!(&*data(r#"{"a": [1, 2]}"#), r#"{"a":[1,2]}"#);
        assert_eq!(&*data(r#""""#), "");
        assert_eq!(&*data(r#""null""#), "null");
    }

    #[test]
    fn data_is_measured_in_bytes() {
        let body = |data: &str| format!(r#"{{"name":"e","channel":"a","data":"{data}"}}"#);
        assert!(parse(&body(&"x".repeat(10_240))).is_ok());
        assert!(parse(&body(&"é".repeat(5_120))).is_ok());
        assert!(parse(&body(&"\\u00e9".repeat(5_120))).is_ok());
        assert!(matches!(
            parse(&body(&"x".repeat(10_241))),
            Err(BadRequest::TooLarge(_))
        ));
        assert!(matches!(
            parse(&body(&"é".repeat(5_121))),
            Err(BadRequest::TooLarge(_))
        ));
    }

    #[test]
    fn socket_id_may_be_null_and_must_be_well_formed() {
        let body =
            |id: &str| format!(r#"{{"name":"e","channel":"a","data":"d","socket_id":{id}}}"#);
        assert_eq!(parse(&body("null")).unwrap().except, None);
        assert_eq!(parse(&body("\"\"")).unwrap().except, None);
        assert_eq!(
            parse(&body("\"1.2\"")).unwrap().except,
            SocketId::parse("1.2").ok()
        );
        assert!(refused(&body("\"abc\"")).contains("socket_id"));
        assert!(refused(&body("7")).contains("socket_id"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refused("").contains("object"));
        assert!(refused("[]").contains("object"));
        assert!(refused("{\"name\"").contains("Invalid body"));
        assert!(refused(r#"{"data":"d","channel":"a"}"#).contains("name"));
        assert!(refused(r#"{"name":7,"data":"d","channel":"a"}"#).contains("a number"));
        assert!(refused(r#"{"name":"e","channel":"a"}"#).contains("data"));
        assert!(refused(r#"{"name":"e","data":"d"}"#).contains("channels"));
        assert!(refused(r#"{"name":"e","data":"d","channels":[]}"#).contains("channels"));
        assert!(refused(r#"{"name":"e","data":"d","channels":"a"}"#).contains("array"));
        assert!(refused(r#"{"name":"e","data":"d","channel":"a b"}"#).contains("character 2"));
        assert!(refused(r##"{"name":"e","data":"d","channel":"#foo"}"##).contains("reserved"));
        assert!(refused(r#"{"name":"pusher:e","data":"d","channel":"a"}"#).contains("reserved"));
        assert!(
            refused(r#"{"name":"e","data":"\ud800","channel":"a"}"#).contains("half a character")
        );
        assert!(
            refused(r#"{"name":"\ud83d","data":"d","channel":"a"}"#).contains("half a character")
        );
        assert!(refused(r#"{"name":"e","data":"d","channel":"a","info":"nope"}"#).contains("nope"));
        let name = "x".repeat(201);
        assert!(
            refused(&format!(r#"{{"name":"{name}","data":"d","channel":"a"}}"#))
                .contains("201 bytes")
        );
        let many = |n: usize| {
            format!(
                r#"{{"name":"e","data":"d","channels":{:?}}}"#,
                (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>()
            )
        };
        assert!(parse(&many(100)).is_ok());
        assert!(refused(&many(101)).contains("101"));
        assert!(matches!(
            Event::parse(b"{\"name\":\"\xff\"}", &Limits::HOSTED),
            Err(BadRequest::Invalid(_))
        ));
    }

    #[test]
    fn an_answer_is_short_however_long_the_body() {
        let long = "\\u0001".repeat(10_000);
        let with =
            |field: &str| format!(r#"{{"name":"e","data":"d","channel":"a","{field}":"{long}"}}"#);
        for body in [
            format!("\"{long}\""),
            format!(r#"{{"batch":"{long}"}}"#),
            with("info"),
            with("socket_id"),
            with("channels"),
            with("channel"),
            with("name"),
        ] {
            for error in [
                parse(&body).map(drop).unwrap_err(),
                Event::parse_batch(body.as_bytes(), &Limits::HOSTED).unwrap_err(),
            ] {
                let answer = error.to_string();
                assert!(answer.len() < 1_500, "{} bytes: {answer}", answer.len());
            }
        }
    }

    #[test]
    fn a_batch_is_taken_whole_or_refused_whole() {
        let item = r#"{"name":"e","data":"d","channel":"a"}"#;
        let batch = |items: &[&str]| {
            Event::parse_batch(
                format!("{{\"batch\":[{}]}}", items.join(",")).as_bytes(),
                &Limits::HOSTED,
            )
        };
        assert_eq!(batch(&[item; 10]).unwrap().len(), 10);
        assert!(batch(&[item; 11]).is_err());
        assert!(batch(&[]).is_err());
        let error = batch(&[item, r#"{"name":"e","data":"d"}"#]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("batch[1]: Missing parameter: channels"),
            "{error}"
        );
        let slow = Limits {
            backend_events_per_second: 1,
            ..Limits::HOSTED
        };
        let never = Event::parse_batch(format!(r#"{{"batch":[{item},{item}]}}"#).as_bytes(), &slow);
        assert!(
            never
                .unwrap_err()
                .to_string()
                .contains("at most 1 in one request")
        );
        assert!(Event::parse_batch(b"{}", &Limits::HOSTED).is_err());
        assert!(Event::parse_batch(b"[]", &Limits::HOSTED).is_err());
        assert!(Event::parse_batch(format!("[[{item}]]").as_bytes(), &Limits::HOSTED).is_err());
    }
}
