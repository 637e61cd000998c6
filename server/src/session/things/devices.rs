//! An owner's devices.

use std::sync::Arc;

use impp_acl::{Acting, scope};
use impp_protocol::command::{Done, Publish};
use impp_protocol::state::{self, Device, DeviceEdit};
use impp_protocol::{Code, DeviceId, Error};

use crate::core::answers::{Handled, Stored};
use crate::session::devices::Devices;

/// See the module.
#[derive(Debug)]
pub(super) struct OwnDevices {
    pub devices: Arc<Devices>,
}

impl OwnDevices {
    /// The devices, that of the asker marked.
    pub(super) async fn fetch(&self, acting: &Acting<scope::Account>, asker: DeviceId) -> Handled {
        let known = self.devices.all(acting.owner()).await.stored()?;
        let entries = known.into_iter().map(|known| Device {
            id: known.id,
            last_seen: self.devices.last_seen(&known),
            current: known.id == asker,
            name: known.record.name,
        });
        let content = state::encode(&state::Devices { entries: entries.collect() });
        Ok(Done { content: Some(content), ..Done::empty() })
    }

    pub(super) async fn publish(
        &self,
        acting: &Acting<scope::Account>,
        publish: Publish,
    ) -> Handled {
        let edit: DeviceEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        match self.devices.remove(acting, edit.remove).await.stored()? {
            true => Ok(Done::empty()),
            false => Err(Error::new(Code::NotFound, "there is no such device")),
        }
    }
}
