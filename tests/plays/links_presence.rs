//! Presence between two domains: decided at home, asked for watcher by watcher, told group by group,
//! kept apart where it is watched.

use std::collections::BTreeSet;

use impp_protocol::command::Subscribe;
use impp_protocol::state::{Contact, ContactEdit, Grant, SubscriptionEvent, SubscriptionState};
use impp_protocol::{Code, What};
use impp_tests::impp::Impp;
use impp_tests::peer::subscribe;
use impp_tests::presence::{Watcher, open, person};
use impp_tests::server::Start;
use impp_tests::{Domains, Peer, eventually};

/// Rules by which everybody who has signed in anywhere sees all.
const OPEN_PRESENCE: &str =
    "[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";

const BOB: &str = "bob@b.example";

/// A contact who is followed.
fn contact(address: &str) -> Contact {
    let (address, name, groups) = (address.parse().unwrap(), None, vec![]);
    Contact { address, name, groups, follow: true, grant: Grant::Status.into(), subscription: None }
}

/// Signs in at b as bob, who shows everybody everything.
async fn open_bob(domains: &Domains) -> Peer {
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    bob.set_rules(OPEN_PRESENCE).await;
    bob
}

/// Settings by which what takes a minute takes a second.
fn quick(_: &str, start: Start) -> Start {
    start
        .set("federation.stale_seconds", 1)
        .set("federation.idle_seconds", 1)
        .set("federation.answer_seconds", 3)
}

/// Two domains that know nothing of each other but DNS watch each other at first contact; the owner
/// decides.
#[tokio::test(flavor = "multi_thread")]
async fn r2_2_1_strangers_watch_each_other_at_first_contact() {
    let domains = Domains::two().await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    bob.show(&open("at home")).await;
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
    alice.until(|held| held.state == Some(SubscriptionState::Pending)).await;
    let asked = bob.requests().await.entries;
    assert_eq!(asked[0].from, "alice@a.example".parse().unwrap());
    let impp = Impp::of(&domains["b.example"], "bob");
    assert_eq!(impp.run(&["requests", "allow", "alice@a.example"]).code, 0);
    alice.until(|held| held.content.is_some()).await;
    assert_eq!(person(alice.held.document(), "note"), None, "the status and nothing else");
    bob.set_rules(OPEN_PRESENCE).await;
    alice.until_note("at home").await;
    bob.show(&open("out")).await;
    alice.until_note("out").await;
    // And the other way, over the same link.
    let mut alices = Peer::sign_in_on(&domains["a.example"], "alice", 2).await;
    alices.set_rules(OPEN_PRESENCE).await;
    alices.show(&open("in a")).await;
    let mut watcher = Watcher::sign_in(&domains["b.example"], "bob", "alice@a.example").await;
    watcher.until_note("in a").await;
    assert_eq!(domains["b.example"].metrics().get("impp_links"), 1.0);
}

/// The link is away while presence changes thrice; afterwards it is right, and what was told
/// between was true.
#[tokio::test(flavor = "multi_thread")]
async fn r5_2_2_after_a_cut_presence_is_right_and_stale_was_said() {
    let domains = Domains::with(&["a.example", "b.example"], quick).await;
    let mut bob = open_bob(&domains).await;
    bob.show(&open("0")).await;
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
    let mut carol = Watcher::sign_in(&domains["a.example"], "carol", BOB).await;
    alice.until_note("0").await;
    carol.until_note("0").await;
    domains.cable("b.example").pull();
    for note in ["1", "2", "3"] {
        bob.show(&open(note)).await;
    }
    for watcher in [&mut alice, &mut carol] {
        watcher.until(|held| held.state == Some(SubscriptionState::Stale)).await;
        assert_eq!(person(watcher.held.document(), "note"), Some("0"), "what was held stays");
    }
    domains.cable("b.example").plug();
    for watcher in [&mut alice, &mut carol] {
        watcher.until_note("3").await;
        assert_eq!(watcher.held.state, Some(SubscriptionState::Active));
    }
    assert_eq!(domains["b.example"].metrics().get("impp_links"), 1.0);
}

/// A link that comes back soon is nothing to tell anybody.
#[tokio::test(flavor = "multi_thread")]
async fn r5_2_2_a_short_cut_is_not_told() {
    let domains = Domains::two().await;
    let mut bob = open_bob(&domains).await;
    bob.show(&open("steady")).await;
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
    alice.until_note("steady").await;
    let cable = domains.cable("b.example");
    let before = cable.connections();
    cable.pull();
    cable.plug();
    eventually("a new link", async || (cable.connections() > before).then_some(())).await;
    // The next change comes as it should, and nothing came before it.
    let count = alice.held.count;
    bob.show(&open("changed")).await;
    alice.until_note("changed").await;
    assert_eq!(alice.held.count, count + 1);
}

