//! What is asked of the other side over an open link: whose turn it is, and what becomes of the
//! answers.

use std::sync::atomic::Ordering;

use impp_federation::queue::Ticket;
use impp_locate::Service;
use impp_presence::followed::MirrorKey;
use impp_protocol::command::{Done, Message};
use impp_protocol::{Address, Code, Command, Error};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::links::Ask;
use super::super::words;
use super::{Ending, OUTPUT_BYTES_MAX, Open};

/// Of the requests that the other side takes, those of messages, as the others, get at most so
/// many sixteenths: neither service holds the other up.
const SHARE_SIXTEENTHS: u64 = 12;
/// Kinds of requests that are sent.
const KINDS: u8 = 4;

/// What we have asked and wait to be answered.
#[derive(Debug)]
pub(super) enum Asked {
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

impl Open {
    /// The other side has answered. An answer to what was not asked, or asked before, is a breach.
    pub(super) fn take_answer(&mut self, number: u64, answer: Result<Done, Error>) {
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
                let (now, waiting) = (self.serving.clock.now(), &self.peer.waiting);
                let chance = self.serving.chance.spread();
                let answer = answer.map(drop);
                waiting.settle(|queue| queue.answered(now, ticket, answer, chance));
                self.serving.fates.store_endings(waiting);
            }
            Asked::Presence(key, watcher) => {
                let link = self.link.mailbox.id;
                self.serving.mirrors.answered(link, &key, &watcher, answer);
            }
            Asked::For(waiting) => {
                let _ = waiting.send(answer);
            }
            Asked::Volatile | Asked::Ping => {}
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.ending == Ending::No
            && !self.link.is_draining()
            && self.driver.output_len() < OUTPUT_BYTES_MAX
            && (self.asked.len() as u64) < self.link.opened.requests_max
    }

    /// Sends one request, if there is one; whether there was. The kinds take turns.
    pub(super) async fn send_one(&mut self) -> bool {
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

    pub(super) fn send_ask(&mut self) -> bool {
        let next = self.peer.next_ask(self.link.opened.services);
        let Some(Ask { command, answer, .. }) = next else { return false };
        if matches!(command, Command::Publish(_)) && !self.link.opened.marks {
            let text = format!("{} takes no marks", self.link.mailbox.remote);
            let _ = answer.send(Err(Error::new(Code::Unsupported, text)));
            return true;
        }
        self.ask(command, Asked::For(answer));
        true
    }

    pub(super) fn send_volatile(&mut self) -> bool {
        if !self.link.opened.services.im {
            return false;
        }
        let Some(message) = self.peer.waiting.next_volatile() else { return false };
        // A person has named it, by the clock on the wall.
        let now = self.serving.clock.wall();
        if message.expires.is_none_or(|expires| expires > now) {
            let hops = Some(impp_federation::queue::HOPS_MAX);
            self.ask(Message { hops, ..message }.into(), Asked::Volatile);
        }
        true
    }

    /// Of the requests that the other side takes, what one service may have out.
    pub(super) fn share(&self) -> u64 {
        (self.link.opened.requests_max.saturating_mul(SHARE_SIXTEENTHS)).div_ceil(16)
    }

    pub(super) async fn send_message(&mut self) -> bool {
        if !self.link.opened.services.im || self.messages_out >= self.share() {
            return false;
        }
        let now = self.serving.clock.now();
        let waiting = self.peer.waiting.clone();
        let Some(sending) = waiting.with(|queue| queue.next_send(now)) else { return false };
        let ticket = sending.ticket;
        match self.serving.fates.load(&sending).await {
            Ok(Some(message)) => {
                self.messages_out += 1;
                waiting.with(|queue| queue.goes_out(ticket));
                self.ask(message.into(), Asked::Message(ticket));
            }
            Ok(None) => waiting.with(|queue| queue.remove(ticket)),
            Err(error) => {
                tracing::error!(%error, "a waiting message could not be read");
                let chance = self.serving.chance.spread();
                waiting.with(|queue| queue.unsent(now, ticket, chance));
            }
        }
        true
    }

    pub(super) fn send_presence(&mut self) -> bool {
        let mailbox = self.link.mailbox.clone();
        let current = self.peer.link_for(Service::Presence);
        if current != Some(mailbox.id)
            || self.asked.len() as u64 - self.messages_out >= self.share()
        {
            return false;
        }
        let (local, remote) = (&mailbox.local, &mailbox.remote);
        let next = self.serving.mirrors.next_requests(local, remote, mailbox.id, 1);
        let any = !next.is_empty();
        for (key, watcher, subscribe) in next {
            self.ask(subscribe.into(), Asked::Presence(key, watcher));
        }
        any
    }

    pub(super) fn ask(&mut self, command: Command, asked: Asked) {
        self.number += 1;
        if !matches!(asked, Asked::Ping) {
            self.spoke = Instant::now();
        }
        self.asked.insert(self.number, (asked, Instant::now()));
        self.put(self.number, command);
    }
}
