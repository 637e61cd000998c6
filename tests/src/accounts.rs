//! Accounts beyond those that quickstart makes: they are in nobody's contact list.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::server::{Profile, Server};

impl Server {
    /// Adds an account with a profile, as quickstart's have one.
    pub fn add(&self, name: &str) {
        self.add_with(name, "pres,im");
    }

    /// Adds an account with these services.
    pub fn add_with(&self, name: &str, services: &str) {
        let profile = self.profile_path(name).display().to_string();
        let address = self.account(name);
        self.user_ok(&["add", &address, "--services", services, "--profile-out", &profile]);
    }

    /// Adds many accounts through the control socket, with passwords that the server makes.
    pub fn add_many(&self, names: impl IntoIterator<Item = String>) -> Vec<Profile> {
        let stream = UnixStream::connect(self.data().join("control.sock")).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut add = |name: String| {
            let address = self.account(&name);
            let services = json!({"pres": true, "im": true});
            let request = json!({"do": "add", "address": address, "services": services});
            writeln!(&stream, "{request}").unwrap();
            let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            let password = answer["done"]["password"].as_str();
            let password = password.unwrap_or_else(|| panic!("no password: {answer}")).to_owned();
            Profile { address, password }
        };
        names.into_iter().map(&mut add).collect()
    }
}
