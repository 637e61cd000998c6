//! What drives a connection, a client's or a link's: whole frames in, as long as their rate and what
//! waits allow it; requests in flight, which wait for their outcome; frames out; and what time and
//! silence mean.
//!
//! Sockets are left to `pipe`. What a frame means, and what is said when, is left to the owner.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use impp_protocol::command::CommandError;
use impp_protocol::frame::{Frame, FrameError};
use impp_protocol::{Code, Command, Error, Kind, Request};
use tokio::time::Instant;

use super::liveness::{Doing, Liveness, Overdue, Patience};
use super::pipe::{Event, Pipe, unreadable};
use super::rate::Rate;
use crate::core::signal::Signal;

/// A connection at work, whose requests in flight come to a `T`.
pub struct Driver<T> {
    pipe: Pipe,
    rate: Rate,
    excess: Excess,
    /// Nothing is read until then.
    paused: Option<Instant>,
    liveness: Liveness,
    in_flight: FuturesUnordered<Numbered<T>>,
    /// What requests have come to that is not handed out yet, with their numbers.
    ended: Vec<(u64, T)>,
    /// Frames that were handed out since it was last waited.
    turn: usize,
}

/// Frames of one connection that are heard before all others that have something have their turn.
pub const TURN_FRAMES_MAX: usize = 32;

/// A request in flight, and its number.
type Numbered<T> = Pin<Box<dyn Future<Output = (u64, T)> + Send>>;

/// What becomes of a peer that sends more than its rate.
#[derive(Clone, Copy, Debug)]
pub enum Excess {
    /// Its requests are refused; if it goes on for long, the connection ends. A client is one of
    /// many, and can be told.
    Refused,
    /// What it has sent is done, and nothing more is read for so long: a server of another domain
    /// speaks for many, none of whom has done wrong.
    Paused(Duration),
}

/// What holds for a connection now; a reload or a sign-in changes it under way.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Most bytes of a frame.
    pub frame_bytes_max: usize,
    /// With so many bytes waiting to be written, nothing more is read.
    pub output_bytes_max: usize,
    /// With so many requests in flight, nothing more is read.
    pub in_flight_max: u64,
    /// How long things may take.
    pub patience: Patience,
}

/// A frame that was read.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "each lives for one match")]
pub enum Heard {
    /// Something is asked, answered or told.
    Request(Request),
    /// It is answered with this error and not done.
    Refused(u64, Error),
    /// It asks for this, and only a text or address in it is wrong. Whether it may be asked at all
    /// is the owner's to say.
    Unfit(u64, Kind, Error),
    /// It is answered with this error, and nothing after it can be read.
    Breach(u64, Error),
}

/// What happened while there was nothing to read.
#[derive(Debug)]
pub enum Next<T> {
    /// Bytes came or went: there may be a frame, or room.
    Moved,
    /// The signal was raised, or these requests came to their outcome.
    Woken(Vec<(u64, T)>),
    /// It is time, for this or for what the owner waits for.
    Overdue(Overdue),
    /// The peer has closed its side, or the connection broke.
    Closed,
}

