//! The outbox: messages that were written, and edits of the contact list, that no server has taken yet, on
//! the disk.
//!
//! A file for each, in the order in which they were written, in a folder beside the profile. What is in
//! them is `kept`'s; sending them is left to `sending`, and `editing` for edits. A message gets its id at
//! its first try and keeps it as soon as a byte of it may have left, so that however often it is tried it
//! comes once.

mod editing;
mod kept;
mod sending;
mod shown;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use impp_protocol::{Address, Timestamp};

use crate::profile::write_private;
pub use kept::{Edit, Kept, State, Written};
pub use sending::Verdict;
pub use shown::Shown;

/// Most that waits: messages and edits. Who writes more is told.
pub const OUTBOX_ITEMS_MAX: usize = 1000;
/// Most bytes of a file that is read: a message, and why it failed.
const FILE_BYTES_MAX: u64 = 128 * 1024;
/// How the files end, whatever waits in them: once it was messages alone.
const EXTENSION: &str = "message";
/// How the files begin that are written before they have a message's name.
const UNNAMED: &str = "new-";
/// After so long nobody is still writing such a file: who was has been killed.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// What a message or edit of the outbox is known by for ever: numbers come again when all is sent.
pub type Token = [u8; 16];

/// Why the outbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The system says no.
    #[error("outbox {path:?}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// [`OUTBOX_ITEMS_MAX`] wait.
    #[error("{OUTBOX_ITEMS_MAX} wait in the outbox, and that is the most")]
    Full,
    /// Another program sends it.
    #[error("another program is sending the outbox")]
    Locked,
    /// Nothing has that number.
    #[error("nothing in the outbox has the number {0}")]
    NotFound(u64),
    /// It was tried, and what became of it can still be asked for.
    #[error("{0} may have been taken: sent as it is, it is never done twice (impp outbox send)")]
    Asked(u64),
}

/// The outbox of a profile.
#[derive(Clone, Debug)]
pub struct Outbox {
    folder: PathBuf,
}

/// A message or edit of the outbox.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number: those written earlier have lower ones.
    pub number: u64,
    /// What is kept; in words what is wrong with a file that cannot be read. The others are none the
    /// worse.
    pub kept: Result<Kept, String>,
}

impl Outbox {
    /// The outbox of the profile in that file. Nothing is made until something waits.
    pub fn beside(profile: &Path) -> Outbox {
        let mut folder = profile.as_os_str().to_owned();
        folder.push(".outbox");
        Outbox { folder: folder.into() }
    }

    /// Keeps a message or edit of that account's; on the disk when it returns. It was not tried: its id, if it
    /// has one, is not looked at.
    ///
    /// # Errors
    /// [`OutboxError::Full`], [`OutboxError::Io`]: it is not kept then.
    pub fn put(
        &self,
        writer: &Address,
        written: impl Into<Written>,
    ) -> Result<(u64, Token), OutboxError> {
        let fail = |error| self.io(&self.folder, error);
        self.make().map_err(fail)?;
        let numbers = self.numbers()?;
        if numbers.len() >= OUTBOX_ITEMS_MAX {
            return Err(OutboxError::Full);
        }
        let (token, writer) = (self.random()?, writer.clone());
        let written = written.into().untried();
        let kept = Kept { token, writer, written, state: State::New };
        let beside = self.written(&kept.encode())?;
        let mut number = numbers.last().map_or(1, |last| last + 1);
        // Another program may take the same number at the same time.
        let linked = loop {
            match fs::hard_link(&beside, self.path(number)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                linked => break linked,
            }
        };
        drop(fs::remove_file(&beside));
        // Where it was not linked, what has this number is another's.
        linked.map_err(fail)?;
        if let Err(error) = self.sync() {
            // It may not be there, so it must not be.
            drop(fs::remove_file(self.path(number)));
            return Err(fail(error));
        }
        Ok((number, token))
    }

