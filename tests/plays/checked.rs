//! `imppd check` says beforehand what a start, and other domains' servers, would: and each thing that
//! people get wrong with files and users is told as what it is.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use impp_protocol::Timestamp;
use impp_tests::impp::Impp;
use impp_tests::server::imppd;
use impp_tests::wait::skipped;
use impp_tests::{Authority, Server, binaries};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use serde_json::Value;

const DOMAIN: &str = "a.example";
/// A user who is neither root nor anybody else here.
const OTHER: u32 = 65_534;

/// A configuration with its files, and no server that runs.
struct Stopped {
    server: Server,
}

impl Stopped {
    fn new() -> Stopped {
        let mut server = Server::with().domain(DOMAIN).start();
        server.set("federation.dns", toml_edit::Array::from_iter(["127.0.0.1:1"]));
        server.set("federation.ca", "tls/ca.pem");
        server.stop();
        Stopped { server }
    }

    fn tls(&self, name: &str) -> PathBuf {
        self.server.data().join("tls").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.tls(name), content).unwrap();
    }

    /// What `check` finds, and its exit code.
    fn check(&self) -> (Option<i32>, Vec<Value>) {
        check(&self.server)
    }

    /// The one finding with these words, and its level.
    fn finds(&self, words: &str) -> (String, Value) {
        let (_, all) = self.check();
        let found = all.iter().find(|found| found.to_string().contains(words));
        let found = found.unwrap_or_else(|| panic!("no {words:?} in {all:#?}")).clone();
        (found["level"].as_str().unwrap().to_owned(), found)
    }

    /// That neither `check` nor a start takes it, and both say why.
    fn refused(&self, words: &str, hint: &str) {
        let (level, found) = self.finds(words);
        assert_eq!(level, "error", "{found}");
        assert!(found["hint"].as_str().unwrap_or_default().contains(hint), "{found}");
        let config = self.server.config();
        let (code, told) =
            impp_tests::server::refused_start(&["serve", "--config", config.to_str().unwrap()]);
        assert!(code == Some(2) && told.contains(words), "{code:?}: {told}");
    }
}

fn check(server: &Server) -> (Option<i32>, Vec<Value>) {
    let output = imppd(&["check", "--config", server.config().to_str().unwrap()]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// A day so many days from today, as a certificate has it.
fn day(from_today: i64) -> (i32, u8, u8) {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let then = Timestamp::from_millis((now + from_today * 86_400_000) as u64).to_string();
    let part = |range| -> i32 {
        let text: &str = &then[range];
        text.parse().unwrap()
    };
    (part(0..4), part(5..7) as u8, part(8..10) as u8)
}

/// Ports and a store that the own running server holds are told as that; an address at which it does
/// not listen, as one that needs a restart.
#[tokio::test]
async fn i8_check_knows_what_the_running_server_holds() {
    let server = Server::quickstart();
    let (code, all) = check(&server);
    assert_eq!(code, Some(0), "{all:#?}");
    let tells = |all: &[Value], words: &str, level: &str| {
        let found = all.iter().find(|found| found["message"].as_str().unwrap().contains(words));
        assert_eq!(found.expect(words)["level"], level, "{all:#?}");
    };
    tells(&all, &format!("listen {}: held by the server that runs", server.address()), "ok");
    tells(&all, &format!("http {}: held by", server.http_address()), "ok");
    tells(&all, &format!("is in use by process {}", server.pid()), "ok");
    let listen = [server.address().to_string(), "127.0.143.1:0".to_owned()];
    server.set("server.listen", toml_edit::Array::from_iter(listen));
    tells(&check(&server).1, "127.0.143.1:0: the server that runs does not listen there", "warn");
}

/// What would not open is found without a start.
#[tokio::test]
async fn g14_check_opens_the_store() {
    let stopped = Stopped::new();
    assert_eq!(stopped.finds("it opens, and no damage is seen").0, "ok");
    let database = stopped.server.data().join("store/store.sqlite");
    let good = std::fs::read(&database).unwrap();
    std::fs::write(&database, b"something else altogether, and long enough to be looked at")
        .unwrap();
    assert_eq!(stopped.finds("is not a store of this program").0, "error");
    let mut torn = good.clone();
    torn[4096..].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&database, &torn).unwrap();
    assert_eq!(stopped.finds("damaged").0, "error");
    assert_eq!(std::fs::read(&database).unwrap(), torn, "nothing was written");
}

/// The chain as others judge it: whole, with their CAs and what these have revoked.
#[tokio::test]
async fn f2_check_judges_the_whole_chain_as_others_do() {
    let stopped = Stopped::new();
    assert_eq!(stopped.finds("believe it of a.example").0, "ok");
    // Made by hand: a root, a CA below it and the domain's certificate.
    let ca = |name: &str, change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        (params, KeyPair::generate().unwrap())
    };
    let (root_params, root_key) = ca("root", &|_| {});
    let root = root_params.self_signed(&root_key).unwrap().pem();
    let root_issuer = Issuer::new(root_params, root_key);
    let install = |above: (CertificateParams, KeyPair)| {
        let (params, key) = above;
        let between = params.signed_by(&key, &root_issuer).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![DOMAIN.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(vec![7]));
        let leaf = params.signed_by(&own, &issuer).unwrap().pem();
        stopped.write("ca.pem", &root);
        stopped.write("key.pem", own.serialize_pem());
        stopped.write("cert.pem", format!("{leaf}{between}"));
        (leaf, between, issuer)
    };
    let (leaf, between, issuer) = install(ca("between", &|_| {}));
    assert_eq!(stopped.finds("believe it of a.example").0, "ok");
    // What is missing is missed by others; they may have other CAs, so it is no error.
    stopped.write("cert.pem", &leaf);
    assert_eq!(stopped.finds("an intermediate certificate is missing").0, "warn");
    stopped.write("cert.pem", format!("{leaf}{between}"));
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(vec![7]),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let crl = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2200, 1, 1),
        crl_number: SerialNumber::from(vec![1]),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    stopped.write("crl.pem", crl.signed_by(&issuer).unwrap().pem().unwrap());
    stopped.server.set("federation.crl", "tls/crl.pem");
    assert_eq!(stopped.finds("has been revoked").0, "error");
    // A CA in between that has expired, below a domain's certificate that has not.
    install(ca("expired", &|params| params.not_after = date_time_ymd(2020, 1, 1)));
    assert_eq!(
        stopped.finds("refuse it for a.example: the certificate expired on 2020").0,
        "error"
    );
}

