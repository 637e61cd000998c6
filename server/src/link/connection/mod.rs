//! An open link: frames in and out, and its end. What the other side asks is in `serving`, what is
//! asked of it in `asking`, deadlines in `overdue`.
//!
//! What the other side asks is done in `incoming` and `home`; what is sent is decided by the queue
//! and the mirrors.

mod asking;
mod overdue;
mod serving;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use impp_federation::queue::Cause;
use impp_protocol::command::{Bye, ByeReason, Done, Notify};
use impp_protocol::frame::FRAME_BYTES_MAX;
use impp_protocol::{Code, Command, Error, Request, What};
use tokio::time::Instant;

use asking::Asked;
use serving::Finished;

use super::budgets::DomainBudgets;
use super::home::{AllGroups, Home};
use super::incoming;
use super::links::Link;
use super::names::Names;
use super::open::OpenLinks;
use super::peer::Peer;
use crate::core::chance::Chance;
use crate::core::clock::Clock;
use crate::core::config::seconds;
use crate::core::metrics::Metrics;
use crate::core::settings::Settings;
use crate::messages::{Delivery, Fates, Marks, backoff};
use crate::reach::Mirrors;
use crate::wire::driver::{Driver, Excess, Heard, Next, Terms};
use crate::wire::liveness::Patience;
use crate::wire::pipe::{FAREWELL, Pipe};
use crate::wire::rate::Rate;

/// Bytes that wait to be written before no more is prepared.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Who sends more than its rate is not read for so long.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest rest that another server can ask for.
const REST_MAX: Duration = Duration::from_secs(3600);

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

/// What open links need of the server.
#[derive(Debug)]
pub struct Serving {
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub chance: Arc<dyn Chance>,
    /// The settings.
    pub settings: Arc<Settings>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where links are known.
    pub open: OpenLinks,
    /// Whom the other side watches.
    pub home: Arc<Home>,
    /// To whom it writes.
    pub delivery: Arc<Delivery>,
    /// What becomes of messages from here.
    pub fates: Arc<Fates>,
    /// What recipients here let senders be told, and they ours.
    pub marks: Arc<Marks>,
    /// What is followed there.
    pub mirrors: Arc<Mirrors>,
    /// What each other domain may have stored and show.
    pub budgets: DomainBudgets,
    /// For whom each has asked lately.
    pub names: Names,
}

struct Open {
    serving: Arc<Serving>,
    peer: Arc<Peer>,
    link: Arc<Link>,
    driver: Driver<Finished>,
    /// The watchers of the other side.
    groups: AllGroups,
    /// By number, which rises with time.
    asked: BTreeMap<u64, (Asked, Instant)>,
    messages_out: u64,
    /// The kind of request that was sent last.
    turn: u8,
    number: u64,
    /// Nothing is read until then: more was shown than may be.
    paused: Option<Instant>,
    /// When something but PINGs was last said, by either side.
    spoke: Instant,
    ending: Ending,
    /// The other side has said BYE: it answers, and nothing new is asked of it.
    bye_heard: bool,
}

/// Serves an open link to its end.
pub(super) async fn serve(serving: Arc<Serving>, peer: Arc<Peer>, link: Arc<Link>, pipe: Pipe) {
    let now = Instant::now();
    let links = &serving.settings.load().federation;
    let rate = Rate::new(now, links.frames_per_second, links.frames_burst);
    let open = Open {
        driver: Driver::new(now, pipe, rate, Excess::Paused(PAUSE)),
        groups: AllGroups::default(),
        asked: BTreeMap::new(),
        messages_out: 0,
        turn: 0,
        number: 0,
        paused: None,
        spoke: now,
        ending: Ending::No,
        bye_heard: false,
        serving,
        peer,
        link,
    };
    Box::pin(open.run()).await;
}

impl Open {
    async fn run(mut self) {
        // An orderly stop waits until the link is detached, and for no peer to close its side.
        let tracked = self.serving.open.serving();
        while self.ending != Ending::Over {
            self.take_frames().await;
            self.tell().await;
            if self.ending == Ending::Over {
                break;
            }
            let (terms, by) = (self.terms(), self.next_deadline());
            match self.driver.next(&self.link.mailbox.signal, &terms, Some(by)).await {
                Next::Moved => {}
                Next::Woken(finished) => {
                    for (number, finished) in finished {
                        self.answer_finished(number, finished).await;
                    }
                }
                Next::Overdue(overdue) => self.overdue(overdue),
                Next::Closed => self.ending = Ending::Over,
            }
        }
        self.detach().await;
        drop(tracked);
        self.driver.finish().await;
    }

    /// The link is no more: what was asked over it is asked again over the next.
    async fn detach(&mut self) {
        let (serving, link) = (&self.serving, &self.link);
        let (now, open) = (serving.clock.now(), &serving.open);
        let (local, remote) = (&link.mailbox.local, &link.mailbox.remote);
        tracing::info!(%local, %remote, "link closed");
        self.peer.waiting.with(|queue| {
            for (asked, _) in std::mem::take(&mut self.asked).into_values() {
                match asked {
                    Asked::Message(ticket) => {
                        let text = format!("the link to {remote} was cut before it answered");
                        let cause = Cause::here(Code::Unreachable, text);
                        queue.cut(now, ticket, cause, serving.chance.spread());
                    }
                    Asked::For(answer) => {
                        let text = format!("the link to {remote} was cut");
                        let _ = answer.send(Err(Error::new(Code::Unreachable, text)));
                    }
                    // The mirrors ask again over the next link.
                    Asked::Presence(..) | Asked::Volatile | Asked::Ping => {}
                }
            }
        });
        let backoff = backoff(&serving.settings.load().federation);
        let note = || open.note(local, remote, false);
        let noted = self.peer.detach(link, now, backoff, &*serving.chance, note);
        self.peer.tell_mirrors(&serving.mirrors);
        // What has not been done yet is not done any more: it would listen over this link.
        self.driver.forget();
        let groups = std::mem::take(&mut self.groups);
        serving.home.link_lost(&link.mailbox, groups).await;
        if let Some(noted) = noted
            && let Err(error) = noted.await
        {
            tracing::warn!(%error, "the end of a link could not be noted");
        }
        open.leave(&link.mailbox);
    }

