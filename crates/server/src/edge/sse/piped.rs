//! A stream as the body of an answer, for HTTP/2, and where a connection has had other requests before.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::task::Poll;

use axum::body::{Body, Bytes};
use fanfare_engine::{Session, Shard, Sink};
use fanfare_protocol::Framing;
use futures_util::stream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Sender};

use super::event_ids::EventIds;
use super::open::Opened;

/// Bytes after which a batch of events is full.
const BATCH: usize = 64 * 1024;
/// Number of batches that may wait for the network.
const BATCHES: usize = 2;

/// What a body gets its events from.
pub(super) struct Source {
    opened: Opened,
    batches: Sender<Bytes>,
}

/// Returns the two ends of a stream.
pub(super) fn pair(opened: Opened) -> (Source, Body) {
    let (batches, mut receiver) = mpsc::channel(BATCHES);
    let received = stream::poll_fn(move |cx| {
        let batch = receiver.poll_recv(cx);
        batch.map(|batch| batch.map(Ok::<_, Infallible>))
    });
    (Source { opened, batches }, Body::from_stream(received))
}

struct BodySink {
    batches: Sender<Bytes>,
    framing: Framing,
    ids: Option<RefCell<EventIds>>,
}

impl Sink for BodySink {
    /// Takes whole slices, which hold whole events.
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let permit = self.batches.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => ErrorKind::WouldBlock,
            TrySendError::Closed(()) => ErrorKind::BrokenPipe,
        })?;
        let (mut batch, mut count) = (Vec::new(), 0);
        for chunk in chunks {
            batch.extend_from_slice(chunk);
            count += chunk.len();
            if batch.len() >= BATCH {
                break;
            }
        }
        if let Some(ids) = &self.ids {
            batch = ids.borrow_mut().complete(&batch);
        }
        permit.send(batch.into());
        Ok(count)
    }

    fn framing(&self) -> Framing {
        self.framing
    }

    fn has_turns(&self) -> bool {
        true
    }

    // The HTTP connection has a write time-out.
    fn has_write_timeout(&self) -> bool {
        true
    }
}

impl Source {
    /// Starts the stream. Must be called on the shard's thread.
    pub(super) fn start(self, shard: &Rc<Shard>) {
        let Self { opened, batches } = self;
        let sink = BodySink {
            batches: batches.clone(),
            framing: Framing::EventStream(opened.stream(false)),
            ids: opened.completes_ids().then(RefCell::default),
        };
        let Opened {
            admitted,
            subscriptions,
            ..
        } = opened;
        let session = shard.connect(admitted, Box::new(sink));
        tokio::task::spawn_local(async move {
            Box::pin(subscriptions.subscribe(&session)).await;
            serve(&session, &batches).await;
            session.flush();
            session.end().await;
        });
    }
}

/// Serves a stream until its client has left or the session has ended.
async fn serve(session: &Session, batches: &Sender<Bytes>) {
    loop {
        session.flush();
        session.serve_inbox();
        let interest = poll_fn(|cx| Poll::Ready(session.poll_interest(cx))).await;
        let is_over = || session.is_closing() && session.is_flushed();
        if interest.end || is_over() {
            return;
        }
        let changed = poll_fn(|cx| {
            let same = session.poll_interest(cx).write == interest.write
                && !session.is_gone()
                && !is_over();
            if same { Poll::Pending } else { Poll::Ready(()) }
        });
        tokio::select! {
            () = changed => {}
            () = batches.closed() => return,
            _room = batches.reserve(), if interest.write => {}
        }
    }
}
