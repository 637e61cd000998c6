//! Whose a task is: of a session, or of a link.

pub use impp_presence::SessionId;
