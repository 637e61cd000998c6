//! The control socket: what curl can ask over it, who may ask, and what programs of other versions
//! are told.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use impp_tests::Server;
use impp_tests::binaries;
use impp_tests::peer::Peer;
use impp_tests::server::imppd;
use impp_tests::wait::{DEADLINE, skipped};
use serde_json::{Value, json};

fn socket(server: &Server) -> PathBuf {
    server.data().join("control.sock")
}

fn curl(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--write-out", "%{http_code}", "--unix-socket"]).arg(socket);
    let (path, options) = arguments.split_last().unwrap();
    command.args(options).arg(format!("http://localhost{path}"));
    command
}

/// The status and the answer.
fn asked(mut curl: Command) -> (u16, Value) {
    let output = curl.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (answer, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(answer).unwrap())
}

/// All that `imppd user` and `reload` ask can be asked with curl.
#[tokio::test]
async fn i6_curl_asks_over_the_control_socket() {
    let server = Server::quickstart();
    let socket = socket(&server);
    let ask = |arguments: &[&str]| asked(curl(&socket, arguments));
    let words = |answer: &Value| answer["refused"]["message"].as_str().unwrap().to_owned();

    let (status, answer) = ask(&["--data", r#"{"address":"dana@localhost"}"#, "/v1/accounts"]);
    let made = answer["done"]["password"].as_str().unwrap();
    assert_eq!((status, made.len()), (200, 24), "{answer}");
    let (status, answer) = ask(&["--data", r#"{"address":"dana@localhost"}"#, "/v1/accounts"]);
    assert_eq!((status, &*words(&answer)), (409, "dana@localhost exists"));
    let (status, answer) = ask(&["/v1/accounts"]);
    let dana = &answer["accounts"][3];
    assert_eq!(status, 200);
    assert_eq!((&dana["address"], &dana["state"]), (&json!("dana@localhost"), &json!("enabled")));
    assert_eq!(dana["services"], json!(["pres", "im"]));

    let done = json!({"done": {}});
    let disable = ["--request", "POST", "/v1/accounts/dana@localhost/disable"];
    assert_eq!(ask(&disable), (200, done.clone()));
    assert_eq!(ask(&["/v1/accounts"]).1["accounts"][3]["state"], "disabled");
    let enable = ["--request", "POST", "/v1/accounts/dana%40localhost/enable"];
    assert_eq!(ask(&enable), (200, done.clone()));
    let password = "/v1/accounts/dana@localhost/password";
    let given = ["--request", "PUT", "--data", r#"{"password":"a given one"}"#, password];
    assert_eq!(ask(&given), (200, done.clone()));
    let (status, answer) = ask(&["--request", "PUT", password]);
    assert!(status == 200 && answer["done"]["password"].is_string(), "{answer}");
    assert_eq!(ask(&["--request", "DELETE", "/v1/accounts/dana@localhost"]), (200, done.clone()));

    let _alice = Peer::sign_in(&server, "alice").await;
    let (_, answer) = ask(&["/v1/accounts/alice@localhost/devices"]);
    let device = answer["devices"][0]["device"].as_str().unwrap();
    let device = format!("/v1/accounts/alice@localhost/devices/{device}");
    assert_eq!(ask(&["--request", "DELETE", &device]), (200, done));
    let (status, answer) = ask(&["--request", "POST", "/v1/reload"]);
    assert_eq!((status, answer), (200, json!({"reloaded": {"warnings": []}})));

    for (status, arguments) in [
        (400, &["--data", r#"{"adress":"x@localhost"}"#, "/v1/accounts"][..]),
        (400, &["--data", r#"{"address":"nobody"}"#, "/v1/accounts"]),
        (400, &["--data", r#"{"address":"x@elsewhere"}"#, "/v1/accounts"]),
        (400, &["--data", r#"{"address":"x@localhost","services":["x"]}"#, "/v1/accounts"]),
        (409, &["/v1/accounts/nobody@localhost/devices"]),
        (404, &["/v2/accounts"]),
        (405, &["--request", "PUT", "/v1/accounts"]),
        (404, &["--path-as-is", "/v1/../imppd.toml"]),
        (404, &["/"]),
    ] {
        let (got, answer) = ask(arguments);
        assert_eq!(got, status, "{arguments:?}: {answer}");
        assert!(!words(&answer).is_empty());
    }
    assert!(words(&ask(&["/v2/accounts"]).1).contains("its paths begin with /v1"));
}

/// A request that is too large or too slow is cut off.
#[tokio::test]
async fn i6_what_is_asked_is_bounded() {
    let server = Server::quickstart();
    let large = server.data().join("large");
    std::fs::write(&large, vec![b' '; 16 * 1024 * 1024 + 1]).unwrap();
    let data = format!("@{}", large.display());
    let (status, _) = asked(curl(&socket(&server), &["--data-binary", &data, "/v1/accounts"]));
    assert_eq!(status, 413);
    // Up to there whatever is wrong is told as ever.
    std::fs::write(&large, vec![b'x'; 5 * 1024 * 1024]).unwrap();
    let (status, answer) = asked(curl(&socket(&server), &["--data-binary", &data, "/v1/accounts"]));
    let message = answer["refused"]["message"].as_str().unwrap();
    assert!(status == 400 && message.starts_with("no request: "), "{answer}");
    // Of the slow ones, the second is told why: its head has come.
    let head = "POST /v1/accounts HTTP/1.1\r\nHost: localhost\r\n";
    let slow = [head.to_owned(), format!("{head}Content-Length: 9\r\n\r\n{{"), "{".to_owned()];
    let asking = slow.map(|text| {
        let stream = UnixStream::connect(socket(&server)).unwrap();
        (&stream).write_all(text.as_bytes()).unwrap();
        stream
    });
    let answers = asking.map(|mut stream| {
        let mut answer = String::new();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answers[1].starts_with("HTTP/1.1 408 ") && answers[1].contains("too long to come"));
    assert_eq!(answers[2], "");
}

/// The socket is its owner's alone from its first moment, whatever the umask; and nobody else is
/// served where that was changed.
#[tokio::test]
async fn i6_nobody_else_may_ask() {
    let mut server = Server::quickstart();
    server.stop();
    let mut process = Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" serve --config \"$1\""])
        .args([binaries::imppd(), &server.config()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let (socket, folder) = (socket(&server), server.data());
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    let foreign = rustix::process::geteuid().is_root().then(|| {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        let mut list = curl(&socket, &["/v1/accounts"]);
        let refused = list.uid(65534).output().unwrap();
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
        let mut list = curl(&socket, &["/v1/accounts"]);
        list.uid(65534);
        (refused.status.code(), asked(list))
    });
    let (own, _) = asked(curl(&socket, &["/v1/accounts"]));
    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(process.wait().unwrap().success());
    assert_eq!((mode & 0o777, own), (0o600, 200), "{mode:o}");
    let Some((refused, (status, answer))) = foreign else {
        return skipped("only root can ask as another user");
    };
    assert_eq!((refused, status), (Some(7), 403), "{answer}");
    let words = answer["refused"]["message"].as_str().unwrap();
    assert!(words.contains("user 65534 may not ask"), "{words}");
}

/// A command line of before HTTP gets the line that it can print.
#[tokio::test]
async fn a_command_line_that_sends_a_line_is_told_that_the_server_is_newer() {
    let server = Server::quickstart();
    let stream = UnixStream::connect(socket(&server)).unwrap();
    writeln!(&stream, "{}", json!({"do": "list"})).unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["refused"]["exit"], 3, "{line}");
    let words = answer["refused"]["message"].as_str().unwrap();
    assert!(words.contains("newer than this command line"), "{words}");
    assert_eq!(answer["refused"]["hint"], "use the imppd that runs");
}

/// A server of before HTTP, one that speaks other paths, and one that answers otherwise: each is
/// told as one of another version.
#[tokio::test]
async fn a_server_of_another_version_is_told_as_such() {
    let mut server = Server::quickstart();
    server.stop();
    let line = json!({"refused": {"exit": 2, "message": "no request: …", "hint": null}});
    let head = "HTTP/1.1 404 Not Found\r\nServer: imppd/9.9.9\r\nContent-Length: 5\r\n\r\n";
    for (answer, named) in
        [(format!("{line}\n").repeat(5), "older"), (format!("{head}gone\n"), "imppd/9.9.9")]
    {
        let listener = UnixListener::bind(socket(&server)).unwrap();
        let answering = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).unwrap();
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let config = server.config().display().to_string();
        for arguments in
            [&["user", "list", "--config", &config][..], &["reload", "--config", &config]]
        {
            let output = imppd(arguments);
            let words = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(3), "{words}");
            let expected = format!("error: the running server is of another version, {named}; ");
            assert!(words.starts_with(&expected), "{words}");
            assert!(words.contains("hint: restart it"), "{words}");
        }
        answering.join().unwrap();
        std::fs::remove_file(socket(&server)).unwrap();
    }
}
