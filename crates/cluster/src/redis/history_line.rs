//! The connection to one master over which histories are read. Their answers are large, so they
//! never stand before an event, a heartbeat or another answer. It is opened by the first read, and
//! again after it broke.

use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Cmd, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::answer;
use super::connection::{Batch, Line, Loaded};
use super::topology::{self, Master, connect_to};
use super::url::RedisUrl;
use crate::backend::{BackendError, ConnectError, HistoryPage};

/// How long one attempt to read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The connection for histories of one master. Cheap to clone.
#[derive(Clone)]
pub(super) struct HistoryLine(Arc<Shared>);

struct Shared {
    url: RedisUrl,
    master: Master,
    loaded: Arc<Loaded>,
    /// The connection and its number, once it is open. Locked while it is opened, so that all reads wait for one attempt.
    open: Mutex<(u64, Option<Line>)>,
}

impl HistoryLine {
    pub(super) fn new(url: &RedisUrl, master: &Master, loaded: &Arc<Loaded>) -> Self {
        Self(Arc::new(Shared {
            url: url.clone(),
            master: master.clone(),
            loaded: Arc::clone(loaded),
            open: Mutex::new((0, None)),
        }))
    }

    /// Reads a history. A connection that was closed because nothing was read for long is replaced.
    pub(super) async fn read(
        self,
        command: Cmd,
        read: fn(Value) -> Option<HistoryPage>,
    ) -> Result<HistoryPage, BackendError> {
        match self.try_read(&command, read).await {
            Err(BackendError::Broken(_)) => self.try_read(&command, read).await,
            page => page,
        }
    }

    async fn try_read(
        &self,
        command: &Cmd,
        read: fn(Value) -> Option<HistoryPage>,
    ) -> Result<HistoryPage, BackendError> {
        let (number, line) = self.line().await?;
        let mut batch = Batch::of_command(&line, command.clone());
        let value = timeout(READ_TIMEOUT, batch.value()).await;
        let value = value.unwrap_or_else(|_| Err(format!("no history within {READ_TIMEOUT:?}")));
        let value = value.map_err(BackendError::Broken);
        let page = value.and_then(|value| answer::read(value, read));
        if matches!(page, Err(BackendError::Broken(_))) {
            // With it goes the rest of an answer that is too late.
            let mut open = self.0.open.lock().await;
            if open.0 == number {
                open.1 = None;
            }
        }
        page
    }

    /// Returns the connection and its number, and opens it if it is not open.
    ///
    /// # Errors
    ///
    /// Returns [`BackendError::Unserved`] if Redis was started again: to read a history there would begin it again.
    async fn line(&self) -> Result<(u64, Line), BackendError> {
        let mut open = self.0.open.lock().await;
        if let (number, Some(line)) = &*open {
            return Ok((*number, line.clone()));
        }
        let Shared {
            url,
            master,
            loaded,
            ..
        } = &*self.0;
        let opened = async {
            let info = url.redis_at(&master.address);
            let mut connection = connect_to(info, AsyncConnectionConfig::new()).await?;
            let process = topology::process_of(&mut connection).await?;
            Ok((connection, process))
        };
        let (connection, process) = opened.await.map_err(|error: ConnectError| {
            BackendError::Broken(format!("connecting to read histories: {error}"))
        })?;
        if process != master.process {
            return Err(BackendError::Unserved("Redis was started again".into()));
        }
        let line = Line::new(connection, loaded);
        *open = (open.0 + 1, Some(line.clone()));
        Ok((open.0, line))
    }
}
