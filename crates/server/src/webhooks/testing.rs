//! Webhooks for unit tests.

use fanfare_store::{WebhookFormat, WebhookRecord, WebhookState};

use super::hooks::{AppHooks, Hook, Hooks};

/// Returns a webhook of app 1 that tells of everything.
pub(super) fn webhook(id: &str) -> WebhookRecord {
    WebhookRecord {
        id: id.into(),
        app_id: "1".into(),
        name: id.into(),
        url: Some("https://example.com/hook".into()),
        events: None,
        channels: Vec::new(),
        format: WebhookFormat::Pusher,
        is_batched: false,
        headers: Vec::new(),
        secrets: Vec::new(),
        state: WebhookState::Active,
        state_reason: None,
        created_at: 0,
        updated_at: 0,
    }
}

pub(super) fn hook_of(record: WebhookRecord) -> Hook {
    Hook::new(record).expect("a webhook")
}

/// Returns webhooks of which an app has one that tells of everything.
pub(super) fn hooks_of(app: &str) -> Hooks {
    let hook = hook_of(WebhookRecord {
        app_id: app.into(),
        ..webhook("wh_1")
    });
    let hooks = Hooks::default();
    hooks.set([(hook.app.clone(), AppHooks::new(vec![hook]))]);
    hooks
}
