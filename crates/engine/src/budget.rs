//! Budgets: what a node, an app and a network of clients may hold of this node. Whatever a client can make the node hold is
//! charged to its [`Payer`], and each [`Charge`] is given back when it is dropped.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::sparse::ShrinkIfSparse;

/// A bounded resource. A new resource is a variant here and its name in [`Resource::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// TCP connections, whatever they are used for.
    Sockets,
    /// Admitted connections: WebSockets, and fallback sessions whose client came back at least
    /// once.
    Connections,
    /// Bytes of request bodies that are being read.
    RequestBytes,
    /// Bytes of WebSocket messages that have not arrived completely.
    MessageBytes,
    /// Bytes that subscriptions take.
    SubscriptionBytes,
    /// Bytes of histories that are being read, or that wait for the clients who asked for them.
    HistoryBytes,
    /// Bytes of notes about what happened to connections. Where there is no room, the oldest give way.
    LifecycleBytes,
}

const RESOURCES: usize = Resource::LifecycleBytes as usize + 1;

impl Resource {
    /// All resources.
    pub const ALL: [Self; RESOURCES] = [
        Self::Sockets,
        Self::Connections,
        Self::RequestBytes,
        Self::MessageBytes,
        Self::SubscriptionBytes,
        Self::HistoryBytes,
        Self::LifecycleBytes,
    ];

    /// Returns the resource's name in metrics.
    #[must_use]
    pub fn metric_name(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::Connections => "connections",
            Self::RequestBytes => "request_bytes",
            Self::MessageBytes => "message_bytes",
            Self::SubscriptionBytes => "subscription_bytes",
            Self::HistoryBytes => "history_bytes",
            Self::LifecycleBytes => "lifecycle_bytes",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sockets => "TCP connections",
            Self::Connections => "connections",
            Self::RequestBytes => "bytes of request bodies",
            Self::MessageBytes => "bytes of unfinished messages",
            Self::SubscriptionBytes => "bytes of subscriptions",
            Self::HistoryBytes => "bytes of histories",
            Self::LifecycleBytes => "bytes of notes about connections",
        }
    }
}

/// The most of each resource that a holder may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds([usize; RESOURCES]);

impl Default for Bounds {
    fn default() -> Self {
        Self::unlimited()
    }
}

impl Bounds {
    /// Returns no bounds.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self([usize::MAX; RESOURCES])
    }

    /// Returns the same bounds, with at most `max` of a resource.
    #[must_use]
    pub const fn with(mut self, resource: Resource, max: usize) -> Self {
        self.0[resource as usize] = max;
        self
    }

    /// Returns the bound of a resource.
    #[must_use]
    pub const fn of(&self, resource: Resource) -> usize {
        self.0[resource as usize]
    }
}

/// The bounds of each kind of holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budgets {
    /// Bounds of this node as a whole.
    pub node: Bounds,
    /// Bounds of each app on this node.
    pub app: Bounds,
    /// Bounds of each network: an IPv4 address or an IPv6 /64.
    pub network: Bounds,
}

/// How many times the bound of an IPv6 /64 a /48 may hold.
const WIDE_FACTOR: usize = 4;

/// The holder that has reached a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The node.
    Node,
    /// The app.
    App,
    /// The client's network.
    Network(Network),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("This server"),
            Self::App => f.write_str("The app"),
            Self::Network(network) => write!(f, "Your network {network}"),
        }
    }
}

/// A charge that was refused because a holder has reached its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{holder} has reached {max} {}, the most it may hold", .resource.name())]
pub struct BudgetExceeded {
    /// The holder whose bound it is.
    pub holder: Holder,
    /// The resource.
    pub resource: Resource,
    /// The bound.
    pub max: usize,
}

