//! The arrows between crates (docs/architecture.md): what each may depend on, and that the pure
//! ones know no runtime, socket, file or log.
//!
//! Inside the server: which way its paths lead (`rooms`), and how large things are (`sizes`).

#![allow(clippy::unwrap_used)]

mod adding;
mod bounds;
mod doors;
mod permits;
mod records;
mod rooms;
mod settings;
mod sizes;
mod sources;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Each crate and the crates of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("impp-protocol", &[]),
    ("impp-acl", &["impp-protocol"]),
    ("impp-presence", &["impp-protocol", "impp-acl"]),
    ("impp-storage", &["impp-protocol"]),
    ("impp-locate", &["impp-protocol"]),
    ("impp-federation", &["impp-protocol"]),
    ("impp-trust", &["impp-protocol"]),
    ("impp-convert", &["impp-protocol"]),
    (
        "impp-server",
        &[
            "impp-protocol",
            "impp-acl",
            "impp-presence",
            "impp-storage",
            "impp-locate",
            "impp-federation",
            "impp-trust",
        ],
    ),
    ("impp-quickstart", &["impp-protocol", "impp-locate", "impp-server"]),
    ("imppd", &["impp-server", "impp-quickstart"]),
    ("impp-client", &["impp-protocol", "impp-locate", "impp-convert"]),
    ("impp-bench", &["impp-protocol", "impp-acl", "impp-presence", "impp-tests"]),
    (
        "impp-tests",
        &[
            "impp-protocol",
            "impp-acl",
            "impp-presence",
            "impp-storage",
            "impp-locate",
            "impp-federation",
            "impp-trust",
            "impp-server",
            "impp-quickstart",
            "impp-client",
        ],
    ),
];

/// The pure crates, and what of [`IMPURE`] each depends on all the same: `trust` proves within
/// rustls.
const PURE: &[(&str, &[&str])] = &[
    ("impp-protocol", &[]),
    ("impp-acl", &[]),
    ("impp-presence", &[]),
    ("impp-federation", &[]),
    ("impp-convert", &[]),
    ("impp-trust", &["rustls"]),
];

/// What does I/O, or takes time and chance from the system.
const IMPURE: &[&str] =
    &["tokio", "rustls", "tokio-rustls", "rusqlite", "tracing", "log", "dashmap", "getrandom"];

/// What only the demonstration needs, and crates that never come to it, by whatever way.
const DEMONSTRATION: &[&str] = &["rcgen", "hickory-server"];
const WITHOUT_DEMONSTRATION: &[&str] = &["impp-server", "impp-trust", "impp-client"];

fn cargo(arguments: &[&str]) -> Vec<u8> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn packages() -> Vec<Value> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: Value = serde_json::from_slice(&text).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// All that is built into a crate: its dependencies and theirs, without those of tests and builds.
fn built_in(name: &str) -> BTreeSet<String> {
    let text =
        cargo(&["tree", "-p", name, "-e", "normal", "--prefix", "none", "-f", "{p}", "--offline"]);
    let text = String::from_utf8(text).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// The names of a package's dependencies, those of its tests left out.
fn dependencies(package: &Value) -> BTreeSet<String> {
    let dependencies = package["dependencies"].as_array().unwrap();
    let ordinary = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
    ordinary.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
}

/// No crate depends on one that it may not know.
#[test]
fn arrows_between_crates_point_one_way() {
    let packages = packages();
    assert_eq!(packages.len(), ARROWS.len(), "a crate is missing in this table");
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = ARROWS.iter().find(|(known, _)| *known == name).unwrap();
        for dependency in dependencies(package).iter().filter(|name| name.starts_with("impp-")) {
            assert!(allowed.contains(&&**dependency), "{name} depends on {dependency}");
        }
    }
}

/// The pure crates depend on nothing that does I/O.
#[test]
fn pure_crates_stay_pure() {
    for package in packages() {
        let name = package["name"].as_str().unwrap().to_owned();
        let Some((_, but)) = PURE.iter().find(|(pure, _)| *pure == name) else { continue };
        for impure in IMPURE.iter().filter(|impure| !but.contains(impure)) {
            assert!(!dependencies(&package).contains(*impure), "{name} depends on {impure}");
        }
    }
}

/// What the demonstration makes certificates and serves DNS with is in no way of the daemon's.
#[test]
fn the_daemon_makes_no_certificates_and_serves_no_dns() {
    for name in WITHOUT_DEMONSTRATION {
        let built_in = built_in(name);
        assert!(built_in.contains("impp-protocol"), "{name}: cargo tree says {built_in:?}");
        for one in DEMONSTRATION {
            assert!(!built_in.contains(*one), "{name} has {one} built in");
        }
    }
}

/// A task that panics leaves no half server: the process ends with it, and is started again. One that hangs
/// as a whole is ended by the watchdog.
#[test]
fn h9_who_panics_or_hangs_ends_the_process_which_is_started_again() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    assert_eq!(manifest["profile"]["release"]["panic"].as_str(), Some("abort"));
    let unit = std::fs::read_to_string(folder.join("deploy/imppd.service")).unwrap();
    for line in ["Restart=always", "WatchdogSec=30"] {
        assert!(unit.lines().any(|of_unit| of_unit == line), "{line}");
    }
}
