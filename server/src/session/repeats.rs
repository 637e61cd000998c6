//! Answers to requests that change something, kept for who asks again under the same number, since the
//! answer may have been lost with its connection. A repeat is not done twice.
//!
//! What the requests do is left to their handlers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use impp_protocol::command::{Asks, Ping, REPEATS_MAX};
use impp_protocol::presence::Version;
use impp_protocol::{Code, Command, Error, Request};
use tokio::sync::watch;

use super::Session;
use super::things::presence::no_longer;
use crate::core::answers::Answer;

/// Bytes of answers that are kept for one session, with [`ENTRY_BYTES`] for each: the oldest go.
const KEPT_BYTES_MAX: usize = 2048;
/// What one takes beside its encoding.
const ENTRY_BYTES: usize = 48;
/// No answer to what changes something is longer.
const ANSWER_BYTES_MAX: usize = 16;
const _: () = assert!(REPEATS_MAX * (ENTRY_BYTES + ANSWER_BYTES_MAX) <= KEPT_BYTES_MAX);

/// The answers of one session. What is still to come is bounded by the requests that a connection may have
/// out, and takes no room from what was answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    known: BTreeMap<u64, Known>,
    /// What was answered, in the order in which that left: the client has had the first ones before the
    /// last, whatever their numbers.
    order: VecDeque<u64>,
    bytes: usize,
    /// Up to this number nothing is kept any more.
    floor: u64,
}

#[derive(Debug)]
struct Known {
    /// Of what was asked.
    digest: Version,
    said: Said,
    bytes: usize,
}

/// What was answered.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are answers")]
enum Said {
    /// It is still to come, and is heard by this. If nobody is left who tells it, it never comes: it is asked
    /// as if for the first time.
    ToCome(Hears),
    /// This.
    This(Command),
}

type Hears = watch::Receiver<Option<Command>>;

/// Tells the answer to whoever has asked again meanwhile.
type Tells = watch::Sender<Option<Command>>;

/// What is known of a number.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "each lives for one match")]
enum Seen {
    /// It is to be done.
    New(Tells),
    /// It is just done, and what it comes to is heard by this.
    UnderWay(Hears),
    /// It was done, and this was answered.
    Before(Command),
    /// Another request had this number.
    Other,
    /// It may have been done, and what was answered is not kept any more.
    Forgotten,
}

impl Known {
    fn is_under_way(&self) -> bool {
        // Nothing is told but the answer, and who has told it is gone then.
        matches!(&self.said, Said::ToCome(hears) if hears.has_changed().is_ok())
    }

    /// Nobody is left who answers it.
    fn is_given_up(&self) -> bool {
        matches!(&self.said, Said::ToCome(hears) if hears.has_changed().is_err())
    }
}

impl Answers {
    /// Somebody asks under a number.
    fn begin(&mut self, number: u64, digest: Version) -> Seen {
        match self.known.get_mut(&number) {
            // It was given up, whatever it was.
            Some(known) if known.is_given_up() => {
                let (tells, hears) = watch::channel(None);
                (known.digest, known.said) = (digest, Said::ToCome(hears));
                Seen::New(tells)
            }
            Some(known) if known.digest != digest => Seen::Other,
            Some(Known { said: Said::This(answer), .. }) => Seen::Before(answer.clone()),
            Some(Known { said: Said::ToCome(hears), .. }) => Seen::UnderWay(hears.clone()),
            None if number <= self.floor => Seen::Forgotten,
            None => {
                let (tells, hears) = watch::channel(None);
                self.known.insert(number, Known { digest, said: Said::ToCome(hears), bytes: 0 });
                Seen::New(tells)
            }
        }
    }

    /// This was answered. What is forgotten already stays so; what was refused was not done, and is asked
    /// anew.
    fn answered(&mut self, number: u64, answer: &Command) {
        let Some(known) = self.known.remove(&number) else { return };
        if matches!(answer, Command::Error(_)) {
            return;
        }
        let bytes = ENTRY_BYTES + encoded(answer).len();
        let said = Said::This(answer.clone());
        self.keep(number, Known { said, bytes, ..known });
    }

    /// The client has all answers up to a number. What is under way was not answered whatever it says, nor
    /// what comes behind that.
    fn forget(&mut self, number: u64) {
        let under_way = self.known.iter().find(|(_, known)| known.is_under_way());
        let number = under_way.map_or(number, |(first, _)| number.min(first.saturating_sub(1)));
        let later = self.known.split_off(&number.saturating_add(1));
        self.known = later;
        self.order.retain(|answered| *answered > number);
        self.bytes = self.known.values().map(|known| known.bytes).sum();
        self.floor = self.floor.max(number);
    }

