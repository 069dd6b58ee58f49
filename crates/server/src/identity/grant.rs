//! Decides what the claims of a token allow.

use std::collections::BTreeMap;

use fanfare_protocol::ChannelName;
use fanfare_protocol::Identity;
use fanfare_protocol::identity::{Claims, Grant, Pattern, Presence, SignIn};
use serde_json::{Map, Value, json};

use super::CompiledIdentity;

/// Grants of an app, with their patterns parsed.
#[derive(Debug)]
pub(super) struct Grants {
    channels: Vec<ChannelGrant>,
    sign_in: Option<SignIn>,
}

#[derive(Debug)]
struct ChannelGrant {
    channels: Channels,
    presence: Presence,
    when: BTreeMap<String, Value>,
}

#[derive(Debug)]
enum Channels {
    Pattern(Pattern),
    Claim(String),
}

/// Permission to subscribe to a channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The member that subscribes, on presence channels, as JSON text.
    pub(crate) channel_data: Option<String>,
}

impl CompiledIdentity {
    /// Returns whether a token's bearer may subscribe to a channel. The first grant that allows it also says which
    /// member the bearer is.
    pub(crate) fn grant(&self, claims: &Claims, channel: &ChannelName) -> Option<Granted> {
        let mut grants = self.grants.channels.iter();
        grants.find_map(|grant| grant.applies(claims, channel))
    }

    /// Returns the user that a token's bearer signs in as, as JSON text, or `None` if the app doesn't allow sign-ins by
    /// tokens.
    pub(crate) fn user_data(&self, claims: &Claims) -> Option<String> {
        let sign_in = self.grants.sign_in.as_ref()?;
        let mut user = json!({ "id": claims.text(&sign_in.id)? });
        insert_info(&mut user, &sign_in.user_info, claims);
        if let Some(claim) = &sign_in.watchlist {
            user["watchlist"] = claims.list(claim).collect();
        }
        Some(user.to_string())
    }
}

impl Grants {
    /// Creates the grants of a checked identity. An invalid pattern would grant nothing.
    pub(super) fn new(identity: &Identity) -> Self {
        let channels = identity.grants.iter().filter_map(ChannelGrant::new);
        Self {
            channels: channels.collect(),
            sign_in: identity.sign_in.clone(),
        }
    }
}

impl ChannelGrant {
    fn new(grant: &Grant) -> Option<Self> {
        let channels = match (&grant.channels, &grant.channels_claim) {
            (Some(pattern), _) => Channels::Pattern(Pattern::parse(pattern).ok()?),
            (None, Some(claim)) => Channels::Claim(claim.clone()),
            (None, None) => return None,
        };
        Some(Self {
            channels,
            presence: grant.presence.clone(),
            when: grant.when.clone(),
        })
    }

    fn applies(&self, claims: &Claims, channel: &ChannelName) -> Option<Granted> {
        let holds = |(claim, value): (&String, &Value)| claims.has(claim, value);
        let matches = |pattern: &Pattern| pattern.matches(channel.as_str(), claims);
        let is_named = match &self.channels {
            Channels::Pattern(pattern) => matches(pattern),
            Channels::Claim(claim) => claims
                .list(claim)
                .filter_map(Pattern::of_token)
                .any(|pattern| matches(&pattern)),
        };
        if !is_named || !self.when.iter().all(holds) {
            return None;
        }
        let channel_data = match channel.kind().has_members() {
            true => Some(self.channel_data(claims)?),
            false => None,
        };
        Some(Granted { channel_data })
    }

    /// Returns the bearer as a member of a presence channel, or `None` without the claim that is the user id.
    fn channel_data(&self, claims: &Claims) -> Option<String> {
        let mut member = json!({ "user_id": claims.text(&self.presence.user_id)? });
        insert_info(&mut member, &self.presence.user_info, claims);
        Some(member.to_string())
    }
}

