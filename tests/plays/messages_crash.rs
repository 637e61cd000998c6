//! Messages while the server is killed, its disk fails or is full: faults G2, G7, G8, G10.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use impp_protocol::command::{Message, Outcome, Ping, Publish, Subscribe};
use impp_protocol::state::{self, ContactEdit, Contacts, ItemKind, Subscription, Subscriptions};
use impp_protocol::{Code, MessageId, What};
use impp_tests::disk::SmallDisk;
use impp_tests::peer::{Peer, fetch, message, publish, subscribe};
use impp_tests::server::Profile;
use impp_tests::trace::Trace;
use impp_tests::wait::within;
use impp_tests::{Server, Wire, eventually};
use tokio::sync::Notify;

const ROUNDS: usize = 20;
/// Requests of one sender that are under way at once.
const FLIGHT: usize = 16;
const SENDERS: [&str; 2] = ["alice", "carol"];

/// What a sender has sent, and what it knows of it.
#[derive(Default)]
struct Sent {
    acknowledged: BTreeMap<MessageId, String>,
    /// Sent without an answer; to be sent again under the same ids.
    open: Vec<Message>,
}

/// Sends until the connection ends. `acknowledged` counts answers, and `progress` tells of them.
async fn send_until_cut(
    mut peer: Peer,
    mut sent: Sent,
    acknowledged: Arc<AtomicUsize>,
    progress: Arc<Notify>,
) -> Sent {
    let mut flight: BTreeMap<u64, Message> = BTreeMap::new();
    let mut again = std::mem::take(&mut sent.open);
    loop {
        while flight.len() < FLIGHT {
            let next = again.pop().unwrap_or_else(|| {
                let n = sent.acknowledged.len() + flight.len();
                message("bob@localhost", &format!("{} {n}", peer.address.local()))
            });
            flight.insert(peer.ask(next.clone()).await, next);
        }
        let (&oldest, _) = flight.first_key_value().unwrap();
        let Some(answer) = peer.try_answer(oldest).await else { break };
        let done = answer.expect("a message that is taken");
        let message = flight.remove(&oldest).unwrap();
        assert!(matches!(done.outcome, Some(Outcome::Delivered | Outcome::Duplicate)));
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        sent.acknowledged.insert(message.id, text);
        acknowledged.fetch_add(1, Ordering::SeqCst);
        progress.notify_one();
    }
    sent.open = flight.into_values().chain(again).collect();
    sent
}

/// All that was acknowledged is in bob's inbox once, and nothing is there twice.
async fn none_lost_none_doubled(server: &Server, sent: &BTreeMap<&str, Sent>) {
    let mut bob = Peer::sign_in(server, "bob").await;
    let mut received = BTreeMap::new();
    for message in bob.inbox().await {
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        let from = message.from.unwrap().local().to_owned();
        let twice = received.insert((from.clone(), message.id), text);
        assert!(twice.is_none(), "{from} {:?} is there twice", message.id);
    }
    for (name, sent) in sent {
        for (id, text) in &sent.acknowledged {
            let found = received.remove(&((*name).to_owned(), *id));
            assert_eq!(found.as_ref(), Some(text), "{name}: acknowledged and lost");
        }
        let open: BTreeSet<_> = sent.open.iter().map(|message| message.id).collect();
        received.retain(|(from, id), _| !(from == name && open.contains(id)));
        let mut peer = Peer::sign_in(server, name).await;
        let log = peer.log().await;
        let count = |kind| log.iter().filter(|item| item.kind == kind).count();
        assert_eq!(count(ItemKind::Sent), count(ItemKind::Fate));
        assert!(count(ItemKind::Sent) >= sent.acknowledged.len());
    }
    assert!(received.is_empty(), "nobody sent these: {received:?}");
}

