//! Counters and gauges, in OpenMetrics. No address and no content is ever a label.

use std::sync::atomic::AtomicU64;

use impp_protocol::{Code, Command};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How a sign-in ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SignIn {
    /// The SASL mechanism, or `resume`.
    pub mechanism: String,
    /// `ok` or `failed`.
    pub result: String,
}

/// An error answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Refusal {
    /// Its code's name.
    pub code: String,
}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NoLink {
    /// The name of the error's code.
    pub reason: String,
}

/// See the module.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// TLS connections, signed in or not.
    pub connections: Gauge,
    /// Sessions, with and without a connection.
    pub sessions: Gauge,
    /// Sign-ins.
    pub sign_ins: Family<SignIn, Counter>,
    /// Messages taken: stored, held, dropped or passed on.
    pub messages: Counter,
    /// NOTIFY frames about presence.
    pub notifications: Counter,
    /// Views filtered and encoded.
    pub view_encodes: Counter,
    /// Commits of the store that were synced.
    pub store_syncs: Counter<u64, AtomicU64>,
    /// Pages of logs that the store was asked for.
    pub store_pages: Counter<u64, AtomicU64>,
    /// Bytes that the store's scrub has read.
    pub store_scrubbed: Counter<u64, AtomicU64>,
    /// Rows of the store that were found damaged; set when it is asked for.
    pub store_damaged: Gauge,
    /// Accounts that cannot be used because their records cannot be read.
    pub accounts_closed: Gauge,
    /// ERROR frames.
    pub refused: Family<Refusal, Counter>,
    /// What other domains have said that they were not asked for.
    pub unsolicited: Counter,
    /// Lines of the log that could not be written.
    pub log_dropped: Counter,
    /// Steps of the wall clock.
    pub clock_steps: Counter,
    /// What other domains have said that did not fit what they said before.
    pub repairs: Counter,
    /// Connections closed before TLS because too many had not signed in.
    pub crowded: Counter,
    /// Open links to other domains.
    pub links: Gauge,
    /// Links that were not opened, from either end.
    pub no_links: Family<NoLink, Counter>,
    /// Frames of other domains in the name of a domain that they have not proven.
    pub forged: Counter,
    /// Messages that wait for other domains; set when it is asked for.
    pub queued: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::default(),
            connections: Gauge::default(),
            sessions: Gauge::default(),
            sign_ins: Family::default(),
            messages: Counter::default(),
            notifications: Counter::default(),
            view_encodes: Counter::default(),
            store_syncs: Counter::default(),
            store_pages: Counter::default(),
            store_scrubbed: Counter::default(),
            store_damaged: Gauge::default(),
            accounts_closed: Gauge::default(),
            refused: Family::default(),
            unsolicited: Counter::default(),
            log_dropped: Counter::default(),
            clock_steps: Counter::default(),
            repairs: Counter::default(),
            crowded: Counter::default(),
            links: Gauge::default(),
            no_links: Family::default(),
            forged: Counter::default(),
            queued: Gauge::default(),
        };
        metrics.register();
        metrics.register_store();
        metrics.register_links();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let m = self;
        let registry = &mut m.registry;
        registry.register("impp_connections", "TLS connections", m.connections.clone());
        registry.register("impp_sessions", "Sessions", m.sessions.clone());
        registry.register("impp_sign_ins", "Sign-ins by mechanism and result", m.sign_ins.clone());
        registry.register("impp_messages", "Messages taken", m.messages.clone());
        registry.register(
            "impp_notifications",
            "Notifications of presence sent",
            m.notifications.clone(),
        );
        registry.register(
            "impp_view_encodes",
            "Views of presence filtered and encoded",
            m.view_encodes.clone(),
        );
        registry.register("impp_refused", "Errors answered, by code", m.refused.clone());
        registry.register(
            "impp_clock_steps",
            "Steps of the wall clock that were noticed",
            m.clock_steps.clone(),
        );
        registry.register(
            "impp_log_lines_dropped",
            "Lines of the log that could not be written",
            m.log_dropped.clone(),
        );
        registry.register(
            "impp_crowded",
            "Connections closed because too many had not signed in",
            m.crowded.clone(),
        );
    }

    /// Those of the store.
    fn register_store(&mut self) {
        let m = self;
        let registry = &mut m.registry;
        registry.register("impp_store_syncs", "Synced commits", m.store_syncs.clone());
        registry.register(
            "impp_store_pages",
            "Pages of logs that were not in memory and were read from the store",
            m.store_pages.clone(),
        );
        registry.register(
            "impp_store_scrubbed_bytes",
            "Bytes of the store that were read to see whether they are well",
            m.store_scrubbed.clone(),
        );
        registry.register(
            "impp_store_damaged",
            "Rows of the store found damaged since the start",
            m.store_damaged.clone(),
        );
        registry.register(
            "impp_accounts_closed",
            "Accounts whose records could not be read at the start, and domains that may have more",
            m.accounts_closed.clone(),
        );
    }

    /// Those of other domains.
    fn register_links(&mut self) {
        let m = self;
        let registry = &mut m.registry;
        registry.register("impp_links", "Open links to other domains", m.links.clone());
        registry.register(
            "impp_unsolicited",
            "Notifications and answers of other domains that nobody has asked for",
            m.unsolicited.clone(),
        );
        registry.register(
            "impp_repairs",
            "Notifications of other domains that did not fit; all was asked for again",
            m.repairs.clone(),
        );
        registry.register(
            "impp_links_refused",
            "Links that were not opened, by reason",
            m.no_links.clone(),
        );
        registry.register(
            "impp_forged",
            "Frames in the name of a domain that their sender has not proven",
            m.forged.clone(),
        );
        registry.register(
            "impp_queued_messages",
            "Messages that wait for other domains",
            m.queued.clone(),
        );
    }

    /// Counts what is written, if it is an error.
    pub fn written(&self, command: &Command) {
        if let Command::Error(error) = command {
            let code = error.code.as_str().to_owned();
            self.refused.get_or_create(&Refusal { code }).inc();
        }
    }

    /// Counts a link that was not opened.
    pub fn refuse_link(&self, code: Code) {
        self.no_links.get_or_create(&NoLink { reason: code.as_str().to_owned() }).inc();
    }

    /// Counts a sign-in.
    pub fn sign_in(&self, mechanism: &str, ok: bool) {
        let result = if ok { "ok" } else { "failed" }.to_owned();
        self.sign_ins.get_or_create(&SignIn { mechanism: mechanism.to_owned(), result }).inc();
    }

    /// All of them as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
