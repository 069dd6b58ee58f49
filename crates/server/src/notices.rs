//! Logs what happens on channels. `log.filter = "info,fanfare::notices=debug"` shows it.

use fanfare_engine::{Notice, Notices};
use fanfare_protocol::{AppId, ChannelName, UserId};

/// Target of these lines in log filters.
const TARGET: &str = "fanfare::notices";

/// Writes notices to the log.
#[derive(Debug)]
pub(crate) struct LoggedNotices;

impl Notices for LoggedNotices {
    fn notice(&self, app: &AppId, channel: &ChannelName, notice: Notice<'_>) {
        let (name, user) = match notice {
            Notice::Occupied => ("occupied", None),
            Notice::Vacated => ("vacated", None),
            Notice::MemberAdded(user) => ("member_added", Some(user.as_str())),
            Notice::MemberRemoved(user) => ("member_removed", Some(user.as_str())),
            // Its data is the app's own, and no business of the log's.
            Notice::ClientEvent { user_id, .. } => ("client_event", user_id.map(UserId::as_str)),
            Notice::CacheMiss => ("cache_miss", None),
            Notice::SubscriptionCount(_) => ("subscription_count", None),
        };
        tracing::debug!(target: TARGET, notice = name, %app, %channel, user_id = user, "notice");
    }
}
