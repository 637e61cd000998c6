//! The attacks: what each prepares while it is quiet, and what its attackers do then for ever.

mod link;
mod sign_in;
mod signed_in;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::arena::Arena;

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What an attacker does until it is stopped.
pub(crate) type Task = Later<()>;

/// See the module.
pub(crate) struct Attack {
    pub name: &'static str,
    /// In a few words.
    pub what: &'static str,
    /// Signs in, fills, writes rules: whatever has to stand before.
    pub prepare: fn(Arc<Arena>) -> Later<Vec<Task>>,
}

macro_rules! attack {
    ($name:literal, $what:literal, $prepare:path) => {
        Attack { name: $name, what: $what, prepare: |arena| Box::pin($prepare(arena)) }
    };
}

/// All of them.
pub(crate) const ATTACKS: [Attack; 15] = [
    attack!("silent", "80 addresses hold 32 connections each and say nothing", sign_in::silent),
    attack!("handshakes", "64 at once do TLS handshakes, one after the other", sign_in::handshakes),
    attack!("restart-auth", "320 connections start AUTH again and again", sign_in::restart_auth),
    attack!("guess", "32 addresses guess the password of one account", sign_in::guess),
    attack!("key-updates", "32 connections change TLS keys all the time", sign_in::key_updates),
    attack!("requests", "one account's 60 sessions FETCH as fast as they can", signed_in::requests),
    attack!("dropped", "60 KiB messages to somebody who drops them", signed_in::dropped),
    attack!("inbox", "one sender fills an inbox; another one tries", signed_in::inbox),
    attack!("held", "FETCH of 200 held messages, by 8 sessions", signed_in::held),
    attack!("unknown-fate", "FETCH of a fate that is not known, long log", signed_in::unknown_fate),
    attack!("contacts", "contact edits with 50 sessions that expand", signed_in::contacts),
    attack!("leases", "2,000 leased subscriptions a sign-in, again and again", signed_in::leases),
    attack!("presence", "64 sessions publish as fast as they can", signed_in::presence),
    attack!("dead-domains", "a message to a new dead domain each time", signed_in::dead_domains),
    attack!(
        "hostile-home",
        "a home tells 40 KiB of presence as fast as it can",
        link::hostile_home
    ),
];
