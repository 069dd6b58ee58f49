//! Allows one server on one SQLite store. A second one would accept events that clients of the first never get.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use fanfare_store::sqlite_file;
use secrecy::ExposeSecret;

use crate::config::Config;
use crate::failure::{Code, Failure};

/// Lock of a running server. The kernel releases it however the process ends.
#[derive(Debug)]
pub(crate) struct ServerLock {
    /// `None` on Postgres, where several servers form a cluster.
    file: Option<File>,
}

impl ServerLock {
    /// Takes the lock beside the SQLite file.
    ///
    /// # Errors
    ///
    /// Returns [`Code::Conflict`] with the process that holds it, or an error if the file can't be written.
    pub(crate) fn take(config: &Config) -> anyhow::Result<Self> {
        let Some(store) = store_file(config) else {
            return Ok(Self { file: None });
        };
        let path = lock_file(&store);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| {
                let (code, what) = match error.kind() {
                    // There may be room at the next attempt.
                    io::ErrorKind::StorageFull => (Code::Unavailable, "the disk is full".to_owned()),
                    io::ErrorKind::ReadOnlyFilesystem => (
                        Code::Misuse,
                        "the file system is read-only; mount it writable".to_owned(),
                    ),
                    io::ErrorKind::PermissionDenied => (
                        Code::Misuse,
                        "this user may not write into that folder; give it the folder, or name another with --data-dir"
                            .to_owned(),
                    ),
                    _ => (Code::Misuse, error.to_string()),
                };
                let (store, path) = (store.display(), path.display());
                Failure::new(
                    code,
                    format!("opening the store {store}: cannot write {path} beside it: {what}"),
                )
            })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Empty in the moment between locking and writing.
                let _ = file.read_to_string(&mut holder);
                return Err(refused(&store, holder.trim()).into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        let mut lock = Self { file: Some(file) };
        lock.describe(&config.listen.to_string());
        Ok(lock)
    }

    /// Returns the failure that names the server that holds the lock, if one does. Creates no file.
    pub(crate) fn held_by_another(config: &Config) -> Option<Failure> {
        let store = store_file(config)?;
        let mut file = File::open(lock_file(&store)).ok()?;
        if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let mut holder = String::new();
        file.read_to_string(&mut holder).ok()?;
        Some(refused(&store, holder.trim()))
    }

    /// Returns where the server of this configuration's store listens. It may have been told elsewhere where; without one
    /// that runs, it is where this configuration says.
    pub(crate) fn address_of_server(config: &Config) -> SocketAddr {
        Self::address_of_holder(config).unwrap_or_else(|| config.listen.first_tcp())
    }

    /// Returns where the server listens that holds the lock, if one does.
    fn address_of_holder(config: &Config) -> Option<SocketAddr> {
        let mut file = File::open(lock_file(&store_file(config)?)).ok()?;
        if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let mut holder = String::new();
        file.read_to_string(&mut holder).ok()?;
        let (_, listen) = holder.trim().split_once("which listens on ")?;
        listen.split(", ").find_map(|address| address.parse().ok())
    }

    /// Returns the process that holds the lock, if one does.
    pub(crate) fn process_of_holder(config: &Config) -> Option<i32> {
        let mut file = File::open(lock_file(&store_file(config)?)).ok()?;
        if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let mut holder = String::new();
        file.read_to_string(&mut holder).ok()?;
        let (process, _) = holder.strip_prefix("process ")?.split_once(',')?;
        process.parse().ok()
    }

    /// Writes into the file which process holds the lock and where it listens.
    pub(crate) fn describe(&mut self, listen: &str) {
        let Some(file) = &mut self.file else {
            return;
        };
        let text = format!(
            "process {}, which listens on {listen}\n",
            std::process::id()
        );
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            // The lock is held anyway. The disk may be full.
            tracing::warn!(%error, "cannot write down who serves from this store");
        }
    }
}

/// Returns the SQLite file that the configuration names, canonicalized, so that two spellings of a path share a lock.
fn store_file(config: &Config) -> Option<PathBuf> {
    let file = match &config.store.url {
        Some(url) => sqlite_file(url.expose_secret())?,
        None => config.store_file(),
    };
    Some(file.canonicalize().unwrap_or(file))
}

fn lock_file(store: &Path) -> PathBuf {
    let mut name = store.file_name().unwrap_or_default().to_owned();
    name.push(".server");
    store.with_file_name(name)
}

fn refused(store: &Path, holder: &str) -> Failure {
    let holder = if holder.is_empty() {
        "another process"
    } else {
        holder
    };
    Failure::new(
        Code::Conflict,
        format!(
            "another server runs on the store {}: {holder}. Two servers on one SQLite store would not hear each other's \
             events. Stop that one first, or give this one a data folder of its own (--data-dir); for several nodes see \
             docs/clustering.md",
            store.display()
        ),
    )
}
