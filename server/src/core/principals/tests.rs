//! Rules for very many watchers, of whose consequences the store does only a part; reading a principal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use impp_acl::{DomainPolicy, RuleSet};
use impp_presence::{Answer, Bond, Change, Keeper};
use impp_protocol::command::{Message, Written};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Code, Command, DeviceId, MessageId};
use impp_storage::{Lack, Lane, Store, StoreError, UNIT_OPS_MAX};

use super::{ChangeError, Principal};
use crate::core::accounts::tests::verifier;
use crate::core::answers::{Answer as Answered, Stored};
use crate::core::config::Config;
use crate::core::double::Double;
use crate::core::keeping::scan;
use crate::core::records::{self, DROPPED, Services, WATCHER};
use crate::core::settings::Snapshot;
use crate::life::Server;
use crate::messages::Bearer;

/// Longer than any machine takes.
const LONG: Duration = Duration::from_secs(60);

/// More watchers than a unit takes, two records each.
const WATCHERS: usize = UNIT_OPS_MAX;

fn alice() -> Address {
    Address::parse("alice@a.example").unwrap()
}

fn config() -> Config {
    let text = "[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n";
    Config::parse(text, Path::new("imppd.toml")).unwrap()
}

async fn add_alice(server: &Server) {
    let (verifier, services) = (verifier(), Services { pres: true, im: true });
    let (kept, now) = (&*server.ground.store, server.ground.clock.now());
    server.ground.accounts.add(kept, now, &alice(), services, verifier, vec![]).await.unwrap();
}

/// Alice, whom many follow by their contact lists.
async fn watched() -> (Server, Arc<Double>) {
    let store = Double::new();
    let server = Server::load(config(), store.clone()).await.unwrap();
    add_alice(&server).await;
    assert_eq!(put(&server, "allow", 0).await, Ok(Answer::Numbered(version(&server).await)));
    for index in 0..WATCHERS {
        let watcher = Address::parse(&format!("w{index}@a.example")).unwrap();
        let (bond, listener, pending_max) = (Bond::Contact, None, 1);
        let follow = Change::Follow { watcher, bond, listener, pending_max };
        server.rooms.principals.change(&alice(), follow).await.unwrap();
    }
    (server, store)
}

/// What alice's rules say of all.
async fn put(server: &Server, handling: &str, base: u64) -> Result<Answer, ChangeError> {
    let text =
        format!("[[rule]]\nid = \"a\"\nwho = [\"authenticated\"]\nhandling = \"{handling}\"\n");
    let (rules, text) = (RuleSet::parse(&text).unwrap().into(), text.into());
    server.rooms.principals.change(&alice(), Change::PutRules { rules, text, base }).await
}

/// The version of the rules that the store has.
async fn version(server: &Server) -> u64 {
    let key = records::place::rules(&alice()).key();
    server.ground.store.get(key).await.unwrap().unwrap().version
}

/// About the watchers it is decided in slices, of which the timer would have each done in its turn.
async fn catch_up(server: &Server) {
    let due =
        |alice: &mut Principal, now| alice.presentity.next_deadline().is_some_and(|d| d <= now);
    while server.rooms.principals.look(&alice(), due).await.unwrap() {
        server.rooms.principals.expire(&alice()).await.unwrap();
    }
}

async fn active(server: &Server) -> usize {
    let alice = alice();
    let look = server.rooms.principals.look(&alice, |alice, _| {
        let watchers = alice.presentity.watchers();
        watchers.filter(|(_, watching)| watching.state == SubscriptionState::Active).count()
    });
    look.await.unwrap()
}

#[tokio::test]
async fn g8_rules_for_very_many_that_another_came_before_are_told_as_that() {
    let (server, _) = watched().await;
    let before = version(&server).await;
    assert_eq!(put(&server, "block", before + 1000).await, Err(ChangeError::Conflict));
    assert_eq!((version(&server).await, active(&server).await), (before, WATCHERS));
    let kept = scan(&*server.ground.store, &alice(), WATCHER).await.unwrap();
    assert_eq!(kept.len(), WATCHERS);
    assert!(put(&server, "block", before).await.is_ok());
}

#[tokio::test]
async fn g8_rules_that_are_stored_without_the_rest_are_in_force_and_can_be_replaced() {
    let (server, store) = watched().await;
    let before = version(&server).await;
    store.refuse_at(2, StoreError::NoSpace(Lack::Bytes));
    let answer = put(&server, "block", before).await;
    let number = version(&server).await;
    assert_ne!(number, before, "they are there");
    assert_eq!(answer, Ok(Answer::Numbered(number)));
    catch_up(&server).await;
    assert_eq!(active(&server).await, 0);
    // Of some of the watchers the store does not know it: whoever reads it judges anew.
    let kept = scan(&*server.ground.store, &alice(), WATCHER).await.unwrap();
    assert!(!kept.is_empty());
    server.rooms.principals.forget(&alice());
    assert_eq!(active(&server).await, 0);
    assert!(put(&server, "allow", number).await.is_ok());
}

