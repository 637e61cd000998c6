//! Publishing, looking, following, being told: sections 3.1 to 3.2, 4.4, 5.1 and 5.3.
//!
//! How publications and subscriptions end is in `presence_leases`, what changes cost in
//! `presence_views`, who may see what in `rules`.

use std::time::Duration;

use impp_protocol::command::{Done, Notify, Publish, Subscribe};
use impp_protocol::presence::{Document, Patch};
use impp_protocol::state::{
    ContactEdit, Decision, RequestEdit, RequestKind, SubscriptionEvent, SubscriptionState,
};
use impp_protocol::{Code, Command, What, state};
use impp_tests::dice::Dice;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, message, publish, subscribe};
use impp_tests::presence::{Watcher, at_once, document, layer, open, part, person};
use impp_tests::running::Running;
use impp_tests::wire::{Wire, bytes_of, raw_frame};
use impp_tests::{Server, eventually};

use crate::settings::OPEN_PRESENCE;

/// A document names its presentity, which must be the publisher: nobody publishes for another,
/// and a PUBLISH for nobody is none.
#[tokio::test]
async fn r3_1_2_a_document_for_another_presentity_is_refused() {
    let server = at_once().start();
    let mut carol = Watcher::sign_in(&server, "carol", "bob@localhost").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let content = Some(layer(&open("I am bob")));
    let forged = publish("bob@localhost", What::Presence, content.clone());
    assert_eq!(alice.refused(forged).await, Code::Refused);
    let nobody = publish("nobody@localhost", What::Presence, content.clone());
    assert_eq!(alice.refused(nobody).await, Code::Refused);
    let foreign = publish("alice@elsewhere.example", What::Presence, content);
    assert_eq!(alice.refused(foreign).await, Code::Refused);
    // PUBLISH with the field `what` alone.
    alice.wire().write(&raw_frame(6, 20, b"\x04\x01")).await;
    assert_eq!(alice.ending().await.code(), Code::Malformed);
    assert_eq!(carol.settle().await, 0);
    assert_eq!(carol.peer.look("bob@localhost").await, Document::offline());
    assert_eq!(carol.peer.look("alice@localhost").await, Document::offline());
}

/// Mail, telephone, post and instant messages come out of a NOTIFY and a FETCH as they went in.
#[tokio::test]
async fn r3_1_3_contacts_of_every_kind_survive() {
    let server = at_once().start();
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let published = document(
        &[("note", "in the office")],
        &[
            ("im", &[("status", "open"), ("contact", "im:alice@localhost"), ("priority", "0.8")]),
            ("mail", &[("status", "open"), ("contact", "mailto:alice@example.com")]),
            ("post", &[("status", "open"), ("org.example.postal", "1 Main Street\n12345 Town")]),
            ("tel", &[("status", "closed"), ("contact", "tel:+1-201-555-0123")]),
        ],
    );
    alice.show(&published).await;
    bob.next().await;
    assert_eq!(bob.held.document(), &published);
    assert_eq!(bob.peer.look("alice@localhost").await, published);
}

/// Looking at somebody works while no program of theirs runs: it shows what they left, or offline.
#[tokio::test]
async fn r3_2_1_fetch_works_while_the_owner_is_away() {
    let server = at_once().start();
    let bob = Impp::of(&server, "bob");
    let nothing = bob.run(&["fetch", "alice@localhost"]).one();
    assert_eq!(nothing["document"]["tuples"][0]["status"], "closed");
    let mut client = Running::start(&server, "alice", &["watch", "bob@localhost"]);
    assert_eq!(client.object()["event"], "subscribed");
    Impp::of(&server, "alice").run(&["status", "set", "open", "--note", "left on"]).one();
    client.kill9();
    eventually("alice's connections to be gone", async || {
        (server.metrics().get("impp_connections") == 0.0).then_some(())
    })
    .await;
    let shown = bob.run(&["fetch", "alice@localhost"]).one();
    assert_eq!(shown["document"]["person"]["note"], "left on");
    assert_eq!(shown["document"]["tuples"][0]["status"], "open");
}

