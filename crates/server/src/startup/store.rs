//! Opens the store that the configuration names, and begins an installation if that is wanted.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use fanfare_store::{Database, Store, StoreError};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::data_dir::{cannot_look, keep_private, lock, make_data_dir};
use crate::config::{Config, without_password};
use crate::failure::{Code, Failure};
use crate::master_key::MasterKeySource;

/// How long opening the store may take, migrations included.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// A store, with the lock that keeps other processes from opening it.
#[derive(Debug)]
pub(crate) struct OpenedAlone {
    pub(crate) store: Store,
    pub(crate) master_key: MasterKeySource,
    _lock: Option<fs::File>,
}

/// Whether an installation is begun if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Yes, as a server does.
    Always,
    /// Only if the configuration names the database, or a folder that exists.
    InNamedPlace,
    /// No. In a wrong folder, a command would change a store that no server uses.
    Never,
}

impl Begin {
    fn is_allowed(self, config: &Config) -> bool {
        match self {
            Self::Always => true,
            Self::InNamedPlace => {
                config.names_store() && (config.store.url.is_some() || config.data_dir.is_dir())
            }
            Self::Never => false,
        }
    }
}

/// Opens the store that the configuration names, with its master key. Waits for other processes that are opening it,
/// and at most [`OPEN_TIMEOUT`] for the database.
pub(crate) async fn open_store(config: &Config, begin: Begin) -> anyhow::Result<Store> {
    Ok(open_store_alone(config, begin).await?.store)
}

/// Opens the store, and keeps other processes from opening it until the result is dropped. Processes that have it open
/// already go on.
pub(crate) async fn open_store_alone(config: &Config, begin: Begin) -> anyhow::Result<OpenedAlone> {
    let create = begin.is_allowed(config);
    if create {
        make_data_dir(&config.data_dir)?;
    } else if config.store.url.is_none() {
        match config.store_file().try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(no_installation(config).into()),
            Err(error) => return Err(cannot_look(config, &error).into()),
        }
    }
    // Two first starts at once would make two master keys, and SQLite's migrations must run alone.
    let lock = match config.data_dir.is_dir() {
        true => Some(lock(&config.data_dir.join("lock"))?),
        false => None,
    };
    let shown = config.store_shown();
    let database = async {
        match (&config.store.url, create) {
            (Some(url), true) => Database::connect(url.expose_secret()).await,
            (Some(url), false) => Database::connect_existing(url.expose_secret()).await,
            (None, true) => Database::open(&config.store_file()).await,
            (None, false) => Database::open_existing(&config.store_file()).await,
        }
    };
    // A pooler that has lost its database lets clients wait two minutes without an error.
    let database = timeout(OPEN_TIMEOUT, database).await.map_err(|_| {
        Failure::new(
            Code::Unavailable,
            format!(
                "the store {shown} does not answer within {} s; is the database up, and connected to the pooler in front of it?",
                OPEN_TIMEOUT.as_secs()
            ),
        )
    })?;
    if matches!(database, Err(StoreError::Missing)) {
        return Err(no_installation(config).into());
    }
    let mut database = database.with_context(|| format!("opening the store {shown}"))?;
    if config.store.url.is_none() {
        keep_private(config);
    }
    if let Some(url) = &config.store.listen_url {
        let listening = database.listen_on(url.expose_secret()).await;
        let shown = without_password(url.expose_secret());
        listening.with_context(|| format!("connecting to store.listen_url {shown}"))?;
    }
    let sealed = database
        .is_sealed()
        .await
        .with_context(|| format!("reading the store {shown}"))?;
    if !sealed && !create {
        return Err(no_installation(config).into());
    }
    if !sealed && begin == Begin::InNamedPlace {
        tracing::info!(
            store = shown,
            "this is the beginning of an installation: no server has run on this store yet"
        );
    }
    let mut master_key = MasterKeySource::find(config, sealed)?;
    let mut store = database.unlock(master_key.read()?).await;
    if matches!(store, Err(StoreError::WrongMasterKey))
        && let Some(replacement) = master_key.replacement()
        && let Ok(replaced) = database.unlock(replacement.read()?).await
    {
        tracing::info!("the master key was replaced by a process that ended before it was done");
        (store, master_key) = (Ok(replaced), replacement);
    }
    let store = store.with_context(|| {
        format!(
            "opening the store {shown} with the master key from {}; give it the key it was first started with, or the one \
             that replaced it; nothing was changed",
            master_key.shown()
        )
    })?;
    Ok(OpenedAlone {
        store,
        master_key: master_key.keep()?,
        _lock: lock,
    })
}

/// Returns the failure that says where was looked and what to do.
fn no_installation(config: &Config) -> Failure {
    let place = match &config.store.url {
        Some(_) => format!("in the store {}", config.store_shown()),
        None => {
            let folder = std::path::absolute(&config.data_dir);
            let folder = folder.unwrap_or_else(|_| config.data_dir.clone());
            format!("in the data folder {}", folder.display())
        }
    };
    Failure::misuse(format!(
        "there is no Fanfare installation {place}; `fanfare serve` begins one. If a server runs on this machine, run this in \
         its folder, or name its store as the server was told: --data-dir FOLDER, --store-url URL or --config FILE; for a \
         server elsewhere: --server URL"
    ))
}
