//! The devices of an account, as the operator lists and removes them.

use impp_acl::Acting;
use impp_protocol::Address;
use impp_storage::StoreError;
use serde::{Deserialize, Serialize};

use super::{Administration, Response, refused};
use crate::core::accounts::AccountError;

/// A device as `user devices` prints it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListedDevice {
    /// Its id, in hexadecimal digits.
    pub device: String,
    /// What it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was last used, RFC 3339; exact to the hour. Not known of one that is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// How many sessions it has.
    pub sessions: usize,
    /// Whether its record in the store cannot be read: it cannot sign in until it is taken away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

/// The devices of an account.
pub(super) async fn list(
    server: &Administration,
    address: &Address,
) -> Result<Vec<ListedDevice>, AccountError> {
    let sessions = server.live.sessions.of(address);
    let listed = server.devices.all_there(address).await?.into_iter().map(|known| ListedDevice {
        device: known.id.to_string(),
        last_seen: (!known.is_damaged()).then(|| server.devices.last_seen(&known).to_string()),
        sessions: sessions.iter().filter(|mailbox| mailbox.device == known.id).count(),
        damaged: known.is_damaged(),
        name: known.record.name,
    });
    Ok(listed.collect())
}

/// Takes a device away.
pub(super) async fn remove(
    server: &Administration,
    address: &Address,
    text: &str,
) -> Result<Response, AccountError> {
    let Ok(device) = text.parse() else {
        let text = format!("\"{text}\" is no device: 32 hexadecimal digits are");
        return Ok(refused(2, text, None));
    };
    let acting = Acting::administrator(address);
    let removed = match server.devices.remove(&acting, device).await {
        Err(error @ StoreError::Damaged { .. }) => {
            let there = server.devices.all_there(address).await?;
            let known = there.into_iter().find(|known| known.id == device && known.is_damaged());
            server.devices.remove_damaged(&acting, known.ok_or(error)?).await?;
            true
        }
        removed => removed?,
    };
    if removed {
        return Ok(Response::DONE);
    }
    let hint = format!("imppd user devices {address} lists them");
    Ok(refused(1, format!("{address} has no device {text}"), Some(hint)))
}
