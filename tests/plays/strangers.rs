//! What strangers can take from others, who try to sign in or are signed in: faults B1, B4, B9, B12
//! and C7. What they can use up is in `before_sign_in`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use impp_protocol::command::{ByeReason, Ping};
use impp_protocol::{Code, Command, Error};
use impp_tests::peer::{Peer, first_auth};
use impp_tests::wire::{Dial, Wire, bytes_of, hello, raw_frame};
use impp_tests::{Server, eventually};
use rustls::HandshakeKind;
use tokio::io::AsyncWriteExt;

use crate::before_sign_in::{PER_ADDRESS_MAX, closed, crowd, guess, is_closed, source};
use crate::settings::Setting;

/// A first AUTH of alice's, as its frame.
fn begins(server: &Server, number: u64) -> Vec<u8> {
    let first = b"n,,n=alice,r=abcdefghijkl".to_vec();
    bytes_of(number, first_auth(&server.profile("bob"), 1, "SCRAM-SHA-256", first)).to_vec()
}

/// Eighty addresses with as many silent connections as each may have; whoever comes from elsewhere
/// signs in, and who has come so far as TLS is not turned out for the silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_silent_connections_of_many_addresses_keep_nobody_out() {
    let server = Server::with().set("limits.sign_in_seconds", 3600).start();
    let (mut early, _) = Wire::greeted(&server).await;
    let silent = crowd(&server, 80 * PER_ADDRESS_MAX).await;
    let mut peers = Vec::new();
    for n in 0..22 {
        let name = if n % 2 == 0 { "alice" } else { "bob" };
        peers.push(Peer::sign_in_from(&server, name, Ipv4Addr::new(127, 0, 88, 1 + n)).await);
    }
    for peer in &mut peers {
        peer.done(Ping::empty()).await;
    }
    assert!(closed(&silent) >= 512, "{} made way", closed(&silent));
    early.write(&begins(&server, 1)).await;
    assert!(matches!(early.next().await.command, Command::Challenge(_)));
}

/// 320 connections from ten addresses begin to sign in 1,000 times each and read nothing: each is
/// heard three times, and who is signed in is served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_c7_a_sign_in_is_not_begun_anew_for_ever() {
    let server = Server::with().set("limits.sign_in_seconds", 3600).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut flood = bytes_of(0, hello()).to_vec();
    for number in 1..=1000 {
        flood.extend(begins(&server, number));
    }
    let mut wires = Vec::new();
    for n in 0..320 {
        let dial = Dial::to(&server).from(source(n / PER_ADDRESS_MAX));
        wires.push(dial.connect().await.unwrap());
    }
    for wire in &mut wires {
        // The server closes long before it has taken all.
        let _ = wire.try_write(&flood).await;
        alice.done(Ping::empty()).await;
    }
    let gone = async || (server.metrics().get("impp_connections") == 1.0).then_some(());
    eventually("all of them to be closed", gone).await;
    alice.done(Ping::empty()).await;
    // What is answered to one who listens.
    let mut wire = Wire::dial(&server).await;
    wire.write(&bytes_of(0, hello())).await;
    for number in 1..=4 {
        wire.write(&begins(&server, number)).await;
    }
    let ending = wire.ending().await;
    assert_eq!(ending.bye.as_ref().map(|bye| bye.reason), Some(ByeReason::Protocol));
    assert_eq!(ending.errors.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [4], "{ending:?}");
    assert_eq!(ending.code(), Code::AuthFailed);
    // The HELLO, and three challenges.
    assert_eq!(ending.others.len(), 4, "{ending:?}");
}

/// Before sign-in sixteen frames are taken, whatever is in them.
#[tokio::test]
async fn b1_frames_before_sign_in_are_numbered() {
    let server = Server::quickstart();
    let mut wire = Wire::dial(&server).await;
    wire.send(0, hello()).await;
    for number in 1..=16 {
        // A kind that nobody knows: answered, and the connection lives.
        wire.write(&raw_frame(200, number, &[])).await;
    }
    let ending = wire.ending().await;
    assert_eq!(ending.errors.len(), 16, "{ending:?}");
    let codes = |code| ending.errors.iter().filter(|(_, error)| error.code == code).count();
    assert_eq!((codes(Code::Unsupported), codes(Code::RateLimited)), (15, 1));
    assert_eq!(ending.bye.map(|bye| bye.reason), Some(ByeReason::Protocol));
}

