//! After a crash, layers that were bound to sessions are lost until their owners are back: what the
//! rules grant in a sphere alone is neither granted nor ended meanwhile, and nothing is shown by it.

use impp_protocol::command::{Fetch, Subscribe};
use impp_protocol::presence::Document;
use impp_protocol::state::{self, Explanation, SubscriptionEvent, SubscriptionState, WatcherEntry};
use impp_protocol::{Code, Timestamp, What};
use impp_tests::peer::{Peer, fetch, subscribe};
use impp_tests::presence::{Watcher, document, person};
use impp_tests::server::Start;
use impp_tests::{Domains, Server, eventually};

use crate::presence_leases::brief;

/// In this sphere everybody sees all.
const AT_HOME: &str = "[[rule]]\nid = \"home\"\nwho = [\"authenticated\"]\nsphere = [\"home\"]\n\
                       handling = \"allow\"\nfields = [\"all\"]\n";
const NOBODY: &str = "[[rule]]\nid = \"nobody\"\nwho = [\"authenticated\"]\nhandling = \"block\"\n";

fn at_home(note: &str) -> Document {
    document(&[("note", note), ("sphere", "home")], &[("im", &[("status", "open")])])
}

/// Follows alice for an hour, from what is held.
async fn follow_again(dave: &mut Watcher, server: &Server) {
    dave.peer = Peer::sign_in(server, "dave").await;
    let version = Some(dave.held.version());
    let again = subscribe("alice@localhost", What::Presence);
    let done = dave.peer.done(Subscribe { version, ..again }).await;
    assert_eq!((done.state, done.version), (Some(SubscriptionState::Active), None));
}

/// Alice at home, seen by dave, and then the server is killed.
async fn killed(mut server: Server) -> (Server, Watcher) {
    server.add("dave");
    server.add("erin");
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(AT_HOME).await;
    alice.show(&at_home("here")).await;
    let mut dave = Peer::sign_in(&server, "dave").await;
    dave.follow_for("alice@localhost", 3000).await.unwrap();
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    dave.until_note("here").await;
    server.kill9();
    server.restart();
    (server, dave)
}

/// A subscription that a sphere allowed outlives a crash: it shows nothing new and is not ended until
/// its owner has returned; who comes meanwhile is shown somebody offline, following and looking alike.
#[tokio::test]
async fn d3_what_a_sphere_allowed_outlives_a_crash() {
    let (server, mut dave) = killed(brief().set("times.recovery_seconds", 3000).start()).await;
    follow_again(&mut dave, &server).await;
    assert_eq!(dave.peer.look("alice@localhost").await, Document::offline());
    let mut erin = Peer::sign_in(&server, "erin").await;
    assert_eq!(erin.look("alice@localhost").await, Document::offline());
    let done = erin.follow("alice@localhost").await;
    assert_eq!((done.state, done.version), (Some(SubscriptionState::Active), None));
    assert_eq!(erin.fenced().await.len(), 0);
    assert_eq!(dave.settle().await, 0, "told something before alice could be back");
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.show(&at_home("here")).await;
    let snapshot = erin.notify().await.snapshot.expect("a snapshot");
    assert_eq!(Document::decode(snapshot).unwrap(), at_home("here"));
    assert_eq!(dave.settle().await, 0, "nothing has changed for who holds it");
    alice.show(&at_home("still here")).await;
    dave.until_note("still here").await;
}

/// An owner who comes back to be elsewhere has ended it; so has a rule, with nobody waiting for a
/// sphere.
#[tokio::test]
async fn d4_what_is_taken_away_after_a_crash_is_taken_at_once() {
    for by_rule in [true, false] {
        let (server, mut dave) = killed(brief().set("times.recovery_seconds", 3000).start()).await;
        follow_again(&mut dave, &server).await;
        let mut alice = Peer::sign_in(&server, "alice").await;
        match by_rule {
            true => alice.set_rules(NOBODY).await,
            false => drop(alice.show(&document(&[("sphere", "work")], &[])).await),
        }
        let ended = dave.next().await;
        assert_eq!(ended.state, SubscriptionState::Terminated);
        assert_eq!(ended.event, Some(SubscriptionEvent::Rejected));
        let look = fetch("alice@localhost", What::Presence);
        assert_eq!(dave.peer.refused(look).await, Code::Refused);
    }
}

/// Whose owner does not return is not waited for longer than the window.
#[tokio::test]
async fn d3_what_a_sphere_allowed_ends_with_the_window() {
    let (server, mut dave) = killed(brief().set("times.recovery_seconds", 2).start()).await;
    dave.peer = Peer::sign_in(&server, "dave").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    eventually("the window to end", async || {
        let watchers = alice.watchers().await;
        let of_dave = watchers.into_iter().find(|w| w.watcher.as_str() == "dave@localhost");
        // He is not just gone from the list: his subscription has ended.
        of_dave.filter(|w| w.state == SubscriptionState::Terminated)
    })
    .await;
    let again = subscribe("alice@localhost", What::Presence);
    assert_eq!(dave.peer.refused(again).await, Code::Refused);
}

