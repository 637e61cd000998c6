//! What strangers can use up before they sign in: faults B1 to B9.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use impp_protocol::command::Ping;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, first_auth, next_auth};
use impp_tests::server::{Profile, imppd};
use impp_tests::wire::{Dial, Wire, hello};
use impp_tests::{DEADLINE, Server, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::domain_policy::reload;

/// What all connections that have not signed in may use together.
const UNSIGNED_BYTES_MAX: u64 = 96 * 1024 * 1024;
/// From one address, by default.
pub(crate) const PER_ADDRESS_MAX: usize = 32;

/// The n-th of the addresses that strangers come from.
pub(crate) fn source(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1 + (n / 250) as u8, 1 + (n % 250) as u8)
}

/// Opens sockets from many addresses, as many as may come from each.
pub(crate) async fn crowd(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut crowd = Vec::with_capacity(count);
    for n in 0..count {
        let dial = Dial::to(server).from(source(n / PER_ADDRESS_MAX));
        crowd.push(dial.tcp().await.expect("a TCP connection"));
    }
    crowd
}

/// Whether the server has closed it.
pub(crate) fn is_closed(stream: &TcpStream) -> bool {
    let mut buffer = [0; 64];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

pub(crate) fn closed(crowd: &[TcpStream]) -> usize {
    crowd.iter().filter(|stream| is_closed(stream)).count()
}

/// What comes until the server closes.
pub(crate) async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    // A reset is an end too.
    let _ = read.expect("the server closes");
    bytes
}

/// Of 2,100 silent sockets, 2,048 are kept, and for each further one that has fewer beside it the
/// oldest of others is closed; they do not use more memory than is allowed to all, who is signed in is
/// served, and whoever comes from elsewhere is let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_silent_connections_are_bounded_and_harm_nobody() {
    let server = Server::with().set("limits.sign_in_seconds", 3600).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let before = server.resident_bytes();
    let silent = crowd(&server, 2100).await;
    eventually("52 of 2,100 to be closed", async || (closed(&silent) >= 52).then_some(())).await;
    alice.done(Ping::empty()).await;
    assert_eq!(closed(&silent), 52);
    assert_eq!(server.metrics().get("impp_crowded_total"), 52.0);
    let used = server.resident_bytes().saturating_sub(before);
    assert!(used < UNSIGNED_BYTES_MAX, "{used} bytes");
    Peer::sign_in_from(&server, "bob", Ipv4Addr::new(127, 0, 99, 1))
        .await
        .done(Ping::empty())
        .await;
    eventually("one to make way", async || (closed(&silent) == 53).then_some(())).await;
    alice.send("bob@localhost", "in the crowd").await;
}

