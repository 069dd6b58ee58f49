//! The subscribers' sockets: handshake, subscription, then counting events.

use std::io::ErrorKind;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mio::{Poll, Token};

use crate::clients::Clients;
use crate::generator::Watch;
use crate::http;
use crate::layout::Layout;
use crate::source;
use crate::stream::Stream;
use crate::target::Target;
use crate::wire::{self, after};

/// Longer than the longest message.
const BUFFER: usize = 256 * 1024;

/// All subscribers of a run.
pub(crate) struct Subscribers {
    target: Target,
    sockets: Vec<Socket>,
    live: usize,
    confirmed: usize,
    pings: u64,
    receive_buffer: Option<usize>,
    layout: Layout,
    buffer: Vec<u8>,
}

/// What was read and ignored.
pub(crate) enum Skipped {
    /// Some bytes.
    Bytes,
    /// Nothing has come yet.
    Nothing,
    /// The server has closed the connection.
    Closed,
}

struct Socket {
    stream: Stream,
    channel: String,
    /// Its socket id, once it was greeted.
    id: String,
    phase: Phase,
    /// Start of a message whose end hasn't come yet.
    carry: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Waits for the answer to its handshake.
    Upgrading,
    /// Waits for its socket id.
    Greeting,
    /// Waits for its subscription to succeed.
    Subscribing,
    Live,
}

