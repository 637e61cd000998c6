//! Stores that earlier programs have left (`tests/stores/`, made by `tests/stores/make`): today's
//! program opens each of them, with all that is in it; what a later program has left it refuses.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use impp_protocol::command::{Fetch, Message, Outcome};
use impp_protocol::presence::Document;
use impp_protocol::state::{
    self, Contacts, Devices, Fate, ItemKind, RequestKind, SubscriptionState,
};
use impp_protocol::{Code, MessageId, What};
use impp_tests::peer::fetch;
use impp_tests::presence::person;
use impp_tests::server::{Profile, refused_start};
use impp_tests::{Peer, Server, Wire, eventually};
use rusqlite::Connection;

const STORES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stores");
/// A device that none of the accounts in the stores has.
const NEW_DEVICE: u8 = 9;

/// A server on a copy of a store.
struct Old {
    server: Server,
    made: toml::Table,
}

/// The folders of all stores that are kept.
fn stores() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(STORES).unwrap().map(|entry| entry.unwrap().path());
    let mut stores: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    stores.sort();
    assert!(stores.iter().any(|store| store.ends_with("v1")), "{stores:?}");
    stores
}

/// A server that has stopped, with a copy of a store in place of its own.
fn stopped_on(store: &Path) -> Server {
    let mut server = Server::with()
        .domain("a.example")
        .accounts(["somebody"])
        .set("federation.dns", toml_edit::Array::from_iter(["127.0.0.1:1"]))
        // What waited has been tried for long enough, whenever this runs.
        .set("federation.queue_seconds", 1)
        .start();
    server.stop();
    let place = server.data().join("store");
    for entry in std::fs::read_dir(&place).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for entry in std::fs::read_dir(store.join("store")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), place.join(entry.file_name())).unwrap();
    }
    server
}

impl Old {
    fn start(store: &Path) -> Old {
        let mut server = stopped_on(store);
        server.restart();
        let made = std::fs::read_to_string(store.join("made.toml")).unwrap();
        Old { server, made: made.parse().unwrap() }
    }

    /// An account that is in the store, with its password of then.
    fn profile(&self, name: &str) -> Profile {
        let password = self.made["passwords"][name]["password"].as_str().unwrap().to_owned();
        Profile { address: self.server.account(name), password }
    }

    async fn sign_in(&self, name: &str) -> Peer {
        let wire = Wire::dial(&self.server).await;
        Peer::over(wire, &self.profile(name), NEW_DEVICE).await.expect("a sign-in")
    }

    fn id(&self, what: &str) -> MessageId {
        let id = self.made["messages"][what].as_str().unwrap();
        id.parse().unwrap()
    }
}

/// The texts of an inbox.
async fn texts(peer: &mut Peer) -> Vec<String> {
    let inbox = peer.inbox().await;
    inbox.iter().map(|message| String::from_utf8(message.body.to_vec()).unwrap()).collect()
}

/// One of the caller's own things.
async fn own<T: impp_protocol::schema::Map>(peer: &mut Peer, what: What) -> T {
    let fetch = fetch(peer.address.clone().as_str(), what);
    state::decode(peer.done(fetch).await.content.unwrap_or_default()).unwrap()
}

/// Messages, copies, fates, custody.
async fn messages(old: &Old, alice: &mut Peer) {
    assert_eq!(texts(alice).await, ["acknowledged", "first", "second"]);
    let mut bob = old.sign_in("bob").await;
    assert_eq!(texts(&mut bob).await, ["from one who is gone", "from one who is off"]);
    for what in ["acknowledged", "first"] {
        assert_eq!(bob.whereabouts(old.id(what)).await.fate, Some(Fate::Delivered));
    }
    // What waited for another domain has come to its end, and its sender is told.
    let told = alice.fate(old.id("queued")).await;
    assert_eq!((told.fate, told.to.as_str()), (Fate::Failed, "x@far.example"), "{told:?}");
    let sent = alice.log().await.into_iter().filter(|item| item.kind == ItemKind::Sent);
    assert_eq!(sent.count(), 1);
    let none = async || (old.server.metrics().get("impp_queued_messages") == 0.0).then_some(());
    eventually("the queue to be empty", none).await;
}

/// A cursor that an earlier program gave stands for the place for which it stood then.
async fn cursor(old: &Old, alice: &mut Peer) {
    let Some(cursors) = old.made.get("cursors") else { return };
    let cursor = BASE64.decode(cursors["first"].as_str().unwrap()).unwrap();
    let behind = Fetch { cursor: Some(cursor.into()), ..fetch("alice@a.example", What::Log) };
    let page = alice.done(behind).await.content.unwrap();
    let page: state::Page = state::decode(page).unwrap();
    let next = Message::decode(page.items[0].message.clone().unwrap()).unwrap();
    assert_eq!(next.body, "second");
}

