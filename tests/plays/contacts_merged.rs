//! The contact list, changed by devices that have not heard of each other, over a crash.

use impp_protocol::command::{Done, Publish};
use impp_protocol::state::{self, Contact, ContactChange, ContactEdit, Contacts, Following, Grant};
use impp_protocol::{Code, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{Answer, Peer, fetch, publish};

use crate::rules::strangers;

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";

fn change() -> ContactChange {
    ContactChange { add: true, ..ContactChange::of(BOB.parse().unwrap()) }
}

async fn edits(peer: &mut Peer, edit: ContactEdit, base: Option<u64>) -> Answer {
    let content = Some(state::encode(&edit));
    let edit = Publish { base, ..publish(ALICE, What::Contacts, content) };
    peer.request(edit).await
}

async fn changes(peer: &mut Peer, change: ContactChange, base: u64) -> Answer {
    edits(peer, ContactEdit::change(change), Some(base)).await
}

async fn list(peer: &mut Peer) -> (Vec<Contact>, u64) {
    let Done { content, number, .. } = peer.done(fetch(ALICE, What::Contacts)).await;
    let entries = state::decode::<Contacts>(content.unwrap_or_default()).unwrap().entries;
    (entries, number.expect("a number"))
}

fn number(answer: Answer) -> u64 {
    answer.expect("an edit that is done").number.expect("a number")
}

fn code(answer: Answer) -> Code {
    answer.expect_err("an edit that is refused").code
}

/// Two devices were away: each changes what it changes, what one has removed the other does not bring
/// back, and what one has taken back the other does not grant. So it is after a crash too.
#[tokio::test]
async fn devices_that_were_away_change_one_list_each_for_itself() {
    let mut server = strangers(&["bob"]);
    let mut phone = Peer::sign_in_on(&server, "alice", 1).await;
    let mut laptop = Peer::sign_in_on(&server, "alice", 2).await;
    let grant = Some(Grant::Status);
    let first = number(changes(&mut phone, ContactChange { grant, ..change() }, 0).await);
    let named = ContactChange { name: Some("Bob".to_owned()), ..change() };
    number(changes(&mut phone, named.clone(), first).await);
    let more_groups = vec!["work".to_owned(), "home".to_owned()];
    number(changes(&mut laptop, ContactChange { more_groups, ..change() }, first).await);
    let less_groups = vec!["work".to_owned()];
    number(changes(&mut phone, ContactChange { less_groups, ..change() }, first).await);
    let follow = Some(Following::Yes);
    let followed = changes(&mut laptop, ContactChange { follow, ..change() }, first).await;
    assert!(followed.as_ref().expect("an answer").state.is_some());
    let (entries, now) = list(&mut phone).await;
    let bob = &entries[0];
    assert_eq!((bob.name.as_deref(), &bob.groups[..]), (Some("Bob"), &["home".to_owned()][..]));
    assert_eq!((bob.follow, bob.grant, now), (true, Grant::Status.into(), number(followed)));
    // One takes back what it granted; the other, which has not heard of it, would grant more.
    let none = ContactChange { grant: Some(Grant::None), ..change() };
    let back = number(changes(&mut phone, none.clone(), first).await);
    let all = ContactChange { grant: Some(Grant::All), ..change() };
    assert_eq!(code(changes(&mut laptop, all.clone(), now).await), Code::Conflict);
    server.kill9();
    server.restart();
    let mut laptop = Peer::sign_in_on(&server, "alice", 2).await;
    assert_eq!(code(changes(&mut laptop, all.clone(), now).await), Code::Conflict);
    assert_eq!(list(&mut laptop).await.1, back);
    // One removes the entry; the other had something to say of it.
    let gone = edits(&mut laptop, ContactEdit::remove(BOB.parse().unwrap()), Some(first)).await;
    let gone = number(gone);
    server.kill9();
    server.restart();
    let mut phone = Peer::sign_in_on(&server, "alice", 1).await;
    let dropped = changes(&mut phone, named.clone(), back).await.expect("an answer");
    assert!(dropped.dropped && dropped.number.is_none());
    assert_eq!(list(&mut phone).await, (vec![], gone));
    let bare = ContactChange { add: false, ..named.clone() };
    assert_eq!(code(changes(&mut phone, bare, gone).await), Code::NotFound);
    number(changes(&mut phone, all, gone).await);
    assert!(changes(&mut phone, named, back).await.expect("an answer").dropped);
    assert_eq!(list(&mut phone).await.0[0].grant, Grant::All.into());
}

/// Edits of whole entries, as they were before there were others, are made on the list as it is.
#[tokio::test]
async fn edits_of_before_are_made_on_the_list_as_it_is() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let (address, name, groups) = (BOB.parse().unwrap(), None, vec![]);
    let entry = Contact {
        address,
        name,
        groups,
        follow: false,
        grant: Grant::All.into(),
        subscription: None,
    };
    for edit in [
        ContactEdit::set(entry.clone()),
        ContactEdit::remove(entry.address.clone()),
        ContactEdit::set(entry.clone()),
    ] {
        assert!(!edits(&mut alice, edit, None).await.expect("an answer").dropped);
    }
    assert_eq!(list(&mut alice).await.0, std::slice::from_ref(&entry));
    let both = ContactEdit { remove: Some(entry.address.clone()), ..ContactEdit::set(entry) };
    assert_eq!(code(edits(&mut alice, both, None).await), Code::Malformed);
    let impp = Impp::of(&server, "alice");
    let changed = impp.run(&["contacts", "add", BOB, "--name", "Bob", "--group", "g"]).one();
    assert_eq!((&changed["name"], &changed["grants"]), (&"Bob".into(), &"all".into()));
}