/// A ClientHello that drips is cut at the deadline, which counts from the connection and not from
/// the last byte.
#[tokio::test]
async fn b2_a_slow_client_hello_is_cut_at_the_deadline() {
    let server = Server::with().set("limits.sign_in_seconds", 3).start();
    let mut stream = Dial::to(&server).tcp().await.unwrap();
    // A record of 512 bytes with a ClientHello of 508, which never comes whole.
    let mut drip = [22, 3, 1, 2, 0, 1, 0, 1, 252].into_iter().chain(std::iter::repeat(3));
    let (start, mut sent) = (Instant::now(), 0);
    while !is_closed(&stream) {
        assert!(start.elapsed() < DEADLINE, "{sent} bytes in {DEADLINE:?} and not cut");
        let _ = stream.write_all(&[drip.next().unwrap()]).await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(sent < 512, "the ClientHello was finished before");
    // Who is through TLS and then silent is cut too, and told.
    let (mut wire, _) = Wire::greeted(&server).await;
    let ending = wire.ending().await;
    let timeout = impp_protocol::command::ByeReason::Timeout;
    assert_eq!(ending.bye.map(|bye| bye.reason), Some(timeout));
}

/// Half ClientHellos on thousands of sockets: what the server uses for them while it has read all
/// of them and can do nothing but wait.
async fn half_client_hellos(records: usize) -> u64 {
    const SOCKETS: usize = 2000;
    const RECORD: usize = 16 * 1024;
    let server = Server::with().set("limits.sign_in_seconds", 3600).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let before = server.resident_bytes();
    // Of a ClientHello of 65,531 bytes, which never comes whole.
    let mut record = [&[22, 3, 1, 64, 0][..], &[3; RECORD]].concat();
    let mut crowd = crowd(&server, SOCKETS).await;
    for n in 0..records {
        record[5..9].copy_from_slice(if n == 0 { &[1, 0, 255, 251] } else { &[3; 4] });
        for stream in &mut crowd {
            let _ = stream.write_all(&record).await;
        }
    }
    eventually("all to be read or cut", async || {
        let unread = server.unread();
        unread.iter().all(|bytes| *bytes == 0).then_some(())
    })
    .await;
    alice.send("bob@localhost", "in the crowd").await;
    let used = server.resident_bytes().saturating_sub(before);
    drop(crowd);
    eventually("a place", async || Peer::try_sign_in(&server, "bob").await).await;
    used
}

/// Half ClientHellos of 16 KB on thousands of sockets use no more than is allowed to all who have
/// not signed in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_half_client_hellos_are_bounded_in_memory() {
    let used = half_client_hellos(1).await;
    assert!(used <= UNSIGNED_BYTES_MAX, "{used} bytes, allowed are {UNSIGNED_BYTES_MAX}");
}

/// The same, when each goes on to almost 64 KB, the longest that TLS takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_long_half_client_hellos_are_bounded_in_memory() {
    let used = half_client_hellos(3).await;
    assert!(used <= UNSIGNED_BYTES_MAX, "{used} bytes, allowed are {UNSIGNED_BYTES_MAX}");
}

/// A ClientHello in records of one byte is taken or refused, and the server lives.
#[tokio::test]
async fn b5_a_client_hello_in_small_pieces_harms_nobody() {
    let server = Server::quickstart();
    let mut stream = Dial::to(&server).tcp().await.unwrap();
    for byte in [1, 0, 1, 252].into_iter().chain([3; 100]) {
        let _ = stream.write_all(&[22, 3, 1, 0, 1, byte]).await;
    }
    drop(stream);
    Peer::sign_in(&server, "alice").await.done(Ping::empty()).await;
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

/// What is not TLS gets a TLS alert and the end, and one line in the log for its source.
#[tokio::test]
async fn b6_what_is_no_tls_gets_an_alert_and_is_closed() {
    let server = Server::quickstart();
    let mut random = [0; 512];
    getrandom::fill(&mut random).unwrap();
    // Not by chance the head of a handshake record.
    random[0] = 0xff;
    let texts: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00\x00\x08\x01\x00\x02\x00\x01",
        &random,
    ];
    for text in texts {
        for _ in 0..3 {
            let mut stream = Dial::to(&server).tcp().await.unwrap();
            stream.write_all(text).await.unwrap();
            let answer = until_closed(&mut stream).await;
            // Content type alert, level fatal; a reset may have taken it away.
            let alert = answer.len() == 7 && answer[0] == 21 && answer[5] == 2;
            assert!(alert || answer.is_empty(), "{answer:?} to {text:?}");
        }
    }
    let mut stream = Dial::to(&server).tcp().await.unwrap();
    stream.write_all(texts[0]).await.unwrap();
    assert_eq!(until_closed(&mut stream).await.first(), Some(&21), "no alert for plain HTTP");
    Peer::sign_in(&server, "alice").await.done(Ping::empty()).await;
    let log = server.stderr();
    let complaints = log.lines().filter(|line| line.contains("no TLS connection")).count();
    assert_eq!(complaints, 1, "{log}");
    assert!(!log.contains("OpenSSH"), "{log}");
}

