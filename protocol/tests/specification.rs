//! The tables and examples of `docs/protocol.md` and of `docs/protocol-links.md`, made from the types that
//! read and write them; and whether what refers to a section finds it.
//!
//! `UPDATE=1 cargo test -p impp-protocol --test specification` writes them anew. The prose around
//! them is written by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hello;
mod sizes;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use impp_protocol::command::{self, Header, Kind};
use impp_protocol::presence::codec::{Pair, Part, WireDocument};
use impp_protocol::presence::document::{PART_ID_BYTES_MAX, TUPLES_MAX, VALUE_BYTES_MAX};
use impp_protocol::presence::name::{FIELD_NAME_BYTES_MAX, REGISTRY};
use impp_protocol::presence::patch::{WirePart, WirePatch};
use impp_protocol::presence::{Document, FieldName, FieldType, Fields, PartId, Version};
use impp_protocol::sasl::scram::{Binding, Client, Iterations, Nonce, Server, Verifier};
use impp_protocol::sasl::{Mechanism, Password};
use impp_protocol::schema::{FieldSpec, Map};
use impp_protocol::state::*;
use impp_protocol::{Address, By, Code, What, address, field, frame, presence, sasl, varint};

/// A type in the specification's words.
///
/// # Panics
/// If it has none yet: give it one here, and a section in the document.
fn words(kind: &str) -> String {
    let kind = kind.trim();
    let inside = |outer: &str| {
        kind.strip_prefix(outer)?.trim_start().strip_prefix('<')?.strip_suffix('>').map(str::trim)
    };
    if let Some(inner) = inside("Option") {
        return format!("optional {}", words(inner));
    }
    if let Some(inner) = inside("Vec") {
        return format!("list of {}", words(inner));
    }
    let word = match kind {
        "u64" => "integer",
        "bool" => "flag",
        "String" => "text",
        "Bytes" => "octets",
        "[u8; 16]" | "MessageId" | "DeviceId" | "SessionId" => "16 octets",
        "Timestamp" => "time (ms)",
        "Duration" => "seconds",
        "Address" => "address",
        "Domain" => "domain",
        "Version" => "version (16 octets)",
        "FieldName" => "field name (text)",
        "PartId" => "part id (text)",
        "What" => "thing",
        "Code" => "error code",
        "By" => "sayer",
        "Outcome" => "outcome",
        "SubscriptionState" => "subscription state",
        "SubscriptionEvent" => "subscription event",
        "ByeReason" => "BYE reason",
        "Binding" => "binding",
        "Grant" | "OrLater<Grant>" => "grant",
        "Following" => "following",
        "ContactChange" => "map contact change",
        "ItemKind" => "item kind",
        "Fate" => "fate",
        "DeviceEvent" => "device event",
        "RequestKind" => "request kind",
        "Decision" => "decision",
        "Later<47>" | "Later<63>" => "anything",
        "Pair" => "map pair",
        "Part" => "map part",
        "WirePart" => "map part change",
        "Header" => "map header",
        "HeldVersion" => "map held version",
        "Contact" => "map contact",
        "RuleTrace" => "map rule trace",
        "FateReport" => "map fate report",
        "DeviceReport" => "map device report",
        "DeletionReport" => "map deletion report",
        "Item" => "map item",
        "Device" => "map device",
        "RequestEntry" => "map request entry",
        "HeldMessage" => "map held message",
        "ReadMark" => "map read mark",
        "MarkKind" => "mark",
        "Subscription" => "map subscription",
        "WatcherEntry" => "map watcher entry",
        "Delegation" => "map delegation",
        "DelegatedRight" => "map delegated right",
        "Act" => "map act",
        "WatcherCount" => "map watcher count",
        "Proof" | "OrLater<Proof>" => "proof",
        other => panic!("{other} has no word in the specification"),
    };
    word.to_owned()
}

fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|")
}

