//! Writing to the state file beside the session: what comes while a write is under way is written with the next one.

use std::future::{Future, pending, ready};
use std::io;
use std::pin::Pin;

use tokio::task::spawn_blocking;

use crate::journal::Record;
use crate::state_file::{NotWritten, StateFile};

type Write = Pin<Box<dyn Future<Output = (Option<StateFile>, Result<(), NotWritten>)> + Send>>;

/// Keeps lines on disk, or only says so.
pub(crate) struct Keeper {
    storage: Storage,
    lines: Vec<u8>,
    flush: bool,
    write: Option<Write>,
}

enum Storage {
    /// Nothing outlives the process.
    Memory,
    /// None while it is written to.
    File(Option<StateFile>),
}

impl Keeper {
    pub(crate) fn new(file: Option<StateFile>) -> Self {
        let storage = file.map_or(Storage::Memory, |file| Storage::File(Some(file)));
        Self { storage, lines: Vec::new(), flush: false, write: None }
    }

    /// A record for the next write. `flush`: a promise depends on it.
    pub(crate) fn put(&mut self, record: &Record<'_>, flush: bool) {
        if matches!(self.storage, Storage::File(_)) {
            record.write(&mut self.lines);
        }
        self.flush |= flush;
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.write.is_some()
    }

    /// Whether there is something for the next write.
    pub(crate) fn has_lines(&self) -> bool {
        !self.lines.is_empty() || self.flush
    }

    /// Writes what there is; to be called when nothing is being written. `whole` makes a file that says all of it.
    pub(crate) fn begin(&mut self, whole: impl FnOnce() -> Vec<u8>) {
        let (lines, flush) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.flush));
        let Storage::File(file) = &mut self.storage else {
            self.write = Some(Box::pin(ready((None, Ok(())))));
            return;
        };
        let Some(mut file) = file.take() else {
            self.write = Some(Box::pin(ready((None, Err(gone(io::ErrorKind::BrokenPipe.into()))))));
            return;
        };
        let anew = file.wants_rewriting().then(whole);
        let writing = spawn_blocking(move || {
            let written = match anew {
                Some(all) => file.rewrite(&all).or_else(|error| file.go_on(error, &lines, flush)),
                None => file.append(&lines, flush),
            };
            (file, written)
        });
        self.write = Some(Box::pin(async move {
            match writing.await {
                Ok((file, written)) => (Some(file), written),
                Err(error) => (None, Err(gone(io::Error::other(error)))),
            }
        }));
    }

    /// The end of the write under way, if there is one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<(), NotWritten> {
        let Some(write) = &mut self.write else { return pending().await };
        let (file, written) = write.await;
        self.write = None;
        if let Storage::File(idle) = &mut self.storage {
            *idle = file;
        }
        written
    }
}

/// Nobody knows what is in a file that a write did not give back.
fn gone(error: io::Error) -> NotWritten {
    NotWritten { error, left: true }
}
