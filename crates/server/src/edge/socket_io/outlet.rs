//! Where the packets of a connection go: to the request that polls, or to its WebSocket.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use axum::body::Bytes;
use fanfare_protocol::socket_io::SEPARATOR;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, oneshot};

/// Bytes after which a batch of packets is full.
pub(super) const BATCH: usize = 64 * 1024;
/// Bytes that may wait for a WebSocket. One more batch may exceed the bound. A burst that is larger waits in the outboxes.
const MAX_UNSENT: usize = 256 * 1024;

/// Bytes of the connection's own packets, such as refusals of namespaces, that may wait.
const MAX_OWN: usize = 16 * 1024;

/// The way to the client. A batch is one or more packets, with [`SEPARATOR`] between them.
pub(super) enum Transport {
    /// HTTP requests, of which one may wait for packets.
    Polling(Option<oneshot::Sender<Bytes>>),
    WebSocket(Batches),
}

/// Batches on their way to a WebSocket.
#[derive(Debug)]
pub(super) struct Batches {
    sender: UnboundedSender<Bytes>,
    unsent: Arc<Unsent>,
}

/// The other end of [`Batches`].
#[derive(Debug)]
pub(super) struct BatchReceiver {
    receiver: UnboundedReceiver<Bytes>,
    unsent: Arc<Unsent>,
}

#[derive(Debug, Default)]
struct Unsent {
    bytes: AtomicUsize,
    /// Notified when a batch was written.
    written: Notify,
}

/// Returns a way to a WebSocket, and its end.
pub(super) fn batches() -> (Batches, BatchReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let unsent = Arc::<Unsent>::default();
    let batches = Batches {
        sender,
        unsent: Arc::clone(&unsent),
    };
    (batches, BatchReceiver { receiver, unsent })
}

impl Batches {
    pub(super) fn send(&self, batch: Bytes) {
        self.unsent.bytes.fetch_add(batch.len(), Ordering::Relaxed);
        // Who is gone meanwhile is noticed by `event`.
        let _ = self.sender.send(batch);
    }

    fn has_room(&self) -> bool {
        !self.sender.is_closed() && self.unsent.bytes.load(Ordering::Relaxed) < MAX_UNSENT
    }
}

impl BatchReceiver {
    pub(super) async fn recv(&mut self) -> Option<Bytes> {
        self.receiver.recv().await
    }

    /// Returns a batch that is there already.
    pub(super) fn try_recv(&mut self) -> Option<Bytes> {
        self.receiver.try_recv().ok()
    }

    /// Notes that batches of so many bytes were written.
    pub(super) fn note_written(&self, bytes: usize) {
        self.unsent.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.unsent.written.notify_one();
    }
}

/// The way to the client, shared by all sessions of a connection.
pub(super) struct Outlet(RefCell<Inner>);

struct Inner {
    transport: Transport,
    /// Packets of the connection itself, which come before those of its sessions.
    own: Vec<u8>,
}

/// News of the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It takes packets.
    Writable,
    /// The client has closed it.
    Gone,
}

impl Outlet {
    pub(super) fn new(transport: Transport) -> Self {
        Self(RefCell::new(Inner {
            transport,
            own: Vec::new(),
        }))
    }

    /// Sends a packet of the connection itself, now or as soon as the transport takes it.
    pub(super) fn push(&self, packet: &[u8]) {
        let inner = &mut *self.0.borrow_mut();
        append(&mut inner.own, packet);
        inner.send_own();
    }

    /// Sends the packets of the connection that wait.
    pub(super) fn flush(&self) {
        self.0.borrow_mut().send_own();
    }

    /// Returns whether the transport takes a batch of a session's packets.
    pub(super) fn can_take(&self) -> bool {
        let inner = self.0.borrow();
        inner.own.is_empty() && inner.transport.can_take()
    }

    /// Sends a batch of a session's packets. Nothing is sent if [`Self::can_take`] is false.
    pub(super) fn send(&self, batch: Vec<u8>) {
        self.0.borrow_mut().transport.send(batch);
    }

    pub(super) fn is_polling(&self) -> bool {
        matches!(self.0.borrow().transport, Transport::Polling(_))
    }

    /// Returns whether a request waits for packets.
    pub(super) fn is_polled(&self) -> bool {
        matches!(&self.0.borrow().transport, Transport::Polling(Some(request)) if !request.is_closed())
    }