fn fields(fields: &[FieldSpec]) -> String {
    if fields.is_empty() {
        return "It has no fields.\n".to_owned();
    }
    let mut table = String::from("| no. | field | type | meaning |\n|---|---|---|---|\n");
    for spec in fields {
        let (name, kind, meaning) = (spec.name, words(spec.kind), cell(spec.meaning));
        let _ = writeln!(table, "| {} | `{name}` | {kind} | {meaning} |", spec.number);
    }
    table
}

fn numbers<T>(all: &[(T, u64, &str, &str)]) -> String {
    let mut table = String::from("| no. | name | meaning |\n|---|---|---|\n");
    for (_, number, name, meaning) in all {
        let _ = writeln!(table, "| {number} | `{name}` | {} |", cell(meaning));
    }
    table
}

fn kinds() -> String {
    let mut table = String::from("| no. | kind | meaning |\n|---|---|---|\n");
    for (_, number, name, meaning, _) in Kind::ALL {
        let _ = writeln!(table, "| {number} | {name} | {} |", cell(meaning));
    }
    table
}

fn errors() -> String {
    let mut table = String::from("| no. | name | repeated | meaning |\n|---|---|---|---|\n");
    for (code, number, name, meaning) in Code::ALL {
        let repeated = if code.is_permanent() { "permanent" } else { "transient" };
        let _ = writeln!(table, "| {number} | `{name}` | {repeated} | {} |", cell(meaning));
    }
    table
}

fn registry() -> String {
    let mut table = String::from("| name | type | from |\n|---|---|---|\n");
    for (name, kind, from) in REGISTRY {
        let kind = match kind {
            FieldType::Status => "status",
            FieldType::Text => "text",
            FieldType::Words => "words",
            FieldType::Priority => "priority",
            FieldType::Time => "time",
            FieldType::Integer => "integer",
        };
        let _ = writeln!(table, "| `{name}` | {kind} | {} |", cell(from));
    }
    table
}

fn limits() -> String {
    let rows: &[(&str, usize)] = &[
        ("octets of a varint", varint::VARINT_BYTES_MAX),
        ("octets of a frame's body before sign-in", frame::FRAME_BYTES_MAX_UNSIGNED),
        ("octets of a frame's body after sign-in", frame::FRAME_BYTES_MAX),
        ("items of a list", field::LIST_ITEMS_MAX),
        ("octets of the user part of an address", address::LOCAL_BYTES_MAX),
        ("octets of a domain", address::DOMAIN_BYTES_MAX),
        ("answers of a session that are kept for repeats, at least", command::REPEATS_MAX),
        ("octets of a SASL message", sasl::MESSAGE_BYTES_MAX),
        ("octets of one side's SCRAM nonce", sasl::scram::NONCE_BYTES_MAX),
        ("octets of a password", sasl::PASSWORD_BYTES_MAX),
        ("SCRAM iterations that a client accepts", sasl::scram::ITERATIONS_MAX as usize),
        ("octets of a message's body", command::BODY_BYTES_MAX),
        (
            "octets of a MESSAGE's fields together, `from` and what servers stamp aside",
            command::MESSAGE_BYTES_MAX,
        ),
        ("octets of a message's content type, thread, or header's name", command::LABEL_BYTES_MAX),
        ("headers of a message", command::HEADERS_MAX),
        ("octets of a device's name", command::DEVICE_NAME_BYTES_MAX),
        ("groups of a contact", CONTACT_GROUPS_MAX),
        ("octets of a contact's name or group", command::LABEL_BYTES_MAX),
        ("octets of a presence document's encoding", presence::DOCUMENT_BYTES_MAX),
        ("tuples of a presence document", TUPLES_MAX),
        ("devices of a presence document", TUPLES_MAX),
        ("fields of one tuple, of one device, of the person", presence::document::FIELDS_MAX),
        ("octets of the id of a tuple or device", PART_ID_BYTES_MAX),
        ("octets of a presence field's name", FIELD_NAME_BYTES_MAX),
        ("octets of a presence field's value", VALUE_BYTES_MAX),
    ];
    let mut table = String::from("| what | most |\n|---|---|\n");
    for (what, most) in rows {
        let _ = writeln!(table, "| {what} | {most} |");
    }
    table
}

