//! What others put into a link, or before it, in somebody's name: presence of another domain's
//! presentity, and bytes before TLS.

use std::sync::Arc;

use impp_protocol::command::Notify;
use impp_protocol::presence::Version;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{ALPN_CLIENT, ALPN_LINK, Command, What};
use impp_tests::badpeer::BadPeer;
use impp_tests::peer::message;
use impp_tests::presence::{Watcher, open};
use impp_tests::wire::{bytes_of, hello};
use impp_tests::{Domains, Peer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BOB: &str = "bob@b.example";

/// Nobody but bob's home tells how bob is: not another user, not another domain that has proven
/// itself, not with what was true once.
#[tokio::test(flavor = "multi_thread")]
async fn r5_2_4_nobody_else_can_tell_how_somebody_is() {
    let domains = Domains::two().await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    let a = &domains["a.example"];
    let mut bob = Peer::sign_in(&domains["b.example"], "bob").await;
    bob.set_rules(
        "[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\n\
         fields = [\"all\"]\n",
    )
    .await;
    bob.show(&open("once true")).await;
    let mut alice = Watcher::sign_in(a, "alice", BOB).await;
    alice.until_note("once true").await;
    let before = alice.held.version();
    bob.show(&open("true now")).await;
    alice.until_note("true now").await;
    // Another user of bob's domain, and one of alice's, write into their own layers only.
    for (domain, name) in [("b.example", "carol"), ("a.example", "carol")] {
        let mut carol = Peer::sign_in(&domains[domain], name).await;
        carol.show(&open("carol's")).await;
    }
    // Another domain says it over its own link: anew, as a replay, as an end, for whichever group.
    let mut link = evil.call(a).await;
    let of = |state| Notify::of(BOB.parse().unwrap(), What::Presence, state);
    let active = of(SubscriptionState::Active);
    let watchers = vec!["alice@a.example".parse().unwrap()];
    for document in [open("forged"), open("once true")] {
        let snapshot = Some(document.encode());
        let version = Some(Version::of(&document.encode()));
        for group in [None, Some(1), Some(2)] {
            let (snapshot, watchers) = (snapshot.clone(), watchers.clone());
            let notify = Notify { group, version, snapshot, watchers, ..active.clone() };
            link.wire().send(0, notify).await;
        }
    }
    let end = Notify { watchers, ..of(SubscriptionState::Terminated) };
    link.wire().send(0, end).await;
    // Whether that ends the link or not: it has been looked at when this is answered.
    link.ask(impp_protocol::command::Ping::empty()).await;
    link.wire().some(1).await;
    bob.show(&open("still true")).await;
    assert_ne!(before, alice.held.version());
    alice.next().await;
    alice.until_note("still true").await;
    assert_eq!(alice.settle().await, 0);
    assert!(a.metrics().get("impp_unsolicited_total") >= 7.0);
}

/// What is written behind a ClientHello without TLS is never read as frames.
#[tokio::test]
async fn f17_frames_in_the_packet_of_the_client_hello_are_never_read() {
    let domains =
        Domains::with(&["b.example"], |_, start| start.set("limits.sign_in_seconds", 2)).await;
    let server = &domains["b.example"];
    for protocol in [ALPN_CLIENT, ALPN_LINK] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("b.example").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut packet = Vec::new();
        client.write_tls(&mut packet).unwrap();
        let forged = impp_protocol::command::Message {
            from: Some("alice@a.example".parse().unwrap()),
            hops: Some(8),
            ..message(BOB, "not over TLS")
        };
        packet.extend_from_slice(&bytes_of(0, hello()));
        packet.extend_from_slice(&bytes_of(1, Command::from(forged)));
        let mut tcp = TcpStream::connect(server.address()).await.unwrap();
        tcp.write_all(&packet).await.unwrap();
        let mut answer = Vec::new();
        let end = impp_tests::wait::within("the end", tcp.read_to_end(&mut answer)).await;
        let end = end.map_err(|error| error.kind());
        assert!(end.is_ok() || end == Err(std::io::ErrorKind::ConnectionReset), "{end:?}");
    }
    assert_eq!(server.metrics().get("impp_messages_total"), 0.0);
    let mut bob = Peer::sign_in(server, "bob").await;
    assert_eq!(bob.requests().await.entries, []);
    assert_eq!(bob.inbox().await, []);
}