#[tokio::test]
async fn g8_that_nothing_was_stored_is_said_only_if_nothing_was() {
    let (server, store) = watched().await;
    let before = version(&server).await;
    store.refuse_at(1, StoreError::NoSpace(Lack::Bytes));
    let answer = put(&server, "block", before).await;
    assert_eq!(answer, Err(ChangeError::Store(StoreError::NoSpace(Lack::Bytes))));
    let told = answer.stored().unwrap_err().text.unwrap();
    assert!(told.contains("nothing was stored"), "{told}");
    assert_eq!((version(&server).await, active(&server).await), (before, WATCHERS));
    let kept = scan(&*server.ground.store, &alice(), WATCHER).await.unwrap();
    assert_eq!(kept.len(), WATCHERS);
    store.refuse_at(1, StoreError::NoSpace(Lack::Bytes));
    let text: Arc<str> = "".into();
    let rules = Arc::new(RuleSet::parse(&text).unwrap());
    let nobody = Address::parse("nobody@localhost").unwrap();
    let change = Change::PutRules { rules, text, base: 0 };
    let answer = server.rooms.principals.change(&nobody, change).await;
    assert_eq!(answer, Err(ChangeError::Store(StoreError::NoSpace(Lack::Bytes))));
    assert!(answer.stored().unwrap_err().text.unwrap().contains("nothing was stored"));
}

/// What who follows has stored is in the order of the presentity's own, and takes no place of its
/// owner's; all from one other domain together have one share.
#[tokio::test]
async fn f13_who_asks_to_follow_pays_and_not_who_is_asked() {
    let (server, store) = watched().await;
    let lane = |text: &str| Some(Lane::Account(Address::parse(text).unwrap()));
    let elsewhere = Lane::Domain(impp_protocol::Domain::parse("b.example").unwrap());
    for (watcher, share) in [
        ("w1@a.example", lane("w1@a.example")),
        ("bob@b.example", Some(elsewhere.clone())),
        ("carol@b.example", Some(elsewhere)),
    ] {
        store.take_came();
        let watcher = Address::parse(watcher).unwrap();
        let until = server.ground.clock.now().after(LONG);
        let (bond, listener, pending_max) = (Bond::Lease(DeviceId([1; 16]), until), None, 8);
        let follow = Change::Follow { watcher: watcher.clone(), bond, listener, pending_max };
        server.rooms.principals.change(&alice(), follow).await.unwrap();
        let keepers = vec![Keeper::Device(DeviceId([1; 16]))];
        let release = Change::Release { watcher, keepers, listener: None };
        server.rooms.principals.change(&alice(), release).await.unwrap();
        assert_eq!(store.take_came(), vec![[lane("alice@a.example"), share]; 2]);
    }
    put(&server, "block", version(&server).await).await.unwrap();
    assert_eq!(store.take_came().first(), Some(&[lane("alice@a.example"), None]));
}

/// As over a link, which looks after what it was asked before only when it has begun what comes next.
#[tokio::test]
async fn who_waits_for_what_another_is_reading_gets_it_though_nobody_looks_after_that_one() {
    let (server, store) = watched().await;
    server.rooms.principals.forget(&alice());
    store.be_slow();
    let (alice, principals) = (alice(), server.rooms.principals.clone());
    let mut first = Box::pin(principals.look(&alice, |_, _| ()));
    assert!((&mut first).now_or_never().is_none(), "it is being read");
    let second = tokio::time::timeout(LONG, principals.look(&alice, |_, _| ()));
    second.await.expect("it is read").unwrap();
    first.await.unwrap();
}

