//! A client in one namespace: a session of the engine, whose lines become packets.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use fanfare_engine::{Admitted, Session, Shard, Sink};
use fanfare_protocol::Framing;
use fanfare_protocol::client::Subscribe;
use fanfare_protocol::socket_io::{Emit, Line, Packet, Request};
use fanfare_protocol::{ClientMessage, Recover};

use super::outlet::{BATCH, Outlet, append};
use super::recovery::{Offset, Returning};

/// A client in a namespace.
pub(super) struct Client {
    pub(super) session: Session,
    lines: Rc<Lines>,
    /// What it needs to come back.
    pub(super) returning: Arc<Returning>,
}

/// What the session's sink and the connection share.
struct Lines {
    namespace: Box<str>,
    outlet: Rc<Outlet>,
    /// The positions that the client has reached, if it takes offsets.
    offset: Option<RefCell<Offset>>,
    /// The code with which the session was closed.
    closed_with: Cell<Option<u16>>,
}

impl Client {
    /// Connects an admitted client. Must be called on the shard's thread.
    pub(super) fn connect(
        shard: &Rc<Shard>,
        admitted: Admitted,
        namespace: &str,
        outlet: &Rc<Outlet>,
        offset: Option<Offset>,
        returning: Arc<Returning>,
    ) -> Self {
        let lines = Rc::new(Lines {
            namespace: namespace.into(),
            outlet: Rc::clone(outlet),
            offset: offset.map(RefCell::new),
            closed_with: Cell::new(None),
        });
        let session = shard.connect(admitted, Box::new(LineSink(Rc::clone(&lines))));
        Self {
            session,
            lines,
            returning,
        }
    }

    /// Returns the code with which the session was closed, if the client was to be told.
    pub(super) fn closed_with(&self) -> Option<u16> {
        self.lines.closed_with.get()
    }

    /// Returns whether the session has ended, and the client has been told what it is to be told.
    pub(super) fn is_over(&self) -> bool {
        self.session.is_gone() || (self.session.is_closing() && self.session.is_flushed())
    }

    /// Subscribes the client to a public channel that its app names for all clients.
    pub(super) async fn join_broadcast(&self, channel: &str) {
        let request = Subscribe {
            channel: channel.into(),
            auth: None,
            channel_data: None,
            recover: Some(Recover::Start),
            rewind: None,
        };
        self.session.subscribe_from_url(&request).await;
        self.returning.joined(channel, None);
    }

    /// Handles an event of the client.
    pub(super) async fn handle(&self, packet: &Packet<'_>) {
        let bytes = packet.data.len();
        let request = Emit::parse(packet.data).map(Emit::request);
        match request {
            // A join of a room that one is in does nothing, as on a server of Socket.IO.
            Some(Ok(Request::Message(ClientMessage::Subscribe(request))))
                if self.session.is_subscribed(&request.channel) =>
            {
                self.session
                    .handle_request::<String>(bytes, packet.id, Ok(ClientMessage::Pong))
                    .await;
            }
            Some(Ok(Request::Message(message))) => {
                let joins = match &message {
                    ClientMessage::Subscribe(request) => Some((
                        request.channel.to_string(),
                        request.channel_data.as_deref().map(str::to_owned),
                    )),
                    ClientMessage::Unsubscribe { channel } => {
                        self.returning.left(channel);
                        None
                    }
                    _ => None,
                };
                self.session
                    .handle_request::<String>(bytes, packet.id, Ok(message))
                    .await;
                if let Some((channel, data)) = joins
                    && self.session.is_subscribed(&channel)
                {
                    self.returning.joined(&channel, data);
                }
            }
            Some(Ok(Request::Broadcast { name, data })) => {
                self.session
                    .handle_broadcast(bytes, packet.id, &name, data)
                    .await;
            }
            Some(Err(error)) => {
                self.session
                    .handle_request(bytes, packet.id, Err(error))
                    .await
            }
            None => {}
        }
    }

    /// Refuses an event because some of it is binary.
    pub(super) async fn refuse_binary(&self, id: Option<&str>, data: &str) {
        if let Some(emit) = Emit::parse(data) {
            self.session
                .handle_request(data.len(), id, Err(emit.binary()))
                .await;
        }
    }
}

/// The sink of a session: lines become packets.
struct LineSink(Rc<Lines>);

impl Sink for LineSink {
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let lines = &*self.0;
        if !lines.outlet.can_take() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (mut count, mut batch, mut packet) = (0, Vec::new(), Vec::new());
        let all = chunks
            .iter()
            .flat_map(|chunk| chunk.split_inclusive(|byte| *byte == b'\n'));
        for line in all {
            count += line.len();
            packet.clear();
            lines.write(line, &mut packet);
            if !packet.is_empty() {
                append(&mut batch, &packet);
            }
            if batch.len() >= BATCH {
                break;
            }
        }
        if !batch.is_empty() {
            lines.outlet.send(batch);
        }
        Ok(count)
    }

    fn framing(&self) -> Framing {
        Framing::SocketIo
    }

    fn has_turns(&self) -> bool {
        true
    }

    // A WebSocket has a write time-out of its own, and a client that polls no more answers no heartbeat.
    fn has_write_timeout(&self) -> bool {
        true
    }
}

impl Lines {
    fn write(&self, line: &[u8], packet: &mut Vec<u8>) {
        let line = Line::parse(line);
        if let Line::Close { code } = line {
            self.closed_with.set(Some(code));
        }
        let offset = match (&line, &self.offset) {
            (
                Line::Event {
                    channel, position, ..
                },
                Some(offset),
            ) => offset.borrow_mut().reach(channel, position),
            _ => None,
        };
        line.packet(packet, &self.namespace, offset.as_deref());
    }
}
