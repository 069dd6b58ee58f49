//! The token issuers that an app accepts, and what their tokens grant: channel auth without an
//! endpoint of the app's own.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

mod claims;
mod pattern;

pub use claims::Claims;
pub use pattern::{InvalidPattern, Pattern};

/// Shortest secret for HS256, in bytes: as long as the signature, as RFC 7518 requires.
pub const MIN_SECRET: usize = 32;
/// Most providers of an app, because a token may have to be tried with each.
pub const MAX_PROVIDERS: usize = 8;
/// Most grants of an app, because a channel is looked for in each.
pub const MAX_GRANTS: usize = 100;
/// Most seconds of clock difference that a provider may be granted.
pub const MAX_LEEWAY: u64 = 300;
/// Shown in place of a secret, and sent back to keep the secret. Too short to be one.
const SET: &str = "set";
/// Most bytes in any text of the configuration.
const MAX_TEXT: usize = 16 * 1024;
/// Most entries in each list and map within a provider or a grant.
const MAX_ENTRIES: usize = 32;

/// The token issuers and grants of an app. Nothing is granted by default. The serialized form has
/// its secrets, because it is stored; show [`Identity::redacted`] instead.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// The issuers whose tokens the app accepts.
    pub providers: Vec<Provider>,
    /// The channels to which a token's bearer may subscribe; one matching grant is enough.
    pub grants: Vec<Grant>,
    /// The claims that name the user as whom a token's bearer signs in; without it, sign-ins are
    /// refused.
    pub sign_in: Option<SignIn>,
}

/// An issuer of tokens, and how its tokens are verified: by exactly one of `secret`, `public_key`
/// and `jwks_url`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// The value that the claim `iss` must have, if given.
    pub issuer: Option<String>,
    /// The claim `aud` must have one of these, if there are any.
    pub audience: Vec<String>,
    /// The algorithms with which tokens may be signed. The algorithm that a token names must be one
    /// of these.
    pub algorithms: Vec<Algorithm>,
    /// Seconds by which the provider's clock may differ; 30 if not given.
    pub leeway_seconds: Option<u64>,
    /// The secret shared with the provider, for HS256. Shown as `"set"`, which keeps the stored secret if it
    /// is sent back.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = Option<String>, format = Password, default = json!(null))]
    pub secret: Option<SecretString>,
    /// The provider's public key in PEM, for the other algorithms.
    pub public_key: Option<String>,
    /// The address at which the provider publishes its public keys.
    pub jwks_url: Option<String>,
}

/// The algorithm that signs tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256, with a shared secret.
    HS256,
    /// RSA with SHA-256, keys of 2048 bits and more.
    RS256,
    /// ECDSA on P-256.
    ES256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// Channels to which a token's bearer may subscribe, given by either `channels` or
/// `channels_claim`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// A [`Pattern`] of channels.
    pub channels: Option<String>,
    /// The claim that lists names of channels, or patterns with stars.
    pub channels_claim: Option<String>,
    /// The claims that name the bearer on presence channels.
    pub presence: Presence,
    /// Claims that must have these values, or be lists that hold them.
    pub when: BTreeMap<String, Value>,
}

/// The claims that name a member of a presence channel.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = IdentityPresence)]
pub struct Presence {
    /// The claim that is the `user_id`.
    pub user_id: String,
    /// Names in `user_info`, and the claims that are their values.
    pub user_info: BTreeMap<String, String>,
}

/// The claims that name the user who signs in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = IdentitySignIn)]
pub struct SignIn {
    /// The claim that is the user's `id`.
    pub id: String,
    /// Names in `user_info`, and the claims that are their values.
    pub user_info: BTreeMap<String, String>,
    /// The claim that lists the ids of the users that the user watches.
    pub watchlist: Option<String>,
}

/// Why a configuration is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid identity: {field} {reason}")]
pub struct InvalidIdentity {
    /// The field, for example `providers[0].secret`.
    pub field: String,
    /// What is wrong with it; never the value, which may be a secret in the wrong place.
    pub reason: String,
}

impl InvalidIdentity {
    /// Returns an error about a field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    fn within(self, part: &str) -> Self {
        Self {
            field: format!("{part}.{}", self.field),
            ..self
        }
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            user_id: "sub".into(),
            user_info: BTreeMap::new(),
        }
    }
}

