//! What waits for the owner's decision, as it follows that: all of it, whenever it is otherwise.
//!
//! What it is, is left to `things/requests.rs`; who asks to follow is told by the presentity, what is held by
//! the log.

use std::time::Duration;

use impp_protocol::command::{Done, Notify, Subscribe};
use impp_protocol::presence::Version;
use impp_protocol::state::{self, Requests, SubscriptionState};
use impp_protocol::{Error, What};

use super::seldom::Seldom;
use super::things::requests::by_sender;
use super::things::{lists, requests_of};
use super::{Event, Front, Session};
use crate::core::answers::Handled;
use crate::core::listeners::Listener;

/// Requests that the client follows.
#[derive(Debug, Default)]
pub(super) struct Requested {
    /// What was told, if anything was.
    told: Option<Version>,
    /// Whether it may be otherwise by now.
    may_differ: bool,
    seldom: Seldom,
}

impl Session {
    /// Follows what waits for a decision, as long as the session lives.
    ///
    /// # Errors
    /// As for every permit; the store's.
    pub(super) async fn subscribe_requests(&mut self, subscribe: Subscribe) -> Handled {
        let acting = requests_of(&self.client, &subscribe.address)?;
        if subscribe.lease == Some(Duration::ZERO) {
            self.unfollow_requests().await;
            return Ok(Done { state: Some(SubscriptionState::Terminated), ..Done::empty() });
        }
        self.serving.things.requests.follow(&acting, self.client.mailbox.id).await?;
        // Whoever asks anew holds nothing, and gets all.
        self.requested = Some(Box::new(Requested { may_differ: true, ..Requested::default() }));
        self.client.mailbox.presentity_dirty(acting.owner());
        Ok(Done { state: Some(SubscriptionState::Active), ..Done::empty() })
    }

    /// They are followed no more.
    pub(super) async fn unfollow_requests(&mut self) {
        if self.requested.take().is_some()
            && self.watched.is_none()
            && let Ok(acting) = requests_of(&self.client, self.address())
        {
            self.serving.things.requests.unfollow(&acting, self.client.mailbox.id).await;
        }
    }

    /// They may be otherwise.
    pub(super) fn requests_may_differ(&mut self) {
        self.requested.iter_mut().for_each(|requested| requested.may_differ = true);
    }

    /// What was told may not have arrived: all is told again.
    pub(super) fn requests_again(&mut self) {
        if let Some(requested) = &mut self.requested {
            (requested.told, requested.may_differ) = (None, true);
            self.client.mailbox.presentity_dirty(&self.client.account.address);
        }
    }

    /// Tells all of them if they are otherwise, and there is room.
    ///
    /// # Errors
    /// The store's: it is looked at again.
    pub(super) async fn tell_requests(&mut self, front: &mut dyn Front) -> Result<(), Error> {
        let Some(requested) = self.requested.as_mut().filter(|requested| requested.may_differ)
        else {
            return Ok(());
        };
        let (clock, mailbox) = (&self.serving.clock, &self.client.mailbox);
        if !front.has_room() {
            // Looked at again when the output has drained.
            mailbox.presentity_dirty(&mailbox.account);
            return Ok(());
        }
        if requested.told.is_some() && !requested.seldom.may(clock, mailbox) {
            return Ok(());
        }
        let acting = requests_of(&self.client, &self.client.account.address)?;
        let (waiting, mut after) = (&self.serving.things.requests, None);
        let entries = waiting.entries(&acting).await?;
        requested.may_differ = false;
        // To look costs as much as to tell.
        requested.seldom.told(clock.now());
        let all = Requests { entries: entries.clone(), more: false, messages: Vec::new() };
        let version = Some(Version::of(&state::encode(&all)));
        if requested.told == version {
            return Ok(());
        }
        requested.told = version;
        loop {
            let (part, next) = lists::part(entries.clone(), after.as_ref(), by_sender);
            let part = Requests { entries: part, more: next.is_some(), ..all.clone() };
            let mut notify =
                Notify::of(acting.owner().clone(), What::Requests, SubscriptionState::Active);
            let content = Some(state::encode(&part));
            match after {
                None => notify.snapshot = content,
                Some(_) => notify.patch = content,
            }
            front.tell(Event::State(notify));
            after = next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