/// A domain that stays away: what was shown is void when the lease ends, not before.
#[tokio::test(flavor = "multi_thread")]
async fn r5_2_2_at_the_end_of_the_lease_nothing_is_known_any_more() {
    let mut domains = Domains::with(&["a.example", "b.example"], |name, start| {
        quick(name, start).set("times.lease_min_seconds", 1).set("federation.lease_seconds", 4)
    })
    .await;
    let mut bob = open_bob(&domains).await;
    bob.show(&open("there")).await;
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
    alice.until_note("there").await;
    domains["b.example"].kill9();
    alice.until(|held| held.state == Some(SubscriptionState::Stale)).await;
    assert!(alice.held.content.is_some());
    alice.until(|held| held.state == Some(SubscriptionState::Unknown)).await;
    assert!(alice.held.content.is_none(), "never a ghost");
    domains["b.example"].restart();
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    bob.show(&open("back")).await;
    alice.until_note("back").await;
}

/// A request waits for an absent owner, across restarts of both servers.
#[tokio::test(flavor = "multi_thread")]
async fn r5_2_2_a_pending_request_survives_restarts_of_both_sides() {
    let mut domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    alice.edit_contacts(&ContactEdit::set(contact(BOB))).await;
    eventually("a pending subscription", async || {
        let mut all = alice.subscriptions().await;
        all.retain(|one| one.presentity.as_str() == BOB);
        (all.first()?.state == SubscriptionState::Pending).then_some(())
    })
    .await;
    drop(alice);
    for domain in ["a.example", "b.example"] {
        domains[domain].kill9();
        domains[domain].restart();
    }
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    bob.show(&open("hello")).await;
    assert_eq!(bob.requests().await.entries.len(), 1);
    let impp = Impp::of(&domains["b.example"], "bob");
    assert_eq!(impp.run(&["requests", "allow", "alice@a.example"]).code, 0);
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
    alice.until(|held| held.content.is_some()).await;
    assert_eq!(alice.held.state, Some(SubscriptionState::Active));
}

/// The second watcher of a view costs the link no content, and the third one, who sees less, gets
/// nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn r3_3_1_r3_3_2_r3_3_3_watchers_here_share_what_they_may_see_and_nothing_else() {
    let domains = Domains::two().await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    bob.set_rules(
        "[[rule]]\nid = \"all\"\nwho = [\"domain:a.example\"]\nexcept = [\"carol@a.example\"]\n\
         handling = \"allow\"\nfields = [\"all\"]\n\
         [[rule]]\nid = \"carol\"\nwho = [\"carol@a.example\"]\nhandling = \"polite-block\"\n",
    )
    .await;
    let secret = "x".repeat(1000);
    bob.show(&open(&secret)).await;
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
    alice.until_note(&secret).await;
    let (before, back) = domains.cable("b.example").bytes();
    domains["a.example"].add("erin");
    let mut erin = Watcher::sign_in(&domains["a.example"], "erin", BOB).await;
    erin.until_note(&secret).await;
    let (after, back_after) = domains.cable("b.example").bytes();
    let more = after - before + back_after - back;
    assert!(more < 700, "{more} bytes for a second watcher");
    let mut carol = Watcher::sign_in(&domains["a.example"], "carol", BOB).await;
    carol.until(|held| held.content.is_some()).await;
    assert_eq!(carol.held.document(), &impp_protocol::presence::Document::offline());
    // A rule that takes it from erin takes it from erin alone, at once.
    bob.set_rules(
        "[[rule]]\nid = \"alice\"\nwho = [\"alice@a.example\"]\nhandling = \"allow\"\n\
         fields = [\"all\"]\n\
         [[rule]]\nid = \"others\"\nwho = [\"domain:a.example\"]\nhandling = \"polite-block\"\n",
    )
    .await;
    erin.until(|held| held.content.as_ref().is_some_and(|(_, d)| person(d, "note").is_none()))
        .await;
    assert_eq!(erin.held.version(), carol.held.version(), "the same as any other offline");
    bob.show(&open("for alice")).await;
    alice.until_note("for alice").await;
    assert_eq!(carol.settle().await, 0);
    assert_eq!(erin.settle().await, 0);
}

