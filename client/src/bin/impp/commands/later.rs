//! What is written down to go later: it is put into the outbox, and what waits there is sent. That it waits
//! on the disk is enough.

use impp_client::outbox::{Edit, Kept, Outbox, OutboxError, State, Token, Verdict, Written};
use impp_client::protocol::Address;
use impp_client::protocol::state::ContactEdit;
use impp_client::{Client, ClientError};

use super::contacts;
use super::outbox::{WaitingJson, in_conflict};
use crate::output::Output;
use crate::report::Failure;

/// What became of something that was just written down.
pub(super) enum Became {
    /// That.
    Told(Verdict),
    /// Another program has sent it meanwhile.
    Taken,
    /// Another program has tried it meanwhile; it stays in the outbox with that.
    Kept(Verdict),
    /// It waits; why, if that is known.
    Waits(Option<String>),
}

/// Writes it down under a number, and sends what waits. It is out again where it failed: who wrote it is
/// told, and has it still.
pub(super) async fn written(
    written: Written,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<(u64, Became), Failure> {
    let (number, token) = outbox.put(client.address(), written)?;
    let (mut verdict, mut others, mut asked) = (None, 0, Vec::new());
    let told = |at: u64, kept: Option<&Kept>, told: Verdict| {
        // What cannot be read has no token.
        let is_own = kept.map_or(at == number, |kept| kept.token == token);
        match is_own {
            true => verdict = Some(told),
            false => {
                others += usize::from(!told.is_done());
                asked.extend(kept.and_then(|kept| in_conflict(&kept.written, &told)));
            }
        }
        is_own
    };
    let sending = client.send_outbox(outbox, told).await;
    if others > 0 {
        out.note(&format!("in the outbox {others} more have not been taken: impp outbox list"));
    }
    for address in &asked {
        show_anew(client, address, out).await;
    }
    let became = match verdict {
        Some(verdict) => Became::Told(verdict),
        None => untold((number, token), sending, outbox)?,
    };
    Ok((number, became))
}

/// What became of one's own where nothing was told of it: another program has looked at it meanwhile, or
/// this one came no further.
fn untold(
    (number, token): (u64, Token),
    sending: Result<(), OutboxError>,
    outbox: &Outbox,
) -> Result<Became, Failure> {
    let cause = sending.err().map(|error| error.to_string());
    for entry in outbox.entries()? {
        return Ok(match entry.kept {
            Err(text) if entry.number == number => Became::Kept(Verdict::Broken(text)),
            Ok(kept) if kept.token == token => match kept.state {
                State::Failed(error) => Became::Kept(Verdict::Failed(error)),
                State::Dropped => Became::Kept(Verdict::Dropped),
                _ => Became::Waits(cause),
            },
            _ => continue,
        });
    }
    Ok(Became::Taken)
}

/// How far an edit has come.
pub(super) enum Came {
    /// It is done.
    Done,
    /// It waits in the outbox, which was said.
    Waits,
    /// It stays there and will not go by itself, which was said.
    Stays,
}

/// Writes an edit of the contact list down, made on that as it was last shown here, and sends what waits.
pub(super) async fn edit(
    change: ContactEdit,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<Came, Failure> {
    let Some(edit) = on_what_was_shown(change, client, outbox)? else { return Ok(Came::Done) };
    let Some(address) = edit.address().cloned() else { return Ok(Came::Done) };
    let waits = Written::from(edit);
    let (number, became) = written(waits.clone(), client, outbox, out).await?;
    if let Became::Told(verdict) | Became::Kept(verdict) = &became
        && let Some(address) = in_conflict(&waits, verdict)
    {
        show_anew(client, &address, out).await;
    }
    let line = match became {
        Became::Taken | Became::Told(Verdict::Changed) => return Ok(Came::Done),
        Became::Told(Verdict::Gone) => {
            out.note(&format!("{address} is no contact"));
            return Ok(Came::Done);
        }
        Became::Told(Verdict::Failed(error)) => return Err(ClientError::Answered(error).into()),
        Became::Told(Verdict::Dropped) => return Err(dropped(&address)),
        Became::Told(verdict) | Became::Kept(verdict) => {
            WaitingJson::of(number, Some(&waits), &verdict)
        }
        Became::Waits(cause) => WaitingJson::new(number, Some(&waits), "waiting", cause),
    };
    out.item(&line, WaitingJson::line)?;
    Ok(if line.waits() { Came::Waits } else { Came::Stays })
}

/// An edit, made on the list as it was last shown here; none, if it is about nobody.
fn on_what_was_shown(
    change: ContactEdit,
    client: &Client,
    outbox: &Outbox,
) -> Result<Option<Edit>, Failure> {
    let edit = Edit::new(change, None);
    let Some(address) = edit.address() else { return Ok(None) };
    let shown = outbox.shown(client.address())?;
    let base = shown.map(|shown| shown.base(address));
    if base.is_none() && edit.change.remove.is_none() {
        let text = "--later: your contact list was not shown here yet, so nothing says what this is made on";
        let hint = "impp contacts list shows it, once the server can be reached";
        return Err(Failure::usage_hint(text, hint));
    }
    match edit.over_limit(client.address()) {
        Some(over) => Err(ClientError::TooLarge(over).into()),
        None => Ok(Some(Edit { base, ..edit })),
    }
}

/// The entry was removed since an edit of it was made.
pub(super) fn dropped(address: &Address) -> Failure {
    let text = format!("{address} was removed by another device; nothing changed");
    Failure::Missing(text)
}

/// An edit cannot be made as the list is now: its person is shown how that is, and decides.
pub(super) async fn show_anew(client: &Client, address: &Address, out: &Output) {
    match contacts::as_it_is(client, address).await {
        Ok(line) => out.note(&format!("the contact list as it is now: {line}")),
        // What is asked of the person stands in the error.
        Err(_) => out.note("the contact list could not be read anew"),
    }
    out.note("impp contacts list shows all of it; a change that is made after that is made on it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_client::protocol::state::ContactChange;

    /// What was written down and cannot be read is not taken for sent, and what fits no frame is not written.
    #[test]
    fn what_cannot_be_read_was_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        let [alice, bob]: [Address; 2] =
            ["alice@a.example", "bob@a.example"].map(|text| text.parse().unwrap());
        let edit = Edit::new(ContactEdit::remove(bob.clone()), Some(7));
        assert_eq!(edit.over_limit(&alice), None);
        let own = outbox.put(&alice, edit).unwrap();
        let became = || untold(own, Ok(()), &outbox).unwrap();
        assert!(matches!(became(), Became::Waits(None)));
        let path = folder.path().join(format!("alice.toml.outbox/{:012}.message", own.0));
        std::fs::write(&path, b"torn").unwrap();
        assert!(matches!(became(), Became::Kept(Verdict::Broken(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(became(), Became::Taken));
        let more_groups = vec!["g".repeat(60_000); 3];
        let change = ContactChange { more_groups, ..ContactChange::of(bob) };
        let long = Edit::new(ContactEdit::change(change), Some(7));
        assert!(long.over_limit(&alice).is_some());
    }
}
