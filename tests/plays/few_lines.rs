//! Rows that take a few lines each: what anybody would try in the first hour.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Header, Message, Outcome, Subscribe};
use impp_protocol::field::Writer;
use impp_protocol::state::{self, Fate};
use impp_protocol::{Code, Command, What};
use impp_tests::fates::OPEN_INBOX;
use impp_tests::impp::Impp;
use impp_tests::peer::{fetch, message, subscribe};
use impp_tests::presence::{Watcher, at_once, document, open, person};
use impp_tests::server::{Start, imppd};
use impp_tests::trace::Trace;
use impp_tests::wire::{Dial, Wire, raw_frame};
use impp_tests::{Domains, Peer, Server};

use crate::nameless::lets_in;
use crate::settings::OPEN_PRESENCE;

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";

/// Rules: who sees which fields.
fn rules(rules: &[(&str, &str)]) -> String {
    let rule = |(who, fields): &(&str, &str)| {
        format!(
            "[[rule]]\nid = \"{who}\"\nwho = [\"{who}@localhost\"]\nhandling = \"allow\"\n\
             fields = [{fields}]\n"
        )
    };
    rules.iter().map(rule).collect()
}

/// What a watcher may see hangs on where the owner is, and of one document two watchers get two
/// views: one is told, the other one asks.
#[tokio::test]
async fn r5_2_3_content_is_withheld_at_times_and_differs_from_watcher_to_watcher() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let at_work = rules(&[("bob", "\"status\", \"sphere\""), ("carol", "\"status\", \"note\"")])
        .replacen("handling", "sphere = [\"work\"]\nhandling", 1);
    alice.set_rules(&at_work).await;
    let shown = |sphere: &str| {
        document(&[("note", "hi"), ("sphere", sphere)], &[("im", &[("status", "open")])])
    };
    alice.show(&shown("work")).await;
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    assert_eq!(person(bob.held.document(), "sphere"), Some("work"));
    assert_eq!(person(bob.held.document(), "note"), None);
    let seen = carol.look(ALICE).await;
    assert_eq!((person(&seen, "note"), person(&seen, "sphere")), (Some("hi"), None));
    alice.show(&shown("home")).await;
    bob.next().await;
    let refused = bob.peer.request(fetch(ALICE, What::Presence)).await;
    let shows = refused.ok().and_then(|done| done.content).is_some_and(|content| {
        let seen = impp_protocol::presence::Document::decode(content).unwrap();
        person(&seen, "sphere").is_some() || seen.tuples.values().any(|t| !t.is_empty())
    });
    assert!(!shows, "at home Bob sees something");
    assert_eq!(person(&carol.look(ALICE).await, "note"), Some("hi"));
}

/// Another medium's tuple has a status of its own.
#[tokio::test]
async fn r4_4_3_the_status_of_another_medium_is_kept_apart() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rules(&[("bob", "\"all\"")])).await;
    let tel = [("contact", "tel:+15551234"), ("status", "closed")];
    let mail = [("contact", "mailto:alice@a.example"), ("status", "open")];
    let shown = document(&[], &[("im", &[("status", "open")]), ("tel", &tel), ("mail", &mail)]);
    alice.show(&shown).await;
    let bob = Watcher::sign_in(&server, "bob", ALICE).await;
    assert_eq!(bob.held.document(), &shown);
}

/// Fields that the server does not know come to those who may see them; who knows the base fields
/// alone reads these.
#[tokio::test]
async fn r3_1_4_unknown_fields_are_kept_and_harm_nobody() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let base = ("carol", "\"status\", \"note\"");
    alice.set_rules(&rules(&[("bob", "\"all\""), base])).await;
    let tuple = [("status", "open"), ("org.example.battery", "40 %")];
    let shown = document(&[("note", "hi"), ("com.example.x-mood", "\u{1f600}")], &[("im", &tuple)]);
    alice.show(&shown).await;
    let bob = Watcher::sign_in(&server, "bob", ALICE).await;
    assert_eq!(bob.held.document(), &shown);
    let carol = Watcher::sign_in(&server, "carol", ALICE).await;
    assert_eq!(carol.held.document(), &open("hi"));
}

