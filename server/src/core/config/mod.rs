//! The configuration file: every setting with its meaning, default, unit and whether it reloads.
//!
//! `config default` prints this table; `deploy/imppd.toml` is that output. Applying a changed
//! configuration is left to `reload`.

mod document;
mod error;
mod federation;
pub mod level;
mod policy;
mod ranges;
mod redirect;
mod setting;
mod web;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use impp_acl::DomainPolicy;
use impp_protocol::sasl::scram::Iterations;
use impp_protocol::{Address, Domain};
use serde::Deserialize;

pub use document::default_document;
pub use error::{ConfigError, SettingError, plain};
pub use federation::{Federation, StaticRoute};
use setting::section;

/// Bytes of a socket's path, which the system holds with a zero behind it in 108.
const SOCKET_PATH_BYTES_MAX: usize = 107;

section! {
    /// Where the server listens and keeps its things.
    pub struct Server {
        /// Addresses to listen on for clients and servers, address:port. The IPv6 wildcard takes IPv4
        /// along, where the system does so, unless the port is listed on an IPv4 address too.
        listen: Vec<String> = vec!["127.0.0.1:2778".to_owned()], reloads false;
        /// Addresses of proxies: what connects from there begins with a header of the PROXY protocol,
        /// version 2, and counts as coming from where that says. From others such a header is none.
        proxies: Vec<IpAddr> = vec![], reloads true;
        /// The folder of the store. It is made if it is missing; only its owner may read it.
        store: PathBuf = "store".into(), reloads false;
        /// The socket through which `imppd user`, `reload` and the like reach the running server.
        /// Its path, from the root, has 107 bytes at most.
        control: PathBuf = "control.sock".into(), reloads false;
        /// Where /healthz and /metrics are served, address:port, loopback only; absent for nowhere.
        http: Option<String> = None, reloads false, example "127.0.0.1:9778";
    }
}

section! {
    /// TLS for clients. Each domain's certificate stands with the domain.
    pub struct Tls {
        /// A file of CA certificates whose client certificates may sign in by EXTERNAL; the
        /// account is the certificate's SAN: a URI im: or pres:, or an rfc822Name.
        client_ca: Option<PathBuf> = None, reloads true, example "tls/clients.pem";
    }
}

section! {
    /// What one peer may use. Figures in bytes, seconds or numbers, as their names say.
    pub struct Limits {
        /// Connections that have not signed in, in total. A further one takes the place of the oldest
        /// of the address or IPv6 /48 that has most, if that has more than its own; else it is closed.
        unsigned_max: u64 = 2048, reloads true;
        /// Connections that have not signed in, from one IPv4 address or IPv6 /64; further ones are
        /// closed at once.
        unsigned_per_address_max: u64 = 32, reloads true;
        /// The same, from one IPv6 /48.
        unsigned_per_network_max: u64 = 256, reloads true;
        /// Handshakes of TLS begun in a second, of all connections together. Further ones wait, each
        /// address or IPv6 /48 for its turn.
        handshakes_per_second: u64 = 500, reloads true;
        /// The longest wait behind sign-ins that failed: of a name, of an address and of the network
        /// around it, each beyond a few that are free. It begins with a second and doubles. 0 for none.
        failed_sign_in_wait_seconds: u64 = 60, reloads true;
        /// Time from accept to the end of the sign-in.
        sign_in_seconds: u64 = 10, reloads true;
        /// Time from the first byte of a frame to its last.
        frame_seconds: u64 = 30, reloads true;
        /// A connection on which nothing could be written for so long is closed.
        stall_seconds: u64 = 60, reloads true;
        /// Bytes waiting to be written to one connection before no more is prepared for it.
        push_buffer_bytes: u64 = 256 * 1024, reloads true;
        /// Requests of one connection that wait for the store.
        requests_in_flight_max: u64 = 64, reloads true;
        /// Requests a second of one connection, on average.
        requests_per_second: u64 = 200, reloads true;
        /// Requests that one connection may make at once after a rest.
        requests_burst: u64 = 1000, reloads true;
        /// Work that one account may ask for a second, on average, over all its connections. Most
        /// requests are 1; a change of the contact list is 4 and 2 more for each session of the
        /// account, one of the rules 8, of what waits for a decision 16; reading such a list is 8
        /// or 16, following it 32.
        work_per_second: u64 = 400, reloads true;
        /// Work that it may ask for at once after a rest.
        work_burst: u64 = 4000, reloads true;
        /// Bytes that one account may have stored a second, on average, over all its connections:
        /// bodies of messages, wherever they go and whatever becomes of them, and 1 KiB for each.
        stored_bytes_per_second: u64 = 256 * 1024, reloads true;
        /// Bytes that it may have stored at once after a rest.
        stored_bytes_burst: u64 = 32 * 1024 * 1024, reloads true;
        /// Devices of one account. A new one takes the place of the one unused longest, if that was not
        /// used for 7 days; at most four do in 24 hours.
        devices_max: u64 = 16, reloads true;
        /// Sessions of one account.
        sessions_max: u64 = 64, reloads true;
        /// Entries of one contact list.
        contacts_max: u64 = 1000, reloads true;
        /// Presentities that one session follows.
        subscriptions_max: u64 = 2000, reloads true;
        /// Presentities that one account follows by leases, on all its devices.
        leases_max: u64 = 4000, reloads true;
        /// Ids of messages of one sender, here or of another domain, by which repeats are known: each
        /// for three days. Further ones are answered `full`.
        known_ids_max: u64 = 1_000_000, reloads true;
        /// Watchers that wait for one owner's decision; as many held messages.
        pending_max: u64 = 200, reloads true;
        /// Connections of those who have proven no name, where a domain lets them in (`anonymous`).
        anonymous_max: u64 = 1024, reloads true;
        /// The same, from one IPv4 address or IPv6 /64.
        anonymous_per_address_max: u64 = 8, reloads true;
        /// Requests a second of all of them that come from there,
        anonymous_requests_per_second: u64 = 10, reloads true;
        /// and at once after a rest.
        anonymous_requests_burst: u64 = 200, reloads true;
        /// Bytes of presence a second that all who come from there are told, on average,
        anonymous_bytes_per_second: u64 = 64 * 1024, reloads true;
        /// and at once after a rest. Who is told more by what it follows may ask less.
        anonymous_bytes_burst: u64 = 1024 * 1024, reloads true;
    }
}

