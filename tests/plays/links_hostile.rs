//! Another domain's server that claims what it has not proven, is called what no server is, or
//! wants us to speak for it: nothing comes of it, and it is counted.

use std::time::Duration;

use impp_protocol::command::{ByeReason, Fetch, Hello, Message, Outcome, Subscribe};
use impp_protocol::state::Fate;
use impp_protocol::{ALPN_CLIENT, Address, Code, MessageId, What};
use impp_tests::badpeer::BadPeer;
use impp_tests::peer::{fetch, id_at, subscribe};
use impp_tests::wire::{Ending, hello, integer, octets, raw_frame};
use impp_tests::{Authority, Domains, Peer, eventually};

const BOB: &str = "bob@a.example";
const PRESENCE: What = What::Presence;

/// The domain a.example, and evil.example whose server is bad.
async fn one() -> (Domains, BadPeer) {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    (domains, evil)
}

fn is_protocol(ending: &Ending) -> bool {
    ending.bye.as_ref().is_some_and(|bye| bye.reason == ByeReason::Protocol)
}

/// HELLO with any octets for domains.
fn hello_of(evil: &BadPeer, names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| octets(0, name).split_off(1)).collect();
    let fields = [
        integer(1, 1),
        octets(5, &list),
        octets(11, &evil.hello.instance.unwrap()),
        octets(12, &evil.hello.boot.unwrap()),
    ];
    raw_frame(1, 0, &fields.concat()).to_vec()
}

/// MESSAGE with any octets for its sender and recipient.
fn message_of(id: MessageId, from: &[u8], to: &[u8]) -> Vec<u8> {
    let fields =
        [octets(1, &id.0), octets(2, to), octets(3, from), octets(5, b"x"), integer(13, 8)];
    raw_frame(10, 1, &fields.concat()).to_vec()
}

/// A certificate for evil.example opens no link for another domain.
#[tokio::test(flavor = "multi_thread")]
async fn f1_a_hello_for_a_domain_that_the_certificate_does_not_prove() {
    let (domains, evil) = one().await;
    let server = &domains["a.example"];
    let bank = Hello { domains: vec!["bank.example".parse().unwrap()], ..evil.hello.clone() };
    let ending = evil.call_with(server, &bank).await;
    assert_eq!(ending.code(), Code::Untrusted);
    assert!(is_protocol(&ending) && ending.clean, "{ending:?}");
    let text = ending.errors[0].1.text.clone().unwrap();
    assert!(text.contains("evil.example") && text.contains("bank.example"), "{text}");
    assert_eq!(server.metrics().get("impp_links"), 0.0);
    assert_eq!(server.metrics().get("impp_links_refused_total{reason=\"untrusted\"}"), 1.0);
    let named = |line: &str| line.contains("no link was opened") && line.contains("bank.example");
    let told = async || server.stderr().lines().any(named).then_some(());
    eventually("a line in the log", told).await;
    // Nor for two domains, of which it proves one; nor for none.
    for names in [&["evil.example", "bank.example"][..], &[]] {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        let ending = evil.call_with(server, &Hello { domains: names, ..evil.hello.clone() }).await;
        assert_eq!(ending.code(), Code::Malformed);
    }
}

/// On an open link, nobody of another domain speaks.
#[tokio::test(flavor = "multi_thread")]
async fn f1_e10_a_message_from_a_domain_that_was_not_proven() {
    let (domains, evil) = one().await;
    let server = &domains["a.example"];
    let mut alice = Peer::open_inbox(server, "alice").await;
    for from in ["boss@bank.example", "bob@a.example", "x@sub.evil.example", "x@example"] {
        let before = server.metrics().get("impp_forged_total");
        let mut link = evil.call(server).await;
        let genuine = evil.message("mallory", "alice@a.example", "genuine");
        assert_eq!(link.deliver(genuine.clone()).await, Outcome::Delivered);
        let forged = Message { from: Some(from.parse().unwrap()), ..genuine };
        let number = link.ask(forged).await;
        let ending = link.ending().await;
        assert_eq!(ending.errors.len(), 1);
        assert_eq!((ending.errors[0].0, ending.code()), (number, Code::Refused));
        assert!(is_protocol(&ending), "{ending:?}");
        assert_eq!(server.metrics().get("impp_forged_total"), before + 1.0);
        let named = |line: &str| {
            line.contains("forged") && line.contains(from) && line.contains("evil.example")
        };
        let told = async || server.stderr().lines().any(named).then_some(());
        eventually("a line in the log", told).await;
    }
    let inbox = alice.inbox().await;
    assert_eq!(inbox.len(), 4);
    assert!(inbox.iter().all(|message| message.from == Some(evil.account("mallory"))));
}

