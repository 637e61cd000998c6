//! An open link: frames in and out, requests of both sides and their answers, deadlines, its end.
//!
//! What the other side asks is done in `incoming` and `home`; what is sent is decided by the queue
//! and the mirrors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use impp_federation::queue::{Cause, Ticket};
use impp_locate::Service;
use impp_protocol::command::{Bye, ByeReason, CommandError, Done, Fetch, Message, Ping, Subscribe};
use impp_protocol::frame::{FRAME_BYTES_MAX, Frame};
use impp_protocol::{Address, By, Code, Command, Error, Request};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::home::{self, AllGroups, Taken};
use super::incoming::{self, Refused};
use super::opening::{self, FAREWELL};
use super::outgoing;
use super::peer::{Ask, Link, Peer, backoff, service_of};
use super::peers::note_linked;
use super::words;
use crate::config::seconds;
use crate::host::{Host, bye};
use crate::mirror::MirrorKey;
use crate::net::liveness::{Doing, Liveness, Overdue, Patience};
use crate::net::pipe::{Event, Pipe};
use crate::net::rate::Rate;
use crate::random;
use crate::session::Answer;

/// Bytes that wait to be written before no more is prepared.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Who sends more than its rate is not read for so long.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest rest that another server can ask for.
const REST_MAX: Duration = Duration::from_secs(3600);
/// Of the requests that the other side takes, those of messages, as the others, get at most so
/// many sixteenths: neither service holds the other up.
const SHARE_SIXTEENTHS: u64 = 12;
/// Kinds of requests that are sent.
const KINDS: u8 = 4;

/// What we have asked and wait to be answered.
#[derive(Debug)]
enum Asked {
    /// To take a queued message.
    Message(Ticket),
    /// To pass on a message that is not stored; nobody waits for the answer.
    Volatile,
    /// How a watcher of ours may follow.
    Presence(MirrorKey, Address),
    /// For somebody here.
    For(oneshot::Sender<Result<Done, Error>>),
    /// Whether it is there.
    Ping,
}

/// An answer of ours that waits for the store, with its request's number.
type Numbered = std::pin::Pin<Box<dyn Future<Output = (u64, Command)> + Send>>;

/// How far the end of the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It goes on.
    No,
    /// Our BYE is said: what the other side still has to say is read until then.
    Said(Instant),
    /// Over.
    Over,
}

/// A subscription of the other side's that waits for the store, with its request's number.
type Taking = std::pin::Pin<Box<dyn Future<Output = (u64, Taken)> + Send>>;

struct Open {
    host: Arc<Host>,
    peer: Arc<Peer>,
    link: Arc<Link>,
    pipe: Pipe,
    waiting: FuturesUnordered<Numbered>,
    answered: Vec<(u64, Command)>,
    taking: FuturesUnordered<Taking>,
    taken: Vec<(u64, Taken)>,
    /// The watchers of the other side.
    groups: AllGroups,
    /// By number, which rises with time.
    asked: BTreeMap<u64, (Asked, Instant)>,
    messages_out: u64,
    /// The kind of request that was sent last.
    turn: u8,
    number: u64,
    rate: Rate,
    /// Nothing is read until then.
    paused: Option<Instant>,
    liveness: Liveness,
    /// When something but PINGs was last said, by either side.
    spoke: Instant,
    ending: Ending,
    /// The other side has said BYE: it answers, and nothing new is asked of it.
    bye_heard: bool,
}

/// Serves an open link to its end.
pub async fn serve(host: Arc<Host>, peer: Arc<Peer>, link: Arc<Link>, pipe: Pipe) {
    let now = Instant::now();
    let links = &host.config.load().federation;
    let rate = Rate::new(now, links.frames_per_second, links.frames_burst);
    let open = Open {
        pipe,
        waiting: FuturesUnordered::new(),
        answered: Vec::new(),
        taking: FuturesUnordered::new(),
        taken: Vec::new(),
        groups: AllGroups::new(),
        asked: BTreeMap::new(),
        messages_out: 0,
        turn: 0,
        number: 0,
        rate,
        paused: None,
        liveness: Liveness::new(now),
        spoke: now,
        ending: Ending::No,
        bye_heard: false,
        host,
        peer,
        link,
    };
    Box::pin(open.run()).await;
}

