//! The name of this node.

use fanfare_store::Store;

/// Returns the name by which operators and other nodes know this process. Another process of the same machine has another
/// name, except on a store that one server has for itself: there the next process takes over what this one had.
pub(super) fn node_name(store: &Store) -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    match store.file() {
        Some(_) => host.into_owned(),
        None => format!("{host}-{}", hex::encode(rand::random::<[u8; 4]>())),
    }
}
