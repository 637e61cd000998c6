//! One connection from TLS to its end: frames in and out, deadlines, the session's requests. What
//! comes before there is a session is in `signing_in`.
//!
//! What requests do is left to `session`.

mod asked;
mod frames;
mod signing_in;
mod visiting;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use impp_protocol::command::{Asks, Bye, ByeReason, Ping};
use impp_protocol::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_UNSIGNED};
use impp_protocol::{Code, Command, Error, Kind, Request};
use tokio::time::Instant;

use super::Entrance;
use crate::core::config::seconds;
use crate::core::signal::Signal;
use crate::session::sign_in::SignIn;
use crate::session::{Session, Visitor};
use crate::wire::admission::Place;
use crate::wire::driver::{Driver, Excess, Heard, Next, Terms};
use crate::wire::liveness::{Overdue, Patience};
use crate::wire::pipe::Pipe;
use crate::wire::rate::Rate;
use asked::{Answered, Asked};
use frames::Frames;
use signing_in::{Early, OUTPUT_BYTES_MAX_UNSIGNED};

/// Where the connection is.
enum Phase {
    /// Before the client's HELLO.
    Opening,
    /// After it, before the end of the sign-in.
    SigningIn(Box<SignIn>),
    /// The client asks and is told.
    SignedIn(Box<Session>),
    /// So does one who has proven no name.
    Visiting(Box<Visitor>),
    /// The session is at a request that waits for something; the others wait behind it.
    Asked(Asked),
    /// Nothing more is read.
    Ending,
}

/// What a connection that was waiting goes on with.
#[expect(clippy::large_enum_variant, reason = "each lives for one match")]
enum Stirred {
    /// Something happened on it.
    By(Next<Command>),
    /// The request that the session was at has come to this.
    Answered(Answered),
    /// The server stops, and there is no session yet.
    Stop,
    /// Its place was given to another.
    MadeWay,
}

/// See the module.
pub struct Connection {
    entrance: Arc<Entrance>,
    driver: Driver<Command>,
    peer: IpAddr,
    phase: Phase,
    /// What nobody raises: who has not signed in is told nothing.
    signal: Signal,
    /// Until the client has signed in; if it never does, to the last byte.
    early: Option<Early>,
    pings: u64,
    /// The PING whose answer is still out.
    unanswered: Option<u64>,
    /// The client has ended the session itself.
    finished: bool,
    /// The client's HELLO says that it takes items of every kind.
    every_item: bool,
    /// And pages of the log without what it knows.
    short_pages: bool,
    /// And that the numbers of its requests belong to its session.
    repeats: bool,
    /// What was heard while the session was at a request, in its order.
    behind: VecDeque<Heard>,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(
        entrance: Arc<Entrance>,
        pipe: Pipe,
        peer: IpAddr,
        place: Place,
        sign_in_deadline: Instant,
    ) -> Connection {
        let now = Instant::now();
        let limits = &entrance.settings.load().limits;
        let rate = Rate::new(now, limits.requests_per_second, limits.requests_burst);
        Connection {
            driver: Driver::new(now, pipe, rate, Excess::Refused),
            peer,
            phase: Phase::Opening,
            signal: Signal::default(),
            early: Some(Early::new(place, sign_in_deadline)),
            pings: 0,
            unanswered: None,
            finished: false,
            every_item: false,
            short_pages: false,
            repeats: false,
            behind: VecDeque::new(),
            entrance,
        }
    }

    /// Serves the connection to its end.
    pub async fn run(mut self) {
        while !matches!(self.phase, Phase::Ending) {
            self.take_frames().await;
            self.tell().await;
            if matches!(self.phase, Phase::Ending) {
                break;
            }
            match self.next().await {
                Stirred::By(Next::Moved) => {}
                Stirred::By(Next::Woken(ended)) => {
                    for (number, command) in ended {
                        self.answer(number, command);
                    }
                }
                Stirred::Answered(answered) => {
                    self.answered(answered);
                    // Before what waits behind: there may be more of that without end.
                    self.tell().await;
                }
                Stirred::By(Next::Overdue(overdue)) => self.overdue(overdue),
                Stirred::Stop => self.stop(),
                Stirred::MadeWay => return self.make_way(),
                Stirred::By(Next::Closed) => {
                    // The peer may have closed only its own side: what it asked is answered.
                    Box::pin(self.come_to_rest()).await;
                    self.answer_waiting().await;
                    break;
                }
            }
        }
        Box::pin(self.lose(Duration::ZERO)).await;
        let finish = Box::pin(self.driver.finish());
        match &self.early {
            // Its place is its own until it is gone, or another needs it.
            Some(early) => drop(early.place.lost().run_until_cancelled(finish).await),
            None => finish.await,
        }
    }

