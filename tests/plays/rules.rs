//! Who may see what: access rules, the four handlings and the changes between them.
//!
//! What the owner's and the watcher's commands print is in `rules_words`, who may write in
//! `services`.

use bytes::Bytes;
use impp_protocol::command::{Fetch, Notify, Publish, Subscribe};
use impp_protocol::frame::Frame;
use impp_protocol::presence::{Document, Version};
use impp_protocol::state::{
    self, Decision, RequestEdit, SubscriptionEdit, SubscriptionEvent, SubscriptionState,
    WatcherEdit,
};
use impp_protocol::{Address, Code, Command, Kind, What};
use impp_tests::dice::Dice;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, publish, subscribe};
use impp_tests::presence::{Watcher, at_once, document, open, person};
use impp_tests::running::Running;
use impp_tests::{Server, eventually};

/// A rule about one account of the domain.
pub fn rule(who: &str, handling: &str, rest: &str) -> String {
    format!(
        "[[rule]]\nid = \"{who}\"\nwho = [\"{who}@localhost\"]\nhandling = \"{handling}\"\n{rest}\n"
    )
}

/// What lets see all.
pub const ALL: &str = "fields = [\"all\"]";

/// A server with these accounts, none in another's contact list, and alice among them.
pub fn strangers(names: &[&str]) -> Server {
    let server = at_once().accounts(["alice"]).start();
    names.iter().for_each(|name| server.add(name));
    server
}

/// The owner's word on a request.
async fn decide(owner: &mut Peer, from: &Address, decision: Decision) {
    let edit = state::encode(&RequestEdit { from: from.clone(), decision });
    let own = owner.address.clone();
    owner.done(publish(own.as_str(), What::Requests, Some(edit))).await;
}

