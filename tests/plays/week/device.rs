//! A device of a person: what it knows, and what it does with its program, `impp` or `impp.py`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use impp_tests::Server;
use impp_tests::cable::Cable;
use impp_tests::dice::Dice;
use impp_tests::impp::Impp;
use serde_json::Value;

use super::{Acknowledged, FRIENDS};
use crate::outbox::through;
use crate::python::Python;

const GRANTS: [&str; 3] = ["none", "status", "all"];

/// What the person means to be so.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Written { to: &'static str, text: String },
    Read { with: String, message: Seen },
    Deleted(Seen),
    Named { who: &'static str, name: String },
    Granted { who: &'static str, grant: &'static str },
    Ruled(String),
}

/// A message as a device has seen it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) cursor: String,
}

/// What a device knows, from when it was connected last.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its copy of the log: kinds and ids.
    pub(super) log: Vec<(String, String)>,
    pub(super) since: Option<String>,
    latest: BTreeMap<String, Seen>,
    pub(super) rules: BTreeSet<String>,
    rules_number: String,
    contacts_number: String,
    /// By address: the name, and what is granted.
    pub(super) contacts: BTreeMap<String, (String, String)>,
}

pub(super) enum Program {
    Laptop(Impp),
    Script(Python),
}

pub(super) struct Device {
    pub(super) program: Program,
    pub(super) cable: Cable,
    pub(super) is_on: bool,
    pub(super) known: Known,
    /// Where rules are written down to be set.
    file: PathBuf,
    /// What the script's outbox holds.
    waiting: VecDeque<Wish>,
    /// What met another change, and is to be made anew.
    again: Vec<Wish>,
}

impl Known {
    /// One more line of `inbox`.
    fn take(&mut self, line: &Value) {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let (item, id, cursor) = (text("item"), text("id"), text("cursor"));
        match item.as_str() {
            "end" | "gone" => {}
            "deleted" => {
                self.log.retain(|known| *known != ("message".to_owned(), id.clone()));
                self.latest.retain(|_, seen| seen.id != id);
                self.log.push((item, id));
            }
            "message" | "sent" | "fate" => {
                if item == "message" {
                    self.latest
                        .insert(text("from"), Seen { id: id.clone(), cursor: cursor.clone() });
                }
                self.log.push((item, id));
            }
            _ => panic!("{line}"),
        }
        self.since = Some(cursor);
    }
}

impl Device {
    pub(super) async fn laptop(server: &Server) -> Device {
        Device::of(server, |profile| Program::Laptop(Impp::with_profile(&profile))).await
    }

    pub(super) async fn script(server: &Server) -> Device {
        Device::of(server, |profile| Program::Script(Python { profile })).await
    }

    async fn of(server: &Server, program: impl FnOnce(PathBuf) -> Program) -> Device {
        let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
        let profile = through(server, "alice", &cable);
        let (file, known) = (profile.with_extension("rules"), Known::default());
        let (waiting, again) = Default::default();
        let mut device =
            Device { program: program(profile), cable, is_on: true, known, file, waiting, again };
        device.look();
        device
    }

    fn run(&self, args: &[&str]) -> (i32, Vec<Value>) {
        match &self.program {
            Program::Laptop(impp) => {
                let ran = impp.run(args);
                (ran.code, ran.objects)
            }
            Program::Script(python) => python.run(args),
        }
    }

    fn done(&self, args: &[&str]) -> Vec<Value> {
        let (code, objects) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {objects:?}");
        objects
    }

    /// Sees how the contacts and rules are now.
    pub(super) fn look(&mut self) {
        let is_laptop = matches!(self.program, Program::Laptop(_));
        let mut contacts = self.done(if is_laptop { &["contacts"] } else { &["list", "contacts"] });
        let rules = self.done(if is_laptop { &["rules", "show"] } else { &["rules"] }).remove(0);
        let ids: Vec<&str> = if is_laptop {
            self.known.rules_number = rules["version"].as_str().unwrap().to_owned();
            let rules = rules["rule"].as_array().unwrap();
            rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect()
        } else {
            self.known.contacts_number = contacts.pop().unwrap()["number"].to_string();
            self.known.rules_number = rules["number"].to_string();
            rules["rules"].as_str().unwrap().split('"').collect()
        };
        let own = |id: &&str| id.strip_prefix("own-").is_some_and(|rest| rest != "domain");
        self.known.rules = ids.into_iter().filter(own).map(str::to_owned).collect();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let grant = if is_laptop { "grants" } else { "grant" };
        let entry =
            |entry: &Value| (text(&entry["address"]), (text(&entry["name"]), text(&entry[grant])));
        self.known.contacts = contacts.iter().map(entry).collect();
    }

