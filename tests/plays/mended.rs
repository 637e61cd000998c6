//! Faults that readers of the code found, each kept from coming back.

use impp_protocol::command::{Message, Notify, Outcome, Ping, Subscribe};
use impp_protocol::presence::{Document, FieldName, PartId, Patch};
use impp_protocol::state::{Contact, ContactEdit, Grant, SubscriptionState};
use impp_protocol::{Code, Timestamp, What};
use impp_tests::peer::{Peer, fetch, message, publish, subscribe};
use impp_tests::presence::at_once;
use impp_tests::server::{Server, imppd};

fn person(fields: &[(&str, &str)]) -> Option<bytes::Bytes> {
    let mut document = Document::default();
    let field = |name: &str, value: &str| (FieldName::parse(name).unwrap(), value.into());
    document
        .tuples
        .insert(PartId::parse("t").unwrap(), [field("status", "open")].into_iter().collect());
    document.person.extend(fields.iter().map(|(name, value)| field(name, value)));
    Some(Patch::between(&Document::default(), &document).encode())
}

async fn says(owner: &mut Peer, fields: &[(&str, &str)]) {
    let address = owner.address.as_str().to_owned();
    let mut publish = publish(&address, What::Presence, person(fields));
    publish.replace = true;
    owner.done(publish).await;
}

fn shown(notify: Notify) -> Document {
    Document::decode(notify.snapshot.expect("a snapshot")).unwrap()
}

/// What was published while nobody followed is what the next follower sees, not what the last one
/// saw.
#[tokio::test]
async fn r2_3_3_a_follower_after_a_pause_sees_what_is_there() {
    let server = Server::quickstart();
    server.user_ok(&["add", "dora@localhost", "--profile-out", &profile(&server, "dora")]);
    let mut dora = Peer::sign_in(&server, "dora").await;
    let rules =
        "[[rule]]\nid = \"all\"\nwho = [\"anyone\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";
    dora.set_rules(rules).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    says(&mut dora, &[("note", "first")]).await;
    bob.done(subscribe("dora@localhost", What::Presence)).await;
    assert_eq!(&**shown(bob.notify().await).person.get("note").unwrap(), "first");
    let mut end = subscribe("dora@localhost", What::Presence);
    end.lease = Some(std::time::Duration::ZERO);
    bob.done(end).await;
    says(&mut dora, &[("note", "second")]).await;
    bob.done(subscribe("dora@localhost", What::Presence)).await;
    let notified = shown(bob.notify().await);
    let fetched = bob.done(fetch("dora@localhost", What::Presence)).await;
    assert_eq!(&**notified.person.get("note").unwrap(), "second");
    assert_eq!(Document::decode(fetched.content.unwrap()), Ok(notified));
}

/// A change of sphere decides who may see, so it is not held back by the pace: whoever may see from
/// now on sees what is now, never what was private before.
#[tokio::test]
async fn d11_what_was_private_before_is_not_shown_after() {
    let server = Server::with().set("times.pace_burst", 1).set("times.pace_milliseconds", 600_000);
    let server = server.start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules = "[[rule]]\nid = \"bob\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\nfields = [\"all\"]\n\n\
                 [[rule]]\nid = \"work\"\nwho = [\"carol@localhost\"]\nhandling = \"allow\"\nfields = [\"all\"]\n\
                 sphere = [\"work\"]\n";
    alice.set_rules(rules).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(subscribe("alice@localhost", What::Presence)).await;
    bob.notify().await;
    // The burst is spent on this.
    says(&mut alice, &[("note", "at home"), ("sphere", "home")]).await;
    bob.notify().await;
    says(&mut alice, &[("note", "private"), ("sphere", "home")]).await;
    says(&mut alice, &[("note", "working"), ("sphere", "work")]).await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    carol.done(subscribe("alice@localhost", What::Presence)).await;
    assert_eq!(&**shown(carol.notify().await).person.get("note").unwrap(), "working");
}

/// Whoever follows its log is told of a message also if the sender is gone before its OK.
#[tokio::test]
async fn e1_the_recipient_is_told_though_the_sender_is_gone() {
    let server = Server::quickstart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(subscribe("bob@localhost", What::Log)).await;
    for n in 0..10 {
        let mut alice = Peer::sign_in(&server, "alice").await;
        alice.ask(message("bob@localhost", &n.to_string())).await;
        alice.cut_with(n % 2 == 0);
    }
    // Some may never have been read; what was stored was also told.
    bob.done(Ping::empty()).await;
    let mut last = Peer::sign_in(&server, "alice").await;
    last.send("bob@localhost", "last").await;
    let stored = bob.inbox().await.len();
    let mut told = 0;
    while told < stored {
        let page = bob.notify().await.snapshot.expect("a page");
        told +=
            impp_protocol::state::decode::<impp_protocol::state::Page>(page).unwrap().items.len();
    }
    assert_eq!(told, stored);
}

/// Following for as long as a session lives costs the disk nothing.
#[tokio::test]
async fn h10_following_for_a_session_is_no_write() {
    let server = Server::quickstart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(subscribe("alice@localhost", What::Presence)).await;
    let before = server.metrics().get("impp_store_syncs_total");
    for _ in 0..50 {
        bob.done(subscribe("alice@localhost", What::Presence)).await;
        let mut end = subscribe("alice@localhost", What::Presence);
        end.lease = Some(std::time::Duration::ZERO);
        bob.done(end).await;
    }
    assert_eq!(server.metrics().get("impp_store_syncs_total"), before);
}