/// A stop in good order finds nothing of what a crash has lost before it: by that nothing ends.
#[tokio::test]
async fn d3_what_a_sphere_allowed_outlives_a_stop_after_the_crash() {
    let (mut server, mut dave) = killed(brief().set("times.recovery_seconds", 3000).start()).await;
    follow_again(&mut dave, &server).await;
    server.stop();
    server.restart();
    follow_again(&mut dave, &server).await;
    assert_eq!(dave.peer.look("alice@localhost").await, Document::offline());
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.show(&at_home("here")).await;
    assert_eq!(dave.peer.look("alice@localhost").await, at_home("here"));
    assert_eq!(dave.settle().await, 0, "nothing has changed for who holds it");
    alice.show(&at_home("still here")).await;
    dave.until_note("still here").await;
}

/// Who has published since the crash, by a lease or by a session, has lost nothing by a stop in good order:
/// the window goes on for others alone.
#[tokio::test]
async fn d3_who_has_published_since_the_crash_is_known_after_a_stop() {
    for is_leased in [true, false] {
        // Nothing ends while the machine is slow.
        let start = brief().set("times.recovery_seconds", 3000).set("times.grace_seconds", 3000);
        let (mut server, mut dave) = killed(start.start()).await;
        let mut alice = Peer::sign_in(&server, "alice").await;
        match is_leased {
            true => drop(alice.show_for(&at_home("here"), 3600).await.unwrap()),
            false => drop(alice.show(&at_home("here")).await),
        }
        for stop in 0..2 {
            server.stop();
            server.restart();
            dave.peer = Peer::sign_in(&server, "dave").await;
            assert_eq!(dave.peer.look("alice@localhost").await, at_home("here"), "stop {stop}");
        }
        // Another crash may have lost what was said by a session.
        server.kill9();
        server.restart();
        dave.peer = Peer::sign_in(&server, "dave").await;
        assert_eq!(dave.peer.look("alice@localhost").await, Document::offline());
    }
}

/// It goes on for as long as it would have without the stop, and no longer.
#[tokio::test]
async fn d3_a_stop_does_not_put_off_the_end_of_the_window() {
    let (mut server, mut dave) = killed(brief().set("times.recovery_seconds", 5).start()).await;
    server.stop();
    server.set("times.recovery_seconds", 3000);
    server.restart();
    dave.peer = Peer::sign_in(&server, "dave").await;
    eventually("the window to end", async || {
        let answer = dave.peer.request(fetch("alice@localhost", What::Presence)).await;
        answer.is_err().then_some(())
    })
    .await;
}

/// Whose rules hang on what is lost is told so, until when, and what becomes of it meanwhile.
#[tokio::test]
async fn r2_3_3_explain_says_that_a_crash_has_lost_the_sphere() {
    let (server, dave) = killed(brief().set("times.recovery_seconds", 3000).start()).await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let lost = explained(&mut alice, &dave).await;
    assert_eq!((&*lost.decision, &*lost.rules[0].id), ("polite-block", "home"));
    assert!(!lost.rules[0].matched && lost.rules[0].why.contains("lost"), "{:?}", lost.rules);
    alice.show(&at_home("here")).await;
    let found = explained(&mut alice, &dave).await;
    assert_eq!(found.decision, "allow");
    assert!(found.rules[0].matched, "{:?}", found.rules);
}

/// Who follows stands otherwise then than who comes, which no delegate is told that may see no watchers.
#[tokio::test]
async fn d_4_a_lost_sphere_tells_a_delegate_nothing_of_who_watches() {
    let (server, mut dave) = killed(brief().set("times.recovery_seconds", 3000).start()).await;
    server.add("cal");
    follow_again(&mut dave, &server).await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let asks = "[[rule]]\nid = \"ask\"\nwho = [\"authenticated\"]\nhandling = \"confirm\"\n\
                [[delegate]]\nid = \"c\"\nwho = [\"cal@localhost\"]\nrights = [\"rules\"]\n";
    alice.set_rules(&format!("{AT_HOME}{asks}")).await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    let seen = async |peer: &mut Peer, who: &str| {
        let about = Some(who.parse().unwrap());
        let asked = fetch("alice@localhost", What::Explain);
        peer.done(Fetch { about, view: true, ..asked }).await.state
    };
    let [active, pending] = [SubscriptionState::Active, SubscriptionState::Pending].map(Some);
    assert_eq!(seen(&mut alice, "dave@localhost").await, active);
    assert_eq!(seen(&mut alice, "erin@localhost").await, pending);
    assert_eq!(seen(&mut cal, "dave@localhost").await, pending);
    assert_eq!(seen(&mut cal, "erin@localhost").await, pending);
}

async fn explained(alice: &mut Peer, about: &Watcher) -> Explanation {
    let about = Some(about.peer.address.clone());
    let done = alice.done(Fetch { about, ..fetch("alice@localhost", What::Explain) }).await;
    state::decode(done.content.expect("an explanation")).expect("an explanation")
}