    /// What holds now.
    fn terms(&self) -> Terms {
        let config = self.serving.settings.load();
        Terms {
            frame_bytes_max: FRAME_BYTES_MAX,
            output_bytes_max: OUTPUT_BYTES_MAX,
            in_flight_max: match self.paused {
                Some(until) if until > Instant::now() => 0,
                _ => config.federation.requests_in_flight_max,
            },
            patience: Patience {
                idle: Some(seconds(config.federation.idle_seconds)),
                frame: seconds(config.limits.frame_seconds),
                stall: seconds(config.limits.stall_seconds),
            },
        }
    }

    async fn take_frames(&mut self) {
        while self.ending != Ending::Over
            && let Some(heard) = self.driver.hear(&self.terms())
        {
            match heard {
                Heard::Request(Request { number, command }) => {
                    self.take_command(number, command).await;
                }
                Heard::Refused(number, error) => self.put(number, error.into()),
                Heard::Unfit(number, _, error) | Heard::Breach(number, error) => {
                    self.break_off(number, error);
                }
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
            Command::Notify(notify) if number == 0 && notify.what != What::Presence => {
                self.serving.metrics.unsolicited.inc();
            }
            Command::Notify(notify) if number == 0 => {
                let mailbox = &self.link.mailbox;
                self.serving.mirrors.notified(mailbox.id, &mailbox.local, &notify);
                self.shown(&notify);
            }
            command if number == 0 => {
                let text = format!("{}: a request has a number from 1", command.kind());
                self.break_off(0, Error::new(Code::Malformed, text));
            }
            Command::Ping(_) => self.put(number, Done::empty().into()),
            Command::Message(message) => {
                let (serving, mailbox) = (&self.serving, &self.link.mailbox);
                let taken = incoming::message(serving, mailbox, message).await;
                self.answer(number, taken);
            }
            Command::Publish(publish) => {
                let taken = incoming::told(&self.serving, &self.link.mailbox, publish);
                self.answer(number, taken);
            }
            Command::Subscribe(subscribe) => self.subscribe(number, subscribe).await,
            Command::Fetch(fetch) => self.fetch(number, fetch),
            other => {
                let text = format!("{} is not for links", other.kind());
                self.put(number, Error::new(Code::WrongState, text).into());
            }
        }
    }

    /// What is shown counts, whether or not somebody here follows it.
    fn shown(&mut self, notify: &Notify) {
        let (now, config) = (self.serving.clock.now(), self.serving.settings.load());
        let (budgets, mailbox) = (&self.serving.budgets, &self.link.mailbox);
        let pause = budgets.notified(now, mailbox, &config.federation, notify);
        self.paused = pause.map(|pause| Instant::now() + pause);
    }

    /// The other side asks for nothing more: what it has asked is answered, what was asked of it
    /// is waited for.
    fn take_bye(&mut self, bye: &Bye) {
        let now = self.serving.clock.now();
        let rest = bye.retry_after.map(|after| now.after(after.min(REST_MAX)));
        self.peer.drains(&self.link, rest);
        self.peer.tell_mirrors(&self.serving.mirrors);
        self.bye_heard = true;
        if bye.reason == ByeReason::Protocol {
            self.ending = Ending::Over;
        }
    }

    /// Sends what waits, as long as there is room.
    async fn tell(&mut self) {
        if let Some(bye) = self.link.mailbox.take_bye() {
            self.say_bye(bye);
        }
        while self.has_room() && self.send_one().await {}
        if self.ending == Ending::No {
            let Open { serving, link, groups, driver, .. } = self;
            let (home, out) = (&serving.home, driver.output());
            home.tell(&link.mailbox, groups, out, OUTPUT_BYTES_MAX).await;
        }
        let quiet = self.asked.is_empty() && self.driver.is_quiet();
        if quiet && self.bye_heard {
            self.ending = Ending::Over;
        } else if quiet && self.link.is_draining() && self.ending == Ending::No {
            self.say_bye(Bye::new(ByeReason::Redundant, "another link is kept"));
        }
    }

    /// Writes a frame.
    fn put(&mut self, number: u64, command: Command) {
        self.serving.metrics.written(&command);
        let kind = command.kind();
        if let Err(error) = self.driver.put(number, command) {
            tracing::error!(%kind, %error, "a frame for a link could not be written");
        }
    }

    /// Answers a breach of the protocol; nothing more is read.
    fn break_off(&mut self, number: u64, error: Error) {
        let remote = &self.link.mailbox.remote;
        tracing::warn!(%remote, %error, "the other side breaks the protocol");
        self.put(number, error.into());
        self.put(0, Bye::new(ByeReason::Protocol, "see the error before").into());
        self.ending = Ending::Over;
    }

    /// Says goodbye; what was asked of the other side may still be answered.
    fn say_bye(&mut self, bye: Bye) {
        if self.ending == Ending::No {
            self.link.drain();
            self.peer.tell_mirrors(&self.serving.mirrors);
            self.put(0, bye.into());
            self.ending = Ending::Said(Instant::now() + FAREWELL);
        }
    }
}
