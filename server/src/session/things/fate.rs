//! Where a message that an owner sent is: waiting for another domain, or at its end.
//!
//! Waiting is asked from the queues, ends from the owner's log: there each is told once.

use std::sync::Arc;

use impp_acl::{Acting, scope};
use impp_federation::queue::{Cause, Standing};
use impp_protocol::command::{Done, Fetch};
use impp_protocol::state::{self, FateReport, ItemKind, Whereabouts};
use impp_protocol::{Code, Error, MessageId};
use impp_storage::{Item, ReadLog, Store, StoreError};

use crate::core::answers::{Handled, Stored, storage_error};
use crate::core::budgets::Budgets;
use crate::messages::Outgoing;
use crate::session::costs::READ;

/// Items of the log that are read at once.
const READ_ITEMS_MAX: usize = 256;
/// Their bytes.
const READ_BYTES_MAX: usize = 256 * 1024;

/// See the module.
pub(super) struct Fates {
    pub outgoing: Arc<Outgoing>,
    pub store: Arc<dyn Store>,
    pub budgets: Arc<Budgets>,
}

impl Fates {
    pub(super) async fn fetch(&self, acting: &Acting<scope::Inbox>, fetch: Fetch) -> Handled {
        let id = fetch.id.ok_or_else(|| Error::new(Code::Malformed, "id: of which message?"))?;
        if let Some(standing) = self.outgoing.standing(acting.owner(), id) {
            return Ok(answer(&waiting(id, standing)));
        }
        let (mut after, mut damaged) = (0, false);
        loop {
            let query = ReadLog {
                owner: acting.owner().clone(),
                after,
                items_max: READ_ITEMS_MAX,
                bytes_max: READ_BYTES_MAX,
            };
            // An unknown id has the whole log read.
            self.budgets.owe(acting.owner(), READ);
            let page = self.store.read(query).await.stored()?;
            if let Some(found) = page.items.iter().find_map(|item| ended(item, id)) {
                return Ok(answer(&found));
            }
            damaged |= !page.damaged.is_empty();
            match page.items.last() {
                Some(last) if page.more => after = last.seq,
                _ => break,
            }
        }
        if damaged {
            let what = "the fate, perhaps".to_owned();
            return Err(storage_error(&StoreError::Damaged { what }));
        }
        let text = "no message of yours with that id waits, or has a fate in your log";
        Err(Error::new(Code::NotFound, text))
    }
}

fn answer(whereabouts: &Whereabouts) -> Done {
    Done { content: Some(state::encode(whereabouts)), ..Done::empty() }
}

fn waiting(id: MessageId, standing: Standing) -> Whereabouts {
    let Standing { to, since, cause, next_try } = standing;
    let (code, by, text) = match cause {
        Some(Cause { code, by, text, address: _ }) => (Some(code), Some(by), text),
        None => (None, None, None),
    };
    Whereabouts { id, to, fate: None, since, code, by, text, next_try, address: None }
}

fn ended(item: &Item, id: MessageId) -> Option<Whereabouts> {
    if ItemKind::from_number(u64::from(item.kind)) != Some(ItemKind::Fate) {
        return None;
    }
    let report: FateReport = state::decode(item.head.clone()).ok()?;
    (report.id == id).then_some(Whereabouts {
        id,
        to: report.to,
        fate: Some(report.fate),
        since: item.time,
        code: report.code,
        by: report.by,
        text: report.text,
        next_try: None,
        address: report.address,
    })
}
