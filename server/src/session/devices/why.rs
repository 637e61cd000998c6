//! Why a device goes, and who pays for it.

use impp_protocol::DeviceId;
use impp_storage::Payer;

/// Why a device goes.
#[derive(Clone, Debug)]
pub(super) enum Why {
    /// Its owner or the operator says so, who pays for it.
    Removed(Payer),
    /// A new one has its place.
    MadeRoom { newcomer: DeviceId, name: Option<String> },
}

impl Why {
    /// A new device makes the store no smaller.
    pub(super) fn payer(&self) -> Payer {
        match self {
            Why::Removed(payer) => payer.clone(),
            Why::MadeRoom { .. } => Payer::Nobody,
        }
    }
}
