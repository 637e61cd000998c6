//! Ways that lead astray: back to the caller, round in a circle, through what is no link; and
//! questions whose answers would tell who lives here.

use std::time::Duration;

use impp_protocol::command::{ByeReason, Done, Fetch, Subscribe};
use impp_protocol::state::Fate;
use impp_protocol::{Code, Command, Error, What};
use impp_tests::badpeer::{BadPeer, Link, moved};
use impp_tests::server::Start;
use impp_tests::wire::bytes_of;
use impp_tests::{Domains, Peer, Server, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The domain a.example with settings, and evil.example whose server is bad.
async fn one(settings: impl Fn(Start) -> Start) -> (Domains, BadPeer) {
    let domains = Domains::with(&["a.example"], |_, start| settings(start)).await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    (domains, evil)
}

/// The records of two domains lead each to the server of the other, that is, of the caller.
#[tokio::test(flavor = "multi_thread")]
async fn f8_records_that_lead_back_to_the_caller_are_found_out_without_a_storm() {
    let names = ["a.example", "b.example"];
    let domains =
        Domains::with(&names, |_, start| start.set("federation.retry_min_milliseconds", 200)).await;
    for (domain, other) in [(names[0], names[1]), (names[1], names[0])] {
        let port = domains.cable(other).address().port();
        for service in ["pres", "im"] {
            domains.dns.remove(&impp_tests::dns::owner(domain, service));
            domains.dns.srv(domain, service, 0, 0, port, &format!("host.{other}"));
        }
    }
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    let to_bob = alice.queue("bob@b.example", "to you").await;
    let to_alice = bob.queue("alice@a.example", "to you").await;
    let told = alice.held_up(to_bob, "b.example").await;
    assert_eq!(told.code, Some(Code::Unreachable), "{told:?}");
    // Which of the ways led to what is for those who run the server.
    assert_eq!(told.text.unwrap(), "no server of b.example for im was reached");
    domains["a.example"].until_logged("does not serve the domain", 1).await;
    assert_eq!(bob.held_up(to_alice, "a.example").await.code, Some(Code::Unreachable));
    tokio::time::sleep(Duration::from_secs(3)).await;
    for name in names {
        let calls = domains.cable(name).connections();
        assert!((1..40).contains(&calls), "{calls} calls in about 3 s");
        assert_eq!(domains[name].metrics().get("impp_links"), 0.0);
    }
}

/// A message that is sent from address to address comes to an end.
#[tokio::test(flavor = "multi_thread")]
async fn f8_a_message_that_is_moved_in_circles_ends_as_a_loop() {
    let (domains, evil) = one(|start| start).await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let id = alice.queue("x@evil.example", "round").await;
    let mut link = evil.accept().await;
    let mut hops = Vec::new();
    let end = async {
        loop {
            let (number, message) = link.message().await;
            hops.push(message.hops.unwrap());
            link.refuse(number, moved("x@evil.example")).await;
        }
    };
    let report = tokio::select! {
        () = end => unreachable!(),
        report = alice.fate(id) => report,
    };
    assert_eq!((report.fate, report.code), (Fate::Failed, Some(Code::Loop)));
    assert_eq!(hops, [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(report.to, "x@evil.example".parse().unwrap(), "as its sender has named it");
    // To a domain that does not exist.
    let id = alice.queue("x@evil.example", "below").await;
    let (number, message) = link.message().await;
    assert_eq!(message.id, id);
    link.refuse(number, moved("x@no.evil.example")).await;
    let report = alice.fate(id).await;
    assert_eq!((report.fate, report.code), (Fate::Failed, Some(Code::UnknownDomain)));
    // Without an address it is refused, and no more.
    let id = alice.queue("x@evil.example", "nowhere").await;
    let (number, _) = link.message().await;
    link.refuse(number, Error::new(Code::Moved, "somewhere")).await;
    assert_eq!(alice.fate(id).await.code, Some(Code::Moved));
}

/// All answers to messages to somebody and to nobody.
async fn answers(evil: &BadPeer, link: &mut Link, to: &str) -> Vec<Result<Done, Error>> {
    let mut answers = Vec::new();
    let message = evil.message("mallory", to, "are you there?");
    let other = impp_protocol::command::Message { body: "else".into(), ..message.clone() };
    for message in [message.clone(), message, other] {
        answers.push(link.request(message).await.map(|done| Done { time: None, ..done }));
    }
    let volatile =
        impp_protocol::command::Message { volatile: true, ..evil.message("mallory", to, "typing") };
    answers.push(link.request(volatile).await.map(|done| Done { time: None, ..done }));
    answers
}

/// Who exists here, is blocked, disabled, removed or has no inbox, is not told by answers.
#[tokio::test(flavor = "multi_thread")]
async fn f14_the_same_is_answered_for_whoever_exists_and_does_not() {
    let accounts = |start: Start| start.accounts(["alice", "bob", "carol", "dora", "eve"]);
    let (mut domains, evil) = one(accounts).await;
    let server = &domains["a.example"];
    let mut bob = Peer::sign_in(server, "bob").await;
    let rule = "[[delivery]]\nid = \"no\"\nwho = [\"mallory@evil.example\"]\naction = \"drop\"\n";
    bob.set_rules(rule).await;
    let mut carol = Peer::open_inbox(server, "carol").await;
    server.user_ok(&["disable", "dora@a.example"]);
    server.user_ok(&["remove", "eve@a.example"]);
    server.user_ok(&["add", "fred@a.example", "--services", "pres"]);
    let mut link = evil.call(server).await;
    let expected = answers(&evil, &mut link, "nobody@a.example").await;
    assert!(expected[0].is_ok() && expected[1].is_ok() && expected[2].is_err(), "{expected:?}");
    for to in ["alice", "bob", "carol", "dora", "eve", "fred", "x'; --"] {
        let answers =
            answers(&evil, &mut link, &format!("{}@a.example", to.replace(' ', ""))).await;
        assert_eq!(answers, expected, "{to}");
    }
    assert_eq!(carol.texts(1).await, ["are you there?"]);
    // Also after a restart the repeat of a message to nobody is one.
    let message = evil.message("mallory", "nobody@a.example", "before the restart");
    link.request(message.clone()).await.unwrap();
    domains["a.example"].stop();
    domains["a.example"].restart();
    let mut link = evil.call(&domains["a.example"]).await;
    assert_eq!(link.deliver(message).await, impp_protocol::command::Outcome::Duplicate);
    // Where it is told, it is.
    domains["a.example"].set("federation.tell_unknown", true);
    domains.reload();
    for (to, code) in
        [("nobody", Code::NotFound), ("eve", Code::NotFound), ("fred", Code::NotOffered)]
    {
        let message = evil.message("mallory", &format!("{to}@a.example"), "hello");
        assert_eq!(link.refused(message).await, code, "{to}");
    }
}

/// The same for who watches: somebody who blocks, is disabled, has no presence or does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn f14_the_same_is_seen_of_whoever_exists_and_does_not() {
    let (domains, evil) = one(|start| start.accounts(["alice", "dora", "eve"])).await;
    let server = &domains["a.example"];
    server.user_ok(&["disable", "dora@a.example"]);
    server.user_ok(&["remove", "eve@a.example"]);
    server.user_ok(&["add", "fred@a.example", "--services", "im"]);
    let mut link = evil.call(server).await;
    let mut seen = Vec::new();
    for to in ["nobody", "alice", "dora", "eve", "fred"] {
        let (watcher, address) = (Some(evil.account("mallory")), format!("{to}@a.example"));
        let lease = Some(Duration::from_secs(600));
        let subscribe = Subscribe { watcher: watcher.clone(), lease, ..subscribe(&address) };
        let fetch = Fetch { watcher, ..Fetch::of(address.parse().unwrap(), What::Presence) };
        let ended = Subscribe { lease: Some(Duration::ZERO), ..subscribe.clone() };
        let words = |error: Error| Error { text: error.text.map(|t| t.replace(to, "X")), ..error };
        let mut answers = Vec::new();
        for command in [
            Command::from(subscribe.clone()),
            subscribe.clone().into(),
            fetch.clone().into(),
            ended.clone().into(),
            ended.into(),
            fetch.into(),
        ] {
            answers.push(link.request(command).await.map_err(words));
        }
        seen.push((to, answers));
    }
    for (to, answers) in &seen {
        assert_eq!(answers, &seen[0].1, "{to}");
    }
}

fn subscribe(address: &str) -> Subscribe {
    Subscribe::of(address.parse().unwrap(), What::Presence)
}

/// What is dialled and is no server with links, or an older one, is told as that; nothing is said
/// in the clear.
#[tokio::test(flavor = "multi_thread")]
async fn f15_a_server_without_links_or_with_older_tls_is_not_spoken_to() {
    let (domains, mut evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let id = alice.queue("x@evil.example", "secret").await;
    let links = std::mem::take(&mut evil.protocols);
    until_logged(&evil, server, "impp-s2s/1").await;
    evil.protocols = vec![b"impp/1".to_vec()];
    until_logged(&evil, server, "impp-s2s/1").await;
    evil.protocols = links;
    static OLD: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    evil.versions = OLD;
    until_logged(&evil, server, "TLS 1.3").await;
    evil.versions = rustls::ALL_VERSIONS;
    // In the clear, and before TLS begins.
    for said in
        [bytes_of(0, evil.hello.clone()).to_vec(), b"220 ready\r\n* OK STARTTLS\r\n".to_vec()]
    {
        let mut tcp = evil.accept_tcp().await;
        tcp.write_all(&said).await.unwrap();
        let mut heard = Vec::new();
        let _ = tcp.read_to_end(&mut heard).await;
        assert_eq!(heard[0], 22, "a record of TLS's handshake");
        assert!(!heard.windows(6).any(|window| window == b"secret"));
        server.until_logged("no TLS connection", 1).await;
    }
    let mut link = evil.accept().await;
    let (number, _) = link.message().await;
    link.take(number).await;
    alice.until_delivered(id).await;
}

/// Accepts until the log has these words once more.
async fn until_logged(evil: &BadPeer, server: &Server, words: &str) {
    let before = server.logged(words);
    eventually(words, async || {
        if let Ok(mut wire) = evil.accept_tls().await {
            assert!(wire.frame().await.is_none(), "not a word is said");
        }
        (server.logged(words) > before).then_some(())
    })
    .await;
}

/// What is said in one packet with the ClientHello, in the clear, is no part of the link.
#[tokio::test(flavor = "multi_thread")]
async fn f17_frames_behind_the_client_hello_are_not_read() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    let mut alice = Peer::open_inbox(server, "alice").await;
    let dial = evil.dial(server);
    let mut flight = dial.client_hello();
    flight.extend(bytes_of(0, evil.hello.clone()));
    flight.extend(bytes_of(1, evil.message("mallory", "alice@a.example", "injected")));
    let mut tcp = dial.tcp().await.unwrap();
    tcp.write_all(&flight).await.unwrap();
    let mut heard = Vec::new();
    let read = tcp.read_to_end(&mut heard);
    let _ = impp_tests::wait::within("the end of the connection", read).await;
    // Its own half of the handshake, encrypted, and an alert; no link.
    assert_eq!(server.metrics().get("impp_links"), 0.0);
    let mut link = evil.call(server).await;
    let genuine = evil.message("mallory", "alice@a.example", "genuine");
    link.deliver(genuine).await;
    assert_eq!(alice.texts(1).await, ["genuine"]);
}

/// A message is not accepted by a server for a domain that it does not host, whoever calls.
#[tokio::test(flavor = "multi_thread")]
async fn f3_only_a_domain_hosted_here_can_be_called() {
    let (domains, evil) = one(|start| start).await;
    let server = &domains["a.example"];
    for called in
        ["evil.example", "b.example", "www.a.example", "localhost", "example", "127.0.0.1"]
    {
        assert!(evil.dial(server).calling(called).connect().await.is_err(), "{called}");
    }
    // Upper case is the same name.
    let mut wire = evil.dial(server).calling("A.Example").connect().await.unwrap();
    wire.send(0, evil.hello.clone()).await;
    assert_eq!(wire.hello().await.domains, ["a.example".parse().unwrap()]);
    wire.send(
        0,
        impp_protocol::command::Bye {
            reason: ByeReason::Done,
            text: None,
            retry_after: None,
            server: None,
        },
    )
    .await;
    assert!(wire.ending().await.errors.is_empty());
}
