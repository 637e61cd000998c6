//! A request that waits for the disk or for something else: the connection goes on meanwhile, and what
//! came behind it is done when it is its turn.
//!
//! Requests are looked at in their order, so one that waits holds up the others of its connection; but
//! not a PING, which asks whether somebody is there.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use impp_protocol::command::Done;
use impp_protocol::{Code, Command, Error, Request};

use super::{Connection, Phase};
use crate::core::answers::Answer;
use crate::session::{Kept, Session};
use crate::wire::driver::Heard;

/// A session at its request.
pub(super) struct Asked {
    work: Pin<Box<dyn Future<Output = Answered> + Send>>,
    /// What was answered before: that it has come may be said meanwhile.
    kept: Kept,
}

impl Future for Asked {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        self.work.as_mut().poll(context)
    }
}

/// What it has come to.
pub(super) struct Answered {
    pub session: Box<Session>,
    number: u64,
    answer: Answer,
}

impl Answered {
    /// The session, where nobody waits for the answer any more.
    pub(super) fn into_session(self) -> Box<Session> {
        self.session
    }
}

impl Connection {
    /// Does what the client asks as far as that takes no waiting; the rest when it is due.
    pub(super) fn ask(&mut self, mut session: Box<Session>, number: u64, command: Command) {
        if number == 0 {
            self.phase = Phase::SignedIn(session);
            let text = format!("{}: a request has a number from 1", command.kind());
            return self.break_off(number, Error::new(Code::Malformed, text));
        }
        let kept = session.kept_answers();
        let work = Box::pin(async move {
            let answer = session.ask(number, command).await;
            Answered { session, number, answer }
        });
        let mut asked = Asked { work, kept };
        match (&mut asked).now_or_never() {
            Some(answered) => self.answered(answered),
            None => self.phase = Phase::Asked(asked),
        }
    }

    /// The session is there again.
    pub(super) fn answered(&mut self, answered: Answered) {
        let Answered { session, number, answer } = answered;
        self.phase = Phase::SignedIn(session);
        match answer {
            Answer::Now(command) => self.answer(number, command),
            Answer::Later(later) => self.driver.waits(number, later),
        }
    }

    /// What is to be looked at next. What comes while the session is at a request waits behind it; it
    /// counts as requests in flight do, so that it is bounded.
    pub(super) fn hear(&mut self) -> Option<Heard> {
        loop {
            let is_asked = matches!(self.phase, Phase::Asked(_));
            if !is_asked && !self.behind.is_empty() {
                return if self.may_go_on() { self.behind.pop_front() } else { None };
            }
            if matches!(self.behind.back(), Some(Heard::Breach(..))) {
                return None;
            }
            let heard = self.driver.hear(&self.terms())?;
            let heard = self.counted(heard);
            if !is_asked {
                return Some(heard);
            }
            match heard {
                Heard::Request(Request { number, command: Command::Ping(ping) }) if number != 0 => {
                    if let (Phase::Asked(asked), Some(up_to)) = (&self.phase, ping.answered) {
                        asked.kept.have_come(up_to);
                    }
                    let time = Some(self.entrance.clock.wall());
                    self.answer(number, Done { time, ..Done::empty() }.into());
                }
                other => self.behind.push_back(other),
            }
        }
    }

    /// Whether there is room for what waits behind: for its answer, and among the requests in flight.
    fn may_go_on(&self) -> bool {
        let most = self.entrance.settings.load().limits.requests_in_flight_max;
        self.driver.has_room(&self.terms()) && self.driver.in_flight() < most
    }

    /// Does all that was asked, to the last of what waits behind.
    pub(super) async fn come_to_rest(&mut self) {
        loop {
            self.end_of_asked().await;
            match self.behind.pop_front() {
                Some(heard) if !matches!(self.phase, Phase::Ending) => self.take(heard).await,
                _ => return,
            }
        }
    }

    /// Does what the session is at to its end. It may wait for a request in flight, as a repeat does for the
    /// first one: so these are looked after as well.
    async fn end_of_asked(&mut self) {
        let Phase::Asked(asked) = &mut self.phase else { return };
        let mut ended = Vec::new();
        let answered = loop {
            tokio::select! {
                biased;
                answered = &mut *asked => break answered,
                Some(end) = self.driver.outcome() => ended.push(end),
            }
        };
        for (number, command) in ended {
            self.answer(number, command);
        }
        self.answered(answered);
    }
}