/// A body comes as it was written, to the octet, over two domains; so does what stands beside it.
#[tokio::test(flavor = "multi_thread")]
async fn r4_1_1_r4_1_4_a_message_comes_over_two_domains_as_it_was_written() {
    let domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    let cpim = "From: <im:alice@a.example>\r\nTo: <im:bob@b.example>\r\n\
                Subject: ;lang=de Gr\u{fc}\u{df}e\r\n\r\n\
                Content-Type: text/plain; charset=utf-8\r\n\r\nhello \0\u{7f}\r\n";
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    let sent = Message {
        content_type: Some("message/cpim".to_owned()),
        headers: vec![
            header("Contact", "tel:+15551234"),
            header("Contact", "mailto:alice@a.example"),
            header("x-any", "\u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
        ],
        thread: Some("t-1".to_owned()),
        reply_to: Some("alice@a.example".parse().unwrap()),
        ..message("bob@b.example", cpim)
    };
    alice.done(sent.clone()).await;
    alice.until_delivered(sent.id).await;
    let from = Some("alice@a.example".parse().unwrap());
    assert_eq!(bob.received(1).await, [Message { from, ..sent }]);
}

/// Names, domains and texts of any language; two spellings of one name are one account.
#[tokio::test]
async fn r4_1_6_names_and_texts_of_any_language() {
    let server = Server::with().domain("xn--bcher-kva.example").accounts(["alice"]).start();
    for name in ["j\u{f6}rg", "\u{5d3}\u{5d5}\u{5d3}", "\u{738b}"] {
        let address = format!("{name}@B\u{dc}CHER.example");
        server.user_ok(&["add", &address]);
        let same = format!("{name}@xn--bcher-kva.example");
        assert_eq!(server.user(&["add", &same]).status.code(), Some(1), "{same} is another one");
    }
    // Decomposed, and in capitals.
    let again = server.user(&["add", "JO\u{308}RG@b\u{fc}cher.example"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let mut alice = Peer::open_inbox(&server, "alice").await;
    let own = alice.address.to_string();
    let texts =
        ["\u{5e9}\u{5dc}\u{5d5}\u{5dd} abc \u{645}\u{631}\u{62d}\u{628}\u{627}", "\u{4f60}"];
    for text in texts {
        alice.send(&own, text).await;
    }
    assert_eq!(alice.texts(2).await, texts);
    let shown = open("e\u{301}t\u{e9} \u{1f469}\u{200d}\u{1f680}");
    alice.show(&shown).await;
    assert_eq!(alice.look(&own).await, shown);
}

/// Text is text in every client; what is none is not passed off as such.
#[tokio::test]
async fn r5_4_8_text_can_be_read() {
    let server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    let text = "Gr\u{fc}\u{df}e \u{5e9}\u{5dc}\u{5d5}\u{5dd}\nsecond line";
    assert_eq!(alice.run(&["send", BOB, text]).code, 0);
    assert_eq!(alice.run_with_input(&["send", BOB, "--type", "image/png"], b"\x89PNG\0").code, 0);
    let inbox = bob.run(&["inbox"]).objects;
    assert_eq!((&inbox[0]["type"], &inbox[0]["body"]), (&"text/plain".into(), &text.into()));
    assert_eq!(inbox[1]["body_base64"], "iVBORwA=");
    assert!(inbox[1].get("body").is_none());
}

/// To a third person it looks the same whether somebody follows or not.
#[tokio::test]
async fn r5_1_2_a_subscription_is_not_evident_to_others() {
    let server = at_once().start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.set_rules(&rules(&[("alice", "\"all\""), ("carol", "\"all\"")])).await;
    bob.show(&open("here")).await;
    let mut carol = Watcher::sign_in(&server, "carol", BOB).await;
    let mut told = Vec::new();
    for follows in [false, true] {
        let mut alice = Peer::sign_in(&server, "alice").await;
        if follows {
            alice.follow(BOB).await;
        }
        assert_eq!(carol.peer.fence().await, []);
        let mut answers = Vec::new();
        for what in [What::Presence, What::Watchers, What::Subscriptions, What::Requests] {
            for of in [BOB, ALICE] {
                answers.push(carol.peer.request(fetch(of, what)).await);
            }
        }
        told.push(answers);
    }
    assert_eq!(told[0], told[1]);
    // Of who watches them she is told herself: bob, and alice by her contact list.
    for answer in &told[0][2..4] {
        let content = answer.as_ref().unwrap().content.clone().unwrap();
        let watchers: state::Watchers = state::decode(content).unwrap();
        let who: Vec<_> = watchers.entries.iter().map(|entry| &entry.watcher).collect();
        assert_eq!(who, [&carol.peer.address]);
    }
}

/// Nor by what is told to who says what they hold: who has looked once and follows later is told the
/// same, whether somebody else sees the same all the while or not; with a name, without one, and from
/// another domain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_1_2_what_a_claim_is_answered_tells_of_no_other_watcher() {
    let start = |_: &str, start: Start| start.accounts(["carol", "lonely", "looked", "mallory"]);
    let domains = Domains::with(&["a.example"], start).await;
    let other = impp_tests::BadPeer::among(&domains, "other.example").await;
    let server = &domains["a.example"];
    lets_in(server, true);
    let mut link = other.call(server).await;
    let mut told = Vec::new();
    for owner in ["lonely", "looked"] {
        let mut owner = Peer::sign_in(server, owner).await;
        let all = ["authenticated", "anonymous"].map(|who| {
            format!("[[rule]]\nid = \"{who}\"\nwho = [\"{who}\"]\nhandling = \"allow\"\nfields = [\"all\"]\n")
        });
        owner.set_rules(&all.concat()).await;
        let long = "at length ".repeat(50);
        let said = |mood: &str| document(&[("note", &long), ("mood", mood)], &[]);
        owner.show(&said("calm")).await;
        let address = owner.address.to_string();
        // Whoever else sees the same.
        let carol = match &*address {
            "looked@a.example" => Some(Watcher::sign_in(server, "carol", &address).await),
            _ => None,
        };
        let mut named = Peer::sign_in(server, "mallory").await;
        let seen = named.done(fetch(&address, What::Presence)).await.version;
        assert!(seen.is_some());
        owner.show(&said("happy")).await;
        let claim = Subscribe { version: seen, ..subscribe(&address, What::Presence) };
        let nameless = Peer::nameless(Wire::dial(server).await).await.unwrap();
        for mut peer in [named, nameless] {
            peer.done(claim.clone()).await;
            told.push(peer.notify().await);
        }
        let (watcher, lease) = (Some(other.account("mallory")), Some(Duration::from_secs(60)));
        link.request(Subscribe { watcher, lease, ..claim }).await.unwrap();
        let request = link.try_asked().await.expect("to be told");
        let Command::Notify(notify) = request.command else { panic!("{request:?}") };
        told.push(notify);
        drop(carol);
    }
    let told: Vec<_> = told.iter().map(|told| (&told.base, &told.patch, &told.snapshot)).collect();
    assert_eq!(told[..3], told[3..], "nobody else left, somebody right");
}

/// The first octets of a connection say in the clear which protocol it is: whoever keeps a firewall
/// can tell it, on any port.
#[tokio::test]
async fn r2_4_4_the_first_octets_name_the_protocol() {
    let server = Server::quickstart();
    let hello = Dial::to(&server).client_hello();
    // A TLS handshake record with a ClientHello, which offers one application protocol.
    assert_eq!((hello[0], hello[5]), (0x16, 0x01));
    let name = [&[b"impp/1".len() as u8][..], b"impp/1"].concat();
    assert!(hello.windows(name.len()).any(|part| part == name), "{hello:?}");
}

/// One who stays connected and one who comes for a moment reach each other, with the same commands;
/// what came meanwhile waits.
#[tokio::test]
async fn d_5_1_1_d_5_2_1_2_d_5_2_1_7_short_and_long_connections_reach_each_other() {
    let server = at_once().start();
    let mut alice = Peer::open_inbox(&server, "alice").await;
    alice.set_rules(&format!("{OPEN_PRESENCE}{OPEN_INBOX}")).await;
    let bob = Impp::of(&server, "bob");
    for n in 0..3 {
        let text = format!("short {n}");
        assert_eq!(bob.run(&["send", ALICE, &text]).one()["outcome"], "delivered");
        alice.show(&open(&format!("long {n}"))).await;
        let seen = bob.run(&["fetch", ALICE]).one();
        assert!(seen.to_string().contains(&format!("long {n}")), "{seen}");
        alice.send(BOB, &format!("long {n}")).await;
    }
    assert_eq!(alice.texts(3).await, ["short 0", "short 1", "short 2"]);
    let inbox = bob.run(&["inbox"]).objects;
    let bodies: Vec<_> = inbox.iter().filter_map(|item| item["body"].as_str()).collect();
    assert_eq!(bodies, ["long 0", "long 1", "long 2"]);
}

/// A hundred messages to another domain, and what is followed there, take one connection.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_2_1_5_a_hundred_messages_take_one_connection() {
    let domains = Domains::two().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::open_inbox(&domains["b.example"], "bob").await;
    for n in 0..100 {
        alice.queue("bob@b.example", &n.to_string()).await;
    }
    assert_eq!(bob.texts(100).await.len(), 100);
    assert_eq!(domains.cable("b.example").connections(), 1);
    assert_eq!(domains.cable("a.example").connections(), 0);
}

/// An address of a machine is no domain, on the wire and at the command line.
#[tokio::test]
async fn d_5_4_1_an_ip_address_is_no_domain() {
    let server = Server::quickstart();
    let impp = Impp::of(&server, "alice");
    for domain in ["127.0.0.1", "[::1]", "2130706433", "0x7f000001"] {
        let refused = impp.run(&["send", &format!("bob@{domain}"), "hi"]);
        assert_eq!(refused.code, 2, "{domain}: {refused:?}");
        let mut fields = Writer::default();
        fields.field(1, &message(BOB, "hi").id);
        fields.field(2, &Bytes::from(format!("bob@{domain}")));
        fields.field(5, &Bytes::from_static(b"hi"));
        let mut alice = Peer::sign_in(&server, "alice").await;
        alice.wire().write(&raw_frame(10, 9, &fields.into_bytes())).await;
        assert_eq!(alice.answer(9).await.unwrap_err().code, Code::Malformed, "{domain}");
    }
}

/// `im:` and `pres:` and no scheme at all name the same person.
#[test]
fn d_5_4_2_uris_of_both_schemes_are_taken() {
    let server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    for to in [BOB, "im:bob@localhost", "IM:bob@LOCALHOST", "im:%62ob@localhost"] {
        assert_eq!(alice.run(&["send", to, "hi"]).one()["to"], BOB, "{to}");
    }
    assert_eq!(bob.run(&["status", "set", "open", "--note", "here", "--lease", "600"]).code, 0);
    for of in [BOB, "pres:bob@localhost"] {
        assert!(bob.run(&["fetch", of]).one().to_string().contains("here"), "{of}");
    }
    assert_eq!(alice.run(&["send", "sip:bob@localhost", "hi"]).code, 2);
}

/// Names that other networks have are addresses, and no new account gets one.
#[tokio::test]
async fn names_of_other_networks_are_addresses_and_no_new_accounts() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for local in ["jo%e", "jo\\e", "jo&e", "jo'e"] {
        let address = format!("{local}@localhost");
        assert_eq!(alice.refused(message(&address, "hi")).await, Code::NotFound, "{address}");
        let added = server.user(&["add", &address]);
        let said = String::from_utf8_lossy(&added.stderr);
        assert_eq!(added.status.code(), Some(2), "{said}");
        assert!(said.contains("no new account") && said.contains("hint: "), "{said}");
    }
}

