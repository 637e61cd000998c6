//! Several domains: a server for each on a loopback address of its own, a cable before each, and
//! the DNS that leads from one to the other. They know of each other by nothing else.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Index, IndexMut};
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use crate::cable::Cable;
use crate::dns::Dns;
use crate::server::{Server, Start, imppd};

/// See the module.
#[derive(Debug)]
pub struct Domains {
    /// The DNS of all of them.
    pub dns: Dns,
    members: Vec<(Server, Cable)>,
    /// Cables behind those before the servers.
    between: Vec<Cable>,
    folder: TempDir,
}

impl Domains {
    /// The domains a.example and b.example.
    pub async fn two() -> Domains {
        Domains::with(&["a.example", "b.example"], |_, start| start).await
    }

    /// Domains with other settings.
    pub async fn with(names: &[&str], settings: impl Fn(&str, Start) -> Start) -> Domains {
        let dns = Dns::start();
        let folder = tempfile::tempdir().unwrap();
        let mut domains = Domains { dns, members: Vec::new(), between: Vec::new(), folder };
        let dns = domains.dns.address().to_string();
        let trust = domains.trust();
        // Servers are set up side by side: each has to be started twice.
        let servers: Vec<Server> = std::thread::scope(|scope| {
            let start = |name: &&str| {
                let start = Server::with()
                    .domain(name)
                    .ip(own_address())
                    .set("federation.dns", one(&dns))
                    .set("federation.allow_addresses", one("127.0.0.0/8"))
                    .set("federation.retry_min_milliseconds", 50)
                    .set("federation.retry_max_seconds", 1)
                    // They are tried so much more often than usual.
                    .set("federation.unproven_connects_per_minute", 1000)
                    .set("times.pace_burst", 1_000_000);
                let start = settings(name, start);
                scope.spawn(move || start.start())
            };
            let started: Vec<_> = names.iter().map(start).collect();
            started.into_iter().map(|started| started.join().unwrap()).collect()
        });
        let mut roots = String::new();
        for server in &servers {
            roots.push_str(&std::fs::read_to_string(server.trust()).unwrap());
        }
        std::fs::write(&trust, roots).unwrap();
        for mut server in servers {
            server.set("federation.ca", trust.clone());
            server.stop();
            server.restart();
            let ip = own_address();
            let cable = Cable::to(server.address(), ip).await;
            domains.dns.srv(server.domain(), "pres", 0, 0, cable.address().port(), &host(&server));
            domains.dns.srv(server.domain(), "im", 0, 0, cable.address().port(), &host(&server));
            domains.dns.address_of(&host(&server), IpAddr::V4(ip));
            domains.members.push((server, cable));
        }
        domains
    }

    /// Puts so many cables more before a domain's server, one behind the other.
    pub async fn lengthen(&mut self, domain: &str, more: usize) {
        let place = self.place(domain);
        for _ in 0..more {
            let ip = own_address();
            let (server, cable) = &mut self.members[place];
            let longer = Cable::to(cable.address(), ip).await;
            let port = longer.address().port();
            for service in ["pres", "im"] {
                self.dns.remove(&crate::dns::owner(domain, service));
                self.dns.srv(domain, service, 0, 0, port, &host(server));
            }
            self.dns.remove(&host(server));
            self.dns.address_of(&host(server), IpAddr::V4(ip));
            self.between.push(std::mem::replace(cable, longer));
        }
    }

    /// The CA certificates of all of them.
    pub fn trust(&self) -> String {
        self.folder.path().join("roots.pem").display().to_string()
    }

    /// Has all of them trust a further CA.
    pub fn trust_also(&self, pem: &str) {
        let mut roots = std::fs::read_to_string(self.trust()).unwrap();
        roots.push_str(pem);
        std::fs::write(self.trust(), roots).unwrap();
        self.reload();
    }

    /// Has all of them read their settings and CAs again.
    pub fn reload(&self) {
        for (server, _) in &self.members {
            let output = imppd(&["reload", "--config", server.config().to_str().unwrap()]);
            assert!(output.status.success(), "{output:?}");
        }
    }

    /// The cable before a domain's server.
    pub fn cable(&self, domain: &str) -> &Cable {
        &self.members[self.place(domain)].1
    }

    fn place(&self, domain: &str) -> usize {
        self.members.iter().position(|(server, _)| server.domain() == domain).unwrap()
    }
}

impl Index<&str> for Domains {
    type Output = Server;

    fn index(&self, domain: &str) -> &Server {
        &self.members[self.place(domain)].0
    }
}

impl IndexMut<&str> for Domains {
    fn index_mut(&mut self, domain: &str) -> &mut Server {
        let place = self.place(domain);
        &mut self.members[place].0
    }
}

fn host(server: &Server) -> String {
    format!("host.{}", server.domain())
}

/// A list of one.
fn one(text: &str) -> toml_edit::Value {
    toml_edit::Array::from_iter([text]).into()
}

/// A loopback address that no other server of this process has.
pub(crate) fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 0, 2 + next / 200, 1 + next % 200)
}
