//! The server under attack, the people of its domain, and what the attackers are answered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use impp_protocol::Code;
use impp_tests::peer::Answer;
use impp_tests::server::Profile;
use impp_tests::{BadPeer, Domains, Peer, Server};
use tempfile::TempDir;

use crate::usage::Usage;

const DOMAIN: &str = "a.example";

/// See the module.
pub(crate) struct Arena {
    domains: Domains,
    folder: TempDir,
    /// What the attackers were answered.
    pub tally: Tally,
}

/// How often what was answered.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<String, u64>>);

impl Arena {
    /// Starts a server with the settings that it has by itself, pinned to the first processor.
    pub(crate) async fn start() -> Arc<Arena> {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log").display().to_string();
        let under = ["sh", "-c", "log=$1; shift; exec taskset -c 0 \"$@\" 2>>\"$log\"", "sh", &log];
        let domains = Domains::with(&[DOMAIN], |_, start| {
            start
                .accounts(["ann", "ben", "cy", "eve", "owner", "mallory"])
                .under(under.iter().map(Into::into).collect())
                // What the plays have otherwise than `imppd config default`.
                .set("federation.retry_min_milliseconds", 1000)
                .set("federation.retry_max_seconds", 300)
                .set("federation.unproven_connects_per_minute", 10)
                .set("times.pace_burst", 5)
        });
        Arc::new(Arena { domains: domains.await, folder, tally: Tally::default() })
    }

    /// A domain whose server is bad.
    pub(crate) async fn bad_domain(&self) -> BadPeer {
        BadPeer::among(&self.domains, "evil.example").await
    }

    /// The server.
    pub(crate) fn server(&self) -> &Server {
        &self.domains[DOMAIN]
    }

    /// The address of an account.
    pub(crate) fn account(&self, name: &str) -> String {
        self.server().account(name)
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.server(), &self.log())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// So many accounts more.
    pub(crate) fn people(&self, count: usize) -> Vec<Profile> {
        self.server().add_many((0..count).map(|n| format!("p{n}")))
    }

    /// Signs an account in on one of its devices, if it may.
    pub(crate) async fn peer(&self, name: &str, device: u8) -> Peer {
        Peer::sign_in_on(self.server(), name, device).await
    }
}

impl Tally {
    /// Counts an answer.
    pub(crate) fn answer(&self, answer: Option<&Answer>) {
        match answer {
            Some(Ok(_)) => self.count("ok"),
            Some(Err(error)) => self.code(error.code),
            None => self.count("closed"),
        }
    }

    /// Counts a refusal.
    pub(crate) fn code(&self, code: Code) {
        self.count(&code.to_string());
    }

    /// Counts anything.
    pub(crate) fn count(&self, what: &str) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.take();
    }

    /// What was counted, which is forgotten.
    pub(crate) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}
