//! The actor of a change.

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::Row;

use crate::operators::OperatorRecord;
use crate::row::{from_row, parsed};
use crate::tokens::TokenRecord;

/// Kind of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// An operator who signed in.
    Operator,
    /// An API token.
    Token,
    /// A person with access to the machine.
    CommandLine,
    /// Fanfare itself.
    System,
}

impl ActorKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Token => "token",
            Self::CommandLine => "command_line",
            Self::System => "system",
        }
    }
}

impl fmt::Display for ActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error for a text in the table that isn't a kind of actor.
#[derive(Debug, thiserror::Error)]
#[error("there is no kind of actor {0:?}")]
pub struct InvalidActorKind(String);

impl TryFrom<String> for ActorKind {
    type Error = InvalidActorKind;

    fn try_from(text: String) -> Result<Self, InvalidActorKind> {
        [Self::Operator, Self::Token, Self::CommandLine, Self::System]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(InvalidActorKind(text))
    }
}

/// The actor of a change, as the audit log records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// Kind of actor.
    pub kind: ActorKind,
    /// The operator's or the token's id.
    pub id: Option<String>,
    /// Name for people, as it was at that time.
    pub name: String,
    /// Network address that the request came from.
    pub address: Option<String>,
}

from_row!(row => Actor {
    kind: parsed(row, "actor_kind", ActorKind::try_from)?,
    id: row.try_get("actor_id")?,
    name: row.try_get("actor_name")?,
    address: row.try_get("actor_address")?,
});

impl Actor {
    /// Returns Fanfare itself as the actor.
    #[must_use]
    pub fn system() -> Self {
        Self::without_id(ActorKind::System, "system")
    }

    /// Returns the actor for a person who runs `fanfare` on the machine.
    #[must_use]
    pub fn command_line() -> Self {
        Self::without_id(ActorKind::CommandLine, "command line")
    }

    /// Returns an operator, signed in from `address`, as the actor.
    #[must_use]
    pub fn operator(operator: &OperatorRecord, address: Option<String>) -> Self {
        Self {
            kind: ActorKind::Operator,
            id: Some(operator.id.clone()),
            name: operator.name.clone(),
            address,
        }
    }

    /// Returns an API token, used from `address`, as the actor.
    #[must_use]
    pub fn token(token: &TokenRecord, address: Option<String>) -> Self {
        Self {
            kind: ActorKind::Token,
            id: Some(token.id.clone()),
            name: token.name.clone(),
            address,
        }
    }

    fn without_id(kind: ActorKind, name: &str) -> Self {
        Self {
            kind,
            id: None,
            name: name.into(),
            address: None,
        }
    }
}
