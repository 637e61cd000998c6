//! What a message or status carries, so that whoever gets it knows what it is: who made it, which of
//! theirs it is, and when it was due. It is text, so that it goes through every protocol.

use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

/// Bytes of a message, and of the text of a status.
const MESSAGE_BYTES: usize = 100;
const STATUS_BYTES: usize = 32;

/// What a stamp begins with; nothing else of what the scenarios send has it.
const MARK: u8 = b'~';
/// The mark, who, which, when: in hexadecimal.
const WHO: Range<usize> = 1..5;
const WHICH: Range<usize> = 5..13;
const DUE: Range<usize> = 13..23;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Who made it.
    pub who: usize,
    /// Which of theirs it is, from 1.
    pub which: u64,
    /// When it was due, from the start of the clock, in whole microseconds.
    pub due: Duration,
}

/// The time since the program began to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }
}

impl Stamp {
    /// The body of a message.
    pub(crate) fn body(self) -> String {
        self.text(MESSAGE_BYTES)
    }

    /// The text of a status.
    pub(crate) fn status(self) -> String {
        self.text(STATUS_BYTES)
    }

    fn text(self, bytes: usize) -> String {
        let Stamp { who, which, due } = self;
        let mut text = format!("~{who:04x}{which:08x}{:010x}", due.as_micros());
        text.extend(std::iter::repeat_n('.', bytes - text.len()));
        text
    }

    /// The first stamp in there: among octets of chance there are marks that begin none.
    pub(crate) fn find(bytes: &[u8]) -> Option<Stamp> {
        let marks = bytes.iter().enumerate().filter(|(_, byte)| **byte == MARK);
        marks.into_iter().find_map(|(at, _)| Stamp::read(bytes.get(at..at + DUE.end)?))
    }

    fn read(bytes: &[u8]) -> Option<Stamp> {
        let figure = |range: Range<usize>| {
            let digits = &bytes[range];
            let all_are = digits.iter().all(u8::is_ascii_hexdigit);
            all_are.then(|| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())?
        };
        let due = Duration::from_micros(figure(DUE)?);
        Some(Stamp { who: figure(WHO)? as usize, which: figure(WHICH)?, due })
    }
}
