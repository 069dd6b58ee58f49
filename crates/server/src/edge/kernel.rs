//! What the kernel may hold of a connection. Bytes in its send queue are in no account of ours, and a client that doesn't read
//! would keep megabytes there, even after it was closed.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes that may wait in the kernel before they are sent. What is on its way to a client that reads comes on top, so a fast
/// client is sent to as fast as before; what waits longer waits in our outbox, where it counts.
#[cfg(any(target_os = "android", target_os = "linux", target_vendor = "apple"))]
const MAX_UNSENT: u32 = 16 * 1024;
/// How long the kernel may go on with what was written to a connection that has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Bounds what waits in the kernel for a connection that was just accepted, and for how long a client may read none of it.
pub(crate) fn bound_send_queue(stream: &TcpStream, patience: Duration) {
    #[cfg(any(target_os = "android", target_os = "linux", target_vendor = "apple"))]
    note(SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT));
    set_patience(stream, patience);
}

/// Gives up on a connection if its client acknowledges nothing of what was sent for so long.
pub(crate) fn set_patience(stream: &TcpStream, patience: Duration) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    note(SockRef::from(stream).set_tcp_user_timeout(Some(patience)));
}

/// Says how a socket ends that is dropped next: with its last words, for which the client has a moment, or at once if the
/// client has left bytes `unread` until its time was over.
pub(crate) fn end(stream: &TcpStream, unread: bool) {
    if unread {
        note(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
    } else {
        set_patience(stream, LAST_WORDS);
    }
}

/// A socket that is gone already has no options any more, which its next read or write tells.
fn note(set: std::io::Result<()>) {
    if let Err(error) = set {
        tracing::debug!(%error, "a socket was gone before its options were set");
    }
}
