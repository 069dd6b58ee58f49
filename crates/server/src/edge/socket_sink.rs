//! A client's socket on the thread of its shard, and as the sink of its session.

use std::io::{self, IoSlice};
use std::rc::Rc;

use fanfare_engine::Sink;
use fanfare_protocol::Framing;

use super::client_socket::{ClientSocket, PortableSocket};

/// Registers a socket with the reactor of this thread. Returns `None` if the system can't watch it.
pub(super) fn watch(stream: PortableSocket) -> Option<Rc<ClientSocket>> {
    match ClientSocket::from_portable(stream) {
        Ok(stream) => Some(Rc::new(stream)),
        Err(error) => {
            tracing::error!(%error, "cannot watch a socket; is the limit of open files reached?");
            None
        }
    }
}

/// Writes frames to a socket as they are.
pub(super) struct SocketSink {
    pub(super) stream: Rc<ClientSocket>,
    pub(super) framing: Framing,
}

impl Sink for SocketSink {
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write_vectored(chunks)
    }

    fn has_unsent(&self) -> bool {
        self.stream.has_unsent()
    }

    fn framing(&self) -> Framing {
        self.framing
    }
}
