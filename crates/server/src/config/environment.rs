//! Environment variables: settings, variables of the command line, and names that look like a mistake.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::layer::Setting;
use super::names::{names, nearest};

/// Variables of the command line, which aren't settings.
const OTHER_VARIABLES: &[&str] = &["FANFARE_CONFIG", "FANFARE_SERVER", TOKEN, NEW_MASTER_KEY];
/// API token of the command line for a remote server.
const TOKEN: &str = "FANFARE_TOKEN";
/// New key for `fanfare master-key rotate`.
const NEW_MASTER_KEY: &str = "FANFARE_NEW_MASTER_KEY";

/// Returns the settings in the environment. `DATABASE_URL` comes first, so that `FANFARE_STORE_URL` overrides it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
pub(super) fn environment() -> Vec<Setting> {
    let database = ("DATABASE_URL".to_owned(), "store.url");
    let ours = names().map(|path| (variable(path), path));
    std::iter::once(database)
        .chain(ours)
        .filter_map(|(name, path)| {
            let value = std::env::var(&name)
                .ok()
                .filter(|value| !value.is_empty())?;
            Some(Setting {
                source: format!("environment variable {name}"),
                path: path.into(),
                value,
            })
        })
        .collect()
}

/// Returns the variables of OpenTelemetry, which have the same names in all programs.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
pub(crate) fn otel_variables() -> BTreeMap<String, String> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("OTEL_"))
        .collect()
}

/// Returns a message for each variable that looks like a setting but isn't one, except those that Kubernetes sets for a
/// service named `fanfare`.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
pub(crate) fn unknown_variables() -> Vec<String> {
    let known: Vec<String> = names().map(variable).collect();
    let known: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .chain(OTHER_VARIABLES.iter().copied())
        .collect();
    let mut unknown: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("FANFARE_") && !known.contains(&name.as_str()))
        .filter(|name| !is_service_link(name))
        .map(|name| {
            let meant = nearest(&name, known.iter().copied())
                .map(|meant| format!("; did you mean {meant}?"))
                .unwrap_or_default();
            format!("the environment variable {name} is no setting and has no effect{meant}")
        })
        .collect();
    unknown.sort_unstable();
    unknown
}

/// Returns whether Kubernetes, or Docker's links, set such a variable for a service whose name begins with `fanfare`:
/// `FANFARE_PORT`, `FANFARE_SERVICE_HOST`, `FANFARE_OPS_PORT_6001_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix("FANFARE").unwrap_or_default();
    let is_port = |text: &str| {
        let mut parts = text.split('_');
        let number = parts.next().unwrap_or_default();
        let protocol = parts.next().unwrap_or_default();
        let part = parts.next().unwrap_or("PORT");
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && ["TCP", "UDP", "SCTP"].contains(&protocol)
            && ["PORT", "PROTO", "ADDR"].contains(&part)
            && parts.next().is_none()
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || rest
            .split_once("_PORT_")
            .is_some_and(|(_, port)| is_port(port))
}

/// Returns the API token for a remote server from the environment.
pub(crate) fn token_variable() -> Option<SecretString> {
    secret_variable(TOKEN)
}

/// Returns the new master key from the environment.
pub(crate) fn new_master_key_variable() -> Option<SecretString> {
    secret_variable(NEW_MASTER_KEY)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
fn secret_variable(name: &str) -> Option<SecretString> {
    let value = std::env::var(name).ok();
    value.filter(|value| !value.is_empty()).map(Into::into)
}

/// Returns the environment variable of a setting.
pub(super) fn variable(path: &str) -> String {
    format!("FANFARE_{}", path.to_uppercase().replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_kubernetes_are_no_typing_errors() {
        for name in [
            "FANFARE_PORT",
            "FANFARE_SERVICE_HOST",
            "FANFARE_SERVICE_PORT",
            "FANFARE_SERVICE_PORT_HTTP",
            "FANFARE_PORT_6001_TCP",
            "FANFARE_PORT_6001_TCP_ADDR",
            "FANFARE_OPS_SERVICE_HOST",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in ["FANFARE_LISTN", "FANFARE_PORT_X", "FANFARE_MASTERKEY"] {
            assert!(!is_service_link(name), "{name}");
        }
        let known = ["FANFARE_LISTEN", "FANFARE_LOG_FILTER"];
        assert_eq!(
            nearest("FANFARE_LISTN", known.into_iter()),
            Some("FANFARE_LISTEN")
        );
        assert_eq!(nearest("FANFARE_COLOUR_OF_IT", known.into_iter()), None);
    }
}
