//! A client of a soak: what it subscribes to, and what it makes of each message.

use std::collections::HashSet;
use std::io::ErrorKind;

use anyhow::{Context, Result, bail, ensure};
use mio::{Poll, Token};
use serde_json::{Value, json};

use super::check::{Faults, Seen};
use crate::clients::Clients;
use crate::http;
use crate::stream::Stream;
use crate::target::Target;
use crate::wire;

/// Names of a client's three channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) room: String,
    pub(crate) plain: String,
    pub(crate) presence: String,
}

/// A connected client.
pub(crate) struct Client {
    stream: Stream,
    names: Names,
    /// What it has received.
    pub(crate) seen: Seen,
    /// Its socket id, once it was greeted. It is its user's id too.
    pub(crate) id: Option<String>,
    /// Whether it was subscribed to its three channels.
    pub(crate) subscribed: usize,
    /// Whether it is, or will be, a member of its presence channel.
    pub(crate) is_member: bool,
    /// What its events are told apart by from those of all other connections.
    serial: u64,
    /// Number of its next event.
    next: u32,
    upgraded: bool,
    carry: Vec<u8>,
}

impl Client {
    /// Connects, with what it had seen before.
    pub(crate) fn connect(
        target: &Target,
        serial: u64,
        names: Names,
        seen: Seen,
        poll: &Poll,
        token: Token,
    ) -> Result<Self> {
        let mut stream = Stream::connect(target.address(token.0), target.tls.as_ref())?;
        stream.send(&Clients::Pusher.request(target, ""))?;
        stream.register(poll.registry(), token)?;
        Ok(Self {
            stream,
            names,
            seen,
            id: None,
            subscribed: 0,
            is_member: true,
            serial,
            next: 0,
            upgraded: false,
            carry: Vec::new(),
        })
    }

    /// Returns its channels.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Sends an event to the others of its channel without a history.
    pub(crate) fn send_event(&mut self) -> Result<()> {
        let data = format!("{}/{}", self.serial, self.next);
        self.next += 1;
        let event = json!({ "event": "client-e", "channel": self.names.plain, "data": data });
        self.send(&event)
    }

    /// Leaves its presence channel, or joins it again.
    pub(crate) fn toggle_membership(&mut self, target: &Target) -> Result<()> {
        self.is_member = !self.is_member;
        if self.is_member {
            let channel = self.names.presence.clone();
            return self.subscribe(target, &channel, None);
        }
        self.seen.members = None;
        let message = Target::unsubscription(&self.names.presence);
        Ok(self.stream.send(&message)?)
    }

