//! The server under attack, the people of its domain, and what the attackers are answered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use impp_protocol::Code;
use impp_tests::peer::Answer;
use impp_tests::server::Profile;
use impp_tests::{Dns, Peer, Server};
use tempfile::TempDir;

use crate::usage::Usage;

/// See the module.
pub(crate) struct Arena {
    server: Server,
    /// The DNS that it asks: there is nobody else.
    _dns: Dns,
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
        let dns = Dns::start();
        let under = ["sh", "-c", "log=$1; shift; exec taskset -c 0 \"$@\" 2>>\"$log\"", "sh", &log];
        let server = Server::with()
            .accounts(["ann", "ben", "cy", "eve", "owner", "mallory"])
            .domain("a.example")
            .set("federation.dns", toml_array(&dns.address().to_string()))
            .under(under.iter().map(Into::into).collect())
            .start();
        Arc::new(Arena { server, _dns: dns, folder, tally: Tally::default() })
    }

    /// The server.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The address of an account.
    pub(crate) fn account(&self, name: &str) -> String {
        self.server.account(name)
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(&self.server, &self.log())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// So many accounts more.
    pub(crate) fn people(&self, count: usize) -> Vec<Profile> {
        self.server.add_many((0..count).map(|n| format!("p{n}")))
    }

    /// Signs an account in on one of its devices, if it may.
    pub(crate) async fn peer(&self, name: &str, device: u8) -> Peer {
        Peer::sign_in_on(&self.server, name, device).await
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

fn toml_array(one: &str) -> toml_edit::Array {
    toml_edit::Array::from_iter([one])
}