/// Who asks while the owner is away is pending at once, and the owner finds the requests on
/// return, whatever happened to the asker's session and to the server meanwhile.
#[tokio::test]
async fn r3_2_2_a_request_waits_for_an_owner_who_is_away() {
    let mut server = at_once().start();
    ["dave", "erin"].iter().for_each(|name| server.add(name));
    let mut dave = Peer::sign_in(&server, "dave").await;
    assert_eq!(dave.follow("alice@localhost").await.state, Some(SubscriptionState::Pending));
    let mut erin = Peer::sign_in(&server, "erin").await;
    let asked = erin.follow_for("alice@localhost", 3600).await.unwrap();
    assert_eq!(asked.state, Some(SubscriptionState::Pending));
    dave.leave().await;
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let requests = alice.requests().await.entries;
    let asking: Vec<_> = requests.iter().map(|e| (e.kind, e.from.as_str().to_owned())).collect();
    let expected = ["dave@localhost", "erin@localhost"];
    assert_eq!(asking, expected.map(|from| (RequestKind::Subscribe, from.to_owned())));
    alice.show(&open("back")).await;
    let edit = RequestEdit::of("erin@localhost".parse().unwrap(), Decision::Allow);
    let decide = publish("alice@localhost", What::Requests, Some(state::encode(&edit)));
    alice.done(decide).await;
    // Erin's subscription has lived on: it is active without having been asked for again.
    let mut erin = Peer::sign_in(&server, "erin").await;
    let standing = erin.subscriptions().await;
    assert_eq!(standing.len(), 1);
    assert_eq!(standing[0].state, SubscriptionState::Active);
    assert_eq!(standing[0].event, SubscriptionEvent::Approved);
    assert_eq!(alice.requests().await.entries.len(), 1);
}

const CONVERGING: &str = r#"
    [[rule]]
    id = "all"
    who = ["bob@localhost"]
    handling = "allow"
    fields = ["all"]

    [[rule]]
    id = "status"
    who = ["carol@localhost"]
    handling = "allow"
    fields = ["status"]

    [[rule]]
    id = "some"
    who = ["dave@localhost"]
    handling = "allow"
    fields = ["note", "mood"]
    tuples = ["id:t1"]

    [[rule]]
    id = "offline"
    who = ["erin@localhost"]
    handling = "polite-block"
"#;

/// A random change of a layer, and whether it replaces the layer.
fn random_change(dice: &mut Dice, round: usize) -> (Patch, bool) {
    let mut target = Document::default();
    for name in ["note", "mood", "activities", "org.example.seat"] {
        if dice.roll(3) == 0 {
            let value = format!("{}{round}", name.len());
            target.person.extend(document(&[(name, &value)], &[]).person);
        }
    }
    for id in ["t1", "t2", "t3"] {
        let status = *dice.pick(&["open", "closed"]);
        let contact = format!("im:{id}{}@localhost", dice.roll(3));
        if dice.roll(2) == 0 {
            let pairs = [("status", status), ("contact", &*contact), ("note", "of a tuple")];
            target.tuples.extend(document(&[], &[(id, &pairs)]).tuples);
        }
    }
    let mut patch = Patch::between(&Document::default(), &target);
    if dice.roll(4) == 0 {
        // What a document without note and t2 differs from one that has them.
        let both = document(&[("note", "x")], &[("t2", &[("status", "open")])]);
        let removal = Patch::between(&both, &Document::default());
        if !patch.person.set.contains_key("note") {
            patch.person.unset = removal.person.unset;
        }
        patch.tuples.entry(part("t2")).or_insert(removal.tuples[&part("t2")].clone());
    }
    (patch, dice.roll(5) == 0)
}