section! {
    /// How long connections, sessions and publications live.
    pub struct Times {
        /// A PING is sent after so much silence; the peer is dead after half as much again.
        idle_seconds: u64 = 60, reloads true;
        /// How long a session can be resumed after its connection was lost.
        resume_window_seconds: u64 = 300, reloads true;
        /// How long a publication that is bound to a session outlives its connection.
        grace_seconds: u64 = 30, reloads true;
        /// The shortest lease granted.
        lease_min_seconds: u64 = 60, reloads true;
        /// The longest lease granted; longer wishes get this.
        lease_max_seconds: u64 = 86_400, reloads true;
        /// A presentity may be shown changing so often at once,
        pace_burst: u64 = 5, reloads true;
        /// and then once in so many milliseconds; the last change is never dropped.
        pace_milliseconds: u64 = 2000, reloads true;
        /// After a crash, a presentity whose sessions have not returned is not shown as closed to
        /// those who saw it open; what rules allow in a sphere alone is neither granted nor ended.
        recovery_seconds: u64 = 60, reloads true;
        /// A device that was not used for so long makes room for a new one without being counted among
        /// the four that may in 24 hours. Less than 7 is taken for 7.
        device_lease_days: u64 = 60, reloads true;
        /// At an orderly stop, clients are told to come back after this and up to as much again.
        stop_retry_seconds: u64 = 2, reloads true;
    }
}

section! {
    /// The instant inboxes.
    pub struct Inbox {
        /// Items received that no device has acknowledged; then senders are answered `full`.
        items_max: u64 = 10_000, reloads true;
        /// Their bytes.
        bytes_max: u64 = 64 * 1024 * 1024, reloads true;
        /// Items that a device has acknowledged are kept so long.
        retention_days: u64 = 30, reloads true;
        /// Items of a log that its owner may lose: copies of what was sent, what became of it, and all
        /// that a device has acknowledged. Beyond these the oldest go, whoever has seen them.
        kept_items_max: u64 = 100_000, reloads true;
        /// Their bytes.
        kept_bytes_max: u64 = 256 * 1024 * 1024, reloads true;
    }
}

section! {
    /// What the server writes to standard error. Never bodies, never secrets.
    pub struct Log {
        /// What is logged: error, warn, info, debug; or by parts such as "info,impp_server=debug".
        level: String = "info".to_owned(), reloads false;
        /// One JSON object a line instead of text.
        json: bool = false, reloads false;
    }
}