/// Thousands who connect and fail leave nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b7_failed_sign_ins_leave_nothing_behind() {
    const ROUND: usize = 1000;
    const GROWTH_BYTES_MAX: u64 = 4 * 1024 * 1024;
    let server = Server::with().set("limits.failed_sign_in_wait_seconds", 0).start();
    let mut profile = server.profile("alice");
    let mut resident = Vec::new();
    for round in 0..4 {
        for n in 0..ROUND {
            // Now an account that is, now one that is not.
            profile.address = if n % 2 == 0 { "alice".into() } else { format!("u{round}-{n}") };
            fail(&server, &profile.address).await;
        }
        eventually("all connections to be gone", async || {
            (server.metrics().get("impp_connections") == 0.0).then_some(())
        })
        .await;
        resident.push(server.resident_bytes());
    }
    // The first round warms up: tickets, pools, tables.
    let growth = resident[3].saturating_sub(resident[1]);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes in {} cycles: {resident:?}", 2 * ROUND);
    assert_eq!(server.metrics().get("impp_sessions"), 0.0);
}

/// Connects, fails to sign in with a proof that is none, and goes.
async fn fail(server: &Server, name: &str) {
    let error = guess(Wire::dial(server).await, &server.profile("bob"), name).await;
    assert_eq!(error.code, impp_protocol::Code::AuthFailed);
}

/// Tries to sign in as `name`, on the first device of a profile, with a proof that is none.
pub(crate) async fn guess(mut wire: Wire, profile: &Profile, name: &str) -> impp_protocol::Error {
    wire.send(0, hello()).await;
    let first = format!("n,,n={name},r=abcdefghijkl").into_bytes();
    wire.send(1, first_auth(profile, 1, "SCRAM-SHA-256", first)).await;
    wire.hello().await;
    let challenge = match wire.next().await.command {
        impp_protocol::Command::Challenge(challenge) => challenge.data,
        impp_protocol::Command::Error(error) => return error,
        other => panic!("{other:?}"),
    };
    let text = std::str::from_utf8(&challenge).unwrap();
    let nonce = text.split(',').next().unwrap();
    let proof = format!("c=biws,{nonce},p={}=", "A".repeat(43));
    wire.send(2, next_auth(proof.into_bytes())).await;
    match wire.next().await.command {
        impp_protocol::Command::Error(error) => error,
        other => panic!("{other:?}"),
    }
}

/// With every file of the process in use that clients may have, who is signed in is served, and so are
/// the administrator and the monitor; when there are files again, so are strangers.
#[tokio::test]
async fn b8_g11_without_free_files_the_server_lives_on() {
    let server = Server::with().set("limits.sign_in_seconds", 3600).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.send("bob@localhost", "before").await;
    server.limit_files(server.open_files() + 10);
    let crowd = crowd(&server, 64).await;
    eventually("all files to be in use", async || {
        (server.stderr().contains("too many files are open")).then_some(())
    })
    .await;
    for n in 0..20 {
        alice.send("bob@localhost", &n.to_string()).await;
    }
    // Descriptors are kept for the operator, and for whoever looks at the server's health.
    for _ in 0..5 {
        assert_eq!(server.http("/healthz").0, 200);
        server.user_ok(&["list"]);
        let config = server.config().display().to_string();
        let reloaded = imppd(&["reload", "--config", &config]);
        assert_eq!(reloaded.status.code(), Some(0), "{reloaded:?}");
    }
    drop(crowd);
    eventually("a stranger to be served", async || Peer::try_sign_in(&server, "bob").await).await;
    let listed = server.user(&["list"]);
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    assert_eq!(server.http("/healthz").0, 200);
}

