//! Answers to requests that change something, kept for who asks again under the same number, since the
//! answer may have been lost with its connection. A repeat is not done twice.
//!
//! What the requests do is left to their handlers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use impp_protocol::command::Ping;
use impp_protocol::presence::Version;
use impp_protocol::{Code, Command, Error, Request};

use super::Session;
use super::things::presence::no_longer;
use crate::core::answers::Answer;

/// Bytes of answers that are kept for one session, with [`ENTRY_BYTES`] for each: the oldest go.
const KEPT_BYTES_MAX: usize = 2048;
/// What one takes beside its encoding.
const ENTRY_BYTES: usize = 48;

/// The answers of one session.
#[derive(Debug, Default)]
pub(super) struct Answers {
    known: BTreeMap<u64, Known>,
    bytes: usize,
    /// Up to this number nothing is kept any more.
    floor: u64,
}

#[derive(Debug)]
struct Known {
    /// Of what was asked.
    digest: Version,
    /// Nothing while it is still to come; if it never does, it is asked as if for the first time.
    answer: Option<Command>,
    bytes: usize,
}

/// What is known of a number.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "each lives for one match")]
enum Seen {
    /// It is to be done.
    New,
    /// It was done, and this was answered.
    Before(Command),
    /// Another request had this number.
    Other,
    /// It may have been done, and what was answered is not kept any more.
    Forgotten,
}

impl Answers {
    /// Somebody asks under a number.
    fn begin(&mut self, number: u64, digest: Version) -> Seen {
        match self.known.get(&number) {
            Some(known) if known.digest != digest => Seen::Other,
            Some(Known { answer: Some(answer), .. }) => Seen::Before(answer.clone()),
            Some(Known { answer: None, .. }) => Seen::New,
            None if number <= self.floor => Seen::Forgotten,
            None => {
                self.keep(number, Known { digest, answer: None, bytes: ENTRY_BYTES });
                Seen::New
            }
        }
    }

    /// This was answered. What is forgotten already stays so; what passes by itself is asked anew.
    fn answered(&mut self, number: u64, answer: &Command) {
        if matches!(answer, Command::Error(error) if error.retry_after.is_some()) {
            return;
        }
        let Some(known) = self.known.remove(&number) else { return };
        self.bytes -= known.bytes;
        let bytes = ENTRY_BYTES + encoded(answer).len();
        let answer = Some(answer.clone());
        self.keep(number, Known { answer, bytes, ..known });
    }

    /// The client has all answers up to a number.
    fn forget(&mut self, number: u64) {
        let later = self.known.split_off(&number.saturating_add(1));
        self.known = later;
        self.bytes = self.known.values().map(|known| known.bytes).sum();
        self.floor = self.floor.max(number);
    }

    fn keep(&mut self, number: u64, known: Known) {
        self.bytes += known.bytes;
        self.known.insert(number, known);
        while self.bytes > KEPT_BYTES_MAX
            && let Some((number, oldest)) = self.known.pop_first()
        {
            self.bytes -= oldest.bytes;
            self.floor = self.floor.max(number);
        }
    }
}

impl Session {
    /// Whether the client's numbers belong to the session, as its HELLO has said.
    pub fn keep_answers(&mut self, numbered: bool) {
        if !numbered {
            self.answers = None;
        } else if self.answers.is_none() {
            self.answers = Some(Arc::default());
        }
    }

