//! A password that the server makes is printed once and stands nowhere else.

use std::fs::File;
use std::process::Command;

use impp_tests::Server;
use impp_tests::binaries::imppd;

#[test]
fn a_password_that_cannot_be_printed_is_told_and_another_can_be_given() {
    let server = Server::quickstart();
    let config = server.config().display().to_string();
    for action in [["add", "dora@localhost"], ["passwd", "dora@localhost"]] {
        let output = Command::new(imppd())
            .arg("user")
            .args(action)
            .args(["--config", &config])
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains("hint: ") && said.contains("imppd user passwd"), "{said}");
    }
    assert!(server.user_ok(&["passwd", "dora@localhost"]).contains("password: "));
}
