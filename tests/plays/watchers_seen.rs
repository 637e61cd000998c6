//! Who watches, as its owner sees it, as others do, and as it goes on.

use bytes::Bytes;
use impp_protocol::command::{Fetch, Message, Notify, Subscribe};
use impp_protocol::state::{
    self, Decision, Proof, RequestKind, Requests, SubscriptionEvent, SubscriptionState,
    WatcherEdit, WatcherEntry, Watchers,
};
use impp_protocol::{Code, What};
use impp_tests::Domains;
use impp_tests::peer::{Peer, fetch, publish, subscribe};
use impp_tests::presence::{Watcher, open};
use impp_tests::running::Running;

use crate::rules::{ALL, decide, rule, strangers};

const ALICE: &str = "alice@localhost";

/// Bob sees all, carol is politely blocked, dave waits, eve is refused.
fn rules() -> String {
    rule("bob", "allow", ALL)
        + &rule("carol", "polite-block", "")
        + &rule("dave", "confirm", "")
        + &rule("eve", "block", "")
}

async fn of(peer: &mut Peer, owner: &str) -> (Bytes, Watchers) {
    let content = peer.done(fetch(owner, What::Watchers)).await.content.expect("watchers");
    (content.clone(), state::decode(content).expect("watchers"))
}

fn entry<'a>(entries: &'a [WatcherEntry], name: &str) -> &'a WatcherEntry {
    let is_it = |entry: &&WatcherEntry| entry.watcher.local() == name;
    entries.iter().find(is_it).unwrap_or_else(|| panic!("no {name}: {entries:?}"))
}

fn stands(entry: &WatcherEntry) -> (SubscriptionState, SubscriptionEvent, Option<u64>) {
    (entry.state, entry.event, entry.looks)
}