    /// Reads and checks all that has come. Returns how many events that were.
    pub(crate) fn ready(
        &mut self,
        target: &Target,
        buffer: &mut [u8],
        faults: &mut Faults,
    ) -> Result<u64> {
        let mut events = 0;
        loop {
            let kept = self.carry.len();
            buffer[..kept].copy_from_slice(&self.carry);
            let end = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the server closed a client"),
                Ok(read) => kept + read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(events),
                Err(error) => return Err(error).context("a client"),
            };
            let mut used = 0;
            if !self.upgraded
                && let Some(answer) = http::message(&buffer[..end])
            {
                let answer = &buffer[..answer.len];
                ensure!(
                    http::status(answer) == Some(101),
                    "{}",
                    String::from_utf8_lossy(answer)
                );
                self.upgraded = true;
                used = answer.len();
            }
            while self.upgraded
                && let Some(frame) = wire::frame(&buffer[used..end])
            {
                let payload = &buffer[used + frame.head..used + frame.len];
                if frame.opcode == wire::TEXT {
                    events += u64::from(self.message(target, payload, faults)?);
                } else if frame.opcode == wire::PING {
                    self.stream.send(&wire::masked_pong(payload))?;
                } else {
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    bail!("the server closed a client: {reason}");
                }
                used += frame.len;
            }
            self.carry.clear();
            self.carry.extend_from_slice(&buffer[used..end]);
        }
    }

    /// Handles a message, and returns whether it was an event.
    fn message(&mut self, target: &Target, text: &[u8], faults: &mut Faults) -> Result<bool> {
        let message: Value = serde_json::from_slice(text).context("a message that is not JSON")?;
        let field = |name: &str| message[name].as_str().unwrap_or_default();
        let (event, channel, data) = (field("event"), field("channel"), field("data"));
        let inner = || serde_json::from_str::<Value>(data).unwrap_or_default();
        match event {
            "pusher:connection_established" => {
                let id = inner()["socket_id"].as_str().map(str::to_owned);
                self.id = Some(id.context("a greeting without a socket id")?);
                self.subscribe_to_all(target)?;
            }
            "pusher:ping" => self.send(&json!({ "event": "pusher:pong", "data": {} }))?,
            "pusher_internal:subscription_succeeded" => {
                self.subscribed_to(channel, &inner(), faults)
            }
            "pusher_internal:member_added" | "pusher_internal:member_removed" => {
                let came = event.ends_with("added");
                let id = inner()["user_id"].as_str().unwrap_or_default().to_owned();
                self.seen.member(&id, came, faults);
            }
            "client-e" => self.event_of_client(data, faults)?,
            "e" => {
                let number = data.parse().context("an event without a number")?;
                if channel == self.names.room {
                    if let Some(position) = message["position"].as_str() {
                        self.seen.position = Some(position.to_owned());
                    }
                    faults.follow(&mut self.seen.room, number, channel);
                } else {
                    faults.follow(&mut self.seen.plain, number, channel);
                }
            }
            _ => bail!("a client got {}", String::from_utf8_lossy(text)),
        }
        Ok(matches!(event, "e" | "client-e"))
    }

    fn event_of_client(&mut self, data: &str, faults: &mut Faults) -> Result<()> {
        let (sender, number) = data.split_once('/').context("an event without a sender")?;
        let last = self.seen.senders.entry(sender.to_owned()).or_default();
        faults.follow(last, number.parse()?, "a client's events");
        Ok(())
    }

    fn subscribe_to_all(&mut self, target: &Target) -> Result<()> {
        let Names {
            room,
            plain,
            presence,
        } = self.names.clone();
        let recover = match &self.seen.position {
            Some(position) => json!({ "position": position }),
            None => true.into(),
        };
        self.subscribe(target, &room, Some(recover))?;
        self.subscribe(target, &plain, None)?;
        self.subscribe(target, &presence, None)
    }

    fn subscribe(&mut self, target: &Target, channel: &str, recover: Option<Value>) -> Result<()> {
        let mut data = json!({ "channel": channel });
        target.authorize(&mut data, self.id.as_deref().unwrap_or_default(), channel);
        if let Some(recover) = recover {
            data["recover"] = recover;
        }
        self.send(&json!({ "event": "pusher:subscribe", "data": data }))
    }

    fn subscribed_to(&mut self, channel: &str, data: &Value, faults: &mut Faults) {
        self.subscribed += 1;
        if channel == self.names.room {
            if self.seen.position.is_none() {
                // Without a history there is nothing to compare with.
                self.seen.room = None;
            } else if data["recovered"] != true {
                faults.lost(1, &format!("{channel} was not recovered: {data}"));
                self.seen.room = None;
            }
            self.seen.position = data["position"].as_str().map(str::to_owned);
        } else if channel == self.names.presence {
            let ids = data["presence"]["ids"].as_array().into_iter().flatten();
            let ids: HashSet<String> = ids.filter_map(Value::as_str).map(str::to_owned).collect();
            self.seen.members = Some(ids);
        }
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        let frame = wire::masked_text_frame(message.to_string().as_bytes());
        self.stream.send(&frame).context("a client cannot send")
    }
}