/// When a certificate is warned of hangs on how long it lives.
#[tokio::test]
async fn i3_a_certificate_is_late_by_a_part_of_its_life() {
    let stopped = Stopped::new();
    let authority = Authority::new("a play's");
    stopped.write("ca.pem", &authority.pem);
    for (from, until, level) in [(-1, 5, "ok"), (-60, 30, "ok"), (-75, 15, "warn"), (-7, 1, "warn")]
    {
        let made = authority.issue_with(&[DOMAIN], |params| {
            let ((y, m, d), (y2, m2, d2)) = (day(from), day(until));
            params.not_before = date_time_ymd(y, m, d);
            params.not_after = date_time_ymd(y2, m2, d2);
        });
        stopped.write("cert.pem", made.certificate);
        stopped.write("key.pem", made.key);
        assert_eq!(stopped.finds("the certificate of a.example holds until").0, level, "{until}");
    }
}

/// Files that were made in another way than they should.
#[tokio::test]
async fn i1_odd_files_of_certificates_are_told_as_what_they_are() {
    let stopped = Stopped::new();
    let (certificate, key) = (stopped.tls("cert.pem"), stopped.tls("key.pem"));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let (good, good_key) = (read(&certificate), read(&key));
    let other = Authority::new("another").pem;
    stopped.write("cert.pem", format!("{other}{good}"));
    stopped.refused("chain in the wrong order: certificate 2 of", "own comes first");
    stopped.write("cert.pem", format!("\u{feff}{good}"));
    stopped.refused("byte order mark", "without BOM");
    stopped.write("cert.pem", &good);
    let encrypted = good_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    stopped.write("key.pem", encrypted);
    stopped.refused("is encrypted, and nobody", "openssl pkey");
    stopped.write("key.pem", &good_key);
    let long = format!("{}/control.sock", "long".repeat(30));
    stopped.server.set("server.control", long);
    stopped.refused("the path of a socket has 107 at most", "");
    let text = read(&stopped.server.config());
    let text = text.replace("name = \"a.example\"", "name = \"https://a.example/\"");
    std::fs::write(stopped.server.config(), text).unwrap();
    stopped.refused("a URL is no domain", "");
    let output = imppd(&["resolve", "https://a.example"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("a URL is no domain"), "{output:?}");
}

/// A certificate that does not hold now is told with what the client's own clock says.
#[tokio::test]
async fn i3_a_client_with_a_wrong_clock_is_told_what_it_says() {
    let mut server = Server::quickstart();
    let authority = Authority::new("a play's");
    std::fs::write(server.trust(), &authority.pem).unwrap();
    let change = |params: &mut CertificateParams| params.not_before = date_time_ymd(2200, 1, 1);
    let made = authority.issue_with(&["localhost"], change);
    std::fs::write(server.data().join("tls/cert.pem"), made.certificate).unwrap();
    std::fs::write(server.data().join("tls/key.pem"), made.key).unwrap();
    server.stop();
    server.restart();
    let ran = Impp::of(&server, "alice").run(&["status", "show"]);
    let words = "certificate does not hold before 2200-01-01T00:00:00Z; by this machine's clock it";
    assert!(ran.code == 3 && ran.stderr.contains(words), "{ran:?}");
}

/// A key is ours alone, or root's and shared with a group at most.
#[tokio::test]
async fn i7_a_key_is_the_servers_own_or_roots() {
    let stopped = Stopped::new();
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can give files away");
    }
    let (config, key, folder) =
        (stopped.server.config(), stopped.tls("key.pem"), stopped.server.data().to_owned());
    give(&folder);
    let check = || {
        let mut check = Command::new(binaries::imppd());
        let output = check.arg("check").arg("--config").arg(&config).uid(OTHER).gid(OTHER);
        String::from_utf8(output.output().unwrap().stdout).unwrap()
    };
    for (owner, mode, words) in [
        (OTHER, 0o600, None),
        (OTHER, 0o640, Some("chmod 600")),
        (0, 0o640, None),
        (0, 0o644, Some("chmod 640")),
        (0, 0o660, Some("chmod 640")),
        (1234, 0o640, Some("belongs to user 1234, who is neither this one (65534) nor root")),
    ] {
        chown(&key, Some(owner), Some(OTHER)).unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        let found = check();
        match words {
            Some(words) => assert!(found.contains(words), "{owner} {mode:o}: {found}"),
            None => assert!(found.contains("certificates and keys can be used"), "{found}"),
        }
    }
}

