//! Attackers who have a domain.

use std::sync::Arc;
use std::time::Duration;

use impp_protocol::command::{Done, Notify};
use impp_protocol::presence::Version;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Command, What};
use impp_tests::BadPeer;
use impp_tests::badpeer::Link;
use impp_tests::peer::subscribe;
use impp_tests::presence::document;
use impp_tests::wire::bytes_of;

use super::Task;
use crate::arena::Arena;

const WATCHERS: usize = 30;

pub(super) async fn hostile_home(arena: Arc<Arena>) -> Vec<Task> {
    let home = arena.bad_domain().await;
    let star = home.account("star");
    let mut tasks: Vec<Task> = Vec::new();
    let mut people = arena.people(WATCHERS);
    people.sort_by(|one, other| one.address.cmp(&other.address));
    let members: Vec<u8> =
        people.iter().flat_map(|one| [one.address.as_bytes(), &[0]].concat()).collect();
    for profile in people {
        let wire = impp_tests::Wire::dial(arena.server()).await;
        let mut peer = impp_tests::Peer::over(wire, &profile, 1).await.unwrap();
        let star = star.clone();
        let arena = arena.clone();
        tasks.push(Box::pin(async move {
            peer.done(subscribe(star.as_str(), What::Presence)).await;
            loop {
                drop(peer.unsolicited().await);
                arena.tally.count("NOTIFY to a watcher");
            }
        }));
    }
    tasks.push(Box::pin(tell(arena, home, star, members)));
    tasks
}

/// Takes all watchers into one group, and tells them of one document after the other.
async fn tell(arena: Arc<Arena>, home: BadPeer, star: Address, members: Vec<u8>) {
    let mut link = home.accept().await;
    for _ in 0..WATCHERS {
        admit(&mut link).await;
    }
    let set = Some(Version::of(&members));
    for n in 0.. {
        let fields = large(n);
        let fields: Vec<_> = fields.iter().map(|(a, b)| (&**a, &**b)).collect();
        let document = document(&fields, &[]).encode();
        let notify = Notify {
            group: Some(1),
            set,
            version: Some(Version::of(&document)),
            snapshot: Some(document),
            ..Notify::of(star.clone(), What::Presence, SubscriptionState::Active)
        };
        if link.wire().try_write(&bytes_of(0, notify)).await.is_err() {
            arena.tally.count("link ended");
            return;
        }
        arena.tally.count("NOTIFY sent");
    }
}

/// Answers the next request: whoever subscribes is in the one group.
async fn admit(link: &mut Link) {
    let Some(request) = link.try_asked().await else { return };
    let done = match request.command {
        Command::Subscribe(subscribe) => Done {
            state: Some(SubscriptionState::Active),
            lease: subscribe.lease.or(Some(Duration::from_secs(3600))),
            group: Some(1),
            ..Done::empty()
        },
        _ => Done::empty(),
    };
    link.wire().send(request.number, done).await;
}

/// Fields of about 40 KiB.
fn large(n: u64) -> Vec<(String, String)> {
    (0..20)
        .map(|field| (format!("a.example.f{field}"), format!("{n}{}", "x".repeat(2000))))
        .collect()
}
