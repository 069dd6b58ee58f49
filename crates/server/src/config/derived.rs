//! Defaults that depend on other settings.

use figment::Figment;

use super::Config;
use super::rules::Rules;

impl Config {
    /// Raises bounds that weren't given to what `outbox.max_bytes` needs.
    pub(super) fn raise_waiting_defaults(&mut self, given: &Figment) {
        let least = self.outbox.least_waiting(self.shards);
        for (path, bytes) in [
            ("outbox.max_total_bytes", &mut self.outbox.max_total_bytes),
            ("outbox.max_app_bytes", &mut self.outbox.max_app_bytes),
            (
                "network.max_waiting_bytes",
                &mut self.network.max_waiting_bytes,
            ),
        ] {
            if !given.contains(path) && *bytes < least {
                *bytes = least;
                let source = "derived from outbox.max_bytes and shards";
                self.sources.insert(path.into(), source.into());
            }
        }
    }

    /// Lowers ceilings that weren't given to what requests and messages have room for, and checks those that were.
    pub(super) fn derive_ceilings(
        &mut self,
        given: &Figment,
        rules: Rules<'_>,
    ) -> anyhow::Result<()> {
        let body = ("http.max_body_bytes", self.http.max_body_bytes);
        let message = (
            "websocket.max_message_bytes",
            self.websocket.max_message_bytes,
        );
        let ceilings = &mut self.ceilings;
        for (name, ceiling, (setting, room)) in [
            ("event_data", &mut ceilings.event_data, body),
            (
                "client_event_data",
                &mut ceilings.client_event_data,
                message,
            ),
            (
                "presence_member_size",
                &mut ceilings.presence_member_size,
                message,
            ),
        ] {
            let path = format!("ceilings.{name}");
            if given.contains(&path) {
                let rule =
                    format!("must be at most {room}, for which {setting} has room; raise that too");
                rules
                    .of("ceilings")
                    .check(name, *ceiling <= room as u64, rule)?;
            } else {
                *ceiling = (*ceiling).min(room as u64);
                self.sources.insert(path, format!("derived from {setting}"));
            }
        }
        Ok(())
    }
}