/// A setting that would stop the server from working is refused, with what it may be.
#[tokio::test]
async fn i1_a_setting_out_of_range_is_refused() {
    let server = Server::quickstart();
    for (name, value) in [
        ("limits.requests_in_flight_max", 0),
        ("limits.push_buffer_bytes", 0),
        ("times.pace_burst", 0),
        ("times.idle_seconds", i64::MAX),
        ("times.lease_min_seconds", 100_000),
    ] {
        let good = std::fs::read_to_string(server.config()).unwrap();
        server.set(name, value);
        let output = imppd(&["reload", "--config", server.config().to_str().unwrap()]);
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {words}");
        assert!(words.contains(name.split_once('.').unwrap().1), "{words}");
        std::fs::write(server.config(), good).unwrap();
    }
    Peer::sign_in(&server, "alice").await.done(Ping::empty()).await;
}

fn profile(server: &Server, name: &str) -> String {
    server.profile_path(name).display().to_string()
}

/// After a crash a polite block looks like somebody who has not returned yet, whatever its owner
/// left on disk and does meanwhile.
#[tokio::test]
async fn r5_1_15_a_crash_gives_no_polite_block_away() {
    let mut server = Server::with().set("times.recovery_seconds", 600).start();
    let rules = |handling: &str| {
        format!(
            "[[rule]]\nid = \"bob\"\nwho = [\"bob@localhost\"]\nhandling = \"{handling}\"\n\
             fields = [\"all\"]\n"
        )
    };
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rules("polite-block")).await;
    Peer::sign_in(&server, "carol").await.set_rules(&rules("allow")).await;
    let mut leased = publish("alice@localhost", What::Presence, person(&[("note", "here")]));
    leased.lease = Some(std::time::Duration::from_secs(3600));
    alice.done(leased).await;
    server.kill9();
    server.restart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let polite = bob.done(subscribe("alice@localhost", What::Presence)).await;
    let offline = bob.done(subscribe("carol@localhost", What::Presence)).await;
    assert_eq!(polite, offline);
    let mut alice = Peer::sign_in(&server, "alice").await;
    says(&mut alice, &[("note", "back")]).await;
    alice.set_rules(&format!("# changed\n{}", rules("polite-block"))).await;
    let mut end = publish("alice@localhost", What::Presence, None);
    end.lease = Some(std::time::Duration::ZERO);
    alice.done(end).await;
    // The fence: answered after whatever there was to tell.
    bob.done(Ping::empty()).await;
    assert_eq!(bob.try_unsolicited(), None);
    // Whoever may see is told as soon as there is something to see.
    let mut carol = Peer::sign_in(&server, "carol").await;
    says(&mut carol, &[("note", "I am back")]).await;
    assert_eq!(&**shown(bob.notify().await).person.get("note").unwrap(), "I am back");
}

const ANYONE: &str =
    "[[rule]]\nid = \"all\"\nwho = [\"anyone\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";

/// Who refused to be followed, and allows it now, is followed again by whoever follows the whole list
/// when the entry is set anew.
#[tokio::test]
async fn r5_1_2_an_entry_that_is_set_anew_is_followed_anew() {
    let server = at_once().accounts(["alice"]).start();
    server.add("pat");
    let mut pat = Peer::sign_in(&server, "pat").await;
    pat.set_rules("[[rule]]\nid = \"none\"\nwho = [\"anyone\"]\nhandling = \"block\"\n").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.done(Subscribe { expand: true, ..subscribe("alice@localhost", What::Contacts) }).await;
    let contact = Contact {
        address: pat.address.clone(),
        name: None,
        groups: vec![],
        follow: true,
        grant: Grant::None.into(),
        subscription: None,
    };
    let set = ContactEdit::set(contact);
    alice.edit_contacts(&set).await;
    assert_eq!(alice.notify().await.state, SubscriptionState::Terminated);
    pat.set_rules(ANYONE).await;
    says(&mut pat, &[("note", "hello")]).await;
    alice.edit_contacts(&set).await;
    assert_eq!(&**shown(alice.notify().await).person.get("note").unwrap(), "hello");
    says(&mut pat, &[("note", "news")]).await;
    assert_eq!(alice.notify().await.address, pat.address);
}

/// A repeat of a message that is just on its way to the disk is answered as one, though the first has
/// taken the last place there was.
#[tokio::test]
async fn e1_a_repeat_of_what_is_on_its_way_is_never_refused_for_its_place() {
    let names = ["alice", "bob", "carol"];
    let server = at_once().no_rates().accounts(names).set("limits.pending_max", 12).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    // How many messages of one sender are held for a decision.
    let mut places = 0;
    while alice.request(message("bob@localhost", "x")).await.is_ok() {
        places += 1;
    }
    for _ in 1..places {
        alice.send("carol@localhost", "x").await;
    }
    let last = message("carol@localhost", "the last");
    let asked = alice.flight((0..20).map(|_| last.clone().into())).await;
    let mut outcomes = Vec::new();
    for number in asked {
        outcomes.push(alice.answer(number).await.map(|done| done.outcome));
    }
    assert_eq!(outcomes.remove(0), Ok(Some(Outcome::Delivered)));
    assert!(outcomes.iter().all(|o| *o == Ok(Some(Outcome::Duplicate))), "{outcomes:?}");
    // With all places taken, another message under its id is told as what it is.
    let other = Message { body: "another".into(), ..last };
    assert_eq!(alice.refused(other.clone()).await, Code::Conflict);
    let late = Message { expires: Some(Timestamp::from_millis(1)), ..other };
    assert_eq!(alice.refused(late).await, Code::Conflict);
}