/// Twenty kills under load: nothing acknowledged is lost, and what was tried again is not doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_kill_9_under_load_loses_and_doubles_nothing() {
    let mut server = Server::with().no_rates().start();
    let mut sent: BTreeMap<&str, Sent> = SENDERS.map(|name| (name, Sent::default())).into();
    for round in 0..ROUNDS {
        let (acknowledged, progress) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut tasks = Vec::new();
        for name in SENDERS {
            let peer = Peer::sign_in(&server, name).await;
            let before = sent.remove(name).unwrap();
            let (count, progress) = (acknowledged.clone(), progress.clone());
            tasks.push((name, tokio::spawn(send_until_cut(peer, before, count, progress))));
        }
        let mut random = [0];
        getrandom::fill(&mut random).unwrap();
        let kill_at = 1 + usize::from(random[0]) % 100;
        within("acknowledged messages", async {
            while acknowledged.load(Ordering::SeqCst) < kill_at {
                progress.notified().await;
            }
        })
        .await;
        server.kill9();
        for (name, task) in tasks {
            sent.insert(name, within("the end of the senders", task).await.unwrap());
        }
        assert!(sent.values().any(|sent| !sent.open.is_empty()), "round {round}: nothing open");
        server.restart();
    }
    for (name, sent) in &mut sent {
        let mut peer = Peer::sign_in(&server, name).await;
        for message in std::mem::take(&mut sent.open) {
            peer.done(message.clone()).await;
            let text = String::from_utf8(message.body.to_vec()).unwrap();
            sent.acknowledged.insert(message.id, text);
        }
    }
    none_lost_none_doubled(&server, &sent).await;
}

/// Killed as it enters the first, second, … sync: the same.
#[tokio::test]
async fn g2_a_kill_at_each_sync_loses_and_doubles_nothing() {
    let mut server = Server::quickstart();
    let mut sent = Sent::default();
    for round in 1..=6 {
        let mut alice = Peer::sign_in(&server, "alice").await;
        let inject = format!("inject=fdatasync,fsync:signal=SIGKILL:when={round}");
        let options = ["-e", "trace=fdatasync,fsync", "-e", &inject];
        let Some(trace) = Trace::attach(&server, &options) else { return };
        let open = loop {
            let again = sent.open.pop();
            let next = again.unwrap_or_else(|| message("bob@localhost", &format!("round {round}")));
            let number = alice.ask(next.clone()).await;
            match alice.try_answer(number).await {
                Some(answer) => {
                    answer.expect("a message that is taken");
                    let text = String::from_utf8(next.body.to_vec()).unwrap();
                    sent.acknowledged.insert(next.id, text);
                }
                None => break next,
            }
            assert!(sent.acknowledged.len() < 1000, "syncs are not counted");
        };
        sent.open.push(open);
        server.ended();
        drop(trace);
        server.restart();
    }
    let mut alice = Peer::sign_in(&server, "alice").await;
    for message in std::mem::take(&mut sent.open) {
        alice.done(message.clone()).await;
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        sent.acknowledged.insert(message.id, text);
    }
    none_lost_none_doubled(&server, &[("alice", sent)].into()).await;
}

/// After a sync that failed, or was interrupted, nothing is acknowledged and no sync is tried again, until a
/// restart finds out what the disk holds.
#[tokio::test]
async fn g7_g11_after_a_failed_sync_nothing_is_acknowledged() {
    for (when, error) in [(1, "EIO"), (3, "EIO"), (1, "EINTR")] {
        let mut server = Server::quickstart();
        let mut alice = Peer::sign_in(&server, "alice").await;
        alice.send("bob@localhost", "before").await;
        let inject = format!("inject=fdatasync,fsync:error={error}:when={when}");
        let options = ["-e", "trace=fdatasync,fsync", "-e", &inject];
        let Some(trace) = Trace::attach(&server, &options) else { return };
        let mut taken = vec!["before".to_owned()];
        for n in 1..when {
            taken.push(format!("{n}"));
            alice.send("bob@localhost", &format!("{n}")).await;
        }
        let failed = message("bob@localhost", "failed");
        let told = alice.request(failed.clone()).await.unwrap_err();
        assert_eq!(told.code, Code::Storage);
        let told = told.text.unwrap();
        assert!(told.contains("not known") && !told.contains("nothing"), "{told}");
        assert_eq!(alice.refused(failed.clone()).await, Code::Storage);
        assert_eq!(alice.refused(message("carol@localhost", "later")).await, Code::Storage);
        // Reading goes on, and whoever looks is told.
        alice.done(fetch("alice@localhost", What::Log)).await;
        assert_eq!(server.http("/healthz").0, 503);
        let record = trace.detach();
        let syncs = record.lines().filter(|line| line.contains("sync(")).count();
        assert_eq!(syncs, when, "no sync after the one that failed:\n{record}");
        assert!(record.contains("(INJECTED)"), "{record}");
        server.kill9();
        server.restart();
        assert_eq!(server.http("/healthz").0, 200);
        let mut alice = Peer::sign_in(&server, "alice").await;
        alice.done(failed).await;
        taken.push("failed".to_owned());
        let mut bob = Peer::sign_in(&server, "bob").await;
        let inbox = bob.inbox().await;
        let bodies: Vec<_> = inbox.iter().map(|message| message.body.to_vec()).collect();
        assert_eq!(bodies, taken.iter().map(|text| text.as_bytes()).collect::<Vec<_>>());
    }
}

