//! What a device keeps of others' presence by leases goes with the device, wherever it is.
//!
//! Leases end by themselves too: what could not be let go of, or is cut off by a crash, ends then.

use impp_presence::Keeper;
use impp_protocol::{Address, DeviceId};
use impp_storage::StoreError;

use super::Devices;
use crate::core::keeping::scan;
use crate::core::records::{self, FOLLOWED};
use crate::reach::Release;

impl Devices {
    /// Lets go of all that a device follows by leases.
    pub(super) async fn release(&self, owner: &Address, device: DeviceId) {
        let followed = match self.followed(owner).await {
            Ok(followed) => followed,
            Err(error) => return tracing::warn!(%error, "the leases of a device run out later"),
        };
        for presentity in followed {
            let (watcher, keepers) = (owner.clone(), vec![Keeper::Device(device)]);
            let release = Release { watcher, keepers, listener: None };
            if let Err(error) = self.reach.release(&presentity, release).await {
                tracing::warn!(%error, "a lease of a device runs out later");
            }
        }
    }

    async fn followed(&self, owner: &Address) -> Result<Vec<Address>, StoreError> {
        let records = scan(&*self.store, owner, FOLLOWED).await?;
        let presentity =
            |(key, _): &(Vec<u8>, _)| Address::parse_canonical(records::last_part(key)?).ok();
        Ok(records.iter().filter_map(presentity).collect())
    }
}
