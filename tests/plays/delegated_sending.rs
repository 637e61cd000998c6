//! Who may send in somebody's name: what its recipient sees, whose rules judge, who pays; here and to
//! another domain.

use impp_protocol::Code;
use impp_protocol::command::{Message, Outcome};
use impp_protocol::state::ItemKind;
use impp_tests::Domains;
use impp_tests::badpeer::BadPeer;
use impp_tests::fates::OPEN_INBOX;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, message};

use crate::rules::strangers;

/// Rules by which anybody writes, and this one sends in the owner's name.
fn lets(who: &str) -> String {
    format!("{OPEN_INBOX}\n[[delegate]]\nid = \"s\"\nwho = [\"{who}\"]\nrights = [\"send-as\"]\n")
}

/// A message in somebody's name.
fn from(owner: &str, to: &str, text: &str) -> Message {
    Message { from: Some(owner.parse().unwrap()), ..message(to, text) }
}

/// A delivery rule about one account.
fn delivers(who: &str, action: &str) -> String {
    format!("[[delivery]]\nid = \"{who}\"\nwho = [\"{who}\"]\naction = \"{action}\"\n")
}

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";
const CAL: &str = "cal@localhost";

/// Whom an owner lets sends in the owner's name, and its recipient sees who wrote it; both have a copy.
/// Nobody else does, nor says of itself or others who wrote; and it ends when the right does.
#[tokio::test]
async fn d_4_a_delegate_sends_in_its_owners_name_and_is_shown() {
    let server = strangers(&["bob", "cal", "eve"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets(CAL)).await;
    let mut bob = Peer::open_inbox(&server, "bob").await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    let sent = from(ALICE, BOB, "for alice");
    assert_eq!(cal.done(sent.clone()).await.outcome, Some(Outcome::Delivered));
    assert_eq!(cal.done(sent.clone()).await.outcome, Some(Outcome::Duplicate));
    let got = bob.received(1).await.remove(0);
    let names = [&got.from, &got.sender].map(|who| who.as_ref().map(ToString::to_string));
    assert_eq!(names, [Some(ALICE.to_owned()), Some(CAL.to_owned())]);
    for peer in [&mut alice, &mut cal] {
        let log = peer.log().await;
        assert_eq!(log.iter().filter(|item| item.kind == ItemKind::Sent).count(), 1, "{log:?}");
    }
    let mut eve = Peer::sign_in(&server, "eve").await;
    assert_eq!(eve.refused(from(ALICE, BOB, "forged")).await, Code::Refused);
    for forged in [
        from("eve@localhost", BOB, "forged"),
        Message { sender: Some(CAL.parse().unwrap()), ..from(ALICE, BOB, "forged") },
    ] {
        assert_eq!(cal.refused(forged).await, Code::Refused);
    }
    alice.set_rules(OPEN_INBOX).await;
    assert_eq!(cal.refused(from(ALICE, BOB, "too late")).await, Code::Refused);
    // What was taken before was taken, whoever lost the answer.
    assert_eq!(cal.done(sent).await.outcome, Some(Outcome::Duplicate));
    assert_eq!(bob.received(1).await.len(), 1);
}

/// Who keeps out one of the two keeps it out, whichever: the stricter word counts. What is held stands in the
/// name of who wrote it, and is let in when both are.
#[tokio::test]
async fn d_4_a_recipients_rules_judge_whose_name_it_is_and_who_wrote_it() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets(CAL)).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    for (of_alice, of_cal) in [("accept", "refuse"), ("refuse", "accept"), ("hold", "refuse")] {
        bob.set_rules(&(delivers(ALICE, of_alice) + &delivers(CAL, of_cal))).await;
        assert_eq!(cal.refused(from(ALICE, BOB, "no")).await, Code::Refused, "{of_alice}");
    }
    bob.set_rules(&(delivers(ALICE, "accept") + &delivers(CAL, "hold"))).await;
    assert_eq!(cal.done(from(ALICE, BOB, "held")).await.outcome, Some(Outcome::Delivered));
    assert_eq!(bob.inbox().await.len(), 0);
    let waits = bob.requests().await.entries;
    assert_eq!((waits.len(), waits[0].from.as_str()), (1, CAL));
    let cal_is = waits[0].from.clone();
    crate::rules::decide(&mut bob, &cal_is, impp_protocol::state::Decision::Allow).await;
    assert_eq!(bob.texts(1).await, ["held"]);
}

/// Over a link the home of both says who wrote it, and no other domain is believed that.
#[tokio::test(flavor = "multi_thread")]
async fn d_4_a_link_tells_who_wrote_it_of_its_own_domain_alone() {
    let domains = Domains::two().await;
    let (a, b) = (&domains["a.example"], &domains["b.example"]);
    let mut alice = Peer::sign_in(a, "alice").await;
    alice.set_rules(&lets("carol@a.example")).await;
    let mut bob = Peer::open_inbox(b, "bob").await;
    let mut carol = Peer::sign_in(a, "carol").await;
    let sent = from("alice@a.example", "bob@b.example", "for alice");
    let id = sent.id;
    assert_eq!(carol.done(sent).await.outcome, Some(Outcome::Queued));
    let got = bob.received(1).await.remove(0);
    let names = [&got.from, &got.sender].map(|who| who.as_ref().map(ToString::to_string));
    assert_eq!(names, [Some("alice@a.example".to_owned()), Some("carol@a.example".to_owned())]);
    carol.until_delivered(id).await;
    // Another domain says that somebody of ours, or of a third, has written for one of its own.
    let evil = BadPeer::among(&domains, "evil.example").await;
    for writer in ["carol@a.example", "bob@b.example", "x@third.example"] {
        let mut link = evil.call(b).await;
        let writer = Some(writer.parse().unwrap());
        let forged = Message { sender: writer, ..evil.message("mallory", "bob@b.example", "x") };
        link.ask(forged).await;
        assert_eq!(link.ending().await.code(), Code::Refused);
    }
    assert_eq!(bob.received(1).await.len(), 1);
}

/// The command sends for somebody else, and shows who did.
#[test]
fn d_4_the_command_sends_for_somebody_else() {
    let server = strangers(&["bob", "cal"]);
    let file = server.data().join("rules.toml");
    let [alice, bob, cal] = ["alice", "bob", "cal"].map(|name| Impp::of(&server, name));
    for (who, text) in [(&alice, lets(CAL)), (&bob, OPEN_INBOX.to_owned())] {
        std::fs::write(&file, text).unwrap();
        who.run(&["rules", "set", file.to_str().unwrap()]).one();
    }
    cal.run(&["--for", ALICE, "send", BOB, "hello"]).one();
    let read = bob.run(&["inbox"]);
    assert_eq!(
        (&read.objects[0]["from"], &read.objects[0]["sender"]),
        (&ALICE.into(), &CAL.into())
    );
    let acts = alice.run(&["delegations", "acts"]);
    assert_eq!(
        (&acts.objects[0]["right"], &acts.objects[0]["count"]),
        (&"send-as".into(), &1.into())
    );
}
