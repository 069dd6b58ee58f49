//! Which client libraries have connections of an app, by the name in their URL.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Most libraries and versions that are counted apart, because clients choose the names.
const MAX_CLIENTS: usize = 100;
/// Longest name or version that is counted, in bytes.
const MAX_NAME: usize = 32;
/// The name for all others beyond [`MAX_CLIENTS`], and for names that are too long or have other
/// characters.
const OTHER: &str = "other";

/// Connections of one client library and version on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConnections {
    /// The library's name; empty if the URL has none.
    pub client: String,
    /// The library's version; empty if the URL has none.
    pub version: String,
    /// The number of connections.
    pub connections: usize,
}

/// Counts an app's connections by library and version.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<HashMap<Name, Arc<ClientLibrary>>>);

type Name = (String, String);

/// A library of one version.
#[derive(Debug)]
struct ClientLibrary {
    name: Name,
    connections: AtomicUsize,
}

/// Counts one connection of a library until it is dropped.
#[derive(Debug)]
pub(crate) struct ClientPermit(Arc<ClientLibrary>);

impl ClientPermit {
    fn count(library: &Arc<ClientLibrary>) -> Self {
        library.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(library))
    }

    /// Returns the name and the version of the library, as they are counted.
    pub(crate) fn name(&self) -> &(String, String) {
        &self.0.name
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Clients {
    /// Counts one more connection, until the permit is dropped.
    pub(crate) fn count(&self, client: &str, version: &str) -> ClientPermit {
        let mut known = self.0.lock();
        let mut name = (taken(client), taken(version));
        if known.len() >= MAX_CLIENTS && !known.contains_key(&name) {
            known.retain(|_, library| library.connections.load(Ordering::Relaxed) > 0);
            if known.len() >= MAX_CLIENTS {
                name = (OTHER.into(), String::new());
            }
        }
        let library = known.entry(name).or_insert_with_key(|name| {
            Arc::new(ClientLibrary {
                name: name.clone(),
                connections: AtomicUsize::new(0),
            })
        });
        ClientPermit::count(library)
    }

    /// Returns the libraries that have connections, the most first.
    pub(crate) fn list(&self) -> Vec<ClientConnections> {
        let known = self.0.lock();
        let found = known.iter().map(|((client, version), library)| {
            let (client, version) = (client.clone(), version.clone());
            ClientConnections {
                client,
                version,
                connections: library.connections.load(Ordering::Relaxed),
            }
        });
        let mut found: Vec<_> = found.filter(|found| found.connections > 0).collect();
        found.sort_by(|a, b| {
            let names = (&a.client, &a.version).cmp(&(&b.client, &b.version));
            b.connections.cmp(&a.connections).then(names)
        });
        found
    }
}

/// Returns the name as it is counted.
fn taken(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    match name.len() <= MAX_NAME && name.bytes().all(plain) {
        true => name.to_owned(),
        false => OTHER.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(client: &str, version: &str, connections: usize) -> ClientConnections {
        ClientConnections {
            client: client.into(),
            version: version.into(),
            connections,
        }
    }

    #[test]
    fn connections_count_by_library_and_version_while_they_last() {
        let clients = Clients::default();
        let old = clients.count("js", "7.0.3");
        let new = [clients.count("js", "8.4.0"), clients.count("js", "8.4.0")];
        let silent = clients.count("", "");
        assert_eq!(
            clients.list(),
            [
                named("js", "8.4.0", 2),
                named("", "", 1),
                named("js", "7.0.3", 1)
            ]
        );
        drop((old, new));
        assert_eq!(clients.list(), [named("", "", 1)]);
        drop(silent);
    }

    #[test]
    fn names_are_bounded_in_length_and_number_whatever_strangers_say() {
        let clients = Clients::default();
        drop(clients.count(&"x".repeat(33), "<script>"));
        for number in 0..10 * MAX_CLIENTS {
            drop(clients.count("gone", &number.to_string()));
        }
        let held: Vec<_> = (0..2 * MAX_CLIENTS)
            .map(|number| clients.count("js", &number.to_string()))
            .collect();
        assert!(clients.0.lock().len() <= MAX_CLIENTS + 1);
        let listed = clients.list();
        assert_eq!(listed[0].client, OTHER);
        assert_eq!(
            listed.iter().map(|one| one.connections).sum::<usize>(),
            held.len()
        );
    }
}
