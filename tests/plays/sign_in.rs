//! Who gets in and who does not, and what they learn by it: faults C1 to C10.

use impp_protocol::command::{ByeReason, Ping};
use impp_protocol::sasl::scram::Binding;
use impp_protocol::{Code, Command, DeviceId, Error};
use impp_tests::peer::{Peer, authenticate, endings, fetch, first_auth, message, next_auth, scram};
use impp_tests::proxy::Proxy;
use impp_tests::server::{Profile, imppd};
use impp_tests::wire::{Wire, hello, raw_frame};
use impp_tests::{Server, eventually};

const SIGNED_IN: &str = r#"impp_sign_ins_total{mechanism="SCRAM-SHA-256-PLUS",result="ok"}"#;

/// What a stranger sees of a sign-in that fails: the server's first message, and its refusal.
async fn refusal(server: &Server, address: &str, password: &str) -> (String, Error) {
    let profile = Profile { address: address.to_owned(), password: password.to_owned() };
    let (mut wire, _) = Wire::greeted(server).await;
    let binding = Binding::TlsExporter(wire.exporter());
    let (client, first) = scram(&profile, binding);
    wire.send(1, first_auth(&profile, 1, "SCRAM-SHA-256-PLUS", first)).await;
    let challenge = match wire.next().await.command {
        Command::Challenge(challenge) => challenge.data,
        other => panic!("{address}: expected CHALLENGE, got {other:?}"),
    };
    let (_, proof) = client.handle_challenge(&challenge, None).unwrap();
    wire.send(2, next_auth(proof)).await;
    let error = match wire.next().await.command {
        Command::Error(error) => error,
        other => panic!("{address}: expected ERROR, got {other:?}"),
    };
    (String::from_utf8(challenge.to_vec()).unwrap(), error)
}

/// The salt and the iteration count of a SCRAM challenge, which say what is stored.
fn salt(challenge: &str) -> &str {
    challenge.split_once(',').unwrap().1
}

/// Unknown, disabled, removed, wrong password: one refusal after as many steps, and a salt that is
/// as steady as a real one.
#[tokio::test]
async fn c1_who_does_not_exist_cannot_be_told_from_who_does() {
    let mut server = Server::with()
        .accounts(["alice", "bob", "carol", "dora"])
        .set("limits.failed_sign_in_wait_seconds", 0)
        .start();
    server.user_ok(&["disable", "carol@localhost"]);
    server.user_ok(&["remove", "dora@localhost"]);
    let (carol, dora) = (server.profile("carol").password, server.profile("dora").password);
    let tries = [
        ("alice@localhost", "wrong"),
        ("nobody@localhost", "wrong"),
        ("somebody@localhost", "wrong"),
        ("carol@localhost", &carol),
        ("carol@localhost", "wrong"),
        ("dora@localhost", &dora),
    ];
    let mut before = Vec::new();
    for (address, password) in tries {
        let (challenge, error) = refusal(&server, address, password).await;
        assert_eq!(error.code, Code::AuthFailed, "{address}");
        before.push((challenge, error));
    }
    let length = |challenge: &str| {
        let salt = salt(challenge).split_once(',').unwrap().0;
        (challenge.split_once(',').unwrap().0.len(), salt.len())
    };
    for (challenge, error) in &before {
        assert_eq!(error, &before[0].1);
        assert_eq!(length(challenge), length(&before[0].0));
    }
    assert_ne!(salt(&before[1].0), salt(&before[2].0), "each has a salt of its own");
    for round in 0..2 {
        for ((address, password), (challenge, _)) in tries.iter().zip(&before) {
            let again = refusal(&server, address, password).await.0;
            assert_eq!(salt(&again), salt(challenge), "{address}, round {round}");
        }
        server.kill9();
        server.restart();
    }
}

