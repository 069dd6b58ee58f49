//! The nodes in the world, and the removal of what dead ones left.

use std::collections::BTreeSet;
use std::time::Duration;

use fanfare_protocol::{AppId, UserId};

use super::{InApp, Turn};
use crate::backend::{
    BackendError, Census, INSTALLATION_LEASE, LeaseRenewal, LiveNodes, LogRules, Moment, Reaped,
    Topic,
};

impl Turn<'_> {
    pub(in crate::testing::sim) fn heartbeat(
        &mut self,
        renewal: &LeaseRenewal,
    ) -> Result<Census, BackendError> {
        let LeaseRenewal {
            node,
            first,
            lease,
            message,
            installation,
        } = renewal;
        if !first && !self.world.is_alive(node) {
            return Err(BackendError::Late);
        }
        let now = self.world.now();
        let millis = now / 1000;
        let memory = &mut self.world.memory;
        let claim = u64::try_from(INSTALLATION_LEASE.as_millis()).unwrap();
        match &memory.installation {
            Some((other, until)) if other != installation && *until > millis => {
                return Err(BackendError::OtherInstallation);
            }
            _ => memory.installation = Some((installation.clone(), millis + claim)),
        }
        let lease = u64::try_from(lease.as_millis()).unwrap();
        if *first {
            memory.leases.insert(node.to_string(), lease);
        }
        memory.nodes.insert(node.to_string(), millis + lease);
        for (other, until) in &mut memory.nodes {
            let longest = memory.leases.get(other).copied().unwrap_or(lease);
            *until = (*until).min(millis + longest);
        }
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for (name, until) in &memory.nodes {
            let list = if *until > millis {
                &mut live
            } else {
                &mut dead
            };
            list.push(name.clone());
        }
        self.publish_on(Topic::Nodes, message);
        Ok(Census { now, live, dead })
    }

    pub(in crate::testing::sim) fn live_nodes(&mut self) -> LiveNodes {
        let millis = self.world.now() / 1000;
        let nodes = self.world.memory.nodes.iter();
        let live = nodes.filter(|(_, until)| **until > millis);
        let receiving = self.world.subscribers.get(&Topic::Nodes);
        LiveNodes {
            receiving: receiving.map_or(0, BTreeSet::len),
            names: live.map(|(node, _)| node.clone()).collect(),
        }
    }

    pub(in crate::testing::sim) fn register(
        &mut self,
        app: &AppId,
        node: &str,
        deadline: Moment,
    ) -> Result<(), BackendError> {
        self.check_deadline(deadline)?;
        let registered = &mut self.world.memory.registered;
        let apps = registered.entry(node.to_owned()).or_default();
        apps.insert(app.to_string());
        Ok(())
    }

    pub(in crate::testing::sim) fn apps(&mut self, node: &str) -> Vec<String> {
        let apps = self.world.memory.registered.get(node);
        apps.into_iter().flatten().cloned().collect()
    }

    pub(in crate::testing::sim) fn enlist(
        &mut self,
        app: &AppId,
        node: &str,
        deadline: Moment,
    ) -> Result<(), BackendError> {
        self.check_deadline(deadline)?;
        self.in_app(app, |app| app.app.enlisted.insert(node.to_owned()));
        Ok(())
    }

    pub(in crate::testing::sim) fn enlisted(&mut self, app: &AppId) -> Vec<String> {
        self.in_app(app, |app| app.app.enlisted.iter().cloned().collect())
    }

    pub(in crate::testing::sim) fn claim(&mut self, node: &str, lease: Duration) -> bool {
        let now = self.world.now();
        let claims = &mut self.world.memory.claims;
        if claims.get(node).is_some_and(|until| *until > now) {
            return false;
        }
        let until = now + u64::try_from(lease.as_micros()).unwrap();
        claims.insert(node.to_owned(), until);
        true
    }

    pub(in crate::testing::sim) fn reap(
        &mut self,
        app: &AppId,
        node: &str,
        log: LogRules,
    ) -> Reaped {
        let part = self.world.part;
        self.in_app(app, |app| app.reap(node, part, log))
    }

    pub(in crate::testing::sim) fn forget(&mut self, node: &str) -> bool {
        let memory = &mut self.world.memory;
        memory.leases.remove(node);
        memory.registered.remove(node);
        memory.claims.remove(node);
        memory.nodes.remove(node).is_some()
    }
}

impl InApp<'_> {
    fn reap(&mut self, node: &str, (channels, entries): (usize, usize), log: LogRules) -> Reaped {
        let mut reaped = Reaped::default();
        let of_node =
            |(owner, channel): &(String, String)| (owner == node).then(|| channel.clone());
        let channels: Vec<_> = self
            .app
            .here
            .keys()
            .filter_map(of_node)
            .take(channels)
            .collect();
        for channel in channels {
            let here = &self.app.here[&(node.to_owned(), channel.clone())];
            let users: Vec<_> = here.iter().take(entries).cloned().collect();
            for user in users {
                if self.unseat(node, &channel, &user, log) {
                    let user = UserId::new(&user).unwrap();
                    reaped.removed.push((channel.clone(), user));
                }
            }
        }
        let counts = self.app.counts_of.get(node).into_iter().flatten();
        let counted: Vec<_> = counts.map(|(name, _)| name.clone()).take(entries).collect();
        for channel in counted {
            let after = self.recount(node, &channel, 0, log).after;
            let list = if after == 0 {
                &mut reaped.vacated
            } else {
                &mut reaped.counted
            };
            list.push(channel);
        }
        let online = self.app.online_of.get(node).into_iter().flatten();
        let online: Vec<_> = online.take(entries).cloned().collect();
        for user in online {
            self.sign_out(node, &user);
        }
        self.app.connections.remove(node);
        reaped.more = self.app.here.keys().any(|(owner, _)| owner == node)
            || self.app.counts_of.contains_key(node)
            || self.app.online_of.contains_key(node);
        if !reaped.more {
            self.app.enlisted.remove(node);
        }
        reaped
    }
}
