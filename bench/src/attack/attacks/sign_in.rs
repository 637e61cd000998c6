//! Attackers who have no account, or do not say so.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use impp_protocol::sasl::scram::Binding;
use impp_tests::Peer;
use impp_tests::peer::{first_auth, scram};
use impp_tests::server::Profile;
use impp_tests::wire::{Dial, Wire, bytes_of, hello};
use tokio::time::sleep;

use super::Task;
use crate::arena::Arena;

/// The addresses of attackers.
fn source(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 66, (n / 250) as u8, (n % 250) as u8 + 1)
}

/// Somebody from elsewhere signs in once a tenth of a second: whether that goes is counted.
fn newcomer(arena: Arc<Arena>) -> Task {
    Box::pin(async move {
        loop {
            let profile = arena.server().profile("owner");
            let dial = Dial::to(arena.server()).from(Ipv4Addr::new(127, 99, 0, 1));
            let signed_in = async {
                let wire = dial.connect().await.ok()?;
                Peer::over(wire, &profile, 1).await.ok()
            };
            match signed_in.await {
                Some(peer) => {
                    arena.tally.count("newcomer in");
                    peer.leave().await;
                }
                None => arena.tally.count("newcomer refused"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
}

/// So many attackers, and somebody from elsewhere beside them.
fn crowd<F: Future<Output = ()> + Send + 'static>(
    arena: &Arc<Arena>,
    count: usize,
    attacker: impl Fn(Arc<Arena>, usize) -> F,
) -> Vec<Task> {
    let mut tasks = vec![newcomer(arena.clone())];
    tasks.extend((0..count).map(|n| Box::pin(attacker(arena.clone(), n)) as Task));
    tasks
}

/// A connection from there, however often that takes.
async fn connected(arena: &Arena, source: Ipv4Addr) -> Wire {
    loop {
        if let Ok(wire) = Dial::to(arena.server()).from(source).connect().await {
            return wire;
        }
        arena.tally.count("refused");
        sleep(Duration::from_millis(100)).await;
    }
}

pub(super) async fn silent(arena: Arc<Arena>) -> Vec<Task> {
    crowd(&arena, 80 * 32, |arena, n| async move {
        let dial = Dial::to(arena.server()).from(source(n / 32));
        loop {
            match dial.tcp().await {
                // It ends when the server ends it.
                Ok(stream) => {
                    arena.tally.count("connected");
                    drop(stream.readable().await);
                }
                Err(_) => arena.tally.count("refused"),
            }
            sleep(Duration::from_millis(500)).await;
        }
    })
}

pub(super) async fn handshakes(arena: Arc<Arena>) -> Vec<Task> {
    crowd(&arena, 64, |arena, n| async move {
        let dial = Dial::to(arena.server()).from(source(n / 8));
        loop {
            match dial.connect().await {
                Ok(_) => arena.tally.count("handshake"),
                Err(_) => {
                    arena.tally.count("refused");
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    })
}

pub(super) async fn restart_auth(arena: Arc<Arena>) -> Vec<Task> {
    crowd(&arena, 320, |arena, n| async move {
        let profile = arena.server().profile("mallory");
        loop {
            let mut wire = connected(&arena, source(n / 32)).await;
            arena.tally.count("connected");
            let mut number = 0;
            wire.send(0, hello()).await;
            // Answers stay unread.
            loop {
                let mut flight = bytes::BytesMut::new();
                for _ in 0..50 {
                    number += 1;
                    flight.extend(bytes_of(number, first(&wire, &profile)));
                }
                if wire.try_write(&flight).await.is_err() {
                    break;
                }
                arena.tally.count("50 AUTH");
                tokio::task::yield_now().await;
            }
        }
    })
}

/// The first AUTH of a sign-in.
fn first(wire: &Wire, profile: &Profile) -> impp_protocol::command::Auth {
    let binding = Binding::TlsExporter(wire.exporter());
    let (_, first) = scram(profile, binding);
    first_auth(profile, 1, binding.mechanism().name(), first)
}

pub(super) async fn guess(arena: Arc<Arena>) -> Vec<Task> {
    crowd(&arena, 32, |arena, n| async move {
        let wrong = Profile { password: "wrong".to_owned(), ..arena.server().profile("owner") };
        loop {
            let wire = connected(&arena, source(n)).await;
            match Peer::over(wire, &wrong, 2).await {
                Ok(_) => arena.tally.count("in"),
                Err(error) => arena.tally.code(error.code),
            }
        }
    })
}

pub(super) async fn key_updates(arena: Arc<Arena>) -> Vec<Task> {
    crowd(&arena, 32, |arena, n| async move {
        loop {
            let wire = connected(&arena, source(n)).await;
            arena.tally.count("connected");
            updates(wire, &arena).await;
        }
    })
}

/// Changes keys until the connection ends.
async fn updates(wire: Wire, arena: &Arena) {
    let tokio_rustls::TlsStream::Client(mut stream) = wire.into_stream() else { return };
    loop {
        let (_, tls) = stream.get_mut();
        if (0..50).any(|_| tls.refresh_traffic_keys().is_err()) {
            return;
        }
        if tokio::io::AsyncWriteExt::flush(&mut stream).await.is_err() {
            return;
        }
        arena.tally.count("50 updates");
        tokio::task::yield_now().await;
    }
}
