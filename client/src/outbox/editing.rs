//! Sending an edit of the contact list that waits: on the list that it was made on, until it is answered.
//!
//! An edit has no id: done twice it comes to the same, unless another came between. So what may have been
//! done is asked again as it is for a day, and after that by its writer alone.

use impp_locate::{NotReachedKind, Service};
use impp_protocol::command::Done;
use impp_protocol::{Address, Code, Error};

use super::{Edit, Kept, Locked, OutboxError, State, Verdict, Written};
use crate::calls::local_time;
use crate::client::Client;
use crate::error::ClientError;

/// What an answer says of an edit.
#[derive(Debug)]
enum End {
    /// It was done; the number that the list has by it.
    Done(Option<u64>),
    /// The entry that was to be removed is not there.
    Gone,
    /// The entry was removed since the edit was made.
    Dropped,
    /// It will not be done.
    Failed(Error),
    /// Not yet.
    Waits(ClientError),
}

impl End {
    fn of(edit: &Edit, answer: Result<Done, ClientError>) -> End {
        let error = match answer {
            Ok(done) if done.dropped => return End::Dropped,
            Ok(done) => return End::Done(done.number),
            Err(ClientError::Answered(error)) => error,
            Err(ClientError::TooLarge(text)) => Error::new(Code::TooLarge, text),
            // There is no server that keeps a contact list, nor will there be one by waiting. The one that it
            // was tried at may have done it.
            Err(ClientError::NotLocated(error))
                if error.kind == NotReachedKind::NotOffered && edit.tried.is_none() =>
            {
                Error::new(Code::NotOffered, error.to_string())
            }
            Err(other) => return End::Waits(other),
        };
        match error.code {
            // So is a repeat answered of what was done before.
            Code::NotFound if edit.change.remove.is_some() => End::Gone,
            // It may have been done.
            _ if error.forgotten => End::Waits(error.into()),
            // The list has no room until its owner makes some.
            Code::Full => End::Failed(error),
            code if code.is_permanent() => End::Failed(error),
            _ => End::Waits(error.into()),
        }
    }
}

impl Client {
    /// Sends the edit of that number, as it is now: one before it may have changed what it is made on.
    pub(super) async fn send_edit(
        &self,
        locked: &Locked<'_>,
        number: u64,
    ) -> Result<Verdict, OutboxError> {
        let (kept, edit) = match locked.edit(number) {
            Ok(found) => found,
            Err(text) => return Ok(Verdict::Broken(text)),
        };
        let now = match self.time_of(Service::Presence).await {
            Ok(now) => now,
            // It is so as well where no server says the time.
            Err(_) if kept.is_unknown(local_time()) => return Ok(Verdict::Unknown),
            Err(error) => return locked.end(number, &kept, &edit, End::of(&edit, Err(error))),
        };
        if kept.is_unknown(now) {
            return Ok(Verdict::Unknown);
        }
        let tried = match kept.state {
            State::New => now,
            _ => edit.tried.unwrap_or(now),
        };
        let edit = Edit { tried: Some(tried), ..edit };
        let kept = Kept { written: edit.clone().into(), state: State::Tried, ..kept };
        // Before a byte of it leaves.
        locked.replace(number, &kept)?;
        let answer = self.call_repeatable(self.contact_edit(&edit.change, edit.base)).await;
        locked.end(number, &kept, &edit, End::of(&edit, answer))
    }
}