/// Maps that stand in commands and contents, by the names of their tables.
fn maps() -> Vec<(&'static str, &'static [FieldSpec])> {
    vec![
        ("header", Header::FIELDS),
        ("document", WireDocument::FIELDS),
        ("part", Part::FIELDS),
        ("pair", Pair::FIELDS),
        ("patch", WirePatch::FIELDS),
        ("part change", WirePart::FIELDS),
        ("contact", Contact::FIELDS),
        ("contacts", Contacts::FIELDS),
        ("contact edit", ContactEdit::FIELDS),
        ("contact change", ContactChange::FIELDS),
        ("explanation", Explanation::FIELDS),
        ("rule trace", RuleTrace::FIELDS),
        ("page", Page::FIELDS),
        ("short page", ShortPage::FIELDS),
        ("item", Item::FIELDS),
        ("fate report", FateReport::FIELDS),
        ("device report", DeviceReport::FIELDS),
        ("deletion", Deletion::FIELDS),
        ("deletion report", DeletionReport::FIELDS),
        ("whereabouts", Whereabouts::FIELDS),
        ("devices", Devices::FIELDS),
        ("device", Device::FIELDS),
        ("device edit", DeviceEdit::FIELDS),
        ("requests", Requests::FIELDS),
        ("request entry", RequestEntry::FIELDS),
        ("held message", HeldMessage::FIELDS),
        ("request edit", RequestEdit::FIELDS),
        ("subscriptions", Subscriptions::FIELDS),
        ("subscription", Subscription::FIELDS),
        ("subscription edit", SubscriptionEdit::FIELDS),
        ("watchers", Watchers::FIELDS),
        ("watcher entry", WatcherEntry::FIELDS),
        ("watcher count", WatcherCount::FIELDS),
        ("watcher edit", WatcherEdit::FIELDS),
        ("read marks", ReadMarks::FIELDS),
        ("read mark", ReadMark::FIELDS),
        ("read mark edit", ReadMarkEdit::FIELDS),
        ("mark report", MarkReport::FIELDS),
        ("typing edit", TypingEdit::FIELDS),
        ("typing notice", Typing::FIELDS),
        ("delegations", Delegations::FIELDS),
        ("delegation", Delegation::FIELDS),
        ("delegated right", DelegatedRight::FIELDS),
        ("acts", Acts::FIELDS),
        ("act", Act::FIELDS),
    ]
}

fn tables() -> BTreeMap<String, String> {
    let mut tables = BTreeMap::new();
    let mut add = |name: &str, table: String| {
        assert!(tables.insert(format!("table: {name}"), table).is_none(), "{name} twice");
    };
    for (_, _, name, _, specs) in Kind::ALL {
        add(name, fields(specs));
    }
    for (name, specs) in maps() {
        add(name, fields(specs));
    }
    add("kinds", kinds());
    add("errors", errors());
    add("things", numbers(What::ALL));
    add("sayers", numbers(By::ALL));
    add("outcomes", numbers(command::Outcome::ALL));
    add("subscription states", numbers(SubscriptionState::ALL));
    add("subscription events", numbers(SubscriptionEvent::ALL));
    add("held version", fields(command::HeldVersion::FIELDS));
    add("BYE reasons", numbers(command::ByeReason::ALL));
    add("bindings", numbers(sasl::resume::Binding::ALL));
    add("grants", numbers(Grant::ALL));
    add("following", numbers(Following::ALL));
    add("marks", numbers(MarkKind::ALL));
    add("item kinds", numbers(ItemKind::ALL));
    add("fates", numbers(Fate::ALL));
    add("device events", numbers(DeviceEvent::ALL));
    add("proofs", numbers(Proof::ALL));
    add("request kinds", numbers(RequestKind::ALL));
    add("decisions", numbers(Decision::ALL));
    add("fields of presence", registry());
    add("limits", limits());
    add("octets of operations", sizes::table());
    tables
}

