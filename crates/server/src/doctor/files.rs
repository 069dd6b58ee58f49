//! The data folder and the configuration file.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytesize::ByteSize;
use tokio::time::Instant;

use super::Finding;
use crate::config::Config;

/// Free bytes of the disk below which a person should know.
const LOW_DISK: u64 = 1 << 30;
/// Free bytes below which the store soon refuses changes.
const FULL_DISK: u64 = 64 << 20;
/// Milliseconds of one durable write above which each change through the admin API is slow.
const SLOW_WRITE: u128 = 100;
/// Number of durable writes of which the median counts.
const WRITES: usize = 5;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folder = &config.data_dir;
    if folder.is_dir() {
        findings.extend([is_private(folder), has_room(folder), writes(folder)]);
    } else {
        findings.push(Finding::warning(
            "files.data_folder",
            format!("there is no data folder {}", folder.display()),
            "start the server once, which creates it, or name the folder that the server uses with --data-dir",
        ));
    }
    findings
}

fn is_private(folder: &Path) -> Finding {
    let check = "files.permissions";
    let mode = match fs::metadata(folder) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) => return unreadable(check, folder, &error),
    };
    let found = format!("the data folder {} has the mode {mode:o}", folder.display());
    if mode & 0o077 == 0 {
        return Finding::ok(check, found);
    }
    Finding::warning(
        check,
        found,
        format!(
            "chmod 700 {}: other users of this machine can read the master key's file or the store in it",
            folder.display()
        ),
    )
}

fn has_room(folder: &Path) -> Finding {
    match rustix::fs::statvfs(folder) {
        Ok(disk) => room(folder, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => unreadable("files.disk", folder, &error.into()),
    }
}

fn room(folder: &Path, free: u64) -> Finding {
    let check = "files.disk";
    let found = format!(
        "the disk of {} has {} free",
        folder.display(),
        ByteSize(free)
    );
    let advice = "make room, or move the data folder to a larger disk: changes of apps, keys and operators are refused when it is \
         full, while events go on";
    match free {
        0..FULL_DISK => Finding::failure(check, found, advice),
        FULL_DISK..LOW_DISK => Finding::warning(check, found, advice),
        LOW_DISK.. => Finding::ok(check, found),
    }
}

fn writes(folder: &Path) -> Finding {
    match median_write(folder) {
        Ok(milliseconds) => speed(milliseconds),
        Err(error) => not_written(folder, &error),
    }
}

fn not_written(folder: &Path, error: &io::Error) -> Finding {
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room, or move the data folder to a larger disk: the store takes no changes until then"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "mount the disk for writing; if it became read-only by itself, look for its errors in the kernel's log"
        }
        _ => "run this as the user that the server runs as, and give that user the folder",
    };
    let found = format!("writing to the data folder {}: {error}", folder.display());
    Finding::failure("files.writes", found, advice)
}

fn speed(milliseconds: u128) -> Finding {
    let check = "files.writes";
    let found = format!("a durable write to the data folder takes {milliseconds} ms");
    if milliseconds <= SLOW_WRITE {
        return Finding::ok(check, found);
    }
    Finding::warning(
        check,
        found,
        "move the data folder to a local disk: SQLite waits that long for each change",
    )
}

/// Returns the median time of a durable write, in milliseconds.
fn median_write(folder: &Path) -> io::Result<u128> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let mut file = fs::File::create_new(&path)?;
    let mut times = Vec::new();
    let mut written = Ok(());
    for _ in 0..WRITES {
        let begun = Instant::now();
        written = file.write_all(&[0; 4096]).and_then(|()| file.sync_data());
        if written.is_err() {
            break;
        }
        times.push(begun.elapsed().as_millis());
    }
    fs::remove_file(&path)?;
    written?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn unreadable(check: &'static str, folder: &Path, error: &io::Error) -> Finding {
    Finding::failure(
        check,
        format!("looking at the data folder {}: {error}", folder.display()),
        "run this as the user that the server runs as",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;
    use crate::doctor::Severity;

    #[test]
    fn a_folder_that_others_can_read_is_a_warning() {
        let folder = tempfile::tempdir().expect("a folder");
        for (mode, severity) in [(0o700, Severity::Ok), (0o755, Severity::Warning)] {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(folder.path(), permissions).expect("a mode");
            assert_eq!(is_private(folder.path()).severity, severity, "{mode:o}");
        }
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_reported_before_it_is() {
        for (free, severity) in [
            (FULL_DISK - 1, Severity::Failure),
            (LOW_DISK - 1, Severity::Warning),
            (LOW_DISK, Severity::Ok),
        ] {
            assert_eq!(room(Path::new("data"), free).severity, severity, "{free}");
        }
    }

    #[test]
    fn a_full_disk_is_not_taken_for_missing_rights() {
        for (kind, advice) in [
            (ErrorKind::StorageFull, "make room"),
            (ErrorKind::QuotaExceeded, "make room"),
            (ErrorKind::PermissionDenied, "run this as the user"),
        ] {
            let finding = not_written(Path::new("data"), &kind.into());
            assert!(
                finding.advice.expect("advice").starts_with(advice),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_trial_leaves_no_file_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_ne!(writes(folder.path()).severity, Severity::Failure);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_created() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let config = load(&[("data_dir", data.to_str().expect("a path"))]).expect("settings");
        let findings = examine(&config);
        assert_eq!(findings[0].check, "files.data_folder");
        assert!(!data.exists());
    }
}
