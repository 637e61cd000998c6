//! Where two things meet: a repeat and a change of rules, a lease and a session, two domains, two
//! large layers, a store put back to an older state.

use std::time::Duration;

use impp_protocol::command::{Outcome, Ping};
use impp_protocol::presence::{Document, FieldName, PartId, Patch};
use impp_protocol::sasl::scram::Binding;
use impp_protocol::{Code, What};
use impp_tests::peer::{Peer, authenticate, fetch, message, publish, subscribe};
use impp_tests::server::{Profile, Server};
use impp_tests::wire::Wire;
use rcgen::{CertificateParams, Issuer, KeyPair};

fn layer(tuple: &str, note: &str) -> Option<bytes::Bytes> {
    let mut document = Document::default();
    let field = |name: &str, value: &str| (FieldName::parse(name).unwrap(), value.into());
    document
        .tuples
        .insert(PartId::parse(tuple).unwrap(), [field("status", "open")].into_iter().collect());
    document.person.extend([field("note", note)]);
    Some(Patch::between(&Document::default(), &document).encode())
}

/// What was accepted is answered as a repeat also when it would be refused by now.
#[tokio::test]
async fn e2_a_repeat_is_a_repeat_whatever_has_changed() {
    let server = Server::quickstart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut first = message("bob@localhost", "once");
    let other = message("bob@localhost", "never accepted");
    first.from = None;
    assert_eq!(alice.done(first.clone()).await.outcome, Some(Outcome::Delivered));
    bob.set_rules("[[delivery]]\nid = \"no\"\nwho = [\"anyone\"]\naction = \"refuse\"\n").await;
    assert_eq!(alice.refused(other).await, Code::Refused);
    assert_eq!(alice.done(first.clone()).await.outcome, Some(Outcome::Duplicate));
    // Whether the client says who it is makes no other message of it.
    first.from = Some("alice@localhost".parse().unwrap());
    assert_eq!(alice.done(first.clone()).await.outcome, Some(Outcome::Duplicate));
    first.body = bytes::Bytes::from_static(b"twice");
    assert_eq!(alice.refused(first).await, Code::Conflict);
    assert_eq!(bob.inbox().await.len(), 1);
}

/// A publication that replaced a leased one does not give way to it after a kill.
#[tokio::test]
async fn g2_what_was_replaced_does_not_come_back() {
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut leased = publish("alice@localhost", What::Presence, layer("t", "leased"));
    leased.lease = Some(Duration::from_secs(3600));
    alice.done(leased).await;
    alice.done(publish("alice@localhost", What::Presence, layer("t", "bound"))).await;
    server.kill9();
    server.restart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let seen = bob.done(fetch("alice@localhost", What::Presence)).await;
    assert_eq!(Document::decode(seen.content.unwrap()), Ok(Document::offline()));
}

/// Layers that fit alone and not together: the second is refused in words, and what is shown
/// always fits a frame.
#[tokio::test]
async fn a14_layers_too_large_together_are_refused() {
    let server = Server::quickstart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(subscribe("alice@localhost", What::Presence)).await;
    bob.notify().await;
    let large = |tuple: &str| {
        let mut document = Document::default();
        for index in 0..7 {
            let name = FieldName::parse(&format!("org.example.{tuple}{index}")).unwrap();
            document.person.insert(name, "x".repeat(4000).into());
        }
        Some(Patch::between(&Document::default(), &document).encode())
    };
    let mut first = Peer::sign_in_on(&server, "alice", 1).await;
    first.done(publish("alice@localhost", What::Presence, large("a"))).await;
    assert_eq!(bob.notify().await.address.as_str(), "alice@localhost");
    let mut second = Peer::sign_in_on(&server, "alice", 2).await;
    for lease in [None, Some(Duration::from_secs(600))] {
        let mut publish = publish("alice@localhost", What::Presence, large("b"));
        publish.lease = lease;
        assert_eq!(second.refused(publish).await, Code::TooLarge);
    }
    second.done(Ping::empty()).await;
    let seen = bob.done(fetch("alice@localhost", What::Presence)).await;
    assert_eq!(Document::decode(seen.content.unwrap()).unwrap().person.len(), 7);
}

/// Whoever asks TLS for one domain signs in to no account of another on the same server.
#[tokio::test]
async fn c12_one_domains_connection_is_for_its_accounts_alone() {
    let mut server = Server::quickstart();
    server.stop();
    let tls = server.data().join("tls");
    let key = KeyPair::generate().unwrap();
    let authority = KeyPair::from_pem(&std::fs::read_to_string(tls.join("ca-key.pem")).unwrap());
    let issuer = std::fs::read_to_string(tls.join("ca.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&issuer, authority.unwrap()).unwrap();
    let leaf = CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    std::fs::write(tls.join("other.pem"), leaf.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::copy(tls.join("key.pem"), tls.join("other-key.pem")).unwrap();
    std::fs::write(tls.join("other-key.pem"), key.serialize_pem()).unwrap();
    let mut config = std::fs::read_to_string(server.config()).unwrap();
    config.push_str("\n[[domain]]\nname = \"other.example\"\n");
    config.push_str("certificate = \"tls/other.pem\"\nkey = \"tls/other-key.pem\"\n");
    std::fs::write(server.config(), config).unwrap();
    server.restart();
    let printed = server.user_ok(&["add", "bob@other.example"]);
    let password = printed.trim().strip_prefix("password: ").unwrap().to_owned();
    let profile = Profile { address: "bob@other.example".to_owned(), password };
    // It is told of no other domain, either.
    let (_, hello) = Wire::greeted(&server).await;
    assert_eq!(
        hello.domains.iter().map(|domain| domain.as_str()).collect::<Vec<_>>(),
        ["localhost"]
    );
    let mut wire = Wire::dial(&server).await;
    let binding = Binding::TlsExporter(wire.exporter());
    let error = authenticate(&mut wire, &profile, 1, binding).await.expect_err("another domain's");
    assert_eq!(error.code, Code::AuthFailed);
    Peer::sign_in(&server, "bob").await.leave().await;
}
