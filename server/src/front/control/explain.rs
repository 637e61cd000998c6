//! What somebody's rules make of somebody else, as the operator is told it: in names alone.
//!
//! Who has asked is written down where it is asked, in `paths`.

use impp_acl::{Acting, Outline, Watcher};
use impp_protocol::Address;
use impp_storage::StoreError;
use serde::{Deserialize, Serialize};

use super::Response;
use crate::session::Rules;

/// What becomes of somebody, as `imppd explain` prints it: a line for each purpose.
#[derive(Debug, Serialize, Deserialize)]
pub struct Explained {
    /// Whose rules.
    pub owner: String,
    /// Of whom.
    pub watcher: String,
    /// `subscribe`, `fetch` or `message`.
    pub purpose: String,
    /// The handling, or the action for messages.
    pub decision: String,
    /// The names of the fields that they may see.
    pub fields: Vec<String>,
    /// The ids of the owner's rules that matched.
    pub rules: Vec<String>,
    /// The ids of what matched of the domain's policy.
    pub domain: Vec<String>,
}

/// What becomes of somebody who follows, looks once, and writes.
pub(super) async fn answer(
    rules: &Rules,
    owner: &Address,
    watcher: Address,
) -> Result<Response, StoreError> {
    let who = watcher.to_string();
    let acting = Acting::administrator(owner);
    let outlines = rules.outlines(&acting, &Watcher::of(&watcher)).await?;
    let told = |(purpose, outline): (&str, Outline)| Explained {
        owner: owner.to_string(),
        watcher: who.clone(),
        purpose: purpose.to_owned(),
        decision: outline.decision.to_owned(),
        fields: outline.fields,
        rules: outline.rules,
        domain: outline.domain,
    };
    let purposes = ["subscribe", "fetch", "message"].into_iter();
    Ok(Response::Explained(purposes.zip(outlines).map(told).collect()))
}
