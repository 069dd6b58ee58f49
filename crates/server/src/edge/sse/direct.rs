//! A stream that leaves HTTP with its socket. Its shard writes the chunks of its body, and nothing of HTTP's is kept
//! for it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::task::Poll;

use fanfare_engine::{Session, Shard, Sink};
use fanfare_protocol::Framing;
use fanfare_protocol::event_stream::{LAST_CHUNK, chunk};

use super::event_ids::EventIds;
use super::open::Opened;
use crate::edge::client_socket::{ClientSocket, PortableSocket};
use crate::edge::kernel;
use crate::edge::socket_sink::{SocketSink, watch};
use crate::edge::sockets::SocketPlace;

/// Bytes that a client may send after its request. There is nothing for it to say.
const MAX_UNASKED: usize = 16 * 1024;
/// Bytes of events whose ids are completed at a time.
const BATCH: usize = 64 * 1024;
/// Starts a stream on its shard's thread.
pub(super) fn start(shard: &Rc<Shard>, opened: Opened, stream: PortableSocket, place: SocketPlace) {
    let Some(stream) = watch(stream) else {
        return;
    };
    let completes_ids = opened.completes_ids();
    let completing = completes_ids.then(|| Rc::new(CompletingSink::new(&stream, &opened)));
    let sink: Box<dyn Sink> = match &completing {
        Some(sink) => Box::new(SharedSink(Rc::clone(sink))),
        None => Box::new(SocketSink {
            stream: Rc::clone(&stream),
            framing: Framing::EventStream(opened.stream(true)),
        }),
    };
    let Opened {
        admitted,
        subscriptions,
        ..
    } = opened;
    let session = shard.connect(admitted, sink);
    kernel::set_write_timeout(&stream, session.silence_limit());
    // Boxed, because the task would hold it twice, as an argument and as its state.
    let connection = Box::new(Connection {
        stream,
        completing,
        session,
        unasked: 0,
        _place: place,
    });
    tokio::task::spawn_local(async move {
        Box::pin(subscriptions.subscribe(&connection.session)).await;
        connection.run().await;
    });
}

/// The sink of a client with several histories, whose events get ids of their own.
struct CompletingSink {
    stream: Rc<ClientSocket>,
    framing: Framing,
    state: RefCell<Completing>,
}

#[derive(Default)]
struct Completing {
    ids: EventIds,
    /// A chunk that the socket hasn't taken whole, and how much of it it has.
    chunk: Vec<u8>,
    written: usize,
}

impl CompletingSink {
    fn new(stream: &Rc<ClientSocket>, opened: &Opened) -> Self {
        Self {
            stream: Rc::clone(stream),
            framing: Framing::EventStream(opened.stream(false)),
            state: RefCell::default(),
        }
    }

    fn has_unsent(&self) -> bool {
        let state = self.state.borrow();
        state.written < state.chunk.len() || self.stream.has_unsent()
    }

    /// Writes what is left of the last chunk.
    fn flush(&self) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        while state.written < state.chunk.len() {
            let rest = IoSlice::new(&state.chunk[state.written..]);
            state.written += self.stream.try_write_vectored(&[rest])?;
        }
        state.chunk = Vec::new();
        state.written = 0;
        Ok(())
    }
}

struct SharedSink(Rc<CompletingSink>);

impl Sink for SharedSink {
    /// Takes whole slices, which hold whole events, once the socket has taken those before. Their events are written at
    /// once as far as the socket takes them.
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.flush()?;
        let (mut events, mut count) = (Vec::new(), 0);
        for slice in chunks {
            events.extend_from_slice(slice);
            count += slice.len();
            if events.len() >= BATCH {
                break;
            }
        }
        {
            let state = &mut *self.0.state.borrow_mut();
            state.chunk = chunk(&state.ids.complete(&events));
        }
        match self.0.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    fn has_unsent(&self) -> bool {
        self.0.has_unsent()
    }

    fn framing(&self) -> Framing {
        self.0.framing
    }
}

struct Connection {
    stream: Rc<ClientSocket>,
    completing: Option<Rc<CompletingSink>>,
    session: Session,
    /// Bytes that the client has sent after its request.
    unasked: usize,
    _place: SocketPlace,
}

/// Next action of a connection.
enum Step {
    Read,
    Write,
    End,
}

impl Connection {
    async fn run(mut self: Box<Self>) {
        self.write();
        loop {
            match self.next_step().await {
                Step::Write => self.write(),
                Step::Read if self.has_left() => break,
                Step::Read => {}
                Step::End => break,
            }
            self.session.serve_inbox();
            // The socket may be ready again at once, and others wait for their turn.
            tokio::task::yield_now().await;
        }
        let was_closed = self.session.is_closing() && !self.session.is_gone();
        if was_closed && self.completing.is_some() {
            // The sink's framing has no end of its own.
            let _ = self.stream.try_write_vectored(&[IoSlice::new(LAST_CHUNK)]);
        }
        let unread = self.session.end().await;
        if !unread {
            self.stream.say_goodbye();
        }
        kernel::end(&self.stream, unread);
    }

    async fn next_step(&self) -> Step {
        poll_fn(|cx| {
            let interest = self.session.poll_interest(cx);
            let is_written = self.session.is_flushed() && !self.has_unsent();
            if interest.end || self.session.is_closing() && is_written {
                return Poll::Ready(Step::End);
            }
            if (interest.write || self.has_unsent()) && self.stream.poll_write_ready(cx).is_ready()
            {
                return Poll::Ready(Step::Write);
            }
            self.stream.poll_read_ready(cx).map(|_| Step::Read)
        })
        .await
    }

    fn has_unsent(&self) -> bool {
        match &self.completing {
            Some(sink) => sink.has_unsent(),
            None => self.stream.has_unsent(),
        }
    }

    fn write(&self) {
        if let Err(error) = self.stream.flush_unsent() {
            // The next read meets the end of the connection.
            tracing::debug!(%error, "a client left while bytes waited for it");
        }
        // Before the session's, so that it sees that nothing is held.
        if let Some(sink) = &self.completing
            && let Err(error) = sink.flush()
            && error.kind() != ErrorKind::WouldBlock
        {
            tracing::debug!(%error, "a client left while events waited for it");
        }
        self.session.flush();
    }

    /// Returns whether the client has left, or talks where it has nothing to say.
    fn has_left(&mut self) -> bool {
        let mut ignored = [0; 1024];
        match self.stream.try_read(&mut ignored) {
            Ok(0) => true,
            Ok(count) => {
                self.unasked += count;
                self.unasked > MAX_UNASKED
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}
