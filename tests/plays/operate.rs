//! What an operator does: reload, stop, look; and what must never be seen.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use impp_protocol::What;
use impp_protocol::command::{ByeReason, Ping};
use impp_protocol::presence::{Document, FieldName, PartId, Patch};
use impp_protocol::state::SubscriptionState;
use impp_tests::authority::Authority;
use impp_tests::eventually;
use impp_tests::peer::{Peer, endings, fetch, publish, subscribe};
use impp_tests::server::{Server, imppd};
use impp_tests::trace::Trace;
use impp_tests::wire::Dial;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use serde_json::Value;

fn reload(server: &Server) -> (Option<i32>, String) {
    let config = server.config();
    let output = imppd(&["reload", "--config", config.to_str().unwrap()]);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn open_with(note: &str) -> Patch {
    let mut document = Document::default();
    let field = |name: &str, value: &str| (FieldName::parse(name).unwrap(), value.into());
    document
        .tuples
        .insert(PartId::parse("t").unwrap(), [field("status", "open")].into_iter().collect());
    document.person.extend([field("note", note)]);
    Patch::between(&Document::default(), &document)
}

/// A bad file leaves everything as it was, and is named with its line; a good one is taken.
#[tokio::test]
async fn i1_a_bad_reload_changes_nothing() {
    let server = Server::quickstart();
    let good = std::fs::read_to_string(server.config()).unwrap();
    let line = 1 + good.lines().position(|line| line.starts_with("devices_max")).unwrap();
    let wrong = [
        ("devices_max = 16", "devces_max = 16", format!(":{line}: unknown key \"devces_max\"")),
        ("devices_max = 16", "devices_max = \"x\"", format!(":{line}: ")),
        ("devices_max = 16", "devices_max = ", format!(":{line}: ")),
        ("tls/key.pem", "tls/ca-key.pem", "ca-key.pem".to_owned()),
        ("tls/key.pem", "tls/none.pem", "none.pem".to_owned()),
    ];
    for (from, to, expected) in wrong {
        std::fs::write(server.config(), good.replace(from, to)).unwrap();
        let (code, words) = reload(&server);
        assert_eq!(code, Some(2), "{to}: {words}");
        assert!(words.contains(&expected), "{to}: {words}");
        Peer::sign_in(&server, "alice").await.leave().await;
    }
    std::fs::write(server.config(), good.replace("sessions_max = 64", "sessions_max = 1")).unwrap();
    assert_eq!(reload(&server), (Some(0), String::new()));
    let first = Peer::sign_in_on(&server, "bob", 1).await;
    let wire = impp_tests::wire::Wire::dial(&server).await;
    let second = Peer::over(wire, &server.profile("bob"), 2).await;
    assert_eq!(second.expect_err("one session").code, impp_protocol::Code::Full);
    first.leave().await;
}

/// What a reload does not take is named, each setting by itself, and only if the rest was taken.
#[tokio::test]
async fn i1_a_reload_names_what_needs_a_restart() {
    let server = Server::quickstart();
    let good = std::fs::read_to_string(server.config()).unwrap();
    server.set("federation.dns", toml_edit::Array::from_iter(["127.0.0.1:53"]));
    server.set("federation.messages_per_second", 7);
    server.set("limits.devices_max", 0);
    let (code, words) = reload(&server);
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("devices_max = 0") && !words.contains("restart"), "{words}");
    server.set("limits.devices_max", 3);
    let expected = "warning: [federation] dns needs a restart\n\
                    warning: [federation] messages_per_second needs a restart\n";
    for _ in 0..2 {
        assert_eq!(reload(&server), (Some(0), expected.to_owned()));
    }
    assert!(server.stderr().contains("[federation] dns needs a restart"));
    std::fs::write(server.config(), good).unwrap();
    assert_eq!(reload(&server), (Some(0), String::new()));
}

