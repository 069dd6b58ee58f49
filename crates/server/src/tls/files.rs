//! The files that certificates come from. They are read again when their content changes: watching the file system
//! would miss how Kubernetes replaces them, by a symbolic link somewhere above them.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::certificate::{Certificate, shown};
use super::certificates::{Certificates, Origin, Served};
use super::expiry::now;

/// How often the files are read. They are small, and who replaces them wants to see it work.
const INTERVAL: Duration = Duration::from_millis(500);

/// Largest file that is read, in bytes. Chains have some thousands.
const MAX_FILE: usize = 1024 * 1024;

/// What the two files of a pair hold.
type Content = Result<Pem, String>;
type Hash = [u8; 32];

#[derive(Debug, Clone)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The pairs of files that the configuration names.
#[derive(Debug)]
pub(crate) struct CertificateFiles {
    pairs: Vec<Pair>,
    certificates: Certificates,
}

#[derive(Debug)]
struct Pair {
    certificate_file: PathBuf,
    key_file: PathBuf,
    served: Arc<Certificate>,
    /// The content that is served.
    served_hash: Hash,
    /// Other content that was seen last. A pair is written one file after the other, so it is refused only if it is
    /// still there at the next look.
    seen: Option<Hash>,
    /// The content that was refused last, and why.
    refused: Option<(Hash, String)>,
}

/// What a look at a pair came to.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Nothing is to be done.
    Same,
    /// The files hold another certificate, which is served from now on.
    Replaced,
    /// What they hold can't be served, for the first time.
    Refused,
    /// They hold again what is served.
    Back,
}

impl CertificateFiles {
    /// Reads all pairs, and serves them.
    ///
    /// # Errors
    ///
    /// Returns a message that names the file and says what is wrong.
    pub(crate) fn read(
        pairs: Vec<(PathBuf, PathBuf)>,
        certificates: Certificates,
    ) -> Result<Self, String> {
        let pairs = pairs
            .into_iter()
            .map(|(certificate, key)| Pair::read(certificate, key))
            .collect::<Result<_, _>>()?;
        let files = Self {
            pairs,
            certificates,
        };
        files.publish();
        Ok(files)
    }

    /// Reads the files again and again, and at once when `hangup` comes.
    pub(crate) async fn watch(mut self, mut hangup: Signal) {
        loop {
            let is_asked = tokio::select! {
                () = sleep(INTERVAL) => false,
                _ = hangup.recv() => true,
            };
            // On a thread of its own, because a network file system may take its time.
            let looked = spawn_blocking(move || {
                self.look(is_asked);
                self
            });
            match looked.await {
                Ok(files) => self = files,
                // The process ends.
                Err(_) => return,
            }
        }
    }

    /// Reads all files, and logs what has changed.
    fn look(&mut self, is_asked: bool) {
        let mut has_changed = false;
        for pair in &mut self.pairs {
            let before = Arc::clone(&pair.served);
            let content = read_pair(&pair.certificate_file, &pair.key_file);
            let look = pair.look(&content, is_asked, now());
            pair.log(&look, &before);
            has_changed |= look != Look::Same;
        }
        if has_changed {
            self.publish();
        }
        if is_asked {
            tracing::info!("the files of certificates were read again (SIGHUP)");
        }
    }

    fn publish(&self) {
        let served = self.pairs.iter().map(|pair| Served {
            origin: Origin::Files {
                certificate: pair.certificate_file.clone(),
                key: pair.key_file.clone(),
            },
            certificate: Arc::clone(&pair.served),
            refused: pair.refused.as_ref().map(|(_, why)| why.clone()),
        });
        self.certificates.set_files(served.collect());
    }
}

impl Pair {
    fn read(certificate_file: PathBuf, key_file: PathBuf) -> Result<Self, String> {
        let content = read_pair(&certificate_file, &key_file);
        let refused = |why: String| {
            format!(
                "the certificate {} with the key {} cannot be served: {why}",
                certificate_file.display(),
                key_file.display()
            )
        };
        let pem = content.clone().map_err(&refused)?;
        let certificate = Certificate::from_pem(&pem.certificate, &pem.key)
            .map_err(|error| refused(error.to_string()))?;
        if let Some(why) = certificate.invalid_at(now()) {
            // Served nevertheless: with a server that doesn't start, plain connections would fail too.
            tracing::error!(
                certificate = %certificate_file.display(),
                "a certificate is not valid: {why}; clients will refuse it until its files are replaced"
            );
        }
        Ok(Self {
            certificate_file,
            key_file,
            served: Arc::new(certificate),
            served_hash: hash(&content),
            seen: None,
            refused: None,
        })
    }