    /// Reads the log on: all of it, where nothing cuts the connection.
    pub(super) fn reads(&mut self, ack: bool) {
        let mut args = vec!["inbox"];
        let since = self.known.since.clone();
        if matches!(self.program, Program::Laptop(_)) {
            args.push("--all");
            args.extend(since.iter().flat_map(|since| ["--since", since]));
        }
        args.extend(ack.then_some("--ack"));
        for line in self.run(&args).1 {
            self.known.take(&line);
        }
    }

    /// Does it, or keeps it until it can be done.
    pub(super) fn does(&mut self, wish: Wish, acknowledged: &mut Acknowledged) {
        match &wish {
            // It is on the disk when the program ends well.
            Wish::Written { .. } => acknowledged.take(&wish),
            Wish::Deleted(message) => drop(acknowledged.doomed.insert(message.id.clone())),
            _ => {}
        }
        let args = self.words(&wish);
        let mut args: Vec<_> = args.iter().map(String::as_str).collect();
        if !self.is_on {
            // The script gives up before it tries a second time.
            let is_script = matches!(self.program, Program::Script(_));
            args.splice(0..0, ["--timeout", if is_script { "0.2" } else { "1" }]);
        }
        let (code, lines) = self.run(&args);
        assert!(code <= 1, "{args:?}: {code} {lines:?}");
        match &self.program {
            Program::Script(_) => {
                self.waiting.push_back(wish);
                self.hears(&lines, acknowledged);
            }
            // Another device has read further, or the message was deleted.
            Program::Laptop(_) if args[0] == "read" && lines[0]["id"].is_null() => {}
            Program::Laptop(_) if code == 0 => acknowledged.take(&wish),
            Program::Laptop(_) => self.failed(wish, acknowledged),
        }
    }

    /// What the script's outbox says of what waited in it.
    fn hears(&mut self, lines: &[Value], acknowledged: &mut Acknowledged) {
        for line in lines.iter().filter(|line| line["outcome"] != "waiting") {
            let wish = self.waiting.pop_front().expect("something that waited");
            match line["outcome"].as_str() {
                Some("done" | "delivered" | "duplicate") => acknowledged.take(&wish),
                Some("failed") => self.failed(wish, acknowledged),
                _ => panic!("{wish:?}: {line}"),
            }
        }
    }

    /// Another device was there before: its person looks, and has it so or makes it anew.
    fn failed(&mut self, wish: Wish, acknowledged: &mut Acknowledged) {
        match &wish {
            Wish::Read { message, .. } | Wish::Deleted(message) => {
                assert!(acknowledged.doomed.contains(&message.id), "{wish:?}");
            }
            Wish::Written { .. } | Wish::Named { .. } => panic!("{wish:?}"),
            Wish::Granted { .. } | Wish::Ruled(_) => {}
        }
        self.look();
        let is_so = match &wish {
            Wish::Granted { who, grant } => self.known.contacts[*who].1 == **grant,
            Wish::Ruled(id) => self.known.rules.contains(id),
            Wish::Read { with, message } => self.marks().get(with) == Some(&message.id),
            _ => false,
        };
        // Whoever may have done it looks before it is done again.
        let is_looked_for =
            matches!((&self.program, &wish), (Program::Script(_), Wish::Granted { .. }));
        assert!(!(is_so && is_looked_for), "it is so, and was said to have failed: {wish:?}");
        match &wish {
            _ if is_so => acknowledged.take(&wish),
            Wish::Granted { .. } | Wish::Ruled(_) => self.again.push(wish),
            _ => {}
        }
    }

