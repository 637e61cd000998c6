//! Whether time tells a domain what it is not told, faults D5 and F14: Welch's t of how long answers take
//! over a link, within each of three classes of whom nothing else tells apart. By hand, on a quiet machine,
//! against the release build; the number is of seconds for each class, 60 without one:
//!
//! ```sh
//! cargo build --release --workspace --bins
//! IMPP_TESTS_BIN_DIR=target/release cargo run --release -p impp-tests --example told_times -- 60
//! ```
//!
//! |t| below 4.5 is no difference that so many tries can show. It asserts nothing: a machine that does
//! other things shows anything, so its load is said with what comes out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a program for people")]

use std::time::{Duration, Instant};

use impp_protocol::What;
use impp_protocol::command::Fetch;
use impp_tests::badpeer::Link;
use impp_tests::peer::fetch;
use impp_tests::presence::open;
use impp_tests::server::Start;
use impp_tests::times::compared;
use impp_tests::{BadPeer, Domains, Peer, Server};

/// The classes, and in each whom amy@a.example asks for: user parts of one length.
const CLASSES: [(&str, &[(&str, &str)]); 3] = [
    (
        "refused by a rule",
        &[
            ("ref1", "[[rule]]\nid = \"r\"\nwho = [\"amy@a.example\"]\nhandling = \"block\"\n"),
            ("ref2", "[[rule]]\nid = \"r\"\nwho = [\"domain:a.example\"]\nhandling = \"block\"\n"),
        ],
    ),
    (
        "not there, as far as amy sees",
        &[
            (
                "off1",
                "[[rule]]\nid = \"r\"\nwho = [\"amy@a.example\"]\nhandling = \"allow\"\n\
                      fields = [\"all\"]\n",
            ),
            (
                "off2",
                "[[rule]]\nid = \"r\"\nwho = [\"amy@a.example\"]\nhandling = \"polite-block\"\n",
            ),
            (
                "off3",
                "[[rule]]\nid = \"r\"\nwho = [\"amy@a.example\"]\nhandling = \"allow\"\n\
                      fields = []\n",
            ),
        ],
    ),
    // The first has an account, to which nobody has ever signed in.
    ("who has never come, or does not exist", &[("non1", ""), ("non2", "")]),
];
/// Of whom there is no account; and who shows something, which amy does not see.
const NOBODY: &str = "non2";
const SHOWN: [&str; 2] = ["off2", "off3"];

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).map_or(60, |arg| arg.parse().unwrap());
    let fast = |_: &str, start: Start| {
        let start = start.set("federation.frames_per_second", 1_000_000);
        start.set("federation.frames_burst", 1_000_000)
    };
    let domains = Domains::with(&["b.example"], fast).await;
    let server = &domains["b.example"];
    // Who has published stays there.
    let mut there = Vec::new();
    for (name, rules) in CLASSES.iter().flat_map(|(_, all)| *all).filter(|one| one.0 != NOBODY) {
        there.extend(live(server, name, rules).await);
    }
    let peer = BadPeer::among(&domains, "a.example").await;
    let mut link = peer.call(server).await;
    println!("load of the machine: {}", load());
    for (class, all) in CLASSES {
        let mut times: Vec<Vec<f64>> = all.iter().map(|_| Vec::new()).collect();
        let ends = Instant::now() + Duration::from_secs(seconds);
        for n in 0.. {
            if Instant::now() > ends {
                break;
            }
            // Nobody has always the same one before it.
            let of = (n + n / all.len()) % all.len();
            let took = ask(&mut link, &peer, all[of].0).await;
            // Whoever is asked for the first time may have to be read.
            if n >= 10 * all.len() {
                times[of].push(took);
            }
        }
        for (other, times_of) in all.iter().zip(&times).skip(1) {
            println!("{class}: {}, {}: {}", all[0].0, other.0, compared(&times[0], times_of));
        }
    }
    println!("load of the machine: {}", load());
}

/// An account with these rules; who is to be there is.
async fn live(server: &Server, name: &str, rules: &str) -> Option<Peer> {
    server.add(name);
    if rules.is_empty() {
        return None;
    }
    let mut owner = Peer::sign_in(server, name).await;
    owner.set_rules(rules).await;
    if SHOWN.contains(&name) {
        owner.show_for(&open("here"), 3600).await.unwrap();
        return Some(owner);
    }
    owner.leave().await;
    None
}

/// How long an answer takes, in seconds.
async fn ask(link: &mut Link, peer: &BadPeer, whom: &str) -> f64 {
    let watcher = Some(peer.account("amy"));
    let ask = Fetch { watcher, ..fetch(&format!("{whom}@b.example"), What::Presence) };
    let start = Instant::now();
    let answer = link.request(ask).await;
    let took = start.elapsed().as_secs_f64();
    drop(answer);
    took
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