    /// Decides what to do about the content of the files.
    fn look(&mut self, content: &Content, is_asked: bool, now: i64) -> Look {
        let hash = hash(content);
        if hash == self.served_hash {
            self.seen = None;
            return match self.refused.take() {
                Some(_) => Look::Back,
                None => Look::Same,
            };
        }
        if self
            .refused
            .as_ref()
            .is_some_and(|(refused, _)| *refused == hash)
        {
            return Look::Same;
        }
        match self.replacement(content, now) {
            Ok(certificate) => {
                self.served = Arc::new(certificate);
                self.served_hash = hash;
                self.seen = None;
                self.refused = None;
                Look::Replaced
            }
            Err(_) if !is_asked && self.seen != Some(hash) => {
                self.seen = Some(hash);
                Look::Same
            }
            Err(why) => {
                self.seen = None;
                self.refused = Some((hash, why));
                Look::Refused
            }
        }
    }

    /// Returns the certificate in the files, or why the one that is served stays.
    fn replacement(&self, content: &Content, now: i64) -> Result<Certificate, String> {
        let pem = content.as_ref().map_err(String::clone)?;
        let certificate =
            Certificate::from_pem(&pem.certificate, &pem.key).map_err(|error| error.to_string())?;
        match certificate.invalid_at(now) {
            Some(why) if self.served.invalid_at(now).is_none() => Err(why),
            _ => Ok(certificate),
        }
    }

    fn log(&self, look: &Look, before: &Certificate) {
        let certificate = self.certificate_file.display();
        match look {
            Look::Same => {}
            Look::Replaced => {
                let names = self.served.facts.names.join(", ");
                let not_after = shown(self.served.facts.not_after);
                tracing::info!(%certificate, names, not_after, "a certificate was replaced: new connections get it");
                let lost: Vec<_> = before
                    .facts
                    .names
                    .iter()
                    .filter(|name| !self.served.facts.names.contains(name))
                    .map(String::as_str)
                    .collect();
                if !lost.is_empty() {
                    tracing::warn!(
                        %certificate,
                        names = lost.join(", "),
                        "the new certificate is no longer for these names"
                    );
                }
            }
            Look::Refused => {
                let why = self.refused.as_ref().map_or("", |(_, why)| why);
                tracing::error!(
                    %certificate,
                    key = %self.key_file.display(),
                    why,
                    "a certificate was not replaced: its files hold one that cannot be served, and the one before stays"
                );
            }
            Look::Back => {
                tracing::info!(%certificate, "the files hold the certificate again that is served");
            }
        }
    }
}

fn read_pair(certificate: &Path, key: &Path) -> Content {
    let read = |file: &Path| {
        read_pem(file)
            .map_err(|error| format!("the file {} cannot be read: {error}", file.display()))
    };
    Ok(Pem {
        certificate: read(certificate)?,
        key: read(key)?,
    })
}