/// Nor does anybody of another domain watch.
#[tokio::test(flavor = "multi_thread")]
async fn f1_a_watcher_of_a_domain_that_was_not_proven() {
    let (domains, evil) = one().await;
    let server = &domains["a.example"];
    let mut bob = Peer::sign_in(server, "bob").await;
    for (n, watcher) in ["alice@a.example", "boss@bank.example"].into_iter().enumerate() {
        let watcher: Option<Address> = Some(watcher.parse().unwrap());
        let lease = Some(Duration::from_secs(600));
        let subscribe = Subscribe { watcher: watcher.clone(), lease, ..subscribe(BOB, PRESENCE) };
        let mut link = evil.call(server).await;
        link.ask(subscribe).await;
        let ending = link.ending().await;
        assert_eq!(ending.code(), Code::Refused);
        assert!(is_protocol(&ending), "{ending:?}");
        let mut link = evil.call(server).await;
        link.ask(Fetch { watcher, ..fetch(BOB, PRESENCE) }).await;
        assert_eq!(link.ending().await.code(), Code::Refused);
        assert_eq!(server.metrics().get("impp_forged_total"), 2.0 * (n + 1) as f64);
    }
    // Its own watch only whom they have called, and one has to be named.
    let mut link = evil.call(server).await;
    for (address, named) in
        [("x@third.example", true), ("mallory@evil.example", true), (BOB, false)]
    {
        let watcher = named.then(|| evil.account("mallory"));
        let lease = Some(Duration::from_secs(600));
        let watched = Subscribe { watcher: watcher.clone(), lease, ..subscribe(address, PRESENCE) };
        assert_eq!(link.refused(watched).await, Code::Refused, "{address}");
        let read = Fetch { watcher, ..fetch(address, PRESENCE) };
        assert_eq!(link.refused(read).await, Code::Refused, "{address}");
    }
    // What is no presence is not for other domains at all.
    for what in [What::Log, What::Rules, What::Contacts, What::Requests, What::Watchers] {
        let watcher = Some(evil.account("mallory"));
        let read = Fetch { watcher, ..fetch(BOB, what) };
        assert_eq!(link.refused(read).await, Code::Unsupported, "{what}");
    }
    assert!(bob.requests().await.entries.is_empty());
}

/// A domain has one spelling: in HELLO, in addresses, in the certificate's check.
#[tokio::test(flavor = "multi_thread")]
async fn f3_odd_texts_are_no_domains_in_hello_and_addresses() {
    let (domains, evil) = one().await;
    let server = &domains["a.example"];
    let long = [b"a".repeat(60), b".".to_vec()].concat().repeat(5);
    let odd: [&[u8]; 13] = [
        b"evil.example.",
        b"Evil.example",
        b"evil\0.example",
        b"evil.example\0",
        b".evil.example",
        b"evil..example",
        "\u{0435}vil.example".as_bytes(),
        b"\xff\xfe",
        b"",
        b"127.0.0.1",
        b"[::1]",
        b"evil.example:2778",
        &long[..300],
    ];
    for name in odd {
        let ending = evil.call_saying(server, &hello_of(&evil, &[name])).await;
        assert_eq!(ending.code(), Code::Malformed, "{name:?}");
        let mut link = evil.call(server).await;
        let from = [b"mallory@", name].concat();
        let id = id_at(0);
        link.wire().write(&message_of(id, &from, b"alice@a.example")).await;
        let ending = link.ending().await;
        assert_eq!(ending.code(), Code::Malformed, "{name:?}");
    }
    // Proper names, of which the certificate proves none; localhost and our own have no links.
    let proper: [(&[u8], Code); 5] = [
        (b"xn--vil-qdd.example", Code::Untrusted),
        (b"www.evil.example", Code::Untrusted),
        (b"example", Code::Refused),
        (b"localhost", Code::Refused),
        (b"a.example", Code::Refused),
    ];
    for (name, code) in proper {
        let ending = evil.call_saying(server, &hello_of(&evil, &[name])).await;
        assert_eq!(ending.code(), code, "{name:?}");
    }
    assert_eq!(server.metrics().get("impp_links"), 0.0);
    // The right one still works.
    assert_eq!(evil.call(server).await.hello.domains, ["a.example".parse().unwrap()]);
}

