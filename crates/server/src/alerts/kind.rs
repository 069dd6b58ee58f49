//! The kinds of alerts. `docs/alerts.md` has the same table, which a test compares.

/// Kind of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum AlertKind {
    /// The store doesn't answer a node.
    StoreAway,
    /// The disk that holds the store is full.
    StoreDiskFull,
    /// A node isn't connected to the others.
    ClusterAway,
    /// A node has ended without leaving the cluster.
    NodeLost,
    /// Clients hold nearly all of a bounded resource of a node.
    Budget,
    /// A node closes many connections that read too slowly.
    SlowConsumers,
    /// Many publishes of an app are refused.
    PublishesRefused,
    /// Many clients connect anew to a node.
    ReconnectStorm,
    /// Most of a quota of an app or of the installation is used.
    QuotaNearlyUsed,
    /// All of it is used.
    QuotaUsedUp,
    /// The receiver of a webhook takes nothing.
    WebhookFailing,
    /// A webhook is disabled because of its receiver.
    WebhookDisabled,
    /// A node has lost events that webhooks were to be told of.
    WebhookEventsLost,
    /// A certificate should have been replaced by now.
    CertificateExpiresSoon,
    /// The files of a certificate hold another one that can't be served.
    CertificateRefused,
    /// The ACME server issues no certificate.
    CertificateOrderFailing,
}

impl AlertKind {
    pub(crate) const ALL: [Self; 16] = [
        Self::StoreAway,
        Self::StoreDiskFull,
        Self::ClusterAway,
        Self::NodeLost,
        Self::Budget,
        Self::SlowConsumers,
        Self::PublishesRefused,
        Self::ReconnectStorm,
        Self::QuotaNearlyUsed,
        Self::QuotaUsedUp,
        Self::WebhookFailing,
        Self::WebhookDisabled,
        Self::WebhookEventsLost,
        Self::CertificateExpiresSoon,
        Self::CertificateRefused,
        Self::CertificateOrderFailing,
    ];

    /// Returns its name in the API, in notifications and in the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::StoreAway => "store_away",
            Self::StoreDiskFull => "store_disk_full",
            Self::ClusterAway => "cluster_away",
            Self::NodeLost => "node_lost",
            Self::Budget => "budget",
            Self::SlowConsumers => "slow_consumers",
            Self::PublishesRefused => "publishes_refused",
            Self::ReconnectStorm => "reconnect_storm",
            Self::QuotaNearlyUsed => "quota_nearly_used",
            Self::QuotaUsedUp => "quota_used_up",
            Self::WebhookFailing => "webhook_failing",
            Self::WebhookDisabled => "webhook_disabled",
            Self::WebhookEventsLost => "webhook_events_lost",
            Self::CertificateExpiresSoon => "certificate_expires_soon",
            Self::CertificateRefused => "certificate_refused",
            Self::CertificateOrderFailing => "certificate_order_failing",
        }
    }

    /// Returns what an operator does about it.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::StoreAway => {
                "events go on with what the node knows, and no change of apps is taken; look at the database, and run fanfare doctor on \
                 the node"
            }
            Self::StoreDiskFull => {
                "events go on, and no change of apps is taken; make room on the disk"
            }
            Self::ClusterAway => {
                "the node's clients are closed with 4101 and its publishes refused; look at what nodes share (cluster.url), and run fanfare doctor on the node"
            }
            Self::NodeLost => {
                "its clients have reconnected to the other nodes; look at its log and at the machine, and start it again"
            }
            Self::Budget => {
                "new clients are refused when it is used up; find the app with fanfare top, add nodes, or raise the setting if the machine \
                 has room"
            }
            Self::SlowConsumers => {
                "clients read more slowly than events come: send them less, conflate, or look at their network; outbox.max_bytes is what \
                 may wait for one"
            }
            Self::PublishesRefused => {
                "events of the app are lost unless its backend sends them again: raise its limit, or slow the backend down"
            }
            Self::ReconnectStorm => {
                "look at the log for close codes, at proxies and networks; clients come back by themselves if the node has CPU left"
            }
            Self::QuotaNearlyUsed => {
                "raise the quota, or tell the people of the app; fanfare quotas shows when it begins again"
            }
            Self::QuotaUsedUp => {
                "a hard quota refuses publishes and new connections until it begins again; raise it, or tell the people of the app"
            }
            Self::WebhookFailing => {
                "its deliveries wait, and are given up after webhooks.retry_for; tell the people of the app, who see the attempts in the \
                 webhook's log"
            }
            Self::WebhookDisabled => {
                "events are recorded and not sent; once its receiver is well, enable it again and replay what it missed"
            }
            Self::WebhookEventsLost => {
                "client events, cache misses or counts came faster than the store took them; look at the database, or raise \
                 webhooks.max_queued_bytes"
            }
            Self::CertificateExpiresSoon => {
                "clients refuse to connect once it has expired; find out why what renews it has not done so, and run fanfare doctor on \
                 the node"
            }
            Self::CertificateRefused => {
                "the certificate before it is served on until it expires; mend the files (tls.certificate, tls.key), which are read \
                 again by themselves"
            }
            Self::CertificateOrderFailing => {
                "the certificate before it is served on until it expires, and the order is tried again by itself; mend what the error \
                 names"
            }
        }
    }

    /// Returns the advice for a kind by its name, or nothing for one of another version.
    pub(crate) fn advice_of(name: &str) -> &'static str {
        Self::parse(name).map_or("", Self::advice)
    }

    /// Returns the kind with a name, unless it is one of another version.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns whether it is seen once, when it happens.
    pub(super) fn is_momentary(self) -> bool {
        matches!(self, Self::NodeLost | Self::WebhookEventsLost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_documentation() {
        let docs = include_str!("../../../../docs/alerts.md");
        let documented: Vec<&str> = docs
            .lines()
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` |")?.0))
            .filter(|name| !name.contains('.'))
            .collect();
        let kinds: Vec<&str> = AlertKind::ALL.into_iter().map(AlertKind::as_str).collect();
        assert_eq!(documented, kinds);
    }
}
