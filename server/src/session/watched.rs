//! Who watches, as its owner follows it (RFC 3857, 3858): all of them in parts, and then what has changed,
//! at its pace.
//!
//! What the owner sees of them is left to `things/watchers.rs`, what has changed to the presentity.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Done, Notify, Subscribe};
use impp_protocol::state::{self, SubscriptionState, Watchers};
use impp_protocol::{Address, Error, What};

use super::seldom::Seldom;
use super::things::watchers_of;
use super::{Event, Front, Session};
use crate::core::answers::Handled;
use crate::core::listeners::Listener;

/// Watchers that the client follows.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Up to which change it knows all; nothing before it is told all of them.
    after: Option<u64>,
    /// All of them are being told, from behind this one on.
    telling: Option<Option<Bytes>>,
    seldom: Seldom,
}

impl Session {
    /// Follows who watches, as long as the session lives.
    ///
    /// # Errors
    /// As for every permit.
    pub(super) async fn subscribe_watchers(&mut self, subscribe: Subscribe) -> Handled {
        let acting = watchers_of(&self.client, &subscribe.address)?;
        if subscribe.lease == Some(Duration::ZERO) {
            self.unfollow_watchers().await;
            return Ok(Done { state: Some(SubscriptionState::Terminated), ..Done::empty() });
        }
        // Whoever asks anew holds nothing, and gets all.
        self.watched = Some(Box::default());
        self.client.mailbox.presentity_dirty(acting.owner());
        Ok(Done { state: Some(SubscriptionState::Active), ..Done::empty() })
    }

    /// They are followed no more.
    pub(super) async fn unfollow_watchers(&mut self) {
        if self.watched.take().is_some()
            && self.requested.is_none()
            && let Ok(acting) = watchers_of(&self.client, self.address())
        {
            self.serving.things.ends.unfollow(&acting, self.client.mailbox.id).await;
        }
    }

    /// What was told may not have arrived: all is told again.
    pub(super) fn watchers_again(&mut self) {
        if let Some(watched) = &mut self.watched {
            **watched = Watched { seldom: watched.seldom, ..Watched::default() };
            self.client.mailbox.presentity_dirty(&self.client.account.address);
        }
    }

    /// Tells what there is of them, as long as there is room.
    ///
    /// # Errors
    /// The store's: it is looked at again.
    pub(super) async fn tell_watchers(&mut self, front: &mut dyn Front) -> Result<(), Error> {
        let (id, ends) = (self.client.mailbox.id, &self.serving.things.ends);
        while let Some(watched) = &mut self.watched {
            let acting = watchers_of(&self.client, &self.client.account.address)?;
            if !front.has_room() {
                // Looked at again when the output has drained.
                self.client.mailbox.presentity_dirty(acting.owner());
                return Ok(());
            }
            if let Some(after) = watched.telling.clone() {
                let (mut watchers, next) = ends.part(&acting, after.as_ref()).await?;
                watchers.more = next.is_some();
                watched.telling = next.map(Some);
                front.tell(told(acting.owner(), after.is_none(), &watchers));
                continue;
            }
            let (clock, mailbox) = (&self.serving.clock, &self.client.mailbox);
            if watched.after.is_some() && !watched.seldom.may(clock, mailbox) {
                return Ok(());
            }
            let (news, upto) = ends.news(&acting, id, watched.after).await?;
            watched.after = Some(upto);
            match news {
                None => {
                    watched.seldom.told(clock.now());
                    watched.telling = Some(None);
                }
                Some(news) if news.entries.is_empty() && news.gone.is_empty() => return Ok(()),
                Some(news) => {
                    watched.seldom.told(clock.now());
                    if news.more {
                        watched.seldom.goes_on();
                    }
                    front.tell(told(acting.owner(), false, &news));
                }
            }
        }
        Ok(())
    }
}

/// All of them, or a part that goes on with the one before or changes what was told.
fn told(owner: &Address, is_first: bool, watchers: &Watchers) -> Event {
    let mut notify = Notify::of(owner.clone(), What::Watchers, SubscriptionState::Active);
    let content = Some(state::encode(watchers));
    match is_first {
        true => notify.snapshot = content,
        false => notify.patch = content,
    }
    Event::State(notify)
}

#[cfg(test)]
mod tests;