/// A network of clients: an IPv4 address, an IPv6 /64 or an IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Returns the network that counts as one client: its IPv4 address, or the /64 of its IPv6
    /// address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self {
                address: v4.into(),
                prefix: 32,
            },
            IpAddr::V6(v6) => Self::truncated(v6, 64),
        }
    }

    /// Reads a network as it is displayed: an IPv4 address, or an IPv6 address with `/64` or `/48`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        match (address.parse().ok()?, prefix) {
            (address @ IpAddr::V4(_), "32") => Some(Self {
                address,
                prefix: 32,
            }),
            (IpAddr::V6(v6), "64") => Some(Self::truncated(v6, 64)),
            (IpAddr::V6(v6), "48") => Some(Self::truncated(v6, 48)),
            _ => None,
        }
    }

    /// Returns how many networks of one client it counts for.
    #[must_use]
    pub fn factor(self) -> usize {
        let is_wide = self.address.is_ipv6() && self.prefix < 64;
        if is_wide { WIDE_FACTOR } else { 1 }
    }

    /// Returns the network and the wider one that it is a part of.
    pub fn all(self) -> impl Iterator<Item = Self> {
        [Some(self), self.wide()].into_iter().flatten()
    }

    /// Returns the /48 of an IPv6 /64, because a provider may give one customer that much.
    fn wide(self) -> Option<Self> {
        match self.address {
            IpAddr::V6(v6) => Some(Self::truncated(v6, 48)),
            IpAddr::V4(_) => None,
        }
    }

    fn truncated(address: Ipv6Addr, prefix: u8) -> Self {
        let kept = address.to_bits() & (u128::MAX << (128 - prefix));
        Self {
            address: Ipv6Addr::from_bits(kept).into(),
            prefix,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/{}", self.prefix),
        }
    }
}

/// One holder's amount of each resource.
#[derive(Debug, Default)]
pub(crate) struct Usage([AtomicUsize; RESOURCES]);

impl Usage {
    fn of(&self, resource: Resource) -> usize {
        self.0[resource as usize].load(Ordering::Relaxed)
    }

    // Relaxed throughout: each number stands alone, and no other memory is published with it.
    fn try_add(&self, resource: Resource, amount: usize, max: usize) -> bool {
        let add = |used: usize| used.checked_add(amount).filter(|sum| *sum <= max);
        self.0[resource as usize]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }

    fn add(&self, resource: Resource, amount: usize) {
        self.0[resource as usize].fetch_add(amount, Ordering::Relaxed);
    }

    fn give_back(&self, resource: Resource, amount: usize) {
        self.0[resource as usize].fetch_sub(amount, Ordering::Relaxed);
    }
}

/// The usage of all holders of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Books>);

#[derive(Debug)]
struct Books {
    budgets: Budgets,
    node: Usage,
    networks: Mutex<ByNetwork<Usage>>,
}

/// A value for each network, for as long as anything refers to it.
#[derive(Debug)]
pub(crate) struct ByNetwork<T> {
    values: HashMap<Network, Weak<T>>,
    /// How many entries there may be before those without a holder are removed.
    sweep_at: usize,
}

/// Fewest entries at which a sweep is worth its time.
const MIN_SWEEP_ENTRIES: usize = 1024;

impl<T> Default for ByNetwork<T> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            sweep_at: MIN_SWEEP_ENTRIES,
        }
    }
}

impl<T: Default> ByNetwork<T> {
    /// Returns the value of a network, which is created if there is none.
    pub(crate) fn value(&mut self, network: Network) -> Arc<T> {
        if let Some(known) = self.values.get(&network).and_then(Weak::upgrade) {
            return known;
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|_, value| value.strong_count() > 0);
            self.values.shrink_if_sparse();
            self.sweep_at = MIN_SWEEP_ENTRIES.max(self.values.len() * 2);
        }
        let new = Arc::default();
        self.values.insert(network, Arc::downgrade(&new));
        new
    }
}

impl Ledger {
    /// Returns a ledger without charges.
    #[must_use]
    pub fn new(budgets: Budgets) -> Self {
        Self(Arc::new(Books {
            budgets,
            node: Usage::default(),
            networks: Mutex::default(),
        }))
    }