/// A change costs the link the same whether one or many watch.
#[tokio::test(flavor = "multi_thread")]
async fn r2_2_6_bytes_on_the_link_do_not_grow_with_the_watchers() {
    const MANY: usize = 60;
    let domains = Domains::with(&["a.example", "b.example"], |_, start| {
        start.set("limits.unsigned_per_address_max", 1000)
    })
    .await;
    let mut bob = open_bob(&domains).await;
    bob.show(&open("start")).await;
    let mut watchers = vec![Watcher::sign_in(&domains["a.example"], "alice", BOB).await];
    let mut cost = Vec::new();
    for round in 0..2 {
        for watcher in &mut watchers {
            watcher.until_note("start").await;
        }
        // Patches of equal length, so that only the watchers differ.
        let mut bytes = Vec::new();
        for n in 0..6 {
            let before = domains.cable("b.example").bytes().1;
            let note = format!("note {round}{n}");
            bob.show(&open(&note)).await;
            for watcher in &mut watchers {
                watcher.until_note(&note).await;
            }
            bytes.push(domains.cable("b.example").bytes().1 - before);
        }
        bob.show(&open("start")).await;
        cost.push(*bytes.iter().min().unwrap());
        if round == 0 {
            let profiles = domains["a.example"].add_many((0..MANY).map(|n| format!("w{n}")));
            for profile in profiles {
                let wire = impp_tests::Wire::dial(&domains["a.example"]).await;
                let peer = Peer::over(wire, &profile, 1).await.unwrap();
                watchers.push(Watcher::of(peer, BOB).await);
            }
        }
    }
    assert_eq!(cost[0], cost[1], "bytes for one watcher and for {}", MANY + 1);
    assert!(cost[0] > 0 && cost[0] < 400, "{cost:?}");
}

/// Each side is killed while presence changes: both converge, and nobody sees a ghost.
#[tokio::test(flavor = "multi_thread")]
async fn r5_2_2_kill_9_of_either_side_and_presence_converges() {
    let mut domains = Domains::with(&["a.example", "b.example"], quick).await;
    let mut bob = open_bob(&domains).await;
    bob.show_for(&open("leased 0"), 3600).await.unwrap();
    for (n, victim) in ["b.example", "a.example", "b.example"].into_iter().enumerate() {
        let mut alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
        alice.until_note(&format!("leased {n}")).await;
        domains[victim].kill9();
        domains[victim].restart();
        let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
        let note = format!("leased {}", n + 1);
        bob.show_for(&open(&note), 3600).await.unwrap();
        if victim == "a.example" {
            alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
        }
        alice.until_note(&note).await;
    }
}

/// The contact list follows contacts of other domains as those of its own.
#[tokio::test(flavor = "multi_thread")]
async fn r2_2_6_the_contact_list_follows_across_domains_and_waits_for_none() {
    let domains = Domains::two().await;
    domains.dns.srv("down.example", "pres", 0, 0, 1, "host.down.example");
    domains.dns.address_of("host.down.example", "127.0.3.1".parse().unwrap());
    let mut bob = open_bob(&domains).await;
    bob.show(&open("in the list")).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    for address in [BOB, "x@down.example", "x@nowhere.example"] {
        alice.edit_contacts(&ContactEdit::set(contact(address))).await;
    }
    let all = Subscribe { expand: true, ..subscribe("alice@a.example", What::Contacts) };
    alice.done(all).await;
    let mut seen = BTreeSet::new();
    let mut noted = false;
    while !noted {
        let notify = alice.notify().await;
        seen.insert(notify.address.to_string());
        let shown = notify.snapshot.or(notify.patch);
        noted = notify.address.as_str() == BOB
            && shown.is_some_and(|b| b.windows(11).any(|part| part == b"in the list"));
    }
    assert!(seen.contains(BOB));
}

/// Reading once, across domains, is what following shows.
#[tokio::test(flavor = "multi_thread")]
async fn d_6_6_a_fetch_across_domains_shows_what_following_does() {
    let domains = Domains::two().await;
    let mut bob = open_bob(&domains).await;
    bob.show(&open("once")).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    assert_eq!(person(&alice.look(BOB).await, "note"), Some("once"));
    bob.set_rules("").await;
    let refused = alice.refused(impp_tests::peer::fetch(BOB, What::Presence)).await;
    assert_eq!(refused, Code::Refused);
    let unknown = impp_tests::peer::fetch("x@nowhere.example", What::Presence);
    assert_eq!(alice.refused(unknown).await, Code::UnknownDomain);
    let unknown = subscribe("x@nowhere.example", What::Presence);
    assert_eq!(alice.refused(unknown).await, Code::UnknownDomain);
}