/// Who may neither follow nor look never gets a field, before and after a change; who may gets it.
#[tokio::test]
async fn r2_3_1_who_is_denied_sees_nothing() {
    let server = strangers(&["bob", "carol", "dave"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(rule("bob", "allow", ALL) + &rule("carol", "block", ""))).await;
    alice.show(&open("not for all")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(bob.held.document(), &open("not for all"));
    // Carol is named, dave is not: nothing granted means blocked.
    for name in ["carol", "dave"] {
        let mut denied = Peer::sign_in(&server, name).await;
        for lease in [None, Some(3600)] {
            let follow = Subscribe {
                lease: lease.map(std::time::Duration::from_secs),
                ..subscribe("alice@localhost", What::Presence)
            };
            assert_eq!(denied.refused(follow).await, Code::Refused);
        }
        assert_eq!(denied.refused(fetch("alice@localhost", What::Presence)).await, Code::Refused);
        alice.show(&open(name)).await;
        bob.until_note(name).await;
        assert_eq!(denied.fence().await, vec![]);
        assert_eq!(denied.subscriptions().await, vec![]);
    }
    let watchers: Vec<_> = alice.watchers().await.into_iter().map(|w| w.watcher).collect();
    assert_eq!(watchers, [bob.peer.address.clone()]);
}

/// Looking and following are decided apart: one may be allowed and the other not, either way.
#[tokio::test]
async fn r2_3_2_fetch_and_subscription_are_decided_apart() {
    let server = strangers(&["bob", "carol", "dave"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules = rule("bob", "block", "fetch = \"allow\"\nfields = [\"all\"]")
        + &rule("carol", "allow", "fetch = \"block\"\nfields = [\"all\"]")
        + &rule("dave", "allow", "fetch = \"polite-block\"\nfields = [\"all\"]");
    alice.set_rules(&rules).await;
    alice.show(&open("decided apart")).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.look("alice@localhost").await, open("decided apart"));
    assert_eq!(bob.refused(subscribe("alice@localhost", What::Presence)).await, Code::Refused);
    let mut carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    assert_eq!(carol.held.document(), &open("decided apart"));
    let look = fetch("alice@localhost", What::Presence);
    assert_eq!(carol.peer.refused(look).await, Code::Refused);
    let mut dave = Watcher::sign_in(&server, "dave", "alice@localhost").await;
    assert_eq!(dave.held.document(), &open("decided apart"));
    assert_eq!(dave.peer.look("alice@localhost").await, Document::offline());
}

const HANDLINGS: [&str; 6] = ["allow", "allow", "allow", "polite-block", "confirm", "block"];
const FIELDS: [&str; 5] = ["status", "note", "mood", "org.example.seat", "user-input"];
const SELECTORS: [&str; 4] = ["id:t1", "class:work", "scheme:im", "scheme:tel"];

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

fn random_rules(dice: &mut Dice) -> String {
    let mut text = String::new();
    for id in 0..1 + dice.roll(5) {
        let mut who = dice.some(&["bob@localhost", "carol@localhost", "dave@localhost"]);
        if dice.roll(3) == 0 {
            who = vec![*dice.pick(&["authenticated", "anyone", "domain:localhost", "contacts"])];
        }
        let handling = dice.pick(&HANDLINGS);
        text += &format!("[[rule]]\nid = \"{id}\"\nwho = [{}]\n", quoted(&who));
        text += &format!("handling = \"{handling}\"\n");
        let fields = if dice.roll(4) == 0 { vec!["all"] } else { dice.some(&FIELDS) };
        if *handling == "allow" {
            text += &format!("fields = [{}]\n", quoted(&fields));
        }
        if *handling == "allow" && dice.roll(2) == 0 {
            text += &format!("tuples = [{}]\n", quoted(&dice.some(&SELECTORS)));
        }
        if dice.roll(4) == 0 {
            text += &format!("sphere = [\"{}\"]\n", dice.pick(&["work", "home"]));
        }
    }
    text
}

fn random_document(dice: &mut Dice) -> Document {
    let mut whole = Document::default();
    for name in dice.some(&["note", "mood", "org.example.seat", "user-input"]) {
        whole.person.extend(document(&[(name, &dice.roll(4).to_string())], &[]).person);
    }
    if dice.roll(2) == 0 {
        let sphere = *dice.pick(&["work", "home", "beach"]);
        whole.person.extend(document(&[("sphere", sphere)], &[]).person);
    }
    for id in dice.some(&["t1", "t2", "t3"]) {
        let status = *dice.pick(&["open", "closed"]);
        let contact = *dice.pick(&["im:a@localhost", "tel:+1", "mailto:a@localhost"]);
        let class = *dice.pick(&["work", "home"]);
        let pairs =
            [("status", status), ("contact", contact), ("class", class), ("note", "of a tuple")];
        whole.tuples.extend(document(&[], &[(id, &pairs)]).tuples);
    }
    whole
}

/// Over hundreds of random rules and documents, what a watcher was notified of is what they would
/// fetch, to the bytes: the same document, or the same refusal.
#[tokio::test]
async fn r2_3_3_what_is_fetched_is_what_was_notified() {
    const SEED: u64 = 27_790;
    let server = strangers(&["bob", "carol", "dave"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut watchers = Vec::new();
    for name in ["bob", "carol", "dave"] {
        let peer = Peer::sign_in(&server, name).await;
        let presentity = "alice@localhost".to_owned();
        watchers.push(Watcher { peer, presentity, held: <_>::default() });
    }
    let (mut dice, mut shown, mut refused, mut pending) = (Dice::new(SEED), 0, 0, 0);
    for round in 0..150 {
        let rules = random_rules(&mut dice);
        let whole = random_document(&mut dice);
        // Either may change first.
        if dice.roll(2) == 0 {
            alice.set_rules(&rules).await;
            alice.show(&whole).await;
        } else {
            alice.show(&whole).await;
            alice.set_rules(&rules).await;
        }
        for watcher in &mut watchers {
            let case = format!("{} in round {round}, seed {SEED}:\n{rules}", watcher.peer.address);
            watcher.settle().await;
            let live = [Some(SubscriptionState::Active), Some(SubscriptionState::Pending)];
            let mut followed = live.contains(&watcher.held.state);
            if !followed {
                // Refused, or ended by an earlier round's rules.
                let follow = subscribe("alice@localhost", What::Presence);
                let answer = watcher.peer.request(follow).await;
                followed = answer.is_ok();
                watcher.held.state = answer.ok().and_then(|done| done.state);
                watcher.held.content = None;
                watcher.settle().await;
            }
            let look = fetch("alice@localhost", What::Presence);
            match watcher.peer.request(look).await {
                Ok(done) if done.state == Some(SubscriptionState::Active) => {
                    assert_eq!(watcher.held.state, done.state, "{case}");
                    assert_eq!(done.version, Some(watcher.held.version()), "{case}");
                    let content = done.content.unwrap();
                    assert_eq!(content, watcher.held.document().encode(), "{case}");
                    assert_eq!(Version::of(&content), watcher.held.version(), "{case}");
                    shown += 1;
                }
                Ok(done) => {
                    assert_eq!(done.state, Some(SubscriptionState::Pending), "{case}");
                    assert_eq!(done.content, None, "{case}");
                    assert_eq!(watcher.held.state, done.state, "{case}");
                    assert_eq!(watcher.held.content, None, "{case}");
                    pending += 1;
                }
                Err(error) => {
                    assert_eq!(error.code, Code::Refused, "{case}");
                    assert!(!followed, "{case}");
                    refused += 1;
                }
            }
        }
    }
    // Chance had its way with all three.
    assert!(shown > 100 && refused > 20 && pending > 10, "{shown}, {refused}, {pending}");
}

/// With no program of the owner's running the server allows, filters, blocks, hides and queues as
/// the rules say.
#[tokio::test]
async fn r2_3_7_rules_work_while_the_owner_is_away() {
    let server = strangers(&["bob", "carol", "dave", "erin", "fred"]);
    let mut client = Running::start(&server, "alice", &["inbox", "--follow"]);
    let alice = Impp::of(&server, "alice");
    let file = server.data().join("rules.toml");
    let rules = rule("bob", "allow", ALL)
        + &rule("carol", "allow", "fields = [\"status\"]")
        + &rule("dave", "polite-block", "")
        + &rule("erin", "confirm", "")
        + &rule("fred", "block", "")
        + "[[delivery]]\nid = \"b\"\nwho = [\"bob@localhost\"]\naction = \"accept\"\n";
    std::fs::write(&file, rules).unwrap();
    alice.run(&["rules", "set", file.to_str().unwrap()]).one();
    alice.run(&["status", "set", "open", "--note", "away"]).one();
    Impp::of(&server, "bob").run(&["send", "alice@localhost", "are you there?"]).one();
    client.until(|item| item["body"] == "are you there?");
    client.kill9();
    eventually("alice to be away", async || {
        (server.metrics().get("impp_connections") == 0.0).then_some(())
    })
    .await;
    let bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(person(bob.held.document(), "note"), Some("away"));
    let carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    assert_eq!(person(carol.held.document(), "note"), None);
    assert_eq!(carol.held.document().tuples.values().next().map(|t| &*t["status"]), Some("open"));
    let dave = Watcher::sign_in(&server, "dave", "alice@localhost").await;
    assert_eq!(dave.held.document(), &Document::offline());
    let mut erin = Peer::sign_in(&server, "erin").await;
    let asked = erin.follow("alice@localhost").await;
    assert_eq!(asked.state, Some(SubscriptionState::Pending));
    let mut fred = Peer::sign_in(&server, "fred").await;
    assert_eq!(fred.refused(subscribe("alice@localhost", What::Presence)).await, Code::Refused);
    let requests = alice.run(&["requests", "list"]).one();
    assert_eq!(
        (&requests["kind"], &requests["from"]),
        (&"subscribe".into(), &"erin@localhost".into())
    );
}

/// From allow to block: the subscriptions that there are end and are told why, new ones are
/// refused, others see on.
#[tokio::test]
async fn r5_1_13_barring_one_ends_theirs_and_nobody_elses() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let carols = rule("carol", "allow", ALL);
    alice.set_rules(&(rule("bob", "allow", ALL) + &carols)).await;
    alice.show(&open("before")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut other = Peer::sign_in_on(&server, "bob", 2).await;
    other.follow_for("alice@localhost", 3600).await.unwrap();
    assert_eq!(other.notify().await.state, SubscriptionState::Active);
    let mut carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    alice.set_rules(&(rule("bob", "block", "") + &carols)).await;
    for notify in [bob.next().await, other.notify().await] {
        assert_eq!(notify.state, SubscriptionState::Terminated);
        assert_eq!(notify.event, Some(SubscriptionEvent::Rejected));
        assert_eq!((notify.snapshot, notify.patch, notify.version), (None, None, None));
    }
    alice.show(&open("after")).await;
    carol.until_note("after").await;
    assert_eq!(carol.held.count, 2, "carol was told of more than the change");
    assert_eq!(bob.peer.fence().await, vec![]);
    assert_eq!(other.fence().await, vec![]);
    let peer = &mut bob.peer;
    assert_eq!(peer.refused(subscribe("alice@localhost", What::Presence)).await, Code::Refused);
    assert_eq!(peer.refused(fetch("alice@localhost", What::Presence)).await, Code::Refused);
    assert_eq!(peer.subscriptions().await, vec![]);
    let watchers = alice.watchers().await;
    let seen = |name: &str| {
        let entry = watchers.iter().find(|entry| entry.watcher.local() == name);
        entry.map(|entry| (entry.state, entry.event))
    };
    let ended = (SubscriptionState::Terminated, SubscriptionEvent::Rejected);
    // Refused once more meanwhile, bob may be there as that, or not at all; never as active.
    assert!(seen("bob").is_none_or(|standing| standing == ended), "{watchers:?}");
    assert_eq!(seen("carol").map(|s| s.0), Some(SubscriptionState::Active));
}

/// From allow to confirm: what was shown is withdrawn, the watcher is pending and gets nothing of
/// later changes, the owner finds the request.
#[tokio::test]
async fn d_4_from_allow_to_confirm_the_document_is_withdrawn() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    alice.show(&open("before")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(alice.requests().await.entries, vec![]);
    alice.set_rules(&rule("bob", "confirm", "")).await;
    let notify = bob.next().await;
    assert_eq!(notify.state, SubscriptionState::Pending);
    assert_eq!((notify.snapshot, notify.patch, notify.version), (None, None, None));
    alice.show(&open("after")).await;
    assert_eq!(bob.settle().await, 0);
    let fetched = bob.peer.done(fetch("alice@localhost", What::Presence)).await;
    assert_eq!((fetched.state, fetched.content), (Some(SubscriptionState::Pending), None));
    let requests = alice.requests().await.entries;
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].from, bob.peer.address);
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    bob.next().await;
    assert_eq!(bob.held.document(), &open("after"));
}

/// From confirm to allow by the owner's word: the watcher is told that they are approved, with
/// the whole document; the request is gone.
#[tokio::test]
async fn d_4_an_allowed_request_is_approved_with_a_snapshot() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.show(&open("only the status shows by this")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(bob.peer.fence().await, vec![]);
    Impp::of(&server, "alice").run(&["requests", "allow", "bob@localhost"]);
    let notify = bob.next().await;
    assert_eq!(notify.state, SubscriptionState::Active);
    assert_eq!(notify.event, Some(SubscriptionEvent::Approved));
    assert!(notify.snapshot.is_some() && notify.base.is_none());
    let status = document(&[], &[("im", &[("status", "open")])]);
    assert_eq!(bob.held.document(), &status);
    assert_eq!(alice.requests().await.entries, vec![]);
    let watching = &alice.watchers().await[0];
    assert_eq!(watching.state, SubscriptionState::Active);
    assert_eq!(watching.event, SubscriptionEvent::Approved);
    // The decision is a rule: it holds for the next time too.
    bob.peer.leave().await;
    let bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(bob.held.document(), &status);
}

/// A request that is denied ends; asking again is refused.
#[tokio::test]
async fn r5_1_5_a_denied_request_is_rejected() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.show(&open("here")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    decide(&mut alice, &bob.peer.address, Decision::Deny).await;
    let notify = bob.next().await;
    assert_eq!(notify.state, SubscriptionState::Terminated);
    assert_eq!(notify.event, Some(SubscriptionEvent::Rejected));
    let again = subscribe("alice@localhost", What::Presence);
    assert_eq!(bob.peer.refused(again).await, Code::Refused);
    assert_eq!(carol.settle().await, 0, "carol still waits");
    let waiting: Vec<_> = alice.requests().await.entries.into_iter().map(|e| e.from).collect();
    assert_eq!(waiting, [carol.peer.address.clone()]);
}

/// The owner ends a watcher's subscriptions at any time: the watcher is told, and gets nothing
/// more until asking again.
#[tokio::test]
async fn r5_1_9_r5_1_16_the_owner_ends_a_subscription_at_will() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(rule("bob", "allow", ALL) + &rule("carol", "allow", ALL))).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    let remove = |who: &Address| state::encode(&WatcherEdit { remove: who.clone() });
    let edit = publish("alice@localhost", What::Watchers, Some(remove(&bob.peer.address)));
    alice.done(edit.clone()).await;
    let notify = bob.next().await;
    assert_eq!(notify.state, SubscriptionState::Terminated);
    assert_eq!(notify.event, Some(SubscriptionEvent::Deactivated));
    for n in 0..10 {
        alice.show(&open(&format!("change {n}"))).await;
    }
    carol.until_note("change 9").await;
    assert_eq!(bob.peer.fence().await, vec![]);
    assert_eq!(bob.peer.subscriptions().await, vec![]);
    assert_eq!(alice.refused(edit).await, Code::NotFound);
    // No rule was changed by that.
    let again = Watcher::of(bob.peer, "alice@localhost").await;
    assert_eq!(again.held.document(), &open("change 9"));
}

/// A session that was away while the owner ended all subscriptions, and another session of the same
/// watcher asked anew, is not left believing that it is told of changes: it is, or knows better.
#[tokio::test]
async fn r5_1_9_a_session_that_was_away_knows_how_it_stands() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    let away = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let held = away.peer.held();
    away.peer.cut();
    let remove = state::encode(&WatcherEdit { remove: "bob@localhost".parse().unwrap() });
    alice.done(publish("alice@localhost", What::Watchers, Some(remove))).await;
    let mut other = Watcher::of(Peer::sign_in_on(&server, "bob", 2).await, "alice@localhost").await;
    let wire = impp_tests::Wire::dial(&server).await;
    let mut back = Peer::resume(wire, &held).await.expect("resumed");
    let mut told = impp_tests::presence::Held::default();
    back.fenced().await.iter().for_each(|notify| told.take(notify));
    alice.show(&open("changed since")).await;
    other.until_note("changed since").await;
    back.fenced().await.iter().for_each(|notify| told.take(notify));
    if told.state == Some(SubscriptionState::Active) {
        assert_eq!(told.document(), &open("changed since"), "active, and not told of the change");
    } else {
        assert_eq!(told.state, Some(SubscriptionState::Terminated));
    }
}

