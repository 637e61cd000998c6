//! The owner's own presence: what the device that asks says of it.
//!
//! What it has said is read in `layer`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use impp_acl::{Acting, By, Mandate, scope};
use impp_presence::{Answer, Change, Lease, Saying, delegated};
use impp_protocol::command::{Done, Publish};
use impp_protocol::presence::{Patch, field_amiss};
use impp_protocol::{Address, Code, Error};

use super::Client;
use crate::core::accounts::Accounts;
use crate::core::answers::{Handled, Stored};
use crate::core::clock::Clock;
use crate::core::config::{Times, seconds};
use crate::core::principals::{Principal, Principals};
use crate::core::sessions::{Mailbox, Sessions};
use crate::core::settings::Settings;

/// See the module.
#[derive(Debug)]
pub(super) struct Presence {
    pub principals: Arc<Principals>,
    pub accounts: Arc<Accounts>,
    pub sessions: Arc<Sessions>,
    pub settings: Arc<Settings>,
    pub clock: Clock,
}

impl Presence {
    /// Changes the layer of the client's device.
    pub(super) async fn publish(
        &self,
        acting: &Acting<scope::Presence>,
        client: &Client,
        publish: Publish,
    ) -> Handled {
        if let By::Delegate(mandate) = acting.by() {
            return self.publish_for(mandate, client, publish).await;
        }
        let (id, device) = (client.mailbox.id, client.device()?);
        if publish.lease == Some(Duration::ZERO) {
            let change = Change::Unpublish(device);
            self.turning(acting, client, change, false, |_| Ok(())).await?;
            return Ok(Done { lease: Some(Duration::ZERO), ..Done::empty() });
        }
        let patch = patch_of(publish.content)?;
        let lease = publish.lease;
        let lease = lease.map(|asked| granted(asked, &self.settings.load().times)).transpose()?;
        let until = lease.map(|lease| self.clock.now().after(lease));
        let (replace, bound) = (publish.replace, Lease::Bound(id));
        let kept = until.map_or(bound, Lease::Until);
        let change = Change::Publish { device, patch, replace, lease: kept };
        // Of presence that is the only version to start from.
        let none_yet = publish.base == Some(0);
        // Looked at there, as an account that is disabled withdraws what it shows there too. So does a
        // device that is taken away.
        let fits = |principal: &Principal| {
            if !self.accounts.is_current(&client.account) || client.mailbox.is_revoked() {
                return Err(no_longer());
            }
            match none_yet && principal.presentity.has_layer(device) {
                true => Err(conflict()),
                false => Ok(()),
            }
        };
        self.turning(acting, client, change, true, fits).await?;
        Ok(Done { lease, ..Done::empty() })
    }

    /// Changes the layer that a delegate has of the owner's, from the client's device; what it takes back,
    /// it takes back from all of its devices.
    async fn publish_for(&self, mandate: &Mandate, client: &Client, publish: Publish) -> Handled {
        let (owner, delegate) = (mandate.owner(), mandate.delegate().clone());
        let device = client.device()?;
        let id = delegated(&delegate, device);
        if publish.lease == Some(Duration::ZERO) {
            let back = Change::ByDelegate(delegate, Saying::TakesBack);
            self.principals.change(owner, back).await.stored()?;
            return Ok(Done { lease: Some(Duration::ZERO), ..Done::empty() });
        }
        let lease = granted(publish.lease.ok_or_else(unleased)?, &self.settings.load().times)?;
        let patch = patch_of(publish.content)?;
        let (replace, until) = (publish.replace, self.clock.now().after(lease));
        let (none_yet, now) = (publish.base == Some(0), self.clock.now());
        let who = (delegate.clone(), device);
        let says = Saying::Says { device, patch: patch.clone(), replace, until };
        let change = Change::ByDelegate(delegate, says);
        let fits = |principal: &mut Principal| {
            self.both_in_use(client, owner)?;
            let presentity = &principal.presentity;
            if let Some(beyond) = presentity.beyond(now, (&who.0, who.1), &patch, replace) {
                return Err(Error::new(Code::Refused, beyond.to_string()));
            }
            match none_yet && presentity.has_layer(id) {
                true => Err(conflict()),
                false => Ok(()),
            }
        };
        match self.principals.change_if(owner, change, fits).await.stored()?? {
            Answer::Unfit(_) => Err(too_large()),
            Answer::Beyond => Err(right_over()),
            _ => Ok(Done { lease: Some(lease), ..Done::empty() }),
        }
    }

