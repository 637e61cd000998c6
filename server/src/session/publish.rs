//! PUBLISH: the caller's own layer of presence, and dispatch to the other states.

use std::sync::Arc;
use std::time::Duration;

use impp_presence::{Answer, Change, Lease};
use impp_protocol::command::{Done, Publish};
use impp_protocol::presence::Patch;
use impp_protocol::{Code, Error, What};

use super::Session;
use crate::answers::{Handled, Stored};
use crate::config::{Times, seconds};
use crate::host::Host;
use crate::principals::Principal;

impl Session {
    /// Changes a state of the caller's.
    pub(super) async fn publish(&mut self, host: &Arc<Host>, publish: Publish) -> Handled {
        self.needs_own(&publish.address)?;
        match publish.what {
            What::Presence => self.publish_presence(host, publish).await,
            What::Rules => self.publish_rules(host, publish).await,
            What::Contacts => self.publish_contacts(host, publish).await,
            What::Requests => self.publish_requests(host, publish).await,
            What::Watchers => self.publish_watchers(host, publish).await,
            What::Subscriptions => self.publish_subscriptions(host, publish).await,
            What::Devices => self.publish_devices(host, publish).await,
            other => Err(Error::new(Code::Unsupported, format!("{other} cannot be published"))),
        }
    }

    async fn publish_presence(&mut self, host: &Arc<Host>, publish: Publish) -> Handled {
        self.needs_presence()?;
        let (id, device) = (self.mailbox.id, self.mailbox.device);
        let owner = self.account.address.clone();
        if publish.lease == Some(Duration::ZERO) {
            host.principals.change(&owner, Change::Unpublish(device)).await.stored()?;
            return Ok(Done { lease: Some(Duration::ZERO), ..Done::empty() });
        }
        let patch = match publish.content {
            Some(content) => Patch::decode(content).map_err(malformed)?,
            None => Patch::default(),
        };
        let lease =
            publish.lease.map(|asked| granted(asked, &host.settings.load().times)).transpose()?;
        let until = lease.map(|lease| host.clock.now().after(lease));
        let (replace, bound) = (publish.replace, Lease::Bound(id));
        let lease_kept = until.map_or(bound, Lease::Until);
        let change = Change::Publish { device, patch, replace, lease: lease_kept };
        // Looked at there, as an account that is disabled withdraws what it shows there too. So does a
        // device that is taken away.
        let fits = |_: &mut Principal| match host.accounts.is_current(&self.account)
            && !self.mailbox.is_revoked()
        {
            true => Ok(()),
            false => Err(no_longer()),
        };
        match host.principals.change_if(&owner, change, fits).await.stored()?? {
            Answer::Unfit(_) => Err(too_large()),
            _ => Ok(Done { lease, ..Done::empty() }),
        }
    }
}

fn no_longer() -> Error {
    Error::new(Code::Refused, "the account was changed; sign in again")
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
pub(super) fn granted(asked: Duration, times: &Times) -> Result<Duration, Error> {
    let (min, max) = (seconds(times.lease_min_seconds), seconds(times.lease_max_seconds));
    if asked < min {
        let text = format!("a lease is at least {} seconds", min.as_secs());
        let mut error = Error::new(Code::TooShort, text);
        error.minimum = Some(min);
        return Err(error);
    }
    Ok(asked.min(max))
}