/// Reads a file of certificates or of a key.
///
/// # Errors
///
/// Returns the system's error, or says what is wrong with a file that isn't a regular one or is very large. Without these
/// bounds, a pipe would stop the watch for good, and a device would fill the memory.
pub(crate) fn read_pem(file: &Path) -> io::Result<Vec<u8>> {
    let wrong = |why: &str| Err(io::Error::new(ErrorKind::InvalidInput, why));
    // With this flag, opening a pipe doesn't wait for a writer.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(file)?;
    if !opened.metadata()?.is_file() {
        return wrong(
            "it must be a regular file, because it is read again and again; this is a folder, a pipe or a device",
        );
    }
    let mut content = Vec::new();
    opened.take(MAX_FILE as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_FILE {
        return wrong(
            "it has more than 1 MiB, so it is something else than PEM of a certificate or key",
        );
    }
    Ok(content)
}

fn hash(content: &Content) -> Hash {
    let mut hasher = Sha256::new();
    match content {
        Ok(pem) => {
            hasher.update(pem.certificate.len().to_le_bytes());
            hasher.update(&pem.certificate);
            hasher.update(&pem.key);
        }
        Err(why) => hasher.update(why),
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::tls::testing::{Authority, Issued};

    fn content(issued: &Issued) -> Content {
        mixed(issued, issued)
    }

    fn mixed(certificate: &Issued, key: &Issued) -> Content {
        Ok(Pem {
            certificate: certificate.chain().into(),
            key: key.key().into(),
        })
    }

    fn write(folder: &Path, issued: &Issued) -> (PathBuf, PathBuf) {
        let files = (folder.join("tls.crt"), folder.join("tls.key"));
        fs::write(&files.0, issued.chain()).expect("a file");
        fs::write(&files.1, issued.key()).expect("a file");
        files
    }

    fn pair(issued: &Issued) -> Pair {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = write(folder.path(), issued);
        Pair::read(certificate, key).expect("a pair")
    }

    fn refusal(pair: &Pair) -> &str {
        pair.refused.as_ref().map_or("", |(_, why)| why)
    }

    #[test]
    fn a_pair_that_is_half_written_is_not_refused_at_once() {
        let authority = Authority::new("Test CA");
        let [old, new] = [(); 2].map(|()| authority.issue(&["example.com"]));
        let mut pair = pair(&old);
        assert_eq!(pair.look(&content(&old), false, 1), Look::Same);
        assert_eq!(pair.look(&mixed(&new, &old), false, 1), Look::Same);
        assert_eq!(pair.look(&content(&new), false, now()), Look::Replaced);
        assert_eq!(pair.look(&content(&new), false, now()), Look::Same);
        assert_eq!(refusal(&pair), "");
    }

    #[test]
    fn a_file_that_never_ends_is_refused_and_the_watch_goes_on() {
        let authority = Authority::new("Test CA");
        let [old, new] = [(); 2].map(|()| authority.issue(&["example.com"]));
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = write(folder.path(), &old);
        let mut files =
            CertificateFiles::read(vec![(certificate.clone(), key)], Certificates::default())
                .expect("a pair");
        let mut refused = |why: &str| {
            files.look(true);
            let refusal = refusal(&files.pairs[0]);
            assert!(refusal.contains(why), "{refusal:?}");
        };
        fs::remove_file(&certificate).expect("it was there");
        mknodat(CWD, &certificate, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        refused("regular file");
        fs::remove_file(&certificate).expect("it was there");
        fs::create_dir(&certificate).expect("a folder");
        refused("regular file");
        fs::remove_dir(&certificate).expect("it was there");
        let large = fs::File::create(&certificate).expect("a file");
        large
            .set_len(MAX_FILE as u64 + 1)
            .expect("it has no blocks");
        refused("more than 1 MiB");
        write(folder.path(), &new);
        refused("");
        assert_eq!(files.pairs[0].refused, None);
    }

    #[test]
    fn a_broken_pair_is_refused_once_and_the_old_one_stays_until_it_is_mended() {
        let authority = Authority::new("Test CA");
        let [old, new] = [(); 2].map(|()| authority.issue(&["example.com"]));
        let mut pair = pair(&old);
        let served = Arc::clone(&pair.served);
        let broken = mixed(&new, &old);
        assert_eq!(pair.look(&broken, false, now()), Look::Same);
        assert_eq!(pair.look(&broken, false, now()), Look::Refused);
        assert_eq!(pair.look(&broken, false, now()), Look::Same);
        assert!(refusal(&pair).contains("two pairs"), "{}", refusal(&pair));
        assert!(Arc::ptr_eq(&served, &pair.served));
        assert_eq!(pair.look(&content(&old), false, now()), Look::Back);
        // Whoever asks is told at once.
        assert_eq!(pair.look(&broken, true, now()), Look::Refused);
        assert_eq!(pair.look(&content(&new), false, now()), Look::Replaced);
        assert_eq!(refusal(&pair), "");
        assert!(!Arc::ptr_eq(&served, &pair.served));
    }

    #[test]
    fn a_certificate_that_has_expired_replaces_no_valid_one() {
        let authority = Authority::new("Test CA");
        let valid = authority.issue(&["example.com"]);
        let expired = authority.issue_until(&["example.com"], 2020);
        let mut served = pair(&valid);
        assert_eq!(served.look(&content(&expired), true, now()), Look::Refused);
        assert!(
            refusal(&served).contains("expired at 2020-01-01"),
            "{}",
            refusal(&served)
        );
        // One expired certificate is as good as another.
        let mut served = pair(&expired);
        let other = authority.issue_until(&["example.com"], 2021);
        assert_eq!(served.look(&content(&other), true, now()), Look::Replaced);
    }

    #[test]
    fn files_that_are_gone_for_a_moment_are_not_refused() {
        let issued = Authority::new("Test CA").issue(&["example.com"]);
        let mut pair = pair(&issued);
        let gone = read_pair(Path::new("/nowhere/tls.crt"), Path::new("/nowhere/tls.key"));
        assert_eq!(pair.look(&gone, false, now()), Look::Same);
        assert_eq!(pair.look(&content(&issued), false, now()), Look::Same);
        assert_eq!(pair.look(&gone, false, now()), Look::Same);
        assert_eq!(pair.look(&gone, false, now()), Look::Refused);
        assert!(refusal(&pair).contains("/nowhere/tls.crt cannot be read"));
    }

    #[test]
    fn what_the_table_serves_follows_the_files() {
        let authority = Authority::new("Test CA");
        let folder = tempfile::tempdir().expect("a folder");
        let files = write(folder.path(), &authority.issue(&["old.example"]));
        let certificates = Certificates::default();
        let mut watched =
            CertificateFiles::read(vec![files], certificates.clone()).expect("a pair");
        let served = || certificates.served().remove(0);
        assert_eq!(served().certificate.facts.names, ["old.example"]);
        write(folder.path(), &authority.issue(&["new.example"]));
        watched.look(false);
        assert_eq!(served().certificate.facts.names, ["new.example"]);
        fs::write(folder.path().join("tls.key"), "nothing").expect("a file");
        watched.look(true);
        assert_eq!(served().certificate.facts.names, ["new.example"]);
        assert!(
            served()
                .refused
                .is_some_and(|why| why.contains("no private key"))
        );
        let missing = vec![(
            folder.path().join("none.crt"),
            folder.path().join("tls.key"),
        )];
        let error = CertificateFiles::read(missing, Certificates::default()).expect_err("no file");
        assert!(error.contains("none.crt"), "{error}");
    }
}
