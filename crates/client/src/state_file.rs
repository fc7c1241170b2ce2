//! The state file on disk. Everything here blocks.
//!
//! It is always the file itself that is meant: a link to it stays a link.

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
    /// An append failed: what it was to add is in no line, and the file is to be written anew.
    broken: bool,
    /// Why it was left as it is when it was opened.
    not_rewritten: Option<io::Error>,
    /// [`File::sync_data`]; a test has disks that fail.
    flush: fn(&File) -> io::Result<()>,
    /// Not the file itself, which is replaced.
    _lock: Lock,
}

/// Nobody else has the state file while this lives. Given up by hand: a program that is just being started has the file open
/// for a moment, too.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it does the same, once nobody has it open.
        let _ = self.0.unlock();
    }
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
#[error("the state file cannot be written")]
pub(crate) struct NotWritten {
    #[source]
    pub(crate) error: io::Error,
    /// It may be in the file all the same, until that is written anew.
    pub(crate) left: bool,
}

impl NotWritten {
    fn at_all(error: io::Error) -> Self {
        Self { error, left: false }
    }
}

impl StateFile {
    /// Opens or creates the file of `user`, and reads it.
    pub(crate) fn open(path: &Path, user: &str) -> Result<(Self, Kept), StateError> {
        let failed = |source| StateError::Io { path: path.to_owned(), source: Arc::new(source) };
        let real = locate(path)?;
        let lock = private().create(true).truncate(false).open(beside(&real, "lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateError::InUse { path: path.to_owned() },
            TryLockError::Error(error) => failed(error),
        })?;
        let lock = Lock(lock);
        let mut file = private().read(true).create(true).truncate(false).open(&real).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let (kept, whole) = Kept::read(&bytes, user).map_err(|error| not_read(path, error))?;
        let mut opened = Self {
            path: real,
            file,
            len: whole as u64,
            rewritten: 0,
            broken: false,
            not_rewritten: None,
            flush: File::sync_data,
            _lock: lock,
        };
        // Without what a crash has torn, and what is settled.
        let all = journal::whole(user, kept.queued.iter(), kept.place.as_ref(), kept.session.as_ref());
        match opened.rewrite(&all) {
            Ok(()) => {}
            Err(NotWritten { error, left: false }) if has_no_room(&error) => {
                opened.stay().map_err(failed)?;
                opened.not_rewritten = Some(error);
            }
            Err(NotWritten { error, .. }) => return Err(failed(error)),
        }
        Ok((opened, kept))
    }

    /// Why it was left as it is when it was opened, once: there was no room for another. It says the same.
    pub(crate) fn not_rewritten(&mut self) -> Option<io::Error> {
        self.not_rewritten.take()
    }

    /// Whether to call [`StateFile::rewrite`] instead of [`StateFile::append`].
    pub(crate) fn wants_rewriting(&self) -> bool {
        self.broken || self.len > self.rewritten * 2 + WORTH_REWRITING
    }