    fn keep(&mut self, number: u64, known: Known) {
        self.bytes += known.bytes;
        self.known.insert(number, known);
        self.order.push_back(number);
        while self.bytes > KEPT_BYTES_MAX
            && let Some(number) = self.order.pop_front()
        {
            let oldest = self.known.remove(&number);
            self.bytes -= oldest.map_or(0, |oldest| oldest.bytes);
            self.floor = self.floor.max(number);
        }
    }
}

/// The answers of a session that is at a request.
#[derive(Debug)]
pub struct Kept(Option<Arc<Mutex<Answers>>>);

impl Kept {
    /// The client says that it has all up to a number.
    pub fn have_come(&self, up_to: u64) {
        self.0.iter().for_each(|answers| lock(answers).forget(up_to));
    }
}

impl Session {
    /// Its answers, to be looked after while it is at a request.
    pub fn kept_answers(&self) -> Kept {
        Kept(self.answers.clone())
    }

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
        if let Command::Ping(Ping { answered: Some(up_to) }) = &command {
            lock(&answers).forget(*up_to);
        }
        match command.kind().asks() {
            Asks::Change => {}
            // What only reads, or says what is followed, is done again.
            Asks::Telling | Asks::Nothing => return self.handle(command).await,
        }
        let digest = Version::of(&encoded(&command));
        let seen = lock(&answers).begin(number, digest);
        let tells = match seen {
            Seen::New(tells) => tells,
            // It costs nothing, as one of what is done: the first one has paid.
            Seen::UnderWay(hears) => return Answer::later(heard(hears)),
            Seen::Before(answer) => return Answer::Now(answer),
            Seen::Other => {
                let text = format!("request {number} was another one; numbers are not used again");
                return Answer::Now(Error::new(Code::Conflict, text).into());
            }
            Seen::Forgotten => {
                let text = format!("what was answered to request {number} is not kept any more");
                return Answer::Now(Error::forgotten(text).into());
            }
        };
        let note = move |answer: &Command| {
            // Under one lock, so that nobody begins to wait between.
            let mut answers = lock(&answers);
            // One receiver is that of the table.
            if tells.receiver_count() > 1 {
                tells.send_replace(Some(answer.clone()));
            }
            answers.answered(number, answer);
        };
        match self.handle(command).await {
            Answer::Now(answer) => {
                note(&answer);
                Answer::Now(answer)
            }
            Answer::Later(later) => Answer::Later(later.noted(note)),
        }
    }
}

