//! Sending what waits in the outbox: each in its turn, under one id, until it is answered.

use std::collections::HashSet;
use std::time::Duration;

use impp_protocol::command::Message;
use impp_protocol::{Address, Code, Error, MessageId, Timestamp};
use tokio::time::{Instant, sleep};

use super::{Entry, Kept, Locked, Outbox, OutboxError, State, Token};
use crate::calls::{Sent, new_id};
use crate::client::Client;
use crate::error::ClientError;

/// So long after it was made servers take an id, and tell a repeat.
const ID_LIVES: Duration = Duration::from_secs(24 * 3600);
/// So often it is looked whether another program has sent all.
const LOOKS: Duration = Duration::from_millis(50);

/// What became of a message of the outbox.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It was taken, and waits no more.
    Sent(Sent),
    /// Nobody will take it. It stays, to be sent again as it is or taken out.
    Failed(Error),
    /// It was tried a day ago and never answered: whether it was taken is not known. It stays, and is not
    /// sent by itself.
    Unknown,
    /// It waits for a better time, as does all for its recipient that is behind it.
    Waits(ClientError),
    /// It was written as somebody else, who has to send it.
    Another(Address),
    /// What is kept cannot be read.
    Broken(String),
}

impl Kept {
    /// Whether nobody knows, at a server's time, whether the message was taken, nor can be asked.
    pub fn is_unknown(&self, now: Timestamp) -> bool {
        let end = |made: Timestamp| made.after(ID_LIVES) <= now;
        self.state == State::Tried && self.message.id.time().is_none_or(end)
    }
}

impl Client {
    /// Sends what waits, in its order, and says of each what became of it; who is told that one failed says
    /// whether it is to go. Where another program sends, it is waited for as long as a call may take.
    ///
    /// # Errors
    /// [`OutboxError`]: what was told before is so.
    pub async fn send_outbox(
        &self,
        outbox: &Outbox,
        mut told: impl FnMut(u64, Option<&Kept>, Verdict) -> bool,
    ) -> Result<(), OutboxError> {
        let locked = self.locked(outbox).await?;
        let (mut seen, mut held_up) = (HashSet::new(), HeldUp::default());
        loop {
            // What others have written meanwhile goes too.
            let entries = outbox.entries()?;
            let next: Vec<Entry> =
                entries.into_iter().filter(|entry| seen.insert(known_by(entry))).collect();
            if next.is_empty() {
                return Ok(());
            }
            for Entry { number, kept } in next {
                let kept = match kept {
                    Ok(kept) => kept,
                    Err(text) => {
                        told(number, None, Verdict::Broken(text));
                        continue;
                    }
                };
                if matches!(kept.state, State::Failed(_)) {
                    continue;
                }
                let to = kept.message.to.clone();
                let verdict = match held_up.cause(&to) {
                    _ if kept.writer != *self.address() => Verdict::Another(kept.writer.clone()),
                    Some(cause) => Verdict::Waits(cause),
                    None => self.send_kept(&locked, number, &kept).await?,
                };
                if let Verdict::Waits(cause) = &verdict {
                    held_up.note(to, cause);
                }
                let failed = matches!(verdict, Verdict::Failed(_));
                if told(number, Some(&kept), verdict) && failed {
                    locked.remove(number)?;
                }
            }
        }
    }

