//! The state file on disk. Everything here blocks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::StateError;
use crate::journal::{self, Kept, NotRead};

/// So many bytes that say nothing any more are worth a new file.
const WORTH_REWRITING: u64 = 256 * 1024;

/// An open state file, which no other process has.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    file: File,
    /// Of what is whole.
    len: u64,
    /// Its length when it was written anew.
    rewritten: u64,
    /// An append failed: nothing is known of what is behind `len`.
    broken: bool,
    /// Not the file itself, which is replaced.
    _lock: File,
}

impl StateFile {
    /// Opens or creates the file of `user`, and reads it.
    pub(crate) fn open(path: &Path, user: &str) -> Result<(Self, Kept), StateError> {
        let failed = |source| StateError::Io { path: path.to_owned(), source: Arc::new(source) };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let lock = private().create(true).truncate(false).open(beside(path, "lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateError::InUse { path: path.to_owned() },
            TryLockError::Error(error) => failed(error),
        })?;
        let mut file = private().read(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let (kept, whole) = Kept::read(&bytes, user).map_err(|error| not_read(path, error))?;
        let len = whole as u64;
        let mut opened = Self { path: path.to_owned(), file, len, rewritten: 0, broken: false, _lock: lock };
        // Without what a crash has torn, and what is settled.
        let all = journal::whole(user, kept.queued.iter(), kept.place.as_ref(), kept.session.as_ref());
        opened.rewrite(&all).map_err(failed)?;
        Ok((opened, kept))
    }

    /// Whether to call [`StateFile::rewrite`] instead of [`StateFile::append`].
    pub(crate) fn wants_rewriting(&self) -> bool {
        self.broken || self.len > self.rewritten * 2 + WORTH_REWRITING
    }

    /// Appends lines. `flush`: they are on disk when this returns.
    pub(crate) fn append(&mut self, lines: &[u8], flush: bool) -> io::Result<()> {
        self.broken = true;
        self.file.write_all(lines)?;
        if flush {
            self.file.sync_data()?;
        }
        self.broken = false;
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Replaces all that the file says, at once and on disk.
    pub(crate) fn rewrite(&mut self, all: &[u8]) -> io::Result<()> {
        let next = beside(&self.path, "new");
        let mut file = private().create(true).truncate(true).open(&next)?;
        file.write_all(all)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        #[cfg(unix)]
        if let Some(directory) = self.path.parent() {
            // The name, too.
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            File::open(directory)?.sync_all()?;
        }
        file.seek(SeekFrom::End(0))?;
        let len = all.len() as u64;
        (self.file, self.len, self.rewritten, self.broken) = (file, len, len, false);
        Ok(())
    }
}

/// Messages are in it.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

fn not_read(path: &Path, error: NotRead) -> StateError {
    let path = path.to_owned();
    match error {
        NotRead::Foreign => StateError::Foreign { path },
        NotRead::Version(version) => StateError::Version { path, version },
        NotRead::OtherUser(user) => StateError::OtherUser { path, user },
        NotRead::Line(line, source) => StateError::Damaged { path, line, source: Arc::new(source) },
    }
}

#[cfg(test)]
impl StateFile {
    /// The disk is full from now on, until the file is written anew.
    pub(crate) fn fill_disk(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    }
}

#[cfg(test)]
mod tests {
    use kurir_protocol::relay::Resume;

    use super::*;
    use crate::journal::Record;
    use crate::message::MessageId;
    use crate::tracking::Queued;

    fn line(number: u128) -> Vec<u8> {
        let queued = Queued { id: MessageId::numbered(number), since_ms: 7, stanza: "{}".into() };
        let mut line = Vec::new();
        Record::queued(&queued).write(&mut line);
        line
    }

    fn numbers(kept: &Kept) -> Vec<MessageId> {
        kept.queued.iter().map(|queued| queued.id).collect()
    }

    #[test]
    fn a_file_says_what_was_appended_whatever_was_torn() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/esa.jsonl");
        let (mut file, kept) = StateFile::open(&path, "esa").unwrap();
        assert_eq!(kept, Kept::default());
        file.append(&line(1), true).unwrap();
        file.append(&line(2), false).unwrap();
        drop(file);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&line(3)[..9]).unwrap();
        let (mut file, kept) = StateFile::open(&path, "esa").unwrap();
        assert_eq!(numbers(&kept), [1, 2].map(MessageId::numbered));
        file.append(&line(4), true).unwrap();
        drop(file);
        let (_file, kept) = StateFile::open(&path, "esa").unwrap();
        assert_eq!(numbers(&kept), [1, 2, 4].map(MessageId::numbered));
    }

    #[test]
    fn a_file_has_one_owner_at_a_time_and_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("esa.jsonl");
        let (mut file, _) = StateFile::open(&path, "esa").unwrap();
        file.rewrite(&journal::whole("esa", [].iter(), Some(&Resume { seq: 1, log: None }), None)).unwrap();
        assert!(matches!(StateFile::open(&path, "esa"), Err(StateError::InUse { .. })));
        drop(file);
        assert!(matches!(StateFile::open(&path, "fajar"), Err(StateError::OtherUser { .. })));
        fs::write(&path, "something else\n").unwrap();
        assert!(matches!(StateFile::open(&path, "esa"), Err(StateError::Foreign { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"something else\n", "left as it is");
    }

    #[test]
    fn what_is_settled_does_not_make_the_file_grow_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("esa.jsonl");
        let (mut file, _) = StateFile::open(&path, "esa").unwrap();
        let mut appended = 0;
        while !file.wants_rewriting() {
            file.append(&line(1), false).unwrap();
            appended += line(1).len() as u64;
        }
        assert!(appended > WORTH_REWRITING);
        file.rewrite(&journal::whole("esa", [].iter(), None, None)).unwrap();
        assert!(!file.wants_rewriting());
        file.append(&line(2), true).unwrap();
        drop(file);
        let (_file, kept) = StateFile::open(&path, "esa").unwrap();
        assert_eq!(numbers(&kept), [MessageId::numbered(2)]);
    }
}