/// Nobody follows in another's name, nor ends what another follows: each of these states is
/// changed by its own owner alone.
#[tokio::test]
async fn r5_1_6_r5_1_8_nobody_follows_or_cancels_for_another() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    let contact = state::Contact {
        address: "alice@localhost".parse().unwrap(),
        name: None,
        groups: vec![],
        follow: true,
        grant: state::Grant::All,
        subscription: None,
    };
    let add = state::encode(&state::ContactEdit { set: Some(contact), remove: None });
    let cancel = state::encode(&SubscriptionEdit { cancel: "alice@localhost".parse().unwrap() });
    let remove = state::encode(&WatcherEdit { remove: bob.peer.address.clone() });
    for (whose, what, edit) in [
        ("bob@localhost", What::Contacts, add),
        ("bob@localhost", What::Subscriptions, cancel.clone()),
        ("alice@localhost", What::Watchers, remove),
    ] {
        assert_eq!(carol.refused(publish(whose, what, Some(edit))).await, Code::Refused, "{what}");
    }
    // Her own she may change, and has none.
    let own = publish("carol@localhost", What::Subscriptions, Some(cancel));
    assert_eq!(carol.refused(own).await, Code::NotFound);
    alice.show(&open("still followed")).await;
    bob.until_note("still followed").await;
    assert_eq!(alice.watchers().await.len(), 1);
}