/// A certificate that does not hold today is told by `check`, at a reload and at a start, and
/// refused by none but `check`.
#[tokio::test]
async fn i2_a_certificate_out_of_its_time_is_told() {
    let mut server = Server::quickstart();
    let authority = Authority::new("a play's");
    let install = |change: &dyn Fn(&mut CertificateParams)| {
        let made = authority.issue_with(&["localhost"], |params| change(params));
        let tls = server.data().join("tls");
        std::fs::write(tls.join("cert.pem"), made.certificate).unwrap();
        std::fs::write(tls.join("key.pem"), made.key).unwrap();
        let output = imppd(&["check", "--config", server.config().to_str().unwrap()]);
        let found = String::from_utf8(output.stdout).unwrap();
        let found: Vec<Value> =
            found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of_it = found.into_iter().filter(|finding| finding["area"] == "certificate");
        let errors = of_it.filter(|finding| finding["level"] == "error");
        let errors: Vec<String> = errors.map(|found| found["message"].to_string()).collect();
        (errors.join("; "), reload(&server))
    };
    let (found, taken) = install(&|_| {});
    assert_eq!((&*found, taken), ("", (Some(0), String::new())));
    let (found, (code, words)) = install(&|params| params.not_before = date_time_ymd(2200, 1, 1));
    assert!(found.contains("does not hold before 2200-01-01"), "{found}");
    assert!(code == Some(0) && words.contains("does not hold before 2200"), "{words}");
    let purpose = ExtendedKeyUsagePurpose::ClientAuth;
    let (found, taken) = install(&|params| params.extended_key_usages = vec![purpose.clone()]);
    assert!(found.contains("not for server authentication"), "{found}");
    assert_eq!(taken, (Some(0), String::new()));
    let (found, (code, words)) = install(&|params| params.not_after = date_time_ymd(2020, 1, 1));
    assert!(found.contains("has expired on 2020-01-01"), "{found}");
    assert!(code == Some(0) && words.contains("has expired on 2020"), "{words}");
    server.stop();
    server.restart();
    assert!(server.stderr().contains("has expired on 2020-01-01"));
}

/// Files in each other's place, or that cannot be read, are told in words.
#[tokio::test]
async fn i1_certificates_that_cannot_be_used_are_told_in_words() {
    let server = Server::quickstart();
    let tls = server.data().join("tls");
    std::fs::copy(tls.join("key.pem"), tls.join("cert.pem")).unwrap();
    let (code, words) = reload(&server);
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("cert.pem: holds no certificate, but a key"), "{words}");
    std::fs::remove_file(tls.join("cert.pem")).unwrap();
    let (_, words) = reload(&server);
    assert!(words.contains("cert.pem: cannot be read: there is no such file"), "{words}");
}

/// Who has not signed in is told that the server stops, too, and holds it up no longer than others.
#[tokio::test]
async fn i4_who_has_not_signed_in_is_told_of_a_stop() {
    let mut server = Server::quickstart();
    let silent = impp_tests::wire::Wire::dial(&server).await;
    let (greeted, _) = impp_tests::wire::Wire::greeted(&server).await;
    server.stop();
    for mut wire in [silent, greeted] {
        let bye = wire.ending().await.bye.expect("a BYE");
        assert_eq!(bye.reason, ByeReason::Stopping);
        assert!(bye.retry_after.is_some());
    }
}

/// Who signs in while the disk hangs, and is done only when the server stops already, is told so too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_who_is_just_signing_in_is_told_of_a_stop() {
    let mut server = Server::quickstart();
    let Some(hangs) = Trace::hung_disk(&server) else { return };
    let (wire, profile) = (Dial::to(&server).connect().await.unwrap(), server.profile("alice"));
    let signing_in = tokio::spawn(async move { Peer::over(wire, &profile, 7).await });
    eventually("the sign-in to wait for the disk", async || Trace::holds(&server)).await;
    server.told_to_stop();
    eventually("the stop to begin", async || TcpStream::connect(server.address()).err()).await;
    drop(hangs);
    let alice = signing_in.await.unwrap().expect("a sign-in");
    let bye = alice.ending().await.bye.expect("a BYE");
    assert_eq!(bye.reason, ByeReason::Stopping);
    assert!(bye.retry_after.is_some());
    let (status, stderr) = server.ended();
    assert!(status.success(), "{stderr}");
}