/// After a stop in good order nothing is lost, and there is no window: the sphere holds.
#[tokio::test]
async fn a_stop_in_good_order_loses_no_sphere() {
    let mut server = brief().set("times.recovery_seconds", 3000).start();
    server.add("dave");
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(AT_HOME).await;
    alice.show(&at_home("here")).await;
    server.stop();
    server.restart();
    let mut dave = Peer::sign_in(&server, "dave").await;
    assert_eq!(dave.look("alice@localhost").await, at_home("here"));
}

/// Nor the order in which layers were published, whichever device has the lower number and whatever
/// kept the layer: the newest says where somebody is, and an older one lets nobody see it.
#[tokio::test]
async fn d3_the_newest_layer_is_the_newest_after_a_stop() {
    // Nothing ends while the machine is slow.
    let mut server = brief().set("times.grace_seconds", 3000).start();
    server.add("dave");
    let mut tablet = Peer::sign_in_on(&server, "alice", 9).await;
    tablet
        .set_rules(
            "[[rule]]\nid = \"home\"\nwho = [\"bob@localhost\"]\nsphere = [\"home\"]\n\
             handling = \"allow\"\nfields = [\"all\"]\n\n\
             [[rule]]\nid = \"dave\"\nwho = [\"dave@localhost\"]\nhandling = \"allow\"\n\
             fields = [\"all\"]\n",
        )
        .await;
    tablet.show_for(&at_home("on the sofa"), 3600).await.unwrap();
    let mut laptop = Peer::sign_in_on(&server, "alice", 1).await;
    laptop.show(&document(&[("note", "at work"), ("sphere", "work")], &[])).await;
    let mut before = None;
    for stop in 0..3 {
        let mut bob = Peer::sign_in(&server, "bob").await;
        let looks = fetch("alice@localhost", What::Presence);
        assert_eq!(bob.refused(looks).await, Code::Refused, "stop {stop}");
        let seen = Peer::sign_in(&server, "dave").await.look("alice@localhost").await;
        let says = |name| person(&seen, name);
        assert_eq!((says("sphere"), says("note")), (Some("work"), Some("at work")), "stop {stop}");
        assert_eq!(*before.get_or_insert_with(|| seen.clone()), seen, "stop {stop}");
        server.stop();
        server.restart();
    }
}

/// Who watches from another domain loses nothing by a crash of the home either.
#[tokio::test(flavor = "multi_thread")]
async fn d3_what_a_sphere_allowed_elsewhere_outlives_a_crash_of_the_home() {
    // The window does not end while the machine is slow.
    let settings = |_: &str, start: Start| start.set("times.recovery_seconds", 3000);
    let mut domains = Domains::with(&["a.example", "b.example"], settings).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    alice.set_rules(AT_HOME).await;
    alice.show(&at_home("here")).await;
    let mut bob = Watcher::sign_in(&domains["b.example"], "bob", "alice@a.example").await;
    bob.until_note("here").await;
    let before = bobs(&mut alice).await;
    assert_eq!(before.state, SubscriptionState::Active);
    domains["a.example"].kill9();
    domains["a.example"].restart();
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    // Who comes meanwhile is asked about over the new link, behind who was there before.
    let mut carol = Peer::sign_in(&domains["b.example"], "carol").await;
    eventually("the home to answer", async || {
        let state = carol.follow("alice@a.example").await.state;
        (state == Some(SubscriptionState::Active)).then_some(())
    })
    .await;
    assert_eq!(carol.look("alice@a.example").await, Document::offline());
    // Who followed before holds what it held, and nothing of it is shown anew.
    assert_eq!(bob.peer.look("alice@a.example").await, Document::offline());
    let mut tablet = Peer::sign_in_on(&domains["b.example"], "bob", 2).await;
    let done = tablet.follow("alice@a.example").await;
    assert_eq!((done.state, done.version), (Some(SubscriptionState::Active), None));
    assert_eq!(tablet.fenced().await.len(), 0);
    assert_eq!(stands(&before), stands(&bobs(&mut alice).await));
    alice.show(&at_home("back")).await;
    bob.until_note("back").await;
    let snapshot = tablet.notify().await.snapshot.expect("a snapshot");
    assert_eq!(Document::decode(snapshot).unwrap(), at_home("back"));
    assert_eq!(bob.peer.look("alice@a.example").await, at_home("back"));
    assert_eq!(stands(&before), stands(&bobs(&mut alice).await));
}

/// What no crash changes of that. Meanwhile he is shown nothing of her, and he has looked.
fn stands(entry: &WatcherEntry) -> (SubscriptionState, SubscriptionEvent, Option<Timestamp>) {
    (entry.state, entry.event, entry.since)
}

/// How bob of the other domain stands with alice.
async fn bobs(alice: &mut Peer) -> WatcherEntry {
    let mut watchers = alice.watchers().await.into_iter();
    watchers.find(|w| w.watcher.as_str() == "bob@b.example").expect("bob watches")
}
