//! The data folder and the permissions of its files.

use std::path::Path;
use std::{fs, io};

use anyhow::Context;

use crate::config::Config;
use crate::failure::{Code, Failure};

/// Creates the data folder, which only its owner can read.
pub(super) fn make_data_dir(data_dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir);
    let why = match made {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let (code, what) = match why.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => (
            Code::Misuse,
            "a part of that path is a file; name another folder".to_owned(),
        ),
        io::ErrorKind::PermissionDenied => (
            Code::Misuse,
            "this user may not write there; give it the folder, or name one that is its own"
                .to_owned(),
        ),
        io::ErrorKind::ReadOnlyFilesystem => (
            Code::Misuse,
            "the file system is read-only; mount it writable, or name a folder on another one"
                .to_owned(),
        ),
        // There may be room at the next attempt.
        io::ErrorKind::StorageFull => (Code::Unavailable, "the disk is full".to_owned()),
        _ => (
            Code::Misuse,
            format!("{why}; name a folder that this user may write to"),
        ),
    };
    let message = format!(
        "creating the data folder {} (setting data_dir): {what}",
        data_dir.display()
    );
    Err(Failure::new(code, message).into())
}

/// Makes files private that earlier versions created with the umask's permissions.
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

/// Returns the failure for a data folder that this user can't look into.
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
