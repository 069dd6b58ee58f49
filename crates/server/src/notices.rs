//! What happens on channels: it is given to webhooks, and logged. `log.filter = "info,fanfare::notices=debug"` shows it.

use fanfare_engine::{Notice, Notices};
use fanfare_protocol::{AppId, ChannelName, UserId};

use crate::webhooks::Intake;

/// Target of these lines in log filters.
const TARGET: &str = "fanfare::notices";

/// Gives notices to webhooks, and writes them to the log.
#[derive(Debug)]
pub(crate) struct NodeNotices {
    intake: Intake,
}

impl NodeNotices {
    pub(crate) fn new(intake: Intake) -> Self {
        Self { intake }
    }
}

impl Notices for NodeNotices {
    fn notice(&self, app: &AppId, channel: &ChannelName, notice: Notice<'_>) {
        self.intake.notice(app, channel, notice);
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