/// What remains of a document where only these fields of the person's and of tuples show, beside
/// those of tuples that always do, and only these tuples.
fn filtered(whole: &Document, fields: &[&str], tuples: impl Fn(&str) -> bool) -> Document {
    let mut view = whole.clone();
    view.person.retain(|name, _| fields.contains(&name.as_str()));
    view.tuples.retain(|id, _| tuples(id.as_str()));
    for (_, tuple) in view.tuples.iter_mut() {
        tuple.retain(|name, _| {
            fields.contains(&name.as_str()) || ["status", "contact"].contains(&name.as_str())
        });
    }
    if view == Document::default() { Document::offline() } else { view }
}

/// After hundreds of random publications, each watcher holds what the rules let through of the
/// last one, however much of the way it was told.
#[tokio::test]
async fn r3_2_3_every_permitted_view_converges_to_the_last_state() {
    const SEED: u64 = 20_779;
    let server = at_once().no_rates().start();
    ["dave", "erin"].iter().for_each(|name| server.add(name));
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(CONVERGING).await;
    let mut watchers = Vec::new();
    for name in ["bob", "carol", "dave", "erin"] {
        watchers.push(Watcher::sign_in(&server, name, "alice@localhost").await);
    }
    let (mut dice, mut whole) = (Dice::new(SEED), Document::default());
    for round in 0..300 {
        let (patch, replace) = random_change(&mut dice, round);
        if replace {
            whole = Document::default();
        }
        patch.apply(&mut whole).unwrap();
        let publish = publish("alice@localhost", What::Presence, Some(patch.encode()));
        alice.done(Publish { replace, ..publish }).await;
        if dice.roll(10) == 0 {
            alice.hide().await;
            whole = Document::default();
        }
        // Some read on the way, and so are patched from elsewhere than others.
        for watcher in &mut watchers {
            if dice.roll(8) == 0 {
                watcher.settle().await;
            }
        }
    }
    let shown = if whole == Document::default() { Document::offline() } else { whole.clone() };
    let expected = [
        shown,
        filtered(&whole, &["status"], |_| true),
        filtered(&whole, &["note", "mood"], |id| id == "t1"),
        Document::offline(),
    ];
    for (watcher, expected) in watchers.iter_mut().zip(&expected) {
        watcher.settle().await;
        assert_eq!(watcher.held.document(), expected, "{}, seed {SEED}", watcher.peer.address);
        assert_eq!(&watcher.peer.look("alice@localhost").await, expected, "seed {SEED}");
    }
    assert_eq!(watchers[3].held.count, 1, "who sees nobody is told nothing, seed {SEED}");
}

/// The smallest document of instant messaging - an entity, a tuple, its status, its contact - is
/// accepted and shown.
#[tokio::test]
async fn r4_4_1_the_smallest_document_is_accepted_and_shown() {
    let server = at_once().start();
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let smallest =
        document(&[], &[("im", &[("status", "open"), ("contact", "im:alice@localhost")])]);
    alice.show(&smallest).await;
    bob.next().await;
    assert_eq!(bob.held.document(), &smallest);
}

/// Open and closed are published, filtered, told; and closed is shown and changes nothing else:
/// messages are taken.
#[tokio::test]
async fn r4_4_2_open_and_closed_are_expressible() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice
        .set_rules(
            "[[rule]]\nid = \"b\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\n\
             fields = [\"status\"]\n\
             [[delivery]]\nid = \"b\"\nwho = [\"bob@localhost\"]\naction = \"accept\"\n",
        )
        .await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    for status in ["open", "closed", "open", "closed"] {
        let note = format!("{status} for a reason");
        alice.show(&document(&[("note", &note)], &[("im", &[("status", status)])])).await;
        bob.next().await;
        assert_eq!(bob.held.document(), &document(&[], &[("im", &[("status", status)])]));
    }
    bob.peer.send("alice@localhost", "although you are closed").await;
    assert_eq!(alice.inbox().await.len(), 1);
}

