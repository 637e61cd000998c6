//! Sending what waits in the outbox: each in its turn, a message under one id, until it is answered. How an
//! edit is sent is `editing`'s.

use std::collections::HashSet;
use std::time::Duration;

use impp_protocol::command::Message;
use impp_protocol::{Address, Code, Error, MessageId};
use tokio::time::{Instant, sleep};

use super::{Entry, Kept, Locked, Outbox, OutboxError, State, Token, Written};
use crate::calls::{Sent, new_id};
use crate::client::Client;
use crate::error::ClientError;

/// So often it is looked whether another program has sent all.
const LOOKS: Duration = Duration::from_millis(50);

/// What became of a message or edit of the outbox.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The message was taken, and waits no more.
    Sent(Sent),
    /// The edit was done, and waits no more.
    Changed,
    /// Who was to be removed is no contact, whoever has removed them: it is done, and waits no more.
    Gone,
    /// Nobody will take it. It stays, to be sent again as it is or taken out.
    Failed(Error),
    /// The entry was removed since the edit was made, so that nothing was changed. It stays as well.
    Dropped,
    /// It was tried a day ago and never answered: whether it was taken is not known. It stays, and is not
    /// sent by itself.
    Unknown,
    /// It waits for a better time, as does all for its recipient that is behind it; behind an edit all edits.
    Waits(ClientError),
    /// It was written as somebody else, who has to send it.
    Another(Address),
    /// What is kept cannot be read.
    Broken(String),
}

impl Verdict {
    /// Whether it is done, and waits no more.
    pub fn is_done(&self) -> bool {
        matches!(self, Verdict::Sent(_) | Verdict::Changed | Verdict::Gone)
    }
}

impl Client {
    /// Sends what waits, in its order, and says of each what became of it; who is told that one failed or was
    /// dropped says whether it is to go. Where another program sends, it is waited for as long as a call may take.
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
                if matches!(kept.state, State::Failed(_) | State::Dropped) {
                    continue;
                }
                let verdict = match held_up.cause(&kept.written) {
                    _ if kept.writer != *self.address() => Verdict::Another(kept.writer.clone()),
                    Some(cause) => Verdict::Waits(cause),
                    None => self.send_kept(&locked, number, &kept).await?,
                };
                if let Verdict::Waits(cause) = &verdict {
                    held_up.note(&kept.written, cause);
                }
                let stays = matches!(verdict, Verdict::Failed(_) | Verdict::Dropped);
                if told(number, Some(&kept), verdict) && stays {
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
        match &kept.written {
            Written::Message(message) => self.send_waiting(locked, number, kept, message).await,
            Written::Edit(_) => self.send_edit(locked, number).await,
        }
    }

    async fn send_waiting(
        &self,
        locked: &Locked<'_>,
        number: u64,
        kept: &Kept,
        message: &Message,
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
            false => message.id,
        };
        let message = Message { id, ..message.clone() };
        let as_now = |state| Kept { written: message.clone().into(), state, ..kept.clone() };
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
        Ok(match Meaning::of(&error, is_new) {
            Meaning::Waits => Verdict::Waits(error.into()),
            Meaning::Untaken => {
                locked.replace(number, kept)?;
                Verdict::Waits(error.into())
            }
            Meaning::Unknown => Verdict::Unknown,
            Meaning::Fails => {
                locked.replace(number, &as_now(State::Failed(error.clone())))?;
                Verdict::Failed(error)
            }
        })
    }
}

/// What an ERROR says of a message.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// It is asked again, under the same id.
    Waits,
    /// Nobody has it under this id, and with another it goes.
    Untaken,
    /// Nobody knows whether it was taken.
    Unknown,
    /// Nobody will take it.
    Fails,
}

impl Meaning {
    /// Of one that had not been tried before, or had.
    fn of(error: &Error, is_new: bool) -> Meaning {
        match error.code {
            // It says nothing of the id.
            _ if error.forgotten => Meaning::Waits,
            // The server's clock was set.
            Code::OutOfWindow if is_new => Meaning::Untaken,
            Code::OutOfWindow => Meaning::Unknown,
            code if code.is_permanent() => Meaning::Fails,
            _ => Meaning::Waits,
        }
    }
}

/// What an entry is known by; one that cannot be read by its number.
fn known_by(entry: &Entry) -> Result<Token, u64> {
    entry.kept.as_ref().map(|kept| kept.token).map_err(|_| entry.number)
}

/// For what nothing more goes now, and why: so what is for one recipient keeps its order, and so do edits,
/// which hold up no message, nor are they held up by one.
#[derive(Default)]
struct HeldUp {
    messages: Option<ClientError>,
    these: Vec<(Address, ClientError)>,
    edits: Option<ClientError>,
}

impl HeldUp {
    fn note(&mut self, written: &Written, cause: &ClientError) {
        match (written, cause) {
            (Written::Edit(_), cause) => self.edits = Some(cause.clone()),
            (Written::Message(message), ClientError::Answered(_)) => {
                self.these.push((message.to.clone(), cause.clone()));
            }
            // It is the way to the server, which is the same for all.
            (Written::Message(_), cause) => self.messages = Some(cause.clone()),
        }
    }

    fn cause(&self, written: &Written) -> Option<ClientError> {
        let Written::Message(message) = written else { return self.edits.clone() };
        let this = || self.these.iter().find(|(held, _)| *held == message.to);
        self.messages.as_ref().or_else(|| this().map(|(_, cause)| cause)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use impp_protocol::state::ContactEdit;

    use crate::outbox::Edit;

    /// Where nothing is kept any more of what was asked, the message may have been taken: it keeps its id.
    #[test]
    fn what_may_have_been_taken_gets_no_new_id() {
        let out = Error::new(Code::OutOfWindow, "too old");
        assert_eq!(Meaning::of(&out, true), Meaning::Untaken);
        assert_eq!(Meaning::of(&out, false), Meaning::Unknown);
        for is_new in [true, false] {
            assert_eq!(Meaning::of(&Error::forgotten("which?"), is_new), Meaning::Waits);
            assert_eq!(Meaning::of(&Error::new(Code::Busy, ""), is_new), Meaning::Waits);
            assert_eq!(Meaning::of(&Error::new(Code::NotFound, ""), is_new), Meaning::Fails);
        }
    }

    /// Where one recipient cannot be written to, others can; where the server is not reached, nobody can; and
    /// what holds up edits holds up no message, nor the other way round.
    #[test]
    fn one_recipient_holds_up_no_other_and_edits_no_message() {
        let address = |text: &str| -> Address { text.parse().unwrap() };
        let to =
            |text| Written::from(Message::new(MessageId([0; 16]), address(text), Bytes::new()));
        let [bob, carol] = ["bob@a.example", "carol@a.example"].map(to);
        let edit = Edit::new(ContactEdit::remove(address("bob@a.example")), None).into();
        let (busy, late) = (Error::new(Code::Busy, "later"), Duration::from_secs(1));
        let (busy, late) = (ClientError::from(busy), ClientError::Timeout(late));
        let mut held_up = HeldUp::default();
        held_up.note(&edit, &late);
        assert!(held_up.cause(&edit).is_some() && held_up.cause(&bob).is_none());
        let mut held_up = HeldUp::default();
        held_up.note(&bob, &busy);
        assert!(held_up.cause(&bob).is_some() && held_up.cause(&carol).is_none());
        held_up.note(&bob, &late);
        assert!(held_up.cause(&carol).is_some() && held_up.cause(&edit).is_none());
    }
}
