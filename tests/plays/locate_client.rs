//! Clients that find their domain's server by DNS alone: nothing but an address and a password.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hickory_proto::rr::RecordType::SRV;
use impp_tests::dns::{Fault, owner};
use impp_tests::impp::{Impp, Ran};
use impp_tests::running::Running;
use impp_tests::{Dns, Server, binaries};
use serde_json::Value;

const A: &str = "a.example";

/// Says in DNS that both services of a.example are where a server is.
fn publish(dns: &Dns, server: &Server) {
    for service in ["pres", "im"] {
        dns.remove(&owner(A, service));
        publish_one(dns, server.address(), service, 0);
    }
}

fn publish_one(dns: &Dns, address: SocketAddr, service: &str, priority: u16) {
    let host = format!("{service}.{A}");
    dns.srv(A, service, priority, 0, address.port(), &host);
    dns.remove(&host);
    dns.address_of(&host, address.ip());
}

/// A profile that a login makes, with no word of where the server is.
struct ByDns {
    folder: tempfile::TempDir,
    dns: String,
    trust: PathBuf,
}

impl ByDns {
    fn new(dns: &Dns, trust: &Path) -> ByDns {
        let folder = tempfile::tempdir().unwrap();
        ByDns { folder, dns: dns.address().to_string(), trust: trust.to_owned() }
    }

    fn profile(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.toml"))
    }

    fn try_login(&self, name: &str, password: &str) -> Ran {
        let address = format!("{name}@{A}");
        let trust = self.trust.to_str().unwrap();
        let args = ["login", &address, "--dns", &self.dns, "--trust", trust, "--password-stdin"];
        self.impp(name).run_with_input(&args, password.as_bytes())
    }

    fn login(&self, server: &Server, name: &str) -> Impp {
        self.try_login(name, &server.profile(name).password).one();
        let profile = std::fs::read_to_string(self.profile(name)).unwrap();
        assert!(!profile.contains("server = "), "{profile}");
        self.impp(name)
    }

    fn impp(&self, name: &str) -> Impp {
        Impp::with_profile(&self.profile(name))
    }

    fn watch(&self, name: &str, whom: &str) -> Running {
        let mut watch = Running::with_profile(&self.profile(name), &["watch", whom]);
        watch.until(|object| object["event"] == "notify");
        watch
    }
}

fn note(object: &Value) -> Option<&str> {
    object["document"]["person"]["note"].as_str()
}

/// One identifier reaches both services: all that a client is given is alice@a.example.
#[test]
fn r2_1_3_one_identifier_is_found_by_dns_for_both_services() {
    let (dns, server) = (Dns::start(), Server::with().domain(A).start());
    publish(&dns, &server);
    let by_dns = ByDns::new(&dns, &server.trust());
    let (alice, bob) = (by_dns.login(&server, "alice"), by_dns.login(&server, "bob"));
    let mut watch = by_dns.watch("bob", "alice@a.example");
    assert_eq!(alice.run(&["status", "set", "open", "--note", "found"]).code, 0);
    watch.until(|object| note(object) == Some("found"));
    assert_eq!(watch.interrupt(), Some(0));
    assert_eq!(bob.run(&["send", "alice@a.example", "hello"]).one()["outcome"], "delivered");
    assert_eq!(alice.run(&["inbox"]).objects[0]["body"], "hello");
    for service in ["pres", "im"] {
        assert!(dns.asked(&owner(A, service), SRV) > 0, "{service}");
    }
}

/// A server moves to another port and keeps its name: who watched goes on watching, though the old
/// answer of DNS would hold for an hour.
#[test]
fn d_5_4_7_1_a_server_moves_and_its_clients_find_it_again() {
    let (dns, mut server) = (Dns::start(), Server::with().domain(A).start());
    publish(&dns, &server);
    let by_dns = ByDns::new(&dns, &server.trust());
    let alice = by_dns.login(&server, "alice");
    by_dns.login(&server, "bob");
    let mut watch = by_dns.watch("bob", "alice@a.example");
    let old = server.address();
    server.stop();
    server.move_to(None);
    assert_ne!(server.address(), old);
    server.restart();
    publish(&dns, &server);
    assert_eq!(alice.run(&["status", "set", "open", "--note", "moved"]).code, 0);
    watch.until(|object| note(object) == Some("moved"));
    assert_eq!(watch.interrupt(), Some(0));
}

