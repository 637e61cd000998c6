//! Who writes to an owner just now, as its sessions follow it, and to whom the owner does: nothing of it is
//! stored, and it ends by itself.
//!
//! Who may be told is left to `messages/marks`.

use impp_acl::{Acting, scope};
use impp_protocol::command::{Done, Publish};
use impp_protocol::state::{self, Typing, TypingEdit};
use impp_protocol::{Code, Error, What};

use super::following::{Following, Leaving, Telling, told};
use super::read_marks::OwnMarks;
use super::{Client, Things};
use crate::core::answers::{Handled, Stored};
use crate::session::Front;

impl OwnMarks {
    /// The owner writes to somebody. It is answered alike whether or not they are told.
    pub(super) async fn types(&self, acting: &Acting<scope::Inbox>, publish: Publish) -> Handled {
        let edit: TypingEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        self.marks.types(acting.owner(), &edit.to).await.stored()?;
        Ok(Done::empty())
    }
}

/// Who writes, as a session follows it.
pub(super) struct FollowedTyping {
    acting: Acting<scope::Inbox>,
}

impl FollowedTyping {
    /// Of whoever writes from now on.
    pub(super) fn new(acting: Acting<scope::Inbox>, client: &Client) -> FollowedTyping {
        client.mailbox.follow_typing(true);
        FollowedTyping { acting }
    }
}

impl Following for FollowedTyping {
    fn tell<'a>(
        &'a mut self,
        things: &'a Things,
        client: &'a Client,
        front: &'a mut dyn Front,
    ) -> Telling<'a> {
        Box::pin(async move {
            let now = things.read_marks.clock.now();
            for (from, until) in client.mailbox.take_typing() {
                let lasts = until.since(now);
                // What finds no room is of no use when there is.
                if lasts.is_zero() || !front.has_room() {
                    continue;
                }
                // Whole seconds are told: of the last part of one, one.
                let lasts = std::time::Duration::from_secs(lasts.as_millis().div_ceil(1000) as u64);
                let content = state::encode(&Typing { from, lasts });
                front.tell(told(self.acting.owner(), What::Typing, true, content));
            }
            Ok(true)
        })
    }

    fn again(&mut self) -> bool {
        true
    }

    fn leave<'a>(&'a self, _: &'a Things, client: &'a Client) -> Leaving<'a> {
        Box::pin(async move { client.mailbox.follow_typing(false) })
    }
}
