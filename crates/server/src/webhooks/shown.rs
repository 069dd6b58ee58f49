//! Attempts as those who watch an app see them.

use fanfare_engine::{Engine, LiveEvent, LiveKind};
use fanfare_store::WaitingDelivery;

use super::courier::Answer;
use super::hooks::Hook;

/// Shows an attempt that has ended to those who watch the app.
pub(super) fn show_attempt(
    engine: &Engine,
    hook: &Hook,
    delivery: &WaitingDelivery,
    answer: &Answer,
) {
    let event = LiveEvent {
        channel: delivery.channel.as_deref(),
        event: Some(&delivery.names),
        webhook_id: Some(&hook.id),
        delivery: Some(delivery.sequence),
        status: answer.status,
        took_ms: u64::try_from(answer.took.as_millis()).ok(),
        reason: answer.error.as_deref(),
        ..LiveEvent::new(LiveKind::Webhook)
    };
    engine.show_live(&hook.app, &event);
}
