//! Those who prove no name (SASL ANONYMOUS): off unless a domain lets them in, and then they see what the
//! rules show to everybody, and nothing else is theirs.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use impp_protocol::command::{Ack, Fetch, Ping, Subscribe};
use impp_protocol::presence::Document;
use impp_protocol::state::{self, SubscriptionEvent, SubscriptionState, WatcherEdit, WatcherEntry};
use impp_protocol::{Address, Code, Command, Error, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{fetch, message, publish, subscribe};
use impp_tests::presence::{Watcher, document, layer, open};
use impp_tests::server::Start;
use impp_tests::wire::Dial;
use impp_tests::{Peer, Server, Wire, eventually};

use crate::domain_policy::reload;
use crate::rules::{ALL, rule, strangers};
use crate::settings::Setting;

const ALICE: &str = "alice@localhost";
const NOBODY: &str = "nobody@localhost";

/// What everybody sees, named or not, and what only who has a name does.
fn rules(handling: &str) -> String {
    let all = |id: &str, who: &str, rest: &str| {
        format!("[[rule]]\nid = \"{id}\"\nwho = [\"{who}\"]\n{rest}\n")
    };
    let everybody = format!("handling = \"{handling}\"\nfields = [\"note\"]");
    all("everybody", "anonymous", &everybody)
        + &all("named", "authenticated", "handling = \"allow\"\nfields = [\"note\", \"mood\"]")
}

/// Whether the first domain lets in who proves no name.
pub(crate) fn lets_in(server: &Server, whether: bool) {
    let text = std::fs::read_to_string(server.config()).unwrap();
    let (off, on) = ("# anonymous = true", "anonymous = true");
    let text = match whether {
        true => text.replacen(off, on, 1),
        false => text.replacen(on, off, 1),
    };
    std::fs::write(server.config(), text).unwrap();
    assert_eq!(reload(server), (Some(0), String::new()));
}

async fn visit(server: &Server) -> Peer {
    Peer::nameless(Wire::dial(server).await).await.expect("to be let in")
}

async fn nameless(alice: &mut Peer) -> Option<WatcherEntry> {
    alice.watchers_and_lookers().await.into_iter().find(|entry| entry.watcher.is_anonymous())
}

/// Alice, who shows herself, and a server that lets in who has no name.
async fn shown() -> (Server, Peer) {
    let server = strangers(&["bob"]);
    lets_in(&server, true);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rules("allow")).await;
    alice.show(&document(&[("mood", "happy"), ("note", "here")], &[])).await;
    (server, alice)
}

/// They look and follow, see what is shown to everybody, and are told of changes; the owner sees how many
/// they are, that they have proven nothing, and can send them away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_1_3_who_proves_no_name_sees_what_everybody_may() {
    let (server, mut alice) = shown().await;
    let note = |text: &str| document(&[("note", text)], &[]).person;
    let mut one = Watcher::of(visit(&server).await, ALICE).await;
    assert_eq!((&one.peer.welcome.address, &one.peer.welcome.resume), (&None, &None));
    let mut other = Watcher::of(visit(&server).await, ALICE).await;
    assert_eq!(one.held.document().person, note("here"));
    assert_eq!(other.peer.look(ALICE).await.person, note("here"));
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    assert_eq!(bob.held.document().person.len(), 2);
    alice.show(&document(&[("mood", "sad"), ("note", "there")], &[])).await;
    for watcher in [&mut one, &mut other] {
        watcher.until_note("there").await;
        assert_eq!(watcher.held.document().person, note("there"));
    }
    bob.until_note("there").await;
    let listed = nameless(&mut alice).await.expect("an entry");
    assert_eq!((listed.proven, listed.by, listed.sessions), (false, None, Some(2)));
    assert_eq!((listed.state, listed.looks), (SubscriptionState::Active, Some(1)));
    let printed = Impp::of(&server, "alice").run(&["watchers"]).objects;
    let printed = printed.iter().find(|item| item["watcher"] == "anonymous").expect("a line");
    assert_eq!((&printed["proven"], &printed["sessions"]), (&false.into(), &2.into()));
    other.peer.leave().await;
    eventually("one less", async || {
        nameless(&mut alice).await.filter(|entry| entry.sessions == Some(1)).map(drop)
    })
    .await;
    // Other rules end it at once, and it is said why.
    alice.set_rules(&rules("block")).await;
    one.until(|held| held.state == Some(SubscriptionState::Terminated)).await;
    assert_eq!(one.held.event, Some(SubscriptionEvent::Rejected));
    assert_eq!(one.peer.refused(fetch(ALICE, What::Presence)).await, Code::Refused);
    alice.set_rules(&rules("allow")).await;
    let mut again = Watcher::of(one.peer, ALICE).await;
    let remove = state::encode(&WatcherEdit { remove: Address::anonymous().clone() });
    alice.done(publish(ALICE, What::Watchers, Some(remove))).await;
    again.until(|held| held.state == Some(SubscriptionState::Terminated)).await;
    assert_eq!(again.held.event, Some(SubscriptionEvent::Deactivated));
}