    /// All that wait or have failed, in the order in which they were written.
    ///
    /// # Errors
    /// [`OutboxError::Io`] if the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, OutboxError> {
        let entry = |number| self.read(number).transpose().map(|kept| Entry { number, kept });
        Ok(self.numbers()?.into_iter().filter_map(entry).collect())
    }

    /// The right to change what waits, which one program has at a time.
    ///
    /// # Errors
    /// [`OutboxError::Locked`], [`OutboxError::Io`].
    pub fn lock(&self) -> Result<Locked<'_>, OutboxError> {
        let fail = |error| self.io(&self.folder, error);
        self.make().map_err(fail)?;
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.folder.join("lock")).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {
                self.sweep(SystemTime::now());
                Ok(Locked { outbox: self, _file: file })
            }
            Err(TryLockError::WouldBlock) => Err(OutboxError::Locked),
            Err(TryLockError::Error(error)) => Err(fail(error)),
        }
    }

    /// Takes away what programs that were killed have left half written. What cannot be is tried the next
    /// time.
    fn sweep(&self, now: SystemTime) {
        for file in fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok) {
            let unnamed = file.file_name().to_string_lossy().starts_with(UNNAMED);
            let written = || file.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = |written| now.duration_since(written).unwrap_or_default();
            if unnamed && written().is_some_and(|written| age(written) > ABANDONED_AFTER) {
                drop(fs::remove_file(file.path()));
            }
        }
    }

    fn make(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => {
                made?;
                let beside = self.folder.parent().filter(|parent| !parent.as_os_str().is_empty());
                File::open(beside.unwrap_or(Path::new(".")))?.sync_all()
            }
        }
    }

    fn random(&self) -> Result<Token, OutboxError> {
        let fail = |text: String| self.io(&self.folder, io::Error::other(text));
        crate::profile::new_device().map(|random| random.0).map_err(|error| fail(error.text))
    }

    /// The numbers of what is there, rising.
    fn numbers(&self) -> Result<Vec<u64>, OutboxError> {
        let files = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(|error| self.io(&self.folder, error))?,
        };
        let number = |file: fs::DirEntry| {
            let path = file.path();
            let ours = path.extension().is_some_and(|extension| extension == EXTENSION);
            ours.then(|| path.file_stem()?.to_str()?.parse().ok()).flatten()
        };
        let mut numbers: Vec<u64> = files.filter_map(Result::ok).filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// What is kept under a number; none if there is nothing any more.
    fn read(&self, number: u64) -> Result<Option<Kept>, String> {
        let mut bytes = Vec::new();
        let read = File::open(self.path(number))
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
            Ok(_) => Kept::decode(bytes.into()).map(Some).map_err(|error| error.to_string()),
        }
    }

    /// A file with that in it that has no name of its own yet.
    fn written(&self, bytes: &[u8]) -> Result<PathBuf, OutboxError> {
        let random = u128::from_be_bytes(self.random()?);
        let path = self.folder.join(format!("{UNNAMED}{random:032x}"));
        let written = write_private(&path, bytes);
        if written.is_err() {
            drop(fs::remove_file(&path));
        }
        written.map_err(|error| self.io(&path, error))?;
        Ok(path)
    }

    /// That is in the file of that name from now on, on the disk when it returns.
    fn put_in_place(&self, path: &Path, bytes: &[u8]) -> Result<(), OutboxError> {
        let beside = self.written(bytes)?;
        let renamed = fs::rename(&beside, path).and_then(|()| self.sync());
        renamed.map_err(|error| self.io(path, error))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:012}.{EXTENSION}"))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn io(&self, path: &Path, error: io::Error) -> OutboxError {
        OutboxError::Io { path: path.to_owned(), error }
    }
}

/// The outbox, to be changed.
#[derive(Debug)]
pub struct Locked<'a> {
    outbox: &'a Outbox,
    _file: File,
}