/// After the answer to a cancel nothing comes any more, of ten publications that others see; and
/// the subscription is gone from both lists.
#[tokio::test]
async fn r5_1_7_after_the_cancel_nothing_comes() {
    let server = at_once().start();
    server.add("dave");
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules =
        "[[rule]]\nid = \"a\"\nwho = [\"anyone\"]\nhandling = \"allow\"\nfields = [\"all\"]";
    alice.set_rules(rules).await;
    let mut carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    for lease in [None, Some(3600)] {
        let mut dave = Peer::sign_in(&server, "dave").await;
        match lease {
            None => drop(dave.follow("alice@localhost").await),
            Some(seconds) => drop(dave.follow_for("alice@localhost", seconds).await.unwrap()),
        }
        alice.show(&open("seen by both")).await;
        carol.until_note("seen by both").await;
        let cancel = Subscribe {
            lease: Some(std::time::Duration::ZERO),
            ..subscribe("alice@localhost", What::Presence)
        };
        // What came before the answer was in time.
        let done = dave.done(cancel.clone()).await;
        assert_eq!(done.state, Some(SubscriptionState::Terminated));
        while dave.try_unsolicited().is_some() {}
        for n in 0..10 {
            alice.show(&open(&format!("change {n}"))).await;
        }
        carol.until_note("change 9").await;
        assert_eq!(dave.fence().await, vec![]);
        assert_eq!(dave.subscriptions().await.len(), 0);
        let watchers = alice.watchers().await;
        let dave_there = watchers.iter().find(|w| w.watcher.as_str() == "dave@localhost");
        assert_eq!(dave_there.map(|w| w.state), Some(SubscriptionState::Terminated));
        // Once more changes nothing.
        assert_eq!(dave.done(cancel).await.state, Some(SubscriptionState::Terminated));
        dave.leave().await;
    }
}

/// A session is told of what it asked for and of nothing else: not of others, not of another
/// session's subscriptions, not of the log; and a client's own NOTIFY reaches nobody.
#[tokio::test]
async fn r5_3_2_only_what_was_subscribed_comes() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut other = Peer::sign_in_on(&server, "bob", 2).await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    carol.show(&open("carol is not followed")).await;
    carol.send("bob@localhost", "a message, and the log is not followed").await;
    let alices = "alice@localhost".parse().unwrap();
    let forged = Notify {
        snapshot: Some(open("forged").encode()),
        ..Notify::of(alices, What::Presence, SubscriptionState::Active)
    };
    assert_eq!(carol.refused(forged.clone()).await, Code::WrongState);
    alice.show(&open("true")).await;
    bob.next().await;
    assert_eq!(bob.held.document(), &open("true"));
    assert_eq!(bob.peer.fence().await, vec![]);
    assert_eq!(other.fence().await, vec![]);
    assert_eq!(other.look("alice@localhost").await, open("true"));
    // As an unsolicited frame it is no request at all.
    carol.wire().write(&bytes_of(0, forged)).await;
    assert!(matches!(carol.ending().await.code(), Code::Malformed | Code::WrongState));
    assert_eq!(bob.peer.fence().await, vec![]);
}

