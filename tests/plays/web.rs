//! The web door: who is answered by HTTP on the port of the protocol, by which name and certificate, and how
//! little of it is to be had before anybody has signed in.

use std::io;
use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use impp_protocol::command::Ping;
use impp_protocol::{ALPN_CLIENT, Timestamp};
use impp_tests::server::{imppd, refused_start};
use impp_tests::wait::within;
use impp_tests::wire::{Dial, Wire};
use impp_tests::{Authority, Peer, Server, eventually};
use rcgen::date_time_ymd;
use rustls::{AlertDescription, HandshakeKind};
use serde_json::Value;
use toml_edit::Array;

use crate::domain_policy::reload;

const HTTP: &[u8] = b"http/1.1";
/// A name that the certificate of the domain is not for.
const CHAT: &str = "chat.example";

fn web(server: &Server) -> Dial {
    Dial::to(server).alpn(&[HTTP])
}

fn names(names: &[&str]) -> Option<toml_edit::Value> {
    Some(Array::from_iter(names.iter().copied()).into())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// All that comes on a connection to its end.
async fn rest(wire: &mut Wire) -> String {
    let mut all = Vec::new();
    loop {
        let some = wire.some(4096).await;
        if some.is_empty() {
            return String::from_utf8(all).unwrap();
        }
        all.extend_from_slice(&some);
    }
}

/// What is answered to this, on a connection of its own.
async fn told(dial: &Dial, request: &str) -> String {
    let mut wire = dial.connect().await.unwrap();
    wire.write(request.as_bytes()).await;
    rest(&mut wire).await
}

fn status(answer: &str) -> u16 {
    let line = answer.lines().next().unwrap_or_default();
    line.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)?.parse().ok()).unwrap_or_default()
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Gives the web a name, and a pair of its own from an authority that the server's folder then holds as
/// `chat-ca.pem`.
fn chat(server: &Server, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Dial {
    let authority = Authority::new("of the web");
    let made = authority.issue_with(&[CHAT], change);
    let tls = server.data().join("tls");
    // A file of which only the owner may read, as the key of before.
    std::fs::copy(tls.join("key.pem"), tls.join("chat-key.pem")).unwrap();
    std::fs::write(tls.join("chat-key.pem"), made.key).unwrap();
    std::fs::write(tls.join("chat.pem"), made.certificate).unwrap();
    std::fs::write(tls.join("chat-ca.pem"), &authority.pem).unwrap();
    server.set_domain("web", names(&[CHAT]));
    server.set_domain("web_certificate", Some("tls/chat.pem".into()));
    server.set_domain("web_key", Some("tls/chat-key.pem".into()));
    Dial::new(server.address(), &tls.join("chat-ca.pem")).calling(CHAT).alpn(&[HTTP])
}

fn curl(server: &Server, arguments: &[&str]) -> Output {
    let url = format!("https://localhost:{}/v1/time", server.address().port());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--cacert"]).arg(server.trust());
    curl.args(arguments).arg(url).output().unwrap()
}

/// Quickstart says where it is and whom to trust; curl is told the time there by that alone, and by nothing
/// without.
#[tokio::test]
async fn i1_quickstart_serves_the_web_and_says_where() {
    let server = Server::quickstart();
    let said = format!(
        "web: https://localhost:{}/v1/time (trust {}, or a browser warns of it)",
        server.address().port(),
        server.trust().display()
    );
    server.until_logged(&said, 1).await;
    let output = curl(&server, &[]);
    assert!(output.status.success(), "{output:?}");
    let time: Value = serde_json::from_slice(&output.stdout).unwrap();
    let millis = time["milliseconds"].as_u64().unwrap();
    assert_eq!(Timestamp::parse(time["time"].as_str().unwrap()).unwrap().as_millis(), millis);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    assert!(now.abs_diff(millis) < 60_000, "{time}");
    let unproven = Command::new("curl")
        .args(["--silent", "--cacert", "/dev/null"])
        .arg(format!("https://localhost:{}/v1/time", server.address().port()))
        .output()
        .unwrap();
    assert!(!unproven.status.success(), "{unproven:?}");
    let head = String::from_utf8(curl(&server, &["--head"]).stdout).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for field in ["content-type: application/json\r\n", "cache-control: no-store\r\n"] {
        assert!(head.contains(field), "{field}: {head}");
    }
    // The protocol is spoken on the same port.
    Peer::sign_in(&server, "alice").await.done(Ping::empty()).await;
}

/// Where no domain has a name for it, nothing answers, whoever asks in whatever way; a reload turns it off
/// and on.
#[tokio::test]
async fn b11_without_a_name_no_http_is_spoken() {
    let server = Server::quickstart();
    assert_eq!(status(&told(&web(&server), &get("/v1/time")).await), 200);
    server.set_domain("web", None);
    assert_eq!(reload(&server), (Some(0), String::new()));
    for offered in [&[HTTP][..], &[b"h2", HTTP], &[b"h2"]] {
        let error = Dial::to(&server).alpn(offered).connect().await.unwrap_err();
        assert_eq!(alert(&error), Some(AlertDescription::NoApplicationProtocol), "{offered:?}");
    }
    assert_eq!(told(&Dial::to(&server).alpn(&[]), &get("/v1/time")).await, "");
    server.set_domain("web", names(&["localhost"]));
    assert_eq!(reload(&server), (Some(0), String::new()));
    assert_eq!(status(&told(&web(&server), &get("/v1/time")).await), 200);
}

/// What is spoken follows from what is offered and who is called: the protocol before HTTP, HTTP for who says
/// nothing, and no HTTP/2.
#[tokio::test]
async fn f15_what_is_spoken_is_what_was_offered() {
    let server = Server::quickstart();
    for (offered, chosen) in [
        (&[HTTP][..], Some(HTTP)),
        (&[b"h2", HTTP], Some(HTTP)),
        (&[], None),
        (&[HTTP, ALPN_CLIENT], Some(ALPN_CLIENT)),
    ] {
        let mut wire = Dial::to(&server).alpn(offered).connect().await.unwrap();
        assert_eq!(wire.tls().alpn_protocol(), chosen, "{offered:?}");
        if chosen != Some(ALPN_CLIENT) {
            wire.write(get("/v1/time").as_bytes()).await;
            assert_eq!(status(&rest(&mut wire).await), 200, "{offered:?}");
        }
    }
    for offered in [&[&b"h2"[..]][..], &[b"http/1.0"], &[b"impp-s2s/1"]] {
        let error = Dial::to(&server).alpn(offered).connect().await.unwrap_err();
        assert_eq!(alert(&error), Some(AlertDescription::NoApplicationProtocol), "{offered:?}");
    }
}

/// A name of the web has its own pair; by the domain's name no HTTP is spoken then, and the protocol not by
/// that of the web.
#[tokio::test]
async fn b11_the_web_is_called_by_its_names_alone() {
    let server = Server::quickstart();
    let dial = chat(&server, |_| {});
    assert_eq!(reload(&server), (Some(0), String::new()));
    let request = "GET /v1/time HTTP/1.1\r\nHost: CHAT.example:443\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&told(&dial, request).await), 200);
    assert_eq!(status(&told(&dial.clone().alpn(&[]), request).await), 200);
    let error = web(&server).connect().await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::NoApplicationProtocol));
    assert_eq!(told(&Dial::to(&server).alpn(&[]), &get("/v1/time")).await, "");
    assert!(dial.clone().alpn(&[ALPN_CLIENT]).connect().await.is_err());
    assert!(dial.calling("other.example").connect().await.is_err());
    Peer::sign_in(&server, "alice").await.done(Ping::empty()).await;
}