    /// Returns the bounds.
    #[must_use]
    pub fn budgets(&self) -> &Budgets {
        &self.0.budgets
    }

    /// Returns how much of a resource the whole node holds.
    #[must_use]
    pub fn used(&self, resource: Resource) -> usize {
        self.0.node.of(resource)
    }

    /// Returns a resource of which the node holds more than nine tenths of its bound, among those
    /// that connected clients go on filling.
    #[must_use]
    pub fn nearly_full(&self) -> Option<Resource> {
        let filled = [Resource::SubscriptionBytes];
        filled.into_iter().find(|resource| {
            let max = self.budgets().node.of(*resource);
            self.used(*resource) > max - max / 10
        })
    }

    /// Returns the payer of what a client makes the node hold. Without an address no network is
    /// charged.
    #[must_use]
    pub fn payer(&self, address: Option<IpAddr>) -> Payer {
        self.payer_of(address, None)
    }

    pub(crate) fn payer_of(&self, address: Option<IpAddr>, app: Option<Arc<Usage>>) -> Payer {
        let network = address.map(Network::of);
        // Both networks of an IPv6 address are looked up under one lock.
        let mut networks = network.map(|network| (network, self.0.networks.lock()));
        let mut holder = |network: Network| {
            let (_, networks) = networks.as_mut()?;
            Some(NetworkUsage {
                network,
                usage: networks.value(network),
            })
        };
        let narrow = network.and_then(&mut holder);
        let wide = network.and_then(Network::wide).and_then(&mut holder);
        Payer(Arc::new(Holders {
            books: Arc::clone(&self.0),
            app,
            narrow,
            wide,
        }))
    }
}

/// The node, the app and the network that are charged for what one client makes the node hold.
/// Cheap to clone.
#[derive(Clone)]
pub struct Payer(Arc<Holders>);

struct Holders {
    books: Arc<Books>,
    app: Option<Arc<Usage>>,
    narrow: Option<NetworkUsage>,
    wide: Option<NetworkUsage>,
}

struct NetworkUsage {
    network: Network,
    usage: Arc<Usage>,
}

impl fmt::Debug for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.0.narrow.as_ref().map(|narrow| narrow.network);
        f.debug_tuple("Payer").field(&network).finish()
    }
}

impl Payer {
    /// Charges all holders, or none.
    ///
    /// # Errors
    ///
    /// Returns [`BudgetExceeded`] with the holder that has reached its bound.
    pub fn charge(&self, resource: Resource, amount: usize) -> Result<Charge, BudgetExceeded> {
        let mut charge = self.empty_charge(resource);
        charge.grow(amount)?;
        Ok(charge)
    }

    /// Checks whether all holders may hold this much more, without charging it.
    ///
    /// # Errors
    ///
    /// Returns [`BudgetExceeded`] with the holder that has reached its bound.
    pub fn check(&self, resource: Resource, amount: usize) -> Result<(), BudgetExceeded> {
        for (holder, usage, max) in self.holders(resource) {
            if usage.of(resource).saturating_add(amount) > max {
                return Err(BudgetExceeded {
                    holder,
                    resource,
                    max,
                });
            }
        }
        Ok(())
    }

    /// Returns an empty charge, to be grown.
    pub fn empty_charge(&self, resource: Resource) -> Charge {
        Charge {
            payer: self.clone(),
            resource,
            amount: 0,
        }
    }