    /// Both accounts are in use. Looked at where it is done, as one that is disabled withdraws what is
    /// shown of it: nothing may come behind that.
    fn both_in_use(&self, client: &Client, owner: &Address) -> Result<(), Error> {
        if !self.accounts.is_current(&client.account) || client.mailbox.is_revoked() {
            return Err(no_longer());
        }
        self.accounts.is_enabled(owner).then_some(()).ok_or_else(right_over)
    }

    /// Makes a change after which the layer of the client's device is its session's, or nobody's.
    async fn turning(
        &self,
        acting: &Acting<scope::Presence>,
        client: &Client,
        change: Change,
        publishes: bool,
        fits: impl FnOnce(&Principal) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut turned = None;
        // Known in the order of the changes, so it is noted where they are staged.
        let fits = |principal: &mut Principal| {
            fits(principal)?;
            turned = Some(self.turn(client, publishes));
            Ok(())
        };
        let changed = self.principals.change_if(acting.owner(), change, fits).await;
        let error = match changed.stored() {
            Ok(Ok(Answer::Unfit(_))) => too_large(),
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) | Err(error) => error,
        };
        // What was not done has turned nothing.
        if let Some(before) = turned {
            client.mailbox.set_publishes(false);
            before.iter().for_each(|mailbox| mailbox.set_publishes(true));
        }
        Err(error)
    }

    /// The layer of a client's device becomes its session's, or nobody's; whose it was.
    fn turn(&self, client: &Client, publishes: bool) -> Vec<Arc<Mailbox>> {
        let own = &client.mailbox;
        let mut of_device = self.sessions.of(&own.account);
        of_device.retain(|mailbox| mailbox.device == own.device);
        let before = of_device.iter().filter(|mailbox| mailbox.publishes()).cloned().collect();
        for mailbox in of_device {
            mailbox.set_publishes(publishes && mailbox.id == own.id);
        }
        before
    }
}

/// Who asks has been sent away.
pub(in crate::session) fn no_longer() -> Error {
    Error::new(Code::Refused, "the account was changed; sign in again")
}

fn right_over() -> Error {
    Error::new(Code::Refused, "your right to that has ended")
}

fn unleased() -> Error {
    let text = "lease: missing; what is published for somebody else is for a lease";
    Error::new(Code::Malformed, text)
}

fn patch_of(content: Option<Bytes>) -> Result<Patch, Error> {
    let Some(content) = content else { return Ok(Patch::default()) };
    let patch = Patch::decode(content.clone()).map_err(|error| match field_amiss(content) {
        Some(field) => malformed(field),
        None => malformed(error),
    })?;
    // What others publish elsewhere is read as it comes; what is published here is of this registry.
    patch.amiss().map_or(Ok(patch), |field| Err(malformed(field)))
}

fn conflict() -> Error {
    Error::new(Code::Conflict, "base: this device has published something already")
}

fn too_large() -> Error {
    Error::new(Code::TooLarge, "the presence document would exceed its limits")
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::new(Code::Malformed, format!("content: {error}"))
}

/// The lease granted for one asked.
///
/// # Errors
/// too-short with the least one.
pub(in crate::session) fn granted(asked: Duration, times: &Times) -> Result<Duration, Error> {
    let (min, max) = (seconds(times.lease_min_seconds), seconds(times.lease_max_seconds));
    if asked < min {
        let text = format!("a lease is at least {} seconds", min.as_secs());
        let mut error = Error::new(Code::TooShort, text);
        error.minimum = Some(min);
        return Err(error);
    }
    Ok(asked.min(max))
}
