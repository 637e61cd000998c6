//! Whose layer a layer is, and whom a change wakes.

/// A session or a link, unique in this run of the server: what is bound to it ends with it, and what
/// it listens to wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);