/// A connection is one input of presence and no more: who is connected may look closed, and who is
/// not may look open.
#[tokio::test]
async fn d_5_5_presence_does_not_hang_on_a_connection() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    alice.show(&document(&[("note", "here")], &[("im", &[("status", "closed")])])).await;
    bob.until_note("here").await;
    assert!(
        bob.held
            .document()
            .tuples
            .values()
            .all(|tuple| &**tuple.get("status").unwrap() == "closed")
    );
    alice.show_for(&open("on the train"), 3600).await.unwrap();
    bob.until_note("on the train").await;
    alice.leave().await;
    assert_eq!(bob.peer.fence().await, []);
    assert_eq!(person(&bob.peer.look(ALICE).await, "note"), Some("on the train"));
}

/// An unknown command gets an error of its own, and the connection lives.
#[tokio::test]
async fn d_6_2_an_unknown_command_is_answered_and_the_connection_lives() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for (number, kind) in (100..).zip([60, 127, 200, 255]) {
        alice.wire().write(&raw_frame(kind, number, b"")).await;
        let error = alice.answer(number).await.unwrap_err();
        assert_eq!(error.code, Code::Unsupported, "kind {kind}");
    }
    assert_eq!(alice.send(BOB, "still here").await, Outcome::Delivered);
}