/// A hosted domain.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosted {
    /// Its name.
    #[serde(deserialize_with = "error::domain")]
    pub name: Domain,
    /// Its certificate chain, PEM; for the domain's name, not the machine's.
    pub certificate: PathBuf,
    /// The certificate's key, PEM, readable by its owner alone.
    pub key: PathBuf,
    /// Where users are that are not here: others are sent to the same user of that domain.
    #[serde(default, deserialize_with = "error::maybe_domain")]
    pub redirect: Option<Domain>,
    /// Who that is, the parts before the `@`. Without, everybody who has no account.
    #[serde(default, deserialize_with = "redirect::users")]
    pub redirect_users: Option<BTreeSet<String>>,
    /// The policy that stands above its users' rules, TOML.
    #[serde(default)]
    pub policy: Option<PathBuf>,
    /// What that file says.
    #[serde(skip)]
    pub laid_down: Arc<DomainPolicy>,
    /// Whether those come in who prove no name (SASL ANONYMOUS): they see of its users what the rules
    /// of these show them.
    #[serde(default)]
    pub anonymous: bool,
    /// The names by which whoever speaks HTTP calls it; without any it is not spoken.
    #[serde(default, deserialize_with = "web::names")]
    pub web: Vec<Domain>,
    /// The certificate chain for these names, PEM; without, the domain's own is.
    #[serde(default)]
    pub web_certificate: Option<PathBuf>,
    /// Its key.
    #[serde(default)]
    pub web_key: Option<PathBuf>,
    /// How often passwords are hashed (SCRAM), the same for all its names. The client does the work.
    #[serde(default = "error::iterations_default", deserialize_with = "error::iterations")]
    pub scram_iterations: Iterations,
}

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// See [`Server`].
    pub server: Server,
    /// The domains hosted, one `[[domain]]` each.
    pub domain: Vec<Hosted>,
    /// See [`Tls`].
    pub tls: Tls,
    /// See [`Limits`].
    pub limits: Limits,
    /// See [`Times`].
    pub times: Times,
    /// See [`Inbox`].
    pub inbox: Inbox,
    /// See [`Federation`].
    pub federation: Federation,
    /// Ways to other domains that come before DNS, one `[[route]]` each.
    pub route: Vec<StaticRoute>,
    /// See [`Log`].
    pub log: Log,
}