/// On a full disk senders are told before OK, reading and signing in go on, nothing that was
/// acknowledged is lost, and with room it goes on by itself.
#[tokio::test]
async fn g8_a_full_disk_is_told_before_ok_and_heals() {
    let Some(disk) = SmallDisk::mount(64 * 1024 * 1024) else { return };
    let store = disk.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let server = Server::with().no_rates().store(&store).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut sent = vec![];
    let body = |n: usize| format!("{n} {}", "x".repeat(32 * 1024));
    for n in 0..20 {
        sent.push(body(n));
        alice.send("bob@localhost", &body(n)).await;
    }
    let filler = disk.fill();
    // The server holds a reserve: it may go on for a while, but not for ever.
    let refused = loop {
        let message = message("bob@localhost", &body(sent.len()));
        match alice.request(message.clone()).await {
            Ok(_) => sent.push(body(sent.len())),
            Err(error) => {
                assert_eq!(error.code, Code::Storage, "{error:?}");
                break message;
            }
        }
        assert!(sent.len() < 4000, "the disk does not get full");
    };
    assert_eq!(alice.refused(refused.clone()).await, Code::Storage);
    let inbox: Vec<_> = bob.inbox().await.iter().map(|m| m.body.to_vec()).collect();
    assert!(inbox.iter().eq(sent.iter().map(|text| text.as_bytes())), "{} items", inbox.len());
    alice.done(Ping::empty()).await;
    Peer::sign_in(&server, "carol").await.done(fetch("carol@localhost", What::Log)).await;
    std::fs::remove_file(filler).unwrap();
    sent.push(String::from_utf8(refused.body.to_vec()).unwrap());
    eventually("the store to go on", async || alice.request(refused.clone()).await.ok()).await;
    let mut server = server;
    server.kill9();
    server.restart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let inbox: Vec<_> = bob.inbox().await.iter().map(|m| m.body.to_vec()).collect();
    assert!(inbox.iter().eq(sent.iter().map(|text| text.as_bytes())), "{} items", inbox.len());
}

/// On a full disk custody can still be taken: that is what makes room in an inbox.
#[tokio::test]
async fn g8_on_a_full_disk_custody_can_be_taken() {
    let Some(disk) = SmallDisk::mount(64 * 1024 * 1024) else { return };
    let store = disk.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let server = Server::with().store(&store).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.send("bob@localhost", "before").await;
    disk.fill();
    let large = "x".repeat(60 * 1024);
    let mut taken = 0;
    while alice.request(message("bob@localhost", &large)).await.is_ok() {
        taken += 1;
        assert!(taken < 4000, "the disk does not get full");
    }
    bob.ack_all().await;
}

/// Whatever was answered OK and is kept outlives a kill -9 that comes at once: rules, contacts,
/// leased publications and subscriptions, accounts.
#[tokio::test]
async fn e1_every_acknowledged_change_is_on_disk() {
    let rules = "[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\n\
                 fields = [\"all\"]\n";
    let mut server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(rules).await;
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let kept = alice.done(fetch("alice@localhost", What::Rules)).await.content;
    assert_eq!(kept.as_deref(), Some(rules.as_bytes()));

    let remove = ContactEdit::remove("carol@localhost".parse().unwrap());
    alice.edit_contacts(&remove).await;
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let kept = alice.done(fetch("alice@localhost", What::Contacts)).await.content.unwrap();
    let contacts: Contacts = state::decode(kept).unwrap();
    assert!(contacts.entries.iter().all(|entry| entry.address.local() != "carol"), "{contacts:?}");

    let lease = Some(Duration::from_secs(3600));
    let content = Some(crate::corpus::note("leased").encode());
    let leased = Publish { lease, ..publish("alice@localhost", What::Presence, content) };
    alice.done(leased).await;
    server.kill9();
    server.restart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let shown = bob.done(fetch("alice@localhost", What::Presence)).await.content.unwrap();
    assert!(shown.windows(6).any(|bytes| bytes == b"leased"), "{shown:?}");

    // Nothing but the lease keeps this one: carol is no contact any more.
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.done(Subscribe { lease, ..subscribe("carol@localhost", What::Presence) }).await;
    server.kill9();
    server.restart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let kept = alice.done(fetch("alice@localhost", What::Subscriptions)).await.content.unwrap();
    let subscriptions: Subscriptions = state::decode(kept).unwrap();
    let to_carol = |entry: &Subscription| entry.presentity.local() == "carol";
    let entry = subscriptions.entries.iter().find(|entry| to_carol(entry));
    assert!(entry.is_some_and(|entry| entry.expires_in.is_some()), "{subscriptions:?}");

    server.user_ok(&["disable", "carol@localhost"]);
    let said = server.user_ok(&["add", "dave@localhost"]);
    server.kill9();
    server.restart();
    let password = said.trim().strip_prefix("password: ").unwrap().to_owned();
    let dave = Profile { address: "dave@localhost".to_owned(), password };
    Peer::over(Wire::dial(&server).await, &dave, 1).await.unwrap();
    let carol = Peer::over(Wire::dial(&server).await, &server.profile("carol"), 1).await;
    assert_eq!(carol.unwrap_err().code, Code::AuthFailed);
}