/// The same frames have other rights on a link than from a client, and neither has the other's.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_3_1_the_same_commands_with_different_authority() {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let evil = impp_tests::BadPeer::among(&domains, "evil.example").await;
    let server = &domains["a.example"];
    let mut alice = Peer::open_inbox(server, "alice").await;
    let mut link = evil.call(server).await;
    let outcome = link.deliver(evil.message("mallory", "alice@a.example", "hi")).await;
    assert_eq!(outcome, Outcome::Delivered);
    // What a client may ask, a link may not.
    for what in [What::Log, What::Contacts, What::Rules, What::Watchers, What::Devices] {
        let code = link.refused(fetch("alice@a.example", what)).await;
        assert!(matches!(code, Code::Refused | Code::Unsupported | Code::Malformed), "{code:?}");
    }
    // What a link says, a client may not.
    let from = Some("mallory@evil.example".parse().unwrap());
    assert_eq!(
        alice.refused(Message { from, ..message("alice@a.example", "x") }).await,
        Code::Refused
    );
    let watcher = Some("mallory@evil.example".parse().unwrap());
    let asked = impp_protocol::command::Fetch { watcher, ..fetch("bob@a.example", What::Presence) };
    assert_eq!(alice.refused(asked).await, Code::Refused);
    assert_eq!(alice.texts(1).await, ["hi"]);
}