/// Following one's contact list follows all its entries as it changes, and them only.
#[tokio::test]
async fn one_subscription_follows_the_contact_list() {
    let server = at_once().start();
    server.add("dave");
    let mut dave = Peer::sign_in(&server, "dave").await;
    dave.set_rules(
        "[[rule]]\nid = \"a\"\nwho = [\"anyone\"]\nhandling = \"allow\"\nfields = [\"all\"]",
    )
    .await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let expand = Subscribe { expand: true, ..subscribe("alice@localhost", What::Contacts) };
    let content = alice.done(expand).await.content.unwrap();
    let followed = state::decode::<state::Contacts>(content).unwrap().entries;
    let names: Vec<_> = followed.iter().map(|contact| contact.address.as_str()).collect();
    assert_eq!(names, ["bob@localhost", "carol@localhost"]);
    // Their first NOTIFYs.
    let first = [alice.notify().await, alice.notify().await].map(|n| n.address.to_string());
    assert!(first.contains(&"bob@localhost".into()) && first.contains(&"carol@localhost".into()));
    dave.show(&open("not yet")).await;
    assert_eq!(alice.fence().await, vec![]);
    let contact = state::Contact { address: dave.address.clone(), ..followed[0].clone() };
    let set = ContactEdit::set(contact);
    alice.edit_contacts(&set).await;
    let notify = alice.notify().await;
    assert_eq!(notify.address, dave.address);
    assert_eq!(Document::decode(notify.snapshot.unwrap()).unwrap(), open("not yet"));
    alice.edit_contacts(&ContactEdit::remove(dave.address.clone())).await;
    alice.fence().await;
    dave.show(&open("no more")).await;
    let later = alice.fence().await;
    assert!(!format!("{later:?}").contains("no more") && later.is_empty(), "{later:?}");
}

/// What the contact list alone has kept ends with the entry, or with following the list. What the
/// session has asked for itself goes on, and so does a lease of the device's.
#[tokio::test]
async fn a_contact_that_is_removed_ends_what_the_list_alone_has_kept() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.follow_for("carol@localhost", 600).await.unwrap();
    alice.leave().await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    let expand = Subscribe { expand: true, ..subscribe("alice@localhost", What::Contacts) };
    alice.done(expand.clone()).await;
    alice.follow("bob@localhost").await;
    alice.fence().await;
    for name in ["bob@localhost", "carol@localhost"] {
        let remove = Some(name.parse().unwrap());
        alice.edit_contacts(&ContactEdit { set: None, remove, change: None }).await;
    }
    let ended = alice.fenced().await;
    let whose: Vec<_> = ended.iter().map(|end| (end.address.as_str(), end.state)).collect();
    assert_eq!(whose, [("carol@localhost", SubscriptionState::Terminated)]);
    bob.show(&open("still followed")).await;
    carol.show(&open("not any more")).await;
    let told = alice.fenced().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].address, bob.address);
    let leased = alice.subscriptions().await;
    let leased = leased.iter().find(|one| one.presentity == carol.address).expect("the lease");
    assert!(leased.expires_in.is_some(), "{leased:?}");
    alice.done(Subscribe { lease: Some(Duration::ZERO), ..expand }).await;
    bob.show(&open("to the end")).await;
    assert_eq!(alice.fenced().await.len(), 1);
}

/// Who names a version that he may not see yet is sent the content once he may.
#[tokio::test]
async fn a_version_that_was_named_while_pending_brings_the_content_with_the_approval() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    alice.show(&open("here")).await;
    let bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let version = Some(bob.held.version());
    bob.peer.leave().await;
    alice.set_rules(&OPEN_PRESENCE.replace("\"allow\"", "\"confirm\"")).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let asked = Subscribe { version, ..subscribe("alice@localhost", What::Presence) };
    let done = bob.done(asked).await;
    assert_eq!((done.state, done.version), (Some(SubscriptionState::Pending), None));
    alice.set_rules(OPEN_PRESENCE).await;
    let approved = bob.notify().await;
    assert_eq!(approved.event, Some(SubscriptionEvent::Approved));
    let snapshot = approved.snapshot.expect("the content, whatever was named");
    assert_eq!(Document::decode(snapshot).unwrap(), open("here"));
}