/// Of what a server hosts, only the domain that was called is spoken for on a link; and a
/// domain hosted here has no server elsewhere, whatever certificate that has.
#[tokio::test(flavor = "multi_thread")]
async fn f3_c12_a_domain_hosted_here_is_nobody_elses() {
    let (domains, mut evil) = one().await;
    let server = &domains["a.example"];
    evil.certified = evil.authority.issue(&["a.example", "evil.example"]);
    let ours = Hello { domains: vec!["a.example".parse().unwrap()], ..evil.hello.clone() };
    let ending = evil.call_with(server, &ours).await;
    assert_eq!(ending.code(), Code::Refused);
    // Nor does the wider certificate let its link speak for anybody here.
    let mut link = evil.call(server).await;
    let forged = Message {
        from: Some("bob@a.example".parse().unwrap()),
        ..evil.message("mallory", "alice@a.example", "from bob")
    };
    link.ask(forged).await;
    assert_eq!(link.ending().await.code(), Code::Refused);
    assert_eq!(server.metrics().get("impp_forged_total"), 1.0);
}

/// Who is called is the domain, wherever its records lead.
#[tokio::test(flavor = "multi_thread")]
async fn f4_a_certificate_of_the_host_that_srv_leads_to_is_worth_nothing() {
    let (domains, mut evil) = one().await;
    evil.certified = evil.authority.issue(&["host.evil.example"]);
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let id = alice.queue("mallory@evil.example", "secret").await;
    assert!(evil.try_accept().await.is_none(), "not a word is said");
    let told = eventually("the cause", async || {
        let told = alice.whereabouts(id).await;
        told.code.is_some().then_some(told)
    })
    .await;
    assert_eq!((told.fate, told.code), (None, Some(Code::Untrusted)));
    let why = "certificate is for host.evil.example; not for evil.example";
    assert!(!told.text.unwrap().contains(why), "what stands at the address is not for her");
    domains["a.example"].until_logged(why, 1).await;
    // Put right, it is delivered.
    evil.certified = evil.authority.issue(&["evil.example", "host.evil.example"]);
    let mut link = evil.accept().await;
    let (number, message) = link.message().await;
    assert_eq!(message.id, id);
    link.take(number).await;
    alice.until_delivered(id).await;
}

/// Nothing is relayed, and nothing that a peer writes goes out under our name.
#[tokio::test(flavor = "multi_thread")]
async fn f10_a_peer_that_wants_us_to_relay_is_refused() {
    let (domains, evil) = one().await;
    let third = BadPeer::among(&domains, "third.example").await;
    let server = &domains["a.example"];
    let mut link = evil.call(server).await;
    for to in ["bob@third.example", "mallory@evil.example", "x@localhost", "x@b.a.example"] {
        let message = evil.message("mallory", to, "relay this");
        let error = link.request(message).await.unwrap_err();
        assert_eq!(error.code, Code::UnknownDomain, "{error:?}");
    }
    // The link is good all the same, and nobody has called the third.
    let message = evil.message("mallory", "alice@a.example", "hello");
    assert_eq!(link.deliver(message).await, Outcome::Delivered);
    let called = tokio::time::timeout(std::time::Duration::from_millis(300), third.accept_tcp());
    assert!(called.await.is_err(), "somebody called the third domain");
}