/// Who was away while they were blocked finds nothing of before when they return.
#[tokio::test]
async fn d4_who_returns_after_a_revocation_finds_nothing_of_before() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rules(&[("bob", "\"all\"")])).await;
    alice.show(&open("secret")).await;
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    assert_eq!(person(bob.held.document(), "note"), Some("secret"));
    bob.peer.follow_for(ALICE, 3600).await.unwrap();
    bob.peer.leave().await;
    let block = "[[rule]]\nid = \"b\"\nwho = [\"bob@localhost\"]\nhandling = \"block\"\n";
    alice.set_rules(block).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut seen = format!("{:?}", bob.fence().await);
    for what in [What::Presence, What::Subscriptions, What::Log, What::Contacts] {
        let of = if what == What::Presence { ALICE } else { BOB };
        seen += &match bob.request(fetch(of, what)).await {
            Ok(done) => String::from_utf8_lossy(&done.content.unwrap_or_default()).into_owned(),
            Err(error) => format!("{error:?}"),
        };
    }
    seen += &format!("{:?}", bob.request(impp_tests::peer::subscribe(ALICE, What::Presence)).await);
    seen += &format!("{:?}", bob.fence().await);
    assert!(!seen.contains("secret"), "{seen}");
}

/// Two who compare notes learn nothing: each sees its own view, and what is hidden from one changes
/// neither its version nor what it is told.
#[tokio::test]
async fn d10_what_one_sees_does_not_show_in_what_another_is_told() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&rules(&[("bob", "\"status\""), ("carol", "\"status\", \"note\"")])).await;
    alice.show(&open("one")).await;
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    let mut carol = Watcher::sign_in(&server, "carol", ALICE).await;
    let before = bob.peer.done(fetch(ALICE, What::Presence)).await;
    for note in ["two", "three"] {
        alice.show(&open(note)).await;
        carol.until_note(note).await;
    }
    assert_eq!(bob.peer.fence().await, []);
    let after = bob.peer.done(fetch(ALICE, What::Presence)).await;
    assert_eq!((before.content, before.version), (after.content, after.version));
}

