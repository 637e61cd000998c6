use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use impp_protocol::command::Ping;
use impp_protocol::{Address, Domain};
use impp_trust::Unproven;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use super::*;
use crate::wire::channel::Channel;

/// A connection without TLS.
#[derive(Debug)]
struct Plain(DuplexStream);

impl Channel for Plain {
    fn called(&self) -> Option<Domain> {
        None
    }

    fn exporter(&self) -> Option<[u8; 32]> {
        None
    }

    fn end_point(&self) -> Option<[u8; 32]> {
        None
    }

    fn addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    fn proves(&self, _: &Domain) -> Result<(), Unproven> {
        Err(Unproven::NoCertificate)
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

const TERMS: Terms = Terms {
    frame_bytes_max: 1024,
    output_bytes_max: 1024,
    in_flight_max: 64,
    patience: Patience {
        idle: None,
        frame: Duration::from_secs(30),
        stall: Duration::from_secs(60),
    },
};

/// Who has asked a thousand things at once, and says no more, is served in turns: whoever else has
/// something to do has a turn after each, and all thousand are heard before the end is.
#[tokio::test(start_paused = true)]
async fn who_asks_much_at_once_is_served_in_turns() {
    const ASKED: usize = 1000;
    let (mut peer, ours) = tokio::io::duplex(1024 * 1024);
    let mut asked = BytesMut::new();
    for number in 1..=ASKED as u64 {
        Request { number, command: Ping::empty().into() }.put(&mut asked).unwrap();
    }
    peer.write_all(&asked).await.unwrap();
    peer.shutdown().await.unwrap();

    let turns = Arc::new(AtomicUsize::new(0));
    let others = turns.clone();
    tokio::spawn(async move {
        loop {
            others.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let now = Instant::now();
    let pipe = Pipe::new(Box::new(Plain(ours)), now);
    let rate = Rate::new(now, 1, ASKED as u64);
    let mut driver = Driver::<()>::new(now, pipe, rate, Excess::Refused);
    let (signal, mut heard) = (Signal::default(), 0);
    loop {
        let before = (heard, turns.load(Ordering::Relaxed));
        while let Some(one) = driver.hear(&TERMS) {
            assert!(matches!(one, Heard::Request(_)), "{one:?}");
            heard += 1;
        }
        assert!(heard - before.0 <= TURN_FRAMES_MAX, "{heard} after {}", before.0);
        let next = driver.next(&signal, &TERMS, None).await;
        let theirs = turns.load(Ordering::Relaxed) - before.1;
        assert!(theirs > 0 || heard - before.0 < TURN_FRAMES_MAX, "no turn after {heard}");
        match next {
            Next::Moved => {}
            Next::Closed => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, ASKED);
}