/// A rule's time comes and goes by itself: who is let in by it sees from its first moment on, and
/// is withdrawn at its last, though nobody does anything.
#[tokio::test]
async fn d_4_a_rules_time_comes_and_goes() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.show(&open("for a while")).await;
    let confirm = "[[rule]]\nid = \"ask\"\nwho = [\"bob@localhost\"]\nhandling = \"confirm\"\n";
    let within = |from: u64, until: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let at = |seconds: u64| {
            impp_protocol::Timestamp::from_millis((now.as_secs() + seconds) * 1000).to_string()
        };
        let span = format!("valid = [\"{}/{}\"]\n{ALL}", at(from), at(until));
        rule("bob", "allow", &span) + confirm
    };
    alice.set_rules(&within(3600, 7200)).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(bob.settle().await, 0);
    alice.set_rules(&within(2, 5)).await;
    bob.until(|held| held.state == Some(SubscriptionState::Active)).await;
    assert_eq!(bob.held.document(), &open("for a while"));
    bob.until(|held| held.state == Some(SubscriptionState::Pending)).await;
    assert_eq!(bob.held.content, None);
    let fetched = bob.peer.done(fetch("alice@localhost", What::Presence)).await;
    assert_eq!((fetched.state, fetched.content), (Some(SubscriptionState::Pending), None));
}