    /// Appends lines. `flush`: they are on disk when this returns. If not all of that worked, none of them is in the file, or
    /// the error says that they may be.
    pub(crate) fn append(&mut self, lines: &[u8], flush: bool) -> Result<(), NotWritten> {
        let written = self.file.write_all(lines).and_then(|()| {
            if flush {
                (self.flush)(&self.file)?;
            }
            Ok(())
        });
        if let Err(error) = written {
            self.broken = true;
            return Err(NotWritten { error, left: self.cut().is_err() });
        }
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Replaces all that the file says, at once and on disk. With an error it says what it has said, or the error says that
    /// it may not.
    pub(crate) fn rewrite(&mut self, all: &[u8]) -> Result<(), NotWritten> {
        let next = beside(&self.path, "new");
        let replaced = write_new(&next, all).and_then(|file| fs::rename(&next, &self.path).map(|()| file));
        let file = replaced.map_err(|error| {
            // It takes room, and nobody reads it.
            let _ = fs::remove_file(&next);
            NotWritten::at_all(error)
        })?;
        let len = all.len() as u64;
        (self.file, self.len, self.rewritten) = (file, len, len);
        // Until the name is on disk, too, the next start may find either.
        self.broken = true;
        self.flush_name().map_err(|error| NotWritten { error, left: true })?;
        (self.broken, self.flush) = (false, File::sync_data);
        Ok(())
    }

    /// After a [`rewrite`](Self::rewrite) that found no room for a second file: appends, if the file is as it should be.
    pub(crate) fn go_on(&mut self, error: NotWritten, lines: &[u8], flush: bool) -> Result<(), NotWritten> {
        if self.broken || !has_no_room(&error.error) {
            return Err(error);
        }
        self.rewritten = self.len;
        self.append(lines, flush)
    }

    fn flush_name(&self) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(directory) = self.path.parent() {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    /// Back to what is whole.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        // If this fails too, only a crash of the whole machine could bring back what was cut off.
        let _ = (self.flush)(&self.file);
        Ok(())
    }

    /// Goes on with the file as it is, without what a crash has torn.
    fn stay(&mut self) -> io::Result<()> {
        self.cut()?;
        self.rewritten = self.len;
        // A new one does not even say whose it is.
        self.broken = self.len == 0;
        Ok(())
    }
}

/// The file itself, behind all links: it is replaced by another of its name, and locked under that. It is there afterwards.
fn locate(path: &Path) -> Result<PathBuf, StateError> {
    let failed = |source| StateError::Io { path: path.to_owned(), source: Arc::new(source) };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    match fs::metadata(path) {
        // To open a pipe would wait for whoever reads it.
        Ok(found) if !found.is_file() => return Err(StateError::NotAFile { path: path.to_owned() }),
        Ok(_) => {}
        // Where a link leads to nothing yet, that is what it leads to.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            private().create(true).truncate(false).open(path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    fs::canonicalize(path).map_err(failed)
}

/// A file of its own with all of this, on disk, at its end.
fn write_new(path: &Path, all: &[u8]) -> io::Result<File> {
    // What an earlier start has left there may be anything: a link to another file, or one that others can read.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private().create_new(true).open(path)?;
    file.write_all(all)?;
    file.sync_all()?;
    Ok(file)
}

/// A file that is there can be read and gone on with.
fn has_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
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
    /// The disk takes lines and cannot keep them, until the file is written anew.
    pub(crate) fn fill_disk(&mut self) {
        self.flush = |_| Err(io::ErrorKind::StorageFull.into());
    }

    /// It takes nothing, and gives nothing back.
    pub(crate) fn break_disk(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use kurir_protocol::relay::Resume;

    use super::*;
    use crate::journal::Record;
    use crate::message::MessageId;
    use crate::tracking::Queued;

    /// Names the directory of a test's own child.
    const CHILD: &str = "KURIR_CLIENT_STATE_FILE_TEST";

    /// Runs this test again in a process that may write no file beyond so many blocks of 512 bytes, where [`CHILD`] says in
    /// which directory: a full disk that needs no root.
    fn with_full_disk(test: &str, blocks: u32, prepare: impl FnOnce(&Path), judge: impl FnOnce(&Path)) {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact {test} --nocapture");
        let mut child = Command::new("sh");
        child.args(["-c", &limited]).arg(std::env::current_exe().unwrap()).env(CHILD, directory.path());
        let ended = child.output().unwrap();
        assert!(ended.status.success(), "{ended:#?}");
        judge(directory.path());
    }

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

    /// Where a line of two fits, neither is kept: the sender of the first is told so, too.
    #[test]
    fn what_was_written_and_not_kept_is_cut_off() {
        let test = "state_file::tests::what_was_written_and_not_kept_is_cut_off";
        let name = |directory: &Path| directory.join("esa.jsonl");
        if let Some(directory) = std::env::var_os(CHILD) {
            let (mut file, _) = StateFile::open(&name(Path::new(&directory)), "esa").unwrap();
            let mut number = 1;
            while file.len + line(1).len() as u64 <= 512 {
                file.append(&line(number), true).unwrap();
                number += 1;
            }
            let filled = file.len;
            let error = file.append(&[line(number), line(number)].concat(), true).unwrap_err();
            assert_eq!((error.error.kind(), error.left), (io::ErrorKind::FileTooLarge, false));
            assert_eq!(fs::metadata(name(Path::new(&directory))).unwrap().len(), filled);
            return;
        }
        let judge = |directory: &Path| {
            let (_file, kept) = StateFile::open(&name(directory), "esa").unwrap();
            let count = kept.queued.len() as u128;
            assert!(count > 2, "{kept:?}");
            assert_eq!(numbers(&kept), (1..=count).map(MessageId::numbered).collect::<Vec<_>>());
        };
        with_full_disk(test, 1, |_| {}, judge);
    }

    #[test]
    fn what_was_not_flushed_is_cut_off_or_said_to_be_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("esa.jsonl");
        let (mut file, _) = StateFile::open(&path, "esa").unwrap();
        file.append(&line(1), true).unwrap();
        file.fill_disk();
        let error = file.append(&line(2), true).unwrap_err();
        assert_eq!((error.error.kind(), error.left), (io::ErrorKind::StorageFull, false));
        assert!(file.wants_rewriting());
        file.break_disk();
        assert!(file.append(&line(3), true).unwrap_err().left);
        drop(file);
        let (_file, kept) = StateFile::open(&path, "esa").unwrap();
        assert_eq!(numbers(&kept), [MessageId::numbered(1)]);
    }

    #[test]
    fn a_full_disk_leaves_the_file_as_it_is() {
        let test = "state_file::tests::a_full_disk_leaves_the_file_as_it_is";
        if let Some(directory) = std::env::var_os(CHILD) {
            let directory = Path::new(&directory);
            let (mut file, kept) = StateFile::open(&directory.join("esa.jsonl"), "esa").unwrap();
            assert_eq!(numbers(&kept), [1, 2].map(MessageId::numbered));
            assert_eq!(file.not_rewritten().unwrap().kind(), io::ErrorKind::FileTooLarge);
            assert!(!file.wants_rewriting(), "it goes on");
            let no_room = file.rewrite(b"x").unwrap_err();
            assert_eq!(file.go_on(no_room, b"", true).map_err(|error| error.error.kind()), Ok(()));
            assert!(!file.append(&line(4), true).unwrap_err().left);
            // A new one cannot even say whose it is, so that comes first once there is room.
            let (file, kept) = StateFile::open(&directory.join("new.jsonl"), "esa").unwrap();
            assert_eq!((kept, file.wants_rewriting()), (Kept::default(), true));
            return;
        }
        let prepare = |directory: &Path| {
            let (mut file, _) = StateFile::open(&directory.join("esa.jsonl"), "esa").unwrap();
            file.append(&[line(1), line(2), line(3)[..9].to_vec()].concat(), true).unwrap();
        };
        let judge = |directory: &Path| {
            let (mut file, kept) = StateFile::open(&directory.join("esa.jsonl"), "esa").unwrap();
            assert_eq!(numbers(&kept), [1, 2].map(MessageId::numbered));
            assert!(file.not_rewritten().is_none());
            let mut names: Vec<_> =
                fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["esa.jsonl", "esa.jsonl.lock", "new.jsonl", "new.jsonl.lock"]);
        };
        with_full_disk(test, 0, prepare, judge);
    }

    #[test]
    fn a_link_stays_a_link_and_its_file_has_one_owner() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link, other] =
            ["esa.jsonl", "link.jsonl", "other.jsonl"].map(|name| directory.path().join(name));
        symlink("esa.jsonl", &link).unwrap();
        symlink(&link, &other).unwrap();
        // It leads to nothing yet.
        let (mut opened, _) = StateFile::open(&link, "esa").unwrap();
        opened.append(&line(1), true).unwrap();
        assert!(matches!(StateFile::open(&other, "esa"), Err(StateError::InUse { path }) if path == other));
        drop(opened);
        for name in [&other, &file] {
            let (_file, kept) = StateFile::open(name, "esa").unwrap();
            assert_eq!(numbers(&kept), [MessageId::numbered(1)]);
        }
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("esa.jsonl"));
    }

    #[test]
    fn what_is_no_file_is_refused_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link.jsonl");
        symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), directory.path(), &link] {
            let error = StateFile::open(path, "esa").unwrap_err();
            assert!(matches!(error, StateError::NotAFile { .. }), "{error:?}");
            assert_eq!(error.to_string(), format!("{} is not a regular file", path.display()));
        }
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
