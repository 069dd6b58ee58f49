//! The source of the master key: the setting, or a file in the data folder that the first start makes.
//!
//! A new key is written to `master.key.new` before the store takes it, and renamed afterwards. Whatever happens between
//! the two, one of the two files opens the store.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use fanfare_store::{MasterKey, StoreError};
use secrecy::{ExposeSecret, SecretString};

use crate::clock::unix_seconds;
use crate::config::Config;
use crate::failure::Failure;

/// Source of a master key.
#[derive(Debug)]
pub(crate) enum MasterKeySource {
    /// The setting `master_key`.
    Setting(SecretString),
    /// A file in the data folder.
    File(PathBuf),
    /// A file that was just made. It is renamed once the store has taken the key: a store that refuses the key belongs
    /// to another installation, whose key belongs here.
    NewFile { made: PathBuf, file: PathBuf },
}

impl MasterKeySource {
    /// Finds the master key. Makes one if nothing is sealed in the store yet.
    pub(crate) fn find(config: &Config, sealed: bool) -> anyhow::Result<Self> {
        if let Some(key) = &config.master_key {
            return Ok(Self::Setting(key.clone()));
        }
        // An absolute path, because messages show it and a relative one depends on the current folder.
        let file = config.data_dir.join("master.key");
        let file = std::path::absolute(&file).unwrap_or(file);
        if file.exists() {
            return Ok(Self::File(file));
        }
        let made = made_beside(&file);
        if sealed && !made.exists() {
            return Err(Failure::misuse(format!(
                "this store's secrets are sealed, and there is no master key: set FANFARE_MASTER_KEY, or put the \
                 installation's master.key where it was looked for: {} (setting data_dir)",
                file.display()
            ))
            .into());
        }
        if !made.exists() {
            write(&made, &MasterKey::random())?;
        }
        Ok(Self::NewFile { made, file })
    }

    /// Makes the file of a key that is to replace the one in `file`. If a rotation was interrupted, its file is used
    /// again, because the store may have taken that key and only the answer was lost.
    pub(crate) fn prepare(
        file: &Path,
        given: Option<MasterKey>,
    ) -> anyhow::Result<(MasterKey, Self)> {
        let made = made_beside(file);
        let source = Self::NewFile {
            made: made.clone(),
            file: file.into(),
        };
        if made.exists() {
            let left = source.read()?;
            if given.is_some_and(|given| given != left) {
                bail!(
                    "{} is left of a rotation that did not come to its end: end it with `fanfare master-key rotate` without a \
                     key, then rotate to yours",
                    made.display()
                );
            }
            return Ok((left, source));
        }
        let new = given.unwrap_or_else(MasterKey::random);
        write(&made, &new)?;
        Ok((new, source))
    }

    /// Returns the key that may have replaced this one, if the process that replaced it ended before it renamed the
    /// file.
    pub(crate) fn replacement(&self) -> Option<Self> {
        let Self::File(file) = self else { return None };
        let made = made_beside(file);
        let file = file.clone();
        made.exists().then_some(Self::NewFile { made, file })
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

    /// Returns the source for a message.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Setting(_) => "the setting master_key".into(),
            Self::File(file) | Self::NewFile { made: file, .. } => file.display().to_string(),
        }
    }

    /// Renames the file of a key that the store has taken, and keeps the previous key beside it.
    pub(crate) fn keep(self) -> anyhow::Result<Self> {
        let Self::NewFile { made, file } = self else {
            return Ok(self);
        };
        let before = if file.exists() {
            Some(set_aside(&file)?)
        } else {
            None
        };
        fs::rename(&made, &file)
            .with_context(|| format!("renaming {} to {}", made.display(), file.display()))?;
        sync_folder(&file)?;
        let shown = file.display();
        match before {
            Some(before) => {
                tracing::info!(file = %shown, before = %before.display(), "replaced the master key; back up the new one")
            }
            None => {
                tracing::info!(file = %shown, "made a master key; back it up, the store's secrets do not open without it")
            }
        }
        Ok(Self::File(file))
    }

    /// Removes the file of a key that the store has certainly refused. Otherwise the file stays: the answer may be
    /// lost, or another process may have set this very key first.
    pub(crate) fn forget(&self, error: &StoreError) {
        if let Self::NewFile { made, .. } = self
            && matches!(error, StoreError::Conflict(_))
        {
            // The next rotation uses a file that can't be removed again.
            let _ = fs::remove_file(made);
        }
    }
}

fn made_beside(file: &Path) -> PathBuf {
    file.with_extension("key.new")
}

/// Copies a key that is about to be replaced to `master.key.old-` and the Unix time in seconds.
fn set_aside(file: &Path) -> anyhow::Result<PathBuf> {
    let old = |seconds| file.with_extension(format!("key.old-{seconds}"));
    let mut seconds = unix_seconds();
    while old(seconds).exists() {
        seconds += 1;
    }
    let old = old(seconds);
    let key = MasterKeySource::File(file.into()).read()?;
    write(&old, &key)?;
    Ok(old)
}

/// Writes a key atomically, so that it survives a power failure. The caller holds the folder's lock.
fn write(file: &Path, key: &MasterKey) -> anyhow::Result<()> {
    let unfinished = file.with_file_name("master.key.tmp");
    let written = || {
        // A killed process may have left it, perhaps with other permissions.
        let _ = fs::remove_file(&unfinished);
        let mut opened = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        opened.write_all(format!("{}\n", key.to_text()).as_bytes())?;
        opened.sync_all()?;
        fs::rename(&unfinished, file)
    };
    written().with_context(|| format!("writing {}", file.display()))?;
    sync_folder(file)
}

/// Syncs a file's folder, because a renamed file survives a power failure only once its folder is written.
fn sync_folder(file: &Path) -> anyhow::Result<()> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("writing the folder {}", folder.display()))
}
