//! What is printed once, and cannot be: a password that stands nowhere else, a list that would be
//! taken for the whole.

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

#[test]
fn a_list_that_cannot_be_written_is_no_success() {
    let server = Server::quickstart();
    let config = server.config().display().to_string();
    for command in [
        &["user", "list", "--config", &config][..],
        &["check", "--config", &config],
        &["config", "default"],
    ] {
        let to = |file: &str| {
            let file = File::options().write(true).open(file).unwrap();
            Command::new(imppd()).args(command).stdout(file).output().unwrap()
        };
        assert_eq!(to("/dev/null").status.code(), Some(0), "{command:?}");
        let output = to("/dev/full");
        assert_eq!(output.status.code(), Some(5), "{command:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("standard output"));
    }
}
