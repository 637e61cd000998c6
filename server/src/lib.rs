//! The daemon: presence and instant messages of the domains it hosts, and the commands for it. The
//! program is the crate `imppd`.
//!
//! | file | holds |
//! |---|---|
//! | `cli/` | the commands of `imppd`, but for `quickstart` |
//! | `config/` | the configuration file, its documentation and errors |
//! | `tls/` | TLS configurations, and what certificates name |
//! | `wire/` | frames over TLS: how fast and how long a peer may, and who gets a place |
//! | `net/` | accepting, and clients' connections |
//! | `messages/` | a message into an inbox here, and what waits for other domains |
//! | `session/` | signing in, and what a signed-in device asks |
//! | `reach/` | one door to a presentity, here or elsewhere; those of other domains that are followed |
//! | `link/` | links to the servers of other domains |
//! | `principals/` | presentities of the hosted domains: loading, changing, waking |
//! | `listeners.rs`, `standing.rs` | who is woken; how many watchers other domains have here |
//! | `accounts.rs`, `records.rs`, `keeping.rs`, `secrets.rs` | who can sign in; what is stored, and how |
//! | `answers.rs`, `notify.rs` | what is answered, and presence on its way to a watcher |
//! | `ids.rs`, `signal.rs` | names of devices and sessions; waking a connection's task |
//! | `life/`, `stopping.rs` | the server put together, started, reloaded, stopped |
//! | `control/`, `http.rs`, `metrics.rs` | the operator's ways in |
//! | `log/` | the log on standard error |

pub mod accounts;
pub mod answers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod http;
pub mod ids;
pub mod keeping;
pub mod life;
pub mod link;
pub mod listeners;
pub mod log;
pub mod messages;
pub mod metrics;
pub mod net;
pub mod notify;
pub mod principals;
pub mod rates;
pub mod reach;
pub mod records;
pub mod routes;
pub mod secrets;
pub mod session;
pub mod sessions;
pub mod settings;
pub mod signal;
pub mod standing;
pub mod stopping;
pub mod timers;
pub mod tls;
pub mod wire;

/// A random number, to spread what would happen at once. Without randomness it is not spread.
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
