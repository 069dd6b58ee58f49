//! What happens on channels, in the log: `log.filter = "info,fanfare::notices=debug"` shows it.

use fanfare_engine::{Notice, Notices};
use fanfare_protocol::{AppId, ChannelName};

/// Where log filters find them.
const TARGET: &str = "fanfare::notices";

/// Writes notices down.
#[derive(Debug)]
pub(crate) struct LoggedNotices;

impl Notices for LoggedNotices {
    fn notice(&self, app: &AppId, channel: &ChannelName, notice: Notice<'_>) {
        let (name, user) = match notice {
            Notice::Occupied => ("occupied", None),
            Notice::Vacated => ("vacated", None),
            Notice::MemberAdded(user) => ("member_added", Some(user.as_str())),
            Notice::MemberRemoved(user) => ("member_removed", Some(user.as_str())),
        };
        tracing::debug!(target: TARGET, notice = name, %app, %channel, user_id = user, "notice");
    }
}