/// What the owner does decides too: a rule for a sphere holds while the owner is in it.
#[tokio::test]
async fn d_4_a_rule_for_a_sphere_holds_while_the_owner_is_in_it() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let work = "sphere = [\"work\"]\nfields = [\"all\"]";
    let always = "[[rule]]\nid = \"b\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\n\
                  fields = [\"status\"]\n";
    alice.set_rules(&(rule("bob", "allow", work) + always + &rule("carol", "allow", work))).await;
    let im: &[(&str, &[(&str, &str)])] = &[("im", &[("status", "open")])];
    let at_work = document(&[("sphere", "work"), ("note", "busy")], im);
    alice.show(&at_work).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    assert_eq!((bob.held.document(), carol.held.document()), (&at_work, &at_work));
    alice.show(&document(&[("sphere", "home"), ("note", "on the sofa")], im)).await;
    bob.next().await;
    assert_eq!(bob.held.document(), &document(&[], im));
    let ended = carol.next().await;
    assert_eq!(ended.state, SubscriptionState::Terminated);
    assert_eq!(ended.event, Some(SubscriptionEvent::Rejected));
    assert!(!format!("{:?}", bob.held).contains("sofa"));
    alice.show(&at_work).await;
    bob.next().await;
    assert_eq!(bob.held.document(), &at_work);
    assert_eq!(carol.settle().await, 0, "what has ended begins again by itself");
}

/// However many strangers wait for the owner's word, further ones are told that there is no room,
/// and who is allowed, or blocked, is answered as always.
#[tokio::test]
async fn d_4_a_crowd_that_waits_keeps_nobody_out_who_is_allowed() {
    let server = at_once().accounts(["alice"]).set("limits.pending_max", 2).start();
    ["bob", "carol", "dave", "erin", "fred"].iter().for_each(|name| server.add(name));
    let mut alice = Peer::sign_in(&server, "alice").await;
    let ask = "[[rule]]\nid = \"ask\"\nwho = [\"authenticated\"]\n\
               except = [\"fred@localhost\"]\nhandling = \"confirm\"\n";
    alice.set_rules(&(rule("bob", "allow", ALL) + ask)).await;
    let follow = || subscribe("alice@localhost", What::Presence);
    for name in ["carol", "dave"] {
        let mut peer = Peer::sign_in(&server, name).await;
        assert_eq!(peer.done(follow()).await.state, Some(SubscriptionState::Pending));
        // Once more is the same request.
        assert_eq!(peer.done(follow()).await.state, Some(SubscriptionState::Pending));
    }
    let mut erin = Peer::sign_in(&server, "erin").await;
    let full = erin.request(follow()).await.unwrap_err();
    assert_eq!((full.code, full.by), (Code::Full, impp_protocol::By::Recipient));
    assert_eq!(alice.requests().await.entries.len(), 2);
    let mut fred = Peer::sign_in(&server, "fred").await;
    assert_eq!(fred.refused(follow()).await, Code::Refused);
    let mut bob = Peer::sign_in(&server, "bob").await;
    let answer = bob.request(follow()).await;
    let state = answer.as_ref().ok().and_then(|done| done.state);
    assert_eq!(state, Some(SubscriptionState::Active), "{answer:?}");
}

