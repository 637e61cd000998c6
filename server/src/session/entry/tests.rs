//! Accounts that are gone or revoked just while something is done in their name.

use std::path::Path;

use impp_protocol::command::{Auth, Message, Written};
use impp_protocol::sasl::scram::{Exporter, Iterations, Nonce};
use impp_protocol::{Address, Command, DeviceId, Domain, MessageId};
use impp_storage::{MemoryStore, Scan};

use super::*;
use crate::core::accounts::tests::verifier;
use crate::core::answers::Answer;
use crate::core::config::Config;
use crate::core::records::{AccountState, QUEUED, Services};
use crate::life::Server;
use crate::session::sign_in::{Judge, Proof, SignIn};

const EXPORTER: Exporter = [7; 32];

/// What a connection for a domain proves without a certificate.
fn proof(domain: &str) -> Proof {
    let domain = Domain::parse(domain).unwrap();
    Proof { exporter: EXPORTER, domain, certificate: Vec::new() }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A server of a.example and c.example with an account in each.
async fn start() -> Server {
    let domain =
        |name| format!("[[domain]]\nname = \"{name}\"\ncertificate = \"c\"\nkey = \"k\"\n");
    let route = "[[route]]\ndomain = \"b.example\"\ntargets = [\"127.0.0.1:1\"]\n".to_owned();
    let text = route + &domain("a.example") + &domain("c.example");
    let config = Config::parse(&text, Path::new("imppd.toml")).unwrap();
    let server = Server::load(config, Arc::new(MemoryStore::new().unwrap())).await.unwrap();
    for account in ["alice@a.example", "carol@c.example"] {
        let verifier = verifier();
        let (services, now) = (Services { pres: true, im: true }, server.ground.clock.now());
        let address = address(account);
        let added = server.ground.accounts.add(
            &*server.ground.store,
            now,
            &address,
            services,
            verifier,
            vec![],
        );
        added.await.unwrap();
    }
    server
}

async fn change(server: &Server, account: &str, state: AccountState) {
    let (now, address) = (server.ground.clock.now(), address(account));
    let changed = server.ground.accounts.change(
        &*server.ground.store,
        now,
        &address,
        Some(state),
        None,
        vec![],
    );
    changed.await.unwrap();
}

fn device() -> Device {
    Device { id: DeviceId([1; 16]), name: None }
}

/// What resumes a session now.
fn resuming(mailbox: &Mailbox) -> Auth {
    Auth {
        mechanism: None,
        data: Some(mailbox.ticket().client_proof(&EXPORTER).to_vec().into()),
        device: Some(device().id),
        device_name: None,
        resume: Some(mailbox.id),
    }
}

async fn alice(server: &Server) -> Session {
    let account = server.ground.accounts.get(&address("alice@a.example")).unwrap();
    enter(&server.entrance.serving, &server.ground.accounts, account, device(), true).await.unwrap()
}

/// Whoever was disabled or removed after the password was proven, and before the session is there,
/// gets none.
#[tokio::test]
async fn c10_who_is_revoked_while_signing_in_is_not_in() {
    for state in [AccountState::Disabled, AccountState::Removed] {
        let server = start().await;
        let proven = server.ground.accounts.get(&address("alice@a.example")).unwrap();
        change(&server, "alice@a.example", state).await;
        let refused =
            enter(&server.entrance.serving, &server.ground.accounts, proven, device(), true)
                .await
                .unwrap_err();
        assert_eq!(refused.code, Code::AuthFailed);
        assert!(server.rooms.live.sessions.is_empty());
    }
}

/// A session whose account has been revoked is not taken up again, though nobody has ended it yet.
#[tokio::test]
async fn c10_who_is_revoked_while_resuming_is_not_in() {
    for state in [AccountState::Disabled, AccountState::Removed] {
        let server = start().await;
        let session = alice(&server).await;
        let auth = resuming(&session.client.mailbox);
        session.park(Duration::from_secs(600)).await;
        change(&server, "alice@a.example", state).await;
        let here = proof("a.example");
        let refused = resume(&server.entrance.serving, &server.ground.accounts, &auth, &here, true)
            .await
            .unwrap_err();
        assert_eq!(refused.code, Code::Expired);
        assert!(server.rooms.live.sessions.is_empty());
    }
}

/// On a connection for another domain hosted here a ticket is worth nothing, and stays worth what it
/// is on one for its own.
#[tokio::test]
async fn c12_a_ticket_is_for_the_domain_that_is_called() {
    let server = start().await;
    let session = alice(&server).await;
    let auth = resuming(&session.client.mailbox);
    session.park(Duration::from_secs(600)).await;
    let (elsewhere, here) = (proof("c.example"), proof("a.example"));
    let resume = |of| resume(&server.entrance.serving, &server.ground.accounts, &auth, of, true);
    assert_eq!(resume(&elsewhere).await.unwrap_err().code, Code::Expired);
    assert!(resume(&here).await.is_ok());
}

/// Of two that come with one ticket while the session still has a connection, one has it, and the
/// other does not take it away again.
#[tokio::test]
async fn c9_of_two_with_one_ticket_one_has_the_session_and_keeps_it() {
    let server = start().await;
    let session = alice(&server).await;
    let mailbox = session.client.mailbox.clone();
    let auth = resuming(&mailbox);
    let connection = async {
        std::future::poll_fn(|context| match mailbox.signal.poll(context) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
        assert_eq!(mailbox.take_bye().map(|bye| bye.reason), Some(ByeReason::Replaced));
        session.park(Duration::from_secs(600)).await;
    };
    let begun = tokio::time::Instant::now();
    let here = proof("a.example");
    let resume = || resume(&server.entrance.serving, &server.ground.accounts, &auth, &here, true);
    let (one, other, ()) = tokio::join!(resume(), resume(), connection);
    let (had, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    assert!(had.is_ok(), "{:?}", had.err());
    assert_eq!(refused.unwrap_err().code, Code::Expired);
    assert_eq!(mailbox.take_bye(), None);
    assert!(begun.elapsed() < HANDOVER);
}

/// What an account asked to be sent before it was removed, and what comes to be stored after, goes
/// with it.
#[tokio::test]
async fn c10_what_is_queued_while_its_sender_is_removed_goes() {
    let server = start().await;
    change(&server, "alice@a.example", AccountState::Removed).await;
    let id = MessageId::new(server.ground.clock.now(), [1; 10]);
    let from = address("alice@a.example");
    let message = Message::new(id, address("bob@b.example"), "late".into());
    let message = Written::new(Message { from: Some(from.clone()), ..message });
    let answer = match server.rooms.outgoing.accept(message, from).await.unwrap() {
        Answer::Now(command) => command,
        Answer::Later(later) => later.await,
    };
    assert!(matches!(answer, Command::Ok(_)), "{answer:?}");
    let goes = async {
        while server.rooms.outgoing.queued() > 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), goes).await.is_ok(), "it waits");
    let scan = Scan {
        domain: Domain::parse("a.example").unwrap(),
        table: QUEUED,
        prefix: Vec::new(),
        after: None,
        max: 10,
    };
    assert!(server.ground.store.scan(scan).await.unwrap().is_empty());
}

/// A client certificate that names an account of another domain hosted here signs nobody in on a
/// connection for this one.
#[tokio::test]
async fn c12_a_certificate_is_for_the_domain_that_is_called() {
    let server = start().await;
    let sign_in = |named: &[&str], asked: &str| {
        let proof = Proof {
            exporter: EXPORTER,
            domain: Domain::parse("a.example").unwrap(),
            certificate: named.iter().map(|text| address(text)).collect(),
        };
        let auth = Auth {
            mechanism: Some("EXTERNAL".to_owned()),
            data: Some(asked.to_owned().into()),
            device: Some(DeviceId([1; 16])),
            device_name: None,
            resume: None,
        };
        let judge = Judge {
            accounts: &server.ground.accounts,
            decoys: (&[0; 32], Iterations::RANDOM_PASSWORD),
            proof: &proof,
            guesses: &server.entrance.guesses,
            from: [127, 0, 0, 1].into(),
            now: server.ground.clock.now(),
            wait_max: Duration::ZERO,
        };
        let done = SignIn::default().handle(auth, judge, &Nonce::from_random([1; 18]));
        done.map(drop).map_err(|error| error.code)
    };
    assert_eq!(sign_in(&["alice@a.example"], ""), Ok(()));
    for asked in ["", "carol@c.example"] {
        assert_eq!(sign_in(&["carol@c.example"], asked), Err(Code::Refused));
    }
    // And it does not stand in the way of the one that fits.
    assert_eq!(sign_in(&["carol@c.example", "alice@a.example"], ""), Ok(()));
}