/// What a domain lays down has changed, and very many are loaded: whoever looks sees by it at once. Those
/// who watch are told one presentity after the other, and other requests are served in between.
#[tokio::test]
async fn what_decides_beside_owners_changes_for_many_in_turns() {
    const OWNERS: usize = 200;
    let server = Server::load(config(), Double::new()).await.unwrap();
    let floor = "[[floor]]\nid = \"x\"\nwho = [\"anyone\"]\nhandling = \"allow\"\n";
    lay_down(&server, DomainPolicy::parse(floor).unwrap().into());
    let owners: Vec<Address> =
        (0..OWNERS).map(|n| Address::parse(&format!("o{n}@a.example")).unwrap()).collect();
    let (watcher, principals) = (alice(), server.rooms.principals.clone());
    for owner in &owners {
        let (services, kept) = (Services { pres: true, im: true }, &*server.ground.store);
        let now = server.ground.clock.now();
        let added = server.ground.accounts.add(kept, now, owner, services, verifier(), vec![]);
        added.await.unwrap();
        let (bond, listener, pending_max) = (Bond::Contact, None, 1);
        let follow = Change::Follow { watcher: watcher.clone(), bond, listener, pending_max };
        principals.change(owner, follow).await.unwrap();
    }
    let state = |owner: Address| {
        let principals = server.rooms.principals.clone();
        async move {
            let state = |owner: &mut Principal, _| {
                owner.presentity.watchers().next().map(|(_, watching)| watching.state)
            };
            principals.look(&owner, state).await.unwrap()
        }
    };
    assert_eq!(state(owners[OWNERS - 1].clone()).await, Some(SubscriptionState::Active));
    lay_down(&server, DomainPolicy::none().clone());
    let now = principals.surroundings.now();
    let untold = || {
        let entries = principals.entries.iter();
        entries.filter(|entry| entry.value().lock().surroundings != now).count()
    };
    assert_eq!(untold(), OWNERS, "nobody's turn has come");
    assert_ne!(state(owners[OWNERS - 1].clone()).await, Some(SubscriptionState::Active));
    let mut served = 0;
    while untold() > 0 {
        // Of somebody who is told already, or else this would be told by it.
        let (owner, principals) = (owners[OWNERS - 1].clone(), principals.clone());
        let request = async move { principals.look(&owner, |_, _| ()).await.unwrap() };
        tokio::spawn(request).await.unwrap();
        served += 1;
    }
    assert!(served > OWNERS / 10, "{served}");
}

/// Puts it in force, as a reload does.
fn lay_down(server: &Server, policy: Arc<DomainPolicy>) {
    let mut config = server.ground.settings.load().config.clone();
    config.domain[0].laid_down = policy;
    server.ground.settings.put_in_force(Snapshot { config, tls: None });
    server.rooms.principals.laid_down();
}

/// Whoever has asked is gone before the store has it: it is done, and seen, all the same.
#[tokio::test]
async fn what_was_asked_by_who_is_gone_is_shown_when_the_store_has_it() {
    let (server, store) = watched().await;
    let before = version(&server).await;
    store.keep_back();
    let mut asking = Box::pin(put(&server, "block", before));
    assert!((&mut asking).now_or_never().is_none(), "it was answered");
    drop(asking);
    assert_eq!(active(&server).await, WATCHERS, "nothing is shown before the store has it");
    store.answer();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    catch_up(&server).await;
    assert_eq!(active(&server).await, 0);
}

/// What a stranger is told of a message to alice, if it is not taken.
async fn write(server: &Server, number: u8) -> Option<Code> {
    let bob = Address::parse("bob@b.example").unwrap();
    let id = MessageId::new(server.ground.clock.wall(), [number; 10]);
    let message = Message { from: Some(bob.clone()), ..Message::new(id, alice(), "hello".into()) };
    let delivered = server.rooms.delivery.deliver(Written::new(message), bob, Bearer::Link).await;
    let told = match delivered {
        Ok(Answered::Later(later)) => later.await,
        Ok(Answered::Now(told)) => told,
        Err(error) => return Some(error.code),
    };
    match told {
        Command::Ok(_) => None,
        Command::Error(error) => Some(error.code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn d9_e8_who_is_dropped_is_told_full_after_restarts_when_who_is_kept_is() {
    let mut told = Vec::new();
    for action in ["accept", "drop"] {
        let store = Double::new();
        let start = async || {
            let text = "[inbox]\nitems_max = 7\n[[domain]]\nname = \"a.example\"\n\
                        certificate = \"c\"\nkey = \"k\"\n";
            let config = Config::parse(text, Path::new("imppd.toml")).unwrap();
            Server::load(config, store.clone()).await.unwrap()
        };
        let mut server = start().await;
        add_alice(&server).await;
        let text = format!("[[delivery]]\nid = \"d\"\nwho = [\"anyone\"]\naction = \"{action}\"\n");
        let (rules, text) = (RuleSet::parse(&text).unwrap().into(), text.into());
        let put = Change::PutRules { rules, text, base: 0 };
        server.rooms.principals.change(&alice(), put).await.unwrap();
        let mut codes = Vec::new();
        for number in 0..10 {
            if number == 3 || number == 6 {
                server = start().await;
            }
            codes.push(write(&server, number).await);
        }
        // A device takes what there is, where there is something.
        let last = store.log_state(alice()).await.unwrap().last.max(1);
        assert!(server.rooms.principals.acknowledged(&alice(), last).await.unwrap());
        let dropped = async || scan(&*store, &alice(), DROPPED).await.unwrap().len();
        let gone = async {
            while dropped().await > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, gone).await.unwrap();
        told.push(codes);
    }
    assert_eq!(told[0], told[1]);
    let full = [None; 7].into_iter().chain([Some(Code::Full); 3]);
    assert_eq!(told[0], full.collect::<Vec<_>>());
}