impl<T: 'static> Driver<T> {
    /// A connection that is new.
    pub fn new(now: Instant, pipe: Pipe, rate: Rate, excess: Excess) -> Driver<T> {
        Driver {
            pipe,
            rate,
            excess,
            paused: None,
            liveness: Liveness::new(now),
            in_flight: FuturesUnordered::new(),
            ended: Vec::new(),
            turn: 0,
        }
    }

    /// It is asked whether it lives at another time than others that came with it.
    pub fn spread(&mut self, random: u64) {
        self.liveness.spread(random);
    }

    /// The next frame that has come in whole, if one may be read now and its turn is not over: then
    /// it is heard after [`Driver::next`].
    pub fn hear(&mut self, terms: &Terms) -> Option<Heard> {
        if self.is_turn_over() {
            return None;
        }
        let now = Instant::now();
        if self.may_read(terms) {
            match self.pipe.take(terms.frame_bytes_max) {
                Ok(Some(frame)) => {
                    self.turn += 1;
                    self.liveness.frame_ended();
                    return Some(self.heard(frame, now));
                }
                Ok(None) => {}
                Err(error) => return Some(Heard::Breach(0, unreadable(&error))),
            }
        }
        // Only while it is the peer who is waited for.
        let part_left = self.pipe.is_mid_frame() && self.may_read(terms);
        self.liveness.frames_taken(now, part_left);
        None
    }

    fn heard(&mut self, frame: Frame, now: Instant) -> Heard {
        let number = frame.request;
        // Nobody is kept from leaving, or from saying that it is there.
        let free = [Kind::Bye, Kind::Ok].map(Kind::number).contains(&frame.kind);
        match self.excess {
            Excess::Refused if free => {}
            Excess::Refused => {
                if let Err(after) = self.rate.take(now) {
                    let text = "too many requests; slow down";
                    let error = Error::new(Code::RateLimited, text).retry_after(after);
                    return match self.rate.is_abused() {
                        true => Heard::Breach(number, error),
                        false => Heard::Refused(number, error),
                    };
                }
            }
            Excess::Paused(pause) => {
                if self.rate.take(now).is_err() {
                    self.paused = Some(now + pause);
                }
            }
        }
        match Request::decode(frame) {
            Ok(request) => Heard::Request(request),
            Err(error @ CommandError::UnknownKind(_)) => {
                Heard::Refused(number, Error::new(Code::Unsupported, error.to_string()))
            }
            Err(error @ CommandError::Malformed { kind, .. }) => {
                let told = |code| Error::new(code, error.to_string());
                if error.is_of_text() {
                    Heard::Unfit(number, kind, told(Code::Malformed))
                } else if error.is_foreign() {
                    Heard::Unfit(number, kind, told(Code::Unsupported))
                } else {
                    Heard::Breach(number, told(Code::Malformed))
                }
            }
        }
    }

    /// Waits until something happens, but not beyond `by`. Where the turn is over everybody else has
    /// theirs first, and what has come in by then is gone on with.
    pub async fn next(&mut self, signal: &Signal, terms: &Terms, by: Option<Instant>) -> Next<T> {
        let goes_on = self.is_turn_over();
        self.turn = 0;
        if goes_on {
            tokio::task::yield_now().await;
        }
        let (now, doing) = (Instant::now(), self.doing(terms));
        let live = self.liveness.deadline(now, &terms.patience, doing);
        let deadline = live.into_iter().chain(self.paused).chain(by).min();
        // Who is waited for without an end is looked at now and then.
        let deadline = deadline.unwrap_or(now + terms.patience.frame);
        let Driver { pipe, in_flight, ended, .. } = self;
        let others = |context: &mut Context<'_>| {
            while let Poll::Ready(Some(end)) = in_flight.poll_next_unpin(context) {
                ended.push(end);
            }
            !ended.is_empty()
        };
        // Nothing is read where frames are left: the end of what came would pass for the end of all.
        let event = pipe.event(signal, doing.reading && !goes_on, deadline, others);
        let event = if goes_on { event.now_or_never() } else { Some(event.await) };
        let Some(event) = event else { return Next::Moved };
        let next = match event {
            Event::Input => {
                self.liveness.heard(Instant::now());
                Next::Moved
            }
            Event::Output => {
                self.liveness.progress(Instant::now());
                Next::Moved
            }
            Event::Woken => Next::Woken(std::mem::take(&mut self.ended)),
            Event::Deadline => {
                let doing = self.doing(terms);
                Next::Overdue(self.liveness.overdue(Instant::now(), &terms.patience, doing))
            }
            Event::Closed => Next::Closed,
        };
        self.paused.take_if(|until| *until <= Instant::now());
        next
    }

    fn is_turn_over(&self) -> bool {
        self.turn >= TURN_FRAMES_MAX
    }

    /// Whether more may be answered: what was heard and waits behind something waits for this too.
    pub fn has_room(&self, terms: &Terms) -> bool {
        self.pipe.output_len() < terms.output_bytes_max
    }

    /// How many requests wait for their outcome.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.len() as u64
    }

    /// Frames are read as long as answers can be kept, and not faster than the rate.
    fn may_read(&self, terms: &Terms) -> bool {
        self.paused.is_none() && self.has_room(terms) && self.in_flight() < terms.in_flight_max
    }

    fn doing(&self, terms: &Terms) -> Doing {
        Doing { reading: self.may_read(terms), writing: self.pipe.output_len() > 0 }
    }

    /// A request in flight: its outcome is waited for, and further ones need not wait for it.
    pub fn waits(&mut self, number: u64, outcome: impl Future<Output = T> + Send + 'static) {
        self.in_flight.push(Box::pin(async move { (number, outcome.await) }));
    }

    /// A request whose outcome is known: it is handed out with those that are waited for.
    pub fn ended(&mut self, number: u64, outcome: T) {
        self.ended.push((number, outcome));
    }

    /// Whether no request is in flight, and no outcome is still to be handed out.
    pub fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.ended.is_empty()
    }

    /// Waits for a request in flight, whichever ends first, and for nothing else; `None` if there is
    /// none any more.
    pub async fn outcome(&mut self) -> Option<(u64, T)> {
        match self.ended.is_empty() {
            true => self.in_flight.next().await,
            false => Some(self.ended.remove(0)),
        }
    }

    /// Waits for no outcome any more: nobody is left to hear of it.
    pub fn forget(&mut self) {
        (self.in_flight, self.ended) = (FuturesUnordered::new(), Vec::new());
    }

    /// The connection, for what TLS has proven.
    pub fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    /// Bytes that wait to be written.
    pub fn output_len(&self) -> usize {
        self.pipe.output_len()
    }

    /// The buffer to append frames to.
    pub fn output(&mut self) -> &mut BytesMut {
        if self.pipe.output_len() == 0 {
            // Until now nobody was waited for.
            self.liveness.progress(Instant::now());
        }
        self.pipe.output()
    }

    /// Writes a frame: an answer, or what has a number of its own.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`], and nothing is written.
    pub fn put(&mut self, number: u64, command: Command) -> Result<(), FrameError> {
        Request { number, command }.put(self.output())
    }

    /// Writes what there is and closes, as far as the peer lets it.
    pub async fn finish(mut self) {
        // What goes on without the connection does so from now on.
        self.forget();
        let Driver { pipe, .. } = self;
        pipe.finish().await;
    }
}

#[cfg(test)]
mod tests;
