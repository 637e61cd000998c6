//! Signing in, anew or by a ticket.

use std::time::Duration;

use bytes::BytesMut;
use impp_protocol::Command;
use impp_protocol::command::{Auth, Done, Hello, PROTOCOL_VERSION};
use impp_protocol::sasl::resume::Ticket;
use tokio::time::{Instant, timeout};

use super::{Device, GRACE_SAFE, PATIENCE, Seen, Session, read};
use crate::world::readings;

impl Device {
    pub(super) async fn connect(&mut self) {
        self.next_try = Instant::now() + Duration::from_millis(self.dice.u64(500..5000));
        let Some((end, proof)) = self.net.connect(&self.who, &self.name) else { return };
        let (open, subscribed) = Default::default();
        let session = Session {
            end,
            input: BytesMut::new(),
            number: 0,
            since: self.net.millis(),
            reading: proof.reading,
            open,
            heard: Instant::now(),
            pinged: false,
            log: false,
            subscribed,
            rest: None,
        };
        self.session = Some(session);
        self.sessions += 1;
        let signed_in = timeout(PATIENCE, self.sign_in(proof.exporter)).await;
        match signed_in {
            Ok(Some(resumed)) => {
                let away = self.lost.take().map_or(Duration::ZERO, |lost| lost.elapsed());
                let bound = self.layer.as_ref().is_some_and(|(_, leased)| !leased);
                self.layer_due |= bound && (!resumed || away > GRACE_SAFE);
                let Some(session) = &mut self.session else { return };
                if resumed {
                    // What was answered before goes on by itself.
                    let stands = |seen: &Seen| seen.state.is_some() && !seen.refused;
                    let known = self.seen.iter().filter(|(_, seen)| stands(seen));
                    session.subscribed = known.map(|(who, _)| who.clone()).collect();
                }
                self.net.note(&format!("{} is signed in, resumed: {resumed}", self.name));
            }
            _ => {
                self.session = None;
                self.lost.get_or_insert(Instant::now());
            }
        }
    }

    /// Whether the session was resumed; `None` if there is none.
    pub(super) async fn sign_in(&mut self, exporter: [u8; 32]) -> Option<bool> {
        let hello = Hello {
            version: PROTOCOL_VERSION,
            features: vec!["every-item".to_owned()],
            ..Hello::empty()
        };
        self.say(0, hello).await;
        // An answer that does not come leaves it good.
        let ticket = self.ticket.clone().filter(|_| self.dice.u8(..) < 200);
        if let Some(ticket) = ticket {
            let proof = ticket.client_proof(&exporter).to_vec();
            let auth = Auth {
                data: Some(proof.into()),
                device: Some(self.id),
                resume: Some(ticket.session()),
                ..Auth::empty()
            };
            self.say(1, auth).await;
            if let Command::Ok(done) = self.answer(1).await? {
                let proven = done.data.as_deref().unwrap_or_default();
                if !ticket.is_proven_by_server(&exporter, proven) {
                    self.wrong("the server has not proven that it knows the ticket");
                }
                self.welcome(&done);
                return Some(true);
            }
        }
        let auth =
            Auth { mechanism: Some("EXTERNAL".to_owned()), device: Some(self.id), ..Auth::empty() };
        self.say(2, auth).await;
        match self.answer(2).await? {
            Command::Ok(done) => {
                self.welcome(&done);
                for seen in self.seen.values_mut() {
                    seen.state = None;
                }
                Some(false)
            }
            _ => None,
        }
    }

    pub(super) fn welcome(&mut self, done: &Done) {
        if done.address.as_ref() != Some(&self.who) {
            self.wrong("signed in as somebody else");
        }
        self.ticket = done.resume.as_deref().and_then(Ticket::decode);
        if let Some(session) = &mut self.session {
            session.number = 2;
        }
    }

    /// What the server says of itself is of one reading of its settings, and of none before that by
    /// which it has proven itself.
    fn greeted(&mut self, hello: &Hello) {
        let Some(Session { since, reading, .. }) = self.session else { return };
        let (now, domain, said) = (self.net.millis(), self.who.domain(), readings::of_hello(hello));
        self.facts.lock().answered_by(&domain, (since, since), &[reading]);
        self.facts.lock().answered_by(&domain, (since, now), &said);
        if said.iter().any(|said| *said < reading) {
            self.wrong(&format!("TLS was of reading {reading} of the settings, HELLO of {said:?}"));
        }
    }

    /// The answer to a request of the sign-in.
    pub(super) async fn answer(&mut self, number: u64) -> Option<Command> {
        loop {
            let request = read(&mut self.session).await?;
            match request.command {
                Command::Hello(hello) => self.greeted(&hello),
                Command::Bye(_) => return None,
                command if request.number == number => return Some(command),
                other => {
                    self.wrong(&format!("while it signed in it was told {other:?}"));
                    return None;
                }
            }
        }
    }
}