impl Subscribers {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            sockets: Vec::new(),
            live: 0,
            confirmed: 0,
            pings: 0,
            receive_buffer: None,
            layout: Layout::default(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Gives the sockets of further connections so small a buffer for what was received.
    pub(crate) fn set_receive_buffer(&mut self, bytes: usize) {
        self.receive_buffer = Some(bytes);
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Returns how many are subscribed.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Returns how many aren't subscribed yet.
    pub(crate) fn pending(&self) -> usize {
        self.sockets.len() - self.live
    }

    /// Returns how many subscriptions were confirmed, to the first channel of a connection and to further ones.
    pub(crate) fn confirmed(&self) -> usize {
        self.confirmed
    }

    /// Returns how many PINGs were answered.
    pub(crate) fn pings(&self) -> u64 {
        self.pings
    }

    /// Asks for one more channel.
    pub(crate) fn subscribe(&mut self, index: usize, channel: &str) -> Result<()> {
        let socket = &mut self.sockets[index];
        let subscription = self.target.subscription(&socket.id, channel);
        socket
            .stream
            .send(&subscription)
            .with_context(|| format!("cannot send as subscriber {index}"))
    }

    /// Sends a message of a client.
    pub(crate) fn send(&mut self, index: usize, message: &[u8]) -> Result<()> {
        self.sockets[index]
            .stream
            .send(message)
            .with_context(|| format!("cannot send as subscriber {index}"))
    }

    /// Reads at most so many bytes and ignores them.
    pub(crate) fn skip(&mut self, index: usize, bytes: usize) -> Skipped {
        match self.sockets[index].stream.read(&mut self.buffer[..bytes]) {
            Ok(1..) => Skipped::Bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Skipped::Nothing,
            Ok(_) | Err(_) => Skipped::Closed,
        }
    }

    /// Opens one more connection and sends its handshake.
    pub(crate) fn open(&mut self, poll: &Poll, token: Token, channel: String) -> Result<()> {
        let address = self.target.address(self.sockets.len());
        let source = source::of(self.sockets.len(), address, self.receive_buffer);
        let mut stream = Stream::connect_from(source, address, self.target.tls.as_ref())
            .with_context(|| format!("connection {} was refused", token.0))?;
        stream.send(&self.target.clients.request(&self.target, &channel))?;
        stream.register(poll.registry(), token)?;
        self.sockets.push(Socket {
            stream,
            channel,
            id: String::new(),
            phase: Phase::Upgrading,
            carry: Vec::new(),
        });
        Ok(())
    }

    /// Reads until the socket is empty.
    pub(crate) fn ready(&mut self, index: usize, watch: &mut impl Watch) -> Result<()> {
        loop {
            let socket = &mut self.sockets[index];
            let kept = socket.carry.len();
            self.buffer[..kept].copy_from_slice(&socket.carry);
            let end = match socket.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => bail!("the server closed subscriber {index}"),
                Ok(read) => kept + read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context(format!("subscriber {index}")),
            };
            let used = self.consume(index, end, watch)?;
            let carry = &mut self.sockets[index].carry;
            carry.clear();
            carry.extend_from_slice(&self.buffer[used..end]);
            if end < self.buffer.len() && self.sockets[index].stream.is_emptied_by_a_short_read() {
                return Ok(());
            }
        }
    }

    /// Handles all whole messages of the buffer, and returns where the last one ends.
    fn consume(&mut self, index: usize, end: usize, watch: &mut impl Watch) -> Result<usize> {
        let at = Instant::now();
        let mut used = 0;
        while self.sockets[index].phase != Phase::Live {
            let took = self.handshake(index, used, end)?;
            if took == 0 {
                return Ok(used);
            }
            used += took;
        }
        let clients = self.target.clients;
        while let Some((_, length)) = clients.message(&self.buffer[used..end]) {
            let next = used + length;
            match self.layout.sequence(&self.buffer[used..next]) {
                Some(sequence) => watch.delivered(index, sequence, at),
                None => self.told(index, used, next, watch)?,
            }
            used = next;
        }
        Ok(used)
    }

    /// Handles a message that is no event: answers pings, and counts confirmations.
    fn told(
        &mut self,
        index: usize,
        from: usize,
        end: usize,
        watch: &mut impl Watch,
    ) -> Result<()> {
        if self.target.clients == Clients::Sse {
            return Ok(());
        }
        let Some(frame) = wire::frame(&self.buffer[from..end]) else {
            return Ok(());
        };
        let text = &self.buffer[from + frame.head..end];
        if frame.opcode == wire::PING {
            let pong = wire::masked_pong(text);
            self.pings += 1;
            return self.send(index, &pong);
        }
        if after(text, "\"pusher:ping\"").is_some() {
            let pong = wire::masked_text_frame(br#"{"event":"pusher:pong","data":{}}"#);
            return self.send(index, &pong);
        }
        if after(text, "subscription_succeeded").is_some() {
            self.confirmed += 1;
        }
        watch.told(index, text);
        Ok(())
    }

    /// Handles one message before the subscription succeeds. Returns its length, or 0 if it hasn't come whole.
    fn handshake(&mut self, index: usize, from: usize, end: usize) -> Result<usize> {
        let bytes = &self.buffer[from..end];
        let clients = self.target.clients;
        let socket = &mut self.sockets[index];
        if socket.phase == Phase::Upgrading {
            let Some(message) = clients.head(bytes) else {
                return Ok(0);
            };
            let answer = &bytes[..message.len];
            ensure!(
                http::status(answer) == Some(clients.status()),
                "the handshake was refused: {}",
                String::from_utf8_lossy(answer)
            );
            socket.phase = if clients.subscribes() {
                Phase::Greeting
            } else {
                Phase::Subscribing
            };
            return Ok(message.len);
        }
        let Some((head, length)) = clients.message(bytes) else {
            return Ok(0);
        };
        let text = &bytes[head..length];
        // A PING to keep the connection open may come at any moment, and a greeting to whom the URL subscribes.
        let is_other = !text.starts_with(b"{") && clients != Clients::Sse;
        if is_other || !clients.subscribes() && after(text, "connection_established").is_some() {
            return Ok(length);
        }
        if socket.phase == Phase::Greeting {
            let id = socket_id(text)
                .with_context(|| format!("no socket id in {}", String::from_utf8_lossy(text)))?;
            id.clone_into(&mut socket.id);
            let subscription = self.target.subscription(id, &socket.channel);
            socket.stream.send(&subscription)?;
            socket.phase = Phase::Subscribing;
        } else if after(text, "subscription_succeeded").is_some() {
            socket.phase = Phase::Live;
            self.live += 1;
            self.confirmed += 1;
        } else {
            let text = String::from_utf8_lossy(text);
            bail!("the subscription to {} got: {text}", socket.channel);
        }
        Ok(length)
    }
}

/// Returns the socket id in a server's first message. It is JSON inside a JSON string, so quotes are escaped.
fn socket_id(greeting: &[u8]) -> Option<&str> {
    let rest = after(greeting, "socket_id")?;
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let start = rest.iter().position(is_part)?;
    let len = rest[start..].iter().position(|byte| !is_part(byte))?;
    std::str::from_utf8(&rest[start..start + len]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_id_is_found_inside_the_escaped_json() {
        let greeting = br#"{"data":"{\"activity_timeout\":120,\"socket_id\":\"12.345\"}"}"#;
        assert_eq!(socket_id(greeting), Some("12.345"));
        assert_eq!(socket_id(br#"{"event":"pusher:error"}"#), None);
    }
}
