//! What is damaged in the store while the server runs on it, or before it starts: faults G5, G6.

use impp_tests::server::imppd;
use impp_tests::{Peer, Server};
use serde_json::Value;

/// The kind of rules, as `server/src/core/records.rs` numbers it.
const RULES: u8 = 2;

/// Changes something in a stopped server's store behind its back, where it stands.
fn damage(server: &Server, sql: &str) {
    let store = rusqlite::Connection::open(server.data().join("store/store.sqlite")).unwrap();
    let changed = store.execute(sql, []).unwrap();
    assert_eq!(changed, 1, "{sql}");
}

/// Changes one bit of the value of somebody's record.
fn damage_record(server: &Server, kind: u8, key: &str) {
    // The first letter becomes another.
    damage(
        server,
        &format!(
            "UPDATE record SET value = CAST('X' || substr(CAST(value AS TEXT), 2) AS BLOB)
             WHERE kind = {kind} AND key = CAST('{key}' AS BLOB)"
        ),
    );
}

/// What `imppd check --deep` finds of the store, and its exit code.
fn check_deep(server: &Server) -> (Option<i32>, Vec<Value>) {
    let config = server.config().display().to_string();
    let output = imppd(&["check", "--deep", "--config", &config]);
    let found = String::from_utf8(output.stdout).unwrap();
    let found = found.lines().map(|line| serde_json::from_str(line).unwrap());
    let of_store = |finding: &Value| finding["area"] == "store";
    (output.status.code(), found.filter(of_store).collect())
}

/// The operator looks at the whole store: not while a server has it, and then each thing is named.
#[tokio::test]
async fn g5_g6_check_deep_names_what_is_damaged() {
    let mut server = Server::quickstart();
    Peer::sign_in(&server, "alice").await.set_rules("# none\n").await;
    let (code, found) = check_deep(&server);
    let said = found.last().unwrap();
    assert_eq!((code, said["level"].as_str()), (Some(1), Some("error")), "{found:?}");
    assert!(said["message"].as_str().unwrap().contains(&server.pid().to_string()), "{said}");
    assert!(said["hint"].as_str().unwrap().contains("stop the server"), "{said}");
    server.stop();
    let (code, found) = check_deep(&server);
    let said = found.last().unwrap();
    assert_eq!((code, said["level"].as_str()), (Some(0), Some("ok")), "{found:?}");
    assert!(said["message"].as_str().unwrap().contains("nothing is damaged"), "{said}");
    damage_record(&server, RULES, "alice");
    let (code, found) = check_deep(&server);
    let said = found.last().unwrap();
    assert_eq!((code, said["level"].as_str()), (Some(1), Some("error")), "{found:?}");
    let expected = "record 2 of localhost (alice): it does not fit its digest";
    assert_eq!(said["message"], expected);
    server.restart();
    assert!(!server.stderr().contains("put back"), "a look is no copy");
}
