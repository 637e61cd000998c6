//! A log whose items are all gone: whoever reads it is at its end, and is not kept busy.

use impp_protocol::What;
use impp_protocol::command::{Fetch, Ping};
use impp_protocol::state::{self, Page};
use impp_tests::Server;
use impp_tests::peer::{Peer, fetch, subscribe};

/// With no retention what was acknowledged goes at once. Then there is nothing more to read, whether
/// it is asked for from the start or from where the client was; and to follow such a log costs
/// nothing: the connection answers, and the next message comes.
#[tokio::test]
async fn a_log_whose_items_have_all_gone_has_no_more_and_can_be_followed() {
    let server = Server::with().set("inbox.retention_days", 0).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    for text in ["one", "two"] {
        alice.send("bob@localhost", text).await;
    }
    let log = bob.log().await;
    bob.ack_all().await;
    for cursor in [None, Some(log[0].cursor.clone()), Some(log[1].cursor.clone())] {
        let fetch = Fetch { cursor, ..fetch("bob@localhost", What::Log) };
        let page: Page = state::decode(bob.done(fetch).await.content.unwrap()).unwrap();
        assert_eq!((page.items.len(), page.more), (0, false));
    }
    bob.done(subscribe("bob@localhost", What::Log)).await;
    bob.done(Ping::empty()).await;
    alice.send("bob@localhost", "three").await;
    let told = bob.notify().await;
    let page: Page = state::decode(told.snapshot.unwrap()).unwrap();
    assert_eq!((page.items.len(), page.more), (1, false));
}
