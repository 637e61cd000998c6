//! Redirects: a message goes on to the same user up or down the domain that its sender named, and
//! says so; whoever answers for an address can have it sent to nobody else.

use impp_protocol::command::{Message, Outcome};
use impp_protocol::field::Writer;
use impp_protocol::state::Fate;
use impp_protocol::{Address, By, Code};
use impp_tests::badpeer::{BadPeer, moved};
use impp_tests::impp::Impp;
use impp_tests::peer::message;
use impp_tests::server::Server;
use impp_tests::wire::{integer, octets, raw_frame};
use impp_tests::{Domains, Peer};

/// The number of MESSAGE.
const MESSAGE: u8 = 10;

async fn one(evil: &str) -> (Domains, BadPeer) {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let evil = BadPeer::among(&domains, evil).await;
    (domains, evil)
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// A home that says `moved` has nothing delivered to a third person; the sender is told, with the
/// address, and decides.
#[tokio::test(flavor = "multi_thread")]
async fn e10_a_hostile_home_has_nothing_delivered_to_a_third_person() {
    let (domains, evil) = one("evil.example").await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut bob = Peer::open_inbox(server, "bob").await;
    let impp = Impp::of(server, "alice");
    let victims =
        ["bob@a.example", "x@a.example", "y@evil.example", "y@sub.evil.example", "x@other.example"];
    let mut ids = Vec::new();
    let mut link = None;
    for victim in victims {
        let id = alice.queue("x@evil.example", "you are a fool").await;
        if link.is_none() {
            link = Some(evil.accept().await);
        }
        let link = link.as_mut().unwrap();
        let (number, sent) = link.message().await;
        assert_eq!((sent.id, sent.redirected_from), (id, None));
        link.refuse(number, moved(victim)).await;
        let fate = alice.fate(id).await;
        assert_eq!((fate.fate, fate.code), (Fate::Failed, Some(Code::Moved)), "{victim}");
        assert_eq!((fate.by, fate.address), (Some(By::Home), Some(address(victim))));
        assert_eq!(fate.to, address("x@evil.example"));
        let told = impp.fate(id);
        assert_eq!((&told["fate"], &told["address"]), (&"failed".into(), &victim.into()));
        assert!(told["cause"].as_str().unwrap().contains(victim), "{told}");
        ids.push(id.to_string());
    }
    let inbox = impp.run(&["inbox", "--all"]).objects;
    for (id, victim) in ids.iter().zip(victims) {
        let fate = |item: &&serde_json::Value| item["item"] == "fate" && item["id"] == **id;
        let found = inbox.iter().find(fate);
        assert_eq!(found.unwrap_or_else(|| panic!("{id} in {inbox:?}"))["address"], *victim);
    }
    // The next one for Bob is his first.
    alice.send("bob@a.example", "hello").await;
    assert_eq!(bob.texts(1).await, ["hello"]);
}

/// Who lives up or down the same domain gets the message, and sees whom its sender has named.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_3_2_a_redirected_message_says_whom_its_sender_named() {
    let (domains, people) = one("people.a.example").await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut bob = Peer::open_inbox(server, "bob").await;
    let id = alice.queue("bob@people.a.example", "hi").await;
    let mut link = people.accept().await;
    let (number, _) = link.message().await;
    // To the same user below first: over the link it says so too.
    link.refuse(number, moved("bob@people.a.example")).await;
    let (number, again) = link.message().await;
    assert_eq!((again.id, again.redirected_from), (id, None), "it is where it was");
    link.refuse(number, moved("bob@a.example")).await;
    let fate = alice.fate(id).await;
    assert_eq!((fate.fate, fate.to), (Fate::Delivered, address("bob@people.a.example")));
    let inbox = bob.received(1).await;
    assert_eq!(inbox[0].redirected_from, Some(address("bob@people.a.example")));
    assert_eq!((&inbox[0].to, inbox[0].hops), (&address("bob@a.example"), None));
    let impp = Impp::of(server, "bob");
    let shown = impp.run(&["inbox"]).objects;
    assert_eq!(shown[0]["redirected_from"], "bob@people.a.example");
    // What alice's log has is what she wrote.
    let log = alice.log().await;
    let sent = log.iter().find_map(|item| item.message.clone()).unwrap();
    assert_eq!(Message::decode(sent).unwrap().redirected_from, None);
}

/// Over a link a redirected message says so, and that makes no second message of it.
#[tokio::test(flavor = "multi_thread")]
async fn e1_a_message_is_the_same_however_it_was_redirected() {
    let (domains, evil) = one("evil.example").await;
    let server = &domains["a.example"];
    let mut alice = Peer::open_inbox(server, "alice").await;
    let mut link = evil.call(server).await;
    let plain = evil.message("mallory", "alice@a.example", "hi");
    let via = |text: &str| Message { redirected_from: Some(address(text)), ..plain.clone() };
    assert_eq!(link.deliver(via("alice@people.a.example")).await, Outcome::Delivered);
    assert_eq!(link.deliver(plain.clone()).await, Outcome::Duplicate);
    assert_eq!(link.deliver(via("alice@staff.a.example")).await, Outcome::Duplicate);
    // What is stamped must be able to be true.
    for wrong in ["bob@a.example", "alice@b.example", "mallory@evil.example"] {
        assert_eq!(link.refused(via(wrong)).await, Code::Refused, "{wrong}");
    }
    // Stamps of later versions are taken on links, and go no further.
    let mut fields = Writer::default();
    let other = evil.message("mallory", "alice@a.example", "later");
    impp_protocol::schema::Map::put(&other, &mut fields);
    let mut fields = fields.into_bytes().to_vec();
    fields.extend([octets(50, b"?"), integer(63, 7)].concat());
    link.wire().write(&raw_frame(MESSAGE, 77, &fields)).await;
    assert_eq!(link.answer(77).await.unwrap().outcome, Some(Outcome::Delivered));
    let inbox = alice.received(2).await;
    assert_eq!(inbox[0].redirected_from, Some(address("alice@people.a.example")));
    assert_eq!(inbox[1], Message { hops: None, ..other });
}

/// What servers stamp, now or in later versions, no client writes.
#[tokio::test]
async fn e10_stamps_of_servers_are_refused_from_clients() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let stamps = [
        octets(48, b"bob@people.localhost"),
        integer(49, 0),
        octets(50, b"anything"),
        octets(63, b""),
        [integer(55, 1), integer(56, 1)].concat(),
    ];
    let mut number = 1000;
    for stamp in stamps {
        for volatile in [false, true] {
            let plain = Message { volatile, ..message("bob@localhost", "hi") };
            number += 1;
            let fields = [&plain.encode()[..], &stamp[..]].concat();
            alice.wire().write(&raw_frame(MESSAGE, number, &fields)).await;
            let error = alice.answer(number).await.unwrap_err();
            assert_eq!(error.code, Code::Refused, "{stamp:?}");
            assert!(error.text.unwrap().contains("only servers"));
        }
    }
    // Any other unknown number that need not be understood is skipped.
    let plain = message("bob@localhost", "hi");
    let fields = [&plain.encode()[..], &integer(47, 1)[..]].concat();
    alice.wire().write(&raw_frame(MESSAGE, 2000, &fields)).await;
    assert_eq!(alice.answer(2000).await.unwrap().outcome, Some(Outcome::Delivered));
    assert_eq!(bob.inbox().await.len(), 1);
}