/// Frames as they came, but that every address of the owner's is the same.
async fn frames(peer: &mut Peer, owner: &str, out: &mut Vec<Frame>, count: usize) {
    let masked = |bytes: &Bytes| -> Bytes {
        let (mut masked, owner) = (bytes.to_vec(), owner.as_bytes());
        for at in 0..masked.len().saturating_sub(owner.len() - 1) {
            if masked[at..].starts_with(owner) {
                masked[at..at + owner.len()].fill(b'_');
            }
        }
        masked.into()
    };
    for _ in 0..count {
        let frame = peer.wire().frame().await.expect("a frame");
        out.push(Frame { fields: masked(&frame.fields), ..frame });
    }
}

/// Asks, and takes all frames up to the answer to a PING behind it.
async fn asked(peer: &mut Peer, owner: &str, command: Command, out: &mut Vec<Frame>) {
    peer.ask(command).await;
    rest(peer, owner, out).await;
}

/// Takes all frames up to the answers to two PINGs.
async fn rest(peer: &mut Peer, owner: &str, out: &mut Vec<Frame>) {
    for _ in 0..2 {
        let ping = peer.ask(impp_protocol::command::Ping {}).await;
        loop {
            frames(peer, owner, out, 1).await;
            let last = out.last().unwrap();
            if last.kind == Kind::Ok.number() && last.request == ping {
                // Where it comes among the others is chance.
                out.pop();
                break;
            }
        }
    }
}

/// Everything that the watcher can ask about an owner, in one order.
async fn pry(watcher: &mut Peer, owner: &str, out: &mut Vec<Frame>) {
    let lease = |seconds| {
        let lease = Some(std::time::Duration::from_secs(seconds));
        Subscribe { lease, ..subscribe(owner, What::Presence) }
    };
    let version = Some(Version::of(&Document::offline().encode()));
    let known = Fetch { version, ..fetch(owner, What::Presence) };
    let stranger = Fetch { version: Some(Version([9; 16])), ..known.clone() };
    let cancel = SubscriptionEdit { cancel: owner.parse().unwrap() };
    let own = watcher.address.clone();
    let commands: Vec<Command> = vec![
        fetch(owner, What::Presence).into(),
        subscribe(owner, What::Presence).into(),
        known.into(),
        stranger.into(),
        fetch(own.as_str(), What::Subscriptions).into(),
        lease(3600).into(),
        lease(1).into(),
        Subscribe { version, ..subscribe(owner, What::Presence) }.into(),
        lease(0).into(),
        fetch(own.as_str(), What::Subscriptions).into(),
        subscribe(owner, What::Presence).into(),
        publish(own.as_str(), What::Subscriptions, Some(state::encode(&cancel))).into(),
        fetch(own.as_str(), What::Subscriptions).into(),
        subscribe(owner, What::Presence).into(),
        fetch(owner, What::Watchers).into(),
        fetch(owner, What::Rules).into(),
    ];
    for command in commands {
        asked(watcher, owner, command, out).await;
    }
}

/// To who is politely blocked the owner looks really offline: answers, states, contents, versions
/// and what comes later are equal to the byte, whatever the owner does meanwhile.
#[tokio::test]
async fn r5_1_15_a_polite_block_cannot_be_told_from_offline() {
    let server = strangers(&["olive", "peter", "dave", "bob"]);
    let mut olive = Peer::sign_in(&server, "olive").await;
    let mut peter = Peer::sign_in(&server, "peter").await;
    let bobs = rule("bob", "allow", ALL);
    olive.set_rules(&(rule("dave", "allow", ALL) + &bobs)).await;
    peter.set_rules(&(rule("dave", "polite-block", "") + &bobs)).await;
    peter.show(&open("not for dave")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "peter@localhost").await;
    let mut seen = Vec::new();
    for owner in ["olive@localhost", "peter@localhost"] {
        let (mut dave, mut frames) = (Peer::sign_in(&server, "dave").await, Vec::new());
        pry(&mut dave, owner, &mut frames).await;
        // Peter lives on, and changes what has nothing to do with dave.
        for n in 0..10 {
            peter.show(&open(&format!("change {n}"))).await;
            peter
                .set_rules(&(rule("dave", "polite-block", "") + &bobs + &"# edited\n".repeat(n)))
                .await;
        }
        peter.hide().await;
        bob.until(|held| held.document() == &Document::offline()).await;
        peter.show_for(&open("back"), 3600).await.unwrap();
        bob.until_note("back").await;
        rest(&mut dave, owner, &mut frames).await;
        seen.push(frames);
        dave.leave().await;
    }
    let (offline, polite) = (&seen[0], &seen[1]);
    for (index, pair) in offline.iter().zip(polite).enumerate() {
        assert_eq!(pair.0, pair.1, "frame {index}: offline left, politely blocked right");
    }
    assert_eq!(offline.len(), polite.len());
}