/// Nobody but the watcher and the owner can end a subscription.
#[tokio::test(flavor = "multi_thread")]
async fn r5_1_8_others_cannot_cancel_a_subscription_and_its_ends_can() {
    let domains = Domains::two().await;
    let mut bob = open_bob(&domains).await;
    bob.show(&open("1")).await;
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
    alice.until_note("1").await;
    let mut carol = Peer::sign_in(&domains["a.example"], "carol").await;
    let end =
        Subscribe { lease: Some(std::time::Duration::ZERO), ..subscribe(BOB, What::Presence) };
    carol.done(end.clone()).await;
    let forged = Subscribe { watcher: Some("alice@a.example".parse().unwrap()), ..end };
    assert_eq!(carol.refused(forged).await, Code::Refused);
    bob.show(&open("2")).await;
    alice.until_note("2").await;
    // The owner does it.
    let impp = Impp::of(&domains["b.example"], "bob");
    assert_eq!(impp.run(&["watchers", "remove", "alice@a.example"]).code, 0);
    alice.until(|held| held.state == Some(SubscriptionState::Terminated)).await;
    // The watcher does it: the home knows at once.
    let mut alice = Watcher::of(alice.peer, BOB).await;
    alice.until_note("2").await;
    let impp = Impp::of(&domains["a.example"], "alice");
    assert_eq!(impp.run(&["subscriptions", "cancel", BOB]).code, 0);
    eventually("nobody who watches", async || {
        let watchers = bob.watchers().await;
        let alice = "alice@a.example".parse().unwrap();
        let left = watchers.iter().find(|watcher| watcher.watcher == alice);
        left.is_none_or(|left| left.state == SubscriptionState::Terminated).then_some(())
    })
    .await;
}

/// Neither learns where the other is: no address of the one's machine is in what the other gets.
#[tokio::test(flavor = "multi_thread")]
async fn r5_1_17_r5_1_18_r5_2_5_r5_2_6_r5_4_5_no_address_of_a_machine_reaches_the_other() {
    let domains = Domains::two().await;
    let here = std::net::Ipv4Addr::new(127, 0, 9, 7);
    let there = std::net::Ipv4Addr::new(127, 0, 9, 8);
    let mut alice = Peer::sign_in_from(&domains["a.example"], "alice", here).await;
    let mut bob = Peer::sign_in_from(&domains["b.example"], "bob", there).await;
    for peer in [&mut alice, &mut bob] {
        peer.set_rules(&format!("{OPEN_PRESENCE}{}", impp_tests::fates::OPEN_INBOX)).await;
        peer.show(&open("here")).await;
    }
    alice.queue(BOB, "hello").await;
    bob.queue("alice@a.example", "hello").await;
    let (mut a, mut b) = (Watcher::of(alice, BOB).await, Watcher::of(bob, "alice@a.example").await);
    a.until_note("here").await;
    b.until_note("here").await;
    a.peer.texts(1).await;
    b.peer.texts(1).await;
    for (watcher, other) in [(&mut a, there), (&mut b, here)] {
        let mut seen = format!("{:?}", watcher.held);
        seen += &format!("{:?}", watcher.peer.log().await);
        seen += &format!("{:?}", watcher.peer.watchers().await);
        seen += &format!("{:?}", watcher.peer.subscriptions().await);
        seen += &format!("{:?}", watcher.peer.fates().await);
        assert!(!seen.contains(&other.to_string()), "{other} in {seen}");
        let raw = format!("{:?}", bytes::Bytes::copy_from_slice(&other.octets()));
        assert!(!seen.contains(raw.trim_start_matches("b\"").trim_end_matches('"')));
    }
}

/// Somebody elsewhere who does not exist cannot be told from one who never signs in.
#[tokio::test(flavor = "multi_thread")]
async fn f14_following_an_address_that_does_not_exist_is_pending_as_with_one_that_does() {
    let domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    for address in [BOB, "nobody@b.example"] {
        let mut watcher = Watcher::of(alice, address).await;
        watcher.until(|held| held.state == Some(SubscriptionState::Pending)).await;
        assert_ne!(watcher.held.event, Some(SubscriptionEvent::Noresource));
        alice = watcher.peer;
    }
}