/// Names that no pair is for are refused by check, reload and start, each in words; one that does not hold
/// today is told of.
#[tokio::test]
async fn i1_a_name_needs_a_certificate() {
    let mut server = Server::quickstart();
    let config = server.config().display().to_string();
    let check = || String::from_utf8(imppd(&["check", "--config", &config]).stdout).unwrap();
    let dial = chat(&server, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let (code, words) = reload(&server);
    assert!(code == Some(0) && words.contains("chat.pem: the certificate of localhost"), "{words}");
    assert!(check().contains("the certificate of the web of localhost has expired"), "{}", check());
    // It is shown all the same, and who looks refuses it.
    assert!(alert(&dial.connect().await.unwrap_err()).is_none());
    server.set_domain("web_certificate", None);
    server.set_domain("web_key", None);
    let words = "is no certificate for chat.example";
    let (code, told) = reload(&server);
    assert!(code == Some(2) && told.contains(words) && told.contains("web_certificate"), "{told}");
    assert!(check().contains(words), "{}", check());
    server.stop();
    let (code, told) = refused_start(&["serve", "--config", &config]);
    assert!(code == Some(2) && told.contains(words), "{code:?}: {told}");
}

/// A request that is none, is for another name, or asks for what is not there.
#[tokio::test]
async fn b6_what_is_asked_wrongly_is_told_as_a_problem() {
    let server = Server::quickstart();
    let dial = web(&server);
    let head =
        |line: &str, fields: &str| format!("{line} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
    let here = "Host: localhost\r\n";
    let long = format!("{here}X: {}\r\n", "x".repeat(9000));
    let many = format!("{here}{}", "X: x\r\n".repeat(70));
    for (line, fields, status_of, code) in [
        ("GET /v1/time", "", 400, "malformed"),
        ("GET /v1/time", "Host: localhost\r\nHost: localhost\r\n", 400, "malformed"),
        ("GET /v1/time", "Host:\r\n", 400, "malformed"),
        ("GET /v1/time", "Host: a@localhost\r\n", 400, "malformed"),
        ("GET /v1/time", "Host: localhost/x\r\n", 400, "malformed"),
        ("GET /v1/time", "Host: b.example\r\n", 421, "not-offered"),
        ("GET /v1/time", "Host: 127.0.0.1:2778\r\n", 421, "not-offered"),
        ("GET https://b.example/v1/time", here, 421, "not-offered"),
        ("GET https://localhost/v1/time", here, 200, ""),
        ("GET /v1/time?x=y", "Host: LOCALHOST:1\r\n", 200, ""),
        ("GET /", here, 404, "not-found"),
        ("GET /v1", here, 404, "not-found"),
        ("GET /v2/time", here, 404, "not-found"),
        ("GET /v1/../metrics", here, 404, "not-found"),
        ("OPTIONS *", here, 404, "not-found"),
        ("POST /v1/time", here, 405, "unsupported"),
        ("CONNECT localhost:443", here, 404, "not-found"),
        ("GET /v1/time", "Host: localhost\r\nContent-Length: 3\r\n", 413, "too-large"),
        ("GET /v1/time", "Host: localhost\r\nTransfer-Encoding: chunked\r\n", 413, "too-large"),
        ("GET /v1/time", "Host: localhost\r\nContent-Length: x\r\n", 400, ""),
        ("GET /v1/time", "Host: local\x00host\r\n", 400, ""),
        ("GET /v1/time", &long, 431, ""),
        ("GET /v1/time", &many, 431, ""),
        ("what is this", here, 400, ""),
    ] {
        let answer = told(&dial, &head(line, fields)).await;
        assert_eq!(status(&answer), status_of, "{line} {fields:?}: {answer}");
        if !code.is_empty() {
            let lower = answer.to_lowercase();
            let problem = body(&answer);
            assert!(lower.contains("content-type: application/problem+json\r\n"), "{answer}");
            assert!(lower.contains("cache-control: no-store\r\n"), "{answer}");
            assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status_of.into()));
            assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        }
    }
    let answer = told(&dial, &head("POST /v1/time", here)).await.to_lowercase();
    assert!(answer.contains("allow: get,head\r\n"), "{answer}");
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

/// So much is answered on one connection and no more; what comes behind is not read.
#[tokio::test]
async fn b4_a_connection_asks_so_often_and_no_more() {
    let server = Server::quickstart();
    let mut wire = web(&server).connect().await.unwrap();
    let one = "GET /v1/time HTTP/1.1\r\nHost: localhost\r\n\r\n";
    wire.write(one.repeat(100).as_bytes()).await;
    let all = rest(&mut wire).await;
    assert_eq!(all.matches("HTTP/1.1 200").count(), 64);
    assert_eq!(all.matches("connection: close").count(), 1);
}

/// Who asks nothing, or never ends, is closed, as are all when the time before sign-in is over; each has one
/// of the places of those who have not signed in until then, and gives it back.
#[tokio::test]
async fn b4_who_stays_has_a_place_and_not_for_long() {
    let server = Server::with()
        .set("limits.unsigned_per_address_max", 3)
        .set("limits.sign_in_seconds", 3)
        .start();
    let dial = web(&server);
    let begun = Instant::now();
    let mut silent = dial.connect().await.unwrap();
    let mut half = dial.connect().await.unwrap();
    half.write(b"GET /v1/time HTTP/1.1\r\nHost: loc").await;
    let mut kept = dial.connect().await.unwrap();
    kept.write(b"GET /v1/time HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status(std::str::from_utf8(&kept.some(4096).await).unwrap()), 200);
    assert!(dial.connect().await.is_err());
    // Others have theirs.
    let other = dial.clone().from(Ipv4Addr::new(127, 0, 0, 9));
    assert_eq!(status(&told(&other, &get("/v1/time")).await), 200);
    for wire in [&mut silent, &mut half, &mut kept] {
        let end = rest(wire).await;
        assert!(end.is_empty() || status(&end) == 408, "{end}");
    }
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    let again = eventually("a place", async || dial.connect().await.ok()).await;
    drop(again);
    let connections = async || (server.metrics().get("impp_connections") == 0.0).then_some(());
    eventually("nobody is connected", connections).await;
}

/// A stop waits for nobody who only stays.
#[tokio::test]
async fn i4_a_stop_ends_connections_of_the_web() {
    let mut server = Server::with().set("limits.sign_in_seconds", 600).start();
    let mut wire = web(&server).connect().await.unwrap();
    wire.write(b"GET /v1/time HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status(std::str::from_utf8(&wire.some(4096).await).unwrap()), 200);
    server.told_to_stop();
    assert!(within("the end", wire.some(1)).await.is_empty());
    assert!(server.ended().0.success());
}

/// The web asks nobody for a certificate, and what it lets one resume is its own.
#[tokio::test]
async fn f15_the_web_and_clients_share_nothing() {
    let mut server = Server::quickstart();
    std::fs::write(server.data().join("clients.pem"), Authority::new("of clients").pem).unwrap();
    server.stop();
    server.set("tls.client_ca", "clients.pem");
    server.restart();
    let strange = Authority::new("of nobody").issue(&["localhost"]);
    let presenting = Dial::to(&server).presenting(&strange.certificate, &strange.key);
    assert_eq!(status(&told(&presenting.clone().alpn(&[HTTP]), &get("/v1/time")).await), 200);
    // Clients are refused by it, and may see so only when they read.
    if let Ok(mut wire) = presenting.connect().await {
        assert!(wire.frame().await.is_none());
    }
    // One store of what can be resumed, offered at both.
    let dial = Dial::to(&server);
    let kinds = async |names: &[&[u8]]| {
        let mut wire = dial.clone().alpn(names).connect().await.unwrap();
        let kind = wire.tls().handshake_kind();
        if names == [HTTP] {
            wire.write(get("/v1/time").as_bytes()).await;
            assert_eq!(status(&rest(&mut wire).await), 200);
        }
        kind
    };
    assert_eq!(kinds(&[HTTP]).await, Some(HandshakeKind::Full));
    assert_eq!(kinds(&[HTTP]).await, Some(HandshakeKind::Resumed));
    assert_eq!(kinds(&[ALPN_CLIENT]).await, Some(HandshakeKind::Full));
}