impl Locked<'_> {
    /// Keeps something else under a number.
    fn replace(&self, number: u64, kept: &Kept) -> Result<(), OutboxError> {
        self.outbox.put_in_place(&self.outbox.path(number), &kept.encode())
    }

    /// Takes a message or edit out: it was sent, or is not wanted any more.
    ///
    /// # Errors
    /// [`OutboxError::NotFound`], [`OutboxError::Io`].
    pub fn remove(&self, number: u64) -> Result<(), OutboxError> {
        let path = self.outbox.path(number);
        match fs::remove_file(&path).and_then(|()| self.outbox.sync()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(OutboxError::NotFound(number))
            }
            removed => removed.map_err(|error| self.outbox.io(&path, error)),
        }
    }

    /// Lets a message or edit be sent as a new one: one that failed, or, at that time, of which nobody can know
    /// any more what became of it, which may so come twice. An edit is made on the list as it was shown since.
    ///
    /// # Errors
    /// [`OutboxError::NotFound`], [`OutboxError::Asked`], [`OutboxError::Io`].
    pub fn again(&self, number: u64, now: Timestamp) -> Result<(), OutboxError> {
        let kept = self.outbox.read(number);
        let kept =
            kept.map_err(|text| self.outbox.io(&self.outbox.path(number), io::Error::other(text)))?;
        let kept = kept.ok_or(OutboxError::NotFound(number))?;
        if kept.state == State::Tried && !kept.is_unknown(now) {
            return Err(OutboxError::Asked(number));
        }
        let shown = self.outbox.shown(&kept.writer)?;
        let written = kept.written.untried().made_on(shown.as_ref());
        self.replace(number, &Kept { written, state: State::New, ..kept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use impp_protocol::command::Message;
    use impp_protocol::{Code, Error, MessageId};

    fn message(text: &str) -> Message {
        let to = "bob@a.example".parse().unwrap();
        Message::new(MessageId([7; 16]), to, Bytes::copy_from_slice(text.as_bytes()))
    }

    fn alice() -> Address {
        "alice@a.example".parse().unwrap()
    }

    fn bodies(outbox: &Outbox) -> Vec<Result<String, ()>> {
        let body = |kept: Kept| match kept.written {
            Written::Message(message) => String::from_utf8(message.body.to_vec()).unwrap(),
            Written::Edit(edit) => panic!("{edit:?}"),
        };
        outbox.entries().unwrap().into_iter().map(|e| e.kept.map(body).map_err(drop)).collect()
    }

    /// What is put is there in its order, whoever wrote it, and has no id before it is tried.
    #[test]
    fn what_is_put_waits_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        assert_eq!(outbox.entries().unwrap().len(), 0);
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let outbox = outbox.clone();
                std::thread::spawn(move || {
                    [(); 5].map(|()| outbox.put(&alice(), message("x")).unwrap().0)
                })
            })
            .collect();
        let mut numbers: Vec<u64> =
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=40).collect::<Vec<u64>>());
        let entry = outbox.entries().unwrap().remove(0).kept.unwrap();
        let new = Written::from(message("x")).untried();
        assert_eq!((entry.writer, entry.written, entry.state), (alice(), new, State::New));
    }

    /// What was half written when its program was killed is none; a file that cannot be read is named,
    /// and the others are sent.
    #[test]
    fn what_is_broken_harms_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        for text in ["one", "two", "three"] {
            outbox.put(&alice(), message(text)).unwrap();
        }
        fs::write(outbox.folder.join("new-1"), b"half").unwrap();
        fs::write(outbox.path(2), b"\x03\x7fx").unwrap();
        assert_eq!(bodies(&outbox), [Ok("one".to_owned()), Err(()), Ok("three".to_owned())]);
        // It goes when nobody can be writing it any more, and nothing else does.
        let half = || outbox.folder.join("new-1").exists();
        drop(outbox.lock().unwrap());
        assert!(half());
        outbox.sweep(SystemTime::now() + 2 * ABANDONED_AFTER);
        assert!(!half());
        assert_eq!(bodies(&outbox).len(), 3);
    }

    /// One program at a time changes what waits; what it says stays.
    #[test]
    fn what_was_said_of_a_message_stays() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        outbox.put(&alice(), message("one")).unwrap();
        let locked = outbox.lock().unwrap();
        assert!(matches!(outbox.lock(), Err(OutboxError::Locked)));
        for state in [State::Tried, State::Failed(Error::new(Code::Refused, "no"))] {
            let written = message("one").into();
            let kept = Kept { token: [1; 16], writer: alice(), written, state };
            locked.replace(1, &kept).unwrap();
            assert_eq!(outbox.entries().unwrap().remove(0).kept.unwrap(), kept);
        }
        let now = Timestamp::from_millis(0);
        locked.again(1, now).unwrap();
        assert_eq!(outbox.entries().unwrap().remove(0).kept.unwrap().state, State::New);
        let made = Timestamp::from_millis(1_700_000_000_000);
        let written = Message { id: MessageId::new(made, [1; 10]), ..message("one") }.into();
        let tried = Kept { token: [1; 16], writer: alice(), written, state: State::Tried };
        locked.replace(1, &tried).unwrap();
        assert!(matches!(locked.again(1, made), Err(OutboxError::Asked(1))));
        locked.remove(1).unwrap();
        assert!(matches!(locked.remove(1), Err(OutboxError::NotFound(1))));
        assert!(matches!(locked.again(1, now), Err(OutboxError::NotFound(1))));
        drop(locked);
        outbox.lock().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn it_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        outbox.put(&alice(), message("secret")).unwrap();
        outbox.lock().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&outbox.folder), 0o700);
        assert_eq!((mode(&outbox.path(1)), mode(&outbox.folder.join("lock"))), (0o600, 0o600));
    }

    #[test]
    fn more_than_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        outbox.make().unwrap();
        for number in 1..OUTBOX_ITEMS_MAX as u64 {
            fs::write(outbox.path(number), b"").unwrap();
        }
        outbox.put(&alice(), message("last")).unwrap();
        assert!(matches!(outbox.put(&alice(), message("more")), Err(OutboxError::Full)));
    }
}