    /// Returns the client's network, if one is charged.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        self.0.narrow.as_ref().map(|narrow| narrow.network)
    }

    /// Returns how much of a resource all clients of the network hold.
    #[must_use]
    pub fn used_by_network(&self, resource: Resource) -> usize {
        let narrow = self.0.narrow.as_ref();
        narrow.map_or(0, |narrow| narrow.usage.of(resource))
    }

    /// Returns the lowest bound of a resource among all holders.
    pub(crate) fn lowest_bound(&self, resource: Resource) -> usize {
        let bounds = self.holders(resource).map(|(_, _, max)| max);
        bounds.min().unwrap_or(usize::MAX)
    }

    /// Returns each holder, its usage and its bound. The node comes last: an error names the
    /// network or the app if these have reached their bounds too.
    fn holders(&self, resource: Resource) -> impl Iterator<Item = (Holder, &Usage, usize)> {
        let Holders {
            books,
            app,
            narrow,
            wide,
        } = &*self.0;
        let Budgets {
            node: of_node,
            app: of_app,
            network,
        } = &books.budgets;
        let narrow = narrow.as_ref().map(move |narrow| (narrow, 1));
        let wide = wide.as_ref().map(move |wide| (wide, WIDE_FACTOR));
        let networks = narrow.into_iter().chain(wide).map(move |(held, factor)| {
            let max = network.of(resource).saturating_mul(factor);
            (Holder::Network(held.network), &*held.usage, max)
        });
        let app = app.as_deref();
        let app = app.map(move |app| (Holder::App, app, of_app.of(resource)));
        let node = (Holder::Node, &books.node, of_node.of(resource));
        networks.chain(app).chain([node])
    }
}

/// An amount of one resource that a client makes the node hold. It is given back when the charge is
/// dropped.
#[derive(Debug)]
#[must_use = "a charge that is dropped is given back"]
pub struct Charge {
    payer: Payer,
    resource: Resource,
    amount: usize,
}

impl Charge {
    /// Returns the charged amount.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Returns the client's network, if one is charged.
    pub(crate) fn network(&self) -> Option<Network> {
        self.payer.network()
    }

    /// Charges more, to all holders or to none.
    ///
    /// # Errors
    ///
    /// Returns [`BudgetExceeded`] with the holder that has reached its bound; the charge stays as
    /// it was.
    pub fn grow(&mut self, amount: usize) -> Result<(), BudgetExceeded> {
        let resource = self.resource;
        for (charged, (holder, usage, max)) in self.payer.holders(resource).enumerate() {
            if usage.try_add(resource, amount, max) {
                continue;
            }
            // The holders before this one were charged already.
            for (_, usage, _) in self.payer.holders(resource).take(charged) {
                usage.give_back(resource, amount);
            }
            return Err(BudgetExceeded {
                holder,
                resource,
                max,
            });
        }
        self.amount += amount;
        Ok(())
    }

    /// Sets the charge to `amount` whatever the bounds, because the client holds it already.
    ///
    /// # Errors
    ///
    /// Returns [`BudgetExceeded`] if a holder is over its bound now; the amount is charged all the
    /// same.
    pub fn set(&mut self, amount: usize) -> Result<(), BudgetExceeded> {
        let (resource, before) = (self.resource, self.amount);
        self.amount = amount;
        let mut exceeded = Ok(());
        for (holder, usage, max) in self.payer.holders(resource) {
            match amount.checked_sub(before) {
                Some(more) => usage.add(resource, more),
                None => usage.give_back(resource, before - amount),
            }
            if exceeded.is_ok() && usage.of(resource) > max {
                exceeded = Err(BudgetExceeded {
                    holder,
                    resource,
                    max,
                });
            }
        }
        exceeded
    }

