//! nats-server: subjects instead of people, no sign-in and no store.

use std::io;
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::spawned::{Spawned, source};
use crate::protocol::{Came, Client, Later, Protocol, Speech, Wish};

const CONFIGURATION: &str = include_str!("../../../peers/nats.conf");
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":true,\
    \"lang\":\"rust\",\"version\":\"1\",\"protocol\":1}\r\n";

/// See the module.
pub(crate) struct Nats(Spawned);

impl Nats {
    pub(crate) async fn start(_wish: &Wish) -> Nats {
        let mut spawned = Spawned::new();
        let file = spawned.configured("nats.conf", CONFIGURATION);
        spawned.run(Path::new("/usr/sbin/nats-server"), &["-c".to_owned(), file]);
        spawned.ready().await;
        Nats(spawned)
    }
}

impl Protocol for Nats {
    fn processes(&self) -> Vec<u32> {
        self.0.processes()
    }

    fn settings(&self) -> Vec<String> {
        vec!["bench/peers/nats.conf".to_owned()]
    }

    fn sign_in(&self, who: usize) -> Later<'_, io::Result<Client>> {
        Box::pin(async move {
            // Before TLS it says who it is.
            let mut tcp = self.0.tcp(Some(source(who))).await?;
            while tcp.read_u8().await? != b'\n' {}
            let mut stream = self.0.tls(tcp).await?;
            let first = format!("{CONNECT}SUB m.{who} 1\r\nPING\r\n");
            stream.write_all(first.as_bytes()).await?;
            stream.flush().await?;
            let mut input = BytesMut::new();
            while !input.ends_with(b"PONG\r\n") {
                if stream.read_buf(&mut input).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(Client { stream, speech: Box::new(Lines { who }) })
        })
    }

    fn waiting(&self, _who: usize) -> Later<'_, io::Result<Vec<Bytes>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

struct Lines {
    who: usize,
}

impl Speech for Lines {
    fn message(&mut self, to: usize, body: &[u8], out: &mut BytesMut) {
        publish(&format!("m.{to}"), body, out);
    }

    fn publish(&mut self, text: &str, out: &mut BytesMut) {
        publish(&format!("s.{}", self.who), text.as_bytes(), out);
    }

    fn follow(&mut self, whom: usize, out: &mut BytesMut) {
        out.extend_from_slice(format!("SUB s.{whom} {}\r\n", whom + 2).as_bytes());
    }

    fn take(&mut self, input: &mut BytesMut, out: &mut BytesMut, came: &mut Vec<Came>) {
        while let Some(end) = input.windows(2).position(|two| two == b"\r\n") {
            let line = String::from_utf8_lossy(&input[..end]);
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["MSG", subject, .., length] => {
                    let length: usize = length.parse().unwrap();
                    let is_message = subject.starts_with('m');
                    let whole = end + 2 + length + 2;
                    if input.len() < whole {
                        return;
                    }
                    let body = input.split_to(whole).freeze().slice(end + 2..end + 2 + length);
                    came.push(if is_message { Came::Message(body) } else { Came::Status(body) });
                    continue;
                }
                ["PING"] => out.extend_from_slice(b"PONG\r\n"),
                ["-ERR", ..] => came.push(Came::Refused),
                _ => came.push(Came::Else),
            }
            input.advance(end + 2);
        }
    }
}

fn publish(subject: &str, body: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(format!("PUB {subject} {}\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}
