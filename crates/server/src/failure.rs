//! Errors of commands and of the start, with the exit codes that tell scripts about them.

use axum::http::StatusCode;
use fanfare_store::{InvalidMasterKey, StoreError};

/// Meaning of an exit code. `--help` and `docs/cli.md` list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// The command failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Misuse = 2,
    /// The thing named doesn't exist.
    NotFound = 3,
    /// The token isn't accepted, or its rights aren't enough.
    Refused = 4,
    /// It conflicts with something that exists, or was changed meanwhile.
    Conflict = 5,
    /// The server or the store is unavailable now.
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

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Returns a failure of a wrong call or configuration.
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
            | StoreError::ReadOnly
            | StoreError::Unreachable(_)
            | StoreError::Database(_) => Self::Unavailable,
            StoreError::Uncertain => Self::Failed,
        }
    }
}

/// Returns the exit code of an error, which is that of its outermost known cause.
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

/// Reads the body of an answer of at most `max_bytes`. Whatever answers there may be another program, which sends no end.
pub(crate) async fn read_body(
    mut response: reqwest::Response,
    max_bytes: usize,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(request_failed)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(format!(
                "the answer has more than {max_bytes} bytes, as none of a Fanfare server has"
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What the HTTP client says before the cause.
const SAY_NOTHING: [&str; 3] = [
    "error sending request",
    "client error (Connect)",
    "client error (SendRequest)",
];

/// Returns what went wrong with a request, with all causes, because the outermost one says almost nothing.
pub(crate) fn request_failed(error: reqwest::Error) -> String {
    let error = anyhow::Error::new(error.without_url());
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.dedup();
    let says_nothing = |cause: &String| SAY_NOTHING.contains(&cause.as_str());
    if !causes.iter().all(says_nothing) {
        causes.retain(|cause| !says_nothing(cause));
    }
    explain(causes.join(": "))
}

/// Returns whether a request failed because the peer doesn't speak TLS.
pub(crate) fn is_plain_http(error: &reqwest::Error) -> bool {
    format!("{error:?}").contains(NO_TLS)
}

/// The TLS library's error for a peer that doesn't speak TLS.
const NO_TLS: &str = "InvalidContentType";

/// The TLS library's error for a certificate whose authority isn't known.
const UNKNOWN_AUTHORITY: &str = "UnknownIssuer";

/// Replaces the TLS library's errors by some that say what to do: for a peer that doesn't speak TLS, and for a certificate of an unknown
/// authority.
fn explain(causes: String) -> String {
    if causes.contains(NO_TLS) {
        return "the server speaks plain HTTP there, and TLS was wanted: write http:// instead of https://, or give the \
                address of the proxy that ends TLS"
            .into();
    }
    if causes.contains(UNKNOWN_AUTHORITY) {
        return "this machine trusts none of the authorities of the server's certificate: if it is one of your own, name the file \
                with its certificate in SSL_CERT_FILE; otherwise the server must send the certificates of its issuers too"
            .into();
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_request_is_told_by_its_cause() {
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let error = client
            .get("http://127.0.0.1:1/")
            .send()
            .await
            .expect_err("nobody listens");
        let said = request_failed(error);
        assert!(said.starts_with("tcp connect error: "), "{said}");
    }
}
