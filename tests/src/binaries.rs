//! The programs under test, built once per test process in the profile of the tests.
//!
//! `IMPP_TESTS_BIN_DIR` names a folder of ready ones instead, to run the plays against a release.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The server's program.
pub fn imppd() -> &'static Path {
    program("imppd")
}

/// The client's program.
pub fn impp() -> &'static Path {
    program("impp")
}

/// What puts load on servers.
pub fn load() -> &'static Path {
    program("impp-load")
}

fn program(name: &str) -> &'static Path {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match std::env::var_os("IMPP_TESTS_BIN_DIR") {
        Some(folder) => ["imppd", "impp", "impp-load"]
            .map(|name| (name.to_owned(), Path::new(&folder).join(name)))
            .into(),
        None => build(),
    });
    built.get(name).unwrap_or_else(|| panic!("the workspace has no program {name}: {built:?}"))
}

/// Asks cargo, which does not hold its lock while tests run; it names what it made in JSON.
fn build() -> BTreeMap<String, PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--workspace", "--bins", "--message-format=json"])
        .args((!cfg!(debug_assertions)).then_some("--release"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit());
    // What cargo told the tests about their own package must not reach the build scripts.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(&*name);
        }
    }
    let output = command.output().expect("cargo can be run");
    assert!(output.status.success(), "the programs do not build");
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let messages = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    messages
        .filter_map(|message: serde_json::Value| {
            let path = message["executable"].as_str()?;
            Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
        })
        .collect()
}
