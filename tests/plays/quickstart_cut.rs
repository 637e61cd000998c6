//! `quickstart` is killed while it makes its folder; the next one goes on.

use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use impp_tests::binaries;
use impp_tests::server::{Process, free_port, imppd};
use impp_tests::wait::skipped;

/// What changes a folder, and what reaches the disk; strace counts each call apart. And of each how many
/// there are at least: two folders are made, the second is renamed when it is whole, and in them five files,
/// each opened, written, synced, renamed, and its folder opened and synced.
const CALLS: [(&str, usize); 5] = [
    ("?mkdir,?mkdirat", 2),
    ("openat", 10),
    ("write", 5),
    ("?rename,?renameat,?renameat2", 6),
    ("fsync", 11),
];
/// More than there are of one of them.
const EACH_MAX: usize = 100;

/// Killed at each call by which the certificates and the configuration are made: each time the next
/// start makes the rest, and accepts with certificates that belong together.
#[test]
fn quickstart_that_is_cut_while_it_makes_its_folder_goes_on() {
    let traced = Command::new("strace").args(["-e", "trace=none", "true"]).status();
    if !traced.is_ok_and(|status| status.success()) {
        return skipped("strace cannot be run");
    }
    for (calls, least) in CALLS {
        let cuts = (1..EACH_MAX).take_while(|when| cut_and_gone_on(calls, *when)).count();
        assert!((least..EACH_MAX - 1).contains(&cuts), "{cuts} cuts at {calls}");
    }
}

/// Whether there was such a call to be killed at; then all is made and served by the next start.
fn cut_and_gone_on(calls: &str, when: usize) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let listen = free_port(Ipv4Addr::LOCALHOST).to_string();
    let mut arguments: Vec<&OsStr> = vec!["quickstart".as_ref(), "--data".as_ref()];
    arguments.push(data.as_os_str());
    arguments.extend(["--listen", &listen, "--accounts", "alice"].map(OsStr::new));
    let mut cut = under_strace(&data, calls, when);
    let cut = cut.arg(binaries::imppd()).args(&arguments).arg("--while-stdin");
    let cut = cut.stdin(Stdio::null()).output().unwrap();
    let place = format!("{calls}, {when}");
    if cut.status.success() {
        // It was cut by nothing, and not before it began.
        assert!(String::from_utf8_lossy(&cut.stdout).contains("ready"), "{place}: {cut:?}");
        return false;
    }
    assert!(matches!(cut.status.signal(), Some(9)), "{place}: {cut:?}");
    assert!(!String::from_utf8_lossy(&cut.stdout).contains("ready"), "{place}: {cut:?}");
    let server = Process::spawn(&arguments);
    assert!(server.line().starts_with("ready: localhost on "), "{place}");
    let profile = data.join("profiles/alice.toml");
    let asked = Command::new(binaries::impp()).arg("--profile").arg(profile).arg("inbox").output();
    assert!(asked.as_ref().is_ok_and(|asked| asked.status.success()), "{place}: {asked:?}");
    server.stop();
    let checked = check(&data);
    assert!(checked.contains("\"ok\"") && !checked.contains("\"error\""), "{place}: {checked}");
    assert!(!data.join("tls.new").exists(), "{place}");
    true
}

/// Kills what it runs as it enters the call of this number that is about one of its files.
fn under_strace(data: &Path, calls: &str, when: usize) -> Command {
    let mut strace = Command::new("strace");
    let inject = format!("inject={calls}:signal=SIGKILL:when={when}");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject]);
    let mut paths = vec![data.to_owned()];
    paths.extend(["tls", "tls.new", "imppd.toml", "imppd.toml.new"].map(|name| data.join(name)));
    for name in ["ca.pem", "ca-key.pem", "key.pem", "cert.pem"] {
        paths.extend([data.join("tls.new").join(name), data.join("tls").join(name)]);
        paths.push(data.join("tls.new").join(format!("{name}.new")));
    }
    let paths = paths.into_iter().flat_map(|path| [OsString::from("-P"), path.into_os_string()]);
    strace.args(paths);
    strace
}

fn check(data: &Path) -> String {
    let config = data.join("imppd.toml").display().to_string();
    let output = imppd(&["check", "--config", &config]);
    String::from_utf8(output.stdout).unwrap()
}
