//! Reads the four layers (defaults, file, environment, flags) into one configuration.

use std::path::Path;

use anyhow::bail;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};

use super::environment::environment;
use super::error::in_words;
use super::layer::Setting;
use super::listen::{DEFAULT_PORT, listen_address, listen_addresses};
use super::names::{self, no_such_setting};
use super::ops::DEFAULT_OPS_PORT;
use super::rules::Rules;
use super::tls::DEFAULT_TLS_PORT;
use super::units::Size;
use super::{Config, sources};
use crate::capacity::Capacity;

/// File that is read if it exists and no other one is named.
const DEFAULT_FILE: &str = "fanfare.toml";

impl Config {
    /// Reads all layers. `file` is the file that the user named, if any.
    ///
    /// # Errors
    ///
    /// Returns an error that names the setting, its source, the value and the rule.
    pub(crate) fn load(file: Option<&Path>, flags: Vec<Setting>) -> anyhow::Result<Self> {
        let mut figment = Figment::new();
        match file {
            Some(file) if !file.is_file() => bail!(no_file(file)),
            Some(file) => figment = figment.merge(Toml::file_exact(file)),
            None if Path::new(DEFAULT_FILE).is_file() => {
                figment = figment.merge(Toml::file_exact(DEFAULT_FILE))
            }
            None => {}
        }
        for setting in environment().into_iter().chain(flags) {
            if names::kind(&setting.path).is_none() {
                bail!("{}: {}", setting.source, no_such_setting(&setting.path));
            }
            figment = figment.merge(setting);
        }
        // The values without defaults, because derived defaults depend on them.
        let given = figment.clone();
        let size = given.extract_inner::<Size>("memory.limit").ok();
        let capacity = Capacity::detected().as_configured(
            size.map(|Size(bytes)| bytes),
            given.extract_inner("connections.max").ok(),
        );
        if let Some(addresses) = listen_addresses(&given, "listen", DEFAULT_PORT)? {
            figment = figment.merge(("listen", addresses.to_string()));
        }
        for (path, port) in [
            ("ops.listen", DEFAULT_OPS_PORT),
            ("tls.listen", DEFAULT_TLS_PORT),
        ] {
            if let Some(address) = listen_address(&given, path, port)? {
                figment = figment.merge((path, address.to_string()));
            }
        }
        let defaults = Serialized::defaults(Self::defaults(capacity));
        // Errors of rules show what was written and where, not what was made of it.
        let written = given.clone().join(defaults.clone());
        figment = figment.join(defaults);
        let mut config: Self = figment
            .extract()
            .map_err(|error| anyhow::anyhow!(in_words(&error, &figment)))?;
        config.sources = sources::of_settings(&given);
        config.raise_waiting_defaults(&given);
        config.check(Rules::new(&written))?;
        config.derive_ceilings(&given, Rules::new(&written))?;
        // After the rules, which allow 0 for as many as possible.
        if config.connections.max == 0 {
            config.connections.max = capacity.connections;
        }
        Ok(config)
    }
}

/// Returns why a file that was named can't be read.
fn no_file(file: &Path) -> String {
    let shown = file.display();
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.is_dir() => format!(
            "the configuration file {shown} is a folder: name the file in it, for example {}",
            file.join(DEFAULT_FILE).display()
        ),
        Ok(_) => format!("the configuration file {shown} is no file"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("the configuration file {shown} is not there")
        }
        Err(error) => format!("the configuration file {shown} cannot be read: {error}"),
    }
}