/// New handshakes use the new certificate, old connections live, half a pair is refused.
#[tokio::test]
async fn i2_a_certificate_is_renewed_under_way() {
    let server = Server::quickstart();
    let mut old = Peer::sign_in(&server, "alice").await;
    let other = Server::quickstart();
    for file in ["cert.pem", "ca.pem"] {
        std::fs::copy(other.data().join("tls").join(file), server.data().join("tls").join(file))
            .unwrap();
    }
    let (code, words) = reload(&server);
    assert_eq!(code, Some(2), "half a pair: {words}");
    std::fs::copy(other.data().join("tls/key.pem"), server.data().join("tls/key.pem")).unwrap();
    assert_eq!(reload(&server).0, Some(0));
    // The harness trusts what is in ca.pem now, which is the other server's authority.
    Peer::sign_in(&server, "bob").await.leave().await;
    old.done(Ping::empty()).await;
}

/// SIGTERM with 1,000 clients: each is told when to come back, nothing acknowledged is lost, and
/// presence that was bound to a session is still there after the restart.
#[tokio::test(flavor = "multi_thread")]
async fn i4_an_orderly_stop_with_a_thousand_clients() {
    let start = Server::with().set("limits.sessions_max", 2000).set("limits.unsigned_max", 4000);
    let start = start.set("limits.unsigned_per_address_max", 4000);
    // Nobody answers PINGs while the others sign in.
    let mut server = start.set("times.idle_seconds", 3600).start();
    let mut peers = Vec::new();
    for n in 0..1000 {
        peers.push(Peer::sign_in_on(&server, "bob", (n % 8) as u8).await);
    }
    let mut alice = Peer::sign_in(&server, "alice").await;
    let content = Some(open_with("at my desk").encode());
    alice.done(publish("alice@localhost", What::Presence, content)).await;
    for n in 0..20 {
        alice.send("carol@localhost", &format!("message {n}")).await;
    }
    peers.push(alice);
    // SIGTERM while all of them are there.
    let pid = rustix::process::Pid::from_raw(server.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut waits = BTreeSet::new();
    for ending in endings(peers).await {
        let bye = ending.bye.expect("a BYE");
        assert_eq!(bye.reason, ByeReason::Stopping);
        waits.insert(bye.retry_after.expect("when to come back"));
    }
    assert!(waits.len() > 1, "all were sent to come back at one moment");
    let (status, _) = server.ended();
    assert!(status.success(), "{status:?}");
    server.restart();
    let mut carol = Peer::sign_in(&server, "carol").await;
    assert_eq!(carol.inbox().await.len(), 20);
    let seen = carol.done(fetch("alice@localhost", What::Presence)).await;
    let document = Document::decode(seen.content.expect("a document")).unwrap();
    assert_eq!(&**document.person.get("note").unwrap(), "at my desk");
}

/// A restart makes nobody flap: who was seen open is not shown as closed while its session may
/// return, also after kill -9.
#[tokio::test]
async fn h3_a_restart_shows_nobody_as_closed_who_may_return() {
    let mut server = Server::with().set("times.recovery_seconds", 600).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let content = Some(open_with("here").encode());
    alice.done(publish("alice@localhost", What::Presence, content.clone())).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.done(subscribe("alice@localhost", What::Presence)).await;
    let held = bob.notify().await.version.expect("a version");
    server.kill9();
    server.restart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let mut again = subscribe("alice@localhost", What::Presence);
    again.version = Some(held);
    let done = bob.done(again).await;
    assert_eq!(done.state, Some(SubscriptionState::Active));
    // The fence: an answer that came after whatever there was to tell.
    bob.done(Ping::empty()).await;
    assert!(bob.try_unsolicited().is_none(), "shown as closed while alice may return");
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.done(publish("alice@localhost", What::Presence, content)).await;
    let content = Some(open_with("changed").encode());
    alice.done(publish("alice@localhost", What::Presence, content)).await;
    assert_eq!(bob.notify().await.state, SubscriptionState::Active);
}

/// No secret and no body in what others of the machine can read: arguments, logs, metrics, files.
#[tokio::test]
async fn i7_no_secret_and_no_body_is_seen() {
    let server = Server::with().set("log.level", "trace").start();
    let password = server.profile("alice").password;
    let body = "a body that nobody else should read";
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.send("bob@localhost", body).await;
    alice.refused(impp_tests::peer::message("nobody@localhost", body)).await;
    alice.leave().await;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    let metrics = server.http("/metrics").1;
    for text in [String::from_utf8_lossy(&arguments).into_owned(), metrics, server.stderr()] {
        assert!(!text.contains(&password) && !text.contains(body), "{text}");
    }
    assert!(!server.http("/metrics").1.contains("alice"));
    private(server.data());
    // A key that others may read is refused.
    let key = server.data().join("tls/key.pem");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let (code, words) = reload(&server);
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("key.pem") && words.contains("chmod 600"), "{words}");
}

