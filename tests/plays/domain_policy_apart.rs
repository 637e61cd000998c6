//! The policy of a domain where watchers, times and domains are apart: across a link and a cut of it,
//! across restarts, and two domains on one server.
//!
//! What a policy does is in `domain_policy`.

use impp_protocol::command::Subscribe;
use impp_protocol::presence::Document;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Code, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, subscribe};
use impp_tests::presence::{Watcher, at_once, document, open, person};
use impp_tests::{Domains, Server};

use crate::domain_policy::{lay_down, reload, write};
use crate::explained::explain;
use crate::hosted::with_other;
use crate::rules::{ALL, rule, strangers};

const BOB: &str = "bob@b.example";

/// What bob shows: a note that is not for all, a mood, a status.
fn full(note: &str) -> Document {
    document(&[("mood", "happy"), ("note", note)], &[("im", &[("status", "open")])])
}

fn status() -> Document {
    document(&[], &[("im", &[("status", "open")])])
}

fn floor(who: &str, field: &str) -> String {
    format!(
        "[[floor]]\nid = \"floor\"\nwho = [\"{who}\"]\nhandling = \"allow\"\nfields = [\"{field}\"]\n"
    )
}

fn ceiling(who: &str, rest: &str) -> String {
    format!("[[ceiling]]\nid = \"ceiling\"\nwho = [\"{who}\"]\n{rest}\n")
}

/// Takes NOTIFYs until this is seen; none before it may show the note.
async fn until_without(watcher: &mut Watcher, wanted: &Document, note: &str) {
    while watcher.held.content.as_ref().is_none_or(|(_, seen)| seen != wanted) {
        watcher.next().await;
        let seen = watcher.held.content.as_ref();
        assert_ne!(seen.and_then(|(_, seen)| person(seen, "note")), Some(note));
    }
}

/// The home's policy decides about watchers of another domain too. What it cuts is taken back over the
/// link, and where the link was away meanwhile, when it has come back; nothing said after is shown before.
#[tokio::test(flavor = "multi_thread")]
async fn r2_3_3_d11_a_policy_binds_across_links_and_takes_back_what_it_cuts() {
    let domains = Domains::with(&["a.example", "b.example"], |_, start| {
        start.set("federation.stale_seconds", 1).set("federation.answer_seconds", 3)
    })
    .await;
    let home = &domains["b.example"];
    let mut bob = Peer::sign_in(home, "bob").await;
    let of = |who: &str, handling: &str, rest: &str| {
        rule(who, handling, rest).replace("@localhost", "@a.example")
    };
    bob.set_rules(&(of("alice", "polite-block", "") + &of("carol", "allow", ALL))).await;
    bob.show(&full("one")).await;
    let mut alice = Watcher::sign_in(&domains["a.example"], "alice", BOB).await;
    alice.until(|held| held.content.is_some()).await;
    assert_eq!(alice.held.document(), &Document::offline());
    let mut carol = Watcher::sign_in(&domains["a.example"], "carol", BOB).await;
    carol.until_note("one").await;

    // A floor beats the polite block, and it is said by whom.
    lay_down(home, &floor("alice@a.example", "note"));
    alice.until(|held| *held.document() == open("one")).await;
    let own = Impp::of(home, "bob").run(&["rules", "explain", "alice@a.example"]).one();
    let last = own["rules"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&own["decision"], &last["id"]), (&"allow".into(), &"floor".into()));
    assert!(last["why"].as_str().unwrap().starts_with("by the domain, allow: "), "{last}");
    let (_, told, _) = explain(home, BOB, "alice@a.example");
    assert_eq!(told[0]["domain"], serde_json::json!(["floor"]));

    // A ceiling cuts fields, of the floor too.
    let few = ceiling("domain:a.example", "fields = [\"status\"]");
    lay_down(home, &(floor("alice@a.example", "note") + &few));
    alice.until(|held| *held.document() == status()).await;
    carol.until(|held| *held.document() == status()).await;
    assert_eq!(alice.held.version(), carol.held.version(), "one view");
    assert_eq!(carol.peer.look(BOB).await, status());

    // What was given back is taken again while the link is away.
    lay_down(home, &floor("alice@a.example", "note"));
    carol.until_note("one").await;
    domains.cable("b.example").pull();
    carol.until(|held| held.state == Some(SubscriptionState::Stale)).await;
    lay_down(home, &ceiling("domain:a.example", "handling = \"polite-block\""));
    bob.show(&full("two")).await;
    domains.cable("b.example").plug();
    until_without(&mut carol, &Document::offline(), "two").await;
    until_without(&mut alice, &Document::offline(), "two").await;

    lay_down(home, &ceiling("domain:a.example", "handling = \"block\""));
    carol.until(|held| held.state == Some(SubscriptionState::Terminated)).await;
    assert_eq!(carol.held.event, Some(SubscriptionEvent::Rejected));
    assert_eq!(carol.peer.refused(fetch(BOB, What::Presence)).await, Code::Refused);
}

