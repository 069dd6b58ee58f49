//! A connection of Engine.IO on its shard: its heartbeat, its transport, and its clients, one in each namespace.

mod connect;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Bytes;
use fanfare_engine::{Arrival, Charge, Reading, Refusal, Shard};
use fanfare_protocol::CloseCode;
use fanfare_protocol::socket_io::{self, EngineIoPacket, Packet, PacketKind};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::outlet::{Batches, Event, Outlet, Transport};
use crate::app_state::AppState;
use crate::edge::refusal_log;
use crate::edge::xhr::{PendingSession, evicted};

/// Silence after which the client gets a heartbeat, as in the reference server.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(25);
/// How long the client may take to answer a heartbeat.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the client may take to ask for a namespace.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);
/// The version of Pusher's protocol that stands for clients who don't speak it.
const PLAIN_PROTOCOL: &str = "7";
/// The packet that ends a connection over HTTP.
const CLOSE: &[u8] = b"1";
/// The packet that sets a poll free.
const NOOP: &[u8] = b"6";

/// What a transport asks of its connection.
pub(super) enum Control {
    /// A request waits for packets.
    Poll(oneshot::Sender<Bytes>),
    /// The request that waits is to be answered now.
    Release,
    /// A WebSocket is about to replace polling.
    Probe,
    /// That WebSocket has ended before it did.
    Abandoned,
    /// A WebSocket replaces polling.
    Upgrade(Batches),
}

/// Packets of the client that came together.
pub(super) struct Packets {
    pub(super) packets: Vec<Incoming>,
    /// Charge of the body in which they came, until they are handled.
    pub(super) charge: Option<Charge>,
}

/// A packet of the client.
pub(super) enum Incoming {
    Text(String),
    /// A part of an event, which isn't looked at.
    Binary,
}

/// What is known of the client before it has asked for a namespace.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    /// All `Origin` header lines.
    pub(super) origin: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) charged_address: Option<IpAddr>,
    pub(super) secure: bool,
}

impl Arrived {
    fn arrival<'a>(&'a self, key: &'a str) -> Arrival<'a> {
        Arrival {
            key,
            protocol: Some(PLAIN_PROTOCOL),
            origin: self.origin.as_deref(),
            secure: self.secure,
            charged_address: self.charged_address,
        }
    }
}

/// A connection that is about to start.
pub(super) struct Opened {
    pub(super) state: AppState,
    pub(super) sid: String,
    pub(super) arrived: Arrived,
    pub(super) transport: Transport,
    pub(super) control: Receiver<Control>,
    pub(super) packets: Receiver<Packets>,
    /// Set over HTTP until the client has shown that it reads the answers.
    pub(super) pending: Option<PendingSession>,
}

/// Starts serving a connection. Must be called on the shard's thread.
pub(super) fn start(shard: Rc<Shard>, opened: Opened) {
    let now = Instant::now();
    let connection = Connection {
        shard,
        outlet: Rc::new(Outlet::new(opened.transport)),
        state: opened.state,
        arrived: opened.arrived,
        control: opened.control,
        packets: opened.packets,
        pending: opened.pending,
        clients: BTreeMap::new(),
        awaited: None,
        ping_at: now + PING_INTERVAL,
        is_pinged: false,
        connect_by: Some(now + CONNECT_TIMEOUT),
        is_probed: false,
        moved: Arc::default(),
    };
    let sid = opened.sid;
    tokio::task::spawn_local(async move {
        let state = connection.state.clone();
        connection.run().await;
        state.socket_io.forget(&sid);
    });
}

struct Connection {
    shard: Rc<Shard>,
    state: AppState,
    arrived: Arrived,
    outlet: Rc<Outlet>,
    control: Receiver<Control>,
    packets: Receiver<Packets>,
    pending: Option<PendingSession>,
    /// By namespace; `None` for one whose client has ended.
    clients: BTreeMap<String, Option<Client>>,
    /// The event whose binary parts are to come.
    awaited: Option<Awaited>,
    /// When the next heartbeat is due, or the answer to the last one.
    ping_at: Instant,
    is_pinged: bool,
    /// When the client must have asked for a namespace.
    connect_by: Option<Instant>,
    /// Whether a WebSocket is about to replace polling, so that no request must hang.
    is_probed: bool,
    /// Notified when one of the clients has come back on another connection.
    moved: Arc<Notify>,
}