/// Salt and iteration count are those of a name, from before there is an account of it until after it
/// is gone, whatever its passwords; and the count is that of all names.
#[tokio::test]
async fn c1_c2_the_salt_of_a_name_tells_nothing_of_an_account() {
    let mut server = Server::with().set("limits.failed_sign_in_wait_seconds", 0).start();
    let zoe = "zoe@localhost";
    let before = refusal(&server, zoe, "wrong").await.0;
    let commands: [&[&str]; 5] =
        [&["add", zoe], &["passwd", zoe], &["disable", zoe], &["enable", zoe], &["remove", zoe]];
    for command in commands {
        server.user_ok(command);
        let now = refusal(&server, zoe, "wrong").await.0;
        assert_eq!(salt(&now), salt(&before), "after {command:?}");
    }
    server.kill9();
    server.restart();
    let count = |challenge: &str| salt(challenge).split_once(',').unwrap().1.to_owned();
    for name in [zoe, "alice@localhost", "nobody@localhost"] {
        let now = refusal(&server, name, "wrong").await.0;
        assert_eq!(salt(&now) == salt(&before), name == zoe, "{name}");
        assert_eq!(count(&now), count(&before), "{name}");
    }
}

/// After a change of the count, `check` counts those whose password is still hashed as before, until
/// they have another one.
#[tokio::test]
async fn c1_check_counts_passwords_that_are_kept_otherwise() {
    let mut server = Server::quickstart();
    let odd = |server: &Server| {
        let config = server.config();
        let output = imppd(&["check", "--config", config.to_str().unwrap()]);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let line =
            stdout.lines().find(|line| line.contains("is not kept as others")).map(str::to_owned);
        line.map(|line| line.split("are: ").nth(1).unwrap().split(';').next().unwrap().to_owned())
    };
    assert_eq!(odd(&server), None);
    server.stop();
    let config = std::fs::read_to_string(server.config()).unwrap();
    let more = config.replace("scram_iterations = 4096", "scram_iterations = 5000");
    std::fs::write(server.config(), more).unwrap();
    server.restart();
    let all = server.user_ok(&["list"]).lines().count();
    assert_eq!(odd(&server), Some(all.to_string()));
    server.user_ok(&["passwd", "bob@localhost"]);
    assert_eq!(odd(&server), Some((all - 1).to_string()));
    // They get in as before.
    Peer::sign_in(&server, "alice").await.done(Ping::empty()).await;
}

