//! A log level that is none is refused where it stands, and silences nothing.

use impp_tests::Server;
use impp_tests::server::{imppd, refused_start};

#[test]
fn i1_a_misspelt_log_level_is_refused_with_its_line_and_what_was_meant() {
    let server = Server::quickstart();
    let file = server.config().display().to_string();
    for (level, meant) in [("verbose", "known are error, warn"), ("warning", "mean \"warn\"")] {
        server.set("log.level", level);
        let text = std::fs::read_to_string(server.config()).unwrap();
        let line = 1 + text.lines().position(|line| line.starts_with("level")).unwrap();
        for command in ["serve", "reload", "check"] {
            let (code, said) = match command {
                "serve" => refused_start(&["serve", "--config", &file]),
                other => {
                    let output = imppd(&[other, "--config", &file]);
                    let said = [output.stdout, output.stderr].concat();
                    (output.status.code(), String::from_utf8(said).unwrap())
                }
            };
            let wanted = if command == "check" { [Some(1), Some(2)] } else { [Some(2); 2] };
            assert!(wanted.contains(&code), "{command}: {code:?} {said}");
            let place = format!("{file}:{line}");
            assert!(said.contains(&place), "{command}: {said}");
            assert!(said.contains(&format!("\"{level}\"")) || said.contains(level), "{said}");
            assert!(said.replace('\\', "").contains(meant), "{command}: {said}");
        }
    }
}