impl Config {
    /// Reads a configuration file and the policies that it names, as whoever decides by them needs
    /// it; relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, the line, and where there is one a remedy.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let mut config = Config::load_without_policies(path)?;
        config.domain.iter_mut().try_for_each(Hosted::read_policy)?;
        Ok(config)
    }

    /// Reads a configuration file alone: what has nothing to do with who sees what, as shutting an
    /// account out, is not kept from the operator by a policy that cannot be used.
    ///
    /// # Errors
    /// [`ConfigError`] as [`Config::load`].
    pub fn load_without_policies(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::new(path, None, format!("cannot be read: {}", plain(&error)))
        })?;
        let mut config = Config::parse(&text, path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let absolute = |path: &mut PathBuf| *path = folder.join(&*path);
        absolute(&mut config.server.store);
        absolute(&mut config.server.control);
        for hosted in &mut config.domain {
            absolute(&mut hosted.certificate);
            absolute(&mut hosted.key);
            hosted.web_certificate.iter_mut().chain(&mut hosted.web_key).for_each(absolute);
            hosted.policy.iter_mut().for_each(absolute);
        }
        if let Some(client_ca) = &mut config.tls.client_ca {
            absolute(client_ca);
        }
        [&mut config.federation.ca, &mut config.federation.crl]
            .into_iter()
            .flatten()
            .for_each(absolute);
        match config.reachable() {
            Ok(()) => Ok(config),
            Err(wrong) => Err(ConfigError::new(path, wrong.line(&text), wrong.message)),
        }
    }

    /// Whether the control socket's path, whole, is one that the system can bind and connect to.
    fn reachable(&self) -> Result<(), SettingError> {
        let (path, name) = (&self.server.control, "control");
        let bytes = path.as_os_str().len();
        if bytes <= SOCKET_PATH_BYTES_MAX {
            return Ok(());
        }
        let path = path.display();
        let message = format!(
            "control: {path} is {bytes} bytes long; the path of a socket has \
             {SOCKET_PATH_BYTES_MAX} at most (SUN_LEN), as /run/imppd/control.sock has"
        );
        Err(SettingError { section: ("server", 0), name, message })
    }

    /// Reads a configuration from its text; `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] as [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let config: Config =
            toml::from_str(text).map_err(|error| ConfigError::from_toml(path, text, &error))?;
        if config.domain.is_empty() {
            let message = "no [[domain]]: name at least one domain to host".to_owned();
            return Err(ConfigError::new(path, None, message));
        }
        match config.consistent() {
            Ok(()) => Ok(config),
            Err(wrong) => Err(ConfigError::new(path, wrong.line(text), wrong.message)),
        }
    }

    /// How often the passwords of a domain are hashed.
    pub fn scram_iterations(&self, domain: &str) -> Iterations {
        let hosted = self.domain.iter().find(|hosted| hosted.name.as_str() == domain);
        hosted.map_or_else(error::iterations_default, |hosted| hosted.scram_iterations)
    }

    /// Whether a domain lets in who has proven no name.
    pub fn lets_in_nameless(&self, domain: &Domain) -> bool {
        self.domain.iter().any(|hosted| hosted.name == *domain && hosted.anonymous)
    }

    /// Puts back everything that needs a restart to what it is in the running server, and names
    /// what would have changed: `[federation] dns`.
    pub fn keep_fixed(&mut self, running: &Config) -> Vec<String> {
        let sections = [
            ("server", self.server.keep_fixed(&running.server)),
            ("tls", self.tls.keep_fixed(&running.tls)),
            ("limits", self.limits.keep_fixed(&running.limits)),
            ("times", self.times.keep_fixed(&running.times)),
            ("inbox", self.inbox.keep_fixed(&running.inbox)),
            ("federation", self.federation.keep_fixed(&running.federation)),
            ("log", self.log.keep_fixed(&running.log)),
        ];
        let named = |(section, names): (&str, Vec<&str>)| -> Vec<String> {
            names.into_iter().map(|name| format!("[{section}] {name}")).collect()
        };
        let mut changed: Vec<String> = sections.into_iter().flat_map(named).collect();
        if self.route != running.route {
            self.route.clone_from(&running.route);
            changed.push("[[route]]".to_owned());
        }
        changed
    }

    fn consistent(&self) -> Result<(), SettingError> {
        self.hosting()?;
        self.serving()?;
        self.locating()?;
        for (section, name, value, min, max) in self.numbers() {
            if !(min..=max).contains(&value) {
                let message = format!("{name} = {value} must be from {min} to {max}");
                return Err(SettingError { section: (section, 0), name, message });
            }
        }
        Ok(())
    }

    /// Whether each domain stands once, leads elsewhere if it leads anywhere, and is called by names of its own.
    fn hosting(&self) -> Result<(), SettingError> {
        let wrong = |section, name, message| Err(SettingError { section, name, message });
        for (index, hosted) in self.domain.iter().enumerate() {
            let (name, place) = (&hosted.name, ("domain", index));
            if self.domain[..index].iter().any(|other| other.name == *name) {
                return wrong(place, "name", format!("domain \"{name}\" stands twice"));
            }
            if name.as_str() == Address::anonymous().domain_str() {
                let text = format!("domain \"{name}\" stands for those who have no name");
                return wrong(place, "name", text);
            }
            let redirect = hosted.redirect_fault(self.federation.tell_unknown);
            if let Some((key, text)) = redirect.or_else(|| hosted.web_fault(&self.domain, index)) {
                return wrong(place, key, text);
            }
        }
        Ok(())
    }

    /// Whether it can listen, log and serve so.
    fn serving(&self) -> Result<(), SettingError> {
        let wrong = |section, name, message| Err(SettingError { section, name, message });
        if let Err(message) = level::parse(&self.log.level) {
            return wrong(("log", 0), "level", message);
        }
        let server = ("server", 0);
        if let Some(http) = &self.server.http {
            match http.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() => {}
                _ => {
                    let message = format!("http = \"{http}\" is no loopback address:port");
                    return wrong(server, "http", message);
                }
            }
        }
        if let Some(other) =
            self.federation.services.iter().find(|s| !["pres", "im"].contains(&&***s))
        {
            let message = format!("services = \"{other}\" is neither pres nor im");
            return wrong(("federation", 0), "services", message);
        }
        if let Err(message) = listening(&self.server.listen) {
            return wrong(server, "listen", message);
        }
        Ok(())
    }
}

/// Whether these are addresses that one process can listen on together.
fn listening(texts: &[String]) -> Result<(), String> {
    let mut before: Vec<SocketAddr> = Vec::new();
    for text in texts {
        let no_address = |_| format!("listen = \"{text}\" is no address:port");
        let address: SocketAddr = text.parse().map_err(no_address)?;
        if let Some(other) = before.iter().find(|other| collide(address, **other)) {
            return Err(format!(
                "listen = \"{text}\" is within \"{other}\": one of them is enough"
            ));
        }
        before.push(address);
    }
    Ok(())
}

/// Whether the system refuses one of them after the other. `[::]` leaves IPv4 to those who name it.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let within = a == b || a.is_unspecified() || b.is_unspecified();
    one.port() != 0 && one.port() == other.port() && a.is_ipv4() == b.is_ipv4() && within
}

