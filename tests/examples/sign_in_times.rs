//! Whether time tells who exists, or how much of a secret is right: Welch's t of two kinds of tries,
//! over many, faults C2 and C3. By hand, on a quiet machine, against the release build:
//!
//! ```sh
//! cargo build --release --workspace --bins
//! IMPP_TESTS_BIN_DIR=target/release cargo run --release -p impp-tests --example sign_in_times
//! ```
//!
//! |t| below 4.5 is no difference that this many tries can show. It asserts nothing: a machine that
//! does other things shows anything.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use impp_protocol::Command;
use impp_protocol::ids::SessionId;
use impp_protocol::sasl::resume::Ticket;
use impp_tests::Server;
use impp_tests::peer::{first_auth, next_auth};
use impp_tests::server::Profile;
use impp_tests::times::compared;
use impp_tests::wire::{Wire, hello};

/// Tries of each kind.
const TRIES: usize = 10_000;
/// Tries that a connection has.
const PER_CONNECTION: usize = 3;
/// Comparisons that are timed as one.
const BATCH: usize = 50;

#[tokio::main]
async fn main() {
    let server = Server::with()
        .accounts(["alice", "carol"])
        .set("limits.failed_sign_in_wait_seconds", 0)
        .start();
    server.user_ok(&["disable", "carol@localhost"]);
    // Names of one length.
    let names = ["alice", "carol", "nobdy"];
    let mut times = [(); 3].map(|()| [Vec::new(), Vec::new()]);
    for n in 0..TRIES * names.len() / PER_CONNECTION {
        let mut wire = Wire::dial(&server).await;
        wire.send(0, hello()).await;
        wire.hello().await;
        for of in 0..PER_CONNECTION {
            // Each is the first, the second, the last of a connection as often as the others.
            let of = (of + n) % names.len();
            let step = guess(&mut wire, &server.profile("alice"), names[of]).await;
            for (times, took) in times[of].iter_mut().zip(step) {
                times.push(took);
            }
        }
    }
    let [real, disabled, unknown] = times;
    for (step, what) in ["first AUTH to CHALLENGE", "last AUTH to ERROR"].iter().enumerate() {
        report(&format!("C2 {what}: real, unknown"), &real[step], &unknown[step]);
        report(&format!("C2 {what}: disabled, unknown"), &disabled[step], &unknown[step]);
    }
    compare_proofs();
}

/// A sign-in that fails: how long the answer to each of its steps took, in seconds.
async fn guess(wire: &mut Wire, profile: &Profile, name: &str) -> [f64; 2] {
    let first = format!("n,,n={name},r=abcdefghijkl").into_bytes();
    let start = Instant::now();
    wire.send(1, first_auth(profile, 1, "SCRAM-SHA-256", first)).await;
    let Command::Challenge(challenge) = wire.next().await.command else { panic!("no challenge") };
    let challenged = start.elapsed();
    let nonce = std::str::from_utf8(&challenge.data).unwrap().split(',').next().unwrap().to_owned();
    let proof = format!("c=biws,{nonce},p={}=", "A".repeat(43)).into_bytes();
    let start = Instant::now();
    wire.send(2, next_auth(proof)).await;
    let Command::Error(_) = wire.next().await.command else { panic!("no error") };
    [challenged.as_secs_f64(), start.elapsed().as_secs_f64()]
}

/// Proofs of a ticket that are wrong from some octet on.
fn compare_proofs() {
    let (ticket, exporter) = (Ticket::new(SessionId([1; 16]), [2; 32]), [3; 32]);
    let right = ticket.client_proof(&exporter);
    let wrong_from = |at: usize| {
        let mut proof = right;
        proof[at..].iter_mut().for_each(|octet| *octet ^= 0xff);
        proof
    };
    let prefixes = [0, 8, 16, 31];
    let proofs = prefixes.map(wrong_from);
    let mut times = [(); 4].map(|()| Vec::new());
    for n in 0..TRIES {
        for of in 0..proofs.len() {
            // Nobody has always the same one before it.
            let of = of ^ (n % proofs.len());
            let start = Instant::now();
            for _ in 0..BATCH {
                let proof = std::hint::black_box(&proofs[of]);
                std::hint::black_box(ticket.is_proven_by_client(&exporter, proof));
            }
            times[of].push(start.elapsed().as_secs_f64());
        }
    }
    for (prefix, times_of) in prefixes.iter().zip(&times).skip(1) {
        report(&format!("C3 none, {prefix} octets right"), &times[0], times_of);
    }
}

fn report(what: &str, one: &[f64], other: &[f64]) {
    println!("{what}: {}", compared(one, other));
}