/// What a request that is under way comes to.
async fn heard(mut hears: Hears) -> Command {
    let said = hears.wait_for(Option::is_some).await.ok().and_then(|said| said.clone());
    said.unwrap_or_else(|| {
        let text = "the request was given up with its connection; ask again";
        Error::new(Code::Busy, text).retry_after(Duration::from_secs(1)).into()
    })
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
    use impp_protocol::Timestamp;
    use impp_protocol::command::{Done, Outcome};
    use impp_protocol::state::SubscriptionState;

    use super::*;

    fn done(number: u64) -> Command {
        Done { number: Some(number), ..Done::empty() }.into()
    }

    fn digest(of: u8) -> Version {
        Version([of; 16])
    }

    fn is_new(seen: Seen) -> Option<Tells> {
        match seen {
            Seen::New(tells) => Some(tells),
            _ => None,
        }
    }

    #[tokio::test]
    async fn e2_a_repeat_is_answered_as_before_and_nothing_else_has_its_number() {
        let mut answers = Answers::default();
        let tells = is_new(answers.begin(5, digest(1))).unwrap();
        // It is under way: whoever asks again hears what it comes to, and it is not done twice.
        let Seen::UnderWay(hears) = answers.begin(5, digest(1)) else { panic!("it is done twice") };
        assert!(matches!(answers.begin(5, digest(2)), Seen::Other));
        tells.send_replace(Some(done(7)));
        answers.answered(5, &done(7));
        drop(tells);
        assert_eq!(heard(hears).await, done(7));
        assert!(matches!(answers.begin(5, digest(1)), Seen::Before(answer) if answer == done(7)));
        assert!(matches!(answers.begin(5, digest(2)), Seen::Other));
        assert!(is_new(answers.begin(4, digest(2))).is_some());
    }

    /// What was refused was not done: it is asked anew, and so heard when that is otherwise by now.
    #[test]
    fn what_was_refused_is_asked_anew() {
        let mut answers = Answers::default();
        for _ in 0..2 {
            assert!(is_new(answers.begin(5, digest(1))).is_some());
            answers.answered(5, &Error::new(Code::NotFound, "nobody").into());
        }
        assert_eq!((answers.bytes, answers.known.len()), (0, 0));
        assert!(is_new(answers.begin(5, digest(2))).is_some());
        answers.answered(5, &done(7));
        assert!(matches!(answers.begin(5, digest(2)), Seen::Before(_)));
    }

    #[tokio::test]
    async fn what_is_never_answered_is_asked_anew() {
        let mut answers = Answers::default();
        let tells = is_new(answers.begin(5, digest(1))).unwrap();
        let Seen::UnderWay(hears) = answers.begin(5, digest(1)) else { panic!("it is done twice") };
        drop(tells);
        let Command::Error(error) = heard(hears).await else { panic!("it was never answered") };
        assert!(error.code == Code::Busy && error.retry_after.is_some());
        assert!(is_new(answers.begin(5, digest(1))).is_some());
        // What passes by itself is not kept.
        answers.answered(5, &error.into());
        assert!(is_new(answers.begin(5, digest(1))).is_some());
        // It was never done: another one may have its number, and has it then.
        let tells = is_new(answers.begin(5, digest(2))).unwrap();
        assert!(matches!(answers.begin(5, digest(1)), Seen::Other));
        answers.answered(5, &done(7));
        drop(tells);
        assert!(matches!(answers.begin(5, digest(2)), Seen::Before(answer) if answer == done(7)));
    }

    #[test]
    fn what_the_client_has_is_not_kept() {
        let mut answers = Answers::default();
        for number in 1..=3 {
            drop(answers.begin(number, digest(1)));
            answers.answered(number, &done(number));
        }
        answers.forget(2);
        assert!(matches!(answers.begin(2, digest(1)), Seen::Forgotten));
        assert!(matches!(answers.begin(3, digest(1)), Seen::Before(answer) if answer == done(3)));
        // What is under way it cannot have, nor what comes behind.
        let tells = is_new(answers.begin(4, digest(1)));
        answers.forget(u64::MAX);
        assert!(matches!(answers.begin(4, digest(1)), Seen::UnderWay(_)));
        assert!(is_new(answers.begin(5, digest(1))).is_some());
        drop(tells);
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
            drop(answers.begin(number, digest(1)));
            answers.answered(number, &done(number));
            assert!(answers.bytes <= KEPT_BYTES_MAX, "{}", answers.bytes);
        }
        for number in 1..=100 {
            match answers.begin(number, digest(1)) {
                Seen::Before(answer) => kept.push(answer),
                Seen::Forgotten => assert_eq!(kept.len(), 0),
                seen => panic!("{seen:?}"),
            }
        }
        assert!(kept.len() >= REPEATS_MAX, "{}", kept.len());
        // One that is larger than all that may be kept is not, and takes the others with it.
        drop(answers.begin(101, digest(1)));
        let content = Some("x".repeat(KEPT_BYTES_MAX).into());
        answers.answered(101, &Done { content, ..Done::empty() }.into());
        assert_eq!(answers.bytes, 0);
        assert!(matches!(answers.begin(101, digest(1)), Seen::Forgotten));
    }

    /// Whose client has no more out at once than it may rely on gets each answer again, whichever came first:
    /// one that took long goes no sooner for its low number, and what is still to come takes nobody's room.
    #[test]
    fn e2_of_as_many_as_may_be_out_none_is_forgotten() {
        let longest = Done {
            outcome: Some(Outcome::Delivered),
            time: Some(Timestamp::from_millis((1 << 53) - 1)),
            ..Done::empty()
        };
        let state = Some(SubscriptionState::Terminated);
        let of_contacts = Done { state, number: Some((1 << 53) - 1), ..Done::empty() };
        for longest in [Command::from(longest), of_contacts.into()] {
            assert!(encoded(&longest).len() <= ANSWER_BYTES_MAX, "{longest:?}");
            let mut answers = Answers::default();
            // The first takes long. Of the others each has its answer before the next is asked.
            let mut tells: Vec<_> =
                (1..=100).map(|number| answers.begin(number, digest(1))).collect();
            for number in 41..=100 {
                answers.answered(number, &done(number));
            }
            for number in (1..=REPEATS_MAX as u64).rev() {
                answers.answered(number, &longest);
            }
            assert!(answers.bytes <= KEPT_BYTES_MAX, "{}", answers.bytes);
            for number in 1..=REPEATS_MAX as u64 {
                let seen = answers.begin(number, digest(1));
                assert!(matches!(seen, Seen::Before(answer) if answer == longest), "{number}");
            }
            // What nobody has answered yet is still to come.
            assert!(matches!(answers.begin(33, digest(1)), Seen::UnderWay(_)));
            assert!(matches!(answers.begin(100, digest(1)), Seen::Forgotten));
            tells.clear();
        }
    }
}