/// What a client has proven counts for clients, what a server has, for links.
#[tokio::test(flavor = "multi_thread")]
async fn c12_a_servers_certificate_signs_nobody_in_and_clients_words_open_no_link() {
    let (domains, evil) = one().await;
    let server = &domains["a.example"];
    // Spoken as a client, a link's HELLO is a client's: AUTH has to follow.
    let mut wire = evil.dial(server).alpn(&[ALPN_CLIENT]).connect().await.unwrap();
    wire.send(0, evil.hello.clone()).await;
    wire.hello().await;
    wire.send(1, evil.message("mallory", "alice@a.example", "no")).await;
    assert_eq!(wire.ending().await.code(), Code::NotSignedIn);
    // Spoken as a link, a client's HELLO opens nothing, and AUTH is nothing that links know.
    let ending = evil.call_with(server, &hello()).await;
    assert_eq!(ending.code(), Code::Malformed);
    let mut link = evil.call(server).await;
    let auth = impp_tests::peer::next_auth(b"n,,".to_vec());
    assert_eq!(link.refused(auth).await, Code::WrongState);
    // A client's certificate from a trusted CA names no domain.
    let mut evil = evil;
    evil.certified = evil.authority.issue(&["alice.a.example"]);
    let ending = evil.call_with(server, &evil.hello).await;
    assert_eq!(ending.code(), Code::Untrusted);
}

/// Another certificate of a trusted CA is as good; one of an unknown CA stops what waits, which is
/// told, and goes on when that is put right.
#[tokio::test(flavor = "multi_thread")]
async fn f16_a_certificate_is_renewed_by_the_same_by_another_and_by_an_unknown_ca() {
    let (domains, mut evil) = one().await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let other = Authority::new("another CA");
    domains.trust_also(&other.pem);
    let renewed = [evil.authority.issue(&["evil.example"]), other.issue(&["evil.example"])];
    for certified in renewed {
        evil.certified = certified;
        let id = alice.queue("mallory@evil.example", "renewed").await;
        let mut link = evil.accept().await;
        let (number, message) = link.message().await;
        assert_eq!(message.id, id);
        link.take(number).await;
        alice.until_delivered(id).await;
        link.cut();
        let mut link = evil.call(server).await;
        let message = evil.message("mallory", "alice@a.example", "hello");
        assert_eq!(link.deliver(message).await, Outcome::Delivered);
        link.cut();
        let gone = async || (server.metrics().get("impp_links") == 0.0).then_some(());
        eventually("the end of the links", gone).await;
    }
    let unknown = Authority::new("unknown CA").issue(&["evil.example"]);
    let good = std::mem::replace(&mut evil.certified, unknown);
    assert!(!evil.is_trusted(server).await);
    let id = alice.queue("mallory@evil.example", "waits").await;
    let told = eventually("the cause", async || {
        assert!(evil.try_accept().await.is_none(), "not a word is said");
        let told = alice.whereabouts(id).await;
        told.code.is_some().then_some(told)
    })
    .await;
    assert_eq!((told.fate, told.code), (None, Some(Code::Untrusted)));
    server.until_logged("issuer is not trusted", 1).await;
    assert!(told.next_try.is_some());
    evil.certified = good;
    let mut link = evil.accept().await;
    let (number, message) = link.message().await;
    assert_eq!(message.id, id);
    link.take(number).await;
    alice.until_delivered(id).await;
    assert_eq!(alice.fates().await.iter().filter(|r| r.fate == Fate::Delivered).count(), 3);
}

/// Whom clients are certified by certifies no servers, and the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn c12_a_ca_of_clients_proves_no_domain_and_a_ca_of_domains_no_client() {
    let folder = tempfile::tempdir().unwrap();
    let (clients, path) = (Authority::new("clients"), folder.path().join("clients.pem"));
    std::fs::write(&path, &clients.pem).unwrap();
    let domains = Domains::with(&["a.example"], |_, start| {
        start.set("tls.client_ca", path.display().to_string())
    })
    .await;
    let mut evil = BadPeer::among(&domains, "evil.example").await;
    let server = &domains["a.example"];
    assert!(evil.is_trusted(server).await);
    let client = async |evil: &BadPeer| {
        let dial = evil.dial(server).alpn(&[ALPN_CLIENT]);
        let Ok(mut wire) = dial.connect().await else { return false };
        wire.send(0, hello()).await;
        wire.frame().await.is_some()
    };
    assert!(!client(&evil).await);
    evil.certified = clients.issue(&["evil.example"]);
    assert!(client(&evil).await);
    assert!(!evil.is_trusted(server).await);
}
