//! Refuses a connection: tells the client why and closes it, without involving a shard.

use std::time::Duration;

use fanfare_engine::Refusal;
use fanfare_protocol::{Frame, Framing, ServerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::edge::client_socket::ClientSocket;

/// How long the client may take to read the refusal.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the reason as an error message and as the close code, because client libraries look at either. Waits until the
/// client closes, or [`CLOSE_TIMEOUT`].
pub(crate) async fn refuse(mut stream: ClientSocket, framing: Framing, refusal: Refusal) {
    let farewell = async {
        let error = ServerMessage::Error {
            code: refusal
                .code
                .is_in_pusher_table()
                .then(|| refusal.code.number()),
            message: &refusal.message,
            reference: None,
        };
        stream.write_all(error.to_frame().bytes(framing)).await?;
        stream
            .write_all(Frame::close(refusal.code, &refusal.message).bytes(framing))
            .await?;
        stream.shutdown().await?;
        // Closing a socket with unread bytes resets it, and the client would lose the refusal.
        let mut ignored = [0; 512];
        while stream.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The connection is closed either way.
    let _ = timeout(CLOSE_TIMEOUT, farewell).await;
}
