//! What the operator has to be able to look up later: lines of the log under a target of their own, which
//! are there at every level, unless `log.level` names the target.

/// The target.
pub const TARGET: &str = "impp::event";
