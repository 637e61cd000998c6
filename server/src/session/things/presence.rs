//! The owner's own presence: the layer of the device that asks.

use std::sync::Arc;
use std::time::Duration;

use impp_acl::Acting;
use impp_presence::{Answer, Change, Lease};
use impp_protocol::command::{Done, Publish};
use impp_protocol::presence::Patch;
use impp_protocol::{Code, Error};

use super::Client;
use crate::core::accounts::Accounts;
use crate::core::answers::{Handled, Stored};
use crate::core::clock::Clock;
use crate::core::config::{Times, seconds};
use crate::core::principals::{Principal, Principals};
use crate::core::settings::Settings;

/// See the module.
#[derive(Debug)]
pub(super) struct Presence {
    pub principals: Arc<Principals>,
    pub accounts: Arc<Accounts>,
    pub settings: Arc<Settings>,
    pub clock: Clock,
}

impl Presence {
    /// Changes the layer of the client's device.
    pub(super) async fn publish(
        &self,
        acting: &Acting,
        client: &Client,
        publish: Publish,
    ) -> Handled {
        let (owner, id, device) = (acting.owner(), client.mailbox.id, client.mailbox.device);
        if publish.lease == Some(Duration::ZERO) {
            self.principals.change(owner, Change::Unpublish(device)).await.stored()?;
            return Ok(Done { lease: Some(Duration::ZERO), ..Done::empty() });
        }
        let patch = match publish.content {
            Some(content) => Patch::decode(content).map_err(malformed)?,
            None => Patch::default(),
        };
        let lease = publish.lease;
        let lease = lease.map(|asked| granted(asked, &self.settings.load().times)).transpose()?;
        let until = lease.map(|lease| self.clock.now().after(lease));
        let (replace, bound) = (publish.replace, Lease::Bound(id));
        let kept = until.map_or(bound, Lease::Until);
        let change = Change::Publish { device, patch, replace, lease: kept };
        // Looked at there, as an account that is disabled withdraws what it shows there too. So does a
        // device that is taken away.
        let fits = |_: &mut Principal| {
            let is_current = self.accounts.is_current(&client.account);
            (is_current && !client.mailbox.is_revoked()).then_some(()).ok_or_else(no_longer)
        };
        match self.principals.change_if(owner, change, fits).await.stored()?? {
            Answer::Unfit(_) => Err(too_large()),
            _ => Ok(Done { lease, ..Done::empty() }),
        }
    }

    /// The layer of the client's device.
    pub(super) async fn layer(&self, acting: &Acting, client: &Client) -> Handled {
        let device = client.mailbox.device;
        let layer = self.principals.look(acting.owner(), |principal, now| {
            let (document, lease) = principal.presentity.layers().of(device)?;
            let lease = match lease {
                Lease::Until(until) => Some(until.since(now)),
                Lease::Bound(_) | Lease::Grace(..) => None,
            };
            Some((document, lease))
        });
        match layer.await.stored()? {
            Some((document, lease)) => Ok(Done { content: Some(document), lease, ..Done::empty() }),
            None => Err(Error::new(Code::NotFound, "this device publishes nothing")),
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
