//! Edits of one list from several devices at once.

use std::future::Future;

use impp_protocol::command::Publish;
use impp_protocol::state::{self, Contact, ContactEdit, Grant, SubscriptionState};
use impp_protocol::{Command, What};

use crate::life::Server;
use crate::session::Session;
use crate::session::tests::{address, ask, sign_in_on, start};

fn edit(set: Option<Contact>) -> Publish {
    let remove = set.is_none().then(|| address("bob"));
    let content = Some(state::encode(&ContactEdit { set, remove, change: None }));
    Publish::of(address("alice"), What::Contacts, content)
}

fn entry() -> Contact {
    let (name, groups, follow, grant) = (None, Vec::new(), true, Grant::None.into());
    Contact { address: address("bob"), name, groups, follow, grant, subscription: None }
}

/// After others have had so many turns.
async fn later<T>(turns: usize, work: impl Future<Output = T>) -> T {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
    work.await
}

/// Whether the list says that bob is followed, and whether he is.
async fn stands(server: &Server) -> [bool; 2] {
    let (alice, bob) = (address("alice"), address("bob"));
    let listed = server.rooms.principals.look(&alice, |principal, _| {
        principal.presentity.policy().contacts.get(&address("bob")).is_some_and(|one| one.follow)
    });
    let stands = server.rooms.reach.stands(&bob, &alice).await.unwrap();
    // Who let go before it was decided waits.
    let ended = [SubscriptionState::Terminated, SubscriptionState::Waiting];
    let followed = stands.is_some_and(|stands| !ended.contains(&stands.state));
    [listed.await.unwrap(), followed]
}

async fn at_once(server: &Server, adds: &mut Session, removes: &mut Session, turns: [usize; 2]) {
    let (add, remove) = (ask(adds, edit(Some(entry()))), ask(removes, edit(None)));
    let (added, _) = tokio::join!(later(turns[0], add), later(turns[1], remove));
    assert!(matches!(added, Command::Ok(_)), "{added:?}");
    let [listed, followed] = stands(server).await;
    assert_eq!(listed, followed, "turns: {turns:?}");
}

/// One device adds and the other removes, in whichever order that comes: who is in the list in the end is
/// followed, and nobody else.
#[tokio::test]
async fn of_edits_at_once_the_following_is_as_the_list_says_in_the_end() {
    let server = start().await;
    let mut phone = sign_in_on(&server, "alice", 1).await;
    let mut laptop = sign_in_on(&server, "alice", 2).await;
    for first in 0..12 {
        for second in 0..12 {
            at_once(&server, &mut phone, &mut laptop, [first, second]).await;
        }
    }
    // Once more, it changes nothing.
    ask(&mut phone, edit(None)).await;
    let Command::Error(error) = ask(&mut phone, edit(None)).await else { panic!("removed twice") };
    assert_eq!(error.code, impp_protocol::Code::NotFound);
    assert_eq!(stands(&server).await, [false, false]);
}