    /// Answers what waits for the store.
    async fn answer_waiting(&mut self) {
        if let Phase::SignedIn(session) = &self.phase {
            session.hurry();
        }
        while let Some((number, command)) = self.driver.outcome().await {
            self.answer(number, command);
        }
    }

    /// The session outlives the connection, unless the client has ended it.
    async fn lose(&mut self, longer: Duration) {
        // What is still to be done of what was asked goes on by itself.
        self.driver.forget();
        match std::mem::replace(&mut self.phase, Phase::Ending) {
            Phase::SignedIn(session) if self.finished => session.end().await,
            Phase::SignedIn(session) => {
                let grace = seconds(self.entrance.settings.load().times.grace_seconds) + longer;
                session.park(grace).await;
            }
            Phase::Visiting(visitor) => visitor.end().await,
            _ => {}
        }
    }

    /// What happens next. That the server stops a session is told itself.
    async fn next(&mut self) -> Stirred {
        let terms = self.terms();
        let Connection { entrance, driver, signal, phase, early, .. } = self;
        match (phase, early) {
            (Phase::SignedIn(session), _) => {
                let mailbox = session.client.mailbox.clone();
                Stirred::By(driver.next(&mailbox.signal, &terms, None).await)
            }
            (Phase::Visiting(visitor), _) => {
                let mailbox = visitor.mailbox.clone();
                Stirred::By(driver.next(&mailbox.signal, &terms, None).await)
            }
            (Phase::Asked(asked), _) => tokio::select! {
                // In one order, so that a world is the same each time.
                biased;
                answered = asked => Stirred::Answered(answered),
                next = driver.next(signal, &terms, None) => Stirred::By(next),
            },
            (_, None) => Stirred::Stop,
            (_, Some(early)) => {
                let next = driver.next(signal, &terms, Some(early.deadline));
                let next = entrance.stopping.begun.run_until_cancelled(next);
                match early.place.lost().run_until_cancelled(next).await {
                    Some(Some(next)) => Stirred::By(next),
                    Some(None) => Stirred::Stop,
                    None => Stirred::MadeWay,
                }
            }
        }
    }

    /// The server stops.
    fn stop(&mut self) {
        self.answer(0, self.stopping().into());
        self.let_go();
    }

    /// What is said when it does.
    fn stopping(&self) -> Bye {
        let retry_after = seconds(self.entrance.settings.load().times.stop_retry_seconds);
        Bye::stopping(retry_after)
    }

    /// What holds now: more once the client has signed in.
    fn terms(&self) -> Terms {
        let config = self.entrance.settings.load();
        let limits = &config.limits;
        let signed_in =
            matches!(self.phase, Phase::SignedIn(_) | Phase::Visiting(_) | Phase::Asked(_));
        // Behind a breach nothing is read any more.
        let is_broken = matches!(self.behind.back(), Some(Heard::Breach(..)));
        let most = if is_broken { 0 } else { limits.requests_in_flight_max };
        Terms {
            frame_bytes_max: if signed_in { FRAME_BYTES_MAX } else { FRAME_BYTES_MAX_UNSIGNED },
            output_bytes_max: self.output_bytes_max(),
            in_flight_max: most.saturating_sub(self.behind.len() as u64),
            patience: Patience {
                idle: signed_in.then(|| seconds(config.times.idle_seconds)),
                frame: seconds(limits.frame_seconds),
                stall: seconds(limits.stall_seconds),
            },
        }
    }

    fn output_bytes_max(&self) -> usize {
        let most = self.entrance.settings.load().limits.push_buffer_bytes as usize;
        if self.early.is_some() { most.min(OUTPUT_BYTES_MAX_UNSIGNED) } else { most }
    }

    async fn take_frames(&mut self) {
        while !matches!(self.phase, Phase::Ending)
            && let Some(heard) = self.hear()
        {
            self.take(heard).await;
        }
    }

