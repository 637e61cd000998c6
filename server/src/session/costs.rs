//! What a request costs its account: one line each. What that may spend is `core::budget`'s.

use std::time::Duration;

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
    match publish.what {
        What::Presence if publish.lease.is_none() => work(2),
        What::Typing => work(1),
        What::Presence => stores(2, 1, bytes),
        // Each session that follows the list looks at all of it again.
        What::Contacts => stores(4 + 2 * sessions(), 4, bytes),
        // All watchers are judged anew.
        What::Rules => stores(8, 1, bytes),
        What::Requests => stores(16, 1, bytes),
        // Of a new conversation all others are looked at.
        What::ReadMarks => stores(4, 1, bytes),
        What::Watchers | What::Subscriptions | What::Devices | What::Log => stores(2, 1, bytes),
        // Nobody publishes these; it is refused.
        What::Layer | What::Explain | What::Acts | What::Delegations => stores(2, 1, bytes),
        What::Fate => stores(2, 1, bytes),
    }
}

fn subscribed(subscribe: &Subscribe) -> Cost {
    match subscribe.what {
        What::Contacts => work(32),
        // All are read.
        What::Watchers | What::ReadMarks => work(8),
        What::Requests => work(16),
        // It is stored from both sides.
        What::Presence if subscribe.lease.is_some() => stores(1, 2, 0),
        What::Presence | What::Log | What::Typing => work(1),
        // Nobody follows these; it is refused.
        What::Layer | What::Subscriptions | What::Rules | What::Explain | What::Devices => work(1),
        What::Acts | What::Delegations | What::Fate => work(1),
    }
}

fn fetched(fetch: &Fetch, who: &Address) -> Cost {
    match fetch.what {
        // Held messages are read whole.
        What::Requests => work(16),
        // For one conversation as much is looked at as backwards in a log, below.
        What::Watchers | What::Subscriptions | What::Contacts | What::Acts | What::ReadMarks => {
            work(8)
        }
        // Each owner for whom one may act is looked at.
        What::Delegations => work(32),
        // Rules are read as for a change of them.
        What::Explain => work(8),
        // Many items may be looked at for few, as for a delegate always.
        What::Log if fetch.backwards || fetch.address != *who => work(8),
        // Each page of the log that it has read costs more, see `READ`.
        What::Log => work(2),
        What::Presence | What::Layer | What::Rules | What::Devices | What::Fate => work(1),
        // Nobody reads it; it is refused.
        What::Typing => work(1),
    }
}

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
