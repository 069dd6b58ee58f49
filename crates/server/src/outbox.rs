//! Outboxes: events that backends wrote in their own database, which a node reads and publishes.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::AppId;
use fanfare_store::OutboxRecord;
use tokio::sync::watch;

/// The outbox of each app that has one, as this node knows them.
pub(crate) type OutboxSettings = HashMap<AppId, OutboxRecord>;

/// The outboxes of this node. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Outboxes(Arc<watch::Sender<OutboxSettings>>);

impl std::fmt::Debug for Outboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outboxes(..)")
    }
}

impl Outboxes {
    /// Replaces the outbox of an app. Those who follow hear of it only if its settings differ.
    pub(crate) fn apply(&self, app: &AppId, outbox: Option<&OutboxRecord>) {
        self.0
            .send_if_modified(|settings| match (settings.get(app), outbox) {
                (None, None) => false,
                (Some(before), Some(after)) if before.is_same(after) => false,
                (_, Some(after)) => {
                    settings.insert(app.clone(), after.clone());
                    true
                }
                (Some(_), None) => settings.remove(app).is_some(),
            });
    }

    /// Returns the settings, and a way to wait for the next change of them.
    #[cfg_attr(not(test), expect(dead_code, reason = "the readers follow it"))]
    pub(crate) fn follow(&self) -> watch::Receiver<OutboxSettings> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_follow_hear_of_changes_only() {
        let outboxes = Outboxes::default();
        let mut follower = outboxes.follow();
        let app = AppId::parse("1").expect("an id");
        let mut outbox = OutboxRecord {
            url: "postgres://db/app".into(),
            stream: None,
            poll_interval: 50,
            created_at: 0,
            updated_at: 0,
        };
        let mut hears = |outbox: Option<&OutboxRecord>| {
            outboxes.apply(&app, outbox);
            let heard = follower.has_changed().expect("the sender is there");
            let interval = follower
                .borrow_and_update()
                .get(&app)
                .map(|outbox| outbox.poll_interval);
            (heard, interval)
        };
        assert_eq!(hears(None), (false, None));
        assert_eq!(hears(Some(&outbox)), (true, Some(50)));
        // Another change of the app.
        assert_eq!(hears(Some(&outbox)), (false, Some(50)));
        outbox.poll_interval = 100;
        assert_eq!(hears(Some(&outbox)), (true, Some(100)));
        assert_eq!(hears(None), (true, None));
    }
}
