//! The devices of the account.

use impp_protocol::state::{Device, DeviceEdit, Devices};
use impp_protocol::{DeviceId, What};

use crate::client::Client;
use crate::error::ClientError;

impl Client {
    /// The devices that have signed in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn devices(&self) -> Result<Vec<Device>, ClientError> {
        self.fetch_own::<Devices>(What::Devices).await.map(|devices| devices.entries)
    }

    /// Removes a device: its layer and its sessions end, and the others are told.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_device(&self, device: DeviceId) -> Result<(), ClientError> {
        self.edit_own(What::Devices, &DeviceEdit { remove: device }).await.map(drop)
    }
}