impl Open {
    async fn run(mut self) {
        while self.ending != Ending::Over {
            self.take_frames().await;
            self.tell().await;
            if self.ending == Ending::Over {
                break;
            }
            match self.wait().await {
                Event::Input => self.liveness.heard(Instant::now()),
                Event::Output => self.liveness.progress(Instant::now()),
                Event::Woken => {
                    for (number, command) in std::mem::take(&mut self.answered) {
                        self.put(number, command);
                    }
                    for (number, taken) in std::mem::take(&mut self.taken) {
                        self.answer_subscribe(number, taken).await;
                    }
                }
                Event::Deadline => self.overdue(),
                Event::Closed => self.ending = Ending::Over,
            }
        }
        self.detach().await;
        let Open { pipe, .. } = self;
        pipe.finish(Instant::now() + FAREWELL).await;
    }

    /// The link is no more: what was asked over it is asked again over the next.
    async fn detach(&mut self) {
        let (host, link) = (&self.host, &self.link);
        let now = host.clock.now();
        let (local, remote) = (&link.mailbox.local, &link.mailbox.remote);
        tracing::info!(%local, %remote, "link closed");
        let noted = {
            let mut inner = self.peer.lock();
            for (asked, _) in std::mem::take(&mut self.asked).into_values() {
                match asked {
                    Asked::Message(ticket) => {
                        let text = format!("the link to {remote} was cut before it answered");
                        let cause = Cause::here(Code::Unreachable, text);
                        inner.queue.cut(now, ticket, cause, random());
                    }
                    Asked::For(answer) => {
                        let text = format!("the link to {remote} was cut");
                        let _ = answer.send(Err(Error::new(Code::Unreachable, text)));
                    }
                    // The mirrors ask again over the next link.
                    Asked::Presence(..) | Asked::Volatile | Asked::Ping => {}
                }
            }
            let backoff = backoff(&host.config.load().federation);
            inner.detach(link, now, backoff);
            inner.raise();
            inner.is_apart().then(|| note_linked(host, local, remote, false))
        };
        self.peer.tell_mirrors(host);
        // What has not been done yet is not done any more: it would listen over this link.
        self.taking = FuturesUnordered::new();
        home::link_lost(host, &link.mailbox, std::mem::take(&mut self.groups)).await;
        self.peer.changed.notify_one();
        if let Some(noted) = noted
            && let Err(error) = noted.await
        {
            tracing::warn!(%error, "the end of a link could not be noted");
        }
        // Not before: an orderly stop waits for it.
        host.links.remove(&link.mailbox.id);
        host.metrics.links.dec();
    }