/// A version that a watcher made from a guess of what is hidden is answered like any other that is
/// not held: no answer tells whether the guess was right.
#[tokio::test]
async fn r5_1_15_a_guessed_version_tells_nothing() {
    let server = strangers(&["olive", "peter", "dave"]);
    let hidden = document(&[("note", "secret")], &[("im", &[("status", "closed")])]);
    let version = Some(Version::of(&hidden.encode()));
    let mut olive = Peer::sign_in(&server, "olive").await;
    olive.set_rules(&rule("dave", "allow", ALL)).await;
    let mut peter = Peer::sign_in(&server, "peter").await;
    peter.set_rules(&rule("dave", "polite-block", "")).await;
    peter.show(&hidden).await;
    // Somebody sees it, so that it has been encoded.
    let own = Watcher::of(Peer::sign_in_on(&server, "peter", 2).await, "peter@localhost").await;
    assert_eq!(own.held.document(), &hidden);
    let mut seen = Vec::new();
    for owner in ["olive@localhost", "peter@localhost"] {
        let (mut dave, mut frames) = (Peer::sign_in(&server, "dave").await, Vec::new());
        let guess = Subscribe { version, ..subscribe(owner, What::Presence) };
        asked(&mut dave, owner, guess.into(), &mut frames).await;
        let guess = Fetch { version, ..fetch(owner, What::Presence) };
        asked(&mut dave, owner, guess.into(), &mut frames).await;
        seen.push(frames);
        dave.leave().await;
    }
    assert_eq!(seen[0], seen[1], "offline left, politely blocked right");
}

/// The same of what another watcher may see: a guess of a hidden field is not confirmed.
#[tokio::test]
async fn r2_3_3_a_guessed_version_tells_nothing() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let status = "fields = [\"status\"]";
    alice.set_rules(&(rule("bob", "allow", ALL) + &rule("carol", "allow", status))).await;
    let long: &[(&str, &[(&str, &str)])] =
        &[("im", &[("status", "open"), ("contact", "im:a@localhost")])];
    let hidden = document(&[("mood", "sad")], long);
    alice.show(&hidden).await;
    let bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(bob.held.document(), &hidden);
    let mut answers = Vec::new();
    for mood in ["happy", "sad"] {
        let version = Some(Version::of(&document(&[("mood", mood)], long).encode()));
        let mut carol = Peer::sign_in(&server, "carol").await;
        let guess = Subscribe { version, ..subscribe("alice@localhost", What::Presence) };
        carol.done(guess).await;
        answers.push(carol.notify().await);
        carol.leave().await;
    }
    assert_eq!(answers[0], answers[1], "wrong guess left, right one right");
}

/// To be politely blocked looks like the owner going offline, to be allowed again like coming
/// back, to the byte.
#[tokio::test]
async fn r5_1_15_becoming_politely_blocked_looks_like_going_offline() {
    let server = strangers(&["olive", "peter", "dave"]);
    let mut seen = Vec::new();
    for name in ["olive", "peter"] {
        let mut owner = Peer::sign_in(&server, name).await;
        let (address, mut out) = (owner.address.to_string(), Vec::new());
        owner.set_rules(&rule("dave", "allow", ALL)).await;
        owner.show(&open("before")).await;
        let mut dave = Peer::sign_in(&server, "dave").await;
        pry(&mut dave, &address, &mut out).await;
        match name {
            "olive" => owner.hide().await,
            _ => owner.set_rules(&rule("dave", "polite-block", "")).await,
        }
        pry(&mut dave, &address, &mut out).await;
        match name {
            "olive" => drop(owner.show(&open("before")).await),
            _ => owner.set_rules(&rule("dave", "allow", ALL)).await,
        }
        pry(&mut dave, &address, &mut out).await;
        seen.push(out);
        dave.leave().await;
    }
    for (index, pair) in seen[0].iter().zip(&seen[1]).enumerate() {
        assert_eq!(pair.0, pair.1, "frame {index}: offline left, politely blocked right");
    }
    assert_eq!(seen[0].len(), seen[1].len());
}