/// Every frame of `vectors/accepted.txt`, and what is computed here.
fn examples() -> BTreeMap<String, String> {
    let mut examples = BTreeMap::new();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/accepted.txt");
    let text = std::fs::read_to_string(vectors).unwrap();
    for part in text.split("\n\n").skip(1) {
        let (title, hex) = part.trim().split_once('\n').unwrap();
        let (name, meaning) = title.split_once(": ").unwrap();
        let block = format!("```text\n{name}: {meaning}\n{}```\n", folded(hex));
        examples.insert(format!("example: {name}"), block);
    }
    for (name, document) in [("document", document()), ("offline", Document::offline())] {
        let bytes = document.encode();
        let encoding = folded(&hex(&bytes));
        let block = format!("```text\nencoding\n{encoding}version\n{}\n```\n", Version::of(&bytes));
        examples.insert(format!("example: {name}"), block);
    }
    examples.insert("example: sign-in".to_owned(), sign_in());
    examples
}

fn document() -> Document {
    let field = |name: &str, value: &str| (FieldName::parse(name).unwrap(), value.into());
    let mut document = Document::default();
    document.person.extend([field("note", "writing")]);
    let tuple = [field("contact", "im:alice@a.example"), field("status", "open")];
    document.tuples.insert(PartId::parse("d1").unwrap(), Fields::from_iter(tuple));
    document
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hex in lines of 32 bytes.
fn folded(hex: &str) -> String {
    let lines = hex.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned());
    lines.map(|line| line + "\n").collect()
}

/// The messages of one sign-in without and one with channel binding.
fn sign_in() -> String {
    let exporter = std::array::from_fn(|n| u8::try_from(n).unwrap());
    let salt = std::array::from_fn(|n| u8::try_from(n).unwrap());
    let mut block = String::from("```text\n");
    for binding in [Binding::None, Binding::TlsExporter(exporter)] {
        let [ours, theirs] = ["abc", "def"].map(|text| Nonce::from_text(text).unwrap());
        let password = Password::prepare("pencil").unwrap();
        let verifier = Verifier::from_password(&password, salt, Iterations::RANDOM_PASSWORD);
        let account = Address::parse("alice@a.example").unwrap();
        let (client, first) = Client::start(account.as_str(), password, ours, binding).unwrap();
        let mechanism: Mechanism = binding.mechanism();
        let server = Server::start(mechanism, &first, Some(&exporter)).unwrap();
        let (server, challenge) = server.challenge(&account, &verifier, &theirs).unwrap();
        let (client, last) = client.handle_challenge(&challenge, None).unwrap();
        let proven = server.finish(&last).unwrap();
        let server_final = proven.server_final().to_vec();
        assert!(client.handle_success(&server_final).is_ok());
        let _ = writeln!(block, "{mechanism}");
        for (who, message) in [
            ("client  AUTH     ", first),
            ("server  CHALLENGE", challenge),
            ("client  AUTH     ", last),
            ("server  OK       ", server_final),
        ] {
            let _ = writeln!(block, "{who} {}", String::from_utf8(message).unwrap());
        }
    }
    block + "```\n"
}

/// The files of the specification.
const FILES: [&str; 2] = ["protocol.md", "protocol-links.md"];

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap()
}

/// What refers to this heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

const END: &str = "<!-- end -->";