    async fn locked<'a>(&self, outbox: &'a Outbox) -> Result<Locked<'a>, OutboxError> {
        let until = Instant::now() + self.timeout();
        loop {
            match outbox.lock() {
                Err(OutboxError::Locked) if Instant::now() < until => sleep(LOOKS).await,
                locked => return locked,
            }
        }
    }

    async fn send_kept(
        &self,
        locked: &Locked<'_>,
        number: u64,
        kept: &Kept,
    ) -> Result<Verdict, OutboxError> {
        let now = match self.server_time().await {
            Ok(now) => now,
            Err(error) => return Ok(Verdict::Waits(error)),
        };
        if kept.is_unknown(now) {
            return Ok(Verdict::Unknown);
        }
        let is_new = kept.state == State::New;
        let id: MessageId = match is_new {
            true => match new_id(now) {
                Ok(id) => id,
                Err(error) => return Ok(Verdict::Waits(error)),
            },
            false => kept.message.id,
        };
        let message = Message { id, ..kept.message.clone() };
        let as_now = |state| Kept { message: message.clone(), state, ..kept.clone() };
        if is_new {
            // Before a byte of it leaves.
            locked.replace(number, &as_now(State::Tried))?;
        }
        let sent = self.send_written(message.clone(), true).await;
        let error = match sent {
            Ok(sent) => {
                locked.remove(number)?;
                return Ok(Verdict::Sent(sent));
            }
            Err(ClientError::TooLarge(text)) => Error::new(Code::TooLarge, text),
            Err(ClientError::Answered(error)) => error,
            Err(other) => return Ok(Verdict::Waits(other)),
        };
        match error.code {
            // The server's clock was set: nobody has it under this id, and with another it goes.
            Code::OutOfWindow if is_new => {
                locked.replace(number, kept)?;
                Ok(Verdict::Waits(error.into()))
            }
            Code::OutOfWindow => Ok(Verdict::Unknown),
            code if code.is_permanent() => {
                locked.replace(number, &as_now(State::Failed(error.clone())))?;
                Ok(Verdict::Failed(error))
            }
            _ => Ok(Verdict::Waits(error.into())),
        }
    }
}

/// What an entry is known by; one that cannot be read by its number.
fn known_by(entry: &Entry) -> Result<Token, u64> {
    entry.kept.as_ref().map(|kept| kept.token).map_err(|_| entry.number)
}

/// For whom nothing more goes now, and why: so what is for one recipient keeps its order.
#[derive(Default)]
struct HeldUp {
    all: Option<ClientError>,
    these: Vec<(Address, ClientError)>,
}

impl HeldUp {
    fn note(&mut self, to: Address, cause: &ClientError) {
        match cause {
            ClientError::Answered(_) => self.these.push((to, cause.clone())),
            // It is the way to the server, which is the same for all.
            _ => self.all = Some(cause.clone()),
        }
    }

    fn cause(&self, to: &Address) -> Option<ClientError> {
        let this = || self.these.iter().find(|(held, _)| held == to).map(|(_, cause)| cause);
        self.all.as_ref().or_else(this).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// What was tried is sent again as the same for a day, and after that by nobody but its writer.
    #[test]
    fn what_was_tried_a_day_ago_is_unknown() {
        let made = Timestamp::parse("2026-12-01T00:00:00Z").unwrap();
        let to: Address = "bob@a.example".parse().unwrap();
        let message = Message::new(MessageId::new(made, [1; 10]), to, Bytes::new());
        let writer = "alice@a.example".parse().unwrap();
        let tried = Kept { token: [1; 16], writer, message, state: State::Tried };
        let before = made.after(ID_LIVES - Duration::from_secs(1));
        assert!(!tried.is_unknown(made) && !tried.is_unknown(before));
        assert!(tried.is_unknown(made.after(ID_LIVES)));
        let new = Kept { state: State::New, ..tried };
        assert!(!new.is_unknown(made.after(ID_LIVES * 30)));
    }

    /// Where one recipient cannot be written to, others can; where the server is not reached, nobody can.
    #[test]
    fn one_recipient_holds_up_no_other() {
        let [bob, carol]: [Address; 2] =
            ["bob@a.example", "carol@a.example"].map(|text| text.parse().unwrap());
        let mut held_up = HeldUp::default();
        held_up.note(bob.clone(), &Error::new(Code::Busy, "later").into());
        assert!(held_up.cause(&bob).is_some() && held_up.cause(&carol).is_none());
        held_up.note(bob, &ClientError::Timeout(Duration::from_secs(1)));
        assert!(held_up.cause(&carol).is_some());
    }
}
