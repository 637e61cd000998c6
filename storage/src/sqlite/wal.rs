//! The write-ahead log as it lies there, before SQLite reads it. SQLite takes what comes before the
//! first frame that does not fit, and says nothing of what comes behind: that is how a commit that
//! was cut off goes. A commit that was synced and damaged later would go so too, and all after it.
//!
//! They are told apart by what stands behind: no transaction begins before the sync of the one
//! before it, so at most the last one is cut off. The header is synced before them all: one that does
//! not fit was damaged later. Format: <https://sqlite.org/fileformat2.html>, 4.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::home::word;
use crate::StoreError;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The first word of a log; its last bit says in which order the words of sums are read.
const MAGIC: u32 = 0x377f_0682;
const PAGE_BYTES_MAX: usize = 65_536;
/// Of the databases that this program makes.
const PAGE_BYTES: usize = 4096;

/// A sum over all frames so far, as each frame has it.
type Sum = [u32; 2];

/// What is known of the frames read so far.
struct Log {
    big_endian: bool,
    salts: [u8; 8],
    /// The sum that the frame before says it has, and the one that it has.
    before: [Sum; 2],
    state: State,
}

/// Where in the log it is.
enum State {
    /// All has fitted.
    Whole,
    /// A frame has not, the first one with this number; its transaction goes on.
    Broken(u64),
    /// That transaction is over. The frames since the last commit fit each other, or do not.
    Behind(u64, bool),
}

/// Whether the log holds commits that were synced and that SQLite would pass over.
///
/// # Errors
/// [`StoreError::Damaged`] if it does; [`StoreError::Failed`] if it cannot be read.
pub(crate) fn look(path: &Path) -> Result<(), StoreError> {
    let read = || -> io::Result<Option<u64>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        damaged_frame(BufReader::with_capacity(PAGE_BYTES_MAX, file))
    };
    match read() {
        Ok(None) => Ok(()),
        Ok(Some(frame)) => {
            let place = match frame {
                0 => "its header".to_owned(),
                frame => format!("frame {frame}"),
            };
            let path = path.display();
            let what = format!("{path}: {place} is damaged, and whole commits stand behind it");
            Err(StoreError::Damaged { what })
        }
        Err(error) => Err(StoreError::Failed { reason: format!("{}: {error}", path.display()) }),
    }
}

/// How many frames of the log are of this page.
pub(crate) fn frames_of(path: &Path, wanted: u32) -> io::Result<u64> {
    let (mut header, mut head) = ([0; HEADER_BYTES], [0; FRAME_HEADER_BYTES]);
    let file = File::open(path)?;
    if !was_whole(file.read_exact_at(&mut header, 0))? {
        return Ok(0);
    }
    let step = FRAME_HEADER_BYTES as u64 + u64::from(word(&header, 8));
    let (mut frames, mut place) = (0, HEADER_BYTES as u64);
    while was_whole(file.read_exact_at(&mut head, place))? {
        let ours = salts(&head[8..]) == salts(&header[16..]);
        frames += u64::from(ours && word(&head, 0) == wanted);
        place += step;
    }
    Ok(frames)
}

/// The number of the first frame that does not fit (from 1; 0 is the header), if a whole later
/// transaction stands behind it.
fn damaged_frame(mut file: impl Read) -> io::Result<Option<u64>> {
    let mut header = [0; HEADER_BYTES];
    if !was_whole(file.read_exact(&mut header))? {
        return Ok(None);
    }
    let (page, mut logs) = match Log::whole(&header) {
        Some((page, log)) => (page, vec![log]),
        None => (PAGE_BYTES, Vec::new()),
    };
    let mut frame = vec![0; FRAME_HEADER_BYTES + page];
    let mut number = 0;
    while was_whole(file.read_exact(&mut frame))? {
        number += 1;
        if logs.is_empty() {
            logs.extend([false, true].map(|order| Log::unheaded(&header, &frame, order)));
        }
        if let Some(damaged) = logs.iter_mut().find_map(|log| log.take(number, &frame)) {
            return Ok(Some(damaged));
        }
    }
    Ok(None)
}

impl Log {
    /// The log that a header begins, and the size of its pages; none if that header is damaged.
    fn whole(header: &[u8; HEADER_BYTES]) -> Option<(usize, Log)> {
        let (magic, page) = (word(header, 0), word(header, 8) as usize);
        if magic & !1 != MAGIC || page > PAGE_BYTES_MAX || !page.is_power_of_two() || page < 512 {
            return None;
        }
        let log = Log {
            big_endian: magic & 1 == 1,
            salts: salts(&header[16..]),
            before: [[word(header, 24), word(header, 28)]; 2],
            state: State::Whole,
        };
        (sum([0; 2], &header[..24], log.big_endian) == log.before[0]).then_some((page, log))
    }

    /// The log behind a damaged header, of which nothing is believed: its first frame knows the salts
    /// too, and the words are read in one order and the other.
    fn unheaded(header: &[u8; HEADER_BYTES], first: &[u8], big_endian: bool) -> Log {
        let kept = [word(header, 24), word(header, 28)];
        let before = [kept, sum([0; 2], &header[..24], big_endian)];
        Log { big_endian, salts: salts(&first[8..]), before, state: State::Behind(0, true) }
    }