/// The server takes as many files as the system allows, and says so if those are few.
#[tokio::test]
async fn b8_as_many_files_as_the_system_allows() {
    let under = |limit: &str| {
        let script = format!("ulimit {limit}; exec \"$@\"");
        Server::with().under(["sh", "-c", &script, "sh"].map(Into::into).to_vec()).start()
    };
    let limits = |server: &Server| {
        let text = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().skip(3).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let words = "few files may be open";
    let many = under("-Sn 300");
    let raised = limits(&many);
    assert_eq!(raised[0], raised[1]);
    assert_ne!(raised[0], "300");
    let few = under("-n 300");
    assert_eq!(limits(&few), ["300", "300"]);
    eventually("a warning", async || few.stderr().contains(words).then_some(())).await;
    assert_eq!(many.stderr().contains(words), raised[0].parse().is_ok_and(|n: u64| n < 2112));
}

/// Whoever says nothing at the HTTP port uses up no files, and keeps nobody from an answer for long.
#[tokio::test]
async fn b8_silent_connections_to_the_http_port_are_bounded() {
    let server = Server::quickstart();
    let before = server.open_files();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.http_address()).await.unwrap());
    }
    assert_eq!(server.http("/healthz").0, 200);
    assert!(server.open_files() < before + 50, "{} and {before}", server.open_files());
}

/// A server without a place for one more, and one that does not host the domain: the client says which.
#[tokio::test]
async fn b9_crowded_and_not_hosted_are_said_each_in_its_words() {
    let server = Server::with().set("limits.sign_in_seconds", 3600).start();
    let other = server.profile_path("alice").with_file_name("other.toml");
    let profile = std::fs::read_to_string(server.profile_path("alice")).unwrap();
    std::fs::copy(server.profile_path("alice"), &other).unwrap();
    std::fs::write(&other, profile.replace("alice@localhost", "alice@other.example")).unwrap();
    let ran = Impp::with_profile(&other).run(&["status", "show"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("does not serve other.example"), "{ran:?}");
    let here = Dial::to(&server);
    let mut waiting = Vec::new();
    for _ in 0..PER_ADDRESS_MAX {
        waiting.push(here.connect().await.unwrap());
    }
    // The end may overtake the alert, which the client is not told then.
    eventually("words about a lack of places", async || {
        let ran = Impp::of(&server, "alice").run(&["status", "show"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(!ran.stderr.contains("does not serve"), "{ran:?}");
        (ran.stderr.contains("no place") && ran.stderr.contains("try again later")).then_some(())
    })
    .await;
}

/// The 33rd that waits at one address is refused with an alert, while others are served.
#[tokio::test]
async fn b9_the_33rd_from_one_address_is_refused() {
    let server = Server::with().set("limits.sign_in_seconds", 3600).start();
    let here = Dial::to(&server).from(Ipv4Addr::new(127, 0, 7, 1));
    let mut waiting = Vec::new();
    for _ in 0..PER_ADDRESS_MAX {
        waiting.push(here.connect().await.unwrap());
    }
    let mut refused = here.tcp().await.unwrap();
    assert_eq!(until_closed(&mut refused).await, [21, 3, 3, 0, 2, 2, 80], "internal error");
    assert!(here.connect().await.is_err());
    Peer::sign_in_from(&server, "alice", Ipv4Addr::new(127, 0, 7, 2))
        .await
        .done(Ping::empty())
        .await;
    // Who signs in makes room.
    let wire = waiting.pop().unwrap();
    let mut bob = Peer::over(wire, &server.profile("bob"), 1).await.unwrap();
    here.connect().await.unwrap();
    bob.done(Ping::empty()).await;
}

/// Clients and servers come to one port and are told apart by the protocol's name: without it,
/// or with another, nobody gets in who does not call a name of the web.
#[tokio::test]
async fn f15_a_connection_without_the_protocols_name_is_refused() {
    let server = Server::quickstart();
    server.set_domain("web", None);
    assert_eq!(reload(&server).0, Some(0));
    for names in [&[&b"h2"[..]][..], &[b"impp-s2s/1"], &[]] {
        let Ok(mut wire) = Dial::to(&server).alpn(names).connect().await else { continue };
        wire.send(0, hello()).await;
        assert!(wire.frame().await.is_none(), "served although it offered {names:?}");
    }
}
