//! What `imppd check` says of how passwords are kept: by the configuration, and of those that a
//! running server has.

use impp_protocol::sasl::scram::Iterations;

use super::check::{Finding, finding};
use crate::core::config::Hosted;
use crate::front::control::Response;

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

/// How many accounts have a password from before a change of the count, or of an older program.
pub(super) fn odd(answer: &Response) -> Option<Finding> {
    let Response::Accounts(listed) = answer else { return None };
    let odd = listed.iter().filter(|account| account.odd_password).count();
    let message = format!(
        "accounts with a password that is not kept as others of their domain are: {odd}; they can be \
         told from names that do not exist"
    );
    let hint = "it ends with their next password; `imppd user list` shows them as odd_password";
    (odd > 0).then(|| finding("warn", "passwords", message, Some(hint)))
}