/// The document with each marked block replaced by what the types say; the names of the blocks.
fn rendered(text: &str, blocks: &BTreeMap<String, String>) -> (String, Vec<String>) {
    let (mut out, mut names, mut rest) = (String::new(), Vec::new(), text);
    while let Some(start) = rest.find("<!-- table: ").or_else(|| rest.find("<!-- example: ")) {
        let start = rest.find("<!-- example: ").map_or(start, |other| start.min(other));
        let close = start + rest[start..].find(" -->\n").expect("a marker ends with its line");
        let name = &rest[start + "<!-- ".len()..close];
        let end = close + rest[close..].find(END).unwrap_or_else(|| panic!("{name} has no end"));
        let block = blocks.get(name).unwrap_or_else(|| panic!("nothing makes {name:?}"));
        let _ = write!(out, "{}{block}", &rest[..close + " -->\n".len()]);
        names.push(name.to_owned());
        rest = &rest[end..];
    }
    (out + rest, names)
}

#[test]
fn d_6_6_tables_and_examples_of_the_specification_are_those_of_the_types() {
    let (tables, examples) = (tables(), examples());
    let blocks: BTreeMap<_, _> = tables.clone().into_iter().chain(examples).collect();
    let mut names = Vec::new();
    for file in FILES {
        let text = text(file);
        let (rendered, found) = rendered(&text, &blocks);
        names.extend(found);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path(file), &rendered).unwrap();
        } else {
            assert!(text == rendered, "docs/{file} differs from the types; see this file");
        }
    }
    for name in tables.keys() {
        let count = names.iter().filter(|found| *found == name).count();
        assert_eq!(count, 1, "{name} stands {count} times in the specification");
    }
}

/// A table as JSON: an object for each row, by the words at its head.
fn json(table: &str) -> String {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches("| ").trim_end_matches(" |").replace("\\|", "\u{0}");
        line.split(" | ").map(|cell| cell.trim_matches('`').replace('\u{0}', "|")).collect()
    };
    let text = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut lines = table.lines().filter(|line| line.starts_with('|'));
    let head = lines.next().map(cells).unwrap_or_default();
    let row = |line: &str| {
        let pairs = head.iter().zip(cells(line)).map(|(name, cell)| match name.as_str() {
            "no." => format!("\"number\": {cell}"),
            name => format!("{}: {}", text(name), text(&cell)),
        });
        format!("    {{{}}}", pairs.collect::<Vec<_>>().join(", "))
    };
    let rows: Vec<String> = lines.skip(1).map(row).collect();
    if rows.is_empty() { "[]".to_owned() } else { format!("[\n{}\n  ]", rows.join(",\n")) }
}

#[test]
fn d_6_3_the_tables_are_there_for_programs_too() {
    let tables = tables();
    let tables = tables.iter().map(|(name, table)| {
        format!("  \"{}\": {}", name.trim_start_matches("table: "), json(table))
    });
    let text = format!("{{\n{}\n}}\n", tables.collect::<Vec<_>>().join(",\n"));
    let path = path("../protocol/vectors/tables.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(file == text, "{} differs from the types; see this file", path.display());
}

#[test]
fn d_6_6_what_refers_to_a_section_finds_it() {
    let headings = FILES.map(|file| {
        let text = text(file);
        let headings = text.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| anchor(line.trim_start_matches('#'))).collect::<Vec<_>>()
    });
    for (at, file) in FILES.iter().enumerate() {
        let text = text(file);
        for reference in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((place, section)) = reference.split_once('#') else { continue };
            let place = match place {
                "" => Some(at),
                place => FILES.iter().position(|file| *file == place),
            };
            let Some(place) = place else { continue };
            let found = headings[place].iter().any(|heading| heading == section);
            assert!(found, "docs/{file} refers to {reference}, and there is no such section");
        }
    }
}

#[test]
fn d_6_6_every_kind_has_a_section() {
    let text = text(FILES[0]);
    for (_, _, name, _, _) in Kind::ALL {
        let heading = |line: &str| line.starts_with('#') && line.contains(name);
        assert!(text.lines().any(heading), "{name} has no section in docs/protocol.md");
    }
}
