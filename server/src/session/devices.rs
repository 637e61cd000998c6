//! The caller's devices, and the layer of presence of the one that asks.

use std::sync::Arc;

use impp_presence::Lease;
use impp_protocol::command::{Done, Publish};
use impp_protocol::state::{self, Device, DeviceEdit, Devices};
use impp_protocol::{Code, Error};

use super::Session;
use crate::answers::{Handled, Stored};
use crate::devices;
use crate::host::Host;

impl Session {
    pub(super) async fn fetch_devices(&mut self, host: &Arc<Host>) -> Handled {
        let known = devices::all(host, self.address()).await.stored()?;
        let entries = known.into_iter().map(|known| Device {
            id: known.id,
            last_seen: known.last_seen(),
            current: known.id == self.mailbox.device,
            name: known.record.name,
        });
        let content = state::encode(&Devices { entries: entries.collect() });
        Ok(Done { content: Some(content), ..Done::empty() })
    }

    pub(super) async fn publish_devices(&mut self, host: &Arc<Host>, publish: Publish) -> Handled {
        let edit: DeviceEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        if !devices::remove(host, self.address(), edit.remove).await.stored()? {
            return Err(Error::new(Code::NotFound, "there is no such device"));
        }
        Ok(Done::empty())
    }

    pub(super) async fn fetch_layer(&mut self, host: &Arc<Host>) -> Handled {
        self.needs_presence()?;
        let device = self.mailbox.device;
        let layer = host
            .principals
            .look(self.address(), |principal, now| {
                let (document, lease) = principal.presentity.layers().of(device)?;
                let lease = match lease {
                    Lease::Until(until) => Some(until.since(now)),
                    Lease::Bound(_) | Lease::Grace(..) => None,
                };
                Some((document, lease))
            })
            .await
            .stored()?;
        match layer {
            Some((document, lease)) => Ok(Done { content: Some(document), lease, ..Done::empty() }),
            None => Err(Error::new(Code::NotFound, "this device publishes nothing")),
        }
    }
}