/// What is answered to wrong passwords for a name, each from another network.
async fn guesses(server: &Server, name: &str, net: u8) -> Vec<Error> {
    let mut answers = Vec::new();
    while answers.last().is_none_or(|error: &Error| error.code != Code::RateLimited) {
        assert!(answers.len() < 20, "{name} is guessed as often as one likes");
        let from = Ipv4Addr::new(127, net, answers.len() as u8, 1);
        let wire = Dial::to(server).from(from).connect().await.unwrap();
        answers.push(guess(wire, &server.profile("bob"), name).await);
    }
    answers
}

/// Guesses of a name wait, wherever they come from and whether or not there is such an account; the
/// owner gets in on a device that has been there before, and on another one when the wait is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c7_guesses_wait_and_the_owner_does_not() {
    let server = Server::quickstart();
    drop(Peer::sign_in(&server, "alice").await);
    let of_alice = guesses(&server, "alice", 1).await;
    let codes: Vec<Code> = of_alice.iter().map(|error| error.code).collect();
    let failed = Code::AuthFailed;
    assert_eq!(codes, [failed, failed, failed, failed, Code::RateLimited]);
    assert_eq!(of_alice[4].retry_after, Some(Duration::from_secs(1)));
    assert_eq!(guesses(&server, "nobody", 2).await, of_alice);
    server.user_ok(&["disable", "carol@localhost"]);
    assert_eq!(guesses(&server, "carol", 3).await, of_alice);
    // The wait is not over while guesses go on; on a known device she signs in all the same.
    let from = |n| Dial::to(&server).from(Ipv4Addr::new(127, 4, n, 1));
    for n in 0..5 {
        guesses(&server, "alice", 5 + n).await;
        let wire = from(n).connect().await.unwrap();
        Peer::over(wire, &server.profile("alice"), 1).await.unwrap().done(Ping::empty()).await;
    }
    // On a new one, too, once it is.
    let new = async || {
        let wire = from(9).connect().await.unwrap();
        let entered = Peer::over(wire, &server.profile("alice"), 9).await;
        entered.inspect_err(|error| assert_eq!(error.code, Code::RateLimited)).ok()
    };
    eventually("a new device to sign in", new).await.done(Ping::empty()).await;
}

/// Guesses from one address wait, whomever they are of; others in its network do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_guesses_of_many_names_from_one_address_wait() {
    let server = Server::quickstart();
    let mut failed = 0;
    let here = Dial::to(&server).from(Ipv4Addr::new(127, 0, 66, 1));
    loop {
        let wire = here.connect().await.unwrap();
        let error = guess(wire, &server.profile("bob"), &format!("u{failed}")).await;
        if error.code == Code::RateLimited {
            break;
        }
        assert_eq!(error.code, Code::AuthFailed);
        failed += 1;
        assert!(failed < 100, "names are guessed as fast as one likes");
    }
    let wire = here.connect().await.unwrap();
    let refused = Peer::over(wire, &server.profile("alice"), 1).await.unwrap_err();
    assert_eq!(refused.code, Code::RateLimited);
    Peer::sign_in_from(&server, "alice", Ipv4Addr::new(127, 0, 66, 2))
        .await
        .done(Ping::empty())
        .await;
    // By now it is a known device, and she does not pay for her neighbours.
    let wire = here.connect().await.unwrap();
    Peer::over(wire, &server.profile("alice"), 1).await.unwrap().done(Ping::empty()).await;
}

/// Who guesses and waits as told is told to wait longer and longer, up to the setting.
pub(crate) async fn who_guesses(setting: Setting) {
    let server = setting.server();
    let mut waits = Vec::new();
    while waits.len() < 4 {
        let error = guess(Wire::dial(&server).await, &server.profile("bob"), "alice").await;
        if let Some(wait) = error.retry_after {
            waits.push(wait.as_secs() as i64);
            tokio::time::sleep(wait).await;
        }
    }
    let most = waits.iter().max().copied();
    assert_eq!((waits[0], most), (1, Some(setting.value)), "{waits:?}");
}