/// Who proves to be alice may not ask to act as bob.
#[tokio::test]
async fn c4_a_proof_of_one_is_no_right_to_be_another() {
    let server = Server::quickstart();
    let profile = server.profile("alice");
    for (authzid, mine) in
        [("bob@localhost", false), ("alice@elsewhere.example", false), ("alice@localhost", true)]
    {
        let (mut wire, _) = Wire::greeted(&server).await;
        let first = format!("n,a={authzid},n=alice@localhost,r=abcdefghijklmnop").into_bytes();
        wire.send(1, first_auth(&profile, 1, "SCRAM-SHA-256", first)).await;
        match wire.next().await.command {
            Command::Challenge(_) => assert!(mine, "{authzid}"),
            Command::Error(error) => {
                assert!(!mine && error.code == Code::Refused, "{authzid}: {error:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The first AUTH by a mechanism with a message: what it is answered.
async fn begin(server: &Server, mechanism: &str, first: &str) -> Result<(), Code> {
    let (mut wire, _) = Wire::greeted(server).await;
    let auth = first_auth(&server.profile("alice"), 1, mechanism, first.as_bytes().to_vec());
    wire.send(1, auth).await;
    match wire.next().await.command {
        Command::Challenge(_) => Ok(()),
        Command::Error(error) => Err(error.code),
        other => panic!("{other:?}"),
    }
}

/// Nobody can be talked into a weaker mechanism, nor out of the channel's binding.
#[tokio::test]
async fn c5_downgrades_are_refused() {
    let server = Server::quickstart();
    let (_, hello) = Wire::greeted(&server).await;
    assert_eq!(hello.mechanisms, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    let rest = "n=alice@localhost,r=abcdefghijklmnop";
    let of = |header: &str| format!("{header},,{rest}");
    for (mechanism, first) in [
        ("PLAIN", "\0alice\0password".to_owned()),
        ("ANONYMOUS", "somebody".to_owned()),
        ("EXTERNAL", "alice@localhost".to_owned()),
        ("SCRAM-SHA-1", of("n")),
        ("SCRAM-SHA-1-PLUS", of("p=tls-exporter")),
        ("scram-sha-256", of("n")),
        ("", of("n")),
    ] {
        assert_eq!(begin(&server, mechanism, &first).await, Err(Code::NotOffered), "{mechanism}");
    }
    for (mechanism, header) in [
        // The client could have bound and believes that the server cannot.
        ("SCRAM-SHA-256", "y"),
        ("SCRAM-SHA-256", "p=tls-exporter"),
        ("SCRAM-SHA-256-PLUS", "n"),
        ("SCRAM-SHA-256-PLUS", "y"),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique"),
        ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point"),
    ] {
        let code = begin(&server, mechanism, &of(header)).await.unwrap_err();
        assert_eq!(code, Code::Refused, "{mechanism} {header}");
    }
    assert_eq!(begin(&server, "SCRAM-SHA-256", &of("n")).await, Ok(()));
    assert_eq!(begin(&server, "SCRAM-SHA-256-PLUS", &of("p=tls-exporter")).await, Ok(()));
}

/// A proof that is bound to another connection fails.
#[tokio::test]
async fn c5_a_binding_to_another_connection_fails() {
    let server = Server::quickstart();
    let (other, mut wire) = (Wire::dial(&server).await, Wire::dial(&server).await);
    let binding = Binding::TlsExporter(other.exporter());
    let refused = authenticate(&mut wire, &server.profile("alice"), 1, binding).await;
    assert_eq!(refused.unwrap_err().code, Code::AuthFailed);
}

/// Somebody between client and server, even with a certificate that the client trusts, gets no
/// sign-in that is bound to the channel, nor one of a client that would have bound.
#[tokio::test]
async fn c5_channel_binding_finds_a_proxy_that_ends_tls() {
    let server = Server::quickstart();
    let proxy = Proxy::before(&server).await;
    let alice = server.profile("alice");
    let wire = proxy.dial().connect().await.unwrap();
    assert_eq!(Peer::over(wire, &alice, 1).await.unwrap_err().code, Code::AuthFailed);
    let mut wire = proxy.dial().connect().await.unwrap();
    let refused = authenticate(&mut wire, &alice, 1, Binding::NotOffered).await;
    assert_eq!(refused.unwrap_err().code, Code::Refused);
    // The proxy itself works: a client that cannot bind gets through it.
    let mut wire = proxy.dial().connect().await.unwrap();
    authenticate(&mut wire, &alice, 1, Binding::None).await.unwrap();
}

/// The messages of a whole exchange that succeeded are worth nothing on another connection.
#[tokio::test]
async fn c6_a_replayed_exchange_is_refused() {
    let server = Server::quickstart();
    let profile = server.profile("alice");
    for bound in [true, false] {
        let (mut wire, _) = Wire::greeted(&server).await;
        let binding = if bound { Binding::TlsExporter(wire.exporter()) } else { Binding::None };
        let (client, first) = scram(&profile, binding);
        let first = first_auth(&profile, 1, binding.mechanism().name(), first);
        wire.send(1, first.clone()).await;
        let Command::Challenge(challenge) = wire.next().await.command else { panic!() };
        let (_, proof) = client.handle_challenge(&challenge.data, None).unwrap();
        let last = next_auth(proof);
        wire.send(2, last.clone()).await;
        assert!(matches!(wire.next().await.command, Command::Ok(_)));

        let (mut wire, _) = Wire::greeted(&server).await;
        wire.send(1, first).await;
        assert!(matches!(wire.next().await.command, Command::Challenge(_)));
        wire.send(2, last.clone()).await;
        match wire.next().await.command {
            Command::Error(error) => assert_eq!(error.code, Code::AuthFailed),
            other => panic!("{other:?}"),
        }
        // Nor does the last message do without the first.
        let (mut wire, _) = Wire::greeted(&server).await;
        wire.send(1, last).await;
        assert!(matches!(wire.next().await.command, Command::Error(_)));
    }
}

/// After a few failures the connection is closed.
#[tokio::test]
async fn c7_guesses_on_one_connection_are_few() {
    let server = Server::quickstart();
    let mut wire = Wire::dial(&server).await;
    wire.send(0, hello()).await;
    for number in 1..=20 {
        let profile = server.profile("alice");
        let first = b"n,a=bob@localhost,n=alice@localhost,r=abcdefghijkl".to_vec();
        wire.send(number, first_auth(&profile, 1, "SCRAM-SHA-256", first)).await;
    }
    let ending = wire.ending().await;
    assert_eq!(ending.bye.map(|bye| bye.reason), Some(ByeReason::Protocol));
    assert!(ending.errors.len() <= 5, "{:?}", ending.errors);
}

/// Ids of sessions that are none resume nothing, whatever their length.
#[tokio::test]
async fn c9_a_forged_session_id_is_refused() {
    let server = Server::quickstart();
    Peer::sign_in(&server, "alice").await.cut();
    for length in [0usize, 1, 15, 16, 17, 31, 32, 48, 2000] {
        let (mut wire, _) = Wire::greeted(&server).await;
        // Field 5 with so many octets.
        let mut fields = vec![5 << 1 | 1];
        impp_protocol::varint::put(length as u64, &mut fields);
        fields.extend(vec![7; length]);
        wire.write(&raw_frame(2, 1, &fields)).await;
        match wire.next().await.command {
            Command::Error(error) => assert_eq!(error.code, Code::Malformed, "{length}"),
            other => panic!("{other:?}"),
        }
    }
}

/// How an account is taken from its user: whatever was done to it, all its sessions end at once.
async fn revoked(act: &[&str]) -> (Server, Profile) {
    let server = Server::quickstart();
    let (mut sessions, profile) = (Vec::new(), server.profile("alice"));
    for device in 1..=3 {
        sessions.push(Peer::sign_in_on(&server, "alice", device).await);
    }
    Peer::sign_in_on(&server, "alice", 4).await.cut();
    let mut bob = Peer::sign_in(&server, "bob").await;
    server.user_ok(act);
    // What is asked from now on is not done.
    for session in &mut sessions {
        session.ask(message("bob@localhost", "too late")).await;
    }
    for ending in endings(sessions).await {
        let reason = ending.bye.as_ref().map(|bye| bye.reason);
        assert_eq!(reason, Some(ByeReason::Revoked), "{ending:?}");
        assert_eq!(ending.others, vec![], "{act:?}");
    }
    assert_eq!(bob.inbox().await, vec![]);
    bob.done(Ping::empty()).await;
    eventually("the sessions to be gone", async || {
        (server.metrics().get("impp_sessions") == 1.0).then_some(())
    })
    .await;
    let again = Peer::over(Wire::dial(&server).await, &profile, 1).await;
    assert_eq!(again.unwrap_err().code, Code::AuthFailed, "{act:?}");
    (server, profile)
}

/// An account that is disabled is out at once, and in again when it is enabled.
#[tokio::test]
async fn c10_disabling_ends_every_session() {
    let (server, profile) = revoked(&["disable", "alice@localhost"]).await;
    server.user_ok(&["enable", "alice@localhost"]);
    Peer::over(Wire::dial(&server).await, &profile, 1).await.unwrap();
}

/// A new password ends what was begun with the old one.
#[tokio::test]
async fn c10_a_new_password_ends_every_session() {
    let server = Server::quickstart();
    drop(server);
    let (server, mut profile) = revoked(&["passwd", "alice@localhost"]).await;
    let said = server.user_ok(&["passwd", "alice@localhost"]);
    profile.password = said.trim().strip_prefix("password: ").unwrap().to_owned();
    Peer::over(Wire::dial(&server).await, &profile, 1).await.unwrap();
}

/// Who has begun to sign in with the password of before does not get in with it.
#[tokio::test]
async fn c10_a_sign_in_that_began_before_a_new_password_fails() {
    let server = Server::quickstart();
    let (profile, mut wire) = (server.profile("alice"), Wire::dial(&server).await);
    let binding = Binding::TlsExporter(wire.exporter());
    let (client, data) = scram(&profile, binding);
    wire.send(0, hello()).await;
    wire.send(1, first_auth(&profile, 1, binding.mechanism().name(), data)).await;
    wire.hello().await;
    let Command::Challenge(challenge) = wire.next().await.command else { panic!("no CHALLENGE") };
    server.user_ok(&["passwd", "alice@localhost"]);
    let (_, proof) = client.handle_challenge(&challenge.data, None).unwrap();
    wire.send(2, next_auth(proof)).await;
    let Command::Error(error) = wire.next().await.command else { panic!("signed in") };
    assert_eq!(error.code, Code::AuthFailed);
}

/// An account that is removed is out at once, and its name is not given again.
#[tokio::test]
async fn c10_removal_ends_every_session() {
    let (server, _) = revoked(&["remove", "alice@localhost"]).await;
    assert_eq!(server.user(&["add", "alice@localhost"]).status.code(), Some(1));
    let mut bob = Peer::sign_in(&server, "bob").await;
    let gone = fetch("alice@localhost", impp_protocol::What::Presence);
    assert_eq!(bob.refused(gone).await, Code::NotFound);
}

/// A sign-in bound to the channel is what clients get, in one flight and one more, and is counted.
#[tokio::test]
async fn r5_1_12_a_bound_sign_in_succeeds_and_is_counted() {
    let server = Server::quickstart();
    let before = server.metrics().get(SIGNED_IN);
    let alice = Peer::sign_in(&server, "alice").await;
    assert_eq!(alice.welcome.address.as_ref(), Some(&alice.address));
    assert_eq!(server.metrics().get(SIGNED_IN), before + 1.0);
}

/// Who never says goodbye can come back as often as they like.
#[tokio::test]
async fn r3_2_5_a_device_that_loses_its_connection_again_and_again_gets_in() {
    let server = Server::quickstart();
    for n in 0..100 {
        let wire = Wire::dial(&server).await;
        match Peer::over(wire, &server.profile("alice"), 1).await {
            Ok(alice) => alice.cut(),
            Err(error) => panic!("sign-in {n} of one device: {error:?}"),
        }
    }
}

/// A PING that is answered keeps the connection; the answer is no fault.
#[tokio::test]
async fn r3_2_4_an_answered_ping_keeps_the_connection() {
    let server = Server::with().set("times.idle_seconds", 3).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for _ in 0..2 {
        match alice.wire().next().await {
            impp_protocol::Request { number, command: Command::Ping(_) } => {
                alice.wire().send(number, impp_protocol::command::Done::empty()).await;
            }
            other => panic!("expected PING, got {other:?}"),
        }
    }
}

/// Who answers no PING is taken for dead.
#[tokio::test]
async fn r3_2_4_a_peer_that_answers_no_ping_is_dead() {
    let server = Server::with().set("times.idle_seconds", 1).start();
    let alice = Peer::sign_in(&server, "alice").await;
    let ending = alice.ending().await;
    assert_eq!(ending.bye.map(|bye| bye.reason), Some(ByeReason::Timeout));
}

/// Sixteen zero octets stand for other domains' servers, and are nobody's device.
#[tokio::test]
async fn c4_no_device_calls_itself_what_stands_for_other_servers() {
    let server = Server::with().accounts(["alice"]).start();
    let profile = server.profile("alice");
    let (mut wire, _) = Wire::greeted(&server).await;
    let (_, first) = scram(&profile, Binding::TlsExporter(wire.exporter()));
    let auth = first_auth(&profile, 1, "SCRAM-SHA-256-PLUS", first);
    wire.send(1, impp_protocol::command::Auth { device: Some(DeviceId::NIL), ..auth }).await;
    let Command::Error(error) = wire.next().await.command else { panic!("it is taken") };
    assert_eq!(error.code, Code::Malformed);
}

/// What a client meets of rates, budgets and leases is in HELLO, as it is set.
#[tokio::test]
async fn h4_hello_says_which_rates_and_leases_there_are() {
    let server = Server::with()
        .set("limits.requests_per_second", 201)
        .set("limits.requests_burst", 1002)
        .set("limits.work_per_second", 403)
        .set("limits.work_burst", 4004)
        .set("limits.stored_bytes_per_second", 300_005)
        .set("limits.stored_bytes_burst", 40_000_006)
        .set("limits.leases_max", 17)
        .set("times.lease_min_seconds", 18)
        .set("times.lease_max_seconds", 3619)
        .start();
    let (_, hello) = Wire::greeted(&server).await;
    let rates = [hello.requests_per_second, hello.requests_burst];
    assert_eq!(rates, [Some(201), Some(1002)]);
    assert_eq!([hello.work_per_second, hello.work_burst], [Some(403), Some(4004)]);
    let stored = [hello.stored_per_second, hello.stored_burst];
    assert_eq!(stored, [Some(300_005), Some(40_000_006)]);
    let leases = [hello.lease_min, hello.lease_max].map(|lease| lease.map(|lease| lease.as_secs()));
    assert_eq!((leases, hello.leases_max), ([Some(18), Some(3619)], Some(17)));
}