    /// Gives a part of the charge back.
    pub fn shrink(&mut self, amount: usize) {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        for (_, usage, _) in self.payer.holders(self.resource) {
            usage.give_back(self.resource, amount);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(network: usize, node: usize) -> Ledger {
        let bounds = |max| Bounds::unlimited().with(Resource::Connections, max);
        Ledger::new(Budgets {
            node: bounds(node),
            app: Bounds::unlimited(),
            network: bounds(network),
        })
    }

    fn payer(ledger: &Ledger, address: &str) -> Payer {
        ledger.payer(Some(address.parse().expect("an address")))
    }

    fn refused(payer: &Payer, amount: usize) -> String {
        let error = payer.charge(Resource::Connections, amount);
        error.expect_err("no room").to_string()
    }

    #[test]
    fn a_network_that_is_full_leaves_room_for_others_and_gets_back_what_it_gives() {
        let ledger = ledger(2, 3);
        let (one, other) = (payer(&ledger, "192.0.2.1"), payer(&ledger, "192.0.2.2"));
        let held = one.charge(Resource::Connections, 2).expect("room");
        assert_eq!(
            refused(&one, 1),
            "Your network 192.0.2.1 has reached 2 connections, the most it may hold"
        );
        // The same network by another name and a payer of its own.
        assert!(refused(&payer(&ledger, "::ffff:192.0.2.1"), 1).contains("192.0.2.1"));
        let more = other.charge(Resource::Connections, 1).expect("room");
        assert!(refused(&other, 1).starts_with("This server"));
        // What was refused by the node is not charged to the network.
        assert_eq!(other.used_by_network(Resource::Connections), 1);
        drop((held, more));
        assert_eq!(ledger.used(Resource::Connections), 0);
        drop(one.charge(Resource::Connections, 2).expect("room again"));
    }

    #[test]
    fn the_addresses_of_an_ipv6_network_share_a_bound_and_a_customers_networks_a_larger_one() {
        let ledger = ledger(2, 100);
        let mut held = Vec::new();
        for network in 1..=4 {
            for host in 0..2 {
                let address = format!("2001:db8:7:{network}::{host}");
                held.push(payer(&ledger, &address).charge(Resource::Connections, 1));
            }
            let full = payer(&ledger, &format!("2001:db8:7:{network}:ffff::"));
            assert!(refused(&full, 1).contains(&format!("2001:db8:7:{network}::/64")));
        }
        assert!(held.iter().all(Result::is_ok));
        let fifth = payer(&ledger, "2001:db8:7:5::1");
        assert!(refused(&fifth, 1).contains("2001:db8:7::/48 has reached 8 connections"));
        assert!(
            payer(&ledger, "2001:db8:8::1")
                .charge(Resource::Connections, 1)
                .is_ok()
        );
    }

    #[test]
    fn what_is_held_already_is_charged_beyond_the_bounds_and_said_to_be() {
        let ledger = ledger(10, 100);
        let payer = payer(&ledger, "192.0.2.1");
        let mut charge = payer.empty_charge(Resource::Connections);
        charge.set(10).expect("within its bound");
        charge.set(11).expect_err("over its bound");
        assert_eq!(ledger.used(Resource::Connections), 11);
        charge.grow(1).expect_err("no room");
        charge.set(3).expect("within its bound");
        charge.shrink(1);
        assert_eq!(
            (charge.amount(), ledger.used(Resource::Connections)),
            (2, 2)
        );
    }

    #[test]
    fn a_network_is_read_as_it_is_displayed() {
        let of = |address: &str| Network::of(address.parse().expect("an address"));
        let narrow = of("2001:db8:7:1::5");
        let networks = [of("192.0.2.1"), narrow].into_iter().flat_map(Network::all);
        let networks: Vec<_> = networks.collect();
        let texts = ["192.0.2.1", "2001:db8:7:1::/64", "2001:db8:7::/48"];
        assert_eq!(networks.len(), texts.len());
        for (network, text) in networks.into_iter().zip(texts) {
            assert_eq!(network.to_string(), text);
            assert_eq!(Network::parse(text), Some(network));
        }
        for text in ["", "192.0.2", "192.0.2.1/24", "2001:db8::", "2001:db8::/32"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn networks_that_nobody_holds_are_forgotten() {
        let ledger = ledger(1, 1);
        for number in 0..10 * MIN_SWEEP_ENTRIES as u32 {
            drop(ledger.payer(Some(IpAddr::from(number.to_be_bytes()))));
        }
        assert!(ledger.0.networks.lock().values.len() <= MIN_SWEEP_ENTRIES);
    }
}