    /// Looks at the next frame: the first damaged one, if this one shows that it is no torn end.
    fn take(&mut self, number: u64, frame: &[u8]) -> Option<u64> {
        let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
        let kept = [word(head, 16), word(head, 20)];
        let ours = salts(&head[8..]) == self.salts;
        let go_on = |before| sum(sum(before, &head[..8], self.big_endian), page, self.big_endian);
        let summed = self.before.map(go_on);
        let (fits, marked) = (ours && summed.contains(&kept), word(head, 4) != 0);
        let commits = ours && marked;
        self.before = [kept, summed[0]];
        match self.state {
            State::Whole if fits => {}
            // Its salts may be what is damaged. Where they are of an earlier log instead, so is its
            // sum, and what comes behind does not go on from that.
            State::Whole if marked => self.state = State::Behind(number, true),
            State::Whole => self.state = State::Broken(number),
            State::Broken(first) if commits => self.state = State::Behind(first, true),
            State::Broken(_) => {}
            State::Behind(first, whole) => {
                let whole = whole && fits;
                if commits && whole {
                    return Some(first);
                }
                // What is left of an earlier log, or of one that was cut off, fits only itself.
                self.state = State::Behind(first, whole || commits);
            }
        }
        None
    }
}

/// The salts of a log, at the beginning of this.
fn salts(bytes: &[u8]) -> [u8; 8] {
    [0, 1, 2, 3, 4, 5, 6, 7].map(|at| bytes[at])
}

/// Whether bytes were read whole; not at the end, or in the midst of them.
fn was_whole(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// SQLite's sum, gone on with over further words.
fn sum([mut first, mut second]: Sum, bytes: &[u8], big_endian: bool) -> Sum {
    let read = |bytes: &[u8]| {
        let word = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(read(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(read(&pair[4..])).wrapping_add(first);
    }
    [first, second]
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;

    const PAGE: usize = 4096;
    const FRAME: usize = FRAME_HEADER_BYTES + PAGE;

    /// A database whose log is kept, with a commit for each of these numbers of rows.
    fn database(commits: &[usize]) -> (TempDir, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join("db")).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        for rows in commits {
            commit(&connection, *rows);
        }
        (dir, connection)
    }

    /// A row fills a page.
    fn commit(connection: &Connection, rows: usize) {
        let sql = format!(
            "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO t SELECT zeroblob(3900) FROM n; COMMIT"
        );
        connection.execute_batch(&sql).unwrap();
    }

    fn log(dir: &TempDir) -> Vec<u8> {
        std::fs::read(dir.path().join("db-wal")).unwrap()
    }

    fn found(log: &[u8]) -> Option<u64> {
        damaged_frame(log).unwrap()
    }

    /// By number, from 1, the frames that commit.
    fn commits(log: &[u8]) -> Vec<u64> {
        let frames = log[HEADER_BYTES..].chunks_exact(FRAME).zip(1..);
        frames.filter(|(frame, _)| word(frame, 4) != 0).map(|(_, number)| number).collect()
    }

    #[test]
    fn g5_a_log_that_ends_anywhere_is_no_damage() {
        let (dir, _connection) = database(&[1, 3, 1, 2]);
        let log = log(&dir);
        assert!(commits(&log).len() >= 5);
        for length in (0..log.len()).step_by(509).chain([log.len()]) {
            assert_eq!(found(&log[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn g5_a_damaged_frame_is_found_unless_it_is_of_the_last_transaction() {
        let (dir, _connection) = database(&[1, 3, 1, 2]);
        let log = log(&dir);
        let last_begins = commits(&log).iter().rev().nth(1).unwrap() + 1;
        for number in 1..=(log.len() - HEADER_BYTES) / FRAME {
            let number = number as u64;
            for at in [9, 17, FRAME_HEADER_BYTES + 5, FRAME - 1] {
                let mut damaged = log.clone();
                damaged[HEADER_BYTES + (number as usize - 1) * FRAME + at] ^= 4;
                let expected = (number < last_begins).then_some(number);
                assert_eq!(found(&damaged), expected, "frame {number}, octet {at}");
            }
        }
    }

    /// Whatever of the header is damaged, and however little stands behind it.
    #[test]
    fn g5_g6_each_bit_of_the_header_is_told() {
        for commits in [&[][..], &[2], &[1, 3, 1, 2]] {
            let (dir, _connection) = database(commits);
            let log = log(&dir);
            assert_eq!(found(&log), None);
            for bit in 0..HEADER_BYTES * 8 {
                let mut damaged = log.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(found(&damaged), Some(0), "bit {bit}, {} commits", commits.len());
            }
            let mut damaged = log.clone();
            damaged[..HEADER_BYTES].fill(0);
            let expected = (!commits.is_empty()).then_some(0);
            assert_eq!(found(&damaged), expected, "all of it, {} commits", commits.len());
        }
    }

    /// Without a frame there is nothing to lose, nor where none is whole.
    #[test]
    fn g5_a_damaged_header_with_nothing_behind_it_is_no_damage() {
        let (dir, _connection) = database(&[4]);
        let mut log = log(&dir);
        log[3] ^= 1;
        let whole = *commits(&log).first().unwrap() as usize;
        for length in (0..HEADER_BYTES + whole * FRAME).step_by(509) {
            assert_eq!(found(&log[..length]), None, "{length} bytes");
        }
    }

    /// A transaction was cut off, and a shorter one was written over its beginning: what is left of
    /// the first one is no later commit.
    #[test]
    fn g5_what_a_cut_off_transaction_leaves_behind_is_no_damage() {
        let (dir, connection) = database(&[1, 1, 8]);
        let mut log = log(&dir);
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("db"), copy.path().join("db")).unwrap();
        let begins = *commits(&log).iter().rev().nth(1).unwrap() as usize;
        log[HEADER_BYTES + begins * FRAME + 100] ^= 1;
        std::fs::write(copy.path().join("db-wal"), &log).unwrap();
        drop(connection);
        let connection = Connection::open(copy.path().join("db")).unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        for _ in 0..3 {
            commit(&connection, 1);
            assert_eq!(found(&self::log(&copy)), None);
        }
    }
}