    async fn wait(&mut self) -> Event {
        let (deadline, reading) = (self.deadline(), self.may_read());
        let Open { pipe, waiting, answered, taking, taken, link, .. } = self;
        let others = |context: &mut Context<'_>| {
            while let Poll::Ready(Some(answer)) = waiting.poll_next_unpin(context) {
                answered.push(answer);
            }
            while let Poll::Ready(Some(done)) = taking.poll_next_unpin(context) {
                taken.push(done);
            }
            !answered.is_empty() || !taken.is_empty()
        };
        pipe.event(&link.mailbox.signal, reading, deadline, others).await
    }

    /// Requests are read as long as answers can be kept, and not faster than the rate.
    fn may_read(&self) -> bool {
        let in_flight_max = self.host.config.load().federation.requests_in_flight_max;
        self.paused.is_none()
            && self.pipe.output_len() < OUTPUT_BYTES_MAX
            && ((self.waiting.len() + self.taking.len()) as u64) < in_flight_max
    }

    async fn take_frames(&mut self) {
        if self.paused.is_some_and(|until| until <= Instant::now()) {
            self.paused = None;
        }
        while self.may_read() && self.ending != Ending::Over {
            match self.pipe.take(FRAME_BYTES_MAX) {
                Ok(Some(frame)) => {
                    self.liveness.frame_ended();
                    if self.rate.take(Instant::now()).is_err() {
                        self.paused = Some(Instant::now() + PAUSE);
                    }
                    self.take_frame(frame).await;
                }
                Ok(None) => break,
                Err(error) => self.break_off(0, opening::unreadable(&error)),
            }
        }
        let part_left = self.pipe.is_mid_frame() && self.may_read();
        self.liveness.frames_taken(Instant::now(), part_left);
    }

    async fn take_frame(&mut self, frame: Frame) {
        let number = frame.request;
        match Request::decode(frame) {
            Ok(Request { number, command }) => self.take_command(number, command).await,
            Err(error @ CommandError::UnknownKind(_)) => {
                self.put(number, Error::new(Code::Unsupported, error.to_string()).into());
            }
            Err(error @ CommandError::Malformed { .. }) => {
                self.break_off(number, Error::new(Code::Malformed, error.to_string()));
            }
        }
    }

    async fn take_command(&mut self, number: u64, command: Command) {
        // Answers count by what was asked.
        if !matches!(command, Command::Ping(_) | Command::Ok(_) | Command::Error(_)) {
            self.spoke = Instant::now();
        }
        match command {
            Command::Ok(done) => self.take_answer(number, Ok(done)),
            Command::Error(error) => self.take_answer(number, Err(error)),
            Command::Bye(bye) if number == 0 => self.take_bye(&bye),
            Command::Notify(notify) if number == 0 => {
                let mailbox = &self.link.mailbox;
                self.host.mirrors.notified(&self.host, mailbox.id, &mailbox.local, &notify);
            }
            command if number == 0 => {
                let text = format!("{}: a request has a number from 1", command.kind());
                self.break_off(0, Error::new(Code::Malformed, text));
            }
            Command::Ping(_) => self.put(number, Done::empty().into()),
            Command::Message(message) => {
                let taken =
                    incoming::message(&self.host, &self.peer, &self.link.mailbox, message).await;
                self.answer(number, taken);
            }
            Command::Subscribe(subscribe) => self.subscribe(number, subscribe),
            Command::Fetch(fetch) => self.fetch(number, fetch),
            other => {
                let text = format!("{} is not for links", other.kind());
                self.put(number, Error::new(Code::WrongState, text).into());
            }
        }
    }

    fn answer(&mut self, number: u64, taken: Result<Answer, Refused>) {
        match taken {
            Ok(Answer::Now(command)) => self.put(number, command),
            Ok(Answer::Later(later)) => {
                self.waiting.push(Box::pin(async move { (number, later.await) }));
            }
            Err(Refused::Request(error)) => self.put(number, error.into()),
            Err(Refused::Forged(error)) => {
                let mailbox = &self.link.mailbox;
                self.host.metrics.forged.inc();
                tracing::warn!(local = %mailbox.local, remote = %mailbox.remote, %error, "forged");
                self.break_off(number, error);
            }
        }
    }

    /// The other side asks for one of its watchers to follow.
    fn subscribe(&mut self, number: u64, subscribe: Subscribe) {
        if let Some(watcher) = &subscribe.watcher
            && let Err(refused) = incoming::speaks_for(&self.link.mailbox, watcher)
        {
            return self.answer(number, Err(refused));
        }
        if self.link.is_draining() && subscribe.lease != Some(Duration::ZERO) {
            // The watcher may be asked for over the link that is kept already.
            let error = Error::new(Code::Busy, "another link is kept; ask there").by(By::Home);
            return self.put(number, error.into());
        }
        let (host, mailbox) = (self.host.clone(), self.link.mailbox.clone());
        self.taking.push(Box::pin(async move {
            (number, home::subscribe(&host, &mailbox, subscribe).await)
        }));
    }

    async fn answer_subscribe(&mut self, number: u64, taken: Taken) {
        let mailbox = self.link.mailbox.clone();
        let answer = home::answer(&self.host, &mailbox, &mut self.groups, taken).await;
        self.put(number, answer);
    }

    /// The other side reads for one of its watchers.
    fn fetch(&mut self, number: u64, fetch: Fetch) {
        if let Some(watcher) = &fetch.watcher
            && let Err(refused) = incoming::speaks_for(&self.link.mailbox, watcher)
        {
            return self.answer(number, Err(refused));
        }
        let (host, mailbox) = (self.host.clone(), self.link.mailbox.clone());
        self.waiting.push(Box::pin(async move {
            match home::fetch(&host, &mailbox, fetch).await {
                Ok(done) => (number, done.into()),
                Err(error) => (number, error.into()),
            }
        }));
    }

    /// The other side has answered. An answer to what was not asked, or asked before, is a breach.
    fn take_answer(&mut self, number: u64, answer: Result<Done, Error>) {
        let Some((asked, _)) = self.asked.remove(&number) else {
            return match answer {
                // Before its goodbye the other side says what it could not read.
                Err(error) if number == 0 => {
                    let remote = &self.link.mailbox.remote;
                    tracing::warn!(%remote, error = %words::fit(error), "the other side says");
                    self.ending = Ending::Over;
                }
                _ => {
                    let text = "an answer to a request that was not made";
                    self.break_off(number, Error::new(Code::Malformed, text));
                }
            };
        };
        if !matches!(asked, Asked::Ping) {
            self.spoke = Instant::now();
            self.link.answered.store(true, Ordering::Release);
        }
        // It goes into its sender's log, or to whoever waits here.
        let answer = answer.map_err(words::fit);
        match asked {
            Asked::Message(ticket) => {
                self.messages_out -= 1;
                let now = self.host.clock.now();
                let answer = answer.map(drop);
                self.peer.lock().queue.answered(now, ticket, answer, random());
                outgoing::store_endings(&self.host, &self.peer);
                self.peer.changed.notify_one();
            }
            Asked::Presence(key, watcher) => {
                let link = self.link.mailbox.id;
                self.host.mirrors.answered(&self.host, link, &key, &watcher, answer);
            }
            Asked::For(waiting) => {
                let _ = waiting.send(answer);
            }
            Asked::Volatile | Asked::Ping => {}
        }
    }

    /// The other side asks for nothing more: what it has asked is answered, what was asked of it
    /// is waited for.
    fn take_bye(&mut self, bye: &Bye) {
        let now = self.host.clock.now();
        let mut inner = self.peer.lock();
        if let Some(after) = bye.retry_after {
            inner.rest(&self.link.mailbox.remote, now.after(after.min(REST_MAX)));
        }
        self.link.drain();
        drop(inner);
        self.peer.tell_mirrors(&self.host);
        self.peer.changed.notify_one();
        self.bye_heard = true;
        if bye.reason == ByeReason::Protocol {
            self.ending = Ending::Over;
        }
    }

    /// Sends what waits, as long as there is room.
    async fn tell(&mut self) {
        if self.pipe.output_len() == 0 {
            self.liveness.progress(Instant::now());
        }
        if let Some(bye) = self.link.mailbox.take_bye() {
            self.say_bye(bye);
        }
        while self.has_room() && self.send_one().await {}
        if self.ending == Ending::No {
            let Open { host, link, groups, pipe, .. } = self;
            home::tell(host, &link.mailbox, groups, pipe.output(), OUTPUT_BYTES_MAX).await;
        }
        let quiet = self.asked.is_empty()
            && self.waiting.is_empty()
            && self.answered.is_empty()
            && self.taking.is_empty()
            && self.taken.is_empty();
        if quiet && self.bye_heard {
            self.ending = Ending::Over;
        } else if quiet && self.link.is_draining() && self.ending == Ending::No {
            self.say_bye(bye(ByeReason::Redundant, "another link is kept"));
        }
    }

    fn has_room(&self) -> bool {
        self.ending == Ending::No
            && !self.link.is_draining()
            && self.pipe.output_len() < OUTPUT_BYTES_MAX
            && (self.asked.len() as u64) < self.link.opened.requests_max
    }

    /// Sends one request, if there is one; whether there was. The kinds take turns.
    async fn send_one(&mut self) -> bool {
        for _ in 0..KINDS {
            self.turn = (self.turn + 1) % KINDS;
            let sent = match self.turn {
                0 => self.send_ask(),
                1 => self.send_volatile(),
                2 => self.send_message().await,
                _ => self.send_presence(),
            };
            if sent {
                return true;
            }
        }
        false
    }

    fn send_ask(&mut self) -> bool {
        let services = self.link.opened.services;
        let fits = |ask: &Ask| services.serve(service_of(&ask.command));
        let ask = {
            let mut inner = self.peer.lock();
            inner.asks.iter().position(fits).and_then(|at| inner.asks.remove(at))
        };
        let Some(Ask { command, answer }) = ask else { return false };
        self.ask(command, Asked::For(answer));
        true
    }

    fn send_volatile(&mut self) -> bool {
        if !self.link.opened.services.im {
            return false;
        }
        let Some(message) = self.peer.lock().volatile.pop_front() else { return false };
        let now = self.host.clock.now();
        if message.expires.is_none_or(|expires| expires > now) {
            let hops = Some(impp_federation::queue::HOPS_MAX);
            self.ask(Message { hops, ..message }.into(), Asked::Volatile);
        }
        true
    }

    /// Of the requests that the other side takes, what one service may have out.
    fn share(&self) -> u64 {
        (self.link.opened.requests_max.saturating_mul(SHARE_SIXTEENTHS)).div_ceil(16)
    }

    async fn send_message(&mut self) -> bool {
        if !self.link.opened.services.im || self.messages_out >= self.share() {
            return false;
        }
        let now = self.host.clock.now();
        let Some(sending) = self.peer.lock().queue.next_send(now) else { return false };
        // Nothing goes out in the name of an account that is gone.
        let loaded = match self.host.accounts.get(&sending.from) {
            Some(_) => outgoing::load(&self.host, &sending).await,
            None => Ok(None),
        };
        match loaded {
            Ok(Some(message)) => {
                self.messages_out += 1;
                self.peer.lock().queue.goes_out(sending.ticket);
                self.ask(message.into(), Asked::Message(sending.ticket));
            }
            Ok(None) => self.peer.lock().queue.remove(sending.ticket),
            Err(error) => {
                tracing::error!(%error, "a waiting message could not be read");
                self.peer.lock().queue.unsent(now, sending.ticket, random());
            }
        }
        true
    }

    fn send_presence(&mut self) -> bool {
        let mailbox = self.link.mailbox.clone();
        let current = self.peer.lock().link(Service::Presence).map(|link| link.mailbox.id);
        if current != Some(mailbox.id)
            || self.asked.len() as u64 - self.messages_out >= self.share()
        {
            return false;
        }
        let (local, remote) = (&mailbox.local, &mailbox.remote);
        let next = self.host.mirrors.next_requests(&self.host, local, remote, mailbox.id, 1);
        let any = !next.is_empty();
        for (key, watcher, subscribe) in next {
            self.ask(subscribe.into(), Asked::Presence(key, watcher));
        }
        any
    }

    fn ask(&mut self, command: Command, asked: Asked) {
        self.number += 1;
        if !matches!(asked, Asked::Ping) {
            self.spoke = Instant::now();
        }
        self.asked.insert(self.number, (asked, Instant::now()));
        self.put(self.number, command);
    }

    /// Writes a frame.
    fn put(&mut self, number: u64, command: Command) {
        if let Command::Error(error) = &command {
            self.host.metrics.refuse(error.code);
        }
        if self.pipe.output_len() == 0 {
            self.liveness.progress(Instant::now());
        }
        let kind = command.kind();
        if let Err(error) = (Request { number, command }).put(self.pipe.output()) {
            tracing::error!(%kind, %error, "a frame for a link could not be written");
        }
    }

    /// Answers a breach of the protocol; nothing more is read.
    fn break_off(&mut self, number: u64, error: Error) {
        let remote = &self.link.mailbox.remote;
        tracing::warn!(%remote, %error, "the other side breaks the protocol");
        self.put(number, error.into());
        self.put(0, bye(ByeReason::Protocol, "see the error before").into());
        self.ending = Ending::Over;
    }

    /// Says goodbye; what was asked of the other side may still be answered.
    fn say_bye(&mut self, bye: Bye) {
        if self.ending == Ending::No {
            self.link.drain();
            self.peer.tell_mirrors(&self.host);
            self.put(0, bye.into());
            self.ending = Ending::Said(Instant::now() + FAREWELL);
        }
    }

    fn patience(&self) -> Patience {
        let config = self.host.config.load();
        Patience {
            idle: Some(seconds(config.federation.idle_seconds)),
            frame: seconds(config.limits.frame_seconds),
            stall: seconds(config.limits.stall_seconds),
        }
    }

    fn doing(&self) -> Doing {
        Doing { reading: self.may_read(), writing: self.pipe.output_len() > 0 }
    }

    fn deadline(&self) -> Instant {
        let config = self.host.config.load();
        let links = &config.federation;
        let now = Instant::now();
        let live = self.liveness.deadline(now, &self.patience(), self.doing());
        let oldest = self.asked.values().next();
        let unanswered = oldest.map(|(_, since)| *since + seconds(links.answer_seconds));
        let said = match self.ending {
            Ending::Said(until) => Some(until),
            Ending::No | Ending::Over => None,
        };
        // Without room nothing that waits can be sent; what is due already was looked at just now.
        let later = self.has_room().then(|| self.peer.lock().queue.next_deadline()).flatten();
        let later = later.filter(|at| *at > self.host.clock.now());
        let later = later.map(|at| self.host.clock.instant(at));
        let idle_close = self.spoke + seconds(links.close_seconds);
        let nobodies = self.link.mailbox.nobodies().next_deadline();
        let nobodies = nobodies.filter(|_| self.ending == Ending::No);
        let nobodies = nobodies.map(|at| self.host.clock.instant(at));
        [live, unanswered, said, self.paused, later, nobodies]
            .into_iter()
            .flatten()
            .fold(idle_close, Instant::min)
            .max(now + Duration::from_millis(1))
    }

    /// A deadline has passed: a PING is due, or the end.
    fn overdue(&mut self) {
        let (patience, doing, now) = (self.patience(), self.doing(), Instant::now());
        let config = self.host.config.load_full();
        let links = &config.federation;
        let passed = |since: Instant, wait: u64| now >= since + seconds(wait);
        let unanswered = self.asked.values().next();
        if matches!(self.ending, Ending::Said(until) if until <= now) {
            self.ending = Ending::Over;
        } else if unanswered.is_some_and(|(_, since)| passed(*since, links.answer_seconds)) {
            self.give_up("an answer took too long");
        } else {
            match self.liveness.overdue(now, &patience, doing) {
                Overdue::End(text) => self.give_up(text),
                Overdue::Ping => self.ask(Ping {}.into(), Asked::Ping),
                Overdue::Nothing if passed(self.spoke, links.close_seconds) => self.idle_close(),
                Overdue::Nothing => {}
            }
        }
    }

    fn give_up(&mut self, why: &str) {
        tracing::warn!(remote = %self.link.mailbox.remote, why, "a link is given up");
        self.put(0, bye(ByeReason::Timeout, why).into());
        self.ending = Ending::Over;
    }

    /// Nothing was said for long: the link is closed, unless somebody watches over it.
    fn idle_close(&mut self) {
        let mailbox = &self.link.mailbox;
        let watched = self.link.opened.services.serve(Service::Presence)
            && (mailbox.watchers() > 0
                || self.host.mirrors.wanted(&mailbox.local, &mailbox.remote));
        if watched || !self.asked.is_empty() || !self.waiting.is_empty() {
            self.spoke = Instant::now();
        } else {
            self.say_bye(bye(ByeReason::Idle, "nothing is to be said"));
        }
    }
}
