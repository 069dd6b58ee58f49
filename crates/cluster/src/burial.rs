//! Clearing away what dead nodes have left: once, whoever does it.

use std::sync::Arc;

use fanfare_engine::{Notice, Place};
use fanfare_protocol::{AppId, ChannelName};

use crate::backend::{Answer, Buried, NodeName, Step, StepError};
use crate::cluster::Cluster;
use crate::link::Link;
use crate::roster;

impl Cluster {
    /// Clears away what a dead node has left, unless another node does. Each piece goes in one atomic step, which tells
    /// it: two who did the same would not tell it twice.
    pub(crate) async fn bury_in_turn(self: Arc<Self>, link: Arc<Link>, dead: String) {
        let dead: NodeName = dead.into();
        let claim = Step::Claim {
            node: dead.clone(),
            lease: self.settings.lease,
        };
        let cleared = async {
            if link.take_one(claim).await? == Answer::Numbers(vec![0]) {
                return Ok(());
            }
            self.bury(&link, &dead).await?;
            let node = dead.clone();
            link.take_one(Step::Forget { node }).await?;
            tracing::info!(node = %dead, "a node is gone: what it had was cleared away");
            Ok::<(), StepError>(())
        };
        if let Err(error) = cleared.await {
            tracing::debug!(%error, node = %dead, "clearing away what a dead node left; somebody will go on");
        }
    }

    pub(crate) async fn bury(
        self: &Arc<Self>,
        link: &Arc<Link>,
        dead: &NodeName,
    ) -> Result<(), StepError> {
        let node = dead.clone();
        let Answer::Names(apps) = link.take_one(Step::Apps { node }).await? else {
            return Ok(());
        };
        for app in apps {
            let Ok(app) = AppId::parse(&app) else {
                continue;
            };
            loop {
                let step = Step::Bury {
                    app: app.clone(),
                    node: dead.clone(),
                };
                let Answer::Buried(buried) = link.take_one(step).await? else {
                    break;
                };
                self.tell_of(&app, &buried);
                if !buried.more {
                    break;
                }
            }
        }
        Ok(())
    }

    fn tell_of(self: &Arc<Self>, id: &AppId, buried: &Buried) {
        let name = |channel: &str| ChannelName::parse(channel, usize::MAX).ok();
        for (channel, user) in &buried.removed {
            if let Some(channel) = name(channel) {
                self.node.notice(id, &channel, Notice::MemberRemoved(user));
            }
        }
        for channel in &buried.vacated {
            if let Some(channel) = name(channel) {
                self.node.notice(id, &channel, Notice::Vacated);
            }
        }
        let Some(app) = self.node.app(id.as_str()) else {
            return;
        };
        if !app.settings().subscription_count {
            return;
        }
        for channel in buried.counted.iter().filter_map(|channel| name(channel)) {
            if channel.is_counted() {
                let place = Place {
                    app: Arc::clone(&app),
                    channel,
                };
                let here = self.node.subscribers(&place);
                self.queue
                    .say(&app, roster::count(&place, here, true), |_| {});
            }
        }
    }
}