/// An event with binary parts.
struct Awaited {
    text: String,
    parts: usize,
}

/// Next action of a connection.
enum Step {
    Control(Control),
    Take(Packets),
    Flush,
    /// The client in this namespace has ended.
    EndClient(String),
    Time,
    /// The client has closed its transport.
    Gone,
    End,
}

/// Whether the connection goes on.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    End,
}

impl Connection {
    async fn run(mut self) {
        loop {
            self.flush();
            let flow = match self.next_step().await {
                Step::Control(control) => self.control(control),
                Step::Take(packets) => self.take(packets).await,
                Step::EndClient(namespace) => self.end_client(&namespace).await,
                Step::Flush => Flow::Continue,
                Step::Time => self.on_time(),
                Step::Gone => self.take_last().await,
                Step::End => Flow::End,
            };
            if flow == Flow::End {
                break;
            }
        }
        self.end().await;
    }

    async fn end(mut self) {
        self.control.close();
        self.packets.close();
        self.flush();
        for client in std::mem::take(&mut self.clients).into_values().flatten() {
            self.state.socket_io.recovery.away(&client.returning);
            client.session.end().await;
        }
        if self.outlet.is_polled() {
            self.outlet.push(CLOSE);
        }
    }

    /// Writes what the transport takes.
    fn flush(&self) {
        self.outlet.flush();
        for client in self.clients.values().flatten() {
            client.session.flush();
        }
        if self.is_probed {
            self.release_poll();
        }
    }

    /// Answers the request that waits, if there is one.
    fn release_poll(&self) {
        if self.outlet.is_polled() {
            self.outlet.push(NOOP);
        }
    }

    async fn next_step(&mut self) -> Step {
        let may_read = reading(&self.clients);
        let held_until = match may_read {
            Reading::At(at) => Some(at),
            Reading::Now | Reading::OnceWritten => None,
        };
        let due = self
            .connect_by
            .map_or(self.ping_at, |by| by.min(self.ping_at));
        let wants_to_write = self.outlet.has_own() || self.is_blocked().await;
        let (clients, outlet) = (&self.clients, &self.outlet);
        let changed = poll_fn(|cx| {
            for (namespace, client) in clients {
                let Some(client) = client else { continue };
                let interest = client.session.poll_interest(cx);
                if client.is_over() {
                    return Poll::Ready(Step::EndClient(namespace.clone()));
                }
                if interest.write && (!wants_to_write || outlet.can_take()) {
                    return Poll::Ready(Step::Flush);
                }
            }
            match reading(clients) == may_read {
                true => Poll::Pending,
                false => Poll::Ready(Step::Flush),
            }
        });
        tokio::select! {
            biased;
            step = changed => step,
            () = self.moved.notified() => self.replaced_client(),
            control = self.control.recv() => control.map_or(Step::End, Step::Control),
            event = self.outlet.event(wants_to_write) => match event {
                Event::Writable => Step::Flush,
                Event::Gone => Step::Gone,
            },
            () = sleep_until(due) => Step::Time,
            () = evicted(&mut self.pending) => Step::End,
            packets = self.packets.recv(), if may_read == Reading::Now => packets.map_or(Step::End, Step::Take),
            () = sleep_until(held_until.unwrap_or(due)), if held_until.is_some() => Step::Flush,
        }
    }

    /// Returns what to do when a client has come back on another connection.
    fn replaced_client(&self) -> Step {
        let mut clients = self.clients.iter();
        let is_replaced = |client: &Client| client.returning.is_replaced();
        let replaced = clients.find(|(_, client)| client.as_ref().is_some_and(is_replaced));
        replaced.map_or(Step::Flush, |(namespace, _)| {
            Step::EndClient(namespace.clone())
        })
    }

