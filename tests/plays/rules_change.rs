//! What happens to those who watch when rules change, the owner decides, or time passes.

use bytes::Bytes;
use impp_protocol::command::{Notify, Publish};
use impp_protocol::state::{
    self, Decision, SubscriptionEdit, SubscriptionEvent, SubscriptionState, WatcherEdit,
};
use impp_protocol::{Address, Code, Command, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, publish, subscribe};
use impp_tests::presence::{Watcher, at_once, document, open, person};

use crate::rules::{ALL, decide, rule, strangers};

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
        grant: state::Grant::All.into(),
        subscription: None,
    };
    let add = state::encode(&state::ContactEdit::set(contact));
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