fn private(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        if path.is_dir() {
            private(&path);
        }
    }
}

/// /healthz says that the server can store.
#[tokio::test]
async fn health_is_told_over_http() {
    let server = Server::quickstart();
    assert_eq!(server.http("/healthz").0, 200);
    assert_eq!(server.http("/nothing").0, 404);
}

/// The documented pair of addresses: both families on one port, in either order, and `check` says
/// beforehand what a start would.
#[tokio::test]
async fn both_families_are_served_on_one_port() {
    let mut server = Server::quickstart();
    let port = server.address().port();
    let pair = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    let check = |server: &Server| {
        let output = imppd(&["check", "--config", server.config().to_str().unwrap()]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for listen in [vec![&pair[0], &pair[1]], vec![&pair[1], &pair[0]], vec![&pair[1]]] {
        server.stop();
        server.set("server.listen", toml_edit::Array::from_iter(listen.iter().copied()));
        let (code, found) = check(&server);
        assert!(code == Some(0) && found.contains("can be listened on"), "{listen:?}: {found}");
        server.restart_on(&listen.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        for family in ["127.0.0.1", "::1"] {
            std::net::TcpStream::connect((family, port)).unwrap();
        }
        Peer::sign_in(&server, "alice").await.leave().await;
    }
    server.stop();
    let taken = std::net::TcpListener::bind(server.address()).unwrap();
    let (code, found) = check(&server);
    assert!(code == Some(1) && found.contains(&format!("listen [::]:{port}: ")), "{found}");
    drop(taken);
    server.set("server.listen", toml_edit::Array::from_iter(["127.0.0.1:1", "0.0.0.0:1"]));
    let (code, found) = check(&server);
    assert!(code == Some(1) && found.contains("is within"), "{found}");
}

/// `check` says of each area whether it will work.
#[tokio::test]
async fn check_finds_what_a_start_would() {
    let server = Server::quickstart();
    let config = server.config();
    let check = || imppd(&["check", "--config", config.to_str().unwrap()]);
    let output = check();
    assert_eq!(output.status.code(), Some(0));
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let finding: serde_json::Value = serde_json::from_str(line).unwrap();
        // Quickstart's passwords are made by machine, and that is all that they may be.
        let level = if finding["area"] == "passwords" { "warn" } else { "ok" };
        assert_eq!(finding["level"], level, "{finding}");
    }
    let found = |text: &str| {
        let stdout = String::from_utf8(check().stdout).unwrap();
        let line = stdout.lines().find(|line| line.contains(text)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {text} in {stdout}"))
    };
    server.set("federation.enabled", false);
    assert!(found("links to other domains are turned off").contains("\"ok\""));
    server.redirect(Some("elsewhere.example"), &["erin"]);
    assert!(found("redirect of localhost: to elsewhere.example").contains("\"warn\""));
    server.redirect(Some("people.localhost"), &["erin"]);
    assert!(!String::from_utf8(check().stdout).unwrap().contains("redirect of"));
    server.set("limits.sign_in_seconds", 4);
    server.set("limits.unsigned_max", 2000);
    assert!(!String::from_utf8(check().stdout).unwrap().contains("unsigned_max"));
    server.set("limits.unsigned_max", 2001);
    assert!(found("unsigned_max = 2001: only 2000 of them").contains("\"warn\""));
    std::fs::remove_file(server.data().join("tls/cert.pem")).unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("cert.pem"));
}

/// Accounts through the running server and on the store itself; what is printed.
#[tokio::test]
async fn r2_1_4_accounts_are_made_changed_and_removed_on_the_spot() {
    let mut server = Server::quickstart();
    for running in [true, false] {
        if !running {
            server.stop();
        }
        let name = if running { "dora@localhost" } else { "emil@localhost" };
        let added = server.user_ok(&["add", name]);
        assert!(added.starts_with("password: ") && added.lines().count() == 1, "{added}");
        assert_eq!(server.user(&["add", name]).status.code(), Some(1));
        assert_eq!(server.user(&["add", "x@elsewhere.example"]).status.code(), Some(2));
        assert_eq!(server.user(&["add", "no address"]).status.code(), Some(2));
        server.user_ok(&["disable", name]);
        let listed = server.user_ok(&["list"]);
        let line = listed.lines().find(|line| line.contains(name)).unwrap();
        let listed: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(listed["state"], "disabled");
        assert_eq!(listed["services"], serde_json::json!(["pres", "im"]));
        assert_eq!(listed["sessions"], 0);
        assert!(listed["created"].as_str().unwrap().ends_with('Z'));
        server.user_ok(&["remove", name]);
        assert!(!server.user_ok(&["list"]).contains(name));
        // Nobody inherits what a name was granted.
        assert_eq!(server.user(&["add", name]).status.code(), Some(1));
        assert_eq!(server.user(&["passwd", name]).status.code(), Some(1));
    }
}

/// A new name that is typed or looks like that of an account is not given; accounts of before that are
/// alike go on.
#[tokio::test]
async fn a13_no_account_is_made_that_is_taken_for_another() {
    let mut server = Server::quickstart();
    for (first, second) in [
        ("\u{3c3}\u{3bf}\u{3c6}\u{3bf}\u{3c2}", "\u{3c3}\u{3bf}\u{3c6}\u{3bf}\u{3c3}"),
        ("ilgin", "\u{131}lg\u{131}n"),
        ("coco", "\u{441}\u{43e}\u{441}\u{43e}"),
    ] {
        let named = |name: &str| format!("{name}@localhost");
        server.user_ok(&["add", &named(first)]);
        for running in [true, false] {
            if !running {
                server.stop();
            }
            let output = server.user(&["add", &named(second)]);
            let words = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{words}");
            assert!(words.contains("is typed alike, or looks alike"), "{words}");
            assert!(words.contains(&named(first)), "{words}");
        }
        server.restart();
        // Not by a detour either: a name that was removed is not given again, nor one like it.
        server.user_ok(&["remove", &named(first)]);
        assert_eq!(server.user(&["add", &named(second)]).status.code(), Some(1));
    }
    server.user_ok(&["add", "ilgim@localhost"]);
}

/// The service manager hears of a server that lives, again and again: one that hangs it starts anew, as
/// `deploy/imppd.service` says.
#[tokio::test]
async fn h9_the_watchdog_hears_of_a_server_as_long_as_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let told = format!("NOTIFY_SOCKET={}", path.display());
    let under = ["env", "WATCHDOG_USEC=1000000", &told].map(std::ffi::OsString::from);
    let _server = Server::with().under(under.to_vec()).start();
    let (mut words, mut lives) = ([0; 256], 0);
    while lives < 3 {
        let told = impp_tests::wait::within("a word of it", socket.recv(&mut words)).await;
        let told = String::from_utf8_lossy(&words[..told.unwrap()]).into_owned();
        lives += told.lines().filter(|line| *line == "WATCHDOG=1").count();
    }
}