/// Adds `user_info` from claims. Missing claims are left out, and so is an empty `user_info`.
fn insert_info(into: &mut Value, names: &BTreeMap<String, String>, claims: &Claims) {
    let value = |(name, claim): (&String, &String)| {
        let value = claims.get(claim)?;
        Some((name.clone(), value.clone()))
    };
    let info: Map<String, Value> = names.iter().filter_map(value).collect();
    if !info.is_empty() {
        into["user_info"] = info.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identities;

    fn grants(identity: Value) -> CompiledIdentity {
        let identity: Identity = serde_json::from_value(identity).unwrap();
        Identities::new(false).compile(&identity).unwrap()
    }

    fn claims(value: &Value) -> Claims {
        Claims::new(value.as_object().unwrap().clone())
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name, 200).unwrap()
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let nothing = grants(json!({}));
        let claims = claims(&json!({"sub": "1", "channels": ["private-*"]}));
        assert_eq!(nothing.grant(&claims, &channel("private-x")), None);
        assert_eq!(nothing.user_data(&claims), None);
    }

    #[test]
    fn a_grant_is_by_pattern_by_claim_and_on_conditions() {
        let identity = grants(json!({"grants": [
            {"channels": "private-user-{sub}"},
            {"channels_claim": "rt.channels"},
            {"channels": "private-admin-*", "when": {"roles": "admin", "mfa": true}},
        ]}));
        let plain =
            json!({"sub": "7", "rt": {"channels": ["private-a", "private-room-*", "*", 7]}});
        let admin = json!({"sub": "8", "roles": ["user", "admin"], "mfa": true});
        let weak = json!({"sub": "8", "roles": ["user", "admin"], "mfa": false});
        for (token, name, granted) in [
            (&plain, "private-user-7", true),
            (&plain, "private-user-8", false),
            (&plain, "private-a", true),
            (&plain, "private-b", false),
            (&plain, "private-room-9", true),
            (&plain, "private-admin-x", false),
            (&admin, "private-admin-x", true),
            (&admin, "private-a", false),
            (&weak, "private-admin-x", false),
        ] {
            let found = identity.grant(&claims(token), &channel(name));
            assert_eq!(found.is_some(), granted, "{token} {name}");
        }
    }

    #[test]
    fn a_member_is_made_of_claims() {
        let identity = grants(json!({"grants": [{
            "channels": "presence-team-{org.team}",
            "presence": {"user_id": "uid", "user_info": {"name": "name", "team": "org.team", "none": "none"}},
        }]}));
        let data = |token: Value| {
            let granted = identity.grant(&claims(&token), &channel("presence-team-red"));
            granted.and_then(|granted| granted.channel_data)
        };
        let token = json!({"uid": 42, "name": "A \"é\"", "org": {"team": "red"}});
        assert_eq!(
            data(token).as_deref(),
            Some(r#"{"user_id":"42","user_info":{"name":"A \"é\"","team":"red"}}"#)
        );
        // A token without the claim that is the user id opens no presence channel.
        assert_eq!(data(json!({"sub": "1", "org": {"team": "red"}})), None);
        assert_eq!(data(json!({"uid": 1, "org": {"team": "blue"}})), None);
    }

    #[test]
    fn a_user_is_made_of_claims() {
        let identity =
            grants(json!({"sign_in": {"user_info": {"name": "name"}, "watchlist": "friends"}}));
        let token = json!({"sub": "a", "name": "A", "friends": ["b", "c", 7]});
        assert_eq!(
            identity.user_data(&claims(&token)).as_deref(),
            Some(r#"{"id":"a","user_info":{"name":"A"},"watchlist":["b","c"]}"#)
        );
        assert_eq!(identity.user_data(&claims(&json!({"name": "A"}))), None);
        let plain = grants(json!({"sign_in": {}}));
        let user = plain.user_data(&claims(&token));
        assert_eq!(user.as_deref(), Some(r#"{"id":"a"}"#));
    }
}
