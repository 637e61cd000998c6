//! Who watches, as its owner follows it (RFC 3857, 3858): all of them in parts, and then what has changed,
//! at its pace.
//!
//! What the owner sees of them is left to `watchers`, what has changed to the presentity.

use bytes::Bytes;
use impp_acl::{Acting, scope};
use impp_protocol::{What, state};

use super::following::{Following, Leaving, Telling, told};
use super::seldom::Seldom;
use super::{Client, Things};
use crate::session::Front;

/// See the module.
pub(super) struct FollowedWatchers {
    acting: Acting<scope::Watchers>,
    /// Up to which change it knows all; nothing before it is told all of them.
    after: Option<u64>,
    /// All of them are being told, from behind this one on.
    telling: Option<Option<Bytes>>,
    seldom: Seldom,
}

impl FollowedWatchers {
    /// Of whom nothing was told yet.
    pub(super) fn new(acting: Acting<scope::Watchers>) -> FollowedWatchers {
        let (after, telling) = Default::default();
        FollowedWatchers { acting, after, telling, seldom: Seldom::of(What::Watchers) }
    }
}

impl Following for FollowedWatchers {
    fn tell<'a>(
        &'a mut self,
        things: &'a Things,
        client: &'a Client,
        front: &'a mut dyn Front,
    ) -> Telling<'a> {
        Box::pin(async move {
            let (id, watched, owner) = (client.mailbox.id, &things.watched, self.acting.owner());
            loop {
                if !front.has_room() {
                    return Ok(false);
                }
                if let Some(after) = self.telling.clone() {
                    let (mut watchers, next) = watched.part(&self.acting, after.as_ref()).await?;
                    watchers.more = next.is_some();
                    self.telling = next.map(Some);
                    front.tell(told(
                        owner,
                        What::Watchers,
                        after.is_none(),
                        state::encode(&watchers),
                    ));
                    continue;
                }
                if self.after.is_some() && !self.seldom.may(&watched.clock, client) {
                    return Ok(true);
                }
                let (news, upto) = watched.news(&self.acting, id, self.after).await?;
                self.after = Some(upto);
                match news {
                    None => {
                        self.seldom.told(watched.clock.now());
                        self.telling = Some(None);
                    }
                    Some(news) if news.entries.is_empty() && news.gone.is_empty() => {
                        return Ok(true);
                    }
                    Some(news) => {
                        self.seldom.told(watched.clock.now());
                        if news.more {
                            self.seldom.goes_on();
                        }
                        front.tell(told(owner, What::Watchers, false, state::encode(&news)));
                    }
                }
            }
        })
    }

    fn again(&mut self) -> bool {
        (self.after, self.telling) = (None, None);
        true
    }

    fn leave<'a>(&'a self, things: &'a Things, client: &'a Client) -> Leaving<'a> {
        Box::pin(things.watched.unfollow(&self.acting, client.mailbox.id))
    }
}

#[cfg(test)]
mod tests;
