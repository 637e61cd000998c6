//! The cable before a server: carries TCP connections to it, counts their bytes, and can be pulled,
//! plugged in again, or go dead with its connections open.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How the cable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It carries.
    Plugged,
    /// Connections are cut, new ones refused.
    Pulled,
    /// Nothing comes through, and nobody is told.
    Dead,
    /// Nothing comes back from the server, and nobody is told.
    OneWay,
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    state: watch::Sender<(State, u64)>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    towards: AtomicU64,
    back: AtomicU64,
    connections: AtomicU64,
    /// So many more bytes are carried, and then every connection is cut.
    left: AtomicU64,
    /// So many more bytes come back, and then none, and nobody is told.
    heard: AtomicU64,
}

impl Cable {
    /// A cable to where a server listens, on a loopback address of its own.
    pub async fn to(server: SocketAddr, ip: Ipv4Addr) -> Cable {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, seen) = watch::channel((State::Plugged, 0));
        let [left, heard] = [u64::MAX; 2].map(AtomicU64::new);
        let counts = Arc::new(Counts { left, heard, ..Counts::default() });
        let task = tokio::spawn(accept(listener, server, seen, counts.clone()));
        Cable { address, state, counts, task }
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection, and refuses new ones.
    pub fn pull(&self) {
        self.become_now(State::Pulled);
    }

    /// Carries connections again.
    pub fn plug(&self) {
        self.counts.left.store(u64::MAX, Ordering::Release);
        self.counts.heard.store(u64::MAX, Ordering::Release);
        self.become_now(State::Plugged);
    }

    /// Carries nothing more, and tells nobody.
    pub fn die(&self) {
        self.become_now(State::Dead);
    }

    /// Carries what goes to the server, and nothing back; or both again.
    pub fn one_way(&self, one_way: bool) {
        self.become_now(if one_way { State::OneWay } else { State::Plugged });
    }

    /// Carries so many bytes more, then cuts every connection; new ones are carried.
    pub fn cut_after(&self, bytes: u64) {
        self.counts.left.store(bytes, Ordering::Release);
    }

    /// Lets so many bytes more come back from the server, and then nothing, and tells nobody, until it is
    /// plugged again.
    pub fn silent_after(&self, bytes: u64) {
        self.counts.heard.store(bytes, Ordering::Release);
    }

    /// Whether nothing comes back any more.
    pub fn is_silent(&self) -> bool {
        self.counts.heard.load(Ordering::Acquire) == 0
    }

    /// A pull is counted, so that it cuts also what does not look before the cable is back.
    fn become_now(&self, state: State) {
        self.state.send_modify(|(now, pulls)| {
            *pulls += u64::from(state == State::Pulled);
            *now = state;
        });
    }

    /// Bytes carried towards the server, and back.
    pub fn bytes(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Acquire);
        (load(&self.counts.towards), load(&self.counts.back))
    }

    /// Connections that were made through it.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Acquire)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    state: watch::Receiver<(State, u64)>,
    counts: Arc<Counts>,
) {
    while let Ok((inward, _)) = listener.accept().await {
        if state.borrow().0 == State::Pulled {
            continue;
        }
        counts.connections.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(carry(inward, server, state.clone(), counts.clone()));
    }
}

async fn carry(
    inward: TcpStream,
    server: SocketAddr,
    mut state: watch::Receiver<(State, u64)>,
    counts: Arc<Counts>,
) {
    let (_, pulls) = *state.borrow();
    let Ok(onward) = TcpStream::connect(server).await else { return };
    let _ = (inward.set_nodelay(true), onward.set_nodelay(true));
    let ((mut in_read, mut in_write), (mut out_read, mut out_write)) =
        (inward.into_split(), onward.into_split());
    let (mut one, mut other) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        // A pull while bytes were carried is seen here, and `changed` does not tell of it. What is
        // written after a pull is not carried, whichever of both is noticed first.
        let (now, pulled) = *state.borrow_and_update();
        if pulled != pulls {
            return;
        }
        let (dead, one_way) = (now == State::Dead, now == State::OneWay);
        tokio::select! {
            read = in_read.read(&mut one), if !dead => {
                let Ok(read @ 1..) = read else { return };
                if state.borrow().1 != pulls {
                    return;
                }
                let carried = counts.carry(read);
                counts.towards.fetch_add(carried as u64, Ordering::AcqRel);
                if out_write.write_all(&one[..carried]).await.is_err() || carried < read {
                    return;
                }
            }
            read = out_read.read(&mut other), if !dead && !one_way => {
                let Ok(read @ 1..) = read else { return };
                if state.borrow().1 != pulls {
                    return;
                }
                let carried = counts.carry(read);
                counts.back.fetch_add(carried as u64, Ordering::AcqRel);
                let heard = taken(&counts.heard, carried, 0);
                if in_write.write_all(&other[..heard]).await.is_err() || carried < read {
                    return;
                }
            }
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

impl Counts {
    /// How many of so many bytes are carried. At the cut the count starts anew without a bound.
    fn carry(&self, bytes: usize) -> usize {
        taken(&self.left, bytes, u64::MAX)
    }
}

/// How many of so many bytes there is room for, where there is a bound; who comes to it leaves that behind.
fn taken(room: &AtomicU64, bytes: usize, behind: u64) -> usize {
    let wanted = bytes as u64;
    let take = |left: u64| match left {
        u64::MAX => None,
        left => Some(left.checked_sub(wanted).unwrap_or(behind)),
    };
    match room.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
        Ok(left) => left.min(wanted) as usize,
        Err(_) => bytes,
    }
}
