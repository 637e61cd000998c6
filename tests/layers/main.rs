//! The arrows between crates (docs/architecture.md): what each may depend on, and that the pure
//! ones know no runtime, socket, file or log.
//!
//! Inside the server: which way its paths lead (`rooms`), and how large things are (`sizes`).

#![allow(clippy::unwrap_used)]

mod rooms;
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
    ("impp-federation", &["impp-protocol", "impp-acl", "impp-storage", "impp-locate"]),
    (
        "impp-server",
        &[
            "impp-protocol",
            "impp-acl",
            "impp-presence",
            "impp-storage",
            "impp-locate",
            "impp-federation",
        ],
    ),
    ("impp-client", &["impp-protocol", "impp-locate"]),
    (
        "impp-tests",
        &[
            "impp-protocol",
            "impp-acl",
            "impp-presence",
            "impp-storage",
            "impp-locate",
            "impp-federation",
            "impp-server",
            "impp-client",
        ],
    ),
];

/// What the pure crates never depend on.
const IMPURE: &[&str] =
    &["tokio", "rustls", "tokio-rustls", "rusqlite", "tracing", "log", "dashmap", "getrandom"];

fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new(cargo).args(arguments).output().unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
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
        if matches!(&*name, "impp-protocol" | "impp-acl" | "impp-presence") {
            for impure in IMPURE {
                assert!(!dependencies(&package).contains(*impure), "{name} depends on {impure}");
            }
        }
    }
}
