//! What a client says that it holds of presence when its session goes on: it is told no more than what
//! differs.
//!
//! What a claim is worth is left to `presence`: it counts within the claimant's own view alone.

use std::collections::BTreeMap;
use std::time::Duration;

use impp_acl::Ask;
use impp_protocol::command::{Done, HeldVersion, Subscribe};
use impp_protocol::presence::Version;
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, What};
use tokio::time::Instant;

use super::things::{contacts_of, takes_not};
use super::{Followed, Session};
use crate::core::answers::Handled;
use crate::core::listeners::Listener;

/// So long no presence is told to who has said that it will say what it holds.
const VERSIONS_MAX: Duration = Duration::from_secs(2);

/// What a client holds, by whose presence it is. No more than a frame can name.
pub(super) type Claims = BTreeMap<Address, Version>;

/// What a SUBSCRIBE says that is held.
pub(super) fn claims(versions: Vec<HeldVersion>) -> Claims {
    versions.into_iter().map(|held| (held.address, held.version)).collect()
}

impl Session {
    /// The client will say what it holds: until then, but not for long, it is told nothing of presence.
    pub(super) fn await_versions(&mut self) {
        self.awaits = Some(Instant::now() + VERSIONS_MAX);
        self.client.mailbox.wake_later(VERSIONS_MAX);
    }

    /// Whether they are still waited for. When they are not any more, all that is followed is looked at.
    pub(super) fn awaits_versions(&mut self) -> bool {
        match self.awaits {
            Some(by) if Instant::now() < by => true,
            Some(_) => {
                self.look_at_all();
                false
            }
            None => false,
        }
    }

    /// All that is followed of presence is looked at from now on.
    pub(super) fn look_at_all(&mut self) {
        self.awaits = None;
        for presentity in self.whom.followed() {
            self.client.mailbox.presentity_dirty(presentity);
        }
        self.client.mailbox.contacts_changed();
    }

    /// The client holds this, of what the session follows. What is on its way from another domain stays as
    /// its own request has said it, and an end stays one.
    pub(super) fn claim(&mut self, claims: Claims) {
        for (presentity, version) in claims {
            if self.whom.of(&presentity).is_some_and(|followed| followed.ended.is_none())
                && self.whom.waits(&presentity).is_none()
            {
                self.whom.follow(&presentity, Followed::claimed(Some(version)));
            }
        }
        self.look_at_all();
    }

    /// Says what is held of what is followed already, which stays as it is.
    pub(super) fn hold(&mut self, subscribe: Subscribe) -> Handled {
        if subscribe.versions.is_empty() {
            return Err(takes_not(What::Contacts, Ask::Follow));
        }
        contacts_of(&self.client, &subscribe.address)?;
        self.claim(claims(subscribe.versions));
        Ok(Done { state: Some(SubscriptionState::Active), ..Done::empty() })
    }
}
