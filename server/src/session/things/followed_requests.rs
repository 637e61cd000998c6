//! What waits for the owner's decision, as it follows that: all of it, whenever it is otherwise.
//!
//! What it is, is left to `requests`; who asks to follow is told by the presentity, what is held by those
//! who hold it.

use impp_acl::{Acting, scope};
use impp_protocol::What;
use impp_protocol::command::Notify;
use impp_protocol::presence::Version;
use impp_protocol::state::{self, Requests, SubscriptionState};

use super::following::{Following, Leaving, Telling};
use super::requests::by_sender;
use super::seldom::Seldom;
use super::{Client, Things, lists};
use crate::session::{Event, Front};

/// See the module.
pub(super) struct FollowedRequests {
    acting: Acting<scope::Rules>,
    /// What was told, if anything was.
    told: Option<Version>,
    seldom: Seldom,
}

impl FollowedRequests {
    /// Of which nothing was told yet.
    pub(super) fn new(acting: Acting<scope::Rules>) -> FollowedRequests {
        FollowedRequests { acting, told: None, seldom: Seldom::of(What::Requests) }
    }
}

impl Following for FollowedRequests {
    fn tell<'a>(
        &'a mut self,
        things: &'a Things,
        client: &'a Client,
        front: &'a mut dyn Front,
    ) -> Telling<'a> {
        Box::pin(async move {
            let (waiting, mut after) = (&things.requests, None);
            if !front.has_room() {
                return Ok(false);
            }
            if self.told.is_some() && !self.seldom.may(&waiting.clock, client) {
                return Ok(true);
            }
            let entries = waiting.entries(&self.acting).await?;
            // To look costs as much as to tell.
            self.seldom.told(waiting.clock.now());
            let all = Requests { entries: entries.clone(), more: false, messages: Vec::new() };
            let version = Some(Version::of(&state::encode(&all)));
            if self.told == version {
                return Ok(true);
            }
            self.told = version;
            loop {
                let (part, next) = lists::part(entries.clone(), after.as_ref(), by_sender);
                let part = Requests { entries: part, more: next.is_some(), ..all.clone() };
                let owner = self.acting.owner().clone();
                let mut notify = Notify::of(owner, What::Requests, SubscriptionState::Active);
                let content = Some(state::encode(&part));
                match after {
                    None => notify.snapshot = content,
                    Some(_) => notify.patch = content,
                }
                front.tell(Event::State(notify));
                after = next;
                if after.is_none() {
                    return Ok(true);
                }
            }
        })
    }

    fn again(&mut self) -> bool {
        self.told = None;
        true
    }

    fn leave<'a>(&'a self, things: &'a Things, client: &'a Client) -> Leaving<'a> {
        Box::pin(things.requests.unfollow(&self.acting, client.mailbox.id))
    }
}
