//! What all rooms stand on: what is kept, who is woken, what is set.
//!
//! | module | duty |
//! |---|---|
//! | `ground` | what there is one of, and rooms are made from |
//! | `principals/` | presentities of the hosted domains: loading, changing, waking |
//! | `listeners`, `sessions`, `signal` | who is woken; sessions as others see them; waking a task |
//! | `tickets` | what resumes a session |
//! | `standing`, `rates`, `timers` | how many watchers other domains have here; what senders may send; what is due |
//! | `budget`, `budgets` | what one may still ask for and store; that of each account |
//! | `seats` | how much of something one may have going on at once |
//! | `accounts`, `routes`, `secrets` | who can sign in; where addresses lead; keys |
//! | `records`, `keeping` | what is stored; storing |
//! | `config/`, `tls/`, `settings` | the configuration file; TLS and what certificates name; both, as they are in force |
//! | `answers`, `notify` | what is answered; presence on its way to a watcher |
//! | `clock`, `chance`, `metrics`, `lost` | time; randomness; counters; lines that the log has lost |
//! | `steps` | long work in turns |
//! | `double` | a store as tests have it |
//! | `stopping` | who is told that the server stops, and who is waited for |

pub mod accounts;
mod alike;
pub mod answers;
pub mod budget;
pub mod budgets;
pub mod chance;
pub mod clock;
pub mod config;
#[cfg(test)]
pub(crate) mod double;
pub mod event;
pub mod ground;
pub mod keeping;
pub mod listeners;
pub mod lost;
pub mod metrics;
pub mod notify;
pub mod principals;
pub mod rates;
pub mod records;
pub mod routes;
pub mod seats;
pub mod secrets;
pub mod sessions;
pub mod settings;
pub mod signal;
pub mod standing;
pub mod steps;
pub mod stopping;
pub mod tickets;
pub mod timers;
pub mod tls;

/// A table that many tasks use at once.
pub type DashMap<K, V> = dashmap::DashMap<K, V, impp_protocol::hashing::Keyed>;
/// A set that many tasks use at once.
pub type DashSet<K> = dashmap::DashSet<K, impp_protocol::hashing::Keyed>;