    /// Sends all packets this way from now on.
    pub(super) fn change(&self, transport: Transport) {
        let inner = &mut *self.0.borrow_mut();
        inner.transport = transport;
        inner.send_own();
    }

    /// Returns whether the client has left so many packets of the connection unread that it must end.
    pub(super) fn is_overfull(&self) -> bool {
        self.0.borrow().own.len() > MAX_OWN
    }

    /// Returns whether packets of the connection wait.
    pub(super) fn has_own(&self) -> bool {
        !self.0.borrow().own.is_empty()
    }

    /// Waits until a WebSocket takes a batch, if the caller wants to write one, or until the client closes its WebSocket or gives up
    /// the poll that waits. Waits forever between two polls.
    pub(super) async fn event(&self, wants_to_write: bool) -> Event {
        let sender = match &self.0.borrow().transport {
            Transport::WebSocket(batches) => {
                Some((batches.sender.clone(), Arc::clone(&batches.unsent)))
            }
            Transport::Polling(_) => None,
        };
        let Some((sender, unsent)) = sender else {
            return poll_fn(|cx| match &mut self.0.borrow_mut().transport {
                Transport::Polling(Some(request)) => request.poll_closed(cx).map(|()| Event::Gone),
                Transport::Polling(None) | Transport::WebSocket(_) => Poll::Pending,
            })
            .await;
        };
        tokio::select! {
            biased;
            () = sender.closed() => Event::Gone,
            () = unsent.written.notified(), if wants_to_write => Event::Writable,
        }
    }
}

impl Inner {
    fn send_own(&mut self) {
        if !self.own.is_empty() && self.transport.can_take() {
            let batch = std::mem::take(&mut self.own);
            self.transport.send(batch);
        }
    }
}

impl Transport {
    fn can_take(&self) -> bool {
        match self {
            Self::Polling(request) => request.as_ref().is_some_and(|request| !request.is_closed()),
            Self::WebSocket(batches) => batches.has_room(),
        }
    }

    fn send(&mut self, batch: Vec<u8>) {
        match self {
            Self::Polling(request) => {
                if let Some(request) = request.take() {
                    // Who is gone meanwhile polls no more.
                    let _ = request.send(batch.into());
                }
            }
            Self::WebSocket(batches) => batches.send(batch.into()),
        }
    }
}

/// Appends a packet to a batch.
pub(super) fn append(batch: &mut Vec<u8>, packet: &[u8]) {
    if !batch.is_empty() {
        batch.push(SEPARATOR);
    }
    batch.extend_from_slice(packet);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_wait_for_the_next_poll_and_go_together() {
        let outlet = Outlet::new(Transport::Polling(None));
        outlet.push(b"2");
        outlet.push(b"40{}");
        assert!(!outlet.can_take() && outlet.has_own());
        let (request, mut answer) = oneshot::channel();
        outlet.change(Transport::Polling(Some(request)));
        assert_eq!(answer.try_recv().as_deref(), Ok(&b"2\x1e40{}"[..]));
        assert!(!outlet.can_take() && !outlet.has_own() && !outlet.is_polled());
        outlet.push(&[b'4'; MAX_OWN]);
        assert!(!outlet.is_overfull());
        outlet.push(b"2");
        assert!(outlet.is_overfull());
    }

    #[test]
    fn a_poll_that_its_client_has_given_up_takes_nothing() {
        let (request, answer) = oneshot::channel();
        let outlet = Outlet::new(Transport::Polling(Some(request)));
        assert!(outlet.is_polled() && outlet.can_take());
        drop(answer);
        assert!(!outlet.is_polled() && !outlet.can_take());
        outlet.push(b"2");
        assert!(outlet.has_own());
    }

    #[tokio::test]
    async fn a_websocket_takes_so_many_bytes_and_says_when_it_is_gone() {
        let (batches, mut sent) = batches();
        let outlet = Outlet::new(Transport::WebSocket(batches));
        outlet.send(vec![b'a'; MAX_UNSENT - 1]);
        assert!(outlet.can_take());
        outlet.send(b"b".to_vec());
        assert!(!outlet.can_take());
        outlet.push(b"2");
        let first = sent.recv().await.expect("a batch").len();
        assert_eq!(first, MAX_UNSENT - 1);
        sent.note_written(first);
        assert_eq!(outlet.event(true).await, Event::Writable);
        outlet.flush();
        assert!(!outlet.has_own());
        drop(sent);
        assert_eq!(outlet.event(true).await, Event::Gone);
    }
}