/// Rules, contacts, devices.
async fn settings(alice: &mut Peer) {
    let rules = alice.done(fetch("alice@a.example", What::Rules)).await.content.unwrap();
    let rules = String::from_utf8(rules.to_vec()).unwrap();
    for id in ["strangers-ask", "bob", "erin", "others"] {
        assert!(rules.contains(&format!("id = \"{id}\"")), "{rules}");
    }
    let contacts: Contacts = own(alice, What::Contacts).await;
    let contacts: Vec<_> = contacts
        .entries
        .iter()
        .map(|entry| (entry.address.as_str(), entry.name.as_deref(), entry.groups.join(",")))
        .collect();
    let (none, far) = (String::new, ("x@far.example", Some("Far"), "friends".to_owned()));
    let local = ["bob@a.example", "carol@a.example"].map(|address| (address, None, none()));
    assert_eq!(contacts, [local[0].clone(), local[1].clone(), far]);
    let devices: Devices = own(alice, What::Devices).await;
    assert_eq!(devices.entries.len(), 2, "{devices:?}");
    assert_eq!(devices.entries.iter().filter(|device| device.current).count(), 1);
}

/// Who waits, what is held, and what becomes of both.
async fn requests(old: &Old, alice: &mut Peer) {
    let erin: impp_protocol::Address = "erin@a.example".parse().unwrap();
    let watchers = alice.watchers().await;
    let stands = watchers.iter().find(|entry| entry.watcher == erin).map(|entry| entry.state);
    assert_eq!(stands, Some(SubscriptionState::Waiting));
    // Carol waits too: the rules came between her and what alice's contact list grants.
    let waiting = alice.requests().await.entries;
    let mut kinds: Vec<RequestKind> =
        waiting.iter().filter(|entry| entry.from == erin).map(|entry| entry.kind).collect();
    kinds.sort_by_key(|kind| *kind as u8);
    assert_eq!(kinds, [RequestKind::Subscribe, RequestKind::Message]);
    let decision = state::RequestEdit::of(erin.clone(), state::Decision::Allow);
    let content = Some(state::encode(&decision));
    let publish = impp_tests::peer::publish("alice@a.example", What::Requests, content);
    alice.done(publish).await;
    assert_eq!(texts(alice).await, ["acknowledged", "first", "second", "held"]);
    assert!(alice.requests().await.entries.iter().all(|entry| entry.from != erin));
    let mut erin = old.sign_in("erin").await;
    let seen = erin.done(fetch("alice@a.example", What::Presence)).await;
    assert_eq!(seen.state, Some(SubscriptionState::Active));
}

/// A lease of the store's time is over and shows nothing.
async fn presence(old: &Old) {
    let mut bob = old.sign_in("bob").await;
    let ended = async || {
        let seen = bob.look("alice@a.example").await;
        (seen == Document::offline()).then_some(())
    };
    eventually("the end of what was leased", ended).await;
}

/// Whoever was shut out still is, and whoever is gone is not made anew.
async fn accounts(old: &Old) {
    let off = old.profile("off");
    let refused = Peer::over(Wire::dial(&old.server).await, &off, 1).await.unwrap_err();
    assert_eq!(refused.code, Code::AuthFailed);
    old.server.user_ok(&["enable", "off@a.example"]);
    Peer::over(Wire::dial(&old.server).await, &off, 1).await.unwrap();
    assert_eq!(old.server.user(&["add", "gone@a.example"]).status.code(), Some(1));
    let mut carol = old.sign_in("carol").await;
    let gone = fetch("gone@a.example", What::Presence);
    assert_eq!(carol.refused(gone).await, Code::NotFound);
}

/// Everything that an earlier program has stored is there, before and after another start.
#[tokio::test(flavor = "multi_thread")]
async fn g14_g15_i5_a_store_of_each_earlier_format_opens_with_all_that_is_in_it() {
    for store in stores() {
        let mut old = Old::start(&store);
        // First, before anybody has looked at alice.
        presence(&old).await;
        let mut alice = old.sign_in("alice").await;
        messages(&old, &mut alice).await;
        cursor(&old, &mut alice).await;
        settings(&mut alice).await;
        requests(&old, &mut alice).await;
        accounts(&old).await;
        alice.show_for(&impp_tests::presence::open("new"), 3600).await.unwrap();
        old.server.kill9();
        old.server.restart();
        let mut bob = old.sign_in("bob").await;
        assert_eq!(bob.send("alice@a.example", "after").await, Outcome::Delivered);
        let mut alice = old.sign_in("alice").await;
        assert_eq!(texts(&mut alice).await, ["acknowledged", "first", "second", "held", "after"]);
        cursor(&old, &mut alice).await;
        alice.ack_all().await;
        let seen = bob.look("alice@a.example").await;
        assert_eq!(person(&seen, "note"), Some("new"));
    }
}

/// The store of a later program is refused with both formats named, and is not touched.
#[test]
fn g14_i5_an_older_program_refuses_a_newer_store_in_words() {
    for store in stores() {
        let server = stopped_on(&store);
        let database = server.data().join("store/store.sqlite");
        let connection = Connection::open(&database).unwrap();
        let known: u32 = connection.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
        connection.pragma_update(None, "user_version", known + 1000).unwrap();
        connection.close().unwrap();
        let before = std::fs::read(&database).unwrap();
        let config = server.config().display().to_string();
        let (code, stderr) = refused_start(&["serve", "--config", &config]);
        assert_eq!(code, Some(5), "{stderr}");
        let found = format!("the store has format {}", known + 1000);
        assert!(stderr.starts_with("error: ") && stderr.contains(&found), "{stderr}");
        assert!(stderr.contains("this program knows formats up to"), "{stderr}");
        assert!(std::fs::read(&database).unwrap() == before, "the store was touched");
    }
}
