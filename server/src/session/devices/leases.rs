//! What a device keeps of others' presence by leases goes with the device, wherever it is; so does what it
//! has said of others as their delegate.
//!
//! Leases end by themselves too: what could not be let go of, or is cut off by a crash, ends then.

use impp_presence::Keeper;
use impp_protocol::{Address, DeviceId};

use super::Devices;
use crate::core::answers::Unstored;
use crate::core::keeping;
use crate::reach::Release;

impl Devices {
    /// Ends what a device has said of others, and lets go of all that it follows by leases: that may be
    /// thousands, one after the other.
    pub(super) fn release(
        &self,
        owner: Address,
        device: DeviceId,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (store, reach) = (self.store.clone(), self.reach.clone());
        let principals = self.principals.clone();
        async move {
            // It is not shown all the same.
            if let Err(error) = principals.part_delegate(&owner, Some(device)).await {
                error.unstored("the end of what a device says of others");
            }
            let followed = match keeping::followed(&*store, &owner).await {
                Ok(followed) => followed,
                Err(error) => return tracing::warn!(%error, "the leases of a device run out later"),
            };
            for presentity in followed {
                let (watcher, keepers) = (owner.clone(), vec![Keeper::Device(device)]);
                let release = Release { watcher, keepers, listener: None };
                if let Err(error) = reach.release(&presentity, release).await {
                    tracing::warn!(%error, "a lease of a device runs out later");
                }
            }
        }
    }
}