impl Locked<'_> {
    fn edit(&self, number: u64) -> Result<(Kept, Edit), String> {
        match self.outbox.read(number)? {
            Some(kept) => match &kept.written {
                Written::Edit(edit) => Ok((kept.clone(), edit.clone())),
                Written::Message(_) => Err("a message where an edit was".to_owned()),
            },
            None => Err("it is not there any more".to_owned()),
        }
    }

    /// Keeps what became of an edit.
    fn end(&self, number: u64, kept: &Kept, edit: &Edit, end: End) -> Result<Verdict, OutboxError> {
        let stays = |state| self.replace(number, &Kept { state, ..kept.clone() });
        Ok(match end {
            End::Done(list) => {
                // In this order: where it is broken off, the edit is done again, and comes to the same.
                if let (Some(address), Some(list)) = (edit.address(), list) {
                    self.follow_on(number, &kept.writer, address, list)?;
                    // Where this is not known, what is made later is made on what was known before, and at worst
                    // dropped, and told; to do this edit again would keep all behind it waiting.
                    drop(self.outbox.was_edited(&kept.writer, address, list));
                }
                self.remove(number)?;
                Verdict::Changed
            }
            End::Gone => {
                self.remove(number)?;
                Verdict::Gone
            }
            End::Dropped => {
                stays(State::Dropped)?;
                Verdict::Dropped
            }
            End::Failed(error) => {
                stays(State::Failed(error.clone()))?;
                Verdict::Failed(error)
            }
            End::Waits(error) => Verdict::Waits(error),
        })
    }

    /// Edits of the same entry that were written after one that is done were made on what it came to.
    fn follow_on(
        &self,
        number: u64,
        writer: &Address,
        address: &Address,
        list: u64,
    ) -> Result<(), OutboxError> {
        for entry in self.outbox.entries()? {
            let Ok(kept) = entry.kept else { continue };
            let is_new = kept.state == State::New && kept.writer == *writer;
            let Written::Edit(edit) = &kept.written else { continue };
            if let Some(edit) =
                edit.behind(address, list).filter(|_| is_new && entry.number > number)
            {
                self.replace(entry.number, &Kept { written: edit.into(), ..kept })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_locate::NotReached;
    use impp_protocol::state::{ContactChange, ContactEdit};

    use crate::outbox::Outbox;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn bob() -> Address {
        address("bob@a.example")
    }

    fn change(base: u64) -> Edit {
        let change = ContactChange { add: true, ..ContactChange::of(bob()) };
        Edit::new(ContactEdit::change(change), Some(base))
    }

    fn removal(base: u64) -> Edit {
        Edit::new(ContactEdit::remove(bob()), Some(base))
    }

    /// What no time mends has an end; what may have been done is asked again; a removal is done where there
    /// is nothing.
    #[test]
    fn each_answer_to_an_edit_has_its_end() {
        let answered = |code| Err(ClientError::Answered(Error::new(code, "")));
        let end = |edit: &Edit, answer| match End::of(edit, answer) {
            End::Done(_) => "done",
            End::Gone => "gone",
            End::Dropped => "dropped",
            End::Failed(_) => "failed",
            End::Waits(_) => "waits",
        };
        for (code, of_change, of_removal) in [
            (Code::NotFound, "failed", "gone"),
            (Code::Full, "failed", "failed"),
            (Code::TooLarge, "failed", "failed"),
            (Code::NotOffered, "failed", "failed"),
            (Code::Conflict, "failed", "failed"),
            (Code::Busy, "waits", "waits"),
            (Code::Storage, "waits", "waits"),
        ] {
            assert_eq!(end(&change(7), answered(code)), of_change, "{code}");
            assert_eq!(end(&removal(7), answered(code)), of_removal, "{code}");
        }
        let forgotten = || Err(ClientError::Answered(Error::forgotten("which?")));
        assert_eq!(
            (end(&change(7), forgotten()), end(&removal(7), forgotten())),
            ("waits", "waits")
        );
        let no_server = || {
            let (steps, text) = (Vec::new(), String::new());
            let error = NotReached { kind: NotReachedKind::NotOffered, steps, text };
            Err(ClientError::NotLocated(Box::new(error)))
        };
        assert_eq!(end(&change(7), no_server()), "failed");
        let tried = Edit { tried: Some(impp_protocol::Timestamp::default()), ..change(7) };
        assert_eq!(end(&tried, no_server()), "waits");
        assert_eq!(end(&change(7), Err(ClientError::TooLarge(String::new()))), "failed");
        assert_eq!(end(&change(7), Err(ClientError::Lost(String::new()))), "waits");
        assert_eq!(end(&change(7), Ok(Done { dropped: true, ..Done::empty() })), "dropped");
        assert_eq!(end(&change(7), Ok(Done::empty())), "done");
    }

    /// Who removes somebody and then adds them anew has both done: the second edit is made on what the first
    /// came to. What others have written, and what may have left, stays as it was.
    #[test]
    fn what_is_written_behind_an_edit_is_made_on_what_it_came_to() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        let (alice, other) = (address("alice@a.example"), address("other@a.example"));
        outbox.was_shown(&alice, 7).unwrap();
        outbox.put(&alice, removal(7)).unwrap();
        for writer in [&alice, &other, &alice] {
            outbox.put(writer, change(7)).unwrap();
        }
        let locked = outbox.lock().unwrap();
        let (kept, edit) = locked.edit(4).unwrap();
        locked.replace(4, &Kept { state: State::Tried, ..kept }).unwrap();
        let (kept, edit_of_1) = locked.edit(1).unwrap();
        assert_eq!(edit, change(7));
        locked.end(1, &kept, &edit_of_1, End::Done(Some(9))).unwrap();
        let bases = [2, 3, 4].map(|number| locked.edit(number).unwrap().1.base);
        assert_eq!(bases, [Some(9), Some(7), Some(7)]);
        assert!(locked.edit(1).is_err());
        assert_eq!(outbox.shown(&alice).unwrap().unwrap().base(&bob()), 9);
    }

    /// What an edit came to that cannot be kept as known stops nothing behind it.
    #[test]
    fn an_edit_that_is_done_waits_no_more_whatever_is_known_of_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        let alice = address("alice@a.example");
        outbox.put(&alice, change(7)).unwrap();
        // It can neither be read nor be written.
        std::fs::create_dir(folder.path().join("alice.toml.outbox/shown")).unwrap();
        assert!(outbox.was_edited(&alice, &bob(), 9).is_err());
        let locked = outbox.lock().unwrap();
        let (kept, edit) = locked.edit(1).unwrap();
        assert!(matches!(locked.end(1, &kept, &edit, End::Done(Some(9))), Ok(Verdict::Changed)));
        assert!(outbox.entries().unwrap().is_empty());
    }

    /// What was dropped or refused stays until its writer says what is to become of it, and is then made on
    /// the list as it was shown since.
    #[test]
    fn what_ended_is_made_again_on_the_list_as_it_was_shown() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        let alice = address("alice@a.example");
        outbox.was_shown(&alice, 7).unwrap();
        outbox.put(&alice, change(7)).unwrap();
        let locked = outbox.lock().unwrap();
        let (kept, edit) = locked.edit(1).unwrap();
        assert!(matches!(locked.end(1, &kept, &edit, End::Dropped), Ok(Verdict::Dropped)));
        assert_eq!(locked.edit(1).unwrap().0.state, State::Dropped);
        outbox.was_shown(&alice, 11).unwrap();
        locked.again(1, impp_protocol::Timestamp::default()).unwrap();
        let (kept, edit) = locked.edit(1).unwrap();
        assert_eq!((kept.state, edit), (State::New, change(11)));
    }
}