/// Rules of everybody's own are judged: a rule for those without a name keeps them out, or has them see
/// somebody who is offline; and nobody is asked about them. By default they see nothing, and nobody
/// learns who exists.
#[tokio::test]
async fn r5_1_14_rules_keep_out_who_proves_no_name() {
    let (server, mut alice) = shown().await;
    let mut peer = visit(&server).await;
    alice.set_rules(&rules("polite-block")).await;
    assert_eq!(peer.look(ALICE).await, Document::offline());
    for handling in ["block", "confirm"] {
        alice.set_rules(&rules(handling)).await;
        let error = peer.request(fetch(ALICE, What::Presence)).await.unwrap_err();
        assert_eq!(error.code, Code::Refused, "{handling}");
        let stranger = peer.request(fetch(NOBODY, What::Presence)).await.unwrap_err();
        let words = |text: Option<String>| text.unwrap().replace(NOBODY, ALICE);
        assert_eq!((stranger.code, words(stranger.text)), (error.code, words(error.text)));
        assert_eq!(peer.refused(subscribe(ALICE, What::Presence)).await, Code::Refused);
        assert!(alice.requests().await.entries.is_empty());
    }
    // An address in the text, or the domain of it, does not name them.
    let named = "[[rule]]\nid = \"a\"\nwho = [\"anonymous@anonymous.invalid\", \
                 \"domain:anonymous.invalid\", \"authenticated\"]\nhandling = \"allow\"\n";
    alice.set_rules(named).await;
    assert_eq!(peer.refused(fetch(ALICE, What::Presence)).await, Code::Refused);
    let why = Impp::of(&server, "alice").run(&["rules", "explain", "anonymous"]).one();
    assert_eq!(why["decision"], "block");
    // Bob has the rules of a new account.
    assert_eq!(peer.refused(fetch("bob@localhost", What::Presence)).await, Code::Refused);
}

