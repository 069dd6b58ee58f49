//! The floor: the least a server can do for the same traffic, to compare with in the same run.
//!
//! It is one epoll thread. It finds fields by plain byte search, encodes an event once and makes one `send` for each
//! subscriber. It checks, limits and batches nothing, so it understands only what this crate's generator writes.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::Context;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use tungstenite::handshake::derive_accept_key;

use crate::clients::Clients;
use crate::http;
use crate::wire::{self, after, string_after};

const LISTENER: Token = Token(usize::MAX);
const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Serves until the process is killed.
pub(crate) fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener =
        TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut floor = Floor::default();
    let mut buffer = vec![0; 256 * 1024];
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                floor.accept(&listener, &poll)?;
                continue;
            }
            if event.is_writable() {
                floor.flush(event.token().0);
            }
            if event.is_readable() && !floor.read(event.token().0, &mut buffer) {
                floor.close(event.token().0);
            }
        }
    }
}

#[derive(Default)]
struct Floor {
    sockets: Slab<Socket>,
    channels: HashMap<Box<[u8]>, Vec<usize>>,
    /// Frame of the event that is being sent, kept so that it is allocated once.
    frame: Vec<u8>,
}

struct Socket {
    stream: TcpStream,
    /// Start of a message whose end hasn't come yet.
    input: Vec<u8>,
    /// Bytes that didn't fit into the socket.
    output: Vec<u8>,
    /// What it speaks, once its handshake was answered.
    clients: Option<Clients>,
    channels: Vec<Box<[u8]>>,
}

