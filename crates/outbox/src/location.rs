//! Where an app's outbox is.

use std::str::FromStr;

use secrecy::SecretString;

/// Longest URL, in bytes.
const MAX_URL: usize = 2_048;
/// Longest name of a stream, in characters.
const MAX_STREAM: usize = 512;
/// Stream of Redis that is read if none is named.
const DEFAULT_STREAM: &str = "fanfare";

/// Where an app's outbox is.
#[derive(Debug, Clone)]
pub enum Location {
    /// In the schema `fanfare` of a database of Postgres.
    Postgres {
        /// Its URL, with the credentials.
        url: SecretString,
    },
    /// In a stream of Redis.
    Redis {
        /// Its URL, with the credentials.
        url: SecretString,
        /// The stream's key.
        stream: String,
    },
}

impl Location {
    /// Reads a URL, and the name of a stream if it is one of Redis.
    ///
    /// # Errors
    ///
    /// Returns a text with the setting and the rule that it breaks. It never repeats the URL, which has a password.
    pub fn parse(url: &str, stream: Option<&str>) -> Result<Self, String> {
        if url.len() > MAX_URL {
            return Err(format!(
                "url must have at most {MAX_URL} bytes, it has {}",
                url.len()
            ));
        }
        if url.chars().any(char::is_control) {
            return Err("url must have no control characters".into());
        }
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            Some("postgres" | "postgresql") => Self::postgres(url, stream),
            Some("redis" | "rediss") => Self::redis(url, stream),
            _ => Err(
                "url must begin with postgres:// for a database in which `fanfare outbox install` was run, or with redis:// or rediss:// for a stream"
                    .into(),
            ),
        }
    }

    fn postgres(url: &str, stream: Option<&str>) -> Result<Self, String> {
        if stream.is_some() {
            return Err("stream is for Redis; leave it out with a URL of Postgres".into());
        }
        sqlx::postgres::PgConnectOptions::from_str(url).map_err(|error| {
            format!("url must be like postgres://USER:PASSWORD@HOST:5432/DATABASE: {error}")
        })?;
        Ok(Self::Postgres { url: url.into() })
    }

    fn redis(url: &str, stream: Option<&str>) -> Result<Self, String> {
        let stream = stream.unwrap_or(DEFAULT_STREAM);
        let length = stream.chars().count();
        if !(1..=MAX_STREAM).contains(&length) {
            return Err(format!(
                "stream must have 1 to {MAX_STREAM} characters, it has {length}"
            ));
        }
        if stream.chars().any(char::is_control) {
            return Err("stream must have no control characters".into());
        }
        redis::Client::open(url).map_err(|error| {
            format!("url must be like redis://USER:PASSWORD@HOST:6379/DB: {error}")
        })?;
        Ok(Self::Redis {
            url: url.into(),
            stream: stream.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_a_stream_have_a_length_and_are_printable() {
        let long_url = format!("postgres://db/{}", "x".repeat(MAX_URL));
        let long_stream = "x".repeat(MAX_STREAM + 1);
        for (url, stream, words) in [
            (&*long_url, None, "url must have at most 2048 bytes"),
            ("", None, "url must begin with"),
            ("postgres://db/a\0b", None, "url must have no control"),
            (
                "redis://db",
                Some(""),
                "stream must have 1 to 512 characters",
            ),
            (
                "redis://db",
                Some(&*long_stream),
                "stream must have 1 to 512 characters",
            ),
            ("redis://db", Some("a\nb"), "stream must have no control"),
        ] {
            let refused = Location::parse(url, stream).expect_err(words);
            assert!(refused.starts_with(words), "{refused}");
        }
        let stream = &long_stream[..MAX_STREAM];
        assert!(Location::parse("redis://db", Some(stream)).is_ok());
        assert!(Location::parse(&long_url[..MAX_URL], None).is_ok());
    }
}