    /// The command line of a wish.
    fn words(&self, wish: &Wish) -> Vec<String> {
        let base = &self.known.contacts_number;
        let (laptop, script): (Vec<&str>, Vec<&str>) = match wish {
            Wish::Written { to, text } => {
                (vec!["send", to, text, "--later"], vec!["send", to, text])
            }
            Wish::Read { with, message } => {
                (vec!["read", with, &message.id], vec!["read", with, &message.cursor])
            }
            Wish::Deleted(message) => {
                (vec!["inbox", "delete", &message.id], vec!["delete", &message.cursor])
            }
            Wish::Named { who, name } => (
                vec!["contacts", "add", who, "--name", name],
                vec!["contact", who, "--name", name, "--base", base],
            ),
            Wish::Granted { who, grant } => (
                vec!["contacts", "add", who, "--grant", grant],
                vec!["contact", who, "--grant", grant, "--base", base],
            ),
            Wish::Ruled(id) => {
                let all = self.known.rules.iter().chain([id]);
                std::fs::write(&self.file, all.fold(RULES.to_owned(), rule)).unwrap();
                let (file, base) = (self.file.to_str().unwrap(), self.known.rules_number.as_str());
                (vec!["rules", "set", file, "--base", base], vec!["rules", file, "--base", base])
            }
        };
        let words = match self.program {
            Program::Laptop(_) => laptop,
            Program::Script(_) => [&script[..], &["--later"]].concat(),
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// What comes to its person's mind.
    pub(super) fn wishes(&self, dice: &mut Dice, name: &str) -> Wish {
        let who = *dice.pick(&FRIENDS);
        let seen = self.known.latest.iter().nth(dice.roll(2));
        match (dice.roll(7), seen) {
            // `impp` keeps nothing but messages until it is connected.
            _ if !self.is_on && matches!(self.program, Program::Laptop(_)) => {}
            (0 | 1, Some((with, message))) => {
                return Wish::Read { with: with.clone(), message: message.clone() };
            }
            (2, Some((_, message))) => return Wish::Deleted(message.clone()),
            (3, _) => return Wish::Named { who, name: name.to_owned() },
            (4, _) => {
                let grant = *dice.pick(&GRANTS);
                return Wish::Granted { who, grant };
            }
            (5, _) => return Wish::Ruled(format!("own-{name}").replace(' ', "-")),
            _ => {}
        }
        Wish::Written { to: who, text: name.to_owned() }
    }

    pub(super) fn toggle(&mut self) {
        self.is_on = !self.is_on;
        match self.is_on {
            true => {
                self.cable.plug();
                self.look();
            }
            false => self.cable.pull(),
        }
    }

    /// Everything that waits is done, and all of the log is read.
    pub(super) fn comes_home(&mut self, acknowledged: &mut Acknowledged) {
        if !self.is_on {
            self.toggle();
        }
        loop {
            let lines = self.done_or_told(&["outbox", "send"]);
            if let Program::Script(_) = self.program {
                self.hears(&lines, acknowledged);
                assert!(self.waiting.is_empty(), "{:?}", self.waiting);
            }
            let Some(wish) = self.again.pop() else { return };
            self.look();
            self.does(wish, acknowledged);
        }
    }

    /// Sends what waits; that a change met another one is told by the exit code too.
    fn done_or_told(&self, args: &[&str]) -> Vec<Value> {
        let (code, lines) = self.run(args);
        let is_told = lines.iter().any(|line| line["outcome"] == "failed");
        assert!(code == 0 || is_told, "{args:?}: {code} {lines:?}");
        lines
    }

    /// How far conversations are read, as it is told.
    pub(super) fn marks(&self) -> BTreeMap<String, String> {
        let (lines, with) = match &self.program {
            Program::Laptop(_) => (self.done(&["read"]), "with"),
            Program::Script(_) => (self.done(&["list", "read-marks"]), "address"),
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        lines.iter().filter_map(|line| Some((text(&line[with])?, text(&line["id"])?))).collect()
    }
}

/// Whoever is in the contact list sees what its entry grants, and everybody may write.
const RULES: &str = "[[delivery]]\nid = \"all\"\nwho = [\"anyone\"]\naction = \"accept\"\n\
                     [[rule]]\nid = \"contacts\"\nwho = [\"contacts\"]\nhandling = \"allow\"\n";

fn rule(text: String, id: &String) -> String {
    text + &format!("[[rule]]\nid = \"{id}\"\nwho = [\"x@localhost\"]\nhandling = \"confirm\"\n")
}