fn give(path: &Path) {
    chown(path, Some(OTHER), Some(OTHER)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// Root does not leave files in another user's store that its server could not open any more.
#[tokio::test]
async fn accounts_are_not_made_in_another_users_store() {
    let stopped = Stopped::new();
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can give files away");
    }
    let store = stopped.server.data().join("store");
    give(&store);
    let before = std::fs::read_dir(&store).unwrap().count();
    let output = stopped.server.user(&["add", "dora@a.example"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{words}");
    assert!(words.contains("is user 65534's, and this is user 0"), "{words}");
    assert!(words.contains("hint: run it as that user"), "{words}");
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), before);
    assert_eq!(stopped.finds("is user 65534's, and this is user 0").0, "error");
}

/// A domain that has left the configuration is named at each start, as long as it has accounts.
#[tokio::test]
async fn i9_accounts_of_a_domain_that_was_left_out_are_told_at_the_start() {
    let mut server = Server::with().domain(DOMAIN).start();
    server.stop();
    let text = std::fs::read_to_string(server.config()).unwrap();
    let renamed = text.replace("\"a.example\"", "\"b.example\"");
    let made = Authority::new("a play's").issue(&["b.example"]);
    let tls = server.data().join("tls");
    let keep = ["cert.pem", "key.pem"].map(|name| std::fs::read(tls.join(name)).unwrap());
    std::fs::write(tls.join("cert.pem"), made.certificate).unwrap();
    std::fs::write(tls.join("key.pem"), made.key).unwrap();
    std::fs::write(server.config(), renamed).unwrap();
    const TOLD: &str = "accounts of a domain that the configuration does not name";
    for _ in 0..2 {
        server.restart_as("b.example");
        server.until_logged(TOLD, 1).await;
        server.until_logged("domain=a.example accounts=3", 1).await;
        server.stop();
    }
    let [certificate, key] = keep;
    std::fs::write(tls.join("cert.pem"), certificate).unwrap();
    std::fs::write(tls.join("key.pem"), key).unwrap();
    std::fs::write(server.config(), text).unwrap();
    server.restart_as(DOMAIN);
    server.stop();
    server.restart_as(DOMAIN);
    assert_eq!(server.logged(TOLD), 0);
}