/// All else is refused, whatever is named: no things of anybody's, no lease, nothing of other domains.
#[tokio::test]
async fn r5_1_3_nothing_else_is_theirs() {
    let (server, mut alice) = shown().await;
    let mut peer = visit(&server).await;
    let own = "anonymous@anonymous.invalid";
    for owner in [ALICE, own, NOBODY] {
        for what in What::ALL.iter().map(|of| of.0) {
            if what != What::Presence {
                assert_eq!(peer.refused(fetch(owner, what)).await, Code::Refused, "{what}");
                assert_eq!(peer.refused(subscribe(owner, what)).await, Code::Refused, "{what}");
            }
            let content = Some(layer(&open("x")));
            assert_eq!(peer.refused(publish(owner, what, content)).await, Code::Refused, "{what}");
        }
    }
    let cursor = alice.log().await.pop().map(|item| item.cursor).unwrap_or_default();
    let presence = || fetch(ALICE, What::Presence);
    let follow = || subscribe(ALICE, What::Presence);
    let hour = Some(Duration::from_secs(3600));
    let refused: Vec<Command> = vec![
        message(ALICE, "hello").into(),
        Ack { address: alice.address.clone(), cursor }.into(),
        Subscribe { lease: hour, ..follow() }.into(),
        Subscribe { watcher: Some(alice.address.clone()), ..follow() }.into(),
        Fetch { watcher: Some(alice.address.clone()), ..presence() }.into(),
        fetch("x@b.example", What::Presence).into(),
        subscribe("x@b.example", What::Presence).into(),
        fetch(own, What::Presence).into(),
    ];
    for command in refused {
        let name = format!("{command:?}");
        assert_eq!(peer.refused(command).await, Code::Refused, "{name}");
    }
    assert_eq!(peer.look(ALICE).await.person.len(), 1);
    assert!(alice.inbox().await.is_empty());
    assert_eq!(nameless(&mut alice).await.map(|entry| entry.by), Some(None));
    // Without a word of the domain nobody comes in so; who is in is shown nothing more.
    lets_in(&server, false);
    let error = Peer::nameless(Wire::dial(&server).await).await.unwrap_err();
    assert_eq!(error.code, Code::NotOffered);
    assert_eq!(peer.refused(presence()).await, Code::Refused);
}

/// What followed without a name is forgotten by a crash, and nothing of it is on the disk.
#[tokio::test]
async fn r5_1_3_nothing_of_them_is_stored() {
    let (mut server, mut alice) = shown().await;
    let mut peer = visit(&server).await;
    peer.follow(ALICE).await;
    peer.look(ALICE).await;
    server.kill9();
    server.restart();
    alice = Peer::sign_in(&server, alice.address.local()).await;
    assert_eq!(nameless(&mut alice).await, None);
    alice.set_rules(&(rules("allow") + &rule("bob", "allow", ALL))).await;
    assert_eq!(visit(&server).await.look(ALICE).await, Document::offline());
}

/// The command proves no name either, with the profile of somebody who has one.
#[test]
fn r5_1_3_the_command_looks_without_a_name() {
    let server = strangers(&["bob"]);
    let [alice, bob] = ["alice", "bob"].map(|name| Impp::of(&server, name));
    let refused = bob.run(&["fetch", ALICE, "--anonymous"]);
    assert_eq!((refused.code, refused.objects.len()), (4, 0), "{refused:?}");
    lets_in(&server, true);
    let file = server.data().join("rules.toml");
    std::fs::write(&file, rules("allow")).unwrap();
    alice.run(&["rules", "set", file.to_str().unwrap()]).one();
    alice.run(&["status", "set", "open", "--note", "here", "--mood", "happy", "--lease", "600"]);
    let seen = bob.run(&["fetch", ALICE, "--anonymous"]).one();
    assert_eq!(seen["document"]["person"]["note"], "here", "{seen}");
    assert!(seen["document"]["person"].get("mood").is_none(), "{seen}");
    let followed = bob.run(&["watch", ALICE, "--anonymous", "--count", "1"]);
    assert_eq!(followed.code, 0, "{followed:?}");
    let last = followed.objects.last().expect("a notification");
    assert_eq!(last["document"]["person"]["note"], "here", "{last}");
}

async fn one_more_from(setting: Setting, from: impl Fn(u8) -> Ipv4Addr, code: Code) {
    let start: Start = setting.on(Server::with());
    let server = start.start();
    lets_in(&server, true);
    let come = async |last| {
        let wire = Dial::to(&server).from(from(last)).connect().await.expect("a connection");
        Peer::nameless(wire).await
    };
    let mut in_there = Vec::new();
    for n in 0..setting.value {
        in_there.push(come(n as u8 + 1).await.expect("a place"));
    }
    assert_eq!(come(9).await.unwrap_err().code, code);
    // Who goes makes room.
    in_there.pop().expect("a visitor").leave().await;
    eventually("a place", async || come(9).await.ok().map(drop)).await;
}

