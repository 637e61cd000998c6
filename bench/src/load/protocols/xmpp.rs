//! prosody and ejabberd: XMPP over TLS from the first byte, SCRAM-SHA-256, rosters and presence.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use impp_protocol::sasl::Password;
use impp_protocol::sasl::scram::{Binding, Client as Scram, Nonce};
use impp_tests::DEADLINE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsStream;

use super::spawned::{HOST, Spawned, source};
use super::stanzas::{Stanzas, base64, element, unbase64};
use crate::protocol::{Client, Later, Protocol, Wish};

const PROSODY: &str = include_str!("../../../peers/prosody.cfg.lua");
const EJABBERD: &str = include_str!("../../../peers/ejabberd.yml");
const PASSWORD: &str = "secret";

/// See the module.
pub(crate) struct Xmpp {
    spawned: Spawned,
    configuration: &'static str,
}

impl Xmpp {
    pub(crate) async fn prosody(wish: &Wish) -> Xmpp {
        let mut spawned = Spawned::new();
        let file = spawned.configured("prosody.cfg.lua", PROSODY);
        let arguments = ["-F".to_owned(), "--config".to_owned(), file];
        std::fs::create_dir(spawned.file("data")).unwrap();
        spawned.run("/usr/bin/prosody".as_ref(), &arguments);
        Xmpp::with_people(spawned, "bench/peers/prosody.cfg.lua", wish).await
    }

    pub(crate) async fn ejabberd(wish: &Wish) -> Xmpp {
        let mut spawned = Spawned::new();
        let file = spawned.configured("ejabberd.yml", EJABBERD);
        let parts = ["cert.pem", "key.pem"];
        let both = parts.map(|part| std::fs::read_to_string(spawned.file(part)).unwrap()).concat();
        std::fs::write(spawned.file("both.pem"), both).unwrap();
        let quoted = |name: &str| format!("\"{}\"", spawned.file(name).display());
        let words = [
            "-noinput",
            "+K",
            "true",
            "+S",
            "1:1",
            "+P",
            "250000",
            "-mnesia",
            "dir",
            &quoted("mnesia"),
            "-ejabberd",
            "config",
            &format!("\"{file}\""),
            "log_path",
            &quoted("ejabberd.log"),
            "-s",
            "ejabberd",
        ]
        .map(str::to_owned);
        spawned.run("/usr/bin/erl".as_ref(), &words);
        Xmpp::with_people(spawned, "bench/peers/ejabberd.yml", wish).await
    }

    /// When it listens: has everybody get an account, as anybody may there.
    async fn with_people(mut spawned: Spawned, configuration: &'static str, wish: &Wish) -> Xmpp {
        spawned.ready().await;
        let xmpp = Xmpp { spawned, configuration };
        let mut stream = xmpp.first().await;
        for who in 0..wish.people {
            let register = format!(
                "<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>p{who}\
                 </username><password>{PASSWORD}</password></query></iq>"
            );
            stream.write(&register).await.expect("an account");
            let answer = stream.until("iq").await.expect("an account");
            assert!(answer.contains("result"), "no account: {answer}");
        }
        xmpp
    }

    /// The first stream: they listen before they have all that they need for one.
    async fn first(&self) -> Stream {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match timeout(DEADLINE, self.opened(0)).await.unwrap_or_else(|late| Err(late.into())) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < deadline, "no stream: {error}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn opened(&self, who: usize) -> io::Result<Stream> {
        let tcp = self.spawned.tcp(Some(source(who))).await?;
        let mut stream = Stream { tls: self.spawned.tls(tcp).await?, input: BytesMut::new() };
        stream.open().await?;
        Ok(stream)
    }
}

impl Protocol for Xmpp {
    fn processes(&self) -> Vec<u32> {
        self.spawned.processes()
    }

    fn settings(&self) -> Vec<String> {
        vec![self.configuration.to_owned()]
    }

    fn sign_in(&self, who: usize) -> Later<'_, io::Result<Client>> {
        Box::pin(async move {
            let mut stream = self.opened(who).await?;
            stream.authenticate(&format!("p{who}")).await?;
            stream.open().await?;
            let bind =
                "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
            stream.write(bind).await?;
            stream.until("iq").await?;
            // Without it messages wait for somebody who is there. It comes back when it has been seen.
            stream.write("<presence/>").await?;
            stream.until("presence").await?;
            Ok(Client { stream: stream.tls, speech: Box::new(Stanzas::default()) })
        })
    }

    fn waiting(&self, _who: usize) -> Later<'_, io::Result<Vec<Bytes>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A connection before somebody is signed in.
struct Stream {
    tls: TlsStream<TcpStream>,
    input: BytesMut,
}

impl Stream {
    async fn write(&mut self, text: &str) -> io::Result<()> {
        self.tls.write_all(text.as_bytes()).await?;
        self.tls.flush().await
    }

    /// Opens a stream, and passes over what the server offers.
    async fn open(&mut self) -> io::Result<()> {
        self.input.clear();
        let head = format!(
            "<?xml version='1.0'?><stream:stream to='{HOST}' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        );
        self.write(&head).await?;
        while !self.input.ends_with(b"</stream:features>") {
            self.read().await?;
        }
        self.input.clear();
        Ok(())
    }

    /// The next element of this name; others are passed over.
    async fn until(&mut self, name: &str) -> io::Result<String> {
        loop {
            while let Some(stanza) = element(&mut self.input) {
                let text = String::from_utf8_lossy(&stanza).into_owned();
                if text[1..].starts_with(name) {
                    return Ok(text);
                }
                if text.starts_with("<failure") {
                    return Err(io::Error::other(text));
                }
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.tls.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn authenticate(&mut self, name: &str) -> io::Result<()> {
        const NAMESPACE: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
        let mut random = [0; 18];
        // What makes each sign-in another one.
        random[..16].copy_from_slice(&impp_tests::peer::id_at(0).0);
        let password = Password::prepare(PASSWORD).expect("a password");
        let (client, first) =
            Scram::start(name, password, Nonce::from_random(random), Binding::None).unwrap();
        let auth = format!(
            "<auth xmlns='{NAMESPACE}' mechanism='SCRAM-SHA-256'>{}</auth>",
            base64(&first)
        );
        self.write(&auth).await?;
        let challenge = unbase64(&self.until("challenge").await?);
        let (answered, proof) =
            client.handle_challenge(&challenge, None).map_err(io::Error::other)?;
        let response = format!("<response xmlns='{NAMESPACE}'>{}</response>", base64(&proof));
        self.write(&response).await?;
        let success = unbase64(&self.until("success").await?);
        answered.handle_success(&success).map_err(io::Error::other)?;
        Ok(())
    }
}
