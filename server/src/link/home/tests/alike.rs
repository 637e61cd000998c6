//! C1: what is done for one of a class is done for each: reads of the store, units, and principals that
//! are looked at. The classes are those of D5 and D6.

use impp_protocol::command::{Message, Written};

use super::*;
use crate::core::double::Double;
use crate::messages::Bearer;

/// What was done so far: reads, units, principals looked at, looks into the table of who waits where.
fn steps(server: &Server, store: &Double) -> [u64; 4] {
    let [looked, tabled] = server.rooms.principals.steps();
    [store.reads(), store.units(), looked, tabled]
}

/// How often bob has looked, as it would be told to whom he looked at.
async fn looks(server: &Server, whom: &str) -> Option<u64> {
    let (bob, whom) = (address("bob@b.example"), address(whom));
    let seen = server.rooms.principals.look(&whom, |principal, now| {
        let seen = principal.presentity.seen(now).find(|seen| seen.who == bob);
        seen.and_then(|seen| seen.look).map(|look| look.count)
    });
    seen.await.unwrap()
}

async fn counted() -> (Server, Arc<Double>) {
    let store = Double::new();
    (start("a.example", "", store.clone()).await, store)
}

/// What each step of the same course takes, for one who asks over a link.
async fn over_a_link(server: &Server, store: &Double, whom: &str) -> Vec<[u64; 4]> {
    let (link, mut groups) = (link(7), AllGroups::default());
    let (home, bob) = (home_of(server), address("bob@b.example"));
    let mut taken = vec![steps(server, store)];
    for _ in 0..2 {
        let watcher = Some(bob.clone());
        let fetch = Fetch { watcher, ..Fetch::of(address(whom), What::Presence) };
        let _ = home.fetch(&link, fetch).await;
        taken.push(steps(server, store));
    }
    for lease in [60, 120, 0] {
        let ask = Subscribe { address: address(whom), ..ask_for("bob@b.example", lease) };
        home.ready(&link, &ask.address).await;
        let asked = home.subscribe(&link, ask).await;
        home.answer(&link, &mut groups, asked).await;
        taken.push(steps(server, store));
    }
    let mut id = impp_protocol::MessageId::new(server.ground.clock.wall(), [1; 10]);
    for last in [1, 1, 2] {
        *id.0.last_mut().unwrap() = last;
        let message = Message::new(id, address(whom), "hello".into());
        let message = Written::new(Message { from: Some(bob.clone()), ..message });
        let delivered = server.rooms.delivery.deliver(message, bob.clone(), Bearer::Link).await;
        if let Ok(Answer::Later(later)) = delivered {
            later.await;
        }
        taken.push(steps(server, store));
    }
    let took = taken.windows(2).map(|pair| std::array::from_fn(|of| pair[1][of] - pair[0][of]));
    took.collect()
}

#[tokio::test]
async fn c1_f14_as_much_is_done_for_who_does_not_exist_as_for_who_never_comes() {
    let (server, store) = counted().await;
    add(&server, "alice@a.example").await;
    let known = over_a_link(&server, &store, "alice@a.example").await;
    let unknown = over_a_link(&server, &store, "nobody@a.example").await;
    assert_eq!(known, unknown);
    assert!(known.iter().all(|[_, _, looked, tabled]| *looked > 0 && *tabled > 0), "{known:?}");
    // That somebody has looked is noted of nobody too: it takes time.
    for whom in ["alice@a.example", "nobody@a.example"] {
        assert_eq!(looks(&server, whom).await, Some(2), "{whom}");
    }
}

#[tokio::test]
async fn c1_d5_as_much_is_done_for_who_is_offline_as_for_who_blocks_politely_or_grants_nothing() {
    let mut took = Vec::new();
    for rule in [
        "handling = \"allow\"\nfields = [\"all\"]",
        "handling = \"polite-block\"",
        "handling = \"allow\"\nfields = [\"mood\"]",
    ] {
        let (server, store) = counted().await;
        add(&server, "alice@a.example").await;
        let text = format!("[[rule]]\nid = \"r\"\nwho = [\"anyone\"]\n{rule}\n");
        let text = text + "[[delivery]]\nid = \"d\"\nwho = [\"anyone\"]\naction = \"hold\"\n";
        let rules = impp_acl::RuleSet::parse(&text).unwrap().into();
        let put = Change::PutRules { rules, text: text.into(), base: 0 };
        server.rooms.principals.change(&address("alice@a.example"), put).await.unwrap();
        took.push(over_a_link(&server, &store, "alice@a.example").await);
    }
    assert_eq!(took[0], took[1]);
    assert_eq!(took[0], took[2]);
}
