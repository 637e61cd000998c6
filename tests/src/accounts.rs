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
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let mut add = |name: String| {
            let address = self.account(&name);
            let body = json!({"address": address}).to_string();
            let head = format!("Host: localhost\r\nContent-Length: {}", body.len());
            write!(&stream, "POST /v1/accounts HTTP/1.1\r\n{head}\r\n\r\n{body}").unwrap();
            let answer: Value = serde_json::from_str(&answer(&mut answers)).unwrap();
            let password = answer["done"]["password"].as_str();
            let password = password.unwrap_or_else(|| panic!("no password: {answer}")).to_owned();
            Profile { address, password }
        };
        names.into_iter().map(&mut add).collect()
    }
}

/// The body of the next answer over HTTP.
fn answer(answers: &mut impl BufRead) -> String {
    let mut length = 0;
    loop {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            None if line == "\r\n" => break,
            _ => assert!(!line.is_empty(), "no answer"),
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}
