//! Two domains on one server are two domains: what one is not to know of another elsewhere, it is not to
//! know of one that is hosted beside it.

use impp_protocol::command::{Done, Outcome, Subscribe};
use impp_protocol::state::Fate;
use impp_protocol::{Code, What};
use impp_tests::peer::{fetch, message, subscribe};
use impp_tests::server::Start;
use impp_tests::{Authority, Peer, Server};

const BOB: &str = "bob@other.example";
const NOBODY: &str = "nobody@other.example";

fn two(tell_unknown: bool) -> Server {
    with_other(Server::with().set("federation.tell_unknown", tell_unknown))
}

/// A server of localhost and other.example, where bob has an account and has never been.
pub(crate) fn with_other(start: Start) -> Server {
    let mut server = start.start();
    server.stop();
    let made = Authority::new("a play's").issue(&["other.example"]);
    let tls = server.data().join("tls");
    // A file of which only the owner may read, as the key of before.
    std::fs::copy(tls.join("key.pem"), tls.join("other-key.pem")).unwrap();
    std::fs::write(tls.join("other-key.pem"), made.key).unwrap();
    std::fs::write(tls.join("other.pem"), made.certificate).unwrap();
    let mut config = std::fs::read_to_string(server.config()).unwrap();
    config.push_str("\n[[domain]]\nname = \"other.example\"\n");
    config.push_str("certificate = \"tls/other.pem\"\nkey = \"tls/other-key.pem\"\n");
    std::fs::write(server.config(), config).unwrap();
    server.restart();
    server.user_ok(&["add", BOB]);
    server
}

/// What somebody is told who looks once and who follows, as far as it could tell something.
async fn told(alice: &mut Peer, whom: &str) -> String {
    let looked = alice.request(fetch(whom, What::Presence)).await;
    let followed = alice.request(subscribe(whom, What::Presence)).await;
    let leased = Subscribe {
        lease: Some(std::time::Duration::from_secs(600)),
        ..subscribe(whom, What::Presence)
    };
    let leased = alice.request(leased).await;
    let plain = |answer: Result<Done, _>| {
        answer.map(|done| (done.state, done.content.map(|content| content.len()), done.lease))
    };
    let all = (plain(looked), plain(followed), plain(leased));
    format!("{all:?}").replace(whom, "WHOM")
}

#[tokio::test]
async fn d6_f14_a_domain_hosted_beside_ours_is_another_domain() {
    let server = two(false);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut outcomes = Vec::new();
    for whom in [BOB, NOBODY] {
        let message = message(whom, "are you there?");
        let id = message.id;
        let outcome = alice.done(message.clone()).await.outcome;
        let repeated = alice.done(message).await.outcome;
        let fate = alice.fate(id).await;
        assert_eq!((fate.fate, fate.code), (Fate::Delivered, None), "{whom}");
        outcomes.push((outcome, repeated));
    }
    assert_eq!(outcomes, [(Some(Outcome::Delivered), Some(Outcome::Duplicate)); 2]);
    assert_eq!(told(&mut alice, BOB).await, told(&mut alice, NOBODY).await);
    let mut listed = Vec::new();
    for whom in [BOB, NOBODY] {
        let ended =
            Subscribe { lease: Some(std::time::Duration::ZERO), ..subscribe(whom, What::Presence) };
        listed.push(format!("{:?}", alice.request(ended).await));
    }
    assert_eq!(listed[0], listed[1]);
    // Of one's own domain it is told.
    assert_eq!(alice.refused(message("nobody@localhost", "hello")).await, Code::NotFound);
    assert_eq!(alice.refused(fetch("nobody@localhost", What::Presence)).await, Code::NotFound);
    // One that comes to be is there at once.
    server.user_ok(&["add", NOBODY]);
    assert_eq!(told(&mut alice, BOB).await, told(&mut alice, NOBODY).await);
}

#[tokio::test]
async fn a_domain_hosted_beside_ours_is_told_of_who_does_not_exist_where_all_are() {
    let server = two(true);
    let mut alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(alice.refused(message(NOBODY, "hello")).await, Code::NotFound);
    assert_eq!(alice.refused(fetch(NOBODY, What::Presence)).await, Code::NotFound);
    assert_eq!(alice.refused(subscribe(NOBODY, What::Presence)).await, Code::NotFound);
}
