//! Presence itself: what principals publish, who watches them and what each is shown, and what is
//! followed of other domains. Pure machines: time comes in, what to store and whom to wake comes
//! out.
//!
//! Storing, waking and sending are left to the server; who may see what to `impp_acl`. Nothing of a
//! document gets out of here but by [`impp_acl::Disclosed`].
//!
//! | file | holds |
//! |---|---|
//! | `ids.rs` | names of devices, sessions and links |
//! | `bonds.rs`, `ties.rs` | what keeps a subscription, at either end of it; and who is told of it |
//! | `watching.rs`, `watchers.rs` | one watcher; all of a presentity, and when which is due |
//! | `looks.rs` | who has looked once, and was no watcher |
//! | `policy.rs` | an owner's rules and contacts, as decisions look at them |
//! | `contact_list.rs` | what changes of a contact list come to, whichever device makes them |
//! | `presentity/` | a presentity: what is shown, and what is on its way to the disk |
//! | `ghosts.rs` | which addresses that do not exist are kept, so that nobody can tell them from others |
//! | `places.rs` | places that others take: a share for each |
//! | `followed/` | a presentity of another domain, as its followers here see it |

pub mod followed;
pub mod ghosts;
pub mod places;

mod ageing;
mod bonds;
mod contact_list;
mod ids;
mod looks;
mod policy;
mod presentity;
mod ties;
mod watchers;
mod watching;

pub use ageing::WINDOW;
pub use bonds::{Bond, Bonds, Keeper};
pub use contact_list::{Amended, Amendment, Amends, Fields, History, Labels, REMOVED_MAX, Trace};
pub use ids::{LinkId, ListenerId};
pub use looks::{LOOKS_MAX, Look};
pub use policy::{Contact, Policy, Sphere};
pub use presentity::{
    Answer, Asked, Change, DELEGATED_BYTES_MAX, DELEGATED_MAX, Effects, Fetched, Follows,
    GroupTold, Groups, Held, Joined, LAYERS_MAX, Layers, Lease, News, Noted, PaceLimit, Presentity,
    Pulled, PulledGroups, Saved, Saying, Seen, Staging, Told, Write, delegated, set_version,
};
pub use watching::{GIVEUP_AFTER, Kept, SPARED_FOR, Watching};