/// Metrics name nobody; over HTTP and over the control socket nobody's presence is to be had.
#[tokio::test]
async fn d12_i6_metrics_and_the_administrators_doors_tell_nothing_of_anybody() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&format!("{OPEN_PRESENCE}{OPEN_INBOX}")).await;
    alice.show(&open("at my desk")).await;
    alice.send(ALICE, "to myself").await;
    let _bob = Watcher::sign_in(&server, "bob", ALICE).await;
    let (status, metrics) = server.http("/metrics");
    assert_eq!(status, 200);
    for secret in ["alice", "bob", "at my desk", "to myself"] {
        assert!(!metrics.contains(secret), "{secret}");
    }
    for path in [
        "/",
        "/../imppd.toml",
        "/metrics/../../imppd.toml",
        "/%2e%2e/imppd.toml",
        "/%u002e%u002e/imppd.toml",
        "//metrics/../x",
        "/users",
        "/alice@localhost",
        "/healthz/..",
    ] {
        let (status, body) = server.http(path);
        assert_eq!((status, body.contains("alice")), (404, false), "{path}");
    }
    // The control socket is the operator's own.
    use std::os::unix::fs::PermissionsExt;
    let config = std::fs::read_to_string(server.config()).unwrap();
    let config: toml_edit::DocumentMut = config.parse().unwrap();
    let socket = config["server"]["control"].as_str().unwrap();
    let socket = server.config().parent().unwrap().join(socket);
    let mode = std::fs::metadata(socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

/// What the server needs and does not get at a start is said in words; without DNS it serves its
/// own.
#[tokio::test]
async fn i8_a_start_without_what_is_needed_is_told_in_words() {
    let server = Server::with().domain("a.example").start();
    let config = server.config().display().to_string();
    let second = imppd(&["serve", "--config", &config]);
    assert_ne!(second.status.code(), Some(0));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("in use") || said.contains("another"), "{said}");
    // Its first one goes on, and nobody gets in who has not proven who they are.
    let mut alice = Peer::open_inbox(&server, "alice").await;
    let own = alice.address.to_string();
    assert_eq!(alice.send(&own, "hello").await, Outcome::Delivered);
    let mut anybody = impp_tests::wire::Wire::dial(&server).await;
    anybody.send(1, fetch(&own, What::Presence)).await;
    match anybody.next().await.command {
        Command::Error(error) => assert_eq!(error.code, Code::WrongState),
        other => panic!("{other:?}"),
    }
}

/// The home server vouches for its users, and passes on what they said and nothing by which they
/// signed in.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_3_3_clients_reach_other_domains_through_their_home_server() {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let other = impp_tests::BadPeer::among(&domains, "other.example").await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let id = alice.queue("x@other.example", "hello").await;
    let mut link = other.accept().await;
    let (number, sent) = link.message().await;
    assert_eq!(sent.from, Some("alice@a.example".parse().unwrap()));
    let password = server.profile("alice").password;
    assert!(!format!("{sent:?}{:?}", link.hello).contains(&*password));
    link.take(number).await;
    assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
}

/// All that a client gets comes over connections that it has opened: the server opens none.
#[tokio::test]
async fn d_5_2_1_3_the_server_connects_to_no_client() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&format!("{OPEN_PRESENCE}{OPEN_INBOX}")).await;
    let Some(trace) = Trace::attach(&server, &["-e", "trace=connect,accept4"]) else { return };
    let mut bob = Watcher::sign_in(&server, "bob", ALICE).await;
    alice.show(&open("here")).await;
    bob.until_note("here").await;
    bob.peer.send(ALICE, "hello").await;
    alice.texts(1).await;
    let calls = trace.detach();
    assert!(calls.contains("accept4("), "{calls}");
    assert!(!calls.contains("connect("), "{calls}");
}

/// What people do on a first day, by the client's program: with both services, with presence alone,
/// and with messages alone.
#[test]
fn d_6_7_scenarios_with_both_services_and_with_each_alone() {
    for (services, presence, messages) in
        [("pres,im", true, true), ("pres", true, false), ("im", false, true)]
    {
        let server = Server::quickstart();
        for name in ["ann", "ben"] {
            server.add_with(name, services);
        }
        let (ann, ben) = (Impp::of(&server, "ann"), Impp::of(&server, "ben"));
        let offered = |ran: impp_tests::impp::Ran, offered: bool| {
            assert_eq!(ran.code, i32::from(!offered), "{services}: {ran:?}");
            ran.objects
        };
        // Adding a contact is both services'.
        let added = ann.run(&["contacts", "add", "ben@localhost", "--no-follow"]);
        assert_eq!(added.code, 0, "{services}: {added:?}");
        offered(ben.run(&["status", "set", "open", "--note", "in", "--lease", "600"]), presence);
        offered(ben.run(&["contacts", "add", "ann@localhost", "--grant", "all"]), presence);
        let seen = offered(ann.run(&["fetch", "ben@localhost"]), presence);
        assert_eq!(seen.first().is_some_and(|seen| seen.to_string().contains("\"in\"")), presence);
        offered(ann.run(&["send", "ann@localhost", "to myself"]), messages);
        let inbox = offered(ann.run(&["inbox"]), messages);
        assert_eq!(inbox.first().is_some_and(|item| item["body"] == "to myself"), messages);
    }
}
