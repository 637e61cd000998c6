//! What time does to an open link: PINGs, what was waited for too long, the end of an idle one.

use std::time::Duration;

use impp_locate::Service;
use impp_protocol::command::{Bye, ByeReason, Ping};
use tokio::time::Instant;

use super::asking::Asked;
use super::{Ending, Open};
use crate::core::config::seconds;
use crate::wire::liveness::Overdue;

impl Open {
    /// When to look again, whatever the other side does.
    pub(super) fn next_deadline(&self) -> Instant {
        let config = self.serving.settings.load();
        let links = &config.federation;
        let oldest = self.asked.values().next();
        let unanswered = oldest.map(|(_, since)| *since + seconds(links.answer_seconds));
        let said = match self.ending {
            Ending::Said(until) => Some(until),
            Ending::No | Ending::Over => None,
        };
        // Without room nothing that waits can be sent; what is due already was looked at just now.
        let later = self
            .has_room()
            .then(|| self.peer.waiting.with(|queue| queue.next_deadline()))
            .flatten();
        let later = later.filter(|at| *at > self.serving.clock.now());
        let later = later.map(|at| self.serving.clock.instant(at));
        let idle_close = self.spoke + seconds(links.close_seconds);
        let paused = self.paused.filter(|until| *until > Instant::now());
        [unanswered, said, later, paused]
            .into_iter()
            .flatten()
            .fold(idle_close, Instant::min)
            .max(Instant::now() + Duration::from_millis(1))
    }

    /// A deadline has passed: a PING is due, or the end.
    pub(super) fn overdue(&mut self, overdue: Overdue) {
        let now = Instant::now();
        let config = self.serving.settings.load_full();
        let links = &config.federation;
        let passed = |since: Instant, wait: u64| now >= since + seconds(wait);
        let unanswered = self.asked.values().next();
        if matches!(self.ending, Ending::Said(until) if until <= now) {
            self.ending = Ending::Over;
        } else if unanswered.is_some_and(|(_, since)| passed(*since, links.answer_seconds)) {
            self.give_up("an answer took too long");
        } else {
            match overdue {
                Overdue::End(text) => self.give_up(text),
                Overdue::Ping => self.ask(Ping::empty().into(), Asked::Ping),
                Overdue::Nothing if passed(self.spoke, links.close_seconds) => self.idle_close(),
                Overdue::Nothing => {}
            }
        }
    }

    pub(super) fn give_up(&mut self, why: &str) {
        tracing::warn!(remote = %self.link.mailbox.remote, why, "a link is given up");
        self.put(0, Bye::new(ByeReason::Timeout, why).into());
        self.ending = Ending::Over;
    }

    /// Nothing was said for long: the link is closed, unless somebody watches over it.
    pub(super) fn idle_close(&mut self) {
        let mailbox = &self.link.mailbox;
        let watched = self.link.opened.services.has(Service::Presence)
            && (mailbox.watchers() > 0
                || self.serving.mirrors.wanted(&mailbox.local, &mailbox.remote));
        if watched || !self.asked.is_empty() || !self.driver.is_quiet() {
            self.spoke = Instant::now();
        } else {
            self.say_bye(Bye::new(ByeReason::Idle, "nothing is to be said"));
        }
    }
}
