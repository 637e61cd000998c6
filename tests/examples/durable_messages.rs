//! What durable messages cost the server: pairs of clients, each message acknowledged, the log of both
//! sides followed. By hand, against the release build:
//!
//! ```sh
//! cargo build --release -p imppd
//! IMPP_TESTS_BIN_DIR=target/release cargo run -p impp-tests --example durable_messages -- 20 200
//! ```
//!
//! for 20 pairs and 200 messages each. Processor time on a busy machine is to be compared with that of
//! another program just before and behind it, and with nothing else. It asserts nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a program for people")]

use std::collections::VecDeque;
use std::fs;

use impp_protocol::command::Ack;
use impp_protocol::state::{self, Page};
use impp_protocol::{Command, What};
use impp_tests::Server;
use impp_tests::peer::{Peer, message, subscribe};

/// Messages of a client that are not answered yet.
const IN_FLIGHT: usize = 2;

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    let number = |at: usize, usual| words.get(at).map_or(usual, |word| word.parse().unwrap());
    let (pairs, each) = (number(1, 20), number(2, 200));
    let names: Vec<String> = (0..2 * pairs).map(|n| format!("u{n}")).collect();
    let server = Server::with().accounts(&names).no_rates().start();
    let mut peers = VecDeque::new();
    for name in &names {
        peers.push_back(Peer::sign_in(&server, name).await);
    }
    let before = (server.processor_time(), switches(&server), syncs(&server));
    let mut tasks = Vec::new();
    while let (Some(from), Some(to)) = (peers.pop_front(), peers.pop_front()) {
        tasks.push(tokio::spawn(pair(from, to, each)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let messages = (pairs * each) as f64;
    let spent = (server.processor_time() - before.0).as_secs_f64() * 1e6 / messages;
    let switched = (switches(&server) - before.1) as f64 / messages;
    let synced = (syncs(&server) - before.2) / messages;
    println!("{messages} messages: {spent:.1} us, {switched:.2} switches, {synced:.3} syncs each");
}

/// One sends, and the other acknowledges each page that it is told.
async fn pair(mut from: Peer, mut to: Peer, each: usize) {
    let address = to.address.clone();
    for peer in [&mut from, &mut to] {
        let follow = subscribe(peer.address.as_str(), What::Log);
        peer.done(follow).await;
    }
    let sends = tokio::spawn(async move {
        let mut open = VecDeque::new();
        for n in 0..each {
            if open.len() == IN_FLIGHT {
                from.answer(open.pop_front().unwrap()).await.unwrap();
            }
            let text = format!("{n:0100}");
            open.push_back(from.ask(message(address.as_str(), &text)).await);
        }
        for number in open {
            from.answer(number).await.unwrap();
        }
        from
    });
    let mut received = 0;
    let mut open = Vec::new();
    while received < each {
        let Some(snapshot) = to.notify().await.snapshot else { continue };
        let page: Page = state::decode(snapshot).unwrap();
        received += page.items.len();
        let ack = Ack { address: to.address.clone(), cursor: page.cursor };
        open.push(to.ask(Command::from(ack)).await);
    }
    for number in open {
        to.answer(number).await.unwrap();
    }
    drop(sends.await.unwrap());
}

fn syncs(server: &Server) -> f64 {
    server.metrics().get("impp_store_syncs_total")
}

/// Context switches of all threads, wanted or not.
fn switches(server: &Server) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let status =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
    let lines: Vec<String> =
        status.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let counts = lines.iter().filter_map(|line| line.split_once("ctxt_switches:"));
    counts.map(|(_, count)| count.trim().parse::<u64>().unwrap()).sum()
}