impl Default for SignIn {
    fn default() -> Self {
        Self {
            id: "sub".into(),
            user_info: BTreeMap::new(),
            watchlist: None,
        }
    }
}

fn expose<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret
        .as_ref()
        .map(ExposeSecret::expose_secret)
        .serialize(serializer)
}

impl Identity {
    /// Returns the configuration as it may be shown: `"set"` in place of each secret.
    #[must_use]
    pub fn redacted(&self) -> Value {
        let mut shown = self.clone();
        for secret in shown.providers.iter_mut().map(|it| &mut it.secret) {
            *secret = secret.as_ref().map(|_| SET.into());
        }
        serde_json::to_value(shown).expect("a configuration is JSON")
    }

    /// Returns whether a provider has `"set"` for a secret, which stands for the stored one.
    #[must_use]
    pub fn keeps_secrets(&self) -> bool {
        self.providers.iter().any(Provider::keeps_secret)
    }

    /// Puts the stored secrets in the places of `"set"`. A provider keeps the secret of the stored
    /// provider with its `issuer`: of the one at its place if several have it.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidIdentity`] if no stored secret, or more than one, could be meant.
    pub fn keep_secrets(&mut self, stored: &Self) -> Result<(), InvalidIdentity> {
        for (index, provider) in self.providers.iter_mut().enumerate() {
            if !provider.keeps_secret() {
                continue;
            }
            let is_meant = |old: &&Provider| old.secret.is_some() && old.issuer == provider.issuer;
            let mut meant = stored.providers.iter().filter(is_meant);
            let at_its_place = stored.providers.get(index).filter(is_meant);
            let old = at_its_place.or_else(|| meant.next().filter(|_| meant.next().is_none()));
            let Some(old) = old else {
                let reason = "is \"set\", which keeps the stored secret of the provider with the same \
                              issuer, and no single one has a secret; give the secret itself";
                let error = InvalidIdentity::new("secret", reason);
                return Err(error.within(&format!("providers[{index}]")));
            };
            provider.secret.clone_from(&old.secret);
        }
        Ok(())
    }

    /// Checks all that can be checked without reading keys. Key sets may be fetched without TLS
    /// only with `allow_http`.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidIdentity`], which names the field and the rule.
    pub fn check(&self, allow_http: bool) -> Result<(), InvalidIdentity> {
        check_count("providers", self.providers.len(), MAX_PROVIDERS)?;
        check_count("grants", self.grants.len(), MAX_GRANTS)?;
        for (index, provider) in self.providers.iter().enumerate() {
            let checked = provider.check(allow_http);
            checked.map_err(|error| error.within(&format!("providers[{index}]")))?;
        }
        for (index, grant) in self.grants.iter().enumerate() {
            let checked = grant.check();
            checked.map_err(|error| error.within(&format!("grants[{index}]")))?;
        }
        self.sign_in.as_ref().map_or(Ok(()), |sign_in| {
            sign_in.check().map_err(|error| error.within("sign_in"))
        })
    }
}

impl Provider {
    /// Returns the seconds by which the provider's clock may differ.
    #[must_use]
    pub fn leeway(&self) -> u64 {
        self.leeway_seconds.unwrap_or(30)
    }

    fn keeps_secret(&self) -> bool {
        self.secret
            .as_ref()
            .is_some_and(|secret| secret.expose_secret() == SET)
    }

    fn check(&self, allow_http: bool) -> Result<(), InvalidIdentity> {
        if let Some(issuer) = &self.issuer {
            check_text("issuer", issuer)?;
        }
        check_count("audience", self.audience.len(), MAX_ENTRIES)?;
        for audience in &self.audience {
            check_text("audience", audience)?;
        }
        if self.leeway() > MAX_LEEWAY {
            let reason = format!("must be at most {MAX_LEEWAY} seconds");
            return Err(InvalidIdentity::new("leeway_seconds", reason));
        }
        self.check_algorithms()?;
        match (&self.secret, &self.public_key, &self.jwks_url) {
            (Some(secret), None, None) => self.check_secret(secret.expose_secret()),
            (None, Some(pem), None) => self.check_public_key(pem),
            (None, None, Some(url)) => self.check_url(url, allow_http),
            _ => Err(InvalidIdentity::new(
                "secret",
                "or public_key or jwks_url must be given, and just one of them",
            )),
        }
    }

