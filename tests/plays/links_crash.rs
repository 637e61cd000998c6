//! Messages between two domains while either server is killed: fault G2 across a link.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use impp_protocol::MessageId;
use impp_protocol::command::Message;
use impp_protocol::state::Fate;
use impp_tests::dice::Dice;
use impp_tests::peer::message;
use impp_tests::server::Profile;
use impp_tests::trace::Trace;
use impp_tests::wait::within;
use impp_tests::wire::Dial;
use impp_tests::{Domains, Peer, Server, eventually};

const KILLS: usize = 12;
const EACH: usize = 120;

/// A user whose server may be away.
struct Patient {
    dial: Dial,
    profile: Profile,
}

impl Patient {
    fn of(server: &Server, name: &str) -> Patient {
        Patient { dial: Dial::to(server), profile: server.profile(name) }
    }

    /// Signs in as soon as that is possible.
    async fn sign_in(&self) -> Peer {
        within("a sign-in", async {
            loop {
                if let Ok(wire) = self.dial.connect().await
                    && let Ok(peer) = Peer::over(wire, &self.profile, 1).await
                {
                    return peer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Sends texts one after the other, each until it is taken; their ids.
    async fn send_all(&self, to: &str, count: usize, taken: Arc<AtomicUsize>) -> Vec<MessageId> {
        let mut peer = self.sign_in().await;
        let mut ids = Vec::new();
        for n in 0..count {
            let next: Message = message(to, &n.to_string());
            loop {
                let number = peer.ask(next.clone()).await;
                match peer.try_answer(number).await {
                    Some(answer) => {
                        answer.expect("a message that is taken");
                        break;
                    }
                    None => peer = self.sign_in().await,
                }
            }
            ids.push(next.id);
            taken.fetch_add(1, Ordering::SeqCst);
        }
        ids
    }
}

/// All ids are in the inbox, once each and in their order.
async fn all_there_once(inbox: &[Message], from: &str, ids: &[MessageId]) {
    let from = from.parse().unwrap();
    let got: Vec<_> =
        inbox.iter().filter(|m| m.from.as_ref() == Some(&from)).map(|m| m.id).collect();
    assert_eq!(got, ids, "from {from}: lost, doubled or out of order");
}

/// Both servers are killed at any moment, again and again, while messages flow in both directions:
/// what was acknowledged is there once and in order, and each message has one fate.
#[tokio::test(flavor = "multi_thread")]
async fn g2_kill_9_of_either_side_loses_and_doubles_nothing() {
    let mut domains = Domains::two().await;
    Peer::open_inbox(&domains["a.example"], "carol").await;
    Peer::open_inbox(&domains["b.example"], "bob").await;
    let taken = Arc::new(AtomicUsize::new(0));
    let flows = [
        ("a.example", "alice", "bob@b.example"),
        ("a.example", "carol", "bob@b.example"),
        ("b.example", "alice", "carol@a.example"),
    ];
    let mut tasks = Vec::new();
    for (domain, name, to) in flows {
        let (patient, taken) = (Patient::of(&domains[domain], name), taken.clone());
        tasks.push(tokio::spawn(async move { patient.send_all(to, EACH, taken).await }));
    }
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let seed = u64::from_be_bytes(seed);
    #[expect(clippy::print_stdout, reason = "beside the test if it fails, where it is captured")]
    {
        println!("seed {seed}");
    }
    let mut dice = Dice::new(seed);
    for kill in 1..=KILLS {
        let wanted = kill * flows.len() * EACH / (KILLS + 1);
        within("messages taken", async {
            while taken.load(Ordering::SeqCst) < wanted {
                tokio::time::sleep(Duration::from_millis(dice.roll(9) as u64)).await;
            }
        })
        .await;
        let victims = match dice.roll(3) {
            0 => vec!["a.example"],
            1 => vec!["b.example"],
            _ => vec!["a.example", "b.example"],
        };
        victims.iter().for_each(|victim| domains[*victim].kill9());
        victims.iter().for_each(|victim| domains[*victim].restart());
    }
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(within("the end of a flow", task).await.unwrap());
    }
    for ((domain, name, _), ids) in flows.iter().zip(&ids) {
        let mut sender = Peer::sign_in(&domains[*domain], name).await;
        let fates = eventually("all fates", async || {
            let fates = sender.fates().await;
            (fates.len() >= ids.len()).then_some(fates)
        })
        .await;
        assert!(fates.iter().all(|fate| fate.fate == Fate::Delivered), "{fates:?}");
        let told: Vec<_> = fates.iter().map(|fate| fate.id).collect();
        assert_eq!(told.len(), told.iter().collect::<BTreeSet<_>>().len(), "a fate is told twice");
        assert_eq!(&told, ids);
    }
    let bobs = Peer::sign_in(&domains["b.example"], "bob").await.inbox().await;
    all_there_once(&bobs, "alice@a.example", &ids[0]).await;
    all_there_once(&bobs, "carol@a.example", &ids[1]).await;
    let carols = Peer::sign_in(&domains["a.example"], "carol").await.inbox().await;
    all_there_once(&carols, "alice@b.example", &ids[2]).await;
}

/// Either side is killed as it enters its first, second, … sync.
#[tokio::test(flavor = "multi_thread")]
async fn g2_a_kill_at_each_sync_of_either_side_loses_and_doubles_nothing() {
    let mut domains = Domains::two().await;
    Peer::open_inbox(&domains["b.example"], "bob").await;
    let mut sent = Vec::new();
    for victim in ["a.example", "b.example"] {
        for when in 1..=5 {
            let inject = format!("inject=fdatasync,fsync:signal=SIGKILL:when={when}");
            let options = ["-e", "trace=fdatasync,fsync", "-e", &inject];
            let Some(trace) = Trace::attach(&domains[victim], &options) else { return };
            let patient = Patient::of(&domains["a.example"], "alice");
            let taken = Arc::default();
            let task =
                tokio::spawn(async move { patient.send_all("bob@b.example", 4, taken).await });
            domains[victim].ended();
            drop(trace);
            domains[victim].restart();
            sent.extend(within("messages taken", task).await.unwrap());
        }
    }
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    for id in &sent {
        assert_eq!(alice.fate(*id).await.fate, Fate::Delivered);
    }
    let bobs = Peer::sign_in(&domains["b.example"], "bob").await.inbox().await;
    all_there_once(&bobs, "alice@a.example", &sent).await;
}