impl Socket {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            clients: None,
            channels: Vec::new(),
        }
    }

    /// Sends bytes. Failures are ignored, because the socket is closed when its end is read.
    fn send(&mut self, bytes: &[u8]) {
        let sent = if self.output.is_empty() {
            self.stream.write(bytes).unwrap_or(0)
        } else {
            0
        };
        if sent < bytes.len() {
            self.output.extend_from_slice(&bytes[sent..]);
        }
    }
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let slot = self.sockets.vacant_entry();
            poll.registry().register(
                &mut stream,
                Token(slot.key()),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            slot.insert(Socket::new(stream));
        }
    }

    fn flush(&mut self, key: usize) {
        if let Some(socket) = self.sockets.get_mut(key)
            && !socket.output.is_empty()
        {
            let output = std::mem::take(&mut socket.output);
            socket.send(&output);
        }
    }

    /// Reads and answers messages. Returns false once the peer is gone.
    fn read(&mut self, key: usize, buffer: &mut [u8]) -> bool {
        loop {
            let Some(socket) = self.sockets.get_mut(key) else {
                return true;
            };
            let kept = socket.input.len();
            buffer[..kept].copy_from_slice(&socket.input);
            let end = match socket.stream.read(&mut buffer[kept..]) {
                Ok(0) => return false,
                Ok(read) => kept + read,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            socket.input.clear();
            let used = self.consume(key, &mut buffer[..end]);
            self.sockets[key]
                .input
                .extend_from_slice(&buffer[used..end]);
            // A read that didn't fill the buffer has emptied the socket. epoll reports what comes next.
            if end < buffer.len() {
                return true;
            }
        }
    }

    /// Answers all whole messages, and returns how many bytes they took.
    fn consume(&mut self, key: usize, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        loop {
            let rest = &mut bytes[used..];
            let took = if self.sockets[key].clients.is_some() {
                self.client_frame(key, rest)
            } else {
                self.request(key, rest)
            };
            match took {
                Some(took) => used += took,
                None => return used,
            }
        }
    }

    fn request(&mut self, key: usize, bytes: &[u8]) -> Option<usize> {
        let message = http::message(bytes)?;
        let (head, body) = bytes[..message.len].split_at(message.head);
        if head.starts_with(b"POST ") {
            self.publish_all(body);
            self.sockets[key].send(OK);
        } else if head.starts_with(b"GET /app/") {
            self.upgrade(key, head);
        } else if head.starts_with(b"GET /ws/") {
            self.upgrade(key, head);
            self.sockets[key].clients = Some(Clients::Plain);
            self.subscribe_by_url(key, head);
        } else if head.starts_with(b"GET /sse/") {
            let socket = &mut self.sockets[key];
            socket.clients = Some(Clients::Sse);
            socket.send(STREAM);
            self.subscribe_by_url(key, head);
        } else {
            self.sockets[key].send(OK);
        }
        Some(message.len)
    }

    fn upgrade(&mut self, key: usize, head: &[u8]) {
        let accept = derive_accept_key(http::header(head, "sec-websocket-key").unwrap_or_default());
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        let greeting = format!(
            r#"{{"event":"pusher:connection_established","data":"{{\"socket_id\":\"1.{key}\",\"activity_timeout\":120}}"}}"#
        );
        wire::text_frame(&mut answer, &[greeting.as_bytes()]);
        let socket = &mut self.sockets[key];
        socket.clients = Some(Clients::Pusher);
        socket.send(&answer);
    }

    fn client_frame(&mut self, key: usize, bytes: &mut [u8]) -> Option<usize> {
        let frame = wire::frame(bytes)?;
        let (head, payload) = bytes[..frame.len].split_at_mut(frame.head);
        if frame.opcode == wire::TEXT && head.len() >= 6 {
            let mask = &head[head.len() - 4..];
            for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= mask;
            }
            self.client_message(key, payload);
        }
        Some(frame.len)
    }

    fn client_message(&mut self, key: usize, message: &[u8]) {
        let event = string_after(message, "\"event\":\"").unwrap_or_default();
        let channel = string_after(message, "\"channel\":\"").unwrap_or_default();
        if event == b"pusher:unsubscribe" {
            self.leave(key, channel);
        } else if event.starts_with(b"client-") {
            self.frame.clear();
            wire::text_frame(&mut self.frame, &[message]);
            self.send_to_others(key, channel);
        } else {
            self.subscribe(key, message);
        }
    }

    /// Sends the frame to all subscribers of a channel but one.
    fn send_to_others(&mut self, key: usize, channel: &[u8]) {
        let members = self.channels.get(channel).into_iter().flatten();
        for member in members.filter(|member| **member != key) {
            self.sockets[*member].send(&self.frame);
        }
    }

    fn leave(&mut self, key: usize, channel: &[u8]) {
        self.sockets[key]
            .channels
            .retain(|other| **other != *channel);
        if let Some(members) = self.channels.get_mut(channel) {
            members.retain(|member| *member != key);
        }
        if channel.starts_with(b"presence-") {
            self.announce(key, channel, "member_removed");
        }
    }

    /// Tells the others of a presence channel who came or went. A user's id is that of its socket.
    fn announce(&mut self, key: usize, channel: &[u8], what: &str) {
        self.frame.clear();
        let start = format!(r#"{{"event":"pusher_internal:{what}","channel":""#);
        let end = format!(
            r#"","data":"{{\"user_id\":\"1.{key}\",\"user_info\":{{\"name\":\"A Member\"}}}}"}}"#
        );
        wire::text_frame(
            &mut self.frame,
            &[start.as_bytes(), channel, end.as_bytes()],
        );
        self.send_to_others(key, channel);
    }

    /// Returns the list of a presence channel's members.
    fn list(&self, channel: &[u8]) -> String {
        let members = self.channels.get(channel).map_or(&[][..], Vec::as_slice);
        let ids: Vec<String> = members
            .iter()
            .map(|key| format!(r#"\"1.{key}\""#))
            .collect();
        let infos: Vec<String> = ids
            .iter()
            .map(|id| format!(r#"{id}:{{\"name\":\"A Member\"}}"#))
            .collect();
        format!(
            r#"{{\"presence\":{{\"count\":{},\"ids\":[{}],\"hash\":{{{}}}}}}}"#,
            ids.len(),
            ids.join(","),
            infos.join(",")
        )
    }

    fn subscribe(&mut self, key: usize, message: &[u8]) {
        let Some(channel) = string_after(message, "\"channel\":\"") else {
            return;
        };
        self.join(key, channel);
    }

    /// Subscribes a client whose URL names its channel, in the first parameter.
    fn subscribe_by_url(&mut self, key: usize, head: &[u8]) {
        if let Some(rest) = after(head, "?channels=") {
            let end = rest.iter().position(|byte| matches!(byte, b'&' | b' '));
            self.join(key, &rest[..end.unwrap_or(rest.len())]);
        }
    }

    fn join(&mut self, key: usize, channel: &[u8]) {
        let members = self.channels.entry(channel.into()).or_default();
        members.push(key);
        let mut answer = Vec::new();
        let mut data = "{}".to_owned();
        if channel.starts_with(b"presence-") {
            data = self.list(channel);
            self.announce(key, channel, "member_added");
        }
        let start = br#"{"event":"pusher_internal:subscription_succeeded","channel":""#;
        let parts: [&[u8]; 5] = [start, channel, br#"","data":""#, data.as_bytes(), br#""}"#];
        let socket = &mut self.sockets[key];
        match socket.clients {
            Some(Clients::Sse) => chunk(&mut answer, &[b"data: ", &parts.concat(), b"\n\n"]),
            _ => wire::text_frame(&mut answer, &parts),
        }
        socket.channels.push(channel.into());
        socket.send(&answer);
    }

    /// Publishes one event, each of a batch, or one on several channels.
    fn publish_all(&mut self, body: &[u8]) {
        if let Some(list) = after(body, "\"channels\":[") {
            let (Some(name), Some(data)) = (
                string_after(body, "\"name\":\""),
                string_after(body, "\"data\":\""),
            ) else {
                return;
            };
            let end = memchr::memchr(b']', list).unwrap_or(list.len());
            // Between the quotes of "a","b" are the names.
            for channel in list[..end].split(|byte| *byte == b'"').skip(1).step_by(2) {
                self.publish(name, channel, data);
            }
            return;
        }
        // An event begins at its name, or at its channel or data if those come first.
        let mut rest = body;
        while let (Some(name), Some(channel), Some(data)) = (
            string_after(rest, "\"name\":\""),
            string_after(rest, "\"channel\":\""),
            string_after(rest, "\"data\":\""),
        ) {
            self.publish(name, channel, data);
            let Some(end) = after(rest, "}") else {
                return;
            };
            rest = end;
        }
    }

    fn publish(&mut self, name: &[u8], channel: &[u8], data: &[u8]) {
        let Some(members) = self.channels.get(channel) else {
            return;
        };
        let kind = members
            .first()
            .and_then(|member| self.sockets[*member].clients)
            .unwrap_or_default();
        self.frame.clear();
        // All clients of a run speak the same.
        if kind == Clients::Sse {
            let parts: [&[u8]; 5] = [b"event: ", name, b"\ndata: ", data, b"\n\n"];
            chunk(&mut self.frame, &parts);
            for key in members {
                self.sockets[*key].send(&self.frame);
            }
            return;
        }
        let parts: [&[u8]; 7] = [
            br#"{"event":""#,
            name,
            br#"","channel":""#,
            channel,
            br#"","data":""#,
            data,
            br#""}"#,
        ];
        wire::text_frame(&mut self.frame, &parts);
        for key in members {
            self.sockets[*key].send(&self.frame);
        }
    }

    fn close(&mut self, key: usize) {
        let Some(socket) = self.sockets.try_remove(key) else {
            return;
        };
        for channel in socket.channels {
            if let Some(members) = self.channels.get_mut(&channel) {
                members.retain(|member| *member != key);
            }
            if channel.starts_with(b"presence-") {
                self.announce(key, &channel, "member_removed");
            }
        }
    }
}

/// Appends a chunk of HTTP/1.1.
fn chunk(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(format!("{length:x}\r\n").as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}