    fn check_algorithms(&self) -> Result<(), InvalidIdentity> {
        let mut seen = Vec::new();
        for algorithm in &self.algorithms {
            if seen.contains(algorithm) {
                return Err(InvalidIdentity::new(
                    "algorithms",
                    "names one of them twice",
                ));
            }
            seen.push(*algorithm);
        }
        if seen.is_empty() {
            let reason = "must name at least one of HS256, RS256, ES256 and EdDSA";
            return Err(InvalidIdentity::new("algorithms", reason));
        }
        Ok(())
    }

    fn check_secret(&self, secret: &str) -> Result<(), InvalidIdentity> {
        if self.algorithms != [Algorithm::HS256] {
            let reason = "must be HS256 alone where there is a secret";
            return Err(InvalidIdentity::new("algorithms", reason));
        }
        if secret.len() < MIN_SECRET {
            let reason = format!(
                "has {} bytes, HS256 needs {MIN_SECRET} or more",
                secret.len()
            );
            return Err(InvalidIdentity::new("secret", reason));
        }
        check_text("secret", secret)
    }

    fn check_public_key(&self, pem: &str) -> Result<(), InvalidIdentity> {
        self.check_asymmetric()?;
        if self.algorithms.len() > 1 {
            let reason = "must be one where there is a public_key, the one it is for";
            return Err(InvalidIdentity::new("algorithms", reason));
        }
        check_text("public_key", pem)?;
        if pem.contains("PRIVATE KEY") {
            let reason = "is a private key, which must stay with the provider";
            return Err(InvalidIdentity::new("public_key", reason));
        }
        let pem = pem.trim_start();
        let public = [
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN RSA PUBLIC KEY-----",
        ];
        if !public.iter().any(|begin| pem.starts_with(begin)) {
            let reason = "must be in PEM and start with -----BEGIN PUBLIC KEY-----";
            return Err(InvalidIdentity::new("public_key", reason));
        }
        Ok(())
    }

    fn check_url(&self, url: &str, allow_http: bool) -> Result<(), InvalidIdentity> {
        self.check_asymmetric()?;
        check_text("jwks_url", url)?;
        if url.starts_with("https://") || (allow_http && url.starts_with("http://")) {
            return Ok(());
        }
        Err(InvalidIdentity::new("jwks_url", "must start with https://"))
    }

    /// Refuses HS256 with a public key, which would be taken for a secret though everyone has it.
    fn check_asymmetric(&self) -> Result<(), InvalidIdentity> {
        if self.algorithms.contains(&Algorithm::HS256) {
            let reason = "must not have HS256 without a secret";
            return Err(InvalidIdentity::new("algorithms", reason));
        }
        Ok(())
    }
}

impl Grant {
    fn check(&self) -> Result<(), InvalidIdentity> {
        match (&self.channels, &self.channels_claim) {
            (Some(pattern), None) => Pattern::parse(pattern)
                .map(drop)
                .map_err(|error| InvalidIdentity::new("channels", error.to_string())),
            (None, Some(claim)) => check_text("channels_claim", claim),
            _ => Err(InvalidIdentity::new(
                "channels",
                "or channels_claim must be given, and just one of them",
            )),
        }?;
        check_text("presence.user_id", &self.presence.user_id)?;
        check_user_info(&self.presence.user_info).map_err(|error| error.within("presence"))?;
        check_count("when", self.when.len(), MAX_ENTRIES)?;
        for (claim, value) in &self.when {
            check_text("when", claim)?;
            if !matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)) {
                let reason = "must hold texts, numbers and booleans";
                return Err(InvalidIdentity::new("when", reason));
            }
        }
        Ok(())
    }
}

impl SignIn {
    fn check(&self) -> Result<(), InvalidIdentity> {
        check_text("id", &self.id)?;
        check_user_info(&self.user_info)?;
        self.watchlist
            .as_ref()
            .map_or(Ok(()), |claim| check_text("watchlist", claim))
    }
}

