//! D1: every path by which bytes leave, every field of every part, every class of watcher. Each value is one
//! that stands nowhere else, so whether somebody has learned it is looked for in all that reached them; who
//! may learn it says a table here, which reads no rules.

use std::collections::BTreeSet;

use bytes::Bytes;
use impp_protocol::command::{Fetch, Ping};
use impp_protocol::presence::name::REGISTRY;
use impp_protocol::presence::{Document, FieldName, FieldType, Fields, canonical_value};
use impp_protocol::{Address, Command, Kind, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{Held, Peer, fetch, publish, subscribe};
use impp_tests::presence::part;
use impp_tests::{Domains, Server, Wire};

use crate::explained::explain;

const ALICE: &str = "alice@a.example";
/// The parts of her document.
const PARTS: [&str; 4] = ["person", "work", "home", "phone"];
/// A field that no registry has.
const SEAT: &str = "org.example.seat";
/// Of a tuple that is granted, of the person, of a device: what shows with it (docs/rules.md).
const TUPLE_ALWAYS: [&str; 5] = ["contact", "priority", "service-class", "timestamp", "class"];

/// A class of watchers: what the rules say of it, and which of the fields it may see.
struct Class {
    name: &'static str,
    rule: &'static str,
    sees: fn(&str, &str) -> bool,
}

fn nothing(_: &str, _: &str) -> bool {
    false
}

/// The tuple `work` shows its class only to who is let in by it; the other selectors do not show it.
const CLASSES: [Class; 9] = [
    Class { name: "all", rule: "handling = \"allow\"\nfields = [\"all\"]", sees: |_, _| true },
    Class {
        name: "note",
        rule: "handling = \"allow\"\nfields = [\"note\"]\ntuples = []\ndevices = []",
        sees: |part, field| part == "person" && matches!(field, "note" | "timestamp"),
    },
    Class {
        name: "work",
        rule: "handling = \"allow\"\nfields = [\"mood\"]\ntuples = [\"class:work-class-R\"]\n\
               persons = []\ndevices = []",
        sees: |part, field| part == "work" && (field == "mood" || TUPLE_ALWAYS.contains(&field)),
    },
    Class {
        name: "phone",
        rule: "handling = \"allow\"\nfields = [\"org.example.seat\"]\ntuples = []\npersons = []\n\
               devices = [\"id:phone\"]",
        sees: |part, field| part == "phone" && matches!(field, SEAT | "device-id" | "timestamp"),
    },
    Class {
        name: "later",
        rule: "handling = \"allow\"\nfields = [\"all\"]\n\
               valid = [\"2001-01-01T00:00:00Z/2002-01-01T00:00:00Z\"]",
        sees: nothing,
    },
    Class {
        name: "polite",
        rule: "handling = \"polite-block\"\nfields = [\"all\"]",
        sees: nothing,
    },
    Class { name: "asks", rule: "handling = \"confirm\"\nfields = [\"all\"]", sees: nothing },
    Class { name: "block", rule: "handling = \"block\"\nfields = [\"all\"]", sees: nothing },
    // What is granted, and shown by no rule.
    Class { name: "help", rule: "handling = \"block\"", sees: nothing },
];

/// A field of a part, and its value in this round, which is nowhere else.
fn value(part: &str, field: &str, round: usize) -> Option<String> {
    let name = FieldName::parse(field).unwrap();
    let index = PARTS.iter().position(|own| *own == part).unwrap();
    let at =
        index * 100 + REGISTRY.iter().position(|row| row.0 == field).unwrap_or(99) + 1000 * round;
    match (field, name.field_type()) {
        // It selects, so it stays.
        ("class", _) => Some(format!("{part}-class-R")),
        (_, FieldType::Status) => None,
        (_, FieldType::Text | FieldType::Words) => Some(format!("{part}-{field}-{round}-x")),
        (_, FieldType::Priority) => Some(format!("0.{}{}7", index + 1, round)),
        (_, FieldType::Time) => {
            Some(format!("2041-01-{:02}T0{}:00:{:02}Z", at % 27 + 1, round, index + 7))
        }
        (_, FieldType::Integer) => Some((7_310_000 + at).to_string()),
    }
}

/// Each field of each part that has a value to be looked for.
fn cells() -> impl Iterator<Item = (&'static str, &'static str)> {
    let fields =
        || REGISTRY.iter().map(|row| row.0).chain([SEAT]).filter(|field| *field != "status");
    PARTS.into_iter().flat_map(move |part| fields().map(move |field| (part, field)))
}

fn full(round: usize) -> Document {
    let of = |name: &str| -> Fields {
        let own = cells().filter(|(part, _)| *part == name);
        let field = |(part, field): (&str, &str)| {
            let (name, value) =
                (FieldName::parse(field).unwrap(), value(part, field, round).unwrap());
            let value = canonical_value(&name, &value).unwrap_or_else(|| panic!("{field} {value}"));
            (name, value)
        };
        own.map(field).collect()
    };
    let mut full = Document { person: of("person"), ..Document::default() };
    for id in ["work", "home"] {
        let mut fields = of(id);
        fields.insert(FieldName::parse("status").unwrap(), "open".into());
        full.tuples.insert(part(id), fields);
    }
    full.devices.insert(part("phone"), of("phone"));
    full
}

/// The values of a round that stand in some bytes.
fn found(bytes: &[u8], round: usize) -> BTreeSet<(&'static str, &'static str)> {
    let stands = |text: String| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    cells().filter(|(part, field)| stands(value(part, field, round).unwrap())).collect()
}

fn granted(class: &Class) -> BTreeSet<(&'static str, &'static str)> {
    cells().filter(|(part, field)| (class.sees)(part, field)).collect()
}

/// Reads frames up to the answer to a request, as bytes.
async fn until_answered(peer: &mut Peer, number: u64, out: &mut Vec<u8>) {
    loop {
        let frame = peer.wire().frame().await.expect("a frame");
        out.extend_from_slice(&frame.fields);
        let answers = [Kind::Ok.number(), Kind::Error.number()];
        if frame.request == number && answers.contains(&frame.kind) {
            return;
        }
    }
}

/// All that comes by a request, and until nothing of before is left.
async fn asked(peer: &mut Peer, command: Command) -> Vec<u8> {
    let mut out = Vec::new();
    for command in [command, Ping::empty().into(), Ping::empty().into()] {
        let number = peer.ask(command).await;
        until_answered(peer, number, &mut out).await;
    }
    out
}

/// One of a class, signed in, and what has reached it in this round.
struct Watcher {
    class: &'static Class,
    peer: Peer,
    held: Held,
    bytes: Vec<u8>,
}

impl Watcher {
    async fn ask(&mut self, command: impl Into<Command>) {
        let more = asked(&mut self.peer, command.into()).await;
        self.bytes.extend(more);
    }

    /// Waits until all that it may learn of a round has come, and looks that it was no more.
    async fn check(&mut self, path: &str, round: usize) {
        let mut may = granted(self.class);
        // A patch says nothing of what has not changed.
        may.retain(|(_, field)| path != "notify" || *field != "class");
        for tries in 0.. {
            let found = found(&self.bytes, round);
            let beyond: Vec<_> = found.difference(&may).collect();
            assert!(beyond.is_empty(), "{path}: {} learns {beyond:?}", self.class.name);
            if found == may {
                break;
            }
            let lacks: Vec<_> = may.difference(&found).collect();
            assert!(tries < 600, "{path}: {} is not told {lacks:?}", self.class.name);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            self.ask(Ping::empty()).await;
        }
        self.bytes.clear();
    }

    /// Looks that what has come says nothing of hers at all.
    fn says_nothing(&mut self, path: &str) {
        let found = found(&self.bytes, 1);
        // By which class a rule selects is known to who may read its text.
        let beyond: Vec<_> = found.iter().filter(|(_, field)| *field != "class").collect();
        assert!(beyond.is_empty(), "{path}: {} learns {beyond:?}", self.class.name);
        self.bytes.clear();
    }
}

/// What can be asked of somebody else's that is not their presence.
fn prying(own: &Address) -> Vec<Command> {
    let about = |more: Fetch| Command::from(Fetch { about: Some(own.clone()), ..more });
    let explain = || fetch(ALICE, What::Explain);
    let things = What::ALL.iter().map(|of| of.0).filter(|what| *what != What::Presence);
    let mut all: Vec<Command> = things.clone().map(|what| fetch(ALICE, what).into()).collect();
    all.extend(things.map(|what| Command::from(subscribe(ALICE, what))));
    all.extend([
        about(explain()),
        about(Fetch { view: true, ..explain() }),
        about(Fetch { view: true, once: true, ..explain() }),
        about(Fetch { rules: Some(Bytes::from_static(b"# none\n")), view: true, ..explain() }),
        about(fetch(ALICE, What::Requests)),
        publish(ALICE, What::Rules, Some(Bytes::from_static(b"# none\n"))).into(),
        fetch(own.as_str(), What::Subscriptions).into(),
        fetch(own.as_str(), What::Delegations).into(),
    ]);
    all
}

/// The rules of all classes, at both domains, and of who has no name; `help` may edit them and see who
/// watches.
fn rules() -> String {
    let of = |class: &Class| {
        let (name, rule) = (class.name, class.rule);
        format!(
            "[[rule]]\nid = \"{name}\"\nwho = [\"{name}@a.example\", \"{name}@b.example\"]\n{rule}\n"
        )
    };
    CLASSES.iter().map(of).collect::<String>()
        + "[[rule]]\nid = \"nameless\"\nwho = [\"anonymous\"]\nhandling = \"allow\"\n\
           fields = [\"mood\"]\ntuples = []\ndevices = []\n\
           [[delegate]]\nid = \"help\"\nwho = [\"help@a.example\"]\nrights = [\"rules\", \"watchers\"]\n"
}

const NAMELESS: Class = Class {
    name: "nameless",
    rule: "",
    sees: |part, field| part == "person" && matches!(field, "mood" | "timestamp"),
};

fn lets_in_nameless(server: &Server) {
    let text = std::fs::read_to_string(server.config()).unwrap();
    std::fs::write(server.config(), text.replacen("# anonymous = true", "anonymous = true", 1))
        .unwrap();
    assert_eq!(crate::domain_policy::reload(server), (Some(0), String::new()));
}

/// One of each class at her domain and at another, and one without a name.
async fn watchers(domains: &Domains) -> Vec<Watcher> {
    let mut all = Vec::new();
    for domain in ["a.example", "b.example"] {
        let server = &domains[domain];
        for class in &CLASSES {
            server.add(class.name);
            let peer = Peer::sign_in(server, class.name).await;
            all.push(Watcher { class, held: peer.held(), peer, bytes: Vec::new() });
        }
    }
    all
}

/// What leaves the server by each path is what the table grants, of every field of every part: presence by
/// following, looking, a change and a return, here and over a link; and all else not a word of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_d9_no_path_tells_more_than_is_granted() {
    let domains = Domains::two().await;
    let server = &domains["a.example"];
    lets_in_nameless(server);
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.set_rules(&rules()).await;
    alice.show(&full(1)).await;
    let mut all = watchers(&domains).await;
    for watcher in &mut all {
        watcher.ask(subscribe(ALICE, What::Presence)).await;
        watcher.check("subscribe", 1).await;
        watcher.ask(fetch(ALICE, What::Presence)).await;
        watcher.check("fetch", 1).await;
        for command in prying(&watcher.peer.address.clone()) {
            let path = format!("{command:?}");
            watcher.ask(command).await;
            watcher.says_nothing(&path);
        }
    }
    let mut nameless = Peer::nameless(Wire::dial(server).await).await.expect("to be let in");
    for command in [subscribe(ALICE, What::Presence).into(), fetch(ALICE, What::Presence).into()] {
        let mut seen = asked(&mut nameless, command).await;
        // All from there have 200 requests together.
        for _ in 0..25 {
            seen.extend(asked(&mut nameless, Ping::empty().into()).await);
        }
        assert_eq!(found(&seen, 1), granted(&NAMELESS));
    }
    // What has changed, as a patch to who holds the rest.
    alice.show(&full(2)).await;
    for watcher in &mut all {
        watcher.check("notify", 2).await;
    }
    for watcher in &mut all {
        let here = &domains[watcher.peer.address.domain_str()];
        let (held, wire) = (watcher.held.clone(), Wire::dial(here).await);
        let resumed = Peer::resume(wire, &held).await.expect("a session");
        std::mem::replace(&mut watcher.peer, resumed).cut();
        watcher.ask(Ping::empty()).await;
        watcher.check("resume", 2).await;
    }
    // To her herself, and to who may ask in her name, lists and reasons say no values.
    for what in [What::Watchers, What::Requests, What::Acts, What::Delegations, What::Subscriptions]
    {
        let told = asked(&mut alice, fetch(ALICE, what).into()).await;
        assert_eq!(found(&told, 2), BTreeSet::new(), "{what}");
    }
    for what in [What::Watchers, What::Requests] {
        let told = asked(&mut alice, subscribe(ALICE, what).into()).await;
        assert_eq!(found(&told, 2), BTreeSet::new(), "{what}");
    }
    let help = Impp::of(server, "help");
    let of_help = |words: &[&str]| help.run(&[&["--for", ALICE], words].concat());
    for class in &CLASSES {
        let who = format!("{}@a.example", class.name);
        for words in [&["rules", "view-as"][..], &["rules", "explain"]] {
            let ran = of_help(&[words, &[&*who]].concat());
            assert_eq!(ran.code, 0, "{ran:?}");
            assert_eq!(values_of(&ran.objects), BTreeSet::new(), "{words:?} {who}");
        }
        let (code, _, said) = explain(server, ALICE, &who);
        assert_eq!((code, found(said.as_bytes(), 2)), (0, BTreeSet::new()), "{said}");
    }
    assert_eq!(values_of(&of_help(&["watchers"]).objects), BTreeSet::new());
    for domain in ["a.example", "b.example"] {
        let server = &domains[domain];
        let (_, metrics) = server.http("/metrics");
        for said in [metrics, server.stderr()] {
            assert_eq!(found(said.as_bytes(), 1), BTreeSet::new(), "{domain}");
            assert_eq!(found(said.as_bytes(), 2), BTreeSet::new(), "{domain}");
        }
    }
}

fn values_of(objects: &[serde_json::Value]) -> BTreeSet<(&'static str, &'static str)> {
    let text: String = objects.iter().map(ToString::to_string).collect();
    // The class by which the text of a rule selects is known to who may read that.
    found(text.as_bytes(), 2).into_iter().filter(|(_, field)| *field != "class").collect()
}

/// By nothing but what changes in it a round is told from another, and each value from each other.
#[test]
fn each_value_of_the_matrix_stands_nowhere_else() {
    let all: Vec<String> = [1, 2]
        .into_iter()
        .flat_map(|round| cells().map(move |(part, field)| (part, field, round)))
        .filter(|(_, field, _)| *field != "class")
        .map(|(part, field, round)| value(part, field, round).unwrap())
        .collect();
    for (index, one) in all.iter().enumerate() {
        let within = |other: &&String| other.contains(&**one);
        assert_eq!(all.iter().filter(within).count(), 1, "{one}");
        assert!(index < all.len());
    }
    assert!(cells().count() > 70);
    let encoded = full(1).encode();
    assert_eq!(found(&encoded, 1).len(), cells().count());
}
