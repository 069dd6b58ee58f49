//! Pages of histories from the back end, as subscribers get them.

use bytes::Bytes;
use fanfare_engine::{HistoryAnswer, Recorded};
use fanfare_protocol::Unrecovered;

use crate::backend::HistoryPage;
use crate::message::Message;

/// Positions are times in microseconds.
const MICROS_PER_MILLI: u64 = 1000;

/// Returns a page of a history for subscribers. If one event cannot be read none counts, because
/// there would be a gap.
pub(crate) fn history_answer(page: HistoryPage) -> HistoryAnswer {
    let read = |message: &Bytes| match Message::read(message).ok()? {
        Message::Event {
            position: Some(position),
            recorded: Some(recorded),
            name,
            user_id,
            except,
            data,
            ..
        } => Some(Recorded {
            position: recorded,
            name: name.into(),
            data: data.into(),
            user_id,
            except,
            time: position / MICROS_PER_MILLI,
        }),
        _ => None,
    };
    let events = page.messages.and_then(|messages| {
        let events: Option<Vec<_>> = messages.iter().map(read).collect();
        events.ok_or(Unrecovered::Expired)
    });
    HistoryAnswer::new(page.position, page.newest, events)
}
