//! Attackers who have signed in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use impp_protocol::command::{Fetch, Publish, Subscribe};
use impp_protocol::state::{self, Contact, ContactEdit, Grant};
use impp_protocol::{Command, What};
use impp_tests::Peer;
use impp_tests::fates::OPEN_INBOX;
use impp_tests::peer::{fetch, id_at, message, publish, subscribe};
use impp_tests::presence::{layer, open};

use super::Task;
use crate::arena::Arena;

const DROP: &str = "[[delivery]]\nid = \"all\"\nwho = [\"authenticated\"]\naction = \"drop\"\n";
const HOLD: &str = "[[delivery]]\nid = \"all\"\nwho = [\"authenticated\"]\naction = \"hold\"\n";
const LARGE: usize = 60 * 1024;

/// Asks as fast as it can, so many requests being unanswered, until the connection ends.
async fn flood(
    arena: &Arena,
    peer: &mut Peer,
    unanswered: usize,
    mut make: impl FnMut(u64) -> Command,
) {
    let mut asked = VecDeque::new();
    for n in 0.. {
        asked.push_back(peer.ask(make(n)).await);
        if asked.len() >= unanswered {
            let Some(number) = asked.pop_front() else { return };
            let answer = peer.try_answer(number).await;
            arena.tally.answer(answer.as_ref());
            if answer.is_none() {
                return;
            }
        }
        while peer.try_unsolicited().is_some() {}
    }
}

/// So many sessions of one account, each with a task.
async fn sessions(
    arena: &Arc<Arena>,
    name: &'static str,
    count: usize,
    unanswered: usize,
    make: impl Fn(&Arena, u64) -> Command + Clone + Send + Sync + 'static,
) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for n in 0..count {
        let (arena, make) = (arena.clone(), make.clone());
        let mut peer = arena.peer(name, device(n)).await;
        tasks.push(Box::pin(async move {
            flood(&arena, &mut peer, unanswered, |n| make(&arena, n)).await;
        }));
    }
    tasks
}

/// An account has 16 devices.
fn device(n: usize) -> u8 {
    (n % 16) as u8 + 1
}

async fn rules(arena: &Arena, name: &str, text: &str) {
    let mut peer = arena.peer(name, 1).await;
    peer.set_rules(text).await;
    peer.leave().await;
}

pub(super) async fn requests(arena: Arc<Arena>) -> Vec<Task> {
    let make = |arena: &Arena, _| fetch(&arena.account("mallory"), What::Rules).into();
    sessions(&arena, "mallory", 60, 64, make).await
}

pub(super) async fn dropped(arena: Arc<Arena>) -> Vec<Task> {
    rules(&arena, "owner", DROP).await;
    let text = "x".repeat(LARGE);
    let make = move |arena: &Arena, _| message(&arena.account("owner"), &text).into();
    sessions(&arena, "mallory", 8, 32, make).await
}

pub(super) async fn inbox(arena: Arc<Arena>) -> Vec<Task> {
    rules(&arena, "owner", OPEN_INBOX).await;
    let make = |arena: &Arena, _| message(&arena.account("owner"), "more").into();
    let mut tasks = sessions(&arena, "mallory", 8, 64, make).await;
    let mut eve = arena.peer("eve", 1).await;
    tasks.push(Box::pin(async move {
        loop {
            let text = match eve.request(message(&arena.account("owner"), "a word")).await {
                Ok(_) => "another's ok".to_owned(),
                Err(error) => format!("another's {}", error.code),
            };
            arena.tally.count(&text);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }));
    tasks
}

pub(super) async fn held(arena: Arc<Arena>) -> Vec<Task> {
    rules(&arena, "mallory", HOLD).await;
    for name in ["owner", "eve"] {
        let mut sender = arena.peer(name, 1).await;
        for _ in 0..100 {
            drop(sender.request(message(&arena.account("mallory"), &"x".repeat(200))).await);
        }
    }
    let make = |arena: &Arena, _| fetch(&arena.account("mallory"), What::Requests).into();
    sessions(&arena, "mallory", 8, 32, make).await
}

pub(super) async fn unknown_fate(arena: Arc<Arena>) -> Vec<Task> {
    rules(&arena, "owner", OPEN_INBOX).await;
    let mut peer = arena.peer("mallory", 1).await;
    for _ in 0..2_000 {
        drop(peer.request(message(&arena.account("owner"), "one of many")).await);
    }
    peer.leave().await;
    let make = |arena: &Arena, _| {
        let fate = fetch(&arena.account("mallory"), What::Fate);
        Fetch { id: Some(id_at(-5)), ..fate }.into()
    };
    sessions(&arena, "mallory", 8, 32, make).await
}

pub(super) async fn contacts(arena: Arc<Arena>) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for n in 0..50 {
        let mut peer = arena.peer("mallory", device(n)).await;
        let own = arena.account("mallory");
        peer.done(Subscribe { expand: true, ..subscribe(&own, What::Contacts) }).await;
        tasks.push(Box::pin(async move {
            loop {
                drop(peer.unsolicited().await);
            }
        }));
    }
    let make = |arena: &Arena, n| {
        let address = format!("friend{}@a.example", n % 200).parse().unwrap();
        let set = Contact {
            address,
            name: Some(format!("number {n}")),
            groups: Vec::new(),
            follow: true,
            grant: Grant::None.into(),
            subscription: None,
        };
        let edit = state::encode(&ContactEdit::set(set));
        publish(&arena.account("mallory"), What::Contacts, Some(edit)).into()
    };
    tasks.extend(sessions(&arena, "mallory", 8, 32, make).await);
    tasks
}

pub(super) async fn leases(arena: Arc<Arena>) -> Vec<Task> {
    let people: Vec<String> = arena.people(2_000).into_iter().map(|one| one.address).collect();
    let people = Arc::new(people);
    let mut tasks: Vec<Task> = Vec::new();
    for n in 0..8 {
        let (arena, people) = (arena.clone(), people.clone());
        tasks.push(Box::pin(async move {
            for round in n.. {
                let mut peer = arena.peer("mallory", device(round)).await;
                let lease = Some(Duration::from_secs(86_400));
                let mut asked = VecDeque::new();
                for address in people.iter() {
                    let subscribe = subscribe(address, What::Presence);
                    asked.push_back(peer.ask(Subscribe { lease, ..subscribe }).await);
                    if asked.len() < 64 {
                        continue;
                    }
                    let Some(number) = asked.pop_front() else { break };
                    let answer = peer.try_answer(number).await;
                    arena.tally.answer(answer.as_ref());
                    if answer.is_none() {
                        break;
                    }
                }
                peer.cut();
            }
        }));
    }
    tasks
}

pub(super) async fn presence(arena: Arc<Arena>) -> Vec<Task> {
    let make = |arena: &Arena, n| -> Command {
        let own = arena.account("mallory");
        let layer = layer(&open(&format!("note {n}")));
        let publish = publish(&own, What::Presence, Some(layer));
        Publish { replace: true, ..publish }.into()
    };
    sessions(&arena, "mallory", 60, 64, make).await
}

pub(super) async fn dead_domains(arena: Arc<Arena>) -> Vec<Task> {
    let make = |_: &Arena, n| {
        let name = id_at(0).0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        message(&format!("someone@d{n}-{name}.example"), "a word").into()
    };
    sessions(&arena, "mallory", 8, 32, make).await
}
