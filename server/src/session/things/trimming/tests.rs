//! What is let go of, and what stays.

use std::path::Path;

use impp_protocol::Timestamp;
use impp_storage::{Append, MemoryStore};

use super::*;
use crate::core::config::Config;
use crate::life::Server;

fn append(owner: &Address) -> Op {
    let (owner, head) = (owner.clone(), bytes::Bytes::new());
    let (fence, kind, with_body, counted, limit) = (0, 1, false, false, None);
    Op::Append(Append { owner, fence, kind, head, with_body, counted, limit })
}

/// That of a server with these settings more.
async fn trimming(settings: &str) -> (Arc<MemoryStore>, Arc<Trimming>) {
    let domain = "[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n";
    let config = Config::parse(&format!("{settings}{domain}"), Path::new("imppd.toml")).unwrap();
    let store = Arc::new(MemoryStore::new().unwrap());
    let ground = Server::load(config, store.clone()).await.unwrap().ground;
    let trimming = Trimming::new(store.clone(), ground.settings.clone(), ground.clock.clone());
    (store, Arc::new(trimming))
}

/// Where nothing is retained, what came just now goes with custody.
#[tokio::test]
async fn what_came_this_very_moment_goes_too_where_nothing_is_retained() {
    let (_, trimming) = trimming("[inbox]\nretention_days = 0\n").await;
    let alice: Address = "alice@a.example".parse().unwrap();
    let now = trimming.clock.trusted();
    let Op::Trim { before, .. } = trimming.at_once(&alice) else { panic!("nothing is trimmed") };
    assert!(before > now);
}

/// What is old and acknowledged goes, in more than one slice; what is young or not acknowledged stays.
#[tokio::test(start_paused = true)]
async fn what_is_old_and_acknowledged_goes_and_nothing_else() {
    let (store, trimming) = trimming("").await;
    let alice: Address = "alice@a.example".parse().unwrap();
    let old = Unit::of(Timestamp::from_millis(1), vec![append(&alice); 200]);
    for _ in 0..3 {
        store.submit(old.clone()).await.unwrap();
    }
    let young = Unit::of(trimming.clock.trusted(), vec![append(&alice); 2]);
    store.submit(young).await.unwrap();
    let last = store.log_state(alice.clone()).await.unwrap().last;
    for (upto, oldest) in [(500, 501), (last, 601)] {
        let custody = Op::Custody { owner: alice.clone(), upto };
        store.submit(Unit::of(trimming.clock.trusted(), vec![custody])).await.unwrap();
        trimming.soon(&alice, upto);
        tokio::time::sleep(PAUSE * 2).await;
        assert_eq!(store.log_state(alice.clone()).await.unwrap().oldest, oldest);
        assert!(trimming.resting.lock().is_empty());
    }
}
