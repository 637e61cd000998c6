//! The program that puts load on servers, so that it still does when somebody wants to know: what it
//! counts is looked at here, and no time.

use std::process::Command;

use impp_tests::binaries;
use serde_json::Value;

/// What it says of one scenario, played as small and as short as can be.
fn played(protocol: &str, scenario: &str, more: &[&str]) -> Value {
    let program = binaries::load();
    let output = Command::new(program)
        .args([protocol, scenario, "--warm-up", "0", "--seconds", "0.3"])
        .args(more)
        .env("IMPP_TESTS_BIN_DIR", program.parent().unwrap())
        .output()
        .unwrap();
    let (said, words) = (&output.stdout[..], String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(said).unwrap_or_else(|error| panic!("{error}: {words}"))
}

fn figure(said: &Value, name: &str) -> u64 {
    said[name].as_u64().unwrap_or_else(|| panic!("no {name}: {said}"))
}

/// Messages between pairs, as fast as they go and at their times, stored and not: each that was sent
/// has come.
#[test]
fn load_of_messages_all_of_which_come() {
    for (protocol, more) in [
        ("relay", &["--size", "20"][..]),
        ("relay", &["--size", "20", "--rate", "500"]),
        ("impp", &["--size", "20"]),
        ("impp", &["--size", "20", "--rate", "200", "--stored", "--defaults"]),
        ("impp", &["--size", "20", "--stored"]),
    ] {
        let said = played(protocol, "s1", more);
        assert!(figure(&said, "sent") > 20, "{said}");
        assert_eq!(figure(&said, "delivered"), figure(&said, "sent"), "{said}");
        assert_eq!(figure(&said, "refused") + figure(&said, "lost_connections"), 0, "{said}");
    }
}

/// Status shown to many: all have seen the last of it, so something of each has come to everybody who
/// reads. How often depends on how much the newest replaced on its way.
#[test]
fn load_of_status_that_all_see() {
    for (protocol, scenario, size, pairs) in [
        ("relay", "s2a", "10", 10),
        ("impp", "s2b", "2", 100 * 2),
        ("impp", "s6", "100", 100),
        ("impp", "s7", "20", 18),
    ] {
        let said = played(protocol, scenario, &["--size", size, "--views", "8"]);
        assert_eq!(said["all_seen"], true, "{said}");
        assert!(figure(&said, "delivered") > pairs, "{said}");
        assert_eq!(figure(&said, "refused") + figure(&said, "lost_connections"), 0, "{said}");
    }
}

/// Between two domains too: what has gone over the link is told.
#[test]
fn load_of_a_link() {
    let said = played("impp-link", "s2a", &["--size", "10"]);
    assert_eq!(said["all_seen"], true, "{said}");
    let said = played("impp-link", "s1", &["--size", "10", "--stored"]);
    assert_eq!(figure(&said, "delivered"), figure(&said, "sent"), "{said}");
    assert!(said["link_bytes"].as_f64() > Some(100.0), "{said}");
}

/// Sessions that are idle, sign-ins of every kind, clients who come back, and messages to who is absent, of which a crash
/// loses and doubles none.
#[test]
fn load_of_sessions_and_of_messages_that_survive_a_crash() {
    let idle = played("impp", "s3", &["--size", "20"]);
    assert_eq!(figure(&idle, "done"), 20, "{idle}");
    let sign_ins = played("impp", "s4", &["--size", "20"]);
    for kind in ["first", "later", "resumed", "resumed_by_ticket"] {
        assert_eq!(figure(&sign_ins[kind], "done"), 20, "{kind}: {sign_ins}");
    }
    let back = played("impp", "s9", &["--size", "20"]);
    assert_eq!(figure(&back, "done"), 20, "{back}");
    let absent = played("impp", "s5", &["--size", "400"]);
    assert_eq!(figure(&absent, "done"), 400, "{absent}");
    assert_eq!(figure(&absent["fetch"], "done"), 400, "{absent}");
    assert_eq!(figure(&absent, "lost") + figure(&absent, "doubled"), 0, "{absent}");
}