/// A header of the PROXY protocol: for a connection from there, or of the proxy's own.
fn proxied(source: Option<[u8; 4]>) -> Vec<u8> {
    let signature = *b"\r\n\r\n\0\r\nQUIT\n";
    match source {
        None => [&signature[..], &[0x20, 0, 0, 0]].concat(),
        Some(source) => {
            [&signature[..], &[0x21, 0x11, 0, 12], &source, &[127, 0, 0, 1, 9, 9, 10, 218]].concat()
        }
    }
}

/// What a listed proxy says of the source counts, by which the 33rd is refused; what another says, or
/// what it does not say, is no beginning of TLS.
#[tokio::test]
async fn b9_a_proxy_that_is_listed_says_where_a_connection_comes_from() {
    let proxies = toml_edit::Array::from_iter(["127.0.0.9"]);
    let server =
        Server::with().set("server.proxies", proxies).set("limits.sign_in_seconds", 3600).start();
    let proxy = Dial::to(&server).from(Ipv4Addr::new(127, 0, 0, 9));
    let of = |last| proxy.clone().before(&proxied(Some([192, 0, 2, last])));
    let mut waiting = Vec::new();
    for _ in 0..PER_ADDRESS_MAX {
        waiting.push(of(1).connect().await.unwrap());
    }
    assert!(of(1).connect().await.is_err(), "the 33rd of one source");
    let wire = of(2).connect().await.unwrap();
    Peer::over(wire, &server.profile("alice"), 1).await.unwrap().done(Ping::empty()).await;
    // The proxy's own looks, as many as it likes to have at once within its own share.
    proxy.clone().before(&proxied(None)).connect().await.unwrap();
    // Without a header, with one that is too long, or with one from where none is believed.
    assert!(proxy.connect().await.is_err());
    let long = [&proxied(None)[..14], &[0xff; 2], &[0; 70_000]].concat();
    assert!(proxy.clone().before(&long).connect().await.is_err());
    let forged = Dial::to(&server).before(&proxied(Some([192, 0, 2, 3])));
    assert!(forged.connect().await.is_err());
    Peer::sign_in(&server, "bob").await.done(Ping::empty()).await;
}

/// Handshakes without an end, from ten addresses at once: no more are begun than the setting says, who
/// is signed in goes on, and whoever comes from elsewhere signs in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_a_flood_of_handshakes_is_capped_and_harms_nobody() {
    const PER_SECOND: u64 = 40;
    let server = Server::with().set("limits.handshakes_per_second", PER_SECOND as i64).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let start = Instant::now();
    let flood: Vec<_> = (0..100)
        .map(|n| {
            let (done, over) = (done.clone(), over.clone());
            let dial = Dial::to(&server).from(source(n % 10));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    done.fetch_add(dial.connect().await.is_ok().into(), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let begun = async || (done.load(Ordering::Relaxed) > PER_SECOND).then_some(());
    eventually("the flood to reach the bound", begun).await;
    for n in 0..100 {
        alice.send("bob@localhost", &n.to_string()).await;
    }
    let mut bob = Peer::sign_in_from(&server, "bob", Ipv4Addr::new(127, 0, 88, 1)).await;
    let (all, took) = (done.load(Ordering::Relaxed), start.elapsed().as_secs() + 1);
    // What a second is allowed, once at the start and then each second; and those of the play itself.
    assert!(all <= PER_SECOND * (took + 1) + 3, "{all} handshakes in {took} s");
    bob.done(Ping::empty()).await;
    alice.done(Ping::empty()).await;
    over.store(true, Ordering::Relaxed);
    for one in flood {
        one.await.unwrap();
    }
}

/// A ticket of TLS shortens the next handshake, and is none any more to a server that has started
/// since: that one makes a full handshake, and serves.
#[tokio::test]
async fn b12_old_tickets_of_tls_bring_a_full_handshake() {
    let mut server = Server::quickstart();
    let dial = Dial::to(&server);
    let mut kinds = Vec::new();
    for restart in [false, false, true] {
        if restart {
            server.kill9();
            server.restart();
        }
        let mut wire = dial.connect().await.unwrap();
        kinds.push(wire.tls().handshake_kind());
        // Tickets come before it.
        wire.send(0, hello()).await;
        wire.hello().await;
    }
    let [full, resumed] = [HandshakeKind::Full, HandshakeKind::Resumed].map(Some);
    assert_eq!(kinds, [full, resumed, full]);
}

/// Keys that are changed for ever, before and after sign-in, end that connection and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b12_key_updates_without_end_end_the_connection() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let (stranger, _) = Wire::greeted(&server).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    for wire in [&mut { stranger }, bob.wire()] {
        let mut updates = 0;
        while wire.update_keys().await.is_ok() {
            updates += 1;
            assert!(updates < 100_000, "{updates} are taken");
            if updates % 100 == 0 {
                alice.done(Ping::empty()).await;
            }
        }
    }
    alice.done(Ping::empty()).await;
}

