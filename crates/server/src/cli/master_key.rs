//! `fanfare master-key`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use fanfare_store::{Actor, MasterKey};
use secrecy::{ExposeSecret, SecretString};

use super::api::ServerFlags;
use super::failure::Failure;
use super::output;
use crate::config::{Config, new_master_key_variable};
use crate::master_key::MasterKeySource;
use crate::startup::{self, Begin};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Seal all secrets of the store with another master key. Running nodes must be restarted with it
    Rotate {
        /// File that holds the new key, 64 hex digits [default: FANFARE_NEW_MASTER_KEY, else drawn]
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
    },
}

pub(crate) async fn run(
    command: Command,
    server: &ServerFlags,
    config: &Config,
) -> anyhow::Result<()> {
    let Command::Rotate { new_key_file } = command;
    if server.server().is_some() {
        return Err(Failure::misuse(
            "the master key never leaves its machine: run this there, without --server and FANFARE_SERVER",
        )
        .into());
    }
    rotate(given(new_key_file.as_deref())?, config).await
}

/// Returns the new key, or `None` if it is to be generated.
fn given(file: Option<&Path>) -> anyhow::Result<Option<MasterKey>> {
    let text: Option<SecretString> = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::misuse(format!(
                    "reading the new master key from {}: {error}",
                    file.display()
                ))
            })?;
            Some(text.into())
        }
        None => new_master_key_variable(),
    };
    let key = text.map(|text| MasterKey::parse(text.expose_secret()));
    let wrong = |error| Failure::misuse(format!("the new master key: {error}"));
    Ok(key.transpose().map_err(wrong)?)
}

async fn rotate(given: Option<MasterKey>, config: &Config) -> anyhow::Result<()> {
    let opened = startup::open_store_alone(config, Begin::Never).await?;
    let present = opened.master_key.read()?;
    if given.as_ref().is_some_and(|new| *new == present) {
        return Err(Failure::misuse("the new master key is the present one").into());
    }
    let by = Actor::command_line();
    let (resealed, what_to_do) = match &opened.master_key {
        MasterKeySource::Setting(_) => {
            let new = given.ok_or_else(|| {
                Failure::misuse(
                    "the present master key is a setting, which this cannot change: draw a new one (openssl rand -hex 32), keep \
                     it, and give it with --new-key-file or FANFARE_NEW_MASTER_KEY",
                )
            })?;
            let (_, resealed) = opened.store.rotate_master_key(&new, &by).await?;
            (
                resealed,
                "set master_key (FANFARE_MASTER_KEY) to the new key".to_owned(),
            )
        }
        // A new file was already renamed by now.
        MasterKeySource::File(file) | MasterKeySource::NewFile { file, .. } => {
            let (new, source) = MasterKeySource::prepare(file, given)?;
            // The new key is on disk before the store takes it, so that a crash in between loses neither.
            let rotated = opened.store.rotate_master_key(&new, &by).await;
            let (_, resealed) = rotated.inspect_err(|error| source.forget(error))?;
            source.keep()?;
            (resealed, format!("it is in {}; back it up", file.display()))
        }
    };
    output::text(&format!(
        "sealed {resealed} secrets with the new master key: {what_to_do}\n\
         restart all running nodes with the new key: until then they serve clients and backends with what they knew, and \
         take no changes"
    ))
}