/// A policy that has come while the server was down is in force from its start: who comes back with what
/// it has seen before is shown less, whatever it says to hold; and one that goes gives it back.
#[tokio::test]
async fn r2_3_3_d11_a_policy_holds_over_restarts_and_takes_back_from_who_returns() {
    let mut server = strangers(&["bob", "help"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(rule("bob", "allow", ALL) + &rule("help", "polite-block", ""))).await;
    alice.show_for(&full("in"), 3600).await.unwrap();
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.follow_for("alice@localhost", 3600).await.unwrap();
    let held = bob.notify().await.version;
    assert!(held.is_some());
    server.stop();
    let policy =
        floor("help@localhost", "note") + &ceiling("bob@localhost", "fields = [\"status\"]");
    write(&server, &policy);
    server.restart();
    for killed in [true, false] {
        let mut bob = Peer::sign_in(&server, "bob").await;
        let lease = Some(std::time::Duration::from_secs(3600));
        let again =
            Subscribe { version: held, lease, ..subscribe("alice@localhost", What::Presence) };
        bob.done(again).await;
        let told = bob.notify().await;
        assert_eq!((told.state, told.patch), (SubscriptionState::Active, None));
        assert_eq!(Document::decode(told.snapshot.unwrap()).unwrap(), status());
        let mut help = Peer::sign_in(&server, "help").await;
        assert_eq!(help.look("alice@localhost").await, open("in"), "the floor");
        let (_, told, _) = explain(&server, "alice@localhost", "bob@localhost");
        assert_eq!(told[0]["domain"], serde_json::json!(["ceiling"]));
        match killed {
            true => server.kill9(),
            false => server.stop(),
        }
        if !killed {
            write(&server, &floor("help@localhost", "note"));
        }
        server.restart();
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.look("alice@localhost").await, full("in"));
}

/// Names a policy of one of the domains that a server hosts.
fn name(server: &Server, place: usize, policy: &str) {
    let file = format!("policy-{place}.toml");
    std::fs::write(server.config().with_file_name(&file), policy).unwrap();
    let text = std::fs::read_to_string(server.config()).unwrap();
    let mut config: toml_edit::DocumentMut = text.parse().unwrap();
    let hosted = config["domain"].as_array_of_tables_mut().unwrap().get_mut(place).unwrap();
    hosted["policy"] = toml_edit::value(file);
    std::fs::write(server.config(), config.to_string()).unwrap();
}

/// What comes of looking once.
type Look = Result<SubscriptionState, Code>;

/// Of two domains on one server each has its own; where one of the files cannot be used, both stay as
/// they were.
#[tokio::test]
async fn r2_3_3_d8_each_hosted_domain_has_a_policy_of_its_own() {
    let server = with_other(at_once().accounts(["alice"]));
    server.add("dave");
    let mut alice = Peer::sign_in(&server, "alice").await;
    // Neither has said anything of her, so both would be asked; neither shows anything.
    let mut looks = async || {
        let mut looks = Vec::new();
        for whom in ["dave@localhost", "bob@other.example"] {
            let looked = alice.request(fetch(whom, What::Presence)).await;
            looks.push(looked.map(|done| done.state.unwrap()).map_err(|error| error.code));
        }
        looks
    };
    let (asked, shown): (Look, Look) =
        (Ok(SubscriptionState::Pending), Ok(SubscriptionState::Active));
    assert_eq!(looks().await, [asked, asked]);
    let grants = floor("alice@localhost", "note");
    name(&server, 1, &grants);
    assert_eq!(reload(&server), (Some(0), String::new()));
    assert_eq!(looks().await, [asked, shown]);
    let (_, told, _) = explain(&server, "bob@other.example", "alice@localhost");
    assert_eq!(told[1]["domain"], serde_json::json!(["floor"]));
    let (_, told, _) = explain(&server, "dave@localhost", "alice@localhost");
    assert_eq!(told[1]["domain"], serde_json::json!([]));
    // One good, one faulty.
    name(&server, 0, &grants);
    name(&server, 1, "[[ceiling]]\nid = \"x\"\n");
    let (code, words) = reload(&server);
    assert!(code == Some(2) && words.contains("policy-1.toml:"), "{words}");
    assert_eq!(looks().await, [asked, shown]);
    name(&server, 1, &ceiling("anyone", "handling = \"block\""));
    assert_eq!(reload(&server), (Some(0), String::new()));
    assert_eq!(looks().await, [shown, Err(Code::Refused)]);
}
