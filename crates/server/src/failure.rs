//! Why a command was not done or a start failed, and the exit code that says so to scripts.

use axum::http::StatusCode;
use fanfare_store::{InvalidMasterKey, StoreError};

/// What the exit code says; `--help` and `docs/cli.md` list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// What was asked for failed.
    Failed = 1,
    /// It was called or configured wrongly.
    Misuse = 2,
    /// There is no such thing.
    NotFound = 3,
    /// The token is not taken, or does not go that far.
    Refused = 4,
    /// It is in the way of something, or was changed in the meantime.
    Conflict = 5,
    /// The server or the store cannot be reached, or not at this moment.
    Unavailable = 6,
}

/// An error with its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// It was called wrongly.
    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self::new(Code::Misuse, message)
    }
}

impl From<StatusCode> for Code {
    fn from(status: StatusCode) -> Self {
        match status.as_u16() {
            400 | 413 | 415 => Self::Misuse,
            401 | 403 => Self::Refused,
            404 => Self::NotFound,
            409 | 412 => Self::Conflict,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

impl From<&StoreError> for Code {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Invalid(_)
            | StoreError::WrongMasterKey
            | StoreError::Missing
            | StoreError::Newer { .. }
            | StoreError::NotADatabase(_)
            | StoreError::Configured(_)
            | StoreError::Migrate(_) => Self::Misuse,
            StoreError::NotFound(_) => Self::NotFound,
            StoreError::Conflict(_) | StoreError::Stale(_) => Self::Conflict,
            StoreError::Late
            | StoreError::DiskFull
            | StoreError::Unreachable(_)
            | StoreError::Database(_) => Self::Unavailable,
            StoreError::Uncertain => Self::Failed,
        }
    }
}

/// The exit code for an error: what its innermost known cause says.
pub(crate) fn code_of(error: &anyhow::Error) -> Code {
    let known = |cause: &(dyn std::error::Error + 'static)| {
        let failure = cause.downcast_ref().map(|failure: &Failure| failure.code);
        let store = || cause.downcast_ref::<StoreError>().map(Code::from);
        let master_key = || {
            cause
                .downcast_ref::<InvalidMasterKey>()
                .map(|_| Code::Misuse)
        };
        failure.or_else(store).or_else(master_key)
    };
    error.chain().find_map(known).unwrap_or(Code::Failed)
}

/// What went wrong with a request, with all causes: the outermost says next to nothing.
pub(crate) fn request_failed(error: reqwest::Error) -> String {
    let error = anyhow::Error::new(error.without_url());
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.dedup();
    explain(causes.join(": "))
}

/// What a TLS library says when the other side speaks none is no help to a person.
fn explain(causes: String) -> String {
    if causes.contains("InvalidContentType") {
        return "the server speaks plain HTTP there, and TLS was wanted: write http:// instead of https://, or give the \
                address of the proxy that ends TLS"
            .into();
    }
    causes
}
