//! What delegates did for an owner.

use std::sync::Arc;

use impp_acl::{Acting, scope};
use impp_protocol::command::Fetch;
use impp_protocol::state::{self, Acts};

use super::lists;
use crate::core::answers::{Handled, Stored};
use crate::core::principals::Principals;

/// See the module.
#[derive(Debug)]
pub(super) struct ForOwner {
    pub principals: Arc<Principals>,
}

impl ForOwner {
    pub(super) async fn fetch(&self, acting: &Acting<scope::Rules>, fetch: Fetch) -> Handled {
        let read = self.principals.acts(acting.owner(), fetch.cursor.as_ref()).await;
        let (entries, next) = read.stored()?;
        Ok(lists::answer(state::encode(&Acts { entries }), next))
    }
}
