//! What `imppd check --deep` looks at: all of a store that no server has open.

use std::path::Path;

use impp_storage::{StoreError, examine};

use super::check::{Finding, finding, fine};
use crate::core::records::logs::about;

const STORE: &str = "store";
/// What is more is counted.
const NAMED_MAX: usize = 200;

/// One finding for each thing that is damaged, or one that nothing is.
pub(super) fn look(store: &Path) -> Vec<Finding> {
    let examined = match examine(store, Some(about)) {
        Ok(examined) => examined,
        Err(error) => return vec![not_looked_at(&error)],
    };
    let mut findings = Vec::new();
    if let Some(why) = examined.restored {
        let message = format!("the next start takes the store for a copy: {why}");
        let hint = "clients will begin again at their oldest item; nothing is to be done";
        findings.push(finding("warn", STORE, message, Some(hint)));
    }
    let hint = "keep a copy of the folder, look after the disk; restore a backup, or see `When the \
                disk is full, or fails` in docs/operating.md";
    let named = examined.damaged.iter().take(NAMED_MAX);
    findings.extend(named.map(|what| finding("error", STORE, what.clone(), Some(hint))));
    match examined.damaged.len() {
        0 => {
            let message = format!("{}: nothing is damaged", store.display());
            findings.push(fine(STORE, message));
        }
        all if all > NAMED_MAX => {
            let message = format!("{} more are damaged, at least", all - NAMED_MAX);
            findings.push(finding("error", STORE, message, Some(hint)));
        }
        _ => {}
    }
    findings
}

fn not_looked_at(error: &StoreError) -> Finding {
    let hint = match error {
        StoreError::Locked { .. } => Some(
            "stop the server first; one that runs reads all in time, and counts what it finds \
                  in impp_store_damaged",
        ),
        _ => None,
    };
    finding("error", STORE, error.to_string(), hint)
}
