//! Who watches, as its owner follows it (RFC 3857, 3858): all of them in parts, and then what has changed,
//! in one NOTIFY in [`PACE`] at most.
//!
//! What the owner sees of them is left to `things/watchers.rs`, what has changed to the presentity.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Done, Notify, Subscribe};
use impp_protocol::state::{self, SubscriptionState, Watchers};
use impp_protocol::{Address, Error, Timestamp, What};

use super::things::watchers_of;
use super::{Event, Front, Session};
use crate::core::answers::Handled;
use crate::core::listeners::Listener;

/// Between two that tell changes, at least (RFC 3857 4.10).
pub(super) const PACE: Duration = Duration::from_secs(5);

/// Watchers that the client follows.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Up to which change it knows all; nothing before it is told all of them.
    after: Option<u64>,
    /// All of them are being told, from behind this one on.
    telling: Option<Option<Bytes>>,
    /// When changes may be told again.
    rests_until: Timestamp,
    /// Something wakes it then.
    sleeps: bool,
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
        self.watched = Some(Watched::default());
        self.client.mailbox.presentity_dirty(acting.owner());
        Ok(Done { state: Some(SubscriptionState::Active), ..Done::empty() })
    }

    /// They are followed no more.
    pub(super) async fn unfollow_watchers(&mut self) {
        if self.watched.take().is_some()
            && let Ok(acting) = watchers_of(&self.client, self.address())
        {
            self.serving.things.ends.unfollow(&acting, self.client.mailbox.id).await;
        }
    }

    /// What was told may not have arrived: all is told again.
    pub(super) fn watchers_again(&mut self) {
        if let Some(watched) = &mut self.watched {
            let Watched { rests_until, sleeps, .. } = *watched;
            *watched = Watched { rests_until, sleeps, ..Watched::default() };
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
            let now = self.serving.clock.now();
            if watched.after.is_some() && now < watched.rests_until {
                self.look_later();
                return Ok(());
            }
            watched.sleeps = false;
            let (news, upto) = ends.news(&acting, id, watched.after).await?;
            watched.after = Some(upto);
            watched.rests_until = now.after(PACE);
            match news {
                None => watched.telling = Some(None),
                Some(news) if news.entries.is_empty() && news.gone.is_empty() => {
                    watched.rests_until = Timestamp::default();
                    return Ok(());
                }
                Some(news) => {
                    // What does not fit goes with it.
                    if news.more {
                        watched.rests_until = now;
                    }
                    front.tell(told(acting.owner(), false, &news));
                }
            }
        }
        Ok(())
    }

    /// Looks again when changes may be told.
    fn look_later(&mut self) {
        let Some(watched) = &mut self.watched else { return };
        if std::mem::replace(&mut watched.sleeps, true) {
            return;
        }
        let (at, clock) = (watched.rests_until, self.serving.clock.clone());
        let mailbox = self.client.mailbox.clone();
        tokio::spawn(async move {
            clock.reach(at).await;
            mailbox.presentity_dirty(&mailbox.account);
        });
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