/// Whole seconds of a setting as a duration.
pub fn seconds(setting: u64) -> Duration {
    Duration::from_secs(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let domain = "[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n";
        Config::parse(&format!("{text}\n{domain}"), Path::new("imppd.toml"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_document_is_the_default_configuration() {
        let text = default_document(&[]);
        let mut config = Config::parse(&text, Path::new("imppd.toml")).unwrap();
        assert_eq!(config.domain.len(), 1);
        config.domain.clear();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn i1_an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
        let error = parse("[limits]\ndevices_mx = 3").unwrap_err();
        assert!(error.starts_with("imppd.toml:2: unknown key \"devices_mx\""), "{error}");
        let path = Path::new("imppd.toml");
        let error = Config::parse("[limits]\ndevices_mx = 3", path).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean \"devices_max\"?"));
    }

    #[test]
    fn i1_what_needs_a_restart_is_put_back_and_named() {
        let running = parse("").unwrap();
        let text = "[server]\nlisten = [\"127.0.0.1:1\"]\n[limits]\ndevices_max = 3\n\
                    [federation]\ndns = [\"127.0.0.1:53\"]\n[[route]]\ndomain = \"b.example\"\n\
                    targets = [\"192.0.2.1:2778\"]";
        let mut new = parse(text).unwrap();
        let changed = new.keep_fixed(&running);
        assert_eq!(changed, ["[server] listen", "[federation] dns", "[[route]]"]);
        assert_eq!(new.limits.devices_max, 3);
        let limits = new.limits.clone();
        assert_eq!(new, Config { limits, ..running });
    }

    #[test]
    fn addresses_that_can_be_listened_on_together_are_taken() {
        for listen in [
            r#"["0.0.0.0:1", "[::]:1"]"#,
            r#"["127.0.0.1:1", "[::]:1", "127.0.0.2:1"]"#,
            r#"["127.0.0.1:0", "127.0.0.1:0"]"#,
            r#"["127.0.0.1:1", "127.0.0.1:2"]"#,
        ] {
            parse(&format!("[server]\nlisten = {listen}")).unwrap();
        }
    }

    #[test]
    fn i1_wrong_values_are_named_with_their_line() {
        for (text, expected) in [
            ("[limits]\n\ndevices_max = \"x\"", "imppd.toml:3: "),
            ("[limits]\ndevices_max = -1", "imppd.toml:2: "),
            ("[limits", "imppd.toml:1: "),
            ("[server]\nhttp = \"0.0.0.0:80\"", "imppd.toml:2: http"),
            ("[server]\nlisten = [\"here\"]", "imppd.toml:2: listen"),
            (
                "[server]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:1\"]",
                "imppd.toml:2: listen = \"0.0.0.0:1\" is within \"127.0.0.1:1\"",
            ),
            ("[times]\n\nidle_seconds = 0", "imppd.toml:3: idle_seconds = 0 must be from 1 to"),
            ("[federation]\nidle_seconds = 0", "imppd.toml:2: idle_seconds = 0"),
            ("[times]\nlease_max_seconds = 1", "imppd.toml: lease_min_seconds = 60"),
            (
                "[federation]\ndns = [\"127.0.0.9\"]",
                "imppd.toml:2: dns = \"127.0.0.9\": expected ADDRESS:PORT, such as 127.0.0.9:53",
            ),
            ("[federation]\norder = \"x\"", "imppd.toml:2: order = "),
            (
                "[[route]]\ndomain = \"b.example\"\ntargets = [\"192.0.2.1:1\"]\n[[route]]\n\
                 domain = \"c.example\"\ntargets = [\"\"]",
                "imppd.toml:6: targets = ",
            ),
            (
                "[[domain]]\nname = \"b.example\"\ncertificate = \"c\"\nkey = \"k\"\n\
                 scram_iterations = 1000",
                "imppd.toml:5: iteration count 1000, expected 4096 to 1000000",
            ),
            (
                "[[domain]]\nname = \"anonymous.invalid\"\ncertificate = \"c\"\nkey = \"k\"",
                "imppd.toml:2: domain \"anonymous.invalid\" stands for those who have no name",
            ),
            (
                "[[domain]]\nname = \"b.example\"\ncertificate = \"c\"\nkey = \"k\"\n\
                 redirect = \"B.example\"",
                "imppd.toml:5: redirect of \"b.example\" leads to itself",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(Config::parse("", Path::new("x")).unwrap_err().to_string().contains("[[domain]]"));
    }
}
