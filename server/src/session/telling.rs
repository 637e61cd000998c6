//! What a session tells its client unasked: presence and other things that it follows, messages that are
//! not stored.
//!
//! What is told of a thing is left to its file in `things/`.

use std::time::Duration;

use impp_presence::{Held, Told};
use impp_protocol::command::{Ack, Bye, Notify};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Error, What};

use super::things::log_of;
use super::{Event, Followed, Front, Mark, Session};
use crate::core::answers::Answer;
use crate::core::listeners::Listener;
use crate::core::notify::disclose;
use crate::core::steps::Steps;
use crate::reach::Pull;

/// When what could not be read is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

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
        let awaits_versions = self.awaits_versions();
        let mut news = self.client.mailbox.take();
        if awaits_versions {
            // All that is followed is looked at then.
            (news.dirty, news.contacts) = Default::default();
        }
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
        if !news.things.is_empty() {
            self.grown.notify_waiters();
        }
        let mut steps = Steps::default();
        for presentity in news.dirty {
            steps.taken().await;
            if !front.has_room() {
                self.client.mailbox.presentity_dirty(&presentity);
            } else if let Err(error) = self.tell_presence(&presentity, front).await {
                // The others are told all the same; this one is looked at again after a while.
                tracing::error!(%error, "a followed presentity could not be read");
                self.client.mailbox.presentity_dirty_later(presentity);
            }
        }
        for thing in news.things {
            self.tell_thing(thing, front).await;
        }
        None
    }

    /// Tells what has come of a thing, if it is followed.
    async fn tell_thing(&mut self, thing: (Address, What), front: &mut dyn Front) {
        let Some(following) = self.things.get_mut(&thing) else { return };
        let told = following.tell(&self.serving.things, &self.client, front).await;
        let ((owner, what), mailbox) = (thing, &self.client.mailbox);
        match told {
            Ok(true) => {}
            // Looked at again when the output has drained.
            Ok(false) => mailbox.thing_changed(&owner, what),
            Err(error) => {
                tracing::error!(%error, %what, "a followed thing could not be read");
                mailbox.thing_changed_later(owner, what, AGAIN);
            }
        }
    }

    async fn tell_presence(
        &mut self,
        presentity: &Address,
        front: &mut dyn Front,
    ) -> Result<(), Error> {
        let Some(followed) = self.take_followed(presentity) else { return Ok(()) };
        let (watcher, session) = (&self.client.account.address, self.client.mailbox.id);
        let Followed { held, state, ended } = followed;
        let pull = Pull { watcher, session, held, state };
        let Some(news) = self.serving.rooms.reach.pull(presentity, pull).await? else {
            return Ok(());
        };
        self.serving.metrics.notifications.inc();
        let state = news.state;
        // An end that is told again came for the reason of then.
        let event = ended.filter(|_| state == SubscriptionState::Terminated).or(news.event);
        let (notify, held) = told(presentity, Told { event, ..news }, followed.held);
        front.tell(Event::State(notify));
        if state == SubscriptionState::Terminated {
            self.told_end(presentity, event);
        } else {
            self.whom.follow(presentity, Followed::answered(held, state));
        }
        Ok(())
    }

    /// What it follows of somebody, if it may be told now, and what it holds as it takes news of that.
    fn take_followed(&mut self, presentity: &Address) -> Option<Followed> {
        let mut followed = self.whom.of(presentity)?;
        match self.whom.waits(presentity).map(|waits| waits.get().copied()) {
            None => {}
            Some(None) => return None,
            Some(Some(None)) => {
                self.unfollowed(presentity);
                return None;
            }
            Some(Some(Some((held, state)))) => {
                followed = Followed::answered(held, state);
                self.whom.follow(presentity, followed);
            }
        }
        let by_list = self.whole_list && self.whom.is(presentity, Mark::Listed);
        if by_list || self.whom.is(presentity, Mark::Whole) {
            followed.held = followed.held.whole();
        }
        Some(followed)
    }

    /// Takes custody for this device.
    pub(super) fn ack(&self, ack: &Ack) -> Answer {
        let acting = self.client.device().and_then(|_| log_of(&self.client, &ack.address));
        acting.and_then(|acting| self.serving.things.logs.ack(&acting, ack)).into()
    }
}

/// What is told of presence to a client that holds this, and what it holds then.
pub(super) fn told(presentity: &Address, news: Told, held: Held) -> (Notify, Held) {
    let Told { state, event, content } = news;
    let mut notify = Notify::of(presentity.clone(), What::Presence, state);
    notify.event = event;
    let held = match (&content, state) {
        (Some(content), _) => Held::Sent(content.version()),
        (None, SubscriptionState::Active | SubscriptionState::Stale) => held,
        (None, _) => Held::Nothing,
    };
    if let Some(content) = content {
        disclose(&mut notify, &content);
    }
    (notify, held)
}