    /// Returns whether lines of a client wait for the transport.
    async fn is_blocked(&self) -> bool {
        poll_fn(|cx| {
            let mut clients = self.clients.values().flatten();
            Poll::Ready(clients.any(|client| client.session.poll_interest(cx).write))
        })
        .await
    }

    fn on_time(&mut self) -> Flow {
        let now = Instant::now();
        if self.connect_by.is_some_and(|by| by <= now) {
            return Flow::End;
        }
        if self.ping_at > now {
            return Flow::Continue;
        }
        if self.is_pinged {
            for client in self.clients.values().flatten() {
                client.session.close(&Refusal::new(
                    CloseCode::PongTimeout,
                    "Pong reply not received in time",
                ));
            }
            return Flow::End;
        }
        self.outlet.push(b"2");
        self.is_pinged = true;
        self.ping_at = now + PING_TIMEOUT;
        Flow::Continue
    }

    fn control(&mut self, control: Control) -> Flow {
        match control {
            Control::Poll(request) if self.outlet.is_polling() && !self.outlet.is_polled() => {
                self.outlet.change(Transport::Polling(Some(request)));
                Flow::Continue
            }
            // Two polls at a time, or one beside a WebSocket: the request is refused by its being dropped.
            Control::Poll(request) => {
                drop(request);
                match self.outlet.is_polling() {
                    true => Flow::End,
                    false => Flow::Continue,
                }
            }
            Control::Release => {
                self.release_poll();
                Flow::Continue
            }
            Control::Probe | Control::Abandoned => {
                self.is_probed = matches!(control, Control::Probe);
                Flow::Continue
            }
            Control::Upgrade(batches) => {
                self.is_probed = false;
                self.release_poll();
                self.outlet.change(Transport::WebSocket(batches));
                Flow::Continue
            }
        }
    }

    async fn take(&mut self, packets: Packets) -> Flow {
        for client in self.clients.values().flatten() {
            client.session.note_activity();
        }
        for packet in packets.packets {
            // A client that reads nothing is answered no more.
            if self.handle(packet).await == Flow::End || self.outlet.is_overfull() {
                return Flow::End;
            }
            if let Some(client) = self.clients.values().flatten().next() {
                client.session.serve_inbox();
            }
            tokio::task::yield_now().await;
        }
        drop(packets.charge);
        Flow::Continue
    }

    /// Handles what the client sent before it closed its transport: that it leaves for good, perhaps.
    async fn take_last(&mut self) -> Flow {
        while reading(&self.clients) == Reading::Now
            && let Ok(packets) = self.packets.try_recv()
            && self.take(packets).await == Flow::Continue
        {}
        Flow::End
    }

    /// Handles a packet. One that breaks the protocol ends the connection, as in the reference server.
    async fn handle(&mut self, packet: Incoming) -> Flow {
        let text = match (packet, &mut self.awaited) {
            (Incoming::Text(text), None) => text,
            (Incoming::Binary, Some(awaited)) => {
                awaited.parts -= 1;
                return match awaited.parts {
                    0 => self.refuse_binary().await,
                    _ => Flow::Continue,
                };
            }
            (Incoming::Binary, None) => {
                return self.malformed("a binary part that belongs to no event");
            }
            // A heartbeat may come between the parts.
            (Incoming::Text(text), Some(_)) if text == "3" => text,
            (Incoming::Text(_), Some(_)) => {
                return self.malformed("an event whose binary parts did not come");
            }
        };
        match EngineIoPacket::parse(&text) {
            Some(EngineIoPacket::Pong) => {
                if std::mem::take(&mut self.is_pinged) {
                    self.ping_at = Instant::now() + PING_INTERVAL;
                }
                Flow::Continue
            }
            Some(EngineIoPacket::Noop) => Flow::Continue,
            Some(EngineIoPacket::Close) => {
                // The poll that waits is all that the client still reads.
                self.release_poll();
                Flow::End
            }
            Some(EngineIoPacket::Message(message)) => match Packet::parse(message) {
                Some(packet) => self.handle_packet(packet, message).await,
                None => self.malformed("a packet that isn't one of Socket.IO"),
            },
            Some(EngineIoPacket::Probe | EngineIoPacket::Upgrade) | None => {
                self.malformed("a packet that isn't one of Engine.IO")
            }
        }
    }