    /// Does what the client asks under a number, or says again what came of it.
    pub async fn ask(&mut self, number: u64, command: Command) -> Answer {
        // Its goodbye may be on its way.
        if self.client.mailbox.is_revoked() {
            return Answer::now(Err(no_longer()));
        }
        let Some(answers) = self.answers.clone() else { return self.handle(command).await };
        match &command {
            Command::Publish(_) | Command::Message(_) | Command::Ack(_) => {}
            Command::Ping(Ping { answered: Some(up_to) }) => {
                lock(&answers).forget(*up_to);
                return self.handle(command).await;
            }
            // What only reads, or says what is followed, is done again.
            _ => return self.handle(command).await,
        }
        let digest = Version::of(&encoded(&command));
        let seen = lock(&answers).begin(number, digest);
        match seen {
            Seen::New => {}
            Seen::Before(answer) => return Answer::Now(answer),
            Seen::Other => {
                let text = format!("request {number} was another one; numbers are not used again");
                return Answer::Now(Error::new(Code::Conflict, text).into());
            }
            Seen::Forgotten => {
                let text = format!("what was answered to request {number} is not kept any more");
                return Answer::Now(Error::new(Code::OutOfWindow, text).into());
            }
        }
        match self.handle(command).await {
            Answer::Now(answer) => {
                lock(&answers).answered(number, &answer);
                Answer::Now(answer)
            }
            Answer::Later(later) => {
                Answer::Later(later.noted(move |answer| lock(&answers).answered(number, answer)))
            }
        }
    }
}

/// As it is compared and counted. What does not fit a frame came in one all the same, and is none.
fn encoded(command: &Command) -> BytesMut {
    let mut bytes = BytesMut::new();
    let _ = Request { number: 0, command: command.clone() }.put(&mut bytes);
    bytes
}

/// Nothing here panics while it holds the lock.
fn lock(answers: &Arc<Mutex<Answers>>) -> MutexGuard<'_, Answers> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use impp_protocol::command::Done;

    use super::*;

    fn done(number: u64) -> Command {
        Done { number: Some(number), ..Done::empty() }.into()
    }

    fn digest(of: u8) -> Version {
        Version([of; 16])
    }

    #[test]
    fn e2_a_repeat_is_answered_as_before_and_nothing_else_has_its_number() {
        let mut answers = Answers::default();
        assert_eq!(answers.begin(5, digest(1)), Seen::New);
        // Its connection was lost before it was answered.
        assert_eq!(answers.begin(5, digest(1)), Seen::New);
        answers.answered(5, &done(7));
        assert_eq!(answers.begin(5, digest(1)), Seen::Before(done(7)));
        assert_eq!(answers.begin(5, digest(2)), Seen::Other);
        assert_eq!(answers.begin(4, digest(2)), Seen::New);
    }

    #[test]
    fn what_the_client_has_is_not_kept() {
        let mut answers = Answers::default();
        for number in 1..=3 {
            answers.begin(number, digest(1));
            answers.answered(number, &done(number));
        }
        answers.forget(2);
        assert_eq!(answers.begin(2, digest(1)), Seen::Forgotten);
        assert_eq!(answers.begin(3, digest(1)), Seen::Before(done(3)));
        answers.forget(u64::MAX);
        assert_eq!((answers.bytes, answers.known.len()), (0, 0));
        // What was still out when it was forgotten is not kept either.
        answers.answered(3, &done(3));
        assert_eq!(answers.bytes, 0);
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many() {
        let mut answers = Answers::default();
        let mut kept = Vec::new();
        for number in 1..=100 {
            answers.begin(number, digest(1));
            answers.answered(number, &done(number));
            assert!(answers.bytes <= KEPT_BYTES_MAX, "{}", answers.bytes);
        }
        for number in 1..=100 {
            match answers.begin(number, digest(1)) {
                Seen::Before(answer) => kept.push(answer),
                seen => assert_eq!((seen, kept.len()), (Seen::Forgotten, 0)),
            }
        }
        assert!(kept.len() >= 20, "{}", kept.len());
        // One that is larger than all that may be kept is not, and takes the others with it.
        answers.begin(101, digest(1));
        let text = "x".repeat(KEPT_BYTES_MAX);
        answers.answered(101, &Error::new(Code::Internal, text).into());
        assert_eq!((answers.bytes, answers.begin(101, digest(1))), (0, Seen::Forgotten));
    }
}
