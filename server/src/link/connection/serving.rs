//! What the other side asks over an open link: who does it, and its answer.

use std::time::Duration;

use futures_util::FutureExt;
use impp_protocol::command::{Fetch, Subscribe};
use impp_protocol::{Address, By, Code, Command, Error};

use super::super::home::Taken;
use super::super::incoming::{self, Refused};
use super::Open;
use crate::core::answers::Answer;

/// What a request of the other side's has come to.
#[expect(clippy::large_enum_variant, reason = "each lives for one match")]
pub(super) enum Finished {
    /// This is answered.
    Answer(Command),
    /// A watcher of its follows, or not; which of its groups it is in is said in the answer, and
    /// found when that is written.
    Subscribed(Taken),
}

impl Open {
    pub(super) fn answer(&mut self, number: u64, taken: Result<Answer, Refused>) {
        match taken {
            Ok(Answer::Now(command)) => self.put(number, command),
            Ok(Answer::Later(later)) => {
                self.driver.waits(number, async move { Finished::Answer(later.await) });
            }
            Err(Refused::Request(error)) => self.put(number, error.into()),
            Err(Refused::Forged(error)) => {
                let mailbox = &self.link.mailbox;
                self.serving.metrics.forged.inc();
                tracing::warn!(local = %mailbox.local, remote = %mailbox.remote, %error, "forged");
                self.break_off(number, error);
            }
        }
    }

    /// The other side asks for one of its watchers to follow.
    pub(super) async fn subscribe(&mut self, number: u64, subscribe: Subscribe) {
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
        let (home, mailbox) = (self.serving.home.clone(), self.link.mailbox.clone());
        let ends = subscribe.lease == Some(Duration::ZERO);
        if !home.knows(&mailbox, &subscribe).await {
            if ends {
                // There is nothing to let go of, so nothing is read for it, and nobody has a place.
                self.owes_for(&subscribe.address);
                return self
                    .driver
                    .ended(number, Finished::Subscribed(home.had_none(&mailbox, subscribe)));
            }
            if let Err(much) = self.asks_for(&subscribe.address) {
                return self.put(number, much.into());
            }
        }
        // What is asked takes effect in the order in which it came: the presentity is there, and
        // each request is begun before the next one is read. Only the disk is waited for.
        home.ready(&mailbox, &subscribe.address).await;
        let mut taking = Box::pin(async move { home.subscribe(&mailbox, subscribe).await });
        match (&mut taking).now_or_never() {
            Some(taken) => self.driver.ended(number, Finished::Subscribed(taken)),
            None => {
                self.driver.waits(number, async move { Finished::Subscribed(taking.await) });
            }
        }
    }

    fn asks_for(&self, address: &Address) -> Result<(), Error> {
        incoming::asks_for(&self.serving, &self.link.mailbox, address)
    }

    /// What is never refused is paid for later.
    fn owes_for(&self, address: &Address) {
        let (serving, link) = (&self.serving, &self.link.mailbox);
        if incoming::concerns_us(link, address).is_ok() {
            let config = serving.settings.load();
            serving.names.owe(serving.clock.now(), link, &config.federation);
        }
    }

    pub(super) async fn answer_finished(&mut self, number: u64, finished: Finished) {
        let answer = match finished {
            Finished::Answer(command) => command,
            Finished::Subscribed(taken) => {
                let mailbox = self.link.mailbox.clone();
                self.serving.home.answer(&mailbox, &mut self.groups, taken).await
            }
        };
        self.put(number, answer);
    }

    /// The other side reads for one of its watchers.
    pub(super) fn fetch(&mut self, number: u64, fetch: Fetch) {
        if let Some(watcher) = &fetch.watcher
            && let Err(refused) = incoming::speaks_for(&self.link.mailbox, watcher)
        {
            return self.answer(number, Err(refused));
        }
        if let Err(much) = self.asks_for(&fetch.address) {
            return self.put(number, much.into());
        }
        let (home, mailbox) = (self.serving.home.clone(), self.link.mailbox.clone());
        self.driver.waits(number, async move {
            Finished::Answer(Answer::said(home.fetch(&mailbox, fetch).await))
        });
    }
}
