//! The bare relay: messages go to numbers, and what somebody shows to the number of those who follow.

use std::io;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use impp_bench::relayed::{self, HEAD_BYTES};
use impp_tests::binaries;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::spawned::{Spawned, source};
use crate::protocol::{Came, Client, Later, Protocol, Speech, Wish};

/// What is shown goes to numbers from here on.
const SHOWN: u32 = 1 << 31;

/// See the module.
pub(crate) struct Relay(Spawned);

impl Relay {
    pub(crate) async fn start(_wish: &Wish) -> Relay {
        let mut spawned = Spawned::new();
        let file = |name| spawned.file(name).display().to_string();
        let arguments = [spawned.address.to_string(), file("cert.pem"), file("key.pem")];
        spawned.run(&program(), &arguments);
        spawned.ready().await;
        Relay(spawned)
    }
}

/// It lies where this program does, or where the others are built.
fn program() -> PathBuf {
    let beside = std::env::current_exe().unwrap().with_file_name("impp-relay");
    if beside.exists() { beside } else { binaries::imppd().with_file_name("impp-relay") }
}

impl Protocol for Relay {
    fn processes(&self) -> Vec<u32> {
        self.0.processes()
    }

    fn settings(&self) -> Vec<String> {
        Vec::new()
    }

    fn sign_in(&self, who: usize) -> Later<'_, io::Result<Client>> {
        Box::pin(async move {
            let tcp = self.0.tcp(Some(source(who))).await?;
            let mut stream = self.0.tls(tcp).await?;
            // What comes back shows that others reach it from now on.
            let mut first = BytesMut::new();
            relayed::put(who as u32, &[], &mut first);
            let asked = first.len();
            relayed::put(who as u32, b"me", &mut first);
            stream.write_all(&first).await?;
            stream.flush().await?;
            let mut back = vec![0; first.len() - asked];
            stream.read_exact(&mut back).await?;
            Ok(Client { stream, speech: Box::new(Relayed { who: who as u32 }) })
        })
    }

    fn waiting(&self, _who: usize) -> Later<'_, io::Result<Vec<Bytes>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

struct Relayed {
    who: u32,
}

impl Speech for Relayed {
    fn message(&mut self, to: usize, body: &[u8], out: &mut BytesMut) {
        relayed::put(to as u32, body, out);
    }

    fn publish(&mut self, text: &str, out: &mut BytesMut) {
        relayed::put(SHOWN + self.who, text.as_bytes(), out);
    }

    fn follow(&mut self, whom: usize, out: &mut BytesMut) {
        relayed::put(SHOWN + whom as u32, &[], out);
    }

    fn take(&mut self, input: &mut BytesMut, _out: &mut BytesMut, came: &mut Vec<Came>) {
        while let Some((to, frame)) = relayed::take(input) {
            let body = frame.slice(HEAD_BYTES..);
            came.push(if to >= SHOWN { Came::Status(body) } else { Came::Message(body) });
        }
    }
}
