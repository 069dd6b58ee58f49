//! Moves packets between a WebSocket and its connection. A frame is a packet.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fanfare_engine::{BudgetExceeded, Charge, Payer, Resource};
use fanfare_protocol::socket_io::{EngineIoPacket, SEPARATOR};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::connection::{Control, Incoming, Packets};
use super::connections::Handle;
use super::outlet::{BATCH, BatchReceiver, batches};
use crate::edge::client_socket::ClientSocket;
use crate::edge::takeover::Socket;

/// How long the client may take to replace polling, as in the reference server.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the client may read nothing.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the client may take to read the last packets and close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read at once. Most packets of clients are short.
const READ_BUFFER: usize = 512;
/// Bytes of a packet that aren't charged, because most are shorter.
const FREE_BYTES: usize = 4 * 1024;
/// Bytes that are written at once.
const WRITE_BUFFER: usize = 16 * 1024;

/// A client's WebSocket.
pub(super) struct ClientWebSocket {
    stream: WebSocketStream<ClientSocket>,
    /// What is wrong with a frame of the client, if that ends the WebSocket.
    fault: Option<CloseFrame>,
    /// Who pays for long packets that wait.
    payer: Payer,
    /// The place of its socket among all of them.
    _place: crate::edge::sockets::SocketPlace,
}

impl ClientWebSocket {
    /// Takes over an upgraded connection.
    pub(super) async fn new(socket: Socket, payer: Payer, max_message: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        let read_ahead = socket.read_ahead.to_vec();
        let stream = WebSocketStream::from_partially_read(
            socket.stream,
            read_ahead,
            Role::Server,
            Some(config),
        );
        Self {
            stream: stream.await,
            fault: None,
            payer,
            _place: socket.place,
        }
    }

    /// Replaces polling, once the client has shown that packets get through.
    pub(super) async fn upgrade(mut self, handle: Handle) {
        let (batches, sent) = batches();
        match timeout(UPGRADE_TIMEOUT, self.probe(&handle)).await {
            Ok(true) => {
                if handle.control.send(Control::Upgrade(batches)).await.is_ok() {
                    self.serve(handle, sent).await;
                }
            }
            // The client goes on polling.
            Ok(false) | Err(_) => {
                handle.has_websocket.store(false, Ordering::Relaxed);
                let _ = handle.control.send(Control::Abandoned).await;
            }
        }
    }

    /// Returns whether the client sent what it is to send before it uses the WebSocket.
    async fn probe(&mut self, handle: &Handle) -> bool {
        if !matches!(self.next().await, Some(Message::Text(text)) if text == "2probe") {
            return false;
        }
        let answered = self.stream.send(Message::text("3probe")).await.is_ok();
        if !answered || handle.control.send(Control::Probe).await.is_err() {
            return false;
        }
        let next = self.next().await;
        matches!(next, Some(Message::Text(text)) if EngineIoPacket::parse(&text) == Some(EngineIoPacket::Upgrade))
    }

    /// Returns the next packet, or `None` if the WebSocket is over.
    async fn next(&mut self) -> Option<Message> {
        loop {
            match self.stream.next().await? {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => return Some(message),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    // The answer waits in the stream, which takes no other message any more.
                    let _ = self.stream.flush().await;
                    return None;
                }
                Err(error) => {
                    self.fault = close_frame(&error);
                    return None;
                }
            }
        }
    }

    /// Moves packets until either side ends.
    pub(super) async fn serve(mut self, handle: Handle, mut batches: BatchReceiver) {
        while self.turn(&handle, &mut batches).await {}
        // Without the connection's end of it, what waits has been sent already.
        drop(handle);
        // The connection is closed either way.
        let _ = timeout(CLOSE_TIMEOUT, self.close(batches)).await;
    }

    /// Moves what comes next. Returns whether the WebSocket goes on.
    async fn turn(&mut self, handle: &Handle, batches: &mut BatchReceiver) -> bool {
        tokio::select! {
            message = self.next() => {
                let packet = match message {
                    Some(Message::Text(text)) => Incoming::Text(text.as_str().to_owned()),
                    Some(_) => Incoming::Binary,
                    None => return false,
                };
                let Ok(charge) = self.charge(&packet) else { return false };
                let packets = Packets { packets: vec![packet], charge };
                self.hand_over(handle, packets, batches).await
            }
            batch = batches.recv() => match batch {
                Some(batch) => self.write(&batch, batches).await,
                None => false,
            },
        }
    }

    /// Charges a long packet to its client's network until it is handled.
    fn charge(&self, packet: &Incoming) -> Result<Option<Charge>, BudgetExceeded> {
        match packet {
            Incoming::Text(text) if text.len() > FREE_BYTES => self
                .payer
                .charge(Resource::MessageBytes, text.len())
                .map(Some),
            Incoming::Text(_) | Incoming::Binary => Ok(None),
        }
    }

    /// Writes what is left, and waits until the client has closed: closing a socket with unread bytes resets it, and the client would
    /// lose the last packets.
    async fn close(&mut self, mut batches: BatchReceiver) {
        while let Some(batch) = batches.try_recv() {
            if !self.write(&batch, &mut batches).await {
                return;
            }
        }
        drop(batches);
        let _ = self.stream.close(self.fault.take()).await;
        let socket = self.stream.get_mut();
        if socket.shutdown().await.is_ok() {
            let mut ignored = [0; 512];
            while matches!(socket.read(&mut ignored).await, Ok(1..)) {}
        }
    }

    /// Hands packets to the connection, and writes its batches while it has no room. Returns whether the connection goes on.
    async fn hand_over(
        &mut self,
        handle: &Handle,
        packets: Packets,
        batches: &mut BatchReceiver,
    ) -> bool {
        let mut sending = std::pin::pin!(handle.packets.send(packets));
        loop {
            tokio::select! {
                sent = sending.as_mut() => return sent.is_ok(),
                batch = batches.recv() => match batch {
                    Some(batch) if self.write(&batch, batches).await => {}
                    _ => return false,
                },
            }
        }
    }

    /// Writes a batch, and those that have come meanwhile. Returns whether the client took them in time.
    async fn write(&mut self, batch: &[u8], batches: &mut BatchReceiver) -> bool {
        let write = async {
            let mut bytes = batch.len();
            self.feed(batch).await?;
            while bytes < BATCH
                && let Some(batch) = batches.try_recv()
            {
                bytes += batch.len();
                self.feed(&batch).await?;
            }
            self.stream.flush().await?;
            batches.note_written(bytes);
            Ok::<_, Error>(())
        };
        matches!(timeout(WRITE_TIMEOUT, write).await, Ok(Ok(())))
    }

    async fn feed(&mut self, batch: &[u8]) -> Result<(), Error> {
        for packet in batch.split(|byte| *byte == SEPARATOR) {
            let text = String::from_utf8_lossy(packet).into_owned();
            self.stream.feed(Message::text(text)).await?;
        }
        Ok(())
    }
}

/// Says by WebSocket's own codes what is wrong with a frame, or `None` if the connection itself has failed.
fn close_frame(error: &Error) -> Option<CloseFrame> {
    let code = match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(_) => CloseCode::Protocol,
        _ => return None,
    };
    let reason = "".into();
    Some(CloseFrame { code, reason })
}
