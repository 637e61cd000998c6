//! Messages: into an inbox here, or into what waits for another domain, and from there to their fates.
//!
//! | module | duty |
//! |---|---|
//! | `accept` | what is asked of every message: its id, whether it is a repeat |
//! | `deliver` | into an inbox here, whoever brings it |
//! | `held` | what waits for its recipient's decision |
//! | `going_on` | who is at what is left of an owner's decisions |
//! | `marks` | how far conversations were read |
//! | `outgoing` | messages to other domains: into the queue, and back into it at the start |
//! | `waiting` | what waits for one other domain, and all of these |
//! | `under_way` | what is being taken, so that a repeat of it waits for that |
//! | `queued` | what waits, as it is on the disk |
//! | `linked` | until when what waits may have gone out |
//! | `fates` | what messages to other domains have come to |
//!
//! Who sends is proven by `session` and `link`, which stand above; `link` carries what waits, and is
//! known here as [`Carriers`] and [`Carrier`].

mod accept;
mod deliver;
mod fates;
mod going_on;
mod held;
mod linked;
mod marks;
mod outgoing;
mod queued;
mod under_way;
mod waiting;

pub use accept::DEDUP_KEPT;
pub use deliver::{Bearer, Delivery};
pub use fates::Fates;
pub use held::Held;
pub use linked::Linked;
pub use marks::{CONVERSATIONS_BESIDE, Conversation, Marks, Seen, Unread};
pub use outgoing::{Carriers, Outgoing};
pub use waiting::{Carrier, Queues, SENDER_PART, Waiting, backoff};
