//! The data folder and the rights on its files.

use std::path::Path;
use std::{fs, io};

use anyhow::Context;

use crate::config::Config;
use crate::failure::Failure;

/// Only its owner can read what is in it.
pub(super) fn make_data_dir(data_dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir);
    made.map_err(|error| {
        Failure::misuse(format!(
            "creating the data folder {} (setting data_dir): {error}; give it a folder that this user may write to",
            data_dir.display()
        ))
        .into()
    })
}

/// Files of versions that left their rights to the umask become their owner's alone.
pub(super) fn keep_private(config: &Config) {
    use std::os::unix::fs::PermissionsExt;
    let store = config.store_file();
    let beside = |suffix: &str| {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        store.with_file_name(name)
    };
    let files = [
        store.clone(),
        beside("-wal"),
        beside("-shm"),
        config.data_dir.join("lock"),
    ];
    for file in files {
        let Ok(metadata) = fs::metadata(&file) else {
            continue;
        };
        if metadata.permissions().mode() & 0o077 != 0
            && let Err(error) = fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
        {
            tracing::warn!(file = %file.display(), %error, "others on this machine can read this file");
        }
    }
}

/// The data folder is there, maybe, and is not this user's.
pub(super) fn cannot_look(config: &Config, error: &io::Error) -> Failure {
    Failure::misuse(format!(
        "cannot look into the data folder {}: {error}; run this as the user whom the installation belongs to, or name another \
         folder with --data-dir",
        config.data_dir.display()
    ))
}

pub(super) fn lock(file: &Path) -> anyhow::Result<fs::File> {
    let locked = fs::File::create(file).and_then(|file| file.lock().map(|()| file));
    locked.with_context(|| format!("locking {}", file.display()))
}