    fn malformed(&self, what: &str) -> Flow {
        let refusal = Refusal::new(CloseCode::Refused, format!("The client sent {what}"));
        let key = self
            .clients
            .values()
            .flatten()
            .next()
            .map(|client| client.returning.key.as_str());
        refusal_log::note(&self.state, key, self.arrived.address, &refusal);
        Flow::End
    }

    async fn handle_packet(&mut self, packet: Packet<'_>, message: &str) -> Flow {
        if packet.kind == PacketKind::Connect {
            return self.connect(packet.namespace, packet.data).await;
        }
        let Some(client) = self.clients.get_mut(packet.namespace) else {
            return self.malformed("an event to a namespace that it hasn't asked for");
        };
        let Some(connected) = client else {
            // The client can't know yet that it has ended.
            return Flow::Continue;
        };
        if packet.attachments > 0 {
            self.awaited = Some(Awaited {
                text: message.to_owned(),
                parts: packet.attachments,
            });
            return Flow::Continue;
        }
        match packet.kind {
            PacketKind::Disconnect => {
                self.state.socket_io.recovery.forget(&connected.returning);
                if let Some(client) = client.take() {
                    client.session.end().await;
                }
            }
            PacketKind::Event if !connected.session.is_closing() => {
                connected.handle(&packet).await;
                connected.session.count_message();
            }
            // The server's events ask for no answer.
            PacketKind::Event | PacketKind::Ack | PacketKind::Connect => {}
        }
        Flow::Continue
    }

    async fn refuse_binary(&mut self) -> Flow {
        let awaited = self.awaited.take();
        let packet = awaited
            .as_ref()
            .and_then(|awaited| Packet::parse(&awaited.text));
        if let Some(packet) = packet
            && packet.kind == PacketKind::Event
            && let Some(Some(client)) = self.clients.get(packet.namespace)
        {
            client.refuse_binary(packet.id, packet.data).await;
            client.session.count_message();
        }
        Flow::Continue
    }

    /// Ends a client whose session has ended, or that has come back on another connection.
    async fn end_client(&mut self, namespace: &str) -> Flow {
        let Some(client) = self.clients.get_mut(namespace).and_then(Option::take) else {
            return Flow::Continue;
        };
        let code = client.closed_with();
        let is_final = code.is_some_and(|code| !may_come_back(code));
        match is_final {
            true => self.state.socket_io.recovery.forget(&client.returning),
            false => self.state.socket_io.recovery.away(&client.returning),
        }
        client.session.end().await;
        if is_final {
            self.outlet.push(&socket_io::disconnected(namespace));
            return Flow::Continue;
        }
        // The client comes back by itself when its connection ends, and only then.
        Flow::End
    }
}

/// Returns when the next packet may be handled: when all clients of the connection let it be.
fn reading(clients: &BTreeMap<String, Option<Client>>) -> Reading {
    let mut latest = Reading::Now;
    for client in clients.values().flatten() {
        latest = match (latest, client.session.reading()) {
            (Reading::OnceWritten, _) | (_, Reading::OnceWritten) => Reading::OnceWritten,
            (Reading::At(one), Reading::At(other)) => Reading::At(one.max(other)),
            (Reading::At(at), Reading::Now) | (Reading::Now, Reading::At(at)) => Reading::At(at),
            (Reading::Now, Reading::Now) => Reading::Now,
        };
    }
    latest
}

/// Returns whether a client is to come back after a close with this code.
fn may_come_back(code: u16) -> bool {
    (4100..4300).contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_brings_the_client_back_and_what_lasts_does_not() {
        for code in [
            CloseCode::OverCapacity,
            CloseCode::Reconnect,
            CloseCode::EventsMissed,
        ] {
            assert!(may_come_back(code.number()), "{code:?}");
        }
        for code in [
            CloseCode::UnknownApp,
            CloseCode::Unauthorized,
            CloseCode::Refused,
        ] {
            assert!(!may_come_back(code.number()), "{code:?}");
        }
    }
}