/// An OK is written after the sync that covers its message, never before.
#[tokio::test]
async fn e1_each_ok_is_written_after_its_sync() {
    const MESSAGES: usize = 20;
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let calls = "trace=fdatasync,fsync,write,writev,sendto,sendmsg";
    let Some(trace) = Trace::attach(&server, &["-yy", "-e", calls]) else { return };
    for n in 0..MESSAGES {
        alice.send("bob@localhost", &n.to_string()).await;
    }
    let record = trace.detach();
    let (mut synced, mut told) = (0, 0);
    for line in record.lines() {
        if line.contains("sync") && line.trim_end().ends_with("= 0") {
            synced += 1;
        } else if line.contains("<TCP:[") && !line.contains("resumed") {
            told += 1;
            assert!(synced >= told, "OK {told} before its sync:\n{record}");
        }
    }
    assert_eq!(told, MESSAGES, "one write for each OK:\n{record}");
}

/// While a slow disk keeps the server from reading on, nobody is cut for being slow.
#[tokio::test]
async fn g10_a_slow_disk_is_not_the_senders_fault() {
    const MESSAGES: usize = 200;
    let server = Server::with().set("limits.frame_seconds", 1).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let inject = "inject=fdatasync,fsync:delay_enter=3000000:when=1";
    let options = ["-e", "trace=fdatasync,fsync", "-e", inject];
    let Some(_trace) = Trace::attach(&server, &options) else { return };
    let messages = (0..MESSAGES).map(|n| message("bob@localhost", &n.to_string()).into());
    for number in alice.flight(messages).await {
        let answer = alice.try_answer(number).await;
        answer.expect("an answer, but the connection was ended").expect("OK");
    }
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.inbox().await.len(), MESSAGES);
}

/// On a slow disk 256 who send at once share syncs: at most one for eight messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_on_a_slow_disk_many_senders_share_a_sync() {
    const ACCOUNTS: usize = 16;
    const DEVICES: u8 = 16;
    const EACH: usize = 4;
    let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("u{n}")).collect();
    // Nobody answers PINGs while the others sign in.
    let server = Server::with().accounts(&names).set("times.idle_seconds", 3600).start();
    let mut peers = Vec::new();
    for name in &names {
        for device in 1..=DEVICES {
            peers.push(Peer::sign_in_on(&server, name, device).await);
        }
    }
    let senders = peers.len();
    // So slow that also on a slow machine the next of all have come when one has ended.
    let inject = "inject=fdatasync,fsync:delay_enter=500000";
    let options = ["-e", "trace=fdatasync,fsync", "-e", inject];
    let Some(trace) = Trace::attach(&server, &options) else { return };
    let syncs = || server.metrics().get("impp_store_syncs_total");
    let messages = || server.metrics().get("impp_messages_total");
    let before = (syncs(), messages());
    let mut tasks = Vec::new();
    for (n, mut peer) in peers.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            for k in 0..EACH {
                let to = format!("u{}@localhost", (n + k) % ACCOUNTS);
                peer.send(&to, "hi").await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    drop(trace);
    let (synced, sent) = (syncs() - before.0, messages() - before.1);
    assert_eq!(sent, (senders * EACH) as f64);
    assert!(synced > 0.0 && synced <= sent / 8.0, "{synced} syncs for {sent} messages");
}