fn check_user_info(user_info: &BTreeMap<String, String>) -> Result<(), InvalidIdentity> {
    check_count("user_info", user_info.len(), MAX_ENTRIES)?;
    user_info.iter().try_for_each(|(name, claim)| {
        check_text("user_info", name).and_then(|()| check_text("user_info", claim))
    })
}

fn check_text(field: &str, text: &str) -> Result<(), InvalidIdentity> {
    if text.is_empty() {
        return Err(InvalidIdentity::new(field, "must not be empty"));
    }
    if text.len() > MAX_TEXT {
        let reason = format!("must have at most {MAX_TEXT} bytes");
        return Err(InvalidIdentity::new(field, reason));
    }
    Ok(())
}

fn check_count(field: &str, count: usize, max: usize) -> Result<(), InvalidIdentity> {
    if count > max {
        let reason = format!("has {count} entries, at most {max} are allowed");
        return Err(InvalidIdentity::new(field, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn identity(value: Value) -> Identity {
        serde_json::from_value(value).unwrap()
    }

    /// What is said of a provider with these changes.
    fn refused(changes: &Value) -> String {
        let mut provider = json!({"algorithms": ["HS256"], "secret": SECRET});
        let fields = changes.as_object().unwrap().clone();
        provider.as_object_mut().unwrap().extend(fields);
        let checked = identity(json!({"providers": [provider]})).check(false);
        checked.map_or_else(|error| error.to_string(), |()| "fine".into())
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        const PEM: &str = "-----BEGIN PUBLIC KEY-----\n";
        for (changes, words) in [
            (json!({}), "fine"),
            (
                json!({"algorithms": []}),
                "providers[0].algorithms must name",
            ),
            (json!({"algorithms": ["HS256", "HS256"]}), "twice"),
            (json!({"algorithms": ["HS256", "RS256"]}), "HS256 alone"),
            (json!({"algorithms": ["RS256"]}), "HS256 alone"),
            (
                json!({"secret": "short"}),
                "providers[0].secret has 5 bytes",
            ),
            (json!({"secret": null}), "just one"),
            (json!({"public_key": PEM}), "just one"),
            (
                json!({"secret": null, "public_key": PEM}),
                "without a secret",
            ),
            (
                json!({"secret": null, "public_key": PEM, "algorithms": ["RS256", "ES256"]}),
                "must be one",
            ),
            (
                json!({"secret": null, "public_key": "-----BEGIN PRIVATE KEY-----", "algorithms": ["RS256"]}),
                "private key",
            ),
            (
                json!({"secret": null, "public_key": "-----BEGIN CERTIFICATE-----", "algorithms": ["RS256"]}),
                "BEGIN PUBLIC KEY",
            ),
            (
                json!({"secret": null, "jwks_url": "http://id.example.com/keys", "algorithms": ["RS256"]}),
                "https://",
            ),
            (
                json!({"secret": null, "jwks_url": "https://id.example.com/keys"}),
                "without a secret",
            ),
            (
                json!({"secret": null, "jwks_url": "https://id.example.com/keys", "algorithms": ["RS256", "EdDSA"]}),
                "fine",
            ),
            (json!({"leeway_seconds": 301}), "at most 300"),
            (json!({"issuer": ""}), "issuer must not be empty"),
            (json!({"audience": [""]}), "audience must not be empty"),
        ] {
            let said = refused(&changes);
            assert!(said.contains(words), "{changes}: {said}");
        }
    }

    #[test]
    fn grants_and_sign_in_are_checked_as_well() {
        for (value, words) in [
            (
                json!({"grants": [{}]}),
                "grants[0].channels or channels_claim",
            ),
            (
                json!({"grants": [{"channels": "private-*", "channels_claim": "c"}]}),
                "just one",
            ),
            (
                json!({"grants": [{"channels": "chat"}]}),
                "grants[0].channels must start with",
            ),
            (
                json!({"grants": [{"channels_claim": ""}]}),
                "channels_claim must not be empty",
            ),
            (
                json!({"grants": [{"channels": "private-*", "when": {"a": []}}]}),
                "when must hold",
            ),
            (
                json!({"grants": [{"channels": "presence-*", "presence": {"user_info": {"n": ""}}}]}),
                "grants[0].presence.user_info",
            ),
            (json!({"sign_in": {"id": ""}}), "sign_in.id"),
            (json!({"sign_in": {"watchlist": ""}}), "sign_in.watchlist"),
            (
                json!({"grants": vec![json!({"channels": "private-*"}); 101]}),
                "101 entries",
            ),
        ] {
            let said = identity(value.clone())
                .check(false)
                .unwrap_err()
                .to_string();
            assert!(said.contains(words), "{value}: {said}");
        }
        assert!(identity(json!({})).check(false).is_ok());
        assert!(identity(json!({"sign_in": {}})).check(false).is_ok());
    }

    #[test]
    fn key_sets_need_tls_unless_the_server_says_otherwise() {
        let url = json!({"algorithms": ["RS256"], "jwks_url": "http://127.0.0.1/keys"});
        let identity = identity(json!({"providers": [url]}));
        assert!(identity.check(false).is_err());
        assert!(identity.check(true).is_ok());
    }

    #[test]
    fn unknown_fields_are_refused() {
        for value in [
            json!({"provider": []}),
            json!({"providers": [{"key": "x"}]}),
            json!({"providers": [{"algorithms": ["none"]}]}),
            json!({"grants": [{"channel": "x"}]}),
        ] {
            assert!(
                serde_json::from_value::<Identity>(value.clone()).is_err(),
                "{value}"
            );
        }
    }

    #[test]
    fn a_secret_is_stored_and_never_shown() {
        let identity =
            identity(json!({"providers": [{"algorithms": ["HS256"], "secret": SECRET}]}));
        assert!(!format!("{identity:?}").contains(SECRET));
        let shown = identity.redacted();
        assert_eq!(shown["providers"][0]["secret"], "set");
        assert!(!shown.to_string().contains(SECRET));
        let stored = serde_json::to_string(&identity).unwrap();
        let read: Identity = serde_json::from_str(&stored).unwrap();
        assert_eq!(
            read.providers[0].secret.as_ref().unwrap().expose_secret(),
            SECRET
        );
    }

    #[test]
    fn a_secret_that_is_shown_and_sent_back_is_kept() {
        let provider = |issuer: &str, secret: &str| json!({"issuer": issuer, "algorithms": ["HS256"], "secret": secret});
        let of = |providers: Vec<Value>| identity(json!({ "providers": providers }));
        let [one, two, third] = ["1", "2", "3"].map(|digit| digit.repeat(MIN_SECRET));
        let stored = of(vec![provider("one", &one), provider("two", &two)]);
        let secrets = |identity: &Identity| -> Vec<String> {
            let secrets = identity.providers.iter().flat_map(|it| &it.secret);
            secrets.map(|it| it.expose_secret().to_owned()).collect()
        };

        let mut same: Identity = serde_json::from_value(stored.redacted()).unwrap();
        assert!(same.keeps_secrets());
        same.keep_secrets(&stored).unwrap();
        assert_eq!(secrets(&same), [one.clone(), two.clone()]);
        assert!(!same.keeps_secrets());

        // A provider less, and another secret beside one that is kept.
        let mut less = of(vec![provider("two", "set"), provider("one", &third)]);
        less.keep_secrets(&stored).unwrap();
        assert_eq!(secrets(&less), [two, third]);

        // Of two with the same issuer the one at the same place.
        let twice = of(vec![provider("one", &one), provider("one", "another")]);
        let mut kept = of(vec![provider("one", &one), provider("one", "set")]);
        kept.keep_secrets(&twice).unwrap();
        assert_eq!(secrets(&kept), [one, "another".to_owned()]);

        for (keeping, stored) in [
            (of(vec![provider("three", "set")]), &stored),
            (of(vec![provider("one", "set")]), &Identity::default()),
            (
                of(vec![json!({}), json!({}), provider("one", "set")]),
                &twice,
            ),
        ] {
            let error = keeping
                .clone()
                .keep_secrets(stored)
                .unwrap_err()
                .to_string();
            assert!(error.contains("secret is \"set\""), "{error}");
        }
    }
}
