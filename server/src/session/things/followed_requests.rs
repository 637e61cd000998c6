//! What waits for the owner's decision, as it follows that: all of it, whenever it is otherwise.
//!
//! What it is, is left to `requests`; who asks to follow is told by the presentity, what is held by those
//! who hold it.

use impp_acl::{Acting, scope};
use impp_protocol::What;
use impp_protocol::presence::Version;
use impp_protocol::state::{self, Requests};

use super::following::{Following, Leaving, Telling, told};
use super::seldom::Seldom;
use super::{Client, Things, lists};
use crate::session::Front;

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
            let waiting = &things.requests;
            if !front.has_room() {
                return Ok(false);
            }
            if self.told.is_some() && !self.seldom.may(&waiting.clock, client) {
                return Ok(true);
            }
            let entries = waiting.entries(&self.acting).await?;
            // To look costs as much as to tell.
            self.seldom.told(waiting.clock.now());
            let all = Requests { entries, more: false, messages: Vec::new() };
            let version = Some(Version::of(&state::encode(&all)));
            if self.told == version {
                return Ok(true);
            }
            self.told = version;
            let parts = lists::in_parts(all.entries);
            let last = parts.len() - 1;
            for (index, entries) in parts.into_iter().enumerate() {
                let part = Requests { entries, more: index < last, messages: Vec::new() };
                let (owner, content) = (self.acting.owner(), state::encode(&part));
                front.tell(told(owner, What::Requests, index == 0, content));
            }
            Ok(true)
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
