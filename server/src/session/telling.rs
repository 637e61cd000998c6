//! What a session tells its client unasked: presence that it follows, its log, messages that are not
//! stored.

use std::time::Duration;

use impp_presence::{Held, Told};
use impp_protocol::command::{Ack, Bye, Done, Notify, Subscribe};
use impp_protocol::state::{Item, ItemKind, SubscriptionState};
use impp_protocol::{Address, Error, What};

use super::things::log::{PAGE_ITEMS_MAX, Sealed};
use super::things::log_of;
use super::{Event, Followed, Front, Session};
use crate::core::answers::{Answer, Handled, Stored};
use crate::core::listeners::Listener;
use crate::core::notify::disclose;
use crate::core::steps::Steps;
use crate::reach::Pull;

/// When what could not be read is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// A log that the client follows.
#[derive(Debug)]
pub(super) struct Following {
    /// The position behind which the next page starts.
    after: u64,
    /// Whether there may be something behind it.
    grown: bool,
    /// How many items behind it were told to be damaged already.
    damaged: usize,
    /// The cursor of where the log begins, as it was told last.
    oldest: Sealed,
}

impl Session {
    /// Tells the client what there is, as long as there is room; what does not fit is looked at again
    /// when there is.
    pub async fn tell(&mut self, front: &mut dyn Front) -> Option<Bye> {
        if let Some(bye) = self.client.mailbox.take_bye() {
            return Some(bye);
        }
        if !front.has_room() {
            return None;
        }
        let news = self.client.mailbox.take();
        let mut volatile = news.volatile.into_iter();
        for message in volatile.by_ref() {
            front.tell(Event::Message(message));
            if !front.has_room() {
                break;
            }
        }
        self.client.mailbox.volatile_again(volatile);
        if news.contacts && self.expanded {
            // Seldom, so that who tells nothing has no room for it.
            for (address, event) in Box::pin(self.expand_again()).await {
                let notify = Notify::of(address, What::Presence, SubscriptionState::Terminated);
                front.tell(Event::State(Notify { event: Some(event), ..notify }));
            }
        }
        if news.log {
            self.grown.notify_waiters();
            self.log.iter_mut().for_each(|log| log.grown = true);
            // Held messages come and go with it.
            self.requests_may_differ();
        }
        let mut steps = Steps::default();
        for presentity in news.dirty {
            steps.taken().await;
            if !front.has_room() {
                self.client.mailbox.presentity_dirty(&presentity);
            } else if let Err(error) = self.tell_state(&presentity, front).await {
                // The others are told all the same; this one is looked at again after a while.
                tracing::error!(%error, "a followed presentity could not be read");
                self.client.mailbox.presentity_dirty_later(presentity);
            }
        }
        if let Err(error) = self.tell_log(front).await {
            tracing::error!(%error, "a followed log could not be read");
            self.client.mailbox.log_grew_later(AGAIN);
        }
        if self.requested.is_some()
            && let Err(error) = Box::pin(self.tell_requests(front)).await
        {
            tracing::error!(%error, "followed requests could not be read");
            self.client.mailbox.presentity_dirty_later(self.address().clone());
        }
        None
    }

    /// Of somebody's own address, who watches it too.
    async fn tell_state(&mut self, of: &Address, front: &mut dyn Front) -> Result<(), Error> {
        self.tell_presence(of, front).await?;
        if of != self.address() {
            return Ok(());
        }
        self.requests_may_differ();
        Box::pin(self.tell_watchers(front)).await
    }

    async fn tell_presence(
        &mut self,
        presentity: &Address,
        front: &mut dyn Front,
    ) -> Result<(), Error> {
        let Some(mut followed) = self.followed.get(presentity).cloned() else { return Ok(()) };
        match followed.waits.as_ref().map(|waits| waits.get()) {
            None => {}
            Some(None) => return Ok(()),
            Some(Some(None)) => {
                self.unfollowed(presentity);
                return Ok(());
            }
            Some(Some(Some((held, state)))) => {
                followed = Followed::answered(*held, *state);
                self.followed.insert(presentity.clone(), followed.clone());
            }
        }
        let (watcher, session) = (&self.client.account.address, self.client.mailbox.id);
        let Followed { held, state, ended, .. } = followed;
        let pull = Pull { watcher, session, held, state };
        let Some(told) = self.serving.rooms.reach.pull(presentity, pull).await? else {
            return Ok(());
        };
        self.serving.metrics.notifications.inc();
        let Told { state, event, content } = told;
        // An end that is told again came for the reason of then.
        let event = ended.filter(|_| state == SubscriptionState::Terminated).or(event);
        let mut notify = Notify::of(presentity.clone(), What::Presence, state);
        notify.event = event;
        let held = match (&content, state) {
            (Some(content), _) => Held::Sent(content.version()),
            (None, SubscriptionState::Active | SubscriptionState::Stale) => followed.held,
            (None, _) => Held::Nothing,
        };
        if let Some(content) = content {
            disclose(&mut notify, &content);
        }
        front.tell(Event::State(notify));
        if state == SubscriptionState::Terminated {
            self.told_end(presentity, event);
        } else {
            self.followed.insert(presentity.clone(), Followed::answered(held, state));
        }
        Ok(())
    }

    /// Follows the log from a cursor.
    pub(super) async fn subscribe_log(&mut self, subscribe: Subscribe) -> Handled {
        let acting = log_of(&self.client, &subscribe.address)?;
        if subscribe.lease == Some(Duration::ZERO) {
            self.log = None;
            return Ok(Done { state: Some(SubscriptionState::Terminated), ..Done::empty() });
        }
        let after = self.serving.things.logs.position(&acting, subscribe.cursor).await?;
        let oldest = Sealed::default();
        self.log = Some(Following { after, grown: true, damaged: 0, oldest });
        self.client.mailbox.log_grew();
        Ok(Done { state: Some(SubscriptionState::Active), ..Done::empty() })
    }

    /// Takes custody for this device.
    pub(super) fn ack(&self, ack: &Ack) -> Answer {
        let acting = log_of(&self.client, &ack.address);
        acting.and_then(|acting| self.serving.things.logs.ack(&acting, ack)).into()
    }

    /// Tells pages of the followed log as long as there is room.
    async fn tell_log(&mut self, front: &mut dyn Front) -> Result<(), Error> {
        while let Some(following) = &mut self.log
            && following.grown
        {
            if !front.has_room() {
                // Looked at again when the output has drained.
                self.client.mailbox.log_grew();
                return Ok(());
            }
            let acting = log_of(&self.client, &self.client.account.address)?;
            let (after, every) = (following.after, self.client.every_item);
            let logs = &self.serving.things.logs;
            let (known, mut oldest) = (following.damaged, std::mem::take(&mut following.oldest));
            let page = logs.page(&acting, after, PAGE_ITEMS_MAX, every, &mut oldest);
            let (mut page, next) = page.await.stored()?;
            let more = page.more;
            let is_damaged = |item: &&Item| item.kind == ItemKind::Damaged;
            // Behind the last one that could be read, whatever comes there is told with them.
            let damaged = page.items.iter().rev().take_while(is_damaged).count();
            let told = page.items.iter().take_while(is_damaged).count().min(known);
            page.items.drain(..told);
            if !page.items.is_empty() {
                front.tell(Event::Page(acting.owner().clone(), page));
            }
            if let Some(following) = &mut self.log {
                *following = Following { after: next, grown: more, damaged, oldest };
            }
        }
        Ok(())
    }
}
