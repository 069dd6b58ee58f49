//! The transactions of all changes.

use std::path::PathBuf;

use crate::actor::Actor;
use crate::database::{Store, now};
use crate::dialect::{Tx, fetch_optional};
use crate::error::StoreError;

/// First statement of a transaction that running nodes must learn of.
const NEXT_REVISION: &str = "UPDATE installation SET revision = revision + 1 WHERE id = 1 \
                             RETURNING revision, master_key_id";
/// First statement of any other transaction.
const LOCK: &str = "UPDATE installation SET master_key_id = master_key_id WHERE id = 1 \
                    RETURNING revision, master_key_id";

/// A transaction that changes something. It locks the installation's row from its first statement to its end. So
/// changes come one after the other, commit in the order of their revisions, and what a transaction has read stays
/// valid until it commits.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    pub(crate) tx: Tx,
    pub(crate) by: &'a Actor,
    /// Time of the change, Unix time in milliseconds.
    pub(crate) at: i64,
    pub(crate) revision: i64,
}

impl Transaction<'_> {
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await
    }

    /// Takes a revision after all, in a transaction that began without one.
    pub(crate) async fn take_revision(&mut self) -> Result<(), StoreError> {
        if let Some((revision, _)) =
            fetch_optional!((i64, Option<String>), &mut self.tx, NEXT_REVISION)?
        {
            self.revision = revision;
        }
        Ok(())
    }
}

impl Store {
    /// Begins a change that running nodes must learn of. It takes the installation's next revision.
    pub(crate) async fn begin<'a>(&self, by: &'a Actor) -> Result<Transaction<'a>, StoreError> {
        self.begin_with(NEXT_REVISION, by).await
    }

    /// Begins a change that running nodes need not learn of.
    pub(crate) async fn begin_quietly<'a>(
        &self,
        by: &'a Actor,
    ) -> Result<Transaction<'a>, StoreError> {
        self.begin_with(LOCK, by).await
    }

    /// Returns whether the last attempted change found the disk full. It is `false` again after the next successful
    /// change.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.db.is_disk_full()
    }

    /// Returns the file of the store, if this process writes it itself.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        self.db.file()
    }

    /// Writes a value unchanged, to find out whether the disk has room again.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::DiskFull`] while it has no room, or the database's error.
    pub async fn try_to_write(&self) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        fetch_optional!((i64, Option<String>), &mut tx, LOCK)?;
        tx.commit().await
    }

    /// Begins a transaction. Returns [`StoreError::WrongMasterKey`] if the master key was replaced, because no process
    /// could open what this one would seal.
    async fn begin_with<'a>(
        &self,
        first: &'static str,
        by: &'a Actor,
    ) -> Result<Transaction<'a>, StoreError> {
        let mut tx = self.db.begin().await?;
        // The first statement locks the row, so that everything read after it is current.
        let locked = fetch_optional!((i64, Option<String>), &mut tx, first)?;
        let (revision, master_key_id) = locked.ok_or(sqlx::Error::RowNotFound)?;
        if master_key_id != Some(self.master_key.id()) {
            return Err(StoreError::WrongMasterKey);
        }
        Ok(Transaction {
            tx,
            by,
            at: now(),
            revision,
        })
    }
}