/// The owner sees who follows, who waits, whom it blocks politely; who has followed for a moment, who
/// has only looked, and who was refused: with a proven name, and how that is proven.
#[tokio::test]
async fn r5_1_11_r5_1_12_the_owner_sees_whoever_watches_or_looks() {
    use SubscriptionEvent::{Rejected, Subscribe as Asked, Timeout};
    use SubscriptionState::{Active, Pending, Terminated};
    let server = strangers(&["bob", "carol", "dave", "eve", "fay", "gus"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let more = rule("fay", "allow", ALL) + &rule("gus", "allow", ALL);
    alice.set_rules(&(rules() + &more)).await;
    alice.show(&open("here")).await;
    let _bob = Watcher::sign_in(&server, "bob", ALICE).await;
    let _carol = Watcher::sign_in(&server, "carol", ALICE).await;
    let mut dave = Peer::sign_in(&server, "dave").await;
    dave.follow(ALICE).await;
    let mut eve = Peer::sign_in(&server, "eve").await;
    assert_eq!(eve.refused(subscribe(ALICE, What::Presence)).await, Code::Refused);
    assert_eq!(eve.refused(fetch(ALICE, What::Presence)).await, Code::Refused);
    let mut fay = Peer::sign_in(&server, "fay").await;
    for _ in 0..3 {
        assert_eq!(fay.look(ALICE).await, open("here"));
    }
    let mut gus = Peer::sign_in(&server, "gus").await;
    gus.follow(ALICE).await;
    let leave = Some(std::time::Duration::ZERO);
    gus.done(Subscribe { lease: leave, ..subscribe(ALICE, What::Presence) }).await;
    // Her own look is nobody's.
    alice.look(ALICE).await;
    let all = alice.watchers_and_lookers().await;
    assert_eq!(stands(entry(&all, "bob")), (Active, Asked, None));
    assert_eq!(stands(entry(&all, "carol")), (Active, Asked, None));
    assert_eq!(stands(entry(&all, "dave")), (Pending, Asked, None));
    assert_eq!(stands(entry(&all, "eve")), (Terminated, Rejected, Some(2)));
    assert_eq!(stands(entry(&all, "fay")), (Terminated, Timeout, Some(3)));
    assert_eq!(stands(entry(&all, "gus")), (Terminated, Timeout, None));
    assert_eq!(all.len(), 6);
    for entry in &all {
        assert!(entry.proven && entry.by == Some(Proof::SignIn.into()), "{entry:?}");
        assert_eq!(entry.polite, entry.watcher.local() == "carol", "{entry:?}");
        assert!(entry.since.is_some() && entry.looked.is_some() == entry.looks.is_some());
    }
}

/// Of another domain's watchers its server has proven the domain, and so the owner is told.
#[tokio::test(flavor = "multi_thread")]
async fn r5_1_12_of_another_domain_the_domain_is_proven() {
    let domains = Domains::two().await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", "bob@b.example").await;
    alice.until(|held| held.state == Some(SubscriptionState::Pending)).await;
    let all = bob.watchers_and_lookers().await;
    assert_eq!(entry(&all, "alice").by, Some(Proof::Domain.into()));
    assert_eq!(entry(&all, "alice").state, SubscriptionState::Pending);
    // How she stands she reads at her own server.
    let (_, own) = of(&mut alice.peer, "bob@b.example").await;
    assert_eq!(own.entries.len(), 1);
    assert_eq!(own.entries[0].state, SubscriptionState::Pending);
}

/// A watcher reads its own entry and nothing else: who else watches, how many, what the owner sees of
/// it. Who is politely blocked reads what one reads who sees somebody offline, to the byte; who is not
/// listed, and who asks for nobody, reads nothing.
#[tokio::test]
async fn d1_d9_r5_1_2_r5_1_10_a_watcher_learns_of_itself_alone() {
    let names = ["bob", "carol", "dave", "eve"];
    let server = strangers(&names);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rules()).await;
    let mut peers = Vec::new();
    for name in names {
        let mut peer = Peer::sign_in(&server, name).await;
        let _ = peer.request(fetch(ALICE, What::Presence)).await;
        let _ = peer.request(subscribe(ALICE, What::Presence)).await;
        peers.push(peer);
    }
    assert_eq!(alice.watchers_and_lookers().await.len(), 4);
    let mut read = Vec::new();
    for (peer, name) in peers.iter_mut().zip(names) {
        let (bytes, watchers) = of(peer, ALICE).await;
        let Watchers { entries, gone, more, dropped, counts } = watchers;
        assert!(gone.is_empty() && !more && dropped.is_none() && counts.is_empty());
        for other in names.iter().filter(|other| **other != name) {
            let found = bytes.windows(other.len()).any(|part| part == other.as_bytes());
            assert!(!found, "{name} reads {other}");
        }
        for entry in &entries {
            assert_eq!(entry.watcher, peer.address);
            let told = (entry.since, entry.looks, entry.looked, entry.polite);
            assert_eq!(told, (None, None, None, false));
        }
        read.push(entries);
        // Nobody follows or changes another's.
        let edit = state::encode(&WatcherEdit { remove: "bob@localhost".parse().unwrap() });
        assert_eq!(peer.refused(subscribe(ALICE, What::Watchers)).await, Code::Refused);
        let change = publish(ALICE, What::Watchers, Some(edit));
        assert_eq!(peer.refused(change).await, Code::Refused);
        // Nor is there anything at an address that nobody has, or where one was never heard of.
        for nobody in ["nobody@localhost", "eve@localhost", "x@nowhere.example"] {
            assert_eq!(of(peer, nobody).await.0, Bytes::new(), "{nobody}");
        }
    }
    let same = |one: &WatcherEntry, other: &WatcherEntry| {
        *one == WatcherEntry { watcher: one.watcher.clone(), ..other.clone() }
    };
    assert!(same(&read[0][0], &read[1][0]), "allowed and politely blocked: {read:?}");
    assert_eq!(read[2][0].state, SubscriptionState::Pending);
    assert_eq!(read[3], []);
    // What her decision is, a politely blocked one cannot tell from an approval.
    decide(&mut alice, &"dave@localhost".parse().unwrap(), Decision::Polite).await;
    let (_, dave) = of(&mut peers[2], ALICE).await;
    assert_eq!(
        stands(&dave.entries[0]),
        (SubscriptionState::Active, SubscriptionEvent::Approved, None)
    );
    assert!(entry(&alice.watchers_and_lookers().await, "dave").polite);
}

/// A delegate with the right to it is told how many there are, and nobody's name; without that, what
/// everybody is told.
#[tokio::test]
async fn r2_3_4_r5_1_2_a_delegate_is_told_how_many_are_blocked_politely_and_not_who() {
    let server = strangers(&["bob", "carol", "dave", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let lets = |right: &str| {
        let entry = "[[delegate]]\nid = \"c\"\nwho = [\"cal@localhost\"]\nrights = [\"";
        rules() + entry + right + "\"]\n"
    };
    alice.set_rules(&lets("watchers")).await;
    for name in ["bob", "carol", "dave"] {
        Peer::sign_in(&server, name).await.follow_for(ALICE, 3600).await.unwrap();
    }
    let mut cal = Peer::sign_in(&server, "cal").await;
    let (bytes, told) = of(&mut cal, ALICE).await;
    let counts: Vec<_> = told.counts.iter().map(|c| (c.state, c.count)).collect();
    assert_eq!(counts, [(SubscriptionState::Active, 1)]);
    let entries: Vec<_> = told.entries.iter().map(|e| (e.watcher.as_str(), e.state)).collect();
    let (bob, dave) = ("bob@localhost", "dave@localhost");
    let shown = [(bob, SubscriptionState::Active), (dave, SubscriptionState::Pending)];
    assert_eq!(entries, shown);
    assert!(told.dropped.is_none() && !bytes.windows(5).any(|part| part == b"carol"));
    assert_eq!(cal.refused(subscribe(ALICE, What::Watchers)).await, Code::Refused);
    alice.set_rules(&lets("publish:activities")).await;
    assert_eq!(of(&mut cal, ALICE).await.0, Bytes::new());
}

/// What `impp watchers --follow` prints is the list, and then each change of it; the subscription that
/// the owner ends is one.
#[tokio::test(flavor = "multi_thread")]
async fn r5_1_11_r5_1_16_watchers_are_followed_as_they_change() {
    let server = strangers(&["bob", "carol", "fay"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(rules() + &rule("fay", "allow", ALL))).await;
    let _bob = Watcher::sign_in(&server, "bob", ALICE).await;
    let mut follow = Running::start(&server, "alice", &["watchers", "--follow"]);
    let is = |name: &str, state: &str| {
        let (who, state) = (format!("{name}@localhost"), state.to_owned());
        move |line: &serde_json::Value| {
            line["watcher"] == who.as_str() && line["state"] == state.as_str()
        }
    };
    assert!(is("bob", "active")(&follow.object()));
    let _carol = Watcher::sign_in(&server, "carol", ALICE).await;
    assert_eq!(follow.until(is("carol", "active"))["polite"], true);
    let mut fay = Peer::sign_in(&server, "fay").await;
    fay.look(ALICE).await;
    assert_eq!(follow.until(is("fay", "terminated"))["looks"], 1);
    let edit = state::encode(&WatcherEdit { remove: "bob@localhost".parse().unwrap() });
    alice.done(publish(ALICE, What::Watchers, Some(edit))).await;
    assert_eq!(follow.until(is("bob", "terminated"))["event"], "deactivated");
    assert_eq!(follow.interrupt(), Some(0));
}

fn watchers(notify: &Notify) -> Watchers {
    let content = notify.snapshot.clone().or(notify.patch.clone()).expect("content");
    state::decode(content).expect("watchers")
}

/// Requests come live, and at the next sign-in; a crash between loses none of those that wait.
#[tokio::test(flavor = "multi_thread")]
async fn r3_2_2_r5_1_11_who_asks_is_seen_live_and_at_the_next_sign_in() {
    let mut server = strangers(&["dave", "fay"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(rules() + &rule("fay", "allow", ALL))).await;
    alice.done(subscribe(ALICE, What::Watchers)).await;
    let first = alice.notify().await;
    assert!(first.snapshot.is_some() && watchers(&first).entries.is_empty());
    let mut dave = Peer::sign_in(&server, "dave").await;
    dave.follow(ALICE).await;
    let change = alice.notify().await;
    assert!(change.patch.is_some());
    assert_eq!(entry(&watchers(&change).entries, "dave").state, SubscriptionState::Pending);
    Peer::sign_in(&server, "fay").await.look(ALICE).await;
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.done(subscribe(ALICE, What::Watchers)).await;
    // Who has only looked is remembered no longer than the server runs.
    let all = watchers(&alice.notify().await);
    assert_eq!(all.entries.len(), 1, "{all:?}");
    assert_eq!(entry(&all.entries, "dave").state, SubscriptionState::Waiting);
}

/// A list that is longer than a frame comes in parts, to who fetches and to who follows.
#[tokio::test(flavor = "multi_thread")]
async fn r2_2_5_a_long_list_of_watchers_comes_in_parts() {
    let domains = Domains::with(&["a.example"], |_, start| start.no_rates()).await;
    let evil = impp_tests::BadPeer::among(&domains, "evil.example").await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let all =
        "[[rule]]\nid = \"all\"\nwho = [\"anyone\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";
    alice.set_rules(all).await;
    let mut link = evil.call(&domains["a.example"]).await;
    let names: Vec<String> =
        (0..900).map(|n| format!("{n}{}", "x".repeat(60 - n.to_string().len()))).collect();
    for name in &names {
        let watcher = Some(evil.account(name));
        let lease = Some(std::time::Duration::from_secs(3600));
        let ask = Subscribe { watcher, lease, ..subscribe("alice@a.example", What::Presence) };
        link.request(ask).await.expect("a watcher");
    }
    let fetched = alice.watchers_and_lookers().await;
    // Her contacts watch her too.
    let strangers = fetched.iter().filter(|entry| entry.watcher.domain_str() == "evil.example");
    assert_eq!(strangers.count(), names.len());
    alice.done(subscribe("alice@a.example", What::Watchers)).await;
    let (mut told, mut parts) = (Vec::new(), 0);
    loop {
        let notify = alice.notify().await;
        assert_eq!(notify.snapshot.is_some(), parts == 0, "the first part replaces all");
        parts += 1;
        let part = watchers(&notify);
        told.extend(part.entries);
        if !part.more {
            break;
        }
    }
    assert!(parts > 1 && told == fetched, "{parts} parts of {}", told.len());
}

fn requests(notify: &Notify) -> Vec<(RequestKind, String, Option<u64>)> {
    let content = notify.snapshot.clone().expect("all of them");
    let all: Requests = state::decode(content).expect("requests");
    all.entries.into_iter().map(|e| (e.kind, e.from.to_string(), e.count)).collect()
}

/// Who asks to follow and whose messages are held is told live, and settled when it is decided; what was
/// written can be read before.
#[tokio::test(flavor = "multi_thread")]
async fn r5_1_11_requests_and_held_messages_come_live_and_can_be_read() {
    let server = strangers(&["bob", "dave"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let held = "[[delivery]]\nid = \"h\"\nwho = [\"bob@localhost\"]\naction = \"hold\"\n";
    alice.set_rules(&(rules() + held)).await;
    alice.done(subscribe(ALICE, What::Requests)).await;
    assert_eq!(requests(&alice.notify().await), []);
    let mut dave = Peer::sign_in(&server, "dave").await;
    dave.follow(ALICE).await;
    let daves = (RequestKind::Subscribe, "dave@localhost".to_owned(), None);
    assert_eq!(requests(&alice.notify().await), std::slice::from_ref(&daves));
    let mut bob = Peer::sign_in(&server, "bob").await;
    for text in ["first", "second", "third"] {
        bob.send(ALICE, text).await;
    }
    let bobs = (RequestKind::Message, "bob@localhost".to_owned(), Some(3));
    while requests(&alice.notify().await) != [bobs.clone(), daves.clone()] {}
    let about = Some("bob@localhost".parse().unwrap());
    let done = alice.done(Fetch { about, ..fetch(ALICE, What::Requests) }).await;
    let read: Requests = state::decode(done.content.unwrap()).unwrap();
    assert_eq!((read.entries.len(), read.entries[0].count), (1, Some(3)));
    let texts: Vec<Bytes> =
        read.messages.into_iter().map(|held| Message::decode(held.message).unwrap().body).collect();
    assert_eq!(texts, ["first", "second", "third"]);
    // Nobody else reads them.
    let about = Some("bob@localhost".parse().unwrap());
    assert_eq!(dave.refused(Fetch { about, ..fetch(ALICE, What::Requests) }).await, Code::Refused);
    decide(&mut alice, &bob.address.clone(), Decision::Allow).await;
    while requests(&alice.notify().await) != [daves.clone()] {}
    assert_eq!(alice.inbox().await.len(), 3);
    let mut follow = Running::start(&server, "alice", &["requests", "--follow"]);
    assert_eq!(follow.object()["from"], "dave@localhost");
    decide(&mut alice, &dave.address.clone(), Decision::Deny).await;
    assert_eq!(follow.object()["settled"], "subscribe");
    assert_eq!(follow.interrupt(), Some(0));
}

/// What is held of one may be longer than a frame: it is read in parts, in its order.
#[tokio::test(flavor = "multi_thread")]
async fn many_held_messages_are_read_in_parts() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let held = "[[delivery]]\nid = \"h\"\nwho = [\"bob@localhost\"]\naction = \"hold\"\n";
    alice.set_rules(held).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let texts: Vec<String> = (0..6).map(|n| n.to_string().repeat(30_000)).collect();
    for text in &texts {
        bob.send(ALICE, text).await;
    }
    let (mut read, mut cursor, mut parts) = (Vec::new(), None, 0);
    loop {
        let about = Some("bob@localhost".parse().unwrap());
        let done = alice.done(Fetch { about, cursor, ..fetch(ALICE, What::Requests) }).await;
        let part: Requests = state::decode(done.content.unwrap()).unwrap();
        let bodies = part.messages.into_iter();
        read.extend(bodies.map(|held| Message::decode(held.message).unwrap().body));
        (cursor, parts) = (done.next, parts + 1);
        if cursor.is_none() {
            break;
        }
    }
    assert!(read == texts && parts > 2, "{parts} parts of {}", read.len());
}