/// The next server is tried when one is not there, and when one does not prove to be the domain.
#[test]
fn d_5_4_7_1_a_client_tries_the_next_server() {
    let (dns, server) = (Dns::start(), Server::with().domain(A).start());
    let other = Server::with().domain("other.example").start();
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    for service in ["pres", "im"] {
        publish_one(&dns, dead, service, 0);
        publish_one(&dns, other.address(), service, 1);
        publish_one(&dns, server.address(), service, 2);
    }
    let by_dns = ByDns::new(&dns, &server.trust());
    let alice = by_dns.login(&server, "alice");
    assert_eq!(alice.run(&["send", "bob@a.example", "hello"]).one()["outcome"], "delivered");
}

/// Presence is on one server and messages on another: each request goes where it belongs.
#[test]
fn r2_1_3_presence_and_messages_on_two_servers() {
    let dns = Dns::start();
    let [pres, im] = [(); 2].map(|()| Server::with().domain(A).start());
    publish_one(&dns, pres.address(), "pres", 0);
    publish_one(&dns, im.address(), "im", 0);
    for (server, service) in [(&pres, "pres"), (&im, "im")] {
        for name in ["ann", "ben"] {
            add(server, name, service);
        }
    }
    let trust = pres.data().join("both.pem");
    let [first, second] = [&pres, &im].map(|one| std::fs::read_to_string(one.trust()).unwrap());
    std::fs::write(&trust, first + &second).unwrap();
    let by_dns = ByDns::new(&dns, &trust);
    for name in ["ann", "ben"] {
        by_dns.try_login(name, PASSWORD).one();
    }
    let (ann, ben) = (by_dns.impp("ann"), by_dns.impp("ben"));
    assert_eq!(ann.run(&["send", "ben@a.example", "hello"]).one()["outcome"], "delivered");
    assert_eq!(ben.run(&["inbox", "--ack"]).objects[0]["body"], "hello");
    let added = ann.run(&["contacts", "add", "ben@a.example", "--grant", "all"]);
    assert_eq!(added.code, 0, "{added:?}");
    assert_eq!(ann.run(&["status", "set", "open", "--note", "apart"]).code, 0);
    let seen = ben.run(&["fetch", "ann@a.example"]).one();
    assert_eq!(seen["document"]["person"]["note"], "apart");
    // Neither has what is the other's.
    assert_eq!(pres.metrics().get("impp_messages_total"), 0.0);
    let notified = im.metrics().get("impp_view_encodes_total");
    assert_eq!(notified, 0.0, "presence on the server of messages");
}

const PASSWORD: &str = "a password for both servers";

/// Adds an account with a password that is the same wherever it is added.
fn add(server: &Server, name: &str, services: &str) {
    use std::io::Write;
    let mut child = Command::new(binaries::imppd())
        .args(["user", "add", &format!("{name}@{A}"), "--password-stdin", "--services", services])
        .arg("--config")
        .arg(server.config())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    assert!(child.wait().unwrap().success());
}

/// Where there is no server, that is what is said, with what to do.
#[test]
fn f6_a_client_that_finds_no_server_says_why() {
    let (dns, server) = (Dns::start(), Server::with().domain(A).start());
    let by_dns = ByDns::new(&dns, &server.trust());
    let login = |name: &str, words: &str, hint: &str| {
        let ran = by_dns.try_login("alice", &server.profile("alice").password);
        assert_eq!(ran.code, 3, "{ran:?}");
        let error: Value = serde_json::from_str(ran.stderr.trim()).unwrap();
        let error = &error["error"];
        assert_eq!(error["name"], name, "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        assert!(error["hint"].as_str().unwrap().contains(hint), "{error}");
    };
    login("unknown-domain", "NXDOMAIN", "--server");
    dns.not_offered(A, "pres");
    dns.not_offered(A, "im");
    login("not-offered", "does not offer im", "--server");
    publish(&dns, &server);
    dns.fault(&owner(A, "pres"), SRV, Fault::ServFail);
    login("unreachable", "SERVFAIL", "--server");
    dns.mend();
    let other = Server::with().domain(A).start();
    publish(&dns, &other);
    login("untrusted", "certificate", "trust");
    publish(&dns, &server);
    by_dns.login(&server, "alice");
}
