//! Settings of `identity`: the key sets of identity providers.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityConfig {
    /// Whether key sets may be fetched from this machine and its network, and without TLS.
    pub(crate) allow_inner_addresses: bool,
}
