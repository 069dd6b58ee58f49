//! Refuses a connection: tells the client why and closes it, without involving a shard.

use fanfare_engine::Refusal;
use fanfare_protocol::{Frame, Framing, ServerMessage};

use crate::edge::client_socket::ClientSocket;
use crate::edge::head::answer_and_close;

/// Sends the reason as an error message and as the close code, because client libraries look at either. Waits until the
/// client closes, or its time is up.
pub(crate) async fn refuse(stream: ClientSocket, framing: Framing, refusal: Refusal) {
    let code = refusal.code;
    let error = ServerMessage::Error {
        code: code.is_in_pusher_table().then(|| code.number()),
        message: &refusal.message,
        reference: None,
    };
    let (error, close) = (error.to_frame(), Frame::close(code, &refusal.message));
    let farewell = [error.bytes(framing).as_ref(), close.bytes(framing)].concat();
    answer_and_close(stream, &farewell).await;
}
