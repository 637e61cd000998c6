//! Plays against the real programs: one function for each row of what must hold and of what must
//! be survived, named after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