/// From a connection that is up to the first message are two flights of the client's: HELLO with
/// AUTH, and the proof with all the first requests behind it.
#[tokio::test]
async fn d_5_2_2_3_the_first_message_leaves_in_the_second_flight() {
    use impp_protocol::sasl::scram::Binding;
    use impp_tests::peer::{first_auth, next_auth, scram};
    use impp_tests::wire::hello;
    let server = Server::quickstart();
    let (profile, mut wire) = (server.profile("alice"), Wire::dial(&server).await);
    let binding = Binding::TlsExporter(wire.exporter());
    let (client, data) = scram(&profile, binding);
    let mut first = bytes_of(0, hello()).to_vec();
    first.extend(bytes_of(1, first_auth(&profile, 1, binding.mechanism().name(), data)));
    let mut flights = 0;
    wire.write(&first).await;
    flights += 1;
    wire.hello().await;
    let Command::Challenge(challenge) = wire.next().await.command else { panic!("no CHALLENGE") };
    let (_, proof) = client.handle_challenge(&challenge.data, None).unwrap();
    let mut second = bytes_of(2, next_auth(proof)).to_vec();
    second.extend(bytes_of(3, subscribe("bob@localhost", What::Presence)));
    second.extend(bytes_of(4, message("bob@localhost", "in the second flight")));
    second.extend(bytes_of(5, fetch("alice@localhost", What::Contacts)));
    wire.write(&second).await;
    flights += 1;
    let mut answered = Vec::new();
    while answered.len() < 4 {
        match wire.next().await {
            impp_protocol::Request { number, command: Command::Ok(_) } => answered.push(number),
            impp_protocol::Request { command: Command::Notify(_), .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answered[0], 2, "requests were answered before the sign-in");
    answered.sort_unstable();
    assert_eq!((flights, answered), (2, vec![2, 3, 4, 5]));
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.inbox().await.len(), 1);
}

/// While the client is in the middle of a frame the server notifies it; while the server has much
/// to say, it hears.
#[tokio::test]
async fn d_5_2_2_4_either_end_sends_at_any_time() {
    let server = at_once().start();
    let mut alice = Watcher::sign_in(&server, "alice", "bob@localhost").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let letter = bytes_of(700, message("bob@localhost", &"long ".repeat(8000)));
    let quarter = letter.len() / 4;
    for (n, part) in letter.chunks(quarter + 1).enumerate() {
        alice.peer.wire().write(part).await;
        let note = format!("in the middle, {n}");
        bob.show(&open(&note)).await;
        alice.until_note(&note).await;
    }
    let Done { outcome, .. } = alice.peer.answer(700).await.unwrap();
    assert_eq!(outcome.map(|outcome| outcome.as_str()), Some("delivered"));
    // The other way: alice asks on while hundreds of pages come that she has not read.
    let fetches: Vec<Command> =
        (0..300).map(|_| fetch("alice@localhost", What::Log).into()).collect();
    let numbers = alice.peer.flight(fetches).await;
    bob.show(&open("at the end")).await;
    for number in numbers {
        alice.peer.answer(number).await.unwrap();
    }
    alice.until_note("at the end").await;
}

/// Two devices publish: their tuples are united, of the person's fields the newest show; one ends
/// its own, the other's stay and show again.
#[tokio::test]
async fn two_devices_are_united_and_one_may_end() {
    let server = at_once().start();
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut desk = Peer::sign_in_on(&server, "alice", 1).await;
    let mut phone = Peer::sign_in_on(&server, "alice", 2).await;
    let at_desk = document(&[("note", "at my desk")], &[("desk", &[("status", "open")])]);
    let on_phone = document(&[("note", "on the go")], &[("phone", &[("status", "closed")])]);
    desk.show(&at_desk).await;
    phone.show(&on_phone).await;
    bob.until_note("on the go").await;
    let mut both = at_desk.clone();
    both.person = on_phone.person.clone();
    both.tuples.extend(on_phone.tuples.clone());
    assert_eq!(bob.held.document(), &both);
    desk.show(&at_desk).await;
    bob.until_note("at my desk").await;
    assert_eq!(bob.held.document().tuples, both.tuples);
    desk.leave().await;
    bob.until_note("on the go").await;
    assert_eq!(bob.held.document(), &on_phone);
    assert_eq!(person(&phone.look("alice@localhost").await, "note"), Some("on the go"));
    phone.hide().await;
    bob.until(|held| held.document() == &Document::offline()).await;
}
