//! Accounts that are gone or revoked just while something is done in their name.

use std::path::Path;

use impp_protocol::command::{Auth, Message, Written};
use impp_protocol::sasl::resume::Bound;
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
    let (end_point, takes_unbound) = (Some([8; 32]), false);
    Proof { exporter: EXPORTER, end_point, takes_unbound, domain, certificate: Vec::new() }
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
    Device { id: DeviceId([1; 16]), name: None, binding: Binding::Exporter }
}

/// What resumes a session now.
fn resuming(mailbox: &Mailbox) -> Auth {
    Auth {
        data: Some(mailbox.newest_ticket().client_proof(&EXPORTER).to_vec().into()),
        device: Some(device().id),
        resume: Some(mailbox.id),
        ..Auth::empty()
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

/// What a connection does until its session goes on on another one.
async fn until_replaced(session: Session) {
    let mailbox = session.client.mailbox.clone();
    let bye = std::future::poll_fn(|context| match mailbox.signal.poll(context) {
        true => mailbox.take_bye().map_or(std::task::Poll::Pending, std::task::Poll::Ready),
        false => std::task::Poll::Pending,
    })
    .await;
    assert_eq!(bye.reason, ByeReason::Replaced);
    session.park(Duration::from_secs(600)).await;
}

/// Of two that come with one ticket while the session still has a connection, each has it in its turn: the
/// answer to the one before may have been lost. Who then comes with a successor has it alone.
#[tokio::test]
async fn c9_of_two_with_one_ticket_the_later_has_the_session_until_a_successor_is_used() {
    let server = start().await;
    let session = alice(&server).await;
    let mailbox = session.client.mailbox.clone();
    let auth = resuming(&mailbox);
    let begun = tokio::time::Instant::now();
    let here = &proof("a.example");
    let (serving, accounts) = (&server.entrance.serving, &server.ground.accounts);
    let resume = async |auth: Auth| resume(serving, accounts, &auth, here, true).await;
    let came = std::sync::Mutex::new(false);
    let come = async || {
        let (session, done) = resume(auth.clone()).await.unwrap();
        if !std::mem::replace(&mut *came.lock().unwrap(), true) {
            until_replaced(session).await;
            return None;
        }
        Some((session, done))
    };
    let (one, other, ()) = tokio::join!(come(), come(), until_replaced(session));
    assert!(one.is_some() != other.is_some(), "one has it in the end");
    let (session, done) = one.or(other).unwrap();
    let successor = Ticket::decode(&done.resume.unwrap()).unwrap();
    session.park(Duration::from_secs(600)).await;
    let proven = successor.client_proof(&EXPORTER).to_vec();
    let (session, _) = resume(Auth { data: Some(proven.into()), ..auth.clone() }).await.unwrap();
    assert_eq!(resume(auth.clone()).await.unwrap_err().code, Code::Expired);
    assert_eq!(mailbox.take_bye(), None);
    drop(session);
    assert!(begun.elapsed() < HANDOVER);
}

/// A ticket is proven by what binds it, or by what binds more strongly; what is weaker does not resume,
/// with the right proof neither. What a front does not take, it refuses.
#[tokio::test]
async fn c6_a_ticket_is_never_taken_under_a_weaker_binding() {
    let bounds = [Bound::Exporter(EXPORTER), Bound::EndPoint([8; 32]), Bound::Nothing];
    let server = start().await;
    let (serving, accounts) = (&server.entrance.serving, &server.ground.accounts);
    let open = Proof { takes_unbound: true, ..proof("a.example") };
    for binding in Binding::EVERY {
        for (by, bound) in Binding::EVERY.iter().zip(&bounds) {
            let account = accounts.get(&address("alice@a.example")).unwrap();
            let device = Device { binding: *binding, ..device() };
            let session = enter(serving, accounts, account, device, true).await.unwrap();
            let mailbox = session.client.mailbox.clone();
            let proven = mailbox.newest_ticket().client_proof(bound);
            session.park(Duration::from_secs(600)).await;
            let auth = Auth {
                data: Some(proven.to_vec().into()),
                binding: Some(*by),
                ..resuming(&mailbox)
            };
            let here = proof("a.example");
            if *by == Binding::Unbound {
                let refused = resume(serving, accounts, &auth, &here, true).await.unwrap_err();
                assert_eq!(refused.code, Code::Refused);
            }
            match resume(serving, accounts, &auth, &open, true).await {
                Ok((session, _)) => {
                    assert!(by <= binding, "{by} for {binding}");
                    session.end().await;
                }
                Err(error) => {
                    assert_eq!(error.code, Code::Expired);
                    assert!(by > binding, "{by} for {binding}");
                }
            }
        }
    }
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
            certificate: named.iter().map(|text| address(text)).collect(),
            ..proof("a.example")
        };
        let auth = Auth {
            mechanism: Some("EXTERNAL".to_owned()),
            data: Some(asked.to_owned().into()),
            device: Some(DeviceId([1; 16])),
            ..Auth::empty()
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
