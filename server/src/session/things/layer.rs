//! What the device that asks has said of its owner's presence, or of that of the owner for whom it may.

use std::sync::Arc;

use impp_acl::{Acting, By, scope};
use impp_presence::{Lease, delegated};
use impp_protocol::command::Done;
use impp_protocol::{Code, DeviceId, Error};

use crate::core::answers::{Handled, Stored};
use crate::core::principals::Principals;

/// See the module.
#[derive(Debug)]
pub(super) struct OwnLayer {
    pub principals: Arc<Principals>,
}

impl OwnLayer {
    /// The layer of the asker's device.
    pub(super) async fn fetch(&self, acting: &Acting<scope::Presence>, asker: DeviceId) -> Handled {
        let device = match acting.by() {
            By::Delegate(mandate) => delegated(mandate.delegate(), asker),
            _ => asker,
        };
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