/// One more than may come from one /48 is closed, though its address has places left.
pub(crate) async fn one_more_of_a_network(setting: Setting) {
    let mut server = setting.on(Server::with()).start();
    let Ok(here) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return impp_tests::wait::skipped("this machine has no IPv6");
    };
    let address = here.local_addr().unwrap();
    drop(here);
    server.stop();
    server.move_to(Some(address));
    server.restart();
    let mut waiting = Vec::new();
    for _ in 0..setting.value {
        waiting.push(Dial::to(&server).connect().await.unwrap());
    }
    assert!(Dial::to(&server).connect().await.is_err(), "one more");
    waiting.pop();
    let again = async || Dial::to(&server).connect().await.ok();
    eventually("a place", again).await;
}

/// With a crowd before it that wants more handshakes than are begun, who comes from elsewhere is served
/// in its turn, which is long before the crowd is through; who is signed in is served anyway.
pub(crate) async fn handshakes(setting: Setting) {
    const CROWD: usize = 8 * PER_ADDRESS_MAX;
    let server = setting.on(Server::with()).set("limits.sign_in_seconds", 3600).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut waiting = crowd(&server, CROWD).await;
    let hello = Dial::to(&server).client_hello();
    for stream in &mut waiting {
        stream.write_all(&hello).await.unwrap();
    }
    alice.done(Ping::empty()).await;
    Peer::sign_in_from(&server, "bob", Ipv4Addr::new(127, 0, 88, 1))
        .await
        .done(Ping::empty())
        .await;
    // Of the crowd, whose handshake was begun has been sent the server's part of it.
    let begun = waiting.iter().filter(|stream| stream.try_read(&mut [0; 1]).is_ok()).count();
    assert!(begun < CROWD / 2, "{begun} of {CROWD} were served before");
    assert!(!waiting.iter().any(is_closed), "who waits for its turn was turned away");
    alice.done(Ping::empty()).await;
}

/// A stop waits for nobody who is on its way: a connection that says nothing, one that begins a
/// handshake, servers that do not say who they are.
#[tokio::test]
async fn i4_a_stop_does_not_wait_for_handshakes() {
    let mut server = Server::with()
        .set("limits.sign_in_seconds", 3600)
        .set("limits.handshakes_per_second", 1)
        .start();
    let (silent, mut half) =
        (Dial::to(&server).tcp().await.unwrap(), Dial::to(&server).tcp().await.unwrap());
    half.write_all(&Dial::to(&server).client_hello()[..100]).await.unwrap();
    let past = Dial::to(&server).connect().await.unwrap();
    let link = Dial::to(&server).alpn(&[b"impp-s2s/1"]).connect().await;
    let mut turns = crowd(&server, 20).await;
    for stream in &mut turns {
        stream.write_all(&Dial::to(&server).client_hello()).await.unwrap();
    }
    server.told_to_stop();
    let (status, stderr) = server.ended();
    assert!(status.success(), "{stderr}");
    assert!(!stderr.contains("did not end in time"), "{stderr}");
    drop((silent, half, past, link, turns));
}
