//! mosquitto: topics instead of people (MQTT 3.1.1, quality of service 0), no sign-in and no store.

use std::io;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::spawned::{Spawned, source};
use crate::protocol::{Came, Client, Later, Protocol, Speech, Wish};

const CONFIGURATION: &str = include_str!("../../../peers/mosquitto.conf");

/// Kinds of packets, with the flags that they have.
const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;

/// See the module.
pub(crate) struct Mosquitto(Spawned);

impl Mosquitto {
    pub(crate) async fn start(_wish: &Wish) -> Mosquitto {
        let mut spawned = Spawned::new();
        let file = spawned.configured("mosquitto.conf", CONFIGURATION);
        spawned.run(Path::new("/usr/sbin/mosquitto"), &["-c".to_owned(), file]);
        spawned.ready().await;
        Mosquitto(spawned)
    }
}

impl Protocol for Mosquitto {
    fn processes(&self) -> Vec<u32> {
        self.0.processes()
    }

    fn settings(&self) -> Vec<String> {
        vec!["bench/peers/mosquitto.conf".to_owned()]
    }

    fn sign_in(&self, who: usize) -> Later<'_, io::Result<Client>> {
        Box::pin(async move {
            let tcp = self.0.tcp(Some(source(who))).await?;
            let mut stream = self.0.tls(tcp).await?;
            let mut first = BytesMut::new();
            let clean_and_no_keep_alive = [2, 0, 0];
            let head = [&[0, 4][..], b"MQTT", &[4], &clean_and_no_keep_alive].concat();
            packet(CONNECT, &[&head, &text(&format!("p{who}"))], &mut first);
            subscribe(&format!("m/{who}"), &mut first);
            stream.write_all(&first).await?;
            stream.flush().await?;
            // CONNACK has 4 octets, SUBACK 5.
            let mut answers = [0; 9];
            stream.read_exact(&mut answers).await?;
            Ok(Client { stream, speech: Box::new(Packets { who }) })
        })
    }

    fn waiting(&self, _who: usize) -> Later<'_, io::Result<Vec<Bytes>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

struct Packets {
    who: usize,
}

impl Speech for Packets {
    fn message(&mut self, to: usize, body: &[u8], out: &mut BytesMut) {
        packet(PUBLISH, &[&text(&format!("m/{to}")), body], out);
    }

    fn publish(&mut self, shown: &str, out: &mut BytesMut) {
        packet(PUBLISH, &[&text(&format!("s/{}", self.who)), shown.as_bytes()], out);
    }

    fn follow(&mut self, whom: usize, out: &mut BytesMut) {
        subscribe(&format!("s/{whom}"), out);
    }

    fn take(&mut self, input: &mut BytesMut, _out: &mut BytesMut, came: &mut Vec<Came>) {
        while let Some((kind, body)) = next(input) {
            if kind != PUBLISH {
                came.push(Came::Else);
                continue;
            }
            let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            let rest = body.slice(topic..);
            came.push(if body[2] == b'm' { Came::Message(rest) } else { Came::Status(rest) });
        }
    }
}

fn subscribe(topic: &str, out: &mut BytesMut) {
    let (number, quality) = ([0, 1], [0]);
    packet(SUBSCRIBE, &[&number, &text(topic), &quality], out);
}

/// A text with its length.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// Writes a packet: its kind, the length of the rest in groups of seven bits, the rest.
fn packet(kind: u8, parts: &[&[u8]], out: &mut BytesMut) {
    out.put_u8(kind);
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    while length > 127 {
        out.put_u8((length % 128) as u8 | 128);
        length /= 128;
    }
    out.put_u8(length as u8);
    parts.iter().for_each(|part| out.put_slice(part));
}

/// The next packet, if it is whole.
fn next(input: &mut BytesMut) -> Option<(u8, Bytes)> {
    let (mut length, mut head) = (0, 1);
    loop {
        let octet = *input.get(head)?;
        length |= usize::from(octet & 127) << (7 * (head - 1));
        head += 1;
        if octet < 128 {
            break;
        }
    }
    let kind = *input.first()?;
    (input.len() >= head + length)
        .then(|| (kind, input.split_to(head + length).freeze().slice(head..)))
}