    async fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Request(Request { number, command }) => self.take_command(number, command).await,
            Heard::Refused(number, error) => self.answer(number, error.into()),
            Heard::Unfit(number, kind, error) => self.unfit(number, kind, error),
            Heard::Breach(number, error) => self.break_off(number, error),
        }
    }

    /// A request of which no more than a text is wrong: it alone is refused, and those behind it are
    /// served, if requests are served at all.
    fn unfit(&mut self, number: u64, kind: Kind, error: Error) {
        let is_request = kind.asks() != Asks::Nothing && number != 0;
        match self.phase {
            Phase::SignedIn(_) | Phase::Visiting(_) if is_request => {
                self.answer(number, error.into());
            }
            _ => self.break_off(number, error),
        }
    }

    async fn take_command(&mut self, number: u64, command: Command) {
        match (std::mem::replace(&mut self.phase, Phase::Ending), command) {
            (phase, Command::Bye(_)) if number != 0 => {
                self.phase = phase;
                self.break_off(number, Error::new(Code::Malformed, "BYE: its number is 0"));
            }
            (phase, Command::Bye(bye)) => {
                self.phase = phase;
                // What was asked before is answered before.
                self.answer_waiting().await;
                self.finished = bye.reason == ByeReason::Done;
                Box::pin(self.lose(Duration::ZERO)).await;
            }
            (Phase::Opening, Command::Hello(hello)) if number == 0 => self.hello(&hello),
            (Phase::SigningIn(sign_in), Command::Auth(auth)) if number != 0 => {
                let proof = self.proof();
                // Only who is still to sign in needs room for this.
                Box::pin(self.auth(number, auth, sign_in, proof)).await;
            }
            (Phase::SignedIn(mut session), Command::Ok(_)) if self.unanswered == Some(number) => {
                self.unanswered = None;
                // Who only listens uses its device too.
                session.is_there();
                self.phase = Phase::SignedIn(session);
            }
            (Phase::SignedIn(session), command) => self.ask(session, number, command),
            (Phase::Visiting(visitor), Command::Ok(_)) if self.unanswered == Some(number) => {
                self.unanswered = None;
                self.phase = Phase::Visiting(visitor);
            }
            (Phase::Visiting(visitor), command) => {
                Box::pin(self.ask_nameless(visitor, number, command)).await;
            }
            (Phase::Ending, _) => {}
            (early, command) => {
                self.phase = early;
                self.break_off(number, self.too_early(command.kind()));
            }
        }
    }

    /// Tells the client what is new, as long as there is room.
    async fn tell(&mut self) {
        let room = self.output_bytes_max();
        let short_pages = self.short_pages;
        let mut frames = Frames { out: self.driver.output(), room, short_pages };
        let bye = match &mut self.phase {
            Phase::SignedIn(session) => session.tell(&mut frames).await,
            Phase::Visiting(visitor) => Box::pin(visitor.tell(&mut frames)).await,
            _ => return,
        };
        if let Some(bye) = bye {
            self.finished |= matches!(bye.reason, ByeReason::Revoked);
            let longer = bye.retry_after.unwrap_or_default();
            self.answer(0, bye.into());
            Box::pin(self.lose(longer)).await;
        }
    }

    /// Writes an answer, or an unsolicited frame with number 0.
    fn answer(&mut self, number: u64, command: Command) {
        self.entrance.metrics.written(&command);
        let kind = command.kind();
        if let Err(error) = self.driver.put(number, command) {
            tracing::error!(%kind, %error, "an answer does not fit a frame");
            let error = Error::new(Code::TooLarge, "the answer does not fit a frame");
            let _ = self.driver.put(number, error.into());
        }
    }

    /// Answers an error after which nothing more can be read, and says goodbye.
    fn break_off(&mut self, number: u64, error: Error) {
        tracing::debug!(peer = %self.peer, %error, "protocol");
        self.answer(number, error.into());
        self.answer(0, Bye::new(ByeReason::Protocol, "see the error before").into());
        self.let_go();
    }

    /// The connection ends from this side; the session stays for its grace.
    fn let_go(&mut self) {
        let grace = seconds(self.entrance.settings.load().times.grace_seconds);
        match std::mem::replace(&mut self.phase, Phase::Ending) {
            Phase::SignedIn(session) => drop(tokio::spawn(session.park(grace))),
            Phase::Visiting(visitor) => drop(tokio::spawn(visitor.end())),
            // What it has begun is done to its end, though nobody waits for the answer.
            Phase::Asked(asked) => {
                tokio::spawn(async move { asked.await.into_session().park(grace).await });
            }
            _ => {}
        }
    }

    /// A deadline has passed: a PING is due, or the end.
    fn overdue(&mut self, overdue: Overdue) {
        let end = match overdue {
            Overdue::End(text) => text,
            Overdue::Ping => {
                self.pings += 1;
                self.unanswered = Some(self.pings);
                return self.answer(self.pings, Ping::empty().into());
            }
            Overdue::Nothing if self.is_late() => "signing in took too long",
            Overdue::Nothing => return,
        };
        self.answer(0, Bye::new(ByeReason::Timeout, end).into());
        self.let_go();
    }

    /// Whether the client should have signed in by now.
    fn is_late(&self) -> bool {
        self.early.as_ref().is_some_and(|early| Instant::now() >= early.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F: Future>(_: impl FnOnce(Connection) -> F) -> usize {
        size_of::<F>()
    }

    /// What a connection's task takes while nothing happens, beside TLS and the session: what runs only
    /// now and then has its room only then.
    #[test]
    fn an_idle_connection_is_small() {
        assert!(size(Connection::run) <= CONNECTION_BYTES_MAX, "{}", size(Connection::run));
    }

    const CONNECTION_BYTES_MAX: usize = 3584;
}