/// So many of them are in at once, wherever they come from.
pub(crate) async fn one_more(setting: Setting) {
    one_more_from(setting, |last| Ipv4Addr::new(127, 0, 77, last), Code::Busy).await;
}

/// So many come from one address.
pub(crate) async fn one_more_of_an_address(setting: Setting) {
    one_more_from(setting, |_| Ipv4Addr::new(127, 0, 78, 1), Code::RateLimited).await;
}

/// For how long, as it is told to who asks too much.
fn told_to_wait(error: &Error) -> Duration {
    let is_about_the_address = error.text.as_ref().is_some_and(|text| text.contains("address"));
    assert!(error.code == Code::RateLimited && is_about_the_address, "{error:?}");
    error.retry_after.expect("how long")
}

/// Somebody without a name, from an address.
async fn come(server: &Server, last: u8) -> Peer {
    let from = Ipv4Addr::new(127, 0, 79, last);
    let wire = Dial::to(server).from(from).connect().await.expect("a connection");
    Peer::nameless(wire).await.expect("a place")
}

/// What all from one address ask for and are told counts together, whichever of their connections it is;
/// from elsewhere there is something left.
async fn too_many_requests(start: Start) {
    let server = start.start();
    lets_in(&server, true);
    Peer::sign_in(&server, "alice").await.set_rules(&rules("allow")).await;
    let (begun, mut done) = (Instant::now(), 0);
    for _ in 0..3 {
        let mut peer = come(&server, 1).await;
        for _ in 0..10 {
            match peer.request(fetch(ALICE, What::Presence)).await {
                Ok(_) => done += 1,
                Err(error) => drop(told_to_wait(&error)),
            }
        }
        // That it is there still may be said, whatever is owed.
        peer.done(Ping::empty()).await;
        peer.leave().await;
    }
    let at_most = 10 + begun.elapsed().as_secs() + 1;
    assert!((10..=at_most).contains(&done), "{done} done, {at_most} may be");
    come(&server, 2).await.done(fetch(ALICE, What::Presence)).await;
}

pub(crate) async fn requests_soon_after(setting: Setting) {
    let start = setting.on(Server::with()).set("limits.anonymous_requests_burst", 10);
    too_many_requests(start).await;
}

pub(crate) async fn requests_at_once(setting: Setting) {
    let start = setting.on(Server::with()).set("limits.anonymous_requests_per_second", 1);
    too_many_requests(start).await;
}

async fn too_many_bytes(start: Start) {
    let server = start.start();
    lets_in(&server, true);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rules("allow")).await;
    alice.show(&document(&[("note", &"x".repeat(2000))], &[])).await;
    let (mut one, mut other) = (come(&server, 1).await, come(&server, 1).await);
    // The last one has room for a beginning, and owes the rest.
    for _ in 0..3 {
        assert_eq!(one.look(ALICE).await.person.len(), 1);
    }
    for peer in [&mut one, &mut other] {
        let error = peer.request(fetch(ALICE, What::Presence)).await.unwrap_err();
        assert!(told_to_wait(&error) > Duration::from_secs(60), "{error:?}");
    }
    assert_eq!(come(&server, 2).await.look(ALICE).await.person.len(), 1);
}

pub(crate) async fn bytes_soon_after(setting: Setting) {
    let start = setting.on(Server::with()).set("limits.anonymous_bytes_burst", 5000);
    too_many_bytes(start).await;
}

pub(crate) async fn bytes_at_once(setting: Setting) {
    let start = setting.on(Server::with()).set("limits.anonymous_bytes_per_second", 1);
    too_many_bytes(start).await;
}
