//! What `imppd check` says of how passwords are kept.

use impp_protocol::sasl::scram::Iterations;

use super::check::{Finding, finding};
use crate::core::config::Hosted;

/// That a domain's passwords are hashed less than is enough for those that people choose.
pub(super) fn look(hosted: &Hosted) -> Option<Finding> {
    let (count, enough) = (hosted.scram_iterations, Iterations::CHOSEN_PASSWORD);
    let message = format!(
        "passwords of {} are hashed {} times, which is enough only where `imppd user` has made all \
         of them",
        hosted.name,
        count.get()
    );
    let hint = format!("scram_iterations = {} if people choose theirs", enough.get());
    (count < enough).then(|| finding("warn", "passwords", message, Some(&hint)))
}
