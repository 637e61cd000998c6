//! Whether a store is the one that was left here, or a copy that was put back or moved: told by what
//! stands in the database, in a file beside it, and by the two files themselves.
//!
//! Both hold how often the store was opened, the database's inode and how much was written. The one
//! beside it is behind the database or equal, whatever ends the process: it takes over only what is
//! synced. So one that is ahead has another database beside it than its own. Reading and writing
//! them is left to `witness.rs`, what follows to `schema.rs`.

use std::fmt;

use twox_hash::XxHash3_64;

/// What stands in the database; all zero until it was opened once with a witness beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// How often it was opened.
    pub(crate) starts: u64,
    /// The inode of its file.
    pub(crate) inode: u64,
    /// When the witness was last changed (its ctime), from an orderly end to the next start: nobody
    /// writes to it in between. Else it is not known: a power cut may keep its time without its
    /// bytes, or these without that.
    pub(crate) put_away: Option<i64>,
}

/// What stands beside the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) starts: u64,
    pub(crate) inode: u64,
    /// How much was written, of what is synced ([`Counters::written`](crate::plan::Counters)).
    pub(crate) written: u64,
}

/// What is found beside the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// A file that is no witness.
    Unreadable,
    /// A witness, and when it was last changed.
    Witness(Witness, i64),
}

/// Which store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It never had a witness.
    New,
    /// The one that was left here.
    Same,
    /// Another one.
    Restored(Restored),
}

/// By what a store was told to be a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// There is no witness beside it, or what is there cannot be read.
    Alone,
    /// The witness knows of more than the store, or of another start.
    OtherTime,
    /// The database is another file than it was.
    Moved,
    /// The witness was written to, or put back, since the store was put away.
    Changed,
    /// What the database itself holds of it is damaged: nobody can tell.
    Damaged,
}

/// Which store it is whose database holds this, with so much written and this inode.
///
/// What a copy elsewhere cannot have kept, the inode and the time, is looked at last: so a copy that
/// is as it was but for that is called moved.
pub(crate) fn judge(place: &Place, written: u64, inode: u64, beside: Beside) -> Verdict {
    let (witness, changed) = match beside {
        Beside::Nothing if place.starts == 0 => return Verdict::New,
        Beside::Nothing | Beside::Unreadable => return Verdict::Restored(Restored::Alone),
        Beside::Witness(witness, changed) => (witness, changed),
    };
    // A start is noted in the store before it is noted beside it.
    let by_a_start = place.starts.checked_sub(witness.starts);
    if !matches!(by_a_start, Some(0 | 1)) || witness.written > written {
        return Verdict::Restored(Restored::OtherTime);
    }
    let moved = |starts, known| starts > 0 && known != inode;
    if moved(place.starts, place.inode) || moved(witness.starts, witness.inode) {
        return Verdict::Restored(Restored::Moved);
    }
    if place.put_away.is_some_and(|known| known != changed) {
        return Verdict::Restored(Restored::Changed);
    }
    Verdict::Same
}

impl Place {
    /// What the database is to hold from this start on. A start that was cut off before its witness
    /// was written is the same start once more: else many of them would look like another time.
    pub(crate) fn next(&self, verdict: Verdict, beside: Beside, inode: u64) -> Place {
        let noted = match beside {
            Beside::Witness(witness, _) => witness.starts,
            Beside::Nothing | Beside::Unreadable => 0,
        };
        let last = match verdict {
            Verdict::New | Verdict::Same => noted,
            Verdict::Restored(_) => noted.max(self.starts),
        };
        Place { starts: last.saturating_add(1), inode, put_away: None }
    }
}

impl Witness {
    /// What stands beside a store that was opened so and has written so much.
    pub(crate) fn of(place: &Place, written: u64) -> Witness {
        Witness { starts: place.starts, inode: place.inode, written }
    }

    /// Within one sector, and always as long: so it is written whole, or not at all.
    pub(crate) fn encode(&self) -> String {
        let Witness { starts, inode, written } = self;
        let text = format!("starts {starts:020} inode {inode:020} written {written:020}");
        let sum = XxHash3_64::oneshot(text.as_bytes());
        format!("{text} {sum:016x}\n")
    }

    pub(crate) fn decode(text: &str) -> Option<Witness> {
        let mut words = text.split(' ').skip(1).step_by(2).map(|word| word.parse().ok());
        let mut next = || words.next().flatten();
        let witness = Witness { starts: next()?, inode: next()?, written: next()? };
        (witness.encode() == text).then_some(witness)
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Restored::Alone => "the file `witness` is not beside it, or cannot be read",
            Restored::OtherTime => "the file `witness` is of another time than the database",
            Restored::Moved => "the database is another file than it was",
            Restored::Changed => "the file `witness` was changed since the server stopped",
            Restored::Damaged => "what the database holds of it is damaged",
        })
    }
}

#[cfg(test)]
mod tests;