/// A request that is politely blocked looks to the asker like one that an offline owner allowed.
#[tokio::test]
async fn r5_1_15_a_polite_answer_to_a_request_looks_like_an_approval() {
    let server = strangers(&["olive", "peter", "dave"]);
    let mut seen = Vec::new();
    for name in ["olive", "peter"] {
        let mut owner = Peer::sign_in(&server, name).await;
        let (address, mut out) = (owner.address.to_string(), Vec::new());
        let mut dave = Peer::sign_in(&server, "dave").await;
        asked(&mut dave, &address, subscribe(&address, What::Presence).into(), &mut out).await;
        if name == "peter" {
            owner.show(&open("not for dave")).await;
        }
        let decision = if name == "olive" { Decision::Allow } else { Decision::Polite };
        decide(&mut owner, &"dave@localhost".parse().unwrap(), decision).await;
        rest(&mut dave, &address, &mut out).await;
        pry(&mut dave, &address, &mut out).await;
        seen.push(out);
        dave.leave().await;
    }
    for (index, pair) in seen[0].iter().zip(&seen[1]).enumerate() {
        assert_eq!(pair.0, pair.1, "frame {index}: offline left, politely blocked right");
    }
    assert_eq!(seen[0].len(), seen[1].len());
}

/// Rights that are taken away while changes flow: behind the word of it nothing comes that was
/// published after, and what was shown last is withdrawn.
#[tokio::test]
async fn d3_no_update_is_seen_after_the_revocation() {
    let server = strangers(&["bob"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    for round in 0..20 {
        alice.set_rules(&rule("bob", "allow", ALL)).await;
        let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
        let base = alice.done(fetch("alice@localhost", What::Rules)).await.number;
        // All in one flight: ten changes, the revocation, ten more.
        let change = |n: usize| {
            let content = Some(impp_tests::presence::layer(&open(&format!("{round} {n}"))));
            let change = publish("alice@localhost", What::Presence, content);
            Command::from(Publish { replace: true, ..change })
        };
        let revoke = publish("alice@localhost", What::Rules, Some(rule("bob", "block", "").into()));
        let flight: Vec<Command> = (0..10)
            .map(change)
            .chain([Publish { base, ..revoke }.into()])
            .chain((10..20).map(change))
            .collect();
        for number in alice.flight(flight).await {
            alice.answer(number).await.unwrap();
        }
        let late: Vec<String> = (10..20).map(|n| format!("{round} {n}")).collect();
        let notifies: Vec<Notify> = bob.peer.fenced().await;
        for notify in &notifies {
            bob.held.take(notify);
            let note = bob.held.content.as_ref().and_then(|(_, d)| person(d, "note"));
            assert!(note.is_none_or(|note| !late.iter().any(|late| late == note)), "{note:?}");
        }
        assert_eq!(bob.held.state, Some(SubscriptionState::Terminated));
        assert_eq!(bob.held.content, None);
        bob.peer.leave().await;
    }
}

/// Who is taken out of a group while a change is on its way to many sees nothing of it, though
/// the others do: the rule is asked when bytes leave.
#[tokio::test]
async fn d11_who_leaves_the_group_in_mid_change_sees_nothing_of_it() {
    let names: Vec<String> = (0..30).map(|n| format!("w{n}")).collect();
    let server = at_once().accounts(["alice"]).start();
    let profiles = server.add_many(names.clone());
    let group = |without: usize| {
        let members = names.iter().enumerate().filter(|(n, _)| *n != without);
        let members: Vec<_> = members.map(|(_, name)| format!("\"{name}@localhost\"")).collect();
        format!(
            "[groups]\nfriends = [{}]\n[[rule]]\nid = \"friends\"\nwho = [\"group:friends\"]\n\
             handling = \"allow\"\n{ALL}\n",
            members.join(", ")
        )
    };
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&group(usize::MAX)).await;
    alice.show(&open("before")).await;
    let mut watchers = Vec::new();
    for profile in &profiles {
        let wire = impp_tests::Wire::dial(&server).await;
        let peer = Peer::over(wire, profile, 1).await.unwrap();
        watchers.push(Watcher::of(peer, "alice@localhost").await);
    }
    for (out, watcher) in watchers.iter_mut().enumerate() {
        let base = alice.done(fetch("alice@localhost", What::Rules)).await.number;
        let text = Some(Bytes::from(group(out)));
        let revoke = Publish { base, ..publish("alice@localhost", What::Rules, text) };
        let secret = format!("not for w{out}");
        let content = Some(impp_tests::presence::layer(&open(&secret)));
        let change = publish("alice@localhost", What::Presence, content);
        let change = Publish { replace: true, ..change };
        for number in alice.flight([revoke.into(), change.into()]).await {
            alice.answer(number).await.unwrap();
        }
        for notify in watcher.peer.fenced().await {
            watcher.held.take(&notify);
            let note = watcher.held.content.as_ref().and_then(|(_, d)| person(d, "note"));
            assert_ne!(note, Some(&*secret));
        }
        assert_eq!(watcher.held.state, Some(SubscriptionState::Terminated));
    }
}
