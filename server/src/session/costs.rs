//! What a request costs its account: the work that the table of things says (`acl/src/things.rs`), what is
//! stored, and what it costs more by how it is asked. What that may spend is `core::budget`'s.

use std::time::Duration;

use impp_acl::{Ask, thing};
use impp_protocol::command::{Fetch, Publish, Subscribe};
use impp_protocol::{Address, Command, What};

use crate::core::budget::Cost;

/// What a row and its place in the indexes weigh on the disk beside its contents.
const ROW_BYTES: u64 = 256;

/// What no client asks once it is signed in.
macro_rules! not_asked {
    () => {
        Command::Hello(_)
            | Command::Auth(_)
            | Command::Challenge(_)
            | Command::Ok(_)
            | Command::Error(_)
            | Command::Notify(_)
            | Command::Bye(_)
    };
}

/// Whether something is taken back by it, or room made: that is owed, and never refused.
pub(super) fn takes_back(command: &Command) -> bool {
    match command {
        Command::Ack(_) => true,
        Command::Subscribe(subscribe) => subscribe.lease == Some(Duration::ZERO),
        // Of devices, and of the log, nothing can be published but that one is to go.
        Command::Publish(publish) => {
            matches!(publish.what, What::Devices | What::Log) || publish.content.is_none()
        }
        Command::Message(_) | Command::Fetch(_) | Command::Ping(_) => false,
        not_asked!() => false,
    }
}

/// What a request costs the account that asks, which has so many sessions.
pub(super) fn of(command: &Command, who: &Address, sessions: impl FnOnce() -> u64) -> Cost {
    match command {
        // In an inbox or on its way, the copy and the fate in its sender's log, the record of its id.
        Command::Message(message) if !message.volatile => stores(1, 4, message.body.len()),
        Command::Message(_) => work(1),
        Command::Publish(publish) => published(publish, sessions),
        Command::Subscribe(subscribe) => subscribed(subscribe),
        Command::Fetch(fetch) => fetched(fetch, who),
        Command::Ack(_) | Command::Ping(_) => work(1),
        not_asked!() => work(1),
    }
}

fn published(publish: &Publish, sessions: impl FnOnce() -> u64) -> Cost {
    let bytes = publish.content.as_ref().map_or(0, |content| content.len());
    let Some(one) = thing(publish.what).work(Ask::Publish) else { return REFUSED };
    match publish.what {
        // It is bound to the session, or for a moment: nothing is stored.
        What::Presence if publish.lease.is_none() => work(one),
        What::Typing => work(one),
        // Each session that follows the list looks at all of it again.
        What::Contacts => stores(one + 2 * sessions(), 4, bytes),
        _ => stores(one, 1, bytes),
    }
}

fn subscribed(subscribe: &Subscribe) -> Cost {
    let Some(one) = thing(subscribe.what).work(Ask::Follow) else { return REFUSED };
    match subscribe.what {
        // It is stored from both sides.
        What::Presence if subscribe.lease.is_some() => stores(one, 2, 0),
        _ => work(one),
    }
}

fn fetched(fetch: &Fetch, who: &Address) -> Cost {
    let Some(one) = thing(fetch.what).work(Ask::Fetch) else { return REFUSED };
    match fetch.what {
        // Many items may be looked at for few, as for a delegate always. Each page of the log that it has
        // read costs more, see `READ`.
        What::Log if fetch.backwards || fetch.address != *who => work(4 * one),
        _ => work(one),
    }
}

/// What nobody may ask of a thing.
const REFUSED: Cost = Cost { work: 1, stored: 0 };

/// A page of the log that was read for an answer.
pub(super) const READ: Cost = Cost { work: 2, stored: 0 };

fn work(work: u64) -> Cost {
    Cost { work, stored: 0 }
}

fn stores(work: u64, rows: u64, bytes: usize) -> Cost {
    Cost { work, stored: rows * ROW_BYTES + bytes as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_sessions_follow_costs_with_them() {
        let address = Address::parse("alice@a.example").unwrap();
        let of = |command: &Command, sessions: u64| of(command, &address, || sessions);
        let edit = |what| {
            let content = Some(bytes::Bytes::from_static(b"edit"));
            Command::Publish(Publish { content, ..Publish::of(address.clone(), what, None) })
        };
        assert_eq!(of(&edit(What::Contacts), 50).work, 104);
        assert_eq!(of(&edit(What::Rules), 50), of(&edit(What::Rules), 1));
        assert!(of(&edit(What::Rules), 1).stored > ROW_BYTES);
        // Of what nobody publishes nothing is stored.
        assert_eq!(of(&edit(What::Explain), 50), REFUSED);
    }

    #[test]
    fn what_the_table_says_is_what_is_paid() {
        let address = Address::parse("alice@a.example").unwrap();
        for what in What::EVERY.iter().copied() {
            let fetch: Command = Fetch::of(address.clone(), what).into();
            let wanted = thing(what).work(Ask::Fetch).unwrap_or(REFUSED.work);
            assert_eq!(of(&fetch, &address, || 0), work(wanted), "{what}");
            let publish: Command = Publish::of(address.clone(), what, None).into();
            let wanted = thing(what).work(Ask::Publish).unwrap_or(REFUSED.work);
            assert_eq!(of(&publish, &address, || 0).work, wanted, "{what}");
        }
    }

    #[test]
    fn a_delegate_pays_for_what_is_looked_at_between() {
        let [alice, bob] = ["alice@a.example", "bob@a.example"].map(|a| Address::parse(a).unwrap());
        let forwards = Fetch::of(alice.clone(), What::Log);
        let backwards = Command::Fetch(Fetch { backwards: true, ..forwards.clone() });
        let forwards = Command::Fetch(forwards);
        assert_eq!(of(&forwards, &alice, || 1).work, 2);
        assert_eq!(of(&forwards, &bob, || 1), of(&backwards, &alice, || 1));
    }
}
