//! Where the master key comes from: the setting, or a file in the data folder that the first start makes.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use fanfare_store::MasterKey;
use secrecy::{ExposeSecret, SecretString};

use crate::config::Config;

/// A master key's place.
#[derive(Debug)]
pub(crate) enum MasterKeySource {
    /// The setting `master_key`.
    Setting(SecretString),
    /// A file in the data folder.
    File(PathBuf),
    /// A file that was just made, and gets its name once the store has taken the key: a store that refuses it is
    /// another installation's, whose key belongs here.
    NewFile { made: PathBuf, file: PathBuf },
}

impl MasterKeySource {
    /// Finds the key; makes one for a store in which nothing is sealed yet.
    pub(crate) fn find(config: &Config, sealed: bool) -> anyhow::Result<Self> {
        if let Some(key) = &config.master_key {
            return Ok(Self::Setting(key.clone()));
        }
        let file = config.data_dir.join("master.key");
        let made = config.data_dir.join("master.key.new");
        if file.exists() {
            return Ok(Self::File(file));
        }
        if sealed && !made.exists() {
            bail!(
                "this store's secrets are sealed, and there is no master key: set FANFARE_MASTER_KEY, or put the file \
                 master.key of the installation into {}",
                config.data_dir.display()
            );
        }
        if !made.exists() {
            write(&made).with_context(|| format!("writing {}", made.display()))?;
        }
        Ok(Self::NewFile { made, file })
    }

    /// Reads the key.
    pub(crate) fn read(&self) -> anyhow::Result<MasterKey> {
        let text = match self {
            Self::Setting(key) => key.clone(),
            Self::File(file) | Self::NewFile { made: file, .. } => fs::read_to_string(file)
                .with_context(|| format!("reading {}", file.display()))?
                .into(),
        };
        MasterKey::parse(text.expose_secret())
            .with_context(|| format!("reading the master key from {}", self.shown()))
    }

    /// What a person would call it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Setting(_) => "the setting master_key".into(),
            Self::File(file) | Self::NewFile { made: file, .. } => file.display().to_string(),
        }
    }

    /// The store has taken the key.
    pub(crate) fn keep(&self) -> anyhow::Result<()> {
        let Self::NewFile { made, file } = self else {
            return Ok(());
        };
        fs::rename(made, file)
            .with_context(|| format!("renaming {} to {}", made.display(), file.display()))?;
        tracing::info!(
            file = %file.display(),
            "made a master key; back it up, the store's secrets do not open without it"
        );
        Ok(())
    }
}

fn write(file: &Path) -> std::io::Result<()> {
    let mut opened = match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
    {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        opened => opened?,
    };
    opened.write_all(format!("{}\n", MasterKey::random().to_text()).as_bytes())?;
    opened.sync_all()
}
